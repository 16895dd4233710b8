//! HEIC and HEIF by the system's libheif, where there is one.

use super::Pixels;

/// What to do where it cannot be read.
const CONVERT: &str = "convert it, with `heif-convert a.heic a.jpg`, with `sips -s format jpeg a.heic --out a.jpg` on a Mac, or with ImageMagick";

/// Decodes the picture of an HEIC or HEIF file. It comes upright: libheif turns it as the file says, and by the standard the
/// orientation of EXIF data does not count.
#[cfg(feature = "heif")]
pub(super) fn decode(bytes: &[u8]) -> Result<Pixels, String> {
    use super::libheif::{Failure, Library};
    use super::{budget, check_size, one_line};

    /// Bytes of memory that decoding takes per pixel, at most: planes of two bytes in the decoder and in libheif, its result,
    /// and ours.
    const PER_PIXEL: u64 = 18;
    let failed = |failure: Failure| match failure {
        Failure::Unsupported(line) => format!("HEIC: libheif cannot read it ({}): {CONVERT}", one_line(&line)),
        Failure::Damaged(line) => format!("HEIC: {}; replace or remove the file", one_line(&line)),
    };
    let library = Library::get().map_err(|why| format!("HEIC is read by libheif, {why}: {CONVERT}"))?;
    let file = library.open(bytes).map_err(failed)?;
    let (width, height) = file.size();
    check_size(width, height)?;
    let pixels = u64::from(width) * u64::from(height);
    let room = budget::decoded(pixels * PER_PIXEL)?;
    let (width, height) = (width as usize, height as usize);
    let data = file.rgb(width, height).map_err(failed)?;
    Ok(Pixels { width, height, data, room })
}

/// Without the feature `heif`.
#[cfg(not(feature = "heif"))]
pub(super) fn decode(_: &[u8]) -> Result<Pixels, String> {
    Err(format!("HEIC is not read by this build of tipi: {CONVERT}"))
}
