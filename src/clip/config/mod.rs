//! What a checkpoint says of itself: `config.json` of a Hugging Face folder, `open_clip_config.json`, or, for OpenAI's
//! names without a configuration, what the tensors' shapes imply.

mod hf;
mod open_clip;
mod openai;

use std::path::Path;

use super::checkpoint::{Checkpoint, Names};
use super::preprocess::Preprocess;
use super::source::Source;
use crate::kernels::activation::Activation;
use crate::{Error, Result};

/// A transformer's sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct TowerConfig {
    /// Width of the residual stream.
    pub width: usize,
    /// Width of the MLPs.
    pub mlp: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Activation of the MLPs.
    pub activation: Activation,
    /// LayerNorm's eps.
    pub eps: f32,
}

/// The sizes of OpenAI's modified ResNet (CLIP, §2.4: a stem of three convolutions, average pools before what would be a
/// strided convolution, attention pooling).
#[derive(Clone, Debug, PartialEq)]
pub struct ResNetConfig {
    /// Bottleneck blocks of each of the four stages.
    pub stages: [usize; 4],
    /// Channels of the first stage's bottlenecks; the features have 32 times as many.
    pub width: usize,
    /// Heads of the attention pooling.
    pub heads: usize,
}

impl ResNetConfig {
    /// Channels of the last stage.
    pub fn channels(&self) -> usize {
        32 * self.width
    }
}

/// An image tower's architecture.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageConfig {
    /// A vision transformer on patches of this many pixels square.
    Vit {
        /// The transformer.
        tower: TowerConfig,
        /// Side of a patch in pixels.
        patch: usize,
    },
    /// A modified ResNet.
    ResNet(ResNetConfig),
}

/// How the end token of a text is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndToken {
    /// The position of the highest id: OpenAI, and Hugging Face configs whose eos_token_id is 2.
    HighestId,
    /// The first position that holds this id.
    First(u32),
}

impl EndToken {
    /// The end token's position in `ids`; `None` when there is none.
    pub fn position(self, ids: &[u32]) -> Option<usize> {
        match self {
            // The first of equals, as argmax.
            EndToken::HighestId => {
                let top = ids.iter().max()?;
                ids.iter().position(|id| id == top)
            }
            EndToken::First(end) => ids.iter().position(|id| *id == end),
        }
    }
}

/// A CLIP's architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipConfig {
    /// Image tower.
    pub image: ImageConfig,
    /// Text tower.
    pub text: TowerConfig,
    /// Pictures are this many pixels square.
    pub image_size: usize,
    /// Longest text in tokens, markers included.
    pub context: usize,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Width of the joint space.
    pub embedding: usize,
    /// How a text's end token is found.
    pub end: EndToken,
}

/// Sizes past this are no CLIP but a broken or hostile file: they would only end in absurd allocations.
const LARGEST: usize = 1 << 20;

/// The name of open_clip's configuration.
pub(super) const OPEN_CLIP: &str = "open_clip_config.json";

impl ClipConfig {
    /// A model's checkpoint, architecture and preparation of pictures, without reading the weights. A family that
    /// tipi does not have is told by its configuration, which says more than names of tensors.
    ///
    /// # Errors
    /// As [`Checkpoint::of`] and [`ClipConfig::of_folder`].
    pub fn open(source: &Source) -> Result<(Checkpoint, ClipConfig, Preprocess)> {
        let folder = source.folder();
        let checkpoint = Checkpoint::of(source).map_err(|error| {
            let refusal = |name: &str, read: &dyn Fn(&Path) -> Result<()>| {
                let path = folder.join(name);
                if path.exists() { read(&path).err() } else { None }
            };
            let open_clip = refusal(OPEN_CLIP, &|path| open_clip::read(path).map(drop));
            open_clip.or_else(|| refusal("config.json", &|path| hf::read(path).map(drop))).unwrap_or(error)
        })?;
        let (config, preprocess) = ClipConfig::of_folder(folder, &checkpoint)?;
        Ok((checkpoint, config, preprocess))
    }

    /// The architecture of a model folder and how its pictures are prepared. Weights under Hugging Face's names are
    /// described by config.json and preprocessor_config.json, those under OpenAI's by open_clip_config.json, else by
    /// config.json, else by their own shapes.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Config`] for malformed JSON, sizes of zero, heads that do not divide the width, settings
    /// and families that tipi does not have; [`Error::MissingTensor`].
    pub fn of_folder(folder: &Path, checkpoint: &Checkpoint) -> Result<(ClipConfig, Preprocess)> {
        let (hf, open_clip) = (folder.join("config.json"), folder.join(OPEN_CLIP));
        if checkpoint.names() == Names::OpenAi && open_clip.exists() {
            return open_clip::read(&open_clip);
        }
        let config = if checkpoint.names() == Names::HuggingFace || hf.exists() {
            hf::read(&hf)?
        } else {
            openai::infer(checkpoint)?
        };
        let preprocess = Preprocess::of_folder(folder, config.image_size)?;
        Ok((config, preprocess))
    }

    fn check(&self, path: &Path) -> Result<()> {
        let mut sizes = vec![
            ("text width", self.text.width),
            ("text MLP width", self.text.mlp),
            ("text layers", self.text.layers),
            ("text heads", self.text.heads),
            ("image size", self.image_size),
            ("context length", self.context),
            ("vocabulary", self.vocabulary),
            ("embedding width", self.embedding),
        ];
        let mut towers = vec![("text", &self.text)];
        match &self.image {
            ImageConfig::Vit { tower, patch } => {
                sizes.extend([
                    ("image width", tower.width),
                    ("image MLP width", tower.mlp),
                    ("image layers", tower.layers),
                    ("image heads", tower.heads),
                    ("patch size", *patch),
                ]);
                towers.push(("image", tower));
            }
            ImageConfig::ResNet(net) => {
                sizes.extend(net.stages.map(|n| ("blocks of a stage", n)));
                sizes.extend([("image width", net.width), ("image heads", net.heads)]);
            }
        }
        for (what, size) in sizes {
            if size == 0 || size > LARGEST {
                return Err(Error::config(path, format!("{what} is {size}; it must lie between 1 and {LARGEST}")));
            }
        }
        for (what, tower) in towers {
            if tower.width % tower.heads != 0 {
                return Err(Error::config(
                    path,
                    format!("{what} width {} is not divisible by its {} heads", tower.width, tower.heads),
                ));
            }
            if !(tower.eps > 0.0 && tower.eps < 1.0) {
                return Err(Error::config(path, format!("{what} layer_norm_eps is {}", tower.eps)));
            }
        }
        match &self.image {
            ImageConfig::Vit { patch, .. } if *patch > self.image_size => {
                let size = self.image_size;
                Err(Error::config(path, format!("patch size {patch} is larger than the image size {size}")))
            }
            ImageConfig::ResNet(net) if !self.image_size.is_multiple_of(32) || net.channels() % net.heads != 0 => {
                Err(Error::config(
                    path,
                    format!(
                        "a ResNet takes pictures whose side is a multiple of 32 and heads that divide its {} channels; \
                         the side is {}, the heads are {}",
                        net.channels(),
                        self.image_size,
                        net.heads
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Patches along one side of a picture; for a ResNet, positions along one side of its last stage.
    pub fn grid(&self) -> usize {
        match &self.image {
            ImageConfig::Vit { patch, .. } => self.image_size / patch,
            ImageConfig::ResNet(_) => self.image_size / 32,
        }
    }

    /// Tokens that attention in the image tower sees: the class token (or the mean) and the grid.
    pub fn image_tokens(&self) -> usize {
        self.grid() * self.grid() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::EndToken;

    #[test]
    fn end_tokens_are_found_as_the_authors_find_them() {
        assert_eq!(EndToken::HighestId.position(&[9, 3, 11, 4, 11, 0]), Some(2));
        assert_eq!(EndToken::First(4).position(&[9, 3, 11, 4, 11, 4]), Some(3));
        assert_eq!(EndToken::First(5).position(&[9, 3]), None);
    }
}
