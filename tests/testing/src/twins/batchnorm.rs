//! Twin of `batchnorm`: rows of `channels` numbers, each channel normalised by its own mean and variance.

use super::real::{Real, sum};

/// What may be wrong, to be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// The variance over n − 1.
    Sample,
    /// Statistics taken for constants in the gradient.
    Detached,
}

const EPS: f64 = 1e-5;

/// Mean and variance (over n) of each channel.
pub fn moments<T: Real>(x: &[T], channels: usize) -> (Vec<T>, Vec<T>) {
    let n = T::of((x.len() / channels) as f64);
    let of = |c: usize| x.iter().skip(c).step_by(channels).copied();
    let mean: Vec<T> = (0..channels).map(|c| sum(of(c)) / n).collect();
    let variance = (0..channels).map(|c| sum(of(c).map(|v| (v - mean[c]) * (v - mean[c]))) / n).collect();
    (mean, variance)
}

/// Mean and 1/√(variance + eps) of each channel, one row after the other.
pub fn statistics<T: Real>(x: &[T], channels: usize, flaw: Flaw) -> Vec<T> {
    let n = (x.len() / channels) as f64;
    let (mean, variance) = moments(x, channels);
    let rstd = variance.iter().map(|v| {
        let v = if flaw == Flaw::Sample { *v * T::of(n) / T::of(n - 1.0) } else { *v };
        T::of(1.0) / (v + T::rounded(EPS)).sqrt()
    });
    mean.iter().copied().chain(rstd).collect()
}

/// Running mean and variance after a step: r ← 0.9·r + 0.1·new, the variance over n − 1.
pub fn running<T: Real>(x: &[T], before: &[T]) -> Vec<T> {
    let channels = before.len() / 2;
    let n = (x.len() / channels) as f64;
    let (mean, variance) = moments(x, channels);
    let unbiased = variance.iter().map(|v| *v * T::of(n) / T::of((n - 1.0).max(1.0)));
    let new = mean.iter().copied().chain(unbiased);
    before.iter().zip(new).map(|(b, v)| T::rounded(0.9) * *b + T::rounded(0.1) * v).collect()
}

/// (x − mean)·rstd·gain + shift, plus `base`, with what is negative made 0 where `relu`.
pub fn apply<T: Real>(x: &[T], stats: &[T], (gain, shift): (&[T], &[T]), base: Option<&[T]>, relu: bool) -> Vec<T> {
    let channels = gain.len();
    let value = |(i, v): (usize, &T)| {
        let c = i % channels;
        let y = (*v - stats[c]) * stats[channels + c] * gain[c] + shift[c];
        let y = base.map_or(y, |base| y + base[i]);
        if relu { y.larger(T::zero()) } else { y }
    };
    x.iter().enumerate().map(value).collect()
}

/// The whole in training.
pub fn forward<T: Real>(x: &[T], gain: &[T], shift: &[T]) -> Vec<T> {
    apply(x, &statistics(x, gain.len(), Flaw::None), (gain, shift), None, false)
}

/// Gradients by x, gain and shift, with the full Jacobian of each channel:
/// ∂yᵢ/∂xⱼ = gain·rstd·(δᵢⱼ − 1/n − x̂ᵢx̂ⱼ/n).
pub fn backward<T: Real>(x: &[T], gain: &[T], dy: &[T], flaw: Flaw) -> (Vec<T>, Vec<T>, Vec<T>) {
    let channels = gain.len();
    let rows = x.len() / channels;
    let stats = statistics(x, channels, Flaw::None);
    let (mut dx, mut dgain, mut dshift) = (vec![T::zero(); x.len()], Vec::new(), Vec::new());
    let n = T::of(rows as f64);
    for c in 0..channels {
        let at = |row: usize| row * channels + c;
        let hat: Vec<T> = (0..rows).map(|r| (x[at(r)] - stats[c]) * stats[channels + c]).collect();
        let plain = sum((0..rows).map(|r| dy[at(r)]));
        let along = sum((0..rows).map(|r| dy[at(r)] * hat[r]));
        for r in 0..rows {
            let flat = if flaw == Flaw::Detached { T::zero() } else { plain / n + hat[r] * along / n };
            dx[at(r)] = gain[c] * stats[channels + c] * (dy[at(r)] - flat);
        }
        dgain.push(along);
        dshift.push(plain);
    }
    (dx, dgain, dshift)
}
