//! Whole models against the libraries that made them: `tests/reference/towers.py` writes models of every layout with random
//! weights as `transformers` and `open_clip` save them, and the features that those libraries compute from them in f64.
//!
//! Small ones are committed. At full size:
//!
//! ```sh
//! python tests/reference/towers.py --full towers
//! TIPI_TOWERS=towers cargo test --release --test towers -- --ignored --nocapture
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tipi::low_level::clip::{Checkpoint, Clip, ClipConfig, ImageTower, Preprocess, Prompts, Resize, Source, convert};
use tipi::low_level::data::{Filter, Normalize};
use tipi::low_level::gpu::{DeviceOptions, Gpu, Recorder};
use tipi::low_level::kernels::gemm::{Bytes, Precision};
use tipi::low_level::watch::Unwatched;
use tipi_testing::twins::Random;

/// Largest errors of a feature, as a share of its length.
const F32: f64 = 1e-4;
const F16: f64 = 5e-3;
/// With weights in int8: a cosine of 0.999.
const INT8: f64 = 4.47e-2;

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(&DeviceOptions { tune: Some(false), ..Default::default() }).unwrap())
}

fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The sub-folders, sorted.
fn folders(root: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap_or_else(|e| panic!("{}: {e}", root.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    all.sort();
    all
}

/// What the library says of a model.
struct Expected {
    count: usize,
    pixels: Vec<f32>,
    ids: Vec<Vec<u32>>,
    image: Vec<f32>,
    text: Vec<f32>,
}

fn expected(folder: &Path) -> Expected {
    let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| -> Vec<[u8; 4]> {
        file.tensor(name).unwrap().data().chunks_exact(4).map(|b| b.try_into().unwrap()).collect()
    };
    let floats = |name: &str| words(name).into_iter().map(f32::from_le_bytes).collect::<Vec<f32>>();
    let context = file.tensor("ids").unwrap().shape()[1];
    let ids: Vec<u32> = words("ids").into_iter().map(u32::from_le_bytes).collect();
    Expected {
        count: file.tensor("pixels").unwrap().shape()[0],
        pixels: floats("pixels"),
        ids: ids.chunks(context).map(<[u32]>::to_vec).collect(),
        image: floats("image_features"),
        text: floats("text_features"),
    }
}

/// The largest error of any row, as a share of the row's length.
fn error(got: &[f32], want: &[f32], width: usize) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    let rows = got.chunks_exact(width).zip(want.chunks_exact(width));
    rows.map(|(g, w)| {
        let off = norm(&mut g.iter().zip(w).map(|(g, w)| f64::from(*g) - f64::from(*w)));
        off / norm(&mut w.iter().map(|w| f64::from(*w)))
    })
    .fold(0.0, |worst: f64, e| if e.is_nan() { f64::INFINITY } else { worst.max(e) })
}

/// Errors of image and text features.
fn errors(folder: &Path, precision: Precision) -> (f64, f64) {
    let clip = tipi_testing::load(gpu(), folder, precision);
    errors_of(&clip, folder)
}

fn errors_of(clip: &Clip, folder: &Path) -> (f64, f64) {
    let want = expected(folder);
    let width = clip.config.embedding;
    let image = clip.image_encoder(want.count).unwrap().encode(&want.pixels, &mut |_| {}).unwrap();
    let text = clip.text.encode(&want.ids, clip.config.end).unwrap();
    (error(&image, &want.image, width), error(&text, &want.text, width))
}

#[test]
fn every_layout_gives_the_librarys_features() {
    let folders = folders(&fixtures("towers"));
    assert!(folders.len() >= 30, "only {} models", folders.len());
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap().to_string();
        let (image, text) = errors(&folder, Precision::F32);
        println!("{name}: image {image:.1e}, text {text:.1e}");
        assert!(image < F32 && text < F32, "{name}: image off by {image:e}, text by {text:e}");
        let (image, text) = errors(&folder, Precision::F16);
        assert!(image < F16 && text < F16, "{name} in f16: image off by {image:e}, text by {text:e}");
        let (image, text) = errors(&folder, Precision::Int8);
        println!("{name} in int8: image {image:.1e}, text {text:.1e}");
        // No norm bounds what its attention sees, so that random weights make more of all rounding.
        let most = if name == "timm-eva02-e" { 4.0 * INT8 } else { INT8 };
        assert!(image < most && text < INT8, "{name} in int8: image off by {image:e}, text by {text:e}");
    }
}

/// What fills a text up is seen by nothing: leaving it out changes no bit, and changing a token changes all.
#[test]
fn hidden_padding_changes_nothing() {
    let folder = fixtures("towers").join("openclip-xlm-roberta");
    let (clip, want) = (tipi_testing::load(gpu(), &folder, Precision::F32), expected(&folder));
    let features = |ids: &[Vec<u32>]| clip.text.encode(ids, clip.config.end).unwrap();
    let without: Vec<Vec<u32>> =
        want.ids.iter().map(|text| text.iter().copied().filter(|id| *id != 1).collect()).collect();
    assert_ne!(without, want.ids);
    assert_eq!(features(&without), features(&want.ids));
    let mut other = want.ids.clone();
    other.iter_mut().for_each(|text| text[1] = 5);
    assert!(error(&features(&other), &want.text, clip.config.embedding) > F32);
    // A text of more tokens than the context has no positions for its last.
    let long = vec![vec![5; clip.config.context + 1]];
    assert!(clip.text.encode(&long, clip.config.end).unwrap_err().to_string().contains("longer than the context"));
}

/// A RoBERTa converted, and merged with a LoRA on each kind of its layers.
#[test]
fn a_roberta_is_converted_and_merged() {
    let folder = fixtures("towers").join("openclip-roberta-f16-odd");
    let (clip, want) = (tipi_testing::load(gpu(), &folder, Precision::F32), expected(&folder));
    let before = clip.text.encode(&want.ids, clip.config.end).unwrap();
    let at = tempfile::tempdir().unwrap();
    let (to, lora) = (at.path().join("converted"), at.path().join("lora"));
    let convert = |lora: Option<&Path>, to: &Path| {
        let source = Source::of(&folder, lora).unwrap();
        let checkpoint = Checkpoint::of(&source).unwrap();
        convert::convert(&source, &checkpoint, to, false, &mut Unwatched).unwrap();
        std::fs::copy(folder.join("sizes.json"), to.join("sizes.json")).unwrap();
        let clip = tipi_testing::load(gpu(), to, Precision::F32);
        clip.text.encode(&want.ids, clip.config.end).unwrap()
    };
    assert_eq!(convert(None, &to), before);
    std::fs::create_dir(&lora).unwrap();
    let mut random = Random::new(7);
    let layer = "base_model.model.text.transformer.encoder.layer.1";
    let mut pairs = Vec::new();
    for (name, out, input) in
        [("attention.self.query", 30, 30), ("attention.output.dense", 30, 30), ("intermediate.dense", 70, 30)]
    {
        for (part, shape) in [("lora_A", vec![2, input]), ("lora_B", vec![out, 2])] {
            let values = random.vector(shape.iter().product());
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            pairs.push((format!("{layer}.{name}.{part}.weight"), shape, bytes));
        }
    }
    let views = pairs
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    std::fs::write(lora.join("adapter_model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 1}"#;
    std::fs::write(lora.join("adapter_config.json"), config).unwrap();
    let merged = tipi_testing::merged(gpu(), &folder, Some(&lora), Precision::F32);
    let merged = merged.text.encode(&want.ids, clip.config.end).unwrap();
    assert!(error(&merged, &before, clip.config.embedding) > F32);
    assert_eq!(convert(Some(&lora), &at.path().join("merged")), merged);
}

/// Gradients by the rows of texts are the slopes of what the tower computes, wherever its norms stand.
#[test]
fn gradients_of_texts_are_slopes() {
    for name in ["hf-vit", "openclip-xlm-roberta", "openclip-roberta-f16-odd"] {
        let folder = fixtures("towers").join(name);
        let (clip, want) = (tipi_testing::load(gpu(), &folder, Precision::F32), expected(&folder));
        let pack = if clip.text.is_causal() { Prompts::pack } else { Prompts::pack_whole };
        let prompts = pack(&want.ids, clip.config.end).unwrap();
        let packed = clip.text.packed(&prompts).unwrap();
        let x = gpu().read::<f32>(&clip.text.embed(&prompts).unwrap()).unwrap();
        let shape = [prompts.rows(), clip.text.width()];
        let mut random = Random::new(11);
        let dy = random.vector(want.text.len());
        let value = |x: &[f32]| -> f64 {
            let mut rec = Recorder::new(gpu());
            let x = gpu().upload("x", x, &shape).unwrap();
            let y = clip.text.forward(&mut rec, x, &packed).unwrap();
            rec.finish().unwrap().run().unwrap();
            let y = gpu().read::<f32>(&y).unwrap();
            y.iter().zip(&dy).map(|(y, d)| f64::from(*y) * f64::from(*d)).sum()
        };
        let gradient = {
            let mut rec = Recorder::new(gpu());
            let x = gpu().upload("x", &x, &shape).unwrap();
            let (y, saved) = clip.text.forward_saved(&mut rec, &x, &packed).unwrap();
            let dy = gpu().upload("dy", &dy, y.shape()).unwrap();
            let dx = clip.text.backward(&mut rec, &dy, saved, &packed).unwrap();
            rec.finish().unwrap().run().unwrap();
            assert!(error(&gpu().read::<f32>(&y).unwrap(), &want.text, clip.config.embedding) < F32, "{name}");
            gpu().read::<f32>(&dx).unwrap()
        };
        let along = |g: &[f32], v: &[f32]| g.iter().zip(v).map(|(g, v)| f64::from(*g) * f64::from(*v)).sum::<f64>();
        let length = along(&gradient, &gradient).sqrt();
        // The comparison tells a gradient whose rows are in each other's places.
        let mut turned = gradient.clone();
        turned.rotate_left(clip.text.width());
        let mut told = false;
        for _ in 0..6 {
            let v = random.vector(x.len());
            let step = 2e-3f32;
            let moved = |by: f32| value(&x.iter().zip(&v).map(|(x, v)| x + by * v).collect::<Vec<f32>>());
            let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
            let off = |g: &[f32]| (slope - along(g, &v)).abs() / length;
            assert!(off(&gradient) < 2e-2, "{name}: {slope} where {} was computed", along(&gradient, &v));
            told |= off(&turned) > 5e-2;
        }
        assert!(told, "{name}");
    }
}

/// Scales of one matrix that are not its own show in the features.
#[test]
fn a_wrong_scale_shows() {
    let folder = fixtures("towers").join("hf-vit");
    for (factor, shows) in [(1.0f32, false), (1.5, true), (127.0, true)] {
        let clip = Clip::load_as(gpu(), &folder, Precision::Int8).unwrap();
        let weight = &clip.text.transformer.blocks[1].down.weight;
        let exact = Clip::load(gpu(), &folder).unwrap();
        let exact = &exact.text.transformer.blocks[1].down.weight;
        assert!(weight.bytes() < exact.bytes() * 2 / 5 && weight.scales().is_some());
        // The checkpoint's own matrix, its scales anew.
        let file = std::fs::read(folder.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&file).unwrap();
        let stored = file.tensor("text_model.encoder.layers.1.mlp.fc2.weight").unwrap();
        let values: Vec<f32> =
            stored.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let mut scales = Bytes::of(&values, weight.cols()).unwrap().scales;
        scales.iter_mut().for_each(|scale| *scale *= factor);
        gpu().write(weight.scales().unwrap(), &scales).unwrap();
        let (image, text) = errors_of(&clip, &folder);
        assert!(image < INT8 && (text > INT8) == shows, "{factor}: image off by {image:e}, text by {text:e}");
    }
}

/// Weights one of which in each row of every matrix is far larger than the others: their scales are coarse for the rest.
#[test]
fn rows_with_outliers_are_held() {
    let folder = fixtures("towers").join("hf-vit");
    for times in [10.0f32, 30.0, 100.0, 1000.0] {
        let copy = with(&folder, "config.json", |text| format!("{text}\n"));
        let path = copy.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let made: Vec<(String, Vec<usize>, Vec<u8>)> = file
            .iter()
            .map(|(name, tensor)| {
                let mut data = tensor.data().to_vec();
                let cols = tensor.shape().iter().skip(1).product::<usize>();
                if tensor.shape().len() > 1 && !name.contains("embedding") {
                    for (row, values) in data.chunks_mut(4 * cols).enumerate() {
                        let at = 4 * (row * 7 % cols);
                        let v = f32::from_le_bytes(values[at..at + 4].try_into().unwrap());
                        values[at..at + 4].copy_from_slice(&(v * times).to_le_bytes());
                    }
                }
                (name.to_string(), tensor.shape().to_vec(), data)
            })
            .collect();
        let views = made.iter().map(|(name, shape, data)| {
            (name.as_str(), safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
        });
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        let want = expected(&folder);
        let features = |precision| {
            let clip = Clip::load_as(gpu(), copy.path(), precision).unwrap();
            let image = clip.image_encoder(want.count).unwrap().encode(&want.pixels, &mut |_| {}).unwrap();
            (image, clip.text.encode(&want.ids, clip.config.end).unwrap(), clip.config.embedding)
        };
        let (image, text, width) = features(Precision::F32);
        let off = |precision| {
            let (other_image, other_text, _) = features(precision);
            (error(&other_image, &image, width), error(&other_text, &text, width))
        };
        let (half, bytes) = (off(Precision::F16), off(Precision::Int8));
        println!("outliers {times} times as large: off by {bytes:?} in int8, by {half:?} in f16");
        // Matrices with outliers are kept in f16. Such towers make more of all rounding, in f16 too, and the patches' weights,
        // which have none, are int8: that is off by some 40 times as much as f16 in every tower.
        let most = |half: f64| INT8.max(100.0 * half);
        assert!(bytes.0 < most(half.0) && bytes.1 < most(half.1), "{times}: {bytes:?}, in f16 {half:?}");
    }
}

/// Copies a model with one of its files changed.
fn with(folder: &Path, file: &str, change: impl Fn(&str) -> String) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let changed = change(&text);
    assert_ne!(text, changed, "{file}: nothing changed");
    std::fs::write(copy.path().join(file), changed).unwrap();
    copy
}

#[test]
fn a_wrong_setting_is_noticed() {
    let set = |text: &str, path: &[&str], value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut at = &mut json;
        for key in path {
            at = &mut at[*key];
        }
        *at = value;
        json.to_string()
    };
    let hf = |case: &str, path: &[&str], value: serde_json::Value| {
        errors(
            with(&fixtures("towers").join(case), "config.json", |t| set(t, path, value.clone())).path(),
            Precision::F32,
        )
    };
    assert!(hf("hf-vit", &["vision_config", "hidden_act"], "gelu".into()).0 > F32);
    assert!(hf("hf-vit", &["text_config", "hidden_act"], "gelu".into()).1 > F32);
    assert!(hf("hf-gelu", &["vision_config", "hidden_act"], "quick_gelu".into()).0 > F32);
    assert!(
        hf("hf-eos", &["text_config", "eos_token_id"], 2.into()).1 > F32,
        "the highest id instead of the end token"
    );
    let open = |case: &str, path: &[&str], value: serde_json::Value| {
        let folder = fixtures("towers").join(case);
        errors(with(&folder, "open_clip_config.json", |t| set(t, path, value.clone())).path(), Precision::F32)
    };
    let both = open("openclip-vit", &["model_cfg", "quick_gelu"], true.into());
    assert!(both.0 > F32 && both.1 > F32);
    assert!(open("openclip-rn", &["model_cfg", "vision_cfg", "head_width"], 64.into()).0 > F32);
    // And the comparison itself tells a feature that is off by a little more than allowed.
    let want = [3.0, 4.0];
    assert!(error(&[3.0, 4.0], &want, 2) == 0.0 && error(&[3.0, 4.001], &want, 2) > F32);
    assert!(error(&[f32::NAN, 4.0], &want, 2) > F16);
}

/// A ResNet takes a large batch in groups: each picture must come from its place and go to its place.
#[test]
fn a_batch_in_groups_gives_what_one_at_a_time_gives() {
    let folder = fixtures("towers").join("openclip-rn");
    let want = expected(&folder);
    let clip = Clip::load(gpu(), &folder).unwrap();
    let ImageTower::ResNet(net) = &clip.image else { panic!("no ResNet") };
    // Five different pictures: those of the case, and mixtures of them.
    let (first, second) = want.pixels.split_at(want.pixels.len() / 2);
    let mixed = |share: f32| first.iter().zip(second).map(move |(a, b)| share * a + (1.0 - share) * b);
    let pixels: Vec<f32> = [1.0, 0.0, 0.3, 0.7, 2.0].into_iter().flat_map(mixed).collect();
    let features = |group: usize| {
        let plan = net.plan_in_groups(5, group).unwrap();
        gpu().write(&plan.pixels, &pixels).unwrap();
        plan.plan.run().unwrap();
        gpu().read::<f32>(&plan.features).unwrap()
    };
    let width = clip.config.embedding;
    let whole = features(5);
    assert!(error(&whole[..2 * width], &want.image, width) < F32);
    for group in [0, 1, 2, 3, 9] {
        assert!(error(&features(group), &whole, width) < 1e-6, "groups of {group}");
    }
    // The comparison tells pictures in each other's places.
    let mut swapped = whole.clone();
    swapped.rotate_left(width);
    assert!(error(&swapped, &whole, width) > F32);
}

/// More pictures at a time than kernels that read textures take: a picture's bits must not depend on how many go with it.
#[test]
fn a_picture_gives_the_same_bits_in_any_batch() {
    let folder = fixtures("towers").join("hf-eos");
    let want = expected(&folder);
    let clip = Clip::load(gpu(), &folder).unwrap();
    let (one, width) = (want.pixels.len() / want.count, clip.config.embedding);
    let rows = gpu().capabilities().texture as usize;
    let tokens = clip.image.vit().unwrap().pattern(1).unwrap().rows();
    let many = (rows / tokens + 40).min(8_000);
    let pixels: Vec<f32> = want.pixels.iter().copied().cycle().take(many * one).collect();
    let alone = clip.image_encoder(1).unwrap().encode(&want.pixels, &mut |_| {}).unwrap();
    let together = clip.image_encoder(many).unwrap().encode(&pixels, &mut |_| {}).unwrap();
    let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for (i, row) in together.chunks(width).enumerate() {
        let at = i % want.count * width;
        assert_eq!(bits(row), bits(&alone[at..at + width]), "picture {i} of {many}");
    }
}

#[test]
fn pictures_are_prepared_as_the_library_was_told() {
    let of = |case: &str| Clip::load(gpu(), &fixtures("towers").join(case)).unwrap().preprocess;
    let custom = of("openclip-custom-text");
    assert_eq!((custom.resize, custom.filter), (Resize::Squash, Filter::Bilinear));
    assert_eq!((custom.size, custom.normalize), (32, Normalize::HALF));
    assert_eq!(of("openclip-vit"), Preprocess::openai(32));
    let hf = of("hf-vit");
    assert_eq!((hf.resize, hf.normalize.mean), (Resize::Shortest(32), [0.5, 0.4, 0.3]));
}

/// Families that tipi does not have are refused, with a sentence on what they would need.
#[test]
fn other_families_are_refused() {
    let folders = folders(&fixtures("refused"));
    assert!(folders.len() >= 8, "only {} configurations", folders.len());
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap().to_string();
        let open = folder.join("open_clip_config.json").exists();
        // With weights that would fit a CLIP, only the configuration can tell.
        let sound = fixtures("towers").join(if open { "openclip-vit" } else { "hf-vit" });
        let copy = tempfile::tempdir().unwrap();
        for source in [&sound, &folder] {
            for entry in std::fs::read_dir(source).unwrap() {
                let path = entry.unwrap().path();
                std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        let refused = || {
            let error = Clip::load(gpu(), copy.path()).err().unwrap_or_else(|| panic!("{name} loaded")).to_string();
            assert!(error.contains("config.json") && !error.contains("not a valid"), "{name}: {error}");
            assert!(["needs", "does not have", "has '"].iter().any(|part| error.contains(part)), "{name}: {error}");
            error
        };
        let error = refused();
        println!("{name}: {error}");
        // And with weights under names that are no CLIP's the same is said.
        let foreign = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
        let foreign = safetensors::serialize([("visual.trunk.norm.weight", foreign)], None).unwrap();
        for file in ["model.safetensors", "open_clip_model.safetensors"] {
            if copy.path().join(file).exists() {
                std::fs::write(copy.path().join(file), &foreign).unwrap();
            }
        }
        assert_eq!(refused(), error);
    }
}

/// Every model that open_clip 3.3 knows by name is taken, or refused in words: which, and how many.
#[test]
fn open_clips_models_are_taken_or_refused_in_words() {
    let file = std::fs::File::open(fixtures("open_clip_models.jsonl.gz")).unwrap();
    let lines = std::io::BufReader::new(flate2::read::GzDecoder::new(file)).lines();
    let checkpoint = Checkpoint::of_folder(&fixtures("towers").join("openclip-vit")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for line in lines {
        let mut config: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let name = config["name"].as_str().unwrap().to_string();
        let size = config["model_cfg"]["vision_cfg"]["image_size"].clone();
        config["preprocess_cfg"] = serde_json::json!({ "size": size });
        std::fs::write(folder.path().join("open_clip_config.json"), config.to_string()).unwrap();
        match ClipConfig::of_folder(folder.path(), &checkpoint) {
            Ok(_) => taken.push(name),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("stands for") && error.contains("needs"), "{name}: {error}");
                refused.push(name);
            }
        }
    }
    println!("taken: {}\nrefused: {}", taken.join(", "), refused.join(", "));
    // Not taken: convolutional towers (ConvNeXt, FastViT, ViTamin), Swin, relative positions, CoCa, mT5's and NLLB's text towers.
    let kinds = ["convnext", "MobileCLIP-S", "MobileCLIP2-S", "ViTamin", "swin", "vit_relpos", "coca", "mt5", "nllb"];
    for name in &refused {
        assert!(kinds.iter().any(|kind| name.starts_with(kind)), "{name} is refused");
    }
    assert_eq!((taken.len(), refused.len()), (100, 44));
}

#[test]
#[ignore = "needs models of full size, see the top of this file"]
fn full_size_towers() {
    let root = std::env::var("TIPI_TOWERS").expect("TIPI_TOWERS names the folder that tests/reference/towers.py wrote");
    println!("{}", gpu().describe());
    println!("| model | image, f32 | text, f32 | image, f16 | text, f16 | image, int8 | text, int8 | seconds |");
    println!("|---|---|---|---|---|---|---|---|");
    for folder in folders(Path::new(&root)) {
        let name = folder.file_name().unwrap().to_str().unwrap().to_string();
        let start = Instant::now();
        let full = errors(&folder, Precision::F32);
        let half = errors(&folder, Precision::F16);
        let bytes = errors(&folder, Precision::Int8);
        let seconds = start.elapsed().as_secs_f64();
        let all = [full.0, full.1, half.0, half.1, bytes.0, bytes.1].map(|error| format!("{error:.1e}")).join(" | ");
        println!("| {name} | {all} | {seconds:.0} |");
        assert!(bytes.0 < INT8 && bytes.1 < INT8, "{name}: {bytes:?} in int8");
        assert!(full.0 < F32 && full.1 < F32 && half.0 < F16 && half.1 < F16, "{name}");
    }
}

/// Pictures of 8 bits go to the GPU as they are and give the bits that their pixels give, in whole batches and in part of one.
#[test]
fn pictures_give_what_their_pixels_give() {
    let clip = Clip::load(gpu(), &Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/picto")).unwrap();
    let size = clip.preprocess.size;
    let pictures: Vec<tipi::low_level::data::Rgb> = (0..5usize)
        .map(|n| {
            let data = (0..3 * size * size).map(|i| (i * (n + 3) % 251) as u8).collect();
            tipi::low_level::data::Rgb::new(size, size, data).unwrap()
        })
        .collect();
    let pixels: Vec<f32> = pictures.iter().flat_map(|picture| clip.view_pixels(picture)).collect();
    let samples: Vec<u8> = pictures.iter().flat_map(|picture| picture.data.clone()).collect();
    let mut encoder = clip.image_encoder(2).unwrap();
    let (mut steps, mut done) = (Vec::new(), 0);
    let of_pictures = encoder.encode_pictures(&samples, &mut |n| steps.push(n)).unwrap();
    let of_pixels = encoder.encode_all(&pixels, &mut |n| done += n).unwrap();
    assert_eq!(of_pictures.original, of_pixels.original);
    assert_eq!((steps, done), (vec![2, 2, 1], 5));
    assert!(encoder.encode_pictures(&samples[1..], &mut |_| {}).is_err());
}
