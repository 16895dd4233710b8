//! The program as a user runs it: from the repository's root, and without the user's measured choices.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

/// The bundled model.
pub const MODEL: &str = "weights/picto";

pub use tipi_testing::root;

/// A path as an argument.
pub fn s(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The program with these arguments, not yet started.
pub fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipi"));
    command.env("TIPI_TUNE", "off").args(args).current_dir(root());
    command
}

/// What the program says and ends with.
pub fn tipi<S: AsRef<OsStr>>(args: &[S]) -> Output {
    command(args).output().unwrap()
}

/// What a command says, which must succeed.
pub fn good(args: &[&str]) -> String {
    let out = tipi(args);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{args:?}: {stderr}");
    stderr
}

/// What a command says that must end with code 2.
pub fn bad(args: &[&str]) -> String {
    let out = tipi(args);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
    stderr
}
