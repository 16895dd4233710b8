//! Writes the seeds that are not text written by hand: `fuzz/run.sh --seeds`. Run it again when a format changes, so that
//! fuzzing begins with files that are sound.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::Path;

// The library is built with coverage, whose counters are libFuzzer's.
use libfuzzer_sys as _;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tipi::low_level::adapt::adapter_file::{Description, Meta};
use tipi::low_level::adapt::calibrate::{BINS, Bin, Reliability};
use tipi::low_level::adapt::evidence::EvidenceCounts;
use tipi::low_level::adapt::method::find;
use tipi::low_level::adapt::similarity::{self, Similarities};
use tipi::low_level::adapt::{METHODS, Method, overlap, pini, prolip, tip_f};
use tipi::low_level::clip::ModelId;
use tipi::low_level::data::Depth;
use tipi::low_level::encode::store::Store;
use tipi::low_level::eval::journal::Overlap;
use tipi::low_level::eval::report;
use tipi::low_level::eval::{
    About, Coverage, Detail, How, NoiseMap, Record, SearchMap, Settings, Setup, Task, TestSet,
};

use tipi_fuzz::{WIDTH, features_key};

// The same by hand as in the test of it.
#[path = "../../tests/torch_files/archive.rs"]
mod archive;

fn main() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (name, bytes) in
        checkpoints().into_iter().chain(torch()).chain(adapters()).chain(stores()).chain(results()).chain(hub())
    {
        let path = seeds.join(name);
        fs::create_dir_all(path.parent().expect("it is below a folder")).expect("folders can be made");
        fs::write(path, bytes).expect("a seed can be written");
    }
}

/// A file's name below `seeds`, and its bytes.
type Seed = (String, Vec<u8>);

/// A safetensors file. Its numbers are small and mean nothing.
fn safetensors(tensors: &[(&str, Dtype, &[usize])], about: Option<String>) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, dtype, shape)| {
            let count: usize = shape.iter().product();
            match dtype {
                Dtype::F32 => (0..count).flat_map(|n| (n as f32 * 0.125 - 1.0).to_le_bytes()).collect(),
                Dtype::I64 => (0..count).flat_map(|n| (n as i64).to_le_bytes()).collect(),
                other => vec![0; count * other.bitsize() / 8],
            }
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, dtype, shape), bytes)| {
        (*name, TensorView::new(*dtype, shape.to_vec(), bytes).expect("they fit"))
    });
    serialize(views, about.map(|text| HashMap::from([("tipi".to_owned(), text)]))).expect("it can be written")
}

/// The smallest towers that pass for a CLIP's, under both naming schemes.
fn checkpoints() -> Vec<Seed> {
    let f32 = Dtype::F32;
    let openai = safetensors(
        &[
            ("visual.conv1.weight", f32, &[64, 3, 1, 1]),
            ("visual.positional_embedding", f32, &[5, 1]),
            ("visual.transformer.resblocks.0.mlp.c_fc.weight", f32, &[2, 1]),
            ("transformer.resblocks.0.mlp.c_fc.weight", f32, &[2, 1]),
            ("ln_final.weight", f32, &[64]),
            ("positional_embedding", f32, &[4, 1]),
            ("token_embedding.weight", f32, &[6, 1]),
            ("text_projection", f32, &[1, 2]),
            ("logit_scale", f32, &[]),
        ],
        None,
    );
    let resnet = safetensors(
        &[
            ("visual.conv1.weight", f32, &[1, 3, 1, 1]),
            ("visual.layer1.0.conv1.weight", f32, &[2, 1]),
            ("visual.layer2.0.conv1.weight", f32, &[2, 1]),
            ("visual.layer3.0.conv1.weight", f32, &[2, 1]),
            ("visual.layer4.0.conv1.weight", f32, &[2, 1]),
            ("visual.attnpool.positional_embedding", f32, &[2, 1]),
            ("text.transformer.resblocks.0.mlp.c_fc.weight", f32, &[2, 1]),
            ("text.ln_final.weight", f32, &[64]),
            ("text.positional_embedding", f32, &[4, 1]),
            ("text.token_embedding.weight", f32, &[6, 1]),
            ("text.text_projection", f32, &[1, 2]),
        ],
        None,
    );
    let hf = safetensors(
        &[
            ("vision_model.embeddings.patch_embedding.weight", Dtype::F16, &[2, 3, 1, 1]),
            ("vision_model.post_layernorm.bias", Dtype::BF16, &[2]),
            ("text_model.embeddings.token_embedding.weight", f32, &[3, 2]),
            ("logit_scale", f32, &[1]),
        ],
        None,
    );
    let index = br#"{"metadata":{"total_size":10},"weight_map":{"visual.conv1.weight":"a.safetensors","logit_scale":"a.safetensors"}}"#;
    [
        ("openai.safetensors", openai),
        ("resnet.safetensors", resnet),
        ("hf.safetensors", hf),
        ("index.json", index.to_vec()),
    ]
    .map(|(name, bytes)| (format!("checkpoint/{name}"), bytes))
    .into()
}

/// What torch.save and TorchScript write, as small as it may be.
fn torch() -> Vec<Seed> {
    use archive::{dict, int, saved, tensor, text};
    let storage: Vec<u8> = (0..12u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let tensors = |prefix: &str| {
        let name = |name: &str| format!("{prefix}{name}");
        let all = [
            (name("visual.conv1.weight"), tensor("0", 12, 1, &[2, 3], &[5, 2])),
            (name("logit_scale"), tensor("0", 12, 4, &[], &[])),
            (name("text_projection"), tensor("1", 12, 0, &[4, 3], &[1, 4])),
        ];
        dict(&all.each_ref().map(|(name, tensor)| (name.as_str(), tensor.clone())))
    };
    let inside = |pickle: Vec<u8>| pickle[2..pickle.len() - 1].to_vec();
    let module = |attributes: &[(&str, Vec<u8>)]| {
        [b"c__torch__\nModule\n)\x81".to_vec(), inside(dict(attributes)), b"b".to_vec()].concat()
    };
    let conv = module(&[("weight", tensor("0", 12, 0, &[12], &[1])), ("training", b"\x88".to_vec())]);
    let visual = module(&[("conv1", conv), ("_modules", inside(dict(&[])))]);
    let script = module(&[("visual", visual), ("logit_scale", tensor("1", 12, 0, &[], &[]))]);
    let wrapped = dict(&[("epoch", int(3)), ("state_dict", inside(tensors("module.")))]);
    let storages = [("0", &storage[..]), ("1", &storage[..])];
    let mut old = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    old.extend(tensors(""));
    old.extend([b"\x80\x02](".to_vec(), text("0"), text("1"), b"e.".to_vec()].concat());
    for (_, storage) in storages {
        old.extend([&12u64.to_le_bytes()[..], storage].concat());
    }
    [
        ("plain.pt", saved(&tensors(""), &storages)),
        ("wrapped.pt", saved(&wrapped, &storages)),
        ("script.pt", saved(&[b"\x80\x02".to_vec(), script, b".".to_vec()].concat(), &storages)),
        ("old.pt", old),
    ]
    .map(|(name, bytes)| (format!("torch/{name}"), bytes))
    .into()
}

fn adapters() -> Vec<Seed> {
    let templates = json!(["a photo of a {}."]);
    let methods = [
        (
            "tip",
            "tip-adapter",
            json!({ "templates": templates, "params": { "alpha": 1.0, "beta": 5.5 }, "views": 0, "correction": null }),
        ),
        (
            "tip-f",
            "tip-adapter-f",
            json!({
                "templates": templates, "params": { "alpha": 0.1, "beta": 1.0 / 3.0 }, "views": 2,
                "config": tip_f::Config::paper(1), "epoch": 3,
            }),
        ),
        (
            "tip-x",
            "tip-x++",
            json!({
                "templates": templates, "params": { "alpha": 1.0, "beta": 5.5, "gamma": 0.7 },
                "psi": { "divergence": [0.0, 1.5], "affinity": [0.1, 0.9] }, "views": 0,
                "correction": { "bottleneck": 2, "scale": 0.03 },
            }),
        ),
        ("gda", "gda", json!({ "templates": templates, "alpha": 0.1, "prior": "equal", "views": 10 })),
        (
            "prolip",
            "prolip",
            json!({
                "templates": templates, "config": prolip::Config::paper(2, 1), "augmented": true, "views": 0,
            }),
        ),
        ("overlap", "overlap", json!({ "config": overlap::Config::paper(1) })),
        (
            "pini",
            "pini",
            json!({
                "config": pini::Config::paper("a photo of a", 1), "noisy": 5, "augmented": true, "views": 0,
                "evaluation": { "draws": { "count": 2, "seed": 1 } },
            }),
        ),
    ];
    let seed = |(file, name, words): (&str, &str, Value)| {
        let method = Description { name: name.into(), words: words.as_object().cloned().unwrap_or_default() };
        let model = ModelId { name: "a/b".into(), sha256: "0".repeat(64) };
        let meta = Meta {
            format: "tipi-adapter/1".into(),
            model,
            model_folder: "/models/b".into(),
            lora: None,
            classes: vec!["apple".into(), "bell".into()],
            method,
            shots: Some(2),
            seed: 1,
            temperature: Some(0.7),
            evidence: None,
            thresholds: None,
            pictures: vec!["apple/1.png".into(), "bell/1.png".into()],
        };
        let text = serde_json::to_string(&meta).expect("it can be written");
        let tensors =
            [("features", Dtype::F32, &[2, 2][..]), ("weights", Dtype::F32, &[2, 2]), ("labels", Dtype::I64, &[2])];
        (format!("adapter/{file}.safetensors"), safetensors(&tensors, Some(text)))
    };
    methods.map(seed).into()
}

/// Three rows, and the digest of their block.
fn stores() -> Vec<Seed> {
    let names: Vec<u8> = (0..3).flat_map(|row| [row; 32]).collect();
    let values: Vec<u8> = (0..3 * WIDTH).flat_map(|n| (n as f32 * 0.125 - 1.0).to_le_bytes()).collect();
    let seed = |(name, corrected): (&str, bool)| {
        let mut hasher = Sha256::new();
        hasher.update(serde_json::to_vec(&features_key(corrected)).expect("it can be written"));
        hasher.update(&names);
        let mut tensors = vec![("digests", Dtype::U8, vec![3, 32], names.clone())];
        for name in ["features", "adapted"].into_iter().take(if corrected { 2 } else { 1 }) {
            hasher.update(&values);
            tensors.push((name, Dtype::F32, vec![3, WIDTH], values.clone()));
        }
        tensors.push(("blocks", Dtype::U8, vec![1, 32], hasher.finalize().to_vec()));
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("they fit"))
        });
        let bytes = serialize(views, None).expect("it can be written");
        // What the target is to begin with is what a store reads.
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let open = || Store::open(folder.path(), &features_key(corrected), WIDTH).expect("it can be opened");
        fs::write(open().folder().join("a.safetensors"), &bytes).expect("a file can be written");
        open().rows(&[[1; 32]]).expect("the rows are sound");
        (format!("store/{name}.safetensors"), bytes)
    };
    [("plain", false), ("adapted", true)].map(seed).into()
}

/// Files as one input; see `parts`.
fn joined(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, contents) in files {
        bytes.extend(format!("--- {name}\n").bytes());
        bytes.extend(contents);
        bytes.push(b'\n');
    }
    bytes
}

fn results() -> Vec<Seed> {
    fn json(value: &impl serde::Serialize) -> Vec<u8> {
        serde_json::to_vec(value).expect("it can be written")
    }
    let settings = Settings {
        format: "tipi-eval/2".into(),
        dataset: "set".into(),
        pictures: "0".repeat(64),
        classes: 2,
        model: "1".repeat(64),
        precision: "f32".into(),
        correction: None,
        templates: vec!["a photo of a {}.".into()],
        words: "a photo of a".into(),
        setup: Setup::new(How { key_views: 0, ..How::default() }, METHODS, &BTreeMap::new())
            .expect("they are defaults"),
        foreign: None,
        depth: Depth::default(),
    };
    let about = About {
        title: "Set".into(),
        source: "class folders".into(),
        parts: [2, 0, 4],
        model: "model".into(),
        device: "llvmpipe".into(),
        notes: vec!["a note".into()],
    };
    let record = |method: &'static dyn Method, correct: usize| Record {
        dataset: "set".into(),
        task: Task::new(method, 1.into(), 1),
        accuracy: correct as f64 / 4.0,
        correct,
        test: 4,
        support: 2,
        val: 2,
        val_accuracy: Some(0.5),
        alpha: Some(1.0),
        beta: Some(5.5),
        gamma: None,
        epoch: None,
        temperature: Some(0.7),
        calibration_error: 0.1,
        calibration_error_fitted: Some(0.05),
        log_loss: 0.7,
        log_loss_fitted: Some(0.6),
        evidence: EvidenceCounts { validation: 2, left_out: 2 },
        coverage: vec![Coverage { wanted: 0.9, held: 0.75, size: 1.5, supported: true }],
        foreign: Vec::new(),
        fit_seconds: 1.5,
        predict_seconds: 0.25,
        peak_bytes: 1 << 20,
        data: "2".repeat(64),
    };
    let detail = |predicted: [u32; 4], right: u64| {
        let mut reliability = Reliability { bins: vec![Bin::default(); BINS], log_loss: 2.8 };
        reliability.bins[9] = Bin { count: 4, confidence: 2.5, right };
        Detail {
            predicted: predicted.into(),
            confidence: vec![0.625; 4],
            reliability_fitted: Some(reliability.clone()),
            reliability,
            search: None,
            losses: Vec::new(),
            noise: None,
            support: vec![("a/1.png".into(), 0), ("b/1.png".into(), 1)],
        }
    };
    let test = TestSet {
        classes: vec!["a".into(), "b".into()],
        paths: ["a/2.png", "a/3.png", "b/2.png", "b/3.png"].map(Into::into).into(),
        labels: vec![0, 0, 1, 1],
        unreadable: Vec::new(),
        digest: "3".repeat(64),
    };
    let mut searched = detail([0, 0, 1, 0], 3);
    let (alphas, betas) = (vec![0.0, 0.5, 1.0], vec![1.0, 5.5]);
    searched.search = Some(SearchMap { alphas, betas, correct: vec![0, 1, 1, 1, 2, 1], of: 2 });
    let mut noisy = detail([0, 0, 1, 1], 4);
    noisy.losses = vec![0.9, 0.5];
    noisy.noise = Some(NoiseMap {
        tokens: vec!["a".into(), "photo".into()],
        text_mean: vec![0.1, -0.1, 0.2, 0.0],
        text_spread: vec![0.5; 4],
        classes: vec!["a".into(), "b".into()],
        image_mean: vec![0.0, 0.1, -0.2, 0.3],
        image_spread: vec![1.0; 4],
        pictures: Vec::new(),
    });
    let similarities = Similarities {
        same: (0..similarity::BINS as u64).map(|n| n % 3).collect(),
        different: (0..similarity::BINS as u64).map(|n| n % 2).collect(),
        variance: 0.5,
    };
    let overlap = Overlap { of: "4".repeat(64), before: similarities, after: None };
    let lines = |methods: &[(&'static dyn Method, usize)]| {
        let lines = methods.iter().map(|(method, correct)| [json(&record(*method, *correct)), vec![b'\n']].concat());
        lines.collect::<Vec<_>>().concat()
    };
    let written = json(&serde_json::json!({"settings": settings, "about": about}));
    let named = |name: &str| find(name).expect("it is registered");
    let (zero, all) =
        ([(named("zero-shot"), 2)], [(named("zero-shot"), 2), (named("tip-adapter"), 3), (named("pini"), 4)]);
    let small = vec![
        ("settings.json", written.clone()),
        ("results.jsonl", lines(&zero)),
        ("test.json", json(&test)),
        ("details/zero-shot-1shot-seed1.json", json(&detail([0, 1, 1, 0], 2))),
    ];
    let large = vec![
        ("settings.json", written),
        ("results.jsonl", lines(&all)),
        ("test.json", json(&test)),
        ("details/zero-shot-1shot-seed1.json", json(&detail([0, 1, 1, 0], 2))),
        ("details/tip-adapter-1shot-seed1.json", json(&searched)),
        ("details/pini-1shot-seed1.json", json(&noisy)),
        ("overlap.json", json(&overlap)),
    ];
    let seeds = [("zero-shot", small), ("three-methods", large)];
    for (name, files) in &seeds {
        let out = tempfile::tempdir().expect("a temporary folder can be made");
        for (file, bytes) in files {
            let path = out.path().join("set").join(file);
            fs::create_dir_all(path.parent().expect("it is below a folder")).expect("folders can be made");
            fs::write(path, bytes).expect("a file can be written");
        }
        if let Err(error) = report::write(out.path()) {
            panic!("the results {name} are not sound: {error}");
        }
    }
    seeds.map(|(name, files)| (format!("results/{name}"), joined(&files))).into()
}

/// What a hub answers to fetching a small model, in the order in which tipi asks, and other answers to the first question.
fn hub() -> Vec<Seed> {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("model.safetensors", b"\x02\0\0\0\0\0\0\0{}")];
    let names: Vec<String> = files.iter().map(|(name, _)| format!(r#"{{"rfilename":"{name}"}}"#)).collect();
    let listing = format!(r#"{{"sha":"{commit}","siblings":[{}]}}"#, names.join(","));
    let answer = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let mut answers = vec![("answer", answer("200 OK", "content-type: application/json\r\n", listing.as_bytes()))];
    for (_, bytes) in files {
        let mut headers = String::new();
        write!(headers, "x-repo-commit: {commit}\r\n").expect("a text takes text");
        write!(headers, "etag: \"{}\"\r\n", hex(&Sha256::digest(bytes))).expect("a text takes text");
        write!(headers, "x-linked-size: {}\r\ncontent-length: {}\r\n\r\n", bytes.len(), bytes.len()).expect("as above");
        answers.push(("answer", format!("HTTP/1.1 200 OK\r\n{headers}").into_bytes()));
    }
    answers.extend(files.iter().map(|(_, bytes)| ("answer", answer("200 OK", "", bytes))));
    let with = |answers: &[(&str, Vec<u8>)]| [b"org/name@main\n".to_vec(), joined(answers)].concat();
    let moved = vec![
        ("answer", answer("307 Temporary Redirect", "location: /api/models/org/other/revision/main\r\n", b"")),
        answers[0].clone(),
    ];
    let gated = vec![("answer", answer("401 Unauthorized", "x-error-code: GatedRepo\r\n", b""))];
    let busy = vec![("answer", answer("429 Too Many Requests", "retry-after: 100\r\n", b""))];
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{}\r\n\r\n0\r\n\r\n".to_vec();
    let chunked = vec![("answer", chunked)];
    [("whole", answers), ("moved", moved), ("gated", gated), ("busy", busy), ("chunked", chunked)]
        .map(|(name, answers)| (format!("hub/{name}"), with(&answers)))
        .into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
