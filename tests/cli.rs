//! The program, run as a user runs it, with good input and bad.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod program;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use serde_json::Value;

use program::{MODEL, root, s, tipi};

fn good(args: &[&str]) -> (String, String) {
    let out = tipi(args);
    let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success(), "{args:?}: {stderr}");
    (stdout, stderr)
}

/// Fails with code 2 and one line that begins with "error:" and holds all of `needles`; panics are no errors.
fn bad(args: &[&str], needles: &[&str]) {
    let out = tipi(args);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
    let lines: Vec<_> = stderr
        .lines()
        .filter(|l| !l.starts_with("adapter:") && !l.starts_with("model:") && !l.contains("skipped"))
        .collect();
    assert_eq!(lines.len(), 1, "{args:?}: more than one line: {stderr}");
    assert!(lines[0].starts_with("error: "), "{stderr}");
    for needle in needles {
        assert!(lines[0].contains(needle), "{args:?}: no '{needle}' in: {}", lines[0]);
    }
}

fn features(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor("features").unwrap();
    (view.shape().to_vec(), bytemuck::pod_collect_to_vec(view.data()))
}

/// Rows of a command's JSON whose class is the picture's folder.
fn right(rows: &[Value]) -> usize {
    let fits = |r: &&Value| r["path"].as_str().unwrap().contains(&r["class"].as_str().unwrap().replace(' ', "_"));
    rows.iter().filter(fits).count()
}

/// Three classes of the bundled pictures, `count` pictures each.
fn pictures(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for class in ["anchor", "credit_card", "umbrella"] {
        let folder = dir.path().join(class);
        std::fs::create_dir(&folder).unwrap();
        let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("examples/pictos/shifted").join(class))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.sort();
        for file in &files[..count] {
            std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
        }
    }
    dir
}

#[test]
fn devices_are_listed() {
    let (table, _) = good(&["devices"]);
    assert!(table.contains('*') && table.contains("GEMM"), "{table}");
    let (json, _) = good(&["devices", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().iter().filter(|a| a["default"] == true).count(), 1);
}

/// The program with environment variables set.
fn tipi_with(variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipi"));
    command.env("TIPI_TUNE", "off").args(args).current_dir(root());
    command.envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn tuning_keeps_what_it_measured_and_forgets_it() {
    let dir = tempfile::tempdir().unwrap();
    let cache = [("TIPI_CACHE_DIR", s(dir.path()))];
    let kept = || {
        let files = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
        files.filter(|p| p.extension().is_some_and(|e| e == "json")).collect::<Vec<_>>()
    };
    let out = tipi_with(&cache, &["tune", "--rows", "3", "--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let rows: Value = serde_json::from_slice(&out.stdout).unwrap();
    for row in rows.as_array().unwrap() {
        let timings = row["timings"].as_array().unwrap();
        assert!(timings.len() > 1, "{row}: nothing to choose from");
        assert!(timings.iter().all(|t| t["gflops"].as_f64().is_some_and(|g| g > 0.0)), "{row}");
    }
    if !rows.as_array().unwrap().is_empty() {
        let [path] = &kept()[..] else { panic!("{:?}", kept()) };
        let choices: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(choices.as_object().unwrap().len(), rows.as_array().unwrap().len());
        for row in rows.as_array().unwrap() {
            let timings = row["timings"].as_array().unwrap();
            let rate = |t: &Value| t["gflops"].as_f64().unwrap();
            let best = timings.iter().max_by(|a, b| rate(a).total_cmp(&rate(b))).unwrap();
            // The usual kernel stays unless another is faster by more than noise.
            let leaves = rate(&timings[0]) < 0.9 * rate(best);
            let used = if leaves { best } else { &timings[0] };
            let class = format!("gemm {}", row["class"].as_str().unwrap());
            assert_eq!(row["chosen"], used["kernel"], "{class}");
            let kept = choices[&class]["seconds"].as_object().unwrap();
            assert!(
                kept.len() == timings.len() && kept.values().all(|s| s.as_f64().unwrap() > 0.0),
                "{class}: {kept:?}"
            );
        }
    }
    assert_eq!(tipi_with(&cache, &["tune", "--forget"]).status.code(), Some(0));
    assert!(kept().is_empty());
}

#[test]
fn every_kernel_is_timed_against_the_adapters_peaks() {
    let (json, _) = good(&["bench", "--pictures", "1", "--budget", "1", "--json"]);
    let measured: Value = serde_json::from_str(&json).unwrap();
    assert!(measured["peak_flops"].as_f64().unwrap() > 1e6 && measured["peak_bytes"].as_f64().unwrap() > 1e6);
    let rows = measured["rows"].as_array().unwrap();
    assert_eq!(rows.len(), tipi::roofline::KERNELS, "the progress bar's length");
    for family in ["gemm nt", "gemm nn", "gemm tn", "attention dx", "layernorm", "affinity", "QuickGELU"] {
        assert!(rows.iter().any(|r| r["name"].as_str().unwrap().starts_with(family)), "no {family}");
    }
    for row in rows {
        let number = |key: &str| row[key].as_f64().unwrap();
        assert!(number("seconds") > 0.0 && number("bytes") > 0.0, "{row}");
        // A run of a millisecond may be lucky; none is twice as fast as the adapter.
        assert!(number("flops") / number("seconds") < 2.0 * measured["peak_flops"].as_f64().unwrap(), "{row}");
    }
}

#[test]
fn a_kernel_can_be_forced_and_a_wrong_name_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("features.safetensors");
    let args = ["embed", "text", "--model", MODEL, "an anchor", "--out", s(&out), "--profile"];
    let embed = |kernel: &str| {
        let run = tipi_with(&[("TIPI_KERNEL", kernel)], &args);
        let said = [run.stdout, run.stderr].concat();
        (run.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = embed("fastest");
    assert!(code == Some(2) && said.contains("fastest") && said.contains("rows, subgroup"), "{said}");
    // Products from textures have their operands staged as such; attention may stage some whichever way products go.
    let staged = |said: &str| -> usize {
        let row = said.lines().find(|l| l.contains("stage texels"));
        row.map_or(0, |l| l.split('┆').nth(1).unwrap().trim().parse().unwrap())
    };
    let (code, rows) = embed("Rows");
    assert!(code == Some(0) && rows.contains("gemm nt"), "{rows}");
    let (code, texel) = embed("texel");
    let able = code == Some(0) && staged(&texel) > staged(&rows);
    assert!(able || (code == Some(2) && texel.contains("cannot run")), "{rows}{texel}");
}

#[test]
fn a_wrong_option_is_one_line_too() {
    bad(&["fit", "tip", "--model", MODEL, "--data", "d", "--shots", "0", "--out", "o"], &["--shots", "0"]);
    bad(&["fit", "tip", "--model", MODEL], &["--data", "--shots", "--out"]);
    bad(&["frobnicate"], &["frobnicate"]);
    assert!(good(&["--help"]).0.contains("predict"));
}

#[test]
fn an_adapter_that_is_not_there_is_an_error() {
    let picture = "examples/pictos/shifted/anchor";
    bad(
        &["classify", "--model", MODEL, "--labels", "a,b", picture, "--adapter", "no such card"],
        &["no such card", "tipi devices", "0: "],
    );
    let out = Command::new(env!("CARGO_BIN_EXE_tipi"))
        .env("TIPI_TUNE", "off")
        .args(["classify", "--model", MODEL, "--labels", "a,b", picture])
        .env("TIPI_ADAPTER", "99")
        .current_dir(root())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8(out.stderr).unwrap().contains("'99'"));
    bad(&["predict", "--adapter", "none.safetensors", picture], &["none.safetensors"]);
}

#[test]
fn classify_names_what_is_in_the_pictures() {
    let labels = "anchor,credit card,umbrella";
    let dir = pictures(4);
    let (json, stderr) = good(&[
        "classify",
        "--model",
        MODEL,
        "--labels",
        labels,
        "--template",
        "an icon of {}",
        "--json",
        s(dir.path()),
    ]);
    assert!(stderr.contains("adapter:"), "which adapter and why must be said: {stderr}");
    let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.len(), 12);
    let right = right(&rows);
    assert!(right >= 9, "{right} of 12");
    for row in &rows {
        let (p, q) = (row["probability"].as_f64().unwrap(), row["runner_up_probability"].as_f64().unwrap());
        assert!(p >= q && p + q <= 1.0 + 1e-9);
    }
    let (table, _) = good(&["classify", "--model", MODEL, "--labels", labels, s(dir.path())]);
    assert!(table.contains("runner-up"));
    bad(&["classify", "--model", MODEL, "--labels", " , ", s(dir.path())], &["--labels"]);
    bad(&["classify", "--model", MODEL, "--labels", "a", "--template", "no place", s(dir.path())], &["no place", "{}"]);
}

#[test]
fn embed_writes_what_the_reference_has() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("f.safetensors");
    let golden = root().join("tests/golden");
    let case = golden.join("clip_b.safetensors");
    let bytes = std::fs::read(&case).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (what, input, output) in
        [("image", "in.pixel_values", "out.image_features"), ("text", "in.input_ids", "out.text_features")]
    {
        // Under the names that `embed` takes.
        let plain = dir.path().join("in.safetensors");
        let name = if what == "image" { "pixel_values" } else { "input_ids" };
        let data = safetensors::serialize([(name, file.tensor(input).unwrap())], None).unwrap();
        std::fs::write(&plain, data).unwrap();
        good(&["embed", what, "--model", s(&golden.join("model_b")), "--out", s(&out), s(&plain), "--batch", "3"]);
        let (shape, got) = features(&out);
        let want = file.tensor(output).unwrap();
        assert_eq!(shape, want.shape());
        let want: Vec<f32> = bytemuck::pod_collect_to_vec(want.data());
        assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() < 4e-5), "{what}");
        assert!(got.iter().any(|g| g.abs() > 0.5), "the comparison must have something to compare");
    }
}

#[test]
fn embed_keeps_the_order_of_files_folders_lines_and_arguments() {
    let dir = pictures(2);
    let out = dir.path().join("f.safetensors");
    let (anchor, umbrella) = (dir.path().join("anchor"), dir.path().join("umbrella"));
    good(&["embed", "image", "--model", MODEL, "--out", s(&out), s(&umbrella), s(&anchor)]);
    let (shape, both) = features(&out);
    assert_eq!(shape, [4, 192]);
    good(&["embed", "image", "--model", MODEL, "--out", s(&out), s(&anchor)]);
    let (_, alone) = features(&out);
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(close(&both[2 * 192..], &alone));
    assert!(!close(&both[..2 * 192], &alone));

    let lines = dir.path().join("lines.txt");
    std::fs::write(&lines, "a bell\nan anchor\n").unwrap();
    good(&["embed", "text", "--model", MODEL, "--out", s(&out), "an umbrella", &format!("@{}", s(&lines))]);
    let (shape, mixed) = features(&out);
    assert_eq!(shape, [3, 192]);
    good(&["embed", "text", "--model", MODEL, "--out", s(&out), "an anchor"]);
    assert!(close(&mixed[2 * 192..], &features(&out).1));
}

#[test]
fn fit_and_predict_with_tip_adapter() {
    let dir = pictures(6);
    let (a, b) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
    let data = tempfile::tempdir().unwrap();
    for class in ["anchor", "credit_card", "umbrella"] {
        std::fs::rename(dir.path().join(class), data.path().join(class)).unwrap();
    }
    let fit = |out: &Path| {
        good(&[
            "fit",
            "tip",
            "--model",
            MODEL,
            "--data",
            s(data.path()),
            "--shots",
            "2",
            "--seed",
            "7",
            "--views",
            "3",
            "--template",
            "an icon of {}",
            "--out",
            s(out),
        ])
    };
    let (_, stderr) = fit(&a);
    assert!(stderr.contains("alpha") && stderr.contains("validation"), "{stderr}");
    fit(&b);
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap(), "one seed, one adapter: equal bytes");

    let predict = || good(&["predict", "--adapter", s(&a), "--json", s(data.path())]).0;
    let json = predict();
    assert_eq!(json, predict(), "equal logits");
    let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.len(), 18);
    let right = right(&rows);
    assert!(right >= 14, "{right} of 18");

    // Another model is refused, a file that is no adapter too, and a damaged one.
    let other = root().join("tests/golden/model_a");
    bad(&["predict", "--adapter", s(&a), "--model", s(&other), s(data.path())], &["a.safetensors", "picto", "model_a"]);
    let weights = "weights/picto/model.safetensors";
    bad(&["predict", "--adapter", weights, s(data.path())], &["model.safetensors", "tipi fit"]);
    let bytes = std::fs::read(&a).unwrap();
    std::fs::write(&b, &bytes[..bytes.len() - 100]).unwrap();
    bad(&["predict", "--adapter", s(&b), s(data.path())], &["b.safetensors", "truncated"]);
}

/// A correction trained on the first `classes` generic concepts.
fn fit_overlap(out: &Path, classes: usize) -> String {
    let data = tempfile::tempdir().unwrap();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root().join("examples/pictos-generic"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    folders.sort();
    for folder in &folders[..classes] {
        let copy = data.path().join(folder.file_name().unwrap());
        std::fs::create_dir(&copy).unwrap();
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
    }
    let args = ["fit", "overlap", "--model", MODEL, "--data", s(data.path()), "--batch", "32", "--bottleneck", "8"];
    good(&[&args[..], &["--scale", "0.1", "--out", s(out)]].concat()).1
}

/// Arguments of `fit METHOD` on a folder with two shots.
fn fit_args<'a>(method: &'a str, data: &'a Path, out: &'a Path) -> Vec<&'a str> {
    let mut args = vec!["fit", method, "--model", MODEL, "--data", s(data), "--shots", "2", "--out", s(out)];
    if method != "overlap" {
        args.extend(["--views", "2", "--template", "an icon of {}"]);
    }
    args
}

#[test]
fn fit_and_predict_with_every_cache() {
    let data = pictures(6);
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = (dir.path().join("a.st"), dir.path().join("b.st"), dir.path().join("c.st"));
    let stderr = fit_overlap(&c, 3);
    assert!(stderr.contains("3 classes") && stderr.contains("loss"), "{stderr}");
    for (method, options, says) in [
        ("tip-f", vec!["--epochs", "3"], "tip-adapter-f: 6 keys of 3 classes"),
        ("tip-f", vec!["--epochs", "2", "--no-augment", "--initial-alpha", "3", "--lr", "0.01"], "kept epoch"),
        ("tip-x", vec![], "tip-x: 6 keys"),
        ("tip-x", vec!["--alpha", "2", "--beta", "3", "--gamma", "0.5"], "gamma 0.500"),
        ("tip", vec!["--correction", s(&c)], "tip-adapter++: 6 keys"),
        ("tip-x", vec!["--correction", s(&c)], "tip-x++: 6 keys"),
    ] {
        let fit = |out: &Path| good(&[&fit_args(method, data.path(), out), &options[..]].concat()).1;
        let stderr = fit(&a);
        assert!(stderr.contains(says), "{method} {options:?}: {stderr}");
        fit(&b);
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap(), "{method}: one seed, one adapter");
        let (json, _) = good(&["predict", "--adapter", s(&a), "--json", s(data.path())]);
        let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(rows.len(), 18);
        assert!(right(&rows) >= 14, "{method} {options:?}: {} of 18", right(&rows));
        // Each picture's answer is its own: alone it is the same.
        let one = data.path().join("anchor");
        let (alone, _) = good(&["predict", "--adapter", s(&a), "--json", s(&one), "--batch", "1"]);
        let alone: Vec<Value> = serde_json::from_str(&alone).unwrap();
        for row in &alone {
            let same = rows.iter().find(|r| r["path"] == row["path"]).unwrap();
            let off = (row["probability"].as_f64().unwrap() - same["probability"].as_f64().unwrap()).abs();
            assert!(off < 1e-4, "{method} {options:?}: {row} and {same}");
        }
    }
    // A correction is no classifier, and a classifier no correction.
    bad(&["predict", "--adapter", s(&c), s(data.path())], &["overlap correction", "--correction"]);
    bad(&[&fit_args("tip", data.path(), &b)[..], &["--correction", s(&a)]].concat(), &["--correction", "fit overlap"]);
    let no = dir.path().join("none.st");
    bad(&[&fit_args("tip", data.path(), &b)[..], &["--correction", s(&no)]].concat(), &["none.st"]);
    bad(&[&fit_args("tip-x", data.path(), &b)[..], &["--alpha", "1"]].concat(), &["--beta", "--gamma"]);
    bad(&[&fit_args("tip-f", data.path(), &b)[..], &["--lr", "0"]].concat(), &["--lr"]);
    let overlap = ["fit", "overlap", "--model", MODEL, "--data", s(data.path()), "--out", s(&b)];
    bad(&[&overlap[..], &["--dropout", "1"]].concat(), &["--dropout"]);
    bad(&[&overlap[..], &["--scale", "-1"]].concat(), &["--scale"]);
    bad(&[&overlap[..], &["--lr", "nan"]].concat(), &["--lr"]);
}

#[test]
fn overlap_is_measured_before_and_after() {
    let data = pictures(6);
    let dir = tempfile::tempdir().unwrap();
    let (c, plot) = (dir.path().join("c.st"), dir.path().join("plots.of/overlap"));
    std::fs::create_dir(dir.path().join("plots.of")).unwrap();
    fit_overlap(&c, 3);
    let args = ["overlap", "--model", MODEL, "--data", s(data.path()), "--plot", s(&plot)];
    let (json, _) = good(&[&args[..], &["--json", "--adapter", s(&c)]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["pictures"].as_u64(), json["pairs"].as_u64()), (Some(18), Some(18 * 17 / 2)));
    for when in ["before", "after"] {
        let part = &json[when];
        let sum = |key: &str| part[key].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("same"), sum("different")), (3 * 15, 153 - 45), "{when}");
        let number = |key: &str| part[key].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&number("overlap")) && (0.0..=1.0).contains(&number("feature_variance")));
        assert!(number("mean_same") > number("mean_different") + 0.1, "{part}");
    }
    assert_ne!(json["before"]["overlap"], json["after"]["overlap"]);
    // The same numbers from the features themselves.
    let f = dir.path().join("f.st");
    good(&["embed", "image", "--labels", "--model", MODEL, "--correction", s(&c), "--out", s(&f), s(data.path())]);
    let bytes = std::fs::read(&f).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let labels: Vec<i64> = bytemuck::pod_collect_to_vec(file.tensor("labels").unwrap().data());
    assert_eq!(labels, (0..18).map(|i| i / 6).collect::<Vec<i64>>());
    for (name, when) in [("features", "before"), ("adapted", "after")] {
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(file.tensor(name).unwrap().data());
        let unit: Vec<Vec<f64>> = values
            .chunks(192)
            .map(|row| {
                let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                row.iter().map(|v| f64::from(*v) / norm).collect()
            })
            .collect();
        let mean: Vec<f64> = (0..192).map(|d| unit.iter().map(|row| row[d]).sum::<f64>() / 18.0).collect();
        let variance = 1.0 - mean.iter().map(|v| v * v).sum::<f64>();
        assert!((variance - json[when]["feature_variance"].as_f64().unwrap()).abs() < 1e-5, "{when}");
        let (mut same, mut different) = (vec![0.0; 100], vec![0.0; 100]);
        for i in 0..18 {
            for j in i + 1..18 {
                let cosine: f64 = unit[i].iter().zip(&unit[j]).map(|(a, b)| a * b).sum();
                let bin = (((cosine + 1.0) * 50.0) as usize).min(99);
                if labels[i] == labels[j] { same[bin] += 1.0 / 45.0 } else { different[bin] += 1.0 / 108.0 }
            }
        }
        let overlap: f64 = same.iter().zip(&different).map(|(s, d): (&f64, &f64)| s.min(*d)).sum();
        // A pair at the edge of a bin may fall to either side.
        assert!((overlap - json[when]["overlap"].as_f64().unwrap()).abs() < 0.03, "{when}: {overlap}");
    }
    let svg = std::fs::read_to_string(dir.path().join("plots.of/overlap.svg")).unwrap();
    assert!(svg.contains("before correction") && svg.contains("after correction"));
    assert!(image::open(dir.path().join("plots.of/overlap.png")).unwrap().width() > 700);
    // Without an adapter only the plain model is measured; of one class there is nothing to measure.
    let (table, _) = good(&args);
    assert!(table.contains("before") && !table.contains("after"), "{table}");
    let one = tempfile::tempdir().unwrap();
    std::fs::rename(data.path().join("anchor"), one.path().join("anchor")).unwrap();
    bad(&["overlap", "--model", MODEL, "--data", s(one.path()), "--plot", s(&plot)], &["one class"]);
    bad(&["overlap", "--model", MODEL, "--data", s(one.path()), "--plot", "no/such/place"], &["no/such"]);
}

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

#[test]
fn fit_and_predict_with_pini() {
    let data = pictures(3);
    let out = tempfile::tempdir().unwrap();
    let (a, b) = (out.path().join("a.safetensors"), out.path().join("b.safetensors"));
    for path in [&a, &b] {
        good(&[
            "fit",
            "pini",
            "--model",
            MODEL,
            "--data",
            s(data.path()),
            "--shots",
            "2",
            "--epochs",
            "3",
            "--template",
            "an icon of",
            "--out",
            s(path),
        ]);
    }
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap(), "one seed, one adapter: equal bytes");
    let (json, _) = good(&["predict", "--adapter", s(&a), "--json", s(data.path())]);
    let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.len(), 9);
    let template = ["--template", "an icon of {}"];
    let fit = ["fit", "pini", "--model", MODEL, "--data", s(data.path()), "--shots", "2", "--out", s(&a)];
    bad(&[&fit[..], &template[..]].concat(), &["an icon of {}", "class name"]);
    bad(
        &["fit", "pini", "--model", MODEL, "--data", s(data.path()), "--shots", "2", "--lr", "-1", "--out", s(&a)],
        &["--lr"],
    );
}

#[test]
fn demo_reports_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("grid.png");
    // A correction from a few classes: the demonstration's own takes a minute here.
    let correction = dir.path().join("c.safetensors");
    fit_overlap(&correction, 8);
    let (json, _) = good(&[
        "demo",
        "--json",
        "--sets",
        "shifted",
        "--shots",
        "1",
        "--epochs",
        "1",
        "--correction",
        s(&correction),
        "--out",
        s(&picture),
    ]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(!json["adapter"].as_str().unwrap().is_empty());
    let rows = json["rows"].as_array().unwrap();
    let methods: Vec<_> = rows.iter().map(|r| r["method"].as_str().unwrap()).collect();
    let caches = ["tip-adapter", "tip-adapter-f", "tip-x", "tip-adapter++", "tip-x++"];
    assert_eq!(methods, [&["zero-shot"], &caches[..], &["pini-untrained", "pini"]].concat());
    for row in rows {
        assert_eq!((row["set"].as_str(), row["shots"].as_u64()), (Some("shifted"), Some(1)));
        let accuracy = row["accuracy"].as_f64().unwrap();
        // Sixty classes: guessing gives 0.017.
        assert!(accuracy > 0.1 && accuracy < 0.9, "{row}");
        assert!(row["seconds"].as_f64().unwrap() > 0.0);
    }
    let overlap = &json["overlap"][0];
    assert_eq!(overlap["set"], "shifted");
    assert!((0.3..0.6).contains(&overlap["before"].as_f64().unwrap()) && overlap["before"] != overlap["after"]);
    assert!(image::open(&picture).unwrap().width() > 300);
    bad(&["demo", "--sets", "nowhere"], &["nowhere", "shifted"]);
    bad(&["demo", "--out", "no/such/folder/grid.png"], &["no/such/folder/grid.png"]);
}

#[test]
fn the_profile_is_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("f.safetensors");
    let (_, stderr) = good(&["embed", "text", "--model", MODEL, "--out", s(&out), "a bell", "--profile"]);
    assert!(stderr.contains("gemm nt") && stderr.contains("GFLOP/s"), "{stderr}");
}

#[test]
fn corrupt_pictures_are_named_skipped_and_counted_unless_strict() {
    let data = pictures(5);
    let broken = data.path().join("anchor/aaa.png");
    std::fs::write(&broken, b"\x89PNG\r\n\x1a\n and then nothing").unwrap();
    let out = tempfile::tempdir().unwrap();
    let f = out.path().join("f.safetensors");
    let (_, stderr) = good(&["embed", "image", "--model", MODEL, "--out", s(&f), s(data.path())]);
    assert!(stderr.contains("aaa.png") && stderr.contains("1 picture skipped"), "{stderr}");
    assert_eq!(features(&f).0, [15, 192]);
    let g = out.path().join("g.safetensors");
    bad(&["embed", "image", "--model", MODEL, "--out", s(&g), s(data.path()), "--strict"], &["aaa.png"]);
    bad(&["embed", "image", "--model", MODEL, "--out", s(&g), s(&broken)], &["aaa.png"]);
    assert!(!g.exists(), "nothing half-written");

    // Whichever pictures the seed chooses, each class gets its two.
    for seed in ["1", "2", "3"] {
        let args = |strict: &'static str| {
            [
                "fit",
                "tip",
                "--model",
                MODEL,
                "--data",
                s(data.path()),
                "--shots",
                "4",
                "--views",
                "0",
                "--out",
                s(&g),
                "--seed",
                seed,
                strict,
            ]
            .into_iter()
            .filter(|a| !a.is_empty())
            .collect::<Vec<_>>()
        };
        let (_, stderr) = good(&args(""));
        assert!(stderr.contains("aaa.png") && stderr.contains("1 picture skipped"), "whatever the seed: {stderr}");
        bad(&args("--strict"), &["aaa.png"]);
        let bytes = std::fs::read(&g).unwrap();
        assert_eq!(SafeTensors::deserialize(&bytes).unwrap().tensor("labels").unwrap().shape(), [12]);
    }
}

#[test]
fn bad_data_is_an_error_that_names_it() {
    let data = pictures(2);
    let fit = |extra: &[&str], needles: &[&str]| {
        let mut args = vec!["fit", "tip", "--model", MODEL, "--data", s(data.path())];
        args.extend(extra);
        bad(&args, needles);
    };
    let out = data.path().join("a.safetensors");
    fit(&["--shots", "3", "--out", s(&out)], &["anchor", "3"]);
    assert!(!out.exists());
    fit(&["--shots", "1", "--out", "/no/such/folder/a.safetensors"], &["/no/such/folder/a.safetensors"]);
    fit(&["--shots", "1", "--out", s(data.path())], &["is a folder"]);
    bad(&["fit", "tip", "--model", MODEL, "--data", "nowhere", "--shots", "1", "--out", s(&out)], &["nowhere"]);
    // Enough files, but one of them is broken: the error says so.
    let one = data.path().join("anchor/broken.png");
    std::fs::write(&one, b"no picture").unwrap();
    fit(&["--shots", "3", "--out", s(&out)], &["anchor", "3", "broken.png"]);
    std::fs::create_dir(data.path().join("empty")).unwrap();
    fit(&["--shots", "1", "--out", s(&out)], &["empty"]);
}

/// A copy of a golden model with one file changed.
fn broken_model(name: &str, change: impl Fn(&mut Vec<u8>)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("tests/golden/model_b")).unwrap() {
        let entry = entry.unwrap();
        let mut bytes = std::fs::read(entry.path()).unwrap();
        if entry.file_name() == name {
            change(&mut bytes);
        }
        std::fs::write(dir.path().join(entry.file_name()), bytes).unwrap();
    }
    dir
}

/// Replaces `from` by `to`, of equal length where it is inside a safetensors header.
fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap_or_else(|| panic!("no {from}"));
    bytes.splice(at..at + from.len(), to.bytes());
}

#[test]
fn broken_models_are_errors_that_name_file_and_tensor() {
    let picture = "examples/pictos/shifted/anchor";
    let check = |dir: &Path, needles: &[&str]| {
        bad(&["classify", "--model", s(dir), "--labels", "a,b", picture], needles);
    };
    check(Path::new("no/such/model"), &["no/such/model"]);
    let weights = "model.safetensors";
    let dir = broken_model(weights, |b| b.truncate(b.len() / 2));
    check(dir.path(), &[weights, "truncated"]);
    let dir = broken_model(weights, |b| b.truncate(5));
    check(dir.path(), &[weights]);
    let dir = broken_model(weights, |b| b[..8].copy_from_slice(&(1u64 << 63).to_le_bytes()));
    check(dir.path(), &[weights]);
    let dir = broken_model(weights, |b| b[8] = b'!');
    check(dir.path(), &[weights]);
    // A tensor under another name, of another type, of another shape.
    let dir =
        broken_model(weights, |b| replace(b, "text_model.final_layer_norm.bias", "text_model.final_layer_norm.bia_"));
    check(dir.path(), &[weights, "text_model.final_layer_norm.bias", "missing"]);
    let dir = broken_model(weights, |b| {
        let at = b.windows(12).position(|w| w == b"logit_scale\"").unwrap();
        let dtype = at + b[at..].windows(3).position(|w| w == b"F32").unwrap();
        b[dtype..dtype + 3].copy_from_slice(b"I32");
    });
    check(dir.path(), &[weights, "logit_scale", "I32"]);
    // A configuration that contradicts the weights.
    let dir = broken_model("config.json", |b| replace(b, "\"intermediate_size\": 200", "\"intermediate_size\": 208"));
    check(dir.path(), &[weights, "fc1.weight", "208"]);
    let dir = broken_model("config.json", |b| replace(b, "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"));
    check(dir.path(), &[weights, "layers.2", "2 layers"]);
    let dir = broken_model("config.json", |b| replace(b, "\"num_attention_heads\": 6", "\"num_attention_heads\": 7"));
    check(dir.path(), &["config.json", "7 heads"]);
    let dir = broken_model("config.json", |b| replace(b, "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"tanh\""));
    check(dir.path(), &["config.json", "tanh", "quick_gelu"]);
    let dir = broken_model("config.json", |b| b.truncate(40));
    check(dir.path(), &["config.json"]);
    let dir = broken_model("tokenizer.json", |b| b.truncate(40));
    check(dir.path(), &["tokenizer.json"]);
    let dir = broken_model("preprocessor_config.json", |b| replace(b, "\"resample\": 3", "\"resample\": 1"));
    check(dir.path(), &["preprocessor_config.json", "resample"]);
    let dir = broken_model("preprocessor_config.json", |b| {
        replace(b, "\"do_center_crop\": true", "\"do_center_crop\": false");
    });
    check(dir.path(), &["preprocessor_config.json", "do_center_crop"]);
}

#[test]
fn inputs_of_the_wrong_form_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (input, out) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    let write = |name: &str, dtype, shape: Vec<usize>, bytes: &[u8]| {
        let view = safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap();
        std::fs::write(&input, safetensors::serialize([(name, view)], None).unwrap()).unwrap();
    };
    use safetensors::Dtype::{F32, I32};
    write("pixel_values", F32, vec![1, 3, 2, 2], &[0; 48]);
    bad(&["embed", "image", "--model", MODEL, "--out", s(&out), s(&input)], &["pixel_values", "[n, 3, 64, 64]"]);
    write("other", F32, vec![1], &[0; 4]);
    bad(&["embed", "image", "--model", MODEL, "--out", s(&out), s(&input)], &["pixel_values", "missing"]);
    let ids: Vec<u8> = [2046i32, 5000, 2047].iter().flat_map(|v| v.to_le_bytes()).collect();
    write("input_ids", I32, vec![1, 3], &ids);
    bad(&["embed", "text", "--model", MODEL, "--out", s(&out), s(&input)], &["5000", "2048"]);
    let ids: Vec<u8> = [2046i32, -1, 2047].iter().flat_map(|v| v.to_le_bytes()).collect();
    write("input_ids", I32, vec![1, 3], &ids);
    bad(&["embed", "text", "--model", MODEL, "--out", s(&out), s(&input)], &["input_ids"]);
    let ids: Vec<u8> = [2046i32, 7, 7].iter().flat_map(|v| v.to_le_bytes()).collect();
    write("input_ids", I32, vec![1, 3], &ids);
    bad(&["embed", "text", "--model", MODEL, "--out", s(&out), s(&input)], &["end token"]);
    let ids: Vec<u8> = std::iter::repeat_n(7i32, 60).chain([2047]).flat_map(i32::to_le_bytes).collect();
    write("input_ids", I32, vec![1, 61], &ids);
    bad(&["embed", "text", "--model", MODEL, "--out", s(&out), s(&input)], &["context of 40"]);
    assert!(!out.exists());
}

#[test]
fn info_tells_what_a_model_is_and_needs() {
    let (text, _) = good(&["info", MODEL]);
    for part in [
        "6 blocks of width 192",
        "patches of 16 on 64×64",
        "vocabulary 2048",
        "QuickGELU",
        "5.08 M",
        "F16",
        "shorter side to 64",
        "tokenizer.json",
        "training PiNI",
    ] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
    let json = |args: &[&str]| -> Value { serde_json::from_str(&good(args).0).unwrap() };
    let full = json(&["info", MODEL, "--json"]);
    let half = json(&["info", MODEL, "--json", "--precision", "f16"]);
    let large = json(&["info", MODEL, "--json", "--batch", "64", "--classes", "300"]);
    let bytes = |json: &Value, what: &str| json["memory"]["methods"][what].as_u64().unwrap();
    let weights = |json: &Value| json["memory"]["weights"].as_u64().unwrap();
    assert!(weights(&half) < weights(&full) * 6 / 10);
    for what in full["memory"]["methods"].as_object().unwrap().keys() {
        assert!(bytes(&full, what) > weights(&full), "{what}");
        assert!(bytes(&large, what) >= bytes(&full, what), "{what}");
    }
    assert!(bytes(&large, "training PiNI") > bytes(&full, "training PiNI"));
    bad(&["info", "no/such/model/at/all"], &["no/such/model/at/all"]);
    bad(&["info", "tests"], &["tests", "model.safetensors"]);
}

#[test]
fn precision_and_batch_are_options_and_memory_is_foreseen() {
    let dir = tempfile::tempdir().unwrap();
    let picture = "examples/pictos/shifted/anchor";
    let embed = |out: &Path, more: &[&str]| {
        let out = s(out).to_string();
        let mut args = vec!["embed", "image", "--model", MODEL, "--out", &out, picture];
        args.extend(more);
        good(&args);
        features(Path::new(&out)).1
    };
    let full = embed(&dir.path().join("a.safetensors"), &["--precision", "f32"]);
    let half = embed(&dir.path().join("b.safetensors"), &["--precision", "f16", "--batch", "3"]);
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|v| v * v).sum::<f32>().sqrt();
    let off = norm(&mut full.iter().zip(&half).map(|(a, b)| a - b)) / norm(&mut full.iter().copied());
    assert!(off < 5e-3, "{off}");
    bad(&["embed", "image", "--model", MODEL, "--out", "x.safetensors", "--precision", "f8", picture], &["f8", "f16"]);
    // With little memory the batch shrinks by itself, and one that was asked for is refused with the one that fits.
    let limited = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipi"));
        command.env("TIPI_TUNE", "off").env("TIPI_MEMORY", "19").args(args).current_dir(root());
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let out = dir.path().join("c.safetensors");
    let args = ["embed", "image", "--model", MODEL, "--out", s(&out), "examples/pictos/shifted"];
    let (code, stderr) = limited(&args);
    assert_eq!(code, Some(0), "{stderr}");
    let (code, stderr) = limited(&[&args[..], &["--batch", "32"]].concat());
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("encoding 32 pictures at a time") && stderr.contains("would fit"), "{stderr}");
    let info = tipi_with(&[("TIPI_MEMORY", "30")], &["info", MODEL, "--batch", "500"]);
    let text = String::from_utf8(info.stdout).unwrap();
    let row = text.lines().find(|line| line.contains("training a correction")).unwrap();
    assert!(row.contains("does not fit") && row.contains("at a time would fit"), "{text}");
    let wrong = tipi_with(&[("TIPI_MEMORY", "many")], &["info", MODEL]);
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("TIPI_MEMORY=many"));
}

/// A fit that is asked to stop leaves a checkpoint; taken up it writes the file that an undisturbed one writes.
#[cfg(unix)]
#[test]
fn a_stopped_fit_goes_on_with_the_same_bits() {
    let data = pictures(6);
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole.safetensors"), dir.path().join("cut.safetensors"));
    let args = |out: &Path| -> Vec<String> {
        let text = format!(
            "fit pini --model {MODEL} --shots 3 --epochs 40 --views 3 --noise both --draws 2 --evaluate average:3 --data {} \
             --out {}",
            s(data.path()),
            s(out)
        );
        text.split_whitespace().map(String::from).collect()
    };
    let strings = |args: &[String]| args.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let run = |args: &[String]| {
        let out = tipi(&args.iter().map(String::as_str).collect::<Vec<_>>());
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let resume = |out: &Path| args(out).into_iter().chain(["--resume".into()]).collect::<Vec<_>>();
    let (code, stderr) = run(&resume(&cut));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("cut.safetensors.checkpoint"), "{stderr}");
    let (code, stderr) = run(&args(&whole));
    assert_eq!(code, Some(0), "{}: {stderr}", strings(&args(&whole)));
    assert!(stderr.contains("temperature") && stderr.contains("wrote"), "{stderr}");
    assert!(!dir.path().join("whole.safetensors.checkpoint").exists());

    let checkpoint = dir.path().join("cut.safetensors.checkpoint");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tipi"))
        .env("TIPI_TUNE", "off")
        .args(args(&cut))
        .current_dir(root())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Once an epoch is done, as Ctrl-C does.
    while !checkpoint.is_file() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let out = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("--resume") && stderr.ends_with("stopped\n"), "{stderr}");
    assert!(checkpoint.is_file() && !cut.exists());
    // Another setting is not mixed in.
    let other: Vec<String> = resume(&cut).into_iter().chain(["--lr".into(), "0.1".into()]).collect();
    let (code, stderr) = run(&other);
    assert!(code == Some(2) && stderr.contains("lr ") && stderr.contains("now 0.1"), "{stderr}");
    let (code, stderr) = run(&resume(&cut));
    assert!(code == Some(0) && stderr.contains("going on after epoch"), "{stderr}");
    assert!(!checkpoint.exists());
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&cut).unwrap(), "the files differ");
}

#[test]
fn what_is_not_sure_enough_is_unknown() {
    let data = pictures(6);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.safetensors");
    let fit =
        ["fit", "tip", "--model", MODEL, "--data", s(data.path()), "--shots", "2", "--views", "0", "--out", s(&out)];
    let (_, stderr) = good(&fit);
    assert!(stderr.contains("temperature"), "{stderr}");
    let predict = |least: &str| -> Vec<Value> {
        let (json, _) = good(&["predict", "--adapter", s(&out), "--min-confidence", least, "--json", s(data.path())]);
        serde_json::from_str(&json).unwrap()
    };
    let all = predict("0");
    assert!(all.iter().all(|row| row["class"] == row["likeliest"]));
    let mut sure: Vec<f64> = all.iter().map(|row| row["probability"].as_f64().unwrap()).collect();
    sure.sort_by(f64::total_cmp);
    // Between two pictures: one half is known, the other is not, and the best guess stays.
    let middle = 0.5 * (sure[8] + sure[9]);
    let some = predict(&middle.to_string());
    for (row, before) in some.iter().zip(&all) {
        let known = row["probability"].as_f64().unwrap() >= middle;
        assert_eq!(row["class"] == "unknown", !known, "{row}");
        assert_eq!(row["likeliest"], before["class"]);
    }
    assert_eq!(some.iter().filter(|row| row["class"] == "unknown").count(), 9);
    let (table, _) = good(&["predict", "--adapter", s(&out), "--min-confidence", "1", s(data.path())]);
    assert!(table.contains("unknown ("), "{table}");
    bad(&["predict", "--adapter", s(&out), "--min-confidence", "1.5", s(data.path())], &["--min-confidence", "0 to 1"]);

    // The temperature is in the file, and counts: at 1 the probabilities are others.
    let bytes = std::fs::read(&out).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let meta: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["tipi"]).unwrap();
    assert!(meta["temperature"].as_f64().is_some_and(|t| t > 0.0 && (t - 1.0).abs() > 1e-3), "{meta}");
}
