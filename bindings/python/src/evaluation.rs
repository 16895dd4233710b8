//! The papers' protocol: datasets, what is run on them, and results.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::{PyMapping, PyString};
use serde_json::Value;
use tipi::{EvaluationCorrection, EvaluationOptions, FitOptions, Shots};

use crate::correction::Correction;
use crate::errors::{Answer, Failure, if_type, type_name, wrong_type};
use crate::method::{json, of_json};
use crate::work::watched;

/// Pictures in parts: to learn from, to validate on and to test on.
///
/// path: a folder with a sub-folder of pictures for each class, which is divided always alike; a folder with `train` and `test` (and
/// `val`), each with a sub-folder for each class; a CSV file with the columns path, label and perhaps split; or a split file of CoOp's.
#[pyclass(frozen, module = "tipi")]
pub(crate) struct Dataset {
    inner: tipi::Dataset,
    asked: Asked,
}

/// How it was asked for.
enum Asked {
    Path(PathBuf),
    Named(String, PathBuf),
}

impl Dataset {
    fn of_path(py: Python<'_>, path: PathBuf) -> Answer<Dataset> {
        let given = path.clone();
        let inner = watched(py, None, move |_| tipi::Dataset::open(given))?;
        Ok(Dataset { inner, asked: Asked::Path(path) })
    }

    /// What an argument stands for: datasets and paths of some, in a list.
    pub fn all(argument: &str, given: &Bound<'_, PyAny>) -> Answer<Vec<tipi::Dataset>> {
        let one = |item: Bound<'_, PyAny>| -> Answer<tipi::Dataset> {
            match item.cast::<Dataset>() {
                Ok(dataset) => Ok(dataset.get().inner.clone()),
                Err(_) => Ok(Dataset::of_path(item.py(), crate::pictures::path(argument, &item)?)?.inner),
            }
        };
        let reason = || format!("{argument}: expected a list of Dataset or paths, not {}", type_name(given));
        if given.is_instance_of::<PyString>() {
            return Err(wrong_type(format!("{argument}: expected a list of Dataset or paths: write [path] for one")));
        }
        let each = given.try_iter().map_err(|error| if_type(error, given.py(), reason))?;
        each.map(|item| one(item?)).collect()
    }
}

#[pymethods]
impl Dataset {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> Answer<Dataset> {
        Dataset::of_path(py, path)
    }

    /// One of the datasets that few-shot methods are compared on, by its name (`Dataset.names()`), in its folder below `root`.
    #[staticmethod]
    fn named(py: Python<'_>, name: String, root: PathBuf) -> Answer<Dataset> {
        let given = (name.clone(), root.clone());
        let inner = watched(py, None, move |_| tipi::Dataset::named(&given.0, given.1))?;
        Ok(Dataset { inner, asked: Asked::Named(name, root) })
    }

    /// The names that `named` knows.
    #[staticmethod]
    fn names() -> Vec<&'static str> {
        tipi::Dataset::names().collect()
    }

    /// What results have it under: the name that was given, or that of the folder or file.
    #[getter]
    fn name(&self) -> &str {
        self.inner.name()
    }

    /// The classes, as text for a prompt.
    #[getter]
    fn classes(&self) -> Vec<String> {
        self.inner.classes().to_vec()
    }

    /// How many pictures there are to learn from, to validate on and to test on.
    #[getter]
    fn pictures(&self) -> (usize, usize, usize) {
        self.inner.pictures().into()
    }

    /// What people should know of it: files that were passed over, parts that are thin.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.inner.notes().to_vec()
    }

    fn __repr__(&self) -> String {
        let [train, val, test] = self.inner.pictures();
        let (name, classes) = (self.inner.name(), self.inner.classes().len());
        format!("Dataset({name:?}, {classes} classes, {train} to learn from, {val} to validate on, {test} to test on)")
    }

    /// Pickled is how it was asked for: where it is unpickled, it is looked for again.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let class = py.get_type::<Dataset>().into_any();
        Ok(match &self.asked {
            Asked::Path(path) => (class, (whole(path),).into_pyobject(py)?.into_any()),
            Asked::Named(name, root) => {
                (class.getattr("named")?, (name.clone(), whole(root)).into_pyobject(py)?.into_any())
            }
        })
    }
}

/// A method's result on a dataset, for a number of shots and a seed.
#[pyclass(frozen, get_all, module = "tipi")]
pub(crate) struct Outcome {
    /// The dataset's name.
    dataset: String,
    /// The method's name.
    method: &'static str,
    /// Pictures per class that it learned from; None for all.
    shots: Option<usize>,
    /// Seed of the choice of pictures, of views and of training.
    seed: u64,
    /// Share of test pictures that are right.
    accuracy: f64,
    /// Test pictures that are right.
    correct: usize,
    /// Test pictures.
    pictures: usize,
    /// Pictures learned from.
    support: usize,
    /// Validation pictures.
    validation: usize,
    /// Share of them that are right; None where there are none.
    validation_accuracy: Option<f64>,
    /// T in softmax(scores/T), fitted on what confidence rests on.
    temperature: Option<f64>,
    /// How often sets of classes hold the right one: dicts of wanted, held, size, supported.
    coverage: Py<PyAny>,
    /// How well pictures of no class are told from the others: dicts of by, auroc, kept, refused, pictures, supported.
    foreign: Py<PyAny>,
    /// Expected calibration error of softmax(scores).
    calibration_error: f64,
    /// The same at the temperature.
    calibration_error_fitted: Option<f64>,
    /// Mean of −log of the true class's probability.
    log_loss: f64,
    /// The same at the temperature.
    log_loss_fitted: Option<f64>,
    /// Seconds to learn from features.
    fit_seconds: f64,
    /// Seconds to classify the test pictures from their features.
    predict_seconds: f64,
    /// Most bytes of GPU memory in use meanwhile, the model's among them.
    peak_bytes: u64,
}

impl Outcome {
    fn of(py: Python<'_>, outcome: &tipi::Outcome) -> PyResult<Outcome> {
        let words = |value: serde_json::Result<Value>| of_json(py, &value.unwrap_or_default());
        Ok(Outcome {
            dataset: outcome.dataset.clone(),
            method: outcome.method.name(),
            shots: outcome.shots.number(),
            seed: outcome.seed,
            accuracy: outcome.accuracy,
            correct: outcome.correct,
            pictures: outcome.pictures,
            support: outcome.support,
            validation: outcome.validation,
            validation_accuracy: outcome.validation_accuracy,
            temperature: outcome.temperature,
            coverage: words(serde_json::to_value(&outcome.coverage))?,
            foreign: words(serde_json::to_value(&outcome.foreign))?,
            calibration_error: outcome.calibration_error,
            calibration_error_fitted: outcome.calibration_error_fitted,
            log_loss: outcome.log_loss,
            log_loss_fitted: outcome.log_loss_fitted,
            fit_seconds: outcome.fit_seconds,
            predict_seconds: outcome.predict_seconds,
            peak_bytes: outcome.peak_bytes,
        })
    }
}

/// Shots as people write them.
fn shots(shots: Option<usize>) -> String {
    shots.map_or_else(|| "all".into(), |shots| shots.to_string())
}

#[pymethods]
impl Outcome {
    fn __repr__(&self) -> String {
        let Outcome { dataset, method, seed, accuracy, .. } = self;
        format!("Outcome({dataset:?}, {method:?}, shots={}, seed={seed}, accuracy={accuracy:.4})", shots(self.shots))
    }
}

/// A method's results for a number of shots, over seeds.
#[pyclass(frozen, get_all, module = "tipi")]
pub(crate) struct Mean {
    /// The dataset's name; None for the mean over several.
    dataset: Option<String>,
    /// The method's name.
    method: &'static str,
    /// Pictures per class; None for all.
    shots: Option<usize>,
    /// Seeds.
    seeds: Vec<u64>,
    /// The accuracy with each.
    accuracies: Vec<f64>,
    /// Their mean.
    accuracy: f64,
    /// Their standard deviation.
    deviation: f64,
    /// Mean expected calibration error of softmax(scores).
    calibration_error: f64,
    /// The same at the fitted temperatures, where all have one.
    calibration_error_fitted: Option<f64>,
    /// Mean seconds to learn.
    fit_seconds: f64,
    /// Mean milliseconds to classify a picture from its features.
    predict_milliseconds: f64,
    /// Most bytes of GPU memory.
    peak_bytes: u64,
}

impl Mean {
    fn of(mean: &tipi::Mean) -> Mean {
        Mean {
            dataset: mean.dataset.clone(),
            method: mean.method.name(),
            shots: mean.shots.number(),
            seeds: mean.seeds.clone(),
            accuracies: mean.accuracies.clone(),
            accuracy: mean.accuracy,
            deviation: mean.deviation,
            calibration_error: mean.calibration_error,
            calibration_error_fitted: mean.calibration_error_fitted,
            fit_seconds: mean.fit_seconds,
            predict_milliseconds: mean.predict_milliseconds,
            peak_bytes: mean.peak_bytes,
        }
    }
}

#[pymethods]
impl Mean {
    fn __repr__(&self) -> String {
        let Mean { method, accuracy, deviation, .. } = self;
        let over = self.dataset.as_ref().map_or_else(|| "all datasets".into(), |name| format!("{name:?}"));
        format!("Mean({over}, {method:?}, shots={}, accuracy={accuracy:.4} ± {deviation:.4})", shots(self.shots))
    }
}

/// The results in a folder, as `Model.evaluate` or `tipi eval` left them.
#[pyclass(frozen, module = "tipi")]
pub(crate) struct Evaluation {
    inner: tipi::Evaluation,
}

impl From<tipi::Evaluation> for Evaluation {
    fn from(inner: tipi::Evaluation) -> Evaluation {
        Evaluation { inner }
    }
}

#[pymethods]
impl Evaluation {
    #[new]
    fn new(py: Python<'_>, folder: PathBuf) -> Answer<Evaluation> {
        Ok(watched(py, None, move |_| tipi::Evaluation::open(folder))?.into())
    }

    /// Takes results that were left in other folders, as by several machines that shared the work, into `folder`, and gives all that is
    /// there then. Settings and pictures must be the same, and so must a result that is in several places, but for times and memory.
    #[staticmethod]
    fn gather(py: Python<'_>, folder: PathBuf, others: Vec<PathBuf>) -> Answer<Evaluation> {
        Ok(watched(py, None, move |_| tipi::Evaluation::gather(folder, &others))?.into())
    }

    /// The folder.
    #[getter]
    fn folder(&self) -> &Path {
        self.inner.folder()
    }

    /// All results, dataset by dataset, in the order in which they came.
    #[getter]
    fn outcomes(&self, py: Python<'_>) -> PyResult<Vec<Outcome>> {
        self.inner.outcomes().iter().map(|outcome| Outcome::of(py, outcome)).collect()
    }

    /// Means over seeds, by shots, method and dataset.
    #[getter]
    fn means(&self) -> Vec<Mean> {
        self.inner.means().iter().map(Mean::of).collect()
    }

    /// Means over datasets, by shots and method, where there are several and all have the same seeds.
    #[getter]
    fn overall(&self) -> Vec<Mean> {
        self.inner.overall().iter().map(Mean::of).collect()
    }

    /// Writes `report.html`, its plots, and all numbers as CSV and JSON to the folder. Gives the page.
    fn write_report(&self, py: Python<'_>) -> Answer<PathBuf> {
        let evaluation = self.inner.clone();
        watched(py, None, move |_| evaluation.write_report())
    }

    fn __repr__(&self) -> String {
        format!("Evaluation({:?}, {} results)", self.inner.folder(), self.inner.outcomes().len())
    }
}

/// What `Model.evaluate` was given of methods: names, and settings by the names of methods.
pub(crate) fn with_methods(
    mut options: EvaluationOptions,
    methods: Option<Vec<String>>,
    settings: Option<&Bound<'_, PyAny>>,
) -> Answer<EvaluationOptions> {
    let named = |name: String| Ok::<_, Failure>(tipi::Method::named(&name)?);
    options.methods = methods.unwrap_or_default().into_iter().map(named).collect::<Answer<_>>()?;
    let Some(settings) = settings else { return Ok(options) };
    let Ok(settings) = settings.cast::<PyMapping>() else {
        let other = type_name(settings);
        return Err(wrong_type(format!("settings: expected a dict {{method: {{setting: value}}}}, not {other}")));
    };
    for item in settings.items()? {
        let (name, of_method): (String, Bound<'_, PyAny>) = item.extract()?;
        let method = tipi::Method::named(&name)?;
        let read = FitOptions::new(method).with_settings(&json(&format!("settings[{name:?}]"), &of_method)?)?;
        options.settings.insert(method, read.settings);
    }
    Ok(options)
}

/// Numbers of pictures per class; None among them stands for all.
pub(crate) fn all_shots(argument: &str, given: &Bound<'_, PyAny>) -> Answer<Vec<Shots>> {
    let reason = || format!("{argument}: expected a list of numbers, with None for all, not {}", type_name(given));
    let numbers: Vec<Option<usize>> = given.extract().map_err(|error: PyErr| if_type(error, given.py(), reason))?;
    Ok(numbers.into_iter().map(|shots| shots.map_or(Shots::All, Shots::UpTo)).collect())
}

/// The correction that is given.
pub(crate) fn correction(given: Option<&Bound<'_, Correction>>) -> EvaluationCorrection {
    given.map_or(EvaluationCorrection::Nothing, |given| EvaluationCorrection::Given(given.get().inner.clone()))
}
