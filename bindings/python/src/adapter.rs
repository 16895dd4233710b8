//! What has learned, and answers.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tipi::{Classifier, UnknownBy};

use crate::arrays::features;
use crate::errors::{Answer, Failure, exception, invalid, kept};
use crate::model::Model;
use crate::pictures::pictures;
use crate::prediction::Predictions;
use crate::work::watched;

/// How learning went.
#[pyclass(frozen, get_all, module = "tipi")]
pub(crate) struct Report {
    /// Share of validation pictures that are right, from 0 to 1; None where there are none.
    validation_accuracy: Option<f64>,
    /// Validation pictures.
    validation_pictures: usize,
    /// Cross-entropy by epoch, where something was trained.
    losses: Vec<f32>,
}

impl From<tipi::Report> for Report {
    fn from(report: tipi::Report) -> Report {
        let tipi::Report { validation_accuracy, validation_pictures, losses } = report;
        Report { validation_accuracy, validation_pictures, losses }
    }
}

#[pymethods]
impl Report {
    fn __repr__(&self) -> String {
        let right = self.validation_accuracy.map_or("None".into(), |accuracy| format!("{accuracy:.4}"));
        format!("Report(validation_accuracy={right}, validation_pictures={})", self.validation_pictures)
    }
}

/// A method that has learned, bound to its model: it tells classes apart. `Model.fit`, `Model.zero_shot` and `Model.open_adapter`
/// make one. It can be used from several threads, which then take turns, and pickled.
#[pyclass(frozen, module = "tipi")]
pub(crate) struct Adapter {
    inner: Classifier,
    model: Py<Model>,
    report: Option<Py<Report>>,
}

impl Adapter {
    pub fn new(py: Python<'_>, model: Py<Model>, made: (Classifier, Option<tipi::Report>)) -> Answer<Adapter> {
        let report = made.1.map(|report| Py::new(py, Report::from(report))).transpose()?;
        Ok(Adapter { inner: made.0, model, report })
    }

    fn like(&self, py: Python<'_>, inner: Classifier) -> Adapter {
        Adapter {
            inner,
            model: self.model.clone_ref(py),
            report: self.report.as_ref().map(|report| report.clone_ref(py)),
        }
    }
}

#[pymethods]
impl Adapter {
    /// What pictures show, as `Predictions`. The first call records the way from pixels to probabilities, which the following take.
    ///
    /// images: a list of paths, files' bytes, PIL images and arrays of uint8 (height, width, 3), in any mixture.
    /// errors: "raise" raises for the first picture that cannot be read; "keep" goes on, and leaves its row NaN.
    /// progress: called with a `Progress` where that has changed; what it raises stops the work.
    #[pyo3(signature = (images, *, errors="raise", progress=None))]
    fn predict(
        &self,
        py: Python<'_>,
        images: &Bound<'_, PyAny>,
        errors: &str,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Answer<Predictions> {
        let keep = kept(errors)?;
        let pictures = pictures("images", images)?;
        let inner = self.inner.clone();
        let answers = watched(py, progress, move |watch| inner.predict_all(&pictures, watch))?;
        let predictions = Predictions::new(self.inner.classes(), answers);
        match predictions.broken() {
            Some(error) if !keep => Err(Failure::Python(PyErr::from_value(exception(py, error)?))),
            _ => Ok(predictions),
        }
    }

    /// What pictures with these features show, as `Predictions`.
    ///
    /// features: float32 [n, width], C-contiguous, un-normalised, as `Model.encode_images` gives them.
    #[pyo3(signature = (features))]
    fn predict_features(&self, py: Python<'_>, features: &Bound<'_, PyAny>) -> Answer<Predictions> {
        let features = self::features("features", features)?;
        let inner = self.inner.clone();
        let answers = watched(py, None, move |_| inner.predict_features(&features))?;
        Ok(Predictions::new(self.inner.classes(), answers.into_iter().map(Ok).collect()))
    }

    /// Whether `predict_features` works for this one: its method takes the model's own features.
    #[getter]
    fn takes_features(&self) -> bool {
        self.inner.takes_features()
    }

    /// The same, but answering "unknown" (None) where the likeliest class is less probable than `probability`, from 0 to 1.
    fn asking_for(&self, py: Python<'_>, probability: f64) -> Answer<Adapter> {
        Ok(self.like(py, self.inner.asking_for(probability)?))
    }

    /// The same, but answering "unknown" (None) to what is not like the pictures it knows: of pictures of its classes, at least the
    /// share `share`, from 0 to 1, gets an answer.
    ///
    /// by: "probability", "energy" or "distance".
    #[pyo3(signature = (share, by="distance"))]
    fn keeping(&self, py: Python<'_>, share: f64, by: &str) -> Answer<Adapter> {
        let Some(by) = UnknownBy::ALL.into_iter().find(|known| known.name() == by) else {
            let names = UnknownBy::ALL.map(UnknownBy::name).join(", ");
            return Err(invalid(format!("by: there is no '{by}'; there are {names}")));
        };
        Ok(self.like(py, self.inner.keeping(share, by)?))
    }

    /// The same, but saying of each picture which classes it may be of (`Prediction.set`): the smallest sets that hold the right one
    /// with probability `coverage`, from 0 to 1; for pictures of all classes together or of each class.
    #[pyo3(signature = (coverage, *, per_class=false))]
    fn covering(&self, py: Python<'_>, coverage: f64, per_class: bool) -> Answer<Adapter> {
        Ok(self.like(py, self.inner.covering(coverage, per_class)?))
    }

    /// The same, taking exactly `pictures` at a time; otherwise it takes up to 32, as memory allows. Answers do not depend on it.
    fn in_batches_of(&self, py: Python<'_>, pictures: usize) -> Answer<Adapter> {
        if pictures == 0 {
            return Err(invalid("pictures: 0 at a time come to no end: give 1 or more"));
        }
        Ok(self.like(py, self.inner.in_batches_of(pictures)))
    }

    /// Pictures that confidence rests on, which it has not learned from: {"validation": …, "left_out": …}.
    #[getter]
    fn evidence<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = self.inner.evidence();
        let dict = PyDict::new(py);
        dict.set_item("validation", counts.validation)?;
        dict.set_item("left_out", counts.left_out)?;
        Ok(dict)
    }

    /// The highest coverage, or share to keep, that the evidence supports.
    #[pyo3(signature = (*, per_class=false))]
    fn supported(&self, per_class: bool) -> f64 {
        self.inner.supported(per_class)
    }

    /// The classes' names, in the order of scores and probabilities.
    #[getter]
    fn classes(&self) -> Vec<String> {
        self.inner.classes().to_vec()
    }

    /// The name of the method that learned it.
    #[getter]
    fn method(&self) -> Answer<&'static str> {
        Ok(self.inner.method()?.name())
    }

    /// The model.
    #[getter]
    fn model(&self, py: Python<'_>) -> Py<Model> {
        self.model.clone_ref(py)
    }

    /// How learning went; None for what was read from a file, or comes from words alone.
    #[getter]
    fn report(&self, py: Python<'_>) -> Option<Py<Report>> {
        self.report.as_ref().map(|report| report.clone_ref(py))
    }

    /// Probabilities are softmax(scores/T): T as it was fitted; None where there was no evidence.
    #[getter]
    fn temperature(&self) -> Option<f64> {
        self.inner.temperature()
    }

    /// Where pictures may have several classes: from which score on a picture has each.
    #[getter]
    fn thresholds(&self) -> Option<Vec<f64>> {
        self.inner.thresholds().map(<[f64]>::to_vec)
    }

    /// What it found, for people: `alpha 1.200, beta 5.500`.
    #[getter]
    fn facts(&self) -> String {
        self.inner.facts()
    }

    /// Writes an adapter file, which `Model.open_adapter` and `tipi predict` read. An adapter that is there already is
    /// overwritten, any other file is not.
    fn save(&self, py: Python<'_>, path: PathBuf) -> Answer<()> {
        let inner = self.inner.clone();
        watched(py, None, move |_| inner.save(path))
    }

    /// The same as bytes. Equal adapters give equal ones.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Answer<Bound<'py, PyBytes>> {
        let inner = self.inner.clone();
        Ok(PyBytes::new(py, &watched(py, None, move |_| inner.to_bytes())?))
    }

    /// Gives back the GPU memory that was kept for the next pictures. They take a little longer then.
    fn release(&self, py: Python<'_>) {
        py.detach(|| self.inner.release());
    }

    fn __repr__(&self) -> String {
        let method = self.inner.method().map_or("?", tipi::Method::name);
        format!("Adapter({method:?}, {} classes)", self.inner.classes().len())
    }

    /// Pickled are the model's name and the adapter's bytes; what it was told to ask for is not.
    fn __reduce__<'py>(&self, py: Python<'py>) -> Answer<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let open = self.model.bind(py).getattr("open_adapter")?;
        Ok((open, (self.to_bytes(py)?,)))
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// It never changes, so that one serves for both.
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}
