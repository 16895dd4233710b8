//! Pictures with learned noise on their pixels, drawn beside the noise.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::eval::{NoisyPicture, validate};
use crate::report::strip;
use crate::{Error, Result};

/// What the panels of a row show.
const PANELS: [&str; 4] = ["picture", "mean of the noise", "spread of the noise", "picture with the mean"];

/// An SVG document with a row for each picture.
pub(super) fn svg(title: &str, pictures: &[NoisyPicture]) -> Result<String> {
    let mut rows = Vec::with_capacity(pictures.len());
    for picture in pictures {
        let samples = validate::samples(picture).map_err(Error::Invalid)?;
        let one = 3 * picture.size * picture.size;
        let panels =
            samples.chunks_exact(one.max(1)).map(|panel| png(panel, picture.size)).collect::<Result<Vec<_>>>()?;
        rows.push((picture.class.as_str(), panels));
    }
    Ok(strip::svg(title, &PANELS, &rows))
}

/// A square picture as base64 of a PNG.
fn png(samples: &[u8], size: usize) -> Result<String> {
    let mut file = Vec::new();
    PngEncoder::new(&mut file)
        .write_image(samples, size as u32, size as u32, ExtendedColorType::Rgb8)
        .map_err(|error| Error::Invalid(format!("a picture for the report: {error}")))?;
    Ok(STANDARD.encode(file))
}
