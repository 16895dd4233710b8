//! Which pictures: paths in arguments, or from standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tipi::Error;
use tipi::low_level::data::{Walk, list_pictures_with};
use tipi::low_level::input;

use crate::common;

/// Paths of pictures.
#[derive(clap::Args)]
pub struct PathArgs {
    /// Pictures and folders of pictures; - reads their paths from standard input, one a line.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The paths on standard input end with a NUL each, as `find -print0` writes them, and may be any names.
    #[arg(short = '0', long)]
    null: bool,
}

/// Paths as they were given: each, and whether it was given directly.
pub struct Paths(pub Vec<(PathBuf, bool)>);

/// A picture's path, and whether it was given directly: if so, it must not be broken.
pub type Listed = (PathBuf, bool);

impl PathArgs {
    /// Reads those of standard input.
    pub fn read(&self) -> Result<Paths> {
        let is_stdin = |path: &PathBuf| path == Path::new("-");
        let count = self.paths.iter().filter(|path| is_stdin(path)).count();
        if count > 1 {
            return Err(Error::Invalid("'-' is given twice, and standard input can be read once".into()).into());
        }
        if self.null && count == 0 {
            let reason = "--null says how paths on standard input end: give '-' among the paths";
            return Err(Error::Invalid(reason.into()).into());
        }
        let mut all = Vec::new();
        for path in &self.paths {
            match is_stdin(path) {
                true => all.extend(from_stdin(self.null)?.into_iter().map(|path| (path, false))),
                false => all.push((path.clone(), true)),
            }
        }
        Ok(Paths(all))
    }
}

/// The paths on standard input.
fn from_stdin(null: bool) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io(Path::new("standard input"), error);
    let stdin = std::io::stdin().lock();
    let paths = if null {
        let mut bytes = Vec::new();
        stdin.take(input::limit::LIST).read_to_end(&mut bytes).map_err(failed)?;
        bytes.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(path_of).collect::<Result<Vec<_>>>()?
    } else {
        let text = input::read_stream(stdin, input::limit::LIST).map_err(failed)?;
        let lines = text.trim_start_matches('\u{feff}').lines();
        lines.filter(|line| !line.is_empty()).map(PathBuf::from).collect()
    };
    match paths.is_empty() {
        true => Err(Error::Invalid("there is no path on standard input".into()).into()),
        false => Ok(paths),
    }
}

/// A path of these bytes.
#[cfg(unix)]
fn path_of(bytes: &[u8]) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Ok(std::ffi::OsStr::from_bytes(bytes).into())
}

/// A path of these bytes, which must be text where paths are no bytes.
#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Result<PathBuf> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| Error::Invalid("a path on standard input is not UTF-8".into()))?;
    Ok(text.into())
}

impl Paths {
    /// All picture files, given themselves or found in folders, in the order of the inputs.
    pub fn list(&self, walk: &Walk) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for (path, given) in &self.0 {
            // One of a list that is not there is as good as a broken one: it is named when it is its turn.
            if !given && !path.is_dir() {
                listed.push((path.clone(), false));
                continue;
            }
            let given = *given && !path.is_dir();
            listed.extend(list_pictures_with(path, walk)?.into_iter().map(|path| (path, given)));
        }
        common::say_walk(walk);
        Ok(listed)
    }
}
