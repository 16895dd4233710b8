//! The insides of an image tower, for comparison with other implementations. Only tests look at them; see `clip::ImageTaps`.

use super::VisionTransformer;
use crate::Result;
use crate::gpu::{Plan, Recorder, Tensor};
use crate::kernels::patch;
use crate::nn::{Bottleneck, Taps};

/// The adapted tower's insides, for a comparison with another implementation.
#[doc(hidden)]
pub struct AdaptedTaps {
    /// The residual stream after each block.
    pub blocks: Vec<Tensor>,
    /// What the last block's bottleneck adds, its factor included.
    pub branch: Tensor,
    /// `[batch, embedding]`.
    pub features: Tensor,
}

/// Everything that a comparison with another implementation looks at, for a whole batch.
#[doc(hidden)]
pub struct ImageTaps {
    /// Tokens with positions, before the pre-norm.
    pub embedded: Tensor,
    /// After the pre-norm.
    pub pre: Tensor,
    /// The residual stream after each block.
    pub blocks: Vec<Tensor>,
    /// Inside the last block.
    pub last: Taps,
    /// Class tokens after the post-norm.
    pub pooled: Tensor,
    /// `[batch, embedding]`.
    pub features: Tensor,
    /// The recorded step.
    pub plan: Plan,
}

#[doc(hidden)]
impl VisionTransformer {
    /// Runs the adapted tower once on `pixels`, keeping its insides.
    ///
    /// # Errors
    /// Pixels that do not fill `[batch, 3, R, R]`; out of memory.
    pub fn tapped_adapted(&self, pixels: &[f32], batch: usize, bottlenecks: &[Bottleneck]) -> Result<AdaptedTaps> {
        let input = self.pixels(batch)?;
        self.gpu.write(&input, pixels)?;
        let pattern = self.pattern(batch)?;
        let mut rec = Recorder::new(&self.gpu);
        let x = self.tokens(&mut rec, &input)?;
        let (blocks, branch) = self.transformer.forward_adapted_tapped(&mut rec, &x, &pattern, bottlenecks)?;
        let class = self.class_tokens(batch)?.of(&mut rec, blocks.last().unwrap_or(&x))?;
        let (_, features) = self.head(&mut rec, &class)?;
        rec.finish()?.run()?;
        Ok(AdaptedTaps { blocks, branch, features })
    }

    /// Runs the tower once on `pixels`, keeping its insides.
    ///
    /// # Errors
    /// Pixels that do not fill `[batch, 3, R, R]`; out of memory.
    pub fn tapped(&self, pixels: &[f32], batch: usize) -> Result<ImageTaps> {
        let input = self.pixels(batch)?;
        self.gpu.write(&input, pixels)?;
        let pattern = self.pattern(batch)?;
        let mut rec = Recorder::new(&self.gpu);
        let embedded = patch::forward(&mut rec, &input, &self.embedding)?;
        let pre = self.pre.forward(&mut rec, &embedded)?.y;
        let (blocks, last) = self.transformer.forward_tapped(&mut rec, &pre, &pattern)?;
        let x = blocks.last().unwrap_or(&pre).clone();
        let class = self.class_tokens(batch)?.of(&mut rec, &x)?;
        let (pooled, features) = self.head(&mut rec, &class)?;
        let plan = rec.finish()?;
        plan.run()?;
        Ok(ImageTaps { embedded, pre, blocks, last, pooled, features, plan })
    }
}
