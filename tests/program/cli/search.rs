//! `search`.

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::start::{root, s};
use crate::{bad, good};

/// A safetensors file with f32 matrices and i64 labels.
fn write_set(path: &Path, matrices: &[(&str, usize, &[f32])], labels: Option<&[i64]>) {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;
    let mut views = Vec::new();
    for (name, width, values) in matrices {
        let shape = vec![values.len() / width, *width];
        views.push((*name, TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(values)).unwrap()));
    }
    if let Some(labels) = labels {
        let data = bytemuck::cast_slice(labels);
        views.push(("labels", TensorView::new(Dtype::I64, vec![labels.len()], data).unwrap()));
    }
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A golden case of the cache methods as the files that `search` takes.
struct SearchFiles {
    dir: tempfile::TempDir,
    params: Value,
}

fn search_files(case: &str, corrected: bool) -> SearchFiles {
    let golden = root().join("tests/golden");
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(golden.join("manifest.json")).unwrap()).unwrap();
    let entry = manifest["cases"].as_array().unwrap().iter().find(|c| c["name"] == case).unwrap();
    let bytes = std::fs::read(golden.join(entry["file"].as_str().unwrap())).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> (Vec<usize>, Vec<f32>) {
        let view = file.tensor(name).unwrap();
        (view.shape().to_vec(), bytemuck::pod_collect_to_vec(view.data()))
    };
    let labels = |name: &str| -> Vec<i64> {
        let all: Vec<i32> = bytemuck::pod_collect_to_vec(file.tensor(name).unwrap().data());
        all.into_iter().map(i64::from).collect()
    };
    let dir = tempfile::tempdir().unwrap();
    let (shape, w) = floats("in.W");
    let (d, classes) = (shape[0], shape[1]);
    let weights: Vec<f32> = (0..classes).flat_map(|c| (0..d).map(move |i| i * classes + c)).map(|i| w[i]).collect();
    write_set(&dir.path().join("w.st"), &[("weights", d, &weights)], None);
    // The mean over views is what a cache file holds; its length does not matter.
    let mean = |name: &str| -> Vec<f32> {
        let (shape, values) = floats(name);
        let one = shape[1] * d;
        (0..one).map(|i| values.iter().skip(i).step_by(one).sum::<f32>() / shape[0] as f32).collect()
    };
    let (keys, adapted) = (mean("in.views"), mean("in.views_corrected"));
    let write = |name: &str, plain: &[f32], adapted: &[f32], labels: &[i64]| {
        let mut all = vec![("features", d, plain)];
        if corrected {
            all.push(("adapted", d, adapted));
        }
        write_set(&dir.path().join(name), &all, Some(labels));
    };
    write("cache.st", &keys, &adapted, &labels("in.cache_labels"));
    for split in ["val", "test"] {
        let (f, g) = (floats(&format!("in.{split}.f")).1, floats(&format!("in.{split}.f_corrected")).1);
        write(&format!("{split}.st"), &f, &g, &labels(&format!("in.{split}.labels")));
    }
    SearchFiles { dir, params: entry["params"].clone() }
}

impl SearchFiles {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_string()
    }

    fn args(&self, method: &str, rest: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = ["search", "--method", method].map(String::from).to_vec();
        for (option, file) in
            [("--cache", "cache.st"), ("--classifier", "w.st"), ("--val", "val.st"), ("--test", "test.st")]
        {
            args.extend([option.to_string(), self.path(file)]);
        }
        args.extend(rest.iter().map(|a| a.to_string()));
        args
    }

    fn bad(&self, method: &str, rest: &[&str], needles: &[&str]) {
        let args = self.args(method, rest);
        bad(&args.iter().map(String::as_str).collect::<Vec<_>>(), needles);
    }
}

#[test]
fn search_finds_the_reference_points() {
    for (method, corrected, best) in
        [("tip", false, "tip"), ("tip-x", false, "tipx"), ("tip", true, "tippp"), ("tip-x", true, "tipxpp")]
    {
        let files = search_files("tip_wide", corrected);
        let grid = &files.params["grid"];
        let axis = |name: &str| format!("{}:{}:{}", grid[name][1], grid[name][2], grid[name][3]);
        let mut text = format!("alpha={},beta={}", axis("alphas"), axis("betas"));
        if method == "tip-x" {
            text += &format!(",gamma={}", axis("gammas"));
        }
        let args = files.args(method, &["--grid", &text, "--json"]);
        let (json, _) = good(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let json: Value = serde_json::from_str(&json).unwrap();
        let want = &files.params["best"][best];
        let points: u64 = ["alphas", "betas", "gammas"]
            .iter()
            .filter(|name| **name != "gammas" || method == "tip-x")
            .map(|name| grid[*name][3].as_u64().unwrap())
            .product();
        assert_eq!(json["points"].as_u64(), Some(points));
        assert_eq!(json["method"].as_str().unwrap().ends_with("++"), corrected);
        let near = |key: &str, got: &Value| {
            let total = want[format!("{key}_total")].as_f64().unwrap();
            let off = (got.as_f64().unwrap() * total - want[format!("{key}_correct")].as_f64().unwrap()).abs();
            assert!(
                off <= want[format!("{key}_near")].as_f64().unwrap() + 1e-6,
                "{method} {corrected}: {json}, {want}"
            );
        };
        near("val", &json["val_accuracy"]);
        if want["unambiguous"].as_bool().unwrap() {
            for name in ["alpha", "beta"] {
                let (got, want) = (json["best"][name].as_f64().unwrap(), want[name].as_f64().unwrap());
                assert!((got - want).abs() < 1e-9, "{method} {corrected}: {json}");
            }
            near("test", &json["test_accuracy"]);
        }
        assert!(json["seconds"].as_f64().unwrap() > 0.0);
    }
    let files = search_files("tip_small", false);
    let args = files.args("tip", &["--allow-empty-classes"]);
    let (table, _) = good(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(table.contains("4000") && table.contains("tip-adapter"), "{table}");
}

#[test]
fn search_names_what_is_wrong_with_its_files() {
    let files = search_files("tip_oneshot", false);
    let (d, classes) = (64, 10);
    let path = files.dir.path().to_path_buf();
    let f = |n: usize| (0..n * d).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<f32>>();
    let x = path.join("x.st");
    let with = |option: &str| -> Vec<String> { vec![option.to_string(), s(&x).to_string()] };
    let run = |option: &str, needles: &[&str]| {
        let extra = with(option);
        // The last of two equal options would be refused, so the file takes the other's place.
        let mut args = files.args("tip", &["--json"]);
        let at = args.iter().position(|a| a == option).unwrap();
        args[at + 1].clone_from(&extra[1]);
        bad(&args.iter().map(String::as_str).collect::<Vec<_>>(), needles);
    };
    write_set(&x, &[("features", d + 1, &vec![0.5; 3 * (d + 1)])], Some(&[0, 1, 2]));
    run("--val", &["x.st", "features", "[3, 65]", "[n, 64]"]);
    write_set(&x, &[("features", d, &f(3))], Some(&[0, 1, classes]));
    run("--val", &["x.st", "row 2", "10", "0…9"]);
    write_set(&x, &[("features", d, &f(3))], Some(&[0, -1, 2]));
    run("--test", &["x.st", "row 1", "-1"]);
    write_set(&x, &[("features", d, &f(3))], Some(&[0, 1]));
    run("--val", &["x.st", "labels", "[2]", "[3]"]);
    write_set(&x, &[("features", d, &f(3))], None);
    run("--val", &["x.st", "labels", "missing"]);
    write_set(&x, &[("features", d, &[])], Some(&[]));
    run("--val", &["x.st", "no rows"]);
    let mut broken = f(3);
    broken[d + 5] = f32::NAN;
    write_set(&x, &[("features", d, &broken)], Some(&[0, 1, 2]));
    run("--val", &["x.st", "row 1", "not finite"]);
    write_set(&x, &[("features", d, &f(9))], Some(&[0, 1, 2, 3, 4, 5, 6, 7, 9]));
    run("--cache", &["x.st", "class 8", "no key", "--allow-empty-classes"]);
    write_set(&x, &[("features", d, &f(10)), ("adapted", d, &f(10))], Some(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    run("--cache", &["val.st", "adapted", "x.st"]);
    write_set(&x, &[("features", d, &f(3)), ("adapted", d, &f(2))], Some(&[0, 1, 2]));
    run("--val", &["x.st", "adapted", "[2, 64]"]);
    write_set(&x, &[("weights", d, &vec![f32::INFINITY; 2 * d])], None);
    run("--classifier", &["x.st", "weights", "not finite"]);
    write_set(&x, &[("features", d, &f(3))], None);
    run("--classifier", &["x.st", "weights", "missing"]);
    std::fs::write(&x, b"no tensors").unwrap();
    run("--val", &["x.st"]);

    files.bad("tip", &["--grid", "alpha=0:1:2"], &["alpha=0:1:2", "beta"]);
    files.bad("tip-x", &["--grid", "alpha=0:1:2,beta=0:1:2"], &["gamma"]);
    files.bad("tip", &["--grid", "tip-adapter:mnist"], &["mnist", "caltech101"]);
    files.bad("tip", &["--scale", "0"], &["--scale"]);
    files.bad("lip", &[], &["lip", "tip-x"]);
}
