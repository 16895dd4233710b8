//! `devices`, `tune` and `bench`, and how a device and a kernel are chosen.

use serde_json::Value;

use crate::start::{MODEL, s};
use crate::{bad, good, tipi_with};

#[test]
fn devices_are_listed() {
    let (table, _) = good(&["devices"]);
    assert!(table.contains('*') && table.contains("GEMM"), "{table}");
    let (json, _) = good(&["devices", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().iter().filter(|a| a["default"] == true).count(), 1);
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    let picture = "examples/pictos/shifted/apple";
    bad(
        &["classify", "--model", MODEL, "--labels", "a,b", picture, "--device", "no such card"],
        &["no such card", "tipi devices", "0: "],
    );
    bad(&["predict", "--adapter", "none.safetensors", picture], &["none.safetensors"]);
}

/// The names that the choice of a device had before still work, and say what they are called now.
#[test]
fn a_device_is_chosen_by_option_or_environment() {
    let bench = ["bench", "--pictures", "1", "--budget", "1"];
    let said = |variables: &[(&str, &str)], options: &[&str]| {
        let out = tipi_with(variables, &[&bench[..], options].concat());
        assert_eq!(out.status.code(), Some(2));
        String::from_utf8(out.stderr).unwrap()
    };
    for (variables, options, former) in [
        (vec![("TIPI_DEVICE", "99")], vec![], None),
        (vec![("TIPI_DEVICE", "99"), ("TIPI_ADAPTER", "98")], vec![], None),
        (vec![("TIPI_DEVICE", "98"), ("TIPI_ADAPTER", "97")], vec!["--device", "99"], None),
        (vec![("TIPI_DEVICE", ""), ("TIPI_ADAPTER", "99")], vec![], Some("TIPI_ADAPTER is called TIPI_DEVICE now")),
        (vec![], vec!["--adapter", "99"], Some("--adapter is called --device now")),
        (vec![("TIPI_ADAPTER", "98")], vec!["--adapter", "99"], Some("--adapter is called --device now")),
    ] {
        let said = said(&variables, &options);
        assert!(said.contains("'99'"), "{variables:?} {options:?}: {said}");
        let notes: Vec<_> = said.lines().filter(|line| !line.starts_with("error:")).collect();
        assert_eq!(notes, Vec::from_iter(former), "{variables:?} {options:?}");
    }
    bad(&[&bench[..], &["--device", "0", "--adapter", "0"]].concat(), &["--device", "--adapter"]);
    let (help, _) = good(&["bench", "--help"]);
    assert!(help.contains("--device") && !help.contains("--adapter"), "{help}");
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
fn every_kernel_is_timed_against_the_devices_peaks() {
    let (json, _) = good(&["bench", "--pictures", "1", "--budget", "1", "--json"]);
    let measured: Value = serde_json::from_str(&json).unwrap();
    assert!(measured["peak_flops"].as_f64().unwrap() > 1e6 && measured["peak_bytes"].as_f64().unwrap() > 1e6);
    let rows = measured["rows"].as_array().unwrap();
    assert_eq!(rows.len(), tipi::low_level::roofline::KERNELS, "the progress bar's length");
    for family in ["gemm nt", "gemm nn", "gemm tn", "attention dx", "layernorm", "affinity", "QuickGELU"] {
        assert!(rows.iter().any(|r| r["name"].as_str().unwrap().starts_with(family)), "no {family}");
    }
    for row in rows {
        let number = |key: &str| row[key].as_f64().unwrap();
        assert!(number("seconds") > 0.0 && number("bytes") > 0.0, "{row}");
        // A run of a millisecond may be lucky; none is twice as fast as the device.
        assert!(number("flops") / number("seconds") < 2.0 * measured["peak_flops"].as_f64().unwrap(), "{row}");
    }
}

#[test]
fn a_kernel_can_be_forced_and_a_wrong_name_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("features.safetensors");
    let args = ["embed", "text", "--model", MODEL, "an apple", "--out", s(&out), "--profile"];
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
