//! The bottleneck of the intra-modal-overlap paper: a trainable branch beside a frozen MLP.

use super::{LinearGrads, TrainableLinear};
use crate::Result;
use crate::gpu::{Recorder, Tensor};
use crate::kernels::activation::{self, Activation};
use crate::kernels::gemm::{Epilogue, Layout, matmul};
use crate::kernels::{dropout, reduce};

/// y = base + s·up(relu(down(x))), with x the residual stream after attention (not ln2 of it) and base the block's own
/// output (arXiv 2409.11338).
#[derive(Clone, Debug)]
pub struct Bottleneck {
    /// `[bottleneck, width]`.
    pub down: TrainableLinear,
    /// `[width, bottleneck]`.
    pub up: TrainableLinear,
    /// s.
    pub scale: f32,
}

/// What [`Bottleneck::backward`] needs besides the branch's input: the branch before and after its ReLU.
pub struct Saved {
    pre: Tensor,
    hidden: Tensor,
    mask: Option<Tensor>,
}

/// Gradients of a [`Bottleneck`].
pub struct BottleneckGrads {
    /// Of `down`.
    pub down: LinearGrads,
    /// Of `up`.
    pub up: LinearGrads,
}

impl BottleneckGrads {
    /// In the order of a bottleneck's parameters: weight and bias of `down`, then of `up`.
    pub fn tensors(self) -> [Tensor; 4] {
        [self.down.weight, self.down.bias, self.up.weight, self.up.bias]
    }
}

impl Bottleneck {
    /// Inference: x and base `[rows, width]` → `[rows, width]`.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(&self, rec: &mut Recorder, x: &Tensor, base: Option<&Tensor>) -> Result<Tensor> {
        let relu = Epilogue { bias: Some(&self.down.bias), activation: Some(Activation::Relu), ..Epilogue::default() };
        let hidden = matmul(rec, Layout::Nt, x, &self.down.weight, &relu)?;
        self.raise(rec, &hidden, base)
    }

    /// Training: as [`Bottleneck::forward`], with the hidden layer multiplied by a dropout mask where given.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward_saved(
        &self,
        rec: &mut Recorder,
        x: &Tensor,
        base: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<(Tensor, Saved)> {
        let pre = self.down.forward(rec, x)?;
        let hidden = match mask {
            Some(mask) => dropout::relu(rec, &pre, mask)?,
            None => activation::forward(rec, Activation::Relu, &pre)?,
        };
        let y = self.raise(rec, &hidden, Some(base))?;
        Ok((y, Saved { pre, hidden, mask: mask.cloned() }))
    }

    /// s·(hidden·upᵀ + b) + base. The epilogue's factor is on the product only, so the bias gets its own.
    fn raise(&self, rec: &mut Recorder, hidden: &Tensor, base: Option<&Tensor>) -> Result<Tensor> {
        let bias = reduce::scaled(rec, &self.up.bias, self.scale)?;
        let epilogue = Epilogue { alpha: self.scale, bias: Some(&bias), residual: base, activation: None, half: false };
        matmul(rec, Layout::Nt, hidden, &self.up.weight, &epilogue)
    }

    /// Gradients from x and dY; also what x gets back through the branch, plus `dx`, where `dx` is given: the first
    /// block of a tower has nothing below that trains, and leaves it out.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward(
        &self,
        rec: &mut Recorder,
        x: &Tensor,
        saved: &Saved,
        dy: &Tensor,
        dx: Option<&Tensor>,
    ) -> Result<(BottleneckGrads, Option<Tensor>)> {
        let scaled = Epilogue { alpha: self.scale, ..Epilogue::default() };
        let up = LinearGrads {
            weight: matmul(rec, Layout::Tn, dy, &saved.hidden, &scaled)?,
            bias: reduce::sum_rows_scaled(rec, dy, self.scale)?,
        };
        let dhidden = matmul(rec, Layout::Nn, dy, &self.up.weight, &scaled)?;
        let dpre = match &saved.mask {
            Some(mask) => dropout::relu_backward(rec, &saved.pre, &dhidden, mask)?,
            None => activation::backward(rec, Activation::Relu, &saved.pre, &dhidden)?,
        };
        let down = self.down.backward_weight(rec, x, &dpre)?;
        let dx = dx.map(|dx| self.down.backward_input(rec, &dpre, Some(dx))).transpose()?;
        Ok((BottleneckGrads { down, up }, dx))
    }
}
