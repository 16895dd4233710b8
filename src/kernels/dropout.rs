//! ReLU with dropout (`shaders/dropout.wgsl`).

use super::expect;
use super::texts::shader;
use crate::gpu::{DType, Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("dropout");

fn variant(entry: &'static str) -> Variant {
    Variant::new(&SHADER, entry, &[])
}

pub(super) fn variants() -> Vec<Variant> {
    ["mask", "forward", "backward"].map(variant).to_vec()
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    stream: u32,
    rate: f32,
}

/// Fills `out` with 0 (with probability `rate`) or 1/(1 − rate). `counter` is u32 `[4]` as in
/// [`super::noise::normal`]; equal counters give equal masks.
///
/// # Errors
/// A counter of another form, a rate outside of 0…1.
pub fn mask(rec: &mut Recorder, counter: &Tensor, stream: u32, rate: f32, out: &Tensor) -> Result<()> {
    expect("dropout", "counter", counter, &[4])?;
    if counter.dtype() != DType::U32 {
        return Err(Error::invalid("dropout: the counter must be u32"));
    }
    if !(0.0..1.0).contains(&rate) {
        return Err(Error::invalid(format!("dropout of {rate}; it must be at least 0 and below 1")));
    }
    rec.dispatch(&Dispatch {
        variant: variant("mask"),
        label: "dropout",
        params: bytemuck::bytes_of(&Params { n: out.len() as u32, stream, rate }),
        bindings: &[counter, out],
        grid: Grid::cover(out.len(), 256),
        flops: 30.0 * out.len() as f64,
        bytes: 4.0 * out.len() as f64,
    })
}

/// y = max(x, 0)·mask.
///
/// # Errors
/// Shapes that differ; out of memory.
pub fn relu(rec: &mut Recorder, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    record(rec, "forward", "dropout relu", &[x, mask])
}

/// dx of [`relu`] from its input and dy.
///
/// # Errors
/// Shapes that differ; out of memory.
pub fn relu_backward(rec: &mut Recorder, x: &Tensor, dy: &Tensor, mask: &Tensor) -> Result<Tensor> {
    record(rec, "backward", "dropout relu dx", &[x, dy, mask])
}

fn record(rec: &mut Recorder, entry: &'static str, label: &'static str, from: &[&Tensor]) -> Result<Tensor> {
    let x = from[0];
    for other in from {
        expect(label, "dy or mask", other, x.shape())?;
    }
    let y = rec.temp(label, x.shape())?;
    rec.dispatch(&Dispatch {
        variant: variant(entry),
        label,
        params: bytemuck::bytes_of(&Params { n: x.len() as u32, stream: 0, rate: 0.0 }),
        bindings: &[from, &[&y]].concat(),
        grid: Grid::cover(x.len(), 64),
        flops: 2.0 * x.len() as f64,
        bytes: 12.0 * x.len() as f64,
    })?;
    Ok(y)
}
