//! The papers' protocol from pictures to tables: interrupted and not, on every dataset's layout; ablations, and features on disk.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../start/mod.rs"]
mod start;

mod ablations;
mod corrections;
mod store;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tipi::Error;
use tipi::low_level::adapt::method::{baseline, find};
use tipi::low_level::adapt::{METHODS, Method, overlap};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::{Dataset, ELEVEN, Folder, SHIFTS, Shots};
use tipi::low_level::eval::journal::Journal;
use tipi::low_level::eval::{self, How, Protocol, Record, Setup};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::watch::Watch;
use tipi_testing::miniatures;

use start::{root, tipi};

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap())
}

fn clip() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| Clip::load(gpu(), &root().join("weights/picto")).unwrap())
}

/// A few bundled pictures in a folder of their own, `count` of each of `classes` classes.
fn pictures(classes: usize, count: usize) -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let set = Folder::open(root().join("examples/pictos/novel")).unwrap();
    for (label, class) in set.classes.iter().enumerate().take(classes) {
        let folder = dir.path().join("novel").join(class);
        fs::create_dir_all(&folder).unwrap();
        for item in set.items.iter().filter(|item| item.label == label).take(count) {
            fs::copy(&item.path, folder.join(item.path.file_name().unwrap())).unwrap();
        }
    }
    let folder = Folder::open(dir.path().join("novel")).unwrap();
    (dir, folder)
}

/// Notes what it is told, and can stop.
#[derive(Default)]
struct Notes {
    notes: Vec<String>,
    /// What was begun.
    begun: Vec<String>,
    results: Vec<Record>,
    steps: usize,
    stop_after: Option<usize>,
    /// Whether it stops as soon as it can after a result.
    stop_after_result: bool,
}

impl Watch for Notes {
    fn begin(&mut self, what: &str, _: usize) {
        self.begun.push(what.into());
    }
    fn at(&mut self, _: usize) -> tipi::Result<()> {
        self.steps += 1;
        let stops = self.stop_after_result && !self.results.is_empty();
        if stops || self.stop_after.is_some_and(|limit| self.steps > limit) { Err(Error::Stopped) } else { Ok(()) }
    }
    fn end(&mut self) {}
    fn note(&mut self, text: &str) {
        self.notes.push(text.into());
    }
}

impl eval::Watch for Notes {
    fn result(&mut self, record: &Record, _: usize, _: usize) {
        self.results.push(record.clone());
    }
}

fn tip_adapter() -> &'static dyn Method {
    find("tip-adapter").unwrap()
}

/// All that are no choice among others.
fn single() -> Vec<&'static dyn Method> {
    METHODS.iter().copied().filter(|method| !method.info().needs.others).collect()
}

fn pini() -> &'static dyn Method {
    find("pini").unwrap()
}

fn protocol(methods: &[&'static dyn Method], shots: &[usize], seeds: &[u64]) -> Protocol {
    let how = How {
        key_views: 2,
        augment: true,
        views: 2,
        grid: "alpha=0:20:9,beta=0:10:4,gamma=0:10:3".into(),
        ..How::default()
    };
    let given = serde_json::json!({"tip-adapter-f": {"epochs": 3}, "pini": {"epochs": 2, "lr": 0.004}, "prolip": {"epochs": 3}});
    let given = serde_json::from_value(given).unwrap();
    Protocol {
        methods: methods.to_vec(),
        ablation: None,
        taught: Vec::new(),
        shots: shots.iter().copied().map(Shots::UpTo).collect(),
        seeds: seeds.to_vec(),
        setup: Setup::new(how, methods, &given).unwrap(),
        adapters: false,
        strict: false,
        batch: Some(8),
        foreign: Vec::new(),
    }
}

fn correction() -> overlap::Correction {
    let config = overlap::Config { scale: 0.1, ..overlap::Config::paper(1) };
    let correction = overlap::Correction::init(clip(), &config).unwrap();
    // Fresh bottlenecks change nothing; a little of everything makes the corrected features differ.
    for (i, tensor) in correction.tensors().into_iter().enumerate() {
        let values: Vec<f32> = (0..tensor.len()).map(|j| 0.2 * ((i * 31 + j) as f32 * 0.7).sin()).collect();
        gpu().write(tensor, &values).unwrap();
    }
    correction
}

/// What of a record does not depend on the clock or the device's memory.
fn timeless(record: &Record) -> Record {
    Record { fit_seconds: 0.0, predict_seconds: 0.0, peak_bytes: 0, ..record.clone() }
}

/// Looks over a dataset and runs it.
fn evaluate(
    dataset: &Dataset,
    protocol: &Protocol,
    corrected: Option<(&overlap::Correction, &str)>,
    paths: (&str, &Path, &Path),
    watch: &mut Notes,
) -> tipi::Result<()> {
    eval::run(clip(), eval::check(dataset, protocol, corrected.is_some())?, &corrected.into(), paths, watch)
}

/// Every layout of every known dataset, through all methods or some, to a report.
#[test]
fn every_dataset_runs_from_its_layout_to_the_report() {
    let data = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let correction = correction();
    let corrected = (&correction, "planted");
    for name in ELEVEN.iter().chain(&SHIFTS) {
        miniatures::write(name, data.path());
        let dataset = Dataset::open(name, Some(data.path())).unwrap();
        let all = *name == "caltech101";
        let methods = if all { single() } else { vec![baseline(), tip_adapter()] };
        let protocol = protocol(&methods, &[1, 2], &[1]);
        let mut watch = Notes::default();
        let corrected = all.then_some(corrected);
        let features = out.path().join("features");
        let paths = ("f32", out.path(), features.as_path());
        evaluate(&dataset, &protocol, corrected, paths, &mut watch).unwrap();
        assert_eq!(watch.results.len(), 2 * methods.len(), "{name}");
        for record in &watch.results {
            assert_eq!(record.test, dataset.test.len(), "{name}");
            assert!(record.temperature.is_some() && record.val > 0, "{name}: {record:?}");
            // A class's pictures are all alike, but for how views cut them: a cache finds most.
            if record.task.method == tip_adapter() && name != &"imagenet_sketch" {
                assert!(record.accuracy > 0.5, "{name}: {record:?}");
            }
        }
        if let Some(subset) = &dataset.subset {
            let (journal, ..) = Journal::look(&out.path().join(&dataset.name)).unwrap();
            let detail = journal.detail(protocol.tasks()[0]).unwrap();
            assert!(detail.predicted.iter().all(|said| subset.contains(&(*said as usize))), "{name}");
        }
    }
    // Without ImageNet a shift of it can be told apart by text alone.
    fs::remove_dir_all(data.path().join("imagenet/images")).unwrap();
    let dataset = Dataset::open("imagenet_a", Some(data.path())).unwrap();
    let alone = tempfile::tempdir().unwrap();
    let paths = ("f32", alone.path(), alone.path());
    let run = |methods: &[&'static dyn Method]| {
        evaluate(&dataset, &protocol(methods, &[1], &[1]), None, paths, &mut Notes::default())
    };
    run(&[baseline()]).unwrap();
    let error = run(&[tip_adapter()]).unwrap_err().to_string();
    assert!(error.contains("tip-adapter needs") && error.contains("no pictures to learn from"), "{error}");

    let written = eval::report::write(out.path()).unwrap();
    assert_eq!(written.datasets.len(), ELEVEN.len() + SHIFTS.len());
    assert_eq!(written.datasets[0].1, "ImageNet");
    // Zero-shot and Tip-Adapter are on all: there is a mean of them, and of nothing else.
    assert_eq!(written.summary.average.len(), 4);
    let html = fs::read_to_string(&written.html).unwrap();
    for needle in
        ["Caltech101", "PiNI", "Tip-X++", "Confidence", "ViT-B/16, OxfordPets", "88.9", "prefers-color-scheme"]
    {
        assert!(html.contains(needle), "no '{needle}' in the report");
    }
    // Nothing is fetched: every address is in the page itself.
    for attribute in ["src=\"", "href=\""] {
        for address in html.split(attribute).skip(1) {
            assert!(address.starts_with("data:") || address.starts_with('#'), "{}", &address[..40.min(address.len())]);
        }
    }
    for plot in ["accuracy.svg", "accuracy.png", "caltech101-search-tip-x++.png", "caltech101-pini-text-mean.png"] {
        assert!(out.path().join("plots").join(plot).is_file(), "{plot}");
    }
    let csv = fs::read_to_string(out.path().join("results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 14 * 4 + 2 * single().len());
    let json: serde_json::Value = serde_json::from_slice(&fs::read(out.path().join("results.json")).unwrap()).unwrap();
    assert_eq!(json["datasets"].as_array().unwrap().len(), 15);
}

/// A run that is stopped after every few steps, again and again, ends with the results of one that was not, and runs
/// nothing twice.
#[test]
fn results_do_not_depend_on_where_a_run_was_stopped() {
    let (dir, _) = pictures(6, 8);
    let dataset = Dataset::open(dir.path().join("novel").to_str().unwrap(), None).unwrap();
    let correction = correction();
    let corrected = Some((&correction, "planted"));
    let mut protocol = protocol(&single(), &[1, 2], &[1, 2]);
    // Fresh views every epoch, as the authors train: they, too, must come again as they were.
    protocol.setup.how.views = 0;
    let run = |out: &Path, watch: &mut Notes| {
        evaluate(&dataset, &protocol, corrected, ("f32", out, &out.join("features")), watch)
    };
    let whole = tempfile::tempdir().unwrap();
    let mut watch = Notes::default();
    run(whole.path(), &mut watch).unwrap();
    let expected = watch.results;
    assert_eq!(expected.len(), 4 * single().len());

    let cut = tempfile::tempdir().unwrap();
    let mut results = Vec::new();
    let mut stops = 0;
    loop {
        // Primes, so that stops fall everywhere. A large one now and then: what is trained to judge a training is not put down.
        let mut watch = Notes { stop_after: Some([7, 11, 61, 13, 17, 5][stops % 6]), ..Notes::default() };
        let outcome = run(cut.path(), &mut watch);
        results.extend(watch.results);
        match outcome {
            Ok(()) => break,
            Err(Error::Stopped) => stops += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(stops < 400, "it does not come to an end");
        if stops == 2 {
            // What a program that was killed leaves behind a line is cut off.
            let path = cut.path().join("novel/results.jsonl");
            let mut text = fs::read(&path).unwrap_or_default();
            text.extend(b"{\"dataset\":\"novel\",\"met");
            fs::write(&path, text).unwrap();
        }
    }
    assert!(stops > 5, "{stops} stops are no test");
    let timeless = |all: &[Record]| all.iter().map(self::timeless).collect::<Vec<_>>();
    assert_eq!(timeless(&results), timeless(&expected), "after {stops} stops");
    assert!(!cut.path().join("novel").join("pini-1shot-seed1.checkpoint").exists());
    let tables = |out: &Path| eval::report::write(out).unwrap().summary.accuracies(Some("novel")).rows;
    assert_eq!(tables(whole.path()), tables(cut.path()));
    let html = fs::read_to_string(cut.path().join("report.html")).unwrap();
    assert!(html.contains("Confused classes") && html.contains("most confident mistakes"));

    // Once more: everything is there, nothing runs, not even the encoder.
    let mut watch = Notes { stop_after: Some(0), ..Notes::default() };
    run(cut.path(), &mut watch).unwrap();
    assert!(
        watch.results.is_empty()
            && watch.notes.iter().any(|n| n.contains(&format!("{} results are there", 4 * single().len())))
    );

    // Training on the pictures as they are is another setting, with results of its own.
    let mut still = protocol.clone();
    (still.setup.how.augment, still.methods, still.shots, still.seeds) = (false, vec![pini()], vec![2.into()], vec![1]);
    let mut watch = Notes::default();
    let out = tempfile::tempdir().unwrap();
    let features = cut.path().join("features");
    evaluate(&dataset, &still, None, ("f32", out.path(), &features), &mut watch).unwrap();
    let pini = expected.iter().find(|r| r.task == watch.results[0].task).unwrap();
    assert_ne!(timeless(&watch.results)[0].log_loss, pini.log_loss);

    // Other settings in the same folder are refused, and leave what is there alone.
    let before = fs::read(cut.path().join("novel/results.jsonl")).unwrap();
    let mut other = protocol.clone();
    other.setup.methods.get_mut("pini").unwrap()["noise"] = "text".into();
    let paths = |out: &'static str| (out, cut.path(), cut.path());
    let error = evaluate(&dataset, &other, corrected, paths("f32"), &mut Notes::default()).unwrap_err();
    assert!(error.to_string().contains("how.methods.pini.noise 'both', now 'text'"), "{error}");
    let error = evaluate(&dataset, &protocol, corrected, paths("f16"), &mut Notes::default()).unwrap_err();
    assert!(error.to_string().contains("precision 'f32', now 'f16'"), "{error}");
    // A run without ++ methods needs no correction, and may be added to what was done with one.
    let some = Protocol { methods: vec![baseline()], seeds: vec![3], ..protocol.clone() };
    let out = (cut.path(), cut.path().join("features"));
    evaluate(&dataset, &some, None, ("f32", out.0, &out.1), &mut Notes::default()).unwrap();
    let after = fs::read(cut.path().join("novel/results.jsonl")).unwrap();
    assert_eq!(after[..before.len()], before[..]);
    let (journal, ..) = Journal::look(&cut.path().join("novel")).unwrap();
    assert!(journal.overlap().unwrap().unwrap().after.is_some(), "the corrected histogram stays");
    drop(journal);

    // A picture whose contents changed since: its results no longer stand.
    let victim = dataset.test[0].path.clone();
    fs::copy(&dataset.test.last().unwrap().path, &victim).unwrap();
    let test = cut.path().join("novel/test.json");
    let before = fs::read(&test).unwrap();
    let more = Protocol { seeds: vec![4], ..protocol.clone() };
    let error = evaluate(&dataset, &more, corrected, ("f32", out.0, &out.1), &mut Notes::default());
    assert!(error.as_ref().unwrap_err().to_string().contains("have changed"), "{error:?}");
    assert_eq!(fs::read(&test).unwrap(), before, "what is there is left alone");
    // The same of a picture to learn from, for the choices that have it.
    fs::copy(
        root().join("examples/pictos/novel").join(victim.strip_prefix(dir.path().join("novel")).unwrap()),
        &victim,
    )
    .unwrap();
    for item in dataset.train.iter().filter(|item| item.label == 0) {
        fs::copy(&dataset.train.last().unwrap().path, &item.path).unwrap();
    }
    let all = Protocol { seeds: vec![1, 2, 4], ..protocol.clone() };
    let error = evaluate(&dataset, &all, corrected, ("f32", out.0, &out.1), &mut Notes::default());
    assert!(error.as_ref().unwrap_err().to_string().contains("have changed"), "{error:?}");
}

/// Fails with code 2 and a last line that begins with "error:" and holds all of `needles`.
fn bad(args: &[&str], needles: &[&str]) {
    let start = Instant::now();
    let out = tipi(args);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with("error: "), "{stderr}");
    for needle in needles {
        assert!(last.contains(needle), "{args:?}: no '{needle}' in: {last}");
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{args:?}: errors come early");
}

fn options<'a>(data: &'a str, out: &'a str) -> Vec<&'a str> {
    let text = "eval --model weights/picto --shots 1,2 --seeds 1,2 --key-views 2 --views 2 --pini-epochs 3 \
                --tip-f-epochs 3 --prolip-epochs 3 --grid standard --words an_icon_of --template icon:{}";
    text.split_whitespace().chain(["--dataset", data, "--out", out]).collect()
}

/// Killed without warning at several moments; the same command ends with the tables of a run that was left alone.
#[test]
fn a_killed_run_goes_on_where_it_was() {
    let (dir, _) = pictures(5, 8);
    let data = dir.path().join("novel");
    let data = data.to_str().unwrap();
    let outs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [whole, cut] = outs.each_ref().map(|out| out.path().to_str().unwrap());
    let start = Instant::now();
    let out = tipi(&options(data, whole));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let time = start.elapsed();
    let mut kills = 0;
    for share in [0.35, 0.6, 0.5] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tipi"))
            .env("TIPI_TUNE", "off")
            .args(options(data, cut))
            .current_dir(root())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(time.mul_f64(share));
        // It may have ended by itself.
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
    }
    assert!(kills > 0);
    let out = tipi(&options(data, cut));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let accuracies = |out: &str| -> Vec<String> {
        let text = fs::read_to_string(Path::new(out).join("results.csv")).unwrap();
        let mut rows: Vec<String> =
            text.lines().map(|line| line.split(',').take(20).collect::<Vec<_>>().join(",")).collect();
        rows.iter_mut().skip(1).for_each(|row| *row = row.rsplitn(2, ',').last().unwrap().to_string());
        rows
    };
    assert_eq!(accuracies(whole)[1..], accuracies(cut)[1..], "after {kills} kills");
    let methods = single().iter().filter(|method| !method.info().needs.correction).count();
    assert_eq!(accuracies(whole).len(), 1 + 4 * methods);

    // The report can be made anew from what is there, without a model.
    let out = tipi(&["report", cut, "--json"]);
    assert!(out.status.success());
    let summary: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(summary["cells"].as_array().unwrap().len(), 2 * methods);
}

#[test]
fn bad_input_is_refused_early() {
    let (dir, folder) = pictures(3, 6);
    let data = dir.path().join("novel");
    let data = data.to_str().unwrap();
    let out = tempfile::tempdir().unwrap();
    let out = out.path().to_str().unwrap();
    let with = |data: &str, more: &[&str]| -> Vec<String> {
        options(data, out).into_iter().map(String::from).chain(more.iter().map(|s| (*s).to_string())).collect()
    };
    let bad = |args: Vec<String>, needles: &[&str]| bad(&args.iter().map(String::as_str).collect::<Vec<_>>(), needles);
    bad(with(data, &["--methods", "tip-x++"]), &["tip-x++ needs an overlap correction", "--generic"]);
    bad(with(data, &["--methods", "tipx"]), &["'tipx'", "tip-adapter-f"]);
    bad(with(data, &["--pini-lr", "0"]), &["--pini-lr"]);
    bad(with("oxford_pets", &[]), &["--root"]);
    bad(with("nowhere", &[]), &["nowhere", "oxford_pets"]);
    bad(with(data, &["--strict", "--shots", "8"]), &["8 shots: 3 of 3 classes have fewer", "ask for fewer shots"]);
    let two: PathBuf = dir.path().join("one");
    fs::create_dir_all(two.join("only")).unwrap();
    fs::copy(&folder.items[0].path, two.join("only/a.png")).unwrap();
    bad(with(two.to_str().unwrap(), &[]), &["just one class"]);
    bad(vec!["report".into(), dir.path().to_str().unwrap().into()], &["no results"]);

    // A split that names files which are not there.
    let sets = tempfile::tempdir().unwrap();
    miniatures::write("dtd", sets.path());
    let victim = Dataset::open("dtd", Some(sets.path())).unwrap().test[3].path.clone();
    fs::remove_file(&victim).unwrap();
    let name = victim.file_name().unwrap().to_str().unwrap().to_string();
    bad(with("dtd", &["--root", sets.path().to_str().unwrap()]), &[&name, "1 file", "data check"]);

    // A picture that cannot be read is left out and named; with --strict it is an error.
    let broken = folder.items[1].path.clone();
    fs::write(&broken, "no picture").unwrap();
    let args = with(data, &["--methods", "zero-shot,tip-adapter", "--shots", "8"]);
    let run = tipi(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let stderr = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{stderr}");
    assert!(stderr.contains(broken.file_name().unwrap().to_str().unwrap()) && stderr.contains("skipped"), "{stderr}");
    // So is a class with fewer pictures than shots: it gives all it has, as with CoOp's code.
    assert!(stderr.contains("8 shots: 3 of 3 classes have fewer"), "{stderr}");
    let html = fs::read_to_string(Path::new(out).join("report.html")).unwrap();
    assert!(html.contains("8 shots: 3 of 3") && html.contains("left out:"), "the report says so, too");
}
