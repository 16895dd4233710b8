//! Options that all commands share.

use std::path::Path;
use std::process::Command;

use crate::start::{MODEL, root, s};
use crate::{bad, features, good, tipi_with};

#[test]
fn a_wrong_option_is_one_line_too() {
    bad(&["fit", "tip", "--model", MODEL, "--data", "d", "--shots", "0", "--out", "o"], &["--shots", "0"]);
    bad(&["fit", "tip", "--model", MODEL], &["--data", "--shots", "--out"]);
    bad(&["frobnicate"], &["frobnicate"]);
    assert!(good(&["--help"]).0.contains("predict"));
}

#[test]
fn precision_and_batch_are_options_and_memory_is_foreseen() {
    let dir = tempfile::tempdir().unwrap();
    let picture = "examples/pictos/shifted/apple";
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
    let eighth = embed(&dir.path().join("d.safetensors"), &["--precision", "int8"]);
    let off = norm(&mut full.iter().zip(&eighth).map(|(a, b)| a - b)) / norm(&mut full.iter().copied());
    assert!(off > 1e-3 && off < 4e-2, "{off}");
    let wrong = ["embed", "image", "--model", MODEL, "--out", "x.safetensors", "--precision", "f8", picture];
    bad(&wrong, &["f8", "f16", "int8"]);
    // With little memory the batch shrinks by itself, and one that was asked for is refused with the one that fits.
    let limited = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipi"));
        command.env("TIPI_TUNE", "off").env("TIPI_MEMORY", "19").args(args).current_dir(root());
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let out = dir.path().join("c.safetensors");
    let args = [
        "embed",
        "image",
        "--model",
        MODEL,
        "--out",
        s(&out),
        "examples/pictos/shifted/bell",
        "examples/pictos/shifted/car",
    ];
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
