//! Features on the host.

use std::fmt;

use crate::{Error, Result, numbers};

/// Un-normalised features of pictures `[n, width]`, row after row.
#[derive(Clone, PartialEq)]
pub struct ImageFeatures(Rows);

/// Un-normalised features of texts `[n, width]`, row after row.
#[derive(Clone, PartialEq)]
pub struct TextFeatures(Rows);

/// A row that is near.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Its number.
    pub row: usize,
    /// Cosine of the angle between the two, from −1 to 1.
    pub cosine: f32,
}

#[derive(Clone, PartialEq)]
struct Rows {
    values: Vec<f32>,
    width: usize,
}

impl Rows {
    fn new(what: &str, values: Vec<f32>, width: usize) -> Result<Rows> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(Error::invalid(format!("{what}: {} values are no rows of width {width}", values.len())));
        }
        if let Some(at) = numbers::not_finite(&values) {
            let (row, column) = (at / width, at % width);
            return Err(Error::invalid(format!("{what}: row {row}, column {column} is {}, not a number", values[at])));
        }
        Ok(Rows { values, width })
    }

    fn row(&self, number: usize) -> Option<&[f32]> {
        let first = number.checked_mul(self.width)?;
        self.values.get(first..first.checked_add(self.width)?)
    }

    fn norms(&self) -> Vec<f64> {
        self.values.chunks_exact(self.width).map(|row| dot(row, row).sqrt()).collect()
    }

    /// Cosines of every row with every row of `other`, `[n, m]`.
    fn cosines(&self, other: &Rows) -> Result<Vec<f32>> {
        if self.width != other.width {
            return Err(Error::invalid(format!("features {} and {} wide cannot be compared", self.width, other.width)));
        }
        let theirs = other.norms();
        let mut all = Vec::with_capacity(self.values.len() / self.width * theirs.len());
        for (row, norm) in self.values.chunks_exact(self.width).zip(self.norms()) {
            let with = |(other, other_norm): (&[f32], &f64)| {
                let cosine = dot(row, other) / (norm * other_norm).max(f64::MIN_POSITIVE);
                cosine.clamp(-1.0, 1.0) as f32
            };
            all.extend(other.values.chunks_exact(self.width).zip(&theirs).map(with));
        }
        Ok(all)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

macro_rules! features {
    ($name:ident, $what:literal) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{:?}", stringify!($name), self.0)
            }
        }

        impl $name {
            /// Features `[n, width]` that were kept, row after row.
            ///
            /// # Errors
            /// [`Error::Invalid`] for values that are no whole rows, or not finite.
            pub fn new(values: Vec<f32>, width: usize) -> Result<$name> {
                Rows::new($what, values, width).map($name)
            }

            /// Rows.
            pub fn len(&self) -> usize {
                self.0.values.len() / self.0.width
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.0.values.is_empty()
            }

            /// Values of a row.
            pub fn width(&self) -> usize {
                self.0.width
            }

            /// A row.
            pub fn row(&self, number: usize) -> Option<&[f32]> {
                self.0.row(number)
            }

            /// All values, row after row.
            pub fn values(&self) -> &[f32] {
                &self.0.values
            }

            /// All values, row after row.
            pub fn into_values(self) -> Vec<f32> {
                self.0.values
            }
        }
    };
}

impl fmt::Debug for Rows {
    /// Their number, not thousands of values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.values.len() / self.width.max(1), self.width)
    }
}

features!(ImageFeatures, "image features");
features!(TextFeatures, "text features");

impl ImageFeatures {
    /// Cosines `[n, texts]` of every picture with every text.
    ///
    /// # Errors
    /// [`Error::Invalid`] for features of another width.
    pub fn cosines(&self, texts: &TextFeatures) -> Result<Vec<f32>> {
        self.0.cosines(&texts.0)
    }

    /// For every picture the `most` pictures of `others` that are most like it, the nearest first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for features of another width.
    pub fn nearest(&self, others: &ImageFeatures, most: usize) -> Result<Vec<Vec<Neighbour>>> {
        let cosines = self.0.cosines(&others.0)?;
        let of = |row: &[f32]| {
            let mut near: Vec<Neighbour> =
                row.iter().enumerate().map(|(row, cosine)| Neighbour { row, cosine: *cosine }).collect();
            near.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.row.cmp(&b.row)));
            near.truncate(most);
            near
        };
        match others.is_empty() {
            true => Ok(vec![Vec::new(); self.len()]),
            false => Ok(cosines.chunks_exact(others.len()).map(of).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_those_of_the_smallest_angle() {
        let asked = ImageFeatures::new(vec![2.0, 0.0], 2).unwrap();
        let others = ImageFeatures::new(vec![0.0, 1.0, 5.0, 0.1, -1.0, 0.0, 0.1, 0.002], 2).unwrap();
        let near = asked.nearest(&others, 3).unwrap().remove(0);
        assert_eq!(near.iter().map(|near| near.row).collect::<Vec<_>>(), [1, 3, 0]);
        assert!(near[0].cosine > 0.999 && near[2].cosine.abs() < 1e-6);
        let texts = TextFeatures::new(vec![3.0, 4.0], 2).unwrap();
        assert!((asked.cosines(&texts).unwrap()[0] - 0.6).abs() < 1e-6);
    }

    #[test]
    fn values_that_are_no_features_are_refused() {
        let says = |result: Result<ImageFeatures>| result.unwrap_err().to_string();
        assert!(says(ImageFeatures::new(vec![0.0; 5], 2)).contains("5 values are no rows of width 2"));
        assert!(says(ImageFeatures::new(vec![0.0; 4], 0)).contains("width 0"));
        assert!(says(ImageFeatures::new(vec![0.0, 1.0, f32::NAN, 0.0], 2)).contains("row 1, column 0 is NaN"));
        let (narrow, wide) =
            (ImageFeatures::new(vec![1.0; 2], 2).unwrap(), ImageFeatures::new(vec![1.0; 3], 3).unwrap());
        assert!(narrow.nearest(&wide, 1).is_err());
        assert_eq!(narrow.row(1), None);
    }
}
