//! Where a command's result goes: looked over before the work, written at its end.
//!
//! A result never takes the place of a file that the work reads, and takes that of another one only if tipi wrote that, too,
//! and it is of the same kind: its header tells.

mod kind;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

#[cfg(feature = "eval")]
pub(crate) use kind::{HTML_MARK, SVG_MARK, mark_png};
pub use kind::{Kind, NPY_HEADER, mark_embeddings};

pub use crate::files::check_writable;
use crate::files::{self, Place};
use crate::identity::Identity;
use crate::{Error, Result};

/// A place for one result.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    place: To,
    /// Of the file that is there, if there is one.
    identity: Option<Identity>,
}

#[derive(Debug)]
enum To {
    /// A file, there or not.
    File,
    /// A pipe or a device, opened: its reader would take a second opening for another writer.
    Direct(File),
    Stdout,
}

impl Output {
    /// Looks at the file that is to hold a result of `kind`: whether it can be written, and what is there. With `force` a
    /// file of another kind may be overwritten, too. An empty file may always be.
    ///
    /// # Errors
    /// [`Error::Io`] as [`check_writable`]; [`Error::Foreign`] for a file that is not one of tipi's of this kind.
    pub fn open(path: &Path, kind: Kind, force: bool) -> Result<Output> {
        let io = |error| Error::io(path, error);
        let (place, identity) = match files::resolve(path).map_err(io)? {
            Place::Direct => (To::Direct(files::direct(path).map_err(io)?), None),
            Place::File { target, .. } => {
                files::check_writable(path)?;
                if !force {
                    kind.check(path)?;
                }
                (To::File, Identity::of(&target))
            }
        };
        Ok(Output { path: path.to_path_buf(), place, identity })
    }

    /// Standard output, for a result that is not text.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is a terminal.
    pub fn stdout() -> Result<Output> {
        if std::io::stdout().is_terminal() {
            return Err(Error::invalid(
                "'-' is standard output, which is a terminal here: redirect it, or name a file",
            ));
        }
        Ok(Output { path: "-".into(), place: To::Stdout, identity: None })
    }

    /// Says that the work reads `path`; `what` says as what, in words.
    ///
    /// # Errors
    /// [`Error::Data`] if the result would be written over it.
    pub fn reads(&self, path: &Path, what: &str) -> Result<()> {
        if self.identity.is_some() && self.identity == Identity::of(path) {
            let which = if path == self.path { String::new() } else { format!(", as {}", path.display()) };
            let reason = format!("this is {what} that is read here{which}; it was left as it is: give another name");
            return Err(Error::data(&self.path, reason));
        }
        Ok(())
    }

    /// [`Output::reads`] of all files right in a folder, as of a model. A link to a file is as good as the file.
    ///
    /// # Errors
    /// As [`Output::reads`].
    pub fn reads_folder(&self, folder: &Path, what: &str) -> Result<()> {
        if self.identity.is_none() {
            return Ok(());
        }
        // A folder that cannot be listed is for its reader to complain of.
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
        entries.flatten().try_for_each(|entry| self.reads(&entry.path(), what))
    }

    /// The path that was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the result goes, in words.
    pub fn name(&self) -> String {
        match self.place {
            To::Stdout => "standard output".into(),
            _ => self.path.display().to_string(),
        }
    }

    /// A file or folder beside the result, for what is needed on the way to it; none where the result goes into no file.
    ///
    /// # Errors
    /// [`Error::Io`] for a link there: what it points to is somebody else's.
    pub fn beside(&self, before: &str, after: &str) -> Result<Option<PathBuf>> {
        let (To::File, Some(name)) = (&self.place, self.path.file_name()) else { return Ok(None) };
        let mut whole = std::ffi::OsString::from(before);
        whole.push(name);
        whole.push(after);
        let path = self.path.with_file_name(whole);
        files::refuse_link(&path)?;
        Ok(Some(path))
    }

    /// Writes the result, as `write_atomic` does.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(self, bytes: &[u8]) -> Result<()> {
        let io = |error| Error::io(&self.path, error);
        match self.place {
            To::File => files::write_atomic(&self.path, bytes),
            To::Direct(mut file) => file.write_all(bytes).map_err(io),
            To::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| Error::io("standard output", e))
            }
        }
    }
}
