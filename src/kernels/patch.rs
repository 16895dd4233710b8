//! Patch embedding (`shaders/patch.wgsl`): unfold, GEMM with the convolution's weight, assemble.

use super::{expect, expect_matrix, gemm};
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader =
    Shader { name: "patch", source: include_str!("../../shaders/patch.wgsl"), access: &[Read, Read, Read, Write] };

pub(super) fn variants() -> Vec<Variant> {
    vec![Variant::new(&SHADER, "unfold", &[]), Variant::new(&SHADER, "assemble", &[])]
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
    let params = [batch, size, e.patch, grid, width, 0, 0, 0].map(|v| v as u32);
    let unfolded = rec.temp("unfold", &[batch * grid * grid, 3 * e.patch * e.patch])?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "unfold", &[]),
        label: "patch unfold",
        params: bytemuck::bytes_of(&params),
        bindings: &[pixels, pixels, pixels, &unfolded],
        grid: Grid::cover(unfolded.len(), 64),
        flops: 0.0,
        bytes: 8.0 * unfolded.len() as f64,
    })?;
    let patches = gemm::matmul(rec, gemm::Layout::Nt, &unfolded, &e.weight, &gemm::Epilogue::default())?;
    drop(unfolded);
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
