//! How far answers can be trusted, measured on test pictures: how often sets of classes hold the right one, and how well pictures
//! of no class are told from the others.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::adapt::calibrate::confident;
use crate::adapt::evidence::{Calibration, UnknownBy, energy};
use crate::data::{Item, Walk, list_pictures_with};
use crate::{Error, Result};

/// The coverages that are measured.
pub const COVERAGES: [f64; 3] = [0.8, 0.9, 0.95];
/// The share of test pictures that are to be kept where pictures of no class are refused.
pub const KEEP: f64 = 0.95;

/// How often sets of classes hold the right one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// The probability that was asked for.
    pub wanted: f64,
    /// The share of test pictures whose set held the right class.
    pub held: f64,
    /// Mean number of classes in a set.
    pub size: f64,
    /// Whether the evidence was enough; otherwise sets hold all classes.
    pub supported: bool,
}

/// How well pictures of no class are told from test pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Foreign {
    /// By what.
    pub by: UnknownBy,
    /// The probability that a test picture is more familiar than a foreign one: the area under the ROC curve.
    pub auroc: f64,
    /// The share of test pictures that are kept where [`KEEP`] is asked for.
    pub kept: f64,
    /// The share of foreign pictures that are refused then.
    pub refused: f64,
    /// Foreign pictures.
    pub pictures: usize,
    /// Whether the evidence was enough; otherwise none is refused.
    pub supported: bool,
}

/// The pictures of a folder and its sub-folders, as pictures of no class.
///
/// # Errors
/// A path that is not there; a folder that cannot be read, or without pictures.
pub fn foreign(folder: &Path, walk: &Walk) -> Result<Vec<Item>> {
    let paths = list_pictures_with(folder, walk)?;
    if paths.is_empty() {
        return Err(Error::data(folder, "there are no pictures in it: give a folder of pictures that are of no class"));
    }
    Ok(paths.into_iter().map(|path| Item { path, label: 0 }).collect())
}

/// Those of foreign pictures that are not in a folder with the name of a class, and how many are.
pub(super) fn of_no_class<'i>(items: &'i [Item], classes: &[String]) -> (Vec<&'i Item>, usize) {
    let plain = |name: &str| name.to_lowercase().replace(['_', '-'], " ");
    let classes: HashSet<String> = classes.iter().map(|class| plain(class)).collect();
    let of_none = |item: &&Item| {
        let folder = item.path.parent().and_then(Path::file_name);
        !folder.is_some_and(|name| classes.contains(&plain(&name.to_string_lossy())))
    };
    let left: Vec<&Item> = items.iter().filter(of_none).collect();
    let others = items.len() - left.len();
    (left, others)
}

/// Measures.
pub(super) struct Trusting<'a> {
    calibration: &'a Calibration,
    classes: usize,
    least: [Option<f32>; 3],
    held: [usize; 3],
    sizes: [usize; 3],
    count: usize,
    /// Scores of test pictures and of foreign ones, by [`UnknownBy::ALL`].
    scores: [[Vec<f64>; 3]; 2],
}

impl<'a> Trusting<'a> {
    pub fn new(calibration: &'a Calibration, classes: usize) -> Trusting<'a> {
        let least = COVERAGES.map(|coverage| calibration.least_probability(coverage, None));
        let (held, sizes, scores) = ([0; 3], [0; 3], Default::default());
        Trusting { calibration, classes, least, held, sizes, count: 0, scores }
    }

    /// Whether there is anything to measure.
    pub fn some(&self) -> bool {
        !self.calibration.rows.is_empty()
    }

    /// Counts test pictures by their logits.
    pub fn add(&mut self, logits: &[f32], labels: &[u32]) {
        let temperature = self.calibration.temperature.unwrap_or(1.0);
        for (row, label) in logits.chunks_exact(self.classes).zip(labels) {
            let p = confident(row, temperature);
            let best = crate::adapt::argmax(row);
            self.count += 1;
            for (i, least) in self.least.iter().enumerate() {
                let within = |class: usize| class == best || least.is_none_or(|least| p[class] as f32 >= least);
                self.held[i] += usize::from(within(*label as usize));
                self.sizes[i] += (0..self.classes).filter(|class| within(*class)).count();
            }
        }
    }

    /// Keeps how familiar pictures are, test pictures or `foreign` ones, by their logits and the cosines with the most similar known
    /// picture.
    ///
    /// # Errors
    /// As [`Calibration::familiarity`].
    pub fn compare(&mut self, foreign: bool, logits: &[f32], near: &[f32]) -> Result<()> {
        let temperature = self.calibration.temperature.unwrap_or(1.0);
        for (i, row) in logits.chunks_exact(self.classes).enumerate() {
            let top = confident(row, temperature).into_iter().fold(0.0, f64::max);
            let near = near.get(i).copied().unwrap_or_default();
            for (by, scores) in self.by().into_iter().zip(&mut self.scores[usize::from(foreign)]) {
                scores.push(self.calibration.familiarity(by, (top, energy(row)), near)?);
            }
        }
        Ok(())
    }

    /// By what pictures can be told apart.
    fn by(&self) -> Vec<UnknownBy> {
        UnknownBy::ALL.into_iter().filter(|by| *by != UnknownBy::Distance || self.calibration.known.is_some()).collect()
    }

    /// What was measured.
    ///
    /// # Errors
    /// As [`Calibration::least_familiar`].
    pub fn finish(self) -> Result<(Vec<Coverage>, Vec<Foreign>)> {
        if !self.some() || self.count == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        let share = |part: usize| part as f64 / self.count as f64;
        let coverage = COVERAGES.iter().enumerate().map(|(i, wanted)| Coverage {
            wanted: *wanted,
            held: share(self.held[i]),
            size: share(self.sizes[i]),
            supported: self.least[i].is_some(),
        });
        let coverage = coverage.collect();
        let [known, foreign] = &self.scores;
        if foreign[0].is_empty() {
            return Ok((coverage, Vec::new()));
        }
        let measured = self.by().into_iter().enumerate().map(|(i, by)| {
            let least = self.calibration.least_familiar(KEEP, by)?;
            let part = |scores: &[f64], kept: bool| {
                let count = scores.iter().filter(|score| least.is_none_or(|least| **score >= least) == kept).count();
                count as f64 / scores.len().max(1) as f64
            };
            Ok(Foreign {
                by,
                auroc: auroc(&known[i], &foreign[i]),
                kept: part(&known[i], true),
                refused: part(&foreign[i], false),
                pictures: foreign[i].len(),
                supported: least.is_some(),
            })
        });
        Ok((coverage, measured.collect::<Result<_>>()?))
    }
}

/// The probability that one of `high` is above one of `low`, equal ones counting half; a half where there are none.
fn auroc(high: &[f64], low: &[f64]) -> f64 {
    if high.is_empty() || low.is_empty() {
        return 0.5;
    }
    let mut low = low.to_vec();
    low.sort_by(f64::total_cmp);
    let below = |value: &f64| {
        let (first, last) = (low.partition_point(|v| v < value), low.partition_point(|v| v <= value));
        0.5 * (first + last) as f64
    };
    high.iter().map(below).sum::<f64>() / (high.len() * low.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::evidence::Row;

    #[test]
    fn the_area_under_the_curve_counts_pairs() {
        assert_eq!(auroc(&[3.0, 2.0], &[1.0, 0.0]), 1.0);
        assert_eq!(auroc(&[1.0, 3.0], &[2.0]), 0.5);
        assert_eq!(auroc(&[1.0, 1.0], &[1.0, 2.0]), 0.25);
        assert_eq!(auroc(&[], &[2.0]), 0.5);
    }

    #[test]
    fn pictures_of_the_classes_are_not_foreign() {
        let item = |path: &str| Item { path: path.into(), label: 0 };
        let items = [item("a/Fire_engine/1.png"), item("a/cat/2.png"), item("3.png")];
        let (left, others) = of_no_class(&items, &["fire engine".into()]);
        assert_eq!((left, others), (vec![&items[1], &items[2]], 1));
    }

    #[test]
    fn coverage_and_refusals_are_counted() {
        // Nine pictures, the n-th with n tenths for its class.
        let row = |n: u32| {
            let p = n as f32 / 10.0;
            Row { label: 0, truth: p, top: p.max(1.0 - p), energy: n as f32, similarity: 0.0 }
        };
        let calibration = Calibration { rows: (1..10).map(row).collect(), ..Calibration::default() };
        let mut trusting = Trusting::new(&calibration, 2);
        // Probabilities of class 0: 0.95, 0.5 and 0.12. Eight of ten reach 0.2, nine 0.1.
        let logit = |p: f64| (p / (1.0 - p)).ln() as f32;
        let logits: Vec<f32> = [0.95, 0.5, 0.12].iter().flat_map(|p| [logit(*p), 0.0]).collect();
        trusting.add(&logits, &[0, 0, 0]);
        trusting.compare(false, &logits, &[]).unwrap();
        trusting.compare(true, &[0.0, 0.0, -3.0, -3.0], &[]).unwrap();
        let (coverage, foreign) = trusting.finish().unwrap();
        assert_eq!(coverage.iter().map(|c| c.supported).collect::<Vec<_>>(), [true, true, false]);
        assert!((coverage[0].held - 2.0 / 3.0).abs() < 1e-12 && coverage[1].held == 1.0 && coverage[2].size == 2.0);
        assert!((coverage[0].size - 4.0 / 3.0).abs() < 1e-12, "{coverage:?}");
        assert_eq!(foreign.iter().map(|f| f.by).collect::<Vec<_>>(), [UnknownBy::Probability, UnknownBy::Energy]);
        assert!(
            (foreign[1].auroc - 0.75).abs() < 1e-12
                && !foreign[1].supported
                && foreign[1].refused == 0.0
                && foreign[1].pictures == 2
        );
    }
}
