//! The pictures that were learned from, and how far others are from them.

use super::adapter_file::{Loading, Tensors};
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::extremes;
use crate::kernels::gemm::{Epilogue, Layout, matmul};
use crate::kernels::normalize;
use crate::{Error, Result};

/// The most pictures that are kept; of more, evenly chosen ones.
const MOST: usize = 4096;
/// The most pictures of a class whose distances are measured: their pairs grow with the square.
const MOST_OF_CLASS: usize = 256;
/// Elements of a matrix of pictures made at once.
const AT_ONCE: usize = 4 << 20;
/// The smallest spread: pictures that are all the same still have a unit to measure by.
const LEAST: f64 = 1e-6;

/// Features of length 1 of the pictures that were learned from, by the tower that the method takes.
#[derive(Clone)]
pub struct Known {
    keys: Tensor,
    /// The median distance of a picture from the nearest other one of its class.
    spread: f64,
}

impl Known {
    /// The pictures with these un-normalised features `[n, width]` and labels; none without pictures.
    ///
    /// # Errors
    /// Lengths that do not fit, features that are not finite; out of memory.
    pub fn new(gpu: &Gpu, features: &[f32], labels: &[u32], width: usize) -> Result<Option<Known>> {
        let n = super::check_rows("features", features, width)?;
        if n == 0 || labels.len() != n {
            return Ok(None);
        }
        let count = n.min(MOST);
        let which: Vec<usize> = (0..count).map(|i| i * n / count).collect();
        let mut keys = Vec::with_capacity(count * width);
        for i in &which {
            let row = &features[i * width..(i + 1) * width];
            let length =
                row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(f64::from(f32::MIN_POSITIVE));
            keys.extend(row.iter().map(|v| (f64::from(*v) / length) as f32));
        }
        let labels: Vec<u32> = which.iter().map(|i| labels[*i]).collect();
        let spread = spread(&keys, &labels, width);
        Ok(Some(Known { keys: gpu.upload("known pictures", &keys, &[count, width])?, spread }))
    }

    /// The distance (1 − cosine) in units of how far pictures of a class are apart.
    pub fn distance(&self, similarity: f32) -> f64 {
        (1.0 - f64::from(similarity)) / self.spread
    }

    /// Records the cosine of each of the un-normalised features `[n, width]` with the most similar picture: the second of each row of
    /// `[n, 2]`.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn record(&self, rec: &mut Recorder, features: &Tensor) -> Result<Tensor> {
        let unit = normalize::forward(rec, features)?.y;
        let similarity = matmul(rec, Layout::Nt, &unit, &self.keys, &Epilogue::default())?;
        extremes::of_rows(rec, &similarity)
    }

    /// The cosine of each of the un-normalised features `[n, width]` with the most similar picture.
    ///
    /// # Errors
    /// Lengths that do not fit; a device that fails.
    pub fn similarity(&self, gpu: &Gpu, features: &[f32]) -> Result<Vec<f32>> {
        let width = self.keys.cols();
        super::check_rows("features", features, width)?;
        let rows = (AT_ONCE / self.keys.rows()).clamp(1, super::ROWS);
        let mut all = Vec::with_capacity(features.len() / width);
        for part in features.chunks(rows * width) {
            let raw = gpu.upload("image features", part, &[part.len() / width, width])?;
            let pairs = super::compute(gpu, |rec| self.record(rec, &raw))?;
            all.extend(pairs.chunks_exact(2).map(|pair| pair[1]));
        }
        Ok(all)
    }

    /// Adds it to a file.
    ///
    /// # Errors
    /// A lost device.
    pub fn write(&self, gpu: &Gpu, tensors: &mut Tensors) -> Result<()> {
        tensors.floats(KEYS, self.keys.shape(), &gpu.read::<f32>(&self.keys)?);
        tensors.floats(SPREAD, &[1], &[self.spread as f32]);
        Ok(())
    }

    /// What [`Known::write`] wrote.
    ///
    /// # Errors
    /// As [`Loading::floats`]; a spread that is none; out of memory.
    pub fn load(file: &Loading<'_>) -> Result<Option<Known>> {
        let Some([count, width]) = file.shape(KEYS) else { return Ok(None) };
        let keys = file.floats(KEYS, &[count, width])?;
        let spread = file.floats(SPREAD, &[1])?.first().copied().unwrap_or_default();
        if count == 0 || width == 0 || spread <= 0.0 {
            return Err(file.bad(format!("'{KEYS}' is empty, or '{SPREAD}' is not above 0")));
        }
        let keys = file.clip.gpu.upload("known pictures", &keys, &[count, width])?;
        Ok(Some(Known { keys, spread: f64::from(spread) }))
    }

    /// Checks that it fits features of this width.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check(&self, width: usize) -> Result<()> {
        match self.keys.cols() == width {
            true => Ok(()),
            false => Err(Error::invalid(format!("'{KEYS}' is {} wide, features are {width}", self.keys.cols()))),
        }
    }
}

const KEYS: &str = "known";
const SPREAD: &str = "known.spread";

/// The median distance of keys of length 1 from the nearest other one of their class; where no class has two, of any class; 1 for
/// one alone. It is a number of f32, so that a file keeps it.
fn spread(keys: &[f32], labels: &[u32], width: usize) -> f64 {
    let of = |i: usize| &keys[i * width..(i + 1) * width];
    let nearest = |i: usize, others: &[usize]| {
        let distance =
            |j: &usize| 1.0 - of(i).iter().zip(of(*j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        others.iter().filter(|j| **j != i).map(distance).min_by(f64::total_cmp)
    };
    let among = |group: &[usize]| -> Vec<f64> { group.iter().filter_map(|i| nearest(*i, group)).collect() };
    let mut groups: std::collections::BTreeMap<u32, Vec<usize>> = std::collections::BTreeMap::new();
    for (i, label) in labels.iter().enumerate() {
        let group = groups.entry(*label).or_default();
        if group.len() < MOST_OF_CLASS {
            group.push(i);
        }
    }
    let mut all: Vec<f64> = groups.values().flat_map(|group| among(group)).collect();
    if all.is_empty() {
        all = among(&(0..labels.len().min(MOST_OF_CLASS)).collect::<Vec<_>>());
    }
    all.sort_by(f64::total_cmp);
    f64::from(all.get(all.len() / 2).map_or(1.0, |middle| middle.max(LEAST)) as f32)
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn the_spread_is_how_far_pictures_of_a_class_are_apart() {
        // On a circle, by their angles.
        let at = |angles: &[f64]| angles.iter().flat_map(|a| [a.cos() as f32, a.sin() as f32]).collect::<Vec<f32>>();
        let apart = |a: f64| 1.0 - a.cos();
        let near = |found: f64, angle: f64| assert!((found - apart(angle)).abs() < 1e-6, "{found}");
        // Of class 0 two at 0.3; of class 1 three, 0.1 and 0.4 apart.
        near(spread(&at(&[0.0, 0.3, 2.0, 2.1, 2.5]), &[0, 0, 1, 1, 1], 2), 0.3);
        // No class has two: any other counts.
        near(spread(&at(&[0.0, 0.2, 0.9]), &[0, 1, 2], 2), 0.2);
        assert_eq!(spread(&at(&[0.4]), &[0], 2), 1.0);
        // The same picture twice.
        assert!(spread(&at(&[0.4, 0.4]), &[0, 0], 2) > 0.0);
    }
}
