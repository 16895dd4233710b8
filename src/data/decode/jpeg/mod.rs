//! JPEG by libjpeg's own code (mozjpeg's fork of libjpeg-turbo, without its assembly): its decoding is what Pillow's
//! libjpeg-turbo gives, bit for bit, which no decoder in Rust does so far that is known to be sound.

use std::panic::AssertUnwindSafe;

use image::metadata::Orientation;
use mozjpeg::{ColorSpace, Decompress, Marker};

use super::colour::cmyk_to_rgb;
use super::orientation::orientation;
use super::{Pixels, budget, check_size};

/// What begins a segment of EXIF or XMP data.
const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// The most scans that a progressive file may have. Those that programs write have about ten; libjpeg-turbo's own guard
/// is the same.
const MAX_SCANS: u64 = 500;
/// The most pixels that may be gone over in all scans of a file together: some seconds' work. The largest picture may have
/// 24 scans.
const MAX_WORK: u64 = 1 << 32;

/// Decodes a JPEG file; the orientation is that of its EXIF data.
pub(super) fn decode(bytes: &[u8]) -> Result<(Pixels, Option<Orientation>), String> {
    // The decoder fills what is missing with grey and says nothing; Pillow refuses such a file.
    let Some(scans) = scans(bytes) else {
        return Err("the JPEG data is damaged or ends early: replace or remove the file".to_owned());
    };
    // libjpeg leaves by unwinding, with its message.
    match std::panic::catch_unwind(AssertUnwindSafe(|| unwinding(bytes, scans))) {
        Ok(decoded) => decoded,
        Err(payload) => Err(failed(payload.downcast_ref::<String>().map_or("damaged", String::as_str))),
    }
}

fn failed(reason: &str) -> String {
    format!("JPEG: {}; replace or remove the file", super::one_line(&reason))
}

fn unwinding(bytes: &[u8], scans: u64) -> Result<(Pixels, Option<Orientation>), String> {
    let failed = |error: std::io::Error| failed(&error.to_string());
    let decoder = Decompress::with_markers(&[Marker::APP(1)]).from_mem(bytes).map_err(failed)?;
    let (width, height) = decoder.size();
    let sides = (u32::try_from(width), u32::try_from(height));
    let (Ok(x), Ok(y)) = sides else { return Err(super::too_large()) };
    check_size(x, y)?;
    let pixels = u64::from(x) * u64::from(y);
    if scans > MAX_SCANS || scans.saturating_mul(pixels) > MAX_WORK {
        return Err(format!(
            "the JPEG has {scans} scans, more than are gone over for {x}x{y} pixels: save it anew, not progressive"
        ));
    }
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
    // What is decoded of each pixel, and grey once more as three channels. Several scans meet in two bytes for every
    // channel's coefficient.
    let (channels, result) = match wanted {
        ColorSpace::JCS_GRAYSCALE => (1, 4),
        ColorSpace::JCS_CMYK => (4, 7),
        _ => (3, 3),
    };
    let coefficients = if scans > 1 { 2 * channels } else { 0 };
    let room = budget::decoded(pixels * (result + coefficients) + bytes.len() as u64)?;
    let mut rows = decoder.to_colorspace(wanted).map_err(failed)?;
    let mut data: Vec<u8> = rows.read_scanlines::<u8>().map_err(failed)?;
    if wanted == ColorSpace::JCS_GRAYSCALE {
        let mut rgb = Vec::with_capacity(data.len() * 3);
        data.iter().for_each(|&sample| rgb.extend_from_slice(&[sample; 3]));
        data = rgb;
    } else if inks {
        // Four channels are stored inverted, whoever wrote the file; the formula wants ink.
        data.iter_mut().for_each(|sample| *sample = 255 - *sample);
        data = cmyk_to_rgb(&data, 4);
    }
    Ok((Pixels { width, height, data, room }, orientation))
}

/// The number of scans of a JPEG file, if it runs to its end-of-image marker.
///
/// Walks the segments by their lengths, so that the thumbnail in an EXIF segment is not mistaken for the picture;
/// inside compressed data a marker is an 0xFF that is followed neither by 0x00 (a stuffed 0xFF) nor by a restart
/// number.
fn scans(bytes: &[u8]) -> Option<u64> {
    const STUFFED: u8 = 0x00;
    const TEMPORARY: u8 = 0x01;
    const FIRST_RESTART: u8 = 0xd0;
    const START_OF_IMAGE: u8 = 0xd8;
    const END_OF_IMAGE: u8 = 0xd9;
    const START_OF_SCAN: u8 = 0xda;
    let (mut at, mut scans) = (0, 0);
    while let Some(skipped) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)) {
        at += skipped + 1;
        match bytes.get(at) {
            Some(&END_OF_IMAGE) => return Some(scans),
            // A fill byte: the next one may be the marker.
            Some(0xff) => {}
            Some(&(STUFFED | TEMPORARY | FIRST_RESTART..=START_OF_IMAGE)) => at += 1,
            // Everything else starts a segment, of a length that counts its own two bytes.
            Some(&marker) => {
                let length = bytes.get(at + 1..)?.first_chunk()?;
                scans += u64::from(marker == START_OF_SCAN);
                at += 1 + usize::from(u16::from_be_bytes(*length));
            }
            None => return None,
        }
    }
    None
}
