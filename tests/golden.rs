//! Whole methods against reference cases computed in float64 (`tests/golden/`, or another set of the same form in
//! `TIPI_GOLDEN`). Every `out.*` tensor of a case must be compared: one that is forgotten is a failure, and so is a
//! case of a kind that nobody knows.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tipi::adapt::overlap::{self, Correction, Dropout};
use tipi::adapt::pini::{self, NoisyPrompts};
use tipi::adapt::search::{Found, Grid, Method, linspace, search};
use tipi::adapt::tip::{self, Cache, TipParams};
use tipi::adapt::tip_f;
use tipi::adapt::tip_x::{Psi, TipX, TipXParams};
use tipi::adapt::zero_shot::{self, Classifier};
use tipi::adapt::{argmax, schedule};
use tipi::clip::{Clip, Features, ImageConfig, Prompts, Tokenizer, TowerConfig};
use tipi::data::{Normalize, Rgb, center_crop, resize_center_crop, resize_shortest_edge, to_pixels};
use tipi::gpu::{DeviceOptions, Gpu, Recorder, Tensor};
use tipi::kernels::gemm::{self, Epilogue, Kernel, Layout, Precision, Problem, matmul};
use tipi::kernels::optim::AdamW;
use tipi::kernels::{divergence, normalize};
use tipi::nn::TrainableLinear;

/// The manifest's own bound: FACTOR·f32_err + 2e-6·max_abs.
const FACTOR: f64 = 10.0;

/// Kinds that tipi does not have yet.
const LATER: [&str; 2] = ["dino_training", "pini_cnn_gradients"];

/// A folder of cases.
struct Set {
    root: PathBuf,
    manifest: Value,
    /// Whether every kind must be there: so in tipi's own set.
    complete: bool,
}

impl Set {
    fn open(root: PathBuf, complete: bool) -> Set {
        let path = root.join("manifest.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Set { root, manifest: serde_json::from_str(&text).unwrap(), complete }
    }
}

/// tipi's own cases, on which deliberate mistakes are tried.
fn own() -> &'static Set {
    static OWN: OnceLock<Set> = OnceLock::new();
    OWN.get_or_init(|| Set::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), true))
}

/// The cases to compare with: those of `TIPI_GOLDEN` where it is set.
fn chosen() -> &'static Set {
    static CHOSEN: OnceLock<Set> = OnceLock::new();
    match std::env::var_os("TIPI_GOLDEN") {
        Some(root) => CHOSEN.get_or_init(|| Set::open(root.into(), false)),
        None => own(),
    }
}

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        Gpu::open(&DeviceOptions { checked: Some(true), tune: Some(false), ..DeviceOptions::default() }).unwrap()
    })
}

struct Array {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Array {
    fn f32(&self) -> Vec<f32> {
        self.values.iter().map(|v| *v as f32).collect()
    }

    fn u32(&self) -> Vec<u32> {
        self.values.iter().map(|v| *v as u32).collect()
    }

    fn u8(&self) -> Vec<u8> {
        self.values.iter().map(|v| *v as u8).collect()
    }

    /// Rows of the last dimension.
    fn ids(&self) -> Vec<Vec<u32>> {
        self.u32().chunks(*self.shape.last().unwrap()).map(<[u32]>::to_vec).collect()
    }
}

fn read(path: &Path) -> BTreeMap<String, Array> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let convert = |view: &safetensors::tensor::TensorView<'_>| {
        use safetensors::Dtype;
        let d = view.data();
        match view.dtype() {
            Dtype::F32 => d.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            Dtype::F64 => d.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::I64 => d.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
            Dtype::I32 => d.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            Dtype::I16 => d.chunks_exact(2).map(|b| i16::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            Dtype::U8 => d.iter().map(|b| f64::from(*b)).collect(),
            other => panic!("{}: dtype {other:?}", path.display()),
        }
    };
    file.tensors()
        .into_iter()
        .map(|(name, view)| (name, Array { shape: view.shape().to_vec(), values: convert(&view) }))
        .collect()
}

/// A case, and which of its outputs have been compared.
struct Case {
    name: String,
    root: &'static Path,
    json: &'static Value,
    arrays: BTreeMap<String, Array>,
    compared: BTreeSet<String>,
    worst: (f64, String),
}

impl Case {
    fn input(&self, name: &str) -> &Array {
        self.arrays.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.name))
    }

    fn param(&self, name: &str) -> &'static Value {
        &self.json["params"][name]
    }

    fn strings(&self, name: &str) -> Vec<String> {
        self.param(name).as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }

    fn model(&self) -> Clip {
        Clip::load(gpu(), &self.root.join(self.json["model"].as_str().unwrap())).unwrap()
    }

    /// Largest difference as a share of the bound.
    fn excess(&self, name: &str, got: &[f32]) -> f64 {
        let want = self.input(name);
        assert_eq!(got.len(), want.values.len(), "{}: {name}: {:?}", self.name, want.shape);
        let entry = &self.json["tensors"][name];
        if entry["exact"].as_bool() == Some(true) {
            let equal = got.iter().zip(&want.values).all(|(g, w)| f64::from(*g) == *w);
            return if equal { 0.0 } else { f64::INFINITY };
        }
        let number = |key: &str| entry[key].as_f64().unwrap_or_else(|| panic!("{}: {name}: no {key}", self.name));
        let bound = FACTOR * number("f32_err") + 2e-6 * number("max_abs");
        got.iter()
            .zip(&want.values)
            .map(|(g, w)| {
                let share = (f64::from(*g) - w).abs() / bound.max(f64::MIN_POSITIVE);
                if share.is_nan() { f64::INFINITY } else { share }
            })
            .fold(0.0, f64::max)
    }

    /// Compares, after showing that the comparison rejects an error planted in one element.
    fn compare(&mut self, name: &str, got: &[f32]) {
        let entry = &self.json["tensors"][name];
        let number = |key: &str| entry[key].as_f64().unwrap_or(1.0);
        let mut wrong = got.to_vec();
        let at = wrong.len() / 2;
        let bound = FACTOR * number("f32_err") + 2e-6 * number("max_abs");
        wrong[at] += (1e-3 * (1.0 + number("max_abs"))).max(4.0 * bound) as f32;
        assert!(self.excess(name, &wrong) > 1.0, "{}: {name}: a planted error went unnoticed", self.name);
        let excess = self.excess(name, got);
        assert!(excess <= 1.0, "{}: {name}: {excess:.3} times its bound", self.name);
        if excess > self.worst.0 {
            self.worst = (excess, name.to_string());
        }
        self.compared.insert(name.to_string());
    }

    /// All outputs must have been compared, but for those that belong to methods tipi does not have.
    fn finish(self, later: impl Fn(&str) -> bool) {
        let missed: Vec<_> =
            self.arrays.keys().filter(|k| k.starts_with("out.") && !self.compared.contains(*k) && !later(k)).collect();
        assert!(missed.is_empty(), "{}: not compared: {missed:?}", self.name);
        println!(
            "{:16} {:3} outputs compared, worst {:.3} of its bound ({})",
            self.name,
            self.compared.len(),
            self.worst.0,
            self.worst.1
        );
    }
}

fn cases(set: &'static Set, kind: &str) -> Vec<Case> {
    let all: Vec<Case> = set.manifest["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["kind"] == kind)
        .map(|json| Case {
            name: json["name"].as_str().unwrap().to_string(),
            root: &set.root,
            arrays: json["file"].as_str().map(|f| read(&set.root.join(f))).unwrap_or_default(),
            json,
            compared: BTreeSet::new(),
            worst: (0.0, "-".into()),
        })
        .collect();
    assert!(!all.is_empty() || !set.complete, "no case of kind {kind}");
    all
}

fn host(t: &Tensor) -> Vec<f32> {
    gpu().read(t).unwrap()
}

fn compute(record: impl FnOnce(&mut Recorder) -> tipi::Result<Tensor>) -> Vec<f32> {
    let mut rec = Recorder::new(gpu());
    let y = record(&mut rec).unwrap();
    rec.finish().unwrap().run().unwrap();
    host(&y)
}

/// A classifier's rows [classes, D]; the cases store [D, classes].
fn class_rows(w: &Array) -> Vec<f32> {
    let (d, classes) = (w.shape[0], w.shape[1]);
    (0..classes).flat_map(|c| (0..d).map(move |i| i * classes + c)).map(|i| w.values[i] as f32).collect()
}

/// Rows of length 1.
fn unit(values: &[f32], width: usize) -> Vec<f32> {
    let x = gpu().upload("x", values, &[values.len() / width, width]).unwrap();
    compute(|rec| Ok(normalize::forward(rec, &x)?.y))
}

/// a·bᵀ·scale of host matrices of equal width.
fn product(a: &[f32], b: &[f32], width: usize, scale: f32) -> Vec<f32> {
    let a = gpu().upload("a", a, &[a.len() / width, width]).unwrap();
    let b = gpu().upload("b", b, &[b.len() / width, width]).unwrap();
    compute(|rec| matmul(rec, Layout::Nt, &a, &b, &Epilogue { alpha: scale, ..Epilogue::default() }))
}

/// The sizes of a model's vision transformer.
fn vit(clip: &Clip) -> &TowerConfig {
    match &clip.config.image {
        ImageConfig::Vit { tower, .. } => tower,
        ImageConfig::ResNet(_) => panic!("a ResNet"),
    }
}

#[test]
fn every_case_is_of_a_known_kind() {
    let known = [
        "clip_forward",
        "zero_shot",
        "image_preparation",
        "tokenizer",
        "cache_methods",
        "tip_adapter_f",
        "adapter_gradients",
        "adapter_training",
        "pini_training",
        "schedules",
    ];
    for case in chosen().manifest["cases"].as_array().unwrap() {
        let kind = case["kind"].as_str().unwrap();
        if LATER.contains(&kind) {
            println!("{:16} waits for its method ({kind})", case["name"].as_str().unwrap());
        } else {
            assert!(known.contains(&kind), "case {} is of unknown kind {kind}", case["name"]);
        }
    }
}

#[test]
fn clip_forward() {
    for mut case in cases(chosen(), "clip_forward") {
        let clip = case.model();
        clip_forward_case(&mut case, &clip);
        case.finish(|_| false);
    }
}

/// Features by each kernel that this adapter can run, with weights of f32 and of f16 as far as it takes them, and without
/// optional features.
#[test]
fn clip_features_by_every_kernel() {
    let mut options = vec![(None, true)];
    options.extend(Kernel::ALL.into_iter().filter(|k| k.runs_on(gpu().capabilities())).map(|k| (Some(k), false)));
    let (mut rounded, mut halves) = (0, 0);
    for (kernel, portable) in options {
        let gpu = Gpu::open(&DeviceOptions {
            checked: Some(true),
            tune: Some(false),
            kernel: kernel.map(|k| k.name().to_string()),
            portable,
            ..DeviceOptions::default()
        })
        .unwrap();
        let name = kernel.map_or("portable", Kernel::name);
        let mut runs = 0;
        for mut case in cases(chosen(), "clip_forward") {
            let pixels = case.input("in.pixel_values").f32();
            let ids = case.input("in.input_ids").ids();
            let folder = case.root.join(case.json["model"].as_str().unwrap());
            // Nothing where the products would go by another kernel than the one that is looked at.
            let encode = |precision| {
                let clip = Clip::load_as(&gpu, &folder, precision).unwrap();
                let weight = &clip.text.transformer.blocks[0].up.weight;
                let problem =
                    Problem { layout: Layout::Nt, m: 50, n: weight.rows(), k: weight.cols(), b: weight.dtype() };
                if kernel.is_some_and(|kernel| gemm::choose(&gpu, &problem).ok() != Some(kernel)) {
                    return None;
                }
                let image = clip.image_encoder(3).unwrap().encode(&pixels, &mut |_| {}).unwrap();
                Some((image, clip.text.encode(&ids, clip.config.end).unwrap()))
            };
            if let Some((image, text)) = encode(Precision::F32) {
                runs += 1;
                case.compare("out.image_features", &image);
                case.compare("out.text_features", &text);
            }
            let Some((image, text)) = encode(Precision::F16) else { continue };
            (runs, halves) = (runs + 1, halves + 1);
            for (tensor, got) in [("out.image_features", image), ("out.text_features", text)] {
                let want = &case.input(tensor).values;
                let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
                let error =
                    norm(&mut got.iter().zip(want).map(|(g, w)| f64::from(*g) - w)) / norm(&mut want.iter().copied());
                println!("{}: {name}, f16: {tensor} off by {error:.1e} of its length", case.name);
                assert!(error < 5e-3, "{}: {name}, f16: {tensor} off by {error}", case.name);
                // Were it f32 all the way, the error would be a hundred times smaller; but a checkpoint may hold nothing
                // that f16 does not.
                rounded += usize::from(error > 1e-5);
            }
        }
        assert!(runs > 0, "{name} computed nothing");
    }
    assert!(2 * rounded >= halves, "weights were not rounded to f16");
}

fn clip_forward_case(case: &mut Case, clip: &Clip) {
    let pixels = case.input("in.pixel_values").f32();
    let batch = case.input("in.pixel_values").shape[0];
    let ids = case.input("in.input_ids").ids();
    let d = clip.config.embedding;

    // The tokenizer gives the same ids, up to the padding.
    let tokenizer = clip.tokenizer().unwrap();
    for (text, want) in case.strings("texts").iter().zip(&ids) {
        let got = tokenizer.prompt(text).unwrap();
        assert_eq!(got, want[..got.len()], "{}: '{text}'", case.name);
        let pad = case.param("pad_id").as_u64().unwrap() as u32;
        assert!(want[got.len()..].iter().all(|id| *id == pad));
    }

    let ends: Vec<f32> = ids.iter().map(|row| clip.config.end.position(row).unwrap() as f32).collect();
    case.compare("out.end_positions", &ends);

    // As people use it: pictures through a batch that does not divide their number, texts cut at the end token.
    let image = clip.image_encoder(3).unwrap().encode(&pixels, &mut |_| {}).unwrap();
    let text = clip.text.encode(&ids, clip.config.end).unwrap();
    case.compare("out.image_features", &image);
    case.compare("out.text_features", &text);
    let (image_unit, text_unit) = (unit(&image, d), unit(&text, d));
    case.compare("out.image_unit", &image_unit);
    case.compare("out.text_unit", &text_unit);
    case.compare("out.logits_per_image", &product(&image_unit, &text_unit, d, clip.logit_scale));

    // The insides, from the kernels that training uses.
    let taps = clip.image.vit().unwrap().tapped(&pixels, batch).unwrap();
    let first = |t: &Tensor, tokens: usize| host(t)[..t.len() / t.rows() * tokens].to_vec();
    let tokens = clip.config.image_tokens();
    let prefix = "out.act.image";
    case.compare(&format!("{prefix}.embedded"), &first(&taps.embedded, tokens));
    case.compare(&format!("{prefix}.pre"), &first(&taps.pre, tokens));
    compare_insides(case, prefix, &taps.blocks, &taps.last, vit(clip).heads, tokens);
    case.compare(&format!("{prefix}.pooled"), &first(&taps.pooled, 1));
    case.compare("out.image_features", &host(&taps.features));

    let whole = Prompts::pack_whole(&ids, clip.config.end).unwrap();
    let taps = clip.text.tapped(&whole).unwrap();
    let tokens = ids[0].len();
    let prefix = "out.act.text";
    compare_insides(case, prefix, &taps.blocks, &taps.last, clip.config.text.heads, tokens);
    case.compare(&format!("{prefix}.pooled"), &first(&taps.pooled, 1));
    case.compare("out.text_features", &host(&taps.features));
}

fn compare_insides(
    case: &mut Case,
    prefix: &str,
    blocks: &[Tensor],
    last: &tipi::nn::Taps,
    heads: usize,
    tokens: usize,
) {
    let first = |t: &Tensor| host(t)[..t.cols() * tokens].to_vec();
    for (i, block) in blocks.iter().enumerate() {
        case.compare(&format!("{prefix}.block{i}"), &first(block));
    }
    // Ours is [rows, heads, keys], the reference's [1, heads, rows, keys].
    let weights = host(&last.weights);
    let keys = last.weights.cols();
    let by_head: Vec<f32> = (0..heads)
        .flat_map(|h| (0..tokens).map(move |t| (t * heads + h) * keys))
        .flat_map(|at| weights[at..at + tokens].to_vec())
        .collect();
    case.compare(&format!("{prefix}.last.prob"), &by_head);
    let rest = [
        ("n1", &last.n1),
        ("mixed", &last.mixed),
        ("mid", &last.mid),
        ("n2", &last.n2),
        ("up", &last.up),
        ("mlp", &last.mlp),
    ];
    for (name, tensor) in rest {
        case.compare(&format!("{prefix}.last.{name}"), &first(tensor));
    }
}

/// A wrong activation, eps, width of the head or end token "still works": the cases must notice each.
#[test]
fn clip_forward_notices_a_wrong_configuration() {
    let case = cases(own(), "clip_forward")
        .into_iter()
        .find(|c| c.root.join(c.json["model"].as_str().unwrap()).join("config.json").exists());
    let Some(case) = case else { panic!("no case with a Hugging Face folder") };
    let folder = case.root.join(case.json["model"].as_str().unwrap());
    let config: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    let (pixels, ids) = (case.input("in.pixel_values").f32(), case.input("in.input_ids").ids());
    let mut mistakes: Vec<(&str, &str, Value)> = Vec::new();
    for side in ["vision_config", "text_config"] {
        let act = if config[side]["hidden_act"] == "gelu" { "quick_gelu" } else { "gelu" };
        mistakes.push((side, "hidden_act", act.into()));
        mistakes.push((side, "layer_norm_eps", 1e-3.into()));
        let heads = config[side]["num_attention_heads"].as_u64().unwrap();
        mistakes.push((side, "num_attention_heads", if heads == 1 { 2 } else { 1 }.into()));
    }
    for (side, key, value) in mistakes {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let mut wrong = config.clone();
        wrong[side][key] = value;
        std::fs::write(copy.path().join("config.json"), wrong.to_string()).unwrap();
        let clip = Clip::load(gpu(), copy.path()).unwrap();
        let excess = if side == "vision_config" {
            case.excess("out.image_features", &clip.image_encoder(4).unwrap().encode(&pixels, &mut |_| {}).unwrap())
        } else {
            case.excess("out.text_features", &clip.text.encode(&ids, clip.config.end).unwrap())
        };
        println!("wrong {side}.{key}: {excess:.0} times the bound");
        assert!(excess > 10.0, "a wrong {side}.{key} went unnoticed: {excess}");
    }
}

#[test]
fn zero_shot() {
    for mut case in cases(chosen(), "zero_shot") {
        let clip = case.model();
        let (classes, templates) = (case.strings("classnames"), case.strings("templates"));
        let d = clip.config.embedding;
        let texts = zero_shot::prompts(&classes, &templates).unwrap();
        for (text, want) in texts.iter().zip(case.input("in.input_ids").ids()) {
            let got = clip.tokenizer().unwrap().prompt(text).unwrap();
            assert_eq!(got, want[..got.len()], "{}: '{text}'", case.name);
        }
        let mut classifier = Classifier::new(&clip, &classes, &templates).unwrap();
        classifier.scale = case.param("scale").as_f64().unwrap() as f32;
        let weights = host(&classifier.weights);
        let by_column: Vec<f32> = (0..d).flat_map(|i| weights.iter().skip(i).step_by(d).copied()).collect();
        case.compare("out.class_weights", &by_column);
        let pixels = case.input("in.pixel_values").f32();
        let features = clip.image_encoder(4).unwrap().encode(&pixels, &mut |_| {}).unwrap();
        case.compare("out.logits", &classifier.logits(&features, gpu()).unwrap());

        // Planted: templates averaged without normalising each first.
        let raw = clip.encode_texts(&texts).unwrap();
        let mean: Vec<f32> = raw
            .chunks(templates.len() * d)
            .flat_map(|c| (0..d).map(|i| c.iter().skip(i).step_by(d).sum::<f32>()).collect::<Vec<_>>())
            .collect();
        let wrong = unit(&mean, d);
        let wrong: Vec<f32> = (0..d).flat_map(|i| wrong.iter().skip(i).step_by(d).copied()).collect();
        // With one template it makes no difference.
        assert!(templates.len() == 1 || case.excess("out.class_weights", &wrong) > 10.0);
        case.finish(|_| false);
    }
}

#[test]
fn image_preparation() {
    for mut case in cases(chosen(), "image_preparation") {
        let size = case.param("size").as_u64().unwrap() as usize;
        let count = case.param("shapes_wh").as_array().unwrap().len();
        for i in 0..count {
            let input = case.input(&format!("in.image{i}"));
            let picture = Rgb::new(input.shape[1], input.shape[0], input.u8()).unwrap();
            let resized = resize_shortest_edge(&picture, size);
            let as_f32: Vec<f32> = resized.data.iter().map(|v| f32::from(*v)).collect();
            let cropped = center_crop(&resized, size);
            assert_eq!(cropped, resize_center_crop(&picture, size), "the fused path differs for image {i}");
            case.compare(&format!("out.resized{i}"), &as_f32);
            case.compare(&format!("out.pixels{i}"), &to_pixels(&cropped, &Normalize::CLIP));
        }
        case.finish(|_| false);
    }
}

#[test]
fn tokenizer() {
    for case in cases(chosen(), "tokenizer") {
        let folder = case.root.join(case.json["folder"].as_str().unwrap());
        let cases: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("cases.json")).unwrap()).unwrap();
        let context = cases["context"].as_u64().unwrap() as usize;
        let tokenizer = Tokenizer::open(&folder.join("tokenizer.json"), context).unwrap();
        let numbers = |v: &Value| v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect::<Vec<_>>();
        let texts = cases["cases"].as_array().unwrap();
        assert!(!texts.is_empty());
        for entry in texts {
            let text = entry["text"].as_str().unwrap();
            assert_eq!(tokenizer.ids(text).unwrap(), numbers(&entry["ids"]), "'{text}'");
            let mut padded = tokenizer.prompt(text).unwrap();
            padded.resize(context, 0);
            assert_eq!(padded, numbers(&entry["padded"]), "'{text}'");
        }
        println!("{:16} {} texts equal", case.name, texts.len());
    }
}

fn floats(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

fn spaced(v: &Value) -> Vec<f64> {
    let v = v.as_array().unwrap();
    assert_eq!(v[0], "linspace");
    linspace(v[1].as_f64().unwrap(), v[2].as_f64().unwrap(), v[3].as_u64().unwrap() as usize)
}

/// One form of the cache methods: plain, or corrected, whose names end in "pp".
struct CacheForm {
    suffix: &'static str,
    tip: &'static str,
    tip_x: &'static str,
}

const CACHE_FORMS: [CacheForm; 2] = [
    CacheForm { suffix: "", tip: "tip", tip_x: "tipx" },
    CacheForm { suffix: "_corrected", tip: "tippp", tip_x: "tipxpp" },
];

/// A split's features as a form takes them: adapted ones beside the original ones in the corrected form.
fn split_features(case: &Case, split: &str, form: &CacheForm) -> Features {
    let read = |suffix: &str| case.input(&format!("in.{split}.f{suffix}")).f32();
    Features { original: read(""), adapted: (!form.suffix.is_empty()).then(|| read(form.suffix)) }
}

#[test]
fn cache_methods() {
    for mut case in cases(chosen(), "cache_methods") {
        let classes = case.param("classes").as_u64().unwrap() as usize;
        let w = case.input("in.W");
        let d = w.shape[0];
        let weights = class_rows(w);
        let classifier = Classifier::from_weights(gpu(), &weights, classes, 100.0).unwrap();
        let labels = case.input("in.cache_labels").u32();
        let test = case.input("in.test.f").f32();
        case.compare("out.zero_shot", &product(&test, &weights, d, 100.0));
        let views = case.input("in.views");
        let original = tip::keys(gpu(), &views.f32(), views.shape[0], d).unwrap();
        for form in &CACHE_FORMS {
            let views = case.input(&format!("in.views{}", form.suffix));
            let keys = tip::keys(gpu(), &views.f32(), views.shape[0], d).unwrap();
            case.compare(&format!("out.keys{}", form.suffix), &keys);
            let affinity = format!("out.affinity{}", form.suffix);
            let rows = case.input(&affinity).shape[0];
            let queries = case.input(&format!("in.test.f{}", form.suffix)).f32();
            case.compare(&affinity, &product(&queries[..rows * d], &keys, d, 1.0));
            let cache = Cache::new(gpu(), &keys, &labels, classes, d).unwrap();
            tip_case(&mut case, form, &classifier, &cache, (&keys, &labels));
            let tip_x = TipX::new(gpu(), &classifier, cache, &original, &labels).unwrap();
            tip_x_case(&mut case, form, &classifier, &tip_x, &labels);
        }
        case.finish(|_| false);
    }
}

/// Right test rows at the best point, within the rows that are too near to call.
fn check_test_count(case: &Case, method: &str, logits: &[f32], classes: usize) {
    let best = &case.param("best")[method];
    let labels = case.input("in.test.labels").u32();
    let right = logits.chunks(classes).zip(&labels).filter(|(r, l)| argmax(r) == **l as usize).count();
    let off = right.abs_diff(best["test_correct"].as_u64().unwrap() as usize) as u64;
    assert!(off <= best["test_near"].as_u64().unwrap(), "{}: {method}: test count off by {off}", case.name);
}

fn best_params(case: &Case, method: &str) -> TipXParams {
    let best = &case.param("best")[method];
    let number = |key: &str| best[key].as_f64().unwrap_or(0.0);
    TipXParams { alpha: number("alpha"), beta: number("beta"), gamma: number("gamma") }
}

fn tip_case(
    case: &mut Case,
    form: &CacheForm,
    classifier: &Classifier,
    cache: &Cache,
    (keys, labels): (&[f32], &[u32]),
) {
    let (classes, d) = (classifier.classes(), classifier.weights.cols());
    let method = form.tip;
    let test = split_features(case, "test", form);
    let logits = |cache: &Cache, params: TipParams| cache.logits(gpu(), classifier, &test, params).unwrap();
    let probes: Vec<Vec<f64>> = case.param("probes_alpha_beta_gamma").as_array().unwrap().iter().map(floats).collect();
    for (i, p) in probes.iter().enumerate() {
        case.compare(&format!("out.probe{i}.{method}"), &logits(cache, TipParams { alpha: p[0], beta: p[1] }));
    }
    // Planted: keys that are not of length 1. A probe with α or β of zero cannot see that.
    let long: Vec<f32> = keys.iter().map(|k| k * 1.01).collect();
    let wrong = Cache::new(gpu(), &long, labels, classes, d).unwrap();
    let noticed = probes
        .iter()
        .enumerate()
        .filter(|(_, p)| p[0] * p[1] > 0.5)
        .map(|(i, p)| {
            let wrong = logits(&wrong, TipParams { alpha: p[0], beta: p[1] });
            case.excess(&format!("out.probe{i}.{method}"), &wrong)
        })
        .fold(None, |most: Option<f64>, v| Some(most.map_or(v, |m| m.max(v))));
    assert!(noticed.is_none_or(|v| v > 10.0), "{}: {method}: keys of another length went unnoticed", case.name);

    let at_best = logits(cache, best_params(case, method).tip());
    case.compare(&format!("out.best.{method}"), &at_best);
    check_test_count(case, method, &at_best, classes);

    let grid = case.param("grid");
    let grid_ab = Grid::alpha_beta(spaced(&grid["alphas"]), spaced(&grid["betas"]));
    let method_of = Method::Tip(cache);
    check_grid(case, method, &grid_ab, classifier, method_of, &split_features(case, "val", form));
    if form.suffix.is_empty() {
        let own = &grid["tip_search"];
        let (tops, steps) = (floats(&own["search_scale"]), floats(&own["search_step"]));
        let grid = Grid::tip_adapter((tops[0], tops[1]), (steps[0] as usize, steps[1] as usize));
        let last = floats(&own["last_beta_alpha"]);
        assert!(
            (grid.betas.last().unwrap() - last[0]).abs() < 1e-9 && (grid.alphas.last().unwrap() - last[1]).abs() < 1e-9
        );
        check_grid(case, "tip_search", &grid, classifier, method_of, &split_features(case, "val", form));
    }
}

/// Normalised rows on the GPU.
fn unit_rows(values: &[f32], d: usize) -> Tensor {
    gpu().upload("rows", &unit(values, d), &[values.len() / d, d]).unwrap()
}

fn tip_x_case(case: &mut Case, form: &CacheForm, classifier: &Classifier, tip_x: &TipX, labels: &[u32]) {
    let (classes, d) = (classifier.classes(), classifier.weights.cols());
    let method = form.tip_x;
    let test = split_features(case, "test", form);
    let psi = tip_x.range(gpu(), classifier, &test).unwrap();
    let f = unit_rows(&test.original, d);
    let rows = f.rows();

    // The divergences themselves: ours have the keys sorted by class, the reference's as they were given.
    let mut rec = Recorder::new(gpu());
    let (matrix, own) = tip_x.record_divergences(&mut rec, classifier, &f).unwrap();
    rec.finish().unwrap().run().unwrap();
    let (matrix, own) = (host(&matrix), host(&own.stats));
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by_key(|i| labels[*i]);
    let mut kl = vec![0f32; rows * labels.len()];
    for i in 0..rows {
        for (sorted, given) in order.iter().enumerate() {
            kl[i * labels.len() + given] = matrix[i * labels.len() + sorted] + own[2 * i];
        }
    }
    if form.suffix.is_empty() {
        case.compare("out.kl", &kl);
    }
    let name = format!("out.kl_scaled{}", form.suffix);
    let r = psi.rescale();
    let scaled: Vec<f32> = kl[..case.input(&name).values.len()]
        .iter()
        .map(|v| (f64::from(r.slope) * (f64::from(*v) - f64::from(r.low)) + f64::from(r.floor)) as f32)
        .collect();
    case.compare(&name, &scaled);
    let term = |psi: Psi| compute(|rec| tip_x.record_term(rec, classifier, &f, psi));
    let name = format!("out.kl_logits{}", form.suffix);
    case.compare(&name, &term(psi));
    // Planted: ψ rescaled to the range of other pictures, as SuS-X's code rescales.
    let val = split_features(case, "val", form);
    let other = tip_x.range(gpu(), classifier, &val).unwrap();
    if other != psi {
        assert!(case.excess(&name, &term(other)) > 10.0, "{}: {method}: another range went unnoticed", case.name);
    }

    // The batch form of the paper: the range is that of the pictures evaluated.
    let logits = |params: TipXParams| tip_x.logits(gpu(), classifier, &test, params, None).unwrap();
    for (i, p) in case.param("probes_alpha_beta_gamma").as_array().unwrap().iter().map(floats).enumerate() {
        let params = TipXParams { alpha: p[0], beta: p[1], gamma: p[2] };
        case.compare(&format!("out.probe{i}.{method}"), &logits(params));
        // With the same range frozen, one picture alone gets the same answer.
        let one = test.rows(&[rows - 1], d).unwrap();
        let alone = tip_x.logits(gpu(), classifier, &one, params, Some(psi)).unwrap();
        let together = &logits(params)[(rows - 1) * classes..];
        let top = together.iter().fold(1f32, |m, v| m.max(v.abs()));
        assert!(alone.iter().zip(together).all(|(a, b)| (a - b).abs() <= 1e-5 * top), "{}: {method}", case.name);
    }
    let at_best = logits(best_params(case, method));
    case.compare(&format!("out.best.{method}"), &at_best);
    check_test_count(case, method, &at_best, classes);

    let grid = case.param("grid");
    let grid =
        Grid { gammas: spaced(&grid["gammas"]), ..Grid::alpha_beta(spaced(&grid["alphas"]), spaced(&grid["betas"])) };
    check_grid(case, method, &grid, classifier, Method::TipX(tip_x, other), &val);
}

fn check_grid(
    case: &mut Case,
    method: &str,
    grid: &Grid,
    classifier: &Classifier,
    searched: Method<'_>,
    val: &Features,
) {
    let labels = case.input("in.val.labels").u32();
    let run =
        |labels: &[u32]| -> Found { search(gpu(), classifier, searched, val, labels, grid, &mut |_| {}).unwrap() };
    let found = run(&labels);
    let (correct, near) = (format!("out.grid.{method}.correct"), format!("out.grid.{method}.near"));
    let differs = |counts: &[u32]| {
        let (want, near) = (case.input(&correct).u32(), case.input(&near).u32());
        assert_eq!(counts.len(), want.len());
        counts.iter().zip(&want).zip(&near).filter(|((g, w), n)| g.abs_diff(**w) > **n).count()
    };
    assert_eq!(differs(&found.counts), 0, "{}: {method}: points off by more than their near rows", case.name);
    // Planted: labels moved round by one.
    let wrong: Vec<u32> = labels.iter().map(|l| (l + 1) % classifier.classes() as u32).collect();
    assert!(differs(&run(&wrong).counts) > grid.len() / 2, "{}: {method}: other labels went unnoticed", case.name);
    let best = &case.param("best")[method];
    if best["unambiguous"].as_bool().unwrap() {
        let want = best_params(case, method);
        let off = |got: f64, want: f64| (got - want).abs() > 1e-9;
        let p = found.params;
        assert!(
            !off(p.alpha, want.alpha) && !off(p.beta, want.beta) && !off(p.gamma, want.gamma),
            "{}: {method}: {p:?} for {want:?}",
            case.name
        );
    }
    let off = u64::from(found.correct).abs_diff(best["val_correct"].as_u64().unwrap());
    assert!(off <= u64::from(*case.input(&near).u32().iter().max().unwrap()));
    case.compared.insert(correct);
    case.compared.insert(near);
}

/// Centring before the product is what keeps f32 exact enough: without it, as Σ p·log p − p·log q, the wide case fails.
#[test]
fn the_naive_divergence_is_noticed() {
    let mut worst = 0f64;
    for case in cases(own(), "cache_methods") {
        let classes = case.param("classes").as_u64().unwrap() as usize;
        let w = case.input("in.W");
        let d = w.shape[0];
        let test = unit(&case.input("in.test.f").f32(), d);
        let views = case.input("in.views");
        let keys = tip::keys(gpu(), &views.f32(), views.shape[0], d).unwrap();
        let logs = |rows: &[f32]| -> Vec<Vec<f32>> {
            rows.chunks(d)
                .map(|row| {
                    let z: Vec<f32> = (0..classes)
                        .map(|c| {
                            2.0 * row.iter().enumerate().map(|(i, v)| v * w.values[i * classes + c] as f32).sum::<f32>()
                        })
                        .collect();
                    let total = z.iter().map(|v| v.exp()).sum::<f32>().ln();
                    z.iter().map(|v| v - total).collect()
                })
                .collect()
        };
        let (p, q) = (logs(&test), logs(&keys));
        let kl: Vec<f32> = p
            .iter()
            .flat_map(|p| {
                let own: f32 = p.iter().map(|l| l.exp() * l).sum();
                q.iter().map(move |q| own - p.iter().zip(q).map(|(p, q)| p.exp() * q).sum::<f32>()).collect::<Vec<_>>()
            })
            .collect();
        let ours = case.excess("out.kl", &{
            let z = |rows: &[f32]| product(rows, &class_rows(w), d, 2.0);
            let (zp, zq) = (z(&test), z(&keys));
            let up = |v: &[f32]| gpu().upload("z", v, &[v.len() / classes, classes]).unwrap();
            let (zp, zq) = (up(&zp), up(&zq));
            let mut rec = Recorder::new(gpu());
            let (p, q) =
                (divergence::distributions(&mut rec, &zp).unwrap(), divergence::distributions(&mut rec, &zq).unwrap());
            rec.finish().unwrap().run().unwrap();
            let part: Vec<f32> = host(&q.stats).chunks(2).map(|s| s[1]).collect();
            let part = gpu().upload("part", &part, &[part.len()]).unwrap();
            let own = host(&p.stats);
            let n = part.len();
            let m = compute(|rec| divergence::matrix(rec, &p, &q, &part));
            m.iter().enumerate().map(|(i, v)| v + own[2 * (i / n)]).collect::<Vec<_>>()
        });
        let naive = case.excess("out.kl", &kl);
        println!("{}: divergences at {ours:.2} of their bound, naively {naive:.2}", case.name);
        assert!(ours <= 1.0 && ours < naive);
        worst = worst.max(naive / ours);
    }
    assert!(worst > 5.0, "the naive form is at most {worst} times worse");
}

#[test]
fn tip_adapter_f() {
    for mut case in cases(chosen(), "tip_adapter_f") {
        let worst = tip_f_case(&mut case, None);
        assert!(worst <= 1.0);
        case.finish(|_| false);
    }
}

#[test]
fn tip_adapter_f_notices_mistakes() {
    for mistake in ["eps", "decay", "rate", "beta"] {
        let mut worst = 0f64;
        for mut case in cases(own(), "tip_adapter_f") {
            worst = worst.max(tip_f_case(&mut case, Some(mistake)));
        }
        println!("wrong {mistake}: {worst:.0} times the bound");
        assert!(worst > 10.0, "a wrong {mistake} went unnoticed: {worst}");
    }
}

/// Runs a case; with a mistake nothing is compared and the largest excess of what training leaves is given.
fn tip_f_case(case: &mut Case, mistake: Option<&str>) -> f64 {
    let params = &case.json["params"];
    let number = |key: &str| params[key].as_f64().unwrap();
    let classes = case.param("classes").as_u64().unwrap() as usize;
    let w = case.input("in.W");
    let d = w.shape[0];
    let weights = class_rows(w);
    let classifier = Classifier::from_weights(gpu(), &weights, classes, 100.0).unwrap();
    let (keys, labels) = (case.input("in.keys").f32(), case.input("in.cache_labels").u32());
    let cache = Cache::new(gpu(), &keys, &labels, classes, d).unwrap();
    let mut initial = TipParams { alpha: number("alpha"), beta: number("beta") };
    if mistake == Some("beta") {
        initial.beta *= 1.01;
    }
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by_key(|i| labels[*i]);
    // Ours are sorted by class, the reference's as they were given.
    let unsort = |sorted: Vec<f32>| {
        let mut rows = vec![0f32; sorted.len()];
        for (row, at) in sorted.chunks(d).zip(&order) {
            rows[at * d..(at + 1) * d].copy_from_slice(row);
        }
        rows
    };
    let trainer = tip_f::Trainer::new(gpu(), &classifier, &cache, initial).unwrap();
    let step = trainer.step(case.input("in.step0.labels").values.len()).unwrap();
    let betas = floats(case.param("betas"));
    let mut optimizer =
        AdamW { lr: 0.0, betas: (betas[0], betas[1]), eps: number("eps"), weight_decay: number("weight_decay") };
    match mistake {
        Some("eps") => optimizer.eps = 1e-8,
        Some("decay") => optimizer.weight_decay = 0.0,
        _ => {}
    }
    let total = case.param("total_steps").as_u64().unwrap() as usize;
    for (i, lr) in floats(case.param("lr_per_step")).into_iter().enumerate() {
        assert!((schedule::cosine(i, total, number("lr")) - lr).abs() < 1e-12);
        optimizer.lr = if mistake == Some("rate") && i == 1 { lr * 1.01 } else { lr };
        let (f, labels) = (case.input(&format!("in.step{i}.f")).f32(), case.input(&format!("in.step{i}.labels")).u32());
        trainer.run(&step, &f, &labels, optimizer, i as u32 + 1).unwrap();
        if mistake.is_none() {
            case.compare(&format!("out.step{i}.loss"), &host(&step.loss));
            case.compare(&format!("out.step{i}.grad"), &unsort(host(&step.grad)));
            case.compare(&format!("out.step{i}.keys"), &unsort(host(&trainer.keys.keys)));
        }
    }
    let last = unsort(host(&trainer.keys.keys));
    let delta: Vec<f32> = last.iter().zip(&keys).map(|(e, s)| (f64::from(*e) - f64::from(*s)) as f32).collect();
    if mistake.is_none() {
        case.compare("out.delta", &delta);
        return 0.0;
    }
    case.excess("out.delta", &delta)
}

/// The correction and the head of a case.
fn adapter_of(case: &Case, clip: &Clip) -> (Correction, TrainableLinear, Vec<String>) {
    let names = overlap::parameter_names(clip.image.vit().unwrap().transformer.blocks.len());
    let values: Vec<Vec<f32>> = names.iter().map(|n| case.input(&format!("in.param.{n}")).f32()).collect();
    let bottleneck = case.param("bottleneck").as_u64().unwrap() as usize;
    let scale = case.param("scale").as_f64().unwrap() as f32;
    let correction = Correction::upload(gpu(), &values, clip.image.vit().unwrap().width(), bottleneck, scale).unwrap();
    let classes = case.param("classes").as_u64().unwrap() as usize;
    let (w, b) = (case.input("in.param.predictor.weight").f32(), case.input("in.param.predictor.bias").f32());
    let head = TrainableLinear::upload(gpu(), "head", classes, clip.config.embedding, &w, &b).unwrap();
    let mut all = names;
    all.extend(["predictor.weight".to_string(), "predictor.bias".to_string()]);
    (correction, head, all)
}

#[test]
fn adapter_gradients() {
    for mut case in cases(chosen(), "adapter_gradients") {
        let clip = case.model();
        let (correction, head, names) = adapter_of(&case, &clip);
        let pixels = case.input("in.pixel_values").f32();
        let labels = case.input("in.labels").u32();
        let n = labels.len();

        // As people use it: both kinds of features from one call, in a batch that does not divide the number.
        let both =
            clip.image_encoder_with(4, Some(&correction.blocks)).unwrap().encode_all(&pixels, &mut |_| {}).unwrap();
        case.compare("out.features_plain", &both.original);
        case.compare("out.features", both.adapted.as_ref().unwrap());
        assert!(case.excess("out.features", &both.original) > 10.0, "the adapter must change something");

        let taps = clip.image.vit().unwrap().tapped_adapted(&pixels, n, &correction.blocks).unwrap();
        let tokens = clip.image.vit().unwrap().picture_tokens();
        let first = |t: &Tensor| host(t)[..t.cols() * tokens].to_vec();
        for (i, block) in taps.blocks.iter().enumerate() {
            case.compare(&format!("out.act.image.block{i}"), &first(block));
        }
        case.compare("out.act.image.last.adapter", &first(&taps.branch));

        let trainer = overlap::Trainer::new(&clip, correction, head).unwrap();
        for (dropout, prefix) in [(Dropout::Off, "out"), (Dropout::Given, "out.dropped")] {
            let step = trainer.step(n, dropout).unwrap();
            for (i, mask) in step.masks.iter().enumerate() {
                gpu().write(mask, &case.input(&format!("in.drop{i}")).f32()).unwrap();
            }
            trainer.run(&step, (&pixels, &labels), (1.0, true), (0, 0)).unwrap();
            if dropout == Dropout::Off {
                case.compare("out.features", &host(&step.features));
            }
            case.compare(&format!("{prefix}.logits"), &host(&step.logits));
            case.compare(&format!("{prefix}.loss"), &host(&step.loss));
            for (name, grad) in names.iter().zip(&step.grads) {
                let name = format!("{prefix}.grad.{name}");
                if case.has(&name) {
                    case.compare(&name, &host(grad));
                }
            }
        }
        case.finish(|_| false);
    }
}

#[test]
fn adapter_training() {
    for mut case in cases(chosen(), "adapter_training") {
        let worst = adapter_training_case(&mut case, None, 99);
        assert!(worst <= 1.0);
        case.finish(|_| false);
    }
}

/// A batch in parts, whose gradients are added up, takes the same steps.
#[test]
fn adapter_training_in_parts() {
    for mut case in cases(own(), "adapter_training") {
        let worst = adapter_training_case(&mut case, Some("nothing"), 4);
        assert!(worst <= 1.0, "{}: {worst:.3} times the bound", case.name);
    }
}

#[test]
fn adapter_training_notices_mistakes() {
    for mistake in ["decay", "rate", "scale", "shares"] {
        let mut worst = 0f64;
        for mut case in cases(own(), "adapter_training") {
            worst = worst.max(adapter_training_case(&mut case, Some(mistake), 4));
        }
        println!("wrong {mistake}: {worst:.0} times the bound");
        assert!(worst > 10.0, "a wrong {mistake} went unnoticed: {worst}");
    }
}

/// Runs a case in parts of up to `micro` pictures; with a mistake nothing is compared and the largest excess of what
/// training leaves is given.
fn adapter_training_case(case: &mut Case, mistake: Option<&str>, micro: usize) -> f64 {
    let clip = case.model();
    let (mut correction, head, names) = adapter_of(case, &clip);
    if mistake == Some("scale") {
        correction.blocks.iter_mut().for_each(|b| b.scale *= 1.01);
    }
    let trainer = overlap::Trainer::new(&clip, correction, head).unwrap();
    let number = |key: &str| case.param(key).as_f64().unwrap();
    let betas = floats(case.param("betas"));
    let mut optimizer = AdamW {
        lr: number("lr"),
        betas: (betas[0], betas[1]),
        eps: number("eps"),
        weight_decay: number("weight_decay"),
    };
    if mistake == Some("decay") {
        optimizer.weight_decay = 0.0;
    }
    for i in 0.. {
        let name = format!("in.step{i}.pixel_values");
        if !case.has(&name) {
            break;
        }
        let (pixels, labels) = (case.input(&name).f32(), case.input(&format!("in.step{i}.labels")).u32());
        let one = pixels.len() / labels.len();
        for (part, chosen) in labels.chunks(micro).enumerate() {
            let step = trainer.step(chosen.len(), Dropout::Off).unwrap();
            let at = part * micro * one;
            let share = chosen.len() as f32 / labels.len() as f32;
            let share = if mistake == Some("shares") { 1.0 / labels.len().div_ceil(micro) as f32 } else { share };
            trainer.run(&step, (&pixels[at..at + chosen.len() * one], chosen), (share, part == 0), (0, 0)).unwrap();
            if mistake.is_none() {
                for (name, grad) in names.iter().zip(&step.grads) {
                    let name = format!("out.step{i}.grad.{name}");
                    if case.has(&name) {
                        case.compare(&name, &host(grad));
                    }
                }
            }
        }
        if mistake.is_none() {
            case.compare(&format!("out.step{i}.loss"), &[trainer.loss().unwrap()]);
        }
        let changed = AdamW { lr: if mistake == Some("rate") { 1.01 } else { 1.0 } * optimizer.lr, ..optimizer };
        trainer.update(changed, i as u32 + 1).unwrap();
    }
    // What predicts afterwards: the trained adapters in the tower as people run it.
    let mut encoder = clip.image_encoder_with(4, Some(&trainer.correction.blocks)).unwrap();
    let pixels = case.input("in.step0.pixel_values").f32();
    let after = encoder.encode_all(&pixels, &mut |_| {}).unwrap().adapted.unwrap();
    let name = "out.features_after";
    if mistake.is_none() {
        case.compare(name, &after);
    }
    // Adam's first steps are the signs of gradients: where those are all rounding, nothing can be compared.
    let (mut worst, mut compared) = (case.excess(name, &after), 0);
    for (name, tensor) in names.iter().zip(trainer.parameters()) {
        let name = format!("out.final.{name}");
        let mask = case.input(&name.replacen("out.", "mask.", 1)).u8();
        let want = case.input(&name).f32();
        let got: Vec<f32> =
            host(tensor).iter().zip(&want).zip(&mask).map(|((g, w), m)| if *m == 1 { *g } else { *w }).collect();
        compared += mask.iter().filter(|m| **m == 1).count();
        if mistake.is_none() {
            case.compare(&name, &got);
        } else {
            worst = worst.max(case.excess(&name, &got));
        }
    }
    assert!(compared > 1000, "{}: only {compared} values are well conditioned", case.name);
    worst
}

#[test]
fn pini_training() {
    for mut case in cases(chosen(), "pini_training") {
        let worst = pini_case(&mut case, None);
        assert!(worst <= 1.0);
        case.finish(|_| false);
    }
}

/// Deliberate mistakes in the step itself: each must be noticed in what training leaves behind.
#[test]
fn pini_training_notices_mistakes() {
    for mistake in ["decay", "momentum", "rate", "noise"] {
        let mut worst = 0f64;
        for mut case in cases(own(), "pini_training") {
            worst = worst.max(pini_case(&mut case, Some(mistake)));
        }
        println!("wrong {mistake}: {worst:.0} times the bound");
        assert!(worst > 10.0, "a wrong {mistake} went unnoticed: {worst}");
    }
}

/// Runs a case; with a mistake nothing is compared and the largest excess of what training leaves is given.
fn pini_case(case: &mut Case, mistake: Option<&str>) -> f64 {
    let clip = case.model();
    let (d, width) = (clip.config.embedding, clip.text.width());
    let (noisy, draws) =
        (case.param("template_len").as_u64().unwrap() as usize, case.param("draws").as_u64().unwrap() as usize);
    let e = d / case.param("reduction").as_u64().unwrap() as usize;
    assert!((f64::from(clip.logit_scale) / case.param("logit_scale_exp").as_f64().unwrap() - 1.0).abs() < 1e-6);
    let ids = case.input("in.prompt_ids").ids();
    let prompts = NoisyPrompts::from_ids(&clip, &ids, noisy).unwrap();
    let template = case.param("template").as_str().unwrap();
    let built = NoisyPrompts::new(&clip, template, &case.strings("classnames")).unwrap();
    assert_eq!(built, prompts, "{}: prompts built from class names differ", case.name);

    let values: Vec<Vec<f32>> = pini::PARAMETERS.iter().map(|p| case.input(&format!("in.param.{p}")).f32()).collect();
    let params = pini::Params::upload(gpu(), &values, noisy, width, d, e).unwrap();
    let trainer = pini::Trainer::new(&clip, prompts, params).unwrap();
    let pixels = case.input("in.pixel_values").f32();
    let batch = case.input("in.pixel_values").shape[0];
    let images = clip.image_encoder(batch).unwrap().encode(&pixels, &mut |_| {}).unwrap();
    if mistake.is_none() {
        case.compare("out.image_features", &images);
    }
    let step = trainer.step(batch, draws, false).unwrap();
    let mut config = pini::Config::paper(template, 0);
    config.momentum = case.param("momentum").as_f64().unwrap();
    config.weight_decay = case.param("weight_decay").as_f64().unwrap();
    match mistake {
        Some("decay") => config.weight_decay = 0.0,
        Some("momentum") => config.momentum = 0.0,
        _ => {}
    }
    for (i, lr) in floats(case.param("lr")).into_iter().enumerate() {
        let lr = if mistake == Some("rate") && i == 1 { lr * 1.01 } else { lr };
        let mut eps = case.input(&format!("in.step{i}.eps_text")).f32();
        if mistake == Some("noise") {
            eps.rotate_right(width);
        }
        let image = step.image.as_ref().unwrap();
        gpu().write(step.eps_text.as_ref().unwrap(), &eps).unwrap();
        gpu().write(&image.eps, &case.input(&format!("in.step{i}.eps_image")).f32()).unwrap();
        let labels = case.input(&format!("in.step{i}.labels")).u32();
        step.run(gpu(), &images, &labels, &config, lr, i as u32).unwrap();
        if mistake.is_some() {
            continue;
        }
        let spread: Vec<f32> = host(&image.spread).iter().map(|v| v.abs()).collect();
        let outputs = [
            ("logits", host(&step.logits)),
            ("text", host(&step.text)),
            ("mu", host(&image.mean)),
            ("spread", spread),
            ("attention", host(&image.attention)),
            ("noisy", host(&step.noisy)),
            ("loss", host(&step.loss)),
        ];
        for (name, got) in outputs {
            let name = format!("out.step{i}.{name}");
            if case.has(&name) {
                case.compare(&name, &got);
            }
        }
        for (name, grad) in pini::PARAMETERS.iter().zip(&step.grads) {
            let name = format!("out.step{i}.grad.{name}");
            if case.has(&name) {
                case.compare(&name, &host(grad));
            }
        }
    }
    let mut worst = 0f64;
    let last = trainer.params.download(gpu()).unwrap();
    for ((name, start), end) in pini::PARAMETERS.iter().zip(&values).zip(&last) {
        let delta: Vec<f32> = end.iter().zip(start).map(|(e, s)| (f64::from(*e) - f64::from(*s)) as f32).collect();
        for (what, got) in [("final", end), ("delta", &delta)] {
            let name = format!("out.{what}.{name}");
            if !case.has(&name) {
                continue;
            }
            if mistake.is_some() {
                worst = worst.max(case.excess(&name, got));
            } else {
                case.compare(&name, got);
            }
        }
    }
    worst
}

#[test]
fn schedules() {
    for case in cases(chosen(), "schedules") {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 + 1e-9 * b.abs();
        let want = floats(case.param("pini_lr_per_epoch"));
        assert!(!want.is_empty());
        for (epoch, want) in want.iter().enumerate() {
            assert!(close(schedule::pini(epoch, 100, 0.001), *want), "epoch {epoch}");
        }
        assert!(!close(schedule::pini(2, 100, 0.001), want[1]), "a schedule that is off by one must be noticed");
        let key = "tip_f_lr_per_step_total_40";
        for (step, want) in floats(case.param(key)).iter().enumerate() {
            assert!(close(schedule::cosine(step, 40, 0.001), *want), "step {step}");
        }
    }
}
