//! AVIF: the container by `boxes`, AV1 by the crate `re_rav1d`, colours here.

use image::metadata::Orientation;
use re_rav1d::{Decoder, Error, Picture, PixelLayout, PlanarImageComponent, Settings, pixel};

use super::boxes::{Coding, Container, Grid};
use super::yuv::{Layout, Matrix, Plane, Yuv};
use super::{MAX_PIXELS, Pixels, budget, check_size};

/// Bytes of memory that decoding takes per pixel, at most: planes of two bytes in two pictures of the decoder's, what it
/// keeps of each block, and the result.
const PER_PIXEL: u64 = 16;

fn damaged(what: &str) -> String {
    format!("AVIF: {what}; replace or remove the file")
}

fn unsupported(what: &str) -> String {
    format!("AVIF with {what} is not supported; convert it to PNG or JPEG")
}

/// Decodes the picture of an AVIF file, of an animation its still one.
pub(super) fn decode(bytes: &[u8]) -> Result<(Pixels, Option<Orientation>), String> {
    let container = Container::read(bytes).ok_or_else(|| damaged("its description is missing or damaged"))?;
    let item = container.primary();
    if container.premultiplied(item) {
        return Err(unsupported("colours that were multiplied with alpha"));
    }
    let (width, height) = container.extent(item).ok_or_else(|| damaged("it states no size"))?;
    check_size(width, height)?;
    let pixels = u64::from(width) * u64::from(height);
    let room = budget::decoded(pixels * PER_PIXEL)?;
    let coding = container.coding(item);
    let data = match container.kind(item).as_ref() {
        Some(b"av01") => tile(&container, item, (width, height), coding)?.rgb(width as usize, height as usize),
        Some(b"grid") => grid(&container, item, (width, height), coding)?,
        _ => return Err(unsupported("another picture than one coded with AV1 or a grid of such")),
    };
    let (width, height) = (width as usize, height as usize);
    Ok((Pixels { width, height, data, room }, container.orientation()))
}

/// A picture that is put together of tiles, row by row. What sticks out at the right and below is cut off.
fn grid(container: &Container<'_>, item: u32, size: (u32, u32), coding: Option<Coding>) -> Result<Vec<u8>, String> {
    let Grid { rows, columns, width, height } = container.grid(item).ok_or_else(|| damaged("its grid is damaged"))?;
    let parts = container.parts(item);
    if (width, height) != size || parts.len() != rows * columns {
        return Err(damaged("its grid contradicts its size or has another number of tiles"));
    }
    let first = container.extent(parts[0]).ok_or_else(|| damaged("its tiles state no size"))?;
    let (tile_width, tile_height) = (first.0 as usize, first.1 as usize);
    let (width, height) = (width as usize, height as usize);
    let covers = |tile: usize, count: usize, side: usize| {
        tile > 0 && tile.saturating_mul(count) >= side && tile * (count - 1) < side
    };
    // A tile may be as large as the whole, so nothing is decoded that was not spoken for.
    if !covers(tile_width, columns, width) || !covers(tile_height, rows, height) {
        return Err(damaged("its tiles do not cover it"));
    }
    if u64::from(first.0) * u64::from(first.1) > MAX_PIXELS / 2 + (width * height) as u64 {
        return Err(super::too_large());
    }
    let mut data = vec![0; width * height * 3];
    for (number, part) in parts.iter().enumerate() {
        if container.extent(*part) != Some(first) || container.kind(*part) != Some(*b"av01") {
            return Err(damaged("its tiles are of several kinds or sizes"));
        }
        let rgb = tile(container, *part, first, coding.or(container.coding(*part)))?.rgb(tile_width, tile_height);
        let (left, top) = (number % columns * tile_width, number / columns * tile_height);
        let row = 3 * tile_width.min(width - left);
        for (y, line) in rgb.chunks_exact(3 * tile_width).take(height - top).enumerate() {
            let at = 3 * ((top + y) * width + left);
            data[at..at + row].copy_from_slice(&line[..row]);
        }
    }
    Ok(data)
}

/// Decodes an item's AV1 stream, which must be of the size that its item states.
fn tile(
    container: &Container<'_>,
    item: u32,
    (width, height): (u32, u32),
    coding: Option<Coding>,
) -> Result<Yuv, String> {
    let stream = container.bytes(item).ok_or_else(|| damaged("its samples lie outside the file"))?;
    let picture = first_picture(stream, (width, height))?;
    if (picture.width(), picture.height()) != (width, height) {
        return Err(damaged("its samples have another size than it states"));
    }
    let coding = coding.unwrap_or(Coding {
        matrix: picture.matrix_coefficients() as u16,
        full_range: picture.color_range() == pixel::YUVRange::Full,
    });
    let layout = match picture.pixel_layout() {
        PixelLayout::I400 => Layout::Grey,
        PixelLayout::I420 => Layout::Halved { rows: true },
        PixelLayout::I422 => Layout::Halved { rows: false },
        PixelLayout::I444 => Layout::Full,
    };
    let bits = picture.bits_per_component().map_or(8, |bits| bits.0 as u32);
    let number = coding.matrix;
    let matrix = Matrix::of(number).ok_or_else(|| unsupported(&format!("matrix coefficients {number}")))?;
    let plane = |component| {
        let stride = picture.stride(component) as usize;
        Plane::new(picture.plane(component).as_ref(), stride, bits > 8)
    };
    let y = plane(PlanarImageComponent::Y);
    let chroma = (layout != Layout::Grey).then(|| [PlanarImageComponent::U, PlanarImageComponent::V].map(plane));
    Yuv::new((width as usize, height as usize), layout, bits, (matrix, coding.full_range), (y, chroma))
        .ok_or_else(|| damaged("its samples do not fill it"))
}

/// The first picture in an AV1 stream.
fn first_picture(stream: Vec<u8>, (width, height): (u32, u32)) -> Result<Picture, String> {
    let failed = |error: Error| match error {
        Error::NotEnoughMemory => super::too_large(),
        Error::UnsupportedBitstream => unsupported("this kind of stream"),
        Error::Again => damaged("its samples end early"),
        _ => damaged("its samples are damaged, or larger than it states"),
    };
    let mut settings = Settings::new();
    // Pictures are decoded on all cores already, one on each.
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_frame_size_limit(width.saturating_mul(height));
    settings.set_all_layers(false);
    let mut decoder = Decoder::with_settings(&settings).map_err(failed)?;
    match decoder.send_data(stream, None, None, None) {
        Ok(()) | Err(Error::Again) => {}
        Err(error) => return Err(failed(error)),
    }
    loop {
        match decoder.get_picture() {
            Err(Error::Again) => match decoder.send_pending_data() {
                // All is sent, and no picture came of it.
                Ok(()) => return decoder.get_picture().map_err(failed),
                Err(Error::Again) => {}
                Err(error) => return Err(failed(error)),
            },
            other => return other.map_err(failed),
        }
    }
}
