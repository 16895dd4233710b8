//! Picture files: finding them, and decoding them to RGB as Pillow's `Image.open(…).convert("RGB")` does, with the
//! EXIF orientation applied as well.
//!
//! Lossless formats give Pillow's bytes, but for 16-bit greyscale (see [`decode`]). JPEG leaves the rounding of the
//! inverse transform and of the chroma upsampling to the decoder, so samples may differ by a few levels from the
//! libjpeg-turbo that Pillow uses.

use std::fs;
use std::io::{Cursor, ErrorKind};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::data::Rgb;
use crate::{Error, Result};

/// Extensions (lower case) that [`is_picture`] knows.
const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"];
/// Longest side decoded, in pixels.
const MAX_SIDE: u32 = 16384;
/// Most bytes that a file, or the samples decoded from it, may have.
const MAX_BYTES: u64 = 1 << 30;

/// Decodes a PNG, JPEG, WebP, GIF, BMP or TIFF file; the format is told from the content, not from the name.
///
/// As in Pillow's `convert("RGB")`, alpha is dropped (not composited onto anything), palettes are looked up, greyscale
/// becomes three equal channels, and of an animation the first frame is taken. Samples of 16 bits keep their high
/// byte: Pillow does so for colour; its conversion of 16-bit greyscale clips at 255 instead, which turns nearly every
/// such picture white, and is not copied. An EXIF orientation is applied.
///
/// TIFF files with a palette, with greyscale and alpha, or with floating-point samples are not supported.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be read, [`Error::Image`] if it is no picture of those formats, is damaged or cut
/// short, or is larger than 16384 pixels a side or 1 GiB.
pub fn decode(path: &Path) -> Result<Rgb> {
    let failed = |reason: String| Error::Image { path: path.to_path_buf(), reason };
    let bytes = fs::metadata(path).map_err(|source| Error::io(path, source))?.len();
    if bytes > MAX_BYTES {
        return Err(failed(format!("the file has {bytes} bytes, more than {MAX_BYTES}: scale the picture down")));
    }
    let bytes = fs::read(path).map_err(|source| Error::io(path, source))?;
    decode_bytes(&bytes).map_err(failed)
}

/// [`decode`] from memory; the error is the reason, on one line.
fn decode_bytes(bytes: &[u8]) -> Result<Rgb, String> {
    if bytes.is_empty() {
        return Err("the file is empty: replace or remove it".to_owned());
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| one_line(&error))?;
    let Some(format) = reader.format() else {
        return Err("not a PNG, JPEG, WebP, GIF, BMP or TIFF file: convert or remove it".to_owned());
    };
    // The JPEG decoder fills what is missing with grey and says nothing; Pillow refuses such a file.
    if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
        return Err("the JPEG data is damaged or ends early: replace or remove the file".to_owned());
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| reason(&error))?;
    // Decoders check the sides against the limits, but not all of them the samples.
    if decoder.total_bytes() > MAX_BYTES {
        return Err(too_large());
    }
    // Unreadable metadata is no reason to refuse a picture: Pillow ignores it too.
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| reason(&error))?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let data = samples(picture)?;
    Rgb::new(width, height, data).map_err(|error| error.to_string())
}

/// The picture's samples as `[height, width, 3]`. `image`'s own conversion to 8 bits rounds where Pillow truncates.
fn samples(picture: DynamicImage) -> Result<Vec<u8>, String> {
    fn high(sample: u16) -> u8 {
        (sample >> 8) as u8
    }
    Ok(match picture {
        DynamicImage::ImageRgb8(p) => p.into_raw(),
        DynamicImage::ImageRgba8(p) => p.pixels().flat_map(|p| [p[0], p[1], p[2]]).collect(),
        DynamicImage::ImageLuma8(p) => p.pixels().flat_map(|p| [p[0]; 3]).collect(),
        DynamicImage::ImageLumaA8(p) => p.pixels().flat_map(|p| [p[0]; 3]).collect(),
        DynamicImage::ImageRgb16(p) => p.into_raw().into_iter().map(high).collect(),
        DynamicImage::ImageRgba16(p) => p.pixels().flat_map(|p| [high(p[0]), high(p[1]), high(p[2])]).collect(),
        DynamicImage::ImageLuma16(p) => p.pixels().flat_map(|p| [high(p[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(p) => p.pixels().flat_map(|p| [high(p[0]); 3]).collect(),
        // Floating-point samples have no agreed range.
        _ => return Err("floating-point samples are not supported: save it with 8 or 16 bits per sample".to_owned()),
    })
}

/// Whether a JPEG file runs to its end-of-image marker.
///
/// Walks the segments by their lengths, so that the thumbnail in an EXIF segment is not mistaken for the picture;
/// inside compressed data a marker is an 0xFF that is followed neither by 0x00 (a stuffed 0xFF) nor by a restart
/// number.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const STUFFED: u8 = 0x00;
    const TEMPORARY: u8 = 0x01;
    const FIRST_RESTART: u8 = 0xd0;
    const START_OF_IMAGE: u8 = 0xd8;
    const END_OF_IMAGE: u8 = 0xd9;
    let mut at = 0;
    while let Some(skipped) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)) {
        at += skipped + 1;
        match bytes.get(at) {
            Some(&END_OF_IMAGE) => return true,
            // A fill byte: the next one may be the marker.
            Some(0xff) => {}
            Some(&(STUFFED | TEMPORARY | FIRST_RESTART..=START_OF_IMAGE)) => at += 1,
            // Everything else starts a segment, of a length that counts its own two bytes.
            Some(_) => match bytes.get(at + 1..at + 3) {
                Some(length) => at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
            None => return false,
        }
    }
    false
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
    format!("the picture is larger than {MAX_SIDE} pixels a side or {MAX_BYTES} bytes: scale it down")
}

/// A message whose line breaks, if any, have become spaces.
fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the file name's extension is that of a picture: png, jpg, jpeg, webp, gif, bmp, tif or tiff, in any case.
pub fn is_picture(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// The pictures that a path stands for: a file stands for itself, whatever its name; a folder for the pictures (by
/// [`is_picture`]) in it and in its sub-folders, sorted by path. Names that start with a dot are passed over.
///
/// # Errors
///
/// [`Error::Data`] if there is nothing at `path` or no picture in the folder, [`Error::Io`] if a folder cannot be
/// read.
pub fn list_pictures(path: &Path) -> Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => Error::data(path, "there is no such file or folder: check the path"),
        _ => Error::io(path, source),
    })?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let pictures = pictures_below(path)?;
    if pictures.is_empty() {
        return Err(Error::data(
            path,
            format!("there is no picture in this folder or below it: add files named .{}", EXTENSIONS.join(", .")),
        ));
    }
    Ok(pictures)
}

/// The pictures in a folder and its sub-folders, sorted by path; perhaps none.
pub(super) fn pictures_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    walk(folder, &mut Vec::new(), &mut pictures)?;
    pictures.sort();
    Ok(pictures)
}

/// Collects the pictures below `folder`. `above` holds the folders on the way to it, links resolved: a link back to
/// one of them would go round for ever.
fn walk(folder: &Path, above: &mut Vec<PathBuf>, pictures: &mut Vec<PathBuf>) -> Result<()> {
    let resolved = fs::canonicalize(folder).map_err(|source| Error::io(folder, source))?;
    if above.contains(&resolved) {
        return Ok(());
    }
    above.push(resolved);
    for path in visible_entries(folder)? {
        if path.is_dir() {
            walk(&path, above, pictures)?;
        } else if is_picture(&path) {
            // A dangling link is listed too: decoding it names it, passing over it would hide it.
            pictures.push(path);
        }
    }
    above.pop();
    Ok(())
}

/// The entries of a folder whose names do not start with a dot, in no particular order.
pub(super) fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| Error::io(folder, source))? {
        let entry = entry.map_err(|source| Error::io(folder, source))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayAlphaImage, GrayImage, ImageBuffer, Luma, LumaA, Rgb as Pixel, RgbImage, Rgba, RgbaImage};

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
    fn sixteen_bits_keep_the_high_byte() {
        // 0x12ff rounds to 0x13; its high byte is 0x12.
        let values = [0x12ffu16, 0x00ff, 0xffff, 0x8000];
        let grey = ImageBuffer::<Luma<u16>, _>::from_raw(4, 1, values.to_vec()).unwrap();
        let expected = [0x12, 0x12, 0x12, 0, 0, 0, 255, 255, 255, 128, 128, 128];
        assert_eq!(decode_bytes(&encoded(grey, ImageFormat::Png)).unwrap().data, expected);
        let rgb = ImageBuffer::<Pixel<u16>, _>::from_raw(1, 1, values[..3].to_vec()).unwrap();
        assert_eq!(decode_bytes(&encoded(rgb, ImageFormat::Png)).unwrap().data, [0x12, 0, 255]);
        let rgba = ImageBuffer::<Rgba<u16>, _>::from_raw(1, 1, values.to_vec()).unwrap();
        assert_eq!(decode_bytes(&encoded(rgba, ImageFormat::Png)).unwrap().data, [0x12, 0, 255]);
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
        // A PNG header alone that promises 20000 × 1.
        let mut png = encoded(GrayImage::new(1, 1), ImageFormat::Png);
        png[16..20].copy_from_slice(&20_000u32.to_be_bytes());
        // The CRC of the header chunk, so that the decoder believes it.
        let crc = png[12..29].iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        });
        png[29..33].copy_from_slice(&(!crc).to_be_bytes());
        assert!(decode_bytes(&png).unwrap_err().contains("scale it down"));
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

    #[test]
    fn extensions_in_any_case() {
        for yes in ["a.png", "b/c.JPG", "d.JpEg", "e.webp", "f.gif", "g.BMP", "h.tif", "i.tiff"] {
            assert!(is_picture(Path::new(yes)), "{yes}");
        }
        for no in ["png", "a.txt", "a.png.bak", ".png", ""] {
            assert!(!is_picture(Path::new(no)), "{no}");
        }
    }

    #[test]
    fn listing_is_recursive_sorted_and_skips_what_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/deep")).unwrap();
        fs::create_dir_all(root.join(".cache")).unwrap();
        for name in ["z.PNG", "a.jpg", "notes.txt", ".hidden.png", "b/c.gif", "b/deep/d.bmp", ".cache/e.png"] {
            fs::write(root.join(name), "").unwrap();
        }
        let expected: Vec<_> =
            ["a.jpg", "b/c.gif", "b/deep/d.bmp", "z.PNG"].iter().map(|name| root.join(name)).collect();
        assert_eq!(list_pictures(root).unwrap(), expected);
        // A file is itself, even where its name would not have been picked up.
        assert_eq!(list_pictures(&root.join("notes.txt")).unwrap(), [root.join("notes.txt")]);
    }

    #[test]
    fn listing_nothing_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = list_pictures(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no picture") && error.contains(&*folder.path().to_string_lossy()), "{error}");
        let error = list_pictures(&folder.path().join("gone")).unwrap_err().to_string();
        assert!(error.contains("gone") && error.contains("no such file or folder"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_back_do_not_go_round_and_dangling_ones_are_listed() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("sub")).unwrap();
        fs::write(root.join("sub/a.png"), "").unwrap();
        symlink(root, root.join("sub/back")).unwrap();
        symlink(root.join("sub"), root.join("sub/self")).unwrap();
        symlink(root.join("nowhere"), root.join("lost.png")).unwrap();
        assert_eq!(list_pictures(root).unwrap(), [root.join("lost.png"), root.join("sub/a.png")]);
    }
}
