//! JPEG XL by the crate `jxl-oxide`.

use image::metadata::Orientation;
use jxl_oxide::{AllocTracker, InitializeResult, JxlImage, JxlThreadPool, PixelFormat};

use super::{Pixels, budget, check_size, kept, one_line, too_large};

/// Bytes of memory for each sample of colour or of another channel: floats, of which filters and blending need several copies.
const PER_SAMPLE: u64 = 12;
/// What small pictures take beyond that.
const AT_LEAST: u64 = 64 << 20;

/// How a file begins: a bare stream, or boxes.
pub(super) fn is_jxl(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\x0a") || bytes.starts_with(b"\0\0\0\x0cJXL \r\n\x87\n")
}

fn failed(error: &impl std::fmt::Display) -> String {
    let line = one_line(error);
    if line.contains("failed to allocate") {
        return too_large();
    }
    format!("JPEG XL: {line}; replace or remove the file")
}

fn ends_early() -> String {
    "JPEG XL: the file ends early; replace or remove it".to_owned()
}

/// Decodes a JPEG XL file, of an animation the first picture. It comes upright: the stream's own orientation is applied, and by
/// the standard the one of EXIF data does not count.
pub(super) fn decode(bytes: &[u8]) -> Result<(Pixels, Option<Orientation>), String> {
    // What little is needed to read the header.
    let tracker = AllocTracker::with_limit(AT_LEAST as usize);
    let builder = JxlImage::builder().pool(JxlThreadPool::none()).alloc_tracker(tracker.clone());
    let mut uninit = builder.build_uninit();
    let mut rest = bytes;
    // The header alone first: nothing is allocated for pixels before their number is known.
    let mut image = loop {
        let piece = &rest[..rest.len().min(1 << 12)];
        let used = uninit.feed_bytes(piece).map_err(|error| failed(&error))?;
        if used == 0 {
            return Err(ends_early());
        }
        rest = &rest[used..];
        match uninit.try_init().map_err(|error| failed(&error))? {
            InitializeResult::NeedMoreData(more) => uninit = more,
            InitializeResult::Initialized(image) => break image,
        }
    };
    let (width, height) = (image.width(), image.height());
    check_size(width, height)?;
    let channels = 3 + image.image_header().metadata.ec_info.len() as u64;
    let pixels = u64::from(width) * u64::from(height);
    let needed = pixels.saturating_mul(channels).saturating_mul(PER_SAMPLE);
    let room = budget::decoded(AT_LEAST + needed + 3 * pixels)?;
    tracker.expand_limit(usize::try_from(needed).map_err(|_| too_large())?);
    match image.pixel_format() {
        PixelFormat::Cmyk | PixelFormat::Cmyka => {
            return Err("JPEG XL with CMYK is not supported; convert it to PNG or JPEG".to_owned());
        }
        PixelFormat::Gray | PixelFormat::Graya | PixelFormat::Rgb | PixelFormat::Rgba => {}
    }
    // Of an animation, what follows the first picture is not needed.
    while image.num_loaded_keyframes() == 0 && !rest.is_empty() {
        let piece = &rest[..rest.len().min(1 << 16)];
        let used = image.feed_bytes(piece).map_err(|error| failed(&error))?;
        if used == 0 {
            break;
        }
        rest = &rest[used..];
    }
    if image.num_loaded_keyframes() == 0 {
        return Err(ends_early());
    }
    let render = image.render_frame(0).map_err(|error| failed(&error))?;
    let mut stream = render.stream_no_alpha();
    let channels = stream.channels() as usize;
    let (width, height) = (stream.width() as usize, stream.height() as usize);
    if (width as u64 * height as u64) != pixels || !matches!(channels, 1 | 3) {
        return Err(failed(&"its samples contradict its header"));
    }
    let mut samples = vec![0u8; width * height * channels];
    if stream.write_to_buffer(&mut samples) != samples.len() {
        return Err(ends_early());
    }
    let data = match channels {
        1 => samples.iter().flat_map(|&value| [value; 3]).collect(),
        _ => kept(samples, 3, [0, 1, 2]),
    };
    Ok((Pixels { width, height, data, room }, None))
}
