//! Views of pictures, and what tells them apart: the contents of the file and the view's number, never its place in a list.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::clip::Clip;
use crate::data::decode::PictureFile;
use crate::data::{Augment, PythonRandom, Rgb, stream_seed};
use crate::{Error, Result};

/// How pictures become network inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Views {
    /// The picture itself: resized and centre-cropped. One view.
    Center,
    /// This many random views, numbered from `first`; the same seed, contents and number give the same view.
    Random {
        /// How views are drawn.
        augment: Augment,
        /// How many.
        count: usize,
        /// Number of the first: an epoch's views differ from the last one's.
        first: usize,
        /// Seed.
        seed: u64,
    },
}

/// Name of a view: SHA-256 of a picture's contents, or of those and a random view's description.
pub type RowId = [u8; 32];

impl Views {
    /// Views of each picture.
    pub fn count(&self) -> usize {
        match self {
            Views::Center => 1,
            Views::Random { count, .. } => *count,
        }
    }

    /// The names of a picture's views.
    pub(super) fn ids(&self, contents: &RowId) -> Vec<RowId> {
        let Views::Random { augment, count, first, seed } = self else { return vec![*contents] };
        let id = |view: usize| -> RowId {
            let mut hasher = Sha256::new();
            hasher.update(contents);
            for bound in [augment.scale.0, augment.scale.1, augment.ratio.0, augment.ratio.1, augment.flip] {
                hasher.update(bound.to_le_bytes());
            }
            hasher.update(seed.to_le_bytes());
            hasher.update((view as u64).to_le_bytes());
            hasher.finalize().into()
        };
        (*first..first.saturating_add(*count)).map(id).collect()
    }

    /// The view with this name, R×R.
    pub(super) fn prepared(&self, clip: &Clip, picture: &Rgb, id: &RowId) -> Rgb {
        match self {
            Views::Center => clip.prepare(picture),
            Views::Random { augment, .. } => drawn(augment, picture, clip.preprocess.size, id),
        }
    }

    /// All views of a picture with these contents.
    pub(super) fn all_prepared(&self, clip: &Clip, picture: &Rgb, contents: &RowId) -> Vec<Rgb> {
        self.ids(contents).iter().map(|id| self.prepared(clip, picture, id)).collect()
    }
}

/// The random view with this name, `side`×`side`.
pub(super) fn drawn(augment: &Augment, picture: &Rgb, side: usize, id: &RowId) -> Rgb {
    let mut seed = [0; 8];
    seed.copy_from_slice(&id[..8]);
    augment.view(picture, side, &mut PythonRandom::new(u64::from_le_bytes(seed)))
}

/// SHA-256 of a picture's file.
///
/// # Errors
/// A file that cannot be read, or is too large for a picture.
pub fn contents(path: &Path) -> Result<RowId> {
    Ok(PictureFile::read(path)?.digest())
}

/// Which of `views` precomputed views a picture shows in an epoch of training: a draw for each, so that epochs differ.
pub fn drawn_view(seed: u64, picture: usize, epoch: usize, views: usize) -> usize {
    let stream = stream_seed(seed, picture as u64, epoch as u64);
    PythonRandom::new(stream).randbelow(views.max(1) as u64) as usize
}

/// Un-normalised features `[pictures, D]` of an epoch, of each picture those of the view drawn for it out of features
/// `[pictures, views, D]`.
///
/// # Errors
/// [`Error::Invalid`] for no views, rows without values, or values that are no whole pictures.
pub fn draw_views(features: &[f32], views: usize, width: usize, seed: u64, epoch: usize) -> Result<Vec<f32>> {
    let one = views.checked_mul(width).filter(|one| *one > 0 && features.len().is_multiple_of(*one));
    let Some(one) = one else {
        let values = features.len();
        return Err(Error::invalid(format!("{values} values are no features of {views} views of width {width} each")));
    };
    let pictures = features.chunks_exact(one).enumerate();
    let drawn =
        pictures.filter_map(|(picture, all)| all.chunks_exact(width).nth(drawn_view(seed, picture, epoch, views)));
    Ok(drawn.flatten().copied().collect())
}

#[cfg(test)]
mod tests {
    use super::draw_views;

    #[test]
    fn an_epoch_shows_one_view_of_each_picture_and_another_the_next_time() {
        // Picture·10 + view, width 1.
        let (pictures, views) = (40, 5);
        let features: Vec<f32> = (0..pictures).flat_map(|p| (0..views).map(move |v| (10 * p + v) as f32)).collect();
        let epoch = |seed, epoch| draw_views(&features, views, 1, seed, epoch).unwrap();
        let first = epoch(1, 0);
        assert!(first.iter().enumerate().all(|(p, v)| (*v as usize) / 10 == p && (*v as usize) % 10 < views));
        assert_eq!(first, epoch(1, 0));
        assert_ne!(first, epoch(1, 1));
        assert_ne!(first, epoch(2, 0));
        // Over a few epochs every view of a picture is seen.
        let mut seen = [false; 5];
        (0..40).for_each(|e| seen[epoch(3, e)[7] as usize % 10] = true);
        assert_eq!(seen, [true; 5]);
    }
}
