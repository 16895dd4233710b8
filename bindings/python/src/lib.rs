//! The native module of the Python package `tipi`: the library's door in Python's words, and no logic of its own. What Python
//! sees of it is written down in `python/tipi/_native.pyi`, with docstrings here.

// PyO3 hands arguments over by value.
#![allow(clippy::needless_pass_by_value)]

mod adapter;
mod arrays;
mod correction;
mod device;
mod errors;
mod evaluation;
mod examples;
mod gallery;
mod method;
mod model;
mod pictures;
mod prediction;
mod work;

use pyo3::prelude::*;

/// The native part of tipi. Import `tipi` instead.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<adapter::Adapter>()?;
    module.add_class::<adapter::Report>()?;
    module.add_class::<correction::Correction>()?;
    module.add_class::<evaluation::Dataset>()?;
    module.add_class::<device::Device>()?;
    module.add_class::<device::DeviceReport>()?;
    module.add_class::<evaluation::Evaluation>()?;
    module.add_class::<examples::Examples>()?;
    module.add_class::<gallery::Gallery>()?;
    module.add_class::<evaluation::Mean>()?;
    module.add_class::<method::Method>()?;
    module.add_class::<method::Setting>()?;
    module.add_class::<model::Model>()?;
    module.add_class::<evaluation::Outcome>()?;
    module.add_class::<prediction::Prediction>()?;
    module.add_class::<prediction::Predictions>()?;
    module.add_class::<prediction::Scored>()?;
    module.add_class::<work::Progress>()?;
    module.add_function(wrap_pyfunction!(device::devices, module)?)?;
    module.add_function(wrap_pyfunction!(method::methods, module)?)?;
    module.add_function(wrap_pyfunction!(model::_model, module)?)?;
    Ok(())
}
