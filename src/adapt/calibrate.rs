//! Confidence that means something: a temperature fitted on validation pictures (C. Guo et al., "On Calibration of Modern
//! Neural Networks", arXiv 1706.04599), and the measure of how well confidence and accuracy agree.
//!
//! Probabilities are softmax(logits/T). T changes no prediction, only how sure it claims to be.

use super::probabilities;
use crate::{Result, numbers};

/// T is looked for in this range. Where validation pictures are all right, the likelihood would have it go to 0.
pub const RANGE: (f64, f64) = (0.05, 20.0);

/// Bins of equal width over confidence, as usual.
pub const BINS: usize = 15;

/// What T = 1 counts for against the evidence: about as much as so many pictures.
pub const PRIOR: f64 = 2.0;

/// The temperature at which logits `[n, classes]` make their labels most likely, within [`RANGE`]; none without labels. `prior` is
/// what speaks for T = 1, as a Gamma distribution of 1/T: the more pictures there are, the less it counts; with 0 it does not.
///
/// # Errors
/// [`crate::Error::Invalid`] for lengths that do not fit, labels out of range, or logits that are not finite.
pub fn temperature(logits: &[f32], labels: &[u32], classes: usize, prior: f64) -> Result<Option<f64>> {
    let rows = super::check_rows("logits", logits, classes)?;
    super::check_labels("logits", labels, rows, classes)?;
    if labels.is_empty() {
        return Ok(None);
    }
    // The negative log-likelihood is convex in 1/T; its slope is the sum of E[z] − z of the label. So is what the prior adds,
    // prior·(1/T − 1 − log 1/T).
    let slope = |inverse: f64| -> f64 {
        let of = |row: &[f32], label: u32| {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let (mut sum, mut mean) = (0.0, 0.0);
            for z in row {
                let z = f64::from(z - top);
                let weight = (inverse * z).exp();
                sum += weight;
                mean += weight * z;
            }
            mean / sum - f64::from(row[label as usize] - top)
        };
        let all: f64 = logits.chunks_exact(classes).zip(labels).map(|(row, label)| of(row, *label)).sum();
        all + prior * (1.0 - 1.0 / inverse)
    };
    let (mut low, mut high) = ((1.0 / RANGE.1).ln(), (1.0 / RANGE.0).ln());
    // 60 halvings leave nothing of f64's precision.
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if slope(middle.exp()) < 0.0 { low = middle } else { high = middle }
    }
    Ok(Some((-0.5 * (low + high)).exp()))
}

/// Softmax of a row of logits at temperature T.
pub fn confident(row: &[f32], temperature: f64) -> Vec<f64> {
    if temperature == 1.0 {
        return probabilities(row);
    }
    let cooled: Vec<f32> = row.iter().map(|z| (f64::from(*z) / temperature) as f32).collect();
    probabilities(&cooled)
}

/// One bin of a [`Reliability`].
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bin {
    /// Pictures in it.
    pub count: u64,
    /// Sum of their confidences.
    pub confidence: f64,
    /// Pictures in it that are right.
    pub right: u64,
}

/// How well confidence and accuracy agree, picture by picture.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Reliability {
    /// [`BINS`] bins of equal width over confidences from 0 to 1.
    pub bins: Vec<Bin>,
    /// Sum of −log of the true class's probability.
    pub log_loss: f64,
}

impl Default for Reliability {
    fn default() -> Self {
        Reliability { bins: vec![Bin::default(); BINS], log_loss: 0.0 }
    }
}

impl Reliability {
    /// Counts a picture: the probability of the class it was taken for, whether that is right, and the true class's. Bins
    /// that are missing are added; what is no probability counts as the nearest one, NaN as 0.
    pub fn add(&mut self, confidence: f64, right: bool, of_truth: f64) {
        if self.bins.len() < BINS {
            self.bins.resize(BINS, Bin::default());
        }
        let confidence = if confidence.is_nan() { 0.0 } else { confidence.clamp(0.0, 1.0) };
        let number = ((confidence * BINS as f64) as usize).min(BINS - 1);
        if let Some(bin) = self.bins.get_mut(number) {
            bin.count = bin.count.saturating_add(1);
            bin.confidence += confidence;
            bin.right = bin.right.saturating_add(u64::from(right));
        }
        self.log_loss -= of_truth.max(f64::MIN_POSITIVE).ln();
    }

    /// Pictures.
    pub fn count(&self) -> u64 {
        self.bins.iter().fold(0, |sum, bin| sum.saturating_add(bin.count))
    }

    /// Expected calibration error: the mean distance of accuracy from confidence over the bins, by their pictures.
    pub fn error(&self) -> f64 {
        let off: f64 = self.bins.iter().map(|bin| (bin.right as f64 - bin.confidence).abs()).sum();
        off / self.count().max(1) as f64
    }

    /// Mean of −log of the true class's probability.
    pub fn mean_log_loss(&self) -> f64 {
        self.log_loss / self.count().max(1) as f64
    }
}

/// Checks a temperature that somebody wrote down.
///
/// # Errors
/// [`crate::Error::Invalid`] for one outside [`numbers::TEMPERATURE`].
pub fn check(temperature: f64) -> Result<f64> {
    numbers::TEMPERATURE.check("temperature", temperature)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(logits: &[f32], labels: &[u32], classes: usize, t: f64) -> f64 {
        let rows = logits.chunks_exact(classes).zip(labels);
        rows.map(|(row, label)| -confident(row, t)[*label as usize].ln()).sum()
    }

    /// Logits of three classes that claim more than they know.
    fn overconfident() -> (Vec<f32>, Vec<u32>) {
        let mut logits = Vec::new();
        let mut labels = Vec::new();
        for i in 0..60u32 {
            let said = i % 3;
            let spread = 4.0 + (i % 7) as f32;
            logits.extend((0..3).map(|c| if c == said { spread } else { 0.3 * (c as f32) }));
            // Seven of ten are right.
            labels.push(if i % 10 < 7 { said } else { (said + 1) % 3 });
        }
        (logits, labels)
    }

    #[test]
    fn the_temperature_is_where_labels_are_most_likely() {
        let (logits, labels) = overconfident();
        let t = temperature(&logits, &labels, 3, 0.0).unwrap().unwrap();
        assert!((3.0..8.0).contains(&t), "{t}");
        let at = |t| loss(&logits, &labels, 3, t);
        assert!(at(t) < at(1.02 * t) && at(t) < at(0.98 * t) && at(t) < at(1.0));
        // Logits that are T times larger need a T times higher temperature.
        let doubled: Vec<f32> = logits.iter().map(|z| 2.0 * z).collect();
        let twice = temperature(&doubled, &labels, 3, 0.0).unwrap().unwrap();
        assert!((twice / t - 2.0).abs() < 1e-5, "{twice} and {t}");
    }

    #[test]
    fn what_is_always_right_or_never_stays_in_the_range() {
        assert_eq!(temperature(&[], &[], 2, PRIOR).unwrap(), None);
        let at = |label: u32| temperature(&[9.0, 0.0], &[label], 2, 0.0).unwrap().unwrap();
        assert!((at(0) / RANGE.0 - 1.0).abs() < 1e-9 && (at(1) / RANGE.1 - 1.0).abs() < 1e-9);
        assert!(temperature(&[1.0], &[0], 2, 0.0).is_err());
        assert!(temperature(&[1.0, 2.0], &[2], 2, 0.0).is_err());
        assert!(temperature(&[1.0, f32::NAN], &[1], 2, 0.0).is_err());
        assert!(check(0.0).is_err() && check(f64::NAN).is_err() && check(2.0).is_ok());
    }

    #[test]
    fn few_pictures_move_the_temperature_little() {
        // All right, and sure of it: without a prior T runs to its bound.
        let of = |n: usize, prior: f64| {
            let (logits, labels) = ([3.0, 0.0].repeat(n), vec![0; n]);
            temperature(&logits, &labels, 2, prior).unwrap().unwrap()
        };
        assert!((of(2, 0.0) / RANGE.0 - 1.0).abs() < 1e-9);
        let (two, ten, many) = (of(2, PRIOR), of(10, PRIOR), of(10_000, PRIOR));
        assert!(two > 0.85 && two < 1.0 && ten < two && many < ten && many < 0.4, "{two} {ten} {many}");
        // Many pictures outweigh it.
        let (logits, labels) = overconfident();
        let free = temperature(&logits, &labels, 3, 0.0).unwrap().unwrap();
        let (logits, labels) = (logits.repeat(20), labels.repeat(20));
        let held = temperature(&logits, &labels, 3, PRIOR).unwrap().unwrap();
        assert!(held < free && held > 0.97 * free, "{held} for {free}");
        // Where the sum of what evidence and prior say is least.
        let (logits, labels) = overconfident();
        let t = temperature(&logits, &labels, 3, PRIOR).unwrap().unwrap();
        let at = |t: f64| loss(&logits, &labels, 3, t) + PRIOR * (1.0 / t - 1.0 + t.ln());
        assert!(at(t) < at(1.02 * t) && at(t) < at(0.98 * t));
    }

    #[test]
    fn the_calibration_error_is_the_gap_between_confidence_and_accuracy() {
        let mut all = Reliability::default();
        for right in [true, true, true, false] {
            all.add(0.95, right, if right { 0.95 } else { 0.01 });
        }
        assert!((all.error() - 0.2).abs() < 1e-12);
        all.add(0.3, false, 0.2);
        all.add(1.0, true, 1.0);
        assert!((all.error() - (0.8 + 0.3) / 6.0).abs() < 1e-12);
        assert_eq!(all.count(), 6);
        assert!((all.mean_log_loss() - (-3.0 * 0.95f64.ln() - 0.01f64.ln() - 0.2f64.ln()) / 6.0).abs() < 1e-12);
        // Fitting lowers the error of what claims too much.
        let (logits, labels) = overconfident();
        let measured = |t: f64| {
            let mut all = Reliability::default();
            for (row, label) in logits.chunks_exact(3).zip(&labels) {
                let p = confident(row, t);
                let best = crate::adapt::argmax(row);
                all.add(p[best], best == *label as usize, p[*label as usize]);
            }
            all.error()
        };
        let fitted = measured(temperature(&logits, &labels, 3, 0.0).unwrap().unwrap());
        assert!(fitted < 0.1 && measured(1.0) > 0.25, "{fitted} and {}", measured(1.0));
    }
}
