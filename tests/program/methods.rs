//! The one way to learn: whoever asks, and however often a training is stopped, the same pictures give the same adapter.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tipi::low_level::adapt::adapter_file::{self, Adapter, Description, File, Meta};
use tipi::low_level::adapt::method::{Settings, find, settled};
use tipi::low_level::adapt::overlap::{self, Correction};
use tipi::low_level::adapt::{Choice, How, Lesson, METHODS, Method, Place, Texts, learn, names};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::Dataset;
use tipi::low_level::encode::{self, Direct};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::watch::{Unwatched, Watch};

use start::{MODEL, command, root, s, tipi};

fn clip() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| {
        let gpu = Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap();
        Clip::load(&gpu, &root().join("weights/picto")).unwrap()
    })
}

/// A few bundled pictures in train, val and test.
fn parts() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let set = root().join("examples/pictos/novel");
    let mut classes: Vec<PathBuf> = fs::read_dir(set).unwrap().map(|entry| entry.unwrap().path()).collect();
    classes.sort();
    for class in classes.iter().take(4) {
        let mut pictures: Vec<PathBuf> = fs::read_dir(class).unwrap().map(|entry| entry.unwrap().path()).collect();
        pictures.sort();
        for (part, range) in [("train", 0..3), ("val", 3..5), ("test", 5..7)] {
            let folder = dir.path().join("set").join(part).join(class.file_name().unwrap());
            fs::create_dir_all(&folder).unwrap();
            for picture in &pictures[range] {
                fs::copy(picture, folder.join(picture.file_name().unwrap())).unwrap();
            }
        }
    }
    dir
}

/// A correction that changes features, and the file that it is in.
fn correction(folder: &Path) -> (Correction, PathBuf) {
    let config = overlap::Config { scale: 0.1, ..overlap::Config::paper(1) };
    let correction = Correction::init(clip(), &config).unwrap();
    for (i, tensor) in correction.tensors().into_iter().enumerate() {
        let values: Vec<f32> = (0..tensor.len()).map(|j| 0.2 * ((i * 31 + j) as f32 * 0.7).sin()).collect();
        clip().gpu.write(tensor, &values).unwrap();
    }
    let path = folder.join("correction.safetensors");
    let meta = Meta::new(clip(), &[], Description::of_correction(&config).unwrap(), None, 1).unwrap();
    adapter_file::save(&path, clip(), &meta, &Adapter::Correction(correction.clone())).unwrap();
    (correction, path)
}

const TEMPLATE: &str = "an icon of {}";
const WORDS: &str = "an icon of";
const GRID: &str = "alpha=0:20:9,beta=0:10:4,gamma=0:10:3";

/// All that are no choice among others.
fn single() -> impl Iterator<Item = &'static dyn Method> {
    METHODS.iter().copied().filter(|method| !method.info().needs.others)
}

/// Settings that make every method quick.
fn quick(method: &dyn Method) -> Settings {
    let mut settings = Settings::new();
    if method.defaults().contains_key("epochs") {
        settings.insert("epochs".into(), 3.into());
    }
    settings
}

fn how() -> How {
    How { key_views: 2, augment: true, views: 0, grid: GRID.into(), ..How::default() }
}

/// An adapter file as the library makes it.
fn by_library(method: &'static dyn Method, set: &Path, correction: &Correction, out: &Path) {
    let dataset = Dataset::open(set, None).unwrap();
    let split = encode::choose_parts(&dataset, 2, 7, true, &|_| {}).unwrap().split;
    let templates = [TEMPLATE.to_string()];
    let texts = Texts { classes: &dataset.classes, templates: &templates, words: WORDS, dataset: &dataset.name };
    let choice = Choice { support: &split.support, val: &split.val, seed: 7 };
    let correction = method.info().needs.correction.then_some(correction);
    let mut source = Direct::new(clip(), correction.map(|c| &c.blocks[..]), None);
    let how = how();
    let mut lesson = Lesson::new(clip(), texts, choice, &how, (correction, &mut source)).unwrap();
    let settings = settled(method, &quick(method)).unwrap();
    let learned = learn(method, &settings, &mut lesson, &mut Unwatched).unwrap();
    let description = Description::new(method.info().name, &*learned.fitted).unwrap();
    let meta = Meta::new(clip(), &dataset.classes, description, Some(2), 7).unwrap();
    let meta = meta.calibrated(&learned.calibration).with_pictures(names::of_keys(&split.support));
    adapter_file::save(out, clip(), &meta, &Adapter::Method(learned.fitted, learned.calibration)).unwrap();
}

/// `tipi eval` of all methods with their adapters, in a folder.
fn by_eval(set: &Path, correction: &Path, out: &Path) {
    let mut args = vec!["eval", "--dataset", s(set), "--model", MODEL, "--out", s(out), "--correction", s(correction)];
    args.extend(["--shots", "2", "--seeds", "7", "--template", TEMPLATE, "--words", WORDS, "--key-views", "2"]);
    args.extend(["--grid", GRID, "--adapters"]);
    let epochs: Vec<String> = METHODS
        .iter()
        .filter(|method| method.defaults().contains_key("epochs"))
        .map(|method| format!("--{}-epochs=3", method.info().aliases.first().unwrap_or(&method.info().name)))
        .collect();
    args.extend(epochs.iter().map(String::as_str));
    let output = tipi(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn adapter(out: &Path, method: &dyn Method) -> Vec<u8> {
    fs::read(out.join(format!("set/adapters/{method}-2shot-seed7.safetensors"))).unwrap()
}

#[test]
fn fit_eval_and_the_library_learn_the_same_bytes_and_look_at_no_test_picture() {
    let dir = parts();
    let set = dir.path().join("set");
    let (correction, path) = correction(dir.path());
    let out = tempfile::tempdir().unwrap();
    by_eval(&set, &path, &out.path().join("eval"));
    for method in single() {
        let expected = adapter(&out.path().join("eval"), method);
        let library = out.path().join("library.safetensors");
        by_library(method, &set, &correction, &library);
        assert!(fs::read(&library).unwrap() == expected, "{method}: the library and eval differ");
        let fitted = out.path().join(format!("{method}.safetensors"));
        let info = method.info();
        let mut args = vec!["fit", info.name, "--model", MODEL, "--data", s(&set), "--shots", "2", "--seed", "7"];
        args.extend(["--out", s(&fitted)]);
        let given: [(bool, &[&str]); 6] = [
            (info.needs.templates, &["--template", TEMPLATE]),
            (info.needs.words, &["--words", WORDS]),
            (info.needs.keys, &["--key-views", "2"]),
            (info.needs.grid, &["--grid", GRID]),
            (info.needs.correction, &["--correction", s(&path)]),
            (method.defaults().contains_key("epochs"), &["--epochs", "3"]),
        ];
        given.iter().filter(|(needed, _)| *needed).for_each(|(_, more)| args.extend(*more));
        let output = tipi(&args);
        assert!(output.status.success(), "{method}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::read(&fitted).unwrap() == expected, "{method}: fit and eval differ");
        // It predicts, and says what it is.
        let picture = fs::read_dir(set.join("test")).unwrap().next().unwrap().unwrap().path();
        let output = tipi(&["predict", "--adapter", s(&fitted), "--json", s(&picture)]);
        assert!(output.status.success(), "{method}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(File::open(&fitted).unwrap().meta.method.name, info.name);
    }
    // Other test pictures, with the labels of before: whatever was learned, searched or ranged, nothing of it moves.
    let mut pictures: Vec<PathBuf> = walk(&set.join("test"));
    pictures.sort();
    let contents: Vec<Vec<u8>> = pictures.iter().map(|path| fs::read(path).unwrap()).collect();
    for (i, path) in pictures.iter().enumerate() {
        fs::write(path, &contents[(i + 3) % contents.len()]).unwrap();
    }
    by_eval(&set, &path, &out.path().join("other"));
    let results = |name: &str| fs::read_to_string(out.path().join(name).join("set/test.json")).unwrap();
    assert_ne!(results("eval"), results("other"), "the test pictures are the same");
    for method in single() {
        let (before, after) = (adapter(&out.path().join("eval"), method), adapter(&out.path().join("other"), method));
        assert!(before == after, "{method} depends on test pictures");
    }
    // While other pictures to learn from do change what is learned.
    let victim = walk(&set.join("train")).remove(0);
    fs::write(&victim, &contents[0]).unwrap();
    by_eval(&set, &path, &out.path().join("third"));
    for method in single().filter(|method| method.info().needs.support) {
        let (before, after) = (adapter(&out.path().join("eval"), method), adapter(&out.path().join("third"), method));
        assert!(before != after, "{method} does not depend on its pictures");
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect();
    all.sort();
    all
}

/// Stops once so many parts of a training are done.
struct Stop {
    after: usize,
    training: bool,
}

impl Watch for Stop {
    fn begin(&mut self, what: &str, _: usize) {
        self.training = what.starts_with("training");
    }
    fn at(&mut self, done: usize) -> tipi::Result<()> {
        if self.training && done >= self.after { Err(tipi::Error::Stopped) } else { Ok(()) }
    }
    fn end(&mut self) {
        self.training = false;
    }
    fn note(&mut self, _: &str) {}
}

#[test]
fn every_training_can_be_put_down_and_taken_up_with_the_same_bits() {
    let dir = parts();
    let dataset = Dataset::open(dir.path().join("set"), None).unwrap();
    let split = encode::choose_parts(&dataset, 2, 7, true, &|_| {}).unwrap().split;
    let templates = [TEMPLATE.to_string()];
    let texts = Texts { classes: &dataset.classes, templates: &templates, words: WORDS, dataset: &dataset.name };
    let choice = Choice { support: &split.support, val: &split.val, seed: 7 };
    let how = How { key_views: 2, ..how() };
    let state = dir.path().join("state.checkpoint");
    let mut trained = 0;
    for method in METHODS.iter().copied().filter(|method| method.info().needs.training) {
        let mut settings = quick(method);
        settings.insert("epochs".into(), 6.into());
        let settings = settled(method, &settings).unwrap();
        let fit = |place: Option<Place>, watch: &mut dyn Watch| {
            let mut source = Direct::new(clip(), None, None);
            let mut lesson = Lesson::new(clip(), texts, choice, &how, (None, &mut source)).unwrap();
            lesson.keep_at(place);
            let learned = learn(method, &settings, &mut lesson, watch)?;
            let meta = Meta::new(clip(), &dataset.classes, Description::new("x", &*learned.fitted)?, None, 7)?;
            let bytes =
                adapter_file::to_bytes(&state, clip(), &meta, &Adapter::Method(learned.fitted, learned.calibration))?;
            Ok::<_, tipi::Error>((bytes, learned.losses))
        };
        let whole = fit(None, &mut Unwatched).unwrap();
        let place = |resume| Some(Place { path: state.clone(), resume });
        for (i, after) in [1, 3, 4].into_iter().enumerate() {
            let stopped = fit(place(i > 0), &mut Stop { after, training: false });
            assert!(matches!(stopped.err().unwrap(), tipi::Error::Stopped), "{method}");
            assert!(state.is_file(), "{method} left no state");
        }
        let resumed = fit(place(true), &mut Unwatched).unwrap();
        assert!(whole.0 == resumed.0, "{method}: other bits after it was stopped");
        assert_eq!(whole.1, resumed.1, "{method}");
        // Without the state it would have begun anew; with other settings it is refused.
        let mut other = quick(method);
        other.insert("epochs".into(), 5.into());
        let other = settled(method, &other).unwrap();
        let mut source = Direct::new(clip(), None, None);
        let mut lesson = Lesson::new(clip(), texts, choice, &how, (None, &mut source)).unwrap();
        lesson.keep_at(place(true));
        let error = learn(method, &other, &mut lesson, &mut Unwatched).err().unwrap().to_string();
        assert!(error.contains("checkpoint of other settings: epochs 6, now 5"), "{method}: {error}");
        fs::remove_file(&state).unwrap();
        trained += 1;
    }
    assert!(trained >= 2);
}

#[test]
fn a_correction_that_is_stopped_goes_on_with_the_same_bits() {
    let dir = parts();
    let data = dir.path().join("set/train");
    let fit = |out: &Path, more: &[&str]| {
        let mut args = vec!["fit", "overlap", "--model", MODEL, "--data", s(&data), "--out", s(out)];
        args.extend(["--epochs", "3", "--batch", "4", "--micro-batch", "3"]);
        args.extend(more);
        command(&args)
    };
    let whole = dir.path().join("whole.safetensors");
    assert!(fit(&whole, &[]).output().unwrap().status.success());
    let set = tipi::low_level::data::Folder::open(&data).unwrap();
    let config = overlap::Config { epochs: 3, batch: 4, micro_batch: 3, ..overlap::Config::paper(1) };
    let cut = dir.path().join("cut.safetensors");
    let names = set.names();
    let state = dir.path().join("cut.safetensors.checkpoint");
    for (i, after) in [2, 5].into_iter().enumerate() {
        let place = Some(Place { path: state.clone(), resume: i > 0 });
        let mut stop = Stop { after, training: false };
        let stopped = overlap::learn(clip(), overlap::Generic::of_files(&set.items, &names), &config, place, &mut stop);
        let error = stopped.err().unwrap();
        assert!(matches!(error, tipi::Error::Stopped), "{error}");
    }
    // The program takes up what the library put down.
    let output = fit(&cut, &["--resume"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("going on after step 6 of 9"), "{text}");
    assert!(fs::read(&whole).unwrap() == fs::read(&cut).unwrap());
    assert!(!state.exists());
}

#[test]
fn auto_keeps_the_method_of_the_least_log_loss() {
    let dir = parts();
    let set = dir.path().join("set");
    let out = dir.path().join("auto.safetensors");
    let fit = |more: &[&str]| {
        let mut args = vec!["fit", "auto", "--model", MODEL, "--data", s(&set), "--seed", "7", "--out", s(&out)];
        args.extend(["--template", TEMPLATE, "--words", WORDS, "--key-views", "2", "--grid", GRID]);
        args.extend(more);
        let output = tipi(&args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        text
    };
    // Two validation pictures a class: trainings take part, as far as there is time.
    let text = fit(&["--shots", "2", "--budget", "20s"]);
    let chosen = File::open(&out).unwrap().meta.method.name;
    assert!(text.contains(&format!("{chosen}: the least log-loss")) && text.contains("on 16 pictures"), "{text}");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with('│'))
        .map(|line| line.split(['│', '┆']).map(str::trim).collect())
        .collect();
    let losses: Vec<(f64, bool)> =
        rows.iter().filter_map(|row| Some((row.get(2)?.parse().ok()?, row.get(6)? == &"taken"))).collect();
    assert!(losses.len() >= 4, "{text}");
    let least = losses.iter().map(|(loss, _)| *loss).fold(f64::INFINITY, f64::min);
    assert!(losses.iter().all(|(loss, taken)| !taken || *loss == least), "{text}");
    assert_eq!(losses.iter().filter(|(_, taken)| *taken).count(), 1, "{text}");
    for method in single().filter(|method| !method.info().needs.correction) {
        assert!(rows.iter().any(|row| row.get(1) == Some(&method.info().title)), "{method}: {text}");
    }
    // One: pictures are left out, and nothing trains.
    for part in fs::read_dir(set.join("val")).unwrap() {
        let mut pictures = walk(&part.unwrap().path());
        fs::remove_file(pictures.remove(0)).unwrap();
    }
    let text = fit(&["--shots", "3"]);
    assert!(text.contains("and pictures left out") && text.contains("on 16 pictures"), "{text}");
    assert!(!text.contains("PiNI") && text.contains("GDA"), "{text}");
    let first = fs::read(&out).unwrap();
    fit(&["--shots", "3"]);
    assert!(fs::read(&out).unwrap() == first, "without a budget the clock decides nothing");
    let soon = ["fit", "auto", "--model", MODEL, "--data", "x", "--shots", "1", "--out", "y", "--budget", "soon"];
    assert!(!tipi(&soon).status.success());
}

#[test]
fn an_adapter_of_a_method_that_is_not_known_is_named() {
    let dir = parts();
    let out = dir.path().join("a.safetensors");
    let set = dir.path().join("set/train");
    let fitted = tipi(&["fit", "zero-shot", "--model", MODEL, "--data", s(&set), "--shots", "1", "--out", s(&out)]);
    assert!(fitted.status.success(), "{}", String::from_utf8_lossy(&fitted.stderr));
    let bytes = fs::read(&out).unwrap();
    let at = bytes.windows(9).position(|window| window == b"zero-shot").unwrap();
    let mut other = bytes.clone();
    other[at..at + 9].copy_from_slice(b"maple-one");
    fs::write(&out, other).unwrap();
    let error = File::open(&out).err().unwrap().to_string();
    assert!(error.contains("the method 'maple-one', which this tipi does not know"), "{error}");
    let output = tipi(&["predict", "--adapter", s(&out), s(&set)]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("maple-one") && text.contains("a.safetensors"), "{text}");
}

#[test]
fn the_program_reads_the_register() {
    let help = |args: &[&str]| String::from_utf8(tipi(args).stdout).unwrap();
    let (fit, eval) = (help(&["fit", "--help"]), help(&["eval", "--help"]));
    let info = help(&["info", MODEL, "--batch", "2", "--classes", "3", "--shots", "1"]);
    for method in METHODS {
        let about = method.info();
        assert!(fit.contains(about.name) && fit.contains(&about.about[..20]), "{method}");
        let own = help(&["fit", about.name, "--help"]);
        for setting in method.settings() {
            let option = format!("--{}", setting.name.replace('_', "-"));
            assert!(own.contains(&option), "{method} {option}");
            assert!(about.needs.correction || eval.contains(&option[2..]), "{method} {option} in eval");
        }
        if let Some(memory) = about.memory {
            assert!(info.contains(memory.what), "{method}: {info}");
        }
    }
    let unknown = tipi(&["eval", "--dataset", "x", "--model", MODEL, "--out", "y", "--methods", "tip-y"]);
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(text.contains("there is no method 'tip-y'") && text.contains(METHODS[1].info().name), "{text}");
    assert!(find("tip").is_ok_and(|method| method.info().name == "tip-adapter"));
}
