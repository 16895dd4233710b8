//! A SigLIP through the whole program: what works on it, and what is refused.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::start::{root, s};
use crate::{bad, good, pictures};

/// Six pictures of each of three classes, in train, val and test.
fn parts(to: &Path) {
    let from = pictures(6);
    for class in ["apple", "credit_card", "umbrella"] {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(from.path().join(class)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for (part, range) in [("train", 0..3), ("val", 3..4), ("test", 4..6)] {
            let folder = to.join(part).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for file in &files[range] {
                std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
            }
        }
    }
}

#[test]
fn a_siglip_learns_by_every_method_but_pini() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data, results) = (dir.path().join("siglip"), dir.path().join("set"), dir.path().join("results"));
    std::fs::create_dir(&model).unwrap();
    tipi_testing::siglip::write(&model);
    parts(&data);
    let (train, model) = (data.join("train"), s(&model));
    let (info, _) = good(&["info", model]);
    for part in ["attention pooling with 3 heads", "no class token", "each of which sees all others", "GELU (tanh)"] {
        assert!(info.contains(part), "no '{part}' in {info}");
    }
    let picture = root().join("examples/pictos/shifted/apple/lucide-apple.png");
    let labels = ["--labels", "apple,credit card,umbrella", "--template", "an icon of {}"];
    let (json, _) = good(&[&["classify", "--model", model, "--json", s(&picture)][..], &labels].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(1), "{json}");
    // A converted one is the same model, its tokenizer among it.
    let copy = dir.path().join("copy");
    good(&["convert", model, s(&copy)]);
    let again = good(&[&["classify", "--model", s(&copy), "--json", s(&picture)][..], &labels].concat()).0;
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), json);
    // Of labels by themselves the model says a probability of its own: a sigmoid, with its bias of −10.
    let asked = ["classify", "--model", model, "--json", s(&picture), "--multi-label", "--scores", "--top", "3"];
    let own: Value = serde_json::from_str(&good(&[&asked[..], &labels].concat()).0).unwrap();
    let all = own[0]["scores"].as_array().unwrap();
    assert_eq!(all.len(), 3);
    for label in all {
        let (probability, logit) = (label["probability"].as_f64().unwrap(), label["logit"].as_f64().unwrap());
        assert!((probability - 1.0 / (1.0 + (10.0 - logit).exp())).abs() < 1e-4, "{label}");
    }
    let negation: Value =
        serde_json::from_str(&good(&[&asked[..], &labels, &["--negation", "no {}"]].concat()).0).unwrap();
    assert_ne!(own[0]["scores"], negation[0]["scores"]);
    let correction = dir.path().join("overlap.safetensors");
    let fit = |method: &str, out: &Path, more: &[&str]| {
        let args = ["fit", method, "--model", model, "--data", s(&train), "--shots", "2", "--out", s(out)];
        good(&[&args[..], more].concat());
    };
    good(&["fit", "overlap", "--model", model, "--data", s(&train), "--out", s(&correction), "--epochs", "2"]);
    let quick = ["--template", "an icon of {}", "--views", "2"];
    for (method, more) in [
        ("tip-adapter", &[][..]),
        ("tip-adapter-f", &["--epochs", "2"]),
        ("tip-x", &[]),
        ("gda", &[]),
        ("prolip", &["--epochs", "2"]),
        ("tip-adapter++", &["--correction", s(&correction)]),
    ] {
        let out = dir.path().join(format!("{method}.safetensors"));
        fit(method, &out, &[&quick[..], more].concat());
        let (json, _) = good(&["predict", "--adapter", s(&out), "--json", s(&data.join("test"))]);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json.as_array().map(Vec::len), Some(6), "{method}");
    }
    // What cannot be says why.
    let out = dir.path().join("pini.safetensors");
    let pini = ["fit", "pini", "--model", model, "--data", s(&train), "--shots", "2", "--out", s(&out)];
    bad(&[&pini[..], &["--words", "an icon of"]].concat(), &["PiNI", "causal attention", "Tip-Adapter"]);
    assert!(!out.exists());
    let methods = ["--methods", "zero-shot,tip-adapter,tip-x,gda,prolip", "--shots", "2", "--seeds", "1"];
    let eval = ["eval", "--dataset", s(&data), "--model", model, "--out", s(&results), "--grid", "standard"];
    let (table, _) = good(&[&eval[..], &methods, &["--template", "an icon of {}"]].concat());
    assert!(table.contains("prolip") || table.contains("ProLIP"), "{table}");
    let none = dir.path().join("none");
    let asked = ["--methods", "zero-shot,pini", "--shots", "2", "--out", s(&none)];
    let eval = ["eval", "--dataset", s(&data), "--model", model];
    bad(&[&eval[..], &asked].concat(), &["pini needs a text tower with causal attention"]);
}
