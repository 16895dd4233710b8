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
    /// The convolution's weight, `[width, 3·patch²]` (channel, row, column).
    pub weight: Tensor,
    /// Its bias `[width]`, where it has one.
    pub bias: Option<Tensor>,
    /// The class token `[width]`, where there is one.
    pub class: Option<Tensor>,
    /// `[tokens, width]`.
    pub position: Tensor,
    /// Side of a patch in pixels.
    pub patch: usize,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    batch: u32,
    size: u32,
    patch: u32,
    grid: u32,
    width: u32,
    first: u32,
}

/// pixels `[batch,3,size,size]` → tokens `[batch, tokens, width]`: the class token first, where there is one, positions added.
/// Pixels beyond the last whole patch are ignored, as a convolution ignores them.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn forward(rec: &mut Recorder, pixels: &Tensor, e: &PatchEmbedding) -> Result<Tensor> {
    let [batch, 3, size, size_x] = *pixels.shape() else {
        return Err(Error::invalid(format!("patch: pixels have shape {:?}, expected [batch,3,R,R]", pixels.shape())));
    };
    let grid = size.checked_div(e.patch).unwrap_or(0);
    let width = e.position.cols();
    if size != size_x || grid == 0 {
        return Err(Error::invalid(format!("patch: pictures of {size_x}×{size} with patches of {}", e.patch)));
    }
    expect_matrix("patch", "weight", &e.weight, width, 3 * e.patch * e.patch)?;
    let [batch_u, size, patch, grid_u, width_u] = [batch, size, e.patch, grid, width].map(|v| v as u32);
    let params = Params { batch: batch_u, size, patch, grid: grid_u, width: width_u, first: 0 };
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
    let epilogue = gemm::Epilogue { bias: e.bias.as_ref(), ..gemm::Epilogue::default() };
    let patches = gemm::matmul(rec, gemm::Layout::Nt, &unfolded, &e.weight, &epilogue)?;
    assemble(rec, &patches, grid, e.class.as_ref(), &e.position)
}

/// Patches `[batch·grid², width]` → tokens `[batch, tokens, width]`, as [`forward`] does at its end.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn assemble(
    rec: &mut Recorder,
    patches: &Tensor,
    grid: usize,
    class: Option<&Tensor>,
    position: &Tensor,
) -> Result<Tensor> {
    let (cells, width) = (grid * grid, position.cols());
    let tokens = cells + usize::from(class.is_some());
    expect("patch", "position", position, &[tokens, width])?;
    if let Some(class) = class {
        expect("patch", "class", class, &[width])?;
    }
    let batch = patches.rows() / cells.max(1);
    expect_matrix("patch", "patches", patches, batch * cells, width)?;
    let [batch_u, grid, width_u] = [batch, grid, width].map(|v| v as u32);
    let first = u32::from(class.is_some());
    let params = Params { batch: batch_u, size: 0, patch: 0, grid, width: width_u, first };
    let y = rec.temp("tokens", &[batch, tokens, width])?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "assemble", &[]),
        label: "patch assemble",
        params: bytemuck::bytes_of(&params),
        // Without a class token nothing is read in its place.
        bindings: &[patches, class.unwrap_or(position), position, &y],
        grid: Grid::cover(y.len(), 64),
        flops: y.len() as f64,
        bytes: 8.0 * y.len() as f64,
    })?;
    Ok(y)
}

/// dpixels `[batch,3,size,size]` from dy `[batch, tokens, width]`, for a frozen embedding; pixels beyond the last whole
/// patch get zero.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn backward(rec: &mut Recorder, dy: &Tensor, e: &PatchEmbedding, size: usize) -> Result<Tensor> {
    let grid = size.checked_div(e.patch).unwrap_or(0);
    let (width, first) = (e.position.cols(), usize::from(e.class.is_some()));
    let tokens = grid * grid + first;
    if grid == 0 || !dy.rows().is_multiple_of(tokens) {
        let (shape, patch) = (dy.shape(), e.patch);
        return Err(Error::invalid(format!("patch dx: dy {shape:?} for pictures of {size} in patches of {patch}")));
    }
    let batch = dy.rows() / tokens;
    expect_matrix("patch dx", "dy", dy, batch * tokens, width)?;
    expect_matrix("patch dx", "weight", &e.weight, width, 3 * e.patch * e.patch)?;
    let [batch_u, size_u, patch, grid_u, width_u, first] = [batch, size, e.patch, grid, width, first].map(|v| v as u32);
    let params = Params { batch: batch_u, size: size_u, patch, grid: grid_u, width: width_u, first };
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
