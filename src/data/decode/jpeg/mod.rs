//! JPEG, as Pillow decodes it: natively by libjpeg's own code, to the bit, and in a page by a decoder in Rust, to a few levels.

#[cfg(not(target_arch = "wasm32"))]
mod libjpeg;
#[cfg(any(target_arch = "wasm32", test))]
mod portable;

use image::metadata::Orientation;

use super::{Pixels, check_size};

#[cfg(not(target_arch = "wasm32"))]
use libjpeg::decode as decoded;
#[cfg(target_arch = "wasm32")]
use portable::decode as decoded;

/// The most scans that a progressive file may have. Those that programs write have about ten; libjpeg-turbo's own guard
/// is the same.
const MAX_SCANS: u64 = 500;
/// The most pixels that may be gone over in all scans of a file together: some seconds' work. The largest picture may have
/// 24 scans.
const MAX_WORK: u64 = 1 << 32;

/// Decodes a JPEG file; the orientation is that of its EXIF data.
pub(super) fn decode(bytes: &[u8]) -> Result<(Pixels, Option<Orientation>), String> {
    // Decoders fill what is missing with grey and say nothing; Pillow refuses such a file.
    let Some(scans) = scans(bytes) else {
        return Err("the JPEG data is damaged or ends early: replace or remove the file".to_owned());
    };
    decoded(bytes, scans)
}

fn failed(reason: &str) -> String {
    format!("JPEG: {}; replace or remove the file", super::one_line(&reason))
}

/// Refuses pictures of no pixels or too many, and files of which decoding would take too long.
fn check(width: u32, height: u32, scans: u64) -> Result<(), String> {
    check_size(width, height)?;
    let pixels = u64::from(width) * u64::from(height);
    if scans > MAX_SCANS || scans.saturating_mul(pixels) > MAX_WORK {
        return Err(format!(
            "the JPEG has {scans} scans, more than are gone over for {width}x{height} pixels: save it anew, not progressive"
        ));
    }
    Ok(())
}

/// Bytes that a picture of so many channels takes while it is decoded, beside its file: several scans meet in two bytes for every
/// channel's coefficient, and `result` are those of what comes of a pixel.
fn needed(pixels: u64, channels: u64, result: u64, scans: u64) -> u64 {
    pixels * (result + if scans > 1 { 2 * channels } else { 0 })
}

/// Every sample as three equal channels.
fn grey_to_rgb(samples: &[u8]) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(samples.len() * 3);
    samples.iter().for_each(|&sample| rgb.extend_from_slice(&[sample; 3]));
    rgb
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
