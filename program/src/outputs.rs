//! Where results go, as options say it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tipi::Error;
use tipi::low_level::data::Item;
use tipi::low_level::encode::store;
use tipi::low_level::lock::Lock;
use tipi::low_level::output::{Kind, Output};

/// Whether a result may overwrite a file that tipi did not write.
#[derive(clap::Args, Clone)]
pub struct ForceArgs {
    /// Overwrite a file even if tipi did not write it, or if it is of another kind. Files that the command reads are never
    /// overwritten.
    #[arg(long)]
    pub force: bool,
}

impl ForceArgs {
    /// Looks at the file for a result.
    pub fn open(&self, path: &Path, kind: Kind) -> Result<Output> {
        refuse_stdout(path)?;
        Ok(Output::open(path, kind, self.force)?)
    }

    /// The same, where '-' is standard output.
    pub fn open_or_stdout(&self, path: &Path, kind: Kind) -> Result<Output> {
        if is_stdout(path) { Ok(Output::stdout()?) } else { self.open(path, kind) }
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Fails for '-' where a result needs a name.
pub fn refuse_stdout(path: &Path) -> Result<()> {
    if is_stdout(path) {
        let reason = "this result cannot go to standard output ('-'): give a file name (./- is a file called '-')";
        return Err(Error::Invalid(reason.into()).into());
    }
    Ok(())
}

/// Says that the work reads these pictures.
pub fn read_items(output: &Output, items: &[Item]) -> Result<()> {
    Ok(items.iter().try_for_each(|item| output.reads(&item.path, "a picture"))?)
}

/// A file or folder that is kept beside a result until that is written, and the lock on it.
pub struct Beside {
    path: PathBuf,
    _lock: Lock,
}

impl Beside {
    /// Takes `path` beside the result for this program.
    fn lock(output: &Output, path: PathBuf) -> Result<Option<Beside>> {
        let Some(lock) = output.beside(".", ".lock")? else { return Ok(None) };
        match Lock::take(&lock)? {
            Some(lock) => Ok(Some(Beside { path, _lock: lock })),
            None => {
                let reason = "another tipi is writing this result: wait for it, or give another name";
                Err(Error::data(output.path(), reason).into())
            }
        }
    }

    /// The file for the checkpoint of a training; none if the result does not go into a file.
    pub fn checkpoint(output: &Output, force: &ForceArgs) -> Result<Option<Beside>> {
        let Some(path) = output.beside("", ".checkpoint")? else { return Ok(None) };
        let beside = Beside::lock(output, path)?;
        if let Some(Beside { path, .. }) = &beside {
            Output::open(path, Kind::Checkpoint, force.force)?;
        }
        Ok(beside)
    }

    /// The folder for features that are finished; none if the result does not go into a file.
    pub fn features(output: &Output) -> Result<Option<Beside>> {
        let Some(path) = output.beside(".", ".features")? else { return Ok(None) };
        Beside::lock(output, path)
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes a checkpoint.
    pub fn remove_file(self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.path, error).into()),
            _ => Ok(()),
        }
    }

    /// Removes a folder of features.
    pub fn remove_features(&self) {
        store::remove(&self.path);
    }
}
