//! The library's errors as the exceptions of `tipi.errors`, which bear the names of its kinds.

use std::path::Path;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tipi::Error;

/// What a call fails with: an error of the library's, or an exception of Python's on its way.
pub(crate) enum Failure {
    Library(Error),
    Python(PyErr),
}

pub(crate) type Answer<T> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Library(error)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Failure {
        Failure::Python(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> PyErr {
        match failure {
            Failure::Python(error) => error,
            Failure::Library(error) => Python::attach(|py| {
                exception(py, &error).map_or_else(|failed| failed, |exception| PyErr::from_value(exception))
            }),
        }
    }
}

/// A `ValueError` of tipi's about an argument.
pub(crate) fn invalid(reason: impl Into<String>) -> Failure {
    Failure::Library(Error::Invalid(reason.into()))
}

/// Whether what is wrong with one picture is kept beside the others' results, or raised.
pub(crate) fn kept(errors: &str) -> Answer<bool> {
    match errors {
        "raise" => Ok(false),
        "keep" => Ok(true),
        other => Err(invalid(format!("errors: expected 'raise' or 'keep', not '{other}'"))),
    }
}

/// A `TypeError` about an argument.
pub(crate) fn wrong_type(reason: impl Into<String>) -> Failure {
    Failure::Python(PyTypeError::new_err(reason.into()))
}

/// What Python says of an argument of a wrong type, in tipi's words. What else it raises, as for Ctrl-C, goes on as it is.
pub(crate) fn if_type(error: PyErr, py: Python<'_>, reason: impl FnOnce() -> String) -> Failure {
    match error.is_instance_of::<PyTypeError>(py) {
        true => wrong_type(reason()),
        false => Failure::Python(error),
    }
}

/// The name of a value's type, for messages.
pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "an object".into(), |name: Bound<'_, PyString>| name.to_string())
}

/// The exception that stands for an error: its class by the error's kind, its attributes by the kind's fields.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    let put = |name: &str, value: &str| fields.set_item(name, value);
    let path = |path: &Path| fields.set_item("path", path);
    let class = match error {
        Error::NoDevice => "NoDeviceError",
        Error::DeviceNotFound { asked, available } => {
            put("asked", asked)?;
            put("available", available)?;
            "DeviceNotFoundError"
        }
        Error::Unsupported { device, reason } => {
            put("device", device)?;
            put("reason", reason)?;
            "UnsupportedError"
        }
        Error::Gpu(_) => "GpuError",
        Error::DeviceLost(_) => "DeviceLostError",
        Error::OutOfMemory { what, needed, why } => {
            put("what", what)?;
            fields.set_item("needed", needed)?;
            put("why", why)?;
            "OutOfMemoryError"
        }
        Error::ResultNotFinite { what, wrong, of, row, cause } => {
            put("what", what)?;
            fields.set_item("wrong", wrong)?;
            fields.set_item("of", of)?;
            fields.set_item("row", row)?;
            put("cause", cause)?;
            "ResultNotFiniteError"
        }
        Error::Io { path: at, source } => {
            path(at)?;
            fields.set_item("errno", source.raw_os_error())?;
            if error.is_not_found() { "NotFoundError" } else { "IoError" }
        }
        Error::Foreign { path: at, found, wanted } => {
            path(at)?;
            put("found", found)?;
            put("wanted", wanted)?;
            "ForeignError"
        }
        Error::Safetensors { path: at, reason } => {
            path(at)?;
            put("reason", reason)?;
            "SafetensorsError"
        }
        Error::Torch { path: at, reason } => {
            path(at)?;
            put("reason", reason)?;
            "TorchError"
        }
        Error::MissingTensor { path: at, tensor } => {
            path(at)?;
            put("tensor", tensor)?;
            "MissingTensorError"
        }
        Error::TensorForm { path: at, tensor, expected, found } => {
            path(at)?;
            put("tensor", tensor)?;
            put("expected", expected)?;
            put("found", found)?;
            "TensorFormError"
        }
        Error::NotFinite { path: at, tensor, row, column, value } => {
            path(at)?;
            put("tensor", tensor)?;
            fields.set_item("row", row)?;
            fields.set_item("column", column)?;
            fields.set_item("value", value)?;
            "NotFiniteError"
        }
        Error::Config { path: at, reason } => {
            path(at)?;
            put("reason", reason)?;
            "ConfigError"
        }
        Error::Image { path: at, reason } => {
            path(at)?;
            put("reason", reason)?;
            "ImageError"
        }
        Error::Data { path: at, reason } => {
            path(at)?;
            put("reason", reason)?;
            "DataError"
        }
        Error::NoRoot { title, folder } => {
            put("title", title)?;
            put("folder", folder)?;
            "NoRootError"
        }
        Error::AdapterFile { path: at, reason } => {
            path(at)?;
            put("reason", reason)?;
            "AdapterFileError"
        }
        Error::Hub { repo, reason } => {
            put("repo", repo)?;
            put("reason", reason)?;
            "HubError"
        }
        Error::Diverged { what, loss, epoch, rate } => {
            put("what", what)?;
            fields.set_item("loss", loss)?;
            fields.set_item("epoch", epoch)?;
            fields.set_item("rate", rate)?;
            "DivergedError"
        }
        Error::Stopped => "StoppedError",
        Error::Invalid(_) => "InvalidError",
        // A kind that came after this was written.
        _ => "Error",
    };
    let exception = py.import("tipi.errors")?.getattr(class)?.call1((error.to_string(),))?;
    for (name, value) in &fields {
        exception.setattr(name.cast::<PyString>()?, value)?;
    }
    Ok(exception)
}
