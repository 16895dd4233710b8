//! The image tower: patches → pre-norm → blocks → class token → post-norm → projection (CLIP, arXiv 2103.00020).

use super::config::ClipConfig;
use super::weights::{Loader, Side};
use crate::Result;
use crate::gpu::{DType, Gpu, Plan, Recorder, Tensor};
use crate::kernels::attention::Pattern;
use crate::kernels::gather;
use crate::kernels::gemm::Epilogue;
use crate::kernels::patch::{self, PatchEmbedding};
use crate::nn::{FrozenLinear, LayerNorm, Taps, Transformer};

/// A frozen image tower.
pub struct ImageTower {
    gpu: Gpu,
    embedding: PatchEmbedding,
    pre: LayerNorm,
    /// The blocks.
    pub transformer: Transformer,
    post: LayerNorm,
    projection: FrozenLinear,
    size: usize,
    tokens: usize,
}

/// The tower recorded for one batch size: write `pixels`, run, read `features`.
pub struct ImagePlan {
    /// `[batch, 3, R, R]`, normalised.
    pub pixels: Tensor,
    /// `[batch, embedding]`, un-normalised.
    pub features: Tensor,
    /// The recorded step.
    pub plan: Plan,
}

/// Everything that a comparison with another implementation looks at, for a whole batch.
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

impl ImageTower {
    pub(super) fn load(loader: &Loader<'_>, config: &ClipConfig) -> Result<ImageTower> {
        let (pre, post) = loader.image_norms(&config.image)?;
        Ok(ImageTower {
            gpu: loader.gpu.clone(),
            embedding: loader.patches(config)?,
            pre,
            transformer: loader.transformer(Side::Image, &config.image)?,
            post,
            projection: loader.projection(Side::Image, config.image.width, config.embedding)?,
            size: config.image_size,
            tokens: config.image_tokens(),
        })
    }

    fn pixels(&self, batch: usize) -> Result<Tensor> {
        self.gpu.empty("pixels", &[batch, 3, self.size, self.size], DType::F32)
    }

    /// Class tokens → features; also gives the post-norm's output.
    fn head(&self, rec: &mut Recorder, x: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let index: Vec<u32> = (0..batch).map(|b| (b * self.tokens) as u32).collect();
        let index = self.gpu.upload("class tokens", &index, &[batch])?;
        let class = gather::rows(rec, x, &index)?;
        let pooled = self.post.forward(rec, &class)?.y;
        let features = self.projection.forward(rec, &pooled, &Epilogue::default())?;
        Ok((pooled, features))
    }

    /// Records the tower for `batch` pictures.
    ///
    /// # Errors
    /// Out of memory: a smaller batch needs less.
    pub fn plan(&self, batch: usize) -> Result<ImagePlan> {
        let pixels = self.pixels(batch)?;
        let pattern = Pattern::uniform(&self.gpu, batch, self.tokens, false)?;
        let mut rec = Recorder::new(&self.gpu);
        let x = patch::forward(&mut rec, &pixels, &self.embedding)?;
        let x = self.pre.forward(&mut rec, &x)?.y;
        let x = self.transformer.forward(&mut rec, x, &pattern)?;
        let (_, features) = self.head(&mut rec, &x, batch)?;
        Ok(ImagePlan { pixels, features, plan: rec.finish()? })
    }

    /// Runs the tower once on `pixels`, keeping its insides. For comparison with other implementations.
    ///
    /// # Errors
    /// Pixels that do not fill `[batch, 3, R, R]`; out of memory.
    pub fn tapped(&self, pixels: &[f32], batch: usize) -> Result<ImageTaps> {
        let input = self.pixels(batch)?;
        self.gpu.write(&input, pixels)?;
        let pattern = Pattern::uniform(&self.gpu, batch, self.tokens, false)?;
        let mut rec = Recorder::new(&self.gpu);
        let embedded = patch::forward(&mut rec, &input, &self.embedding)?;
        let pre = self.pre.forward(&mut rec, &embedded)?.y;
        let (blocks, last) = self.transformer.forward_tapped(&mut rec, &pre, &pattern)?;
        let x = blocks.last().unwrap_or(&pre).clone();
        let (pooled, features) = self.head(&mut rec, &x, batch)?;
        let plan = rec.finish()?;
        plan.run()?;
        Ok(ImageTaps { embedded, pre, blocks, last, pooled, features, plan })
    }
}
