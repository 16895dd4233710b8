//! By libjpeg's own code (mozjpeg's fork of libjpeg-turbo, without its assembly): its decoding is what Pillow's
//! libjpeg-turbo gives, bit for bit, which no decoder in Rust does so far that is known to be sound.

use std::panic::AssertUnwindSafe;

use image::metadata::Orientation;
use mozjpeg::{ColorSpace, Decompress, Marker};

use super::super::colour::cmyk_to_rgb;
use super::super::orientation::orientation;
use super::super::{Pixels, budget, too_large};
use super::{check, failed, grey_to_rgb, needed};

/// What begins a segment of EXIF or XMP data.
const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// Decodes a file of so many scans.
pub(super) fn decode(bytes: &[u8], scans: u64) -> Result<(Pixels, Option<Orientation>), String> {
    // libjpeg leaves by unwinding, with its message.
    match std::panic::catch_unwind(AssertUnwindSafe(|| unwinding(bytes, scans))) {
        Ok(decoded) => decoded,
        Err(payload) => Err(failed(payload.downcast_ref::<String>().map_or("damaged", String::as_str))),
    }
}

fn unwinding(bytes: &[u8], scans: u64) -> Result<(Pixels, Option<Orientation>), String> {
    let failed = |error: std::io::Error| failed(&error.to_string());
    let decoder = Decompress::with_markers(&[Marker::APP(1)]).from_mem(bytes).map_err(failed)?;
    let (width, height) = decoder.size();
    let sides = (u32::try_from(width), u32::try_from(height));
    let (Ok(x), Ok(y)) = sides else { return Err(too_large()) };
    check(x, y, scans)?;
    let segment =
        |start: &[u8]| decoder.markers().find_map(|marker| marker.data.strip_prefix(start).map(<[u8]>::to_vec));
    let orientation = orientation(segment(EXIF).as_deref(), segment(XMP).as_deref());
    let inks = matches!(decoder.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK);
    let wanted = match decoder.color_space() {
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => ColorSpace::JCS_CMYK,
        ColorSpace::JCS_GRAYSCALE => ColorSpace::JCS_GRAYSCALE,
        ColorSpace::JCS_YCbCr | ColorSpace::JCS_RGB => ColorSpace::JCS_RGB,
        other => return Err(format!("JPEG of the kind {other:?} is not supported; convert it to PNG")),
    };
    // What is decoded of each pixel, and grey once more as three channels.
    let (channels, result) = match wanted {
        ColorSpace::JCS_GRAYSCALE => (1, 4),
        ColorSpace::JCS_CMYK => (4, 7),
        _ => (3, 3),
    };
    let room = budget::decoded(needed(u64::from(x) * u64::from(y), channels, result, scans) + bytes.len() as u64)?;
    let mut rows = decoder.to_colorspace(wanted).map_err(failed)?;
    let mut data: Vec<u8> = rows.read_scanlines::<u8>().map_err(failed)?;
    if wanted == ColorSpace::JCS_GRAYSCALE {
        data = grey_to_rgb(&data);
    } else if inks {
        // Four channels are stored inverted, whoever wrote the file; the formula wants ink.
        data.iter_mut().for_each(|sample| *sample = 255 - *sample);
        data = cmyk_to_rgb(&data, 4);
    }
    Ok((Pixels { width, height, data, room }, orientation))
}
