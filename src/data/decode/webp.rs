//! WebP by the crate `image`; what a file says of itself is looked over before.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat, ImageReader};

use super::orientation::orientation;
use super::{Pixels, budget, check_size, kept, reason};

/// Bytes of memory that decoding takes per pixel, at most: the frame, the canvas of an animation and the result in four
/// channels each, and what lossy compression stores apart.
const PER_PIXEL: u64 = 12;

/// The pieces of a WebP file that matter here.
#[derive(Default)]
struct Pieces<'a> {
    exif: Option<&'a [u8]>,
    xmp: Option<&'a [u8]>,
    /// Width and height of each picture in the file that might be decoded: canvas, first frame.
    sizes: Vec<(u32, u32)>,
}

impl<'a> Pieces<'a> {
    /// Looks over the chunks of a file or, within a frame of an animation, of that.
    fn of(mut chunks: &'a [u8]) -> Self {
        let mut found = Self::default();
        while let Some((kind, after)) = chunks.split_first_chunk::<4>() {
            let Some((length, after)) = after.split_first_chunk() else { break };
            let length = u32::from_le_bytes(*length) as usize;
            let data = after.get(..length).unwrap_or(after);
            match kind {
                b"EXIF" if data.len() == length => found.exif = found.exif.or(Some(data)),
                b"XMP " if data.len() == length => found.xmp = found.xmp.or(Some(data)),
                b"VP8 " | b"VP8L" => found.sizes.extend(frame_size(kind, data)),
                b"ANMF" if found.sizes.is_empty() => {
                    found.sizes = Self::of(data.get(16..).unwrap_or_default()).sizes;
                }
                _ => {}
            }
            chunks = after.get(length.saturating_add(length % 2)..).unwrap_or_default();
        }
        found
    }
}

/// The size that a frame's own header states.
fn frame_size(kind: &[u8; 4], data: &[u8]) -> Option<(u32, u32)> {
    if kind == b"VP8 " {
        let side = |at: usize| Some(u32::from(u16::from_le_bytes(*data.get(at..)?.first_chunk()?) & 0x3fff));
        return Some((side(6)?, side(8)?));
    }
    let sides = u32::from_le_bytes(*data.get(1..)?.first_chunk()?);
    Some(((sides & 0x3fff) + 1, (sides >> 14 & 0x3fff) + 1))
}

/// Decodes a WebP file, of an animation the first frame; the orientation is that of its EXIF or XMP data.
pub(super) fn decode(bytes: &[u8]) -> Result<(Pixels, Option<Orientation>), String> {
    let mut pieces = Pieces::of(bytes.get(12..).unwrap_or_default());
    // Only the extended form has metadata.
    if bytes.get(12..16) != Some(b"VP8X") {
        (pieces.exif, pieces.xmp) = (None, None);
    }
    let decoder = ImageReader::with_format(Cursor::new(bytes), ImageFormat::WebP).into_decoder();
    let decoder = decoder.map_err(|error| reason(&error))?;
    let (width, height) = image::ImageDecoder::dimensions(&decoder);
    let mut pixels = 0;
    for &(width, height) in pieces.sizes.iter().chain([&(width, height)]) {
        check_size(width, height)?;
        pixels = pixels.max(u64::from(width) * u64::from(height));
    }
    let room = budget::decoded(pixels * PER_PIXEL)?;
    let data = match DynamicImage::from_decoder(decoder).map_err(|error| reason(&error))? {
        DynamicImage::ImageRgb8(picture) => picture.into_raw(),
        DynamicImage::ImageRgba8(picture) => kept(picture.into_raw(), 4, [0, 1, 2]),
        _ => return Err("WebP: this kind of samples is not supported; convert it to PNG".to_owned()),
    };
    // Metadata that cannot be read are no reason to refuse a picture: Pillow ignores them, too.
    let orientation = orientation(pieces.exif, pieces.xmp);
    Ok((Pixels { width: width as usize, height: height as usize, data, room }, orientation))
}
