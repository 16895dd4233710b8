//! Counting test pictures, a block at a time.

use crate::adapt::argmax;
use crate::adapt::calibrate::{Reliability, confident};

/// What is counted.
pub(super) struct Score {
    classes: usize,
    /// Labels that are chosen among, and each label's place among them.
    subset: Option<(Vec<usize>, Vec<Option<usize>>)>,
    temperature: Option<f64>,
    pub correct: usize,
    pub predicted: Vec<u32>,
    pub confidence: Vec<f32>,
    pub reliability: Reliability,
    pub fitted: Option<Reliability>,
}

impl Score {
    pub fn new(classes: usize, subset: Option<&[usize]>, temperature: Option<f64>) -> Score {
        let subset = subset.map(|subset| {
            let mut places = vec![None; classes];
            subset.iter().enumerate().for_each(|(place, label)| places[*label] = Some(place));
            (subset.to_vec(), places)
        });
        Score {
            classes,
            subset,
            temperature,
            correct: 0,
            predicted: Vec::new(),
            confidence: Vec::new(),
            reliability: Reliability::default(),
            fitted: temperature.map(|_| Reliability::default()),
        }
    }

    /// Counts logits `[n, classes]` of pictures with these labels.
    pub fn add(&mut self, logits: &[f32], labels: &[u32]) {
        for (row, label) in logits.chunks_exact(self.classes).zip(labels) {
            let label = *label as usize;
            // The truth of a picture outside the subset is never found; data is checked to have none.
            let (row, truth, names) = match &self.subset {
                Some((subset, places)) => {
                    (&subset.iter().map(|i| row[*i]).collect::<Vec<f32>>()[..], places[label], Some(subset))
                }
                None => (row, Some(label), None),
            };
            let best = argmax(row);
            let right = truth == Some(best);
            self.correct += usize::from(right);
            self.predicted.push(names.map_or(best, |names| names[best]) as u32);
            let plain = confident(row, 1.0);
            let of_truth = |p: &[f64]| truth.map_or(0.0, |t| p[t]);
            self.reliability.add(plain[best], right, of_truth(&plain));
            let mut sure = plain[best];
            if let (Some(t), Some(fitted)) = (self.temperature, &mut self.fitted) {
                let cooled = confident(row, t);
                sure = cooled[best];
                fitted.add(sure, right, of_truth(&cooled));
            }
            self.confidence.push(sure as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Score;

    #[test]
    fn pictures_are_counted_among_the_classes_asked_for() {
        let logits = [3.0, 1.0, 2.0, 0.0, 5.0, 1.0];
        let mut all = Score::new(3, None, Some(2.0));
        all.add(&logits, &[0, 2]);
        assert_eq!((all.correct, &all.predicted[..]), (1, &[0, 1][..]));
        let e = |v: f64| (v / 2.0).exp();
        assert!((f64::from(all.confidence[0]) - e(3.0) / (e(3.0) + e(1.0) + e(2.0))).abs() < 1e-6);
        // Without class 1 the second picture is right; labels keep their numbers.
        let mut some = Score::new(3, Some(&[0, 2]), None);
        some.add(&logits, &[0, 2]);
        assert_eq!((some.correct, &some.predicted[..]), (2, &[0, 2][..]));
        assert!((f64::from(some.confidence[0]) - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-6);
        assert_eq!(some.reliability.count(), 2);
        assert!(some.fitted.is_none());
    }
}
