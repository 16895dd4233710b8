//! What messages say of foreign files: briefly, in whole words, and of which model.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::SafeTensors;
use serde_json::{Value, json};

use start::{MODEL, root, s, tipi};

fn good(args: &[&str]) -> String {
    let out = tipi(args);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{args:?}: {stderr}");
    stderr
}

/// The error, which is one short line.
fn bad(args: &[&str]) -> String {
    let out = tipi(args);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{stderr}");
    let line =
        stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{stderr}")).to_string();
    assert!(line.len() < 4500 && stderr.len() < 9000, "{} characters: {}…", line.len(), &line[..500]);
    line
}

/// A model of the bundled one's files, some of them replaced.
fn model(folder: &Path, other: &[(&str, &str)]) {
    std::fs::create_dir_all(folder).unwrap();
    for file in ["model.safetensors", "config.json", "preprocessor_config.json", "tokenizer.json"] {
        std::fs::copy(root().join(MODEL).join(file), folder.join(file)).unwrap();
    }
    for (file, text) in other {
        std::fs::write(folder.join(file), text).unwrap();
    }
}

/// An adapter fitted to two classes of `count` pictures.
fn fit(folder: &Path, model: &str, count: usize) -> (PathBuf, String) {
    let data = folder.join("pictures");
    for class in ["apple", "umbrella"] {
        let to = data.join(class);
        std::fs::create_dir_all(&to).unwrap();
        let from = std::fs::read_dir(root().join("examples/pictos/shifted").join(class)).unwrap();
        let mut from: Vec<PathBuf> = from.map(|e| e.unwrap().path()).collect();
        from.sort();
        let count = if class == "apple" { count } else { 1 };
        for path in &from[..count] {
            std::fs::copy(path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    let out = folder.join("a.safetensors");
    let args = ["fit", "tip", "--model", model, "--data", s(&data), "--shots", "1", "--views", "0", "--out", s(&out)];
    let said = good(&args);
    (out, said)
}

/// The adapter with another description.
fn described(file: &Path, to: &Path, change: impl FnOnce(&mut Value)) {
    let bytes = std::fs::read(file).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut about: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["tipi"]).unwrap();
    change(&mut about);
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let metadata = HashMap::from([("tipi".to_string(), about.to_string())]);
    std::fs::write(to, safetensors::serialize(tensors.tensors(), Some(metadata)).unwrap()).unwrap();
}

/// 70 KB of a file are not repeated, whatever file it is; what is wrong is still said.
#[test]
fn errors_repeat_little_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (picture, out) = ("examples/pictos/shifted/apple", dir.path().join("o.safetensors"));
    let long = "x".repeat(70_000);
    let at = dir.path().join("model");
    let classify = ["classify", "--model", s(&at), "--labels", "a,b", picture];
    for (file, text) in [
        ("config.json", json!({ "model_type": long }).to_string()),
        ("config.json", json!({ "model_type": "clip", "text_config": long }).to_string()),
        ("preprocessor_config.json", json!({ "size": long }).to_string()),
        ("preprocessor_config.json", format!("{{\"{long}\"")),
        ("tokenizer.json", json!({ "model": { "type": long } }).to_string()),
        ("tokenizer.json", json!({ "version": long, "model": long }).to_string()),
    ] {
        model(&at, &[(file, &text)]);
        let error = bad(&classify);
        assert!(error.contains(file) || error.contains("model"), "{error}");
    }
    model(&at, &[]);
    let (adapter, _) = fit(dir.path(), s(&at), 1);
    let broken = dir.path().join("broken.safetensors");
    let predict = ["predict", "--adapter", s(&broken), picture];
    let changes: [fn(&mut Value, &str); 5] = [
        |about, long| about["format"] = long.into(),
        |about, long| about["method"]["name"] = long.into(),
        |about, long| about["shots"] = long.into(),
        |about, long| about["model"] = json!({ "name": long, "sha256": long }),
        |about, long| about["model_folder"] = format!("/{long}").into(),
    ];
    for change in changes {
        described(&adapter, &broken, |about| change(about, &long));
        assert!(bad(&predict).contains("broken.safetensors"));
    }
    std::fs::write(dir.path().join("list.csv"), format!("path,label,split\n{long},a,b\n")).unwrap();
    bad(&["data", "check", s(&dir.path().join("list.csv"))]);
    for args in [
        &["classify", "--model", s(&at), "--labels", "a,b", long.as_str()][..],
        &["classify", "--model", &long, "--labels", "a,b", picture],
        &["search", "--method", &long],
        &["fit", "tip", "--shots", &long],
        &["eval", "--dataset", "d", "--model", "m", "--out", s(&out), "--methods", &long],
        &["classify", "--model", s(&at), "--labels", "a,b", "--device", &long, picture],
        &["classify", "--model", s(&at), "--labels", "a,b", "--template", &long, picture],
    ] {
        let out = tipi(args);
        assert_eq!(out.status.code(), Some(2));
        assert!(out.stderr.len() < 9000, "{:?}: {} bytes", &args[..2], out.stderr.len());
    }
}

/// The folder that an adapter names is used only if it is a local one with the very model that the adapter was fitted to.
#[test]
fn the_folder_that_an_adapter_names_must_hold_its_model() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (dir.path().join("own"), dir.path().join("other"));
    model(&own, &[]);
    // Nothing in this one is sound, but the weights' headers: it must not be looked at.
    model(&other, &[("config.json", "{\"model_type\": \"look\"}"), ("tokenizer.json", "[")]);
    let (adapter, _) = fit(dir.path(), s(&own), 1);
    let changed = dir.path().join("changed.safetensors");
    let predict = ["predict", "--adapter", s(&changed), "examples/pictos/shifted/apple"];
    let with = |folder: &str| described(&adapter, &changed, |about| about["model_folder"] = folder.into());
    with(s(&own.canonicalize().unwrap()));
    let said = good(&predict);
    assert!(said.lines().any(|line| line.starts_with("model: ") && line.ends_with("own")), "{said}");
    with(s(&other));
    let error = bad(&predict);
    assert!(error.contains("fitted to model") && !error.contains("look") && error.contains("--model"), "{error}");
    for folder in [MODEL, "", ".", "//server/share/model", "\\\\server\\share\\model"] {
        with(folder);
        let error = bad(&predict);
        assert!(error.contains("not a whole local one") && error.contains("--model"), "{folder}: {error}");
    }
    with(s(&dir.path().join("gone")));
    assert!(bad(&predict).contains("no longer in"));
    // Where it is said, that is what counts.
    let args = ["predict", "--adapter", s(&changed), "--model", s(&own), "examples/pictos/shifted/apple"];
    assert!(!good(&args).contains("model: "));
}

#[test]
fn one_picture_is_no_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let (_, said) = fit(dir.path(), MODEL, 2);
    assert!(said.contains("1 validation picture: ") && said.contains("2 pictures of 2 classes"), "{said}");
    let out = tipi(&["info", MODEL, "--classes", "1", "--shots", "1"]);
    let table = String::from_utf8(out.stdout).unwrap();
    assert!(table.contains("1 class, 1 shot"), "{table}");
}
