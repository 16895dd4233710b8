//! Features for training, epoch by epoch.

use crate::Result;
use crate::data::{Augment, Item};
use crate::encode::{Source, Tower, Views, draw_views};

/// Features of the support pictures, epoch by epoch; see [`Lesson::epochs`](super::Lesson::epochs).
pub struct Epochs<'l> {
    fixed: Option<(Vec<f32>, usize)>,
    source: &'l mut dyn Source,
    support: &'l [Item],
    tower: Tower,
    augment: Augment,
    first: usize,
    seed: u64,
}

impl<'l> Epochs<'l> {
    /// `fixed` are features of so many views of each picture, from which each epoch draws; without them it sees fresh views.
    pub(super) fn new(
        fixed: Option<(Vec<f32>, usize)>,
        source: &'l mut dyn Source,
        (support, tower): (&'l [Item], Tower),
        (augment, first, seed): (Augment, usize, u64),
    ) -> Epochs<'l> {
        Epochs { fixed, source, support, tower, augment, first, seed }
    }

    /// Un-normalised features `[N, D]` of an epoch.
    ///
    /// # Errors
    /// What the source gives.
    pub fn features(&mut self, epoch: usize) -> Result<Vec<f32>> {
        match &self.fixed {
            Some((features, count)) => {
                let width = features.len() / (self.support.len() * count).max(1);
                draw_views(features, *count, width, self.seed, epoch)
            }
            None => {
                let views =
                    Views::Random { augment: self.augment, count: 1, first: self.first + epoch, seed: self.seed };
                Ok(self.source.fresh(self.tower, self.support, &views)?.original)
            }
        }
    }
}
