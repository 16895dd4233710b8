//! What is evaluated on.

use std::path::Path;
use std::sync::Arc;

use crate::data::{self, ELEVEN, SHIFTS, Walk};
use crate::{Error, Result};

/// Pictures in parts: to learn from, to validate on and to test on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dataset(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    data: data::Dataset,
    /// Knows which folders it was read from.
    walk: Walk,
}

impl Dataset {
    /// A user's own dataset. It is
    ///
    /// * a folder with a sub-folder of pictures for each class, divided into 50 % to learn from, 20 % to validate on and 30 % to
    ///   test on, always alike;
    /// * a folder with `train` and `test` (and `val`), each with a sub-folder for each class;
    /// * a CSV file with the columns `path`, `label` and perhaps `split` (`train`, `val` or `test`); paths are relative to the
    ///   file's folder, labels are the names of classes;
    /// * a split file of CoOp's form, whose name ends in `.json`; paths are relative to its folder.
    ///
    /// No picture is opened.
    ///
    /// # Errors
    /// [`Error::Data`] with the folder, file or line that does not fit; [`Error::Io`]; [`Error::Invalid`] where nothing is there.
    pub fn open(path: impl AsRef<Path>) -> Result<Dataset> {
        Dataset::read(path.as_ref(), None)
    }

    /// One of the datasets that few-shot methods are compared on, by its name (`oxford_pets`, `imagenet`, …; [`Dataset::names`]),
    /// in its folder below `root`, laid out as CoOp's instructions say.
    ///
    /// # Errors
    /// As [`Dataset::open`]; [`Error::Invalid`] for another name.
    pub fn named(name: &str, root: impl AsRef<Path>) -> Result<Dataset> {
        let root = root.as_ref();
        if data::Dataset::folder(name, root).is_none() {
            let (name, known) =
                (crate::text::cut(name, crate::text::NAME), Dataset::names().collect::<Vec<_>>().join(", "));
            return Err(Error::invalid(format!("there is no dataset '{name}'; there are {known}")));
        }
        Dataset::read(name.as_ref(), Some(root))
    }

    /// The names that [`Dataset::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ELEVEN.iter().chain(&SHIFTS).copied()
    }

    fn read(what: &Path, root: Option<&Path>) -> Result<Dataset> {
        let walk = Walk::default();
        let data = data::Dataset::open_with(what, root, &walk)?;
        Ok(Dataset(Arc::new(Inner { data, walk })))
    }

    /// What results have it under: the name that was given, or that of the folder or file.
    pub fn name(&self) -> &str {
        &self.0.data.name
    }

    /// Its name for people.
    pub fn title(&self) -> &str {
        &self.0.data.title
    }

    /// The classes, as text for a prompt.
    pub fn classes(&self) -> &[String] {
        &self.0.data.classes
    }

    /// How many pictures there are to learn from, to validate on and to test on.
    pub fn pictures(&self) -> [usize; 3] {
        let data = &self.0.data;
        [data.train.len(), data.val.len(), data.test.len()]
    }

    /// Where its parts come from, on one line for people.
    pub fn source(&self) -> &str {
        &self.0.data.source
    }

    /// What people should know of it: files that were passed over, parts that are thin.
    pub fn notes(&self) -> &[String] {
        &self.0.data.notes
    }

    pub(super) fn data(&self) -> &data::Dataset {
        &self.0.data
    }

    pub(super) fn walk(&self) -> &Walk {
        &self.0.walk
    }
}
