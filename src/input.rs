//! Opening and reading the user's files: regular files only, and never more of one than its kind may have.
//!
//! Everything that tipi reads comes through here, from a disk or from files that a program has itself ([`Files`]). A pipe, a
//! device or a socket under a file's name could block for ever or never end, so each is refused by what it is; a link to a
//! regular file is as good as the file.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::named::{Files, ReadAt};
use crate::{Error, Result};

/// The most bytes that a file of each kind may have: far more than any honest one has.
pub mod limit {
    /// A configuration, or another description in JSON.
    pub const CONFIG: u64 = 16 << 20;
    /// A tokenizer.json or SentencePiece model; those of the largest vocabularies, of 900,000 pieces, have some 65 MB.
    pub const TOKENIZER: u64 = 128 << 20;
    /// A list of texts or pictures, a split file, or the results of an evaluation.
    pub const LIST: u64 = 512 << 20;
    /// A MATLAB file of labels.
    pub const MAT: u64 = 64 << 20;
    /// A picture.
    pub const PICTURE: u64 = 1 << 30;
    /// A file of tensors that is read as a whole: an adapter, a checkpoint of training, features.
    pub const TENSORS: u64 = 64 << 30;
    /// A text of which only the first lines matter, as that of a licence.
    pub const TEXT: u64 = 4 << 20;
    /// What a driver keeps of compiled pipelines.
    pub const PIPELINES: u64 = 1 << 30;
}

/// Opens a regular file, or a link to one, for reading.
///
/// # Errors
///
/// [`Error::Io`] if there is no such file or it cannot be opened, or if it is a folder, a pipe, a device or a socket: the
/// message says which.
pub fn open(path: &Path) -> Result<File> {
    open_with(OpenOptions::new().read(true), path).map_err(|error| Error::io(path, error))
}

/// Reads a file of at most `limit` bytes (see [`limit`]) as a whole.
///
/// # Errors
///
/// As [`open`]; [`Error::Io`] if the file is larger or cannot be read.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    match open_stored(path)? {
        Stored::Disk(file) => read_open(&file, path, limit),
        Stored::Named(bytes) => read_named(&*bytes, limit).map_err(|error| Error::io(path, error)),
    }
}

/// [`read`] of a file that [`open`] opened.
pub(crate) fn read_open(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let read = || {
        let size = file.metadata()?.len();
        if size > limit { Err(too_large(limit)) } else { read_at_most(file, size, limit) }
    };
    read().map_err(|error| Error::io(path, error))
}

/// [`read`] of a text in UTF-8.
///
/// # Errors
///
/// As [`read`]; [`Error::Io`] if the file is no UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|error| Error::io(path, no_text(&error)))
}

/// Reads a stream, such as standard input, to its end as a text of at most `limit` bytes.
///
/// # Errors
///
/// A stream that fails, is larger, or is no UTF-8.
pub fn read_stream(stream: impl Read, limit: u64) -> io::Result<String> {
    String::from_utf8(read_at_most(stream, 0, limit)?).map_err(|error| no_text(&error))
}

/// Something that is open: a file on a disk, or one that the program has.
pub(crate) enum Stored {
    Disk(File),
    Named(Arc<dyn ReadAt>),
}

/// [`open`] of whatever a path leads to.
pub(crate) fn open_stored(path: &Path) -> Result<Stored> {
    match Files::at(path) {
        None => open(path).map(Stored::Disk),
        Some(files) => match files.file(path) {
            Some(bytes) => Ok(Stored::Named(bytes)),
            None => Err(Error::io(path, ErrorKind::NotFound.into())),
        },
    }
}

impl Stored {
    /// Bytes that there are.
    pub fn size(&self) -> io::Result<u64> {
        match self {
            Stored::Disk(file) => Ok(file.metadata()?.len()),
            Stored::Named(bytes) => Ok(bytes.size()),
        }
    }

    /// When it was last written to, where that is kept.
    pub fn changed(&self) -> io::Result<Option<SystemTime>> {
        match self {
            // Where a system keeps no times, the size has to do.
            Stored::Disk(file) => Ok(file.metadata()?.modified().ok()),
            Stored::Named(_) => Ok(None),
        }
    }

    /// Fills `bytes` from a place in it.
    pub fn read_exact_at(&self, bytes: &mut [u8], start: u64) -> io::Result<()> {
        match self {
            Stored::Disk(file) => read_exact_at(file, bytes, start),
            Stored::Named(named) => named.read_exact_at(bytes, start),
        }
    }
}

/// Whether there is anything at a path.
pub(crate) fn exists(path: &Path) -> bool {
    match Files::at(path) {
        None => path.exists(),
        Some(files) => files.path() == path || files.file(path).is_some(),
    }
}

/// Whether there is a file at a path.
pub(crate) fn is_file(path: &Path) -> bool {
    Files::at(path).map_or_else(|| path.is_file(), |files| files.file(path).is_some())
}

/// Whether there is a folder at a path.
pub(crate) fn is_folder(path: &Path) -> bool {
    Files::at(path).map_or_else(|| path.is_dir(), |files| files.path() == path)
}

/// What is in a folder, sorted; nothing where there is none.
pub(crate) fn list(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = match Files::at(folder) {
        Some(files) => return files.list().into_iter().collect(),
        None => std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect(),
    };
    all.sort();
    all
}

/// All of what a program has.
fn read_named(named: &dyn ReadAt, limit: u64) -> io::Result<Vec<u8>> {
    let size = named.size();
    if size > limit {
        return Err(too_large(limit));
    }
    let size = usize::try_from(size).map_err(|_| ErrorKind::OutOfMemory)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size)?;
    bytes.resize(size, 0);
    named.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Fills `bytes` from a place in a file.
fn read_exact_at(file: &File, bytes: &mut [u8], start: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, bytes, start);
    // A page has no disk, and no file was opened there.
    #[cfg(not(any(unix, windows)))]
    return {
        _ = (file, bytes, start);
        Err(ErrorKind::Unsupported.into())
    };
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < bytes.len() {
            match std::os::windows::fs::FileExt::seek_read(file, &mut bytes[done..], start + done as u64) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Opens with any options, for writing, too, if `path` is a regular file or nothing yet. Nothing else is even opened:
/// some devices act when they are.
pub(crate) fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    match std::fs::metadata(path) {
        Ok(found) => check(&found)?,
        // Whether that is an error is for the options to say.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Whatever took the file's place meanwhile must not block.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// Refuses what is not a regular file.
fn check(found: &Metadata) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let kind = if found.is_dir() { ErrorKind::IsADirectory } else { ErrorKind::InvalidInput };
    let what = name(found.file_type());
    Err(io::Error::new(kind, format!("this is a {what}, not a file; give a regular file or a link to one")))
}

/// What stands under a file's name.
fn name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        return "folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "pipe (FIFO)";
        }
        if kind.is_socket() {
            return "socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "device";
        }
    }
    "special file"
}

/// All of a stream that should have `size` bytes, and may have `limit`.
fn read_at_most(stream: impl Read, size: u64, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A size that cannot be had is an error, not the end of the program.
    bytes.try_reserve_exact(usize::try_from(size).map_err(|_| ErrorKind::OutOfMemory)?)?;
    stream.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("larger than {limit} bytes, the most that such a file may have"))
}

fn no_text(error: &std::string::FromUtf8Error) -> io::Error {
    let at = error.utf8_error().valid_up_to();
    io::Error::new(ErrorKind::InvalidData, format!("not a text in UTF-8, from byte {at} on; save it as such"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read_text(&path, 9).unwrap(), "12345");
        let error = read(&path, 4).unwrap_err().to_string();
        assert!(error.contains("larger than 4 bytes") && error.contains(path.to_str().unwrap()), "{error}");
        fs::write(&path, b"ab\xff").unwrap();
        assert!(read_text(&path, 9).unwrap_err().to_string().contains("from byte 2 on"));
        let missing = read(&folder.path().join("b"), 9).unwrap_err().to_string();
        assert!(missing.contains("check the path"), "{missing}");
    }

    #[test]
    fn what_never_ends_is_read_up_to_its_bound() {
        // A file that grows while it is read looks like this: it was smaller when it was opened.
        let error = read_at_most(io::repeat(0), 3, 1000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert_eq!(read_stream(io::repeat(b'a').take(7), 7).unwrap(), "aaaaaaa");
        assert!(read_stream(io::repeat(b'a'), 7).is_err());
    }

    #[test]
    fn a_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(folder.path(), 9).unwrap_err().to_string();
        assert!(error.contains("this is a folder"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn only_regular_files_are_opened_and_nothing_blocks() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink("pipe", at("to pipe")).unwrap();
        for (name, what) in [("pipe", "pipe"), ("to pipe", "pipe"), ("socket", "socket"), ("zero", "device")] {
            let error = read(&at(name), 9).unwrap_err().to_string();
            assert!(error.contains(&format!("this is a {what}")) && error.contains(name), "{error}");
            open(&at(name)).unwrap_err();
            open_with(OpenOptions::new().write(true).create(true), &at(name)).unwrap_err();
            open_with(OpenOptions::new().append(true).create(true), &at(name)).unwrap_err();
        }
        fs::write(at("file"), "x").unwrap();
        symlink("file", at("link")).unwrap();
        assert_eq!(read(&at("link"), 1).unwrap(), b"x");
    }
}
