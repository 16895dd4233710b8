//! Matrices as whole numbers of 8 bits.

use crate::gpu::{Gpu, Tensor};

/// A matrix as whole numbers from −127 to 127, and for each row what they are multiples of.
///
/// The scale is the row's largest number over 127. A smaller one, which cuts off the largest numbers to tell the others
/// better apart, gains nothing: in no row of the bundled model, whose largest numbers are 2 to 6 times their root mean
/// square, did any have a smaller mean square error, and a row with an outlier loses more by cutting it off than by the
/// coarser steps that it makes.
#[derive(Clone, Debug)]
pub struct Bytes {
    /// The numbers, row by row.
    pub bytes: Vec<i8>,
    /// A scale for each row; 0 where the row is.
    pub scales: Vec<f32>,
}

/// The largest whole number. −128 is left out, so that both signs reach as far.
const MOST: f32 = 127.0;

impl Bytes {
    /// Rounds rows of `cols` values.
    ///
    /// # Errors
    /// A value that is not finite.
    pub fn of(values: &[f32], cols: usize) -> Result<Bytes, String> {
        let mut rounded = Bytes { bytes: Vec::with_capacity(values.len()), scales: Vec::new() };
        for row in values.chunks(cols.max(1)) {
            if let Some(wrong) = row.iter().find(|v| !v.is_finite()) {
                return Err(format!("{wrong} is no number that int8 can hold"));
            }
            let most = row.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            // What f32 holds with less than its usual digits, and GPUs take for 0.
            let scale = if most / MOST >= f32::MIN_POSITIVE { most / MOST } else { 0.0 };
            rounded.scales.push(scale);
            let byte = |v: &f32| if scale > 0.0 { (v / scale).round().clamp(-MOST, MOST) as i8 } else { 0 };
            rounded.bytes.extend(row.iter().map(byte));
        }
        Ok(rounded)
    }

    /// The matrix, of this shape, on the device: in a buffer or in a texture.
    ///
    /// # Errors
    /// A shape that the numbers do not fill; out of memory.
    pub fn upload(&self, gpu: &Gpu, what: &str, shape: [usize; 2], texels: bool) -> crate::Result<Tensor> {
        let [rows, _] = shape;
        if texels {
            let scales = gpu.upload_texels(what, &self.scales, [1, rows])?;
            return gpu.upload_texels(what, &self.bytes, shape)?.with_scales(scales);
        }
        let scales = gpu.upload(what, &self.scales, &[rows])?;
        gpu.upload(what, &self.bytes, &shape)?.with_scales(scales)
    }

    /// What the numbers stand for.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        let cols = self.bytes.len() / self.scales.len().max(1);
        let row = move |(row, scale): (&[i8], &f32)| {
            let scale = f64::from(*scale);
            row.iter().map(move |byte| f64::from(*byte) * scale).collect::<Vec<_>>()
        };
        self.bytes.chunks(cols.max(1)).zip(&self.scales).flat_map(row)
    }
}

/// What a matrix loses by being rounded.
#[derive(Default)]
pub(super) struct Lost {
    /// Sums of squares: of what was lost, and of all but each row's largest, beside which the others may count for nothing.
    squares: (f64, f64),
    /// The largest number, whatever its sign.
    pub largest: f32,
}

impl Lost {
    /// Adds rows, and what they were rounded to.
    pub fn add(&mut self, rows: &[f32], rounded: &Bytes) {
        for (v, kept) in rows.iter().zip(rounded.values()) {
            self.squares.0 += (f64::from(*v) - kept).powi(2);
        }
        for row in rows.chunks((rows.len() / rounded.scales.len().max(1)).max(1)) {
            let most = row.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            let all: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
            self.squares.1 += all - f64::from(most).powi(2);
            self.largest = self.largest.max(most);
        }
    }

    /// The length of what was lost, as a share of the matrix's without its rows' largest numbers.
    pub fn share(&self) -> f64 {
        if self.squares.1 > 0.0 { (self.squares.0 / self.squares.1).sqrt() } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Lost};

    fn of(row: &[f32]) -> (Vec<i8>, f32) {
        let Bytes { bytes, scales } = Bytes::of(row, row.len()).unwrap();
        (bytes, scales[0])
    }

    #[test]
    fn rows_reach_from_end_to_end_and_are_off_by_half_a_step() {
        assert_eq!(of(&[127.0, -127.0, 1.4, -1.6, 0.0]), (vec![127, -127, 1, -2, 0], 1.0));
        let both = Bytes::of(&[1.0, -0.5, 0.25, 1000.0, 3.0, -4.0], 3).unwrap();
        assert_eq!(both.scales, [1.0 / 127.0, 1000.0 / 127.0]);
        assert_eq!(both.bytes, [127, -64, 32, 127, 0, -1]);
        let off = both.values().zip([1.0, -0.5, 0.25, 1000.0, 3.0, -4.0]).map(|(v, w): (f64, f64)| (v - w).abs());
        assert!(off.zip([0, 0, 0, 1, 1, 1]).all(|(off, row)| off <= f64::from(both.scales[row]) * 0.500_001));
    }

    #[test]
    fn rows_of_nothing_of_very_little_and_of_very_much_are_held() {
        assert_eq!(of(&[0.0, -0.0]), (vec![0, 0], 0.0));
        // Their scale would be a number that GPUs take for 0.
        assert_eq!(of(&[1e-40, 1e-38]), (vec![0, 0], 0.0));
        assert_eq!(of(&[1e-35, -5e-36]).0, [127, -64]);
        assert_eq!(of(&[f32::MAX, f32::MIN, f32::MAX / 4.0]).0, [127, -127, 32]);
    }

    #[test]
    fn what_is_lost_grows_with_outliers() {
        let lost = |values: &[f32], cols: usize| {
            let mut lost = Lost::default();
            lost.add(values, &Bytes::of(values, cols).unwrap());
            lost.share()
        };
        let mut values = crate::kernels::noise_values(64 * 100);
        let even = lost(&values, 100);
        assert!((0.003..0.006).contains(&even), "{even}");
        values.iter_mut().step_by(100).for_each(|v| *v = 20.0);
        assert!(lost(&values, 100) > 0.02);
        assert_eq!(lost(&[0.0; 8], 4), 0.0);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = Bytes::of(&[1.0, 2.0, 3.0, wrong], 2).unwrap_err();
            assert!(error.contains(&wrong.to_string()), "{error}");
        }
    }
}
