//! The papers' protocol, for an application or a script: the same as `tipi eval`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::{Correction, CorrectionOptions, Dataset, Examples, Method, Model};
use crate::adapt::How;
use crate::adapt::evidence::EvidenceCounts;
use crate::adapt::method::Settings;
use crate::adapt::overlap;
use crate::clip::Clip;
use crate::data::walk::mark_results;
use crate::data::{self, Shelf, Shots, Walk, without};
use crate::eval::correction::Generic;
use crate::eval::summary::Cell;
use crate::eval::trust::foreign;
use crate::eval::{self, Correcting, Coverage, Foreign, Protocol, Record, Setup, report};
use crate::output::check_writable;
use crate::watch::Watch;
use crate::{Error, Result};

/// What to evaluate, and how.
#[derive(Clone, Debug)]
pub struct EvaluationOptions {
    /// Where results and features go: outside all folders that pictures are taken from. What is there already is not run again.
    pub folder: PathBuf,
    /// The methods. None stands for all that do not choose among others, without those that need a correction where there is none.
    pub methods: Vec<Method>,
    /// Pictures per class to learn from: numbers of them, or all.
    pub shots: Vec<Shots>,
    /// Seeds of the choice of pictures, of views and of training.
    pub seeds: Vec<u64>,
    /// Settings of methods by name ([`Method::settings`]), which are those of their corrected forms, too; defaults for those that are
    /// not here.
    pub settings: BTreeMap<Method, Settings>,
    /// Prompts with `{}` where the class's name goes; several are averaged. None stands for each dataset's own.
    pub templates: Vec<String>,
    /// The prompt's words before the class's name, for PiNI; none for each dataset's own.
    pub words: Option<String>,
    /// How pictures are seen and parameters searched.
    pub how: How,
    /// For methods that need a correction.
    pub correction: EvaluationCorrection,
    /// Where features go, to share them between several [`EvaluationOptions::folder`]s; none for `features` in that folder.
    pub features: Option<PathBuf>,
    /// Whether what each method learned is kept as an adapter file, in `adapters` below the dataset's folder.
    pub adapters: bool,
    /// Whether a picture that cannot be decoded, or a class with fewer pictures than shots, is an error.
    pub strict: bool,
    /// Pictures per step of the tower; none for up to 32, as memory allows.
    pub batch: Option<usize>,
    /// A folder of pictures of no class: how well the unknown is told from the known is measured by them ([`Outcome::foreign`]).
    pub foreign: Option<PathBuf>,
}

/// Where an evaluation has its correction from.
#[derive(Clone, Debug, Default)]
#[allow(clippy::large_enum_variant, reason = "there is one of them in a run")]
pub enum EvaluationCorrection {
    /// There is none.
    #[default]
    Nothing,
    /// This one.
    Given(Correction),
    /// It is trained first, on generic pictures without the classes that are evaluated, and kept in the folder of results.
    TrainedOn(Examples, CorrectionOptions),
}

impl EvaluationOptions {
    /// The papers' protocol: 1, 2, 4, 8 and 16 shots, and three seeds. Results go to `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> EvaluationOptions {
        EvaluationOptions {
            folder: folder.into(),
            methods: Vec::new(),
            shots: [1, 2, 4, 8, 16].map(Shots::UpTo).to_vec(),
            seeds: vec![1, 2, 3],
            settings: BTreeMap::new(),
            templates: Vec::new(),
            words: None,
            how: How::default(),
            correction: EvaluationCorrection::Nothing,
            features: None,
            adapters: false,
            strict: false,
            batch: None,
            foreign: None,
        }
    }

    /// The same with a setting of a method.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a setting that the method does not have, or a value out of its range.
    pub fn with(mut self, method: Method, name: &str, value: impl Into<Value>) -> Result<EvaluationOptions> {
        let settings = self.settings.entry(method).or_default();
        settings.insert(name.into(), value.into());
        method.settled(settings)?;
        Ok(self)
    }

    /// The same with this template in place of the datasets' own, and its words before the class for PiNI.
    #[must_use]
    pub fn with_template(mut self, template: &str) -> EvaluationOptions {
        self.words = Some(super::fit::words_of(template));
        self.templates = vec![template.into()];
        self
    }

    /// The datasets with what is said of their prompts.
    fn worded<'d>(&self, dataset: &'d data::Dataset) -> Cow<'d, data::Dataset> {
        let mut dataset = Cow::Borrowed(dataset);
        if !self.templates.is_empty() {
            dataset.to_mut().templates.clone_from(&self.templates);
        }
        if let Some(words) = &self.words {
            dataset.to_mut().words.clone_from(words);
        }
        dataset
    }

    fn protocol(&self, clip: &Clip) -> Result<Protocol> {
        let corrected = !matches!(self.correction, EvaluationCorrection::Nothing);
        let methods: Vec<_> = match self.methods.is_empty() {
            true => eval::methods(clip, corrected),
            false => self.methods.iter().map(|method| method.0).collect(),
        };
        let mut given = BTreeMap::new();
        for (method, settings) in &self.settings {
            given.insert(method.name().to_string(), settings.clone());
            // What is set of a method is so of its corrected form, too, unless that is set by itself.
            if let Some(other) = method.0.corrected().filter(|other| !self.settings.contains_key(&Method(*other))) {
                given.insert(other.info().name.to_string(), settings.clone());
            }
        }
        Ok(Protocol {
            setup: Setup::new(self.how.clone(), &methods, &given)?,
            methods,
            ablation: None,
            taught: Vec::new(),
            shots: self.shots.clone(),
            seeds: self.seeds.clone(),
            adapters: self.adapters,
            strict: self.strict,
            batch: self.batch,
            foreign: self.foreign.as_deref().map_or(Ok(Vec::new()), |folder| foreign(folder, &Walk::default()))?,
        })
    }

    /// The folder for features.
    fn features(&self) -> PathBuf {
        self.features.clone().unwrap_or_else(|| self.folder.join("features"))
    }

    /// Whether results can go where they shall.
    fn look_at_folders(&self, datasets: &[Dataset]) -> Result<()> {
        let generic = match &self.correction {
            EvaluationCorrection::TrainedOn(examples, _) => examples.root(),
            _ => None,
        };
        let generic = generic.map(Walk::of);
        for folder in [&self.folder, &self.features()] {
            if folder.exists() && !folder.is_dir() {
                return Err(Error::data(folder, "this is a file, and results need a folder: give another name"));
            }
            let walks = datasets.iter().map(Dataset::walk).chain(&generic);
            walks.into_iter().try_for_each(|walk| walk.refuse_folder(folder))?;
        }
        report::check(&self.folder)
    }
}

/// A method's result on a dataset, for a number of shots and a seed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The dataset's name.
    pub dataset: String,
    /// The method.
    pub method: Method,
    /// Pictures per class that it learned from.
    pub shots: Shots,
    /// Seed of the choice of pictures, of views and of training.
    pub seed: u64,
    /// Share of test pictures that are right.
    pub accuracy: f64,
    /// Test pictures that are right.
    pub correct: usize,
    /// Test pictures.
    pub pictures: usize,
    /// Pictures learned from.
    pub support: usize,
    /// Validation pictures.
    pub validation: usize,
    /// Share of them that are right, where there are some.
    pub validation_accuracy: Option<f64>,
    /// T in softmax(scores/T), fitted on the evidence.
    pub temperature: Option<f64>,
    /// The pictures that its confidence rests on.
    pub evidence: EvidenceCounts,
    /// How often sets of classes hold the right one.
    pub coverage: Vec<Coverage>,
    /// How well pictures of no class are told from the others; nothing where there are none.
    pub foreign: Vec<Foreign>,
    /// Expected calibration error of softmax(scores).
    pub calibration_error: f64,
    /// The same at the temperature.
    pub calibration_error_fitted: Option<f64>,
    /// Mean of −log of the true class's probability.
    pub log_loss: f64,
    /// The same at the temperature.
    pub log_loss_fitted: Option<f64>,
    /// Seconds to learn from features.
    pub fit_seconds: f64,
    /// Seconds to classify the test pictures from their features.
    pub predict_seconds: f64,
    /// Most bytes of GPU memory in use meanwhile, the model's among them.
    pub peak_bytes: u64,
}

impl Outcome {
    fn of(record: &Record) -> Outcome {
        Outcome {
            dataset: record.dataset.clone(),
            method: Method(record.task.method),
            shots: record.task.shots,
            seed: record.task.seed,
            accuracy: record.accuracy,
            correct: record.correct,
            pictures: record.test,
            support: record.support,
            validation: record.val,
            validation_accuracy: record.val_accuracy,
            temperature: record.temperature,
            evidence: record.evidence,
            coverage: record.coverage.clone(),
            foreign: record.foreign.clone(),
            calibration_error: record.calibration_error,
            calibration_error_fitted: record.calibration_error_fitted,
            log_loss: record.log_loss,
            log_loss_fitted: record.log_loss_fitted,
            fit_seconds: record.fit_seconds,
            predict_seconds: record.predict_seconds,
            peak_bytes: record.peak_bytes,
        }
    }
}

/// A method's results for a number of shots, over seeds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Mean {
    /// The dataset's name; none for the mean over several.
    pub dataset: Option<String>,
    /// The method.
    pub method: Method,
    /// Pictures per class.
    pub shots: Shots,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// The accuracy with each.
    pub accuracies: Vec<f64>,
    /// Their mean.
    pub accuracy: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// Mean expected calibration error of softmax(scores).
    pub calibration_error: f64,
    /// The same at the fitted temperatures, where all have one.
    pub calibration_error_fitted: Option<f64>,
    /// Mean seconds to learn.
    pub fit_seconds: f64,
    /// Mean milliseconds to classify a picture from its features.
    pub predict_milliseconds: f64,
    /// Most bytes of GPU memory.
    pub peak_bytes: u64,
}

impl Mean {
    fn of(cell: Cell) -> Mean {
        Mean {
            dataset: cell.dataset,
            method: Method(cell.method),
            shots: cell.shots,
            seeds: cell.seeds,
            accuracies: cell.accuracies,
            accuracy: cell.mean,
            deviation: cell.deviation,
            calibration_error: cell.calibration_error,
            calibration_error_fitted: cell.calibration_error_fitted,
            fit_seconds: cell.fit_seconds,
            predict_milliseconds: cell.predict_milliseconds,
            peak_bytes: cell.peak_bytes,
        }
    }
}

/// The results in a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    folder: PathBuf,
    outcomes: Vec<Outcome>,
    means: Vec<Mean>,
    overall: Vec<Mean>,
}

impl Evaluation {
    /// Reads the results that [`Model::evaluate`] or `tipi eval` left in a folder.
    ///
    /// # Errors
    /// [`Error::Data`] where there are none, or they are damaged; [`Error::Io`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Evaluation> {
        let folder = folder.as_ref().to_path_buf();
        let report::Results { records, summary } = report::results(&folder)?;
        let means = |cells: Vec<Cell>| cells.into_iter().map(Mean::of).collect();
        let (means, overall) = (means(summary.cells), means(summary.average));
        Ok(Evaluation { folder, outcomes: records.iter().map(Outcome::of).collect(), means, overall })
    }

    /// Takes results that were left in other folders, as by several machines that shared the work, into `folder`, and reads all that
    /// is there then. Adapter files come along; features do not. A result that is in several places must be the same, but for times and
    /// memory. The other folders stay as they are.
    ///
    /// # Errors
    /// [`Error::Data`] for a folder without results, or with some of other settings, pictures or numbers than are there already, for
    /// damage, or where another program writes to `folder`; [`Error::Io`]. What was taken before stays.
    pub fn gather<P: AsRef<Path>>(folder: impl AsRef<Path>, others: &[P]) -> Result<Evaluation> {
        let others: Vec<PathBuf> = others.iter().map(|other| other.as_ref().to_path_buf()).collect();
        report::check(folder.as_ref())?;
        eval::gather(folder.as_ref(), &others)?;
        Evaluation::open(folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All results, dataset by dataset, in the order in which they came.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Means over seeds, by shots, method and dataset.
    pub fn means(&self) -> &[Mean] {
        &self.means
    }

    /// Means over datasets, by shots and method, where there are several and all have the same seeds.
    pub fn overall(&self) -> &[Mean] {
        &self.overall
    }

    /// Writes `report.html`, its plots as SVG and PNG, and all numbers as CSV and JSON to the folder. Gives the page.
    ///
    /// # Errors
    /// [`Error::Foreign`] for other files in their places; [`Error::Data`] where results are damaged; [`Error::Io`].
    pub fn write_report(&self) -> Result<PathBuf> {
        report::check(&self.folder)?;
        Ok(report::write(&self.folder)?.html)
    }
}

/// Who watches, and who is told of results.
struct Told<'a> {
    watch: &'a mut dyn Watch,
    each: &'a mut dyn FnMut(&Outcome, usize, usize),
}

impl Watch for Told<'_> {
    fn begin(&mut self, what: &str, total: usize) {
        self.watch.begin(what, total);
    }

    fn at(&mut self, done: usize) -> Result<()> {
        self.watch.at(done)
    }

    fn show(&mut self, text: &str) {
        self.watch.show(text);
    }

    fn end(&mut self) {
        self.watch.end();
    }

    fn note(&mut self, text: &str) {
        self.watch.note(text);
    }
}

impl eval::Watch for Told<'_> {
    fn result(&mut self, record: &Record, done: usize, all: usize) {
        (self.each)(&Outcome::of(record), done, all);
    }
}

/// [`Model::evaluate_each`].
pub(super) fn evaluate(
    model: &Model,
    datasets: &[Dataset],
    options: &EvaluationOptions,
    watch: &mut dyn Watch,
    each: &mut dyn FnMut(&Outcome, usize, usize),
) -> Result<Evaluation> {
    let clip = model.clip();
    options.look_at_folders(datasets)?;
    let protocol = options.protocol(clip)?;
    let used = protocol.methods.iter().any(|method| method.info().needs.correction);
    let (mut checkpoint, mut shelf) = (None, Shelf::default());
    let (items, names);
    let correcting = match &options.correction {
        EvaluationCorrection::Nothing => Correcting::Nothing,
        EvaluationCorrection::Given(correction) => Correcting::With(correction.of_model(model)?),
        EvaluationCorrection::TrainedOn(examples, options) => {
            examples.check()?;
            let config = options.config();
            config.check()?;
            let tested: Vec<String> = datasets.iter().flat_map(|d| d.classes().iter().cloned()).collect();
            (items, names) = without(&examples.items(&mut shelf), examples.classes(), &tested);
            checkpoint = options.checkpoint.as_deref().filter(|_| used).map(Checkpoint::take).transpose()?;
            let pictures = overlap::Generic { items: &items, names: &names, shelf: &shelf };
            Correcting::Trained(Generic { pictures, config, place: checkpoint.as_ref().map(Checkpoint::place) })
        }
    };
    let worded: Vec<_> = datasets.iter().map(|dataset| options.worded(dataset.data())).collect();
    let evaluation = eval::Evaluation::new(worded.iter().map(AsRef::as_ref), &protocol, correcting)?;
    mark_results(&options.folder)?;
    check_writable(&options.folder.join(report::FILES[0]))?;
    evaluation.run(clip, (&options.folder, &options.features()), &mut Told { watch, each })?;
    drop(evaluation);
    checkpoint.map_or(Ok(()), Checkpoint::remove)?;
    Evaluation::open(&options.folder)
}
