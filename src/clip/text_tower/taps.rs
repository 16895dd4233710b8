//! The insides of a text tower, for comparison with other implementations. Only tests look at them; see `clip::ImageTaps`.

use super::{Prompts, TextTower, through};
use crate::Result;
use crate::gpu::{Plan, Recorder, Tensor};
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
impl TextTower {
    /// Runs the tower once, keeping its insides.
    ///
    /// # Errors
    /// As [`TextTower::encode`].
    pub fn tapped(&self, prompts: &Prompts) -> Result<TextTaps> {
        let packed = self.packed(prompts)?;
        let x = self.embed(prompts)?;
        let mut rec = Recorder::new(&self.gpu);
        let (x, _) = through(&mut rec, self.pre.as_ref(), x)?;
        let (blocks, last) = self.transformer.forward_tapped(&mut rec, &x, &packed.pattern)?;
        let all = blocks.last().unwrap_or(&x).clone();
        let read = match packed.picked() {
            Some(ends) => ends.of(&mut rec, &all)?,
            None => packed.pooled(&mut rec, all)?,
        };
        let (pooled, _) = through(&mut rec, self.norm.as_ref(), read)?;
        let features = self.project(&mut rec, &pooled)?;
        let plan = rec.finish()?;
        plan.run()?;
        Ok(TextTaps { blocks, last, pooled, features, plan })
    }
}
