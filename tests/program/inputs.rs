//! Files that are no files: pipes, devices, sockets and folders under the name of what the program reads.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MODEL: &str = "weights/picto";
/// Longer than any of these commands takes, and shorter than for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program, which must end by itself with exit code 2, and gives what it said.
fn refusal(args: &[&str]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tipi"))
        .env("TIPI_TUNE", "off")
        .current_dir(tipi_testing::root())
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{args:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
    said
}

/// Puts a pipe that nobody writes to, or a device that never ends, in a file's place.
fn replace(path: &Path, kind: &str) {
    let _ = fs::remove_file(path);
    if kind == "pipe" {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    } else {
        symlink("/dev/zero", path).unwrap();
    }
}

/// A copy of the bundled model, whose files are links.
fn model(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(tipi_testing::root().join(MODEL)).unwrap() {
        let path = entry.unwrap().path();
        symlink(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn what_is_no_file_is_refused_by_what_it_is_wherever_a_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (out, listed) = (at("out.safetensors"), format!("@{}", at("list.txt")));
    fs::create_dir(at("data")).unwrap();
    for kind in ["pipe", "device"] {
        let named = format!("this is a {kind}");
        for name in ["a.png", "a.safetensors", "a.csv", "list.txt"] {
            replace(Path::new(&at(name)), kind);
        }
        let (picture, tensors, csv) = (at("a.png"), at("a.safetensors"), at("a.csv"));
        for args in [
            &["embed", "image", "--strict", "--model", MODEL, "--out", &out, &picture][..],
            &["embed", "image", "--model", MODEL, "--out", &out, &tensors],
            &["embed", "text", "--model", MODEL, "--out", &out, &listed],
            &["embed", "text", "--model", MODEL, "--out", &out, &tensors],
            &["predict", "--adapter", &tensors, &picture],
            &["search", "--method", "tip", "--cache", &tensors, "--classifier", &tensors, "--val", &tensors],
            &["eval", "--dataset", &csv, "--model", MODEL, "--out", &at("results")],
        ] {
            let said = refusal(args);
            assert!(said.contains(&named), "{args:?}: {said}");
        }
        for file in ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"] {
            let folder = at(&format!("model {kind} {file}"));
            model(Path::new(&folder));
            replace(&Path::new(&folder).join(file), kind);
            let said = refusal(&["embed", "text", "--model", &folder, "--out", &out, "apple"]);
            assert!(said.contains(&named) && said.contains(file), "{file}: {said}");
        }
    }
    assert!(!Path::new(&out).exists());
}

#[test]
fn links_to_files_are_files() {
    let dir = tempfile::tempdir().unwrap();
    model(&dir.path().join("model"));
    let picture = tipi_testing::root().join("examples/pictos/novel");
    let class = fs::read_dir(picture).unwrap().next().unwrap().unwrap().path();
    let picture = fs::read_dir(class).unwrap().next().unwrap().unwrap().path();
    symlink(&picture, dir.path().join("link.png")).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_tipi"))
        .env("TIPI_TUNE", "off")
        .args(["embed", "image", "--model", "model", "--out", "out.safetensors", "link.png"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
