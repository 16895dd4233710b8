//! What lies at a path: the one place that decides, for all who take pictures with their classes.

use std::path::{Path, PathBuf};

use super::known::Known;
use super::{Dataset, ELEVEN, Parts, SHIFTS, SPLIT_SEED, some_of, split, user};
use crate::data::{Folder, Item, PythonRandom, Walk};
use crate::{Error, Result};

/// How a set without parts is divided.
const SHARES: &str = "50 % train, 20 % val, 30 % test of each class";

/// Pictures with their classes.
#[derive(Debug, Clone)]
pub enum Found {
    /// Nobody has divided them: class folders, or a list without parts.
    Whole(Whole),
    /// A set in its parts. A user's own may have no test part.
    Parts(Box<Dataset>),
}

/// Pictures that nobody has divided.
#[derive(Debug, Clone)]
pub struct Whole {
    /// The folder, or the list.
    pub path: PathBuf,
    /// The classes, and their pictures in the order given.
    pub folder: Folder,
}

impl Found {
    /// Looks at what lies at `path`, or what is the known set of this name below `root`: see [`Dataset::open`]. What `walk` passed
    /// over and could not read it keeps.
    ///
    /// # Errors
    /// As [`Dataset::open`], but for what a set needs only to be measured on.
    pub fn open(path: &Path, root: Option<&Path>, walk: &Walk) -> Result<Found> {
        // What is no text names no known set.
        match (path.to_str().and_then(Known::find), root) {
            (Some(known), Some(root)) => known.open(root, walk).map(Found::of),
            (None, _) | (_, None) if path.exists() => match Known::of_split(path) {
                Some((known, dir)) => known.open_at(dir, walk).map(Found::of),
                None => user::open(path, walk),
            },
            (Some(known), None) => Err(Error::NoRoot { title: known.title, folder: known.folder }),
            (None, _) => Err(Error::invalid(format!(
                "'{}' is no file or folder and no known dataset: give a folder with one sub-folder per class, a CSV \
                 file, a split file of CoOp's form, or one of {}",
                path.display(),
                ELEVEN.iter().chain(&SHIFTS).copied().collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// Whether a folder has parts: train, and something to search or to test on.
    ///
    /// # Errors
    /// A folder that cannot be read, in a strict walk.
    pub fn has_parts(folder: &Path, walk: &Walk) -> Result<bool> {
        user::has_parts(folder, walk.at(folder))
    }

    fn of(dataset: Dataset) -> Found {
        Found::Parts(Box::new(dataset))
    }

    /// The set in parts that one can be measured on.
    ///
    /// # Errors
    /// No picture to test on; a class that is too small to be divided.
    pub(super) fn divided(self, path: &Path) -> Result<Dataset> {
        match self {
            Found::Whole(whole) => whole.divided(),
            Found::Parts(dataset) if dataset.test.is_empty() => {
                let reason = match (path.is_dir(), path.join("test").is_dir()) {
                    (true, true) => "there is no picture in class folders of test: add some to test on",
                    (true, false) => "there are train and val but no test to measure on: add it, or rename val to test",
                    (false, _) => "there is no picture to test on: add some",
                };
                Err(Error::data(path, reason))
            }
            Found::Parts(dataset) => Ok(*dataset),
        }
    }

    /// The name of the folder, list or known set.
    pub fn name(&self) -> String {
        match self {
            Found::Whole(whole) => name(&whole.path),
            Found::Parts(dataset) => dataset.name.clone(),
        }
    }

    /// The classes by label, as text for a prompt.
    pub fn classes(&self) -> Vec<String> {
        match self {
            Found::Whole(whole) => whole.folder.names(),
            Found::Parts(dataset) => dataset.classes.clone(),
        }
    }

    /// All pictures.
    pub fn items(&self) -> Vec<&Item> {
        match self {
            Found::Whole(whole) => whole.folder.items.iter().collect(),
            Found::Parts(dataset) => dataset.parts().iter().flat_map(|(_, items)| items.iter()).collect(),
        }
    }

    /// The pictures to learn from: all that nobody has divided, or the train part.
    pub fn to_learn_from(&self) -> &[Item] {
        match self {
            Found::Whole(whole) => &whole.folder.items,
            Found::Parts(dataset) => &dataset.train,
        }
    }
}

impl Whole {
    /// Divides each class, always alike.
    fn divided(self) -> Result<Dataset> {
        let Whole { path, folder } = self;
        let names = folder.names();
        let mut classes = vec![Vec::new(); names.len()];
        for item in folder.items {
            classes[item.label].push(item);
        }
        let listed = !path.is_dir();
        let small: Vec<&str> =
            names.iter().zip(&classes).filter(|(_, items)| items.len() < 2).map(|(name, _)| name.as_str()).collect();
        if listed && !small.is_empty() {
            let of = some_of(&small);
            let reason = format!("only one picture of {of}: two are needed, one to learn from and one to test on");
            return Err(Error::data(path, reason));
        }
        let parts: Parts<Item> = split::three_ways(classes, &mut PythonRandom::new(SPLIT_SEED)).map_err(|class| {
            let reason = "the class has one picture: two are needed, one to learn from and one to test on";
            Error::data(path.join(&folder.classes[class]), reason)
        })?;
        let what = if listed { "lines of the list" } else { "class folders" };
        user::set(&path, names, parts, format!("{what}; {SHARES}"))
    }
}

/// A folder's own name, or a list's without its ending.
pub(super) fn name(path: &Path) -> String {
    // "." has no name of its own.
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = if path.is_dir() { resolved.file_name() } else { resolved.file_stem() };
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
