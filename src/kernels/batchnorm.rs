//! Batch norm in training and in use (`shaders/batchnorm.wgsl`). What is normalised are rows of channels, which may lie in
//! several tensors: a layer of many large pictures is more than one binding holds.

use super::texts::shader;
use super::{expect, reduce, slices};
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("batchnorm");

pub(super) fn variants() -> Vec<Variant> {
    let plain = ["collect", "finish", "recall", "slopes", "through"];
    let mut all: Vec<Variant> = plain.iter().map(|entry| Variant::new(&SHADER, entry, &form(false, false))).collect();
    for (relu, base) in [(false, false), (false, true), (true, false), (true, true)] {
        all.push(Variant::new(&SHADER, "apply", &form(relu, base)));
    }
    all
}

fn form(relu: bool, base: bool) -> [(&'static str, u32); 2] {
    [("RELU", u32::from(relu)), ("BASE", u32::from(base))]
}

/// Added to variances, as PyTorch does.
pub const EPS: f32 = 1e-5;
/// How much of a step's statistics goes into the running ones, as in PyTorch.
pub const MOMENTUM: f32 = 0.1;

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    channels: u32,
    chunk: u32,
    first: u32,
    number: f32,
    eps: f32,
    momentum: f32,
}

/// How rows are divided for sums: about as many chunks as rows of a chunk, so that neither step is long.
struct Chunks {
    rows: usize,
    /// Chunks of each tensor.
    of: Vec<usize>,
}

impl Chunks {
    fn new(parts: &[Tensor]) -> Chunks {
        let all: usize = parts.iter().map(Tensor::rows).sum();
        let rows = all.isqrt().max(1);
        Chunks { rows, of: parts.iter().map(|part| part.rows().div_ceil(rows)).collect() }
    }

    fn count(&self) -> usize {
        self.of.iter().sum()
    }

    /// The number of each tensor's first chunk.
    fn firsts(&self) -> impl Iterator<Item = usize> {
        self.of.iter().scan(0, |next, count| Some(std::mem::replace(next, *next + count)))
    }
}

fn channels(parts: &[Tensor]) -> Result<usize> {
    match parts.first() {
        Some(first) if parts.iter().all(|part| part.cols() == first.cols()) => Ok(first.cols()),
        _ => Err(Error::invalid("batch norm: no rows, or rows of several widths")),
    }
}

/// Statistics `[2, channels]` of all rows, mean and 1/√(variance + eps), for [`apply`] and [`backward`]. The running mean and
/// variance, `running [2, channels]`, take a share of [`MOMENTUM`] of them.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn statistics(rec: &mut Recorder, x: &[Tensor], running: &Tensor) -> Result<Tensor> {
    let channels = channels(x)?;
    expect("batch norm", "running", running, &[2, channels])?;
    let chunks = Chunks::new(x);
    let partial = rec.temp("batch norm partial", &[chunks.count(), 3, channels])?;
    for ((x, first), count) in x.iter().zip(chunks.firsts()).zip(&chunks.of) {
        let params = Params { first: first as u32, chunk: chunks.rows as u32, ..of(x) };
        dispatch(rec, "collect", "batch norm collect", &params, (&[x, &partial], count * channels), 5 * x.len())?;
    }
    let stats = rec.temp("batch norm stats", &[2, channels])?;
    let params = Params {
        rows: chunks.count() as u32,
        channels: channels as u32,
        eps: EPS,
        momentum: MOMENTUM,
        ..Params::default()
    };
    dispatch(rec, "finish", "batch norm finish", &params, (&[&partial, running, &stats], channels), 3 * partial.len())?;
    Ok(stats)
}

/// The same of the running statistics: what a trained network uses.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn recalled(rec: &mut Recorder, running: &Tensor) -> Result<Tensor> {
    let channels = running.cols();
    expect("batch norm", "running", running, &[2, channels])?;
    let stats = rec.temp("batch norm stats", &[2, channels])?;
    let params = Params { channels: channels as u32, eps: EPS, ..Params::default() };
    dispatch(rec, "recall", "batch norm recall", &params, (&[running, &stats], channels), running.len())?;
    Ok(stats)
}

/// What [`apply`] does beside normalising.
#[derive(Clone, Copy, Default)]
pub struct Extra<'a> {
    /// Of x's shape, added.
    pub base: Option<&'a Tensor>,
    /// Whether what is negative then becomes 0.
    pub relu: bool,
}

/// y = relu((x − mean)·rstd·gain + shift + base), of x's shape; gain and shift are `[channels]`.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn apply(
    rec: &mut Recorder,
    x: &Tensor,
    stats: &Tensor,
    (gain, shift): (&Tensor, &Tensor),
    Extra { base, relu }: Extra<'_>,
) -> Result<Tensor> {
    let channels = x.cols();
    expect("batch norm", "stats", stats, &[2, channels])?;
    expect("batch norm", "gain", gain, &[channels])?;
    expect("batch norm", "shift", shift, &[channels])?;
    if let Some(base) = base {
        expect("batch norm", "base", base, x.shape())?;
    }
    let y = rec.temp("batch norm", x.shape())?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "apply", &form(relu, base.is_some())),
        label: "batch norm",
        params: bytemuck::bytes_of(&of(x)),
        bindings: &[&[x, stats, gain, shift][..], base.as_slice(), &[&y]].concat(),
        grid: Grid::cover(x.len(), 64),
        flops: 6.0 * x.len() as f64,
        bytes: 8.0 * x.len() as f64,
    })?;
    Ok(y)
}

/// Gradients of [`apply`] on the statistics of x itself.
pub struct Grads {
    /// By x, tensor by tensor.
    pub x: Vec<Tensor>,
    /// By the gain, `[channels]`.
    pub gain: Tensor,
    /// By the shift, `[channels]`.
    pub shift: Tensor,
}

/// Gradients from dy, that of (x − mean)·rstd·gain + shift: through the statistics, too.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn backward(rec: &mut Recorder, x: &[Tensor], stats: &Tensor, gain: &Tensor, dy: &[Tensor]) -> Result<Grads> {
    let channels = channels(x)?;
    expect("batch norm dx", "stats", stats, &[2, channels])?;
    expect("batch norm dx", "gain", gain, &[channels])?;
    if x.len() != dy.len() {
        return Err(Error::invalid(format!("batch norm dx: {} tensors, {} gradients", x.len(), dy.len())));
    }
    for (x, dy) in x.iter().zip(dy) {
        expect("batch norm dx", "dy", dy, x.shape())?;
    }
    let chunks = Chunks::new(x);
    let partial = rec.temp("batch norm partial", &[chunks.count(), 2 * channels])?;
    for (((x, dy), first), count) in x.iter().zip(dy).zip(chunks.firsts()).zip(&chunks.of) {
        let params = Params { first: first as u32, chunk: chunks.rows as u32, ..of(x) };
        let bound: [&Tensor; 4] = [x, stats, dy, &partial];
        dispatch(rec, "slopes", "batch norm slopes", &params, (&bound, count * channels), 5 * x.len())?;
    }
    let sums = reduce::sum_rows(rec, &partial)?;
    let number = x.iter().map(Tensor::rows).sum::<usize>() as f32;
    let mut all = Vec::with_capacity(x.len());
    for (x, dy) in x.iter().zip(dy) {
        let dx = rec.temp("batch norm dx", x.shape())?;
        let params = Params { number, ..of(x) };
        let bound: [&Tensor; 6] = [x, stats, gain, dy, &sums, &dx];
        dispatch(rec, "through", "batch norm dx", &params, (&bound, x.len()), 8 * x.len())?;
        all.push(dx);
    }
    let shift = slices::take(rec, &sums, 0..channels, &[channels])?;
    let gain = slices::take(rec, &sums, channels..2 * channels, &[channels])?;
    Ok(Grads { x: all, gain, shift })
}

fn of(x: &Tensor) -> Params {
    Params { rows: x.rows() as u32, channels: x.cols() as u32, ..Params::default() }
}

fn dispatch(
    rec: &mut Recorder,
    entry: &'static str,
    label: &'static str,
    params: &Params,
    (bindings, invocations): (&[&Tensor], usize),
    flops: usize,
) -> Result<()> {
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, entry, &form(false, false)),
        label,
        params: bytemuck::bytes_of(params),
        bindings,
        grid: Grid::cover(invocations, 64),
        flops: flops as f64,
        bytes: bindings.iter().map(|tensor| tensor.bytes() as f64).sum(),
    })
}
