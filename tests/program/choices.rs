//! What the program does with what it measured, and with variables that mean nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use start::{MODEL, root};

/// The program with its caches in `cache` and other variables set.
fn tipi(cache: &Path, variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipi"));
    command.env("TIPI_CACHE_DIR", cache).envs(variables.iter().copied());
    command.args(args).current_dir(root()).output().unwrap()
}

/// The only file of measured choices in a folder, where there is one.
fn choices(cache: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    let first = files.next();
    assert!(files.next().is_none());
    first
}

#[test]
fn variables_that_mean_nothing_are_errors_and_say_what_would_mean_something() {
    let cache = tempfile::tempdir().unwrap();
    let args = ["info", MODEL];
    for (name, value, remedy) in [
        ("TIPI_TUNE", "xyz", "on (1) or off (0)"),
        ("TIPI_CHECKED", "true please", "on (1) or off (0)"),
        ("TIPI_PORTABLE", "2", "on (1) or off (0)"),
        ("TIPI_MEMORY", "-4", "MiB"),
        ("TIPI_KERNEL", "fastest", "rows, subgroup, texel"),
        ("TIPI_DEVICE", "no such card", "tipi devices"),
    ] {
        let out = tipi(cache.path(), &[("TIPI_TUNE", "off"), (name, value)], &args);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{name}={value}: {said}");
        assert!(said.contains(value) && said.contains(remedy) && said.lines().count() == 1, "{name}={value}: {said}");
    }
    for (name, value) in [("TIPI_TUNE", "0"), ("TIPI_TUNE", ""), ("TIPI_CHECKED", "1"), ("TIPI_PORTABLE", "off")] {
        let out = tipi(cache.path(), &[("TIPI_TUNE", "off"), (name, value)], &args);
        assert_eq!(out.status.code(), Some(0), "{name}={value}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

/// An adapter file is the same whatever the clock said: fresh measurements, none, and planted ones that would have every kernel
/// in turn, whether it is of this device or not.
#[test]
fn what_was_measured_does_not_change_a_bit() {
    let pictures = tempfile::tempdir().unwrap();
    for class in ["apple", "umbrella"] {
        let folder = pictures.path().join(class);
        std::fs::create_dir(&folder).unwrap();
        let files = std::fs::read_dir(root().join("examples/pictos/shifted").join(class)).unwrap();
        let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in &files[..2] {
            std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
        }
    }
    let data = pictures.path().to_str().unwrap();
    let fit = |cache: &Path, tune: &str| {
        let out = cache.join("a.safetensors");
        let args = ["fit", "tip-f", "--model", MODEL, "--data", data, "--shots", "1", "--seed", "1"];
        let rest = ["--epochs", "2", "--no-augment", "--out", out.to_str().unwrap()];
        let run = tipi(cache, &[("TIPI_TUNE", tune)], &[&args[..], &rest].concat());
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        std::fs::read(out).unwrap()
    };
    let fresh = tempfile::tempdir().unwrap();
    let want = fit(fresh.path(), "on");
    let unmeasured = tempfile::tempdir().unwrap();
    assert!(fit(unmeasured.path(), "off") == want, "without measuring the file differs");
    assert_eq!(choices(unmeasured.path()), None, "measured all the same");
    let Some(measured) = choices(fresh.path()) else { return };
    let text = std::fs::read_to_string(&measured).unwrap();
    for favoured in ["rows", "subgroup", "texel", "tile", "matrix"] {
        let mut planted: Value = serde_json::from_str(&text).unwrap();
        for measured in planted.as_object_mut().unwrap().values_mut() {
            measured["looks"] = 1000.into();
            let seconds = measured["seconds"].as_object_mut().unwrap();
            seconds.values_mut().for_each(|s| *s = 1.0.into());
            seconds.insert(favoured.into(), 1e-9.into());
        }
        let cache = tempfile::tempdir().unwrap();
        let path = cache.path().join(measured.file_name().unwrap());
        std::fs::write(&path, serde_json::to_vec(&planted).unwrap()).unwrap();
        assert!(fit(cache.path(), "on") == want, "times in favour of '{favoured}' changed the file");
        assert!(std::fs::read_to_string(path).unwrap().contains("1e-9"), "the planted times were not used");
    }
}

/// A model's needs for as many classes as ImageNet-21k has, which would fill gigabytes of host memory were they made.
#[test]
fn needs_of_many_classes_are_known_at_once() {
    let cache = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let out = tipi(cache.path(), &[("TIPI_TUNE", "off")], &["info", MODEL, "--classes", "21841", "--json"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let info: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(info["memory"]["classes"], 21_841);
    assert!(info["memory"]["methods"]["encoding texts"].as_u64().unwrap() > 10 << 20, "{info}");
}

/// A process that ended while it used a kernel for the first time leaves a note. The next one tries that kernel in a process of
/// its own, leaves it out if that ends badly too, and goes on as if nothing had been if it does not.
#[test]
fn a_kernel_that_ended_a_process_is_not_used_in_another_untried() {
    let cache = tempfile::tempdir().unwrap();
    let file = |what: &str| {
        let files = std::fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(what));
        files.next()
    };
    let picture = "examples/pictos/shifted/apple";
    let classify = || {
        let out = tipi(
            cache.path(),
            &[("TIPI_TUNE", "off")],
            &["classify", "--model", MODEL, "--labels", "apple,key", picture],
        );
        let (said, told) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
        assert!(out.status.success(), "{told}");
        (said, told)
    };
    let (whole, _) = classify();
    // What ran is remembered, and nothing else is left.
    let ran = file("ran-").unwrap();
    let stem = ran.file_stem().unwrap().to_str().unwrap().strip_prefix("ran-").unwrap().to_string();
    assert!(std::fs::read_to_string(&ran).unwrap().lines().any(|key| key.starts_with("attention")));
    assert!(file("first-").is_none() && file("deadly-").is_none());
    let note = cache.path().join(format!("first-{stem}.1-0"));
    let trial = |text: &str| {
        serde_json::json!({"key": "attention_texel/forward,HEAD=64,CAUSAL=0", "entry": "main", "text": text, "bindings": []})
            .to_string()
    };
    // Killed from outside: the kernel is well.
    std::fs::write(&note, trial("@compute @workgroup_size(1) fn main() {}")).unwrap();
    let (said, told) = classify();
    assert_eq!((said, told.contains("left out")), (whole, false), "{told}");
    assert!(!note.exists() && file("deadly-").is_none());
    // Its fault: nothing that needs what it needs is used any more.
    std::fs::write(&note, trial("this compiles nowhere")).unwrap();
    let (_, told) = classify();
    assert!(told.contains("attention_texel/forward") && told.contains("left out"), "{told}");
    assert!(!note.exists() && file("deadly-").is_some());
    let (_, told) = classify();
    assert!(!told.contains("left out"), "said again: {told}");
    let ran = std::fs::read_to_string(&ran).unwrap();
    assert!(ran.lines().any(|key| key.starts_with("attention/")), "{ran}");
}
