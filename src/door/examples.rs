//! What is learned from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::data::{Folder, Item, Picture, few_shot};
use crate::encode::Remembered;
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
    /// Pictures per class, where so many were chosen.
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
    /// as many, up to four, to validate on. Pictures that cannot be decoded are left out first, and given as errors. `tipi fit`
    /// chooses the same.
    ///
    /// # Errors
    /// [`Error::Data`] for a class with fewer pictures than `shots`, [`Error::Invalid`] for 0 shots; what `watch` gives.
    pub fn choose(&self, shots: usize, seed: u64, watch: &mut dyn Watch) -> Result<(Examples, Vec<Error>)> {
        let (sound, skipped) = sound(&self.support, watch)?;
        let items: Vec<Item> =
            sound.iter().map(|i| Item { path: i.to_string().into(), label: self.support[*i].class }).collect();
        let split = match few_shot(&items, &self.classes, &self.root, shots, shots.min(4), seed) {
            Err(Error::Data { path, reason }) if !skipped.is_empty() => {
                let broken = text::count(skipped.len(), "picture", "pictures");
                return Err(Error::Data {
                    path,
                    reason: format!("{reason} ({broken} cannot be decoded, first {})", skipped[0]),
                });
            }
            other => other?,
        };
        let examples = |items: Vec<Item>| {
            let number = |item: &Item| item.path.to_str().and_then(|number| number.parse::<usize>().ok());
            items.iter().filter_map(number).filter_map(|i| self.support.get(i).cloned()).collect()
        };
        let (support, validation) = (examples(split.support), examples(split.val));
        Ok((Examples { support, validation, shots: Some(shots), ..self.clone() }, skipped))
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

/// Which pictures can be decoded, and what is wrong with the others.
fn sound(examples: &[Example], watch: &mut dyn Watch) -> Result<(Vec<usize>, Vec<Error>)> {
    watch.begin("checking pictures", examples.len());
    let (done, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let checked: Vec<Result<[usize; 2]>> = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let check = |example: &Example| {
                if ended.load(Ordering::Relaxed) {
                    return Err(Error::Stopped);
                }
                let checked = example.picture.check();
                done.fetch_add(1, Ordering::Relaxed);
                checked
            };
            examples.par_iter().map(check).collect()
        });
        // Whoever watches is asked on its own thread.
        while !work.is_finished() {
            if watch.at(done.load(Ordering::Relaxed)).is_err() {
                ended.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    watch.at(examples.len())?;
    watch.end();
    let (mut sound, mut skipped) = (Vec::new(), Vec::new());
    for (i, checked) in checked.into_iter().enumerate() {
        match checked {
            Ok(_) => sound.push(i),
            Err(error) => skipped.push(error),
        }
    }
    Ok((sound, skipped))
}
