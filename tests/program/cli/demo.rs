//! `demo`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::start::{root, s};
use crate::{bad, fit_overlap, good};

#[test]
fn demo_reports_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("grid.png");
    let (json, _) = good(&[
        "demo",
        "--json",
        "--sets",
        "shifted",
        "--shots",
        "1",
        "--epochs",
        "1",
        "--classes",
        "12",
        "--out",
        s(&picture),
    ]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(!json["device"].as_str().unwrap().is_empty());
    let rows = json["rows"].as_array().unwrap();
    let methods: Vec<_> = rows.iter().map(|r| r["method"].as_str().unwrap()).collect();
    assert_eq!(
        methods,
        tipi::low_level::adapt::METHODS
            .iter()
            .map(|m| m.info())
            .filter(|i| !i.needs.others)
            .map(|i| i.name)
            .collect::<Vec<_>>()
    );
    for row in rows {
        assert_eq!((row["set"].as_str(), row["shots"].as_u64()), (Some("shifted"), Some(1)));
        let accuracy = row["accuracy"].as_f64().unwrap();
        // Twelve classes: guessing gives 0.08.
        assert!(accuracy > 0.4 && accuracy < 1.0, "{row}");
        assert!(row["seconds"].as_f64().unwrap() > 0.0);
    }
    let overlap = &json["overlap"][0];
    assert_eq!(overlap["set"], "shifted");
    assert!(overlap["after"].as_f64().unwrap() < overlap["before"].as_f64().unwrap());
    assert!(image::open(&picture).unwrap().width() > 300);
    bad(&["demo", "--sets", "nowhere"], &["nowhere", "shifted"]);
    bad(&["demo", "--out", "no/such/folder/grid.png"], &["no/such/folder/grid.png"]);
}

/// A folder with the program in it and nothing else: how it is found where it was installed.
fn installed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (env!("CARGO_BIN_EXE_tipi"), dir.path().join("tipi"));
    std::fs::hard_link(from, &to).or_else(|_| std::fs::copy(from, &to).map(drop)).unwrap();
    dir
}

/// What the installed program prints, says and ends with, started from that folder.
fn start(folder: &Path, args: &[&str]) -> (String, String, Option<i32>) {
    let out =
        Command::new(folder.join("tipi")).env("TIPI_TUNE", "off").args(args).current_dir(folder).output().unwrap();
    (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap(), out.status.code())
}

#[test]
fn demo_outside_the_repository_says_what_it_needs() {
    let dir = installed();
    let refused = |args: &[&str], needles: &[&str]| {
        let (_, said, code) = start(dir.path(), args);
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.starts_with("error: ") && needles.iter().all(|needle| said.contains(needle)), "{said}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something was written");
    };
    let parts = ["weights/picto", "examples/pictos", "examples/pictos-generic"];
    refused(&["demo"], &[&parts[..], &["tipi's repository", "--from FOLDER"]].concat());
    refused(&["demo", "--from", "."], &[&parts[..], &[".: weights/picto is not in it"]].concat());
    refused(&["demo", "--from", "no/such/folder"], &["no/such/folder: weights/picto is not in it"]);

    let correction = tempfile::tempdir().unwrap();
    let correction = correction.path().join("c.safetensors");
    fit_overlap(&correction, 4);
    let args = [
        "demo",
        "--json",
        "--sets",
        "shifted",
        "--classes",
        "2",
        "--shots",
        "1",
        "--epochs",
        "1",
        "--correction",
        s(&correction),
    ];
    let (printed, said, code) = start(dir.path(), &[&args[..], &["--from", s(root())]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(serde_json::from_str::<Value>(&printed).unwrap()["rows"].as_array().unwrap().len() > 5);
    assert!(dir.path().join("pictos-demo.png").is_file());
}

#[test]
fn everything_else_works_where_there_is_no_repository() {
    let dir = installed();
    let copied = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to).unwrap();
        let files = std::fs::read_dir(from).unwrap().map(|file| file.unwrap());
        for file in files.filter(|file| file.path().is_file()) {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    };
    copied(&root().join("weights/picto"), &dir.path().join("model"));
    let (all, generic) = (root().join("examples/pictos/shifted"), root().join("examples/pictos-generic"));
    for class in ["apple", "bell", "umbrella"] {
        copied(&all.join(class), &dir.path().join("pictures").join(class));
    }
    let mut classes: Vec<_> = std::fs::read_dir(&generic).unwrap().map(|class| class.unwrap().path()).collect();
    classes.retain(|class| class.is_dir());
    classes.sort();
    for class in &classes[..3] {
        copied(class, &dir.path().join("generic").join(class.file_name().unwrap()));
    }
    for args in [
        "devices",
        "info model",
        "classify --model model --labels apple,bell pictures/bell/lucide-bell.png",
        "embed image --model model --out features.safetensors pictures/bell",
        "embed text --model model --out texts.safetensors bell apple",
        "fit overlap --model model --data generic --bottleneck 8 --out correction.safetensors",
        "fit tip-adapter --model model --data pictures --shots 1 --correction correction.safetensors --out a.safetensors",
        "predict --adapter a.safetensors pictures/bell/lucide-bell.png",
        "overlap --model model --data pictures --adapter correction.safetensors",
        "data check pictures",
        "eval --dataset pictures --model model --methods zero-shot,tip-adapter --shots 1 --seeds 1 --grid standard --out out",
        "report out",
    ] {
        let (_, said, code) = start(dir.path(), &args.split(' ').collect::<Vec<_>>());
        assert_eq!(code, Some(0), "{args}: {said}");
    }
}
