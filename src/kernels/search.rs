//! Counting right answers over a grid of α and β (`shaders/search.wgsl`).

use super::expect;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{DType, Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = Shader {
    name: "search",
    source: concat!(include_str!("../../shaders/search.wgsl"), include_str!("../../shaders/workgroup.wgsl")),
    access: &[Read, Read, Read, Read, Write],
};

pub(super) fn variants() -> Vec<Variant> {
    vec![Variant::new(&SHADER, "main", &[])]
}

/// u32 `[betas, alphas]`: rows whose largest logit base + α·`cache[β]` is their label's, the first of equals winning.
/// `base` is `[rows, classes]`, `cache` `[betas, rows, classes]`, `labels` u32 `[rows]`.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn count(rec: &mut Recorder, base: &Tensor, cache: &Tensor, labels: &Tensor, alphas: &Tensor) -> Result<Tensor> {
    let (rows, classes) = (base.rows(), base.cols());
    let betas = cache.len() / base.len();
    expect("search", "cache", cache, &[betas, rows, classes])?;
    expect("search", "labels", labels, &[rows])?;
    if labels.dtype() != DType::U32 {
        return Err(Error::invalid("search: labels must be u32"));
    }
    let counts = rec.temp_u32("counts", &[betas, alphas.len()])?;
    let points = betas * alphas.len();
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "main", &[]),
        label: "search",
        params: bytemuck::bytes_of(&[rows, classes, alphas.len(), betas].map(|v| v as u32)),
        bindings: &[base, cache, labels, alphas, &counts],
        grid: Grid::Linear(points),
        flops: 3.0 * points as f64 * base.len() as f64,
        bytes: 4.0 * (base.len() + cache.len()) as f64,
    })?;
    Ok(counts)
}
