//! What was measured on an adapter, kept on disk: names by keys, which whoever measures makes up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::input;

/// The choices of one adapter and driver.
#[derive(Debug)]
pub(super) struct Choices {
    /// `None` keeps them in memory only.
    path: Option<PathBuf>,
    made: Mutex<BTreeMap<String, String>>,
}

impl Choices {
    /// What is on disk; nothing where there is no file, or one that cannot be read: it can be measured again.
    pub fn open(path: Option<PathBuf>) -> Choices {
        let read = || serde_json::from_slice(&input::read(path.as_ref()?, input::limit::CONFIG).ok()?).ok();
        Choices { made: Mutex::new(read().unwrap_or_default()), path }
    }

    /// The choice noted under `key`.
    pub fn get(&self, key: &str) -> Option<String> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Notes a choice, on disk too. A failure there only costs the next start some time, so it is logged, not returned.
    pub fn note(&self, key: &str, choice: &str) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(key.into(), choice.into());
        let Some(path) = &self.path else { return };
        let written = || {
            let dir = path.parent().ok_or(std::io::ErrorKind::NotFound)?;
            std::fs::create_dir_all(dir)?;
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            serde_json::to_writer_pretty(&mut file, &*made)?;
            file.persist(path).map_err(|e| e.error)?;
            Ok::<_, std::io::Error>(())
        };
        if let Err(error) = written() {
            tracing::debug!("measured choices {} not kept: {error}", path.display());
        }
    }

    /// Forgets all choices, on disk too.
    pub fn clear(&self) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Where the choices are kept.
    pub fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::Choices;

    #[test]
    fn choices_are_found_again_and_a_broken_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("choices.json");
        let choices = Choices::open(Some(path.clone()));
        assert_eq!(choices.get("a"), None);
        choices.note("a", "rows");
        choices.note("b", "tile");
        choices.note("a", "wide");
        let again = Choices::open(Some(path.clone()));
        assert_eq!((again.get("a").as_deref(), again.get("b").as_deref()), (Some("wide"), Some("tile")));
        again.clear();
        assert_eq!(Choices::open(Some(path.clone())).get("a"), None);
        std::fs::write(&path, "{\"a\": ").unwrap();
        assert_eq!(Choices::open(Some(path)).get("a"), None);
        let unkept = Choices::open(None);
        unkept.note("a", "rows");
        assert_eq!(unkept.get("a").as_deref(), Some("rows"));
    }
}
