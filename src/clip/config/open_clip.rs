//! `open_clip_config.json`: the architecture as open_clip's `CLIP` and `CustomTextCLIP` take it, and the preparation of
//! pictures (open_clip 3.3: `model.py`, `transform.py`).

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ClipConfig, EndToken, ImageConfig, ResNetConfig, TowerConfig};
use crate::clip::frame::Frame;
use crate::clip::json::{Side, parse, typed};
use crate::clip::preprocess::{Preprocess, Resize};
use crate::data::{Depth, Filter, Normalize};
use crate::kernels::activation::Activation;
use crate::{Error, Result};

#[derive(Deserialize)]
struct File {
    model_cfg: Model,
    #[serde(default)]
    preprocess_cfg: Pictures,
}

#[derive(Deserialize)]
struct Model {
    embed_dim: usize,
    #[serde(default)]
    quick_gelu: bool,
    vision_cfg: Vision,
    text_cfg: Text,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Layers {
    Blocks(usize),
    Stages([usize; 4]),
}

#[derive(Deserialize)]
#[serde(default)]
struct Vision {
    layers: Layers,
    width: usize,
    head_width: usize,
    mlp_ratio: f64,
    patch_size: Side,
    image_size: Side,
    norm_kwargs: Option<Norm>,
    pool_type: String,
    pos_embed_type: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Default for Vision {
    fn default() -> Self {
        Vision {
            layers: Layers::Blocks(12),
            width: 768,
            head_width: 64,
            mlp_ratio: 4.0,
            patch_size: Side::One(16),
            image_size: Side::One(224),
            norm_kwargs: None,
            pool_type: "tok".into(),
            pos_embed_type: "learnable".into(),
            rest: Map::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct Text {
    context_length: usize,
    vocab_size: usize,
    width: usize,
    heads: usize,
    layers: usize,
    mlp_ratio: f64,
    eos_id: u32,
    norm_kwargs: Option<Norm>,
    pool_type: String,
    proj_type: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Default for Text {
    fn default() -> Self {
        Text {
            context_length: 77,
            vocab_size: 49408,
            width: 512,
            heads: 8,
            layers: 12,
            mlp_ratio: 4.0,
            eos_id: 2,
            norm_kwargs: None,
            pool_type: "argmax".into(),
            proj_type: "linear".into(),
            rest: Map::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Norm {
    eps: Option<f32>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pictures {
    size: Option<Side>,
    mode: Option<String>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<String>,
    resize_mode: Option<String>,
    fill_color: u8,
}

/// Settings that change no feature of the models that tipi runs: they are for training, for other families (whose own
/// switch is refused), or for the tokenizer. `final_ln_after_pool` only exchanges two steps that treat rows one by one.
const HARMLESS: [&str; 20] = [
    "custom_text",
    "patch_dropout",
    "output_tokens",
    "final_ln_after_pool",
    "attn_pooler_queries",
    "attn_pooler_heads",
    "timm_model_pretrained",
    "timm_pool",
    "timm_proj",
    "timm_proj_bias",
    "timm_drop",
    "timm_drop_path",
    "pad_id",
    "hf_tokenizer_name",
    "tokenizer_mode",
    "tokenizer_kwargs",
    "hf_model_pretrained",
    "hf_proj_type",
    "hf_pooler_type",
    "init_logit_scale",
];

/// What a setting that tipi does not have stands for, and what it would need.
fn needs(key: &str, value: &Value) -> String {
    let text = value.as_str().unwrap_or_default().to_lowercase();
    let family = match key {
        "init_logit_bias" => {
            "a SigLIP, which needs a SentencePiece tokenizer, bidirectional attention over texts, attention pooling, and a \
             sigmoid head with a bias on the logits"
        }
        "timm_model_name" if text.contains("siglip") => {
            "a SigLIP, which needs attention pooling, a SentencePiece tokenizer and a sigmoid head"
        }
        "timm_model_name" if text.contains("fastvit") || text.contains("mobileclip") => {
            "a MobileCLIP, which needs FastViT's convolutional image tower"
        }
        "timm_model_name" if text.contains("eva") => {
            "an EVA, which needs rotary positions, SwiGLU and norms inside attention"
        }
        "timm_model_name" => return format!("an image tower from timm, which needs the architecture '{text}'"),
        "hf_model_name" => {
            return format!("a text tower from transformers, which needs the architecture '{text}' and its tokenizer");
        }
        "multimodal_cfg" => "a CoCa, which needs attentional pooling and a decoder of texts",
        "attentional_pool" => "a tower that needs attentional pooling",
        "no_causal_mask" => "a text tower that needs bidirectional attention",
        _ => "a setting that tipi does not have and that would change the features",
    };
    family.into()
}

/// Refuses what would change features unnoticed.
fn refuse(path: &Path, part: &str, rest: &Map<String, Value>) -> Result<()> {
    let asked = |(key, value): &(&String, &Value)| !HARMLESS.contains(&key.as_str()) && *value != &Value::Bool(false);
    // The switches that tell a family first: their sentences say more.
    let order = ["init_logit_bias", "multimodal_cfg", "timm_model_name", "hf_model_name"];
    let first = order.iter().find_map(|key| rest.get_key_value(*key).filter(asked));
    match first.or_else(|| rest.iter().find(asked)) {
        Some((key, value)) => {
            let shown = if value.is_object() || value.is_array() { String::new() } else { format!(" {value}") };
            Err(Error::config(path, format!("{part}{key}{shown} stands for {}; tipi runs CLIP", needs(key, value))))
        }
        None => Ok(()),
    }
}

/// Takes out what is null: open_clip's way to leave a setting at its default (the patch size of a ResNet).
fn drop_nulls(json: &mut Value) {
    match json {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Reads an `open_clip_config.json`.
pub(super) fn read(path: &Path) -> Result<(ClipConfig, Preprocess)> {
    let mut json: Value = parse(path)?;
    drop_nulls(&mut json);
    let File { model_cfg: model, preprocess_cfg } = typed(path, json)?;
    refuse(path, "", &model.rest)?;
    refuse(path, "vision_cfg.", &model.vision_cfg.rest)?;
    refuse(path, "text_cfg.", &model.text_cfg.rest)?;
    let activation = if model.quick_gelu { Activation::QuickGelu } else { Activation::Gelu };
    // As Python's int(): towards zero.
    let mlp = |width: usize, ratio: f64| (width as f64 * ratio) as usize;
    let eps = |norm: &Option<Norm>| norm.as_ref().and_then(|n| n.eps).unwrap_or(1e-5);
    let (v, t) = (&model.vision_cfg, &model.text_cfg);
    let image = match v.layers {
        Layers::Blocks(layers) => {
            for (key, value, right) in
                [("pool_type", &v.pool_type, "tok"), ("pos_embed_type", &v.pos_embed_type, "learnable")]
            {
                if value != right {
                    return Err(Error::config(path, format!("vision_cfg.{key} '{value}'; tipi has '{right}' only")));
                }
            }
            let heads = v.width.checked_div(v.head_width).unwrap_or(0);
            let (width, mlp, eps) = (v.width, mlp(v.width, v.mlp_ratio), eps(&v.norm_kwargs));
            let tower = TowerConfig { width, mlp, layers, heads, activation, eps };
            ImageConfig::Vit { tower, patch: v.patch_size.square(path, "vision_cfg.patch_size")? }
        }
        Layers::Stages(stages) => {
            let heads = v.width.saturating_mul(32).checked_div(v.head_width).unwrap_or(0);
            ImageConfig::ResNet(ResNetConfig { stages, width: v.width, heads })
        }
    };
    let end = match t.pool_type.as_str() {
        "argmax" => EndToken::HighestId,
        "eos" => EndToken::First(t.eos_id),
        other => {
            return Err(Error::config(
                path,
                format!("text_cfg.pool_type '{other}'; tipi takes a text's end token, 'argmax' or 'eos'"),
            ));
        }
    };
    if t.proj_type != "linear" {
        return Err(Error::config(path, format!("text_cfg.proj_type '{}'; tipi has 'linear' only", t.proj_type)));
    }
    let config = ClipConfig {
        image,
        text: TowerConfig {
            width: t.width,
            mlp: mlp(t.width, t.mlp_ratio),
            layers: t.layers,
            heads: t.heads,
            activation,
            eps: eps(&t.norm_kwargs),
        },
        image_size: v.image_size.square(path, "vision_cfg.image_size")?,
        context: t.context_length,
        vocabulary: t.vocab_size,
        embedding: model.embed_dim,
        end,
        frame: Frame::clip(),
    };
    config.check(path)?;
    let preprocess = pictures(path, &preprocess_cfg, config.image_size)?;
    Ok((config, preprocess))
}

/// How pictures are prepared; what is left out is as in open_clip's `PreprocessCfg`.
fn pictures(path: &Path, cfg: &Pictures, size: usize) -> Result<Preprocess> {
    if let Some(asked) = cfg.size
        && asked.square(path, "preprocess_cfg.size")? != size
    {
        return Err(Error::config(path, format!("preprocess_cfg.size differs from the model's image size of {size}")));
    }
    if cfg.mode.as_deref().is_some_and(|mode| mode != "RGB") {
        return Err(Error::config(path, "preprocess_cfg.mode must be RGB"));
    }
    let resize = match cfg.resize_mode.as_deref() {
        None | Some("shortest") => Resize::Shortest(size),
        Some("squash") => Resize::Squash,
        Some("longest") => Resize::Longest { fill: cfg.fill_color },
        Some(other) => {
            return Err(Error::config(
                path,
                format!("preprocess_cfg.resize_mode '{other}' is none of shortest, squash, longest"),
            ));
        }
    };
    let filter = match cfg.interpolation.as_deref() {
        None | Some("bicubic" | "random") => Filter::Bicubic,
        Some("bilinear") => Filter::Bilinear,
        Some(other) => {
            return Err(Error::config(
                path,
                format!("preprocess_cfg.interpolation '{other}' is neither bicubic nor bilinear"),
            ));
        }
    };
    let normalize =
        Normalize { mean: cfg.mean.unwrap_or(Normalize::CLIP.mean), std: cfg.std.unwrap_or(Normalize::CLIP.std) };
    Preprocess { size, resize, filter, normalize, depth: Depth::default() }.checked(path)
}
