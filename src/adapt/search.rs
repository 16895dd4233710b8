//! Choosing Tip-Adapter's α and β on validation data.
//!
//! β enters through the cache terms only and α is a factor on them, so a grid costs one pass over the cache for up to
//! 20 values of β and one counting kernel, whatever the number of points (see ARCHITECTURE.md).

use super::tip::{Cache, TipParams};
use super::zero_shot::Classifier;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::affinity::MAX_BETAS;
use crate::kernels::{normalize, search};
use crate::{Error, Result};

/// Which loop is the outer one: it decides which of several equally good points comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// α outermost, then β: the grids of the intra-modal-overlap paper.
    AlphaBeta,
    /// β outermost, then α: Tip-Adapter's own search.
    BetaAlpha,
}

/// A grid over α and β.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Values of α.
    pub alphas: Vec<f64>,
    /// Values of β.
    pub betas: Vec<f64>,
    /// Loop order.
    pub order: Order,
}

/// `n` values from `lo` to `hi`, both included, as NumPy's linspace.
pub fn linspace(lo: f64, hi: f64, n: usize) -> Vec<f64> {
    let step = (hi - lo) / n.saturating_sub(1).max(1) as f64;
    (0..n).map(|i| if i > 0 && i + 1 == n { hi } else { lo + i as f64 * step }).collect()
}

impl Grid {
    /// The grid used when none is asked for: α 0…50 in 26 steps, β 0…20 in 11. Wide enough for logit scales from 20
    /// to 100; it holds α = 0, so "the cache does not help" is a legal answer.
    pub fn standard() -> Grid {
        Grid { alphas: linspace(0.0, 50.0, 26), betas: linspace(0.0, 20.0, 11), order: Order::AlphaBeta }
    }

    /// Tip-Adapter's own grid (its code's `search_hp`): β in `steps.0` steps from 0.1 towards `tops.0`, α in `steps.1`
    /// steps from 0.1 towards `tops.1`; the tops themselves are never reached.
    pub fn tip_adapter(tops: (f64, f64), steps: (usize, usize)) -> Grid {
        let values = |top: f64, n: usize| (0..n).map(|i| i as f64 * (top - 0.1) / n as f64 + 0.1).collect();
        Grid { alphas: values(tops.1, steps.1), betas: values(tops.0, steps.0), order: Order::BetaAlpha }
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The first point that reaches the highest count.
    pub params: TipParams,
    /// Right rows there.
    pub correct: u32,
    /// Right rows at every point, in the grid's loop order.
    pub counts: Vec<u32>,
}

/// Counts right rows at every point. `base` `[n, classes]` are the zero-shot logits on the GPU, `f` `[n, D]` the normalised
/// features that meet the cache.
///
/// # Errors
/// [`Error::Invalid`] for an empty grid, no rows, or a label out of range; out of memory.
pub fn search(gpu: &Gpu, cache: &Cache, base: &Tensor, f: &Tensor, labels: &[u32], grid: &Grid) -> Result<Found> {
    if grid.alphas.is_empty() || grid.betas.is_empty() || labels.len() != base.rows() {
        return Err(Error::invalid(format!(
            "search over {}×{} points with {} labels for {} rows",
            grid.alphas.len(),
            grid.betas.len(),
            labels.len(),
            base.rows()
        )));
    }
    if let Some(label) = labels.iter().find(|l| **l as usize >= base.cols()) {
        return Err(Error::invalid(format!("label {label} in the validation data, of {} classes", base.cols())));
    }
    let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<_>>();
    let alphas = gpu.upload("alphas", &narrow(&grid.alphas), &[grid.alphas.len()])?;
    let labels = gpu.upload("labels", labels, &[labels.len()])?;
    // [beta][alpha]
    let mut by_beta: Vec<u32> = Vec::with_capacity(grid.alphas.len() * grid.betas.len());
    // As many βs at once as one kernel serves and one binding holds.
    let fits = (gpu.max_binding() / (4 * base.len() as u64)).clamp(1, MAX_BETAS as u64) as usize;
    for chunk in grid.betas.chunks(fits) {
        let betas = gpu.upload("betas", &narrow(chunk), &[chunk.len()])?;
        let mut rec = Recorder::new(gpu);
        let terms = cache.record_terms(&mut rec, f, &betas)?;
        let counts = search::count(&mut rec, base, &terms, &labels, &alphas)?;
        rec.finish()?.run()?;
        by_beta.extend(gpu.read::<u32>(&counts)?);
    }
    let (na, nb) = (grid.alphas.len(), grid.betas.len());
    let point = |i: usize| match grid.order {
        Order::AlphaBeta => (i / nb, i % nb),
        Order::BetaAlpha => (i % na, i / na),
    };
    let counts: Vec<u32> = (0..na * nb).map(|i| by_beta[point(i).1 * na + point(i).0]).collect();
    let mut best = 0;
    for (i, count) in counts.iter().enumerate() {
        if *count > counts[best] {
            best = i;
        }
    }
    let (a, b) = point(best);
    let params = TipParams { alpha: grid.alphas[a], beta: grid.betas[b] };
    Ok(Found { params, correct: counts[best], counts })
}

/// Chooses α and β over [`Grid::standard`] on validation pictures, given their un-normalised features `[n, D]` and
/// labels. `None` when there are none to choose on: [`TipParams::INITIAL`] is the authors' starting point.
///
/// # Errors
/// As [`search()`].
pub fn choose(
    gpu: &Gpu,
    classifier: &Classifier,
    cache: &Cache,
    features: &[f32],
    labels: &[u32],
) -> Result<Option<Found>> {
    if labels.is_empty() {
        return Ok(None);
    }
    let raw = gpu.upload("validation features", features, &[labels.len(), features.len() / labels.len()])?;
    let mut rec = Recorder::new(gpu);
    let f = normalize::forward(&mut rec, &raw)?.y;
    let base = classifier.record(&mut rec, &f)?;
    rec.finish()?.run()?;
    search(gpu, cache, &base, &f, labels, &Grid::standard()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::{Grid, Order, linspace};

    #[test]
    fn grids_are_the_papers() {
        let values = linspace(0.0, 20.0, 200);
        assert_eq!((values.len(), values[199]), (200, 20.0));
        assert!((values[193] - 19.396984924623116).abs() < 1e-12);
        assert_eq!(linspace(3.0, 9.0, 1), [3.0]);
        let grid = Grid::tip_adapter((7.0, 3.0), (200, 20));
        assert_eq!((grid.order, grid.betas.len(), grid.alphas.len()), (Order::BetaAlpha, 200, 20));
        assert!((grid.betas[199] - 6.9655).abs() < 1e-9 && (grid.alphas[19] - 2.855).abs() < 1e-9);
        assert_eq!((grid.betas[0], grid.alphas[0]), (0.1, 0.1));
    }
}
