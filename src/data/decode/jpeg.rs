//! JPEG: everything but the entropy decoder, the inverse transform and the upsampling, which are `zune-jpeg`'s.

use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::colour::{cmyk_to_rgb, ycc_to_rgb};
use super::orientation::orientation;
use super::{MAX_SIDE, Pixels, check_size, one_line};

/// Decodes a JPEG file; the orientation is that of its EXIF data.
pub(super) fn decode(bytes: &[u8]) -> Result<(Pixels, Option<Orientation>), String> {
    // The decoder fills what is missing with grey and says nothing; Pillow refuses such a file.
    if !is_complete(bytes) {
        return Err("the JPEG data is damaged or ends early: replace or remove the file".to_owned());
    }
    let failed = |error| format!("JPEG: {}; replace or remove the file", one_line(&error));
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(MAX_SIDE as usize)
        .set_max_height(MAX_SIDE as usize);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| match error {
        zune_jpeg::errors::DecodeErrors::LargeDimensions(_) => super::too_large(),
        error => failed(format!("{error:?}")),
    })?;
    let (Some((width, height)), Some(stored)) = (decoder.dimensions(), decoder.input_colorspace()) else {
        return Err(failed("no picture".to_owned()));
    };
    check_size(width as u32, height as u32)?;
    let orientation = orientation(decoder.exif().map(Vec::as_slice), decoder.xmp().map(Vec::as_slice));
    // Of four channels the decoder's conversion rounds otherwise than Pillow's; these are converted below.
    let wanted = if stored == ColorSpace::YCbCr { ColorSpace::RGB } else { stored };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let mut data = decoder.decode().map_err(|error| failed(format!("{error:?}")))?;
    match stored {
        ColorSpace::Luma => data = data.iter().flat_map(|&sample| [sample; 3]).collect(),
        ColorSpace::RGB | ColorSpace::YCbCr => {}
        // Four channels are stored inverted, whoever wrote the file; the formula wants ink.
        ColorSpace::CMYK => {
            data.iter_mut().for_each(|sample| *sample = 255 - *sample);
            data = cmyk_to_rgb(&data, 4);
        }
        ColorSpace::YCCK => {
            // Here the conversion to RGB gives the inks as they are, and black alone is left to be inverted.
            ycc_to_rgb(&mut data, 4);
            data.chunks_exact_mut(4).for_each(|pixel| pixel[3] = 255 - pixel[3]);
            data = cmyk_to_rgb(&data, 4);
        }
        other => return Err(format!("JPEG of the kind {other:?} is not supported; convert it to PNG")),
    }
    data.truncate(width * height * 3);
    Ok((Pixels { width, height, data }, orientation))
}

/// Whether a JPEG file runs to its end-of-image marker.
///
/// Walks the segments by their lengths, so that the thumbnail in an EXIF segment is not mistaken for the picture;
/// inside compressed data a marker is an 0xFF that is followed neither by 0x00 (a stuffed 0xFF) nor by a restart
/// number.
fn is_complete(bytes: &[u8]) -> bool {
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
