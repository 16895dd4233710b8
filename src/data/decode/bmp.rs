//! BMP as Pillow reads it: palettes, run lengths, 16 to 32 bits, OS/2 and Windows headers, from the bottom or the top.

use super::{Pixels, budget, check_size, unpack_row};

/// Run-length encoded indices of 8 bits.
const RLE8: u32 = 1;
/// Run-length encoded indices of 4 bits.
const RLE4: u32 = 2;
/// Masks say where the channels are.
const MASKS: u32 = 3;
/// Bytes before the header whose length the file states.
const FILE_HEADER: usize = 14;

/// The masks (red, green, blue, alpha) of 32 bits that Pillow knows, with the bytes of red, green and blue.
const LAYOUTS: [([u32; 4], [usize; 3]); 8] = [
    ([0xff_0000, 0xff00, 0xff, 0], [2, 1, 0]),
    ([0xff00_0000, 0xff_0000, 0xff00, 0], [3, 2, 1]),
    ([0xff00_0000, 0xff00, 0xff, 0], [3, 1, 0]),
    ([0xff00_0000, 0xff_0000, 0xff00, 0xff], [3, 2, 1]),
    ([0xff, 0xff00, 0xff_0000, 0xff00_0000], [0, 1, 2]),
    ([0xff_0000, 0xff00, 0xff, 0xff00_0000], [2, 1, 0]),
    ([0xff00_0000, 0xff00, 0xff, 0xff_0000], [3, 1, 0]),
    ([0, 0, 0, 0], [2, 1, 0]),
];

/// What the header says.
struct Header {
    /// Length of the header, its own length included.
    length: usize,
    width: usize,
    height: usize,
    /// Whether the first row of the file is the top one.
    top_down: bool,
    bits: usize,
    compression: u32,
    /// Bytes of a palette entry.
    entry: usize,
    /// Entries of the palette.
    colours: usize,
}

fn cut() -> String {
    "the BMP data ends early; replace or remove the file".to_owned()
}

fn unsupported(what: &str) -> String {
    format!("BMP with {what} is not supported; convert it to PNG or JPEG")
}

fn short(bytes: &[u8], at: usize) -> Result<u16, String> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|&bytes| u16::from_le_bytes(bytes)).ok_or_else(cut)
}

fn long(bytes: &[u8], at: usize) -> Result<u32, String> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|&bytes| u32::from_le_bytes(bytes)).ok_or_else(cut)
}

impl Header {
    fn new(bytes: &[u8]) -> Result<Self, String> {
        let length = long(bytes, FILE_HEADER)?;
        let at = FILE_HEADER + 4;
        let (width, height, top_down, bits, compression, entry, colours) = match length {
            12 => {
                let side = |at| short(bytes, at).map(u32::from);
                (side(at)?, side(at + 2)?, false, short(bytes, at + 6)?, 0, 3, 0)
            }
            40 | 52 | 56 | 64 | 108 | 124 => {
                let height = long(bytes, at + 4)?;
                // Pillow looks at the highest byte only: sizes that this misjudges are refused anyway.
                let top_down = height >> 24 == 0xff;
                let height = if top_down { height.wrapping_neg() } else { height };
                let (bits, compression) = (short(bytes, at + 10)?, long(bytes, at + 12)?);
                (long(bytes, at)?, height, top_down, bits, compression, 4, long(bytes, at + 28)?)
            }
            _ => return Err(unsupported(&format!("a header of {length} bytes"))),
        };
        check_size(width, height)?;
        let bits = usize::from(bits);
        if !matches!(bits, 1 | 4 | 8 | 16 | 24 | 32) {
            return Err(unsupported(&format!("{bits} bits per pixel")));
        }
        let colours = match colours {
            0 if bits <= 8 => 1 << bits,
            1..=65536 => colours as usize,
            _ if bits > 8 => 0,
            _ => return Err(unsupported(&format!("a palette of {colours} colours"))),
        };
        Ok(Self {
            length: length as usize,
            width: width as usize,
            height: height as usize,
            top_down,
            bits,
            compression,
            entry,
            colours,
        })
    }
}

/// Decodes a BMP file.
pub(super) fn decode(bytes: &[u8]) -> Result<Pixels, String> {
    let header = Header::new(bytes)?;
    let mut after = FILE_HEADER + header.length;
    let mut start = long(bytes, 10)? as usize;
    let mut masks = [0; 4];
    if header.compression == MASKS {
        // Headers of 52 bytes and more hold the masks, those of 56 and more that of alpha, too; behind a header of 40
        // bytes there are three.
        let at = FILE_HEADER + 40;
        let alpha = header.length >= 56;
        for (channel, mask) in masks.iter_mut().enumerate().take(if alpha { 4 } else { 3 }) {
            *mask = long(bytes, at + 4 * channel)?;
        }
        after = after.max(at + 12);
    }
    let mut palette = [[0; 3]; 256];
    if header.bits <= 8 {
        let stored = header.entry * header.colours;
        let entries = bytes.get(after..).unwrap_or_default().chunks(header.entry).take(header.colours);
        for (colour, entry) in palette.iter_mut().zip(entries) {
            if let [blue, green, red, ..] = *entry {
                *colour = [red, green, blue];
            }
        }
        after += stored;
        if start == FILE_HEADER + header.length {
            start += stored;
        }
    }
    if start == 0 {
        start = after;
    }
    // Rows, and for run lengths the indices that they come from.
    let room = budget::decoded(4 * (header.width * header.height) as u64)?;
    let mut rows = match header.compression {
        0 | MASKS => plain(&header, bytes, start, &masks, &palette)?,
        RLE8 | RLE4 if header.bits <= 8 => {
            let indices = run_lengths(&header, bytes, start)?;
            let mut rows = Vec::with_capacity(indices.len() * 3);
            indices.iter().for_each(|&index| rows.extend_from_slice(&palette[usize::from(index)]));
            rows
        }
        other => return Err(unsupported(&format!("compression {other} of {} bits", header.bits))),
    };
    if !header.top_down {
        let row = header.width * 3;
        for y in 0..header.height / 2 {
            let (upper, lower) = rows.split_at_mut((header.height - 1 - y) * row);
            upper[y * row..(y + 1) * row].swap_with_slice(&mut lower[..row]);
        }
    }
    Ok(Pixels { width: header.width, height: header.height, data: rows, room })
}

/// Rows without compression, in the order of the file.
fn plain(
    header: &Header,
    bytes: &[u8],
    start: usize,
    masks: &[u32; 4],
    palette: &[[u8; 3]; 256],
) -> Result<Vec<u8>, String> {
    let masked = header.compression == MASKS;
    let long_pixel = if masked { LAYOUTS.iter().find(|(known, _)| known == masks) } else { Some(&LAYOUTS[0]) };
    // Green has 6 bits in one of the two layouts of 16.
    let wide_green = match (masked, &masks[..3]) {
        (false, _) | (true, [0x7c00, 0x3e0, 0x1f]) => Some(false),
        (true, [0xf800, 0x7e0, 0x1f]) => Some(true),
        _ => None,
    };
    let known = match header.bits {
        32 => long_pixel.is_some(),
        24 => !masked || masks[..3] == [0xff_0000, 0xff00, 0xff],
        16 => wide_green.is_some(),
        _ => !masked,
    };
    if !known {
        return Err(unsupported("these channel masks"));
    }
    let used = (header.width * header.bits).div_ceil(8);
    let stride = (header.width * header.bits).div_ceil(32) * 4;
    let stored = bytes.get(start..).unwrap_or_default();
    // The last row needs no padding.
    if stored.len() < stride * (header.height - 1) + used {
        return Err(cut());
    }
    let mut out = Vec::with_capacity(header.width * header.height * 3);
    for row in stored.chunks(stride).take(header.height) {
        let row = &row[..used];
        match (header.bits, long_pixel, wide_green) {
            (32, Some((_, order)), _) => {
                out.extend(row.chunks_exact(4).flat_map(|pixel| order.map(|byte| pixel[byte])));
            }
            (24, ..) => out.extend(row.chunks_exact(3).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]])),
            (16, _, Some(wide)) => out.extend(row.chunks_exact(2).flat_map(|pixel| {
                let pixel = u32::from(u16::from_le_bytes([pixel[0], pixel[1]]));
                let part = |shift: u32, top: u32| (((pixel >> shift) & top) * 255 / top) as u8;
                if wide { [part(11, 31), part(5, 63), part(0, 31)] } else { [part(10, 31), part(5, 31), part(0, 31)] }
            })),
            (bits, ..) => {
                out.extend(unpack_row(row, bits, header.width).flat_map(|index| palette[usize::from(index)]));
            }
        }
    }
    Ok(out)
}

/// Indices from run lengths, in the order of the file. As in Pillow, jumps are filled with index 0.
fn run_lengths(header: &Header, bytes: &[u8], start: usize) -> Result<Vec<u8>, String> {
    let (width, wanted) = (header.width, header.width * header.height);
    let mut out: Vec<u8> = Vec::with_capacity(wanted);
    let (mut at, mut x) = (start, 0);
    while out.len() < wanted {
        let Some(&[count, value]) = bytes.get(at..).and_then(<[u8]>::first_chunk) else { break };
        at += 2;
        match (usize::from(count), usize::from(value)) {
            (0, 0) => {
                out.resize(out.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let Some(&[right, up]) = bytes.get(at..).and_then(<[u8]>::first_chunk) else { break };
                at += 2;
                let gap = usize::from(right) + usize::from(up) * width;
                out.resize((out.len() + gap).min(wanted), 0);
                x = out.len() % width;
            }
            (0, pixels) => {
                let stored = if header.compression == RLE4 { pixels / 2 } else { pixels };
                let available = bytes.get(at..).unwrap_or_default();
                let run = &available[..stored.min(available.len())];
                if header.compression == RLE4 {
                    out.extend(run.iter().flat_map(|byte| [byte >> 4, byte & 15]));
                } else {
                    out.extend(run);
                }
                if run.len() < stored {
                    break;
                }
                x += pixels;
                // Runs are padded to an even place in the file.
                at = (at + stored).next_multiple_of(2);
            }
            (run, _) => {
                let run = run.min(width.saturating_sub(x));
                let pair = if header.compression == RLE4 { [value >> 4, value & 15] } else { [value; 2] };
                out.extend((0..run).map(|pixel| pair[pixel % 2]));
                x += run;
            }
        }
    }
    if out.len() < wanted {
        return Err(cut());
    }
    out.truncate(wanted);
    Ok(out)
}
