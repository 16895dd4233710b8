//! What reaches terminals, files and pipes: foreign text is shown escaped, and a stderr that takes nothing ends no run.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use start::{command, root, tipi};

/// Runs the program through a shell, which sees to `redirect`.
fn shell(args: &str, redirect: &str) -> Output {
    let line = format!("'{}' {args} {redirect}", env!("CARGO_BIN_EXE_tipi"));
    Command::new("sh").args(["-c", &line]).env("TIPI_TUNE", "off").current_dir(root()).output().unwrap()
}

/// Fails if a character could act on a terminal.
fn tame(what: &str, bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| panic!("{what} is no UTF-8"));
    let act = |c: &char| c.is_control() && *c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert_eq!(text.chars().find(act), None, "{what}: {text:?}");
    text
}

/// A class name that clears the screen, turns text around, and looks like two rows.
const CLASS: &str = "an\u{1b}[2J\u{9b}31m\u{202e}chor\n│ b ┆ c │";

/// Pictures of two classes, one with that name, and an adapter fitted to them.
fn fitted() -> &'static (tempfile::TempDir, PathBuf, PathBuf) {
    static FITTED: OnceLock<(tempfile::TempDir, PathBuf, PathBuf)> = OnceLock::new();
    FITTED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        for (from, to) in [("apple", CLASS), ("umbrella", "umbrella")] {
            let folder = data.join(to);
            fs::create_dir_all(&folder).unwrap();
            let mut files: Vec<PathBuf> = fs::read_dir(root().join("examples/pictos/shifted").join(from))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            files.sort();
            for file in &files[..3] {
                fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
            }
        }
        let adapter = dir.path().join("a.safetensors");
        let args = ["fit", "tip", "--model", "weights/picto", "--shots", "2", "--data"].map(OsString::from);
        let more = [data.clone().into_os_string(), "--out".into(), adapter.clone().into_os_string()];
        let out = tipi(&[&args[..], &more].concat());
        let said = tame("fit's stderr", &out.stderr);
        assert!(out.status.success(), "{said}");
        (dir, data, adapter)
    })
}

#[test]
fn names_cannot_act_on_the_terminal() {
    let (dir, data, adapter) = fitted();
    let picture = fs::read_dir(data.join("umbrella")).unwrap().next().unwrap().unwrap().path();
    let folder = dir.path().join("pictures");
    fs::create_dir_all(&folder).unwrap();
    let evil = folder.join("evil\u{1b}[1m\n\u{202e}.png");
    fs::copy(&picture, &evil).unwrap();
    fs::write(folder.join("broken\u{1b}c\u{9d}.png"), "no picture").unwrap();
    let mut args = [OsStr::new("predict"), "--adapter".as_ref(), adapter.as_ref()].map(OsStr::to_os_string).to_vec();
    args.push(folder.into_os_string());
    let out = tipi(&args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let (table, said) = (tame("the table", &out.stdout), tame("stderr", &out.stderr));
    assert!(table.contains("\\u{1b}") && said.contains("broken\\u{1b}c\\u{9d}.png"), "{table}{said}");
    // One picture is one row, whatever its name and class hold: none begins a cell with what the class says.
    assert!(!table.lines().any(|line| line.starts_with("│ b ┆ c │")), "{table}");

    args.push("--json".into());
    let out = tipi(&args);
    let rows: Vec<Value> = serde_json::from_str(&tame("JSON", &out.stdout)).unwrap();
    assert_eq!(rows[0]["path"], evil.to_str().unwrap());
    let classes = [rows[0]["class"].as_str().unwrap(), rows[0]["runner_up"].as_str().unwrap()];
    assert!(classes.contains(&CLASS.replace('_', " ").as_str()), "JSON has names as they are: {classes:?}");

    // Errors: of the library, and of the options.
    let out = tipi(&["data", "check", "no\u{1b}[31msuch\u{202e}"]);
    assert!(tame("an error", &out.stderr).contains("no\\u{1b}[31msuch"));
    let out = tipi(&["data", "ch\u{1b}[31m\u{7}eck"]);
    // clap drops what it takes for escape sequences.
    assert!(tame("an error about options", &out.stderr).contains("eck"));
    // What a model says of itself.
    let model = dir.path().join("model");
    fs::create_dir_all(&model).unwrap();
    fs::write(model.join("config.json"), "{\"model_type\": \"si\\u001b[5mglip\\u202e\"}").unwrap();
    let out = tipi(&[OsStr::new("info"), model.as_ref()]);
    assert!(!out.status.success());
    assert!(tame("what is said of a model", &out.stderr).contains("\\u{1b}[5m"));
    // Logs.
    let out = command(&[OsStr::new("info"), model.as_ref()]).env("TIPI_LOG", "trace").env("TERM", "xterm").output();
    tame("logs", &out.unwrap().stderr);
}

#[test]
fn paths_that_are_no_text_work_and_are_told_apart() {
    let (dir, data, adapter) = fitted();
    let picture = fs::read_dir(data.join("umbrella")).unwrap().next().unwrap().unwrap().path();
    let folder = dir.path().join(OsString::from_vec(b"caf\xe9".to_vec()));
    fs::create_dir_all(&folder).unwrap();
    for name in [&b"a\xe9.png"[..], b"a\xe8.png"] {
        fs::copy(&picture, folder.join(OsStr::from_bytes(name))).unwrap();
    }
    let args: [&OsStr; 5] =
        ["predict".as_ref(), "--json".as_ref(), "--adapter".as_ref(), adapter.as_ref(), folder.as_ref()];
    let out = tipi(&args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
    let paths: Vec<&str> = rows.iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert!(paths[0].ends_with("caf\\xe9/a\\xe8.png") && paths[1].ends_with("caf\\xe9/a\\xe9.png"), "{paths:?}");
    // The bytes, for programs.
    let bytes = rows[0]["path_bytes"].as_str().unwrap();
    assert!(bytes.ends_with("636166e92f61e82e706e67"), "{bytes}");

    let features = folder.join("f.safetensors");
    let args: [&OsStr; 7] = [
        "embed".as_ref(),
        "image".as_ref(),
        "--model".as_ref(),
        "weights/picto".as_ref(),
        "--out".as_ref(),
        features.as_ref(),
        folder.as_ref(),
    ];
    let out = tipi(&args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let bytes = fs::read(&features).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let inputs: Vec<String> = serde_json::from_str(&header.metadata().as_ref().unwrap()["inputs"]).unwrap();
    assert!(inputs.len() == 2 && inputs[0] != inputs[1], "{inputs:?}");

    // A dataset in such a folder, with such pictures, is evaluated and reported.
    let set = folder.join("set");
    for class in ["apple", "umbrella"] {
        fs::create_dir_all(set.join(class)).unwrap();
        for i in 0..4u8 {
            let name = OsString::from_vec(vec![b'p', 0xe0 + i, b'.', b'p', b'n', b'g']);
            let from = fs::read_dir(root().join("examples/pictos/shifted").join(class)).unwrap();
            fs::copy(from.map(|e| e.unwrap().path()).nth(usize::from(i)).unwrap(), set.join(class).join(name)).unwrap();
        }
    }
    let out = folder.join("results");
    let args = ["eval", "--model", "weights/picto", "--methods", "zero-shot,tip-adapter", "--shots", "1", "--seeds"];
    let args = args.into_iter().chain(["1", "--key-views", "0", "--grid", "standard", "--dataset"]);
    let args: Vec<&OsStr> = args.map(OsStr::new).chain([set.as_ref(), "--out".as_ref(), out.as_ref()]).collect();
    for args in [&args[..], &["report".as_ref(), out.as_os_str()]] {
        let ran = tipi(args);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
    let details = fs::read_to_string(out.join("set/test.json")).unwrap();
    assert!(details.contains("{\"bytes\":"), "{details}");

    // A model in such a folder is found again by what was fitted with it.
    let model = folder.join("model");
    fs::create_dir_all(&model).unwrap();
    for file in fs::read_dir(root().join("weights/picto")).unwrap().map(|entry| entry.unwrap().path()) {
        if file.is_file() {
            fs::copy(&file, model.join(file.file_name().unwrap())).unwrap();
        }
    }
    let other = folder.join("b.safetensors");
    let args = ["fit", "tip", "--shots", "1", "--model"].map(OsString::from);
    let more = [&model, Path::new("--data"), data, Path::new("--out"), &other].map(|p| p.as_os_str().to_os_string());
    let out = tipi(&[&args[..], &more].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let out = tipi(&["predict".as_ref(), "--adapter".as_ref(), other.as_os_str(), picture.as_os_str()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[cfg(target_os = "linux")]
#[test]
fn a_stderr_that_takes_nothing_loses_no_work() {
    let (dir, data, adapter) = fitted();
    let picture = fs::read_dir(data.join("umbrella")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(adapter).unwrap();
    let folder = dir.path().join("one and a broken one");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(&picture, folder.join("a.png")).unwrap();
    fs::write(folder.join("broken.png"), "no picture").unwrap();
    for (i, redirect) in ["2>/dev/full", "2>&-"].into_iter().enumerate() {
        let file = dir.path().join(format!("full{i}.safetensors"));
        let args =
            format!("fit tip --model weights/picto --shots 2 --data '{}' --out '{}'", data.display(), file.display());
        let out = shell(&args, redirect);
        assert_eq!(out.status.code(), Some(0), "{redirect}");
        assert!(fs::read(&file).unwrap() == whole, "{redirect}: another adapter");
        // With a note on the way.
        let args = format!("predict --adapter '{}' '{}'", file.display(), folder.display());
        let out = shell(&args, redirect);
        assert_eq!(out.status.code(), Some(0), "{redirect}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(String::from_utf8(out.stdout).unwrap().contains("a.png"));
        // Errors keep their code.
        assert_eq!(shell("predict", redirect).status.code(), Some(2));
        assert_eq!(shell("predict --adapter nowhere x.png", redirect).status.code(), Some(2));
        assert_eq!(shell("", redirect).status.code(), Some(2));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_stdout_that_is_full_is_an_error_and_one_that_is_gone_is_none() {
    for args in ["devices", "devices --json", "--help", "fit tip --help", "--version"] {
        let out = shell(args, ">/dev/full");
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(2) && said.contains("stdout"), "{args}: {said}");
        assert_eq!(said.lines().count(), 1, "{args}: {said}");
        // The shell's own code is that of the reader; the program's is what `pipefail` would show.
        let line = format!("{{ '{}' {args}; echo $? >&2; }} | true", env!("CARGO_BIN_EXE_tipi"));
        let out = Command::new("sh").args(["-c", &line]).current_dir(root()).output().unwrap();
        assert_eq!(String::from_utf8(out.stderr).unwrap().trim(), "0", "{args}");
    }
}
