//! What a checkpoint says of itself: config.json and preprocessor_config.json of a Hugging Face folder, or, for
//! OpenAI's names without a config, what the tensors' shapes imply.

use std::path::Path;

use serde::Deserialize;

use super::weights::{Checkpoint, Names};
use crate::data::Normalize;
use crate::kernels::activation::Activation;
use crate::{Error, Result};

/// One tower's sizes.
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
    pub image: TowerConfig,
    /// Text tower.
    pub text: TowerConfig,
    /// Pictures are this many pixels square.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Longest text in tokens, markers included.
    pub context: usize,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Width of the joint space.
    pub embedding: usize,
    /// How a text's end token is found.
    pub end: EndToken,
}

/// How pictures become pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Side of the resized and cropped picture.
    pub size: usize,
    /// Mean and standard deviation per channel.
    pub normalize: Normalize,
}

/// Keys that a config.json leaves out have transformers' defaults (CLIPTextConfig, CLIPVisionConfig: those of OpenAI's
/// ViT-B/32). If the file means other sizes, the weights' shapes contradict them and loading says so.
#[derive(Deserialize)]
#[serde(default)]
struct HfConfig {
    projection_dim: usize,
    text_config: Option<HfText>,
    vision_config: Option<HfVision>,
}

impl Default for HfConfig {
    fn default() -> Self {
        HfConfig { projection_dim: 512, text_config: None, vision_config: None }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct HfText {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    vocab_size: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    eos_token_id: Option<u32>,
}

impl Default for HfText {
    fn default() -> Self {
        HfText {
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            vocab_size: 49408,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            eos_token_id: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct HfVision {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: usize,
    patch_size: usize,
    num_channels: usize,
    hidden_act: String,
    layer_norm_eps: f32,
}

impl Default for HfVision {
    fn default() -> Self {
        HfVision {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 32,
            num_channels: 3,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum HfSize {
    Edge(usize),
    Shortest { shortest_edge: usize },
    Box { height: usize, width: usize },
}

impl HfSize {
    fn side(&self) -> Option<usize> {
        match self {
            HfSize::Edge(side) | HfSize::Shortest { shortest_edge: side } => Some(*side),
            HfSize::Box { height, width } => (height == width).then_some(*height),
        }
    }
}

#[derive(Deserialize)]
struct HfPreprocess {
    size: Option<HfSize>,
    crop_size: Option<HfSize>,
    do_resize: Option<bool>,
    do_center_crop: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    rescale_factor: Option<f64>,
    resample: Option<u32>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

/// OpenAI's mean and standard deviation.
const OPENAI: Normalize = Normalize::CLIP;

fn activation(path: &Path, name: &str) -> Result<Activation> {
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::Gelu),
        other => Err(Error::config(path, format!("hidden_act '{other}' is not known; 'quick_gelu' and 'gelu' are"))),
    }
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::config(path, format!("not a valid configuration: {e}")))
}

/// Sizes past this are no CLIP but a broken or hostile file: they would only end in absurd allocations.
const LARGEST: usize = 1 << 20;

impl ClipConfig {
    /// Reads a Hugging Face `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Config`] for malformed JSON, missing keys, sizes of zero, heads that do not divide the
    /// width.
    pub fn from_hf(path: &Path) -> Result<ClipConfig> {
        let hf: HfConfig = parse(path)?;
        let both = "; a CLIP's config.json has text_config and vision_config";
        let part = |name: &str| Error::config(path, format!("{name} is missing{both}"));
        let t = hf.text_config.as_ref().ok_or_else(|| part("text_config"))?;
        let v = hf.vision_config.as_ref().ok_or_else(|| part("vision_config"))?;
        if v.num_channels != 3 {
            return Err(Error::config(path, "vision_config.num_channels must be 3"));
        }
        let embedding = hf.projection_dim;
        let config = ClipConfig {
            image: TowerConfig {
                width: v.hidden_size,
                mlp: v.intermediate_size,
                layers: v.num_hidden_layers,
                heads: v.num_attention_heads,
                activation: activation(path, &v.hidden_act)?,
                eps: v.layer_norm_eps,
            },
            text: TowerConfig {
                width: t.hidden_size,
                mlp: t.intermediate_size,
                layers: t.num_hidden_layers,
                heads: t.num_attention_heads,
                activation: activation(path, &t.hidden_act)?,
                eps: t.layer_norm_eps,
            },
            image_size: v.image_size,
            patch: v.patch_size,
            context: t.max_position_embeddings,
            vocabulary: t.vocab_size,
            embedding,
            end: match t.eos_token_id {
                // transformers' configs written before its fix of the end token say 2 and mean the highest id.
                None | Some(2) => EndToken::HighestId,
                Some(id) => EndToken::First(id),
            },
        };
        config.check(path)?;
        Ok(config)
    }

    /// Infers the architecture of a checkpoint with OpenAI's names from its tensors: heads are 64 wide and the
    /// activation is QuickGELU, as OpenAI's loader has it.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Config`].
    pub fn from_openai(checkpoint: &Checkpoint) -> Result<ClipConfig> {
        let dim = |name: &str, axis: usize| -> Result<usize> {
            let shape = checkpoint.shape(name)?;
            shape.get(axis).copied().ok_or_else(|| Error::TensorForm {
                path: checkpoint.path().to_path_buf(),
                tensor: name.into(),
                expected: format!("at least {} dimensions", axis + 1),
                found: format!("{shape:?}"),
            })
        };
        let tower = |prefix: &str, width: usize| -> Result<TowerConfig> {
            Ok(TowerConfig {
                width,
                mlp: dim(&format!("{prefix}resblocks.0.mlp.c_fc.weight"), 0)?,
                layers: checkpoint.count_layers(&format!("{prefix}resblocks.")),
                heads: width / 64,
                activation: Activation::QuickGelu,
                eps: 1e-5,
            })
        };
        let image_width = dim("visual.conv1.weight", 0)?;
        let patch = dim("visual.conv1.weight", 3)?;
        let tokens = dim("visual.positional_embedding", 0)?;
        let grid = (tokens.saturating_sub(1) as f64).sqrt().round() as usize;
        let text_width = dim("ln_final.weight", 0)?;
        let config = ClipConfig {
            image: tower("visual.transformer.", image_width)?,
            text: tower("transformer.", text_width)?,
            image_size: grid * patch,
            patch,
            context: dim("positional_embedding", 0)?,
            vocabulary: dim("token_embedding.weight", 0)?,
            embedding: dim("text_projection", 1)?,
            end: EndToken::HighestId,
        };
        if grid * grid + 1 != tokens {
            return Err(Error::config(
                checkpoint.path(),
                format!("visual.positional_embedding has {tokens} rows, which is not a square number and one"),
            ));
        }
        config.check(checkpoint.path())?;
        Ok(config)
    }

    /// The configuration of a model folder, whichever names its checkpoint has.
    ///
    /// # Errors
    /// As [`ClipConfig::from_hf`] and [`ClipConfig::from_openai`].
    pub fn of_folder(folder: &Path, checkpoint: &Checkpoint) -> Result<ClipConfig> {
        // A configuration that is there counts, whichever names the tensors have.
        let path = folder.join("config.json");
        match checkpoint.names() {
            Names::OpenAi if !path.exists() => ClipConfig::from_openai(checkpoint),
            _ => ClipConfig::from_hf(&path),
        }
    }

    fn check(&self, path: &Path) -> Result<()> {
        let sizes = [
            ("image width", self.image.width),
            ("image MLP width", self.image.mlp),
            ("image layers", self.image.layers),
            ("image heads", self.image.heads),
            ("text width", self.text.width),
            ("text MLP width", self.text.mlp),
            ("text layers", self.text.layers),
            ("text heads", self.text.heads),
            ("image size", self.image_size),
            ("patch size", self.patch),
            ("context length", self.context),
            ("vocabulary", self.vocabulary),
            ("embedding width", self.embedding),
        ];
        for (what, size) in sizes {
            if size == 0 || size > LARGEST {
                return Err(Error::config(path, format!("{what} is {size}; it must lie between 1 and {LARGEST}")));
            }
        }
        for (what, tower) in [("image", &self.image), ("text", &self.text)] {
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
        if self.patch > self.image_size {
            let (patch, size) = (self.patch, self.image_size);
            return Err(Error::config(path, format!("patch size {patch} is larger than the image size {size}")));
        }
        Ok(())
    }

    /// Patches along one side of a picture.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch
    }

    /// Tokens of the image tower: one class token and the patches.
    pub fn image_tokens(&self) -> usize {
        self.grid() * self.grid() + 1
    }
}

impl Preprocess {
    /// Reads a folder's preprocessor_config.json; without one, OpenAI's constants at the model's image size.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Config`] for a resize that tipi does not do, or a size that contradicts the model's.
    pub fn of_folder(folder: &Path, config: &ClipConfig) -> Result<Preprocess> {
        let path = folder.join("preprocessor_config.json");
        if !path.exists() {
            return Ok(Preprocess { size: config.image_size, normalize: OPENAI });
        }
        let hf: HfPreprocess = parse(&path)?;
        if hf.resample.is_some_and(|r| r != 3) {
            return Err(Error::config(&path, "resample must be 3 (bicubic)"));
        }
        let flags = [
            ("do_resize", hf.do_resize),
            ("do_center_crop", hf.do_center_crop),
            ("do_rescale", hf.do_rescale),
            ("do_normalize", hf.do_normalize),
        ];
        if let Some((what, _)) = flags.iter().find(|(_, flag)| *flag == Some(false)) {
            return Err(Error::config(&path, format!("{what} must be true; tipi prepares pictures as CLIP does")));
        }
        if hf.rescale_factor.is_some_and(|f| (f * 255.0 - 1.0).abs() > 1e-6) {
            return Err(Error::config(&path, "rescale_factor must be 1/255"));
        }
        // A box means squashing to it, whatever the picture's shape; CLIP's processors crop instead.
        if matches!(hf.size, Some(HfSize::Box { .. })) {
            return Err(Error::config(&path, "size must be a shortest_edge; tipi does not squash pictures yet"));
        }
        for (what, size) in [("size", &hf.size), ("crop_size", &hf.crop_size)] {
            if let Some(size) = size
                && size.side() != Some(config.image_size)
            {
                return Err(Error::config(
                    &path,
                    format!("{what} differs from the model's image size of {}", config.image_size),
                ));
            }
        }
        let normalize =
            Normalize { mean: hf.image_mean.unwrap_or(OPENAI.mean), std: hf.image_std.unwrap_or(OPENAI.std) };
        if normalize.std.iter().any(|s| !s.is_finite() || *s <= 0.0) {
            return Err(Error::config(&path, "image_std must be positive"));
        }
        Ok(Preprocess { size: config.image_size, normalize })
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
