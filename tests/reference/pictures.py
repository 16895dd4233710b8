"""Writes small pictures in every supported format and what Pillow makes of them.

    pip install pillow==12.3.0 numpy safetensors
    python tests/reference/pictures.py tests/pictures

Pillow 13 decodes all of them alike; its resize differs where tests/pictures.rs follows Pillow 12.

The folder then holds the picture files and `expected.safetensors`, which tests/pictures.rs compares with. For each
file NAME it has these tensors of u8 samples, [height, width, 3]:

    NAME/rgb        ImageOps.exif_transpose(Image.open(NAME)).convert("RGB")
    NAME/crop       of some: the shorter side resized to SIZE (bicubic), then the centred SIZE x SIZE
    NAME/squash     of the same: resized to SIZE x SIZE (bicubic)

and, for the tables of resizes in `expected.safetensors` itself (the names start with "resize/"), the source and what
Image.resize and the padding of open_clip's `longest` mode give. Formats or variants that Pillow does not write are
put together here byte by byte; what they decode to is Pillow's word in every case.
"""

import io
import pathlib
import struct
import sys
import warnings
import zlib

import numpy as np
import PIL
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin
from safetensors.numpy import save

SIZE = 10
FILES: dict[str, bytes] = {}


def rng(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def samples(name, width, height, channels=3, dtype=np.uint8):
    """A gradient with noise on it: neither flat nor without structure."""
    random = rng(name)
    top = np.iinfo(dtype).max
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for _ in range(channels):
        a, b, c = random.uniform(-1, 1, 3)
        plane = 0.5 + 0.4 * (a * x / max(width, 8) + b * y / max(height, 8)) + 0.25 * c
        planes.append(plane + random.normal(0, 0.12, (height, width)))
    out = (np.clip(np.stack(planes, -1), 0, 1) * top).astype(dtype)
    return out[..., 0] if channels == 1 else out


def saved(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def add(name, data):
    assert name not in FILES, name
    FILES[name] = bytes(data)


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


def xmp(orientation):
    return f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


# ---------------------------------------------------------------- JPEG


def segments(jpeg):
    """The marker segments before the first scan as (offset, marker, length with the marker)."""
    at = 2
    while jpeg[at + 1] != 0xDA:
        length = struct.unpack_from(">H", jpeg, at + 2)[0] + 2
        yield at, jpeg[at + 1], length
        at += length


def without(jpeg, marker):
    for at, found, length in segments(jpeg):
        if found == marker:
            return jpeg[:at] + jpeg[at + length :]
    raise ValueError(marker)


def sampling(jpeg, factors):
    """Overwrites the luma sampling factors; the number of MCUs must stay the same."""
    out = bytearray(jpeg)
    for at, found, _ in segments(jpeg):
        if found in (0xC0, 0xC1, 0xC2):
            out[at + 11] = factors
    return out


def jpegs():
    def rgb(name, width, height):
        return Image.fromarray(samples(name, width, height))

    for size in [(13, 9), (7, 31), (1, 5), (16, 16), (35, 18)]:
        for subsampling, label in enumerate(["444", "422", "420"]):
            name = f"rgb-{label}-{size[0]}x{size[1]}.jpg"
            quality = 30 + (7 * len(FILES)) % 69
            add(name, saved(rgb(name, *size), "JPEG", quality=quality, subsampling=subsampling))
    for size, label in [((21, 10), "411"), ((50, 11), "411")]:
        name = f"rgb-{label}-{size[0]}x{size[1]}.jpg"
        add(name, saved(rgb(name, *size), "JPEG", quality=80, subsampling="4:1:1"))
    # 4:2:2 data of 32 x 32 (2 x 4 units) read as 4:4:0 (4 x 2 units) and as if chroma were the finer one.
    name = "rgb-440-32x32.jpg"
    add(name, sampling(saved(rgb(name, 32, 32), "JPEG", quality=70, subsampling=1), 0x12))
    for subsampling, label in enumerate(["444", "422", "420"]):
        name = f"progressive-{label}.jpg"
        add(name, saved(rgb(name, 27, 19), "JPEG", quality=75, subsampling=subsampling, progressive=True))
    for progressive in [False, True]:
        name = f"grey{'-progressive' if progressive else ''}.jpg"
        add(name, saved(Image.fromarray(samples(name, 13, 9, 1)), "JPEG", quality=60, progressive=progressive))
    name = "restart.jpg"
    add(name, saved(rgb(name, 40, 24), "JPEG", quality=85, restart_marker_blocks=1))
    name = "optimised.jpg"
    add(name, saved(rgb(name, 13, 9), "JPEG", quality=95, optimize=True))
    name = "stored-as-rgb.jpg"
    add(name, saved(rgb(name, 13, 9), "JPEG", quality=80, keep_rgb=True))
    name = "no-jfif.jpg"
    add(name, without(saved(rgb(name, 13, 9), "JPEG", quality=80), 0xE0))
    name = "bytes-after-the-end.jpg"
    add(name, saved(rgb(name, 13, 9), "JPEG", quality=80) + b"\0\1\2camera")
    for progressive in [False, True]:
        name = f"cmyk{'-progressive' if progressive else ''}.jpg"
        cmyk = Image.fromarray(samples(name, 13, 9, 4), "CMYK")
        add(name, saved(cmyk, "JPEG", quality=85, progressive=progressive))
    name = "cmyk-no-adobe.jpg"
    add(name, without(saved(Image.fromarray(samples(name, 13, 9, 4), "CMYK"), "JPEG", quality=85), 0xEE))
    # Pillow writes no YCCK; the Adobe segment says whether the first three components are CMY or YCC.
    name = "ycck.jpg"
    data = bytearray(saved(Image.fromarray(samples(name, 13, 9, 4), "CMYK"), "JPEG", quality=85))
    for at, found, _ in segments(data):
        if found == 0xEE:
            data[at + 15] = 2
    add(name, data)
    for orientation in range(1, 9):
        name = f"orientation-{orientation}.jpg"
        add(name, saved(rgb(name, 13, 9), "JPEG", quality=80, exif=exif(orientation)))
    name = "orientation-xmp-6.jpg"
    add(name, saved(rgb(name, 13, 9), "JPEG", quality=80, xmp=xmp(6)))
    name = "orientation-exif-1-xmp-6.jpg"
    add(name, saved(rgb(name, 13, 9), "JPEG", quality=80, exif=exif(1), xmp=xmp(6)))


# ---------------------------------------------------------------- PNG

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def packed(values, depth, channels):
    """Samples [height, width, channels] as PNG or TIFF rows of `depth` bits each, the first in the high bits."""
    height, width = values.shape[:2]
    flat = values.reshape(height, width * channels)
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in flat]
    bits = (flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]


def png(values, depth, colour, palette=None, transparency=None, interlaced=False, extra=b"", after=b""):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    values = values.reshape(*values.shape[:2], channels)
    height, width = values.shape[:2]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    raw = b""
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    step = max(1, depth * channels // 8)
    for x, y, dx, dy in passes:
        part = values[y::dy, x::dx]
        if part.size == 0:
            continue
        before = None
        for number, row in enumerate(packed(part, depth, channels)):
            # Each row with another filter.
            method = number % 5
            line = np.frombuffer(row, np.uint8).astype(int)
            up = np.zeros_like(line) if before is None else before
            left = np.concatenate([np.zeros(step, int), line])[: len(line)]
            corner = np.concatenate([np.zeros(step, int), up])[: len(line)]
            estimate = left + up - corner
            a, b, c = abs(estimate - left), abs(estimate - up), abs(estimate - corner)
            paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
            guess = [0, left, up, (left + up) // 2, paeth][method]
            raw += bytes([method]) + ((line - guess) & 255).astype(np.uint8).tobytes()
            before = line
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    out += extra and chunk(b"eXIf", extra)
    if palette is not None:
        out += chunk(b"PLTE", np.asarray(palette, np.uint8).tobytes())
    if transparency is not None:
        out += chunk(b"tRNS", transparency)
    return out + chunk(b"IDAT", zlib.compress(raw, 9)) + after + chunk(b"IEND", b"")


def pngs():
    for colour, label in [(0, "grey"), (2, "rgb"), (4, "grey-alpha"), (6, "rgba")]:
        channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
        for depth in [1, 2, 4, 8, 16] if colour == 0 else [8, 16]:
            for interlaced in [False, True]:
                name = f"{label}-{depth}{'-interlaced' if interlaced else ''}.png"
                size = (7, 11) if interlaced else (13, 9)
                values = samples(name, *size, channels, np.uint16) >> (16 - depth)
                if name == "grey-16.png":
                    # Where Pillow clips.
                    values[0] = [0, 1, 254, 255, 256, 257, 511, 512, 0x12FF, 0x7FFF, 0x8000, 0xFF00, 0xFFFF]
                if colour == 6:
                    values[0, :3, 3] = 0
                add(name, png(values, depth, colour, interlaced=interlaced))
    for depth in [1, 2, 4, 8]:
        for transparent in [False, True]:
            name = f"palette-{depth}{'-transparent' if transparent else ''}.png"
            count = min(1 << depth, 40)
            values = rng(name).integers(0, count, (9, 13))
            palette = rng(name + "p").integers(0, 256, (count, 3))
            alpha = bytes(range(0, 256, 256 // count))[: count // 2 + 1] if transparent else None
            add(name, png(values, depth, 3, palette, alpha, interlaced=transparent and depth == 4))
    # Indices beyond a palette of 3.
    add("palette-short.png", png(rng("short").integers(0, 16, (5, 7)), 4, 3, rng("shortp").integers(0, 256, (3, 3))))
    add("grey-8-transparent.png", png(samples("gt", 5, 3, 1), 8, 0, transparency=b"\0\x40"))
    add("grey-16-transparent.png", png(samples("g16t", 5, 3, 1, np.uint16) >> 7, 16, 0, transparency=b"\0\x40"))
    add("grey-1-transparent.png", png(samples("g1t", 5, 3, 1) >> 7, 1, 0, transparency=b"\0\1"))
    add("rgb-8-transparent.png", png(samples("rt", 5, 3), 8, 2, transparency=b"\0\1\0\2\0\3"))
    add("rgb-16-transparent.png", png(samples("r16t", 5, 3, 3, np.uint16), 16, 2, transparency=b"\0\1\0\2\0\3"))
    add("one-pixel.png", png(samples("one", 1, 1), 8, 2))
    add("column.png", png(samples("column", 1, 5), 8, 2, interlaced=True))
    for orientation in [3, 6]:
        name = f"orientation-{orientation}.png"
        add(name, png(samples(name, 13, 9), 8, 2, extra=exif(orientation)[6:]))
    name = "orientation-xmp-5.png"
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp(5).decode())
    add(name, saved(Image.fromarray(samples(name, 13, 9)), "PNG", pnginfo=text))
    frames = [Image.fromarray(samples(f"apng{i}", 9, 7)) for i in range(2)]
    add("animated.png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    add("animated-other-default.png", saved(frames[0], "PNG", save_all=True, append_images=frames, default_image=True))


# ---------------------------------------------------------------- WebP


def webps():
    for size in [(13, 9), (7, 31), (1, 5), (35, 18)]:
        name = f"lossy-{size[0]}x{size[1]}.webp"
        add(name, saved(Image.fromarray(samples(name, *size)), "WEBP", quality=20 + (13 * len(FILES)) % 79))
    for size in [(13, 9), (1, 1)]:
        name = f"lossless-{size[0]}x{size[1]}.webp"
        add(name, saved(Image.fromarray(samples(name, *size)), "WEBP", lossless=True))
    for lossless in [False, True]:
        name = f"alpha-{'lossless' if lossless else 'lossy'}.webp"
        rgba = samples(name, 13, 9, 4)
        rgba[:3, :3, 3] = 0
        add(name, saved(Image.fromarray(rgba), "WEBP", lossless=lossless, exact=True, quality=80))
        name = f"animated-{'lossless' if lossless else 'lossy'}.webp"
        frames = [Image.fromarray(samples(f"{name}{i}", 11, 7)) for i in range(3)]
        add(name, saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=lossless))
    name = "animated-alpha.webp"
    frames = [Image.fromarray(samples(f"{name}{i}", 11, 7, 4)) for i in range(2)]
    add(name, saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, exact=True))
    # Five colours: lossless WebP then packs indices.
    name = "lossless-few-colours.webp"
    colours = rng(name).integers(0, 256, (5, 3)).astype(np.uint8)
    add(name, saved(Image.fromarray(colours[rng(name + "i").integers(0, 5, (9, 13))]), "WEBP", lossless=True))
    name = "orientation-8.webp"
    add(name, saved(Image.fromarray(samples(name, 13, 9)), "WEBP", lossless=True, exif=exif(8)))
    name = "orientation-xmp-6.webp"
    add(name, saved(Image.fromarray(samples(name, 13, 9)), "WEBP", lossless=True, xmp=xmp(6)))


# ---------------------------------------------------------------- GIF


def lzw(indices, bits):
    """GIF's LZW without compression: a clear code before the codes would grow longer."""
    clear, end = 1 << bits, (1 << bits) + 1
    codes = []
    for at, index in enumerate(indices):
        if at % max(1, (1 << bits) - 2) == 0:
            codes.append(clear)
        codes.append(int(index))
    value = position = 0
    for code in codes + [end]:
        value |= code << position
        position += bits + 1
    data = value.to_bytes((position + 7) // 8, "little")
    blocks = [data[i : i + 255] for i in range(0, len(data), 255)]
    return bytes([bits]) + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif(canvas, frames, palette=None, background=0):
    """Frames are (indices, left, top, local palette, transparent index, interlaced)."""

    def table(colours):
        bits = max(1, (len(colours) - 1).bit_length())
        return bits - 1, bytes(colours) if isinstance(colours, bytes) else np.uint8(colours).tobytes()

    out = b"GIF89a" + struct.pack("<HH", *canvas)
    if palette is None:
        out += bytes([0, background, 0])
    else:
        size, data = table(palette)
        out += bytes([0x80 | size, background, 0]) + data.ljust(3 << (size + 1), b"\0")
    for indices, left, top, local, transparent, interlaced in frames:
        if transparent is not None:
            out += bytes([0x21, 0xF9, 4, 1 | 4, 10, 0, transparent, 0])
        height, width = indices.shape
        flags = 0x40 if interlaced else 0
        out += b"," + struct.pack("<HHHH", left, top, width, height)
        if local is None:
            out += bytes([flags])
        else:
            size, data = table(local)
            out += bytes([flags | 0x80 | size]) + data.ljust(3 << (size + 1), b"\0")
        order = [y for start, step in [(0, 8), (4, 8), (2, 4), (1, 2)] for y in range(start, height, step)]
        rows = indices[order] if interlaced else indices
        out += lzw(rows.reshape(-1), max(2, int(indices.max()).bit_length()))
    return out + b";"


def gifs():
    colours = rng("gif").integers(0, 256, (16, 3))
    other = rng("gif local").integers(0, 256, (8, 3))
    wide = rng("gif indices").integers(0, 16, (9, 13))
    small = rng("gif small").integers(0, 8, (4, 6))
    for size in [(13, 9), (7, 31), (1, 5)]:
        name = f"rgb-{size[0]}x{size[1]}.gif"
        add(name, saved(Image.fromarray(samples(name, *size)), "GIF"))
    name = "grey.gif"
    add(name, saved(Image.fromarray(samples(name, 13, 9, 1)), "GIF"))
    add("palette.gif", gif((13, 9), [(wide, 0, 0, None, None, False)], colours))
    add("interlaced.gif", gif((13, 9), [(wide, 0, 0, None, None, True)], colours))
    add("transparent.gif", gif((13, 9), [(wide, 0, 0, None, 3, False)], colours, 5))
    add("local-palette.gif", gif((6, 4), [(small, 0, 0, other, None, False)], colours))
    add("only-local-palette.gif", gif((6, 4), [(small, 0, 0, other, None, True)]))
    add("no-palette.gif", gif((6, 4), [(small, 0, 0, None, None, False)]))
    add("smaller-frame.gif", gif((13, 9), [(small, 3, 2, None, None, False)], colours, 5))
    add("smaller-frame-local.gif", gif((13, 9), [(small, 3, 2, other, None, False)], colours, 5))
    add("smaller-frame-transparent.gif", gif((13, 9), [(small, 3, 2, None, 7, True)], colours, 5))
    add("frame-beyond-canvas.gif", gif((5, 3), [(small, 2, 1, None, None, False)], colours, 5))
    add("short-palette.gif", gif((13, 9), [(wide, 0, 0, None, None, False)], colours[:4]))
    add("animated.gif", gif((13, 9), [(wide, 0, 0, None, None, False), (small, 1, 1, other, 2, False)], colours))
    ramp = np.repeat(np.arange(16)[:, None], 3, 1)
    add("grey-palette.gif", gif((13, 9), [(wide, 0, 0, None, None, False)], ramp))


# ---------------------------------------------------------------- BMP


def bmp(width, height, bits, data, palette=b"", compression=0, masks=b"", header=40, colours=0, gap=b""):
    """Negative heights are from the top."""
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(data), 0, 0, colours, 0)
        if header > 40:
            info += masks.ljust(header - 40, b"\0")
            masks = b""
    start = 14 + len(info) + len(masks) + len(palette) + len(gap)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + masks + palette + gap + data


def bmp_rows(values, bits):
    """Rows from the bottom, padded to four bytes."""
    rows = packed(values, bits, 1)
    return b"".join(row + b"\0" * (-len(row) % 4) for row in reversed(rows))


def bmps():
    for mode in ["1", "L", "P", "RGB", "RGBA"]:
        name = f"{mode.lower()}.bmp"
        image = Image.fromarray(samples(name, 13, 9))
        add(name, saved(image.quantize(9) if mode == "P" else image.convert(mode), "BMP"))
    for bits in [1, 4, 8]:
        count = min(1 << bits, 30)
        values = rng(f"bmp{bits}").integers(0, count, (9, 13))
        palette = np.c_[rng(f"bmp{bits}p").integers(0, 256, (count, 3)), np.zeros(count)].astype(np.uint8)
        rows = bmp_rows(values, bits)
        add(f"palette-{bits}.bmp", bmp(13, 9, bits, rows, palette.tobytes(), colours=count))
        add(f"palette-{bits}-top-down.bmp", bmp(13, -9, bits, rows, palette.tobytes(), colours=count))
        if count == 1 << bits:
            add(f"palette-{bits}-os2.bmp", bmp(13, 9, bits, rows, palette[:, :3].tobytes(), header=12))
    short = np.c_[rng("bmps").integers(0, 256, (5, 3)), np.zeros(5)].astype(np.uint8)
    add("palette-short.bmp", bmp(13, 9, 8, bmp_rows(rng("bmpsi").integers(0, 9, (9, 13)), 8), short.tobytes(), colours=5))
    add("two-greys.bmp", bmp(13, 9, 1, bmp_rows(rng("bmp2").integers(0, 2, (9, 13)), 1), bytes([0, 0, 0, 0, 255, 255, 255, 0])))

    pixels = rng("bmp16").integers(0, 1 << 16, (9, 13)).astype("<u2")
    rows16 = b"".join(row.tobytes() + b"\0" * (-row.nbytes % 4) for row in pixels)
    add("rgb-555.bmp", bmp(13, 9, 16, rows16))
    add("rgb-555-masks.bmp", bmp(13, 9, 16, rows16, compression=3, masks=struct.pack("<III", 0x7C00, 0x3E0, 0x1F)))
    add("rgb-565.bmp", bmp(13, 9, 16, rows16, compression=3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)))
    rgb = samples("bmp24", 13, 9)
    rows24 = b"".join(row.tobytes() + b"\0" * (-row.nbytes % 4) for row in rgb)
    add("rgb-24.bmp", bmp(13, 9, 24, rows24))
    add("rgb-24-top-down.bmp", bmp(13, -9, 24, rows24))
    add("rgb-24-gap.bmp", bmp(13, 9, 24, rows24, gap=b"\7" * 10))
    add("rgb-24-os2.bmp", bmp(13, 9, 24, rows24, header=12))
    rows32 = samples("bmp32", 13, 9, 4).tobytes()
    add("rgb-32.bmp", bmp(13, 9, 32, rows32))
    for label, masks, header in [
        ("bgrx", (0xFF0000, 0xFF00, 0xFF), 40),
        ("xbgr", (0xFF000000, 0xFF0000, 0xFF00), 40),
        ("rgba-v4", (0xFF, 0xFF00, 0xFF0000, 0xFF000000), 108),
        ("bgra-v5", (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 124),
    ]:
        add(f"rgb-32-{label}.bmp", bmp(13, 9, 32, rows32, compression=3, masks=struct.pack(f"<{len(masks)}I", *masks), header=header))

    table = palette[:16].tobytes()
    add("palette-4-os2-v2.bmp", bmp(13, 9, 4, bmp_rows(rng("bmp64").integers(0, 16, (9, 13)), 4), table, header=64))
    table = np.c_[rng("rle").integers(0, 256, (16, 3)), np.zeros(16)].astype(np.uint8).tobytes()
    # Runs, absolute runs of odd and even length, rows that end early and a jump.
    rle8 = bytes([3, 5, 4, 9, 6, 1, 0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 8, 7, 0, 0, 5, 2, 0, 0, 0, 2, 4, 1, 2, 3, 0, 4, 8, 9, 10, 11])
    rle8 += bytes([0, 0]) + bytes([13, 6, 0, 0]) * 4 + bytes([12, 2, 0, 0, 0, 1])
    add("rle-8.bmp", bmp(13, 9, 8, rle8, table, compression=1, colours=16))
    rle4 = bytes([13, 0x12, 0, 0, 0, 4, 0x34, 0x56, 9, 0x70, 0, 0, 5, 0x89, 0, 0, 0, 8, 0x12, 0x34, 0x56, 0x78, 5, 0xAB])
    rle4 += bytes([0, 0, 0, 2, 3, 1, 4, 0xC0, 0, 0]) + bytes([13, 0xDE, 0, 0]) * 5 + bytes([0, 1])
    add("rle-4.bmp", bmp(13, 9, 4, rle4, table, compression=2, colours=16))


# ---------------------------------------------------------------- TIFF


def tiff(width, height, strips, tags, order="<", second=b"", tile=None):
    """A classic TIFF of ready strips or tiles. `tags` maps numbers to (type, values)."""
    sizes = {1: "B", 3: "H", 4: "I", 5: "II", 7: "B"}
    entries = {256: (3, [width]), 257: (3, [height]), **tags}
    offsets, counts = (324, 325) if tile else (273, 279)
    if tile:
        entries |= {322: (3, [tile[0]]), 323: (3, [tile[1]])}
    elif 278 not in entries:
        entries[278] = (3, [height])
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    entries[offsets] = (4, [0] * len(strips))
    entries[counts] = (4, [len(strip) for strip in strips])
    extra_at = 8 + 2 + 12 * len(entries) + 4
    extra_size = sum(
        len(values) * struct.calcsize(order + sizes[kind])
        for kind, values in entries.values()
        if len(values) * struct.calcsize(order + sizes[kind]) > 4
    )
    at = extra_at + extra_size
    for number, strip in enumerate(strips):
        entries[offsets][1][number] = at
        at += len(strip)
    directory, extra = struct.pack(order + "H", len(entries)), b""
    for tag, (kind, values) in sorted(entries.items()):
        data = b"".join(struct.pack(order + sizes[kind][0], value) for value in values)
        directory += struct.pack(order + "HHI", tag, kind, len(values))
        if len(data) <= 4:
            directory += data.ljust(4, b"\0")
        else:
            directory += struct.pack(order + "I", extra_at + len(extra))
            extra += data
    return head + directory + struct.pack(order + "I", 0) + extra + b"".join(strips)


def tiffs():
    def with_tags(bits, photometric, count=1, **others):
        tags = {258: (3, [bits] * count), 259: (3, [1]), 262: (3, [photometric]), 277: (3, [count])}
        return tags | {int(tag[1:]): value for tag, value in others.items()}

    for mode in ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"]:
        for compression in [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]:
            if compression not in (None, "tiff_lzw") and mode not in ("RGB", "L", "1"):
                continue
            name = f"{mode.lower().replace(';', '')}-{(compression or 'raw').removeprefix('tiff_').replace('_', '-')}.tif"
            rgb = Image.fromarray(samples(name, 13, 9))
            if mode in ("I;16", "I", "F"):
                values = rng(name).integers(-100, 500, (9, 13))
                if mode == "I;16":
                    image = Image.fromarray(np.abs(values).astype(np.uint16))
                elif mode == "I":
                    image = Image.fromarray(values.astype(np.int32))
                else:
                    image = Image.fromarray((values / np.float32(1.7)).astype(np.float32))
            elif mode == "P":
                image = rgb.quantize(11)
            elif mode == "CMYK":
                image = Image.fromarray(samples(name, 13, 9, 4), "CMYK")
            elif mode in ("LA", "RGBA"):
                image = Image.fromarray(samples(name, 13, 9, len(mode)))
            else:
                image = rgb.convert(mode)
            add(name, saved(image, "TIFF", compression=compression))
    for compression in ["group3", "group4", "tiff_ccitt"]:
        name = f"bilevel-{compression.replace('_', '-')}.tif"
        add(name, saved(Image.fromarray(samples(name, 37, 9, 1)).convert("1"), "TIFF", compression=compression))
    for mode in ["L", "RGB", "CMYK", "YCbCr"]:
        name = f"jpeg-{mode.lower()}.tif"
        image = Image.fromarray(samples(name, 35, 18, 4), "CMYK") if mode == "CMYK" else Image.fromarray(samples(name, 35, 18)).convert(mode)
        add(name, saved(image, "TIFF", compression="jpeg", quality=80))
    pages = [Image.fromarray(samples(f"page{i}.tif", 9 + i, 7)) for i in range(2)]
    add("pages.tif", saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    for orientation in [2, 7]:
        name = f"orientation-{orientation}.tif"
        add(name, saved(Image.fromarray(samples(name, 13, 9)), "TIFF", tiffinfo={274: orientation}))
    name = "orientation-xmp-8.tif"
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[700] = xmp(8)
    add(name, saved(Image.fromarray(samples(name, 13, 9)), "TIFF", tiffinfo=info))

    for order, label in [("<", "little"), (">", "big")]:
        for channels in [1, 3, 4]:
            name = f"{['', 'grey', '', 'rgb', 'rgba'][channels]}-16-{label}.tif"
            values = samples(name, 13, 9, channels, np.uint16)
            if channels == 1:
                values >>= 7
            tags = with_tags(16, 1 if channels == 1 else 2, channels)
            if channels == 4:
                tags[338] = (3, [2])
            add(name, tiff(13, 9, [values.astype(order + "u2").tobytes()], tags, order))
        name = f"float-{label}.tif"
        values = (rng(name).uniform(-30, 300, (9, 13))).astype(order + "f4")
        values[0, :5] = [np.nan, np.inf, -np.inf, 254.99, 255.5]
        add(name, tiff(13, 9, [values.tobytes()], with_tags(32, 1, _339=(3, [3])), order))
    for bits in [1, 2, 4]:
        values = rng(f"tiff{bits}").integers(0, 1 << bits, (9, 13))
        rows = b"".join(packed(values, bits, 1))
        add(f"grey-{bits}.tif", tiff(13, 9, [rows], with_tags(bits, 1)))
        add(f"grey-{bits}-white-is-zero.tif", tiff(13, 9, [rows], with_tags(bits, 0)))
        palette = rng(f"tiffp{bits}").integers(0, 1 << 16, 3 << bits)
        add(f"palette-{bits}.tif", tiff(13, 9, [rows], with_tags(bits, 3, _320=(3, [int(v) for v in palette]))))
    values = samples("white", 13, 9, 1)
    add("grey-8-white-is-zero.tif", tiff(13, 9, [values.tobytes()], with_tags(8, 0)))
    rgb = samples("strips", 13, 9)
    rows = [rgb[y : y + 4].tobytes() for y in range(0, 9, 4)]
    add("strips.tif", tiff(13, 9, rows, with_tags(8, 2, 3, _278=(3, [4]))))
    planes = [rgb[..., c].tobytes() for c in range(3)]
    add("planar.tif", tiff(13, 9, planes, with_tags(8, 2, 3, _284=(3, [2]))))
    deflated = [zlib.compress(plane) for plane in planes]
    add("planar-deflate.tif", tiff(13, 9, deflated, with_tags(8, 2, 3, _284=(3, [2]), _259=(3, [8]))))
    padded = np.zeros((16, 32, 3), np.uint8)
    padded[:9, :19] = samples("tiles", 19, 9)
    tiles = [padded[:, x : x + 16].tobytes() for x in (0, 16)]
    add("tiles.tif", tiff(19, 9, tiles, with_tags(8, 2, 3), tile=(16, 16)))
    add("tiles-deflate.tif", tiff(19, 9, [zlib.compress(t) for t in tiles], with_tags(8, 2, 3, _259=(3, [8])), tile=(16, 16)))
    differences = rgb.astype(int)
    differences[:, 1:] -= rgb[:, :-1].astype(int)
    data = zlib.compress((differences & 255).astype(np.uint8).tobytes())
    add("predictor.tif", tiff(13, 9, [data], with_tags(8, 2, 3, _259=(3, [8]), _317=(3, [2]))))
    deep = samples("predictor-16", 13, 9, 3, np.uint16)
    differences = deep.astype(int)
    differences[:, 1:] -= deep[:, :-1].astype(int)
    data = zlib.compress((differences & 65535).astype(">u2").tobytes())
    add("predictor-16-big.tif", tiff(13, 9, [data], with_tags(16, 2, 3, _259=(3, [8]), _317=(3, [2])), ">"))
    values = rng("signed").integers(-200, 500, (9, 13)).astype("<i2")
    add("signed-16.tif", tiff(13, 9, [values.tobytes()], with_tags(16, 1, _339=(3, [2]))))
    add("cmyk-16.tif", tiff(13, 9, [samples("cmyk-16", 13, 9, 4, np.uint16).tobytes()], with_tags(16, 5, 4)))
    palette = [int(v) for v in rng("pa").integers(0, 1 << 16, 768)]
    data = samples("palette-alpha", 13, 9, 2).tobytes()
    add("palette-alpha.tif", tiff(13, 9, [data], with_tags(8, 3, 2, _338=(3, [2]), _320=(3, palette))))
    data = samples("rgb-extra", 13, 9, 5).tobytes()
    add("rgb-two-extra.tif", tiff(13, 9, [data], with_tags(8, 2, 5, _338=(3, [0, 0]))))
    data = samples("rgba-premultiplied-16", 13, 9, 4, np.uint16).astype(">u2").tobytes()
    add("rgba-premultiplied-16-big.tif", tiff(13, 9, [data], with_tags(16, 2, 4, _338=(3, [1])), ">"))
    padded = np.zeros((16, 32), np.uint8)
    padded[:9, :19] = samples("tiles-grey", 19, 9, 1)
    tiles = [padded[:, x : x + 16].tobytes() for x in (0, 16)]
    add("tiles-white-is-zero.tif", tiff(19, 9, tiles, with_tags(8, 0), tile=(16, 16)))
    rgbx = samples("rgbx", 13, 9, 4)
    for extra, label in [(0, "rgbx"), (1, "rgba-premultiplied"), (2, "rgba-straight")]:
        add(f"{label}.tif", tiff(13, 9, [rgbx.tobytes()], with_tags(8, 2, 4, _338=(3, [extra]))))
    premultiplied = rgbx.copy()
    premultiplied[..., 3] = 255
    premultiplied[2:, :, 3] = samples("alpha", 13, 7, 1)
    premultiplied[..., :3] = premultiplied[..., :3].astype(int) * premultiplied[..., 3:] // 255
    add("rgba-premultiplied-sound.tif", tiff(13, 9, [premultiplied.tobytes()], with_tags(8, 2, 4, _338=(3, [1]))))


# ---------------------------------------------------------------- what Pillow makes of them


def center_crop(image, size):
    """torchvision's CenterCrop for a picture that is large enough."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def shortest_edge(image, size):
    """torchvision's Resize(size): the longer side is truncated."""
    width, height = image.size
    target = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    return image.resize(target, Image.Resampling.BICUBIC)


def longest_pad(image, size, fill, method):
    """open_clip's ResizeKeepRatio(size, longest=1) and CenterCropOrPad(size, fill)."""
    ratio = max(image.height / size, image.width / size)
    resized = image.resize((round(image.width / ratio), round(image.height / ratio)), method)
    out = Image.new("RGB", (size, size), (fill,) * 3)
    out.paste(resized, ((size - resized.width) // 2, (size - resized.height) // 2))
    return out


def main(folder):
    for write in [jpegs, pngs, webps, gifs, bmps, tiffs]:
        write()
    folder.mkdir(parents=True, exist_ok=True)
    expected, refused = {}, []
    for number, (name, data) in enumerate(FILES.items()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = Image.open(io.BytesIO(data))
                image.load()
                rgb = ImageOps.exif_transpose(image).convert("RGB")
        except Exception as error:
            refused.append(f"{name}: {error}")
            continue
        (folder / name).write_bytes(data)
        expected[f"{name}/rgb"] = np.asarray(rgb)
        # Every sixth: the resize does not know where its picture came from.
        if number % 6:
            continue
        expected[f"{name}/crop"] = np.asarray(center_crop(shortest_edge(rgb, SIZE), SIZE))
        expected[f"{name}/squash"] = np.asarray(rgb.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    assert not refused, "Pillow cannot read\n" + "\n".join(refused)

    methods = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    sources = [(1, 1), (1, 40), (40, 1), (2, 3), (13, 9), (31, 17), (64, 5), (3, 64), (33, 48)]
    for number, size in enumerate(sources):
        source = Image.fromarray(samples(f"resize{size}", *size))
        key = f"resize/{size[0]}x{size[1]}"
        expected[f"{key}/source"] = np.asarray(source)
        for label, method in methods.items():
            for target in [(1, 1), (5, 3), (7, 20), (24, 6), (size[0], 11), (9, size[1])]:
                expected[f"{key}/{label}/{target[0]}x{target[1]}"] = np.asarray(source.resize(target, method))
            # Where the shorter side would round to nothing, open_clip fails.
            if 2 * 16 * min(size) > max(size):
                expected[f"{key}/{label}/longest"] = np.asarray(longest_pad(source, 16, 40 * number % 256, method))
    expected = {name: np.ascontiguousarray(values) for name, values in expected.items()}
    data = save(expected, {"pillow": PIL.__version__, "size": str(SIZE)})
    (folder / "expected.safetensors").write_bytes(data)
    total = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{len(FILES)} pictures, {total} bytes in all, by Pillow {PIL.__version__}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
