//! `overlap`.

use safetensors::SafeTensors;
use serde_json::Value;

use crate::start::{MODEL, s};
use crate::{bad, fit_overlap, good, pictures};

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
    assert_ne!(json["before"]["feature_variance"], json["after"]["feature_variance"]);
    // The same numbers from the features themselves.
    let f = dir.path().join("f.safetensors");
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
    std::fs::rename(data.path().join("apple"), one.path().join("apple")).unwrap();
    bad(&["overlap", "--model", MODEL, "--data", s(one.path()), "--plot", s(&plot)], &["one class"]);
    bad(&["overlap", "--model", MODEL, "--data", s(one.path()), "--plot", "no/such/place"], &["no/such"]);
}

/// Any folder of pictures: loose ones and folders in folders; of a set in parts, train.
#[test]
fn a_correction_is_trained_without_labels() {
    let data = pictures(3);
    let dir = tempfile::tempdir().unwrap();
    let loose = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(loose.path().join("deep/er")).unwrap();
    for (i, (class, to)) in
        [("apple", "a.png"), ("umbrella", "deep/b.png"), ("credit_card", "deep/er/c.png")].iter().enumerate()
    {
        let mut files: Vec<_> =
            std::fs::read_dir(data.path().join(class)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        std::fs::copy(&files[i % files.len()], loose.path().join(to)).unwrap();
    }
    let out = dir.path().join("c.st");
    let args = |data: &std::path::Path, more: &[&str]| -> Vec<String> {
        let fixed = ["fit", "overlap", "--self-supervised", "--model", MODEL, "--data", s(data), "--out", s(&out)];
        let small =
            [("--epochs", "1"), ("--batch", "2"), ("--bottleneck", "4"), ("--head", "40"), ("--local-crops", "2")];
        let small = small.iter().filter(|(name, _)| !more.contains(name)).flat_map(|(name, value)| [name, value]);
        fixed.iter().chain(small).chain(more).map(|arg| (*arg).to_string()).collect()
    };
    let run = |data: &std::path::Path, more: &[&str]| {
        let all = args(data, more);
        let stderr = good(&all.iter().map(String::as_str).collect::<Vec<_>>()).1;
        (std::fs::read(&out).unwrap(), stderr)
    };
    let (first, stderr) = run(loose.path(), &[]);
    assert!(stderr.contains("overlap: 3 pictures without labels, 1 epoch, last loss"), "{stderr}");
    assert!(run(loose.path(), &[]).0 == first, "one seed, one correction");
    assert!(run(loose.path(), &["--head", "41"]).0 != first);
    assert!(run(loose.path(), &["--micro-batch", "1", "--momentum", "0.5"]).0 != first);
    // It is used as any other.
    let measured = ["overlap", "--model", MODEL, "--data", s(data.path()), "--json", "--adapter", s(&out)];
    let plot = dir.path().join("plot");
    let (json, _) = good(&[&measured[..], &["--plot", s(&plot)]].concat());
    assert!(serde_json::from_str::<Value>(&json).unwrap()["after"].is_object(), "{json}");
    // A set in parts gives its train part.
    let parts = tempfile::tempdir().unwrap();
    for part in ["train", "test"] {
        for class in ["apple", "umbrella"] {
            let to = parts.path().join(part).join(class);
            std::fs::create_dir_all(&to).unwrap();
            for file in std::fs::read_dir(data.path().join(class)).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
    }
    assert!(run(parts.path(), &[]).1.contains("overlap: 6 pictures without labels"));

    let refused = |data: &std::path::Path, more: &[&str], needles: &[&str]| {
        let all = args(data, more);
        bad(&all.iter().map(String::as_str).collect::<Vec<_>>(), needles);
    };
    let one = tempfile::tempdir().unwrap();
    std::fs::copy(loose.path().join("a.png"), one.path().join("a.png")).unwrap();
    refused(one.path(), &[], &["one picture", "two at least", s(one.path())]);
    refused(loose.path(), &["--dropout", "0.1"], &["--dropout", "--self-supervised"]);
    refused(loose.path(), &["--local-crops", "0"], &["--local-crops", "1"]);
    // Not in the folder above, where a plot lies.
    let nothing = tempfile::tempdir().unwrap();
    refused(nothing.path(), &[], &["no picture", s(nothing.path())]);
    bad(
        &["fit", "overlap", "--head", "40", "--model", MODEL, "--data", s(data.path()), "--out", s(&out)],
        &["--self-supervised"],
    );
}

/// A list that is not looked through before: the same correction, but for what cannot be decoded.
#[test]
fn a_correction_is_trained_from_a_list_that_streams() {
    let data = pictures(3);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("c.st");
    let list = data.path().join("list.csv");
    let mut lines = String::from("path,label\n");
    for class in ["apple", "credit_card", "umbrella"] {
        for file in std::fs::read_dir(data.path().join(class)).unwrap() {
            lines += &format!("{class}/{},{class}\n", file.unwrap().file_name().to_string_lossy());
        }
    }
    std::fs::write(&list, &lines).unwrap();
    let args =
        ["fit", "overlap", "--model", MODEL, "--data", s(&list), "--out", s(&out), "--batch", "4", "--bottleneck", "4"];
    let run = |more: &[&str]| {
        let stderr = good(&[&args[..], more].concat()).1;
        (std::fs::read(&out).unwrap(), stderr)
    };
    let (first, stderr) = run(&["--stream"]);
    assert!(stderr.contains("9 pictures of 3 classes") && !stderr.contains("skipped"), "{stderr}");
    assert!(run(&[]).0 == first, "the way through the list shows");
    std::fs::write(data.path().join("broken.png"), "no picture").unwrap();
    std::fs::write(&list, lines + "broken.png,apple\n").unwrap();
    assert!(run(&["--stream"]).1.contains("1 picture skipped"));
    bad(&[&args[..], &["--stream", "--strict"]].concat(), &["broken.png"]);
    bad(&[&args[..], &["--stream", "--self-supervised"]].concat(), &["--stream", "--self-supervised"]);
}
