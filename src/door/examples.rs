//! What is learned from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::data::folder::map_items;
use crate::data::{Decoded, Folder, Item, Picture};
use crate::encode::{Chosen, Remembered, choose_sound};
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
        // An item stands for a picture by its number.
        let item = |(i, example): (usize, &Example)| Item { path: i.to_string().into(), label: example.class };
        let items: Vec<Item> = self.support.iter().enumerate().map(item).collect();
        let Decoded { items, skipped } = sound(&items, &|i| self.support[i].picture.check(), watch)?;
        let items: Vec<Item> = items.into_iter().map(|(item, _)| item).collect();
        let from = (&self.classes[..], &*self.root);
        let Chosen { split, skipped } = choose_sound((&items, skipped), from, (shots, shots.min(4)), seed)?;
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

/// Which items can be decoded, and what is wrong with the others. `check` looks at the item of a number.
fn sound(
    items: &[Item],
    check: &(dyn Fn(usize) -> Result<[usize; 2]> + Sync),
    watch: &mut dyn Watch,
) -> Result<Decoded<[usize; 2]>> {
    watch.begin("checking pictures", items.len());
    let (done, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let progress = |n: usize| {
        done.fetch_max(n, Ordering::Relaxed);
    };
    let look = |i: usize, _: &Item| if ended.load(Ordering::Relaxed) { Err(Error::Stopped) } else { check(i) };
    let mut stopped = Ok(());
    let checked = std::thread::scope(|scope| {
        let work = scope.spawn(|| map_items(items, false, &progress, look));
        // Whoever watches is asked on its own thread.
        while !work.is_finished() {
            if stopped.is_ok() {
                stopped = watch.at(done.load(Ordering::Relaxed));
                ended.store(stopped.is_err(), Ordering::Relaxed);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    stopped?;
    watch.at(items.len())?;
    watch.end();
    checked
}
