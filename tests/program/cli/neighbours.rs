//! `neighbours`.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::start::{MODEL, root, s};
use crate::{bad, features, good, pictures};

fn json(args: &[&str]) -> Vec<Value> {
    serde_json::from_str(&good(&[&["neighbours", "--json"], args].concat()).0).unwrap()
}

/// Names and cosines of an answer.
fn found(answer: &Value) -> Vec<(String, f64)> {
    let of = |near: &Value| (near["path"].as_str().unwrap().to_string(), near["cosine"].as_f64().unwrap());
    answer["neighbours"].as_array().unwrap().iter().map(of).collect()
}

/// A file of features that another program might have written.
fn write(path: &Path, shape: &[usize], values: &[f32]) {
    let view = TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values)).unwrap();
    std::fs::write(path, safetensors::serialize([("features", view)], None).unwrap()).unwrap();
}

/// Cosines of all with all, in f64.
fn cosines(values: &[f32], width: usize) -> Vec<Vec<f64>> {
    let rows: Vec<Vec<f64>> = values.chunks(width).map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = |a: &Vec<f64>, b: &Vec<f64>| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    rows.iter().map(|a| rows.iter().map(|b| cosine(a, b)).collect()).collect()
}

#[test]
fn neighbours_are_those_of_the_features() {
    let data = pictures(5);
    let file = data.path().join("f.safetensors");
    good(&["embed", "image", "--model", MODEL, "--out", s(&file), s(data.path())]);
    let (shape, values) = features(&file);
    let cosines = cosines(&values, shape[1]);
    let direct = json(&["--model", MODEL, "--k", "4", s(data.path())]);
    let kept = json(&["--features", s(&file), "--k", "4"]);
    assert_eq!(direct, kept, "features in a file are those of the pictures");
    assert_eq!(direct.len(), 15);
    let names: Vec<&str> = direct.iter().map(|answer| answer["query"].as_str().unwrap()).collect();
    for (row, answer) in direct.iter().enumerate() {
        let mut want: Vec<(usize, f64)> = cosines[row].iter().copied().enumerate().filter(|(i, _)| *i != row).collect();
        want.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
        for ((name, cosine), (near, best)) in found(answer).iter().zip(&want) {
            assert_eq!(name, names[*near]);
            assert!((cosine - best).abs() < 2e-6, "{cosine} where {best} is right");
        }
        assert_eq!(found(answer).len(), 4);
    }
    // A picture that is looked among is not its own neighbour, however its path is written; a copy of it is.
    let own = data.path().join("apple/../apple").join(Path::new(names[0]).file_name().unwrap());
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("copy.png");
    std::fs::copy(names[0], &copied).unwrap();
    let args = ["--model", MODEL, "--k", "1000", "--query", s(&own), "--query", s(&copied), s(data.path())];
    let answers = json(&args);
    assert_eq!(answers.len(), 2);
    assert_eq!(found(&answers[0])[..4], found(&direct[0])[..]);
    assert_eq!(found(&answers[0]).len(), 14);
    assert_eq!(found(&answers[1])[0], (names[0].to_string(), 1.0));
    // A text finds what it says.
    let answers = json(&["--model", MODEL, "--features", s(&file), "--text", "an icon of an umbrella", "--k", "3"]);
    assert_eq!(answers[0]["text"], "an icon of an umbrella");
    let near = found(&answers[0]);
    assert!(near.iter().all(|(name, _)| name.contains("umbrella")), "{near:?}");
    // Only what is alike enough; the file's names are foreign text.
    let above = (found(&direct[0])[1].1 - 1e-5).to_string();
    let answers = json(&["--features", s(&file), "--k", "4", "--above", &above]);
    assert_eq!(found(&answers[0]).len(), 2);
    assert!(answers.iter().flat_map(found).all(|(_, cosine)| cosine >= above.parse::<f64>().unwrap() - 2e-6));
}

#[test]
fn near_duplicates_come_in_groups() {
    let data = pictures(3);
    let first = |class: &str| {
        let mut all: Vec<_> = std::fs::read_dir(data.path().join(class)).unwrap().map(|e| e.unwrap().path()).collect();
        all.sort();
        all.remove(0)
    };
    let (apple, umbrella) = (first("apple"), first("umbrella"));
    std::fs::copy(&apple, data.path().join("umbrella/z-apple.png")).unwrap();
    std::fs::copy(&apple, data.path().join("credit_card/z-apple.png")).unwrap();
    std::fs::copy(&umbrella, data.path().join("umbrella/z, \"umbrella\".png")).unwrap();
    let args = ["neighbours", "--model", MODEL, "--above", "1", s(data.path())];
    let groups: Value = serde_json::from_str(&good(&[&args[..], &["--json"]].concat()).0).unwrap();
    let name = |path: &Path| path.strip_prefix(data.path()).unwrap().display().to_string();
    let names = |group: &Value| -> Vec<String> {
        let of = |one: &Value| name(Path::new(one["path"].as_str().unwrap()));
        group.as_array().unwrap().iter().map(of).collect()
    };
    let groups = groups.as_array().unwrap();
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert_eq!(names(&groups[0]), [&name(&apple), "credit_card/z-apple.png", "umbrella/z-apple.png"]);
    assert_eq!(names(&groups[1]), [&name(&umbrella), "umbrella/z, \"umbrella\".png"]);
    let (table, _) = good(&args);
    assert!(table.contains("cosine with the first") && table.contains("2 groups of 12 pictures, 3 besides"), "{table}");
    let (csv, _) = good(&[&args[..], &["--csv"]].concat());
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!((lines[0], lines.len()), ("group,picture,cosine", 6), "{csv}");
    assert!(lines[5].starts_with("2,\"") && lines[5].ends_with("z, \"\"umbrella\"\".png\",1"), "{csv}");
    let (csv, _) = good(&[&args[..], &["--csv", "--k", "2"]].concat());
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!((lines[0], lines.len()), ("query,rank,neighbour,cosine", 1 + 3 * 2 + 2), "{csv}");
    let few = ["neighbours", "--model", MODEL, "--above", "1", s(&apple), s(&umbrella)];
    assert!(good(&few).0.contains("no two of 2 pictures have a cosine of 1 or more"));
    let one = ["neighbours", "--model", MODEL, s(&apple)];
    assert!(good(&one).0.contains("1 picture: there is nothing to compare with"));
}

#[test]
fn files_of_other_programs_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.safetensors");
    write(&file, &[4, 2], &[1.0, 0.0, 0.0, 2.0, 3.0, 0.1, 5.0, 0.0]);
    let answers = json(&["--features", s(&file), "--k", "2"]);
    let near: Vec<Vec<(String, f64)>> = answers.iter().map(found).collect();
    assert_eq!(near[0][0], ("#3".to_string(), 1.0));
    assert_eq!(near[3].iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["#0", "#2"]);
    let groups = good(&["neighbours", "--features", s(&file), "--above", "0.99", "--csv"]).0;
    assert_eq!(
        groups.lines().map(|line| line.split(',').nth(1).unwrap()).collect::<Vec<_>>(),
        ["picture", "#0", "#2", "#3"]
    );
    let (table, _) = good(&["neighbours", "--features", s(&file), "--k", "1"]);
    assert!(table.contains("nearest") && table.contains("1.0000"), "{table}");
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let data = pictures(1);
    let dir = tempfile::tempdir().unwrap();
    let (file, gone) = (dir.path().join("f.safetensors"), dir.path().join("gone.png"));
    let model = ["neighbours", "--model", MODEL];
    let with = |args: &[&str], needles: &[&str]| bad(&[&model[..], args].concat(), needles);
    write(&file, &[2, 3], &[1.0; 6]);
    let only = |args: &[&str], needles: &[&str]| {
        bad(&[&["neighbours", "--features", s(&file)], args].concat(), needles);
    };
    only(&["--text", "a cat"], &["--query and --text need --model"]);
    with(&["--features", s(&file)], &["--features", "3 values", "192", MODEL]);
    write(&file, &[2, 3], &[1.0, 0.0, f32::NAN, 0.0, 0.0, 1.0]);
    only(&[], &["f.safetensors", "features", "row 0, column 2"]);
    write(&file, &[6], &[1.0; 6]);
    only(&[], &["features", "[n, D] of F32", "[6] of F32"]);
    std::fs::write(&file, "no features").unwrap();
    only(&[], &["f.safetensors", "no safetensors file"]);
    good(&["embed", "classifier", "--model", MODEL, "--out", s(&dir.path().join("c.safetensors")), "a", "b"]);
    bad(&["neighbours", "--features", s(&dir.path().join("c.safetensors"))], &["no tensor 'features'", "embed image"]);
    let long = "a very long text ".repeat(40);
    with(&["--text", &long, s(data.path())], &["--text is", "tokens long", "reads"]);
    with(&["--text", " ", s(data.path())], &["--text is empty"]);
    with(&["--query", s(&gone), s(data.path())], &["--query", "gone.png", "no such file"]);
    with(&["--query", s(data.path()), s(data.path())], &["--query", "folder", "name a picture"]);
    with(&[s(dir.path())], &["no picture in this folder"]);
    let broken = dir.path().join("broken.png");
    std::fs::write(&broken, "no picture").unwrap();
    with(&[s(&broken), s(data.path())], &["broken.png"]);
    with(&["--query", s(&broken), s(data.path())], &["broken.png"]);
    // What the options themselves refuse.
    for (args, needles) in [
        (&["--k", "0", "x"][..], &["--k", "from 1 to 1000"][..]),
        (&["--above", "1.5", "x"], &["--above", "-1 to 1"]),
        (&[], &["PATHS"]),
        (&["--json", "--csv", "x"], &["--csv"]),
        (&["--features", "f", "x"], &["--features"]),
    ] {
        let out = crate::start::tipi(&[&model[..], args].concat());
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{stderr}");
        assert!(needles.iter().all(|needle| stderr.contains(needle)), "{args:?}: {stderr}");
    }
    // Features of another model of the same width.
    let made = dir.path().join("made.safetensors");
    good(&["embed", "image", "--model", MODEL, "--out", s(&made), s(data.path())]);
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    for entry in std::fs::read_dir(root().join(MODEL)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
        }
    }
    let weights = other.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let args = ["neighbours", "--model", s(&other), "--features", s(&made)];
    bad(&args, &["--features", "made.safetensors", "another model"]);
    good(&["neighbours", "--model", MODEL, "--features", s(&made), "--text", "an apple"]);
}

#[test]
fn broken_pictures_in_a_folder_are_skipped() {
    let data = pictures(2);
    std::fs::write(data.path().join("apple/0-broken.png"), "no picture").unwrap();
    let args = ["neighbours", "--model", MODEL, "--json", s(data.path())];
    let (json, stderr) = good(&args);
    let answers: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(answers.len(), 6);
    assert!(stderr.contains("0-broken.png") && stderr.contains("1 picture skipped"), "{stderr}");
    let strict = crate::start::tipi(&[&args[..], &["--strict"]].concat());
    assert_eq!(strict.status.code(), Some(2));
}
