//! Where a training is put down on its way, so that one that was stopped goes on.

use std::path::{Path, PathBuf};

use crate::adapt::Place;
use crate::lock::Lock;
use crate::output::{Kind, Output};
use crate::{Error, Result};

/// The file for a training's state, which no other training uses meanwhile.
pub(super) struct Checkpoint {
    path: PathBuf,
    _lock: Lock,
}

impl Checkpoint {
    /// Takes the file. What is there already is gone on from; if it is no checkpoint of tipi's, it is left as it is.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Io`]; [`Error::Data`] where another training uses it.
    pub fn take(path: &Path) -> Result<Checkpoint> {
        let output = Output::open(path, Kind::Checkpoint, false)?;
        let Some(lock) = output.beside(".", ".lock")? else {
            return Err(Error::data(path, "a checkpoint needs a file: give another name"));
        };
        match Lock::take(&lock)? {
            Some(lock) => Ok(Checkpoint { path: path.to_path_buf(), _lock: lock }),
            None => Err(Error::data(path, "another training is put down here: wait for it, or give another name")),
        }
    }

    pub fn place(&self) -> Place {
        Place { path: self.path.clone(), resume: true }
    }

    /// Nothing is left to go on with.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.path, error)),
            _ => Ok(()),
        }
    }
}
