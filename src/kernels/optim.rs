//! Optimizer steps (`shaders/optim.wgsl`).

use super::expect;
use crate::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};

static SHADER: Shader =
    Shader { name: "optim", source: include_str!("../../shaders/optim.wgsl"), access: &[Read, Read, Write, Write] };

pub(super) fn variants() -> Vec<Variant> {
    vec![Variant::new(&SHADER, "sgd", &[])]
}

/// One SGD step on `w` in place, with momentum and weight decay as PyTorch. `hyper` `[4]` holds learning rate,
/// momentum, weight decay and nothing; `velocity` has w's shape and is zero before the first step.
///
/// # Errors
/// Shapes that differ.
pub fn sgd(rec: &mut Recorder, hyper: &Tensor, grad: &Tensor, velocity: &Tensor, w: &Tensor) -> Result<()> {
    expect("sgd", "hyper", hyper, &[4])?;
    expect("sgd", "grad", grad, w.shape())?;
    expect("sgd", "velocity", velocity, w.shape())?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "sgd", &[]),
        label: "sgd",
        params: bytemuck::bytes_of(&[w.len() as u32, 0, 0, 0]),
        bindings: &[hyper, grad, velocity, w],
        grid: Grid::cover(w.len(), 64),
        flops: 6.0 * w.len() as f64,
        bytes: 20.0 * w.len() as f64,
    })
}
