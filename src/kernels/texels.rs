//! Matrices staged as texels, for kernels that read textures (`shaders/texels.wgsl`).

use std::ops::Range;

use super::texts::shader;
use crate::gpu::{DType, Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("texels");

pub(super) fn variants() -> Vec<Variant> {
    [("stage", true), ("stage", false), ("stage_transposed", false)].map(|(entry, four)| variant(entry, four)).to_vec()
}

/// A kernel, with or without reading four numbers at once.
fn variant(entry: &'static str, four: bool) -> Variant {
    Variant::new(&SHADER, entry, &[("FOUR", u32::from(four))])
}

/// Rows `rows` of the matrix x, whose leading dimensions are folded into rows, as texels `[rows, cols]`.
///
/// # Errors
/// Rows past the end; more of them than a texture has; out of memory.
pub fn stage_rows(rec: &mut Recorder, x: &Tensor, rows: Range<usize>) -> Result<Tensor> {
    if rows.is_empty() || rows.end > x.rows() {
        return Err(Error::invalid(format!("texels: rows {rows:?} of {}", x.rows())));
    }
    record(rec, "stage", x, [rows.len(), x.cols()], rows.start)
}

/// The matrix x `[rows, cols]` as texels `[rows, cols]`.
///
/// # Errors
/// A texture that would be too large; out of memory.
pub fn stage(rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
    stage_rows(rec, x, 0..x.rows())
}

/// The transpose of the matrix x `[rows, cols]` as texels `[cols, rows]`.
///
/// # Errors
/// A texture that would be too large; out of memory.
pub fn stage_transposed(rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
    record(rec, "stage_transposed", x, [x.cols(), x.rows()], 0)
}

fn record(rec: &mut Recorder, entry: &'static str, x: &Tensor, shape: [usize; 2], first: usize) -> Result<Tensor> {
    let y = rec.temp_of("texels", &shape, DType::Texels)?;
    let [rows, cols] = shape;
    let params = [rows, cols, first, 0].map(|v| v as u32);
    rec.dispatch(&Dispatch {
        variant: variant(entry, entry == "stage" && cols.is_multiple_of(4)),
        label: "stage texels",
        params: bytemuck::bytes_of(&params),
        bindings: &[x, &y],
        grid: Grid::cover(rows * cols.div_ceil(4), 64),
        flops: 0.0,
        bytes: 8.0 * (rows * cols) as f64,
    })?;
    Ok(y)
}
