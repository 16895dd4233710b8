//! Files for readers that take a path, and inputs that stand for several files.

use std::fs;
use std::path::{Component, Path, PathBuf};

use tempfile::TempDir;
use tipi::low_level::encode::store::Key;

/// A folder of a target's own. It lies where TMPDIR says, which `run.sh` sets to a place in memory.
pub struct Scratch(TempDir);

impl Default for Scratch {
    fn default() -> Self {
        Scratch(TempDir::with_prefix("tipi-fuzz-").expect("a temporary folder can be made"))
    }
}

impl Scratch {
    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        if fs::write(&path, bytes).is_err() {
            fs::create_dir_all(path.parent().expect("it is below a folder")).expect("folders can be made");
            fs::write(&path, bytes).expect("a file can be written");
        }
        path
    }

    /// Removes a file if it is there.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path().join(name));
    }

    /// Removes a folder with all that is in it.
    pub fn remove_all(&self, name: &str) {
        let _ = fs::remove_dir_all(self.path().join(name));
    }
}

/// Takes an input apart into files: each begins after a line `--- NAME` with one of `names`. What stands before the first
/// such line, and what follows a line with another name, belongs to no file.
pub fn parts<'d>(data: &'d [u8], names: &[&'static str]) -> Vec<(&'static str, &'d [u8])> {
    let mut parts: Vec<(&'static str, &'d [u8])> = Vec::new();
    let mut at = 0;
    // Where the last file's name ends.
    let mut begun: Option<(&'static str, usize)> = None;
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        if let Some(name) = line.strip_prefix(b"--- ") {
            if let Some((name, from)) = begun.take() {
                parts.push((name, &data[from..at]));
            }
            let name = name.strip_suffix(b"\n").unwrap_or(name);
            let known = names.iter().find(|known| known.as_bytes() == name);
            begun = known.map(|known| (*known, at + line.len()));
        }
        at += line.len();
    }
    parts.extend(begun.map(|(name, from)| (name, &data[from..])));
    parts
}

/// Whether `path` lies below `folder` by its words alone.
pub fn below(folder: &Path, path: &Path) -> bool {
    path.strip_prefix(folder).is_ok_and(|rest| rest.components().all(|part| matches!(part, Component::Normal(_))))
}

/// Width of stored features.
pub const WIDTH: usize = 4;

/// What makes stored features, perhaps with corrected ones beside them.
pub fn features_key(corrected: bool) -> Key {
    let correction = corrected.then(|| "c".repeat(64));
    Key { model: "m".repeat(64), correction, preprocess: "as it is".into(), precision: "f32".into(), of: None }
}
