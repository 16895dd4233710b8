//! What is learned from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::sampling::ALL_TAKEN;
use crate::data::{Decoded, Folder, Item, Picture, Shelf, Shots};
use crate::encode::{Chosen, Remembered, choose_sound, sound};
use crate::watch::Watch;
use crate::{Error, Result, text};

/// Pictures with their classes, to learn from and to validate on. What a fit computes of them is remembered: the next one, with
/// an example more or moved, takes little time.
///
/// Validation pictures choose settings and make confidence true. Nothing is learned from them.
#[derive(Clone, Debug, Default)]
pub struct Examples {
    classes: Vec<String>,
    support: Vec<Example>,
    validation: Vec<Example>,
    /// Pictures per class, where so many were chosen; none where all are taken.
    shots: Option<usize>,
    /// The folder that they are from.
    root: PathBuf,
    remembered: Arc<Remembered>,
}

#[derive(Clone, Debug)]
struct Example {
    picture: Picture,
    class: usize,
}

impl Examples {
    /// None so far.
    pub fn new() -> Examples {
        Examples::default()
    }

    /// All pictures of a folder with a sub-folder for each class, whose name names it.
    ///
    /// # Errors
    /// [`Error::Data`] for fewer than two classes, a class without pictures, or names that cannot be told apart; [`Error::Io`].
    pub fn of_folder(folder: impl AsRef<Path>) -> Result<Examples> {
        let folder = Folder::open(folder)?;
        let of = |item: &Item| Example { picture: Picture::file(&item.path), class: item.label };
        let support = folder.items.iter().map(of).collect();
        Ok(Examples { classes: folder.names(), support, root: folder.root, ..Examples::default() })
    }

    /// Adds a picture to learn from. The first one of a class makes the class.
    pub fn add(&mut self, class: &str, picture: Picture) -> &mut Examples {
        let class = self.class(class);
        self.support.push(Example { picture, class });
        self
    }

    /// Adds a picture to validate on.
    pub fn add_validation(&mut self, class: &str, picture: Picture) -> &mut Examples {
        let class = self.class(class);
        self.validation.push(Example { picture, class });
        self
    }

    /// Takes all pictures and classes away. What was computed of them is still remembered.
    pub fn clear(&mut self) {
        *self = Examples { remembered: self.remembered.clone(), ..Examples::default() };
    }

    fn class(&mut self, name: &str) -> usize {
        self.classes.iter().position(|known| known == name).unwrap_or_else(|| {
            self.classes.push(name.into());
            self.classes.len() - 1
        })
    }

    /// The classes, in the order in which they came.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Pictures to learn from with the numbers of their classes.
    pub fn support(&self) -> impl Iterator<Item = (usize, &Picture)> {
        self.support.iter().map(|example| (example.class, &example.picture))
    }

    /// Pictures to validate on with the numbers of their classes.
    pub fn validation(&self) -> impl Iterator<Item = (usize, &Picture)> {
        self.validation.iter().map(|example| (example.class, &example.picture))
    }

    /// Chooses by chance, always the same way for a `seed`: of the pictures to learn from, `shots` of each class, and of the rest
    /// as many, up to four, to validate on. A class that has fewer gives all it has, which `watch` is told. [`Shots::All`] takes
    /// all of every class, and puts none aside. Pictures that cannot be decoded are left out first, and given as errors. `tipi fit`
    /// chooses the same.
    ///
    /// # Errors
    /// [`Error::Data`] for a class without a picture, [`Error::Invalid`] for 0 shots; what `watch` gives.
    pub fn choose(&self, shots: impl Into<Shots>, seed: u64, watch: &mut dyn Watch) -> Result<(Examples, Vec<Error>)> {
        let shots = shots.into();
        let Decoded { items, skipped } =
            sound(&numbered(&self.support), false, &|i, _| self.support[i].picture.check(), watch)?;
        let items: Vec<Item> = items.into_iter().map(|(item, _)| item).collect();
        let from = (&self.classes[..], &*self.root);
        let Chosen { split, skipped, short } = choose_sound((&items, skipped), from, shots, seed)?;
        if let Some(short) = short {
            watch.note(&format!("{short}; {ALL_TAKEN}"));
        }
        let examples =
            |items: Vec<Item>| items.iter().filter_map(number).filter_map(|i| self.support.get(i).cloned()).collect();
        let (support, validation) = (examples(split.support), examples(split.val));
        Ok((Examples { support, validation, shots: shots.number(), ..self.clone() }, skipped))
    }

    /// The same without pictures that cannot be decoded, which are given as errors.
    ///
    /// # Errors
    /// What `watch` gives.
    pub fn sound(&self, watch: &mut dyn Watch) -> Result<(Examples, Vec<Error>)> {
        let mut skipped = Vec::new();
        let mut of = |all: &[Example]| -> Result<Vec<Example>> {
            let checked = sound(&numbered(all), false, &|i, _| all[i].picture.check(), watch)?;
            skipped.extend(checked.skipped);
            Ok(checked.items.iter().filter_map(|(item, _)| all.get(number(item)?).cloned()).collect())
        };
        let (support, validation) = (of(&self.support)?, of(&self.validation)?);
        Ok((Examples { support, validation, ..self.clone() }, skipped))
    }

    /// Fails at the first picture to learn from that cannot be decoded.
    pub(super) fn all_sound(&self, watch: &mut dyn Watch) -> Result<()> {
        let look = |i: usize, _: &Item| self.support[i].picture.check();
        sound(&numbered(&self.support), true, &look, watch).map(drop)
    }

    /// Pictures to learn from, those in memory on the shelf.
    pub(super) fn items(&self, shelf: &mut Shelf) -> Vec<Item> {
        self.support().map(|(label, picture)| Item { path: shelf.put(picture), label }).collect()
    }

    /// The folder that they are from.
    #[cfg(feature = "eval")]
    pub(super) fn root(&self) -> Option<&Path> {
        Some(&*self.root).filter(|root| !root.as_os_str().is_empty())
    }

    pub(super) fn shots(&self) -> Option<usize> {
        self.shots
    }

    pub(super) fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// Checks that there is something to learn.
    pub(super) fn check(&self) -> Result<()> {
        if self.classes.len() < 2 {
            let classes = text::count(self.classes.len(), "class", "classes");
            return Err(Error::invalid(format!("there are examples of {classes}: at least two are needed")));
        }
        let empty = (0..self.classes.len()).find(|class| self.support.iter().all(|example| example.class != *class));
        match empty {
            Some(class) => {
                let name = text::cut(&self.classes[class], text::NAME);
                Err(Error::invalid(format!("the class '{name}' has no picture to learn from: add one")))
            }
            None => Ok(()),
        }
    }
}

/// Items that stand for pictures by their numbers.
fn numbered(examples: &[Example]) -> Vec<Item> {
    let item = |(i, example): (usize, &Example)| Item { path: i.to_string().into(), label: example.class };
    examples.iter().enumerate().map(item).collect()
}

fn number(item: &Item) -> Option<usize> {
    item.path.to_str()?.parse().ok()
}
