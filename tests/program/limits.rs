//! Devices with less: what runs on this one runs under the limits of a browser, of a phone and of an old integrated GPU, in
//! every precision, by every method within the least of them, and gives the same but for rounding.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use start::{MODEL, command, root, s};
use tipi::low_level::clip::Clip;
use tipi::low_level::gpu::{DeviceOptions, Gpu, LimitSet};
use tipi::low_level::kernels::gemm::Precision;

fn open(limits: Option<LimitSet>) -> Gpu {
    Gpu::open(&DeviceOptions { tune: Some(false), limits, ..DeviceOptions::default() }).unwrap()
}

/// Features of a picture of noise and of a text.
fn features(gpu: &Gpu, precision: Precision) -> Vec<f32> {
    let clip = Clip::load_as(gpu, &root().join("tests/golden/model_a"), precision).unwrap();
    let side = clip.config.image_size;
    let pixels: Vec<f32> = (0..2 * 3 * side * side).map(|i| ((i * 7919 % 1000) as f32) / 500.0 - 1.0).collect();
    let mut all = clip.image_encoder(2).unwrap().encode(&pixels, &mut |_| {}).unwrap();
    let end = clip.config.vocabulary as u32 - 1;
    all.extend(clip.text.encode(&[vec![1, 2, 3, end], vec![5, end]], clip.config.end).unwrap());
    all
}

/// The largest difference, as a share of the largest number.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let size = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / size
}

#[test]
fn features_are_the_same_under_every_set_of_limits() {
    let (whole, coarse) = (features(&open(None), Precision::F32), features(&open(None), Precision::F16));
    let coarser = features(&open(None), Precision::Int8);
    for set in LimitSet::ALL {
        let gpu = open(Some(set));
        let caps = *gpu.capabilities();
        assert_eq!(caps.subgroups.is_some(), set == LimitSet::Integrated);
        assert!(!caps.f16 && caps.matrices.is_none(), "{}: {caps:?}", set.name());
        assert!(gpu.max_binding() <= 128 << 20 && caps.workgroup_memory <= 32 << 10 && !caps.cpu, "{}", set.name());
        let full = difference(&whole, &features(&gpu, Precision::F32));
        let half = difference(&coarse, &features(&gpu, Precision::F16));
        let eighth = difference(&coarser, &features(&gpu, Precision::Int8));
        println!("{}: {full:.1e}, with f16 {half:.1e}, with int8 {eighth:.1e}", set.name());
        assert!(full < 1e-4 && half < 2e-3, "{}: {full:e}, with f16 {half:e}", set.name());
        assert!(eighth < 2e-3, "{}: {eighth:e} with int8", set.name());
    }
    // What is compared tells precisions apart.
    assert!(difference(&whole, &coarse) > 1e-4 && difference(&whole, &coarser) > 3e-3);
}

#[test]
fn every_method_learns_and_predicts_within_the_least() {
    let data = tempfile::tempdir().unwrap();
    for class in ["apple", "umbrella"] {
        let (from, to) = (root().join("examples/pictos/shifted").join(class), data.path().join(class));
        std::fs::create_dir(&to).unwrap();
        let mut pictures: Vec<_> = std::fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().path()).collect();
        pictures.sort();
        for picture in pictures.iter().take(4) {
            std::fs::copy(picture, to.join(picture.file_name().unwrap())).unwrap();
        }
    }
    let picture = std::fs::read_dir(data.path().join("apple")).unwrap().next().unwrap().unwrap().path();
    let set = LimitSet::Mobile;
    let run = |args: &[&str]| {
        let out = command(args).env("TIPI_LIMITS", set.name()).output().unwrap();
        assert!(out.status.success(), "{} {args:?}: {}", set.name(), String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let results = tempfile::tempdir().unwrap();
    let correction = results.path().join("correction.safetensors");
    let mut fits: Vec<Vec<&str>> = tipi::low_level::adapt::method::METHODS
        .iter()
        .map(|method| method.info().name)
        .filter(|name| *name != "auto")
        .map(|name| vec!["fit", name, "--shots", "2", "--seed", "1"])
        .collect();
    fits.insert(0, vec!["fit", "overlap", "--epochs", "1", "--bottleneck", "8", "--seed", "1"]);
    for fit in fits {
        let name = fit[1];
        let out = results.path().join(format!("{name}.safetensors"));
        let out = if name == "overlap" { &correction } else { &out };
        let mut args = [&fit[..], &["--model", MODEL, "--data", s(data.path()), "--out", s(out), "--force"]].concat();
        match name {
            "overlap" | "zero-shot" => {}
            "prolip" => args.extend(["--epochs", "1"]),
            "pini" => args.extend(["--epochs", "1", "--no-augment"]),
            "tip-adapter-f" => args.extend(["--epochs", "1", "--key-views", "1"]),
            "tip-adapter++" | "tip-x++" => args.extend(["--correction", s(&correction), "--key-views", "1"]),
            _ => args.extend(["--key-views", "1"]),
        }
        run(&args);
        if name != "overlap" {
            let said = run(&["predict", "--model", MODEL, "--adapter", s(out), s(&picture)]);
            assert!(said.contains("apple") || said.contains("umbrella"), "{}: {name}: {said}", set.name());
        }
    }
}

#[test]
fn a_set_that_there_is_not_is_an_error() {
    let out = command(&["info", MODEL]).env("TIPI_LIMITS", "toaster").output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("TIPI_LIMITS=toaster") && said.contains("webgpu, mobile, integrated"), "{said}");
    assert_eq!(out.status.code(), Some(2));
}
