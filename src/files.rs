//! Writing files so that nothing is lost or half-written.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Writes `bytes` to `path` such that a reader sees the old content or all of the new one, whatever happens meanwhile.
///
/// The bytes go to a temporary file in the same folder, which is flushed to the disk and then renamed. A file that is
/// replaced keeps its permissions, a new one gets those of any new file; a symbolic link is followed. What is not a
/// file (a pipe, `/dev/null`) cannot be renamed over and is written to directly.
///
/// # Errors
///
/// [`Error::Io`] with `path` if the folder does not exist or cannot be written to, if `path` is a folder or a
/// read-only file, or if the disk is full. No temporary file remains.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes).map_err(|error| Error::io(path, error))
}

/// Fails as [`write_atomic`] would, without writing anything: for asking before the work is spent.
///
/// # Errors
///
/// As [`write_atomic`], but for a disk that fills up later.
pub fn check_writable(path: &Path) -> Result<()> {
    let check = || match resolve(path)? {
        Place::Direct => fs::OpenOptions::new().write(true).open(path).map(drop),
        Place::File { target, .. } => part(&target).map(drop),
    };
    check().map_err(|error| Error::io(path, error))
}

/// Bytes as hexadecimal digits, as digests are written.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the bytes for a path go.
enum Place {
    /// A pipe or a device, which cannot be renamed over.
    Direct,
    /// A file, with links followed, and the permissions that it has if it is there.
    File { target: PathBuf, keep: Option<Permissions> },
}

fn resolve(path: &Path) -> io::Result<Place> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::Error::new(ErrorKind::IsADirectory, "this is a folder, not a file")),
        Ok(found) if !found.is_file() => Ok(Place::Direct),
        Ok(found) if found.permissions().readonly() => {
            Err(io::Error::new(ErrorKind::PermissionDenied, "the file is read-only and was left as it is"))
        }
        Ok(found) => Ok(Place::File { target: path.canonicalize()?, keep: Some(found.permissions()) }),
        Err(_) => Ok(Place::File { target: path.to_path_buf(), keep: None }),
    }
}

/// [`write_atomic`] with the bare error.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match resolve(path)? {
        Place::Direct => fs::OpenOptions::new().write(true).open(path)?.write_all(bytes),
        Place::File { target, keep } => replace(&target, bytes, keep),
    }
}

/// Creates or replaces the file `target`, which gets the permissions `keep` or, without them, the usual ones.
fn replace(target: &Path, bytes: &[u8], keep: Option<Permissions>) -> io::Result<()> {
    let mut file = part(target)?;
    file.write_all(bytes)?;
    if let Some(permissions) = keep {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(target)?;
    Ok(())
}

/// A temporary file beside `target`, with the permissions of any new file.
fn part(target: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tipi-").suffix(".part");
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

            write_atomic(Path::new("/dev/null"), b"x").unwrap();
            assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        }
    }
}
