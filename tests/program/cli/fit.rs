//! `fit` and `predict`.

use std::path::Path;
use std::process::Command;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::start::{MODEL, root, s, tipi};
use crate::{bad, fit_overlap, good, pictures, right};

/// Arguments of `fit METHOD` on a folder with two shots.
fn fit_args<'a>(method: &'a str, data: &'a Path, out: &'a Path) -> Vec<&'a str> {
    let mut args = vec!["fit", method, "--model", MODEL, "--data", s(data), "--shots", "2", "--out", s(out)];
    if method != "overlap" {
        args.extend(["--views", "2", "--template", "an icon of {}"]);
    }
    args
}

#[test]
fn fit_and_predict_with_tip_adapter() {
    let dir = pictures(6);
    let (a, b) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
    let data = tempfile::tempdir().unwrap();
    for class in ["apple", "credit_card", "umbrella"] {
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

#[test]
fn fit_and_predict_with_every_cache() {
    let data = pictures(6);
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = (dir.path().join("a.st"), dir.path().join("b.st"), dir.path().join("c.st"));
    let stderr = fit_overlap(&c, 3);
    assert!(stderr.contains("3 classes") && stderr.contains("loss"), "{stderr}");
    for (method, options, says) in [
        ("tip-f", vec!["--epochs", "3"], "tip-adapter-f: 6 pictures of 3 classes"),
        ("tip-f", vec!["--epochs", "2", "--no-augment", "--initial-alpha", "3", "--lr", "0.01"], "kept epoch"),
        ("tip-x", vec![], "tip-x: 6 pictures"),
        ("tip-x", vec!["--alpha", "2", "--beta", "3", "--gamma", "0.5"], "gamma 0.500"),
        ("tip", vec!["--correction", s(&c)], "tip-adapter++: 6 pictures"),
        ("tip-x", vec!["--correction", s(&c)], "tip-x++: 6 pictures"),
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
        let one = data.path().join("apple");
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

/// Noise on pixels: an adapter, and answers by an average of draws that no neighbour changes.
#[test]
fn fit_and_predict_with_noise_on_pixels() {
    // Few pictures: each costs some billions of operations in the network.
    let data = pictures(2);
    let out = tempfile::tempdir().unwrap();
    let (a, b) = (out.path().join("a.safetensors"), out.path().join("b.safetensors"));
    let args = ["fit", "pini", "--noise", "pixels", "--model", MODEL, "--data", s(data.path()), "--shots", "1"];
    let rest =
        ["--epochs", "1", "--no-augment", "--judge-by", "validation", "--pixel-batch", "3", "--evaluate", "average:2"];
    good(&[&args[..], &rest, &["--words", "an icon of", "--out", s(&a)]].concat());
    let mut bytes = std::fs::read(&a).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("layer2.0.conv1.weight").unwrap().shape(), [128, 64, 3, 3]);
    assert_eq!(file.tensor("bn1.running_var").unwrap().shape(), [64]);
    let (json, _) = good(&["predict", "--adapter", s(&a), "--json", s(data.path())]);
    let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.len(), 6);
    // Neighbours change nothing of an answer.
    let (alone, _) = good(&["predict", "--adapter", s(&a), "--json", s(&data.path().join("apple")), "--batch", "1"]);
    for row in serde_json::from_str::<Vec<Value>>(&alone).unwrap() {
        let same = rows.iter().find(|r| r["path"] == row["path"]).unwrap();
        let off = (row["probability"].as_f64().unwrap() - same["probability"].as_f64().unwrap()).abs();
        assert!(off < 1e-4, "{row} and {same}");
    }
    // Negative variances are no statistics.
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let at = 8 + header + json["bn1.running_var"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[at..at + 4].copy_from_slice(&(-1f32).to_le_bytes());
    std::fs::write(&b, bytes).unwrap();
    bad(&["predict", "--adapter", s(&b), s(data.path())], &["b.safetensors", "bn1.running_var", "negative"]);
    let args = [&args[..], &["--out", s(&a)]].concat();
    bad(&[&args[..], &["--evaluate", "average:65"]].concat(), &["average:65", "64"]);
    bad(&[&args[..], &["--pixel-batch", "0"]].concat(), &["--pixel-batch", "1 to 65536"]);
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
    assert!(code == Some(0) && stderr.contains("going on after step"), "{stderr}");
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
