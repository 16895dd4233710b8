//! Counting right answers over a grid of α, β and γ (`shaders/search.wgsl`).

use super::expect;
use super::texts::shader;
use crate::gpu::{DType, Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("search");

/// Values of α that one dispatch takes at most: their counts are kept in workgroup memory.
pub const MAX_ALPHAS: usize = 511;

/// Values of γ that a workgroup takes: two vectors of four.
const GAMMAS: usize = 8;

/// Rooms for values of α that shaders are made for.
const ROOMS: [usize; 2] = [255, MAX_ALPHAS];

fn variant(alphas: usize, kl: bool) -> Variant {
    let room = if alphas <= ROOMS[0] { ROOMS[0] } else { ROOMS[1] };
    Variant::new(&SHADER, "main", &[("ALPHAS", room as u32), ("GAMMAS", GAMMAS as u32), ("KL", u32::from(kl))])
}

pub(super) fn variants() -> Vec<Variant> {
    ROOMS.iter().flat_map(|room| [variant(*room, false), variant(*room, true)]).collect()
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    classes: u32,
    alphas: u32,
    betas: u32,
    gammas: u32,
    reach: f32,
    low: f32,
    high: f32,
    nothing: u32,
}

/// Logits as the search takes them apart: base + γ·kl + α·cache\[β\].
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// `[rows, classes]`.
    pub base: &'a Tensor,
    /// `[betas, rows, classes]`.
    pub cache: &'a Tensor,
    /// `[rows, classes]`.
    pub kl: Option<&'a Tensor>,
}

/// u32 `[betas, gammas, alphas]`: rows whose largest logit is their label's, the first of equals winning. `labels` is u32
/// `[rows]`; `alphas` must ascend. Without a kl term the values of γ change nothing.
///
/// # Errors
/// Shapes that do not fit, more than [`MAX_ALPHAS`] values of α or some that do not ascend; out of memory.
pub fn count(rec: &mut Recorder, terms: Terms<'_>, labels: &Tensor, alphas: &[f32], gammas: &[f32]) -> Result<Tensor> {
    let Terms { base, cache, kl } = terms;
    let (rows, classes) = (base.rows(), base.cols());
    let betas = cache.len() / base.len();
    expect("search", "cache", cache, &[betas, rows, classes])?;
    expect("search", "labels", labels, &[rows])?;
    if let Some(kl) = kl {
        expect("search", "kl", kl, &[rows, classes])?;
    }
    if labels.dtype() != DType::U32 {
        return Err(Error::invalid("search: labels must be u32"));
    }
    if alphas.is_empty() || alphas.len() > MAX_ALPHAS || alphas.windows(2).any(|w| w[0] > w[1]) || gammas.is_empty() {
        return Err(Error::invalid(format!(
            "search: {} values of α and {} of γ; 1…{MAX_ALPHAS} ascending values of α and 1 or more of γ are needed",
            alphas.len(),
            gammas.len()
        )));
    }
    let gpu = rec.gpu().clone();
    let alphas_t = gpu.upload("alphas", alphas, &[alphas.len()])?;
    let gammas_t = gpu.upload("gammas", gammas, &[gammas.len()])?;
    let counts = rec.temp_of("counts", &[betas, gammas.len(), alphas.len()], DType::U32)?;
    let lines = betas * gammas.len();
    let params = Params {
        rows: rows as u32,
        classes: classes as u32,
        alphas: alphas.len() as u32,
        betas: betas as u32,
        gammas: gammas.len() as u32,
        reach: alphas.iter().fold(0.0, |m, a| m.max(a.abs())),
        low: alphas[0],
        high: alphas[alphas.len() - 1],
        nothing: 0,
    };
    rec.dispatch(&Dispatch {
        variant: variant(alphas.len(), kl.is_some()),
        label: "search",
        params: bytemuck::bytes_of(&params),
        bindings: &[&[base, cache][..], kl.as_slice(), &[labels, &alphas_t, &gammas_t, &counts]].concat(),
        grid: Grid::Linear(betas * gammas.len().div_ceil(GAMMAS)),
        flops: 10.0 * lines as f64 * base.len() as f64,
        bytes: 4.0 * (base.len() + cache.len() + counts.len()) as f64,
    })?;
    Ok(counts)
}
