//! What a checkpoint says of itself: `config.json` of a Hugging Face folder, `open_clip_config.json`, or, for OpenAI's
//! names without a configuration, what the tensors' shapes imply.

mod hf;
mod open_clip;
mod openai;
mod text;
mod timm;
mod vit;

use std::path::Path;

use super::checkpoint::Checkpoint;
use super::frame::Frame;
use super::names::Names;
use super::preprocess::Preprocess;
use super::source::Source;
use crate::nn::{Hidden, Norms};
use crate::{Error, Result, input};

pub use text::TextStem;
pub use vit::{Pool, ProjectionForm, Rotary, Stem, VitConfig};

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
    /// What is between an MLP's two layers.
    pub hidden: Hidden,
    /// LayerNorm's eps.
    pub eps: f32,
    /// Which of queries, keys and values have a bias.
    pub biases: Biases,
    /// Norms of the mixed heads and of the MLP's hidden rows (EVA-02).
    pub inner_norms: bool,
    /// Factors per channel of what attention and MLP add (LayerScale, arXiv 2103.17239).
    pub layer_scale: bool,
    /// Where the norms of the blocks stand.
    pub norms: Norms,
}

/// Which of queries, keys and values have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Biases {
    /// All three.
    All,
    /// Queries and values: EVA.
    NoKey,
    /// None.
    None,
}

impl TowerConfig {
    /// A tower as CLIP's: no more than the sizes and the activation.
    pub(super) fn plain([width, mlp, layers, heads]: [usize; 4], hidden: Hidden, eps: f32) -> TowerConfig {
        let (biases, inner_norms, layer_scale, norms) = (Biases::All, false, false, Norms::Before);
        TowerConfig { width, mlp, layers, heads, hidden, eps, biases, inner_norms, layer_scale, norms }
    }
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
    /// A vision transformer.
    Vit(VitConfig),
    /// A modified ResNet.
    ResNet(ResNetConfig),
}

/// Which of a text's tokens its features are read from: one, its end token, which is found in some way, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndToken {
    /// The position of the highest id: OpenAI, and Hugging Face configs whose eos_token_id is 2.
    HighestId,
    /// The first position that holds this id.
    First(u32),
    /// The last position, whatever it holds: SigLIP, CLIPA.
    Last,
    /// None: the features are made of the mean of all tokens. RoBERTa, XLM-RoBERTa.
    Mean {
        /// What fills a text up. Wherever it stands it is no token of the text: nothing attends to it, and it has no position.
        pad: u32,
    },
}

impl EndToken {
    /// The end token's position in `ids`; `None` when there is none, as where all tokens are read.
    pub fn position(self, ids: &[u32]) -> Option<usize> {
        match self {
            // The first of equals, as argmax.
            EndToken::HighestId => {
                let top = ids.iter().max()?;
                ids.iter().position(|id| id == top)
            }
            EndToken::First(end) => ids.iter().position(|id| *id == end),
            EndToken::Last => ids.len().checked_sub(1),
            EndToken::Mean { .. } => None,
        }
    }

    /// What `ids` lack to have features, in words; `None` where they have all.
    pub fn lacking(self, ids: &[u32]) -> Option<&'static str> {
        match self {
            EndToken::Mean { pad } if ids.iter().all(|id| *id == pad) => Some("no token but padding"),
            EndToken::Mean { .. } => None,
            _ if self.position(ids).is_none() => Some("no end token"),
            _ => None,
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
    /// What makes the text tower's rows of ids.
    pub text_stem: TextStem,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Width of the joint space.
    pub embedding: usize,
    /// Which of a text's tokens its features are read from.
    pub end: EndToken,
    /// Whether a token of a text sees those before it only. Where it sees all, padding counts, too.
    pub causal: bool,
    /// The text tower's last layer.
    pub text_projection: ProjectionForm,
    /// Whether logits get a bias: SigLIP, whose probabilities are sigmoids.
    pub logit_bias: bool,
    /// How a text's ids become a prompt.
    pub frame: Frame,
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
                if input::exists(&path) { read(&path).err() } else { None }
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
        let config = match checkpoint.names() {
            Names::OpenAi if input::exists(&open_clip) => return open_clip::read(&open_clip),
            // Only its configuration says which of timm's towers it is.
            Names::Timm => return open_clip::read(&open_clip),
            Names::OpenAi if !input::exists(&hf) => openai::infer(checkpoint)?,
            _ => hf::read(&hf)?,
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
            ImageConfig::Vit(vit) => {
                let tower = &vit.tower;
                sizes.extend([
                    ("image width", tower.width),
                    ("image MLP width", tower.mlp),
                    ("image layers", tower.layers),
                    ("image heads", tower.heads),
                    ("patch size", vit.patch),
                ]);
                if let Pool::Attention { heads, mlp, .. } = vit.pool {
                    sizes.extend([("heads of the pooling", heads), ("MLP width of the pooling", mlp)]);
                }
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
        if let Some(most) = self.text_stem.most().filter(|most| self.context > *most) {
            let reason = format!("context length is {}; the text tower has positions for {most} tokens", self.context);
            return Err(Error::config(path, reason));
        }
        match &self.image {
            ImageConfig::Vit(vit) => vit.check(path, self.image_size),
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
            ImageConfig::ResNet(_) => Ok(()),
        }
    }

    /// Patches along one side of a picture; for a ResNet, positions along one side of its last stage.
    pub fn grid(&self) -> usize {
        match &self.image {
            ImageConfig::Vit(vit) => self.image_size / vit.patch,
            ImageConfig::ResNet(_) => self.image_size / 32,
        }
    }

    /// Tokens that attention in the image tower sees: the grid, and the class token (or a ResNet's mean) where there is one.
    pub fn image_tokens(&self) -> usize {
        let class = match &self.image {
            ImageConfig::Vit(vit) => vit.class,
            ImageConfig::ResNet(_) => true,
        };
        self.grid() * self.grid() + usize::from(class)
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
        assert_eq!((EndToken::Last.position(&[9, 3, 1]), EndToken::Last.position(&[])), (Some(2), None));
        let mean = EndToken::Mean { pad: 1 };
        assert_eq!((mean.position(&[0, 2]), mean.lacking(&[1, 1, 2])), (None, None));
        assert!(mean.lacking(&[1, 1]).is_some() && mean.lacking(&[]).is_some());
        assert!(EndToken::First(5).lacking(&[9, 3]).is_some() && EndToken::Last.lacking(&[9]).is_none());
    }
}
