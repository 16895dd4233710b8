//! The library's door gives what the program gives, to the bit: evaluations and corrections, stopped and gone on with.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;
use start::{MODEL, root, s, tipi};
use tipi::{
    CorrectionOptions, Dataset, DeviceOptions, Error, Evaluation, EvaluationCorrection, EvaluationOptions, Examples,
    Gpu, How, Job, Method, Model, Outcome, Shots, Unwatched, Watch,
};

fn model() -> &'static Model {
    static MODELS: OnceLock<Model> = OnceLock::new();
    MODELS.get_or_init(|| {
        let gpu = Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap();
        Model::load(&gpu, root().join(MODEL)).unwrap()
    })
}

/// The first `count` pictures of the first `classes` classes of a bundled folder.
fn copied(from: &str, to: &Path, (classes, count): (usize, usize)) {
    let sorted = |folder: &Path| -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    for class in sorted(&root().join("examples").join(from)).iter().filter(|path| path.is_dir()).take(classes) {
        let folder = to.join(class.file_name().unwrap());
        fs::create_dir_all(&folder).unwrap();
        for file in sorted(class).iter().take(count) {
            fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
        }
    }
}

/// A dataset and generic pictures.
struct Data {
    dir: tempfile::TempDir,
}

impl Data {
    fn new() -> Data {
        let dir = tempfile::tempdir().unwrap();
        copied("pictos/novel", &dir.path().join("novel"), (4, 8));
        copied("pictos-generic", &dir.path().join("generic"), (4, 6));
        Data { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn datasets(&self) -> [Dataset; 1] {
        [Dataset::open(self.at("novel")).unwrap()]
    }

    /// What is run, with results in `out`.
    fn options(&self, out: &str) -> EvaluationOptions {
        let generic = Examples::of_folder(self.at("generic")).unwrap();
        let mut options = EvaluationOptions {
            shots: [1, 2].map(Shots::UpTo).to_vec(),
            seeds: vec![1, 2],
            how: How { key_views: 2, views: 2, grid: "standard".into(), ..How::default() },
            correction: EvaluationCorrection::TrainedOn(generic, CorrectionOptions::default()),
            adapters: true,
            ..EvaluationOptions::new(self.at(out)).with_template("an icon of {}")
        };
        for name in ["tip-adapter-f", "pini", "prolip"] {
            options = options.with(Method::named(name).unwrap(), "epochs", 2).unwrap();
        }
        options
    }

    /// The same by the program.
    fn by_program(&self, out: &str) {
        let (data, generic, out) = (self.at("novel"), self.at("generic"), self.at(out));
        let args = "eval --model weights/picto --shots 1,2 --seeds 1,2 --key-views 2 --views 2 --grid standard \
                    --pini-epochs 2 --tip-f-epochs 2 --prolip-epochs 2 --adapters";
        let paths = ["--dataset", s(&data), "--generic", s(&generic), "--out", s(&out)];
        let words = ["--template", "an icon of {}", "--words", "an icon of"];
        let ended = tipi(&args.split_whitespace().chain(paths).chain(words).collect::<Vec<_>>());
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }

    /// Lines of results without what differs from run to run.
    fn lines(&self, out: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.at(out).join("novel/results.jsonl")).unwrap();
        let timeless = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let fields = line.as_object_mut().unwrap();
            for name in ["fit_seconds", "predict_seconds", "peak_bytes"] {
                assert!(fields.remove(name).is_some());
            }
            line
        };
        text.lines().map(timeless).collect()
    }

    /// Files of adapters, and the correction, by name.
    fn adapters(&self, out: &str) -> Vec<(String, Vec<u8>)> {
        let folder = self.at(out);
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder.join("novel/adapters")).unwrap().map(|file| file.unwrap().path()).collect();
        paths.push(folder.join("correction.safetensors"));
        paths.sort();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
        paths.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
    }
}

/// What must be equal, whatever the clock says.
fn timeless(outcomes: &[Outcome]) -> Vec<String> {
    let of = |o: &Outcome| {
        let bits = [o.accuracy, o.log_loss, o.temperature.unwrap_or(f64::NAN)].map(f64::to_bits);
        format!("{} {} {} {} {bits:x?}", o.dataset, o.method, o.shots, o.seed)
    };
    outcomes.iter().map(of).collect()
}

/// Stops after so many questions.
struct Impatient(usize);

impl Watch for Impatient {
    fn begin(&mut self, _what: &str, _total: usize) {}

    fn at(&mut self, _done: usize) -> tipi::Result<()> {
        self.0 = self.0.checked_sub(1).ok_or(Error::Stopped)?;
        Ok(())
    }

    fn end(&mut self) {}

    fn note(&mut self, _text: &str) {}
}

#[test]
fn an_evaluation_gives_the_program_s_numbers_however_often_it_is_stopped() {
    let data = Data::new();
    data.by_program("program");
    let program = Evaluation::open(data.at("program")).unwrap();
    let mut told = Vec::new();
    let options = data.options("whole");
    let whole = model()
        .evaluate_each(&data.datasets(), &options, &mut Unwatched, &mut |outcome, done, all| {
            told.push(outcome.clone());
            assert_eq!((done, all), (told.len(), 4 * Method::all().filter(|m| m.name() != "auto").count()));
        })
        .unwrap();
    assert_eq!(told, whole.outcomes());
    assert_eq!(timeless(whole.outcomes()), timeless(program.outcomes()));
    assert_eq!(data.lines("whole"), data.lines("program"));
    assert!(data.adapters("whole") == data.adapters("program"));
    assert_eq!(data.adapters("whole").len(), told.len() + 1);
    let means = |evaluation: &Evaluation| -> Vec<_> {
        let of =
            |m: &tipi::Mean| (m.method, m.shots, m.accuracies.clone(), m.accuracy.to_bits(), m.deviation.to_bits());
        evaluation.means().iter().map(of).collect()
    };
    assert_eq!(means(&whole), means(&program));
    assert!(whole.overall().is_empty() && whole.means()[0].dataset.as_deref() == Some("novel"));
    // Not by giving everything the same answer.
    assert!(told.iter().any(|outcome| outcome.accuracy.to_bits() != told[0].accuracy.to_bits()));

    // Stopped by who watches, and by a job from outside, in turns.
    let (options, mut stops) = (data.options("cut"), [0, 0]);
    let ended = loop {
        let turn = (stops[0] + stops[1]) % 2;
        let (data, options) = (data.datasets(), options.clone());
        let ended = if turn == 0 {
            model().evaluate(&data, &options, &mut Impatient([11, 7, 13, 5][stops[0] % 4]))
        } else {
            // By what was done and not by the clock.
            let (seen, enough) = (Arc::new(AtomicUsize::new(0)), [40, 60, 25][stops[1] % 3]);
            let changes = seen.clone();
            let job = Job::start_with(
                move |watch| model().evaluate(&data, &options, watch),
                move || {
                    changes.fetch_add(1, Ordering::Relaxed);
                },
            );
            while !job.is_finished() && seen.load(Ordering::Relaxed) < enough {
                std::thread::sleep(Duration::from_millis(1));
            }
            job.cancel();
            job.wait()
        };
        match ended {
            Err(Error::Stopped) => stops[turn] += 1,
            other => break other.unwrap(),
        }
        assert!(stops[0] < 300, "it does not come to an end");
    };
    println!("stopped {stops:?}");
    assert!(stops[0] > 3 && stops[1] > 2, "{stops:?} stops are no test");
    assert_eq!(timeless(ended.outcomes()), timeless(whole.outcomes()));
    assert_eq!(data.lines("cut"), data.lines("whole"));
    assert!(data.adapters("cut") == data.adapters("whole"));

    // What is there is not run again; the report is of all of it.
    let again = model().evaluate(&data.datasets(), &options, &mut Impatient(0)).unwrap();
    assert_eq!(again, ended);
    let html = fs::read_to_string(again.write_report().unwrap()).unwrap();
    assert!(html.contains("Tip-Adapter++") && data.at("cut/results.csv").is_file());
}

#[test]
fn what_is_wrong_with_an_evaluation_is_said_at_once_and_in_the_library_s_words() {
    let data = Data::new();
    let method = |name: &str| Method::named(name).unwrap();
    let base = EvaluationOptions { methods: vec![method("zero-shot")], shots: vec![1.into()], ..data.options("out") };
    let base = EvaluationOptions { correction: EvaluationCorrection::Nothing, ..base };
    let refused = |options: EvaluationOptions, datasets: &[Dataset], needle: &str| {
        // Whoever is asked has begun something long.
        let error = model().evaluate(datasets, &options, &mut Impatient(0)).unwrap_err().to_string();
        assert!(error.contains(needle) && !error.contains("--"), "{needle}: {error}");
    };
    let sets = data.datasets();
    let generic = || Examples::of_folder(data.at("generic")).unwrap();
    let trained = |options| EvaluationCorrection::TrainedOn(generic(), options);
    let pp = vec![method("tip-adapter++")];
    for (options, needle) in [
        (EvaluationOptions { shots: vec![], ..base.clone() }, "shots names nothing to run"),
        (EvaluationOptions { shots: vec![0.into()], ..base.clone() }, "0 shots leave nothing to learn from"),
        (EvaluationOptions { shots: vec![2.into(); 2], ..base.clone() }, "shots has 2 twice"),
        (EvaluationOptions { seeds: vec![], ..base.clone() }, "seeds names nothing to run"),
        (EvaluationOptions { seeds: vec![3, 3], ..base.clone() }, "seeds has 3 twice"),
        (EvaluationOptions { methods: vec![base.methods[0]; 2], ..base.clone() }, "methods has zero-shot twice"),
        (EvaluationOptions { methods: pp.clone(), ..base.clone() }, "tip-adapter++ needs an overlap correction"),
        (EvaluationOptions { templates: vec!["an icon".into()], ..base.clone() }, "template 'an icon' has no {}"),
        (EvaluationOptions { shots: vec![99.into()], strict: true, ..base.clone() }, "99 shots"),
        (EvaluationOptions { how: How { grid: "fine".into(), ..How::default() }, ..base.clone() }, "fine"),
        (EvaluationOptions { folder: data.at("novel/results"), ..base.clone() }, "which pictures are taken from"),
        (EvaluationOptions { features: Some(data.at("novel")), ..base.clone() }, "that pictures are taken from"),
        (
            EvaluationOptions {
                methods: pp.clone(),
                correction: trained(CorrectionOptions { rate: -1.0, ..Default::default() }),
                ..base.clone()
            },
            "the learning rate",
        ),
        (
            EvaluationOptions {
                folder: data.at("generic/x"),
                correction: trained(CorrectionOptions::default()),
                ..base.clone()
            },
            "which pictures are taken from",
        ),
    ] {
        refused(options, &sets, needle);
    }
    refused(base.clone(), &[], "no dataset");
    refused(base.clone(), &[sets[0].clone(), sets[0].clone()], "two datasets of the name 'novel'");
    fs::write(data.at("file"), "mine").unwrap();
    refused(EvaluationOptions { folder: data.at("file"), ..base.clone() }, &sets, "this is a file");
    fs::create_dir(data.at("foreign")).unwrap();
    fs::write(data.at("foreign/report.html"), "mine").unwrap();
    refused(EvaluationOptions { folder: data.at("foreign"), ..base.clone() }, &sets, "report.html: not overwritten");
    assert_eq!(fs::read(data.at("foreign/report.html")).unwrap(), b"mine");
    assert!(!data.at("out").exists(), "something was begun");

    let said = |error: Error| {
        let text = error.to_string();
        assert!(!text.contains("--"), "{text}");
        text
    };
    let base = || base.clone();
    assert!(said(base().with(method("pini"), "epoch", 2).unwrap_err()).contains("pini has no setting 'epoch'"));
    assert!(said(base().with(method("pini"), "epochs", 0).unwrap_err()).contains("epochs"));
    assert!(said(Dataset::named("pots", "x").unwrap_err()).contains("there is no dataset 'pots'; there are"));
    assert!(said(Dataset::open("no/such/folder").unwrap_err()).contains("no/such/folder"));
    assert!(said(Dataset::named("eurosat", data.at("")).unwrap_err()).contains("there is no such folder"));
    assert!(said(Evaluation::open(data.at("novel")).map(drop).unwrap_err()).contains("there are no results"));
    // Results of other settings stay as they are.
    let done = EvaluationOptions { folder: data.at("some"), ..base() };
    model().evaluate(&sets, &done, &mut Unwatched).unwrap();
    let before = data.lines("some");
    refused(EvaluationOptions { templates: vec!["a {}".into()], ..done }, &sets, "other settings (templates");
    assert_eq!(data.lines("some"), before);
}

#[test]
fn shared_work_is_gathered_and_found_done() {
    let data = Data::new();
    let method = |name: &str| Method::named(name).unwrap();
    let all = ["zero-shot", "gda", "tip-adapter"].map(method);
    let base = |out: &str| {
        let options = EvaluationOptions { methods: all.to_vec(), ..data.options(out) };
        EvaluationOptions { correction: EvaluationCorrection::Nothing, ..options }
    };
    let run = |options: &EvaluationOptions| model().evaluate(&data.datasets(), options, &mut Unwatched).unwrap();
    let whole = run(&base("whole"));
    // One folder a method and seed, the last of them twice.
    let mut parts = Vec::new();
    for (number, (one, seed)) in all.iter().flat_map(|one| [1, 2].map(|seed| (*one, seed))).enumerate() {
        let part = EvaluationOptions { methods: vec![one], seeds: vec![seed], ..base(&format!("part{number}")) };
        run(&part);
        parts.push(part.folder);
    }
    run(&EvaluationOptions { methods: vec![all[2]], seeds: vec![2], shots: vec![1.into()], ..base("twice") });
    parts.push(data.at("twice"));
    let gathered = Evaluation::gather(data.at("all"), &parts).unwrap();
    let sorted = |mut lines: Vec<Value>| {
        lines.sort_by_key(ToString::to_string);
        lines
    };
    assert_eq!(sorted(data.lines("all")), sorted(data.lines("whole")));
    let means = |evaluation: &Evaluation| -> Vec<String> {
        let of = |m: &tipi::Mean| format!("{:?} {} {:?} {:?}", m.dataset, m.method, m.shots, m.accuracies);
        evaluation.means().iter().map(of).collect()
    };
    assert_eq!(means(&gathered), means(&whole));
    for name in ["zero-shot-2shot-seed1", "tip-adapter-1shot-seed2"] {
        let adapter = |out: &str| fs::read(data.at(out).join(format!("novel/adapters/{name}.safetensors"))).unwrap();
        assert_eq!(adapter("all"), adapter("whole"), "{name}");
    }
    // All is there: what asks whether it may go on is never asked.
    let again = model().evaluate(&data.datasets(), &base("all"), &mut Impatient(0)).unwrap();
    assert_eq!(again, gathered);
    assert_eq!(Evaluation::gather(data.at("all"), &parts).unwrap(), gathered);
    assert!(fs::read_to_string(again.write_report().unwrap()).unwrap().contains("Tip-Adapter"));

    // What does not belong is refused, and changes nothing.
    let before = data.lines("all");
    let refused = |part: &str, needle: &str| {
        let error = Evaluation::gather(data.at("all"), &[data.at(part)]).map(drop).unwrap_err().to_string();
        assert!(error.contains(needle), "{needle}: {error}");
        assert_eq!(data.lines("all"), before);
    };
    refused("novel", "there are no results here");
    run(&EvaluationOptions { seeds: vec![3], templates: vec!["a {}".into()], ..base("other") });
    refused("other", "other settings (templates");
    let line = |change: &dyn Fn(&mut Value)| {
        let path = data.at("twice/novel/results.jsonl");
        let mut line: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut line);
        fs::write(path, format!("{line}\n")).unwrap();
    };
    line(&|line| line["alpha"] = 77.0.into());
    refused("twice", "is in");
    refused("twice", "with another result (alpha");
    // A result that is not there, of other pictures to learn from than those that are.
    line(&|line| line["method"] = "prolip".into());
    refused("twice", "prolip");
    line(&|line| line["data"] = "0".repeat(64).into());
    refused("twice", "has not learned from the pictures that");
    let settings = data.at("twice/novel/settings.json");
    let text = fs::read_to_string(&settings).unwrap().replace("\"dataset\":\"novel\"", "\"dataset\":\"../novel\"");
    fs::write(settings, text).unwrap();
    fs::remove_file(data.at("twice/novel/results.jsonl")).unwrap();
    refused("twice", "a folder of results has its name");
    fs::remove_file(data.at("part0/novel/test.json")).unwrap();
    refused("part0", "test.json");
}

#[test]
fn a_correction_is_the_program_s() {
    let data = Data::new();
    let (generic, out) = (data.at("generic"), data.at("program.safetensors"));
    let args = "fit overlap --model weights/picto --epochs 2 --seed 3 --bottleneck 8 --scale 0.1 --dropout 0.2 --lr 0.004 \
                --batch 10 --micro-batch 4";
    let paths = ["--data", s(&generic), "--out", s(&out)];
    let ended = tipi(&args.split_whitespace().chain(paths).collect::<Vec<_>>());
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let want = fs::read(&out).unwrap();

    let options = CorrectionOptions {
        epochs: 2,
        seed: 3,
        bottleneck: 8,
        scale: 0.1,
        dropout: 0.2,
        rate: 0.004,
        batch: 10,
        micro_batch: 4,
        ..CorrectionOptions::default()
    };
    let examples = Examples::of_folder(&generic).unwrap();
    let (correction, report) = model().fit_correction(&examples, &options, &mut Unwatched).unwrap();
    assert!(correction.to_bytes().unwrap() == want);
    assert_eq!((correction.classes(), correction.epochs()), (examples.classes(), 2));
    assert_eq!(correction.options(), options);
    assert_eq!(correction.facts(), "8 wide, scale 0.1, 2 epochs over 4 classes");
    assert!(report.losses.len() == 2 && report.validation_accuracy.is_none() && report.validation_pictures == 0);
    correction.save(data.at("own.safetensors")).unwrap();
    let opened = model().open_correction(data.at("own.safetensors")).unwrap();
    assert!(opened.to_bytes().unwrap() == want && opened.options() == options);
    assert_eq!(opened.classes(), examples.classes());
    let bytes = model().correction_from_bytes("bytes", want.clone()).unwrap();
    assert!(bytes.to_bytes().unwrap() == want);
    // Another seed gives another one.
    let other = CorrectionOptions { seed: 4, ..options.clone() };
    let (other, _) = model().fit_correction(&examples, &other, &mut Unwatched).unwrap();
    assert!(other.to_bytes().unwrap() != want);

    // A broken picture is found before anything is trained, and may be left out.
    let mut torn = examples.clone();
    torn.add(&examples.classes()[1].clone(), tipi::Picture::encoded("torn.png", &b"no picture"[..]));
    let error = model().fit_correction(&torn, &options, &mut Unwatched).map(drop).unwrap_err();
    assert!(error.to_string().contains("torn.png"), "{error}");
    let (sound, broken) = torn.sound(&mut Unwatched).unwrap();
    assert_eq!(broken.len(), 1);
    let (same, _) = model().fit_correction(&sound, &options, &mut Unwatched).unwrap();
    assert!(same.to_bytes().unwrap() == want);
    for (options, needle) in [
        (CorrectionOptions { rate: 0.0, ..options.clone() }, "the learning rate"),
        (CorrectionOptions { scale: f64::NAN, ..options.clone() }, "the scale of the correction"),
        (CorrectionOptions { dropout: 1.0, ..options.clone() }, "dropout"),
        (CorrectionOptions { bottleneck: 0, ..options.clone() }, "a bottleneck 0 wide"),
        (CorrectionOptions { micro_batch: 0, ..options.clone() }, "micro-batch"),
        (CorrectionOptions { epochs: 0, ..options.clone() }, "epoch"),
    ] {
        let error = model().fit_correction(&examples, &options, &mut Unwatched).map(drop).unwrap_err().to_string();
        assert!(error.contains(needle) && !error.contains("--"), "{error}");
    }
    let one = model().fit_correction(&Examples::new(), &options, &mut Unwatched).map(drop).unwrap_err();
    assert!(one.to_string().contains("at least two"), "{one}");
}
