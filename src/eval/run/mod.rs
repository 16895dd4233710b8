//! One dataset through the protocol.

mod check;
mod fit;
mod measure;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest, Sha256};

pub use self::check::check;
use self::check::{needs_correction, settings, too_few};
use self::fit::{Fitted, plain};
use super::journal::Journal;
use super::score::Score;
use super::{About, Detail, Method, Protocol, Record, Task, TestSet};
use crate::adapt::overlap::Correction;
use crate::adapt::pini::Predictor;
use crate::adapt::zero_shot::Classifier;
use crate::adapt::{accuracy, calibrate};
use crate::clip::{Clip, Features, ImageEncoder};
use crate::data::{Dataset, FewShot, Item, coop_few_shot};
use crate::encode::Views;
use crate::encode::store::{Filled, Key, RowId, Store};
use crate::{Error, Result, hex, text};

/// Test pictures that are classified at once. A multiple of the rows that methods take, so that PiNI's draws do not depend
/// on it.
const BLOCK: usize = 2048;

/// What watches a run: progress bars, and the wish to stop.
pub trait Watch {
    /// A stretch of work begins, of so many parts.
    fn begin(&mut self, what: &str, total: usize);
    /// So many parts are done. An error stops the run in good order.
    ///
    /// # Errors
    /// [`Error::Stopped`] to stop.
    fn at(&mut self, done: usize) -> Result<()>;
    /// The stretch is over.
    fn end(&mut self);
    /// Something that people should know.
    fn note(&mut self, text: &str);
    /// A result is kept; so many of so many are there.
    fn result(&mut self, record: &Record, done: usize, all: usize);
}

/// An overlap correction, and what tells it from others.
#[derive(Clone, Copy)]
pub struct Corrected<'a> {
    /// The adapters.
    pub correction: &'a Correction,
    /// SHA-256 of their values.
    pub digest: &'a str,
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
/// Results of other settings in `out`, changed pictures, ++ methods without a correction: before anything long is begun.
/// [`Error::Stopped`] when `watch` stops it. A lost device, too
/// little memory, a training that diverges.
pub fn run(
    clip: &Clip,
    Checked { dataset, protocol }: Checked<'_>,
    corrected: Option<Corrected<'_>>,
    (precision, out, features): (&str, &Path, &Path),
    watch: &mut dyn Watch,
) -> Result<()> {
    needs_correction(protocol, corrected.is_some())?;
    let settings = settings(clip, dataset, protocol, corrected, precision)?;
    let mut notes = dataset.notes.clone();
    let short = protocol.shots.iter().filter_map(|shots| too_few(dataset, *shots));
    notes.extend(short.map(|text| format!("{text}; all they have are taken, as CoOp's code does")));
    let about = About {
        title: dataset.title.clone(),
        source: dataset.source.clone(),
        parts: [dataset.train.len(), dataset.val.len(), dataset.test.len()],
        model: clip.id()?.name.clone(),
        adapter: format!("{} ({})", clip.gpu.name(), clip.gpu.kind()),
        notes,
    };
    let journal = Journal::open(&out.join(&dataset.name), &settings, &about)?;
    about.notes.iter().for_each(|note| watch.note(&format!("{}: {note}", dataset.title)));
    let tasks = protocol.tasks();
    let left = tasks.iter().filter(|task| journal.of(**task).is_none()).count();
    // A run that ended after its last result still owes what comes behind it.
    if left == 0 && journal.overlap()?.is_some() {
        let count = text::count(tasks.len(), "result is", "results are");
        watch.note(&format!("{}: {count} there already, which is all", dataset.title));
        return Ok(());
    }
    let (classifier, unclear) = Classifier::beside_pictures(clip, &dataset.classes, &dataset.templates)?;
    unclear.iter().for_each(|reason| watch.note(&format!("{}: {reason}", dataset.title)));
    let side = |pictures: usize, corrected: Option<Corrected<'_>>| -> Result<Side<'_>> {
        let key = Key::new(clip, precision, corrected.map(|c| c.digest.to_string()))?;
        let adapters = corrected.map(|c| &c.correction.blocks[..]);
        let most = protocol.batch.unwrap_or(32).min(pictures).max(1);
        let batch = if protocol.batch.is_some() { most } else { clip.largest_batch(most, adapters)? };
        let store = Store::open(features, &key, clip.config.embedding)?;
        Ok(Side { store, encoder: clip.image_encoder_with(batch, adapters)? })
    };
    // Views that training draws from are of use to the plain tower's methods alone.
    let trains = protocol.methods.iter().any(|m| matches!(m, Method::TipAdapterF | Method::Pini));
    let plain = if corrected.is_some() && trains { Some(side(dataset.train.len(), None)?) } else { None };
    let mut run = Run {
        clip,
        dataset,
        protocol,
        classifier,
        journal,
        whole: side(dataset.test.len(), corrected)?,
        plain,
        rows: HashMap::new(),
        test: Vec::new(),
        test_labels: Vec::new(),
    };
    run.all(&tasks, watch)?;
    run.overlap(corrected, watch)
}

struct Run<'a> {
    clip: &'a Clip,
    dataset: &'a Dataset,
    protocol: &'a Protocol,
    classifier: Classifier,
    journal: Journal,
    /// The tower that all methods' features come from, with the correction where there is one.
    whole: Side<'a>,
    /// The tower without the correction, for views in training; none where `whole` is that already.
    plain: Option<Side<'a>>,
    /// Rows of the pictures themselves; none of those that cannot be decoded.
    rows: HashMap<PathBuf, Option<RowId>>,
    /// Test pictures' rows and labels.
    test: Vec<RowId>,
    test_labels: Vec<u32>,
}

/// A tower and its features on disk.
struct Side<'a> {
    store: Store,
    encoder: ImageEncoder<'a>,
}

/// Which of the two.
#[derive(Clone, Copy)]
enum Tower {
    Whole,
    Plain,
}

/// What the methods of one choice share.
struct Shot<'a> {
    seed: u64,
    support: Vec<&'a Item>,
    support_labels: Vec<u32>,
    /// Normalised keys from the plain and, with a correction, the corrected tower.
    keys: Option<Features>,
    val: Features,
    val_labels: Vec<u32>,
    /// Digest of all contents that take part.
    data: String,
}

impl<'a> Run<'a> {
    fn all(&mut self, tasks: &[Task], watch: &mut dyn Watch) -> Result<()> {
        // Every choice that is asked for, those whose results are there too: their pictures must still be what they were.
        let mut choices: Vec<(u64, usize, FewShot)> = Vec::new();
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
            let reason = "the test pictures have changed since results were kept: take another --out";
            return Err(Error::data(self.journal.path(), reason));
        }
        let of_choice = |seed: u64, shots: usize| tasks.iter().filter(move |t| (t.seed, t.shots) == (seed, shots));
        for (seed, shots, choice) in &choices {
            let mut records = of_choice(*seed, *shots).filter_map(|task| self.journal.of(*task)).peekable();
            let data = if records.peek().is_some() { self.shot(choice, *seed)?.data } else { String::new() };
            if let Some(record) = records.find(|record| record.data != data) {
                let reason = format!(
                    "the pictures of {} have changed since its result was kept: take another --out",
                    record.task.file()
                );
                return Err(Error::data(self.journal.path(), reason));
            }
        }
        // Only now: results that no longer stand were left as they are.
        self.journal.keep_test(&test)?;
        let all = tasks.len();
        for (seed, shots, choice) in &choices {
            let mut shot = self.shot(choice, *seed)?;
            for task in of_choice(*seed, *shots) {
                if self.journal.of(*task).is_some() {
                    continue;
                }
                let (record, detail) = self.task(*task, &mut shot, watch)?;
                self.journal.append(record.clone(), &detail)?;
                let saved = self.journal.checkpoint(*task);
                if saved.is_file() {
                    std::fs::remove_file(&saved).map_err(|e| Error::io(&saved, e))?;
                }
                let done = tasks.iter().filter(|task| self.journal.of(**task).is_some()).count();
                watch.result(&record, done, all);
            }
        }
        Ok(())
    }

    fn side(&mut self, tower: Tower) -> &mut Side<'a> {
        match (tower, &mut self.plain) {
            (Tower::Plain, Some(plain)) => plain,
            _ => &mut self.whole,
        }
    }

    /// Fills a tower's store with `views` of `items`, under a progress bar.
    fn fill(
        &mut self,
        tower: Tower,
        items: &[&Item],
        views: &Views,
        what: &str,
        watch: &mut dyn Watch,
    ) -> Result<Filled> {
        let strict = self.protocol.strict;
        watch.begin(what, items.len());
        let Side { store, encoder } = self.side(tower);
        let filled = store.fill(encoder, items, views, strict, &mut |p| watch.at(p.pictures));
        watch.end();
        let filled = filled?;
        filled.notes.iter().for_each(|note| watch.note(note));
        Ok(filled)
    }

    /// Features of all pictures themselves: support and validation of every choice, and test. Gives the readable test pictures.
    fn encode_pictures(&mut self, choices: &[(u64, usize, FewShot)], watch: &mut dyn Watch) -> Result<TestSet> {
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
        let what = format!("{}: encoding pictures", dataset.title);
        let filled = self.fill(Tower::Whole, &wanted, &Views::Center, &what, watch)?;
        filled.skipped.iter().for_each(|error| watch.note(&format!("skipped: {error}")));
        if !filled.skipped.is_empty() {
            let count = text::count(filled.skipped.len(), "picture", "pictures");
            watch.note(&format!("{count} skipped (--strict makes that an error)"));
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
                set.paths.push(item.path.clone());
                set.labels.push(item.label as u32);
            }
        }
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

    fn shot(&self, choice: &FewShot, seed: u64) -> Result<Shot<'a>> {
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
        let data = hex(&hasher.finalize());
        Ok(Shot { seed, support, support_labels, keys: None, val: self.whole.store.rows(&val_rows)?, val_labels, data })
    }

    /// Features `[pictures, views, D]` by way of the store.
    fn view_features(
        &mut self,
        tower: Tower,
        items: &[&Item],
        views: &Views,
        watch: &mut dyn Watch,
    ) -> Result<Features> {
        let what = format!("{}: encoding views", self.dataset.title);
        let filled = self.fill(tower, items, views, &what, watch)?;
        // All were decoded before.
        let rows: Vec<RowId> = filled.rows.into_iter().flatten().flatten().collect();
        if rows.len() != items.len() * views.count() {
            return Err(Error::data(&self.dataset.root, "pictures changed while they were encoded: start again"));
        }
        self.side(tower).store.rows(&rows)
    }

    fn task(&mut self, task: Task, shot: &mut Shot<'a>, watch: &mut dyn Watch) -> Result<(Record, Detail)> {
        let gpu = self.clip.gpu.clone();
        let needs_keys = !matches!(task.method, Method::ZeroShot | Method::Pini);
        let keys = if needs_keys { Some(self.keys(shot, watch)?) } else { None };
        gpu.forget_peak();
        let start = Instant::now();
        let (fitted, learned) = self.fit(task, shot, keys, watch)?;
        let fit_seconds = start.elapsed().as_secs_f64();

        let classes = self.dataset.classes.len();
        let evaluation = self.protocol.how.evaluation.seeded(task.seed);
        let predictor = match &fitted {
            Fitted::Pini(pini) => Some(pini.predictor(self.clip, evaluation)?),
            _ => None,
        };
        let corrected = task.method.corrected();
        let val = if corrected { shot.val.clone() } else { plain(&shot.val) };
        let val_logits =
            if shot.val_labels.is_empty() { Vec::new() } else { self.logits(&fitted, predictor.as_ref(), &val, 0)? };
        let temperature = calibrate::temperature(&val_logits, &shot.val_labels, classes)?;
        let val_accuracy = (!shot.val_labels.is_empty()).then(|| accuracy(&val_logits, &shot.val_labels, classes));

        let start = Instant::now();
        watch.begin(&format!("{}: {}", self.dataset.title, task.method.title()), self.test.len());
        let mut score = Score::new(classes, self.dataset.subset.as_deref(), temperature);
        for (block, rows) in self.test.chunks(BLOCK).enumerate() {
            let first = block * BLOCK;
            let features = self.whole.store.rows(rows)?;
            let features = if corrected { features } else { plain(&features) };
            let logits = self.logits(&fitted, predictor.as_ref(), &features, first)?;
            score.add(&logits, &self.test_labels[first..first + rows.len()]);
            watch.at(first + rows.len())?;
        }
        watch.end();
        let predict_seconds = start.elapsed().as_secs_f64();
        let peak_bytes = gpu.peak_bytes();
        let noise = match &fitted {
            Fitted::Pini(pini) => Some(self.noise(pini)?),
            _ => None,
        };
        let params = learned.params;
        let of_x = matches!(task.method, Method::TipX | Method::TipXPlus);
        let record = Record {
            dataset: self.dataset.name.clone(),
            task,
            accuracy: score.correct as f64 / self.test.len() as f64,
            correct: score.correct,
            test: self.test.len(),
            support: shot.support.len(),
            val: shot.val_labels.len(),
            val_accuracy,
            alpha: params.map(|p| p.alpha),
            beta: params.map(|p| p.beta),
            gamma: params.filter(|_| of_x).map(|p| p.gamma),
            epoch: learned.epoch,
            temperature,
            calibration_error: score.reliability.error(),
            calibration_error_fitted: score.fitted.as_ref().map(calibrate::Reliability::error),
            log_loss: score.reliability.mean_log_loss(),
            log_loss_fitted: score.fitted.as_ref().map(calibrate::Reliability::mean_log_loss),
            fit_seconds,
            predict_seconds,
            peak_bytes,
            data: shot.data.clone(),
        };
        let detail = Detail {
            predicted: score.predicted,
            confidence: score.confidence,
            reliability: score.reliability,
            reliability_fitted: score.fitted,
            search: learned.search,
            losses: learned.losses,
            noise,
            support: shot.support.iter().map(|item| (item.path.clone(), item.label)).collect(),
        };
        Ok((record, detail))
    }

    /// Logits `[n, classes]`; `first` is the number of the first picture.
    fn logits(
        &self,
        fitted: &Fitted,
        predictor: Option<&Predictor<'_>>,
        features: &Features,
        first: usize,
    ) -> Result<Vec<f32>> {
        let gpu = &self.clip.gpu;
        match (fitted, predictor) {
            (_, Some(predictor)) => predictor.logits(gpu, &features.original, first),
            (Fitted::ZeroShot, _) => self.classifier.logits(&features.original, gpu),
            (Fitted::Tip(cache, params), _) => cache.logits(gpu, &self.classifier, features, *params),
            // ψ's range is that of validation pictures: a test picture's answer does not depend on the others.
            (Fitted::TipX(tip_x, params, psi), _) => tip_x.logits(gpu, &self.classifier, features, *params, Some(*psi)),
            (Fitted::Pini(pini), None) => pini.logits(gpu, &features.original),
        }
    }
}
