//! Support pictures left out, a picture of each class at a time, so that what is learned from the others can be judged by them.

use std::sync::Arc;

use super::{Choice, Fitted, Lesson, Made, labels};
use crate::Result;
use crate::clip::Features;
use crate::data::Item;
use crate::encode::{Tower, Views};
use crate::watch::Watch;

/// The most folds of what is learned without training: each costs a fit.
const MOST: usize = 8;
/// The most of what is trained: twice half the pictures cost one training more.
const MOST_TRAINED: usize = 2;

/// Which support pictures are left out together: one of each class, so that classes lose alike. Pictures that are alone in their
/// class never are, since without them nothing is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folds {
    of: Vec<Option<usize>>,
    count: usize,
}

impl Folds {
    /// Folds of pictures with these labels, at most `most`.
    pub fn new(labels: &[u32], most: usize) -> Folds {
        let classes = labels.iter().max().map_or(0, |label| *label as usize + 1);
        let mut counts = vec![0usize; classes];
        labels.iter().for_each(|label| counts[*label as usize] += 1);
        let count = counts.iter().copied().max().unwrap_or(0).min(most);
        let mut seen = vec![0usize; classes];
        let of = labels.iter().map(|label| {
            let label = *label as usize;
            seen[label] += 1;
            (counts[label] > 1).then_some((seen[label] - 1) % count.max(1))
        });
        let of: Vec<Option<usize>> = of.collect();
        let count = of.iter().flatten().max().map_or(0, |last| last + 1);
        Folds { of, count }
    }

    /// Numbers of the pictures that are left out and of those that are not, fold by fold.
    pub fn iter(&self) -> impl Iterator<Item = (Vec<usize>, Vec<usize>)> {
        (0..self.count).map(|fold| (0..self.of.len()).partition(|i| self.of[*i] == Some(fold)))
    }

    /// Number of folds.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no picture can be left out.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// A fold as caches see it.
pub struct Fold {
    /// Keys of the pictures that stay.
    pub keys: Features,
    /// Their labels.
    pub labels: Vec<u32>,
    /// Un-normalised features of the pictures that are left out.
    pub asked: Features,
    /// Their labels.
    pub truth: Vec<u32>,
    /// The pictures that stay, by number.
    pub rest: Vec<usize>,
}

impl<'a> Lesson<'a> {
    /// The folds of the support pictures; none where there are enough validation pictures.
    pub fn folds(&self, trained: bool) -> Folds {
        match self.thin() {
            true => Folds::new(self.labels(), if trained { MOST_TRAINED } else { MOST }),
            false => Folds::new(&[], 0),
        }
    }

    /// The same as caches see them, with features of the corrected tower where `corrected`.
    ///
    /// # Errors
    /// As [`Lesson::keys`].
    pub fn cache_folds(&mut self, corrected: bool, watch: &mut dyn Watch) -> Result<Vec<Fold>> {
        let folds = self.folds(false);
        if folds.is_empty() {
            return Ok(Vec::new());
        }
        let (keys, all) = (self.keys(corrected, watch)?, self.center(corrected, watch)?);
        let width = self.clip.config.embedding;
        let of = |which: &[usize]| which.iter().map(|i| self.labels[*i]).collect();
        let fold = |(out, rest): (Vec<usize>, Vec<usize>)| {
            let (keys, asked) = (keys.rows(&rest, width)?, all.rows(&out, width)?);
            Ok(Fold { keys, labels: of(&rest), asked, truth: of(&out), rest })
        };
        folds.iter().map(fold).collect()
    }

    /// Un-normalised features `[N, D]` of the support pictures as they are, those of the corrected tower among them where
    /// `corrected`.
    ///
    /// # Errors
    /// As [`Lesson::keys`], but there may be no pictures.
    pub fn center(&mut self, corrected: bool, watch: &mut dyn Watch) -> Result<Features> {
        if self.made.center.is_none() {
            self.made.center = Some(match self.how.key_views {
                // Keys are of the pictures as they are.
                0 if !self.labels.is_empty() => (*self.key_views(watch)?.0).clone(),
                _ => self.features(self.choice.support, &Views::Center, watch)?,
            });
        }
        self.of_tower(self.made.center.clone(), corrected)
    }

    /// Un-normalised features of the support pictures, not of random views, as what has learned takes them.
    ///
    /// # Errors
    /// As [`Lesson::center`].
    pub fn support_for(&mut self, fitted: &dyn Fitted, watch: &mut dyn Watch) -> Result<Features> {
        match self.own_features(fitted, self.choice.support, watch)? {
            Some(features) => Ok(features),
            None => self.center(fitted.tower() == Tower::Corrected, watch),
        }
    }

    /// A lesson on those of the support pictures that stay, `rest` by their numbers, with what is there of them already.
    ///
    /// # Errors
    /// Numbers of pictures that are not there.
    pub fn without<'l>(&'l mut self, rest: &'l [Item], numbers: &[usize]) -> Result<Lesson<'l>>
    where
        'a: 'l,
    {
        let width = self.clip.config.embedding;
        let Made { classifier, keys, views, val, center, .. } = &self.made;
        let of_all = |features: &Option<Features>, one: usize| {
            features.as_ref().map(|features| features.rows(numbers, one)).transpose()
        };
        let made = Made {
            classifier: classifier.clone(),
            keys: of_all(keys, width)?,
            views: match views {
                Some(all) => Some(Arc::new(all.rows(numbers, all.original.len() / self.labels.len().max(1))?)),
                None => None,
            },
            val: val.clone(),
            center: of_all(center, width)?,
            data: None,
        };
        Ok(Lesson {
            clip: self.clip,
            texts: self.texts,
            choice: Choice { support: rest, ..self.choice },
            how: self.how,
            correction: self.correction,
            source: self.source,
            labels: labels(rest),
            val_labels: self.val_labels.clone(),
            made,
            place: None,
            settings: self.settings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Folds;

    #[test]
    fn each_class_loses_a_picture_at_a_time() {
        // Three of class 0, two of class 1, one of class 2, in no order.
        let folds = Folds::new(&[0, 1, 0, 2, 1, 0], 8);
        let all: Vec<_> = folds.iter().collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0], (vec![0, 1], vec![2, 3, 4, 5]));
        assert_eq!(all[1], (vec![2, 4], vec![0, 1, 3, 5]));
        assert_eq!(all[2], (vec![5], vec![0, 1, 2, 3, 4]));
        // At most so many: the third goes with the first.
        let two: Vec<_> = Folds::new(&[0, 1, 0, 2, 1, 0], 2).iter().collect();
        assert_eq!(two.iter().map(|fold| fold.0.clone()).collect::<Vec<_>>(), [vec![0, 1, 5], vec![2, 4]]);
    }

    #[test]
    fn a_picture_that_is_alone_is_not_left_out() {
        assert!(Folds::new(&[0, 1, 2], 8).is_empty() && Folds::new(&[], 8).is_empty());
        assert_eq!(Folds::new(&[0, 1, 1], 8).iter().next().unwrap().0, [1]);
    }
}
