//! Convolutions as products of unfolded rows, average pooling, and the tokens of attention pooling
//! (`shaders/conv.wgsl`, `shaders/unfold.wgsl`). A tower's convolutions are frozen, and so is all below them: [`forward`] is all
//! that they need. One that trains keeps the size of its pictures and has a backward: [`same`], [`same_input`], [`same_weight`].

use std::ops::Range;

use super::texts::shader;
use super::{expect, gemm, slices};
use crate::gpu::{Dispatch, Gpu, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("conv");
static UNFOLD: Shader = shader("unfold");

pub(super) fn variants() -> Vec<Variant> {
    let plain = ["turn", "pool", "tokens"].map(|entry| Variant::new(&SHADER, entry, &[]));
    plain.into_iter().chain([false, true].map(unfolding)).collect()
}

/// The kernel that unfolds, one number after the other or four at once.
fn unfolding(four: bool) -> Variant {
    Variant::new(&UNFOLD, "main", &[("FOUR", u32::from(four)), ("EACH", EACH as u32)])
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

/// A window of one pixel.
const POINT: Window = Window { side: 1, stride: 1, pad: 0 };

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
    first: u32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct UnfoldParams {
    rows: u32,
    first: u32,
    size: u32,
    out: u32,
    channels: u32,
    side: u32,
    stride: u32,
    pad: u32,
    image_step: u32,
    row_step: u32,
    column_step: u32,
    channel_step: u32,
    channel_add: u32,
    column_add: u32,
    row_add: u32,
    across_add: u32,
    down_add: u32,
    image_add: u32,
}

/// Numbers of unfolded rows that an invocation writes, or fours of them.
const EACH: usize = 8;

/// The digits of `number`, the last first, each with as many values as `bases` says, and what is left before them.
fn digits<const N: usize>(number: usize, bases: [usize; N]) -> ([u32; N], u32) {
    let mut rest = number;
    let all = bases.map(|base| {
        let digit = rest % base;
        rest /= base;
        digit as u32
    });
    (all, rest as u32)
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
    let (batch, size, _) = dims(x, order)?;
    let out = if window.stride == 0 { 0 } else { window.positions(size) };
    if images.is_empty() || images.end > batch || out == 0 || window.side == 0 {
        return Err(Error::invalid(format!("conv: {window:?} over pictures {images:?} of {:?}", x.shape())));
    }
    let whole = images == (0..batch);
    let y = if order == Order::ChannelsLast && whole && window == POINT {
        // The rows already lie as the product wants them.
        gemm::matmul(rec, gemm::Layout::Nt, x, weight, epilogue)?
    } else {
        let area = out * out;
        let unfolded = unfold(rec, x, order, window, images.start * area..images.end * area)?;
        gemm::matmul(rec, gemm::Layout::Nt, &unfolded, weight, epilogue)?
    };
    let channels = y.cols();
    y.reshape(&[images.len(), out, out, channels])
}

/// The rows `rows` of unfolded x, `[rows, side²·channels]`, a position each, those of the first picture first.
fn unfold(rec: &mut Recorder, x: &Tensor, order: Order, window: Window, rows: Range<usize>) -> Result<Tensor> {
    let (_, size, channels) = dims(x, order)?;
    let depth = window.side * window.side * channels;
    let unfolded = rec.temp("unfold", &[rows.len(), depth])?;
    let four = order == Order::ChannelsLast && channels.is_multiple_of(4);
    let channels = if four { channels / 4 } else { channels };
    let (row_step, column_step, channel_step) = match order {
        Order::ChannelsFirst => (size, 1, size * size),
        Order::ChannelsLast => (size * channels, channels, 1),
    };
    let out = window.positions(size);
    let (add, image_add) = digits(64, [channels, window.side, window.side, out, out]);
    let [channel_add, column_add, row_add, across_add, down_add] = add;
    let params = UnfoldParams {
        rows: rows.len() as u32,
        first: rows.start as u32,
        size: size as u32,
        out: out as u32,
        channels: channels as u32,
        side: window.side as u32,
        stride: window.stride as u32,
        pad: window.pad as u32,
        image_step: (size * size * channels) as u32,
        row_step: row_step as u32,
        column_step: column_step as u32,
        channel_step: channel_step as u32,
        channel_add,
        column_add,
        row_add,
        across_add,
        down_add,
        image_add,
    };
    let numbers = rows.len() * window.side * window.side * channels;
    rec.dispatch(&Dispatch {
        variant: unfolding(four),
        label: "conv unfold",
        params: bytemuck::bytes_of(&params),
        bindings: &[x, &unfolded],
        grid: Grid::cover(numbers, 64 * EACH),
        flops: 0.0,
        bytes: 4.0 * (x.len() + unfolded.len()) as f64,
    })?;
    Ok(unfolded)
}

/// Bytes of unfolded rows that a convolution that trains has at a time.
const UNFOLDED: u64 = 64 << 20;

/// Pieces of `rows` unfolded rows, `depth` wide, of so many bytes.
fn pieces(gpu: &Gpu, bytes: u64, rows: usize, depth: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let at_once = (bytes.min(gpu.max_binding()) / (4 * depth as u64)).max(1) as usize;
    (0..rows).step_by(at_once).map(move |first| first..(first + at_once).min(rows))
}

/// The pictures that [`same`] and [`same_weight`] take: all of a tensor that lies as layers do, or some of pixels.
#[derive(Clone)]
pub struct Pictures<'a> {
    /// The tensor.
    pub x: &'a Tensor,
    /// How it lies.
    pub order: Order,
    /// Which of its pictures.
    pub images: Range<usize>,
    /// Bytes of unfolded rows at a time.
    pub unfolded: u64,
}

impl<'a> Pictures<'a> {
    /// All pictures of x `[batch, size, size, channels]`.
    pub fn all(x: &'a Tensor) -> Pictures<'a> {
        let images = 0..x.shape().first().copied().unwrap_or(0);
        Pictures { x, order: Order::ChannelsLast, images, unfolded: UNFOLDED }
    }

    /// The pictures `images` of pixels `[batch, channels, size, size]`.
    pub fn of_pixels(x: &'a Tensor, images: Range<usize>) -> Pictures<'a> {
        Pictures { x, order: Order::ChannelsFirst, images, unfolded: UNFOLDED }
    }

    /// The window that leaves their size with a weight `[outputs, side²·channels]`: (window, unfolded rows, size).
    fn window(&self, weight: &Tensor) -> Result<(Window, Range<usize>, usize)> {
        let (batch, size, channels) = dims(self.x, self.order)?;
        let side = (weight.cols() / channels.max(1)).isqrt();
        let fits = side % 2 == 1 && side * side * channels == weight.cols();
        if !fits || self.images.is_empty() || self.images.end > batch {
            let (weight, x, images) = (weight.shape(), self.x.shape(), &self.images);
            return Err(Error::invalid(format!("conv: weight {weight:?} over pictures {images:?} of {x:?}")));
        }
        let window = Window { side, stride: 1, pad: side / 2 };
        Ok((window, self.images.start * size * size..self.images.end * size * size, size))
    }
}

/// The convolution that leaves pictures their size, of `[outputs, side²·channels]` (row, column, channel) with an odd side, as
/// `[images, size, size, outputs]`, plus `base` of that shape where given. Rows are unfolded a bounded number at a time.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn same(rec: &mut Recorder, of: &Pictures<'_>, weight: &Tensor, base: Option<&Tensor>) -> Result<Tensor> {
    let (window, rows, size) = of.window(weight)?;
    let (outputs, shape) = (weight.rows(), [of.images.len(), size, size, weight.rows()]);
    if let Some(base) = base {
        expect("conv", "base", base, &shape)?;
    }
    let all: Vec<Range<usize>> = pieces(rec.gpu(), of.unfolded, rows.len(), weight.cols()).collect();
    if all.len() == 1 || window == POINT && of.order == Order::ChannelsLast {
        let extra = gemm::Epilogue { residual: base, ..gemm::Epilogue::default() };
        return forward(rec, of.x, (of.order, of.images.clone()), window, weight, &extra);
    }
    let y = rec.temp("conv", &shape)?;
    for piece in all {
        let unfolded = unfold(rec, of.x, of.order, window, rows.start + piece.start..rows.start + piece.end)?;
        let span = piece.start * outputs..piece.end * outputs;
        let base = base.map(|base| slices::take(rec, base, span.clone(), &[piece.len(), outputs])).transpose()?;
        let extra = gemm::Epilogue { residual: base.as_ref(), ..gemm::Epilogue::default() };
        let part = gemm::matmul(rec, gemm::Layout::Nt, &unfolded, weight, &extra)?;
        slices::put(rec, &part, &y, span.start)?;
    }
    Ok(y)
}

/// The gradient of [`same`] by its pictures, `[images, size, size, channels]`, from dy, which lies as layers do, plus `base` where given: the same
/// convolution of dy with the weight turned around.
///
/// # Errors
/// As [`same`].
pub fn same_input(
    rec: &mut Recorder,
    dy: &Pictures<'_>,
    weight: &Tensor,
    side: usize,
    base: Option<&Tensor>,
) -> Result<Tensor> {
    let (outputs, area) = (weight.rows(), side * side);
    if area == 0 || !weight.cols().is_multiple_of(area) || dy.x.cols() != outputs {
        let (weight, dy) = (weight.shape(), dy.x.shape());
        return Err(Error::invalid(format!("conv dx: weight {weight:?} of side {side} for dy {dy:?}")));
    }
    let channels = weight.cols() / area;
    let turned = rec.temp("conv turned", &[channels, area * outputs])?;
    let [batch, channels, side] = [outputs, channels, side].map(|v| v as u32);
    let params = Params { batch, channels, side, ..Params::default() };
    dispatch(rec, "turn", "conv turn", &params, &[weight, &turned], weight.len())?;
    same(rec, dy, &turned, base)
}

/// The gradient of [`same`] by its weight `[outputs, side²·channels]`, plus `base` where given: what other pictures gave.
///
/// # Errors
/// As [`same`].
pub fn same_weight(
    rec: &mut Recorder,
    of: &Pictures<'_>,
    weight: &Tensor,
    dy: &Tensor,
    base: Option<Tensor>,
) -> Result<Tensor> {
    let (window, rows, size) = of.window(weight)?;
    let outputs = weight.rows();
    expect("conv dw", "dy", dy, &[of.images.len(), size, size, outputs])?;
    let mut sum = base;
    let all: Vec<Range<usize>> = pieces(rec.gpu(), of.unfolded, rows.len(), weight.cols()).collect();
    for piece in &all {
        let unfolded = unfold(rec, of.x, of.order, window, rows.start + piece.start..rows.start + piece.end)?;
        let slice;
        let dy = if all.len() == 1 {
            dy
        } else {
            let span = piece.start * outputs..piece.end * outputs;
            slice = slices::take(rec, dy, span, &[piece.len(), outputs])?;
            &slice
        };
        let extra = gemm::Epilogue { residual: sum.as_ref(), ..gemm::Epilogue::default() };
        sum = Some(gemm::matmul(rec, gemm::Layout::Tn, dy, &unfolded, &extra)?);
    }
    sum.ok_or_else(|| Error::invalid("conv dw: no pictures"))
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
