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
