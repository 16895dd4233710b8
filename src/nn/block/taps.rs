//! The insides of a transformer, for comparison with other implementations. Only tests look at them; see `clip::ImageTaps`.

use super::{Norms, Transformer, normed};
use crate::gpu::{Recorder, Tensor};
use crate::kernels::attention::{self, Pattern};
use crate::kernels::gemm::Epilogue;
use crate::nn::Bottleneck;
use crate::{Error, Result};

/// Intermediate results of one block, for looking at.
#[doc(hidden)]
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

#[doc(hidden)]
impl Transformer {
    /// As [`Transformer::forward_saved`], giving the residual stream after each block and everything inside the last
    /// one.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward_tapped(&self, rec: &mut Recorder, x: &Tensor, pattern: &Pattern) -> Result<(Vec<Tensor>, Taps)> {
        let (last, before) = self.blocks.split_last().ok_or_else(|| Error::invalid("a tower without blocks"))?;
        let mut streams = Vec::new();
        let mut x = x.clone();
        for block in before {
            let (mid, _) = self.attend_saved(rec, block, &x, pattern, None)?;
            x = self.mlp_saved(rec, block, &mid)?.0;
            streams.push(x.clone());
        }
        let outside = self.norms != Norms::Before;
        let n1 = if outside { x.clone() } else { last.ln1.forward(rec, &x)?.y };
        let qkv = self.qkv(rec, last, &n1)?;
        let attended = attention::forward(rec, &qkv, pattern, self.heads)?;
        let weights = attention::weights(rec, &qkv, &attended.lse, pattern, self.heads)?;
        let (mixed, _) = normed(rec, last.mixed.as_ref(), attended.y.clone(), &last.out)?;
        let (mid, _) = self.added(rec, &last.out, &mixed, &x, &last.ln1)?;
        let n2 = if outside { mid.clone() } else { last.ln2.forward(rec, &mid)?.y };
        let up = last.up.forward(rec, &n2, &Epilogue::default())?;
        let hidden = self.activated(rec, &up)?;
        let (hidden, _) = normed(rec, last.hidden.as_ref(), hidden, &last.down)?;
        let mlp = last.down.forward(rec, &hidden, &Epilogue::default())?;
        streams.push(self.added(rec, &last.down, &hidden, &mid, &last.ln2)?.0);
        Ok((streams, Taps { n1, weights, mixed: attended.y, mid, n2, up, mlp }))
    }

    /// The adapted residual stream after each block, and the last block's bottleneck alone, s·up(relu(down(mid))).
    ///
    /// # Errors
    /// As [`Transformer::forward_adapted`].
    pub fn forward_adapted_tapped(
        &self,
        rec: &mut Recorder,
        x: &Tensor,
        pattern: &Pattern,
        bottlenecks: &[Bottleneck],
    ) -> Result<(Vec<Tensor>, Tensor)> {
        self.check_bottlenecks(bottlenecks)?;
        let mut streams: Vec<Tensor> = Vec::new();
        let mut branch = None;
        for (block, bottleneck) in self.blocks.iter().zip(bottlenecks) {
            let mid = self.attend(rec, block, streams.last().unwrap_or(x), pattern, None)?;
            let plain = self.mlp(rec, block, &mid)?;
            streams.push(bottleneck.forward(rec, &mid, Some(&plain))?);
            branch = Some(bottleneck.forward(rec, &mid, None)?);
        }
        Ok((streams, branch.ok_or_else(|| Error::invalid("a tower without blocks"))?))
    }
}
