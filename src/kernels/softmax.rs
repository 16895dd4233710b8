//! Row-wise softmax (`shaders/softmax.wgsl`).

use super::expect;
use super::rowwise::{Rowwise, rowwise};
use crate::Result;
use crate::gpu::{Dispatch, Grid, Recorder, Tensor, Variant};

static SHADER: Rowwise = rowwise!("softmax");

pub(super) fn variants() -> Vec<Variant> {
    [SHADER.all("forward", &[]), SHADER.all("backward", &[])].concat()
}

/// softmax(x) over the last dimension.
///
/// # Errors
/// Out of memory.
pub fn forward(rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
    record(rec, "forward", "softmax", &[x])
}

/// dx of [`forward`], from its output `y` and dy.
///
/// # Errors
/// Shapes that differ; out of memory.
pub fn backward(rec: &mut Recorder, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    expect("softmax dx", "dy", dy, y.shape())?;
    record(rec, "backward", "softmax dx", &[y, dy])
}

fn record(rec: &mut Recorder, entry: &'static str, label: &'static str, from: &[&Tensor]) -> Result<Tensor> {
    let caps = *rec.gpu().capabilities();
    let x = from[0];
    let y = rec.temp(label, x.shape())?;
    rec.dispatch(&Dispatch {
        variant: SHADER.variant(&caps, entry, &[]),
        label,
        params: bytemuck::bytes_of(&[x.rows() as u32, x.cols() as u32]),
        bindings: &[from, &[&y]].concat(),
        grid: Grid::Linear(x.rows()),
        flops: 5.0 * x.len() as f64,
        bytes: 8.0 * x.len() as f64,
    })?;
    Ok(y)
}
