//! A model whose files the program has itself is the same model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tipi::{DeviceOptions, Error, Files, Gpu, Model, Picture, ReadAt, Unwatched};

const MODEL: &str = "weights/picto";
const FILES: [&str; 4] = ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"];

fn gpu() -> Gpu {
    Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap()
}

fn bytes(folder: &str, name: &str) -> Box<dyn ReadAt> {
    Box::new(fs::read(Path::new(folder).join(name)).unwrap())
}

/// Bytes that count how many of them were read at most at once.
struct Counted(Vec<u8>, Arc<AtomicU64>);

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, bytes: &mut [u8], start: u64) -> io::Result<()> {
        self.1.fetch_max(bytes.len() as u64, Ordering::Relaxed);
        self.0.read_exact_at(bytes, start)
    }
}

#[test]
fn features_texts_and_identity_are_those_of_the_folder() {
    let gpu = gpu();
    let most = Arc::new(AtomicU64::new(0));
    let weights = Counted(fs::read(Path::new(MODEL).join("model.safetensors")).unwrap(), most.clone());
    let whole = weights.size();
    let mut all: Vec<(&str, Box<dyn ReadAt>)> = FILES[..3].iter().map(|name| (*name, bytes(MODEL, name))).collect();
    all.push(("model.safetensors", Box::new(weights)));
    let files = Files::new("mine", all).unwrap();
    let given = Model::load(&gpu, &files).unwrap();
    // The model keeps its files.
    drop(files);
    let on_disk = Model::load(&gpu, MODEL).unwrap();
    assert_eq!(given.digest().unwrap(), on_disk.digest().unwrap());
    assert!(given.clip().id().unwrap().name == "mine" && format!("{given:?}").contains("mine"));
    // Weights come a piece at a time.
    let most = most.load(Ordering::Relaxed);
    assert!(most > 0 && most < whole / 4, "{most} of {whole} bytes at once");

    let picture = [Picture::file("examples/pictos/shifted/bell/lucide-bell.png")];
    let encoded = |model: &Model| model.encode(&picture, &mut Unwatched).unwrap().into_values();
    assert_eq!(encoded(&given), encoded(&on_disk));
    let texts = |model: &Model| model.encode_texts(&["a bell", "an icon of a car"]).unwrap().into_values();
    assert_eq!(texts(&given), texts(&on_disk));
    // An adapter that was made with one is the other's.
    let adapter = given.zero_shot(&["bell", "car"], &["an icon of {}"]).unwrap().to_bytes().unwrap();
    assert_eq!(on_disk.adapter_from_bytes("adapter", adapter).unwrap().classes(), ["bell", "car"]);
}

#[test]
fn shards_and_their_index_are_found_beside_each_other() {
    let folder = "tests/fixtures/towers/hf-sharded-bf16";
    let Ok(entries) = fs::read_dir(folder) else { panic!("{folder} is not there") };
    let names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.ends_with(".index.json")), "{names:?}");
    let files = Files::new("shards", names.iter().map(|name| (name.clone(), bytes(folder, name)))).unwrap();
    let gpu = gpu();
    let (given, on_disk) = (Model::load(&gpu, &files).unwrap(), Model::load(&gpu, folder).unwrap());
    assert_eq!(given.digest().unwrap(), on_disk.digest().unwrap());
}

#[test]
fn what_is_missing_or_cut_is_named() {
    let gpu = gpu();
    let load = |files: Vec<(&str, Box<dyn ReadAt>)>| {
        let files = Files::new("mine", files).unwrap();
        Model::load(&gpu, &files).unwrap_err()
    };
    let none = load(vec![("config.json", bytes(MODEL, "config.json"))]);
    assert!(matches!(none, Error::Config { .. }) && none.to_string().contains("holds no model.safetensors"), "{none}");
    let mut cut = fs::read(Path::new(MODEL).join("model.safetensors")).unwrap();
    cut.truncate(100_000);
    let cut = load(vec![("config.json", bytes(MODEL, "config.json")), ("model.safetensors", Box::new(cut))]);
    assert!(matches!(cut, Error::Safetensors { .. }) && cut.to_string().contains("mine/model.safetensors"), "{cut}");
    // A folder that was given back is no folder any more.
    let files = Files::new("mine", [("config.json", bytes(MODEL, "config.json"))]).unwrap();
    let path = files.path().to_path_buf();
    drop(files);
    assert!(Model::load(&gpu, path).unwrap_err().to_string().contains("no such model"));
}
