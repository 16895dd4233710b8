//! SwiGLU (`shaders/swiglu.wgsl`; arXiv 2002.05202).

use super::expect_matrix;
use super::texts::shader;
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("swiglu");

pub(super) fn variants() -> Vec<Variant> {
    ["forward", "backward"].map(|entry| Variant::new(&SHADER, entry, &[])).to_vec()
}

/// y `[rows, width]` = SiLU(gate)·value, for x `[rows, 2·width]`, the gates first.
///
/// # Errors
/// An odd number of columns; out of memory.
pub fn forward(rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
    let (rows, width) = halves(x)?;
    let y = rec.temp("swiglu", &[rows, width])?;
    record(rec, ("forward", "swiglu"), (rows, width), &[x, &y])?;
    Ok(y)
}

/// dx `[rows, 2·width]` from what forward took and dy `[rows, width]`.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn backward(rec: &mut Recorder, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (rows, width) = halves(x)?;
    expect_matrix("swiglu dx", "dy", dy, rows, width)?;
    let dx = rec.temp("swiglu dx", x.shape())?;
    record(rec, ("backward", "swiglu dx"), (rows, width), &[x, dy, &dx])?;
    Ok(dx)
}

fn halves(x: &Tensor) -> Result<(usize, usize)> {
    match x.cols() {
        cols if cols > 0 && cols.is_multiple_of(2) => Ok((x.rows(), cols / 2)),
        cols => Err(Error::invalid(format!("swiglu: {cols} columns are no gates and values"))),
    }
}

fn record(
    rec: &mut Recorder,
    (entry, label): (&'static str, &'static str),
    (rows, width): (usize, usize),
    bindings: &[&Tensor],
) -> Result<()> {
    let n = (rows * width) as f64;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, entry, &[]),
        label,
        params: bytemuck::bytes_of(&[rows as u32, width as u32]),
        bindings,
        grid: Grid::cover(rows * width, 64),
        flops: 8.0 * n,
        bytes: 12.0 * n,
    })
}
