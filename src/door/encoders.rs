//! Towers recorded for a number of pictures, kept from call to call, and pictures decoded ahead of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::adapt::overlap::Correction;
use crate::clip::{BatchPlan, Clip, PixelNoise};
use crate::data::Picture;
use crate::encode::source::BATCH;
use crate::encode::{self, Tower, decoding_ahead};
use crate::{Error, Result};

/// Recorded towers that are kept: for a picture alone, for many, and for what was left over.
const KEPT: usize = 3;

/// What a tower is recorded for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub tower: Tower,
    /// Pictures in all.
    pub pictures: usize,
    /// At a time, where that was said.
    pub exactly: Option<usize>,
}

/// Recorded towers, the one used last at the end.
#[derive(Default)]
pub(super) struct Encoders(Mutex<Vec<(Tower, Arc<Encoder>)>>);

/// A tower recorded for a batch. Whoever runs it holds it until its results are on their way.
pub(super) struct Encoder {
    /// Pictures that it takes.
    pub batch: usize,
    /// Pictures that it was asked for; memory may have made it smaller.
    wanted: usize,
    plan: Mutex<BatchPlan>,
}

impl Encoder {
    pub fn plan(&self) -> MutexGuard<'_, BatchPlan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Encoders {
    /// The tower recorded for `pictures`, as many as fit at a time, with the correction that it needs or the noise on pixels.
    pub fn get(
        &self,
        clip: &Clip,
        wanted: Wanted,
        correction: Option<&Correction>,
        noise: Option<&PixelNoise>,
    ) -> Result<Arc<Encoder>> {
        let Wanted { tower, pictures, exactly } = wanted;
        let (wanted, exactly) = (pictures.min(exactly.unwrap_or(BATCH)).max(1), exactly.is_some());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = kept.iter().position(|(of, encoder)| *of == tower && encoder.wanted == wanted) {
            let found = kept.remove(place);
            let encoder = found.1.clone();
            kept.push(found);
            return Ok(encoder);
        }
        if kept.len() >= KEPT {
            // The memory of the one that was used longest ago, first.
            kept.remove(0);
        }
        let bottlenecks = correction.map(|correction| &correction.blocks[..]);
        let made = || match noise {
            Some(noise) => clip.noisy_encoder(wanted * noise.rows(), noise),
            None => encode::encoder(clip, tower, bottlenecks, (wanted, exactly)),
        };
        let made = match made() {
            // What is kept is not worth failing for.
            Err(Error::OutOfMemory { .. }) if !kept.is_empty() => {
                kept.clear();
                made()?
            }
            other => other?,
        };
        let encoder = Arc::new(Encoder { batch: made.batch(), wanted, plan: Mutex::new(made.into_plan()) });
        kept.push((tower, encoder.clone()));
        Ok(encoder)
    }

    /// Gives their memory back, but for those in use.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A batch of pictures as a tower takes them.
pub(super) struct Prepared {
    /// Samples of those that could be decoded, one picture after the other.
    pub samples: Vec<u8>,
    /// What became of each.
    pub pictures: Vec<Result<()>>,
}

/// Decodes and prepares pictures, `batch` at a time, the next ones while `take` has the last.
pub(super) fn prepared(
    clip: &Clip,
    pictures: &[Picture],
    batch: usize,
    mut take: impl FnMut(Prepared) -> Result<()>,
) -> Result<()> {
    let one = |picture: &Picture| {
        let file = picture.open()?.with_depth(clip.preprocess.depth);
        file.decoded(|picture| clip.prepare(&picture))
    };
    decoding_ahead(pictures, batch, one, |_, decoded| {
        let mut prepared = Prepared { samples: Vec::new(), pictures: Vec::with_capacity(decoded.len()) };
        for picture in decoded {
            prepared.pictures.push(picture.map(|picture| prepared.samples.extend(picture.data)));
        }
        take(prepared)
    })
}
