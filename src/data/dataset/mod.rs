//! Sets of pictures in parts to learn from, to search on and to test on: the sets on which few-shot methods are
//! compared, by name, and a user's own, by path.
//!
//! The sets are laid out on disk as CoOp's instructions say, so a folder prepared for CoOp, Tip-Adapter and their
//! descendants serves as it is: [`Dataset::open`] takes CoOp's `split_zhou_*.json` where there is one and otherwise
//! makes the parts from the set's own lists or folders, by CoOp's rules. A split made that way is always the same (it is
//! drawn with seed 1, whatever the seed of the few shots) but is not CoOp's: CoOp shuffles files in the order in which
//! the system happens to list them, here they are sorted first. Only the split file gives the split that published
//! numbers were measured on.

mod check;
mod equal;
mod found;
mod imagenet;
mod known;
mod listing;
mod mat;
mod own_layouts;
mod several;
mod split;
mod user;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

pub use check::PartSummary;
pub use equal::{Placed, equal_files};
pub use found::{Found, Whole};
pub use known::{ELEVEN, SHIFTS};
pub use several::Several;

use crate::data::{Item, PythonRandom, TEMPLATE, WORDS, Walk, class_key, class_name};
use crate::{Error, Result, text};
use known::{Known, Layout};
use own_layouts::OwnLayout;

/// Seed of every split that is made here: a set's parts do not change with the seed of the few shots.
const SPLIT_SEED: u64 = 1;
/// How many classes a note names.
const NAMED: usize = 5;

/// A set of pictures in its parts.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// CoOp's name in lower case (`oxford_pets`, `imagenet_a`); a user's folder's own name, a CSV's without `.csv`.
    pub name: String,
    /// The name for people (`OxfordPets`); a user's set has its name here too.
    pub title: String,
    /// The set's folder.
    pub root: PathBuf,
    /// The classes by label, as text for a prompt.
    pub classes: Vec<String>,
    /// Zero-shot templates, `{}` standing for the class.
    pub templates: Vec<String>,
    /// The words that PiNI puts before the class.
    pub words: String,
    /// Pictures to learn from. Empty only for a shifted ImageNet without ImageNet itself.
    pub train: Vec<Item>,
    /// Pictures to search on. Empty where the set has none (ImageNet): then train pictures serve.
    pub val: Vec<Item>,
    /// Pictures to test on.
    pub test: Vec<Item>,
    /// The labels among which a test picture's class is chosen, sorted, where these are not all: ImageNet-A and -R have
    /// 200 of ImageNet's 1000 classes. Labels are ImageNet's all the same.
    pub subset: Option<Vec<usize>>,
    /// Where the parts come from, on one line for people.
    pub source: String,
    /// What one should know about this copy of the set.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Opens a set.
    ///
    /// `what` is a known set's name, whose folder is then looked for below `root`: one of [`ELEVEN`] or [`SHIFTS`], or a
    /// common other name of theirs (`OxfordPets`, `pets`, `DescribableTextures`, `imagenet-a`); case, `-` and `_` do not
    /// matter. Or it is a user's own set:
    ///
    /// - a folder with one sub-folder of pictures per class, divided into 50 % train, 20 % val and 30 % test of each
    ///   class, always alike;
    /// - a folder with `train` and `test` (and `val`, `valid` or `validation`), each with a sub-folder per class;
    /// - a CSV file with the columns `path`, `label` and perhaps `split` (`train`, `val` or `test`); paths are relative to
    ///   the file's folder, labels are the names of classes. Without `split` it is divided as above, in the order of the
    ///   lines;
    /// - a split file of CoOp's form, whose name ends in `.json` and whose paths are relative to its folder. One that has the name
    ///   of a known set's is that set in its folder.
    ///
    /// Without `root`, something that exists at `what` is a user's set even if a known set has that name; with `root`,
    /// the known set is meant, and `./what` the other.
    ///
    /// No picture is opened, and those in lists need not exist: [`Dataset::missing`] names them.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] names the file (and line or entry) that does not fit, or the folder that is not there;
    /// [`Error::Invalid`] if `what` is neither a known name nor a path, or a known name without `root`.
    pub fn open(what: impl AsRef<Path>, root: Option<&Path>) -> Result<Self> {
        Self::open_with(what.as_ref(), root, &Walk::default())
    }

    /// [`Dataset::open`] with a walk of the caller's: what it passed over is among [`Dataset::notes`], what it could not read
    /// among [`Walk::found`].
    ///
    /// # Errors
    ///
    /// As [`Dataset::open`].
    pub fn open_with(path: &Path, root: Option<&Path>, walk: &Walk) -> Result<Self> {
        let mut dataset = Found::open(path, root, walk)?.divided(path)?;
        dataset.notes.extend(walk.take_passed_over());
        Ok(dataset)
    }

    /// A smaller task of the same set: without the classes in `names`, compared by [`class_key`], and with labels from 0 among those
    /// that are left. For a set all of whose classes are told apart.
    pub fn without(&self, names: &[String]) -> Self {
        let part = |items: &[Item]| crate::data::folder::without(items, &self.classes, names);
        let (train, classes) = part(&self.train);
        Self { train, classes, val: part(&self.val).0, test: part(&self.test).0, ..self.clone() }
    }

    /// Where a known set lies below `root`, whether or not it is there; nothing for other names.
    pub fn folder(name: &str, root: &Path) -> Option<PathBuf> {
        Known::find(name).map(|known| root.join(known.folder))
    }
}

/// A picture as a list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    path: PathBuf,
    label: usize,
    /// The class as the list calls it.
    class: String,
}

/// A set's lists.
#[derive(Debug)]
struct Parts<T> {
    train: Vec<T>,
    val: Vec<T>,
    test: Vec<T>,
}

impl<T> Parts<T> {
    fn named(&self) -> [(&'static str, &[T]); 3] {
        [("train", &self.train), ("val", &self.val), ("test", &self.test)]
    }

    fn map<U>(self, mut f: impl FnMut(T) -> U) -> Parts<U> {
        let mut all = |part: Vec<T>| part.into_iter().map(&mut f).collect();
        Parts { train: all(self.train), val: all(self.val), test: all(self.test) }
    }
}

/// What was found of a known set.
struct Contents {
    /// By label, as the set calls them.
    classes: Vec<String>,
    parts: Parts<Item>,
    subset: Option<Vec<usize>>,
    source: String,
    notes: Vec<String>,
}

impl Known {
    fn open(&self, root: &Path, walk: &Walk) -> Result<Dataset> {
        let dir = root.join(self.folder);
        if !dir.is_dir() {
            let reason = format!("there is no such folder: {} should be there, {}", self.title, self.contents());
            return Err(Error::data(dir, reason));
        }
        match self.layout {
            Layout::ImageNet => imagenet::open(self, &dir, walk.at(&dir)),
            Layout::Shift { numbered } => imagenet::open_shift(self, root, &dir, numbered, walk),
            Layout::Lists { split, ref own } => self.open_lists(&dir, split, own, walk),
        }
    }

    /// Opens a set whose split file lies in `dir`.
    fn open_at(&self, dir: &Path, walk: &Walk) -> Result<Dataset> {
        match self.layout {
            Layout::Lists { split, ref own } => self.open_lists(dir, split, own, walk),
            _ => Err(Error::data(dir, "the set has no split file")),
        }
    }

    /// Opens a set that has a split file or lists of its own.
    fn open_lists(&self, dir: &Path, split: Option<&str>, own: &OwnLayout, walk: &Walk) -> Result<Dataset> {
        let pictures = dir.join(self.pictures);
        let mut notes = Vec::new();
        // `list` is what an error about all of them names.
        let (rows, list, source) = match split.filter(|name| dir.join(name).is_file()) {
            Some(name) => (split::read(&dir.join(name), &pictures)?, dir.join(name), name.to_owned()),
            None => {
                own.check(dir, self.pictures, split)?;
                if let Some(name) = split {
                    notes.push(format!("{name} is not there: this split is tipi's own, not that of published numbers"));
                }
                let random = &mut PythonRandom::new(SPLIT_SEED);
                let rows = (own.read)(walk.at(dir), (dir, &pictures), random)?;
                (rows, dir.to_path_buf(), own.source.to_owned())
            }
        };
        let rows = rows.map(|row| Row { class: self.renamed(row.class), ..row });
        let classes = classes_of(&rows, &list)?;
        notes.extend(twice_listed(&rows, dir));
        let parts = rows.map(|row| Item { path: row.path, label: row.label });
        self.dataset(dir, &list, Contents { classes, parts, subset: None, source, notes })
    }

    /// Puts a set together, with the checks and notes that all have in common. `list` is what an error is about.
    fn dataset(&self, dir: &Path, list: &Path, contents: Contents) -> Result<Dataset> {
        let Contents { classes, parts, subset, source, mut notes } = contents;
        let classes: Vec<String> = classes.iter().map(|class| class_name(class)).collect();
        if let Some(class) = classes.iter().position(|class| class_key(class).is_empty()) {
            return Err(Error::data(
                list,
                format!("the class of label {class} has no name: every class must have one"),
            ));
        }
        notes.extend(same_names(&classes));
        let dataset = Dataset {
            name: self.name.to_owned(),
            title: self.title.to_owned(),
            root: dir.to_path_buf(),
            classes,
            templates: vec![self.template.to_owned()],
            words: self.words.to_owned(),
            train: parts.train,
            val: parts.val,
            test: parts.test,
            subset,
            source,
            notes,
        };
        let dataset = dataset.checked(list, matches!(self.layout, Layout::Shift { .. }))?;
        match dataset.test.is_empty() {
            true => Err(Error::data(list, "there is no picture to test on: add some")),
            false => Ok(dataset),
        }
    }
}

impl Dataset {
    /// Checks that every class can be learned, and notes what is thin. Only a shifted set may do
    /// `without_train`.
    fn checked(mut self, list: &Path, without_train: bool) -> Result<Self> {
        let n = self.classes.len();
        if n < 2 {
            let reason = format!("the set has {}: at least two are needed", text::count(n, "class", "classes"));
            return Err(Error::data(list, reason));
        }
        let lacking = |part: &[Item]| -> Vec<&str> {
            let mut seen = vec![false; n];
            part.iter().for_each(|item| seen[item.label] = true);
            self.classes.iter().zip(&seen).filter(|(_, seen)| !**seen).map(|(class, _)| class.as_str()).collect()
        };
        let untrained = lacking(&self.train);
        if !(untrained.is_empty() || without_train && self.train.is_empty()) {
            let reason = format!("no train picture of {}: every class needs at least one", some_of(&untrained));
            return Err(Error::data(list, reason));
        }
        let mut notes = Vec::new();
        if !self.val.is_empty() {
            let lacking = lacking(&self.val);
            if !lacking.is_empty() {
                let count = text::count(lacking.len(), "class has", "classes have");
                notes.push(format!("{count} no val picture: {}", some_of(&lacking)));
            }
        }
        let untested = lacking(&self.test);
        if self.subset.is_none() && !untested.is_empty() && !self.test.is_empty() {
            let count = text::count(untested.len(), "class has", "classes have");
            notes.push(format!("{count} no test picture: {}", some_of(&untested)));
        }
        self.notes.extend(notes);
        Ok(self)
    }
}

/// The classes' names by label, if labels and classes belong together one to one and labels count from 0. `list` is where
/// they come from.
fn classes_of(rows: &Parts<Row>, list: &Path) -> Result<Vec<String>> {
    let mut names: BTreeMap<usize, &str> = BTreeMap::new();
    let mut labels: HashMap<&str, usize> = HashMap::new();
    for (part, rows) in rows.named() {
        for row in rows {
            let place = || format!("{part} picture '{}'", row.path.display());
            let (label, class) = (row.label, row.class.as_str());
            let name = *names.entry(label).or_insert(class);
            if name != class {
                let reason =
                    format!("{}: label {label} is both '{name}' and '{class}': a label has one class", place());
                return Err(Error::data(list, reason));
            }
            let first = *labels.entry(class).or_insert(label);
            if first != label {
                let reason =
                    format!("{}: the class '{class}' has the labels {first} and {label}: a class has one", place());
                return Err(Error::data(list, reason));
            }
        }
    }
    if let Some((expected, (label, _))) = names.iter().enumerate().find(|(expected, (label, _))| expected != *label) {
        let reason =
            format!("label {label} is used but {expected} is not: labels count from 0 to classes - 1 without gaps");
        return Err(Error::data(list, reason));
    }
    Ok(names.into_values().map(str::to_owned).collect())
}

/// A note about classes that have one prompt.
fn same_names(classes: &[String]) -> Option<String> {
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut pairs = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        if let Some(other) = first.insert(class_key(class), label) {
            pairs.push(format!("'{class}' ({other} and {label})"));
        }
    }
    let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
    (!pairs.is_empty()).then(|| {
        let names = text::count(pairs.len(), "name stands", "names stand");
        format!("{names} for two classes, which text alone cannot tell apart: {}", some_of(&pairs))
    })
}

/// A note about pictures that are listed more than once.
fn twice_listed(rows: &Parts<Row>, dir: &Path) -> Option<String> {
    let mut seen: HashMap<&Path, &str> = HashMap::new();
    let mut twice = Vec::new();
    for (part, rows) in rows.named() {
        for row in rows {
            if let Some(other) = seen.insert(&row.path, part) {
                let path = row.path.strip_prefix(dir).unwrap_or(&row.path);
                twice.push(format!("{} ({other} and {part})", path.display()));
            }
        }
    }
    let names: Vec<&str> = twice.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| {
        format!("{} listed more than once: {}", text::count(names.len(), "picture is", "pictures are"), some_of(&names))
    })
}

/// The first few of these, and how many more there are.
fn some_of(names: &[&str]) -> String {
    let mut text = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}
