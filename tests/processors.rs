//! Pictures' pixels against the image processors of transformers and open_clip: what `tests/reference/processors.py` wrote, with the
//! settings that it gave them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tipi::low_level::clip::{Preprocess, Resize};
use tipi::low_level::data::{Depth, Filter, Normalize, decode};

/// Side of the prepared pictures.
const SIZE: usize = 16;
/// The most that a pixel may differ by: what normalising in another order does in f32.
const ROUNDING: f32 = 2e-6;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// A preparation as open_clip's settings say.
fn open_clip(settings: &Value) -> Preprocess {
    let three = |name: &str| serde_json::from_value::<[f32; 3]>(settings[name].clone()).unwrap();
    Preprocess {
        size: SIZE,
        resize: if settings["resize_mode"] == "squash" { Resize::Squash } else { Resize::Shortest(SIZE) },
        filter: if settings["interpolation"] == "bilinear" { Filter::Bilinear } else { Filter::Bicubic },
        normalize: Normalize { mean: three("mean"), std: three("std") },
        depth: Depth::default(),
    }
}

/// A preparation as a preprocessor_config.json says, and as a processor_config.json with the same in it says.
fn transformers(settings: &Value) -> Preprocess {
    let read = |name: &str, json: &Value| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), json.to_string()).unwrap();
        Preprocess::of_folder(folder.path(), SIZE).unwrap()
    };
    let found = read("preprocessor_config.json", settings);
    let processor = json!({"image_processor": settings, "processor_class": "SiglipProcessor"});
    assert_eq!(read("processor_config.json", &processor), found);
    found
}

/// The pixels that differ by more than rounding, of those of all kinds and pictures whose kind `change` has changed.
fn differences(change: &dyn Fn(&mut Preprocess)) -> Vec<String> {
    let folder = root().join("tests/fixtures/processors");
    let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let mut all = Vec::new();
    for (name, tensor) in expected.iter() {
        let (kind, picture) = name.split_once('/').unwrap();
        let settings = serde_json::from_slice(&fs::read(folder.join(format!("{kind}.json"))).unwrap()).unwrap();
        let mut preprocess = if kind.starts_with("open-clip") { open_clip(&settings) } else { transformers(&settings) };
        change(&mut preprocess);
        let pixels = preprocess.normalized(&preprocess.prepare(&decode(&root().join(picture)).unwrap()));
        let wanted = tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        assert_eq!((tensor.shape(), pixels.len()), (&[3, SIZE, SIZE][..], 3 * SIZE * SIZE), "{name}");
        let largest = pixels.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if largest > ROUNDING {
            all.push(format!("{name}: by {largest}"));
        }
    }
    all
}

#[test]
fn pixels_are_those_of_the_image_processors() {
    let wrong = differences(&|_| {});
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn planted_errors_are_found() {
    assert_eq!(differences(&|preprocess| preprocess.normalize.mean[1] += 0.01).len(), 24);
    let other = |preprocess: &mut Preprocess| {
        preprocess.filter = if preprocess.filter == Filter::Bicubic { Filter::Bilinear } else { Filter::Bicubic };
    };
    assert_eq!(differences(&other).len(), 24);
}
