//! The image tower, whichever kind a model has.

use super::config::{ClipConfig, ImageConfig};
use super::image_plan::ImagePlan;
use super::loader::Loader;
use super::resnet::ResNet;
use super::vit::VisionTransformer;
use crate::nn::Bottleneck;
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
            ImageConfig::Vit { tower, patch } => {
                ImageTower::Vit(VisionTransformer::load(loader, tower, *patch, size, embedding)?)
            }
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

    /// Records the tower for `batch` pictures, and beside it, where `adapters` are given, the tower with one of them in
    /// every block. What both have in common (all up to the first adapter) is computed once.
    ///
    /// # Errors
    /// Another number of adapters than blocks, or adapters for a ResNet; out of memory: a smaller batch needs less.
    pub fn plan_with(&self, batch: usize, adapters: Option<&[Bottleneck]>) -> Result<ImagePlan> {
        let plan = match (self, adapters) {
            (ImageTower::ResNet(net), None) => net.plan(batch),
            (_, adapters) => self.vit()?.plan_with(batch, adapters),
        }?;
        Ok(ImagePlan {
            features: plan.features.named("image features", DAMAGED),
            adapted: plan.adapted.map(|t| t.named("image features with the correction", CORRECTION)),
            ..plan
        })
    }
}
