//! Pictures to look for those most like others.

use numpy::PyArray2;
use pyo3::prelude::*;
use tipi::Neighbour;

use crate::arrays::{features, matrix};
use crate::device::Device;
use crate::errors::Answer;
use crate::work::watched;

/// Pictures' features on a device, to look for those most like a picture, a text, or each other. Likeness is the cosine of the angle
/// between features, from -1 to 1; what is found is exact.
///
/// features: float32 [n, width], C-contiguous, as `Model.encode_images` gives them. device: as `Model` takes it.
#[pyclass(frozen, module = "tipi")]
pub(crate) struct Gallery(tipi::Gallery);

/// Rows int64 [n, most] and cosines float32 [n, most].
type Nearest<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<f32>>);

fn nearest_of(py: Python<'_>, lists: Vec<Vec<Neighbour>>) -> Answer<Nearest<'_>> {
    let (count, width) = (lists.len(), lists.first().map_or(0, Vec::len));
    let rows: Vec<i64> = lists.iter().flatten().map(|near| near.row as i64).collect();
    let cosines: Vec<f32> = lists.iter().flatten().map(|near| near.cosine).collect();
    if width == 0 {
        return Ok((PyArray2::zeros(py, [count, 0], false), PyArray2::zeros(py, [count, 0], false)));
    }
    Ok((matrix(py, rows, width)?, matrix(py, cosines, width)?))
}

#[pymethods]
impl Gallery {
    #[new]
    #[pyo3(signature = (features, *, device=None))]
    fn new(py: Python<'_>, features: &Bound<'_, PyAny>, device: Option<&Bound<'_, PyAny>>) -> Answer<Gallery> {
        let features = self::features("features", features)?;
        let gpu = Device::of("device", device, py)?;
        Ok(Gallery(watched(py, None, move |_| tipi::Gallery::new(&gpu, features))?))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Values of a picture's features.
    #[getter]
    fn width(&self) -> usize {
        self.0.width()
    }

    /// For each row of `features` the `most` pictures of the gallery that are most like it, the nearest first: their numbers, int64
    /// [n, most], and cosines, float32 [n, most]; fewer where the gallery has fewer.
    ///
    /// features: float32 [n, width] of pictures or of texts.
    #[pyo3(signature = (features, most=10, *, progress=None))]
    fn nearest<'py>(
        &self,
        py: Python<'py>,
        features: &Bound<'py, PyAny>,
        most: usize,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> Answer<Nearest<'py>> {
        let features = self::features("features", features)?;
        let gallery = self.0.clone();
        nearest_of(py, watched(py, progress, move |watch| gallery.nearest(&features, most, watch))?)
    }

    /// For each picture of the gallery the `most` others that are most like it, as `nearest` gives them.
    #[pyo3(signature = (most=10, *, progress=None))]
    fn nearest_others<'py>(
        &self,
        py: Python<'py>,
        most: usize,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> Answer<Nearest<'py>> {
        let gallery = self.0.clone();
        nearest_of(py, watched(py, progress, move |watch| gallery.nearest_others(most, watch))?)
    }

    /// Groups of pictures that are nearly the same, as lists of (number, cosine with the group's first), the first first.
    ///
    /// least: the cosine, from -1 to 1, from which two are.
    #[pyo3(signature = (least, *, progress=None))]
    fn duplicates(
        &self,
        py: Python<'_>,
        least: f64,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Answer<Vec<Vec<(usize, f32)>>> {
        let gallery = self.0.clone();
        let groups = watched(py, progress, move |watch| gallery.duplicates(least, watch))?;
        let of = |group: Vec<Neighbour>| group.into_iter().map(|near| (near.row, near.cosine)).collect();
        Ok(groups.into_iter().map(of).collect())
    }

    fn __repr__(&self) -> String {
        format!("Gallery({} pictures)", self.0.len())
    }
}
