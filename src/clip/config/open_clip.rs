//! `open_clip_config.json`: the architecture as open_clip's `CLIP` and `CustomTextCLIP` take it, and the preparation of
//! pictures (open_clip 3.3: `model.py`, `transform.py`).

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::hf::GEMMA;
use super::text::{self, TextConfig, TextStem};
use super::{ClipConfig, EndToken, ImageConfig, Pool, ProjectionForm, ResNetConfig, TowerConfig, VitConfig, timm};
use crate::clip::frame::{Clean, Frame};
use crate::clip::json::{Side, parse, typed};
use crate::clip::preprocess::{Preprocess, Resize};
use crate::data::{Depth, Filter, Normalize};
use crate::kernels::activation::Activation;
use crate::nn::Hidden;
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
    init_logit_bias: Option<f64>,
    vision_cfg: Vision,
    text_cfg: Text,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Clone, Copy)]
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
    no_ln_pre: bool,
    final_ln_after_pool: bool,
    ls_init_value: Option<f64>,
    timm_model_name: Option<String>,
    timm_pool: Option<String>,
    timm_proj: Option<String>,
    timm_proj_bias: bool,
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
            no_ln_pre: false,
            final_ln_after_pool: false,
            ls_init_value: None,
            timm_model_name: None,
            timm_pool: None,
            timm_proj: None,
            timm_proj_bias: false,
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
    act_kwargs: Option<Act>,
    pool_type: String,
    proj_type: String,
    proj_bias: bool,
    no_causal_mask: bool,
    ls_init_value: Option<f64>,
    hf_model_name: Option<String>,
    hf_proj_type: String,
    hf_pooler_type: String,
    hf_tokenizer_name: Option<String>,
    tokenizer_kwargs: TokenizerArguments,
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
            act_kwargs: None,
            pool_type: "argmax".into(),
            proj_type: "linear".into(),
            proj_bias: false,
            no_causal_mask: false,
            ls_init_value: None,
            hf_model_name: None,
            hf_proj_type: "mlp".into(),
            hf_pooler_type: "mean_pooler".into(),
            hf_tokenizer_name: None,
            tokenizer_kwargs: TokenizerArguments::default(),
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
#[serde(default, deny_unknown_fields)]
struct TokenizerArguments {
    clean: Option<String>,
    strip_sep_token: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    approximate: Option<String>,
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
/// switch is refused), or for the tokenizer.
const HARMLESS: [&str; 12] = [
    "custom_text",
    "patch_dropout",
    "output_tokens",
    "attn_pooler_queries",
    "attn_pooler_heads",
    "timm_model_pretrained",
    "timm_drop",
    "timm_drop_path",
    "pad_id",
    "tokenizer_mode",
    "hf_model_pretrained",
    "init_logit_scale",
];

/// What a setting that tipi does not have stands for, and what it would need.
fn needs(key: &str, value: &Value) -> String {
    let text = value.as_str().unwrap_or_default().to_lowercase();
    let family = match key {
        "timm_model_name" if text.contains("fastvit") || text.contains("mobileclip") => {
            "a MobileCLIP, which needs FastViT's convolutional image tower"
        }
        "timm_model_name" => return format!("an image tower from timm, which needs the architecture '{text}'"),
        "hf_model_name" => {
            return format!("a text tower from transformers, which needs the architecture '{text}' and its tokenizer");
        }
        "multimodal_cfg" => "a CoCa, which needs attentional pooling and a decoder of texts",
        "attentional_pool" => "a tower that needs attentional pooling",
        _ => "a setting that tipi does not have and that would change the features",
    };
    family.into()
}

/// Refuses what would change features unnoticed.
fn refuse(path: &Path, part: &str, rest: &Map<String, Value>) -> Result<()> {
    let asked = |(key, value): &(&String, &Value)| !HARMLESS.contains(&key.as_str()) && *value != &Value::Bool(false);
    // The switch that tells a family first: its sentence says more.
    let first = rest.get_key_value("multimodal_cfg").filter(asked);
    match first.or_else(|| rest.iter().find(asked)) {
        Some((key, value)) => Err(refusal(path, part, key, value)),
        None => Ok(()),
    }
}

fn refusal(path: &Path, part: &str, key: &str, value: &Value) -> Error {
    let shown = if value.is_object() || value.is_array() { String::new() } else { format!(" {value}") };
    let what = needs(key, value);
    Error::config(path, format!("{part}{key}{shown} stands for {what}; tipi runs CLIP, SigLIP and their kin"))
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
    // Here nothing is a choice of its own: the classifier's layer projects, or none.
    for choice in ["/model_cfg/vision_cfg/timm_proj", "/model_cfg/text_cfg/hf_proj_type"] {
        if let Some(none) = json.pointer_mut(choice).filter(|proj| proj.is_null()) {
            *none = Value::String(String::new());
        }
    }
    drop_nulls(&mut json);
    let File { model_cfg: model, preprocess_cfg } = typed(path, json)?;
    refuse(path, "", &model.rest)?;
    refuse(path, "vision_cfg.", &model.vision_cfg.rest)?;
    refuse(path, "text_cfg.", &model.text_cfg.rest)?;
    let (v, t) = (&model.vision_cfg, &model.text_cfg);
    let image = match (&v.timm_model_name, v.layers) {
        (Some(name), _) => ImageConfig::Vit(of_timm(path, v, name)?),
        (None, Layers::Blocks(layers)) => ImageConfig::Vit(own(path, v, layers, gelu(model.quick_gelu))?),
        (None, Layers::Stages(stages)) => {
            let heads = v.width.saturating_mul(32).checked_div(v.head_width).unwrap_or(0);
            ImageConfig::ResNet(ResNetConfig { stages, width: v.width, heads })
        }
    };
    let text = match &t.hf_model_name {
        Some(name) => of_transformers(path, t, name, model.embed_dim)?,
        None => own_text(path, t, model.quick_gelu)?,
    };
    let config = ClipConfig {
        image,
        text: text.tower,
        image_size: v.image_size.square(path, "vision_cfg.image_size")?,
        context: t.context_length,
        text_stem: text.stem,
        vocabulary: text.vocabulary,
        embedding: model.embed_dim,
        end: text.end,
        causal: text.causal,
        text_projection: text.projection,
        logit_bias: model.init_logit_bias.is_some(),
        frame: frame(path, &model)?,
    };
    config.check(path)?;
    let preprocess = pictures(path, &preprocess_cfg, config.image_size)?;
    Ok((config, preprocess))
}

/// A text tower from transformers.
fn of_transformers(path: &Path, t: &Text, name: &str, embedding: usize) -> Result<TextConfig> {
    let unknown = || refusal(path, "text_cfg.", "hf_model_name", &Value::String(name.into()));
    let text = text::of_transformers(name).ok_or_else(unknown)?;
    if t.hf_pooler_type != "mean_pooler" {
        let reason = format!("text_cfg.hf_pooler_type '{}'; tipi has 'mean_pooler'", t.hf_pooler_type);
        return Err(Error::config(path, reason));
    }
    let projection = match t.hf_proj_type.as_str() {
        "" => ProjectionForm::None,
        "linear" => ProjectionForm::Plain,
        "mlp" => ProjectionForm::Mlp { hidden: text.tower.width.saturating_add(embedding) / 2 },
        other => {
            return Err(Error::config(path, format!("text_cfg.hf_proj_type '{other}'; tipi has 'linear' and 'mlp'")));
        }
    };
    Ok(TextConfig { projection, ..text })
}

/// open_clip's own text tower.
fn own_text(path: &Path, t: &Text, quick_gelu: bool) -> Result<TextConfig> {
    let end = match t.pool_type.as_str() {
        "argmax" => EndToken::HighestId,
        "eos" => EndToken::First(t.eos_id),
        "last" => EndToken::Last,
        other => {
            let reason = format!("text_cfg.pool_type '{other}'; tipi reads a text at 'argmax', 'eos' or 'last'");
            return Err(Error::config(path, reason));
        }
    };
    if t.pool_type == "last" && !t.no_causal_mask {
        return Err(Error::config(path, "text_cfg.pool_type 'last' is for towers with no_causal_mask"));
    }
    let projection = match (t.proj_type.as_str(), t.proj_bias) {
        ("none", _) => ProjectionForm::None,
        ("linear", false) => ProjectionForm::Plain,
        ("linear", true) => ProjectionForm::Biased,
        (other, _) => {
            let reason = format!("text_cfg.proj_type '{other}'; tipi has 'linear' and 'none'");
            return Err(Error::config(path, reason));
        }
    };
    let activation = match t.act_kwargs.as_ref().and_then(|act| act.approximate.as_deref()) {
        // Only torch's GELU takes it.
        Some("tanh") if !quick_gelu => Activation::GeluTanh,
        None | Some("none") => gelu(quick_gelu),
        Some(other) => {
            return Err(Error::config(path, format!("text_cfg.act_kwargs.approximate '{other}'; tipi has 'tanh'")));
        }
    };
    let sizes = [t.width, mlp(t.width, t.mlp_ratio), t.layers, t.heads];
    let tower = TowerConfig::plain(sizes, Hidden::Activated(activation), eps(t.norm_kwargs.as_ref()));
    Ok(TextConfig {
        tower: TowerConfig { layer_scale: t.ls_init_value.is_some(), ..tower },
        stem: TextStem::Plain,
        vocabulary: t.vocab_size,
        end,
        causal: !t.no_causal_mask,
        projection,
    })
}

/// What `quick_gelu` decides.
fn gelu(quick: bool) -> Activation {
    if quick { Activation::QuickGelu } else { Activation::Gelu }
}

/// How texts become prompts. What a tokenizer from a hub does shows in its name, or in the vocabulary.
fn frame(path: &Path, model: &Model) -> Result<Frame> {
    let t = &model.text_cfg;
    let asked = t.tokenizer_kwargs.clean.as_deref();
    let asked = asked.map(Clean::named).transpose().map_err(|e| Error::config(path, e.to_string()))?;
    let name = t.hf_tokenizer_name.as_deref().unwrap_or_default().to_lowercase();
    let frame = if t.tokenizer_kwargs.strip_sep_token || name.contains("bert-base-uncased") {
        Frame::clipa()
    } else if name.contains("mt5") {
        Frame::mt5()
    } else if t.hf_model_name.is_some() {
        Frame::roberta()
    } else if name.contains("xlm-v") {
        Frame::metaclip2()
    } else if model.init_logit_bias.is_some() && t.vocab_size == GEMMA {
        Frame::siglip2()
    } else if model.init_logit_bias.is_some() {
        Frame::siglip()
    } else {
        // CLIP's own cleans as it says itself, if it is not asked for another way.
        let frame = if t.no_causal_mask { Frame::clip_padded() } else { Frame::clip() };
        return Ok(asked.map_or(frame.clone(), |clean| frame.cleaned(clean)));
    };
    // Whatever comes from a hub is cleaned by open_clip first.
    Ok(frame.cleaned(asked.unwrap_or(Clean::Whitespace)))
}

/// As Python's int(): towards zero.
fn mlp(width: usize, ratio: f64) -> usize {
    (width as f64 * ratio) as usize
}

fn eps(norm: Option<&Norm>) -> f32 {
    norm.and_then(|norm| norm.eps).unwrap_or(1e-5)
}

/// open_clip's own vision transformer.
fn own(path: &Path, v: &Vision, layers: usize, activation: Activation) -> Result<VitConfig> {
    if v.pos_embed_type != "learnable" {
        let reason = format!("vision_cfg.pos_embed_type '{}'; tipi has 'learnable' only", v.pos_embed_type);
        return Err(Error::config(path, reason));
    }
    let pool = match v.pool_type.as_str() {
        "tok" => Pool::Class,
        "avg" => Pool::Mean { norm_first: !v.final_ln_after_pool },
        other => {
            return Err(Error::config(path, format!("vision_cfg.pool_type '{other}'; tipi has 'tok' and 'avg'")));
        }
    };
    let heads = v.width.checked_div(v.head_width).unwrap_or(0);
    let sizes = [v.width, mlp(v.width, v.mlp_ratio), layers, heads];
    let tower = TowerConfig::plain(sizes, Hidden::Activated(activation), eps(v.norm_kwargs.as_ref()));
    let tower = TowerConfig { layer_scale: v.ls_init_value.is_some(), ..tower };
    let patch = v.patch_size.square(path, "vision_cfg.patch_size")?;
    Ok(VitConfig { pre_norm: !v.no_ln_pre, pool, ..VitConfig::clip(tower, patch) })
}

/// A vision transformer from timm.
fn of_timm(path: &Path, v: &Vision, name: &str) -> Result<VitConfig> {
    let unknown = || refusal(path, "vision_cfg.", "timm_model_name", &Value::String(name.into()));
    let vit = timm::tower(name).ok_or_else(unknown)?;
    // What the name's own pool is called; an empty name leaves it as it is.
    let pool = match vit.pool {
        Pool::Class => "token",
        Pool::Mean { .. } => "avg",
        Pool::Attention { .. } => "map",
    };
    let asked = v.timm_pool.as_deref().unwrap_or("avg");
    if asked != pool && !asked.is_empty() {
        return Err(Error::config(path, format!("vision_cfg.timm_pool '{asked}'; tipi has '{pool}' for {name}")));
    }
    let projection = match v.timm_proj.as_deref().unwrap_or("linear") {
        "none" => ProjectionForm::None,
        "" => ProjectionForm::Biased,
        "linear" if !v.timm_proj_bias => ProjectionForm::Plain,
        other => {
            return Err(Error::config(path, format!("vision_cfg.timm_proj '{other}'; tipi has 'linear' and 'none'")));
        }
    };
    Ok(VitConfig { projection, ..vit })
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
