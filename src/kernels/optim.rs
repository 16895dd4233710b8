//! Optimizer steps (`shaders/optim.wgsl`).

use super::expect;
use super::texts::shader;
use crate::Result;
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};

static SHADER: Shader = shader("optim");

pub(super) fn variants() -> Vec<Variant> {
    ["sgd", "adamw", "accumulate", "blend"].map(|entry| Variant::new(&SHADER, entry, &[])).to_vec()
}

/// One SGD step on `w` in place, with momentum and weight decay as PyTorch. `hyper` `[4]` holds learning rate,
/// momentum, weight decay and nothing; `velocity` has w's shape and is zero before the first step.
///
/// # Errors
/// Shapes that differ.
pub fn sgd(rec: &mut Recorder, hyper: &Tensor, grad: &Tensor, velocity: &Tensor, w: &Tensor) -> Result<()> {
    expect("sgd", "hyper", hyper, &[4])?;
    expect("sgd", "grad", grad, w.shape())?;
    expect("sgd", "velocity", velocity, w.shape())?;
    record(rec, "sgd", w.len(), &[hyper, grad, velocity, w], (6.0, 20.0))
}

/// AdamW's settings, named as PyTorch names them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the running mean of gradients and of their squares.
    pub betas: (f64, f64),
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Share of the weights that is taken away at a rate of 1.
    pub weight_decay: f64,
}

impl AdamW {
    /// PyTorch's defaults at rate `lr`.
    pub fn new(lr: f64) -> AdamW {
        AdamW { lr, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01 }
    }

    /// What the kernel reads for step `step`, the first being 1.
    pub fn hyper(&self, step: u32) -> [f32; 8] {
        let (b1, b2) = self.betas;
        let t = f64::from(step);
        [
            1.0 - self.lr * self.weight_decay,
            self.lr / (1.0 - b1.powf(t)),
            b1,
            1.0 - b1,
            b2,
            1.0 - b2,
            1.0 / (1.0 - b2.powf(t)).sqrt(),
            self.eps,
        ]
        .map(|v| v as f32)
    }
}

/// One AdamW step on `w` in place. `hyper` `[8]` is [`AdamW::hyper`]; `moments` `[2, len of w]` is zero before the first
/// step.
///
/// # Errors
/// Shapes that differ.
pub fn adamw(rec: &mut Recorder, hyper: &Tensor, grad: &Tensor, moments: &Tensor, w: &Tensor) -> Result<()> {
    expect("adamw", "hyper", hyper, &[8])?;
    expect("adamw", "grad", grad, w.shape())?;
    expect("adamw", "moments", moments, &[2, w.len()])?;
    record(rec, "adamw", w.len(), &[hyper, grad, moments, w], (14.0, 28.0))
}

/// sum ← `keep`·sum + `share`·grad in place, with `hyper` `[2]` holding keep and share: gradients of a batch that is taken
/// in parts. A `keep` of 0 starts a new sum, whatever was in it.
///
/// # Errors
/// Shapes that differ.
pub fn accumulate(rec: &mut Recorder, hyper: &Tensor, grad: &Tensor, sum: &Tensor) -> Result<()> {
    expect("accumulate", "hyper", hyper, &[2])?;
    expect("accumulate", "grad", grad, sum.shape())?;
    record(rec, "accumulate", sum.len(), &[hyper, grad, sum], (3.0, 12.0))
}

/// w ← w + share·(x − w) in place, with `hyper` `[1]` holding share: a running mean of x that forgets (1 − share is its
/// momentum). A w that equals x stays as it is.
///
/// # Errors
/// Shapes that differ.
pub fn blend(rec: &mut Recorder, hyper: &Tensor, x: &Tensor, w: &Tensor) -> Result<()> {
    expect("blend", "hyper", hyper, &[1])?;
    expect("blend", "x", x, w.shape())?;
    record(rec, "blend", w.len(), &[hyper, x, w], (3.0, 12.0))
}

fn record(
    rec: &mut Recorder,
    entry: &'static str,
    n: usize,
    bindings: &[&Tensor],
    (flops, bytes): (f64, f64),
) -> Result<()> {
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, entry, &[]),
        label: entry,
        params: bytemuck::bytes_of(&[n as u32]),
        bindings,
        grid: Grid::cover(n, 64),
        flops: flops * n as f64,
        bytes: bytes * n as f64,
    })
}
