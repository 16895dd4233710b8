//! The image tower, whichever kind a model has.

use super::config::{ClipConfig, ImageConfig};
use super::image_plan::ImagePlan;
use super::loader::Loader;
use super::resnet::ResNet;
use super::vit::VisionTransformer;
use crate::gpu::{Gpu, Recorder};
use crate::kernels::gemm::Epilogue;
use crate::nn::{Bottleneck, FrozenLinear};
use crate::{Error, Result};

/// Why features may come out as no numbers, as errors say it.
pub(super) const DAMAGED: &str = "this model's weights are damaged, or too large for the precision it runs in; fetch it again, \
                                  or run it in f32";

const CORRECTION: &str = "the weights of the correction or of this model are damaged or too large; train it again";

/// A frozen image tower.
pub enum ImageTower {
    /// A vision transformer.
    Vit(VisionTransformer),
    /// A modified ResNet.
    ResNet(ResNet),
}

impl ImageTower {
    pub(super) fn load(loader: &Loader<'_>, config: &ClipConfig) -> Result<ImageTower> {
        let (size, embedding) = (config.image_size, config.embedding);
        Ok(match &config.image {
            ImageConfig::Vit(vit) => ImageTower::Vit(VisionTransformer::load(loader, vit, size, embedding)?),
            ImageConfig::ResNet(net) => ImageTower::ResNet(ResNet::load(loader, net, size, embedding)?),
        })
    }

    /// The vision transformer, for what works with its blocks.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a ResNet.
    pub fn vit(&self) -> Result<&VisionTransformer> {
        match self {
            ImageTower::Vit(vit) => Ok(vit),
            ImageTower::ResNet(_) => Err(Error::invalid(
                "this model's image tower is a ResNet; a correction of the overlap sits in the blocks of a vision \
                 transformer, so take a ViT",
            )),
        }
    }

    /// The vision transformer, for noise on pixels: the gradient must come back to them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a ResNet, and for a stem of several convolutions.
    pub fn to_pixels(&self) -> Result<&VisionTransformer> {
        match self {
            ImageTower::Vit(vit) => vit.check_backward().map(|()| vit),
            ImageTower::ResNet(_) => Err(Error::invalid(
                "this model's image tower is a ResNet, through which tipi takes no gradient to the pixels: put PiNI's noise on \
                 text, image features or both, or take a ViT",
            )),
        }
    }

    /// Pictures that go through the tower at once at the most. With more rows than a texture holds, kernels that add up in
    /// another order would take over, and a picture's features would depend on how many go with it.
    pub(super) fn most_at_once(&self) -> usize {
        match self {
            ImageTower::Vit(vit) => vit.most_at_once(),
            ImageTower::ResNet(net) => net.most_at_once(),
        }
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
    /// Another number of bottlenecks than blocks, or bottlenecks for a ResNet; out of memory: a smaller batch needs less.
    pub fn plan_with(&self, batch: usize, bottlenecks: Option<&[Bottleneck]>) -> Result<ImagePlan> {
        let plan = match (self, bottlenecks) {
            (ImageTower::ResNet(net), None) => net.plan(batch),
            (_, bottlenecks) => self.vit()?.plan_with(batch, bottlenecks),
        }?;
        Ok(ImagePlan {
            features: plan.features.named("image features", DAMAGED),
            adapted: plan.adapted.map(|t| t.named("image features with the correction", CORRECTION)),
            ..plan
        })
    }

    /// Records the tower for `batch` pictures up to its last layer, the projection; features are `[batch, width]`.
    ///
    /// # Errors
    /// Out of memory: a smaller batch needs less.
    pub fn plan_unprojected(&self, batch: usize) -> Result<ImagePlan> {
        let plan = match self {
            ImageTower::Vit(vit) => vit.plan_unprojected(batch),
            ImageTower::ResNet(net) => net.plan_unprojected(batch),
        }?;
        Ok(ImagePlan { features: plan.features.named("image features before the projection", DAMAGED), ..plan })
    }

    fn last(&self) -> Option<&FrozenLinear> {
        match self {
            ImageTower::Vit(vit) => vit.projection(),
            ImageTower::ResNet(net) => Some(net.projection()),
        }
    }

    /// Width of what the projection takes; of the features themselves, where a tower has none.
    pub fn projected_width(&self) -> usize {
        match (self.last(), self) {
            (Some(layer), _) => layer.weight.cols(),
            (None, ImageTower::Vit(vit)) => vit.width(),
            (None, ImageTower::ResNet(_)) => 0,
        }
    }

    /// The projection on the host: weights `[embedding, width]`, and the bias `[embedding]` where there is one. That of a
    /// tower that has none (SigLIP's) leaves features as they are.
    ///
    /// # Errors
    /// A lost device.
    pub fn projection(&self, gpu: &Gpu) -> Result<Projection> {
        let width = self.projected_width();
        let mut unit = vec![0.0f32; width * width];
        unit.iter_mut().step_by(width + 1).for_each(|v| *v = 1.0);
        let Some(layer) = self.last() else { return Ok(Projection { weight: unit, bias: None, width }) };
        // Weights may lie in halves or in textures: the layer itself reads them, one input at a time.
        let unit = gpu.upload("unit", &unit, &[width, width])?;
        let mut rec = Recorder::new(gpu);
        let bare = FrozenLinear { bias: None, ..layer.clone() };
        let columns = bare.forward(&mut rec, &unit, &Epilogue::default())?;
        rec.finish()?.run()?;
        let (columns, out) = (gpu.read::<f32>(&columns)?, layer.weight.rows());
        let weight = (0..out).flat_map(|o| columns.iter().skip(o).step_by(out).copied()).collect();
        let bias = layer.bias.as_ref().map(|bias| gpu.read::<f32>(bias)).transpose()?;
        Ok(Projection { weight, bias, width })
    }
}

/// The last layer of an image tower, on the host.
pub struct Projection {
    /// `[embedding, width]`.
    pub weight: Vec<f32>,
    /// `[embedding]`, where there is one.
    pub bias: Option<Vec<f32>>,
    /// Its input's width.
    pub width: usize,
}
