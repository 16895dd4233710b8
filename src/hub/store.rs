//! The cache folder, laid out as Python's `huggingface_hub` lays it out:
//!
//! ```text
//! models--ORG--NAME/blobs/<hash>               the bytes, once
//! models--ORG--NAME/snapshots/<commit>/<file>  links to them
//! models--ORG--NAME/refs/<revision>            the commit that a branch or tag stands for
//! models--ORG--NAME/.no_exist/<commit>/<file>  empty: the commit has no such file
//! .locks/models--ORG--NAME/<hash>.lock         held while a blob is written
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hf_hub::{Cache, CacheRepo, Repo};

use crate::files::write_atomic;
use crate::hub::{names, weights};
use crate::{Error, Result, input};

/// How often a lock that somebody else holds is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// One repository's part of the cache.
pub(super) struct Store {
    repo: CacheRepo,
    folder: PathBuf,
    locks: PathBuf,
}

impl Store {
    /// `repo` must have passed [`names::repo`].
    pub(super) fn new(cache: &Path, repo: &str) -> Self {
        let repo = Repo::model(repo.to_owned());
        let name = repo.folder_name();
        Store {
            repo: Cache::new(cache.to_path_buf()).repo(repo),
            folder: cache.join(&name),
            locks: cache.join(".locks").join(&name),
        }
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    pub(super) fn blob(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(hash)
    }

    /// The commit that a revision stood for when it was last fetched.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if names::is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = input::read_text(&self.folder.join("refs").join(revision), input::limit::TEXT).ok()?;
        let commit = commit.trim();
        names::is_commit(commit).then(|| commit.to_owned())
    }

    /// Notes the commit that a revision stands for.
    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> Result<()> {
        if names::is_commit(revision) || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        make_folder_of(&path)?;
        write_atomic(&path, commit.as_bytes())
    }

    /// Notes that a commit has no such file, so that nobody asks the hub for it again.
    pub(super) fn set_absent(&self, commit: &str, name: &str) {
        let path = self.absent(commit, name);
        if make_folder_of(&path).is_ok() {
            // Without the note all is well, too.
            let _ = write_atomic(&path, b"");
        }
    }

    /// Whether a commit's file is there, or known not to exist.
    pub(super) fn knows(&self, commit: &str, name: &str) -> bool {
        self.snapshot(commit).join(name).is_file() || self.absent(commit, name).is_file()
    }

    fn absent(&self, commit: &str, name: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(name)
    }

    /// Puts a blob into a snapshot.
    pub(super) fn link(&self, hash: &str, commit: &str, name: &str) -> Result<()> {
        let path = self.snapshot(commit).join(name);
        make_folder_of(&path)?;
        // Under another name first: the link may exist and point nowhere, and somebody else may make it now.
        let part = tempfile::Builder::new()
            .prefix(".tipi-")
            .make_in(self.snapshot(commit), |part| link(&self.blob(hash), &["..", "..", "blobs", hash], part))
            .map_err(|source| Error::io(&path, source))?;
        fs::rename(part.path(), &path).map_err(|source| Error::io(&path, source))?;
        // Nothing is left under that name. (Windows would refuse to remove a missing file; neither error matters.)
        drop(part);
        Ok(())
    }

    /// Waits for the right to write a blob. `None` where the file system knows no locks.
    pub(super) fn lock(&self, hash: &str) -> Result<Option<File>> {
        let path = self.locks.join(format!("{hash}.lock"));
        make_folder_of(&path)?;
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        let file = input::open_with(&mut options, &path).map_err(|source| Error::io(&path, source))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }
}

/// Creates the folder that a file is to lie in.
pub(super) fn make_folder_of(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(|source| Error::io(folder, source)),
        None => Ok(()),
    }
}

/// Makes `path` stand for `blob`: a relative symbolic link, so that the cache can be moved. Where the system makes no
/// such links (Windows without developer mode), a hard link or else a copy.
fn link(blob: &Path, relative: &[&str], path: &Path) -> io::Result<()> {
    let target: PathBuf = relative.iter().collect();
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(target, path);
    #[cfg(windows)]
    let made = std::os::windows::fs::symlink_file(target, path);
    #[cfg(not(any(unix, windows)))]
    let made = Err(io::Error::from(ErrorKind::Unsupported)).map(|()| drop(target));
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(drop))
        }
        made => made,
    }
}

/// Whether a snapshot has a configuration and whole weights.
pub(super) fn is_complete(snapshot: &Path) -> bool {
    let has = |name: &str| snapshot.join(name).is_file();
    let sharded =
        |index: &str| weights::shards(&snapshot.join(index)).is_ok_and(|shards| shards.iter().all(|shard| has(shard)));
    let whole = |file: &str, index: &str| has(file) || (has(index) && sharded(index));
    weights::CONFIGS.iter().any(|config| has(config)) && weights::FORMS.iter().any(|(file, index)| whole(file, index))
}
