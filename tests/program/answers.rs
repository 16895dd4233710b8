//! What people bring as labels and paths, and the forms in which they get answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use start::{MODEL, command, root, s, tipi};
use tipi::low_level::clip::Checkpoint;

const BELLS: &str = "examples/pictos/shifted/bell";
const CLASSIFY: [&str; 5] = ["classify", "--model", MODEL, "--template", "an icon of {}"];

/// What a command prints, which must succeed, and what it says.
fn good(args: &[&str]) -> (String, String) {
    let out = tipi(args);
    let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success(), "{args:?}: {stderr}");
    (stdout, stderr)
}

/// What a command says, which must fail in good order.
fn bad(args: &[&str]) -> String {
    let out = tipi(args);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(out.stdout.is_empty(), "{args:?}");
    stderr
}

fn classify(more: &[&str]) -> String {
    good(&[&CLASSIFY[..], more].concat()).0
}

/// What the model multiplies similarities by.
fn scale() -> f64 {
    let model = Checkpoint::of_folder(&root().join(MODEL)).unwrap();
    f64::from(model.values("logit_scale", &[]).unwrap()[0]).exp()
}

/// What is said of the bells, by a form's option.
fn rows(more: &[&str]) -> Vec<Value> {
    serde_json::from_str(&classify(&[more, &["--json", BELLS]].concat())).unwrap()
}

/// A command that is given `text` on standard input.
fn fed(args: &[&str], text: &[u8]) -> (Option<i32>, String, String) {
    let mut child = command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(text);
    let out = child.wait_with_output().unwrap();
    (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn answers_are_the_same_in_every_form() {
    let labels = ["--labels", "bell,car,umbrella,tent"];
    let usual = rows(&labels);
    assert_eq!(usual.len(), 16);
    let keys: Vec<&String> = usual[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["class", "likeliest", "path", "probability", "runner_up", "runner_up_probability"]);
    let lines = classify(&[&labels[..], &["--jsonl", BELLS]].concat());
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, usual);
    let csv = classify(&[&labels[..], &["--csv", BELLS]].concat());
    assert_eq!(csv.lines().next(), Some("path,class,likeliest,probability,class_2,probability_2"));
    for (line, row) in csv.lines().skip(1).zip(&usual) {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!((fields[0], fields[1]), (row["path"].as_str().unwrap(), row["class"].as_str().unwrap()));
        assert_eq!(fields[3].parse::<f64>().unwrap(), row["probability"].as_f64().unwrap());
        assert_eq!(fields[4], row["runner_up"].as_str().unwrap());
    }
    assert_eq!(csv.lines().count(), 17);
    assert!(bad(&[&CLASSIFY[..], &labels, &["--csv", "--json", BELLS]].concat()).contains("cannot be used with"));
}

#[test]
fn the_k_likeliest_classes_have_probabilities_cosines_and_logits() {
    let row = &rows(&["--labels", "bell,car,umbrella", "--top", "9", "--scores"])[0];
    let top = row["top"].as_array().unwrap();
    let sum: f64 = top.iter().map(|class| class["probability"].as_f64().unwrap()).sum();
    assert!(top.len() == 3 && (sum - 1.0).abs() < 1e-9, "{row}");
    assert_eq!((&top[0]["class"], &top[1]["class"]), (&row["likeliest"], &row["runner_up"]));
    for class in top {
        // A logit is the similarity by the model's scale.
        let (cosine, logit) = (class["cosine"].as_f64().unwrap(), class["logit"].as_f64().unwrap());
        assert!((-1.0..=1.0).contains(&cosine) && (logit / cosine - scale()).abs() < 0.01, "{class}");
    }
    // One class of three is shown, and the runner-up stays in its place.
    let row = &rows(&["--labels", "bell,car,umbrella", "--top", "1"])[0];
    assert!(row["top"].as_array().unwrap().len() == 1 && row["runner_up"].is_string());
    let table = classify(&["--labels", "bell,car,umbrella", "--top", "3", "--scores", BELLS]);
    let head: Vec<&str> = table.lines().nth(1).unwrap().split(['│', '┆']).map(str::trim).collect();
    assert_eq!(head[1..6], ["picture", "class", "probability", "cosine", "logit"]);
    assert_eq!(table.lines().filter(|line| line.contains('%')).count(), 48);
}

#[test]
fn a_label_alone_has_a_similarity_and_no_probability() {
    let table = classify(&["--labels", "bell", BELLS]);
    assert!(table.contains("cosine") && !table.contains('%'), "{table}");
    let row = &rows(&["--labels", "bell"])[0];
    assert!(row["probability"].is_null() && row["cosine"].as_f64().unwrap() > 0.1, "{row}");
    assert_eq!(row["class"], "bell");
}

#[test]
fn an_adapters_answers_have_the_similarity_to_its_texts() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["bell", "car"] {
        start_copy(&root().join("examples/pictos/shifted").join(class), &dir.path().join("data").join(class), 3);
    }
    let (data, adapter) = (dir.path().join("data"), dir.path().join("a.safetensors"));
    good(&[
        "fit",
        "tip",
        "--model",
        MODEL,
        "--data",
        s(&data),
        "--shots",
        "all",
        "--key-views",
        "0",
        "--template",
        "an icon of {}",
        "--out",
        s(&adapter),
    ]);
    let (json, _) = good(&["predict", "--adapter", s(&adapter), "--scores", "--json", BELLS]);
    let predicted: Vec<Value> = serde_json::from_str(&json).unwrap();
    let cosines = |rows: &[Value], name: &str| -> Vec<f64> {
        let of = |row: &Value| {
            let own = row["likeliest"] == name;
            row[if own { "cosine" } else { "runner_up_cosine" }].as_f64().unwrap()
        };
        rows.iter().map(of).collect()
    };
    let by_text = rows(&["--labels", "bell,car", "--scores"]);
    for name in ["bell", "car"] {
        for (one, other) in cosines(&predicted, name).iter().zip(cosines(&by_text, name)) {
            assert!((one - other).abs() < 1e-5, "{name}: {one} and {other}");
        }
    }
    // The cache has its part in the logit, and none in the similarity.
    assert!(
        (predicted[0]["logit"].as_f64().unwrap() / predicted[0]["cosine"].as_f64().unwrap() - scale()).abs() > 0.01
    );
}

/// Copies the first `count` files of a folder.
fn start_copy(from: &Path, to: &Path, count: usize) {
    fs::create_dir_all(to).unwrap();
    let mut files: Vec<_> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().take(count) {
        fs::copy(file, to.join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn labels_come_from_a_file_with_prompts_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("labels.txt");
    let of_file = |text: &str| {
        fs::write(&file, text).unwrap();
        rows(&["--labels-file", s(&file), "--scores"])
    };
    // As Windows writes it; the second label has a comma.
    let plain = of_file("\u{feff}# icons\r\nbell\r\n\r\ncat, small\r\n");
    assert_eq!(plain, rows(&["--label", "bell", "--label", "cat, small", "--scores"]));
    // Prompts that say what the template says change nothing, and others do.
    let own = of_file("bell\tan icon of {}\ncat, small\tan icon of cat, small\n");
    // Of a bell that is taken for one.
    let cosine = |rows: &[Value]| {
        assert_eq!(rows[5]["likeliest"], "bell");
        rows[5]["cosine"].as_f64().unwrap()
    };
    assert!((cosine(&plain) - cosine(&own)).abs() < 1e-5, "{} {}", cosine(&plain), cosine(&own));
    // Two prompts are averaged, as two templates are; a label without its own takes the template.
    let two = of_file("bell\tan icon of {}\ta drawing of {}\ncat, small\n");
    let templates = rows(&["--template", "a drawing of {}", "--label", "bell", "--label", "cat, small", "--scores"]);
    let [two, templates, own] = [&two, &templates, &own].map(|rows| cosine(rows));
    assert!((two - templates).abs() < 1e-5 && (two - own).abs() > 1e-4, "{two} {templates} {own}");
    let refused = |text: &[u8]| {
        fs::write(&file, text).unwrap();
        bad(&[&CLASSIFY[..], &["--labels-file", s(&file), BELLS]].concat())
    };
    assert!(refused(b"bell\ncat\n\nBell\n").contains("labels.txt: lines 1 and 4: both are the label 'Bell'"));
    assert!(refused(b"bell\nc\xff\n").contains("labels.txt: line 2: not UTF-8"));
    assert!(refused(b"# none\n").contains("no label in this file"));
    assert!(bad(&[&CLASSIFY[..], &[BELLS]].concat()).contains("--labels-file"));
    // The other place where classes are named.
    fs::write(&file, "bell\tan icon of {}\ncat\n").unwrap();
    let out = dir.path().join("w.csv");
    good(&["embed", "classifier", "--model", MODEL, "--labels-file", s(&file), "--out", s(&out)]);
    let names: Vec<String> =
        fs::read_to_string(&out).unwrap().lines().map(|line| line.split(',').next().unwrap().into()).collect();
    assert_eq!(names, ["class", "bell", "cat"]);
}

#[test]
fn paths_come_from_standard_input() {
    let ask =
        |more: &[&str], text: &[u8]| fed(&[&CLASSIFY[..], &["--labels", "bell,car", "--jsonl"], more].concat(), text);
    let mut files: Vec<String> =
        fs::read_dir(root().join(BELLS)).unwrap().map(|e| s(&e.unwrap().path()).into()).collect();
    files.sort();
    let paths = |out: &str| -> Vec<String> {
        let row = |line: &str| serde_json::from_str::<Value>(line).unwrap()["path"].as_str().unwrap().to_owned();
        out.lines().map(row).collect()
    };
    let (code, out, err) = ask(&["-"], files.join("\r\n").as_bytes());
    assert_eq!((code, paths(&out)), (Some(0), files.clone()), "{err}");
    let (code, out, err) = ask(&["-", "-0"], files.join("\0").as_bytes());
    assert_eq!((code, paths(&out)), (Some(0), files.clone()), "{err}");
    // Folders are walked, in their place; what is not there is named and skipped, as in a folder.
    let (code, out, err) = ask(&["-"], format!("{}\nnowhere.png\n{BELLS}\n", files[0]).as_bytes());
    assert_eq!((code, paths(&out).len()), (Some(0), 1 + files.len()), "{err}");
    assert!(err.contains("skipped: nowhere.png") && err.contains("1 picture skipped"), "{err}");
    assert_eq!(ask(&["-", "--strict"], b"nowhere.png\n").0, Some(2));
    assert!(ask(&["-"], b"\n").2.contains("no path on standard input"));
    assert!(ask(&["-", "-"], b"").2.contains("given twice"));
    assert!(ask(&["--null", BELLS], b"").2.contains("'-' among the paths"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.csv");
    let embed = ["embed", "image", "--model", MODEL, "--out", s(&file), "-0", "-"];
    assert_eq!(fed(&embed, files.join("\0").as_bytes()).0, Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 1 + files.len());
}

#[test]
fn lines_end_with_their_reader() {
    let args = [&CLASSIFY[..], &["--labels", "bell,car", "--jsonl", BELLS]].concat();
    let mut child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn each_label_is_asked_for_by_itself() {
    let multi = |more: &[&str]| rows(&[&["--multi-label", "--negation", "an icon without {}"][..], more].concat());
    let both = multi(&["--labels", "bell,car"]);
    for row in &both {
        let scores = row["scores"].as_array().unwrap();
        assert_eq!(scores.len(), 2);
        let has = |label: &&Value| label["probability"].as_f64().unwrap() >= 0.5;
        let labels: Vec<&Value> = scores.iter().filter(has).map(|label| &label["label"]).collect();
        assert_eq!(row["labels"].as_array().unwrap().iter().collect::<Vec<_>>(), labels, "{row}");
    }
    // A label's probability does not depend on the other labels.
    let of_bell = |rows: &[Value]| -> Vec<f64> {
        let of = |row: &Value| {
            let scores = row["scores"].as_array().unwrap();
            scores.iter().find(|label| label["label"] == "bell").unwrap()["probability"].as_f64().unwrap()
        };
        rows.iter().map(of).collect()
    };
    for (one, other) in of_bell(&both).iter().zip(of_bell(&multi(&["--labels", "bell"]))) {
        assert!((one - other).abs() < 1e-4, "{one} and {other}");
    }
    // It is the softmax of the label and its negation, as one can compute it from two labels that say so.
    let pair = rows(&["--labels", "bell,car", "--scores"]);
    let logit = |rows: &[Value], name: &str| {
        let best = rows[0]["likeliest"] == name;
        rows[0][if best { "logit" } else { "runner_up_logit" }].as_f64().unwrap()
    };
    let scored = multi(&["--labels", "bell,car", "--scores"]);
    let label =
        |name: &str| scored[0]["scores"].as_array().unwrap().iter().find(|l| l["label"] == name).unwrap().clone();
    for name in ["bell", "car"] {
        assert!((label(name)["logit"].as_f64().unwrap() - logit(&pair, name)).abs() < 1e-3, "{name}");
    }
    let none = multi(&["--labels", "bell,car", "--threshold", "1"]);
    assert!(none.iter().all(|row| row["labels"].as_array().unwrap().is_empty()), "nothing is certain");
    let csv = classify(&["--multi-label", "--labels", "bell,car", "--threshold", "0", "--csv", BELLS]);
    assert_eq!(csv.lines().next(), Some("path,labels,bell,car"));
    assert!(csv.lines().nth(1).unwrap().contains("bell") && csv.lines().nth(1).unwrap().contains(';'), "{csv}");
    assert!(
        bad(&[&CLASSIFY[..], &["--labels", "bell,car", "--threshold", "1", BELLS]].concat()).contains("--multi-label")
    );
}
