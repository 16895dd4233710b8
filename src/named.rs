//! Files that a program has itself, under names: a folder that is on no disk.
//!
//! Whatever is read by a path ([`crate::input`]) is read from here where the path leads here, so that loading a model knows
//! nothing of where its files are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use crate::{Error, Result, text};

/// Bytes that can be read from any place on: in memory, or somewhere that a program knows how to reach.
pub trait ReadAt: Send + Sync {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills `bytes` with those from `start` on.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] where there are not as many; what keeps them from being read.
    fn read_exact_at(&self, bytes: &mut [u8], start: u64) -> io::Result<()>;
}

impl<B: AsRef<[u8]> + Send + Sync> ReadAt for B {
    fn size(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_exact_at(&self, bytes: &mut [u8], start: u64) -> io::Result<()> {
        let start = usize::try_from(start).map_err(|_| ErrorKind::UnexpectedEof)?;
        let from = self.as_ref().get(start..).and_then(|rest| rest.get(..bytes.len()));
        bytes.copy_from_slice(from.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A folder of files that a program has itself, such as those of a model that it was built with or that a page has fetched.
/// It is given wherever a folder is, as `Model::load(&gpu, &files)`; its files are there as long as it, a clone or a model
/// loaded from it is.
#[derive(Clone)]
pub struct Files(Arc<Folder>);

/// What begins the path of such a folder. A number follows, and what it is called.
const START: &str = "memory:";

/// All folders that are there.
static FOLDERS: LazyLock<Mutex<BTreeMap<PathBuf, Weak<Folder>>>> = LazyLock::new(Mutex::default);

struct Folder {
    path: PathBuf,
    files: BTreeMap<String, Arc<dyn ReadAt>>,
}

impl Drop for Folder {
    fn drop(&mut self) {
        FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

impl Files {
    /// A folder called `name`, which results and adapters show, of these files by their names.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no files, a name that is none, or two of one name.
    pub fn new<N: Into<String>>(name: &str, files: impl IntoIterator<Item = (N, Box<dyn ReadAt>)>) -> Result<Files> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let plain = |name: &str| {
            let mut parts = Path::new(name).components();
            matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
                && !name.contains(['/', '\\', ':'])
        };
        let bad = |name: &str, why: &str| Error::invalid(format!("files: '{}' {why}", text::cut(name, text::NAME)));
        if !plain(name) {
            return Err(bad(name, "is no name for a folder; give letters and digits without a separator"));
        }
        let mut all: BTreeMap<String, Arc<dyn ReadAt>> = BTreeMap::new();
        for (file, bytes) in files {
            let file = file.into();
            if !plain(&file) {
                return Err(bad(&file, "is no file's name; give one without folders, as model.safetensors"));
            }
            if all.insert(file.clone(), bytes.into()).is_some() {
                return Err(bad(&file, "is there twice"));
            }
        }
        if all.is_empty() {
            return Err(bad(name, "has no files"));
        }
        let path = PathBuf::from(format!("{START}{}", NUMBER.fetch_add(1, Ordering::Relaxed) + 1)).join(name);
        let folder = Arc::new(Folder { path: path.clone(), files: all });
        FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).insert(path, Arc::downgrade(&folder));
        Ok(Files(folder))
    }

    /// What stands for its path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The folder that a path leads to or into.
    pub(crate) fn at(path: &Path) -> Option<Files> {
        // Nearly all paths are a disk's.
        if !path.as_os_str().as_encoded_bytes().starts_with(START.as_bytes()) {
            return None;
        }
        let folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        path.ancestors().find_map(|root| folders.get(root)?.upgrade()).map(Files)
    }

    /// The file at a path that leads into the folder.
    pub(crate) fn file(&self, path: &Path) -> Option<Arc<dyn ReadAt>> {
        self.0.files.get(path.strip_prefix(&self.0.path).ok()?.to_str()?).cloned()
    }

    /// The paths of all files.
    pub(crate) fn list(&self) -> BTreeSet<PathBuf> {
        self.0.files.keys().map(|name| self.0.path.join(name)).collect()
    }
}

impl AsRef<Path> for Files {
    fn as_ref(&self) -> &Path {
        self.path()
    }
}

impl PartialEq for Files {
    fn eq(&self, other: &Files) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Files {}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Files({}: {} files)", self.path().display(), self.0.files.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input;

    fn two() -> Files {
        let files: [(&str, Box<dyn ReadAt>); 2] = [("a.json", Box::new(b"12345")), ("b", Box::new(vec![7u8; 3]))];
        Files::new("two", files).unwrap()
    }

    #[test]
    fn files_are_read_as_those_of_a_disk_while_anybody_holds_them() {
        let files = two();
        let path = files.path().join("a.json");
        assert!(input::is_folder(files.path()) && !input::is_file(files.path()));
        assert!(input::is_file(&path) && !input::is_folder(&path) && input::exists(&path));
        assert_eq!(input::read(&path, 5).unwrap(), b"12345");
        assert!(input::read(&path, 4).unwrap_err().to_string().contains("larger than 4 bytes"));
        assert_eq!(input::list(files.path()), [path.clone(), files.path().join("b")]);
        let missing = input::read(&files.path().join("c"), 9).unwrap_err().to_string();
        assert!(missing.contains("two/c") || missing.contains("two\\c"), "{missing}");
        let (other, held) = (two(), files.clone());
        assert_ne!(other.path(), files.path());
        drop(files);
        assert!(input::exists(&path));
        drop(held);
        assert!(!input::exists(&path) && input::exists(other.path()));
    }

    #[test]
    fn parts_are_read_from_their_places_and_never_past_the_end() {
        let path = two();
        let stored = input::open_stored(&path.path().join("a.json")).unwrap();
        let mut part = [0; 2];
        stored.read_exact_at(&mut part, 3).unwrap();
        assert_eq!((&part, stored.size().unwrap()), (b"45", 5));
        for start in [4, 6, u64::MAX] {
            assert_eq!(stored.read_exact_at(&mut part, start).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn names_are_names() {
        let with = |folder: &str, names: &[&str]| {
            let files = names.iter().map(|name| (*name, Box::new(*b"x") as Box<dyn ReadAt>));
            Files::new(folder, files).unwrap_err().to_string()
        };
        for name in ["", "..", "/etc", "a/b", "a\\b", "c:"] {
            assert!(with("model", &[name]).contains("no file's name"), "{name}");
            assert!(with(name, &["a"]).contains("no name for a folder"), "{name}");
        }
        assert!(with("model", &["a", "a"]).contains("twice"));
        assert!(with("model", &[]).contains("no files"));
    }
}
