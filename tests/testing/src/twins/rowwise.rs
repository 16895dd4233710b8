//! Twins of `layernorm`, `normalize`, `softmax`, `loss` and `optim`. All rows are `width` long.

use super::real::{Real, dot, log_sum_exp, sum};

/// What may be wrong with a LayerNorm, to be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// eps left out.
    NoEps,
    /// The variance over width − 1.
    Sample,
}

/// x̂ and 1/σ of one row.
fn standard<T: Real>(x: &[T], eps: f32, flaw: Flaw) -> (T, Vec<T>, T) {
    let n = T::of(x.len() as f64);
    let mean = sum(x.iter().copied()) / n;
    let centred: Vec<T> = x.iter().map(|v| *v - mean).collect();
    let squares = dot(&centred, &centred);
    let variance = squares / if flaw == Flaw::Sample { n - T::of(1.0) } else { n };
    let eps = if flaw == Flaw::NoEps { T::zero() } else { T::of(f64::from(eps)) };
    let rstd = T::of(1.0) / (variance + eps).sqrt();
    let hat = centred.iter().map(|c| *c * rstd).collect();
    (mean, hat, rstd)
}

/// y and, row by row, mean and 1/σ.
pub fn layernorm<T: Real>(x: &[T], gain: &[T], shift: &[T], eps: f32, flaw: Flaw) -> (Vec<T>, Vec<T>) {
    let (mut y, mut stats) = (Vec::new(), Vec::new());
    for row in x.chunks(gain.len()) {
        let (mean, hat, rstd) = standard(row, eps, flaw);
        y.extend(hat.iter().zip(gain).zip(shift).map(|((h, g), s)| *h * *g + *s));
        stats.extend([mean, rstd]);
    }
    (y, stats)
}

/// dx = J·dy with the full Jacobian ∂yᵢ/∂xⱼ = gainᵢ·rstd·(δᵢⱼ − 1/n − x̂ᵢx̂ⱼ/n), plus `base`.
pub fn layernorm_backward<T: Real>(x: &[T], gain: &[T], dy: &[T], eps: f32, base: Option<&[T]>) -> Vec<T> {
    let width = gain.len();
    let n = T::of(width as f64);
    let mut dx = Vec::new();
    for (r, (row, d)) in x.chunks(width).zip(dy.chunks(width)).enumerate() {
        let (_, hat, rstd) = standard(row, eps, Flaw::None);
        for j in 0..width {
            let terms = (0..width).map(|i| {
                let flat = T::of(if i == j { 1.0 } else { 0.0 }) - (T::of(1.0) + hat[i] * hat[j]) / n;
                d[i] * gain[i] * rstd * flat
            });
            let v = sum(terms);
            dx.push(base.map_or(v, |b| v + b[r * width + j]));
        }
    }
    dx
}

/// The least length that a row is divided by.
const LEAST: f64 = 1e-12;

/// y and the rows' lengths (held at 1e-12 or more).
pub fn normalize<T: Real>(x: &[T], width: usize) -> (Vec<T>, Vec<T>) {
    let (mut y, mut norms) = (Vec::new(), Vec::new());
    for row in x.chunks(width) {
        let norm = dot(row, row).sqrt().larger(T::rounded(LEAST));
        y.extend(row.iter().map(|v| *v / norm));
        norms.push(norm);
    }
    (y, norms)
}

/// dx; `tangent` off is the planted error of forgetting that the length changes too.
pub fn normalize_backward<T: Real>(x: &[T], dy: &[T], width: usize, tangent: bool) -> Vec<T> {
    let mut dx = Vec::new();
    for (row, d) in x.chunks(width).zip(dy.chunks(width)) {
        let square = dot(row, row);
        let norm = square.sqrt().larger(T::rounded(LEAST));
        // d(x/‖x‖) = dx/‖x‖ − x·(x·dx)/‖x‖³
        let along = if tangent && square.value() > LEAST * LEAST { dot(row, d) / square } else { T::zero() };
        dx.extend(row.iter().zip(d).map(|(v, d)| (*d - *v * along) / norm));
    }
    dx
}

pub fn softmax<T: Real>(x: &[T], width: usize) -> Vec<T> {
    x.chunks(width)
        .flat_map(|row| {
            let top = row.iter().copied().fold(row[0], T::larger);
            let e: Vec<T> = row.iter().map(|v| (*v - top).exp()).collect();
            let total = sum(e.iter().copied());
            e.into_iter().map(move |v| v / total)
        })
        .collect()
}

/// dx from the softmax `y`: Jacobian ∂yᵢ/∂xⱼ = yᵢ(δᵢⱼ − yⱼ).
pub fn softmax_backward<T: Real>(y: &[T], dy: &[T], width: usize) -> Vec<T> {
    let mut dx = Vec::new();
    for (row, d) in y.chunks(width).zip(dy.chunks(width)) {
        let mean = dot(row, d);
        dx.extend(row.iter().zip(d).map(|(y, d)| *y * (*d - mean)));
    }
    dx
}

/// −log softmax(x)[label], row by row.
pub fn cross_entropy<T: Real>(x: &[T], labels: &[u32], classes: usize) -> Vec<T> {
    x.chunks(classes).zip(labels).map(|(row, label)| log_sum_exp(row) - row[*label as usize]).collect()
}

/// Gradient by the logits of the mean over rows.
pub fn cross_entropy_backward<T: Real>(x: &[T], labels: &[u32], classes: usize) -> Vec<T> {
    let rows = T::of(labels.len() as f64);
    let mut dx = softmax(x, classes);
    for (row, label) in dx.chunks_mut(classes).zip(labels) {
        row[*label as usize] = row[*label as usize] - T::of(1.0);
        row.iter_mut().for_each(|v| *v = *v / rows);
    }
    dx
}

/// Learning rate, momentum and weight decay.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    pub lr: f32,
    pub momentum: f32,
    pub decay: f32,
}

/// One step of PyTorch's SGD (without dampening or Nesterov) on `w` and `velocity` in place.
pub fn sgd_step<T: Real>(o: Sgd, grad: &[T], velocity: &mut [T], w: &mut [T]) {
    let [lr, momentum, decay] = [o.lr, o.momentum, o.decay].map(|v| T::of(f64::from(v)));
    for ((g, v), w) in grad.iter().zip(velocity).zip(w) {
        *v = momentum * *v + *g + decay * *w;
        *w = *w - lr * *v;
    }
}

/// AdamW's settings and the number of the step.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    pub lr: f64,
    pub betas: (f64, f64),
    pub eps: f64,
    pub decay: f64,
    pub step: i32,
}

/// One step of PyTorch's AdamW on `w` and the running means of gradients and of their squares, in place.
pub fn adamw_step<T: Real>(o: Adam, grad: &[T], mean: &mut [T], square: &mut [T], w: &mut [T]) {
    let r = T::rounded;
    let (b1, b2) = o.betas;
    let step = r(o.lr / (1.0 - b1.powi(o.step)));
    let root = r((1.0 - b2.powi(o.step)).sqrt());
    for (((g, m), v), w) in grad.iter().zip(mean).zip(square).zip(w) {
        *m = r(b1) * *m + r(1.0 - b1) * *g;
        *v = r(b2) * *v + r(1.0 - b2) * *g * *g;
        *w = *w * r(1.0 - o.lr * o.decay) - step * *m / (v.sqrt() / root + r(o.eps));
    }
}
