//! The program, run as a user runs it, with good input and bad.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../start/mod.rs"]
mod start;

mod classify;
mod convert;
mod data;
mod demo;
mod devices;
mod embed;
mod explain;
mod fit;
mod models;
mod neighbours;
mod options;
mod overlap;
mod search;
mod siglip;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use serde_json::Value;

use start::{MODEL, root, s, tipi};

fn good(args: &[&str]) -> (String, String) {
    let out = tipi(args);
    let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success(), "{args:?}: {stderr}");
    (stdout, stderr)
}

/// Fails with code 2 and one line that begins with "error:" and holds all of `needles`; panics are no errors.
fn bad(args: &[&str], needles: &[&str]) {
    let out = tipi(args);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
    let lines: Vec<_> = stderr
        .lines()
        .filter(|l| !l.starts_with("device:") && !l.starts_with("model:") && !l.contains("skipped"))
        .collect();
    assert_eq!(lines.len(), 1, "{args:?}: more than one line: {stderr}");
    assert!(lines[0].starts_with("error: "), "{stderr}");
    for needle in needles {
        assert!(lines[0].contains(needle), "{args:?}: no '{needle}' in: {}", lines[0]);
    }
}

fn features(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor("features").unwrap();
    (view.shape().to_vec(), bytemuck::pod_collect_to_vec(view.data()))
}

/// Rows of a command's JSON whose class is the picture's folder.
fn right(rows: &[Value]) -> usize {
    let fits = |r: &&Value| r["path"].as_str().unwrap().contains(&r["class"].as_str().unwrap().replace(' ', "_"));
    rows.iter().filter(fits).count()
}

/// Three classes of the bundled pictures, `count` pictures each.
fn pictures(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for class in ["apple", "credit_card", "umbrella"] {
        let folder = dir.path().join(class);
        std::fs::create_dir(&folder).unwrap();
        let set = if class == "credit_card" { "pictos-generic" } else { "pictos/shifted" };
        let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("examples").join(set).join(class))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.sort();
        for file in &files[..count] {
            std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
        }
    }
    dir
}

/// The program with environment variables set.
fn tipi_with(variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipi"));
    command.env("TIPI_TUNE", "off").args(args).current_dir(root());
    command.envs(variables.iter().copied()).output().unwrap()
}

/// A correction trained on the first `classes` generic concepts.
fn fit_overlap(out: &Path, classes: usize) -> String {
    let data = tempfile::tempdir().unwrap();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root().join("examples/pictos-generic"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    folders.sort();
    for folder in &folders[..classes] {
        let copy = data.path().join(folder.file_name().unwrap());
        std::fs::create_dir(&copy).unwrap();
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
    }
    let args = ["fit", "overlap", "--model", MODEL, "--data", s(data.path()), "--batch", "32", "--bottleneck", "8"];
    good(&[&args[..], &["--scale", "0.1", "--out", s(out)]].concat()).1
}
