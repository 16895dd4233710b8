//! The methods, one module each, readable beside their papers: [`zero_shot`], [`tip`] (with [`search`] for its two
//! hyper-parameters) and [`pini`] (with [`schedule`]). [`adapter_file`] keeps what they learn.

pub mod adapter_file;
pub mod pini;
pub mod schedule;
pub mod search;
pub mod tip;
pub mod zero_shot;

use crate::Result;
use crate::gpu::{Gpu, Recorder, Tensor};

/// Records a computation, runs it once and reads its result.
pub(crate) fn compute(gpu: &Gpu, record: impl FnOnce(&mut Recorder) -> Result<Tensor>) -> Result<Vec<f32>> {
    let mut rec = Recorder::new(gpu);
    let y = record(&mut rec)?;
    rec.finish()?.run()?;
    gpu.read(&y)
}

/// Rows of features that go through a method at once: bounds GPU memory, whatever the number of pictures.
const ROWS: usize = 2048;

/// Logits of un-normalised features `[n, width]`, a bounded number of rows at a time. Rows do not meet each other in any
/// method, so the cuts do not show.
pub(crate) fn by_rows(
    gpu: &Gpu,
    features: &[f32],
    width: usize,
    record: impl Fn(&mut Recorder, &Tensor) -> Result<Tensor>,
) -> Result<Vec<f32>> {
    if width == 0 || !features.len().is_multiple_of(width) {
        return Err(crate::Error::invalid(format!("{} feature values are no rows of width {width}", features.len())));
    }
    let mut logits = Vec::new();
    for chunk in features.chunks(ROWS * width) {
        let x = gpu.upload("image features", chunk, &[chunk.len() / width, width])?;
        logits.extend(compute(gpu, |rec| record(rec, &x))?);
    }
    Ok(logits)
}

/// Share of rows of `logits` `[n, classes]` whose largest entry is their label's; the first of equals counts.
pub fn accuracy(logits: &[f32], labels: &[u32], classes: usize) -> f64 {
    let right = logits.chunks_exact(classes).zip(labels).filter(|(row, label)| argmax(row) == **label as usize).count();
    right as f64 / labels.len().max(1) as f64
}

/// Index of the largest entry, the first of equals.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] {
            best = i;
        }
    }
    best
}

/// Softmax of one row of logits.
pub fn probabilities(row: &[f32]) -> Vec<f64> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = row.iter().map(|v| f64::from(v - top).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::{accuracy, argmax, probabilities};

    #[test]
    fn accuracy_counts_the_first_of_equals() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert!((accuracy(&[1.0, 0.0, 2.0, 2.0, 0.0, 1.0], &[0, 1, 1], 2) - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn probabilities_survive_large_logits() {
        let p = probabilities(&[1000.0, 999.0]);
        assert!((p[0] - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-9 && (p[0] + p[1] - 1.0).abs() < 1e-12);
    }
}
