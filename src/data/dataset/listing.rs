//! Reading folders and lists.

use std::path::{Component, Path, PathBuf};

use crate::data::decode::each_visible;
use crate::data::is_picture;
use crate::{Error, Result, input};

/// The sub-folders of a folder by name, sorted; names that start with a dot are passed over.
pub(super) fn folders(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut folders = Vec::new();
    each_entry(dir, |entry, kind| {
        // A link's own kind says nothing of what it leads to.
        if kind.is_dir() || kind.is_symlink() && entry.path().is_dir() {
            let Ok(name) = entry.file_name().into_string() else {
                return Err(Error::data(entry.path(), "the folder's name is not UTF-8: rename it"));
            };
            folders.push((name, entry.path()));
        }
        Ok(())
    })?;
    folders.sort();
    Ok(folders)
}

/// The pictures in a folder, not those in its sub-folders, sorted. Asks the system nothing about single files: ImageNet
/// has 1.3 million.
pub(super) fn pictures(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    each_entry(dir, |entry, kind| {
        let path = entry.path();
        if !kind.is_dir() && is_picture(&path) {
            pictures.push(path);
        }
        Ok(())
    })?;
    pictures.sort();
    Ok(pictures)
}

/// Hands over a folder's visible entries with their kinds.
fn each_entry(dir: &Path, mut take: impl FnMut(&std::fs::DirEntry, std::fs::FileType) -> Result<()>) -> Result<()> {
    each_visible(dir, |entry| {
        let kind = entry.file_type().map_err(|source| Error::io(entry.path(), source))?;
        take(entry, kind)
    })
}

/// A text file's lines that are not empty, trimmed.
pub(super) struct Lines {
    path: PathBuf,
    text: String,
}

impl Lines {
    pub fn read(path: PathBuf) -> Result<Self> {
        let text = input::read_text(&path, input::limit::LIST)?;
        Ok(Self { path, text })
    }

    /// The lines.
    pub fn iter(&self) -> impl Iterator<Item = Line<'_>> {
        let lines = self.text.trim_start_matches('\u{feff}').lines().map(str::trim).enumerate();
        lines.filter(|(_, text)| !text.is_empty()).map(|(index, text)| Line {
            file: &self.path,
            number: index + 1,
            text,
        })
    }
}

/// A line of a file.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    file: &'a Path,
    number: usize,
    pub text: &'a str,
}

impl Line<'_> {
    /// An error about the line.
    pub fn error(&self, reason: impl std::fmt::Display) -> Error {
        Error::data(self.file, format!("line {}: {reason}", self.number))
    }

    /// A path that the line has, below `folder`.
    pub fn below(&self, folder: &Path, path: &str) -> Result<PathBuf> {
        below(folder, path).map_err(|reason| self.error(reason))
    }
}

/// `path` below `folder`; a list must not lead out of its set. The error is the reason.
pub(super) fn below(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let relative = Path::new(path);
    let mut parts = relative.components().peekable();
    if parts.peek().is_none() {
        return Err("the picture's path is empty".to_owned());
    }
    if parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Ok(folder.join(relative));
    }
    Err(format!("the path '{path}' leads out of the set: it must be relative and without '..'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_folder() {
        let folder = Path::new("/set");
        assert_eq!(below(folder, "a/b c.jpg").unwrap(), Path::new("/set/a/b c.jpg"));
        for path in ["/a.jpg", "../a.jpg", "a/../../b.jpg", "a/..", ""] {
            assert!(below(folder, path).is_err(), "{path}");
        }
    }

    #[test]
    fn hidden_entries_and_other_files_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["b", "a", ".git", "a/inner"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in ["a/2.jpg", "a/10.JPEG", "a/notes.txt", "a/.x.jpg", "a/inner/3.jpg", "c.jpg"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let names: Vec<String> = folders(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
        let a = dir.path().join("a");
        assert_eq!(pictures(&a).unwrap(), [a.join("10.JPEG"), a.join("2.jpg")]);
    }
}
