"""Writes small AVIF, JPEG XL and HEIC pictures and what other libraries make of them.

    pip install pillow==13.0.0 pillow-jxl-plugin==1.3.8 pillow-heif==1.8.1 imagecodecs==2026.3.6 numpy safetensors
    python tests/reference/formats.py tests/formats

The folder then holds the picture files and `expected.safetensors`, which tests/formats.rs compares with: for each file NAME
the samples [height, width, 3] of ImageOps.exif_transpose(Image.open(NAME)).convert("RGB"), AVIF by Pillow's libavif, JPEG XL by
libjxl and HEIC by libheif. Where Pillow drops what the file has beyond 8 bits, they are rounded.
"""

import io
import pathlib
import struct
import sys
import zlib

import imagecodecs
import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401
from PIL import Image, ImageOps
from safetensors.numpy import save

pillow_heif.register_heif_opener()
FILES: dict[str, bytes] = {}
EXPECTED: dict[str, np.ndarray] = {}


def samples(name, width, height, channels=3, top=255):
    """Soft gradients with a sharp corner: as in photos, chroma is mostly smooth."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for _ in range(channels):
        a, b, c = random.uniform(-1, 1, 3)
        plane = 0.5 + 0.4 * (a * x / width + b * y / height) + 0.25 * c
        plane[: height // 3, : width // 4] = random.uniform(0, 1)
        planes.append(plane)
    out = (np.clip(np.stack(planes, -1), 0, 1) * top).round()
    out = out.astype(np.uint8 if top < 256 else np.uint16)
    return out[..., 0] if channels == 1 else out


def saved(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def add(name, data, expected=None):
    FILES[name] = data
    if expected is None:
        image = Image.open(io.BytesIO(data))
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    EXPECTED[name] = expected


def exif(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


# ---------------------------------------------------------------- AVIF


def avifs():
    for subsampling in ["4:4:4", "4:2:2", "4:2:0", "4:0:0"]:
        for size in [(35, 18), (7, 31), (1, 1)]:
            name = f"{subsampling.replace(':', '')}-{size[0]}x{size[1]}.avif"
            image = Image.fromarray(samples(name, *size))
            add(name, saved(image, "AVIF", quality=90, subsampling=subsampling))
    image = Image.fromarray(samples("limited", 35, 18))
    add("limited.avif", saved(image, "AVIF", quality=95, range="limited"))
    add("rgba.avif", saved(Image.fromarray(samples("rgba", 35, 18, 4)), "AVIF", quality=90))
    add("grey.avif", saved(Image.fromarray(samples("grey", 35, 18, 1)), "AVIF", quality=90))
    for orientation in range(1, 9):
        image = Image.fromarray(samples("turned", 35, 18))
        add(f"orientation-{orientation}.avif", saved(image, "AVIF", quality=90, exif=exif(orientation)))
    pages = [Image.fromarray(samples(f"page{i}", 35, 18)) for i in range(2)]
    add("animated.avif", saved(pages[0], "AVIF", quality=90, save_all=True, append_images=pages[1:]))
    # Identity: green, blue and red themselves, without loss.
    rgb = samples("identity", 35, 18)
    add("lossless.avif", imagecodecs.avif_encode(rgb, level=100, pixelformat="444", matrix=0), rgb)
    for bits in [10, 12]:
        deep = samples(f"deep{bits}", 35, 18, top=(1 << bits) - 1)
        data = imagecodecs.avif_encode(deep, level=95, bitspersample=bits, pixelformat="420")
        add(f"deep-{bits}.avif", data, rounded(imagecodecs.avif_decode(data), bits))
    tiled()


def rounded(values, bits):
    return (values / ((1 << bits) - 1) * 255 + 0.5).astype(np.uint8)


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def full(kind, version, *parts):
    return box(kind, struct.pack(">I", version << 24), *parts)


def children(data, start=0):
    """The boxes from a place on: kind, body."""
    while start + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        yield kind, data[start + 8 : start + length]
        start += length


def parts(data):
    """Properties by kind and the coded picture of an AVIF file of one item."""
    found = dict(children(data))
    meta = dict(children(found[b"meta"], 4))
    properties = {kind: box(kind, body) for kind, body in children(dict(children(meta[b"iprp"]))[b"ipco"])}
    return properties, found[b"mdat"]


def tiled():
    """A picture of 2 rows of 3 tiles, of which the last column and row stick out."""
    side, width, height = 64, 140, 80
    rgb = samples("tiles", width, height)
    padded = np.pad(rgb, ((0, 2 * side - height), (0, 3 * side - width), (0, 0)), mode="edge")
    tiles = []
    for row in range(2):
        for column in range(3):
            tile = padded[row * side : (row + 1) * side, column * side : (column + 1) * side]
            tiles.append(parts(saved(Image.fromarray(tile), "AVIF", quality=90, subsampling="4:4:4", autotiling=False)))
    properties = tiles[0][0]
    shared = [properties[b"av1C"], properties[b"colr"], properties[b"pixi"]]
    sizes = [full(b"ispe", 0, struct.pack(">II", *size)) for size in [(side, side), (width, height)]]
    ipco = box(b"ipco", *shared, *sizes)
    # Item 1 is the grid, whose eight bytes lie in the description; the others are tiles.
    associations = [struct.pack(">HBBBB", 1, 3, 2, 3, 5)]
    associations += [struct.pack(">HBBBBB", 2 + i, 4, 0x81, 2, 3, 4) for i in range(6)]
    ipma = full(b"ipma", 0, struct.pack(">I", len(associations)), *associations)
    infe = lambda number, kind: full(b"infe", 2, struct.pack(">HH", number, 0), kind, b"\0")
    iinf = full(b"iinf", 0, struct.pack(">H", 7), infe(1, b"grid"), *[infe(2 + i, b"av01") for i in range(6)])
    iref = full(b"iref", 0, box(b"dimg", struct.pack(">HH6H", 1, 6, *range(2, 8))))
    grid = struct.pack(">BBBBHH", 0, 0, 1, 2, width, height)
    head = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")

    def meta(start):
        places = [struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(grid))]
        for number, (_, data) in enumerate(tiles):
            places.append(struct.pack(">HHHHII", 2 + number, 0, 0, 1, start, len(data)))
            start += len(data)
        iloc = full(b"iloc", 1, struct.pack(">BBH", 0x44, 0, len(places)), *places)
        hdlr = full(b"hdlr", 0, bytes(4), b"pict", bytes(13))
        pitm = full(b"pitm", 0, struct.pack(">H", 1))
        return full(b"meta", 0, hdlr, pitm, iloc, iinf, iref, box(b"iprp", ipco, ipma), box(b"idat", grid))

    start = len(head) + len(meta(0)) + 8
    add("grid.avif", head + meta(start) + box(b"mdat", *[data for _, data in tiles]))


# ---------------------------------------------------------------- JPEG XL


def jxls():
    for name, channels in [("rgb", 3), ("rgba", 4), ("grey", 1)]:
        image = Image.fromarray(samples(name, 35, 18, channels))
        add(f"{name}-lossless.jxl", saved(image, "JXL", lossless=True))
    for name, size in [("photo", (70, 45)), ("small", (7, 31)), ("pixel", (1, 1))]:
        add(f"{name}.jxl", saved(Image.fromarray(samples(name, *size)), "JXL", quality=90))
    for name, channels in [("rgb", 3), ("grey", 1)]:
        deep = samples(f"deep-{name}", 35, 18, channels, top=65535)
        data = imagecodecs.jpegxl_encode(deep, lossless=True)
        expected = rounded(deep, 16)
        add(f"{name}-16.jxl", data, np.stack([expected] * 3, -1) if channels == 1 else expected)
    # A JPEG packed without loss, with its orientation.
    for orientation in [1, 3, 6, 7]:
        jpeg = saved(Image.fromarray(samples("turned", 35, 18)), "JPEG", quality=90, exif=exif(orientation))
        data = imagecodecs.jpegxl_encode_jpeg(jpeg)
        add(f"orientation-{orientation}.jxl", data, imagecodecs.jpegxl_decode(data))


# ---------------------------------------------------------------- HEIC


def heics():
    for name, channels in [("rgb", 3), ("rgba", 4), ("grey", 1)]:
        image = Image.fromarray(samples(name, 70, 66, channels))
        add(f"{name}.heic", saved(image, "HEIF", quality=90))
    for orientation in [3, 6]:
        image = Image.fromarray(samples("turned", 70, 66))
        add(f"orientation-{orientation}.heic", saved(image, "HEIF", quality=90, exif=exif(orientation)))


def main(folder):
    for write in [avifs, jxls, heics]:
        write()
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    expected = {name: np.ascontiguousarray(values) for name, values in EXPECTED.items()}
    (folder / "expected.safetensors").write_bytes(save(expected))
    total = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{len(FILES)} pictures, {total} bytes in all")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
