//! Overlap corrections.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::adapter::Report;
use crate::errors::Answer;
use crate::work::watched;

/// An overlap correction (arXiv 2409.11338) bound to its model: with one, Tip-Adapter becomes Tip-Adapter++, and Tip-X Tip-X++.
/// `Model.fit_correction` trains one, `Model.open_correction` reads one.
#[pyclass(frozen, module = "tipi")]
pub(crate) struct Correction {
    pub inner: tipi::Correction,
    report: Option<Py<Report>>,
}

impl Correction {
    pub fn new(py: Python<'_>, made: (tipi::Correction, Option<tipi::Report>)) -> Answer<Correction> {
        let report = made.1.map(|report| Py::new(py, Report::from(report))).transpose()?;
        Ok(Correction { inner: made.0, report })
    }
}

#[pymethods]
impl Correction {
    /// The classes that it learned to tell apart; none where it learned without labels.
    #[getter]
    fn classes(&self) -> Vec<String> {
        self.inner.classes().to_vec()
    }

    /// Passes over the pictures.
    #[getter]
    fn epochs(&self) -> usize {
        self.inner.epochs()
    }

    /// What it is, for people.
    #[getter]
    fn facts(&self) -> String {
        self.inner.facts()
    }

    /// The losses of its training; None for what was read from a file.
    #[getter]
    fn report(&self, py: Python<'_>) -> Option<Py<Report>> {
        self.report.as_ref().map(|report| report.clone_ref(py))
    }

    /// Writes a file, which `Model.open_correction` and `tipi fit --correction` read. A correction that is there already is
    /// overwritten, any other file is not.
    fn save(&self, py: Python<'_>, path: PathBuf) -> Answer<()> {
        let inner = self.inner.clone();
        watched(py, None, move |_| inner.save(path))
    }

    /// The same as bytes. Equal corrections give equal ones.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Answer<Bound<'py, PyBytes>> {
        let inner = self.inner.clone();
        Ok(PyBytes::new(py, &watched(py, None, move |_| inner.to_bytes())?))
    }

    fn __repr__(&self) -> String {
        format!("Correction({})", self.inner.facts())
    }
}
