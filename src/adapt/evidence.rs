//! What pictures say of a method that it has not learned from: how true its confidence is, which sets of classes hold the right
//! one how often, and what is unlike anything it knows.
//!
//! Evidence is the validation pictures; where there are fewer than [`ENOUGH`], also the support pictures, each judged by what was
//! learned without it ([`Folds`](super::lesson::Folds)). Thresholds are those of split conformal prediction (A. Angelopoulos and
//! S. Bates, arXiv 2107.07511): of n pictures and a new one like them, each place in the order is as likely for the new one. With
//! pictures left out, this holds for them as far as what was learned without a picture does as well as what was learned of all.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::adapter_file::{Loading, Tensors};
use super::calibrate::{self, confident};
use super::known::Known;
use crate::clip::{Clip, Features};
use crate::gpu::Gpu;
use crate::{Error, Result, numbers, text};

/// Validation pictures that are enough: then the support pictures are not asked, and weights are chosen as in the papers.
pub const ENOUGH: usize = 50;

/// With fewer pictures than this, what is said of confidence is a guess, and users are told.
pub const FEW: usize = 30;

/// The most pictures whose rows are kept; of more, evenly chosen ones.
const MOST: usize = 4096;

/// What a picture says that the method has not learned from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Its class.
    pub label: u32,
    /// The probability of its class, at the fitted temperature.
    pub truth: f32,
    /// That of the likeliest class.
    pub top: f32,
    /// log Σ exp(logit): W. Liu et al., "Energy-based Out-of-distribution Detection", arXiv 2010.03759, without its sign.
    pub energy: f32,
    /// The cosine of its features with those of the most similar picture that was learned from; 0 where there are none.
    pub similarity: f32,
}

/// How many pictures stand behind something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceCounts {
    /// Validation pictures.
    pub validation: usize,
    /// Support pictures that were left out in turn.
    pub left_out: usize,
}

impl EvidenceCounts {
    /// All of them.
    pub fn all(self) -> usize {
        self.validation.saturating_add(self.left_out)
    }
}

impl fmt::Display for EvidenceCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let validation = text::count(self.validation, "validation picture", "validation pictures");
        let left_out = text::count(self.left_out, "picture left out", "pictures left out");
        match (self.validation, self.left_out) {
            (_, 0) => f.write_str(&validation),
            (0, _) => f.write_str(&left_out),
            _ => write!(f, "{validation} and {left_out}"),
        }
    }
}

/// What tells a picture of no class from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownBy {
    /// The probability of the likeliest class.
    Probability,
    /// log Σ exp(logit).
    Energy,
    /// The distance (1 − cosine) to the most similar picture that was learned from, in units of how far those of a class are apart.
    #[default]
    Distance,
}

impl UnknownBy {
    /// All.
    pub const ALL: [UnknownBy; 3] = [UnknownBy::Probability, UnknownBy::Energy, UnknownBy::Distance];

    /// The name that options have.
    pub fn name(self) -> &'static str {
        match self {
            UnknownBy::Probability => "probability",
            UnknownBy::Energy => "energy",
            UnknownBy::Distance => "distance",
        }
    }
}

impl fmt::Display for UnknownBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for UnknownBy {
    type Err = Error;

    fn from_str(text: &str) -> Result<UnknownBy> {
        UnknownBy::ALL.into_iter().find(|by| by.name() == text).ok_or_else(|| {
            Error::invalid(format!("'{}' must be probability, energy or distance", text::cut(text, text::NAME)))
        })
    }
}

/// How far answers can be trusted.
#[derive(Clone, Default)]
pub struct Calibration {
    /// Probabilities are softmax(logits/T); none where there was no picture to fit T on.
    pub temperature: Option<f64>,
    /// The pictures behind it.
    pub counts: EvidenceCounts,
    /// What they say; of very many, some.
    pub rows: Vec<Row>,
    /// The pictures that were learned from, where there are any.
    pub known: Option<Known>,
}

/// Logits of pictures that a method has not learned from.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// `[n, classes]`.
    pub logits: Vec<f32>,
    /// Their classes.
    pub labels: Vec<u32>,
    /// The cosine of each with the most similar picture that was learned from; 0 where there are none.
    pub similarity: Vec<f32>,
    /// Where they come from.
    pub counts: EvidenceCounts,
}

impl Evidence {
    /// Adds pictures: their logits and labels, their un-normalised features, and what they may be like.
    ///
    /// # Errors
    /// Lengths that do not fit; a device that fails.
    pub fn add(
        &mut self,
        clip: &Clip,
        (logits, labels): (Vec<f32>, &[u32]),
        (features, known): (&Features, Option<&Known>),
    ) -> Result<()> {
        self.logits.extend(logits);
        self.labels.extend(labels);
        let similarity = known.map(|known| known.similarity(&clip.gpu, features.affinity())).transpose()?;
        self.similarity.extend(similarity.unwrap_or_else(|| vec![0.0; labels.len()]));
        Ok(())
    }

    /// Keeps the first `n` pictures.
    pub fn truncate(&mut self, n: usize, classes: usize) {
        self.logits.truncate(n * classes);
        self.labels.truncate(n);
        self.similarity.truncate(n);
    }
}

/// log Σ exp of a row of logits.
pub fn energy(row: &[f32]) -> f64 {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::from(top) + row.iter().map(|z| f64::from(z - top).exp()).sum::<f64>().ln()
}

impl Calibration {
    /// What evidence says of a method with so many classes. `shrunk` draws the temperature towards 1.
    ///
    /// # Errors
    /// As [`super::calibrate::temperature`].
    pub fn new(evidence: &Evidence, classes: usize, shrunk: bool, known: Option<Known>) -> Result<Calibration> {
        let Evidence { logits, labels, similarity, counts } = evidence;
        let prior = if shrunk { calibrate::PRIOR } else { 0.0 };
        let temperature = calibrate::temperature(logits, labels, classes, prior)?;
        let n = labels.len();
        let count = n.min(MOST);
        let rows = (0..count).map(|i| i * n / count).map(|i| {
            let row = &logits[i * classes..(i + 1) * classes];
            let p = confident(row, temperature.unwrap_or(1.0));
            Row {
                label: labels[i],
                truth: p[labels[i] as usize] as f32,
                top: p.iter().copied().fold(0.0, f64::max) as f32,
                energy: energy(row) as f32,
                similarity: similarity.get(i).copied().unwrap_or_default(),
            }
        });
        Ok(Calibration { temperature, counts: *counts, rows: rows.collect(), known })
    }

    /// The probability that a class must have to be in the set of classes that holds the right one with probability `coverage`:
    /// for pictures of all classes, or of class `of`. None where the pictures are too few to say.
    pub fn least_probability(&self, coverage: f64, of: Option<u32>) -> Option<f32> {
        let truths = self.rows.iter().filter(|row| of.is_none_or(|label| row.label == label)).map(|row| row.truth);
        let mut truths: Vec<f32> = truths.collect();
        truths.sort_by(|a, b| b.total_cmp(a));
        truths.get(place(truths.len(), coverage)? - 1).copied()
    }

    /// The highest coverage, or share of what is known, that so many pictures can support.
    pub fn supported(pictures: usize) -> f64 {
        pictures as f64 / (pictures + 1) as f64
    }

    /// What a picture must reach by [`Calibration::familiarity`] to be taken for one of a class, so that a share `keep` of those that
    /// are of one does. None where the pictures are too few to say.
    ///
    /// # Errors
    /// [`Error::Invalid`] for distances where nothing is known to be distant from.
    pub fn least_familiar(&self, keep: f64, by: UnknownBy) -> Result<Option<f64>> {
        let all = self
            .rows
            .iter()
            .map(|row| self.familiarity(by, (f64::from(row.top), f64::from(row.energy)), row.similarity));
        let mut all: Vec<f64> = all.collect::<Result<_>>()?;
        all.sort_by(|a, b| b.total_cmp(a));
        Ok(place(all.len(), keep).and_then(|place| all.get(place - 1)).copied())
    }

    /// How much a picture is like those of the classes: the more the higher. Its likeliest class' probability, its energy, and the
    /// cosine with the most similar picture that was learned from.
    ///
    /// # Errors
    /// As [`Calibration::least_familiar`].
    pub fn familiarity(&self, by: UnknownBy, (top, energy): (f64, f64), similarity: f32) -> Result<f64> {
        match (by, &self.known) {
            (UnknownBy::Probability, _) => Ok(top),
            (UnknownBy::Energy, _) => Ok(energy),
            (UnknownBy::Distance, Some(known)) => Ok(-known.distance(similarity)),
            (UnknownBy::Distance, None) => Err(Error::invalid(
                "there are no pictures to measure the distance from: take energy or probability, or fit with pictures",
            )),
        }
    }

    /// Adds all but the temperature and the counts to a file.
    ///
    /// # Errors
    /// A lost device.
    pub fn write(&self, gpu: &Gpu, tensors: &mut Tensors) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let values: Vec<f32> =
            self.rows.iter().flat_map(|row| [row.truth, row.top, row.energy, row.similarity]).collect();
        tensors.floats(ROWS, &[self.rows.len(), 4], &values);
        tensors.labels(LABELS, &self.rows.iter().map(|row| row.label).collect::<Vec<_>>());
        self.known.as_ref().map_or(Ok(()), |known| known.write(gpu, tensors))
    }

    /// What [`Calibration::write`] wrote; nothing of a file from before there was evidence.
    ///
    /// # Errors
    /// [`Error::TensorForm`], [`Error::NotFinite`], [`Error::AdapterFile`] for a damaged file; out of memory.
    pub fn load(file: &Loading<'_>, temperature: Option<f64>, counts: Option<EvidenceCounts>) -> Result<Calibration> {
        let Some(counts) = counts.filter(|counts| counts.all() > 0) else {
            return Ok(Calibration { temperature, ..Calibration::default() });
        };
        let labels = file.labels(LABELS)?;
        let values = file.floats(ROWS, &[labels.len(), 4])?;
        let rows = values.chunks_exact(4).zip(labels);
        let rows = rows.map(|(v, label)| Row { label, truth: v[0], top: v[1], energy: v[2], similarity: v[3] });
        let rows: Vec<Row> = rows.collect();
        if rows
            .iter()
            .any(|row| [row.truth, row.top].iter().any(|p| numbers::PROBABILITY.check("", f64::from(*p)).is_err()))
        {
            return Err(file.bad(format!("'{ROWS}' holds probabilities that are none")));
        }
        Ok(Calibration { temperature, counts, rows, known: Known::load(file)? })
    }
}

const ROWS: &str = "evidence";
const LABELS: &str = "evidence.labels";

/// The place, from 1, in the falling order of n values, that a new one reaches with this probability; none beyond the last.
fn place(n: usize, probability: f64) -> Option<usize> {
    // A rounding error must not ask for a picture more.
    let place = ((n + 1) as f64 * probability - 1e-9).ceil().max(1.0) as usize;
    (place <= n).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(truths: &[f32]) -> Calibration {
        let row = |(i, truth): (usize, &f32)| Row {
            label: (i % 2) as u32,
            truth: *truth,
            top: truth.max(1.0 - truth),
            energy: i as f32,
            similarity: 0.0,
        };
        Calibration { rows: truths.iter().enumerate().map(row).collect(), ..Calibration::default() }
    }

    #[test]
    fn thresholds_are_those_of_split_conformal_prediction() {
        let nine = rows(&[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]);
        // Ten places for a new one: nine of ten reach the ninth, which is the last.
        assert_eq!(nine.least_probability(0.9, None), Some(0.1));
        assert_eq!(nine.least_probability(0.91, None), None);
        assert_eq!(nine.least_probability(0.5, None), Some(0.5));
        assert!((Calibration::supported(9) - 0.9).abs() < 1e-12);
        // Of the five pictures of class 0: 0.9, 0.7, 0.5, 0.3, 0.1.
        assert_eq!(nine.least_probability(0.5, Some(0)), Some(0.5));
        assert_eq!(nine.least_probability(0.6, Some(0)), Some(0.3));
        assert_eq!(nine.least_probability(0.5, Some(7)), None);
        assert_eq!(rows(&[]).least_probability(0.5, None), None);
    }

    #[test]
    fn a_share_of_the_known_is_kept() {
        let nine = rows(&[0.9; 9]);
        assert_eq!(nine.least_familiar(0.9, UnknownBy::Energy).unwrap(), Some(0.0));
        assert_eq!(nine.least_familiar(0.8, UnknownBy::Energy).unwrap(), Some(1.0));
        assert_eq!(nine.least_familiar(0.95, UnknownBy::Energy).unwrap(), None);
        assert!(
            nine.least_familiar(0.8, UnknownBy::Distance).unwrap_err().to_string().contains("energy or probability")
        );
        assert!(
            "near".parse::<UnknownBy>().is_err() && "distance".parse::<UnknownBy>().unwrap() == UnknownBy::Distance
        );
    }

    /// Sets hold the right class, and known pictures are kept, as often as was asked for: over many draws of evidence and a new one.
    #[test]
    fn coverage_is_what_was_asked_for() {
        let mut state = 7u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        for (n, coverage) in [(9, 0.8), (19, 0.9), (7, 0.5)] {
            let (mut held, all) = (0, 4000);
            for _ in 0..all {
                let evidence = rows(&(0..n).map(|_| uniform()).collect::<Vec<_>>());
                held += usize::from(uniform() >= evidence.least_probability(coverage, None).unwrap());
            }
            let share = f64::from(held as u32) / f64::from(all);
            assert!(share > coverage - 0.02 && share < coverage + 1.0 / f64::from(n) + 0.02, "{n}: {share}");
        }
    }

    #[test]
    fn evidence_becomes_rows() {
        let evidence = Evidence {
            logits: vec![2.0, 0.0, 0.0, 1.0],
            labels: vec![0, 0],
            similarity: vec![0.5, 0.25],
            counts: EvidenceCounts { validation: 1, left_out: 1 },
        };
        let all = Calibration::new(&evidence, 2, true, None).unwrap();
        let t = all.temperature.unwrap();
        assert!((f64::from(all.rows[1].truth) - 1.0 / (1.0 + (1.0 / t).exp())).abs() < 1e-6);
        assert!((f64::from(all.rows[0].energy) - (2f64.exp() + 1.0).ln()).abs() < 1e-6);
        assert_eq!((all.rows[0].top, all.rows[1].similarity), (all.rows[0].truth, 0.25));
        assert_eq!(all.counts.to_string(), "1 validation picture and 1 picture left out");
    }
}
