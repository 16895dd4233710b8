//! ImageNet and the sets that show its classes otherwise.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::known::Known;
use super::listing::Lines;
use super::{Contents, Dataset, Parts};
use crate::data::Item;
use crate::data::walk::{Tree, Walk};
use crate::{Error, Result};

/// The list of WordNet numbers and names.
const NAMES: &str = "classnames.txt";

/// Opens ImageNet. Its validation set is what one tests on; there is none to search on.
pub(super) fn open(known: &Known, dir: &Path, tree: Tree<'_>) -> Result<Dataset> {
    let (train_dir, test_dir) = (dir.join("images/train"), dir.join("images/val"));
    for folder in [&train_dir, &test_dir] {
        if !folder.is_dir() {
            return Err(Error::data(
                folder,
                "there is no such folder: it should have a folder per class, named by WordNet",
            ));
        }
    }
    let classes = Classes::of_train(tree, &train_dir, &Names::read(dir.join(NAMES))?)?;
    let parts =
        Parts { train: classes.items(tree, &train_dir)?, val: Vec::new(), test: classes.items(tree, &test_dir)? };
    let source = format!("images/train, and images/val to test on; names from {NAMES}");
    let notes = vec![
        "there is no val part: hyper-parameters are searched on train pictures that are not shots".to_owned(),
        "train pictures are in the order of their names; CoOp takes them as the system lists them, so its shots differ"
            .to_owned(),
    ];
    known.dataset(dir, &train_dir, Contents { classes: classes.names, parts, subset: None, source, notes })
}

/// Opens a set of ImageNet's classes, to test on what was learned from ImageNet beside it. `numbered` folders are named
/// by their label instead of by WordNet.
pub(super) fn open_shift(known: &Known, root: &Path, dir: &Path, numbered: bool, walk: &Walk) -> Result<Dataset> {
    let (test_dir, tree) = (dir.join(known.pictures), walk.at(dir));
    if !test_dir.is_dir() {
        return Err(Error::data(test_dir, format!("there is no such folder: {} should be there", known.contents())));
    }
    let imagenet = root.join("imagenet");
    let lists = [imagenet.join(NAMES), dir.join(NAMES)];
    let Some(list) = lists.iter().find(|list| list.is_file()) else {
        let reason = format!("there is no {NAMES}, neither here nor in {}: it names the classes", imagenet.display());
        return Err(Error::data(dir, reason));
    };
    let names = Names::read(list.clone())?;
    let train_dir = imagenet.join("images/train");
    let mut notes = Vec::new();
    let (classes, train, from) = if train_dir.is_dir() {
        let beside = walk.at(&imagenet);
        let classes = Classes::of_train(beside, &train_dir, &names)?;
        let train = classes.items(beside, &train_dir)?;
        (classes, train, "train from imagenet/images/train")
    } else {
        notes.push(format!("{} is not there to learn from: only zero-shot can run", train_dir.display()));
        (Classes::of_names(names), Vec::new(), "no train part")
    };
    let test = if numbered { classes.numbered_items(tree, &test_dir)? } else { classes.items(tree, &test_dir)? };
    let mut present: Vec<usize> = test.iter().map(|item| item.label).collect();
    present.sort_unstable();
    present.dedup();
    let subset = (present.len() < classes.names.len()).then_some(present);
    let source = format!("{} to test on, {from}", known.pictures);
    let parts = Parts { train, val: Vec::new(), test };
    known.dataset(dir, &test_dir, Contents { classes: classes.names, parts, subset, source, notes })
}

/// What a list of names says.
struct Names {
    path: PathBuf,
    by_wnid: HashMap<String, String>,
}

impl Names {
    /// Reads lines such as "n01440764 tench".
    fn read(path: PathBuf) -> Result<Self> {
        let mut by_wnid = HashMap::new();
        for line in Lines::read(path.clone())?.iter() {
            let Some((wnid, name)) = line.text.split_once(char::is_whitespace) else {
                return Err(line.error("not a WordNet number and a name, such as 'n01440764 tench'"));
            };
            if by_wnid.insert(wnid.to_owned(), name.trim().to_owned()).is_some() {
                return Err(line.error(format!("{wnid} has a name already: remove one")));
            }
        }
        Ok(Self { path, by_wnid })
    }
}

/// Classes by label.
struct Classes {
    names: Vec<String>,
    labels: HashMap<String, usize>,
}

impl Classes {
    /// The classes that have a folder to learn from, sorted by WordNet number as CoOp does.
    fn of_train(tree: Tree<'_>, dir: &Path, names: &Names) -> Result<Self> {
        let wnids = tree.folders(dir)?.into_iter().map(|(wnid, _)| wnid);
        let classes = wnids.map(|wnid| match names.by_wnid.get(&wnid) {
            Some(name) => Ok((wnid, name.clone())),
            None => Err(Error::data(
                dir.join(&wnid),
                format!("{} has no such class: add or remove it", names.path.display()),
            )),
        });
        Ok(Self::new(classes.collect::<Result<_>>()?))
    }

    /// All classes of a list, sorted by WordNet number.
    fn of_names(names: Names) -> Self {
        let mut classes: Vec<(String, String)> = names.by_wnid.into_iter().collect();
        classes.sort();
        Self::new(classes)
    }

    fn new(classes: Vec<(String, String)>) -> Self {
        let (wnids, names): (Vec<_>, Vec<_>) = classes.into_iter().unzip();
        Self { names, labels: wnids.into_iter().enumerate().map(|(label, wnid)| (wnid, label)).collect() }
    }

    /// The pictures in folders named by WordNet, by label and then by name.
    fn items(&self, tree: Tree<'_>, dir: &Path) -> Result<Vec<Item>> {
        self.items_by(tree, dir, |name| self.labels.get(name).copied(), "no WordNet number of a class of ImageNet's")
    }

    /// The pictures in folders named by label.
    fn numbered_items(&self, tree: Tree<'_>, dir: &Path) -> Result<Vec<Item>> {
        let label = |name: &str| name.parse().ok().filter(|&label| label < self.names.len());
        self.items_by(tree, dir, label, &format!("no label below {}", self.names.len()))
    }

    fn items_by(
        &self,
        tree: Tree<'_>,
        dir: &Path,
        label: impl Fn(&str) -> Option<usize>,
        otherwise: &str,
    ) -> Result<Vec<Item>> {
        let mut labelled = Vec::new();
        for (name, folder) in tree.folders(dir)? {
            let reason = || format!("the folder's name is {otherwise}: remove it, or complete ImageNet");
            labelled.push((label(&name).ok_or_else(|| Error::data(&folder, reason()))?, folder));
        }
        if labelled.is_empty() {
            let reason = "there are no folders here: each class's pictures must be in one, named by its class";
            return Err(Error::data(dir, reason));
        }
        labelled.sort();
        // Listing a million files waits for the disk: all folders at once.
        let lists: Vec<Vec<PathBuf>> =
            labelled.par_iter().map(|(_, dir)| Ok(tree.pictures(dir)?.unwrap_or_default())).collect::<Result<_>>()?;
        let all = labelled.iter().zip(lists);
        Ok(all.flat_map(|((label, _), list)| list.into_iter().map(|path| Item { path, label: *label })).collect())
    }
}
