//! Answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use numpy::{PyArray1, PyArray2};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use crate::arrays::matrix;
use crate::errors::{Answer, Failure, exception};

/// A class, and what is said of it.
#[pyclass(frozen, get_all, module = "tipi")]
pub(crate) struct Scored {
    /// Its number among the classes.
    index: usize,
    /// Its name.
    name: String,
    /// Its probability, from 0 to 1.
    probability: f64,
    /// Its logit, from which the probabilities are made.
    score: f32,
}

impl From<tipi::Scored<'_>> for Scored {
    fn from(scored: tipi::Scored<'_>) -> Scored {
        let tipi::Scored { class, name, probability, score } = scored;
        Scored { index: class, name: name.into(), probability, score }
    }
}

#[pymethods]
impl Scored {
    fn __repr__(&self) -> String {
        format!("Scored({:?}, probability={:.4}, score={:.4})", self.name, self.probability, self.score)
    }
}

/// What is said of a picture.
#[pyclass(frozen, module = "tipi")]
pub(crate) struct Prediction(tipi::Prediction);

#[pymethods]
impl Prediction {
    /// The likeliest class's name; None where it is less probable, or the picture less familiar, than the adapter was told to ask
    /// for.
    #[getter]
    fn label(&self) -> Option<&str> {
        self.0.class()
    }

    /// The likeliest class, however probable it is.
    #[getter]
    fn best(&self) -> Scored {
        self.0.best().into()
    }

    /// The `most` likeliest classes, the likeliest first.
    fn top(&self, most: usize) -> Vec<Scored> {
        self.0.top(most).map(Scored::from).collect()
    }

    /// The classes that the picture may be of, the likeliest first; None where `Adapter.covering` did not ask for them.
    #[getter]
    fn set(&self) -> Option<Vec<Scored>> {
        // A set that was asked for holds the likeliest class at least.
        Some(self.0.set().map(Scored::from).collect::<Vec<_>>()).filter(|set| !set.is_empty())
    }

    /// How much the picture is like those of the classes, by what `Adapter.keeping` was told; None where it was not asked for.
    #[getter]
    fn familiarity(&self) -> Option<f64> {
        self.0.familiarity()
    }

    /// Probabilities by class, float64 [classes]; they add up to 1.
    #[getter]
    fn probabilities<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, self.0.probabilities())
    }

    /// Logits by class, float32 [classes].
    #[getter]
    fn scores<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, self.0.scores())
    }

    fn __repr__(&self) -> String {
        let best = self.0.best();
        let unknown = if self.0.class().is_none() { ", unknown" } else { "" };
        format!("Prediction({:?}, probability={:.4}{unknown})", best.name, best.probability)
    }
}

/// What is said of pictures, in their order. Indexing gives a `Prediction`, or raises what was wrong with that picture.
#[pyclass(frozen, module = "tipi")]
pub(crate) struct Predictions {
    classes: Vec<String>,
    answers: Vec<Result<tipi::Prediction, Arc<tipi::Error>>>,
}

impl Predictions {
    pub fn new(classes: &[String], answers: Vec<tipi::Result<tipi::Prediction>>) -> Predictions {
        let answers = answers.into_iter().map(|answer| answer.map_err(Arc::new)).collect();
        Predictions { classes: classes.to_vec(), answers }
    }

    /// What was wrong first, if anything.
    pub fn broken(&self) -> Option<&tipi::Error> {
        self.answers.iter().find_map(|answer| answer.as_ref().err()).map(Arc::as_ref)
    }

    fn rows<T: Copy>(&self, of: impl Fn(&tipi::Prediction) -> &[T], broken: T) -> Vec<T> {
        let mut values = Vec::with_capacity(self.answers.len() * self.classes.len());
        for answer in &self.answers {
            match answer {
                Ok(prediction) => values.extend_from_slice(of(prediction)),
                Err(_) => values.resize(values.len() + self.classes.len(), broken),
            }
        }
        values
    }
}

#[pymethods]
impl Predictions {
    /// The classes' names, in the order of the columns.
    #[getter]
    fn classes(&self) -> Vec<String> {
        self.classes.clone()
    }

    /// For each picture the likeliest class's name; None for "unknown", and for a picture that could not be read.
    #[getter]
    fn labels(&self) -> Vec<Option<&str>> {
        self.answers.iter().map(|answer| answer.as_ref().ok()?.class()).collect()
    }

    /// Probabilities, a new array of float64 [n, classes]; rows add up to 1. NaN for a picture that could not be read.
    #[getter]
    fn probabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        matrix(py, self.rows(tipi::Prediction::probabilities, f64::NAN), self.classes.len())
    }

    /// Logits, a new array of float32 [n, classes]. NaN for a picture that could not be read.
    #[getter]
    fn scores<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        matrix(py, self.rows(tipi::Prediction::scores, f32::NAN), self.classes.len())
    }

    /// For each picture what was wrong with it, or None.
    #[getter]
    fn errors<'py>(&self, py: Python<'py>) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        self.answers.iter().map(|answer| answer.as_ref().err().map(|error| exception(py, error)).transpose()).collect()
    }

    fn __len__(&self) -> usize {
        self.answers.len()
    }

    fn __getitem__(&self, py: Python<'_>, index: isize) -> Answer<Prediction> {
        let len = self.answers.len();
        let at = if index < 0 { index.checked_add_unsigned(len) } else { Some(index) };
        let answer = at.and_then(|at| usize::try_from(at).ok()).and_then(|at| self.answers.get(at));
        match answer {
            Some(Ok(prediction)) => Ok(Prediction(prediction.clone())),
            Some(Err(error)) => Err(Failure::Python(PyErr::from_value(exception(py, error)?))),
            None => Err(PyIndexError::new_err(format!("there are {len} predictions, none of number {index}")).into()),
        }
    }

    fn __iter__(slf: Py<Self>) -> Each {
        Each { of: slf, next: AtomicIsize::new(0) }
    }

    fn __repr__(&self) -> String {
        format!("Predictions({} pictures, {} classes)", self.answers.len(), self.classes.len())
    }
}

/// Predictions, one after the other.
#[pyclass(frozen, module = "tipi")]
pub(crate) struct Each {
    of: Py<Predictions>,
    next: AtomicIsize,
}

#[pymethods]
impl Each {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> Answer<Option<Prediction>> {
        let (at, of) = (self.next.fetch_add(1, Ordering::Relaxed), self.of.get());
        if at.unsigned_abs() >= of.answers.len() { Ok(None) } else { of.__getitem__(py, at).map(Some) }
    }
}
