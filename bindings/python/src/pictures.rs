//! Pictures in all the forms in which Python has them.

use std::path::PathBuf;

use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};
use tipi::{Error, Picture};

use crate::arrays::{of_type, shape_of};
use crate::errors::{Answer, if_type, invalid, type_name, wrong_type};

const FORMS: &str = "expected a path, a file's bytes, a PIL image or an array of uint8";

/// The pictures in a list, or in an array `[n, height, width, 3 or 4]`. `argument` names them in errors.
pub(crate) fn pictures(argument: &str, given: &Bound<'_, PyAny>) -> Answer<Vec<Picture>> {
    let alone = || wrong_type(format!("{argument}: expected a list of pictures: write [picture] for one"));
    if let Ok(array) = given.cast::<PyUntypedArray>() {
        match array.ndim() {
            1 | 4 => {}
            2 | 3 => return Err(alone()),
            _ => {
                let shape = shape_of(array);
                return Err(invalid(format!(
                    "{argument}: an array of shape {shape}: expected (n, height, width, 3), or a list of pictures"
                )));
            }
        }
    } else if is_one(given)? {
        return Err(alone());
    }
    let reason = || format!("{argument}: expected a list of pictures, not {}", type_name(given));
    let each = given.try_iter().map_err(|error| if_type(error, given.py(), reason))?;
    each.enumerate().map(|(i, item)| picture(&format!("{argument}[{i}]"), &item?)).collect()
}

fn is_one(given: &Bound<'_, PyAny>) -> Answer<bool> {
    Ok(given.is_instance_of::<PyString>()
        || given.is_instance_of::<PyBytes>()
        || given.is_instance_of::<PyByteArray>()
        || given.is_instance_of::<PyMemoryView>()
        || given.hasattr("__fspath__")?
        || is_pil(given)?)
}

/// A picture. Its pixels or bytes are copied once, since work goes on without Python's lock.
pub(crate) fn picture(name: &str, given: &Bound<'_, PyAny>) -> Answer<Picture> {
    if let Ok(bytes) = given.cast::<PyBytes>() {
        return Ok(Picture::encoded(name, bytes.as_bytes()));
    }
    if let Ok(bytes) = given.cast::<PyByteArray>() {
        return Ok(Picture::encoded(name, bytes.to_vec()));
    }
    if given.is_instance_of::<PyMemoryView>() {
        return picture(name, &given.call_method0("tobytes")?);
    }
    if let Ok(array) = given.cast::<PyUntypedArray>() {
        return pixels(name, array);
    }
    if is_pil(given)? {
        return pil(name, given);
    }
    if given.is_instance_of::<PyString>() || given.hasattr("__fspath__")? {
        return Ok(Picture::file(path(name, given)?));
    }
    Err(wrong_type(format!("{name}: {FORMS}, not {}", type_name(given))))
}

/// A path. `argument` names it in errors.
pub(crate) fn path(argument: &str, given: &Bound<'_, PyAny>) -> Answer<PathBuf> {
    let reason = || format!("{argument}: expected a path, not {}", type_name(given));
    given.extract().map_err(|error: PyErr| if_type(error, given.py(), reason))
}

fn pixels(name: &str, array: &Bound<'_, PyUntypedArray>) -> Answer<Picture> {
    let typed = of_type::<u8>(name, array)?;
    let (height, width, channels) = match *array.shape() {
        [height, width] => (height, width, 1),
        [height, width, channels @ (1 | 3 | 4)] => (height, width, channels),
        _ => {
            let shape = shape_of(array);
            return Err(invalid(format!(
                "{name}: an array of shape {shape}: expected (height, width, 3), (height, width, 4) or (height, width)"
            )));
        }
    };
    let row = width * channels;
    // Rows may lie anywhere, as those of a part of a picture do, but each in one piece.
    let apart: Vec<u8>;
    let bytes = match typed.as_slice() {
        Ok(bytes) if array.is_c_contiguous() => bytes,
        _ => {
            let mut rows = Vec::with_capacity(height * row);
            for line in typed.as_array().outer_iter() {
                match line.as_slice() {
                    Some(line) => rows.extend_from_slice(line),
                    None => {
                        return Err(invalid(format!(
                            "{name}: the array's rows are not contiguous: give numpy.ascontiguousarray(...)"
                        )));
                    }
                }
            }
            apart = rows;
            &apart
        }
    };
    Ok(match channels {
        4 => Picture::rgba8(name, [width, height], row, bytes)?,
        3 => Picture::rgb8(name, [width, height], row, bytes)?,
        _ => {
            let grey: Vec<u8> = bytes.iter().flat_map(|value| [*value; 3]).collect();
            Picture::rgb8(name, [width, height], row * 3, &grey)?
        }
    })
}

/// Whether it is an image of PIL's. Where nobody has imported that, nothing is.
fn is_pil(given: &Bound<'_, PyAny>) -> Answer<bool> {
    let modules = given.py().import("sys")?.getattr("modules")?;
    match modules.call_method1("get", ("PIL.Image",))? {
        pil if pil.is_none() => Ok(false),
        pil => Ok(given.is_instance(&pil.getattr("Image")?)?),
    }
}

/// An image of PIL's as a file of the same picture would be taken: upright, in red, green and blue, alpha dropped.
fn pil(name: &str, given: &Bound<'_, PyAny>) -> Answer<Picture> {
    const ORIENTATION: u16 = 0x0112;
    let rgb = || -> PyResult<(Bound<'_, PyAny>, [usize; 2])> {
        // Both steps copy the pixels, also where there is nothing to do.
        let orientation = given.call_method0("getexif")?.call_method1("get", (ORIENTATION, 1))?;
        let upright = match orientation.eq(1)? {
            true => given.clone(),
            false => given.py().import("PIL.ImageOps")?.call_method1("exif_transpose", (given,))?,
        };
        let rgb = match upright.getattr("mode")?.eq("RGB")? {
            true => upright,
            false => upright.call_method1("convert", ("RGB",))?,
        };
        let bytes = rgb.call_method0("tobytes")?;
        let (width, height) = rgb.getattr("size")?.extract::<(usize, usize)>()?;
        Ok((bytes, [width, height]))
    };
    // PIL reads a file's pixels late, so that what is wrong with it is found here.
    let unreadable = |error: PyErr| match error.is_instance_of::<pyo3::exceptions::PyException>(given.py()) {
        true => Error::Image { path: name.into(), reason: format!("PIL cannot read it: {}", error.value(given.py())) }
            .into(),
        false => crate::errors::Failure::from(error),
    };
    let (bytes, size) = rgb().map_err(unreadable)?;
    let bytes = bytes.cast::<PyBytes>().map_err(PyErr::from)?;
    Ok(Picture::rgb8(name, size, size[0] * 3, bytes.as_bytes())?)
}
