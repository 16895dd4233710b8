//! Folders of tipi's own results, which lie beside pictures and hold pictures, but are none to learn from.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::Path;

use crate::files::{is_part, write_atomic};
use crate::{Error, Result, input};

/// The file that says what a folder is.
const MARKER: &str = ".tipi-results";
const TEXT: &str =
    "This folder holds what tipi wrote. Nothing in it is taken for a picture to learn from or to test on.\n";
/// What the settings of an evaluation begin with.
const SETTINGS: &[u8] = br#"{"settings":{"format":"tipi-eval/"#;

/// Creates a folder for results where it is not there, and marks it as such, so that walks pass over it. A folder that holds
/// other things of the user's is left unmarked: they may be pictures.
///
/// # Errors
/// [`Error::Io`].
pub fn mark_results(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
    let empty = || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    let marker = folder.join(MARKER);
    if !marker.is_file() && (empty() || is_results(folder)) {
        write_atomic(&marker, TEXT.as_bytes())?;
    }
    Ok(())
}

/// Takes the mark off a folder in which nothing else is left.
pub(crate) fn unmark_results(folder: &Path) {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let own = |name: &OsString| name.to_str().is_some_and(|name| name == MARKER || is_part(name));
    let names: Vec<OsString> = names.collect();
    if names.iter().all(own) {
        for name in names {
            let _ = fs::remove_file(folder.join(name));
        }
    }
}

/// Whether a folder holds tipi's results: it is marked, or looks like what was written before there were marks.
pub fn is_results(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has(MARKER)
        || is_evaluation(folder)
        || has("report.html") && has("results.json") && has("summary.csv")
        || folder.join("features").is_dir() && holds_evaluation(folder)
}

/// Whether this is the folder of one dataset's results.
fn is_evaluation(folder: &Path) -> bool {
    let mut start = [0; SETTINGS.len()];
    match input::open(&folder.join("settings.json")) {
        Ok(mut file) => file.read_exact(&mut start).is_ok() && start == SETTINGS,
        Err(_) => false,
    }
}

/// Whether one of the folders in this is.
fn holds_evaluation(folder: &Path) -> bool {
    super::entries(folder).is_ok_and(|entries| entries.iter().any(|entry| is_evaluation(&entry.path)))
}
