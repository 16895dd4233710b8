//! L2 normalisation of rows (`shaders/normalize.wgsl`).

use super::rowwise::{Rowwise, rowwise};
use super::{expect, expect_matrix};
use crate::Result;
use crate::gpu::{Dispatch, Grid, Recorder, Tensor, Variant};

static SHADER: Rowwise = rowwise!("normalize");

pub(super) fn variants() -> Vec<Variant> {
    [SHADER.all("forward", &[]), SHADER.all("backward", &[])].concat()
}

/// Output of [`forward`].
pub struct Unit {
    /// x/‖x‖, of x's shape.
    pub y: Tensor,
    /// `[rows]`: ‖x‖, for [`backward`].
    pub norms: Tensor,
}

/// Rows of length 1; a row of zeros stays zero.
///
/// # Errors
/// Out of memory.
pub fn forward(rec: &mut Recorder, x: &Tensor) -> Result<Unit> {
    let y = rec.temp("normalize", x.shape())?;
    let norms = rec.temp("norms", &[x.rows()])?;
    record(rec, "forward", "normalize", &[x, &norms, &y])?;
    Ok(Unit { y, norms })
}

/// dx from the input, the norms that forward kept, and dy.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn backward(rec: &mut Recorder, x: &Tensor, norms: &Tensor, dy: &Tensor) -> Result<Tensor> {
    expect("normalize dx", "norms", norms, &[x.rows()])?;
    expect_matrix("normalize dx", "dy", dy, x.rows(), x.cols())?;
    let dx = rec.temp("normalize dx", x.shape())?;
    record(rec, "backward", "normalize dx", &[x, dy, norms, &dx])?;
    Ok(dx)
}

fn record(rec: &mut Recorder, entry: &'static str, label: &'static str, bindings: &[&Tensor]) -> Result<()> {
    let (caps, x) = (*rec.gpu().capabilities(), bindings[0]);
    rec.dispatch(&Dispatch {
        variant: SHADER.variant(&caps, entry, &[]),
        label,
        params: bytemuck::bytes_of(&[x.rows() as u32, x.cols() as u32]),
        bindings,
        grid: Grid::Linear(x.rows()),
        flops: 4.0 * x.len() as f64,
        bytes: 8.0 * x.len() as f64,
    })
}
