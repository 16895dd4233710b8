//! Tip-X's KL divergences (`shaders/divergence.wgsl`).

use super::gemm::{Epilogue, Layout, matmul};
use super::rowwise::{Rowwise, rowwise};
use super::{expect, expect_matrix};
use crate::gpu::{DType, Dispatch, Grid, Recorder, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Rowwise = rowwise!("divergence");

pub(super) fn variants() -> Vec<Variant> {
    [("rows", 0), ("class_sums", 0), ("term", 0), ("term", 1)]
        .map(|(e, base)| SHADER.all(e, &[("BASE", base)]))
        .concat()
}

fn variant(rec: &Recorder, entry: &'static str, base: bool) -> Variant {
    SHADER.variant(rec.gpu().capabilities(), entry, &[("BASE", u32::from(base))])
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    slope: f32,
    low: f32,
    floor: f32,
    gamma: f32,
}

impl Params {
    fn new(rows: usize, width: usize) -> Params {
        Params { rows: rows as u32, width: width as u32, slope: 0.0, low: 0.0, floor: 0.0, gamma: 0.0 }
    }
}

/// Class distributions of some rows, in the form that KL divergences are made of.
#[derive(Clone, Debug)]
pub struct Distributions {
    /// `[rows, classes]`: logits less their mean.
    pub centred: Tensor,
    /// `[rows, classes]`: probabilities less 1/classes.
    pub shares: Tensor,
    /// `[rows, 2]`: Σ p·z − m and m = log mean exp z, z the centred logits.
    pub stats: Tensor,
}

/// The distributions softmax(x) of logits x `[rows, classes]`.
///
/// # Errors
/// Out of memory.
pub fn distributions(rec: &mut Recorder, x: &Tensor) -> Result<Distributions> {
    let (rows, width) = (x.rows(), x.cols());
    let centred = rec.temp("centred logits", &[rows, width])?;
    let shares = rec.temp("probabilities", &[rows, width])?;
    let stats = rec.temp("divergence", &[rows, 2])?;
    rec.dispatch(&Dispatch {
        variant: variant(rec, "rows", false),
        label: "distributions",
        params: bytemuck::bytes_of(&Params::new(rows, width)),
        bindings: &[x, &centred, &shares, &stats],
        grid: Grid::Linear(rows),
        flops: 40.0 * x.len() as f64,
        bytes: 12.0 * x.len() as f64,
    })?;
    Ok(Distributions { centred, shares, stats })
}

/// −p·z_qᵀ + m_q `[queries, keys]`: KL(query ‖ key) but for the queries' own part, which is `queries.stats` `[.., 0]` and
/// the same along a row. One product.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn matrix(rec: &mut Recorder, queries: &Distributions, keys: &Distributions, key_part: &Tensor) -> Result<Tensor> {
    let epilogue = Epilogue { alpha: -1.0, bias: Some(key_part), ..Epilogue::default() };
    matmul(rec, Layout::Nt, &queries.shares, &keys.centred, &epilogue)
}

/// y `[classes, width]`: sums over each class's rows of x `[n, width]`, which are sorted by class. `starts` is u32
/// `[classes+1]` as in [`super::affinity::Keys`].
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn class_sums(rec: &mut Recorder, x: &Tensor, starts: &Tensor) -> Result<Tensor> {
    let classes = starts.len().saturating_sub(1);
    if starts.dtype() != DType::U32 || classes == 0 {
        return Err(Error::invalid(format!("class sums: starts {:?} must be u32, two or more", starts.shape())));
    }
    let y = rec.temp("class sums", &[classes, x.cols()])?;
    rec.dispatch(&Dispatch {
        variant: variant(rec, "class_sums", false),
        label: "class sums",
        params: bytemuck::bytes_of(&Params::new(classes, x.cols())),
        bindings: &[x, starts, &y],
        grid: Grid::cover(y.len(), Rowwise::lanes(rec.gpu().capabilities())),
        flops: x.len() as f64,
        bytes: 4.0 * (x.len() + y.len()) as f64,
    })?;
    Ok(y)
}

/// A cache's keys, summed over each class: all that ψ's class sums need of them.
#[derive(Clone, Debug)]
pub struct ClassSums {
    /// `[classes, classes]`: sums of the keys' centred logits.
    pub centred: Tensor,
    /// `[classes, 2]`: sums of their statistics.
    pub stats: Tensor,
    /// u32 `[classes+1]`.
    pub starts: Tensor,
}

/// ψ = slope·(KL − low) + floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rescale {
    /// Range of ψ over the range of the divergences.
    pub slope: f32,
    /// Smallest divergence.
    pub low: f32,
    /// Smallest ψ.
    pub floor: f32,
}

/// γ·(−ψ)·L `[queries, classes]`, plus `base` where given: for each class minus the sum of ψ over its keys. Linear in the divergences, so one product
/// with the keys' class sums gives it, and the matrix of all keys is never made.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn class_term(
    rec: &mut Recorder,
    queries: &Distributions,
    keys: &ClassSums,
    psi: Rescale,
    gamma: f32,
    base: Option<&Tensor>,
) -> Result<Tensor> {
    let (rows, classes) = (queries.shares.rows(), queries.shares.cols());
    expect_matrix("divergence", "class sums", &keys.centred, classes, classes)?;
    expect("divergence", "class sums' statistics", &keys.stats, &[classes, 2])?;
    expect("divergence", "starts", &keys.starts, &[classes + 1])?;
    if let Some(base) = base {
        expect("divergence", "base", base, &[rows, classes])?;
    }
    let product = matmul(rec, Layout::Nt, &queries.shares, &keys.centred, &Epilogue::default())?;
    let y = rec.temp("divergence term", &[rows, classes])?;
    let params = Params { slope: psi.slope, low: psi.low, floor: psi.floor, gamma, ..Params::new(rows, classes) };
    rec.dispatch(&Dispatch {
        variant: variant(rec, "term", base.is_some()),
        label: "divergence term",
        params: bytemuck::bytes_of(&params),
        bindings: &[&[&product, &queries.stats, &keys.stats, &keys.starts][..], base.as_slice(), &[&y]].concat(),
        grid: Grid::cover(y.len(), Rowwise::lanes(rec.gpu().capabilities())),
        flops: 6.0 * y.len() as f64,
        bytes: 8.0 * y.len() as f64,
    })?;
    Ok(y)
}
