//! The insides of a text tower, for comparison with other implementations. Only tests look at them; see `clip::ImageTaps`.

use super::{EndToken, Prompts, TextTower};
use crate::Result;
use crate::gpu::{Plan, Recorder, Tensor};
use crate::kernels::gemm::Epilogue;
use crate::nn::Taps;

/// Everything that a comparison with another implementation looks at, for a whole pack.
#[doc(hidden)]
pub struct TextTaps {
    /// The residual stream after each block.
    pub blocks: Vec<Tensor>,
    /// Inside the last block.
    pub last: Taps,
    /// End tokens after the final norm.
    pub pooled: Tensor,
    /// `[texts, embedding]`.
    pub features: Tensor,
    /// The recorded step.
    pub plan: Plan,
}

#[doc(hidden)]
impl Prompts {
    /// As [`Prompts::pack`], nothing cut: for comparison with implementations that compute every row.
    ///
    /// # Errors
    /// As [`Prompts::pack`].
    pub fn pack_whole(texts: &[Vec<u32>], end: EndToken) -> Result<Prompts> {
        Prompts::build(texts, end, 0, false)
    }
}

#[doc(hidden)]
impl TextTower {
    /// Runs the tower once, keeping its insides.
    ///
    /// # Errors
    /// As [`TextTower::encode`].
    pub fn tapped(&self, prompts: &Prompts) -> Result<TextTaps> {
        let packed = self.packed(prompts)?;
        let x = self.embed(prompts)?;
        let mut rec = Recorder::new(&self.gpu);
        let (blocks, last) = self.transformer.forward_tapped(&mut rec, &x, &packed.pattern)?;
        let picked = packed.ends.of(&mut rec, blocks.last().unwrap_or(&x))?;
        let pooled = self.norm.forward(&mut rec, &picked)?.y;
        let features = self.projection.forward(&mut rec, &pooled, &Epilogue::default())?;
        let plan = rec.finish()?;
        plan.run()?;
        Ok(TextTaps { blocks, last, pooled, features, plan })
    }
}
