//! The insides of an image tower, for comparison with other implementations. Only tests look at them; see `clip::ImageTaps`.

use super::VisionTransformer;
use crate::Result;
use crate::gpu::{Plan, Recorder, Tensor};
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
    /// What the projection takes.
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
        let (_, features) = self.tapped_head(&mut rec, blocks.last().unwrap_or(&x), batch)?;
        rec.finish()?.run()?;
        Ok(AdaptedTaps { blocks, branch, features })
    }

    /// All rows of the blocks' output → what the projection takes, and features.
    fn tapped_head(&self, rec: &mut Recorder, x: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let x = match self.picked(batch)? {
            Some(picked) => picked.of(rec, x)?,
            None => x.clone(),
        };
        self.head(rec, &x)
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
        let embedded = self.stem.forward(&mut rec, &input)?;
        let pre = match &self.pre {
            Some(norm) => norm.forward(&mut rec, &embedded)?.y,
            None => embedded.clone(),
        };
        let (blocks, last) = self.transformer.forward_tapped(&mut rec, &pre, &pattern)?;
        let x = blocks.last().unwrap_or(&pre).clone();
        let (pooled, features) = self.tapped_head(&mut rec, &x, batch)?;
        let plan = rec.finish()?;
        plan.run()?;
        Ok(ImageTaps { embedded, pre, blocks, last, pooled, features, plan })
    }
}
