//! Twins of `dino` and `clipping`, and of `optim`'s running mean.

use super::real::{Real, dot, log_sum_exp, sum};
use super::rowwise::softmax;

/// A batch of views, view after view, of which the first `globals` are the teacher's too.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub pictures: usize,
    pub globals: usize,
    pub all: usize,
    pub width: usize,
}

impl Batch {
    /// Pairs of a teacher's view and another one.
    fn pairs(self) -> f64 {
        (self.globals * (self.all - 1)) as f64
    }

    /// The teacher's views that a student's row answers to; with `own` also its own view, a planted error.
    fn partners(self, row: usize, own: bool) -> impl Iterator<Item = usize> {
        let (view, picture) = (row / self.pictures, row % self.pictures);
        (0..self.globals).filter(move |q| own || *q != view).map(move |q| q * self.pictures + picture)
    }

    /// softmax((x − centre)·sharp).
    pub fn teacher<T: Real>(self, x: &[T], centre: &[T], sharp: f32) -> Vec<T> {
        let moved: Vec<T> =
            x.iter().enumerate().map(|(i, v)| (*v - centre[i % self.width]) * T::of(f64::from(sharp))).collect();
        softmax(&moved, self.width)
    }

    /// Row by row, such that their mean is the loss.
    pub fn losses<T: Real>(self, x: &[T], teacher: &[T], sharp: f32, own: bool) -> Vec<T> {
        let weight = T::rounded(self.all as f64 / self.pairs());
        let rows = x.chunks(self.width).enumerate();
        rows.map(|(row, x)| {
            let x: Vec<T> = x.iter().map(|v| *v * T::of(f64::from(sharp))).collect();
            let below = log_sum_exp(&x);
            let of =
                |q: usize| sum(teacher[q * self.width..][..self.width].iter().zip(&x).map(|(t, x)| *t * (below - *x)));
            weight * sum(self.partners(row, own).map(of))
        })
        .collect()
    }

    /// The loss.
    pub fn loss<T: Real>(self, x: &[T], teacher: &[T], sharp: f32) -> T {
        let losses = self.losses(x, teacher, sharp, false);
        let rows = T::of(losses.len() as f64);
        sum(losses) / rows
    }

    /// Its gradient by the student's logits.
    pub fn backward<T: Real>(self, x: &[T], teacher: &[T], sharp: f32, own: bool) -> Vec<T> {
        let s = T::of(f64::from(sharp));
        let step = T::rounded(1.0 / (self.pairs() * self.pictures as f64));
        let scaled: Vec<T> = x.iter().map(|v| *v * s).collect();
        let said = softmax(&scaled, self.width);
        let at = |(i, p): (usize, &T)| {
            let terms: Vec<T> =
                self.partners(i / self.width, own).map(|q| *p - teacher[q * self.width + i % self.width]).collect();
            step * s * sum(terms)
        };
        said.iter().enumerate().map(at).collect()
    }
}

/// A gradient cut to the length `most`, as PyTorch does.
pub fn clipped<T: Real>(grad: &[T], most: f32) -> Vec<T> {
    let factor = T::of(f64::from(most)) / (dot(grad, grad).sqrt() + T::rounded(1e-6));
    match factor.value() < 1.0 {
        true => grad.iter().map(|g| *g * factor).collect(),
        false => grad.to_vec(),
    }
}

/// A running mean.
pub fn blended<T: Real>(w: &[T], x: &[T], share: f32) -> Vec<T> {
    w.iter().zip(x).map(|(w, x)| *w + T::of(f64::from(share)) * (*x - *w)).collect()
}
