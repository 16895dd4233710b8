//! Models that are broken, and `info`.

use std::path::Path;

use serde_json::{Value, json};

use crate::start::{MODEL, root, s};
use crate::{bad, good};

/// A copy of a golden model with one file changed.
fn broken_model(name: &str, change: impl Fn(&mut Vec<u8>)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("tests/golden/model_b")).unwrap() {
        let entry = entry.unwrap();
        let mut bytes = std::fs::read(entry.path()).unwrap();
        if entry.file_name() == name {
            change(&mut bytes);
        }
        std::fs::write(dir.path().join(entry.file_name()), bytes).unwrap();
    }
    dir
}

/// Replaces `from` by `to`, of equal length where it is inside a safetensors header.
fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap_or_else(|| panic!("no {from}"));
    bytes.splice(at..at + from.len(), to.bytes());
}

#[test]
fn broken_models_are_errors_that_name_file_and_tensor() {
    let picture = "examples/pictos/shifted/apple";
    let check = |dir: &Path, needles: &[&str]| {
        bad(&["classify", "--model", s(dir), "--labels", "a,b", picture], needles);
    };
    check(Path::new("no/such/model"), &["no/such/model"]);
    let weights = "model.safetensors";
    let dir = broken_model(weights, |b| b.truncate(b.len() / 2));
    check(dir.path(), &[weights, "truncated"]);
    let dir = broken_model(weights, |b| b.truncate(5));
    check(dir.path(), &[weights]);
    let dir = broken_model(weights, |b| b[..8].copy_from_slice(&(1u64 << 63).to_le_bytes()));
    check(dir.path(), &[weights]);
    let dir = broken_model(weights, |b| b[8] = b'!');
    check(dir.path(), &[weights]);
    // A tensor under another name, of another type, of another shape.
    let dir =
        broken_model(weights, |b| replace(b, "text_model.final_layer_norm.bias", "text_model.final_layer_norm.bia_"));
    check(dir.path(), &[weights, "text_model.final_layer_norm.bias", "missing"]);
    let dir = broken_model(weights, |b| {
        let at = b.windows(12).position(|w| w == b"logit_scale\"").unwrap();
        let dtype = at + b[at..].windows(3).position(|w| w == b"F32").unwrap();
        b[dtype..dtype + 3].copy_from_slice(b"I32");
    });
    check(dir.path(), &[weights, "logit_scale", "I32"]);
    // A configuration that contradicts the weights.
    let dir = broken_model("config.json", |b| replace(b, "\"intermediate_size\": 200", "\"intermediate_size\": 208"));
    check(dir.path(), &[weights, "fc1.weight", "208"]);
    let dir = broken_model("config.json", |b| replace(b, "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"));
    check(dir.path(), &[weights, "layers.2", "2 layers"]);
    let dir = broken_model("config.json", |b| replace(b, "\"num_attention_heads\": 6", "\"num_attention_heads\": 7"));
    check(dir.path(), &["config.json", "7 heads"]);
    let dir = broken_model("config.json", |b| replace(b, "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"tanh\""));
    check(dir.path(), &["config.json", "tanh", "quick_gelu"]);
    let dir = broken_model("config.json", |b| b.truncate(40));
    check(dir.path(), &["config.json"]);
    let dir = broken_model("tokenizer.json", |b| b.truncate(40));
    check(dir.path(), &["tokenizer.json"]);
    let dir = broken_model("preprocessor_config.json", |b| replace(b, "\"resample\": 3", "\"resample\": 1"));
    check(dir.path(), &["preprocessor_config.json", "resample"]);
    let dir = broken_model("preprocessor_config.json", |b| {
        replace(b, "\"do_center_crop\": true", "\"do_center_crop\": false");
    });
    check(dir.path(), &["preprocessor_config.json", "do_center_crop"]);
}

#[test]
fn info_tells_what_a_model_is_and_needs() {
    let (text, _) = good(&["info", MODEL]);
    for part in [
        "6 blocks of width 128",
        "patches of 8 on 64×64",
        "vocabulary 4096",
        "QuickGELU",
        "3.86 M",
        "F16",
        "shorter side to 64",
        "tokenizer.json",
        "training PiNI",
        "training PiNI's noise on pixels",
    ] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
    let json = |args: &[&str]| -> Value { serde_json::from_str(&good(args).0).unwrap() };
    let full = json(&["info", MODEL, "--json"]);
    let half = json(&["info", MODEL, "--json", "--precision", "f16"]);
    let bytes_each = json(&["info", MODEL, "--json", "--precision", "int8"]);
    let large = json(&["info", MODEL, "--json", "--batch", "64", "--classes", "300"]);
    let bytes = |json: &Value, what: &str| json["memory"]["methods"][what].as_u64().unwrap();
    let weights = |json: &Value| json["memory"]["weights"].as_u64().unwrap();
    assert!(weights(&half) < weights(&full) * 6 / 10);
    assert!(weights(&bytes_each) < weights(&half) * 6 / 10, "{}, {}", weights(&bytes_each), weights(&half));
    // What stays in f16 is known only when the weights are read.
    assert_eq!((&half["memory"]["at least"], &bytes_each["memory"]["at least"]), (&json!(false), &json!(true)));
    let (bytes_text, _) = good(&["info", MODEL, "--precision", "int8"]);
    let least = "at least: matrices that int8 would spoil";
    assert!(bytes_text.contains(least) && !text.contains(least), "{bytes_text}");
    for what in full["memory"]["methods"].as_object().unwrap().keys() {
        assert!(bytes(&full, what) > weights(&full), "{what}");
        let many = &large["memory"]["methods"][what];
        // What 64 pictures' crops say through the wide head is more than a binding holds on some devices.
        if what == "training a correction without labels" && many["error"].is_string() {
            let error = many["error"].as_str().unwrap();
            assert!(error.contains("one binding") && error.contains("at a time would fit"), "{error}");
            continue;
        }
        assert!(many.as_u64().unwrap() >= bytes(&full, what), "{what}");
    }
    assert!(bytes(&large, "training PiNI") > bytes(&full, "training PiNI"));
    bad(&["info", "no/such/model/at/all"], &["no/such/model/at/all"]);
    bad(&["info", "tests"], &["tests", "model.safetensors"]);
}
