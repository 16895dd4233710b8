//! The methods, one module each, readable beside their papers: [`zero_shot`]; the caches [`tip`], [`tip_f`] and [`tip_x`],
//! with [`search`] for their hyper-parameters; [`overlap`], the correction that makes Tip-Adapter++ and Tip-X++ of them
//! (without labels: [`dino`]),
//! with [`similarity`], the measure of what it corrects; and [`pini`]. [`schedule`] has their learning rates,
//! [`train`] the loop of all trainings, [`adapter_file`] keeps what they learn, [`evidence`] is what pictures say of them that
//! they have not learned from, and [`calibrate`] makes their confidence mean something by it. [`multi_label`] is for pictures that
//! have several labels. [`method`] is the door to all of them, and [`lesson`] the one way from pictures to a method that has
//! learned.

pub mod adapter_file;
pub mod auto;
pub mod calibrate;
pub mod dino;
pub mod evidence;
pub mod gda;
pub mod known;
mod learn;
pub mod lesson;
pub mod method;
pub mod multi_label;
pub mod names;
pub mod overlap;
pub mod pini;
mod plans;
pub mod prolip;
pub mod schedule;
pub mod search;
pub mod similarity;
pub mod tip;
pub mod tip_f;
pub mod tip_x;
pub mod train;
pub mod zero_shot;

#[cfg(feature = "eval")]
pub(crate) use learn::shared;
pub use learn::{Learned, learn, learn_each};
pub use lesson::{Choice, How, JudgeBy, Lesson, Place, Texts};
pub use method::{Facts, Fitted, METHODS, Method};

use crate::clip::Features;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::normalize;
use crate::{Error, Result, numbers, text};

/// Records a computation, runs it once and reads its result.
pub(crate) fn compute(gpu: &Gpu, record: impl FnOnce(&mut Recorder) -> Result<Tensor>) -> Result<Vec<f32>> {
    let mut rec = Recorder::new(gpu);
    let y = record(&mut rec)?;
    rec.finish()?.run()?;
    gpu.read(&named_logits(&y))
}

/// Logits, with what may be wrong where they are no numbers.
pub(crate) fn named_logits(y: &Tensor) -> Tensor {
    y.clone().named("logits", "α, β, γ or the logit scale are too large, or the features or the adapter's weights are")
}

/// The loss of a step of training: the one number that may come out as no number, which whoever trains knows to explain.
pub(crate) fn loss_of(read: crate::gpu::ReadBack<f32>) -> Result<f32> {
    Ok(read.finish_unchecked()?.first().copied().unwrap_or(f32::NAN))
}

/// Rows of features that go through a method at once: bounds GPU memory, whatever the number of pictures.
pub(crate) const ROWS: usize = 2048;

/// Checks that features are whole rows of `width` finite numbers; `what` names them in the error. Gives their number.
pub(crate) fn check_rows(what: &str, features: &[f32], width: usize) -> Result<usize> {
    if width == 0 || !features.len().is_multiple_of(width) {
        return Err(Error::invalid(format!("{what}: {} values are no rows of width {width}", features.len())));
    }
    if let Some(at) = numbers::not_finite(features) {
        return Err(Error::invalid(format!("{what}: row {} is not finite", at / width)));
    }
    Ok(features.len() / width)
}

/// Checks that there is a label for each of `rows` rows, and each below `classes`.
pub(crate) fn check_labels(what: &str, labels: &[u32], rows: usize, classes: usize) -> Result<()> {
    if labels.len() != rows {
        return Err(Error::invalid(format!("{what}: {} labels for {rows} rows", labels.len())));
    }
    match labels.iter().position(|label| *label as usize >= classes) {
        Some(at) => Err(Error::invalid(format!(
            "{what}: row {at} has label {}, there are {} (0…{})",
            labels[at],
            text::count(classes, "class", "classes"),
            classes.saturating_sub(1)
        ))),
        None => Ok(()),
    }
}

/// Checks that features are adapted ones where a method has a correction, and only there.
pub(crate) fn check_adapted(features: &Features, corrected: bool) -> Result<()> {
    if corrected != features.adapted.is_some() {
        let (need, have) = if corrected { ("", "no ") } else { ("no ", "") };
        return Err(Error::invalid(format!("the adapter needs {need}adapted features, and there are {have}such")));
    }
    Ok(())
}

/// Records normalised features, and those that meet a cache's keys: the same tensor, unless the features were adapted.
pub(crate) fn record_units(rec: &mut Recorder, raw: &Tensor, adapted: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
    let f = normalize::forward(rec, raw)?.y;
    let g = match adapted {
        Some(adapted) => normalize::forward(rec, adapted)?.y,
        None => f.clone(),
    };
    Ok((f, g))
}

/// Calls `each` with the normalised features of up to [`ROWS`] pictures at a time, and those that meet a cache's keys
/// (the same tensor, unless the features were adapted), both `[rows, width]`, and the number of the first.
pub(crate) fn normalized_rows(
    gpu: &Gpu,
    features: &Features,
    width: usize,
    each: &mut dyn FnMut(usize, &Tensor, &Tensor) -> Result<()>,
) -> Result<()> {
    let n = check_rows("features", &features.original, width)?;
    if let Some(adapted) = &features.adapted {
        let m = check_rows("adapted features", adapted, width)?;
        if m != n {
            return Err(Error::invalid(format!("{m} adapted features for {n} features")));
        }
    }
    for first in (0..n).step_by(ROWS) {
        let rows = first..(first + ROWS).min(n);
        let part = |all: &[f32]| -> Result<Tensor> {
            let raw = gpu.upload("image features", &all[rows.start * width..rows.end * width], &[rows.len(), width])?;
            let mut rec = Recorder::new(gpu);
            let unit = normalize::forward(&mut rec, &raw)?.y;
            rec.finish()?.run()?;
            Ok(unit)
        };
        let f = part(&features.original)?;
        let g = features.adapted.as_deref().map_or(Ok(f.clone()), part)?;
        each(first, &f, &g)?;
    }
    Ok(())
}

/// Logits of un-normalised features `[n, width]`, a bounded number of rows at a time. Rows do not meet each other in any
/// method, so the cuts do not show.
pub(crate) fn by_rows(
    gpu: &Gpu,
    features: &[f32],
    width: usize,
    record: impl Fn(&mut Recorder, &Tensor) -> Result<Tensor>,
) -> Result<Vec<f32>> {
    check_rows("features", features, width)?;
    let mut logits = Vec::new();
    for chunk in features.chunks(ROWS * width) {
        let x = gpu.upload("image features", chunk, &[chunk.len() / width, width])?;
        logits.extend(compute(gpu, |rec| record(rec, &x))?);
    }
    Ok(logits)
}

/// Share of rows of `logits` `[n, classes]` whose largest entry is their label's; the first of equals counts. 0 without
/// classes or labels; labels without a row are wrong.
pub fn accuracy(logits: &[f32], labels: &[u32], classes: usize) -> f64 {
    if classes == 0 {
        return 0.0;
    }
    let right = logits.chunks_exact(classes).zip(labels).filter(|(row, label)| argmax(row) == **label as usize).count();
    right as f64 / labels.len().max(1) as f64
}

/// Index of the largest entry, the first of equals; 0 of none. NaN is never the largest, but where it comes first.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = (0, row.first().copied().unwrap_or_default());
    for (i, v) in row.iter().enumerate() {
        if *v > best.1 {
            best = (i, *v);
        }
    }
    best.0
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
