//! Normal numbers from a counter, and PiNI's noise on prompts and image features (`shaders/noise.wgsl`).

use std::ops::Range;

use super::texts::shader;
use super::{expect, expect_matrix};
use crate::gpu::{DType, Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("noise");

pub(super) fn variants() -> Vec<Variant> {
    ["normal", "text_apply", "text_backward", "image_apply", "image_backward"]
        .map(|entry| Variant::new(&SHADER, entry, &[]))
        .to_vec()
}

/// Fills `out` with standard normals of the given stream. `counter` is u32 `[4]`: seed (low, high word), step, nothing;
/// equal counters give equal bits on every device, so a step can be drawn again.
///
/// # Errors
/// A counter of another form.
pub fn normal(rec: &mut Recorder, counter: &Tensor, stream: u32, out: &Tensor) -> Result<()> {
    expect("normal", "counter", counter, &[4])?;
    if counter.dtype() != DType::U32 {
        return Err(Error::invalid("normal: the counter must be u32"));
    }
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "normal", &[]),
        label: "normal",
        params: bytemuck::bytes_of(&[out.len() as u32, 0, stream, 0]),
        bindings: &[counter, out],
        grid: Grid::cover(out.len(), 256),
        flops: 400.0 * out.len() as f64,
        bytes: 4.0 * out.len() as f64,
    })
}

/// y = x `[rows, width]` with spread·ε + mean added to the rows `noisy`; mean, spread and eps are `[noisy, width]`
/// (PiNI, text noise).
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn text_apply(
    rec: &mut Recorder,
    x: &Tensor,
    noisy: Range<usize>,
    mean: &Tensor,
    spread: &Tensor,
    eps: &Tensor,
) -> Result<Tensor> {
    let (rows, width) = (x.rows(), x.cols());
    let shape = [noisy.len(), width];
    expect("text noise", "mean", mean, &shape)?;
    expect("text noise", "spread", spread, &shape)?;
    expect("text noise", "eps", eps, &shape)?;
    if noisy.end > rows {
        return Err(Error::invalid(format!("text noise on rows {noisy:?} of {rows}")));
    }
    let y = rec.temp("noisy tokens", x.shape())?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "text_apply", &[]),
        label: "text noise",
        params: bytemuck::bytes_of(&[rows, width, noisy.start, noisy.len()].map(|v| v as u32)),
        bindings: &[x, mean, spread, eps, &y],
        grid: Grid::cover(x.len(), 64),
        flops: 2.0 * mean.len() as f64,
        bytes: 8.0 * x.len() as f64,
    })?;
    Ok(y)
}

/// Gradients (of mean, of spread) of [`text_apply`] from dy `[rows, width]`.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn text_backward(rec: &mut Recorder, dy: &Tensor, noisy: Range<usize>, eps: &Tensor) -> Result<(Tensor, Tensor)> {
    let (rows, width) = (dy.rows(), dy.cols());
    expect("text noise dx", "eps", eps, &[noisy.len(), width])?;
    if noisy.end > rows {
        return Err(Error::invalid(format!("text noise on rows {noisy:?} of {rows}")));
    }
    let dmean = rec.temp("dmean", eps.shape())?;
    let dspread = rec.temp("dspread", eps.shape())?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "text_backward", &[]),
        label: "text noise dx",
        params: bytemuck::bytes_of(&[rows, width, noisy.start, noisy.len()].map(|v| v as u32)),
        bindings: &[eps, dy, &dmean, &dspread],
        grid: Grid::cover(eps.len(), 64),
        flops: eps.len() as f64,
        bytes: 16.0 * eps.len() as f64,
    })?;
    Ok((dmean, dspread))
}

/// y `[rows·draws, width]`: row b·draws+d is `v[b]` + |`spread[b]`|·ε + `mean[b]`; v, mean, spread are `[rows, width]`, eps has
/// y's rows (PiNI, image noise).
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn image_apply(
    rec: &mut Recorder,
    v: &Tensor,
    draws: usize,
    mean: &Tensor,
    spread: &Tensor,
    eps: &Tensor,
) -> Result<Tensor> {
    let (rows, width) = (v.rows(), v.cols());
    expect_matrix("image noise", "mean", mean, rows, width)?;
    expect_matrix("image noise", "spread", spread, rows, width)?;
    expect_matrix("image noise", "eps", eps, rows * draws, width)?;
    let y = rec.temp("noisy features", &[rows * draws, width])?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "image_apply", &[]),
        label: "image noise",
        params: bytemuck::bytes_of(&[rows, width, 0, draws].map(|v| v as u32)),
        bindings: &[v, mean, spread, eps, &y],
        grid: Grid::cover(y.len(), 64),
        flops: 3.0 * y.len() as f64,
        bytes: 8.0 * y.len() as f64,
    })?;
    Ok(y)
}

/// Gradients (of mean, of the signed spread) of [`image_apply`] from dy `[rows·draws, width]`. The gradient of |spread|
/// at zero is zero, as in PyTorch. v gets none: PiNI stops it there.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn image_backward(
    rec: &mut Recorder,
    dy: &Tensor,
    draws: usize,
    spread: &Tensor,
    eps: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (rows, width) = (spread.rows(), spread.cols());
    expect_matrix("image noise dx", "dy", dy, rows * draws, width)?;
    expect_matrix("image noise dx", "eps", eps, rows * draws, width)?;
    let dmean = rec.temp("dmean", &[rows, width])?;
    let dspread = rec.temp("dspread", &[rows, width])?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "image_backward", &[]),
        label: "image noise dx",
        params: bytemuck::bytes_of(&[rows, width, 0, draws].map(|v| v as u32)),
        bindings: &[spread, eps, dy, &dmean, &dspread],
        grid: Grid::cover(spread.len(), 64),
        flops: 3.0 * dy.len() as f64,
        bytes: 8.0 * dy.len() as f64,
    })?;
    Ok((dmean, dspread))
}
