//! The measure of intra-modal overlap (arXiv 2409.11338): the cosine similarities of all pairs of pictures of one class,
//! those of all pairs of different classes, as two histograms, and the area that both cover.
//!
//! Pairs are counted on the GPU, a block of the similarity matrix at a time, so memory does not grow with their number.

use crate::gpu::{Gpu, Recorder};
use crate::kernels::gemm::{Epilogue, Layout, matmul};
pub use crate::kernels::pairs::BINS;
use crate::kernels::{normalize, pairs};
use crate::{Error, Result};

/// Features on one side of a block of the similarity matrix: two sides make 16 MB.
const BLOCK: usize = 2048;

/// Histograms of similarities over [`BINS`] equal bins from −1 to 1, and what follows from them.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Similarities {
    /// Pairs of one class, by bin.
    pub same: Vec<u64>,
    /// Pairs of different classes, by bin.
    pub different: Vec<u64>,
    /// Total variance of the normalised features: the mean squared distance from their mean, 1 − ‖mean‖².
    pub variance: f64,
}

impl Similarities {
    /// Pairs of a histogram.
    fn total(histogram: &[u64]) -> f64 {
        histogram.iter().fold(0u64, |sum, count| sum.saturating_add(*count)).max(1) as f64
    }

    /// The histograms' shared area when each has area 1: 0 when no similarity occurs in both, 1 when they are equal.
    pub fn overlap(&self) -> f64 {
        let (same, different) = (Self::total(&self.same), Self::total(&self.different));
        self.same.iter().zip(&self.different).map(|(s, d)| (*s as f64 / same).min(*d as f64 / different)).sum()
    }

    /// Mean similarity of a histogram's pairs, from the bins' middles.
    pub fn mean(histogram: &[u64]) -> f64 {
        let total = Self::total(histogram);
        let middle = |bin: usize| -1.0 + (2.0 * bin as f64 + 1.0) / BINS as f64;
        histogram.iter().enumerate().map(|(bin, count)| *count as f64 * middle(bin)).sum::<f64>() / total
    }
}

/// Measures un-normalised features `[n, width]` with their labels. `done` is called with the share of the work done so
/// far.
///
/// # Errors
/// [`Error::Invalid`] for rows that are not finite or no labels for some, for fewer than two classes, or when no class has
/// two pictures; a device that fails.
pub fn measure(
    gpu: &Gpu,
    features: &[f32],
    labels: &[u32],
    width: usize,
    done: &mut dyn FnMut(f64),
) -> Result<Similarities> {
    let n = super::check_rows("features", features, width)?;
    super::check_labels("features", labels, n, u32::MAX as usize)?;
    let mut classes: std::collections::BTreeMap<u32, usize> = std::collections::BTreeMap::new();
    for label in labels {
        *classes.entry(*label).or_default() += 1;
    }
    if classes.len() < 2 || classes.values().all(|count| *count < 2) {
        return Err(Error::invalid(format!(
            "overlap needs two classes or more and two pictures or more of one of them; there are {n} of {} classes",
            classes.len()
        )));
    }
    let mut blocks = Vec::new();
    let mut sum = vec![0.0f64; width];
    for first in (0..n).step_by(BLOCK) {
        let rows = first..(first + BLOCK).min(n);
        let raw = gpu.upload("features", &features[rows.start * width..rows.end * width], &[rows.len(), width])?;
        let mut rec = Recorder::new(gpu);
        let unit = normalize::forward(&mut rec, &raw)?.y;
        rec.finish()?.run()?;
        for row in gpu.read::<f32>(&unit)?.chunks_exact(width) {
            row.iter().zip(&mut sum).for_each(|(v, s)| *s += f64::from(*v));
        }
        blocks.push((first, unit, gpu.upload("labels", &labels[rows.clone()], &[rows.len()])?));
    }
    let variance = 1.0 - sum.iter().map(|s| (s / n as f64).powi(2)).sum::<f64>();
    let mut total = vec![0u64; 2 * BINS];
    let (mut counted, all) = (0usize, blocks.len() * (blocks.len() + 1) / 2);
    for (i, (first_row, a, row_labels)) in blocks.iter().enumerate() {
        for (first_col, b, col_labels) in &blocks[i..] {
            // A block holds at most BLOCK² pairs, far below what a u32 counts.
            let counts = gpu.upload("pairs", &vec![0u32; 2 * BINS], &[2, BINS])?;
            let mut rec = Recorder::new(gpu);
            let similarity = matmul(&mut rec, Layout::Nt, a, b, &Epilogue::default())?;
            pairs::count(&mut rec, &similarity, (row_labels, col_labels), (*first_row, *first_col), &counts)?;
            rec.finish()?.run()?;
            gpu.read::<u32>(&counts)?.iter().zip(&mut total).for_each(|(c, t)| *t += u64::from(*c));
            counted += 1;
            done(counted as f64 / all as f64);
        }
    }
    let different = total.split_off(BINS);
    Ok(Similarities { same: total, different, variance })
}

#[cfg(test)]
mod tests {
    use super::{BINS, Similarities};

    #[test]
    fn overlap_is_the_shared_area() {
        let bins = |at: &[(usize, u64)]| {
            let mut h = vec![0; BINS];
            at.iter().for_each(|(bin, count)| h[*bin] = *count);
            h
        };
        let of = |same: &[(usize, u64)], different: &[(usize, u64)]| {
            Similarities { same: bins(same), different: bins(different), variance: 0.0 }.overlap()
        };
        assert_eq!(of(&[(5, 3)], &[(6, 100)]), 0.0);
        assert_eq!(of(&[(5, 3), (6, 3)], &[(5, 500), (6, 500)]), 1.0);
        assert!((of(&[(5, 1), (6, 3)], &[(5, 30), (7, 10)]) - 0.25).abs() < 1e-12);
        assert!((Similarities::mean(&bins(&[(0, 1), (BINS - 1, 1)]))).abs() < 1e-12);
    }
}
