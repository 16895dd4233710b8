//! `predict --explain`.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::start::{MODEL, s};
use crate::{fit_overlap, good, pictures};

/// An adapter of this method for two pictures of each class.
fn fit(method: &str, data: &Path, out: &Path, more: &[&str]) {
    let args = ["fit", method, "--model", MODEL, "--data", s(data), "--shots", "2", "--template", "an icon of {}"];
    good(&[&args[..], &["--out", s(out)], more].concat());
}

fn explained(adapter: &Path, pictures: &Path) -> (Vec<Value>, String) {
    let (json, stderr) = good(&["predict", "--adapter", s(adapter), "--explain", "--json", s(pictures)]);
    (serde_json::from_str(&json).unwrap(), stderr)
}

/// The description in an adapter's file.
fn described(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    serde_json::from_str(&header.metadata().as_ref().unwrap()["tipi"]).unwrap()
}

/// The same file with another description.
fn describe(from: &Path, to: &Path, meta: &Value) {
    let bytes = std::fs::read(from).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<(String, TensorView<'_>)> = file.tensors();
    let info = std::collections::HashMap::from([("tipi".to_string(), meta.to_string())]);
    std::fs::write(to, safetensors::serialize(tensors, Some(info)).unwrap()).unwrap();
}

const KEYS: [&str; 2] = ["--key-views", "0"];

#[test]
fn keys_that_spoke_are_named() {
    let data = pictures(5);
    let dir = tempfile::tempdir().unwrap();
    let correction = dir.path().join("c.st");
    fit_overlap(&correction, 3);
    for (method, more) in [
        ("tip-adapter", &["--alpha", "2", "--beta", "5"][..]),
        ("tip-adapter", &["--alpha", "2", "--beta", "5", "--correction", s(&correction)]),
        ("tip-x", &["--alpha", "2", "--beta", "5", "--gamma", "1"]),
        ("tip-adapter-f", &["--epochs", "1", "--no-augment"]),
    ] {
        let adapter = dir.path().join("a.safetensors");
        fit(method, data.path(), &adapter, &[&KEYS[..], more].concat());
        let meta = described(&adapter);
        let names: Vec<&str> = meta["pictures"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names.len(), 6, "{names:?}");
        let folders: Vec<&str> = names.iter().map(|name| name.split('/').next().unwrap()).collect();
        assert_eq!(folders, ["apple", "apple", "credit_card", "credit_card", "umbrella", "umbrella"]);
        assert!(names.iter().all(|name| data.path().join(name).is_file()), "{names:?}");
        let (rows, _) = explained(&adapter, data.path());
        assert_eq!(rows.len(), 15);
        for row in &rows {
            let number = |value: &Value| value.as_f64().unwrap();
            let keys = row["keys"].as_array().unwrap();
            let class = row["likeliest"].as_str().unwrap().replace(' ', "_");
            assert!(keys.iter().all(|key| key["picture"].as_str().unwrap().starts_with(&format!("{class}/"))), "{row}");
            // Two keys of each class: together all of its cache term.
            assert!((keys.iter().map(|key| number(&key["share"])).sum::<f64>() - 1.0).abs() < 1e-6, "{row}");
            assert!(number(&keys[0]["share"]) >= number(&keys[1]["share"]), "{row}");
            assert_eq!(row["divergence"].is_number(), method == "tip-x");
            assert_ne!(row["other"], row["likeliest"]);
            // The answer leads by what its parts say together.
            let (text, cache) = (number(&row["text"]), number(&row["cache"]));
            let rest = row["divergence"].as_f64().unwrap_or(0.0);
            assert!(text + cache + rest > -1e-3, "{method}: {row}");
            // A picture that was learned from, and seen as it was, is its own nearest key.
            let own = names.iter().find(|name| row["path"].as_str().unwrap().ends_with(*name));
            if let Some(own) = own.filter(|name| method != "tip-adapter-f" && name.starts_with(&class)) {
                assert_eq!(keys[0]["picture"], **own);
                assert!((number(&keys[0]["cosine"]) - 1.0).abs() < 1e-4, "{method}: {row}");
            }
        }
        let (table, _) = good(&["predict", "--adapter", s(&adapter), "--explain", s(data.path())]);
        assert!(table.contains("by cache") && table.contains("before:"), "{table}");
        assert_eq!(table.contains("by divergence"), method == "tip-x", "{table}");
        // Answers are those that are given without reasons.
        let (plain, _) = good(&["predict", "--adapter", s(&adapter), "--json", s(data.path())]);
        let plain: Vec<Value> = serde_json::from_str(&plain).unwrap();
        let answers =
            |rows: &[Value]| rows.iter().map(|row| (row["path"].clone(), row["class"].clone())).collect::<Vec<_>>();
        assert_eq!(answers(&rows), answers(&plain), "{method}");
    }
}

#[test]
fn adapters_without_names_or_keys_say_so() {
    let data = pictures(3);
    let dir = tempfile::tempdir().unwrap();
    let (adapter, older) = (dir.path().join("a.safetensors"), dir.path().join("older.safetensors"));
    fit("tip-adapter", data.path(), &adapter, &[&KEYS[..], &["--alpha", "1", "--beta", "5"]].concat());
    let mut meta = described(&adapter);
    assert!(meta.as_object_mut().unwrap().remove("pictures").is_some());
    describe(&adapter, &older, &meta);
    let (rows, stderr) = explained(&older, data.path());
    assert!(stderr.contains("does not name its pictures"), "{stderr}");
    let first = rows[0]["keys"][0]["picture"].as_str().unwrap();
    assert!(first.starts_with(rows[0]["likeliest"].as_str().unwrap()) && first.contains(" #"), "{first}");
    // Too many names for the keys are nobody's.
    meta["pictures"] = serde_json::json!(["a", "b"]);
    describe(&adapter, &older, &meta);
    assert!(explained(&older, data.path()).1.contains("does not name its pictures"));
    let gda = dir.path().join("gda.safetensors");
    fit("gda", data.path(), &gda, &KEYS);
    assert!(described(&gda).get("pictures").is_none());
    let (rows, stderr) = explained(&gda, data.path());
    assert!(stderr.contains("gda has no keys") && rows[0].get("keys").is_none() && rows.len() == 9, "{stderr}");
}
