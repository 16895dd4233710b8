//! The vision transformer: patches → pre-norm → blocks → class token → post-norm → projection (CLIP, arXiv 2103.00020).

mod taps;

use super::config::TowerConfig;
use super::image_plan::ImagePlan;
use super::loader::{Loader, Side};
use crate::Result;
use crate::gpu::{DType, Gpu, Recorder, Tensor};
use crate::kernels::attention::{self, Pattern};
use crate::kernels::gemm::Epilogue;
use crate::kernels::patch::{self, PatchEmbedding};
use crate::nn::{AdaptedSaved, Bottleneck, BottleneckGrads, FrozenLinear, LayerNorm, Picked, Transformer};

pub use taps::{AdaptedTaps, ImageTaps};

/// A frozen vision transformer.
pub struct VisionTransformer {
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

/// What [`VisionTransformer::backward_adapted`] needs of the forward pass.
pub struct AdaptedTowerSaved {
    /// Class tokens before the post-norm, and their statistics.
    class: Tensor,
    stats: Tensor,
    blocks: Vec<AdaptedSaved>,
}

impl VisionTransformer {
    /// A tower on pictures `size` pixels square.
    pub(super) fn load(
        loader: &Loader<'_>,
        config: &TowerConfig,
        patch: usize,
        size: usize,
        embedding: usize,
    ) -> Result<VisionTransformer> {
        let tokens = (size / patch).pow(2) + 1;
        let (pre, post) = loader.image_norms(config)?;
        Ok(VisionTransformer {
            gpu: loader.gpu.clone(),
            embedding: loader.patches(config.width, patch, tokens)?,
            pre,
            transformer: loader.transformer(Side::Image, config)?,
            post,
            projection: loader.projection(Side::Image, config.width, embedding)?,
            size,
            tokens,
        })
    }

    pub(super) fn most_at_once(&self) -> usize {
        attention::most_rows(&self.gpu).map_or(usize::MAX, |rows| (rows / self.tokens).max(1))
    }

    fn pixels(&self, batch: usize) -> Result<Tensor> {
        self.gpu.empty("pixels", &[batch, 3, self.size, self.size], DType::F32)
    }

    /// Rows of the class tokens of `batch` pictures.
    fn class_rows(&self, batch: usize) -> Vec<u32> {
        (0..batch).map(|b| (b * self.tokens) as u32).collect()
    }

    /// The class tokens of `batch` pictures, out of all tokens.
    fn class_tokens(&self, batch: usize) -> Result<Picked> {
        Picked::new(&self.gpu, &self.class_rows(batch), batch * self.tokens)
    }

    /// Class tokens `[batch, width]` → features; also gives the post-norm's output.
    fn head(&self, rec: &mut Recorder, class: &Tensor) -> Result<(Tensor, Tensor)> {
        let pooled = self.post.forward(rec, class)?.y;
        let features = self.projection.forward(rec, &pooled, &Epilogue::default())?;
        Ok((pooled, features))
    }

    /// Pixels → the blocks' input.
    fn tokens(&self, rec: &mut Recorder, pixels: &Tensor) -> Result<Tensor> {
        let x = patch::forward(rec, pixels, &self.embedding)?;
        Ok(self.pre.forward(rec, &x)?.y)
    }

    /// Which rows belong to which picture.
    ///
    /// # Errors
    /// Out of memory.
    pub fn pattern(&self, batch: usize) -> Result<Pattern> {
        Pattern::uniform(&self.gpu, batch, self.tokens, false)
    }

    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.post.gain.len()
    }

    /// Tokens of a picture, the class token among them.
    pub fn picture_tokens(&self) -> usize {
        self.tokens
    }

    /// Records the tower for `batch` pictures.
    ///
    /// # Errors
    /// Out of memory: a smaller batch needs less.
    pub fn plan(&self, batch: usize) -> Result<ImagePlan> {
        self.plan_with(batch, None)
    }

    /// Records the tower for `batch` pictures, and beside it, where `bottlenecks` are given, the tower with one of them in
    /// every block. What both have in common (all up to the first bottleneck) is computed once.
    ///
    /// # Errors
    /// Another number of bottlenecks than blocks; out of memory: a smaller batch needs less.
    pub fn plan_with(&self, batch: usize, bottlenecks: Option<&[Bottleneck]>) -> Result<ImagePlan> {
        let pixels = self.pixels(batch)?;
        let pattern = self.pattern(batch)?;
        let mut rec = Recorder::new(&self.gpu);
        let x = self.tokens(&mut rec, &pixels)?;
        let class = self.class_tokens(batch)?;
        let (plain, adapted) = match bottlenecks {
            Some(bottlenecks) => {
                let (plain, adapted) = self.transformer.forward_both(&mut rec, x, &pattern, &class, bottlenecks)?;
                (plain, Some(self.head(&mut rec, &adapted)?.1))
            }
            None => (self.transformer.forward(&mut rec, x, &pattern, &class)?, None),
        };
        let (_, features) = self.head(&mut rec, &plain)?;
        Ok(ImagePlan { pixels, features, adapted, plan: rec.finish()? })
    }

    /// Records the tower for `batch` pictures up to its projection: features are class tokens after the post-norm.
    ///
    /// # Errors
    /// As [`VisionTransformer::plan`].
    pub fn plan_unprojected(&self, batch: usize) -> Result<ImagePlan> {
        let (pixels, pattern) = (self.pixels(batch)?, self.pattern(batch)?);
        let mut rec = Recorder::new(&self.gpu);
        let x = self.tokens(&mut rec, &pixels)?;
        let class = self.class_tokens(batch)?;
        let class = self.transformer.forward(&mut rec, x, &pattern, &class)?;
        let features = self.post.forward(&mut rec, &class)?.y;
        Ok(ImagePlan { pixels, features, adapted: None, plan: rec.finish()? })
    }

    /// The last layer.
    pub(super) fn projection(&self) -> &FrozenLinear {
        &self.projection
    }

    /// Records the adapted tower for training its bottlenecks: un-normalised features `[batch, embedding]` of pixels
    /// `[batch, 3, R, R]`, and what backward needs.
    ///
    /// # Errors
    /// As [`Transformer::forward_adapted`].
    pub fn forward_adapted(
        &self,
        rec: &mut Recorder,
        pixels: &Tensor,
        pattern: &Pattern,
        bottlenecks: &[Bottleneck],
        masks: &[Tensor],
    ) -> Result<(Tensor, AdaptedTowerSaved)> {
        let batch = pixels.shape().first().copied().unwrap_or(0);
        let x = self.tokens(rec, pixels)?;
        let picked = self.class_tokens(batch)?;
        let (class, blocks) = self.transformer.forward_adapted(rec, x, pattern, &picked, bottlenecks, masks)?;
        let pooled = self.post.forward(rec, &class)?;
        let features = self.projection.forward(rec, &pooled.y, &Epilogue::default())?;
        Ok((features, AdaptedTowerSaved { class, stats: pooled.stats, blocks }))
    }

    /// Gradients of the bottlenecks from those of the features `[batch, embedding]`.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward_adapted(
        &self,
        rec: &mut Recorder,
        dfeatures: &Tensor,
        saved: AdaptedTowerSaved,
        pattern: &Pattern,
        bottlenecks: &[Bottleneck],
    ) -> Result<Vec<BottleneckGrads>> {
        let dpooled = self.projection.backward(rec, dfeatures)?;
        let dclass = self.post.backward(rec, &saved.class, &saved.stats, &dpooled, None)?;
        self.transformer.backward_adapted(rec, dclass, saved.blocks, pattern, bottlenecks)
    }
}
