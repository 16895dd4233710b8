//! `convert`, files of weights, and LoRA.

use std::path::PathBuf;

use crate::start::{MODEL, root, s};
use crate::{bad, features, good, pictures};

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/torch").join(name)
}

#[test]
fn a_converted_model_is_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let picture = "examples/pictos/shifted/apple/lucide-apple.png";
    let embed = |model: &str, out: &str, more: &[&str]| {
        good(&[&["embed", "image", "--model", model, "--out", s(&at(out)), picture][..], more].concat());
        features(&at(out))
    };
    let before = embed(s(&fixture("tuned")), "a.safetensors", &[]);
    let (_, told) = good(&["convert", s(&fixture("tuned/checkpoint.pth")), s(&at("tuned"))]);
    assert!(told.contains("tensors"), "{told}");
    assert!(at("tuned/open_clip_config.json").is_file());
    assert_eq!(embed(s(&at("tuned")), "b.safetensors", &[]), before);
    let lora = fixture("lora/attention");
    let merged = embed(s(&fixture("tuned")), "c.safetensors", &["--lora", s(&lora)]);
    assert_ne!(merged, before);
    let (_, told) = good(&["convert", s(&fixture("tuned")), s(&at("merged")), "--lora", s(&lora)]);
    assert!(told.contains("merged a LoRA of rank 3 on 9 matrices"), "{told}");
    assert_eq!(embed(s(&at("merged")), "d.safetensors", &[]), merged);
    let (text, _) = good(&["info", s(&fixture("tuned")), "--lora", s(&lora)]);
    assert!(text.contains("rank 3 on 9 matrices"), "{text}");
    // What belongs to a folder goes with it.
    good(&["convert", MODEL, s(&at("picto")), "--f16"]);
    for file in ["config.json", "preprocessor_config.json", "tokenizer.json", "README.md", "model.safetensors"] {
        assert!(at("picto").join(file).is_file(), "{file}");
    }
    bad(&["convert", MODEL, s(&at("picto"))], &["picto", "is there already", "new folder"]);
    bad(&["convert", MODEL, s(&at("no/such"))], &["does not exist"]);
    bad(&["convert", MODEL, s(&at("e")), "--lora", s(&lora)], &["another model"]);
    // The base is not there: how to give both, for commands of either form.
    let plain = fixture("lora/plain");
    bad(&["convert", s(&plain), s(&at("e"))], &["LoRA", "'../../hf'", &format!(": BASE --lora {}", s(&plain))]);
    let asked = format!(": --model BASE --lora {}", s(&plain));
    bad(&["embed", "image", "--model", s(&plain), "--out", s(&at("e.npy")), picture], &["'../../hf'", &asked]);
    assert!(!at("e").exists() && !at("e.npy").exists());
    // Nothing half-written is left.
    let left = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.filter(|name| name.starts_with('.')).count() == 0);
}

/// An adapter of a merged model finds both again, and is none of the model alone.
#[test]
fn an_adapter_remembers_the_lora() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tip.safetensors");
    let (lora, data) = (dir.path().join("lora"), pictures(2));
    std::fs::create_dir(&lora).unwrap();
    // A pair of matrices of rank 1.
    let file = |name: &str, shape: [usize; 2]| {
        let bytes: Vec<u8> = (0..128).flat_map(|n| (n as f32 * 0.1).sin().to_le_bytes()).collect();
        (format!("base_model.model.vision_model.encoder.layers.0.self_attn.q_proj.{name}.weight"), shape, bytes)
    };
    let pair = [file("lora_A", [1, 128]), file("lora_B", [128, 1])];
    let views = pair.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    std::fs::write(lora.join("adapter_model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let config = r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 2}"#;
    std::fs::write(lora.join("adapter_config.json"), config).unwrap();
    let fit = [
        "fit",
        "tip",
        "--grid",
        "standard",
        "--model",
        MODEL,
        "--lora",
        s(&lora),
        "--data",
        s(data.path()),
        "--shots",
        "1",
    ];
    good(&[&fit[..], &["--key-views", "0", "--out", s(&out)]].concat());
    let predict = ["predict", "--adapter", s(&out), s(data.path())];
    good(&predict);
    bad(&[&predict[..], &["--model", MODEL]].concat(), &["fitted to model 'picto+lora'"]);
    good(&[&predict[..], &["--model", MODEL, "--lora", s(&lora)]].concat());
    std::fs::remove_dir_all(&lora).unwrap();
    bad(&predict, &["a LoRA that is no longer in"]);
}

#[test]
fn files_are_taken_as_they_are() {
    let (text, _) = good(&["info", s(&fixture("openai.pt"))]);
    assert!(text.contains("patches of 8 on 16×16") && text.contains("F16"), "{text}");
    let picture = "examples/pictos/shifted/apple/lucide-apple.png";
    let classify = ["classify", "--labels", "a,b", picture, "--model"];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("evil.pt");
    // A pickle that would run a command in Python.
    std::fs::write(&path, b"\x80\x02cos\nsystem\n.").unwrap();
    bad(&[&classify[..], &[s(&path)]].concat(), &["evil.pt"]);
    bad(&[&classify[..], &[s(dir.path())]].concat(), &["evil.pt"]);
}
