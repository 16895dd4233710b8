//! Plain-Rust twins of all kernels, forward and backward, written from the mathematics, and what compares with them.
//!
//! A twin is generic over [`Real`]. With `f64` it is proven by finite differences ([`check_gradient`]); with
//! [`Tracked`] it also carries, through every operation, the error that the same formula has in f32, so that each
//! element is compared within a bound derived for it, not within a constant picked for the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

pub mod attention;
pub mod batchnorm;
pub mod cache;
pub mod conv;
pub mod dino;
pub mod divergence;
pub mod linear;
pub mod nearest;
pub mod noise;
pub mod planes;
pub mod real;
pub mod rowwise;
pub mod tokens;
pub mod tower;

pub use real::{Real, Tracked};

/// Deterministic pseudo-random inputs (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.word() % n as u64) as usize
    }

    /// Uniform in [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f32 {
        (low + (high - low) * (self.word() >> 11) as f64 / (1u64 << 53) as f64) as f32
    }

    /// `n` numbers, uniform in [−1, 1).
    pub fn vector(&mut self, n: usize) -> Vec<f32> {
        self.vector_in(n, -1.0, 1.0)
    }

    pub fn vector_in(&mut self, n: usize, low: f64, high: f64) -> Vec<f32> {
        (0..n).map(|_| self.uniform(low, high)).collect()
    }

    /// Rows of length 1.
    pub fn unit_rows(&mut self, rows: usize, width: usize) -> Vec<f32> {
        let mut x = self.vector(rows * width);
        for row in x.chunks_mut(width) {
            let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        }
        x
    }

    /// Labels below `classes`.
    pub fn labels(&mut self, n: usize, classes: usize) -> Vec<u32> {
        (0..n).map(|_| self.below(classes) as u32).collect()
    }
}

/// The same f32 inputs for a twin.
pub fn widen<T: Real>(x: &[f32]) -> Vec<T> {
    x.iter().map(|v| T::of(f64::from(*v))).collect()
}

/// The values of tracked numbers.
pub fn values(x: &[Tracked]) -> Vec<f64> {
    x.iter().map(|v| v.value).collect()
}

/// How many standard deviations of the modelled rounding error a kernel may be off.
///
/// The model takes rounding errors as independent, which gives √K growth over a reduction of K terms. Where they are
/// not (one rounded mean taken from a whole row), up to √K more is possible; this factor is the room for it.
const GAMMA: f64 = 8.0;

/// The bound for each element: `GAMMA·σ + u·|want| + m`, where σ is the standard deviation that [`Tracked`] carried
/// through the twin's formula (for a dot product of length K it is about √K·u·Σ|aᵢbᵢ|/√K…√K·u·|Σaᵢbᵢ|, depending on
/// cancellation), u = 2⁻²⁴ is the final rounding to f32 and m the smallest normal f32, below which GPUs flush to zero.
pub fn tolerance(want: &[Tracked]) -> Vec<f64> {
    want.iter().map(|v| GAMMA * v.variance.sqrt() + real::U * v.value.abs() + f64::from(f32::MIN_POSITIVE)).collect()
}

/// The first element outside its bound, in words.
pub fn mismatch(got: &[f32], want: &[f64], tol: &[f64]) -> Option<String> {
    if got.len() != want.len() || want.len() != tol.len() {
        return Some(format!("{} elements, expected {} within {} bounds", got.len(), want.len(), tol.len()));
    }
    got.iter().zip(want).zip(tol).enumerate().find_map(|(i, ((g, w), t))| {
        let off = (f64::from(*g) - w).abs();
        // A NaN compares as false, so it is a mismatch.
        let close = off <= *t;
        (!close)
            .then(|| format!("element {i} of {}: got {g:e}, expected {w:e}: off by {off:e}, bound {t:e}", want.len()))
    })
}

/// Fails unless `got` is `want` within `tol`, and unless the same comparison refuses planted errors: single elements
/// that are off by twenty bounds, a missing element, and a NaN.
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tol: &[f64]) {
    if let Some(error) = mismatch(got, want, tol) {
        panic!("{what}: {error}");
    }
    let n = want.len();
    let mut wrong = want.to_vec();
    for i in [0, n / 3, n / 2, n - 1] {
        wrong[i] = want[i] + 20.0 * tol[i];
        assert!(mismatch(got, &wrong, tol).is_some(), "{what}: an error planted at {i} passed");
        wrong[i] = want[i];
    }
    assert!(mismatch(&got[1..], want, tol).is_some(), "{what}: a missing element passed");
    let mut broken = got.to_vec();
    broken[n / 2] = f32::NAN;
    assert!(mismatch(&broken, want, tol).is_some(), "{what}: a NaN passed");
}

fn rms(x: impl Iterator<Item = f64>, n: usize) -> f64 {
    (x.map(|v| v * v).sum::<f64>() / n.max(1) as f64).sqrt()
}

/// [`assert_close`] within the bounds that the twin carried. The bounds must mean something: all together they stay
/// below a hundredth of the values.
pub fn check(what: &str, got: &[f32], want: &[Tracked]) {
    let tol = tolerance(want);
    let want = values(want);
    let (bound, size) = (rms(tol.iter().copied(), tol.len()), rms(want.iter().copied(), want.len()));
    assert!(bound <= 0.01 * size || size == 0.0 || bound < 1e-5, "{what}: bounds of {bound:e} for values of {size:e}");
    assert_close(what, got, &want, &tol);
}

/// Fails unless the comparison tells `got` from a twin with an error in its mathematics.
pub fn check_rejects(what: &str, error: &str, got: &[f32], wrong: &[Tracked]) {
    assert_eq!(got.len(), wrong.len(), "{what}: the planted error '{error}' must be of the same size");
    assert!(mismatch(got, &values(wrong), &tolerance(wrong)).is_some(), "{what}: the planted error '{error}' passed");
}

/// The gradient at `x` of Σ dy·f(x) by central differences in f64.
pub fn slopes(what: &str, f: impl Fn(&[f64]) -> Vec<f64>, x: &[f64], dy: &[f64]) -> Vec<f64> {
    (0..x.len())
        .map(|i| {
            let h = 1e-4 * x[i].abs().max(1.0);
            let at = |delta: f64| {
                let mut moved = x.to_vec();
                moved[i] += delta;
                let y = f(&moved);
                assert_eq!(y.len(), dy.len(), "{what}: dy");
                y.iter().zip(dy).map(|(y, d)| y * d).sum::<f64>()
            };
            // Five points: the error falls with h⁴, so that h can stay large against the rounding of f.
            (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h)
        })
        .collect()
}

/// Fails unless `dx` is the gradient at `x` of Σ dy·f(x) by central differences in f64.
pub fn check_gradient(what: &str, f: impl Fn(&[f64]) -> Vec<f64>, x: &[f64], dy: &[f64], dx: &[f64]) {
    let slopes = slopes(what, f, x, dy);
    // h⁴ = 1e-16 and ε/h = 2e-12 both lie far below this; the factor is for derivatives that are large.
    let tol = 1e-8 * slopes.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
    let off =
        |dx: &[f64]| dx.len() != x.len() || dx.iter().zip(&slopes).any(|(a, b)| a.is_nan() || (a - b).abs() > tol);
    assert!(!off(dx), "{what}: gradient {dx:?}, by differences {slopes:?}");
    // The check itself must see an error of a millionth, and a gradient of the wrong scale.
    let largest = (0..dx.len()).max_by(|a, b| dx[*a].abs().total_cmp(&dx[*b].abs())).unwrap();
    let mut wrong = dx.to_vec();
    wrong[largest] *= 1.0 + 1e-6;
    wrong[largest] += 1e-8;
    assert!(off(&wrong), "{what}: an error planted in the gradient passed");
}
