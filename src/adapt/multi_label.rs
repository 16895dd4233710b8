//! Pictures that have several labels, with a cache: a key counts for every label that its picture has, and each label has a
//! threshold of its own.
//!
//! A picture stands in the cache once for each of its labels, so that the cache term of a label is a sum over all pictures that
//! have it, and Tip-Adapter's logits are scores of the labels one by one. From which score on a picture has a label is chosen on
//! the support pictures, each scored without its own key: the threshold of the best F1.

use std::path::PathBuf;

use super::lesson::Lesson;
use super::method::Fitted;
use super::tip::TipParams;
use crate::data::Item;
use crate::encode::Views;
use crate::watch::Watch;
use crate::{Error, Result};

/// A label with fewer pictures, or with fewer that do not have it, gets the threshold of all labels together.
pub const LEAST: usize = 3;

/// Pictures with their labels, by number.
pub type Labelled = (PathBuf, Vec<usize>);

/// Thresholds of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// By label: a picture has it from this score on.
    pub each: Vec<f64>,
    /// The labels that have that of all together, since they have too few pictures.
    pub few: Vec<usize>,
    /// F1 of all labels' answers together, each picture scored without its own key.
    pub f1: f64,
}

/// The pictures as a cache takes them: each once for every label that it has.
pub fn by_label(pictures: &[Labelled]) -> Vec<Item> {
    let item = |path: &PathBuf, label: &usize| Item { path: path.clone(), label: *label };
    pictures.iter().flat_map(|(path, labels)| labels.iter().map(move |label| item(path, label))).collect()
}

/// Chooses the thresholds of a cache that `lesson` has learned of [`by_label`] of these pictures with `params`.
///
/// # Errors
/// Other pictures than the lesson's; what its source gives; a lost device.
pub fn thresholds(
    lesson: &mut Lesson<'_>,
    (fitted, params): (&dyn Fitted, TipParams),
    pictures: &[Labelled],
    watch: &mut dyn Watch,
) -> Result<Thresholds> {
    let (clip, classes) = (lesson.clip(), lesson.texts().classes.len());
    let width = clip.config.embedding;
    let corrected = fitted.correction().is_some();
    let items: Vec<Item> = pictures.iter().map(|(path, _)| Item { path: path.clone(), label: 0 }).collect();
    let mut features = lesson.features(&items, &Views::Center, watch)?;
    if !corrected {
        features.adapted = None;
    }
    let mut scores: Vec<f64> = fitted.logits(clip, &features, 0)?.into_iter().map(f64::from).collect();
    let keys = lesson.keys(corrected, watch)?;
    let (met, keys) = (features.adapted.as_deref().unwrap_or(&features.original), keys.affinity());
    if keys.len() != width * pictures.iter().map(|(_, labels)| labels.len()).sum::<usize>() {
        return Err(Error::invalid("the keys are of other pictures"));
    }
    let mut key = 0;
    for (at, (_, labels)) in pictures.iter().enumerate() {
        // All of a picture's keys are the same.
        let similar = cosine(&met[at * width..][..width], &keys[key * width..][..width]);
        let own = params.alpha * (-params.beta * (1.0 - similar)).exp();
        labels.iter().for_each(|label| scores[at * classes + label] -= own);
        key += labels.len();
    }
    let mut has = vec![false; scores.len()];
    for (at, (_, labels)) in pictures.iter().enumerate() {
        labels.iter().for_each(|label| has[at * classes + label] = true);
    }
    Ok(chosen(&scores, &has, classes))
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt().max(f64::MIN_POSITIVE)
}

/// The thresholds for scores `[pictures, classes]`.
fn chosen(scores: &[f64], has: &[bool], classes: usize) -> Thresholds {
    let of = |label: usize| -> Vec<(f64, bool)> {
        scores.iter().copied().zip(has.iter().copied()).skip(label).step_by(classes).collect()
    };
    let overall = best(scores.iter().copied().zip(has.iter().copied()).collect());
    let mut few = Vec::new();
    let each: Vec<f64> = (0..classes)
        .map(|label| {
            let scored = of(label);
            let with = scored.iter().filter(|(_, has)| *has).count();
            if with < LEAST || scored.len() - with < LEAST {
                few.push(label);
                return overall;
            }
            best(scored)
        })
        .collect();
    let (mut right, mut said, mut true_ones) = (0, 0, 0);
    for (at, (score, has)) in scores.iter().zip(has).enumerate() {
        let says = *score >= each[at % classes];
        right += usize::from(says && *has);
        said += usize::from(says);
        true_ones += usize::from(*has);
    }
    let f1 = 2.0 * right as f64 / (said + true_ones).max(1) as f64;
    Thresholds { each, few, f1 }
}

/// The threshold of the best F1: half way between the scores that it parts, and of several that are as good the middle one.
fn best(mut scored: Vec<(f64, bool)>) -> f64 {
    scored.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let true_ones = scored.iter().filter(|(_, has)| *has).count();
    let (mut right, mut top, mut cuts) = (0, 0.0, Vec::new());
    for (at, (score, has)) in scored.iter().enumerate() {
        right += usize::from(*has);
        let next = scored.get(at + 1).map(|(next, _)| *next);
        // Equal scores have equal answers.
        if next == Some(*score) {
            continue;
        }
        let f1 = 2.0 * right as f64 / (at + 1 + true_ones) as f64;
        if f1 > top {
            (top, cuts) = (f1, Vec::new());
        }
        if f1 >= top {
            cuts.push(next.map_or(*score, |next| 0.5 * (score + next)));
        }
    }
    cuts.get(cuts.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_lies_between_what_it_parts() {
        let parted = vec![(1.0, false), (3.0, true), (2.0, true), (0.0, false)];
        assert_eq!(best(parted), 1.5);
        // One wrong picture in between: with it or without the last right one is as good, and so on.
        assert_eq!(best(vec![(5.0, true), (4.0, true), (3.0, false), (1.0, true)]), 1.0);
        // No score below: the lowest itself.
        assert_eq!(best(vec![(2.0, true), (1.0, true)]), 1.0);
        // Equal scores are never parted.
        assert_eq!(best(vec![(2.0, true), (1.0, true), (1.0, false), (0.0, false)]), 0.5);
        assert_eq!(best(vec![(1.0, false)]), 1.0);
    }

    #[test]
    fn of_thresholds_that_are_as_good_the_middle_one_counts() {
        // Two of two at the second place, three of ... : F1 is 2·1/(1+3), 2·2/(2+3), 2·2/(3+3), 2·3/(4+3).
        let scored = vec![(9.0, true), (8.0, true), (7.0, false), (6.0, false), (5.0, false), (4.0, true)];
        // F1 of the cuts: 1/2, 4/5, 4/6, 4/7, 4/8, 6/9.
        assert_eq!(best(scored), 7.5);
        // A cut at 1/1 of two and one at 2/2·2: equal F1 of 2/3 three times.
        let equal = vec![(9.0, true), (8.0, false), (7.0, false), (6.0, true)];
        // 2/3, 2/4, 2/5, 4/6: the first and the last are as good.
        assert_eq!(best(equal), 6.0);
    }

    #[test]
    fn labels_of_few_pictures_have_the_threshold_of_all() {
        // Two labels: the first of four pictures of eight, the second of one.
        let scores: Vec<f64> = (0..8).flat_map(|at| [f64::from(at), f64::from(at) - 4.0]).collect();
        let has: Vec<bool> = (0..8).flat_map(|at| [at >= 4, at == 7]).collect();
        let Thresholds { each, few, f1 } = chosen(&scores, &has, 2);
        assert_eq!((each[0], &few[..]), (3.5, &[1][..]));
        let all: Vec<(f64, bool)> = scores.iter().copied().zip(has).collect();
        assert_eq!(each[1], best(all));
        assert!(f1 > 0.8, "{f1}");
    }

    #[test]
    fn a_picture_stands_once_for_every_label() {
        let pictures = [("a".into(), vec![0, 2]), ("b".into(), vec![1])];
        let items: Vec<_> = by_label(&pictures).into_iter().map(|item| (item.path, item.label)).collect();
        assert_eq!(items, [("a".into(), 0), ("a".into(), 2), ("b".into(), 1)]);
    }
}
