//! Hugging Face's `config.json` of a `CLIPModel`, a `MetaClip2Model` or a `SiglipModel`.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ClipConfig, EndToken, ImageConfig, Pool, ProjectionForm, TextStem, TowerConfig, VitConfig};
use crate::clip::frame::Frame;
use crate::clip::json::{Side, parse, typed};
use crate::kernels::activation::Activation;
use crate::nn::Hidden;
use crate::{Error, Result};

/// Entries of Gemma's vocabulary.
pub(super) const GEMMA: usize = 256_000;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    projection_dim: Option<usize>,
    text_config: Option<Value>,
    vision_config: Option<Value>,
    /// Written by older versions for a CLIP; where it is there, it replaces text_config as a whole.
    text_config_dict: Option<Value>,
    /// As `text_config_dict`.
    vision_config_dict: Option<Value>,
}

/// One id, or several as newer versions write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Several(Vec<u32>),
}

#[derive(Deserialize)]
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
    projection_size: Option<usize>,
}

#[derive(Deserialize)]
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
    vision_use_head: Option<bool>,
}

/// Keys that a config.json leaves out have the defaults of a family in transformers, for a CLIP those of OpenAI's ViT-B/32. If
/// the file means other sizes, the weights' shapes contradict them and loading says so.
struct Defaults {
    text: Value,
    vision: Value,
}

impl Defaults {
    /// CLIPTextConfig's and CLIPVisionConfig's.
    fn clip() -> Defaults {
        Defaults {
            text: json!({
                "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
                "max_position_embeddings": 77, "vocab_size": 49408, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
                "eos_token_id": 49407,
            }),
            vision: json!({
                "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                "image_size": 224, "patch_size": 32, "num_channels": 3, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
            }),
        }
    }

    /// SiglipTextConfig's and SiglipVisionConfig's.
    fn siglip() -> Defaults {
        Defaults {
            text: json!({
                "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                "max_position_embeddings": 64, "vocab_size": 32_000, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
            }),
            vision: json!({
                "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                "image_size": 224, "patch_size": 16, "num_channels": 3, "hidden_act": "gelu_pytorch_tanh",
                "layer_norm_eps": 1e-6,
            }),
        }
    }
}

/// What a family would need that CLIP does not have.
fn foreign(model_type: &str) -> String {
    let needs = match model_type {
        "siglip2" => {
            "a SigLIP 2 with NaFlex needs patches in any number, for pictures of any aspect; those of a fixed resolution are \
             of the type 'siglip', for instance google/siglip2-base-patch16-224"
        }
        "mobileclip" | "mobileclip2" => "it needs FastViT's convolutional image tower",
        "chinese_clip" | "altclip" => "it needs a BERT text tower and its tokenizer",
        "align" => "it needs an EfficientNet and a BERT",
        "clipseg" => "it needs a segmentation decoder; its CLIP alone is openai/clip-vit-base-patch16",
        _ => "tipi runs models of the types 'clip', 'metaclip_2' and 'siglip'",
    };
    format!("is of the type '{model_type}', neither a CLIP nor a SigLIP: {needs}")
}

fn activation(path: &Path, name: &str) -> Result<Activation> {
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => Err(Error::config(
            path,
            format!("hidden_act '{other}' is not known; 'quick_gelu', 'gelu' and 'gelu_pytorch_tanh' are"),
        )),
    }
}

/// Reads a `config.json`.
pub(super) fn read(path: &Path) -> Result<ClipConfig> {
    let hf: Value = parse(path)?;
    match hf.get("model_type").and_then(|v| v.as_str()) {
        None | Some("clip") => clip(path, typed(path, hf)?, false),
        Some("metaclip_2") => clip(path, typed(path, hf)?, true),
        Some("siglip") => siglip(path, typed(path, hf)?),
        Some(kind) => Err(Error::config(path, foreign(kind))),
    }
}

/// The part of a config.json that is called `name`, with what it leaves out.
fn part<T: DeserializeOwned>(path: &Path, name: &str, given: Option<Value>, defaults: Value) -> Result<T> {
    let missing = || Error::config(path, format!("{name} is missing; a config.json has text_config and vision_config"));
    let mut given = given.ok_or_else(missing)?;
    if let (Value::Object(given), Value::Object(defaults)) = (&mut given, defaults) {
        for (key, value) in defaults {
            given.entry(key).or_insert(value);
        }
    }
    typed(path, given)
}

/// What both families ask of a picture.
fn three_channels(path: &Path, vision: &Vision) -> Result<()> {
    if vision.num_channels == 3 {
        return Ok(());
    }
    Err(Error::config(path, "vision_config.num_channels must be 3"))
}

/// A CLIP, or, where `worldwide`, a MetaCLIP 2 (arXiv 2507.22062), whose end token of 2 is an id and not a remnant of times when
/// all configurations said 2.
fn clip(path: &Path, hf: Config, worldwide: bool) -> Result<ClipConfig> {
    let defaults = Defaults::clip();
    let t: Text = part(path, "text_config", hf.text_config_dict.or(hf.text_config), defaults.text)?;
    let v: Vision = part(path, "vision_config", hf.vision_config_dict.or(hf.vision_config), defaults.vision)?;
    three_channels(path, &v)?;
    let one = |id: u32| match id {
        // Configs written before transformers' fix of the end token say 2 and mean the highest id.
        2 if !worldwide => EndToken::HighestId,
        id => EndToken::First(id),
    };
    let end = match t.eos_token_id {
        None => EndToken::HighestId,
        Some(Ids::One(id)) => one(id),
        Some(Ids::Several(ids)) => match ids[..] {
            [id] => one(id),
            _ => {
                return Err(Error::config(path, format!("eos_token_id is {ids:?}; a CLIP's texts have one end token")));
            }
        },
    };
    let hidden = |name: &str| Ok::<_, Error>(Hidden::Activated(activation(path, name)?));
    let image = [v.hidden_size, v.intermediate_size, v.num_hidden_layers, v.num_attention_heads];
    let text = [t.hidden_size, t.intermediate_size, t.num_hidden_layers, t.num_attention_heads];
    let tower = TowerConfig::plain(image, hidden(&v.hidden_act)?, v.layer_norm_eps);
    let config = ClipConfig {
        image: ImageConfig::Vit(VitConfig::clip(tower, v.patch_size.square(path, "patch_size")?)),
        text: TowerConfig::plain(text, hidden(&t.hidden_act)?, t.layer_norm_eps),
        image_size: v.image_size.square(path, "image_size")?,
        context: t.max_position_embeddings,
        text_stem: TextStem::Plain,
        vocabulary: t.vocab_size,
        embedding: hf.projection_dim.unwrap_or(512),
        end,
        causal: true,
        text_projection: ProjectionForm::Plain,
        logit_bias: false,
        frame: if worldwide { Frame::metaclip2() } else { Frame::clip() },
    };
    config.check(path)?;
    Ok(config)
}

/// A SigLIP (arXiv 2303.15343) or SigLIP 2 (arXiv 2502.14786) of a fixed resolution.
fn siglip(path: &Path, hf: Config) -> Result<ClipConfig> {
    let defaults = Defaults::siglip();
    let t: Text = part(path, "text_config", hf.text_config, defaults.text)?;
    let v: Vision = part(path, "vision_config", hf.vision_config, defaults.vision)?;
    three_channels(path, &v)?;
    if v.vision_use_head == Some(false) {
        return Err(Error::config(
            path,
            "vision_config.vision_use_head must be true: the head makes a picture's features",
        ));
    }
    let (image_act, text_act) = (activation(path, &v.hidden_act)?, activation(path, &t.hidden_act)?);
    let image = [v.hidden_size, v.intermediate_size, v.num_hidden_layers, v.num_attention_heads];
    let text = [t.hidden_size, t.intermediate_size, t.num_hidden_layers, t.num_attention_heads];
    let tower = TowerConfig::plain(image, Hidden::Activated(image_act), v.layer_norm_eps);
    let pool = Pool::Attention { heads: v.num_attention_heads, mlp: v.intermediate_size, activation: image_act };
    let config = ClipConfig {
        image: ImageConfig::Vit(VitConfig::siglip(tower, v.patch_size.square(path, "patch_size")?, pool)),
        text: TowerConfig::plain(text, Hidden::Activated(text_act), t.layer_norm_eps),
        image_size: v.image_size.square(path, "image_size")?,
        context: t.max_position_embeddings,
        text_stem: TextStem::Plain,
        vocabulary: t.vocab_size,
        embedding: t.projection_size.unwrap_or(t.hidden_size),
        end: EndToken::Last,
        causal: false,
        text_projection: ProjectionForm::Biased,
        logit_bias: true,
        // Only the second SigLIP has Gemma's vocabulary.
        frame: if t.vocab_size == GEMMA { Frame::siglip2() } else { Frame::siglip() },
    };
    config.check(path)?;
    Ok(config)
}
