//! Whether two paths name one file.

use std::fs::Metadata;
use std::path::Path;

/// What a file is known by, whatever the links that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity(#[cfg(unix)] (u64, u64), #[cfg(not(unix))] std::path::PathBuf);

impl Identity {
    /// Of the file or folder at `path`, links followed; none where nothing is there.
    pub(crate) fn of(path: &Path) -> Option<Identity> {
        Identity::of_open(&std::fs::metadata(path).ok()?, path)
    }

    /// Of an open file that was found at `path`.
    #[cfg(unix)]
    pub(crate) fn of_open(found: &Metadata, _: &Path) -> Option<Identity> {
        use std::os::unix::fs::MetadataExt;
        Some(Identity((found.dev(), found.ino())))
    }

    /// Of an open file that was found at `path`.
    #[cfg(not(unix))]
    pub(crate) fn of_open(_: &Metadata, path: &Path) -> Option<Identity> {
        path.canonicalize().ok().map(Identity)
    }
}
