//! Numbers from outside, in files and on the command line: what is not finite or out of range is refused by name.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

use start::{MODEL, root, s, tipi};

fn good(args: &[&str]) -> String {
    let out = tipi(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Fails with code 2 and an error that holds all of `needles`.
fn bad(args: &[&str], needles: &[&str]) {
    let out = tipi(args);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
    let line = stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{args:?}: {stderr}"));
    for needle in needles {
        assert!(line.contains(needle), "{args:?}: no '{needle}' in: {line}");
    }
}

const PICTURES: &str = "examples/pictos/shifted/apple";

/// A safetensors file in parts.
struct Parts {
    metadata: Option<HashMap<String, String>>,
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

impl Parts {
    fn read(path: &Path) -> Parts {
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors =
            file.tensors().into_iter().map(|(name, t)| (name, t.dtype(), t.shape().to_vec(), t.data().to_vec()));
        Parts { metadata: header.metadata().clone(), tensors: tensors.collect() }
    }

    fn write(&self, path: &Path) {
        let view = |(name, dtype, shape, bytes): &(String, Dtype, Vec<usize>, Vec<u8>)| {
            (name.clone(), *dtype, shape.clone(), bytes.clone())
        };
        let parts: Vec<_> = self.tensors.iter().map(view).collect();
        let views = parts.iter().map(|(n, d, shape, b)| (n.clone(), TensorView::new(*d, shape.clone(), b).unwrap()));
        std::fs::write(path, safetensors::serialize(views, self.metadata.clone()).unwrap()).unwrap();
    }

    /// The same with one value of a tensor replaced: that of this number, or the last of a shorter one.
    fn with(&self, tensor: &str, at: usize, value: f32) -> Parts {
        let mut tensors = self.tensors.clone();
        let (_, dtype, _, bytes) = tensors.iter_mut().find(|t| t.0 == tensor).unwrap_or_else(|| panic!("no {tensor}"));
        let at = at.min(bytes.len() / if *dtype == Dtype::F32 { 4 } else { 2 } - 1);
        match dtype {
            Dtype::F32 => bytes[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes()),
            Dtype::F16 => bytes[2 * at..2 * at + 2].copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
            Dtype::BF16 => bytes[2 * at..2 * at + 2].copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
            other => panic!("{tensor} is {other:?}"),
        }
        Parts { metadata: self.metadata.clone(), tensors }
    }

    /// The same with something else in its description.
    fn described(&self, change: impl FnOnce(&mut Value)) -> Parts {
        let mut metadata = self.metadata.clone().unwrap();
        let mut about: Value = serde_json::from_str(&metadata["tipi"]).unwrap();
        change(&mut about);
        metadata.insert("tipi".into(), about.to_string());
        Parts { metadata: Some(metadata), tensors: self.tensors.clone() }
    }

    fn floats(&self) -> Vec<String> {
        self.tensors.iter().filter(|t| t.1 != Dtype::I64).map(|t| t.0.clone()).collect()
    }
}

/// Fits an adapter to a few pictures.
fn fit(folder: &Path, method: &str, extra: &[&str]) -> PathBuf {
    let data = folder.join("pictures");
    for class in ["apple", "umbrella"] {
        let to = data.join(class);
        if to.is_dir() {
            continue;
        }
        std::fs::create_dir_all(&to).unwrap();
        let from = std::fs::read_dir(root().join("examples/pictos/shifted").join(class)).unwrap();
        let mut from: Vec<PathBuf> = from.map(|e| e.unwrap().path()).collect();
        from.sort();
        for path in &from[..3] {
            std::fs::copy(path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    let out = folder.join(format!("{method}.safetensors"));
    let (data, out_text) = (s(&data).to_string(), s(&out).to_string());
    let mut args = vec!["fit", method, "--model", MODEL, "--data", &data, "--out", &out_text];
    if method != "overlap" {
        args.extend(["--shots", "1"]);
    }
    good(&[&args[..], extra].concat());
    out
}

/// Any tensor of any adapter, and the numbers in its description.
#[test]
fn an_adapter_that_is_not_finite_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.safetensors");
    let predict = ["predict", "--adapter", s(&broken), "--model", MODEL, "--json", PICTURES];
    let correction = fit(dir.path(), "overlap", &["--bottleneck", "2"]);
    let tip_x = fit(dir.path(), "tip-x", &["--views", "0", "--correction", s(&correction)]);
    let pini = fit(dir.path(), "pini", &["--epochs", "1", "--no-augment"]);
    for (file, some) in [(&tip_x, &["features", "original", "weights", "up_proj.bias"][..]), (&pini, &["template_mu"])]
    {
        let parts = Parts::read(file);
        let names = parts.floats();
        for end in some {
            assert!(names.iter().any(|name| name.ends_with(end)), "{names:?}");
        }
        // Each run takes a while: the first, the last and those named, each with another value.
        let chosen =
            names.iter().filter(|n| some.iter().any(|end| n.ends_with(end)) || names.last() == Some(n)).take(6);
        for (name, value) in chosen.zip([f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().cycle()) {
            parts.with(name, 1, value).write(&broken);
            bad(&predict, &["broken.safetensors", &format!("'{name}'"), "not finite", &value.to_string()]);
        }
    }
    let parts = Parts::read(&tip_x);
    let changes: [(&str, Value, &str); 6] = [
        ("/method/params/alpha", 1e39.into(), "alpha"),
        ("/method/params/beta", (-100.0).into(), "beta"),
        ("/method/params/gamma", (-1e20).into(), "gamma"),
        ("/method/psi/affinity/0", 2.0.into(), "affinity"),
        ("/method/correction/scale", 1e22.into(), "scale"),
        ("/temperature", 1e-30.into(), "temperature"),
    ];
    for (place, value, needle) in changes {
        parts.described(|about| *about.pointer_mut(place).unwrap() = value).write(&broken);
        bad(&predict, &["broken.safetensors", needle]);
    }
    let no_classes = parts.described(|about| about["classes"] = Value::Array(Vec::new()));
    no_classes.write(&broken);
    bad(&predict, &["broken.safetensors", "no classes"]);
    parts.described(|_| ()).write(&broken);
    assert!(!good(&predict).contains("null"));
}

/// Every kind of tensor of a model, in each type that weights are stored in.
#[test]
fn a_model_that_is_not_finite_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "preprocessor_config.json", "tokenizer.json"] {
        std::fs::copy(root().join(MODEL).join(file), dir.path().join(file)).unwrap();
    }
    let weights = dir.path().join("model.safetensors");
    let parts = Parts::read(&root().join(MODEL).join("model.safetensors"));
    // Not into the model's folder, whose files are read.
    let results = tempfile::tempdir().unwrap();
    let out = results.path().join("o.safetensors");
    let embed = ["embed", "text", "--model", s(dir.path()), "--out", s(&out), "an icon"];
    let names: Vec<String> = parts.floats();
    let of = |part: &str| names.iter().find(|n| n.contains(part)).unwrap_or_else(|| panic!("no {part}: {names:?}"));
    let cases = [
        ("patch_embedding", 5, f32::NAN),
        ("q_proj.weight", 77, f32::INFINITY),
        ("fc2.bias", 3, f32::NEG_INFINITY),
        ("position_embedding", 1, f32::NAN),
        ("layer_norm1.weight", 0, f32::INFINITY),
        ("text_projection", 9, f32::NAN),
        ("logit_scale", 0, f32::NAN),
    ];
    for (part, at, value) in cases {
        let name = of(part);
        parts.with(name, at, value).write(&weights);
        bad(&embed, &["model.safetensors", &format!("'{name}'"), "not finite"]);
    }
    // The table of tokens is read row by row, when a text needs the row.
    let table = names.iter().find(|n| n.contains("token_embedding")).unwrap();
    let (_, dtype, shape, bytes) = parts.tensors.iter().find(|t| &t.0 == table).unwrap();
    let nan = match dtype {
        Dtype::F32 => f32::NAN.to_le_bytes().to_vec(),
        _ => half::f16::NAN.to_le_bytes().to_vec(),
    };
    let all: Vec<u8> = nan.iter().copied().cycle().take(bytes.len()).collect();
    let mut tensors = parts.tensors.clone();
    tensors.iter_mut().filter(|t| &t.0 == table).for_each(|t| t.3.clone_from(&all));
    assert!(shape.len() == 2);
    Parts { metadata: None, tensors }.write(&weights);
    bad(&embed, &["model.safetensors", "token_embedding", "not finite"]);
    // In the other types, too.
    for kind in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let mut tensors = parts.tensors.clone();
        for (_, dtype, _, bytes) in tensors.iter_mut().filter(|t| matches!(t.1, Dtype::F32 | Dtype::F16 | Dtype::BF16))
        {
            let values: Vec<f32> = match dtype {
                Dtype::F32 => bytemuck::pod_collect_to_vec(bytes),
                Dtype::F16 => bytemuck::pod_collect_to_vec::<u8, half::f16>(bytes).iter().map(|v| v.to_f32()).collect(),
                _ => bytemuck::pod_collect_to_vec::<u8, half::bf16>(bytes).iter().map(|v| v.to_f32()).collect(),
            };
            *bytes = match kind {
                Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                Dtype::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
                _ => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
            };
            *dtype = kind;
        }
        let parts = Parts { metadata: None, tensors };
        parts.with(of("k_proj.weight"), 100, f32::INFINITY).write(&weights);
        bad(&embed, &["model.safetensors", of("k_proj.weight"), "not finite", "inf"]);
        parts.write(&weights);
        good(&embed);
    }
}

#[test]
fn inputs_that_are_not_finite_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("x.safetensors"), dir.path().join("o.safetensors"));
    let config = std::fs::read_to_string(root().join(MODEL).join("preprocessor_config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let size = ["/crop_size/height", "/crop_size", "/size/shortest_edge", "/size/height"]
        .iter()
        .find_map(|at| config.pointer(at)?.as_u64())
        .unwrap() as usize;
    let n = 3 * size * size;
    for value in [f32::NAN, f32::INFINITY] {
        let mut pixels = vec![0.25f32; 2 * n];
        pixels[n + 7] = value;
        let bytes = bytemuck::cast_slice(&pixels).to_vec();
        Parts { metadata: None, tensors: vec![("pixel_values".into(), Dtype::F32, vec![2, 3, size, size], bytes)] }
            .write(&path);
        bad(
            &["embed", "image", "--model", MODEL, "--out", s(&out), s(&path)],
            &["x.safetensors", "'pixel_values'", "not finite", "column 7"],
        );
    }
}

/// Options of every command, as its help lists them: name and text, for those that say from which number to which they go.
fn ranges(command: &[&str]) -> Vec<(String, f64, f64)> {
    let help = good(&[command, &["--help"]].concat());
    let mut found = Vec::new();
    let mut option: Option<(String, String)> = None;
    let mut options = Vec::new();
    for line in help.lines() {
        let start = line.trim_start();
        if let Some(at) = start.find("--").filter(|at| *at <= 4 && line.len() - start.len() <= 6) {
            options.extend(option.take());
            let name: String = start[at..].chars().take_while(|c| !c.is_whitespace()).collect();
            let value = start[at..].contains('<');
            let text = start[at..].split_once("  ").map_or("", |(_, text)| text).to_string();
            option = value.then_some((name, text));
        } else if let Some((_, text)) = &mut option {
            text.push(' ');
            text.push_str(start);
        }
    }
    options.extend(option);
    for (name, text) in options {
        let words: Vec<&str> = text.split([' ', ',', ';']).map(|w| w.trim_end_matches(['.', ')', ':'])).collect();
        let number = |at: usize| words.get(at).and_then(|w| w.parse::<f64>().ok());
        let range = (0..words.len()).find_map(|i| match (words[i], words.get(i + 2)) {
            ("from", Some(&"to")) => number(i + 1).zip(number(i + 3)),
            _ => None,
        });
        let up_to =
            (0..words.len()).find(|i| words[*i] == "up" && words.get(i + 1) == Some(&"to")).and_then(|i| number(i + 2));
        if let Some((least, most)) = range.or(up_to.map(|most| (0.0, most))) {
            found.push((name, least, most));
        }
    }
    found
}

/// Every number on the command line: its range is in the help, what lies outside is refused by name with the range, and
/// that is so of every option that takes a number.
#[test]
fn numbers_on_options_have_ranges_that_the_help_shows() {
    // What else a command must have before its options are looked at, and its numeric options.
    let commands: [(&[&str], &[&str], &[&str]); 14] = [
        (&["classify"], &["--model", "m", "--labels", "a", "p"], &["--batch"]),
        (&["predict"], &["--adapter", "a", "p"], &["--batch", "--min-confidence"]),
        (&["embed", "image"], &["--model", "m", "--out", "o", "p"], &["--batch"]),
        (&["embed", "text"], &["--model", "m", "--out", "o", "p"], &["--batch"]),
        (
            &["fit", "tip"],
            &["--model", "m", "--data", "d", "--out", "o"],
            &["--shots", "--key-views", "--alpha", "--beta", "--batch"],
        ),
        (
            &["fit", "tip-f"],
            &["--model", "m", "--data", "d", "--out", "o"],
            &[
                "--shots",
                "--key-views",
                "--train-views",
                "--epochs",
                "--lr",
                "--initial-alpha",
                "--initial-beta",
                "--batch",
            ],
        ),
        (
            &["fit", "tip-x"],
            &["--model", "m", "--data", "d", "--out", "o"],
            &["--shots", "--key-views", "--alpha", "--beta", "--gamma", "--batch"],
        ),
        (
            &["fit", "overlap"],
            &["--model", "m", "--data", "d", "--out", "o"],
            &["--epochs", "--bottleneck", "--scale", "--dropout", "--lr", "--batch", "--micro-batch"],
        ),
        (
            &["fit", "pini"],
            &["--model", "m", "--data", "d", "--out", "o"],
            &["--shots", "--epochs", "--lr", "--train-views", "--draws", "--reduction", "--batch"],
        ),
        (
            &["eval"],
            &["--dataset", "d", "--model", "m", "--out", "o", "--generic", "g"],
            &[
                "--shots",
                "--correction-epochs",
                "--correction-scale",
                "--self-supervised-epochs",
                "--self-supervised-batch",
                "--self-supervised-head",
                "--self-supervised-local-crops",
                "--key-views",
                "--train-views",
                "--tip-f-epochs",
                "--pini-epochs",
                "--pini-lr",
                "--pini-draws",
                "--pini-reduction",
                "--batch",
            ],
        ),
        (&["info"], &["m"], &["--batch", "--classes", "--shots"]),
        (&["bench"], &[], &["--pictures", "--budget"]),
        (&["tune"], &[], &["--rows"]),
        (&["demo"], &[], &["--epochs", "--correction-epochs"]),
    ];
    for (command, needed, numeric) in commands {
        let ranges = ranges(command);
        for option in numeric {
            let Some((_, least, most)) = ranges.iter().find(|(name, ..)| name == option) else {
                panic!("{command:?} {option}: the help shows no range: {ranges:?}");
            };
            let whole = least.fract() == 0.0 && most.fract() == 0.0 && *least >= 0.0 && !option.contains("lr");
            let beyond = if whole { format!("{}", most + 1.0) } else { format!("{:e}", most * 1.5) };
            let below = if *least > 0.0 { "0".to_string() } else { format!("{:e}", least * 1.5 - 1.0) };
            for value in [beyond.as_str(), &below, "nan", "1e39", "99999999999999999999999", "-1e39", "x"] {
                let mut args = [command, needed].concat();
                let pair = format!("{option}={value}");
                args.push(&pair);
                bad(&args, &[option, "number from"]);
            }
        }
    }
}

/// Products of numbers that are each in order.
#[test]
fn what_no_memory_could_hold_is_refused_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.safetensors");
    let values = [1.0f32, 0.0, 0.0, 1.0];
    let floats = |name: &str| (name.to_string(), Dtype::F32, vec![2, 2], bytemuck::cast_slice(&values).to_vec());
    let labels = ("labels".to_string(), Dtype::I64, vec![2], bytemuck::cast_slice(&[0i64, 1]).to_vec());
    Parts { metadata: None, tensors: vec![floats("features"), floats("weights"), labels] }.write(&file);
    let search = |extra: &[&str], needles: &[&str]| {
        let args = ["search", "--method", "tip", "--cache", s(&file), "--classifier", s(&file), "--val", s(&file)];
        bad(&[&args[..], extra].concat(), needles);
    };
    search(&["--grid", "alpha=0:1:100000,beta=0:1:100000"], &["100000 × 100000", "10000000"]);
    search(&["--grid", "alpha=0:1e39:3,beta=0:1:2"], &["alpha 1e39", "from -1e9 to 1e9"]);
    search(&["--grid", "alpha=0:1:3,beta=-1e39:1:2"], &["beta", "from -20 to"]);
    search(&["--scale", "1e39"], &["--scale", "1000000"]);
    bad(&["info", MODEL, "--classes", "100000", "--shots", "1000000"], &["100000 classes × 1000000 shots", "10000000"]);
    bad(&["info", MODEL, "--batch", "4294967295"], &["--batch", "65536"]);
}
