//! Learning-rate schedules.

use std::f64::consts::PI;

/// PiNI's rate by epoch (its authors' trainer): 1e-5 in epoch 0, then a cosine from `top` towards 0,
/// `top`/2·(1 + cos(π(e−1)/epochs)).
pub fn pini(epoch: usize, epochs: usize, top: f64) -> f64 {
    match epoch {
        0 => 1e-5,
        e => cosine(e - 1, epochs, top),
    }
}

/// A cosine from `top` to 0 over `total` steps: `top`/2·(1 + cos(π·step/total)); Tip-Adapter-F's rate by step.
pub fn cosine(step: usize, total: usize, top: f64) -> f64 {
    0.5 * top * (1.0 + (PI * step as f64 / total.max(1) as f64).cos())
}

/// A cosine from `from` in the first of `total` steps to `to` right after the last: DINO's weight decay and momentum.
pub fn between(step: usize, total: usize, (from, to): (f64, f64)) -> f64 {
    to + cosine(step, total, from - to)
}

/// DINO's rate: up from 0 in a straight line over the first `warm` steps, the last of which has all of `top`, then as
/// [`between`] `top` and `last` over the rest of `total`.
pub fn warmed(step: usize, (warm, total): (usize, usize), (top, last): (f64, f64)) -> f64 {
    match step {
        _ if step >= warm => between(step - warm, total.saturating_sub(warm), (top, last)),
        _ if warm == 1 => 0.0,
        _ => top * step as f64 / (warm - 1) as f64,
    }
}

/// DINO's teacher's temperature by epoch: from `first` to `last` in a straight line over the first `warm` epochs, then `last`.
pub fn temperature(epoch: usize, warm: usize, (first, last): (f64, f64)) -> f64 {
    match epoch {
        _ if epoch >= warm => last,
        _ if warm == 1 => first,
        _ => first + (last - first) * epoch as f64 / (warm - 1) as f64,
    }
}
