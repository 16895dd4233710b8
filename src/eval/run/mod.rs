//! One dataset through the protocol.

mod check;
mod measure;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest, Sha256};

pub use self::check::check;
use self::check::{needs_causal, needs_correction, settings};
use super::journal::Journal;
use super::trust::of_no_class;
use super::{About, Corrections, Protocol, Record, Task, TestSet};
use crate::adapt::lesson::{Choice, Lesson, Made, Place, Texts};
use crate::adapt::method::{Fitted, Settings};
use crate::adapt::overlap::Correction;
use crate::adapt::zero_shot::Classifier;
use crate::adapt::{learn_each, shared};
use crate::clip::{Clip, Features};
use crate::data::sampling::ALL_TAKEN;
use crate::data::{Dataset, FewShot, Item, Shots, coop_few_shot, too_few};
use crate::encode::source::{Corrected, Keeping, Stored};
use crate::encode::store::sweep_all;
use crate::encode::{RowId, Source, Tower, Views};
use crate::watch::Unwatched;
use crate::{Error, Result, hex, text, watch};

/// Test pictures that are classified at once. A multiple of the rows that methods take, so that random draws do not depend
/// on it.
const BLOCK: usize = crate::adapt::ROWS;

/// What watches a run: progress, the wish to stop, and results as they come.
pub trait Watch: watch::Watch {
    /// A result is kept; so many of so many are there.
    fn result(&mut self, record: &Record, done: usize, all: usize);
}

/// Says whose work is watched: the dataset's title stands before all that is said.
struct Titled<'w> {
    title: &'w str,
    watch: &'w mut dyn Watch,
}

impl watch::Watch for Titled<'_> {
    fn begin(&mut self, what: &str, total: usize) {
        self.watch.begin(&format!("{}: {what}", self.title), total);
    }

    fn at(&mut self, done: usize) -> Result<()> {
        self.watch.at(done)
    }

    fn show(&mut self, text: &str) {
        self.watch.show(&format!("{}: {text}", self.title));
    }

    fn end(&mut self) {
        self.watch.end();
    }

    fn note(&mut self, text: &str) {
        self.watch.note(&format!("{}: {text}", self.title));
    }
}

impl Watch for Titled<'_> {
    fn result(&mut self, record: &Record, done: usize, all: usize) {
        self.watch.result(record, done, all);
    }
}

/// A dataset and what is to be run on it, looked over by [`check`].
#[derive(Clone, Copy)]
pub struct Checked<'a> {
    dataset: &'a Dataset,
    protocol: &'a Protocol,
}

/// Evaluates a dataset and keeps the results in `out`/its name; features go to `features`. What is there already is not run
/// again. Afterwards [`super::report`] has all it needs.
///
/// # Errors
/// Results of other settings in `out`, changed pictures, a correction that is missing: before anything long is begun.
/// [`Error::Stopped`] when `watch` stops it. A lost device, too
/// little memory, a training that diverges.
pub fn run(
    clip: &Clip,
    Checked { dataset, protocol }: Checked<'_>,
    corrections: &Corrections<'_>,
    (precision, out, features): (&str, &Path, &Path),
    watch: &mut dyn Watch,
) -> Result<()> {
    needs_correction(protocol, corrections.of_methods.is_some() || !corrections.taught.is_empty())?;
    needs_causal(protocol, clip)?;
    let (tasks, parts) = (protocol.tasks(), corrections.parts(protocol)?);
    for task in &tasks {
        task.method.check_model(&protocol.setup.of(*task), clip)?;
    }
    let watch: &mut dyn Watch = &mut Titled { title: &dataset.title, watch };
    let settings = settings(clip, dataset, protocol, corrections, precision)?;
    let mut notes = dataset.notes.clone();
    let short = protocol.shots.iter().filter_map(|shots| too_few(&dataset.train, &dataset.classes, *shots));
    notes.extend(short.map(|text| format!("{text}; {ALL_TAKEN}")));
    let about = About {
        title: dataset.title.clone(),
        source: dataset.source.clone(),
        parts: [dataset.train.len(), dataset.val.len(), dataset.test.len()],
        model: clip.id()?.name.clone(),
        device: format!("{} ({})", clip.gpu.name(), clip.gpu.kind()),
        notes,
    };
    let mut journal = Journal::open(&out.join(&dataset.name), &settings, &about)?;
    about.notes.iter().for_each(|note| watch.note(note));
    let left = tasks.iter().filter(|task| journal.of(**task).is_none()).count();
    // A run that ended after its last result still owes what comes behind it.
    if left == 0 && journal.overlap()?.is_some() {
        sweep_all(features);
        let count = text::count(tasks.len(), "result is", "results are");
        watch.note(&format!("{count} there already, which is all"));
        return Ok(());
    }
    let (classifier, unclear) = Classifier::beside_pictures(clip, &dataset.classes, &dataset.templates)?;
    unclear.iter().for_each(|reason| watch.note(reason));
    let pictures = dataset.test.len().max(dataset.train.len());
    let keeping = Keeping { folder: features, precision, batch: protocol.batch, pictures };
    for (number, (correction, part)) in parts.into_iter().enumerate() {
        let corrected = correction.map(|(correction, digest)| Corrected { bottlenecks: &correction.blocks, digest });
        let mut run = Run {
            clip,
            dataset,
            protocol,
            classifier: classifier.clone(),
            journal,
            correction: correction.map(|(correction, _)| correction),
            source: Stored::new(clip, corrected, keeping),
            rows: HashMap::new(),
            test: Vec::new(),
            test_items: Vec::new(),
            test_labels: Vec::new(),
            foreign: Vec::new(),
            alike: HashMap::new(),
        };
        run.all(&part, tasks.len(), watch)?;
        // Where corrections are compared, overlap with each of them stands in its results.
        match protocol.compares_corrections() {
            true if number > 0 => {}
            true => run.overlap(None, watch)?,
            false => run.overlap(corrected, watch)?,
        }
        journal = run.journal;
    }
    Ok(())
}

/// Tasks of one choice of pictures, those together that are learned at once since they only predict otherwise.
fn learned_together(tasks: impl Iterator<Item = Task>, protocol: &Protocol) -> Vec<Vec<Task>> {
    let mut all: Vec<(Settings, Vec<Task>)> = Vec::new();
    for task in tasks {
        let learned = shared(task.method, &protocol.setup.of(task));
        match all.iter_mut().find(|(other, tasks)| *other == learned && tasks[0].method == task.method) {
            Some((_, tasks)) => tasks.push(task),
            None => all.push((learned, vec![task])),
        }
    }
    all.into_iter().map(|(_, tasks)| tasks).collect()
}

/// Features of pictures as what has learned takes them, from the rows that are kept; with noise on pixels they are encoded.
fn features_by(source: &mut Stored<'_>, fitted: &dyn Fitted, (items, rows): (&[Item], &[RowId])) -> Result<Features> {
    match fitted.pixels() {
        Some(noise) => source.noisy(noise, items, &Views::Center, &mut Unwatched),
        None => source.rows_of(fitted.tower(), rows),
    }
}

struct Run<'a> {
    clip: &'a Clip,
    dataset: &'a Dataset,
    protocol: &'a Protocol,
    classifier: Classifier,
    journal: Journal,
    correction: Option<&'a Correction>,
    /// Features of all pictures.
    source: Stored<'a>,
    /// Rows of the pictures themselves; none of those that cannot be decoded.
    rows: HashMap<PathBuf, Option<RowId>>,
    /// Test pictures, their rows and labels.
    test: Vec<RowId>,
    test_items: Vec<Item>,
    test_labels: Vec<u32>,
    /// Readable pictures of no class, and their rows.
    foreign: Vec<(Item, RowId)>,
    /// Overlap and variance of test pictures' features by the plain and by the corrected tower, once they were measured; none where
    /// they cannot be.
    alike: HashMap<Tower, Option<(f64, f64)>>,
}

/// A choice of pictures, those that can be decoded.
struct Shot {
    support: Vec<Item>,
    val: Vec<Item>,
    /// Digest of all contents that take part.
    data: String,
}

impl<'a> Run<'a> {
    /// Runs tasks, of `all` in the run.
    fn all(&mut self, tasks: &[Task], all: usize, watch: &mut dyn Watch) -> Result<()> {
        // Every choice that is asked for, those whose results are there too: their pictures must still be what they were.
        let mut choices: Vec<(u64, Shots, FewShot)> = Vec::new();
        for task in tasks {
            if !choices.iter().any(|(seed, shots, _)| (*seed, *shots) == (task.seed, task.shots)) {
                let dataset = self.dataset;
                let choice = coop_few_shot(&dataset.train, &dataset.val, task.shots, task.seed)?;
                choices.push((task.seed, task.shots, choice));
            }
        }
        let test = self.encode_pictures(&choices, watch)?;
        // Results of other choices, too, are of the test pictures as they were.
        if !self.journal.records.is_empty() && self.journal.test()?.digest != test.digest {
            let reason = "the test pictures have changed since results were kept: take another folder for results";
            return Err(Error::data(self.journal.path(), reason));
        }
        let of_choice = |seed: u64, shots: Shots| tasks.iter().filter(move |t| (t.seed, t.shots) == (seed, shots));
        for (seed, shots, choice) in &choices {
            let mut records = of_choice(*seed, *shots).filter_map(|task| self.journal.of(*task)).peekable();
            let data = if records.peek().is_some() { self.shot(choice).data } else { String::new() };
            if let Some(record) = records.find(|record| record.data != data) {
                let reason = format!(
                    "the pictures of {} have changed since its result was kept: take another folder for results",
                    record.task.file()
                );
                return Err(Error::data(self.journal.path(), reason));
            }
        }
        // Only now: results that no longer stand were left as they are.
        self.journal.keep_test(&test)?;
        for (seed, shots, choice) in &choices {
            if of_choice(*seed, *shots).all(|task| self.journal.of(*task).is_some()) {
                continue;
            }
            let shot = self.shot(choice);
            let (clip, dataset, protocol, correction) = (self.clip, self.dataset, self.protocol, self.correction);
            let texts = Texts {
                classes: &dataset.classes,
                templates: &dataset.templates,
                words: &dataset.words,
                dataset: &dataset.name,
            };
            let choice = Choice { support: &shot.support, val: &shot.val, seed: *seed };
            let mut made = Made::from(self.classifier.clone());
            for together in learned_together(of_choice(*seed, *shots).copied(), protocol) {
                let missing = |task: &&Task| self.journal.of(**task).is_none();
                let left: Vec<Task> = together.iter().filter(missing).copied().collect();
                let Some(Task { method, .. }) = left.first().copied() else { continue };
                let source: &mut dyn Source = &mut self.source;
                let lesson = Lesson::new(clip, texts, choice, &protocol.setup.how, (correction, source))?;
                let mut lesson = lesson.with(made).with_settings(&protocol.setup.methods);
                let path = self.journal.checkpoint(together[0]);
                lesson.keep_at(method.info().needs.training.then(|| Place { path: path.clone(), resume: true }));
                lesson.prepare(method, watch)?;
                clip.gpu.forget_peak();
                let start = Instant::now();
                let settings: Vec<Settings> = left.iter().map(|task| protocol.setup.of(*task)).collect();
                let learned = learn_each(method, &settings, &mut lesson, watch)?;
                let fit_seconds = start.elapsed().as_secs_f64();
                made = lesson.into_made();
                for (task, learned) in left.into_iter().zip(learned) {
                    let (record, detail) = self.measure(task, &shot, (learned, fit_seconds), watch)?;
                    self.journal.append(record.clone(), &detail)?;
                    let done = protocol.tasks().iter().filter(|task| self.journal.of(**task).is_some()).count();
                    watch.result(&record, done, all);
                }
                if path.is_file() {
                    std::fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
                }
            }
        }
        Ok(())
    }

    /// Features of all pictures themselves: support and validation of every choice, and test. Gives the readable test pictures.
    fn encode_pictures(&mut self, choices: &[(u64, Shots, FewShot)], watch: &mut dyn Watch) -> Result<TestSet> {
        let dataset = self.dataset;
        let mut wanted: Vec<&Item> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (_, _, choice) in choices {
            wanted.extend(
                self.chosen(choice).0.into_iter().chain(self.chosen(choice).1).filter(|i| seen.insert(&i.path)),
            );
        }
        let first_test = wanted.len();
        wanted.extend(&dataset.test);
        let (foreign, others) = of_no_class(&self.protocol.foreign, &dataset.classes);
        if others > 0 {
            let count = text::count(others, "foreign picture is", "foreign pictures are");
            watch.note(&format!("{count} in a folder with the name of a class, and left out"));
        }
        wanted.extend(&foreign);
        let strict = self.protocol.strict;
        let filled = self.source.fill(&wanted, &Views::Center, strict, "encoding pictures", watch)?;
        filled.skipped.iter().for_each(|error| watch.note(&format!("skipped: {error}")));
        if !filled.skipped.is_empty() {
            let count = text::count(filled.skipped.len(), "picture", "pictures");
            watch.note(&format!("{count} skipped (`strict` makes that an error)"));
        }
        let row = |rows: &Option<Vec<RowId>>| rows.as_ref().and_then(|rows| rows.first().copied());
        for (item, rows) in wanted[..first_test].iter().zip(&filled.rows) {
            self.rows.insert(item.path.clone(), row(rows));
        }
        let mut set = TestSet { classes: dataset.classes.clone(), ..TestSet::default() };
        set.unreadable = filled.skipped.iter().map(ToString::to_string).collect();
        for (item, rows) in dataset.test.iter().zip(&filled.rows[first_test..]) {
            if let Some(row) = row(rows) {
                self.test.push(row);
                self.test_items.push(item.clone());
                set.paths.push(item.path.clone());
                set.labels.push(item.label as u32);
            }
        }
        let foreign = foreign.into_iter().zip(&filled.rows[first_test + dataset.test.len()..]);
        self.foreign = foreign.filter_map(|(item, rows)| Some((item.clone(), row(rows)?))).collect();
        if self.test.is_empty() {
            return Err(Error::data(&dataset.root, "none of the test pictures could be decoded"));
        }
        self.test_labels.clone_from(&set.labels);
        let mut hasher = Sha256::new();
        self.test.iter().for_each(|row| hasher.update(row));
        self.test_labels.iter().for_each(|label| hasher.update(label.to_le_bytes()));
        set.digest = hex(&hasher.finalize());
        Ok(set)
    }

    /// The pictures of a choice: to learn from, and to validate on.
    fn chosen(&self, choice: &FewShot) -> (Vec<&'a Item>, Vec<&'a Item>) {
        let dataset: &'a Dataset = self.dataset;
        // Without a validation part they come from train, too.
        let val = if dataset.val.is_empty() { &dataset.train } else { &dataset.val };
        let of = |items: &'a [Item], which: &[usize]| which.iter().map(|i| &items[*i]).collect();
        (of(&dataset.train, &choice.support), of(val, &choice.val))
    }

    /// The readable ones of pictures, with their rows.
    fn sound<'i>(&self, items: &[&'i Item]) -> (Vec<&'i Item>, Vec<RowId>) {
        items.iter().filter_map(|item| Some((*item, (*self.rows.get(&item.path)?)?))).unzip()
    }

    fn shot(&self, choice: &FewShot) -> Shot {
        let (support, val) = self.chosen(choice);
        let (support, support_rows) = self.sound(&support);
        let (val, val_rows) = self.sound(&val);
        let labels = |items: &[&Item]| items.iter().map(|i| i.label as u32).collect::<Vec<u32>>();
        let (support_labels, val_labels) = (labels(&support), labels(&val));
        let mut hasher = Sha256::new();
        let parts = [(&support_rows, &support_labels), (&val_rows, &val_labels), (&self.test, &self.test_labels)];
        for (rows, labels) in parts {
            rows.iter().for_each(|row| hasher.update(row));
            labels.iter().for_each(|label| hasher.update(label.to_le_bytes()));
        }
        let owned = |items: Vec<&Item>| items.into_iter().cloned().collect();
        Shot { support: owned(support), val: owned(val), data: hex(&hasher.finalize()) }
    }
}
