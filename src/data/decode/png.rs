//! PNG by the crate `png`, of whose chunks only those are read that bear on the samples: a colour profile or a text, which
//! may unpack to a thousand times its length, is passed over.

use std::io::{Cursor, Read};

use flate2::read::ZlibDecoder;
use image::metadata::Orientation;
use png::{ColorType, Decoder, DecodingError, Limits, Transformations};

use super::orientation::orientation;
use super::{Depth, MAX_BYTES, Pixels, budget, check_size, kept, one_line, too_large};

/// What begins a PNG file.
const SIGNATURE: usize = 8;
/// The keyword of XMP data.
const XMP: &[u8] = b"XML:com.adobe.xmp";
/// The most that XMP data may unpack to; larger ones are passed over.
const MAX_XMP: u64 = 2 << 20;

fn failed(error: &DecodingError) -> String {
    match error {
        DecodingError::LimitsExceeded => too_large(),
        _ => format!("PNG: {}; replace or remove the file", one_line(error)),
    }
}

/// Whether the header states grey of 16 bits, without alpha.
pub(super) fn is_deep_grey(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG") && bytes.get(12..16) == Some(b"IHDR") && bytes.get(24..26) == Some(&[16, 0])
}

/// Decodes a PNG file; the orientation is that of its EXIF or XMP data.
pub(super) fn decode(bytes: &[u8], grey: Depth) -> Result<(Pixels, Option<Orientation>), String> {
    let limits = Limits { bytes: MAX_BYTES as usize };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Palettes are looked up and fewer than 8 bits become 8.
    decoder.set_transformations(Transformations::EXPAND);
    let (width, height) = decoder.read_header_info().map_err(|error| failed(&error))?.size();
    check_size(width, height)?;
    let mut reader = decoder.read_info().map_err(|error| failed(&error))?;
    let size = reader.output_buffer_size().filter(|&size| size as u64 <= MAX_BYTES).ok_or_else(too_large)?;
    let exif = reader.info().exif_metadata.as_deref().map(<[u8]>::to_vec);
    let orientation = orientation(exif.as_deref(), xmp(bytes).as_deref());
    let pixels = u64::from(width) * u64::from(height);
    let room = budget::decoded(size as u64 + 3 * pixels)?;
    let mut samples = vec![0; size];
    let (color, depth) = reader.output_color_type();
    reader.next_frame(&mut samples).map_err(|error| failed(&error))?;
    let channels = match color {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => return Err("PNG: the palette is missing; replace or remove the file".to_owned()),
    };
    // Grey with alpha keeps the high byte, transparent grey is clipped as grey is.
    let clipped = grey == Depth::Clip && is_deep_grey(bytes);
    let data = rgb(samples, channels, depth as usize / 8, clipped);
    Ok((Pixels { width: width as usize, height: height as usize, data, room }, orientation))
}

/// `[height, width, 3]` of samples of 1 byte or of 2, the high one first. Of 16 bits the high byte is kept; grey is clipped
/// with `clipped`.
fn rgb(samples: Vec<u8>, channels: usize, bytes: usize, clipped: bool) -> Vec<u8> {
    if (channels, bytes) == (3, 1) {
        return samples;
    }
    let pixel = channels * bytes;
    if channels < 3 {
        let grey = |pixel: &[u8]| match *pixel {
            [high, low, ..] if bytes == 2 && clipped => {
                if high > 0 {
                    255
                } else {
                    low
                }
            }
            _ => pixel[0],
        };
        let mut data = Vec::with_capacity(samples.len() / pixel * 3);
        for pixel in samples.chunks_exact(pixel) {
            data.extend_from_slice(&[grey(pixel); 3]);
        }
        return data;
    }
    kept(samples, pixel, [0, bytes, 2 * bytes])
}

/// The XMP data in front of the samples.
fn xmp(file: &[u8]) -> Option<Vec<u8>> {
    let mut rest = file.get(SIGNATURE..)?;
    while let Some((length, after)) = rest.split_first_chunk() {
        let (kind, after) = after.split_first_chunk::<4>()?;
        let (data, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        match kind {
            b"IDAT" => return None,
            b"iTXt" => {
                let (keyword, text) = split(data)?;
                if keyword.windows(XMP.len()).any(|window| window == XMP) {
                    return unpacked(text);
                }
            }
            _ => {}
        }
        // The checksum.
        rest = after.get(4..)?;
    }
    None
}

/// What lies before the first zero, and behind it.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = data.iter().position(|&byte| byte == 0)?;
    Some((&data[..at], &data[at + 1..]))
}

/// The text of an international text chunk behind its keyword.
fn unpacked(data: &[u8]) -> Option<Vec<u8>> {
    let (&[compressed, _method], rest) = data.split_first_chunk()?;
    let (_language, rest) = split(rest)?;
    let (_translated, text) = split(rest)?;
    if compressed == 0 {
        return Some(text.to_vec());
    }
    let mut out = Vec::new();
    ZlibDecoder::new(text).take(MAX_XMP + 1).read_to_end(&mut out).ok()?;
    (out.len() as u64 <= MAX_XMP).then_some(out)
}
