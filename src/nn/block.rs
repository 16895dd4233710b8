//! The pre-LN transformer of both towers: x += attention(ln1 x); x += mlp(ln2 x).

use super::{FrozenLinear, LayerNorm};
use crate::Result;
use crate::gpu::{Recorder, Tensor};
use crate::kernels::activation::{self, Activation};
use crate::kernels::attention::{self, Attended, Pattern};
use crate::kernels::gemm::Epilogue;

/// One frozen block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Before attention.
    pub ln1: LayerNorm,
    /// Queries, keys and values in one: `[3·width, width]`.
    pub qkv: FrozenLinear,
    /// Attention's output projection.
    pub out: FrozenLinear,
    /// Before the MLP.
    pub ln2: LayerNorm,
    /// `[mlp, width]`.
    pub up: FrozenLinear,
    /// `[width, mlp]`.
    pub down: FrozenLinear,
}

/// What backward through a frozen block needs, and no more: LayerNorm's inputs and statistics, the attention's
/// operands and output, the MLP before its activation. Inputs of frozen linear layers are not among it.
pub struct Saved {
    x: Tensor,
    stats1: Tensor,
    qkv: Tensor,
    attended: Attended,
    mid: Tensor,
    stats2: Tensor,
    up: Tensor,
}

/// Intermediate results of one block, for looking at.
pub struct Taps {
    /// ln1's output.
    pub n1: Tensor,
    /// Attention weights `[rows, heads, longest]`.
    pub weights: Tensor,
    /// Mixed heads before the output projection.
    pub mixed: Tensor,
    /// The residual stream after attention.
    pub mid: Tensor,
    /// ln2's output.
    pub n2: Tensor,
    /// The MLP before its activation.
    pub up: Tensor,
    /// The MLP branch's output.
    pub mlp: Tensor,
}

/// A stack of frozen blocks.
#[derive(Clone, Debug)]
pub struct Transformer {
    /// The blocks in order.
    pub blocks: Vec<Block>,
    /// Attention heads of each.
    pub heads: usize,
    /// Activation of the MLPs.
    pub activation: Activation,
}

impl Transformer {
    /// Inference: x `[rows, width]` → `[rows, width]`, keeping nothing.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(&self, rec: &mut Recorder, x: Tensor, pattern: &Pattern) -> Result<Tensor> {
        let mut x = x;
        for block in &self.blocks {
            let n1 = block.ln1.forward(rec, &x)?.y;
            let qkv = block.qkv.forward(rec, &n1, &Epilogue::default())?;
            drop(n1);
            let attended = attention::forward(rec, &qkv, pattern, self.heads)?;
            drop(qkv);
            let mid = block.out.forward(rec, &attended.y, &with_residual(&x))?;
            drop(attended);
            drop(x);
            let n2 = block.ln2.forward(rec, &mid)?.y;
            let epilogue = Epilogue { activation: Some(self.activation), ..Epilogue::default() };
            let hidden = block.up.forward(rec, &n2, &epilogue)?;
            drop(n2);
            x = block.down.forward(rec, &hidden, &with_residual(&mid))?;
        }
        Ok(x)
    }

    /// Training: as [`Transformer::forward`], and what [`Transformer::backward`] needs of each block.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward_saved(&self, rec: &mut Recorder, x: &Tensor, pattern: &Pattern) -> Result<(Tensor, Vec<Saved>)> {
        let mut x = x.clone();
        let mut all = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let n1 = block.ln1.forward(rec, &x)?;
            let qkv = block.qkv.forward(rec, &n1.y, &Epilogue::default())?;
            let stats1 = n1.stats;
            drop(n1.y);
            let attended = attention::forward(rec, &qkv, pattern, self.heads)?;
            let mid = block.out.forward(rec, &attended.y, &with_residual(&x))?;
            let n2 = block.ln2.forward(rec, &mid)?;
            let up = block.up.forward(rec, &n2.y, &Epilogue::default())?;
            let stats2 = n2.stats;
            drop(n2.y);
            let hidden = activation::forward(rec, self.activation, &up)?;
            let next = block.down.forward(rec, &hidden, &with_residual(&mid))?;
            all.push(Saved { x, stats1, qkv, attended, mid, stats2, up });
            x = next;
        }
        Ok((x, all))
    }

    /// dX of the whole stack. `saved` is used up, so that its buffers serve the blocks below.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward(&self, rec: &mut Recorder, dy: Tensor, saved: Vec<Saved>, pattern: &Pattern) -> Result<Tensor> {
        let mut dy = dy;
        for (block, s) in self.blocks.iter().zip(saved).rev() {
            let dhidden = block.down.backward(rec, &dy)?;
            let dup = activation::backward(rec, self.activation, &s.up, &dhidden)?;
            drop((dhidden, s.up));
            let dn2 = block.up.backward(rec, &dup)?;
            drop(dup);
            let dmid = block.ln2.backward(rec, &s.mid, &s.stats2, &dn2, Some(&dy))?;
            drop((dn2, s.mid, s.stats2));
            let dmixed = block.out.backward(rec, &dmid)?;
            let dqkv = attention::backward(rec, &s.qkv, &s.attended, &dmixed, pattern, self.heads)?;
            drop((dmixed, s.qkv, s.attended));
            let dn1 = block.qkv.backward(rec, &dqkv)?;
            drop(dqkv);
            dy = block.ln1.backward(rec, &s.x, &s.stats1, &dn1, Some(&dmid))?;
        }
        Ok(dy)
    }

    /// As [`Transformer::forward_saved`], giving the residual stream after each block and everything inside the last
    /// one. For comparison with other implementations.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward_tapped(&self, rec: &mut Recorder, x: &Tensor, pattern: &Pattern) -> Result<(Vec<Tensor>, Taps)> {
        let (last, before) = self.blocks.split_last().ok_or_else(|| crate::Error::invalid("a tower without blocks"))?;
        let mut streams = Vec::new();
        let mut x = x.clone();
        for block in before {
            let one = Transformer { blocks: vec![block.clone()], ..self.clone() };
            x = one.forward_saved(rec, &x, pattern)?.0;
            streams.push(x.clone());
        }
        let n1 = last.ln1.forward(rec, &x)?.y;
        let qkv = last.qkv.forward(rec, &n1, &Epilogue::default())?;
        let attended = attention::forward(rec, &qkv, pattern, self.heads)?;
        let weights = attention::weights(rec, &qkv, &attended.lse, pattern, self.heads)?;
        let mid = last.out.forward(rec, &attended.y, &with_residual(&x))?;
        let n2 = last.ln2.forward(rec, &mid)?.y;
        let up = last.up.forward(rec, &n2, &Epilogue::default())?;
        let hidden = activation::forward(rec, self.activation, &up)?;
        let mlp = last.down.forward(rec, &hidden, &Epilogue::default())?;
        streams.push(last.down.forward(rec, &hidden, &with_residual(&mid))?);
        Ok((streams, Taps { n1, weights, mixed: attended.y, mid, n2, up, mlp }))
    }
}

fn with_residual(x: &Tensor) -> Epilogue<'_> {
    Epilogue { residual: Some(x), ..Epilogue::default() }
}
