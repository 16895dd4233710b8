//! The register of methods, and settings as JSON.

use pyo3::prelude::*;
use serde_json::Value;

use crate::errors::Answer;

/// A way to learn from few pictures.
#[pyclass(frozen, get_all, module = "tipi")]
pub(crate) struct Method {
    /// The name that `Model.fit` takes.
    name: &'static str,
    /// The name that people read.
    title: &'static str,
    /// What it does, in a sentence.
    about: &'static str,
    /// Where it was published.
    paper: &'static str,
    /// Whether it needs a `Correction`.
    needs_correction: bool,
    /// Whether it trains, which takes longer than a method that only computes.
    trains: bool,
    /// Its settings.
    settings: Vec<Py<Setting>>,
}

#[pymethods]
impl Method {
    fn __repr__(&self) -> String {
        format!("Method({:?})", self.name)
    }
}

/// A setting of a method.
#[pyclass(frozen, get_all, module = "tipi")]
pub(crate) struct Setting {
    /// Its name in `settings`.
    name: &'static str,
    /// What it does, with its range.
    help: &'static str,
    /// Its value where nobody gives another: the paper's.
    default: Py<PyAny>,
}

#[pymethods]
impl Setting {
    fn __repr__(&self) -> String {
        format!("Setting({:?}, default={})", self.name, self.default)
    }
}

/// All methods, in the order in which tables have them.
#[pyfunction]
pub(crate) fn methods(py: Python<'_>) -> Answer<Vec<Method>> {
    let setting = |setting: tipi::Setting| -> PyResult<Py<Setting>> {
        Py::new(py, Setting { name: setting.name, help: setting.help, default: of_json(py, &setting.default)? })
    };
    let of = |method: tipi::Method| -> Answer<Method> {
        let settings = method.settings().into_iter().map(setting).collect::<PyResult<_>>()?;
        Ok(Method {
            name: method.name(),
            title: method.title(),
            about: method.about(),
            paper: method.paper(),
            needs_correction: method.needs_correction(),
            trains: method.trains(),
            settings,
        })
    };
    tipi::Method::all().map(of).collect()
}

/// A JSON value as Python's.
pub(crate) fn of_json(py: Python<'_>, value: &Value) -> PyResult<Py<PyAny>> {
    Ok(py.import("json")?.call_method1("loads", (value.to_string(),))?.unbind())
}

/// A dict of settings as the JSON that the door reads. `argument` names it in errors.
pub(crate) fn json(argument: &str, given: &Bound<'_, PyAny>) -> Answer<String> {
    Ok(given.py().import("tipi._json")?.call_method1("text", (argument, given))?.extract()?)
}
