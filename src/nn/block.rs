//! The transformer of both towers: x += attention(ln1 x); x += mlp(ln2 x), and, where a tower is corrected, a bottleneck
//! beside each MLP. In some families the norms stand elsewhere ([`Norms`]).

mod adapted;
mod taps;

use super::{FrozenLinear, LayerNorm};
use crate::gpu::{DType, Gpu, Recorder, Tensor};
use crate::kernels::activation::{self, Activation};
use crate::kernels::attention::{self, Attended, Pattern};
use crate::kernels::gemm::Epilogue;
use crate::kernels::rotary::{self, Angles};
use crate::kernels::{gather, swiglu};
use crate::{Error, Result};

pub use adapted::{AdaptedSaved, Pair, Teacher};
pub use taps::Taps;

/// Where a block's norms stand. `f` is attention or the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// Before attention and MLP: x + f(norm x).
    Before,
    /// Behind them, before what they give is added: x + norm(f x). EVA-02-E.
    Behind,
    /// Behind the sum: norm(x + f x), as in the first transformers (arXiv 1706.03762, §3.1), BERT and its kin.
    OfSum,
}

/// One frozen block.
#[derive(Clone, Debug)]
pub struct Block {
    /// That of attention.
    pub ln1: LayerNorm,
    /// Queries, keys and values in one: `[3·width, width]`.
    pub qkv: FrozenLinear,
    /// Of the mixed heads, where a family has one (EVA-02).
    pub mixed: Option<LayerNorm>,
    /// Attention's output projection.
    pub out: FrozenLinear,
    /// That of the MLP.
    pub ln2: LayerNorm,
    /// `[mlp, width]`; `[2·mlp, width]`, the gates first, where the MLP is gated.
    pub up: FrozenLinear,
    /// Of the MLP's hidden rows, where a family has one (EVA-02).
    pub hidden: Option<LayerNorm>,
    /// `[width, mlp]`.
    pub down: FrozenLinear,
}

/// What makes an MLP's hidden rows of what `up` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// An activation, of each number by itself.
    Activated(Activation),
    /// SwiGLU (arXiv 2002.05202): the second half of a row, each number times SiLU of its gate in the first.
    Gated,
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

    /// How many.
    fn len(&self) -> usize {
        self.index.len()
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

/// A norm's input and statistics.
struct Inner {
    x: Tensor,
    stats: Tensor,
}

/// What backward through frozen attention needs, and no more: LayerNorm's input and statistics, the attention's operands
/// (turned, where positions are rotary) and output. Inputs of frozen linear layers are not among it.
struct SavedAttention {
    norm: Option<Inner>,
    qkv: Tensor,
    attended: Attended,
    picked: Option<Picked>,
    inner: Option<Inner>,
}

/// What backward through a frozen MLP needs: LayerNorm's input and statistics, the MLP before its activation.
struct SavedMlp {
    norm: Option<Inner>,
    up: Tensor,
    inner: Option<Inner>,
}

/// What backward through a frozen block needs.
pub struct Saved {
    attention: SavedAttention,
    mlp: SavedMlp,
}

/// A stack of frozen blocks.
#[derive(Clone, Debug)]
pub struct Transformer {
    /// The blocks in order.
    pub blocks: Vec<Block>,
    /// Attention heads of each.
    pub heads: usize,
    /// What is between an MLP's two layers.
    pub hidden: Hidden,
    /// Angles that queries and keys are turned by, where positions are rotary.
    pub angles: Option<Angles>,
    /// Where the norms stand.
    pub norms: Norms,
}

impl Transformer {
    /// The rows to pick in block `i`: all but in the last, and all there too where none are named.
    fn picked_in<'a>(&self, i: usize, picked: Option<&'a Picked>) -> Option<&'a Picked> {
        picked.filter(|_| i + 1 == self.blocks.len())
    }

    /// Queries, keys and values, turned where positions are rotary.
    fn qkv(&self, rec: &mut Recorder, block: &Block, n1: &Tensor) -> Result<Tensor> {
        let qkv = block.qkv.forward(rec, n1, &Epilogue::default())?;
        if let Some(angles) = &self.angles {
            rotary::turn(rec, &qkv, angles, self.heads)?;
        }
        Ok(qkv)
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
        Ok(self.attended(rec, block, x, pattern, (picked, false))?.0)
    }

    /// base + layer(x), with the norm where it stands behind, and then also what that took and its statistics.
    fn added(
        &self,
        rec: &mut Recorder,
        layer: &FrozenLinear,
        x: &Tensor,
        base: &Tensor,
        norm: &LayerNorm,
    ) -> Result<(Tensor, Option<Inner>)> {
        let (x, normed) = match self.norms {
            Norms::Before => return Ok((layer.forward(rec, x, &with_residual(base))?, None)),
            Norms::Behind => {
                let x = layer.forward(rec, x, &Epilogue::default())?;
                let normed = norm.forward_onto(rec, &x, base)?;
                (x, normed)
            }
            Norms::OfSum => {
                let x = layer.forward(rec, x, &with_residual(base))?;
                let normed = norm.forward(rec, &x)?;
                (x, normed)
            }
        };
        Ok((normed.y, Some(Inner { x, stats: normed.stats })))
    }

    fn attend_saved(
        &self,
        rec: &mut Recorder,
        block: &Block,
        x: &Tensor,
        pattern: &Pattern,
        picked: Option<&Picked>,
    ) -> Result<(Tensor, SavedAttention)> {
        self.attended(rec, block, x, pattern, (picked, true))
    }

    /// x + attention(ln1 x); `saved`, if it will be looked at.
    fn attended(
        &self,
        rec: &mut Recorder,
        block: &Block,
        x: &Tensor,
        pattern: &Pattern,
        (picked, saved): (Option<&Picked>, bool),
    ) -> Result<(Tensor, SavedAttention)> {
        let (n1, before) = self.before(rec, &block.ln1, x, &block.qkv)?;
        let qkv = self.qkv(rec, block, &n1)?;
        // Nobody but the output projection reads the heads' mixtures then.
        let alone = !saved && picked.is_none() && block.mixed.is_none();
        let attended = match alone && block.out.takes_half(rec.gpu(), qkv.rows())? {
            true => attention::forward_half(rec, &qkv, pattern, self.heads)?,
            false => attention::forward(rec, &qkv, pattern, self.heads)?,
        };
        let (y, residual) = match picked {
            None => (attended.y.clone(), x.clone()),
            Some(picked) => (picked.of(rec, &attended.y)?, picked.of(rec, x)?),
        };
        let (y, inner) = normed(rec, block.mixed.as_ref(), y, &block.out)?;
        let (mid, behind) = self.added(rec, &block.out, &y, &residual, &block.ln1)?;
        let norm = before.or(behind);
        Ok((mid, SavedAttention { norm, qkv, attended, picked: picked.cloned(), inner }))
    }

    /// x through the norm before a branch whose first layer is `layer`, with what backward needs; x itself where norms come
    /// behind.
    fn before(
        &self,
        rec: &mut Recorder,
        norm: &LayerNorm,
        x: &Tensor,
        layer: &FrozenLinear,
    ) -> Result<(Tensor, Option<Inner>)> {
        if self.norms != Norms::Before {
            return Ok((x.clone(), None));
        }
        let normed = norm.forward_for(rec, x, layer)?;
        Ok((normed.y, Some(Inner { x: x.clone(), stats: normed.stats })))
    }

    /// The gradients by what a branch's last layer gave and by what that was added to, from that by what [`Transformer::added`]
    /// gave.
    fn added_back(
        &self,
        rec: &mut Recorder,
        norm: &LayerNorm,
        saved: Option<&Inner>,
        dy: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        match (self.norms, saved) {
            (Norms::Behind, Some(Inner { x, stats })) => Ok((norm.backward(rec, x, stats, dy, None)?, dy.clone())),
            (Norms::OfSum, Some(Inner { x, stats })) => {
                let dsum = norm.backward(rec, x, stats, dy, None)?;
                Ok((dsum.clone(), dsum))
            }
            _ => Ok((dy.clone(), dy.clone())),
        }
    }

    /// The gradient by a branch's input, `dy` past the branch among it, from that by what its first layer gave.
    fn before_back(
        &self,
        rec: &mut Recorder,
        (norm, layer): (&LayerNorm, &FrozenLinear),
        saved: Option<Inner>,
        dlayer: &Tensor,
        dy: &Tensor,
    ) -> Result<Tensor> {
        match saved.filter(|_| self.norms == Norms::Before) {
            Some(Inner { x, stats }) => {
                let dnormed = layer.backward(rec, dlayer)?;
                norm.backward(rec, &x, &stats, &dnormed, Some(dy))
            }
            None => layer.backward_onto(rec, dlayer, Some(dy)),
        }
    }

    fn attend_backward(
        &self,
        rec: &mut Recorder,
        block: &Block,
        dmid: &Tensor,
        saved: SavedAttention,
        pattern: &Pattern,
    ) -> Result<Tensor> {
        let SavedAttention { norm, qkv, attended, picked, inner } = saved;
        let (dout, dmid) = self.added_back(rec, &block.ln1, norm.as_ref(), dmid)?;
        let dmixed = block.out.backward(rec, &dout)?;
        let dmixed = normed_back(rec, block.mixed.as_ref(), inner, dmixed)?;
        let (dmixed, dmid) = match &picked {
            None => (dmixed, dmid),
            Some(picked) => (picked.back(rec, &dmixed)?, picked.back(rec, &dmid)?),
        };
        let dqkv = attention::backward(rec, &qkv, &attended, &dmixed, pattern, self.heads)?;
        if let Some(angles) = &self.angles {
            rotary::turn_back(rec, &dqkv, angles, self.heads)?;
        }
        self.before_back(rec, (&block.ln1, &block.qkv), norm, &dqkv, &dmid)
    }

    /// mid + mlp(ln2 mid), the activation within the first product where it can be.
    fn mlp(&self, rec: &mut Recorder, block: &Block, mid: &Tensor) -> Result<Tensor> {
        let (n2, _) = self.before(rec, &block.ln2, mid, &block.up)?;
        let hidden = match self.hidden {
            Hidden::Activated(activation) => {
                // Matrix units, which alone store f16, read such rows.
                let by_matrix_units = n2.dtype() == DType::F16;
                let half = by_matrix_units && block.hidden.is_none() && block.down.takes_half(rec.gpu(), n2.rows())?;
                let epilogue = Epilogue { activation: Some(activation), half, ..Epilogue::default() };
                block.up.forward(rec, &n2, &epilogue)?
            }
            Hidden::Gated => {
                let up = block.up.forward(rec, &n2, &Epilogue::default())?;
                self.activated(rec, &up)?
            }
        };
        let (hidden, _) = normed(rec, block.hidden.as_ref(), hidden, &block.down)?;
        Ok(self.added(rec, &block.down, &hidden, mid, &block.ln2)?.0)
    }

    fn mlp_saved(&self, rec: &mut Recorder, block: &Block, mid: &Tensor) -> Result<(Tensor, SavedMlp)> {
        let (n2, before) = self.before(rec, &block.ln2, mid, &block.up)?;
        let up = block.up.forward(rec, &n2, &Epilogue::default())?;
        let hidden = self.activated(rec, &up)?;
        let (hidden, inner) = normed(rec, block.hidden.as_ref(), hidden, &block.down)?;
        let (y, behind) = self.added(rec, &block.down, &hidden, mid, &block.ln2)?;
        Ok((y, SavedMlp { norm: before.or(behind), up, inner }))
    }

    /// An MLP's hidden rows from what its first layer gave.
    fn activated(&self, rec: &mut Recorder, up: &Tensor) -> Result<Tensor> {
        match self.hidden {
            Hidden::Activated(activation) => activation::forward(rec, activation, up),
            Hidden::Gated => swiglu::forward(rec, up),
        }
    }

    fn mlp_backward(&self, rec: &mut Recorder, block: &Block, dy: &Tensor, saved: SavedMlp) -> Result<Tensor> {
        let SavedMlp { norm, up, inner } = saved;
        let (ddown, dy) = self.added_back(rec, &block.ln2, norm.as_ref(), dy)?;
        let dhidden = block.down.backward(rec, &ddown)?;
        let dhidden = normed_back(rec, block.hidden.as_ref(), inner, dhidden)?;
        let dup = match self.hidden {
            Hidden::Activated(activation) => activation::backward(rec, activation, &up, &dhidden)?,
            Hidden::Gated => swiglu::backward(rec, &up, &dhidden)?,
        };
        self.before_back(rec, (&block.ln2, &block.up), norm, &dup, &dy)
    }

    /// Inference: x `[rows, width]` → the picked rows `[n, width]`, or all where none are named, keeping nothing.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(&self, rec: &mut Recorder, x: Tensor, pattern: &Pattern, picked: Option<&Picked>) -> Result<Tensor> {
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
        picked: Option<&Picked>,
    ) -> Result<(Tensor, Vec<Saved>)> {
        let mut x = x.clone();
        let mut all = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let (mid, attention) = self.attend_saved(rec, block, &x, pattern, self.picked_in(i, picked))?;
            let (next, mlp) = self.mlp_saved(rec, block, &mid)?;
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
}

/// x through a norm in the middle of a branch, where there is one, for `layer`.
fn normed(
    rec: &mut Recorder,
    norm: Option<&LayerNorm>,
    x: Tensor,
    layer: &FrozenLinear,
) -> Result<(Tensor, Option<Inner>)> {
    let Some(norm) = norm else { return Ok((x, None)) };
    let normed = norm.forward_for(rec, &x, layer)?;
    Ok((normed.y, Some(Inner { x, stats: normed.stats })))
}

/// The gradient through it.
fn normed_back(rec: &mut Recorder, norm: Option<&LayerNorm>, inner: Option<Inner>, dy: Tensor) -> Result<Tensor> {
    match (norm, inner) {
        (Some(norm), Some(Inner { x, stats })) => norm.backward(rec, &x, &stats, &dy, None),
        _ => Ok(dy),
    }
}

fn with_residual(x: &Tensor) -> Epilogue<'_> {
    Epilogue { residual: Some(x), ..Epilogue::default() }
}
