//! Tip-Adapter's cache term without the affinity matrix (`shaders/affinity.wgsl`).

use super::expect;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{DType, Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = Shader {
    name: "affinity",
    source: include_str!("../../shaders/affinity.wgsl"),
    access: &[Read, Read, Read, Read, Read, Write],
};

/// β that one dispatch serves at most: more would not stay in registers.
pub const MAX_BETAS: usize = 20;

fn variant(betas: usize, base: bool) -> Variant {
    Variant::new(&SHADER, "main", &[("BETAS", betas as u32), ("BASE", u32::from(base))])
}

pub(super) fn variants() -> Vec<Variant> {
    vec![variant(1, false), variant(1, true), variant(7, false), variant(11, false), variant(MAX_BETAS, false)]
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    queries: u32,
    classes: u32,
    width: u32,
    scale: f32,
}

/// The keys that a cache term sums over, sorted by class.
#[derive(Clone, Debug)]
pub struct Keys {
    /// `[n, width]`, rows of length 1, all of class 0 first, then class 1, …
    pub keys: Tensor,
    /// u32 `[classes+1]`: class c's keys are rows `starts[c]…starts[c+1]`.
    pub starts: Tensor,
}

/// y `[betas, queries, classes]` = scale·Σ over each class's keys of exp(−β(1 − f·g)), plus `base` `[queries, classes]`
/// when given (one β only). `f` `[queries, width]` has rows of length 1; `betas` is `[1…20]`. The `[queries, n]` affinity is
/// never written (Tip-Adapter, arXiv 2207.09519, eq. 5–6).
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn cache_term(
    rec: &mut Recorder,
    f: &Tensor,
    cache: &Keys,
    betas: &Tensor,
    scale: f32,
    base: Option<&Tensor>,
) -> Result<Tensor> {
    let (queries, width, count) = (f.rows(), f.cols(), betas.len());
    let classes = cache.starts.len().saturating_sub(1);
    if cache.keys.cols() != width || cache.starts.dtype() != DType::U32 || classes == 0 {
        return Err(Error::invalid(format!(
            "affinity: queries {:?}, keys {:?}, starts {:?} do not fit each other",
            f.shape(),
            cache.keys.shape(),
            cache.starts.shape()
        )));
    }
    if count > MAX_BETAS || (base.is_some() && count != 1) {
        return Err(Error::invalid(format!("affinity: {count} betas; at most {MAX_BETAS}, and one with a base")));
    }
    if let Some(base) = base {
        expect("affinity", "base", base, &[queries, classes])?;
    }
    let y = rec.temp("cache term", &[count, queries, classes])?;
    let params = Params { queries: queries as u32, classes: classes as u32, width: width as u32, scale };
    let pairs = queries as f64 * cache.keys.rows() as f64;
    rec.dispatch(&Dispatch {
        variant: variant(count, base.is_some()),
        label: "affinity",
        params: bytemuck::bytes_of(&params),
        bindings: &[f, &cache.keys, &cache.starts, betas, base.unwrap_or(f), &y],
        grid: Grid::Cube(queries.div_ceil(32), classes, 1),
        flops: pairs * (2.0 * width as f64 + 3.0 * count as f64),
        bytes: 4.0 * (f.len() + cache.keys.len() + y.len()) as f64,
    })?;
    Ok(y)
}
