//! What a device can do at best (`shaders/peak.wgsl`): the two numbers that rooflines are measured against.

use super::expect;
use super::texts::shader;
use crate::Result;
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};

static SHADER: Shader = shader("peak");

pub(super) fn variants() -> Vec<Variant> {
    ["multiply", "copy"].map(|entry| Variant::new(&SHADER, entry, &[])).to_vec()
}

/// Chains × passes of a step of `multiply`, four lanes each, a product and a sum.
const FLOPS_A_STEP: f64 = 8.0 * 2.0 * 4.0 * 2.0;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    steps: u32,
    factor: f32,
}

/// Fused products and sums in registers, `steps` rounds in each of `invocations`; y `[invocations, 4]` is of no interest.
///
/// # Errors
/// Out of memory.
pub fn multiply(rec: &mut Recorder, invocations: usize, steps: usize) -> Result<Tensor> {
    let y = rec.temp("peak", &[invocations, 4])?;
    let params = Params { n: invocations as u32, steps: steps as u32, factor: 0.999 };
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "multiply", &[]),
        label: "peak multiply",
        params: bytemuck::bytes_of(&params),
        bindings: &[&y],
        grid: Grid::cover(invocations, 64),
        flops: FLOPS_A_STEP * invocations as f64 * steps as f64,
        bytes: 16.0 * invocations as f64,
    })?;
    Ok(y)
}

/// y = x `[n, 4]`.
///
/// # Errors
/// Another shape; out of memory.
pub fn copy(rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
    expect("copy", "x", x, &[x.rows(), 4])?;
    let y = rec.temp("copy", x.shape())?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "copy", &[]),
        label: "peak copy",
        params: bytemuck::bytes_of(&Params { n: x.rows() as u32, steps: 0, factor: 0.0 }),
        bindings: &[x, &y],
        grid: Grid::cover(x.rows(), 64),
        flops: 0.0,
        bytes: 8.0 * x.len() as f64,
    })?;
    Ok(y)
}
