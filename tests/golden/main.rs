//! Whole methods against reference cases computed in float64 (`tests/golden/`, or another set of the same form in
//! `TIPI_GOLDEN`). Every `out.*` tensor of a case must be compared: one that is forgotten is a failure, and so is a
//! case of a kind that nobody knows.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod caches;
mod clip;
mod dino;
mod overlap;
mod pini;
mod pixels;
mod preparation;
mod schedules;
mod tip_f;
mod zero_shot;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tipi::low_level::clip::Clip;
use tipi::low_level::gpu::{DeviceOptions, Gpu, Recorder, Tensor};
use tipi::low_level::kernels::gemm::{Epilogue, Layout, matmul};
use tipi::low_level::kernels::normalize;

/// The manifest's own bound: FACTOR·f32_err + 2e-6·max_abs.
const FACTOR: f64 = 10.0;

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

fn floats(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
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
        "dino_training",
        "pini_training",
        "pini_cnn_gradients",
        "schedules",
    ];
    for case in chosen().manifest["cases"].as_array().unwrap() {
        let kind = case["kind"].as_str().unwrap();
        assert!(known.contains(&kind), "case {} is of unknown kind {kind}", case["name"]);
    }
}
