//! QuickGELU, GELU by erf and by tanh, and ReLU (`shaders/activation.wgsl`).

use super::expect;
use super::texts::shader;
use crate::Result;
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};

/// An activation. That of a tower's MLPs comes from the checkpoint, never from a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x·σ(1.702x): OpenAI, MetaCLIP, DFN.
    QuickGelu,
    /// x·Φ(x), exact: LAION-2B, DataComp.
    Gelu,
    /// x·½(1 + tanh(√(2/π)(x + 0.044715x³))), the approximation of [`Activation::Gelu`]: SigLIP.
    GeluTanh,
    /// max(x, 0), with slope 0 at 0: bottlenecks.
    Relu,
}

impl Activation {
    /// All activations.
    pub const ALL: [Activation; 4] = [Activation::QuickGelu, Activation::Gelu, Activation::Relu, Activation::GeluTanh];

    /// The number that shaders know it by.
    pub(super) fn code(self) -> u32 {
        match self {
            Activation::QuickGelu => 1,
            Activation::Gelu => 2,
            Activation::Relu => 3,
            Activation::GeluTanh => 4,
        }
    }
}

static SHADER: Shader = shader("activation");

pub(super) fn variants() -> Vec<Variant> {
    Activation::ALL
        .iter()
        .flat_map(|a| ["forward", "backward"].map(|e| Variant::new(&SHADER, e, &[("ACT", a.code())])))
        .collect()
}

/// y = act(x), elementwise.
///
/// # Errors
/// Out of memory.
pub fn forward(rec: &mut Recorder, activation: Activation, x: &Tensor) -> Result<Tensor> {
    record(rec, "forward", "activation", activation, &[x])
}

/// dx = dy·act′(x); `x` is the value before the activation.
///
/// # Errors
/// Shapes that differ; out of memory.
pub fn backward(rec: &mut Recorder, activation: Activation, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    expect("activation", "dy", dy, x.shape())?;
    record(rec, "backward", "activation dx", activation, &[x, dy])
}

fn record(
    rec: &mut Recorder,
    entry: &'static str,
    label: &'static str,
    activation: Activation,
    from: &[&Tensor],
) -> Result<Tensor> {
    let x = from[0];
    let y = rec.temp("activation", x.shape())?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, entry, &[("ACT", activation.code())]),
        label,
        params: bytemuck::bytes_of(&[x.len() as u32]),
        bindings: &[from, &[&y]].concat(),
        grid: Grid::cover(x.len(), 64),
        flops: 8.0 * x.len() as f64,
        bytes: 8.0 * x.len() as f64,
    })?;
    Ok(y)
}
