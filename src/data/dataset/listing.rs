//! Reading lists.

use std::path::{Component, Path, PathBuf};

use crate::{Error, Result, input};

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
}
