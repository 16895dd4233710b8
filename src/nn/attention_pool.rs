//! Attention pooling with a query of its own: SigLIP's head (arXiv 2303.15343), that of PE-Core and of timm's `map` pool.

use super::{FrozenLinear, LayerNorm};
use crate::Result;
use crate::gpu::{Recorder, Tensor};
use crate::kernels::activation::{self, Activation};
use crate::kernels::gemm::Epilogue;
use crate::kernels::pooling::{self, Pooled};

/// y = z + mlp(norm z) with z = out(attention of the query to a picture's tokens); frozen.
///
/// The query is the same for all pictures, and so is what a head's score multiplies a token by: keys are folded into it when
/// the layer is loaded (a key's bias adds the same to all scores of a head, which softmax does not see).
#[derive(Clone, Debug)]
pub struct AttentionPool {
    /// Values, and behind them a score per head: `[width + heads, width]`.
    pub values: FrozenLinear,
    /// Attention heads.
    pub heads: usize,
    /// `[width, width]`.
    pub out: FrozenLinear,
    /// Before the MLP.
    pub norm: LayerNorm,
    /// `[mlp, width]`.
    pub up: FrozenLinear,
    /// `[width, mlp]`.
    pub down: FrozenLinear,
    /// Of the MLP.
    pub activation: Activation,
}

/// What [`AttentionPool::backward`] needs.
pub struct Saved {
    values: Tensor,
    pooled: Pooled,
    mid: Tensor,
    stats: Tensor,
    up: Tensor,
}

impl AttentionPool {
    /// x `[batch·tokens, width]` → `[batch, width]`, and what backward needs.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward_saved(&self, rec: &mut Recorder, x: &Tensor, tokens: usize) -> Result<(Tensor, Saved)> {
        let values = self.values.forward(rec, x, &Epilogue::default())?;
        let pooled = pooling::attend(rec, &values, tokens, self.heads)?;
        let mid = self.out.forward(rec, &pooled.y, &Epilogue::default())?;
        let normed = self.norm.forward(rec, &mid)?;
        let up = self.up.forward(rec, &normed.y, &Epilogue::default())?;
        let hidden = activation::forward(rec, self.activation, &up)?;
        let y = self.down.forward(rec, &hidden, &Epilogue { residual: Some(&mid), ..Epilogue::default() })?;
        Ok((y, Saved { values, pooled, mid, stats: normed.stats, up }))
    }

    /// As [`AttentionPool::forward_saved`], keeping nothing.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(&self, rec: &mut Recorder, x: &Tensor, tokens: usize) -> Result<Tensor> {
        Ok(self.forward_saved(rec, x, tokens)?.0)
    }

    /// dx `[batch·tokens, width]` from dy `[batch, width]`.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward(&self, rec: &mut Recorder, dy: &Tensor, saved: Saved, tokens: usize) -> Result<Tensor> {
        let Saved { values, pooled, mid, stats, up } = saved;
        let dhidden = self.down.backward(rec, dy)?;
        let dup = activation::backward(rec, self.activation, &up, &dhidden)?;
        let dnormed = self.up.backward(rec, &dup)?;
        let dmid = self.norm.backward(rec, &mid, &stats, &dnormed, Some(dy))?;
        let dpooled = self.out.backward(rec, &dmid)?;
        let dvalues = pooling::attend_backward(rec, &values, &pooled, &dpooled, tokens, self.heads)?;
        self.values.backward(rec, &dvalues)
    }
}
