//! Locks by which programs that would write to the same place learn of each other.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::files::refuse_link;
use crate::identity::Identity;
use crate::{Error, Result, input};

/// A lock, held until it is dropped; its file is removed then. A program that is ended loses it, and the file that it leaves
/// is taken over.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock whose file is `path`, or gives nothing where another holds it.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be made; [`Error::Data`] if there is one already that is no lock.
    pub fn take(path: &Path) -> Result<Option<Lock>> {
        let io = |error| Error::io(path, error);
        loop {
            refuse_link(path)?;
            let file =
                input::open_with(OpenOptions::new().create(true).truncate(false).write(true), path).map_err(io)?;
            let found = file.metadata().map_err(io)?;
            if found.len() > 0 {
                return Err(Error::data(path, "a lock of tipi's belongs here, and this is another file: rename it"));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                // Some network file systems have no locks: better without than not at all.
                Err(TryLockError::Error(error)) => tracing::warn!("{}: cannot be locked: {error}", path.display()),
            }
            // Its last holder may have removed the file between the opening and the locking.
            if Identity::of(path).is_some_and(|now| Some(now) == Identity::of_open(&found, path)) {
                return Ok(Some(Lock { path: path.to_path_buf(), _file: file }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While the lock is still held: whoever opened the file before finds it gone, and makes a new one.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::Lock;

    #[test]
    fn one_holds_it_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        for _ in 0..3 {
            let first = Lock::take(&path).unwrap().unwrap();
            assert!(Lock::take(&path).unwrap().is_none());
            drop(first);
            assert!(!path.exists());
        }
        // Left by a program that was ended.
        std::fs::write(&path, "").unwrap();
        drop(Lock::take(&path).unwrap().unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_lock_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        std::fs::write(&path, "mine").unwrap();
        Lock::take(&path).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        #[cfg(unix)]
        {
            let (link, target) = (folder.path().join("link"), folder.path().join("target"));
            std::os::unix::fs::symlink("target", &link).unwrap();
            Lock::take(&link).unwrap_err();
            assert!(!target.exists());
        }
    }

    #[test]
    fn many_never_hold_it_at_once() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 200 {
                        let Some(lock) = Lock::take(&path).unwrap() else { continue };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        taken.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
