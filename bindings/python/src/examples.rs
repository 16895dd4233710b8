//! What is learned from.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyMapping;
use tipi::Shots;

use crate::errors::{Answer, exception, if_type, type_name, wrong_type};
use crate::pictures::{picture, pictures};
use crate::work::watched;

/// Pictures with their classes, to learn from and to validate on. What a fit computes of them is remembered: the next one, with an
/// example more or moved, takes little time.
///
/// Validation pictures choose settings and make confidence true. Nothing is learned from them.
#[pyclass(module = "tipi")]
pub(crate) struct Examples {
    pub inner: tipi::Examples,
    skipped: Vec<Py<PyAny>>,
}

impl Examples {
    fn sifted(py: Python<'_>, (inner, skipped): (tipi::Examples, Vec<tipi::Error>)) -> Answer<Examples> {
        let skipped = skipped.iter().map(|error| exception(py, error).map(Bound::unbind)).collect::<PyResult<_>>()?;
        Ok(Examples { inner, skipped })
    }

    /// What an argument stands for: `Examples`, or a dict of classes' names and lists of their pictures.
    pub fn of(argument: &str, given: &Bound<'_, PyAny>) -> Answer<tipi::Examples> {
        if let Ok(examples) = given.cast::<Examples>() {
            return Ok(examples.try_borrow().map_err(PyErr::from)?.inner.clone());
        }
        let mut examples = tipi::Examples::new();
        for (class, picture) in of_dict(argument, given)? {
            examples.add(&class, picture);
        }
        Ok(examples)
    }

    /// The same with validation pictures besides, likewise.
    pub fn with_validation(mut examples: tipi::Examples, given: Option<&Bound<'_, PyAny>>) -> Answer<tipi::Examples> {
        if let Some(given) = given {
            for (class, picture) in of_dict("validation", given)? {
                examples.add_validation(&class, picture);
            }
        }
        Ok(examples)
    }
}

/// Pictures with their classes.
fn of_dict(argument: &str, given: &Bound<'_, PyAny>) -> Answer<Vec<(String, tipi::Picture)>> {
    let Ok(dict) = given.cast::<PyMapping>() else {
        let other = type_name(given);
        return Err(wrong_type(format!("{argument}: expected Examples or a dict {{class: pictures}}, not {other}")));
    };
    let mut all = Vec::new();
    for item in dict.items()? {
        let (class, of_class): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let name: String = class.extract().map_err(|error: PyErr| {
            if_type(error, given.py(), || format!("{argument}: a class's name is a str, not {}", type_name(&class)))
        })?;
        let found = pictures(&format!("{argument}[{name:?}]"), &of_class)?;
        all.extend(found.into_iter().map(|picture| (name.clone(), picture)));
    }
    Ok(all)
}

#[pymethods]
impl Examples {
    #[new]
    fn new() -> Examples {
        Examples { inner: tipi::Examples::new(), skipped: Vec::new() }
    }

    /// All pictures of a folder with a sub-folder for each class, whose name names it.
    #[staticmethod]
    fn from_folder(py: Python<'_>, folder: PathBuf) -> Answer<Examples> {
        let inner = watched(py, None, move |_| tipi::Examples::of_folder(folder))?;
        Ok(Examples { inner, skipped: Vec::new() })
    }

    /// Adds a picture to learn from. The first one of a class makes the class.
    ///
    /// image: a path, a file's bytes, a PIL image or an array of uint8 (height, width, 3).
    /// name: what errors and the adapter call a picture that is no file.
    #[pyo3(signature = (label, image, *, name="image"))]
    fn add(&mut self, label: &str, image: &Bound<'_, PyAny>, name: &str) -> Answer<()> {
        self.inner.add(label, picture(name, image)?);
        Ok(())
    }

    /// Adds a picture to validate on, likewise.
    #[pyo3(signature = (label, image, *, name="image"))]
    fn add_validation(&mut self, label: &str, image: &Bound<'_, PyAny>, name: &str) -> Answer<()> {
        self.inner.add_validation(label, picture(name, image)?);
        Ok(())
    }

    /// Takes all pictures and classes away. What was computed of them is still remembered.
    fn clear(&mut self) {
        self.inner.clear();
        self.skipped.clear();
    }

    /// The same examples, which then go their own way; what is computed of either is remembered for both.
    fn copy(&self, py: Python<'_>) -> Examples {
        Examples { inner: self.inner.clone(), skipped: self.skipped.iter().map(|error| error.clone_ref(py)).collect() }
    }

    /// Chooses by chance, always the same way for a `seed`: of the pictures to learn from, `shots` of each class (None takes all), and
    /// of the rest as many, up to four, to validate on. `tipi fit` chooses the same. Pictures that cannot be decoded are left out, and
    /// stand in `skipped`.
    #[pyo3(signature = (shots, seed=1, *, progress=None))]
    fn choose(
        &self,
        py: Python<'_>,
        shots: Option<usize>,
        seed: u64,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Answer<Examples> {
        let (inner, shots) = (self.inner.clone(), shots.map_or(Shots::All, Shots::UpTo));
        Examples::sifted(py, watched(py, progress, move |watch| inner.choose(shots, seed, watch))?)
    }

    /// The same without pictures that cannot be decoded, which stand in `skipped`.
    #[pyo3(signature = (*, progress=None))]
    fn sound(&self, py: Python<'_>, progress: Option<&Bound<'_, PyAny>>) -> Answer<Examples> {
        let inner = self.inner.clone();
        Examples::sifted(py, watched(py, progress, move |watch| inner.sound(watch))?)
    }

    /// What was wrong with pictures that `choose` or `sound` left out.
    #[getter]
    fn skipped(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.skipped.iter().map(|error| error.clone_ref(py)).collect()
    }

    /// The classes' names, in the order in which they came.
    #[getter]
    fn classes(&self) -> Vec<String> {
        self.inner.classes().to_vec()
    }

    /// Pictures to learn from: the numbers of their classes, and their paths or names.
    #[getter]
    fn support(&self) -> Vec<(usize, PathBuf)> {
        self.inner.support().map(|(class, picture)| (class, picture.path().to_path_buf())).collect()
    }

    /// Pictures to validate on, likewise.
    #[getter]
    fn validation(&self) -> Vec<(usize, PathBuf)> {
        self.inner.validation().map(|(class, picture)| (class, picture.path().to_path_buf())).collect()
    }

    fn __repr__(&self) -> String {
        let (support, validation) = (self.inner.support().count(), self.inner.validation().count());
        format!(
            "Examples({} classes, {support} to learn from, {validation} to validate on)",
            self.inner.classes().len()
        )
    }
}
