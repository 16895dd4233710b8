//! LayerNorm with frozen gain and shift (`shaders/layernorm.wgsl`).

use super::{expect, expect_matrix};
use crate::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};

static SHADER: Shader = Shader {
    name: "layernorm",
    source: concat!(include_str!("../../shaders/layernorm.wgsl"), include_str!("../../shaders/workgroup.wgsl")),
    access: &[Read, Read, Read, Read, Write, Write],
};

pub(super) fn variants() -> Vec<Variant> {
    vec![
        Variant::new(&SHADER, "forward", &[("BASE", 0)]),
        Variant::new(&SHADER, "backward", &[("BASE", 0)]),
        Variant::new(&SHADER, "backward", &[("BASE", 1)]),
    ]
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    eps: f32,
    pad: u32,
}

/// Output of [`forward`].
pub struct Normed {
    /// The normalised rows, of x's shape.
    pub y: Tensor,
    /// `[rows, 2]`: mean and reciprocal standard deviation of each row, for [`backward`].
    pub stats: Tensor,
}

/// y = (x − mean)/√(var + eps)·gain + shift over the last dimension; `gain` and `shift` are `[width]`.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn forward(rec: &mut Recorder, x: &Tensor, gain: &Tensor, shift: &Tensor, eps: f32) -> Result<Normed> {
    let (rows, width) = (x.rows(), x.cols());
    expect("layernorm", "gain", gain, &[width])?;
    expect("layernorm", "shift", shift, &[width])?;
    let y = rec.temp("layernorm", x.shape())?;
    let stats = rec.temp("layernorm stats", &[rows, 2])?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "forward", &[("BASE", 0)]),
        label: "layernorm",
        params: bytemuck::bytes_of(&Params { rows: rows as u32, width: width as u32, eps, pad: 0 }),
        bindings: &[x, gain, shift, x, &stats, &y],
        grid: Grid::Linear(rows),
        flops: 8.0 * x.len() as f64,
        bytes: 8.0 * x.len() as f64,
    })?;
    Ok(Normed { y, stats })
}

/// dx for a frozen norm, plus `base` where given: the gradient that reaches x past the norm.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn backward(
    rec: &mut Recorder,
    x: &Tensor,
    stats: &Tensor,
    gain: &Tensor,
    dy: &Tensor,
    base: Option<&Tensor>,
) -> Result<Tensor> {
    let (rows, width) = (x.rows(), x.cols());
    expect("layernorm dx", "stats", stats, &[rows, 2])?;
    expect("layernorm dx", "gain", gain, &[width])?;
    expect_matrix("layernorm dx", "dy", dy, rows, width)?;
    if let Some(base) = base {
        expect_matrix("layernorm dx", "base", base, rows, width)?;
    }
    // The shader shares its bindings with forward, where the statistics are written.
    let dx = rec.temp("layernorm dx", x.shape())?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "backward", &[("BASE", u32::from(base.is_some()))]),
        label: "layernorm dx",
        params: bytemuck::bytes_of(&Params { rows: rows as u32, width: width as u32, eps: 0.0, pad: 0 }),
        bindings: &[x, gain, dy, base.unwrap_or(x), stats, &dx],
        grid: Grid::Linear(rows),
        flops: 12.0 * x.len() as f64,
        bytes: 12.0 * x.len() as f64,
    })?;
    Ok(dx)
}
