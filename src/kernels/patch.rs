//! Patch embedding (`shaders/patch.wgsl`): unfold, GEMM with the convolution's weight, assemble.

use super::texts::shader;
use super::{expect, expect_matrix, gemm};
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("patch");

pub(super) fn variants() -> Vec<Variant> {
    ["unfold", "assemble", "strip", "fold"].map(|entry| Variant::new(&SHADER, entry, &[])).to_vec()
}

/// The frozen parameters of a patch embedding.
#[derive(Clone, Debug)]
pub struct PatchEmbedding {
    /// The convolution's weight, `[width, 3·patch²]` (channel, row, column); it has no bias.
    pub weight: Tensor,
    /// `[width]`.
    pub class: Tensor,
    /// `[grid²+1, width]`.
    pub position: Tensor,
    /// Side of a patch in pixels.
    pub patch: usize,
}

/// pixels `[batch,3,size,size]` → tokens `[batch, grid²+1, width]`: class token first, positions added.
/// Pixels beyond the last whole patch are ignored, as a convolution ignores them.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn forward(rec: &mut Recorder, pixels: &Tensor, e: &PatchEmbedding) -> Result<Tensor> {
    let [batch, 3, size, size_x] = *pixels.shape() else {
        return Err(Error::invalid(format!("patch: pixels have shape {:?}, expected [batch,3,R,R]", pixels.shape())));
    };
    let grid = size.checked_div(e.patch).unwrap_or(0);
    let width = e.class.len();
    if size != size_x || grid == 0 {
        return Err(Error::invalid(format!("patch: pictures of {size_x}×{size} with patches of {}", e.patch)));
    }
    expect_matrix("patch", "weight", &e.weight, width, 3 * e.patch * e.patch)?;
    expect("patch", "position", &e.position, &[grid * grid + 1, width])?;
    let params = [batch, size, e.patch, grid, width].map(|v| v as u32);
    let unfolded = rec.temp("unfold", &[batch * grid * grid, 3 * e.patch * e.patch])?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "unfold", &[]),
        label: "patch unfold",
        params: bytemuck::bytes_of(&params),
        bindings: &[pixels, &unfolded],
        grid: Grid::cover(unfolded.len(), 64),
        flops: 0.0,
        bytes: 8.0 * unfolded.len() as f64,
    })?;
    let patches = gemm::matmul(rec, gemm::Layout::Nt, &unfolded, &e.weight, &gemm::Epilogue::default())?;
    let y = rec.temp("tokens", &[batch, grid * grid + 1, width])?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "assemble", &[]),
        label: "patch assemble",
        params: bytemuck::bytes_of(&params),
        bindings: &[&patches, &e.class, &e.position, &y],
        grid: Grid::cover(y.len(), 64),
        flops: y.len() as f64,
        bytes: 8.0 * y.len() as f64,
    })?;
    Ok(y)
}

/// dpixels `[batch,3,size,size]` from dy `[batch, grid²+1, width]`, for a frozen embedding; pixels beyond the last whole
/// patch get zero.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn backward(rec: &mut Recorder, dy: &Tensor, e: &PatchEmbedding, size: usize) -> Result<Tensor> {
    let grid = size.checked_div(e.patch).unwrap_or(0);
    let width = e.class.len();
    let tokens = grid * grid + 1;
    if grid == 0 || !dy.rows().is_multiple_of(tokens) {
        let (shape, patch) = (dy.shape(), e.patch);
        return Err(Error::invalid(format!("patch dx: dy {shape:?} for pictures of {size} in patches of {patch}")));
    }
    let batch = dy.rows() / tokens;
    expect_matrix("patch dx", "dy", dy, batch * tokens, width)?;
    expect_matrix("patch dx", "weight", &e.weight, width, 3 * e.patch * e.patch)?;
    let params = [batch, size, e.patch, grid, width].map(|v| v as u32);
    let moved = |rec: &mut Recorder, entry: &'static str, label: &'static str, x: &Tensor, shape: &[usize]| {
        let y = rec.temp(label, shape)?;
        rec.dispatch(&Dispatch {
            variant: Variant::new(&SHADER, entry, &[]),
            label,
            params: bytemuck::bytes_of(&params),
            bindings: &[x, &y],
            grid: Grid::cover(y.len(), 64),
            flops: 0.0,
            bytes: 8.0 * y.len() as f64,
        })?;
        Ok::<_, Error>(y)
    };
    let dpatches = moved(rec, "strip", "patch strip", dy, &[batch * grid * grid, width])?;
    let dunfolded = gemm::matmul(rec, gemm::Layout::Nn, &dpatches, &e.weight, &gemm::Epilogue::default())?;
    moved(rec, "fold", "patch fold", &dunfolded, &[batch, 3, size, size])
}
