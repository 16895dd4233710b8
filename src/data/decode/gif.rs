//! The first frame of a GIF as Pillow reads it: indices on the canvas, looked up in the frame's palette.

use std::io::Read;
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::{MAX_BYTES, Pixels, budget, check_size, one_line};

fn damaged(error: &impl std::fmt::Display) -> String {
    format!("{}; replace or remove the file", one_line(error))
}

/// Decodes the first frame of a GIF file.
pub(super) fn decode(bytes: &[u8]) -> Result<Pixels, String> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    if let Some(limit) = NonZeroU64::new(MAX_BYTES) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    // A frame may reach beyond the canvas: Pillow enlarges it.
    options.check_frame_consistency(false);
    options.allow_unknown_blocks(true);
    let (head, rest) = with_palette(bytes);
    let mut decoder = options.read_info(head.as_slice().chain(rest)).map_err(|error| damaged(&error))?;
    let canvas = [u32::from(decoder.width()), u32::from(decoder.height())];
    let frame = decoder.next_frame_info().map_err(|error| damaged(&error))?;
    let Some(frame) = frame else { return Err("the GIF has no frame; replace or remove the file".to_owned()) };
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (wide, high) = (usize::from(frame.width), usize::from(frame.height));
    let background = frame.transparent.unwrap_or(0);
    let local = frame.palette.clone();
    let right = u32::from(frame.left) + u32::from(frame.width);
    let bottom = u32::from(frame.top) + u32::from(frame.height);
    let (width, height) = (canvas[0].max(right), canvas[1].max(bottom));
    check_size(width, height)?;
    let (width, height) = (width as usize, height as usize);
    let table = table(local.as_deref().or(decoder.global_palette()).unwrap_or_default());
    // The canvas in colours and the frame in indices. The frame comes first: what is damaged never gets a canvas.
    let room = budget::decoded((3 * width * height + wide * high) as u64)?;
    let mut indices = vec![0; wide * high];
    if !indices.is_empty() {
        decoder.read_into_buffer(&mut indices).map_err(|error| damaged(&error))?;
    }
    let mut data: Vec<u8> = table[usize::from(background)].repeat(width * height);
    if !indices.is_empty() {
        for (row, indices) in data.chunks_exact_mut(width * 3).skip(top).zip(indices.chunks_exact(wide)) {
            for (pixel, &index) in row[left * 3..].chunks_exact_mut(3).zip(indices) {
                pixel.copy_from_slice(&table[usize::from(index)]);
            }
        }
    }
    Ok(Pixels { width, height, data, room })
}

/// The file in two pieces, of which the first gets a palette of greys where there is no global palette: the decoder
/// would refuse a frame without any.
fn with_palette(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    /// Bytes up to the global palette.
    const HEADER: usize = 13;
    const FLAGS: usize = 10;
    match bytes.split_at_checked(HEADER) {
        Some((header, rest)) if header[FLAGS] & 0x80 == 0 => {
            let mut header = header.to_vec();
            // There is a palette, and of 2^(7 + 1) colours.
            header[FLAGS] |= 0x87;
            header.extend((0..=255).flat_map(|grey| [grey; 3]));
            (header, rest)
        }
        _ => (Vec::new(), bytes),
    }
}

/// A colour for every index. Without a palette, or with one in which every colour is its own index, indices are
/// greys; indices beyond any other palette are black.
fn table(palette: &[u8]) -> [[u8; 3]; 256] {
    let grey =
        palette.chunks_exact(3).enumerate().all(|(index, colour)| colour.iter().all(|&c| usize::from(c) == index));
    let mut table = std::array::from_fn(|index| [if grey { index as u8 } else { 0 }; 3]);
    for (entry, colour) in table.iter_mut().zip(palette.chunks_exact(3)) {
        entry.copy_from_slice(colour);
    }
    table
}
