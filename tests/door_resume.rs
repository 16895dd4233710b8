//! Trainings at the door that were stopped go on from their checkpoint, and end with the bytes of those that were not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tipi::{
    CorrectionOptions, DeviceOptions, Error, Examples, FitOptions, Gpu, How, Job, JudgeBy, Method, Model, Picture,
    Unwatched, Watch,
};

fn model() -> &'static Model {
    static MODELS: OnceLock<Model> = OnceLock::new();
    MODELS.get_or_init(|| {
        let gpu = Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap();
        Model::load(&gpu, "weights/picto").unwrap()
    })
}

/// Two pictures of each of four classes, and one to validate on, some of them in memory.
fn examples() -> Examples {
    let mut examples = Examples::new();
    for (number, class) in ["apple", "bell", "backpack", "umbrella"].into_iter().enumerate() {
        let folder = Path::new("examples/pictos/shifted").join(class);
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for (i, path) in files.iter().take(3).enumerate() {
            let picture = match (i + number) % 2 {
                0 => Picture::encoded("in memory", std::fs::read(path).unwrap()),
                _ => Picture::file(path),
            };
            match i {
                2 => examples.add_validation(class, picture),
                _ => examples.add(class, picture),
            };
        }
    }
    examples
}

/// Trained once: what judges a training by parts of the pictures has no checkpoint and would be done again after each stop.
fn once(options: FitOptions) -> FitOptions {
    FitOptions { how: How { judge_by: JudgeBy::Validation, ..How::default() }, ..options }
}

/// Stops after so many questions, or so many within trainings, and notes what is said.
#[derive(Default)]
struct Impatient {
    left: usize,
    only_training: bool,
    trains: bool,
    notes: Vec<String>,
}

impl Watch for Impatient {
    fn begin(&mut self, what: &str, _total: usize) {
        self.trains = what.starts_with("training ");
    }

    fn at(&mut self, _done: usize) -> tipi::Result<()> {
        if self.trains || !self.only_training {
            self.left = self.left.checked_sub(1).ok_or(Error::Stopped)?;
        }
        Ok(())
    }

    fn end(&mut self) {}

    fn note(&mut self, text: &str) {
        self.notes.push(text.into());
    }
}

/// Work that is stopped at many moments, by who watches, and called again until it is done. Gives its result, the number of
/// stops, and how often it said that it goes on.
fn in_pieces<T>(work: &dyn Fn(&mut dyn Watch) -> tipi::Result<T>) -> (T, usize, usize) {
    let (mut stops, mut resumed) = (0, 0);
    loop {
        let mut watch = Impatient { left: [2, 0, 1, 3][stops % 4], only_training: stops > 0, ..Impatient::default() };
        let ended = work(&mut watch);
        resumed += watch.notes.iter().filter(|note| note.starts_with("going on after step")).count();
        match ended {
            Err(Error::Stopped) => stops += 1,
            other => return (other.unwrap(), stops, resumed),
        }
        assert!(stops < 100, "it does not come to an end");
    }
}

#[test]
fn a_fit_that_was_stopped_goes_on_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for method in
        Method::all().filter(|method| method.trains() && method.name() != "auto" && !method.needs_correction())
    {
        let options = FitOptions::new(method).with_template("an icon of {}").with("epochs", 12).unwrap();
        // One of them with the parts, too.
        let options = if method.name() == "prolip" { options } else { once(options) };
        let (whole, report) = model().fit(&examples(), &options, &mut Unwatched).unwrap();
        let want = whole.to_bytes().unwrap();
        let file = folder.path().join(format!("{method}.checkpoint"));
        let kept = options.clone().with_checkpoint(&file);
        // With what was computed of the examples, and without.
        for again in [None, Some(examples())] {
            let fit = |watch: &mut dyn Watch| model().fit(&again.clone().unwrap_or_else(examples), &kept, watch);
            let ((classifier, same), stops, resumed) = in_pieces(&fit);
            assert!(stops > 2 && resumed > 1, "{method}: {stops} stops, gone on with {resumed} times");
            assert!(classifier.to_bytes().unwrap() == want && same == report, "{method} after {stops} stops");
            assert!(!file.exists(), "{method}: the checkpoint is left");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "locks are left");
}

#[test]
fn a_job_that_was_cancelled_goes_on_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let options = once(FitOptions::new(Method::named("pini").unwrap()).with("epochs", 60).unwrap());
    let examples = examples();
    let (whole, _) = model().fit(&examples, &options, &mut Unwatched).unwrap();
    let kept = options.with_checkpoint(folder.path().join("kept"));
    let (mut stops, mut resumed) = (0, 0);
    let classifier = loop {
        let (examples, kept) = (examples.clone(), kept.clone());
        let job = Job::start(move |watch| model().fit(&examples, &kept, watch));
        // By steps and not by the clock; each epoch is one here, and a state is put down after the first. Then it is left alone.
        let until = [4, 11, 17, 29].get(stops).copied().unwrap_or(usize::MAX);
        while !job.is_finished() {
            let progress = job.progress();
            if progress.what.starts_with("training") && progress.done >= until {
                job.cancel();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        resumed += job.notes().iter().filter(|note| note.starts_with("going on after step")).count();
        match job.wait() {
            Err(Error::Stopped) => stops += 1,
            other => break other.unwrap().0,
        }
    };
    println!("stopped {stops} times, gone on with {resumed} times");
    assert!(stops > 1 && resumed == stops, "{stops} stops, {resumed} times gone on");
    assert!(classifier.to_bytes().unwrap() == whole.to_bytes().unwrap());
}

#[test]
fn a_correction_that_was_stopped_goes_on_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let options = CorrectionOptions { epochs: 4, batch: 3, micro_batch: 2, bottleneck: 8, ..Default::default() };
    let (whole, report) = model().fit_correction(&examples(), &options, &mut Unwatched).unwrap();
    let file = folder.path().join("kept");
    let kept = CorrectionOptions { checkpoint: Some(file.clone()), ..options };
    let ((correction, same), stops, resumed) =
        in_pieces(&|watch: &mut dyn Watch| model().fit_correction(&examples(), &kept, watch));
    assert!(stops > 2 && resumed > 1, "{stops} stops, gone on with {resumed} times");
    assert!(correction.to_bytes().unwrap() == whole.to_bytes().unwrap() && same == report);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // What needs it takes it.
    let options = FitOptions {
        correction: Some(correction),
        ..FitOptions::new(Method::named("tip-adapter").unwrap()).with_template("an icon of {}")
    };
    let (classifier, _) = model().fit(&examples(), &options, &mut Unwatched).unwrap();
    assert_eq!(classifier.method().unwrap().name(), "tip-adapter++");
}

#[test]
fn a_checkpoint_of_something_else_is_refused_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kept");
    let options = once(FitOptions::new(Method::named("tip-adapter-f").unwrap()).with("epochs", 12).unwrap());
    let kept = options.clone().with_checkpoint(&file);
    let stopped = |left: usize| {
        let mut watch = Impatient { left, ..Impatient::default() };
        assert!(matches!(model().fit(&examples(), &kept, &mut watch).map(drop), Err(Error::Stopped)));
        file.is_file()
    };
    // The first that comes into the training.
    assert!((3..30).any(stopped), "nothing was put down");
    let state = std::fs::read(&file).unwrap();
    let refused = |options: &FitOptions, examples: &Examples, needle: &str| {
        let error = model().fit(examples, options, &mut Unwatched).map(drop).unwrap_err().to_string();
        assert!(error.contains(needle) && error.contains("kept"), "{error}");
        assert!(std::fs::read(&file).unwrap() == state);
    };
    refused(&FitOptions { seed: 2, ..kept.clone() }, &examples(), "other settings");
    refused(&kept.clone().with("epochs", 13).unwrap(), &examples(), "epochs 12, now 13");
    let mut more = examples();
    more.add("bell", Picture::file("examples/pictos/shifted/bell/lucide-bell.png"));
    refused(&kept, &more, "other pictures");
    let other = FitOptions::new(Method::named("prolip").unwrap()).with_checkpoint(&file);
    refused(&other, &examples(), "it is of tip-adapter-f");
    let correction = CorrectionOptions { checkpoint: Some(file.clone()), ..Default::default() };
    let error = model().fit_correction(&examples(), &correction, &mut Unwatched).map(drop).unwrap_err();
    assert!(error.to_string().contains("it is of tip-adapter-f"), "{error}");

    // Two at once.
    let job = Job::start({
        let (kept, examples) = (kept.clone().with("epochs", 12).unwrap(), examples());
        move |watch| {
            watch.note("begun");
            model().fit(&examples, &kept, watch)
        }
    });
    let lock = folder.path().join(".kept.lock");
    while !lock.exists() && !job.is_finished() {
        std::thread::sleep(Duration::from_millis(1));
    }
    if lock.exists() {
        match model().fit(&examples(), &kept, &mut Unwatched) {
            Err(Error::Data { reason, .. }) => assert!(reason.contains("another training"), "{reason}"),
            // The first one has ended meanwhile.
            other => assert!(other.is_ok() && job.is_finished()),
        }
    }
    job.wait().unwrap();
    assert!(!file.exists() && !lock.exists());

    // Another's file stays as it is; a method that does not train needs none.
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(model().fit(&examples(), &kept, &mut Unwatched).map(drop), Err(Error::Foreign { .. })));
    let simple = FitOptions::new(Method::named("tip-adapter").unwrap()).with_checkpoint(&file);
    model().fit(&examples(), &simple, &mut Unwatched).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}
