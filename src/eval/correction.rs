//! Corrections of evaluations: how they were taught, and those that evaluations train for themselves and keep.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::adapt::adapter_file::{self, Adapter, CORRECTION, Description, File, Meta, NO_CORRECTION};
use crate::adapt::lesson::Place;
use crate::adapt::overlap::{self, Config, Correction};
use crate::clip::Clip;
use crate::data::{Item, equal_files};
use crate::encode::sound;
use crate::watch::Watch;
use crate::{Error, Result, text};

/// How a correction was taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Teaching {
    /// By labels of generic pictures.
    Supervised,
    /// By pictures alone (DINO).
    SelfSupervised,
}

impl Teaching {
    /// All.
    pub const ALL: [Teaching; 2] = [Teaching::Supervised, Teaching::SelfSupervised];

    /// The name that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Teaching::Supervised => "supervised",
            Teaching::SelfSupervised => "self-supervised",
        }
    }

    /// That of these settings.
    pub fn of(config: &Config) -> Teaching {
        if config.self_supervised.is_some() { Teaching::SelfSupervised } else { Teaching::Supervised }
    }

    /// That of a file's correction.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the file of a method.
    pub fn of_file(description: &Description) -> Result<Teaching> {
        match description.name == CORRECTION {
            true => description.correction().map(|config| Teaching::of(&config)),
            false => Err(Error::invalid(NO_CORRECTION)),
        }
    }

    /// The file in the folder of results that keeps a correction which was trained for them.
    pub const fn file(self) -> &'static str {
        match self {
            Teaching::Supervised => "correction.safetensors",
            Teaching::SelfSupervised => "correction-self-supervised.safetensors",
        }
    }
}

impl std::fmt::Display for Teaching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

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
/// there. Pictures that are among `tested`, byte for byte, are left out. With `strict` a picture that cannot be decoded is an error.
///
/// # Errors
/// A file of another correction; as [`overlap::learn`].
pub fn kept(
    clip: &Clip,
    Generic { pictures, config, place }: &Generic<'_>,
    (kept, tested, strict): (&Path, &[&Item], bool),
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
    let seen = equal_files(items, tested);
    let untested: Vec<Item> =
        items.iter().zip(&seen).filter(|(_, seen)| !**seen).map(|(item, _)| item.clone()).collect();
    if untested.len() < items.len() {
        let count = text::count(items.len() - untested.len(), "generic picture is", "generic pictures are");
        watch.note(&format!("{count} among the test pictures, and left out"));
    }
    let look = |_: usize, item: &Item| shelf.open(&item.path)?.decoded(|_| ());
    let checked = sound(&untested, strict, &look, watch)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_how_their_correction_was_taught() {
        for (config, teaching) in
            [(Config::paper(1), Teaching::Supervised), (Config::without_labels(1, 8), Teaching::SelfSupervised)]
        {
            let description = Description::of_correction(&config).unwrap();
            assert_eq!(Teaching::of_file(&description).unwrap(), teaching);
            assert_eq!(serde_json::to_value(teaching).unwrap(), teaching.name());
        }
        let method = Description { name: "tip-adapter".into(), words: serde_json::Map::new() };
        assert!(Teaching::of_file(&method).unwrap_err().to_string().contains("no overlap correction"));
    }
}
