//! Picture files: telling them by name and by how they begin, and decoding them to RGB as Pillow's
//! `ImageOps.exif_transpose(Image.open(…)).convert("RGB")` does.
//!
//! The formats that are always read give Pillow's bytes, but for JPEG within TIFF; see [`decode`].

#[cfg(feature = "avif")]
mod avif;
mod bmp;
#[cfg(feature = "avif")]
mod boxes;
mod brands;
mod budget;
mod colour;
mod depth;
mod gif;
mod heif;
mod jpeg;
#[cfg(feature = "jxl")]
mod jxl;
mod kinds;
#[cfg(feature = "heif")]
mod libheif;
mod orientation;
mod png;
mod tiff;
mod webp;
#[cfg(feature = "avif")]
mod yuv;

use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageError, ImageFormat, RgbImage};
use sha2::{Digest, Sha256};

#[cfg(feature = "avif")]
use self::boxes::Container;
use self::brands::Family;
use crate::data::Rgb;
use crate::{Error, Result, input};

pub use depth::{Depth, take_clipped};
pub use kinds::is_picture;
pub(super) use kinds::{BEGINNING, EXTENSIONS, begins_as_picture, is_named_otherwise, refusal_by_name};

/// Longest side decoded, in pixels: far beyond any panorama's. What a resize holds in between grows with it.
pub(super) const MAX_SIDE: u32 = 1 << 18;
/// Most pixels decoded: where Pillow, too, takes a picture for an attack.
const MAX_PIXELS: u64 = 178_956_970;
/// Most bytes that a file, or the samples decoded from it, may have.
const MAX_BYTES: u64 = 1 << 30;

/// A decoded picture before its orientation is applied: rows from the top, three bytes per pixel.
struct Pixels {
    width: usize,
    height: usize,
    data: Vec<u8>,
    /// What was spoken for to decode it.
    room: budget::Room,
}

/// Decodes a PNG, JPEG, WebP, GIF, BMP or TIFF file and, with the features of these names, an AVIF or JPEG XL file, or an HEIC
/// file by the system's libheif; the format is told from the content, not from the name.
///
/// The bytes are those of Pillow 12. As there, alpha is dropped (not composited onto anything), palettes are looked
/// up, greyscale becomes three equal channels, CMYK is converted without a colour profile, and of an animation or of
/// several pages the first is taken. Colour of 16 bits keeps its high byte; greyscale of 16 or 32 bits or of floats
/// is clipped to 0…255, which turns most such pictures white, but is what Pillow does. An orientation
/// in EXIF or XMP data is applied; [`decode_as`] scales grey instead.
///
/// AVIF and JPEG XL are within some levels of what libavif and libjxl give: those round otherwise, and so do their own versions.
/// More than 8 bits are rounded to 8, grey as colour. The file's own orientation is applied; that of EXIF data does not count there.
///
/// JPEG within TIFF is not exact: samples differ from those of Pillow's libjpeg by up to 2 levels, by another rounding of the
/// inverse transform and of the chroma.
///
/// Not supported, though Pillow reads them: other formats than those named; JPEG with arithmetic coding or without
/// loss; in TIFF the compressions CCITT group 3 and CCITT run lengths (group 4 is supported), old-style JPEG,
/// Zstandard, LZMA and WebP, YCbCr other than by JPEG, bits in reverse order, samples of 12 bits, and a file that does
/// not state its photometric interpretation; in PNG an orientation in the text chunks of old ImageMagick, which is
/// passed over; in AVIF colours that were multiplied with alpha; JPEG XL in CMYK. A camera's raw file is refused, though some
/// are TIFF files whose first page is a small preview.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be read, [`Error::Image`] if it is no picture of those formats, is damaged or cut
/// short, has more than 178,956,970 pixels, 262,144 pixels a side or 1 GiB, or would take more than 2 GiB of memory or more than some seconds to
/// decode.
///
/// # Memory
///
/// All threads of the process together decode within 1 GiB, and hold files of 512 MiB: where that is used up, a picture
/// waits. One that needs more than that itself is decoded alone.
pub fn decode(path: &Path) -> Result<Rgb> {
    decoded(path, |picture| picture)
}

/// [`decode`] with a choice of what becomes of grey of 16 bits.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_as(path: &Path, depth: Depth) -> Result<Rgb> {
    PictureFile::read(path)?.with_depth(depth).decoded(|picture| picture)
}

/// What `use_of` makes of a picture, for which the memory remains spoken for meanwhile.
///
/// # Errors
///
/// As [`decode`].
pub(crate) fn decoded<T>(path: &Path, use_of: impl FnOnce(Rgb) -> T) -> Result<T> {
    let file = PictureFile::read(path)?;
    file.decoded(use_of)
}

/// A picture in memory, not yet decoded unless it was so from the start.
pub(crate) struct PictureFile<'a> {
    path: &'a Path,
    contents: Contents<'a>,
    /// What becomes of grey of 16 bits; nothing where that does not matter, and nobody needs to learn of it.
    depth: Option<Depth>,
}

enum Contents<'a> {
    /// A file that was read, within what all threads may hold of such.
    Read { bytes: Vec<u8>, _room: budget::Room },
    /// A file that somebody else holds.
    Borrowed(&'a [u8]),
    /// Pixels that somebody else holds.
    Pixels(&'a Rgb),
}

impl<'a> PictureFile<'a> {
    /// Reads a picture's file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read, is no regular file, or has more than 1 GiB.
    pub(crate) fn read(path: &'a Path) -> Result<Self> {
        let file = input::open(path)?;
        let size = file.metadata().map_err(|source| Error::io(path, source))?.len();
        let room = budget::file(size.min(input::limit::PICTURE));
        let bytes = input::read_open(&file, path, input::limit::PICTURE)?;
        Ok(Self { path, contents: Contents::Read { bytes, _room: room }, depth: None })
    }

    /// A file's bytes; `path` names it in errors.
    pub(crate) fn of_bytes(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { path, contents: Contents::Borrowed(bytes), depth: None }
    }

    /// Pixels; `path` names them in errors.
    pub(crate) fn of_pixels(path: &'a Path, picture: &'a Rgb) -> Self {
        Self { path, contents: Contents::Pixels(picture), depth: None }
    }

    /// The same for a model that wants grey of 16 bits so.
    pub(crate) fn with_depth(self, depth: Depth) -> Self {
        Self { depth: Some(depth), ..self }
    }

    /// SHA-256 of a file's bytes, or of pixels and their size. That of grey of 16 bits which is scaled is another: whatever was
    /// made of it clipped is not taken for what is made of it scaled.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let of_file = |bytes: &[u8]| -> [u8; 32] {
            let grey = depth::is_deep_grey(bytes);
            self.note(grey);
            if grey && self.depth == Some(Depth::Scale) {
                return Sha256::new_with_prefix("scaled").chain_update(bytes).finalize().into();
            }
            Sha256::digest(bytes).into()
        };
        match &self.contents {
            Contents::Read { bytes, .. } => of_file(bytes),
            Contents::Borrowed(bytes) => of_file(bytes),
            Contents::Pixels(picture) => {
                let mut hasher = Sha256::new_with_prefix("pixels");
                hasher.update((picture.width as u64).to_le_bytes());
                hasher.update(&picture.data);
                hasher.finalize().into()
            }
        }
    }

    /// Notes that a model is given this picture clipped.
    fn note(&self, grey: bool) {
        if grey && self.depth == Some(Depth::Clip) {
            depth::note_clipped(self.path);
        }
    }

    /// What `use_of` makes of the picture, for which the memory remains spoken for meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Image`] as [`decode`].
    pub(crate) fn decoded<T>(&self, use_of: impl FnOnce(Rgb) -> T) -> Result<T> {
        let bytes = match &self.contents {
            Contents::Read { bytes, .. } => bytes,
            Contents::Borrowed(bytes) => *bytes,
            Contents::Pixels(picture) => return Ok(use_of((*picture).clone())),
        };
        self.note(depth::is_deep_grey(bytes));
        let (picture, _room) = decode_with_room(self.path, bytes, self.depth.unwrap_or_default())?;
        Ok(use_of(picture))
    }
}

/// [`decode`] from a file's bytes; `path` names it in errors.
///
/// # Errors
///
/// [`Error::Image`] as [`decode`].
pub fn decode_from(path: &Path, bytes: &[u8]) -> Result<Rgb> {
    decode_with_room(path, bytes, Depth::default()).map(|(picture, _)| picture)
}

fn decode_with_room(path: &Path, bytes: &[u8], depth: Depth) -> Result<(Rgb, budget::Room)> {
    // A decoder that panics at a damaged file has found it damaged; the other pictures are still to be read.
    std::panic::catch_unwind(|| decode_in_room(path, bytes, depth))
        .unwrap_or_else(|_| Err("the decoder gave up: replace or remove the file".to_owned()))
        .map_err(|reason| Error::Image { path: path.to_path_buf(), reason })
}

/// What a file begins as.
#[derive(Debug, PartialEq)]
enum Format {
    Of(ImageFormat),
    /// A camera's raw file that is a TIFF file, too.
    RawTiff,
    #[cfg(feature = "avif")]
    Avif,
    Heif,
    #[cfg(feature = "jxl")]
    Jxl,
    Other,
}

fn format(path: &Path, bytes: &[u8]) -> Format {
    match brands::family(bytes) {
        #[cfg(feature = "avif")]
        Some(Family::Avif) => return Format::Avif,
        // Some writers name the container only, and not what is in it.
        #[cfg(feature = "avif")]
        Some(Family::Heif) if Container::read(bytes).is_some_and(|file| file.is_av1()) => return Format::Avif,
        Some(Family::Heif) => return Format::Heif,
        _ => {}
    }
    #[cfg(feature = "jxl")]
    if jxl::is_jxl(bytes) {
        return Format::Jxl;
    }
    match image::guess_format(bytes) {
        Ok(ImageFormat::Tiff) if kinds::is_named_raw(path) || tiff::is_raw(bytes) => Format::RawTiff,
        Ok(format) => Format::Of(format),
        Err(_) => Format::Other,
    }
}

/// [`decode`] from memory, with the memory of the result; the error is the reason, on one line.
fn decode_in_room(path: &Path, bytes: &[u8], depth: Depth) -> Result<(Rgb, budget::Room), String> {
    if bytes.is_empty() {
        return Err("the file is empty: replace or remove it".to_owned());
    }
    let (mut pixels, orientation) = match format(path, bytes) {
        Format::Of(ImageFormat::Jpeg) => jpeg::decode(bytes)?,
        Format::Of(ImageFormat::Gif) => (gif::decode(bytes)?, None),
        Format::Of(ImageFormat::Bmp) => (bmp::decode(bytes)?, None),
        Format::Of(ImageFormat::Tiff) => tiff::decode(bytes, depth)?,
        Format::Of(ImageFormat::Png) => png::decode(bytes, depth)?,
        Format::Of(ImageFormat::WebP) => webp::decode(bytes)?,
        Format::RawTiff => return Err(kinds::raw_refusal()),
        #[cfg(feature = "avif")]
        Format::Avif => avif::decode(bytes)?,
        Format::Heif => (heif::decode(bytes)?, None),
        #[cfg(feature = "jxl")]
        Format::Jxl => jxl::decode(bytes)?,
        Format::Of(_) | Format::Other => return Err(kinds::refusal(path, bytes)),
    };
    if let Some(orientation) = orientation.filter(|&orientation| orientation != Orientation::NoTransforms) {
        // The upright picture is another copy; what was needed to decode is free by now.
        let bytes = pixels.data.len() as u64;
        pixels.room.resize(2 * bytes);
        // Sides are bounded, so the casts keep them.
        let picture = RgbImage::from_raw(pixels.width as u32, pixels.height as u32, pixels.data);
        let mut picture = DynamicImage::from(picture.ok_or_else(too_large)?);
        picture.apply_orientation(orientation);
        (pixels.width, pixels.height) = (picture.width() as usize, picture.height() as usize);
        pixels.data = picture.into_rgb8().into_raw();
    }
    pixels.room.resize(pixels.data.len() as u64);
    let picture = Rgb::new(pixels.width, pixels.height, pixels.data).map_err(|error| error.to_string())?;
    Ok((picture, pixels.room))
}

/// Of every `size` bytes the three at `places`, in order, without another copy of what may be large.
fn kept(mut samples: Vec<u8>, size: usize, places: [usize; 3]) -> Vec<u8> {
    let count = samples.len() / size;
    for pixel in 0..count {
        for (channel, place) in places.iter().enumerate() {
            // What is written never lies before what is still to be read.
            samples[pixel * 3 + channel] = samples[pixel * size + place];
        }
    }
    samples.truncate(count * 3);
    samples.shrink_to_fit();
    samples
}

/// The first `count` values of `bits` bits (1, 2, 4 or 8) each, the first in the high bits.
fn unpack_row(row: &[u8], bits: usize, count: usize) -> impl Iterator<Item = u8> {
    let per_byte = 8 / bits;
    let mask = (0xff_u16 >> (8 - bits)) as u8;
    (0..count).map(move |index| (row[index / per_byte] >> (8 - bits - index % per_byte * bits)) & mask)
}

/// Refuses pictures without pixels or with too many, before anything is allocated for them.
fn check_size(width: u32, height: u32) -> Result<(), String> {
    if width == 0 || height == 0 {
        return Err("the picture has no pixels: replace or remove the file".to_owned());
    }
    if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(too_large());
    }
    Ok(())
}

/// A decoder's complaint with a remedy, on one line.
fn reason(error: &ImageError) -> String {
    match error {
        ImageError::Limits(_) => too_large(),
        ImageError::Unsupported(_) => format!("{}; convert it to PNG or JPEG", one_line(error)),
        _ => format!("{}; replace or remove the file", one_line(error)),
    }
}

fn too_large() -> String {
    format!(
        "the picture is larger than {MAX_PIXELS} pixels, {MAX_SIDE} pixels a side or {MAX_BYTES} bytes: scale it down"
    )
}

/// A message whose line breaks, if any, have become spaces. Some decoders put all values of a tag into it: what is too long to
/// be read is cut off.
fn one_line(error: &impl std::fmt::Display) -> String {
    const LONGEST: usize = 200;
    let mut line = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(LONGEST) {
        line.replace_range(cut.., "…");
    }
    line
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use image::{GrayAlphaImage, GrayImage, ImageBuffer, Luma, LumaA, Rgb as Pixel, RgbImage, Rgba, RgbaImage};
    use std::io::Cursor;

    fn decode_bytes(bytes: &[u8]) -> Result<Rgb, String> {
        decode_in_room(Path::new("a.png"), bytes, Depth::default()).map(|(picture, _)| picture)
    }

    /// The bytes of a file that holds `picture`.
    fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// A JPEG of 32 × 16: left half black, right half white.
    fn halves() -> Vec<u8> {
        encoded(RgbImage::from_fn(32, 16, |x, _| Pixel([if x < 16 { 0 } else { 255 }; 3])), ImageFormat::Jpeg)
    }

    /// `jpeg` with an EXIF segment that holds an orientation and, at its end, `extra`.
    fn with_exif(jpeg: &[u8], orientation: u8, extra: &[u8]) -> Vec<u8> {
        let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        exif.extend(extra);
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
    }

    #[test]
    fn lossless_formats_keep_every_sample() {
        let picture = RgbImage::from_fn(7, 5, |x, y| Pixel([(x * 37) as u8, (y * 51) as u8, (x * y * 9) as u8]));
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
            let rgb = decode_bytes(&encoded(picture.clone(), format)).unwrap();
            assert_eq!((rgb.width, rgb.height), (7, 5), "{format:?}");
            assert_eq!(rgb.data, *picture.as_raw(), "{format:?}");
        }
    }

    #[test]
    fn a_decoder_s_complaint_is_cut_where_it_lists_a_tag() {
        let mut bytes = encoded(RgbImage::from_pixel(2, 2, Pixel([1, 2, 3])), ImageFormat::Tiff);
        // The directory's entry of the sample format, made to hold 2000 numbers that lie at the file's end.
        let at = bytes.windows(4).position(|entry| entry == [0x53, 1, 3, 0]).unwrap();
        bytes[at + 4..at + 8].copy_from_slice(&2000_u32.to_le_bytes());
        let end = u32::try_from(bytes.len()).unwrap();
        bytes[at + 8..at + 12].copy_from_slice(&end.to_le_bytes());
        bytes.extend([7, 0, 8, 0].repeat(1000));
        let reason = decode_bytes(&bytes).map(|_| ()).unwrap_err();
        assert!(reason.starts_with("TIFF: ") && reason.contains("…; ") && reason.len() < 400, "{reason}");
    }

    #[test]
    fn alpha_is_dropped_not_composited() {
        let rgba = RgbaImage::from_fn(2, 1, |x, _| if x == 0 { Rgba([10, 20, 30, 0]) } else { Rgba([1, 2, 3, 128]) });
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            assert_eq!(decode_bytes(&encoded(rgba.clone(), format)).unwrap().data, [10, 20, 30, 1, 2, 3], "{format:?}");
        }
        let grey = GrayAlphaImage::from_pixel(1, 1, LumaA([77, 0]));
        assert_eq!(decode_bytes(&encoded(grey, ImageFormat::Png)).unwrap().data, [77; 3]);
    }

    #[test]
    fn grey_becomes_three_equal_channels() {
        let grey = GrayImage::from_fn(3, 1, |x, _| Luma([x as u8 * 100]));
        assert_eq!(
            decode_bytes(&encoded(grey, ImageFormat::Png)).unwrap().data,
            [0, 0, 0, 100, 100, 100, 200, 200, 200]
        );
    }

    #[test]
    fn colour_of_sixteen_bits_keeps_the_high_byte_and_grey_is_clipped() {
        // 0x12ff rounds to 0x13; its high byte is 0x12.
        let values = [0x12ffu16, 0x00c8, 0xffff, 0x8000];
        let grey = ImageBuffer::<Luma<u16>, _>::from_raw(4, 1, values.to_vec()).unwrap();
        let expected = [255, 255, 255, 200, 200, 200, 255, 255, 255, 255, 255, 255];
        for format in [ImageFormat::Png, ImageFormat::Tiff] {
            assert_eq!(decode_bytes(&encoded(grey.clone(), format)).unwrap().data, expected, "{format:?}");
        }
        let with_alpha = ImageBuffer::<LumaA<u16>, _>::from_raw(2, 1, values.to_vec()).unwrap();
        let expected = [0x12, 0x12, 0x12, 255, 255, 255];
        assert_eq!(decode_bytes(&encoded(with_alpha, ImageFormat::Png)).unwrap().data, expected);
        let rgb = ImageBuffer::<Pixel<u16>, _>::from_raw(1, 1, values[..3].to_vec()).unwrap();
        let rgba = ImageBuffer::<Rgba<u16>, _>::from_raw(1, 1, values.to_vec()).unwrap();
        for format in [ImageFormat::Png, ImageFormat::Tiff] {
            assert_eq!(decode_bytes(&encoded(rgb.clone(), format)).unwrap().data, [0x12, 0, 255], "{format:?}");
            assert_eq!(decode_bytes(&encoded(rgba.clone(), format)).unwrap().data, [0x12, 0, 255], "{format:?}");
        }
    }

    #[test]
    fn palettes_are_looked_up_whatever_their_transparency() {
        // Written by Pillow: 3 × 1, 2-bit palette (10, 20, 30), (200, 100, 50), (1, 2, 3), the second transparent.
        #[rustfmt::skip]
        let png = [
            137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3, 0, 0, 0, 102,
            142, 252, 39, 0, 0, 0, 9, 80, 76, 84, 69, 10, 20, 30, 200, 100, 50, 1, 2, 3, 184, 139, 159, 109, 0, 0, 0, 2,
            116, 82, 78, 83, 255, 0, 229, 183, 48, 74, 0, 0, 0, 10, 73, 68, 65, 84, 120, 156, 99, 144, 0, 0, 0, 26, 0,
            25, 45, 136, 244, 54, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130,
        ];
        assert_eq!(decode_bytes(&png).unwrap().data, [10, 20, 30, 200, 100, 50, 1, 2, 3]);
    }

    #[test]
    fn a_gif_gives_its_colours() {
        let rgba = RgbaImage::from_fn(2, 2, |x, y| Rgba([x as u8 * 255, y as u8 * 255, 7, 255]));
        let rgb = decode_bytes(&encoded(rgba, ImageFormat::Gif)).unwrap();
        assert_eq!(rgb.data, [0, 0, 7, 255, 0, 7, 0, 255, 7, 255, 255, 7]);
    }

    #[test]
    fn a_one_pixel_picture_decodes() {
        let pixel = RgbImage::from_pixel(1, 1, Pixel([255, 0, 0]));
        let rgb = decode_bytes(&encoded(pixel.clone(), ImageFormat::Png)).unwrap();
        assert_eq!((rgb.width, rgb.height, rgb.data), (1, 1, vec![255, 0, 0]));
        let rgb = decode_bytes(&encoded(pixel, ImageFormat::Jpeg)).unwrap();
        assert!(rgb.data[0] > 250 && rgb.data[1] < 5 && rgb.data[2] < 5, "{:?}", rgb.data);
    }

    #[test]
    fn exif_orientation_is_applied() {
        let corner = |rgb: &Rgb, x: usize, y: usize| rgb.data[(y * rgb.width + x) * 3] > 127;
        let plain = decode_bytes(&halves()).unwrap();
        assert_eq!((plain.width, plain.height, corner(&plain, 0, 0), corner(&plain, 31, 0)), (32, 16, false, true));
        let mirrored = decode_bytes(&with_exif(&halves(), 2, &[])).unwrap();
        assert_eq!((corner(&mirrored, 0, 0), corner(&mirrored, 31, 15)), (true, false));
        // 6: to be turned clockwise, so the black left half comes to lie on top.
        let turned = decode_bytes(&with_exif(&halves(), 6, &[])).unwrap();
        assert_eq!((turned.width, turned.height, corner(&turned, 0, 0), corner(&turned, 0, 31)), (16, 32, false, true));
        // An orientation that does not exist changes nothing.
        assert_eq!(decode_bytes(&with_exif(&halves(), 99, &[])).unwrap(), plain);
    }

    #[test]
    fn a_file_cut_short_is_an_error_in_every_format() {
        let noise = RgbImage::from_fn(64, 64, |x, y| {
            Pixel([(x * 7919 + y * 104_729) as u8, (x * x + 31 * y) as u8, (x * y * 13) as u8])
        });
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
            ImageFormat::WebP,
            ImageFormat::Gif,
        ] {
            let whole = encoded(noise.clone(), format);
            assert!(decode_bytes(&whole).is_ok(), "{format:?}");
            for keep in [0, 3, 20, whole.len() / 2, whole.len() * 9 / 10] {
                let error = decode_bytes(&whole[..keep]).expect_err(&format!("{format:?} of {keep} bytes"));
                assert!(!error.contains('\n') && error.contains("remove"), "{format:?} of {keep} bytes: {error}");
            }
        }
    }

    #[test]
    fn the_thumbnail_of_a_cut_jpeg_does_not_pass_for_its_end() {
        let thumbnail = halves();
        let whole = with_exif(&halves(), 1, &thumbnail);
        assert!(decode_bytes(&whole).is_ok());
        for cut in [1, 2, 30] {
            let error = decode_bytes(&whole[..whole.len() - cut]).expect_err(&format!("{cut} bytes short"));
            assert!(error.contains("ends early"), "{error}");
        }
        // Bytes after the end, as some cameras leave, are no fault.
        assert!(decode_bytes(&[whole, vec![0; 9]].concat()).is_ok());
    }

    #[test]
    fn what_is_no_picture_says_so() {
        assert!(decode_bytes(b"").unwrap_err().contains("empty"));
        assert!(decode_bytes(b"class,label\n").unwrap_err().contains("not a PNG"));
    }

    #[test]
    fn a_picture_too_large_is_refused_before_its_samples_are_allocated() {
        // A PNG header alone that promises 300000 × 1.
        let mut png = encoded(GrayImage::new(1, 1), ImageFormat::Png);
        png[16..20].copy_from_slice(&300_000u32.to_be_bytes());
        // The CRC of the header chunk, so that the decoder believes it.
        let crc = png[12..29].iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        });
        png[29..33].copy_from_slice(&(!crc).to_be_bytes());
        assert!(decode_bytes(&png).unwrap_err().contains("scale it down"));
    }

    #[test]
    fn every_format_refuses_a_picture_too_large() {
        let pixel = RgbImage::from_pixel(1, 1, Pixel([1, 2, 3]));
        let mut bmp = encoded(pixel.clone(), ImageFormat::Bmp);
        bmp[18..26].copy_from_slice(&[0, 64, 0, 0, 0, 64, 0, 0]);
        let mut jpeg = encoded(pixel.clone(), ImageFormat::Jpeg);
        let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        jpeg[frame + 5..frame + 9].copy_from_slice(&[64, 0, 64, 0]);
        // The canvas is small, but the frame is not.
        let mut gif = encoded(pixel.clone(), ImageFormat::Gif);
        let frame = gif.windows(9).rposition(|block| block == [b',', 0, 0, 0, 0, 1, 0, 1, 0]).unwrap();
        gif[frame + 5..frame + 9].fill(0xff);
        // The directory starts with the width and the height; entries of 12 bytes end with the value.
        let mut tiff = encoded(pixel, ImageFormat::Tiff);
        let directory = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
        for value in [directory + 10, directory + 22] {
            tiff[value..value + 2].copy_from_slice(&[0, 64]);
        }
        for (name, bytes) in [("BMP", bmp), ("JPEG", jpeg), ("GIF", gif), ("TIFF", tiff)] {
            let error = decode_bytes(&bytes).unwrap_err();
            assert!(error.contains("scale it down"), "{name}: {error}");
        }
    }

    #[test]
    fn sizes_end_at_the_sides_and_at_the_pixels() {
        assert!(
            check_size(MAX_SIDE, 1).is_ok() && check_size(MAX_SIDE, 682).is_ok() && check_size(65_535, 2730).is_ok()
        );
        for (width, height) in [(MAX_SIDE + 1, 1), (1, MAX_SIDE + 1), (MAX_SIDE, 683), (u32::MAX, u32::MAX)] {
            assert!(check_size(width, height).unwrap_err().contains("scale it down"), "{width}x{height}");
        }
        assert!(check_size(0, 5).is_err() && check_size(5, 0).is_err());
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.png");
        let error = decode(&missing).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if *path == missing), "{error}");
        let broken = folder.path().join("broken.png");
        fs::write(&broken, "no picture").unwrap();
        let error = decode(&broken).unwrap_err();
        assert!(matches!(&error, Error::Image { path, .. } if *path == broken), "{error}");
        assert!(error.to_string().contains("broken.png"), "{error}");
    }

    #[test]
    fn the_content_decides_not_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("really_a_png.jpg");
        fs::write(&path, encoded(RgbImage::from_pixel(2, 1, Pixel([5, 6, 7])), ImageFormat::Png)).unwrap();
        assert_eq!(decode(&path).unwrap().data, [5, 6, 7, 5, 6, 7]);
    }
}
