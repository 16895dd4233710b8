//! The image tower, whichever kind a model has.

use super::config::{ClipConfig, ImageConfig};
use super::loader::Loader;
use super::resnet::ResNet;
use super::vit::VisionTransformer;
use crate::gpu::{Plan, Tensor};
use crate::nn::Bottleneck;
use crate::{Error, Result};

/// A frozen image tower.
pub enum ImageTower {
    /// A vision transformer.
    Vit(VisionTransformer),
    /// A modified ResNet.
    ResNet(ResNet),
}

/// The tower recorded for one batch size: write `pixels`, run, read `features`.
pub struct ImagePlan {
    /// `[batch, 3, R, R]`, normalised.
    pub pixels: Tensor,
    /// `[batch, embedding]`, un-normalised.
    pub features: Tensor,
    /// Features of the tower with bottleneck adapters, where it was recorded with some.
    pub adapted: Option<Tensor>,
    /// The recorded step.
    pub plan: Plan,
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
        match (self, adapters) {
            (ImageTower::ResNet(net), None) => net.plan(batch),
            (_, adapters) => self.vit()?.plan_with(batch, adapters),
        }
    }
}
