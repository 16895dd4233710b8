//! By the crate image's decoder, for a page in a browser, which has no C.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder};

use super::super::orientation::orientation;
use super::super::{Pixels, budget};
use super::{check, failed, grey_to_rgb, needed};

/// Decodes a file of so many scans.
pub(super) fn decode(bytes: &[u8], scans: u64) -> Result<(Pixels, Option<Orientation>), String> {
    let bad = |error: image::ImageError| failed(&error.to_string());
    let mut decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(bad)?;
    let (width, height) = decoder.dimensions();
    check(width, height, scans)?;
    let exif = decoder.exif_metadata().map_err(bad)?;
    let xmp = decoder.xmp_metadata().map_err(bad)?;
    let orientation = orientation(exif.as_deref(), xmp.as_deref());
    let grey = match decoder.color_type() {
        ColorType::L8 => true,
        ColorType::Rgb8 => false,
        other => return Err(format!("JPEG of the kind {other:?} is not supported; convert it to PNG")),
    };
    let (channels, result) = if grey { (1, 4) } else { (3, 3) };
    let pixels = u64::from(width) * u64::from(height);
    let room = budget::decoded(needed(pixels, channels, result, scans) + bytes.len() as u64)?;
    let mut data = vec![0; pixels as usize * channels as usize];
    decoder.read_image(&mut data).map_err(bad)?;
    if grey {
        data = grey_to_rgb(&data);
    }
    Ok((Pixels { width: width as usize, height: height as usize, data, room }, orientation))
}

#[cfg(test)]
mod tests {
    use super::super::{libjpeg, scans};
    use super::decode;

    /// How far the two decoders lie apart, in levels: at most, and on average.
    fn apart(bytes: &[u8]) -> (u8, f64) {
        let scans = scans(bytes).unwrap();
        let (exact, turned) = libjpeg::decode(bytes, scans).unwrap();
        let (other, also) = decode(bytes, scans).unwrap();
        assert_eq!((exact.width, exact.height, turned), (other.width, other.height, also));
        let levels: Vec<u8> = exact.data.iter().zip(&other.data).map(|(a, b)| a.abs_diff(*b)).collect();
        let mean = levels.iter().map(|l| f64::from(*l)).sum::<f64>() / levels.len() as f64;
        (levels.iter().copied().max().unwrap_or(0), mean)
    }

    #[test]
    fn pictures_look_the_same_in_a_page() {
        let mut seen = 0;
        for entry in std::fs::read_dir("tests/pictures").unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            if path.extension().is_none_or(|ending| ending != "jpg") || scans(&bytes).is_none() {
                continue;
            }
            // Of half as many colours as pixels along a line, a line of one pixel has its one colour from another rule.
            let (most, mean) = if path.ends_with("rgb-420-1x5.jpg") { (16, 6.0) } else { (5, 0.5) };
            let apart = apart(&bytes);
            assert!(apart.0 <= most && apart.1 <= mean, "{}: {apart:?}", path.display());
            seen += 1;
        }
        assert!(seen > 40, "{seen} pictures");
    }
}
