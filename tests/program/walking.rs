//! What is taken for a picture, and what is not, run as a user runs it: folders that programs make, patterns, links, results
//! beside pictures, equal pictures, and classes that text cannot tell apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use start::{root, s};

/// Exit code, stdout and stderr.
fn tipi(args: &[&str]) -> (Option<i32>, String, String) {
    let out = start::tipi(args);
    (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
}

/// Stdout and stderr of a command that succeeds.
fn good(args: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = tipi(args);
    assert_eq!(code, Some(0), "{args:?}: {stderr}");
    (stdout, stderr)
}

/// Stderr of a command that fails with code 2.
fn bad(args: &[&str]) -> String {
    let (code, _, stderr) = tipi(args);
    assert_eq!(code, Some(2), "{args:?}: {stderr}");
    stderr
}

/// `count` bundled pictures of each of some classes, in a folder `set`.
fn pictures(classes: &[&str], count: usize) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set");
    for class in classes {
        fs::create_dir_all(set.join(class)).unwrap();
        let from = root().join("examples/pictos/novel").join(class);
        let mut files: Vec<PathBuf> = fs::read_dir(from).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for file in &files[..count] {
            fs::copy(file, set.join(class).join(file.file_name().unwrap())).unwrap();
        }
    }
    (dir, set)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

fn first_of(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    files.filter(|path| path.is_file()).min().unwrap()
}

fn checked(args: &[&str]) -> Value {
    serde_json::from_str(&good(&[&["data", "check", "--json"], args].concat()).0).unwrap()
}

fn counted(json: &Value) -> u64 {
    ["train", "val", "test"].iter().map(|part| json["parts"][part]["pictures"].as_u64().unwrap()).sum()
}

#[test]
fn thumbnails_are_no_pictures() {
    let (_dir, set) = pictures(&["ant", "bear"], 3);
    for (class, made) in [("ant", "@eaDir"), ("ant", "__MACOSX"), ("bear", ".thumbnails"), ("bear", "#recycle")] {
        let picture = first_of(&set.join(class));
        copy(&picture, &set.join(class).join(made).join("deep").join(picture.file_name().unwrap()));
    }
    for made in ["lost+found", "System Volume Information", "$RECYCLE.BIN"] {
        copy(&first_of(&set.join("ant")), &set.join(made).join("1.png"));
    }
    let json = checked(&[s(&set)]);
    assert_eq!(json["classes"], serde_json::json!(["ant", "bear"]));
    assert_eq!(counted(&json), 6);
    let notes = json["notes"].to_string();
    for made in ["@eaDir", "__MACOSX", ".thumbnails", "#recycle", "lost+found", "System Volume", "$RECYCLE.BIN"] {
        assert!(notes.contains(made), "{notes}");
    }
    assert_eq!(json["equal"], serde_json::json!([]));

    // Patterns, on a command that walks and one that learns; the second says what it passed over, once.
    let json = checked(&[s(&set), "--exclude", "emojione-ant.png"]);
    assert!(counted(&json) == 5 && json["notes"].to_string().contains("excluded"), "{json}");
    assert!(bad(&["data", "check", s(&set), "--exclude", "a["]).contains("--exclude: 'a[' is no pattern"));
    let out = set.join("a.safetensors");
    let fit = ["fit", "tip", "--model", "weights/picto", "--data", s(&set), "--shots", "2", "--out", s(&out)];
    let (_, stderr) = good(&fit);
    assert_eq!(stderr.matches("passed over: ").count(), 1, "{stderr}");
    assert!(stderr.contains("@eaDir") && stderr.contains("4 pictures"), "{stderr}");
    let (json, _) = good(&["predict", "--adapter", s(&out), s(&set.join("ant")), "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap().as_array().unwrap().len(), 3);
}

#[test]
fn equal_pictures_in_two_parts_or_classes_are_named() {
    let (_dir, set) = pictures(&["ant", "bear"], 4);
    let parts = set.with_file_name("parts");
    for class in ["ant", "bear"] {
        let mut files: Vec<PathBuf> = fs::read_dir(set.join(class)).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for (file, part) in files.iter().zip(["train", "train", "test", "test"]) {
            copy(file, &parts.join(part).join(class).join(file.file_name().unwrap()));
        }
    }
    assert_eq!(checked(&[s(&parts)])["equal"], serde_json::json!([]));
    // Twice in one class of one part is no leak; as long but other is not equal.
    let learned = first_of(&parts.join("train/ant"));
    copy(&learned, &parts.join("train/ant/again.png"));
    let mut bytes = fs::read(&learned).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(parts.join("test/ant/other.png"), &bytes).unwrap();
    bytes[40] ^= 1;
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(parts.join("test/ant/start.png"), &bytes).unwrap();
    assert_eq!(checked(&[s(&parts)])["equal"], serde_json::json!([]));
    copy(&learned, &parts.join("test/ant/copy.png"));
    copy(&first_of(&parts.join("test/bear")), &parts.join("test/ant/bear.png"));
    let json = checked(&[s(&parts)]);
    let groups = json["equal"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{json}");
    let shown = |group: &Value| -> Vec<String> {
        let of = |p: &Value| format!("{} {}", p["part"].as_str().unwrap(), p["class"].as_str().unwrap());
        group.as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(shown(&groups[0]), ["train ant", "train ant", "test ant"]);
    assert_eq!(shown(&groups[1]), ["test ant", "test bear"]);
    let (text, _) = good(&["data", "check", s(&parts)]);
    assert!(text.contains("equal: train/ant/") && text.contains(" = test/ant/copy.png (test, ant)"), "{text}");
}

#[test]
fn results_lie_beside_pictures_and_not_among_them() {
    let (dir, set) = pictures(&["ant", "bear"], 4);
    let eval = |dataset: &Path, out: &Path| {
        let args = ["eval", "--dataset", s(dataset), "--model", "weights/picto", "--methods", "zero-shot"];
        let args = [&args[..], &["--shots", "1", "--seeds", "1", "--out", s(out)]].concat();
        tipi(&args)
    };
    for out in [set.join("res"), set.join("ant/res"), set.clone(), dir.path().to_path_buf()] {
        let (code, _, stderr) = eval(&set, &out);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("pictures are taken from"), "{stderr}");
    }
    assert!(!set.join("res").exists() && !set.join("ant/res").exists());
    let (features, out) = (set.join("f"), dir.path().join("o"));
    let args = ["eval", "--dataset", s(&set), "--model", "weights/picto", "--out", s(&out), "--features", s(&features)];
    assert!(bad(&args).contains("set/f: this lies in"));

    // Made elsewhere and moved there, as an older run may have left it, they are no class.
    let out = dir.path().join("res");
    let (code, _, stderr) = eval(&set, &out);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(out.join("plots/accuracy.png").is_file());
    fs::rename(&out, set.join("res")).unwrap();
    let json = checked(&[s(&set)]);
    assert_eq!(json["classes"], serde_json::json!(["ant", "bear"]));
    assert!(json["notes"].to_string().contains("1 folder of results"), "{json}");
    for marker in [".tipi-results", "plots/.tipi-results", "set/.tipi-results", "features/.tipi-results"] {
        fs::remove_file(set.join("res").join(marker)).unwrap();
    }
    assert_eq!(checked(&[s(&set)])["classes"], serde_json::json!(["ant", "bear"]));

    // A plot would be a picture of a class.
    let plot = set.join("ant/plot");
    let args = ["overlap", "--model", "weights/picto", "--data", s(&set), "--plot", s(&plot)];
    assert!(bad(&args).contains("would be learned from the next time"));
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_named_and_counted() {
    let (_dir, set) = pictures(&["ant", "bear"], 4);
    std::os::unix::fs::symlink("loop", set.join("ant/loop")).unwrap();
    let args = ["embed", "image", "--labels", "--model", "weights/picto", s(&set), "--out"];
    let out = set.with_file_name("f.safetensors");
    let (_, stderr) = good(&[&args[..], &[s(&out)]].concat());
    assert!(stderr.contains("skipped: ") && stderr.contains("ant/loop"), "{stderr}");
    assert!(stderr.contains("1 folder skipped (--strict makes that an error)"), "{stderr}");
    assert!(bad(&[&args[..], &[s(&out), "--strict"]].concat()).contains("ant/loop"));
    let (code, stdout, stderr) = tipi(&["data", "check", s(&set)]);
    assert_eq!(code, Some(2));
    assert!(stdout.contains("unreadable: ") && stderr.contains("1 folder could not be read"), "{stdout}{stderr}");
}
