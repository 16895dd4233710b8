//! `tipi data check`, run as a user runs it. It needs no GPU.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tipi_testing::miniatures;

use std::fs;
use std::path::Path;
use std::process::Command;

use miniatures::{class_folders, text, write, write_own_layout};
use serde_json::Value;

/// Exit code, stdout and stderr of `tipi data check`.
fn check(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipi"));
    let out = command.args(["data", "check"]).args(args).output().unwrap();
    (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
}

fn good(args: &[&str]) -> String {
    let (code, stdout, stderr) = check(args);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{args:?}");
    stdout
}

/// Fails with code 2 and one line that begins with "error:" and holds all of `needles`; gives what was printed before.
fn bad(args: &[&str], needles: &[&str]) -> String {
    let (code, stdout, stderr) = check(args);
    assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for needle in needles {
        assert!(stderr.contains(needle), "{args:?}: no '{needle}' in: {stderr}");
    }
    stdout
}

fn s(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_sound_dataset_is_shown() {
    let root = tempfile::tempdir().unwrap();
    write("oxford_pets", root.path());
    for decode in [&["--decode"][..], &[]] {
        let text = good(&[&["pets", "--root", s(root.path())], decode].concat());
        assert!(text.starts_with("OxfordPets: 4 classes, in "), "{text}");
        assert!(
            text.contains("parts: split_zhou_OxfordPets.json") && text.contains("all pictures are there"),
            "{text}"
        );
        let row = text.lines().find(|line| line.contains("train")).unwrap();
        let cells: Vec<&str> =
            row.split(|c: char| !c.is_ascii_alphanumeric()).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, ["train", "32", "4", "8", "8"]);
    }
    let json: Value = serde_json::from_str(&good(&["pets", "--root", s(root.path()), "--json"])).unwrap();
    assert_eq!(json["parts"]["test"], serde_json::json!({"pictures": 16, "classes": 4, "fewest": 4, "most": 4}));
    assert_eq!(json["classes"][1], "american bulldog");
    assert_eq!((json["missing"].as_array().map(Vec::len), &json["broken"]), (Some(0), &Value::Null));
}

#[test]
fn missing_pictures_are_counted_and_some_named() {
    let root = tempfile::tempdir().unwrap();
    write("dtd", root.path());
    let images = root.path().join("dtd/images");
    for number in 0..7 {
        fs::remove_file(images.join(format!("woven/train_3_{number}.jpg"))).unwrap();
    }
    let text =
        bad(&["dtd", "--root", s(root.path())], &["DescribableTextures", "7 pictures are missing", "train_3_0.jpg"]);
    assert_eq!(text.lines().filter(|line| line.starts_with("missing: ")).count(), 5, "{text}");
    assert!(text.contains("2 more missing") && text.contains("DescribableTextures: 4 classes"), "{text}");
    let text = bad(&["dtd", "--root", s(root.path()), "--json", "--decode"], &["7 pictures are missing"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["missing"].as_array().unwrap().len(), 7);
    assert_eq!(json["broken"], serde_json::json!([]), "missing is not broken too");
}

#[test]
fn broken_pictures_are_found_by_decoding() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(dir.path(), &["ant", "bee"], 6);
    fs::write(dir.path().join("bee/03.png"), "no picture").unwrap();
    assert!(good(&[s(dir.path())]).contains("--decode"));
    let text = bad(&[s(dir.path()), "--decode"], &["1 picture is broken", "03.png"]);
    assert_eq!(text.lines().filter(|line| line.starts_with("broken: ")).count(), 1, "{text}");
    fs::remove_file(dir.path().join("bee/03.png")).unwrap();
    let list = dir.path().join("list.csv");
    text_of_list(&list, &["ant/00.jpg,ant", "ant/01.png,ant", "bee/01.png,bee", "bee/gone.png,bee"]);
    fs::write(dir.path().join("ant/01.png"), "").unwrap();
    bad(&[s(&list), "--decode"], &["1 picture is missing and 1 picture is broken", "gone.png"]);
}

fn text_of_list(list: &Path, lines: &[&str]) {
    text(list, format!("path,label\n{}\n", lines.join("\n")));
}

#[test]
fn what_is_no_dataset_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(dir.path(), &["big cat"], 4);
    bad(&[s(dir.path())], &["just one class folder, 'big cat'"]);
    class_folders(dir.path(), &["big_cat"], 4);
    bad(&[s(dir.path())], &["the class 'big cat' is also that of the folder"]);
    bad(&["cifar10"], &["'cifar10'", "caltech101", "imagenet_r", "CSV"]);
    bad(&["pets"], &["OxfordPets", "--root DIR"]);
    bad(&["pets", "--root", s(dir.path())], &["oxford_pets", "split_zhou_OxfordPets.json"]);
    let split = dir.path().join("dtd/split_zhou_DescribableTextures.json");
    text(&split, r#"{"train": [["a.jpg", 0]], "val": [], "test": []}"#);
    bad(
        &["dtd", "--root", s(dir.path())],
        &["split_zhou_DescribableTextures.json", "train entry 0", "[path, label, class]"],
    );
}

#[test]
fn all_known_datasets_are_checked_past_those_that_are_absent() {
    let root = tempfile::tempdir().unwrap();
    bad(&["all"], &["--root DIR"]);
    bad(&["all", "--root", s(root.path())], &["none of the known datasets"]);
    write("eurosat", root.path());
    write_own_layout("ucf101", root.path());
    write("imagenet_a", root.path());
    let text = good(&["all", "--root", s(root.path()), "--decode"]);
    assert_eq!(text.matches(": not found").count(), 11, "{text}");
    assert!(
        text.contains("EuroSAT: 4 classes") && text.contains("note: split_zhou_UCF101.json is not there"),
        "{text}"
    );
    assert!(text.contains("ImageNet-A: 4 classes, tested among 2") && text.contains("there and sound"), "{text}");
    // One that is there but cannot be opened does not hide the others.
    fs::create_dir(root.path().join("dtd")).unwrap();
    let text = bad(&["all", "--root", s(root.path()), "--json"], &["dtd cannot be opened"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 15);
    assert_eq!(json[14]["error"], "not found");
    assert!(json[8]["error"].as_str().unwrap().contains("split_zhou_DescribableTextures.json"));
    assert_eq!(json[10]["parts"]["train"]["pictures"], 32);
}
