//! Writing files so that nothing is lost or half-written.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::{Error, Result};

/// Writes `bytes` to `path` such that a reader sees the old content or all of the new one, whatever happens meanwhile.
///
/// The bytes go to a temporary file in the same folder, which is flushed to the disk and then renamed. A file that is
/// replaced keeps its permissions, a new one gets those of any new file; a symbolic link is followed. What is not a
/// file (a pipe, `/dev/null`) cannot be renamed over and is written to directly. Temporary files that ended programs
/// left in the folder more than a day ago are removed.
///
/// # Errors
///
/// [`Error::Io`] with `path` if the folder does not exist or cannot be written to, if `path` is a folder, a disk or a
/// read-only file, or if the disk is full. No temporary file remains.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes).map_err(|error| Error::io(path, error))
}

/// Writes what can be made again: as [`write_atomic`], but into a folder that is made where it is not there, and without
/// waiting for the disk.
pub(crate) fn write_cache(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let mut file = part(path)?;
    sweep_once(folder);
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

/// [`write_atomic`] to a name that is tipi's own: a link there is refused, since what it points to is somebody else's.
pub(crate) fn write_own(path: &Path, bytes: &[u8]) -> Result<()> {
    refuse_link(path)?;
    write_atomic(path, bytes)
}

/// Fails if there is a link at `path`.
pub(crate) fn refuse_link(path: &Path) -> Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        let reason = "this is a link, and a file of tipi's own belongs here: remove the link";
        return Err(Error::io(path, io::Error::new(ErrorKind::AlreadyExists, reason)));
    }
    Ok(())
}

/// Fails as `write_atomic` would, without writing anything: for asking before the work is spent.
///
/// # Errors
///
/// As `write_atomic`, but for a disk that fills up later.
pub fn check_writable(path: &Path) -> Result<()> {
    let check = || match resolve(path)? {
        Place::Direct => direct(path).map(drop),
        Place::File { target, .. } => part(&target).map(drop),
    };
    check().map_err(|error| Error::io(path, error))
}

/// Bytes as hexadecimal digits, as digests are written.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the bytes for a path go.
pub(crate) enum Place {
    /// A pipe or a device, which cannot be renamed over.
    Direct,
    /// A file, with links followed, and the permissions that it has if it is there.
    File { target: PathBuf, keep: Option<Permissions> },
}

/// How many links to links are followed.
const LINKS: usize = 32;

pub(crate) fn resolve(path: &Path) -> io::Result<Place> {
    let mut target = path.to_path_buf();
    for _ in 0..LINKS {
        let found = match fs::metadata(&target) {
            Ok(found) => found,
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            // A link to a file that is not there yet names where it will be.
            Err(_) => match fs::read_link(&target) {
                Ok(next) => {
                    target = target.parent().unwrap_or(Path::new("")).join(next);
                    continue;
                }
                Err(_) if !names_file(&target) => {
                    let reason = "this names no file: give a name that does not end in a separator";
                    return Err(io::Error::new(ErrorKind::InvalidInput, reason));
                }
                Err(_) => return Ok(Place::File { target, keep: None }),
            },
        };
        return match found {
            found if found.is_dir() => Err(io::Error::new(
                ErrorKind::IsADirectory,
                "this is a folder, not a file: give the name of a file to write",
            )),
            found if !found.is_file() && is_disk(&found) => {
                Err(io::Error::new(ErrorKind::InvalidInput, "this is a disk, not a file, and was left as it is"))
            }
            found if !found.is_file() => Ok(Place::Direct),
            found if found.permissions().readonly() => {
                Err(io::Error::new(ErrorKind::PermissionDenied, "the file is read-only and was left as it is"))
            }
            found => Ok(Place::File { target: target.canonicalize()?, keep: Some(found.permissions()) }),
        };
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "links lead round in a circle"))
}

/// Whether a path that is not there could be a file's.
fn names_file(path: &Path) -> bool {
    let end = path.as_os_str().as_encoded_bytes().last().copied();
    path.file_name().is_some() && end.is_some_and(|end| !std::path::is_separator(char::from(end)))
}

#[cfg(unix)]
fn is_disk(found: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_block_device(&found.file_type())
}

#[cfg(not(unix))]
fn is_disk(_: &fs::Metadata) -> bool {
    false
}

/// Opens a pipe or a device for writing. A pipe that nobody reads from is an error: waiting could take for ever.
pub(crate) fn direct(path: &Path) -> io::Result<fs::File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let open = fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        // Held until the one that waits for its reader is open.
        let _reader_is_there = open.map_err(|error| match error.raw_os_error() {
            Some(libc::ENXIO) => io::Error::new(ErrorKind::BrokenPipe, "nobody reads from this pipe"),
            _ => error,
        })?;
        fs::OpenOptions::new().write(true).open(path)
    }
    #[cfg(not(unix))]
    fs::OpenOptions::new().write(true).open(path)
}

/// [`write_atomic`] with the bare error.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match resolve(path)? {
        Place::Direct => direct(path)?.write_all(bytes),
        Place::File { target, keep } => replace(&target, bytes, keep),
    }
}

/// Creates or replaces the file `target`, which gets the permissions `keep` or, without them, the usual ones.
fn replace(target: &Path, bytes: &[u8], keep: Option<Permissions>) -> io::Result<()> {
    let mut file = part(target)?;
    sweep_once(folder_of(target));
    file.write_all(bytes)?;
    if let Some(permissions) = keep {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(target)?;
    Ok(())
}

/// The folder that a file is in.
fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The names of temporary files: these around [`RANDOM`] letters and digits.
const PREFIX: &str = ".tipi-";
const SUFFIX: &str = ".part";
const RANDOM: usize = 6;
/// Temporary files live for seconds; one that is older than this was left by a program that was ended.
const OLD: Duration = Duration::from_secs(24 * 3600);

/// Whether a file's name is one that [`part`] makes.
pub(crate) fn is_part(name: &str) -> bool {
    let inner = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    inner.is_some_and(|inner| inner.len() == RANDOM && inner.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Removes temporary files that ended programs left in `folder` more than a day ago. What cannot be removed stays: it is in
/// nobody's way.
pub(crate) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(is_part) {
            continue;
        }
        // Of the entry itself: a link is not followed.
        let Ok(found) = entry.metadata() else { continue };
        let age = found.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
        if found.is_file() && age.is_some_and(|age| age > OLD) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// [`sweep`] at a program's first writing to a folder.
fn sweep_once(folder: &Path) {
    static SWEPT: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
    if SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_path_buf()) {
        sweep(folder);
    }
}

/// A temporary file beside `target`, with the permissions of any new file.
fn part(target: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = folder_of(target);
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX).rand_bytes(RANDOM);
    // Temporary files are private by default. The system takes the umask off these, as for any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // The builder's own message would name the temporary file, which tells nobody anything.
    builder.tempfile_in(folder).map_err(|error| {
        let reason = match error.kind() {
            ErrorKind::NotFound => format!("the folder {} does not exist", folder.display()),
            kind => format!("cannot create a file in the folder {}: {kind}", folder.display()),
        };
        io::Error::new(error.kind(), reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in a folder, in order.
    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn writes_and_replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        for content in [&b"first, and longer"[..], b"second", b""] {
            write_atomic(&path, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
            assert_eq!(names(folder.path()), ["a.bin"]);
        }
    }

    #[test]
    fn asking_says_what_writing_would_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        check_writable(&path).unwrap();
        assert!(names(folder.path()).is_empty());
        write_atomic(&path, b"x").unwrap();
        check_writable(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
        for bad in [folder.path().to_path_buf(), folder.path().join("nowhere/a.bin")] {
            let (asked, written) = (check_writable(&bad).unwrap_err(), write_atomic(&bad, b"x").unwrap_err());
            assert_eq!(asked.to_string(), written.to_string());
        }
    }

    #[test]
    fn what_can_be_made_again_is_written_into_a_new_folder_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/cache.bin");
        for content in [&b"first, and longer"[..], b"second"] {
            write_cache(&path, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
            assert_eq!(names(path.parent().unwrap()), ["cache.bin"]);
        }
        // What an ended program left there goes with the next program's first writing.
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        let old = SystemTime::now() - OLD - Duration::from_secs(60);
        fs::File::create(other.join(".tipi-ab3Def.part")).unwrap().set_modified(old).unwrap();
        write_cache(&other.join("a"), b"x").unwrap();
        assert_eq!(names(&other), ["a"]);
    }

    #[test]
    fn what_can_be_no_file_is_refused_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(300));
        let slash = PathBuf::from(format!("{}/", folder.path().join("new").display()));
        for bad in [Path::new(""), &long, &slash] {
            check_writable(bad).unwrap_err();
            write_atomic(bad, b"x").unwrap_err();
        }
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn old_temporary_files_are_swept_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - OLD - Duration::from_secs(60);
        let kept = [
            ".tipi-ab3Def.parts",
            ".tipi-abcde.part",
            ".tipi-abcdefg.part",
            ".tipi-abc-ef.part",
            "tipi-abcdef.part",
            "x.tipi-abcdef.part",
            "picture.part",
        ];
        for name in kept.iter().chain(&[".tipi-ab3Def.part"]) {
            fs::File::create(folder.path().join(name)).unwrap().set_modified(old).unwrap();
        }
        fs::write(folder.path().join(".tipi-recent.part"), "").unwrap();
        fs::create_dir(folder.path().join(".tipi-folder.part")).unwrap();
        write_atomic(&folder.path().join("a"), b"x").unwrap();
        let mut expected: Vec<&str> = [&kept[..], &[".tipi-recent.part", ".tipi-folder.part", "a"]].concat();
        expected.sort();
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere").join("a.bin");
        let error = write_atomic(&path, b"x").unwrap_err();
        assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error:?}");
        assert!(error.to_string().contains("nowhere does not exist"), "{error}");
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_failed_rename_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir_all(path.join("full")).unwrap();
        // Through `replace`, since `write_atomic` sees a folder beforehand.
        replace(&path, b"x", None).unwrap_err();
        assert_eq!(names(folder.path()), ["a"]);
        let error = write_atomic(&path, b"x").unwrap_err().to_string();
        assert!(error.contains("folder, not a file"), "{error}");
    }

    #[test]
    fn a_read_only_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let writable = fs::metadata(&path).unwrap().permissions();
        let mut permissions = writable.clone();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        let error = write_atomic(&path, b"new").unwrap_err().to_string();
        assert!(error.contains("read-only"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // Windows cannot remove the folder otherwise.
        fs::set_permissions(&path, writable).unwrap();
    }

    #[cfg(unix)]
    mod unix {
        use super::*;
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

        fn mode(path: &Path) -> u32 {
            fs::metadata(path).unwrap().permissions().mode() & 0o7777
        }

        #[test]
        fn permissions_are_those_of_any_file() {
            let folder = tempfile::tempdir().unwrap();
            let (usual, path) = (folder.path().join("usual"), folder.path().join("a"));
            fs::write(&usual, "").unwrap();
            write_atomic(&path, b"x").unwrap();
            assert_eq!(mode(&path), mode(&usual));
            fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
            write_atomic(&path, b"y").unwrap();
            assert_eq!(mode(&path), 0o640);
        }

        #[test]
        fn a_link_is_followed_and_a_device_survives() {
            let folder = tempfile::tempdir().unwrap();
            let (file, link) = (folder.path().join("file"), folder.path().join("link"));
            fs::write(&file, "old").unwrap();
            symlink("file", &link).unwrap();
            write_atomic(&link, b"new").unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read(&file).unwrap(), b"new");

            // A link to a file that is not there yet stays a link.
            let (later, link) = (folder.path().join("later"), folder.path().join("dangling"));
            symlink("later", &link).unwrap();
            check_writable(&link).unwrap();
            write_atomic(&link, b"there").unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read(&later).unwrap(), b"there");

            write_atomic(Path::new("/dev/null"), b"x").unwrap();
            assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        }
    }
}
