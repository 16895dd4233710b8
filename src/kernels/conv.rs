//! Convolutions as products of unfolded rows, average pooling, and the tokens of attention pooling
//! (`shaders/conv.wgsl`). Forward only: what is convolved is frozen, and so is all below it.

use std::ops::Range;

use super::texts::shader;
use super::{expect, gemm};
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("conv");

pub(super) fn variants() -> Vec<Variant> {
    ["unfold", "pool", "tokens"].map(|entry| Variant::new(&SHADER, entry, &[])).to_vec()
}

/// A convolution's window; square, the same both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Side in pixels.
    pub side: usize,
    /// Pixels from one position to the next.
    pub stride: usize,
    /// Rows and columns of zeros around the picture.
    pub pad: usize,
}

impl Window {
    /// Positions along a side of `size` pixels.
    pub fn positions(self, size: usize) -> usize {
        (size + 2 * self.pad).checked_sub(self.side).map_or(0, |room| room / self.stride + 1)
    }
}

/// How the input of a convolution lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `[batch, channels, size, size]`: pixels.
    ChannelsFirst,
    /// `[batch, size, size, channels]`: all between layers.
    ChannelsLast,
}

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    batch: u32,
    size: u32,
    out: u32,
    channels: u32,
    side: u32,
    stride: u32,
    pad: u32,
    first: u32,
    image_step: u32,
    row_step: u32,
    column_step: u32,
    channel_step: u32,
}

/// Sides and channels of square pictures: (batch, size, channels).
fn dims(x: &Tensor, order: Order) -> Result<(usize, usize, usize)> {
    match (order, x.shape()) {
        (Order::ChannelsFirst, &[batch, channels, size, width]) if size == width => Ok((batch, size, channels)),
        (Order::ChannelsLast, &[batch, size, width, channels]) if size == width => Ok((batch, size, channels)),
        (_, shape) => Err(Error::invalid(format!("conv: {shape:?} are no square pictures ({order:?})"))),
    }
}

/// The convolution of the pictures `images` of x with `weight` `[out, side²·channels]` (row, column, channel), as
/// `[images, positions, positions, out]`, with the epilogue of a product.
///
/// # Errors
/// Shapes that do not fit; pictures smaller than the window; out of memory, the unfolded rows being `side²` times the
/// input.
pub fn forward(
    rec: &mut Recorder,
    x: &Tensor,
    (order, images): (Order, Range<usize>),
    window: Window,
    weight: &Tensor,
    epilogue: &gemm::Epilogue<'_>,
) -> Result<Tensor> {
    let (batch, size, channels) = dims(x, order)?;
    let out = if window.stride == 0 { 0 } else { window.positions(size) };
    if images.is_empty() || images.end > batch || out == 0 || window.side == 0 {
        return Err(Error::invalid(format!("conv: {window:?} over pictures {images:?} of {:?}", x.shape())));
    }
    let rows = images.len() * out * out;
    let whole = images == (0..batch);
    let y = if order == Order::ChannelsLast && whole && window == (Window { side: 1, stride: 1, pad: 0 }) {
        // The rows already lie as the product wants them.
        gemm::matmul(rec, gemm::Layout::Nt, x, weight, epilogue)?
    } else {
        let depth = window.side * window.side * channels;
        let unfolded = rec.temp("unfold", &[rows, depth])?;
        let (row_step, column_step, channel_step) = match order {
            Order::ChannelsFirst => (size, 1, size * size),
            Order::ChannelsLast => (size * channels, channels, 1),
        };
        let params = Params {
            batch: images.len() as u32,
            size: size as u32,
            out: out as u32,
            channels: channels as u32,
            side: window.side as u32,
            stride: window.stride as u32,
            pad: window.pad as u32,
            first: images.start as u32,
            image_step: (size * size * channels) as u32,
            row_step: row_step as u32,
            column_step: column_step as u32,
            channel_step: channel_step as u32,
        };
        dispatch(rec, "unfold", "conv unfold", &params, &[x, &unfolded], rows * depth)?;
        gemm::matmul(rec, gemm::Layout::Nt, &unfolded, weight, epilogue)?
    };
    let channels = y.cols();
    y.reshape(&[images.len(), out, out, channels])
}

/// Means over windows of `side` × `side` that do not overlap, of x `[batch, size, size, channels]`.
///
/// # Errors
/// Pictures smaller than the window; out of memory.
pub fn pool(rec: &mut Recorder, x: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, size, channels) = dims(x, Order::ChannelsLast)?;
    let out = size.checked_div(side).unwrap_or(0);
    if out == 0 {
        return Err(Error::invalid(format!("pool: windows of {side} over {:?}", x.shape())));
    }
    let y = rec.temp("pool", &[batch, out, out, channels])?;
    let [batch, size, out, channels, side] = [batch, size, out, channels, side].map(|v| v as u32);
    let params = Params { batch, size, out, channels, side, ..Params::default() };
    dispatch(rec, "pool", "pool", &params, &[x, &y], y.len())?;
    Ok(y)
}

/// Writes the tokens of attention pooling, the mean of all positions of x `[n, size, size, channels]` and the positions
/// themselves, each with its row of `position` `[size²+1, channels]` added, to the pictures of y
/// `[batch, size²+1, channels]` from `first` on.
///
/// # Errors
/// Shapes that do not fit.
pub fn tokens(rec: &mut Recorder, x: &Tensor, position: &Tensor, y: &Tensor, first: usize) -> Result<()> {
    let (n, size, channels) = dims(x, Order::ChannelsLast)?;
    let tokens = size * size + 1;
    expect("tokens", "position", position, &[tokens, channels])?;
    let batch = y.shape().first().copied().unwrap_or(0);
    expect("tokens", "y", y, &[batch, tokens, channels])?;
    if first + n > batch {
        return Err(Error::invalid(format!("tokens: {n} pictures from {first} on of {batch}")));
    }
    let [batch, size, channels, first] = [n, size, channels, first].map(|v| v as u32);
    let params = Params { batch, size, channels, first, ..Params::default() };
    dispatch(rec, "tokens", "pool tokens", &params, &[x, position, y], n * tokens * x.cols())
}

fn dispatch(
    rec: &mut Recorder,
    entry: &'static str,
    label: &'static str,
    params: &Params,
    bindings: &[&Tensor],
    elements: usize,
) -> Result<()> {
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, entry, &[]),
        label,
        params: bytemuck::bytes_of(params),
        bindings,
        grid: Grid::cover(elements, 64),
        flops: 0.0,
        bytes: 4.0 * (bindings[0].len() + elements) as f64,
    })
}
