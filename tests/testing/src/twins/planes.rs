//! Twin of `planes`: raw noise [pictures, area, planes] scaled plane by plane, added to pixels, and the gradients.

use super::real::{Real, sum};

/// Sizes.
#[derive(Clone, Copy, Debug)]
pub struct Planes {
    pub pictures: usize,
    pub area: usize,
    /// Means and spreads of all colours.
    pub planes: usize,
}

impl Planes {
    /// The numbers of a plane's elements in the raw noise.
    fn raw(self, picture: usize, plane: usize) -> impl Iterator<Item = usize> {
        (0..self.area).map(move |at| (picture * self.area + at) * self.planes + plane)
    }

    fn all(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.pictures).flat_map(move |picture| (0..self.planes).map(move |plane| (picture, plane)))
    }
}

/// level·h/RMS, in planes [pictures, planes, area]. `together` plants the RMS of all planes of a kind in place of each plane's own.
pub fn scale<T: Real>(h: &[T], level: f64, s: Planes, together: bool) -> Vec<T> {
    let mut y = Vec::new();
    for (picture, plane) in s.all() {
        let kind = plane / (s.planes / 2) * (s.planes / 2);
        let over = if together { kind..kind + s.planes / 2 } else { plane..plane + 1 };
        let terms: Vec<T> = over.flat_map(|plane| s.raw(picture, plane)).map(|i| h[i] * h[i]).collect();
        let count = T::of(terms.len() as f64);
        let rms = (sum(terms) / count).sqrt();
        y.extend(s.raw(picture, plane).map(|i| T::rounded(level) * h[i] / rms));
    }
    y
}

/// The gradient of [`scale`] by h. `detached` plants an RMS that is taken for a constant.
pub fn scale_backward<T: Real>(h: &[T], dy: &[T], level: f64, s: Planes, detached: bool) -> Vec<T> {
    let mut dh = vec![T::zero(); h.len()];
    for (number, (picture, plane)) in s.all().enumerate() {
        let of: Vec<usize> = s.raw(picture, plane).collect();
        let dy = &dy[number * s.area..(number + 1) * s.area];
        let n = T::of(s.area as f64);
        let square = sum(of.iter().map(|i| h[*i] * h[*i])) / n;
        let product = sum(of.iter().zip(dy).map(|(i, d)| h[*i] * *d)) / n;
        let r = T::of(1.0) / square.sqrt();
        for (i, d) in of.iter().zip(dy) {
            let along = if detached { T::zero() } else { h[*i] * r * (product * r) };
            dh[*i] = T::rounded(level) * r * (*d - along);
        }
    }
    dh
}

/// Each picture x [pictures, colours, area] drawn `draws` times: x + mean + |spread|·ε; ε repeats after its rows.
pub fn add<T: Real>(x: &[T], planes: &[T], eps: &[T], draws: usize, s: Planes, signed: bool) -> Vec<T> {
    let one = s.planes / 2 * s.area;
    let every = eps.len() / one;
    let mut y = Vec::new();
    for row in 0..s.pictures * draws {
        let picture = row / draws;
        y.extend((0..one).map(|i| {
            let spread = planes[(2 * picture + 1) * one + i];
            let spread = if signed { spread } else { spread.abs() };
            x[picture * one + i] + spread * eps[row % every * one + i] + planes[2 * picture * one + i]
        }));
    }
    y
}

/// The gradient of [`add`] by the planes; |0| has slope 0.
pub fn add_backward<T: Real>(planes: &[T], eps: &[T], dy: &[T], draws: usize, s: Planes) -> Vec<T> {
    let one = s.planes / 2 * s.area;
    let every = eps.len() / one;
    let mut d = vec![T::zero(); planes.len()];
    for picture in 0..s.pictures {
        for i in 0..one {
            let rows = || (0..draws).map(|draw| picture * draws + draw);
            d[2 * picture * one + i] = sum(rows().map(|row| dy[row * one + i]));
            let spread = planes[(2 * picture + 1) * one + i].value();
            let sign = T::of(if spread == 0.0 { 0.0 } else { spread.signum() });
            d[(2 * picture + 1) * one + i] =
                sign * sum(rows().map(|row| dy[row * one + i] * eps[row % every * one + i]));
        }
    }
    d
}
