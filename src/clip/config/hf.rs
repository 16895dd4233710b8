//! Hugging Face's `config.json` of a `CLIPModel`.

use std::path::Path;

use serde::Deserialize;

use super::{ClipConfig, EndToken, ImageConfig, TowerConfig};
use crate::clip::frame::Frame;
use crate::clip::json::{Side, parse, typed};
use crate::kernels::activation::Activation;
use crate::{Error, Result};

/// Keys that a config.json leaves out have transformers' defaults (CLIPTextConfig, CLIPVisionConfig: those of OpenAI's
/// ViT-B/32). If the file means other sizes, the weights' shapes contradict them and loading says so.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    projection_dim: usize,
    text_config: Option<Text>,
    vision_config: Option<Vision>,
    /// Written by older versions; where it is there, it replaces text_config as a whole.
    text_config_dict: Option<Text>,
    /// As `text_config_dict`.
    vision_config_dict: Option<Vision>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            projection_dim: 512,
            text_config: None,
            vision_config: None,
            text_config_dict: None,
            vision_config_dict: None,
        }
    }
}

/// One id, or several as newer versions write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Several(Vec<u32>),
}

#[derive(Deserialize)]
#[serde(default)]
struct Text {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    vocab_size: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    eos_token_id: Option<Ids>,
}

impl Default for Text {
    fn default() -> Self {
        Text {
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            vocab_size: 49408,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            // transformers' default.
            eos_token_id: Some(Ids::One(49407)),
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct Vision {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: Side,
    patch_size: Side,
    num_channels: usize,
    hidden_act: String,
    layer_norm_eps: f32,
}

impl Default for Vision {
    fn default() -> Self {
        Vision {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: Side::One(224),
            patch_size: Side::One(32),
            num_channels: 3,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

/// What a family would need that CLIP does not have.
fn foreign(model_type: &str) -> String {
    let needs = match model_type {
        "siglip" | "siglip2" => {
            "it needs a SentencePiece tokenizer, bidirectional attention over texts, attention pooling, and a sigmoid head \
             with a bias on the logits"
        }
        "mobileclip" | "mobileclip2" => "it needs FastViT's convolutional image tower",
        "chinese_clip" | "altclip" => "it needs a BERT text tower and its tokenizer",
        "metaclip_2" => "it needs the tokenizer of XLM-V and its text pooling",
        "align" => "it needs an EfficientNet and a BERT",
        "clipseg" => "it needs a segmentation decoder; its CLIP alone is openai/clip-vit-base-patch16",
        _ => "tipi runs models of the type 'clip'",
    };
    format!("is of the type '{model_type}', not a CLIP: {needs}")
}

fn activation(path: &Path, name: &str) -> Result<Activation> {
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::Gelu),
        other => Err(Error::config(path, format!("hidden_act '{other}' is not known; 'quick_gelu' and 'gelu' are"))),
    }
}

/// Reads a `config.json`.
pub(super) fn read(path: &Path) -> Result<ClipConfig> {
    let hf: serde_json::Value = parse(path)?;
    if let Some(kind) = hf.get("model_type").and_then(|v| v.as_str())
        && kind != "clip"
    {
        return Err(Error::config(path, foreign(kind)));
    }
    let hf: Config = typed(path, hf)?;
    let part = |name: &str| {
        Error::config(path, format!("{name} is missing; a CLIP's config.json has text_config and vision_config"))
    };
    let t = hf.text_config_dict.or(hf.text_config).ok_or_else(|| part("text_config"))?;
    let v = hf.vision_config_dict.or(hf.vision_config).ok_or_else(|| part("vision_config"))?;
    if v.num_channels != 3 {
        return Err(Error::config(path, "vision_config.num_channels must be 3"));
    }
    let end = match t.eos_token_id {
        // Configs written before transformers' fix of the end token say 2 and mean the highest id.
        None | Some(Ids::One(2)) => EndToken::HighestId,
        Some(Ids::One(id)) => EndToken::First(id),
        Some(Ids::Several(ids)) => match ids[..] {
            [2] => EndToken::HighestId,
            [id] => EndToken::First(id),
            _ => {
                return Err(Error::config(path, format!("eos_token_id is {ids:?}; a CLIP's texts have one end token")));
            }
        },
    };
    let config = ClipConfig {
        image: ImageConfig::Vit {
            tower: TowerConfig {
                width: v.hidden_size,
                mlp: v.intermediate_size,
                layers: v.num_hidden_layers,
                heads: v.num_attention_heads,
                activation: activation(path, &v.hidden_act)?,
                eps: v.layer_norm_eps,
            },
            patch: v.patch_size.square(path, "patch_size")?,
        },
        text: TowerConfig {
            width: t.hidden_size,
            mlp: t.intermediate_size,
            layers: t.num_hidden_layers,
            heads: t.num_attention_heads,
            activation: activation(path, &t.hidden_act)?,
            eps: t.layer_norm_eps,
        },
        image_size: v.image_size.square(path, "image_size")?,
        context: t.max_position_embeddings,
        vocabulary: t.vocab_size,
        embedding: hf.projection_dim,
        end,
        frame: Frame::clip(),
    };
    config.check(path)?;
    Ok(config)
}
