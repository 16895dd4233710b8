//! Walking through folders of pictures: everything that lists pictures or class folders does it here.
//!
//! What is taken and what is passed over:
//!
//! - Names that start with a dot, and folders that systems, NAS and photo programs make for themselves ([`is_system`]:
//!   thumbnails, recycle bins, snapshots), are passed over. So are folders of tipi's own results ([`is_results`]).
//! - Patterns of the user's, with the rules of a `.gitignore` file, exclude more, or (with `!` in front) take in what would
//!   be passed over.
//! - A folder that is named by the caller is always walked, whatever it is called.
//! - A folder below it is entered once, whatever number of links lead there: by its own path before any link, else by the
//!   first of the links in the order of paths. A picture is listed once, by the same rule.
//! - A sub-folder that cannot be read is noted, or the error where the walk is strict.
//! - So are files that look like pictures and are not taken: by their names, of kinds that are not read; or by how they begin,
//!   under other names. Names such as `.txt` say that a file is no picture, and nobody looks into it.
//!
//! Nothing depends on the order in which the system lists entries.

mod names;
mod results;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::data::decode::EXTENSIONS;
use crate::data::is_picture;
use crate::{Error, Result, text};

pub use names::is_system;
pub(crate) use results::unmark_results;
pub use results::{is_results, mark_results};
pub(in crate::low_level::data) use tree::Tree;
pub(crate) use tree::entries;

/// How folders are walked, and what was found on the way. One serves for all that a run lists.
#[derive(Debug)]
pub struct Walk {
    rules: Gitignore,
    strict: bool,
    /// Whether a file that looks like a picture and is not taken is an error.
    refuses_unread: bool,
    found: Mutex<Found>,
    /// Folders and lists that were walked, and what links led to; links resolved.
    roots: Mutex<BTreeSet<PathBuf>>,
}

/// What a walk came across; see [`Walk::found`].
#[derive(Debug, Default)]
pub struct Found {
    /// Folders passed over that systems and programs make for themselves, and other hidden ones.
    pub system: BTreeSet<PathBuf>,
    /// Hidden files that have a picture's name, such as `._a.jpg` of macOS.
    pub hidden: BTreeSet<PathBuf>,
    /// What patterns excluded: folders, and files that have a picture's name.
    pub excluded: BTreeSet<PathBuf>,
    /// Folders of results.
    pub results: BTreeSet<PathBuf>,
    /// Links to folders or pictures that were listed already.
    pub again: BTreeSet<PathBuf>,
    /// Sub-folders that could not be read, and links that could not be followed, and why.
    pub unreadable: BTreeMap<PathBuf, Error>,
    /// Files that look like pictures and are not taken, and why.
    pub unread: BTreeMap<PathBuf, Error>,
}

impl Found {
    /// What was passed over, on one line for people; nothing where nothing was.
    pub fn passed_over(&self) -> Option<String> {
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for path in &self.system {
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            *names.entry(name).or_default() += 1;
        }
        let mut parts: Vec<String> =
            names.into_iter().map(|(name, n)| if n == 1 { name } else { format!("{name} ({n} times)") }).collect();
        let mut count = |all: &BTreeSet<PathBuf>, one: &str, many: &str| {
            if let Some(first) = all.first() {
                parts.push(format!("{} ({})", text::count(all.len(), one, many), first.display()));
            }
        };
        count(&self.hidden, "hidden file with a picture's name", "hidden files with pictures' names, first");
        count(&self.excluded, "file or folder that is excluded", "files and folders that are excluded, first");
        count(&self.results, "folder of results", "folders of results, first");
        count(&self.again, "link to what is listed already", "links to what is listed already, first");
        (!parts.is_empty()).then(|| format!("passed over: {}", parts.join(", ")))
    }
}

impl Default for Walk {
    fn default() -> Self {
        Walk {
            rules: Gitignore::empty(),
            strict: true,
            refuses_unread: false,
            found: Mutex::default(),
            roots: Mutex::default(),
        }
    }
}

impl Walk {
    /// A walk that excludes what one of these patterns matches. Each is a line of a `.gitignore` file: `*.gif` and
    /// `drafts` match at any depth, `drafts/` folders alone, `/cat/old` and `cat/old` below the folder that is walked, and
    /// `!drafts` takes in what would be passed over; of several that match, the last decides.
    ///
    /// It is strict, as [`Walk::default`] is, unless [`Walk::strict`] says otherwise.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the pattern that is none.
    pub fn excluding<S: AsRef<str>>(patterns: &[S]) -> Result<Walk> {
        let mut rules = GitignoreBuilder::new("");
        rules.allow_unclosed_class(false);
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let wrong = |reason: String| Error::invalid(format!("'{pattern}' is no pattern of files: {reason}"));
            if pattern.trim().is_empty() {
                return Err(wrong("it is empty".into()));
            }
            // A line that begins so would be a comment; an argument is none.
            let line = if pattern.starts_with('#') { format!("\\{pattern}") } else { pattern.to_owned() };
            rules.add_line(None, &line).map_err(|error| wrong(error.to_string()))?;
        }
        let rules = rules.build().map_err(|error| Error::invalid(format!("patterns of files: {error}")))?;
        Ok(Walk { rules, ..Walk::default() })
    }

    /// A walk that has been at a folder.
    #[cfg(feature = "eval")]
    pub(crate) fn of(root: &Path) -> Walk {
        let walk = Walk::default();
        walk.at(root);
        walk
    }

    /// Whether a sub-folder that cannot be read, or a file that looks like a picture and is not taken, is an error, or noted
    /// and left out. Where this is not said, only the first is an error.
    #[must_use]
    pub fn strict(self, strict: bool) -> Walk {
        Walk { strict, refuses_unread: strict, ..self }
    }

    /// What was found since this was last asked.
    pub fn found(&self) -> Found {
        std::mem::take(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was passed over since this was last asked, on one line; what could not be read stays to be asked for.
    pub fn take_passed_over(&self) -> Option<String> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (unreadable, unread) = (std::mem::take(&mut found.unreadable), std::mem::take(&mut found.unread));
        let passed = std::mem::replace(&mut *found, Found { unreadable, unread, ..Found::default() });
        passed.passed_over()
    }

    /// A folder that is walked with this; patterns are relative to it. A list of pictures may be named too, so that nothing
    /// is written over it.
    pub(in crate::low_level::data) fn at<'w>(&'w self, root: &'w Path) -> Tree<'w> {
        if let Ok(resolved) = fs::canonicalize(root) {
            self.roots.lock().unwrap_or_else(PoisonError::into_inner).insert(resolved);
        }
        Tree::new(self, root)
    }

    /// Refuses a folder for results that lies in what was walked, or around it: what is written there would be learned from
    /// the next time. Links are followed.
    ///
    /// # Errors
    /// [`Error::Data`] with both.
    pub fn refuse_folder(&self, out: &Path) -> Result<()> {
        let resolved = resolved(out);
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        for root in roots.iter() {
            let reason = if resolved == *root {
                "this is the folder that pictures are taken from".to_owned()
            } else if resolved.starts_with(root) {
                format!("this lies in {}, which pictures are taken from", root.display())
            } else if root.starts_with(&resolved) {
                format!("{}, which pictures are taken from, lies in this folder", root.display())
            } else {
                continue;
            };
            let reason =
                format!("{reason}: results there would be learned from the next time; take a folder beside it");
            return Err(Error::data(out, reason));
        }
        Ok(())
    }

    /// Refuses a picture that would be written into what was walked: it would be learned from the next time. Other files may
    /// lie there. Links are followed.
    ///
    /// # Errors
    /// [`Error::Data`] with both.
    pub fn refuse_picture(&self, out: &Path) -> Result<()> {
        if !is_picture(out) {
            return Ok(());
        }
        let resolved = resolved(out);
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        match roots.iter().find(|root| resolved.starts_with(root)) {
            Some(root) => {
                let reason = format!(
                    "this lies in {}, which pictures are taken from: it would be learned from the next time; take \
                     another folder",
                    root.display()
                );
                Err(Error::data(out, reason))
            }
            None => Ok(()),
        }
    }

    fn note(&self, note: impl FnOnce(&mut Found)) {
        note(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes a file that looks like a picture and is not taken; the error itself where such files are refused.
    fn unread(&self, path: &Path, reason: String) -> Result<()> {
        let error = Error::Image { path: path.to_path_buf(), reason };
        if self.refuses_unread {
            return Err(error);
        }
        self.note(|found| {
            found.unread.insert(path.to_path_buf(), error);
        });
        Ok(())
    }

    /// What an error of no pictures in a folder adds, where there are files that only look like some.
    pub(in crate::low_level::data) fn unread_below(&self, folder: &Path) -> String {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unread = found.unread.iter().filter(|(path, _)| path.starts_with(folder));
        match unread.next() {
            Some((_, first)) => {
                let count = text::count(1 + unread.count(), "file that looks", "files that look");
                format!("; {count} like pictures cannot be read, first {first}")
            }
            None => String::new(),
        }
    }

    /// Notes what could not be read; the error itself where the walk is strict.
    fn unreadable(&self, path: &Path, source: io::Error) -> Result<()> {
        let error = Error::io(path, source);
        if self.strict {
            return Err(error);
        }
        self.note(|found| {
            found.unreadable.insert(path.to_path_buf(), error);
        });
        Ok(())
    }
}

/// A path with links resolved as far as it is there; the rest as it is written.
fn resolved(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for there in whole.ancestors() {
        if let Ok(mut resolved) = fs::canonicalize(there) {
            for part in whole.strip_prefix(there).unwrap_or(Path::new("")).components() {
                match part {
                    std::path::Component::ParentDir => {
                        resolved.pop();
                    }
                    part => resolved.push(part),
                }
            }
            return resolved;
        }
    }
    whole
}

/// The pictures that a path stands for, by a strict walk without patterns; see [`list_pictures_with`].
///
/// # Errors
/// As [`list_pictures_with`].
pub fn list_pictures(path: &Path) -> Result<Vec<PathBuf>> {
    list_pictures_with(path, &Walk::default())
}

/// The pictures that a path stands for: a file stands for itself, whatever its name; a folder for the pictures (by
/// [`is_picture`]) in it and in its sub-folders, sorted by path, each once.
///
/// # Errors
///
/// [`Error::Data`] if there is nothing at `path` or no picture in the folder, [`Error::Io`] if the folder cannot be
/// read, or in a strict walk one below it.
pub fn list_pictures_with(path: &Path, walk: &Walk) -> Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => Error::data(path, "there is no such file or folder: check the path"),
        _ => Error::io(path, source),
    })?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    // What was asked for by name must be readable.
    fs::read_dir(path).map_err(|source| Error::io(path, source))?;
    let pictures = walk.at(path).pictures_below(path)?.unwrap_or_default();
    if pictures.is_empty() {
        return Err(Error::data(
            path,
            format!(
                "there is no picture in this folder or below it: add files named .{}{}",
                EXTENSIONS.join(", ."),
                walk.unread_below(path)
            ),
        ));
    }
    Ok(pictures)
}

#[cfg(test)]
pub(super) mod tests;
