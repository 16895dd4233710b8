//! Confidence on few pictures, as a user meets it: what `fit` says of it, sets of classes, and pictures of no class.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use serde_json::Value;
use start::{bad, root, s, tipi};
use std::fs;
use std::path::{Path, PathBuf};

fn done(args: &[&str]) -> (String, String) {
    let out = tipi(args);
    let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success(), "{args:?}: {stderr}");
    (stdout, stderr)
}

/// A folder with some classes of a bundled set, `count` pictures each.
fn folder(at: &Path, set: &str, classes: &[&str], count: usize) -> PathBuf {
    for class in classes {
        let (from, to) = (root().join("examples/pictos").join(set).join(class), at.join(class));
        fs::create_dir_all(&to).unwrap();
        let mut pictures: Vec<PathBuf> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
        pictures.sort();
        assert!(pictures.len() >= count, "{class}");
        for picture in &pictures[..count] {
            fs::copy(picture, to.join(picture.file_name().unwrap())).unwrap();
        }
    }
    at.to_path_buf()
}

const MODEL: [&str; 2] = ["--model", "weights/picto"];
const FEW: [&str; 2] = ["bell", "car"];
const MORE: [&str; 6] = ["bell", "car", "dress", "fish", "hammer", "umbrella"];

fn fit(data: &Path, out: &Path, args: &[&str]) -> String {
    let mut all = vec!["fit", "tip-adapter", "--data", s(data), "--out", s(out), "--key-views", "2"];
    all.extend(MODEL);
    all.extend(args);
    done(&all).1
}

fn predict(adapter: &Path, paths: &Path, args: &[&str]) -> Vec<Value> {
    let mut all = vec!["predict", "--adapter", s(adapter), "--json", s(paths)];
    all.extend(MODEL);
    all.extend(args);
    serde_json::from_str(&done(&all).0).unwrap()
}

fn unknown(answers: &[Value]) -> usize {
    answers.iter().filter(|answer| answer["class"] == "unknown").count()
}

#[test]
fn three_pictures_a_class_make_nobody_sure() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder(&dir.path().join("data"), "shifted", &FEW, 3);
    let foreign = folder(&dir.path().join("foreign"), "shifted", &MORE[2..], 5);
    let (new, old) = (dir.path().join("new.safetensors"), dir.path().join("old.safetensors"));
    let said = fit(&data, &new, &["--shots", "2"]);
    // Two to validate on, and two of each class left out in turn.
    assert!(said.contains("2 validation pictures and 4 pictures left out"), "{said}");
    assert!(said.contains("confidence rests on 6 pictures alone"), "{said}");
    fit(&data, &old, &["--shots", "2", "--judge-by", "validation"]);
    let sure = |adapter: &Path| {
        let answers = predict(adapter, &foreign, &["--min-confidence", "0.99"]);
        answers.len() - unknown(&answers)
    };
    let (now, before) = (sure(&new), sure(&old));
    // By two validation pictures alone, nearly all pictures of other classes were answered.
    assert!(before >= 14 && now <= before / 2, "{now} of 20 answered, {before} before");
    // What it rests on is kept in the file.
    let (_, said) =
        done(&["predict", "--adapter", s(&new), MODEL[0], MODEL[1], "--min-confidence", "0.99", s(&data.join("bell"))]);
    assert!(said.contains("confidence rests on 2 validation pictures and 4 pictures left out"), "{said}");
}

#[test]
fn sets_hold_the_right_class_and_foreign_pictures_are_bad() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder(&dir.path().join("data"), "novel", &["bell", "backpack"][..0], 0);
    let set = root().join("examples/pictos/novel");
    let mut classes: Vec<String> =
        fs::read_dir(&set).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    classes.sort();
    let (learned, others): (Vec<&str>, Vec<&str>) = (
        classes.iter().take(5).map(String::as_str).collect(),
        classes.iter().skip(20).take(10).map(String::as_str).collect(),
    );
    folder(&data, "novel", &learned, 6);
    let foreign = folder(&dir.path().join("foreign"), "novel", &others, 3);
    let adapter = dir.path().join("a.safetensors");
    fit(&data, &adapter, &["--shots", "4"]);

    let asked = folder(&dir.path().join("asked"), "novel", &learned, 12);
    let sets = predict(&adapter, &asked, &["--coverage", "0.9"]);
    let of_learned: Vec<&Value> = sets.iter().collect();
    assert!(of_learned.len() > 50);
    let names = |answer: &Value| -> Vec<String> {
        answer["set"].as_array().unwrap().iter().map(|class| class.as_str().unwrap().to_string()).collect()
    };
    let held = of_learned.iter().filter(|answer| {
        let path = answer["path"].as_str().unwrap().to_string();
        names(answer).iter().any(|class| path.contains(&format!("/{}/", class.replace(' ', "_"))))
    });
    let held = held.count() as f64 / of_learned.len() as f64;
    assert!(held > 0.8, "{held}");
    assert!(of_learned.iter().all(|answer| names(answer)[0] == answer["likeliest"].as_str().unwrap()));
    let size = of_learned.iter().map(|answer| names(answer).len()).sum::<usize>() as f64 / of_learned.len() as f64;
    assert!(size < 4.5, "{size} of 5 classes");
    // More coverage takes more classes.
    let wide = predict(&adapter, &asked, &["--coverage", "0.95"]);
    let count = |answers: &[Value]| answers.iter().map(|answer| names(answer).len()).sum::<usize>();
    assert!(count(&wide) >= count(&sets));

    let keep = |paths: &Path, by: &str| {
        let answers = predict(&adapter, paths, &["--keep", "0.8", "--unknown-by", by]);
        assert!(answers.iter().all(|answer| answer["familiarity"].is_f64()));
        unknown(&answers) as f64 / answers.len() as f64
    };
    // What it has learned from is known, and more of the foreign is refused than would be by chance.
    assert!(keep(&data, "distance") < 0.3 && keep(&foreign, "distance") > 0.35, "{}", keep(&foreign, "distance"));
    for by in ["probability", "energy"] {
        assert!(keep(&data, by) < keep(&foreign, by) + 0.2, "{by}");
    }
}

#[test]
fn what_the_pictures_cannot_support_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder(&dir.path().join("data"), "shifted", &FEW, 3);
    let adapter = dir.path().join("a.safetensors");
    fit(&data, &adapter, &["--shots", "2"]);
    let paths = data.join("bell");
    let args = ["predict", "--adapter", s(&adapter), MODEL[0], MODEL[1], s(&paths)];
    let with = |more: &[&'static str]| [&args[..], more].concat();
    // Six pictures support six sevenths.
    let (_, said) = done(&with(&["--coverage", "0.9"]));
    assert!(said.contains("6 pictures") && said.contains("0.857"), "{said}");
    let (_, said) = done(&with(&["--keep", "0.95"]));
    assert!(said.contains("0.857"), "{said}");
    let (_, said) = done(&with(&["--coverage", "0.6", "--per-class"]));
    assert!(!said.contains("support"), "{said}");
    let answers = predict(&adapter, &paths, &["--coverage", "0.9"]);
    assert!(answers.iter().all(|answer| answer["set"].as_array().unwrap().len() == 2), "sets of all classes");
    for (more, needles) in [
        (&["--coverage", "1.5"][..], &["--coverage", "1.5", "0 to 1"][..]),
        (&["--keep", "2"], &["--keep", "0 to 1"]),
        (&["--keep", "-0.1"], &["--keep", "0 to 1"]),
        (&["--keep", "0.9", "--unknown-by", "luck"], &["luck", "probability, energy, distance"]),
        (&["--unknown-by", "energy"], &["--keep"]),
        (&["--per-class"], &["--coverage"]),
    ] {
        let said = bad(&with(more));
        assert!(needles.iter().all(|needle| said.contains(needle)), "{more:?}: {said}");
    }
    // Without a picture to judge by there is nothing to rest on.
    let single = folder(&dir.path().join("single"), "shifted", &FEW, 1);
    let said = fit(&single, &adapter, &["--shots", "1"]);
    assert!(said.contains("at least two per class"), "{said}");
    let said = bad(&with(&["--coverage", "0.9"]));
    assert!(said.contains("no evidence") && said.contains("at least two pictures per class"), "{said}");
}

#[test]
fn an_evaluation_measures_coverage_and_the_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder(&dir.path().join("data"), "shifted", &MORE[..4], 6);
    let foreign = folder(&dir.path().join("foreign"), "shifted", &MORE, 4);
    let out = dir.path().join("out");
    let mut args = vec!["eval", "--dataset", s(&data), "--out", s(&out), "--foreign", s(&foreign), "--shots", "1,2"];
    args.extend(MODEL);
    args.extend(["--seeds", "1", "--methods", "zero-shot,tip-adapter,gda", "--key-views", "2"]);
    let (tables, said) = done(&args);
    // Four of the six foreign classes are those of the dataset.
    assert!(said.contains("16 foreign pictures are in a folder with the name of a class"), "{said}");
    for needle in ["asked 90 %: held, classes", "AUROC", "foreign that are refused", "distance"] {
        assert!(tables.contains(needle), "{tables}");
    }
    let records: Vec<Value> = fs::read_to_string(out.join("data/results.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), 6);
    for record in &records {
        let (shots, method) = (record["shots"].as_u64().unwrap(), record["method"].as_str().unwrap());
        let counts = (&record["evidence"]["validation"], &record["evidence"]["left_out"]);
        // With one picture of a class none can be left out; zero-shot learns from none.
        let left_out = if method == "zero-shot" || shots > 1 { 4 * shots } else { 0 };
        assert_eq!(*counts.1, left_out, "{record}");
        assert_eq!(record["coverage"].as_array().unwrap().len(), 3);
        assert!(record["foreign"].as_array().unwrap().iter().all(|foreign| foreign["pictures"] == 8), "{record}");
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("pictures of no class") && page.contains("AUROC"), "the report has the tables");
    assert!(
        bad(&["eval", "--dataset", s(&data), "--out", s(&out), MODEL[0], MODEL[1], "--foreign", "nowhere"])
            .contains("nowhere")
    );
}
