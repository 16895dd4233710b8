//! Labels that a model's tokenizer reads nothing in, or the same; and texts that have the name of a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn tipi(args: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipi"));
    command.args(args).env("TIPI_TUNE", "off").current_dir(folder).output().unwrap()
}

#[test]
fn labels_of_equal_or_no_tokens_are_refused() {
    let root = tipi_testing::root();
    let picture = "examples/pictos/novel/ant/emojione-ant.png";
    let classify = |labels: &str| {
        let out = tipi(&["classify", "--model", "weights/picto", "--labels", labels, picture], root);
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    for (labels, needles) in [
        ("a,a", ["'a' and 'a'", "same tokens"]),
        ("Ant,ant", ["'Ant' and 'ant'", "same tokens"]),
        ("ant,polar bear,polar_bear", ["'polar bear' and 'polar_bear'", "same tokens"]),
    ] {
        let (code, stderr) = classify(labels);
        assert_eq!(code, Some(2), "{labels}: {stderr}");
        assert!(needles.iter().all(|needle| stderr.contains(needle)), "{labels}: {stderr}");
    }
    let (code, stderr) = classify("ant,bear");
    assert_eq!(code, Some(0), "{stderr}");
    // A tokenizer that leaves out a sign, as some do.
    let own = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(root.join("weights/picto")).unwrap().map(|entry| entry.unwrap()) {
        if entry.path().is_file() {
            fs::copy(entry.path(), own.path().join(entry.file_name())).unwrap();
        }
    }
    let tokenizer = own.path().join("tokenizer.json");
    let mut rules: serde_json::Value = serde_json::from_slice(&fs::read(&tokenizer).unwrap()).unwrap();
    let nothing = serde_json::json!({"type": "Replace", "pattern": {"String": "\u{200b}"}, "content": ""});
    rules["normalizer"]["normalizers"].as_array_mut().unwrap().push(nothing);
    fs::write(&tokenizer, rules.to_string()).unwrap();
    let out = tipi(&["classify", "--model", own.path().to_str().unwrap(), "--labels", "ant,\u{200b}", picture], root);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert!(stderr.contains("the class '\\u{200b}' has no tokens"), "{stderr}");
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("w.safetensors");
    let embed = ["embed", "classifier", "--model", "weights/picto", "--out", file.to_str().unwrap(), "bus", "Bus"];
    let refused = tipi(&embed, root);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("same tokens") && !file.exists());
}

#[test]
fn a_text_may_have_the_name_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("apple"), "a bell\na key\n").unwrap();
    let model = tipi_testing::root().join("weights/picto");
    let names = |texts: &[&str]| -> (serde_json::Value, String) {
        let args = ["embed", "text", "--model", model.to_str().unwrap(), "--out", "f.safetensors"];
        let out = tipi(&[&args[..], texts].concat(), dir.path());
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.success(), "{stderr}");
        let bytes = fs::read(dir.path().join("f.safetensors")).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        (serde_json::from_str(&header.metadata().as_ref().unwrap()["inputs"]).unwrap(), stderr)
    };
    let (inputs, stderr) = names(&["apple", "@apple", "@@apple", "@@@"]);
    assert_eq!(inputs, serde_json::json!(["apple", "a bell", "a key", "@apple", "@@"]));
    assert!(stderr.contains("'apple' is taken as a text: @apple reads the file"), "{stderr}");
    let args = ["embed", "text", "--model", model.to_str().unwrap(), "--out", "g.safetensors", "@nowhere"];
    let out = tipi(&args, dir.path());
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8(out.stderr).unwrap().contains("nowhere"));
}
