//! The vision transformer: patches → pre-norm → blocks → pool and last norm → projection (CLIP, arXiv 2103.00020, and the
//! families whose towers a [`VitConfig`] describes).

mod crops;
mod pool;
mod stem;
mod taps;

use super::config::VitConfig;
use super::image_plan::ImagePlan;
use super::loader::Loader;
use crate::Result;
use crate::gpu::{DType, Gpu, Recorder, Tensor};
use crate::kernels::attention::{self, Pattern};
use crate::kernels::gemm::Epilogue;
use crate::kernels::rotary::Angles;
use crate::nn::{AdaptedSaved, Bottleneck, BottleneckGrads, FrozenLinear, LayerNorm, Picked, Saved, Transformer};
use pool::Pool;
use stem::Stem;

pub use crops::{CropFeatures, CropSizes, Crops};
pub use taps::{AdaptedTaps, ImageTaps};

/// A frozen vision transformer.
pub struct VisionTransformer {
    gpu: Gpu,
    stem: Stem,
    pre: Option<LayerNorm>,
    /// The blocks.
    pub transformer: Transformer,
    pool: Pool,
    projection: Option<FrozenLinear>,
    size: usize,
    tokens: usize,
}

/// What [`VisionTransformer::backward_adapted`] needs of the forward pass.
pub struct AdaptedTowerSaved {
    pool: pool::Saved,
    blocks: Vec<AdaptedSaved>,
}

/// What [`VisionTransformer::backward`] needs of the forward pass.
pub struct TowerSaved {
    /// The norm before the blocks: its input and statistics.
    pre: Option<(Tensor, Tensor)>,
    blocks: Vec<Saved>,
    pool: pool::Saved,
}

impl VisionTransformer {
    /// A tower on pictures `size` pixels square.
    pub(super) fn load(
        loader: &Loader<'_>,
        config: &VitConfig,
        size: usize,
        embedding: usize,
    ) -> Result<VisionTransformer> {
        let (scheme, tower) = (loader.checkpoint.names(), &config.tower);
        let names = scheme.image();
        let (grid, class) = (size / config.patch, usize::from(config.class));
        let tokens = grid * grid + class;
        let head = tower.width / tower.heads;
        let angles =
            config.rotary.map(|rotary| Angles::upload(loader.gpu, &rotary.angles(class, grid, head), tokens, head));
        let pre = config.pre_norm.then(|| loader.norm(names.pre, tower.width, tower.eps));
        let blocks = scheme.image_block(tower);
        let projection = ("", scheme.image_projection(config));
        Ok(VisionTransformer {
            gpu: loader.gpu.clone(),
            stem: Stem::load(loader, config, size)?,
            pre: pre.transpose()?,
            transformer: loader.transformer(names.blocks, blocks, tower, angles.transpose()?)?,
            pool: Pool::load(loader, config, tokens)?,
            projection: loader.projection(projection, config.projection, tower.width, embedding)?,
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

    /// The rows of `batch` pictures that the last block computes; all where none are named.
    fn picked(&self, batch: usize) -> Result<Option<Picked>> {
        self.pool.picked(&self.gpu, batch)
    }

    /// The blocks' output → features; also gives what the projection takes.
    fn head(&self, rec: &mut Recorder, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let pooled = self.pool.forward(rec, x)?;
        let features = self.project(rec, &pooled)?;
        Ok((pooled, features))
    }

    fn project(&self, rec: &mut Recorder, pooled: &Tensor) -> Result<Tensor> {
        match &self.projection {
            Some(projection) => projection.forward(rec, pooled, &Epilogue::default()),
            None => Ok(pooled.clone()),
        }
    }

    /// Pixels → the blocks' input.
    fn tokens(&self, rec: &mut Recorder, pixels: &Tensor) -> Result<Tensor> {
        let x = self.stem.forward(rec, pixels)?;
        self.normed(rec, x)
    }

    /// Through the norm before the blocks, where there is one.
    fn normed(&self, rec: &mut Recorder, x: Tensor) -> Result<Tensor> {
        match &self.pre {
            Some(norm) => Ok(norm.forward(rec, &x)?.y),
            None => Ok(x),
        }
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
        self.pool.width()
    }

    /// Tokens of a picture, the class token among them where there is one.
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
        let picked = self.picked(batch)?;
        let picked = picked.as_ref();
        let (plain, adapted) = match bottlenecks {
            Some(bottlenecks) => {
                let (plain, adapted) = self.transformer.forward_both(&mut rec, x, &pattern, picked, bottlenecks)?;
                (plain, Some(self.head(&mut rec, &adapted)?.1))
            }
            None => (self.transformer.forward(&mut rec, x, &pattern, picked)?, None),
        };
        let (_, features) = self.head(&mut rec, &plain)?;
        Ok(ImagePlan { pixels, features, adapted, plan: rec.finish()? })
    }

    /// Records the tower for `batch` pictures up to its projection: features are what the projection takes.
    ///
    /// # Errors
    /// As [`VisionTransformer::plan`].
    pub fn plan_unprojected(&self, batch: usize) -> Result<ImagePlan> {
        let (pixels, pattern) = (self.pixels(batch)?, self.pattern(batch)?);
        let mut rec = Recorder::new(&self.gpu);
        let x = self.tokens(&mut rec, &pixels)?;
        let picked = self.picked(batch)?;
        let x = self.transformer.forward(&mut rec, x, &pattern, picked.as_ref())?;
        let features = self.pool.forward(&mut rec, &x)?;
        Ok(ImagePlan { pixels, features, adapted: None, plan: rec.finish()? })
    }

    /// The last layer, where there is one.
    pub(super) fn projection(&self) -> Option<&FrozenLinear> {
        self.projection.as_ref()
    }

    /// Whether [`VisionTransformer::backward`] reaches the pixels.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid), which says why not.
    pub fn check_backward(&self) -> Result<()> {
        self.stem.check_backward()
    }

    /// Records un-normalised features `[batch, embedding]` of pixels `[batch, 3, R, R]`.
    ///
    /// # Errors
    /// Pixels of another shape; out of memory.
    pub fn record(&self, rec: &mut Recorder, pixels: &Tensor) -> Result<Tensor> {
        let batch = pixels.shape().first().copied().unwrap_or(0);
        let pattern = self.pattern(batch)?;
        let x = self.tokens(rec, pixels)?;
        let picked = self.picked(batch)?;
        let x = self.transformer.forward(rec, x, &pattern, picked.as_ref())?;
        Ok(self.head(rec, &x)?.1)
    }

    /// The same, and what backward needs.
    ///
    /// # Errors
    /// Pixels of another shape; out of memory.
    pub fn forward_saved(
        &self,
        rec: &mut Recorder,
        pixels: &Tensor,
        pattern: &Pattern,
    ) -> Result<(Tensor, TowerSaved)> {
        let batch = pixels.shape().first().copied().unwrap_or(0);
        let tokens = self.stem.forward(rec, pixels)?;
        let (x, pre) = match &self.pre {
            Some(norm) => {
                let normed = norm.forward(rec, &tokens)?;
                (normed.y, Some((tokens, normed.stats)))
            }
            None => (tokens, None),
        };
        let picked = self.picked(batch)?;
        let (x, blocks) = self.transformer.forward_saved(rec, &x, pattern, picked.as_ref())?;
        let (pooled, pool) = self.pool.forward_saved(rec, &x)?;
        let features = self.project(rec, &pooled)?;
        Ok((features, TowerSaved { pre, blocks, pool }))
    }

    /// The gradient `[batch, 3, R, R]` by the pixels from that by the features `[batch, embedding]`. Nothing of the tower gets one.
    ///
    /// # Errors
    /// As [`VisionTransformer::check_backward`]; shapes that do not fit; out of memory.
    pub fn backward(
        &self,
        rec: &mut Recorder,
        dfeatures: &Tensor,
        saved: TowerSaved,
        pattern: &Pattern,
    ) -> Result<Tensor> {
        let TowerSaved { pre, blocks, pool } = saved;
        let dpooled = self.project_back(rec, dfeatures)?;
        let dx = self.pool.backward(rec, &dpooled, pool)?;
        let dx = self.transformer.backward(rec, dx, blocks, pattern)?;
        let dtokens = match (&self.pre, pre) {
            (Some(norm), Some((x, stats))) => norm.backward(rec, &x, &stats, &dx, None)?,
            _ => dx,
        };
        self.stem.backward(rec, &dtokens, self.size)
    }

    fn project_back(&self, rec: &mut Recorder, dfeatures: &Tensor) -> Result<Tensor> {
        match &self.projection {
            Some(projection) => projection.backward(rec, dfeatures),
            None => Ok(dfeatures.clone()),
        }
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
        let picked = self.picked(batch)?;
        let (x, blocks) = self.transformer.forward_adapted(rec, x, pattern, picked.as_ref(), bottlenecks, masks)?;
        let (pooled, pool) = self.pool.forward_saved(rec, &x)?;
        let features = self.project(rec, &pooled)?;
        Ok((features, AdaptedTowerSaved { pool, blocks }))
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
        let dpooled = self.project_back(rec, dfeatures)?;
        let dx = self.pool.backward(rec, &dpooled, saved.pool)?;
        self.transformer.backward_adapted(rec, dx, saved.blocks, pattern, bottlenecks)
    }
}
