//! A correction that evaluations train for themselves, and keep.

use std::path::Path;

use crate::adapt::adapter_file::{self, Adapter, Description, File, Meta};
use crate::adapt::lesson::Place;
use crate::adapt::overlap::{self, Config, Correction};
use crate::clip::Clip;
use crate::data::Item;
use crate::encode::sound;
use crate::watch::Watch;
use crate::{Error, Result, text};

/// What a correction is trained on, and how.
#[derive(Clone)]
pub struct Generic<'a> {
    /// The pictures; those that cannot be decoded are left out.
    pub pictures: overlap::Generic<'a>,
    /// How.
    pub config: Config,
    /// Where training is put down.
    pub place: Option<Place>,
}

/// The correction in the file `kept` if it is of these settings and classes; else one trained on generic pictures, which is kept
/// there. With `strict` a picture that cannot be decoded is an error.
///
/// # Errors
/// A file of another correction; as [`overlap::learn`].
pub fn kept(
    clip: &Clip,
    Generic { pictures, config, place }: &Generic<'_>,
    (kept, strict): (&Path, bool),
    watch: &mut dyn Watch,
) -> Result<Correction> {
    let description = Description::of_correction(config)?;
    if kept.is_file() {
        let file = File::open(kept)?;
        if file.meta.method != description || file.meta.classes != pictures.names {
            let reason = "was trained otherwise or without other classes: take another folder for results, or give it as a correction";
            return Err(Error::data(kept, reason));
        }
        return file.bind(clip)?.into_correction();
    }
    let overlap::Generic { items, names, shelf } = *pictures;
    let look = |_: usize, item: &Item| shelf.open(&item.path)?.decoded(|_| ());
    let checked = sound(items, strict, &look, watch)?;
    checked.skipped.iter().for_each(|error| watch.note(&format!("skipped: {error}")));
    if !checked.skipped.is_empty() {
        let count = text::count(checked.skipped.len(), "picture", "pictures");
        watch.note(&format!("{count} skipped (`strict` makes that an error)"));
    }
    let items: Vec<Item> = checked.items.into_iter().map(|(item, ())| item).collect();
    let sound = overlap::Generic { items: &items, names, shelf };
    let (correction, _) = overlap::learn(clip, sound, config, place.clone(), watch)?;
    let meta = Meta::new(clip, names, description, None, config.seed)?;
    let adapter = Adapter::Correction(correction);
    adapter_file::save(kept, clip, &meta, &adapter)?;
    adapter.into_correction()
}
