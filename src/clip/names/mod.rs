//! Where a checkpoint's tensors lie: one table for each naming scheme. A name ends where torch's module does; `.weight` and
//! `.bias` follow.

mod hugging_face;
mod open_ai;
mod timm;

use super::config::{Biases, ProjectionForm, TowerConfig, VitConfig};
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

/// Within a block.
pub(super) struct BlockNames {
    pub ln1: &'static str,
    pub attention: Attention,
    /// The norm before `out`, where there is one.
    pub mixed: &'static str,
    pub out: &'static str,
    pub ln2: &'static str,
    pub up: Up,
    /// The norm before `down`, where there is one.
    pub hidden: &'static str,
    pub down: &'static str,
    /// Factors of what attention and MLP add, where there are some; whole names.
    pub scales: [&'static str; 2],
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
    pub pool: PoolNames,
    pub projection: Stored,
}

/// Of a text tower.
pub(super) struct TextNames {
    pub tokens: &'static str,
    pub position: &'static str,
    pub norm: &'static str,
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

    pub(super) fn image_projection(self, config: &VitConfig) -> &'static Stored {
        match (self, config.projection) {
            (Names::Timm, ProjectionForm::Plain) => &timm::PROJECTION,
            _ => &self.image().projection,
        }
    }

    pub(super) fn text(self) -> &'static TextNames {
        match self {
            Names::HuggingFace => &hugging_face::TEXT,
            Names::Siglip => &hugging_face::SIGLIP_TEXT,
            Names::OpenAi | Names::Timm => &open_ai::TEXT,
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
    pub(super) fn text_block(self) -> &'static BlockNames {
        match self {
            Names::HuggingFace | Names::Siglip => &hugging_face::BLOCK,
            Names::OpenAi | Names::Timm => &open_ai::BLOCK,
        }
    }
}
