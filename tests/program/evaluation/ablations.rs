//! Ablations.

use std::fs;

use tipi::Error;
use tipi::low_level::adapt::adapter_file::{self, Adapter, Description, Meta};
use tipi::low_level::adapt::lesson::{Choice, Lesson, Texts};
use tipi::low_level::adapt::method::{Settings, settled};
use tipi::low_level::adapt::{How, Learned, learn_each};
use tipi::low_level::data::Dataset;
use tipi::low_level::encode::source::Direct;
use tipi::low_level::eval::ablation::{Given, Variant};
use tipi::low_level::eval::journal::Journal;
use tipi::low_level::eval::{self, Ablation, Protocol, Record};

use crate::start::tipi;
use crate::{Notes, baseline, clip, evaluate, pictures, pini, protocol, timeless};

/// PiNI's ablation: each variant once, stopped and gone on with, then its table, and the noise beside its pictures.
#[test]
fn an_ablation_runs_to_its_table() {
    let (dir, _) = pictures(3, 6);
    let dataset = Dataset::open(dir.path().join("novel").to_str().unwrap(), None).unwrap();
    let ablation = eval::ablation::find_ablation("pini").unwrap();
    let mut protocol = protocol(&[pini()], &[1], &[1]);
    protocol.ablation = Some(ablation);
    protocol.setup.how.judge_by = eval::JudgeBy::Validation;
    let out = tempfile::tempdir().unwrap();
    let run = |watch: &mut Notes| {
        evaluate(&dataset, &protocol, None, ("f32", out.path(), &out.path().join("features")), watch)
    };
    let (mut results, mut stops) = (Vec::new(), 0);
    loop {
        let mut watch = Notes { stop_after: Some([15, 23, 61][stops % 3]), ..Notes::default() };
        let outcome = run(&mut watch);
        results.extend(watch.results);
        match outcome {
            Ok(()) => break,
            Err(Error::Stopped) => stops += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(stops < 100, "it does not come to an end");
    }
    assert!(stops > 0, "no stop is no test");
    let names: Vec<&str> = results.iter().map(|record| record.task.variant.unwrap().name).collect();
    assert_eq!(names, ablation.variants.iter().map(|variant| variant.name).collect::<Vec<_>>(), "each once, in order");
    // Variants differ in what they say, but for those that only predict otherwise in how they were learned.
    let loss = |name: &str| results.iter().find(|r| r.task.variant.unwrap().name == name).unwrap().log_loss;
    for other in &names[1..] {
        assert_ne!(loss("both"), loss(other), "{other}");
    }

    let written = eval::report::write(out.path()).unwrap();
    assert!(written.summary.cells.is_empty() && written.summary.variants.len() == 10);
    let (_, table) = &written.summary.ablations(Some("novel"))[0];
    assert_eq!(table.rows.len(), 4 + 3 + 3 + 3);
    assert!(table.rows.iter().all(|row| row[2] != "–"), "{:?}", table.rows);
    let html = fs::read_to_string(&written.html).unwrap();
    for needle in ["PiNI's ablation", "evaluated by", "Noise on pixels", ">picture with<"] {
        assert!(html.contains(needle) || html.contains(&needle.replace('\'', "&#39;")), "no '{needle}' in the report");
    }
    assert!(out.path().join("plots/novel-pini-pixels.png").is_file());
    let csv = fs::read_to_string(out.path().join("results.csv")).unwrap();
    assert!(csv.contains("novel,pini pixels,1,1,") && csv.contains("novel,pini draws-4,1,1,"), "{csv}");
    // What was written is read again, and damage to a picture is told.
    let (journal, ..) = Journal::look(&out.path().join("novel")).unwrap();
    let task = results.iter().find(|record| record.task.variant.unwrap().name == "pixels").unwrap().task;
    assert_eq!(journal.detail(task).unwrap().noise.unwrap().pictures.len(), 3);
    let path = out.path().join("novel/details/pini-pixels-1shot-seed1.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"size\":64", "\"size\":63", 1)).unwrap();
    let error = journal.detail(task).unwrap_err().to_string();
    assert!(error.contains("pini-pixels-1shot-seed1.json") && error.contains("noise.pictures"), "{error}");

    // The methods as they are may join it in one folder, and keep to their own tables.
    let plain = Protocol { ablation: None, methods: vec![baseline()], ..protocol.clone() };
    let features = out.path().join("features");
    evaluate(&dataset, &plain, None, ("f32", out.path(), &features), &mut Notes::default()).unwrap();
    fs::write(&path, text).unwrap();
    let summary = eval::report::write(out.path()).unwrap().summary;
    assert_eq!((summary.cells.len(), summary.variants.len()), (1, 10));
    let refused = tipi(&["eval", "--ablation", "nothing", "--dataset", "x", "--model", "x", "--out", "x"]);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("there is no ablation 'nothing'") && stderr.contains("pini"), "{stderr}");
}

/// Variants of PiNI's ablation, most of which only predict otherwise.
static DRAWN: Ablation = Ablation {
    name: "pini",
    title: "some",
    about: "some",
    variants: &[
        Variant { name: "both", method: "pini", settings: &[("noise", Given::Word("both"))], teaching: None },
        Variant { name: "image", method: "pini", settings: &[("noise", Given::Word("image"))], teaching: None },
        Variant {
            name: "draw",
            method: "pini",
            settings: &[("noise", Given::Word("both")), ("evaluate", Given::Word("draw"))],
            teaching: None,
        },
        Variant {
            name: "average",
            method: "pini",
            settings: &[("noise", Given::Word("both")), ("evaluate", Given::Word("average:10"))],
            teaching: None,
        },
    ],
    groups: &[],
};

/// What is learned once and predicts in three ways is, to the bit, what is learned three times: results, their details and adapters.
#[test]
fn what_only_predicts_otherwise_is_trained_once() {
    let (dir, _) = pictures(3, 8);
    let dataset = Dataset::open(dir.path().join("novel").to_str().unwrap(), None).unwrap();
    let features = dir.path().join("features");
    // Two shots, so that pictures are left out in turn, too.
    let mut protocol = Protocol { adapters: true, ..protocol(&[pini()], &[2], &[1]) };
    let trainings = |watch: &Notes| watch.begun.iter().filter(|what| what.contains("training PiNI")).count();

    let at = |name: &str| dir.path().join(name);
    let mut apart = Notes::default();
    for variant in DRAWN.variants {
        let settings = variant.of(pini().defaults());
        let mut alone = protocol.clone();
        let kept = alone.setup.methods.get_mut("pini").unwrap();
        for (name, _) in variant.settings {
            kept[*name] = settings[*name].clone();
        }
        let out = at(variant.name);
        evaluate(&dataset, &alone, None, ("f32", &out, &features), &mut apart).unwrap();
    }
    assert_eq!(trainings(&apart), 4 * 3);

    protocol.ablation = Some(&DRAWN);
    let mut once = Notes::default();
    evaluate(&dataset, &protocol, None, ("f32", &at("once"), &features), &mut once).unwrap();
    assert_eq!(trainings(&once), 2 * 3, "{:?}", once.begun);
    // Stopped after each result and gone on with, it is the same again.
    let mut cut = Vec::new();
    loop {
        let mut watch = Notes { stop_after_result: true, ..Notes::default() };
        let outcome = evaluate(&dataset, &protocol, None, ("f32", &at("cut"), &features), &mut watch);
        cut.extend(watch.results);
        match outcome {
            Ok(()) => break,
            Err(Error::Stopped) => assert!(cut.len() < 5, "it does not come to an end"),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(!at("cut/novel/pini-both-2shot-seed1.checkpoint").exists());

    for (folder, results) in [("once", &once.results), ("cut", &cut)] {
        let names: Vec<&str> = results.iter().map(|record| record.task.variant.unwrap().name).collect();
        assert_eq!(names, ["both", "draw", "average", "image"], "{folder}");
        for record in results {
            let name = record.task.variant.unwrap().name;
            let place = DRAWN.variants.iter().position(|variant| variant.name == name).unwrap();
            let other = &apart.results[place];
            let bare = Record { task: other.task, ..timeless(record) };
            assert_eq!(bare, timeless(other), "{folder} {name}");
            let read = |folder: &str, file: &str| fs::read(at(folder).join("novel").join(file)).unwrap();
            let (own, alone) = (record.task.file(), other.task.file());
            assert!(
                read(folder, &format!("details/{own}.json")) == read(name, &format!("details/{alone}.json")),
                "{folder} {name}"
            );
            let adapter = |task: &str| format!("adapters/{task}.safetensors");
            assert!(read(folder, &adapter(&own)) == read(name, &adapter(&alone)), "{folder} {name}");
        }
    }
}

/// The same of noise on pixels, whose features depend on how it predicts; and what is learned otherwise is not taken together.
#[test]
fn noise_on_pixels_is_trained_once_for_several_ways_to_predict() {
    let (_dir, folder) = pictures(2, 3);
    // Each training goes through the image tower and back: no more of them than it takes.
    let how = How { augment: false, judge_by: eval::JudgeBy::Validation, ..How::default() };
    let templates = ["an icon of {}".to_string()];
    let texts = Texts { classes: &folder.classes, templates: &templates, words: "an icon of", dataset: "icons" };
    let choice = Choice { support: &folder.items, val: &[], seed: 3 };
    let settings = |json: serde_json::Value| settled(pini(), json.as_object().unwrap()).unwrap();
    let of = |evaluate: &str| settings(serde_json::json!({"noise": "pixels", "epochs": 1, "evaluate": evaluate}));
    let all = [of("mean"), of("draw")];
    let learned = |settings: &[Settings], watch: &mut Notes| {
        let mut source = Direct::new(clip(), None, None);
        let mut lesson = Lesson::new(clip(), texts, choice, &how, (None, &mut source)).unwrap();
        learn_each(pini(), settings, &mut lesson, watch)
    };
    let mut watch = Notes::default();
    let once = learned(&all, &mut watch).unwrap();
    assert_eq!(watch.begun.iter().filter(|what| what.contains("training PiNI")).count(), 1, "{:?}", watch.begun);
    let bytes = |one: Learned| {
        let description = Description::new("pini", &*one.fitted).unwrap();
        let meta = Meta::new(clip(), &folder.classes, description, None, 3).unwrap().calibrated(&one.calibration);
        let adapter = Adapter::Method(one.fitted, one.calibration);
        adapter_file::to_bytes("x".as_ref(), clip(), &meta, &adapter).unwrap()
    };
    let files: Vec<Vec<u8>> = once.into_iter().map(bytes).collect();
    let alone = learned(&all[1..], &mut watch).unwrap().pop().unwrap();
    assert!(bytes(alone) == files[1] && files[0] != files[1]);
    let other = settings(serde_json::json!({"noise": "pixels", "epochs": 2}));
    let error = learned(&[of("mean"), other], &mut watch).err().unwrap().to_string();
    assert!(error.contains("differ in what is learned"), "{error}");
    assert!(learned(&[], &mut watch).err().unwrap().to_string().contains("no settings"));
}
