//! Broken and hostile checkpoints: each is an error that names the file and the tensor, within a second, before anything
//! goes to the GPU; and the layouts that are none of these.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use tempfile::TempDir;
use tipi::low_level::clip::Clip;
use tipi::low_level::gpu::{DeviceOptions, Gpu};

fn open() -> Gpu {
    Gpu::open(&DeviceOptions { tune: Some(false), ..Default::default() }).unwrap()
}

/// For what is refused: nothing is ever taken of its memory.
fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(open)
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A small sound model to break: Hugging Face's layout.
struct Sound {
    config: String,
    tensors: Tensors,
}

fn sound() -> Sound {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model_a");
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors =
        file.iter().map(|(name, t)| (name.to_string(), (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect();
    Sound { config: std::fs::read_to_string(folder.join("config.json")).unwrap(), tensors }
}

fn bytes_of(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(n, (d, s, b))| (n.as_str(), TensorView::new(*d, s.clone(), b).unwrap()));
    serialize(views, None).unwrap()
}

impl Sound {
    /// A folder with this model in one file.
    fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), &self.config).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), bytes_of(&self.tensors)).unwrap();
        folder
    }

    /// A folder with this model in shards, each tensor in the one that `shard` says, and the index.
    fn sharded(&self, shard: impl Fn(&str) -> String) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), &self.config).unwrap();
        let map: BTreeMap<&str, String> = self.tensors.keys().map(|name| (name.as_str(), shard(name))).collect();
        let mut files: BTreeMap<&str, Tensors> = BTreeMap::new();
        for (name, file) in &map {
            files.entry(file).or_default().insert((*name).to_string(), self.tensors[*name].clone());
        }
        for (file, tensors) in files {
            std::fs::write(folder.path().join(file), bytes_of(&tensors)).unwrap();
        }
        write_index(folder.path(), &map);
        folder
    }
}

fn write_index(folder: &Path, map: &BTreeMap<&str, String>) {
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

/// Which of two shards a tensor goes to.
fn halves(name: &str) -> String {
    format!("model-0000{}-of-00002.safetensors", if name.starts_with("text") { 1 } else { 2 })
}

/// Fails unless loading fails in time, with all of `parts` in the message and nothing taken of the GPU's memory.
fn refuses(folder: &Path, parts: &[&str]) {
    // Opening the device takes what it takes.
    let gpu = gpu();
    let start = Instant::now();
    let error = match Clip::load(gpu, folder) {
        Ok(_) => panic!("loaded where an error with {parts:?} was expected"),
        Err(error) => error.to_string(),
    };
    // It takes milliseconds; a machine that does other things may hold it up for seconds. What reads or asks for all that a
    // file claims takes longer, or does not come back.
    assert!(start.elapsed() < Duration::from_secs(20), "{error}: after {:?}", start.elapsed());
    for part in parts {
        assert!(error.contains(part), "'{error}' does not name '{part}'");
    }
    assert_eq!(gpu.peak_bytes(), 0, "{error}: memory was taken");
}

const LAYER: &str = "vision_model.encoder.layers.1.mlp.fc1.weight";

#[test]
fn sound_models_load_in_one_file_and_in_shards() {
    let (sound, gpu) = (sound(), open());
    let features = |folder: &TempDir| {
        let clip = Clip::load(&gpu, folder.path()).unwrap();
        let pixels: Vec<f32> = (0..3 * clip.preprocess.size.pow(2)).map(|i| (i as f32 * 0.37).sin()).collect();
        clip.image_encoder(1).unwrap().encode(&pixels, &mut |_| {}).unwrap()
    };
    let whole = features(&sound.folder());
    assert_eq!(whole, features(&sound.sharded(halves)));
    let other = sound.sharded(|name| if name == LAYER { "b.safetensors".into() } else { "a.safetensors".into() });
    assert_eq!(whole, features(&other));
}

#[test]
fn broken_files_are_refused_in_time() {
    let sound = sound();
    let folder = sound.folder();
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    // Cut within the data: the tensor that is not all there is named. Cut within the header, and within its length.
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let file = SafeTensors::deserialize(&whole).unwrap();
    let last = file.iter().max_by_key(|(_, t)| t.data().as_ptr() as usize).unwrap().0.to_string();
    refuses(folder.path(), &["model.safetensors", &format!("tensor '{last}'"), "truncated"]);
    for cut in [8 + header / 2, 9, 8, 7, 0] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        refuses(folder.path(), &["model.safetensors"]);
    }
    // A header that claims 2⁶³ bytes, and more than memory but less than that.
    for claim in [1u64 << 63, u64::MAX, 1 << 40, 99_000_000] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&claim.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        refuses(folder.path(), &["model.safetensors", "safetensors"]);
    }
    // Tensors that claim as much, or more than can be counted.
    for (shape, end) in [("[9223372036854775807]", 36u64), ("[4294967296,4294967296,4294967296]", 36), ("[9]", 1 << 62)]
    {
        let text =
            format!(r#"{{"visual_projection.weight":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#);
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes.extend([0; 36]);
        std::fs::write(&path, &bytes).unwrap();
        refuses(folder.path(), &["model.safetensors"]);
    }
    std::fs::remove_file(&path).unwrap();
    refuses(folder.path(), &["holds no model.safetensors"]);
    std::fs::write(folder.path().join("pytorch_model.bin"), b"PK").unwrap();
    refuses(folder.path(), &["pytorch_model.bin", "neither an archive nor a pickle"]);
}

#[test]
fn wrong_tensors_are_named() {
    let broken = |change: &dyn Fn(&mut Tensors), parts: &[&str]| {
        let mut model = sound();
        change(&mut model.tensors);
        refuses(model.folder().path(), parts);
        // The same in shards: the shard is named.
        refuses(model.sharded(halves).path(), &parts[1..]);
    };
    let file = "model.safetensors";
    broken(&|t| drop(t.remove(LAYER)), &[file, LAYER, "missing"]);
    broken(&|t| drop(t.remove("logit_scale")), &[file, "logit_scale"]);
    broken(
        &|t| {
            let (_, shape, bytes) = &t[LAYER];
            let wrong = (Dtype::I32, shape.clone(), bytes.clone());
            t.insert(LAYER.into(), wrong);
        },
        &[file, LAYER, "I32", "expected"],
    );
    broken(
        &|t| {
            let (dtype, shape, bytes) = t[LAYER].clone();
            t.insert(LAYER.into(), (dtype, vec![shape[1], shape[0]], bytes));
        },
        &[file, LAYER, "expected"],
    );
    broken(
        &|t| {
            let extra = "vision_model.encoder.layers.7.mlp.fc1.weight";
            let layer = t[LAYER].clone();
            t.insert(extra.into(), layer);
        },
        &[file, "vision_model.encoder.layers.7", "layers; the two do not belong together"],
    );
    broken(
        &|t| {
            t.insert("logit_scale".into(), (Dtype::F32, vec![], f32::INFINITY.to_le_bytes().to_vec()));
        },
        &[file, "logit_scale"],
    );
}

#[test]
fn broken_indices_are_refused() {
    let model = sound();
    let index = "model.safetensors.index.json";
    let good: BTreeMap<&str, String> = model.tensors.keys().map(|name| (name.as_str(), halves(name))).collect();
    let folder = model.sharded(halves);
    let with = |file: &str| {
        let mut map = good.clone();
        map.insert(LAYER, file.into());
        write_index(folder.path(), &map);
    };
    with("model-00003-of-00003.safetensors");
    refuses(folder.path(), &[index, LAYER, "model-00003-of-00003.safetensors", "not in the folder"]);
    // Ways out of the folder, also where the file is really there.
    let outside = folder.path().parent().unwrap().join("tipi-outside.safetensors");
    std::fs::write(&outside, bytes_of(&model.tensors)).unwrap();
    for way in ["../tipi-outside.safetensors", outside.to_str().unwrap(), "a/../../b", "..", ".", "", "a\\b", "c:d"] {
        with(way);
        refuses(folder.path(), &[index, LAYER, "own folder"]);
    }
    std::fs::remove_file(&outside).unwrap();
    // A shard that lacks what the index says it has.
    with(&halves("text"));
    refuses(folder.path(), &[&halves("text"), LAYER, "missing"]);
    std::fs::write(folder.path().join(index), "{\"weight_map\": [1, 2]}").unwrap();
    refuses(folder.path(), &[index, "not a valid index"]);
    write_index(folder.path(), &BTreeMap::new());
    refuses(folder.path(), &[index]);
}

/// What reads a model's file after it was loaded: the token table, and the digest of the whole.
fn later_reads(clip: &Clip) -> [tipi::Result<()>; 2] {
    let end = (0..clip.config.vocabulary as u32).rev().find(|id| clip.config.end.position(&[*id]).is_some()).unwrap();
    [clip.text.encode(&[vec![1, 2, end]], clip.config.end).map(drop), clip.id().map(drop)]
}

#[test]
fn a_file_that_changes_under_a_loaded_model_is_an_error_and_no_crash() {
    let (sound, gpu) = (sound(), open());
    let folder = sound.folder();
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for read in later_reads(&Clip::load(&gpu, folder.path()).unwrap()) {
        read.unwrap();
    }
    let changes: [(&str, &dyn Fn()); 4] = [
        ("cut to its header", &|| std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(64).unwrap()),
        ("emptied", &|| drop(std::fs::File::create(&path).unwrap())),
        ("overwritten in place", &|| {
            let mut other = whole.clone();
            other.iter_mut().rev().take(1000).for_each(|byte| *byte ^= 1);
            std::fs::write(&path, other).unwrap();
        }),
        ("made longer", &|| std::fs::write(&path, [&whole[..], b"more"].concat()).unwrap()),
    ];
    for (what, change) in changes {
        std::fs::write(&path, &whole).unwrap();
        let clip = Clip::load(&gpu, folder.path()).unwrap();
        // Systems count time of change in ticks of some milliseconds.
        std::thread::sleep(Duration::from_millis(30));
        change();
        for read in later_reads(&clip) {
            let error = read.unwrap_err().to_string();
            assert!(error.contains("model.safetensors") && error.contains("was changed"), "{what}: {error}");
        }
    }
    // One that takes the name of another leaves it as it is.
    std::fs::write(&path, &whole).unwrap();
    let clip = Clip::load(&gpu, folder.path()).unwrap();
    std::fs::write(folder.path().join("new"), b"other").unwrap();
    #[cfg(unix)]
    std::fs::rename(folder.path().join("new"), &path).unwrap();
    for read in later_reads(&clip) {
        read.unwrap();
    }
}
