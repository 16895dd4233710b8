//! The pre-LN transformer of both towers: x += attention(ln1 x); x += mlp(ln2 x), and, where a tower is corrected, a
//! bottleneck beside each MLP.

mod taps;

use super::bottleneck::{self, Bottleneck, BottleneckGrads};
use super::{FrozenLinear, LayerNorm};
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::activation::{self, Activation};
use crate::kernels::attention::{self, Attended, Pattern};
use crate::kernels::gather;
use crate::kernels::gemm::Epilogue;
use crate::{Error, Result};

pub use taps::Taps;

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

/// The rows of a stack's last block that anybody looks at: class tokens, end tokens. All rows give it keys and values;
/// what comes after them is computed for these alone.
#[derive(Clone, Debug)]
pub struct Picked {
    /// u32 `[n]`: their numbers.
    index: Tensor,
    /// u32 `[rows]`: which of them each row is.
    inverse: Tensor,
}

impl Picked {
    /// Rows numbered `index` of `rows` in all.
    ///
    /// # Errors
    /// None, or a number past the end; out of memory.
    pub fn new(gpu: &Gpu, index: &[u32], rows: usize) -> Result<Picked> {
        if let Some(row) = index.iter().find(|i| **i as usize >= rows) {
            return Err(Error::invalid(format!("row {row} picked out of {rows}")));
        }
        Ok(Picked {
            index: gpu.upload("picked rows", index, &[index.len()])?,
            inverse: gpu.upload("picked rows", &gather::inverse(index, rows), &[rows])?,
        })
    }

    /// The rows of x `[rows, width]` that are picked, `[n, width]`.
    ///
    /// # Errors
    /// Out of memory.
    pub fn of(&self, rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
        gather::rows(rec, x, &self.index)
    }

    /// The gradient `[rows, width]` of all rows from that of the picked ones: zero for the others.
    fn back(&self, rec: &mut Recorder, dy: &Tensor) -> Result<Tensor> {
        gather::rows(rec, dy, &self.inverse)
    }
}

/// What backward through frozen attention needs, and no more: LayerNorm's input and statistics, the attention's operands
/// and output. Inputs of frozen linear layers are not among it.
struct SavedAttention {
    x: Tensor,
    stats: Tensor,
    qkv: Tensor,
    attended: Attended,
    picked: Option<Picked>,
}

/// What backward through a frozen MLP needs: LayerNorm's input and statistics, the MLP before its activation.
struct SavedMlp {
    mid: Tensor,
    stats: Tensor,
    up: Tensor,
}

/// What backward through a frozen block needs.
pub struct Saved {
    attention: SavedAttention,
    mlp: SavedMlp,
}

/// What backward through a block with a bottleneck needs.
pub struct AdaptedSaved {
    /// The residual stream after attention: the bottleneck's input.
    mid: Tensor,
    bottleneck: bottleneck::Saved,
    /// Nothing below the first block's bottleneck trains, so the first block keeps nothing else.
    frozen: Option<Saved>,
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
    /// The rows to pick in block `i`: all but in the last.
    fn picked_in<'a>(&self, i: usize, picked: &'a Picked) -> Option<&'a Picked> {
        (i + 1 == self.blocks.len()).then_some(picked)
    }

    /// x + attention(ln1 x), of the picked rows where some are.
    fn attend(
        &self,
        rec: &mut Recorder,
        block: &Block,
        x: &Tensor,
        pattern: &Pattern,
        picked: Option<&Picked>,
    ) -> Result<Tensor> {
        let n1 = block.ln1.forward_for(rec, x, &block.qkv)?.y;
        let qkv = block.qkv.forward(rec, &n1, &Epilogue::default())?;
        let attended = attention::forward(rec, &qkv, pattern, self.heads)?;
        match picked {
            None => block.out.forward(rec, &attended.y, &with_residual(x)),
            Some(picked) => {
                let (y, x) = (picked.of(rec, &attended.y)?, picked.of(rec, x)?);
                block.out.forward(rec, &y, &with_residual(&x))
            }
        }
    }

    fn attend_saved(
        &self,
        rec: &mut Recorder,
        block: &Block,
        x: Tensor,
        pattern: &Pattern,
        picked: Option<&Picked>,
    ) -> Result<(Tensor, SavedAttention)> {
        let n1 = block.ln1.forward_for(rec, &x, &block.qkv)?;
        let qkv = block.qkv.forward(rec, &n1.y, &Epilogue::default())?;
        let stats = n1.stats;
        let attended = attention::forward(rec, &qkv, pattern, self.heads)?;
        let mid = match picked {
            None => block.out.forward(rec, &attended.y, &with_residual(&x))?,
            Some(picked) => {
                let (y, x) = (picked.of(rec, &attended.y)?, picked.of(rec, &x)?);
                block.out.forward(rec, &y, &with_residual(&x))?
            }
        };
        Ok((mid, SavedAttention { x, stats, qkv, attended, picked: picked.cloned() }))
    }

    fn attend_backward(
        &self,
        rec: &mut Recorder,
        block: &Block,
        dmid: &Tensor,
        saved: SavedAttention,
        pattern: &Pattern,
    ) -> Result<Tensor> {
        let SavedAttention { x, stats, qkv, attended, picked } = saved;
        let dmixed = block.out.backward(rec, dmid)?;
        let (dmixed, dmid) = match &picked {
            None => (dmixed, dmid.clone()),
            Some(picked) => (picked.back(rec, &dmixed)?, picked.back(rec, dmid)?),
        };
        let dqkv = attention::backward(rec, &qkv, &attended, &dmixed, pattern, self.heads)?;
        let dn1 = block.qkv.backward(rec, &dqkv)?;
        block.ln1.backward(rec, &x, &stats, &dn1, Some(&dmid))
    }

    /// mid + mlp(ln2 mid).
    fn mlp(&self, rec: &mut Recorder, block: &Block, mid: &Tensor) -> Result<Tensor> {
        let n2 = block.ln2.forward_for(rec, mid, &block.up)?.y;
        let epilogue = Epilogue { activation: Some(self.activation), ..Epilogue::default() };
        let hidden = block.up.forward(rec, &n2, &epilogue)?;
        block.down.forward(rec, &hidden, &with_residual(mid))
    }

    fn mlp_saved(&self, rec: &mut Recorder, block: &Block, mid: Tensor) -> Result<(Tensor, SavedMlp)> {
        let n2 = block.ln2.forward_for(rec, &mid, &block.up)?;
        let up = block.up.forward(rec, &n2.y, &Epilogue::default())?;
        let stats = n2.stats;
        let hidden = activation::forward(rec, self.activation, &up)?;
        let y = block.down.forward(rec, &hidden, &with_residual(&mid))?;
        Ok((y, SavedMlp { mid, stats, up }))
    }

    fn mlp_backward(&self, rec: &mut Recorder, block: &Block, dy: &Tensor, saved: SavedMlp) -> Result<Tensor> {
        let SavedMlp { mid, stats, up } = saved;
        let dhidden = block.down.backward(rec, dy)?;
        let dup = activation::backward(rec, self.activation, &up, &dhidden)?;
        let dn2 = block.up.backward(rec, &dup)?;
        block.ln2.backward(rec, &mid, &stats, &dn2, Some(dy))
    }

    /// Inference: x `[rows, width]` → the picked rows `[n, width]`, keeping nothing.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(&self, rec: &mut Recorder, x: Tensor, pattern: &Pattern, picked: &Picked) -> Result<Tensor> {
        let mut x = x;
        for (i, block) in self.blocks.iter().enumerate() {
            let mid = self.attend(rec, block, &x, pattern, self.picked_in(i, picked))?;
            x = self.mlp(rec, block, &mid)?;
        }
        Ok(x)
    }

    /// Training: as [`Transformer::forward`], and what [`Transformer::backward`] needs of each block.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward_saved(
        &self,
        rec: &mut Recorder,
        x: &Tensor,
        pattern: &Pattern,
        picked: &Picked,
    ) -> Result<(Tensor, Vec<Saved>)> {
        let mut x = x.clone();
        let mut all = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let (mid, attention) = self.attend_saved(rec, block, x, pattern, self.picked_in(i, picked))?;
            let (next, mlp) = self.mlp_saved(rec, block, mid)?;
            all.push(Saved { attention, mlp });
            x = next;
        }
        Ok((x, all))
    }

    /// dX `[rows, width]` of the whole stack from dY `[n, width]` of the picked rows. `saved` is taken, since what the
    /// caller still holds when recording ends gets a place of its own.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward(&self, rec: &mut Recorder, dy: Tensor, saved: Vec<Saved>, pattern: &Pattern) -> Result<Tensor> {
        let mut dy = dy;
        for (block, s) in self.blocks.iter().zip(saved).rev() {
            let dmid = self.mlp_backward(rec, block, &dy, s.mlp)?;
            dy = self.attend_backward(rec, block, &dmid, s.attention, pattern)?;
        }
        Ok(dy)
    }

    fn check_bottlenecks(&self, bottlenecks: &[Bottleneck]) -> Result<()> {
        if bottlenecks.len() == self.blocks.len() && !bottlenecks.is_empty() {
            return Ok(());
        }
        Err(Error::invalid(format!("{} bottlenecks for {} blocks", bottlenecks.len(), self.blocks.len())))
    }

    /// Inference with and without a bottleneck in every block: the picked rows (plain, adapted). The first block's attention
    /// and MLP see the same input either way and are computed once.
    ///
    /// # Errors
    /// Another number of bottlenecks than blocks; shapes that do not fit; out of memory.
    pub fn forward_both(
        &self,
        rec: &mut Recorder,
        x: Tensor,
        pattern: &Pattern,
        picked: &Picked,
        bottlenecks: &[Bottleneck],
    ) -> Result<(Tensor, Tensor)> {
        self.check_bottlenecks(bottlenecks)?;
        let mid = self.attend(rec, &self.blocks[0], &x, pattern, self.picked_in(0, picked))?;
        // Taken by value and not kept by the caller: what is held when a recording ends gets a place of its own.
        drop(x);
        let mut plain = self.mlp(rec, &self.blocks[0], &mid)?;
        let mut adapted = bottlenecks[0].forward(rec, &mid, Some(&plain))?;
        for (i, (block, bottleneck)) in self.blocks.iter().zip(bottlenecks).enumerate().skip(1) {
            let wanted = self.picked_in(i, picked);
            let mid = self.attend(rec, block, &plain, pattern, wanted)?;
            plain = self.mlp(rec, block, &mid)?;
            let mid = self.attend(rec, block, &adapted, pattern, wanted)?;
            let own = self.mlp(rec, block, &mid)?;
            adapted = bottleneck.forward(rec, &mid, Some(&own))?;
        }
        Ok((plain, adapted))
    }

    /// Training of bottlenecks: the picked rows of the adapted stream, and what [`Transformer::backward_adapted`] needs of
    /// each block. `masks` holds one dropout mask `[rows, bottleneck]` per block, or none.
    ///
    /// # Errors
    /// Another number of bottlenecks or masks than blocks; shapes that do not fit; out of memory.
    pub fn forward_adapted(
        &self,
        rec: &mut Recorder,
        x: Tensor,
        pattern: &Pattern,
        picked: &Picked,
        bottlenecks: &[Bottleneck],
        masks: &[Tensor],
    ) -> Result<(Tensor, Vec<AdaptedSaved>)> {
        self.check_bottlenecks(bottlenecks)?;
        if !masks.is_empty() && masks.len() != bottlenecks.len() {
            return Err(Error::invalid(format!("{} dropout masks for {} blocks", masks.len(), bottlenecks.len())));
        }
        let mut x = x;
        let mut all = Vec::with_capacity(self.blocks.len());
        for (i, (block, bottleneck)) in self.blocks.iter().zip(bottlenecks).enumerate() {
            let wanted = self.picked_in(i, picked);
            let (mid, plain, frozen) = if i == 0 {
                let mid = self.attend(rec, block, &x, pattern, wanted)?;
                let plain = self.mlp(rec, block, &mid)?;
                (mid, plain, None)
            } else {
                let (mid, attention) = self.attend_saved(rec, block, x, pattern, wanted)?;
                let (plain, mlp) = self.mlp_saved(rec, block, mid.clone())?;
                (mid, plain, Some(Saved { attention, mlp }))
            };
            let mask = match (masks.get(i), wanted) {
                (Some(mask), Some(picked)) => Some(picked.of(rec, mask)?),
                (mask, _) => mask.cloned(),
            };
            let (y, saved) = bottleneck.forward_saved(rec, &mid, &plain, mask.as_ref())?;
            all.push(AdaptedSaved { mid, bottleneck: saved, frozen });
            x = y;
        }
        Ok((x, all))
    }

    /// The bottlenecks' gradients, in the order of the blocks, from dY of the adapted stream. Backward ends at the first
    /// block's bottleneck: below it nothing trains. `saved` is used up.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward_adapted(
        &self,
        rec: &mut Recorder,
        dy: Tensor,
        saved: Vec<AdaptedSaved>,
        pattern: &Pattern,
        bottlenecks: &[Bottleneck],
    ) -> Result<Vec<BottleneckGrads>> {
        let mut dy = dy;
        let mut all = Vec::with_capacity(saved.len());
        for ((block, bottleneck), s) in self.blocks.iter().zip(bottlenecks).zip(saved).rev() {
            let Some(frozen) = s.frozen else {
                all.push(bottleneck.backward(rec, &s.mid, &s.bottleneck, &dy, None)?.0);
                break;
            };
            let dmid = self.mlp_backward(rec, block, &dy, frozen.mlp)?;
            let (grads, total) = bottleneck.backward(rec, &s.mid, &s.bottleneck, &dy, Some(&dmid))?;
            all.push(grads);
            let dmid = total.unwrap_or(dmid);
            dy = self.attend_backward(rec, block, &dmid, frozen.attention, pattern)?;
        }
        all.reverse();
        Ok(all)
    }
}

fn with_residual(x: &Tensor) -> Epilogue<'_> {
    Epilogue { residual: Some(x), ..Epilogue::default() }
}
