//! Where a checkpoint's tensors lie: one table for each naming scheme. A name ends where torch's module does; `.weight` and
//! `.bias` follow.

mod bert;
mod hugging_face;
mod open_ai;
mod timm;

use super::config::{Biases, ProjectionForm, TextStem, TowerConfig, VitConfig};
use crate::nn::Hidden;

/// The naming schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// `vision_model.encoder.layers.0.self_attn.q_proj.weight`, …: a CLIP of transformers.
    HuggingFace,
    /// The same, with the heads of a SigLIP.
    Siglip,
    /// `visual.transformer.resblocks.0.attn.in_proj_weight`, …: OpenAI's and open_clip's.
    OpenAi,
    /// `visual.trunk.blocks.0.attn.qkv.weight`, …: open_clip's, around an image tower from timm.
    Timm,
}

/// Tensors that tell a scheme, the most telling first.
pub(super) const SIGNS: [(&str, Names); 5] = [
    ("visual.conv1.weight", Names::OpenAi),
    ("vision_model.head.probe", Names::Siglip),
    ("vision_model.embeddings.patch_embedding.weight", Names::HuggingFace),
    ("visual.trunk.patch_embed.proj.weight", Names::Timm),
    ("visual.trunk.patch_embed.backbone.0.conv.weight", Names::Timm),
];

/// Queries, keys and values.
pub(super) enum Attention {
    /// All three in one weight, and in one bias, whose names are whole.
    Fused { weight: &'static str, bias: &'static str },
    /// A layer each.
    Three([&'static str; 3]),
    /// One weight, whose name is whole, and the biases of queries and of values; keys have none.
    FusedApart { weight: &'static str, biases: [&'static str; 2] },
}

/// An MLP's first layer.
pub(super) enum Up {
    One(&'static str),
    /// The layer of the gates and that of the values.
    Gated([&'static str; 2]),
}

/// Within a block. What is optional here and below is what some schemes have no name for.
pub(super) struct BlockNames {
    pub ln1: &'static str,
    pub attention: Attention,
    /// The norm before `out`.
    pub mixed: Option<&'static str>,
    pub out: &'static str,
    pub ln2: &'static str,
    pub up: Up,
    /// The norm before `down`.
    pub hidden: Option<&'static str>,
    pub down: &'static str,
    /// Factors of what attention and MLP add; whole names.
    pub scales: Option<[&'static str; 2]>,
}

/// How a projection to the joint space lies in the file.
pub(super) enum Stored {
    /// A layer, `[out, in]`.
    Layer(&'static str),
    /// A parameter of this whole name, `[in, out]`.
    Transposed(&'static str),
}

/// Within attention pooling.
pub(super) struct PoolNames {
    pub query: &'static str,
    pub attention: PoolAttention,
    pub out: &'static str,
    pub norm: &'static str,
    pub up: &'static str,
    pub down: &'static str,
}

/// Queries, keys and values of attention pooling.
pub(super) enum PoolAttention {
    /// All three in one weight and one bias; whole names.
    Fused { weight: &'static str, bias: &'static str },
    /// A layer of queries, and one of keys and values.
    Two { query: &'static str, keys_values: &'static str },
}

/// Of a vision transformer. All names but those within a block are whole, or whole but for `.weight` and `.bias`.
pub(super) struct ImageNames {
    pub patches: &'static str,
    pub class: &'static str,
    pub position: &'static str,
    pub pre: &'static str,
    pub post: &'static str,
    pub blocks: &'static str,
    pub pool: Option<PoolNames>,
    pub projection: Option<Stored>,
}

/// Of a text tower.
pub(super) struct TextNames {
    pub tokens: &'static str,
    pub position: &'static str,
    /// The rows of kinds of texts.
    pub kind: Option<&'static str>,
    /// The norm before the blocks.
    pub pre: Option<&'static str>,
    /// The norm behind them.
    pub norm: Option<&'static str>,
    pub blocks: &'static str,
    /// A projection with a bias is a layer in every scheme.
    pub projection: Stored,
}

impl Names {
    pub(super) fn image(self) -> &'static ImageNames {
        match self {
            Names::HuggingFace => &hugging_face::IMAGE,
            Names::Siglip => &hugging_face::SIGLIP_IMAGE,
            Names::OpenAi => &open_ai::IMAGE,
            Names::Timm => &timm::IMAGE,
        }
    }

    pub(super) fn image_projection(self, config: &VitConfig) -> Option<&'static Stored> {
        match (self, config.projection) {
            (Names::Timm, ProjectionForm::Plain) => Some(&timm::PROJECTION),
            _ => self.image().projection.as_ref(),
        }
    }

    pub(super) fn text(self, stem: TextStem) -> &'static TextNames {
        match (self, stem) {
            (_, TextStem::Roberta { .. }) => &bert::TEXT,
            (Names::HuggingFace, _) => &hugging_face::TEXT,
            (Names::Siglip, _) => &hugging_face::SIGLIP_TEXT,
            (Names::OpenAi | Names::Timm, _) => &open_ai::TEXT,
        }
    }

    /// Within the blocks of an image tower.
    pub(super) fn image_block(self, config: &TowerConfig) -> &'static BlockNames {
        match (self, config.biases, config.hidden) {
            (Names::HuggingFace | Names::Siglip, ..) => &hugging_face::BLOCK,
            (Names::OpenAi, ..) => &open_ai::BLOCK,
            (Names::Timm, Biases::NoKey, Hidden::Gated) => &timm::EVA02_BLOCK,
            (Names::Timm, Biases::NoKey, _) => &timm::EVA_BLOCK,
            (Names::Timm, ..) => &timm::BLOCK,
        }
    }

    /// Within the blocks of a text tower.
    pub(super) fn text_block(self, stem: TextStem) -> &'static BlockNames {
        match (self, stem) {
            (_, TextStem::Roberta { .. }) => &bert::BLOCK,
            (Names::HuggingFace | Names::Siglip, _) => &hugging_face::BLOCK,
            (Names::OpenAi | Names::Timm, _) => &open_ai::BLOCK,
        }
    }
}
