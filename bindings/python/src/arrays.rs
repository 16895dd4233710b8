//! Features as arrays.

use numpy::{
    PyArray1, PyArray2, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods, dtype,
};
use pyo3::prelude::*;
use tipi::ImageFeatures;

use crate::errors::{Answer, invalid, type_name, wrong_type};

/// Values as an array `[rows, width]`, without copying them.
pub(crate) fn matrix<T: numpy::Element>(
    py: Python<'_>,
    values: Vec<T>,
    width: usize,
) -> PyResult<Bound<'_, PyArray2<T>>> {
    let rows = values.len() / width.max(1);
    PyArray1::from_vec(py, values).reshape([rows, width])
}

/// An array's shape as Python writes it.
pub(crate) fn shape_of(array: &Bound<'_, PyUntypedArray>) -> String {
    match array.shape() {
        [one] => format!("({one},)"),
        many => format!("({})", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// An array of numbers of one type, looked at without copying.
pub(crate) fn of_type<'py, T: numpy::Element>(
    argument: &str,
    array: &Bound<'py, PyUntypedArray>,
) -> Answer<PyReadonlyArrayDyn<'py, T>> {
    let wanted = dtype::<T>(array.py());
    if !array.dtype().is_equiv_to(&wanted) {
        return Err(wrong_type(format!("{argument}: an array of {}: expected {wanted}", array.dtype())));
    }
    let typed = array.cast::<PyArrayDyn<T>>().map_err(PyErr::from)?;
    typed.try_readonly().map_err(|error| invalid(format!("{argument}: the array is being written to: {error}")))
}

/// Features of pictures: a C-contiguous array `[n, width]` of float32.
pub(crate) fn features(argument: &str, given: &Bound<'_, PyAny>) -> Answer<ImageFeatures> {
    let Ok(array) = given.cast::<PyUntypedArray>() else {
        return Err(wrong_type(format!(
            "{argument}: expected an array [n, width] of float32, not {}",
            type_name(given)
        )));
    };
    let typed = of_type::<f32>(argument, array)?;
    let &[_, width] = array.shape() else {
        return Err(invalid(format!("{argument}: an array of shape {}: expected (n, width)", shape_of(array))));
    };
    if !array.is_c_contiguous() {
        return Err(invalid(format!("{argument}: the array is not C-contiguous: give numpy.ascontiguousarray(...)")));
    }
    let values = typed.as_slice().map_err(|error| invalid(format!("{argument}: {error}")))?;
    Ok(ImageFeatures::new(values.to_vec(), width)?)
}
