//! Listing one folder and those below it.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use ignore::Match;

use super::{Found, Walk, is_results, is_system};
use crate::data::decode::{BEGINNING, begins_as_picture, is_named_otherwise, refusal_by_name};
use crate::data::is_picture;
use crate::{Error, Result, input};

/// An entry of a folder.
pub(crate) struct Entry {
    pub name: OsString,
    pub path: PathBuf,
    /// Its own kind: that of a link says nothing of what it leads to.
    pub kind: FileType,
}

/// A folder's entries, sorted by name.
///
/// # Errors
/// As the system gives them.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        entries.push(Entry { name: entry.file_name(), path: entry.path(), kind: entry.file_type()? });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// What a folder holds, after what is passed over.
#[derive(Default)]
struct Listing {
    folders: Vec<PathBuf>,
    /// Links that lead to folders.
    links: Vec<PathBuf>,
    pictures: Vec<PathBuf>,
    /// Links with a picture's name, wherever they lead: decoding names those that lead nowhere.
    picture_links: Vec<PathBuf>,
}

/// What is looked for in a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Folders,
    Pictures,
    Both,
}

/// A folder under way; see [`Walk::at`].
#[derive(Clone, Copy)]
pub(in crate::low_level::data) struct Tree<'w> {
    walk: &'w Walk,
    root: &'w Path,
}

impl<'w> Tree<'w> {
    pub(super) fn new(walk: &'w Walk, root: &'w Path) -> Tree<'w> {
        Tree { walk, root }
    }

    /// The sub-folders of a folder by name, sorted.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be read, [`Error::Data`] for a name that is not UTF-8.
    pub fn folders(&self, dir: &Path) -> Result<Vec<(String, PathBuf)>> {
        let listing = self.list(dir, Wanted::Folders)?.map_err(|source| Error::io(dir, source))?;
        let mut folders = Vec::new();
        for path in listing.folders.into_iter().chain(listing.links) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(Error::data(path, "the folder's name is not UTF-8: rename it"));
            };
            folders.push((name.to_owned(), path));
        }
        folders.sort();
        Ok(folders)
    }

    /// The pictures in a folder, not those in its sub-folders, sorted; none if it cannot be read, which is noted. Asks the
    /// system nothing about single files: ImageNet has 1.3 million.
    ///
    /// # Errors
    /// In a strict walk, [`Error::Io`] if the folder cannot be read; [`Error::Image`] for a file as in [`Walk::strict`].
    pub fn pictures(&self, dir: &Path) -> Result<Option<Vec<PathBuf>>> {
        match self.list(dir, Wanted::Pictures)? {
            Ok(mut listing) => {
                listing.pictures.append(&mut listing.picture_links);
                listing.pictures.sort();
                Ok(Some(listing.pictures))
            }
            Err(source) => self.walk.unreadable(dir, source).map(|()| None),
        }
    }

    /// The pictures in a folder and its sub-folders, sorted by path; none if the folder itself cannot be read, which is
    /// noted.
    ///
    /// # Errors
    /// In a strict walk, [`Error::Io`] for a folder that cannot be read; [`Error::Image`] for a file as in [`Walk::strict`].
    pub fn pictures_below(&self, dir: &Path) -> Result<Option<Vec<PathBuf>>> {
        let mut below = Below::default();
        if !self.enter(dir, &mut below)? {
            return Ok(None);
        }
        // Every folder has been entered by its own path by now; what links add follows, in the order of their paths.
        while let Some(link) = below.links.pop_first() {
            self.enter(&link, &mut below)?;
        }
        Ok(Some(self.with_links(below)))
    }

    /// Collects what is in a folder and in those below it, links aside. False if the folder itself cannot be read.
    fn enter(&self, dir: &Path, below: &mut Below) -> Result<bool> {
        let mut first = true;
        let mut left = vec![dir.to_path_buf()];
        while let Some(folder) = left.pop() {
            let top = std::mem::take(&mut first);
            let (resolved, listing) = match self.list_once(&folder, &mut below.seen)? {
                Ok(Some(listed)) => listed,
                Ok(None) => {
                    self.walk.note(|found| {
                        found.again.insert(folder);
                    });
                    continue;
                }
                Err(source) => {
                    self.walk.unreadable(&folder, source)?;
                    if top {
                        return Ok(false);
                    }
                    continue;
                }
            };
            left.extend(listing.folders);
            below.links.extend(listing.links);
            below.picture_links.extend(listing.picture_links);
            let number = below.folders.len();
            below.folders.push(resolved);
            below.pictures.extend(listing.pictures.into_iter().map(|path| (path, number)));
        }
        Ok(true)
    }

    /// A folder with links resolved, and what it holds; nothing for one that was seen before.
    fn list_once(&self, folder: &Path, seen: &mut HashSet<PathBuf>) -> Result<io::Result<Option<(PathBuf, Listing)>>> {
        let resolved = match fs::canonicalize(folder) {
            Ok(resolved) => resolved,
            Err(source) => return Ok(Err(source)),
        };
        if !seen.insert(resolved.clone()) {
            return Ok(Ok(None));
        }
        Ok(self.list(folder, Wanted::Both)?.map(|listing| Some((resolved, listing))))
    }

    /// All pictures, sorted: those that links lead to only where they are not listed by themselves.
    fn with_links(&self, mut below: Below) -> Vec<PathBuf> {
        let mut pictures: Vec<PathBuf> = Vec::with_capacity(below.pictures.len() + below.picture_links.len());
        let mut listed: HashSet<PathBuf> = HashSet::new();
        if !below.picture_links.is_empty() {
            let name = |path: &Path| path.file_name().map(OsString::from).unwrap_or_default();
            listed.extend(below.pictures.iter().map(|(path, folder)| below.folders[*folder].join(name(path))));
        }
        below.picture_links.sort();
        for link in below.picture_links {
            // A link that leads nowhere is listed too: decoding it names it, passing over it would hide it.
            if fs::canonicalize(&link).map_or(true, |target| listed.insert(target)) {
                pictures.push(link);
            } else {
                self.walk.note(|found| {
                    found.again.insert(link);
                });
            }
        }
        pictures.extend(below.pictures.into_iter().map(|(path, _)| path));
        pictures.sort();
        pictures
    }

    /// What a folder holds.
    fn list(&self, dir: &Path, wanted: Wanted) -> Result<io::Result<Listing>> {
        let entries = match entries(dir) {
            Ok(entries) => entries,
            Err(source) => return Ok(Err(source)),
        };
        let mut listing = Listing::default();
        for Entry { name, path, kind } in entries {
            let hidden = name.as_encoded_bytes().starts_with(b".");
            // Of a kind that is not read, what is said of it.
            let refused = if is_picture(&path) { None } else { refusal_by_name(&path) };
            let picture = refused.is_some() || is_picture(&path);
            let linked = kind.is_symlink();
            let mut folder = kind.is_dir();
            // Whether a picture's link leads to a folder is asked only where folders count.
            if linked && (wanted != Wanted::Pictures || !picture) {
                match fs::metadata(&path) {
                    Ok(target) => folder = target.is_dir(),
                    // What leads nowhere may have been a folder, unless it is called like a file; a picture is named when
                    // it is decoded.
                    Err(source)
                        if !picture
                            && !hidden
                            && (source.kind() != ErrorKind::NotFound || path.extension().is_none())
                            && !self.excluded(&path, true) =>
                    {
                        self.walk.unreadable(&path, of_link(source))?;
                        continue;
                    }
                    Err(_) => {}
                }
            }
            if !folder && !picture {
                if wanted != Wanted::Folders && !hidden {
                    self.look_into(&path)?;
                }
                continue;
            }
            if !self.takes(&path, &name.to_string_lossy(), folder) {
                continue;
            }
            if let Some(reason) = refused.filter(|_| !folder) {
                if wanted != Wanted::Folders {
                    self.walk.unread(&path, reason)?;
                }
                continue;
            }
            match (folder, linked) {
                (true, false) => listing.folders.push(path),
                (true, true) => {
                    if let Ok(target) = fs::canonicalize(&path) {
                        self.walk.roots.lock().unwrap_or_else(PoisonError::into_inner).insert(target);
                    }
                    listing.links.push(path);
                }
                (false, false) => listing.pictures.push(path),
                (false, true) => listing.picture_links.push(path),
            }
        }
        Ok(Ok(listing))
    }

    /// Whether a file that is not called a picture begins as one; if so, that is noted. What cannot be opened is none of ours.
    fn look_into(&self, path: &Path) -> Result<()> {
        if is_named_otherwise(path) || self.excluded(path, false) {
            return Ok(());
        }
        let mut beginning = Vec::with_capacity(BEGINNING);
        let read = |file: fs::File| file.take(BEGINNING as u64).read_to_end(&mut beginning).is_ok();
        match input::open(path).is_ok_and(read).then(|| begins_as_picture(&beginning)).flatten() {
            Some(kind) => self
                .walk
                .unread(path, format!("it begins as {kind}, but is not called so: rename, remove or exclude it")),
            None => Ok(()),
        }
    }

    /// See [`Walk::unread_below`].
    pub fn unread_below(&self, folder: &Path) -> String {
        self.walk.unread_below(folder)
    }

    /// What the patterns say of a path.
    fn matched(&self, path: &Path, folder: bool) -> Match<()> {
        let relative = path.strip_prefix(self.root).unwrap_or(path);
        self.walk.rules.matched(relative, folder).map(|_| ())
    }

    fn excluded(&self, path: &Path, folder: bool) -> bool {
        self.matched(path, folder).is_ignore()
    }

    /// Whether an entry is taken; what is passed over is noted.
    fn takes(&self, path: &Path, name: &str, folder: bool) -> bool {
        let passed = |note: fn(&mut Found) -> &mut BTreeSet<PathBuf>| {
            self.walk.note(|found| {
                note(found).insert(path.to_path_buf());
            });
            false
        };
        match self.matched(path, folder) {
            Match::Ignore(()) => return passed(|found| &mut found.excluded),
            Match::Whitelist(()) => return true,
            Match::None => {}
        }
        match (folder, name.starts_with('.')) {
            (true, hidden) if hidden || is_system(name) => passed(|found| &mut found.system),
            (true, _) if is_results(path) => passed(|found| &mut found.results),
            (false, true) => passed(|found| &mut found.hidden),
            _ => true,
        }
    }
}

/// The system's word for a link that cannot be followed, with what it is.
fn of_link(source: io::Error) -> io::Error {
    match source.kind() {
        ErrorKind::NotFound => io::Error::other("the link leads nowhere: remove or mend it"),
        _ => source,
    }
}

/// What [`Tree::pictures_below`] has come across.
#[derive(Default)]
struct Below {
    /// Folders entered, links resolved.
    seen: HashSet<PathBuf>,
    /// Those that were listed, and each picture's place among them.
    folders: Vec<PathBuf>,
    pictures: Vec<(PathBuf, usize)>,
    picture_links: Vec<PathBuf>,
    /// Links to folders that have not been entered yet.
    links: BTreeSet<PathBuf>,
}
