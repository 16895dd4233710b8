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
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    batch: u32,
    size: u32,
    patch: u32,
    grid: u32,
    width: u32,
    first: u32,
    cell_row: u32,
    token_row: u32,
}

/// Pictures of one size, and the positions of their tokens.
#[derive(Clone, Copy)]
pub struct Pictures<'a> {
    /// `[batch, 3, R, R]`.
    pub pixels: &'a Tensor,
    /// `[tokens, width]`.
    pub position: &'a Tensor,
}

/// Where pictures of one size lie among those of all.
struct Part<'a> {
    of: Pictures<'a>,
    batch: usize,
    size: usize,
    grid: usize,
    /// The first row of their patches, and of their tokens.
    first: (usize, usize),
}

/// pixels `[batch,3,size,size]` → tokens `[batch, tokens, width]`: the class token first, where there is one, positions added.
/// Pixels beyond the last whole patch are ignored, as a convolution ignores them.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn forward(rec: &mut Recorder, pixels: &Tensor, e: &PatchEmbedding) -> Result<Tensor> {
    let tokens = forward_sizes(rec, &[Pictures { pixels, position: &e.position }], e)?;
    let batch = pixels.shape().first().copied().unwrap_or(0);
    tokens.reshape(&[batch, e.position.rows(), e.position.cols()])
}

/// As [`forward`], for pictures of several sizes, whose patches are multiplied at once: the tokens of all, picture after picture,
/// `[rows, width]`. The positions are those given, and not the embedding's own.
///
/// # Errors
/// No pictures; shapes that do not fit; out of memory.
pub fn forward_sizes(rec: &mut Recorder, sizes: &[Pictures<'_>], e: &PatchEmbedding) -> Result<Tensor> {
    let (width, depth) = (e.position.cols(), 3 * e.patch * e.patch);
    expect_matrix("patch", "weight", &e.weight, width, depth)?;
    let (mut cells, mut rows, mut parts) = (0, 0, Vec::with_capacity(sizes.len()));
    for of in sizes.iter().copied() {
        let shape = of.pixels.shape();
        let [batch, 3, size, size_x] = *shape else {
            return Err(Error::invalid(format!("patch: pixels have shape {shape:?}, expected [batch,3,R,R]")));
        };
        let grid = size.checked_div(e.patch).unwrap_or(0);
        if size != size_x || grid == 0 {
            return Err(Error::invalid(format!("patch: pictures of {size_x}×{size} with patches of {}", e.patch)));
        }
        parts.push(Part { of, batch, size, grid, first: (cells, rows) });
        cells += batch * grid * grid;
        rows += batch * (grid * grid + usize::from(e.class.is_some()));
    }
    let unfolded = rec.temp("unfold", &[cells, depth])?;
    for part in &parts {
        let [batch, size, patch, grid, width, cell_row] =
            [part.batch, part.size, e.patch, part.grid, width, part.first.0].map(|v| v as u32);
        let values = part.batch * part.grid * part.grid * depth;
        rec.dispatch(&Dispatch {
            variant: Variant::new(&SHADER, "unfold", &[]),
            label: "patch unfold",
            params: bytemuck::bytes_of(&Params { batch, size, patch, grid, width, cell_row, ..Params::default() }),
            bindings: &[part.of.pixels, &unfolded],
            grid: Grid::cover(values, 64),
            flops: 0.0,
            bytes: 8.0 * values as f64,
        })?;
    }
    let epilogue = gemm::Epilogue { bias: e.bias.as_ref(), ..gemm::Epilogue::default() };
    let patches = gemm::matmul(rec, gemm::Layout::Nt, &unfolded, &e.weight, &epilogue)?;
    let y = rec.temp("tokens", &[rows, width])?;
    for part in &parts {
        let Part { of, batch, grid, first, .. } = part;
        place(rec, (&patches, &y), (*batch, *grid, *first), e.class.as_ref(), of.position)?;
    }
    Ok(y)
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
    let batch = patches.rows() / cells.max(1);
    expect_matrix("patch", "patches", patches, batch * cells, width)?;
    let y = rec.temp("tokens", &[batch, cells + usize::from(class.is_some()), width])?;
    place(rec, (patches, &y), (batch, grid, (0, 0)), class, position)?;
    Ok(y)
}

/// Tokens of the patches of `batch` pictures, from and to the rows given.
fn place(
    rec: &mut Recorder,
    (patches, y): (&Tensor, &Tensor),
    (batch, grid, (cell_row, token_row)): (usize, usize, (usize, usize)),
    class: Option<&Tensor>,
    position: &Tensor,
) -> Result<()> {
    let (width, tokens) = (y.cols(), grid * grid + usize::from(class.is_some()));
    expect("patch", "position", position, &[tokens, width])?;
    if let Some(class) = class {
        expect("patch", "class", class, &[width])?;
    }
    let values = batch * tokens * width;
    let [batch, grid, width, cell_row, token_row] = [batch, grid, width, cell_row, token_row].map(|v| v as u32);
    let first = u32::from(class.is_some());
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "assemble", &[]),
        label: "patch assemble",
        params: bytemuck::bytes_of(&Params { batch, grid, width, first, cell_row, token_row, ..Params::default() }),
        // Without a class token nothing is read in its place.
        bindings: &[patches, class.unwrap_or(position), position, y],
        grid: Grid::cover(values, 64),
        flops: values as f64,
        bytes: 8.0 * values as f64,
    })
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
    let params =
        Params { batch: batch_u, size: size_u, patch, grid: grid_u, width: width_u, first, ..Params::default() };
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
