//! transformers' names, of `CLIPModel` and of `SiglipModel`.

use super::{Attention, BlockNames, ImageNames, PoolAttention, PoolNames, Stored, TextNames, Up};

pub(super) const BLOCK: BlockNames = BlockNames {
    ln1: "layer_norm1",
    attention: Attention::Three(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    mixed: None,
    out: "self_attn.out_proj",
    ln2: "layer_norm2",
    up: Up::One("mlp.fc1"),
    hidden: None,
    down: "mlp.fc2",
    scales: None,
};

const POOL: PoolNames = PoolNames {
    query: "vision_model.head.probe",
    attention: PoolAttention::Fused {
        weight: "vision_model.head.attention.in_proj_weight",
        bias: "vision_model.head.attention.in_proj_bias",
    },
    out: "vision_model.head.attention.out_proj",
    norm: "vision_model.head.layernorm",
    up: "vision_model.head.mlp.fc1",
    down: "vision_model.head.mlp.fc2",
};

pub(super) const IMAGE: ImageNames = ImageNames {
    patches: "vision_model.embeddings.patch_embedding",
    class: "vision_model.embeddings.class_embedding",
    position: "vision_model.embeddings.position_embedding.weight",
    // The missing e is in the published checkpoints.
    pre: "vision_model.pre_layrnorm",
    post: "vision_model.post_layernorm",
    blocks: "vision_model.encoder.layers.",
    pool: None,
    projection: Some(Stored::Layer("visual_projection")),
};

/// It has no projection: what the pool gives are the features.
pub(super) const SIGLIP_IMAGE: ImageNames = ImageNames { pool: Some(POOL), projection: None, ..IMAGE };

pub(super) const TEXT: TextNames = TextNames {
    tokens: "text_model.embeddings.token_embedding.weight",
    position: "text_model.embeddings.position_embedding.weight",
    kind: None,
    pre: None,
    norm: Some("text_model.final_layer_norm"),
    blocks: "text_model.encoder.layers.",
    projection: Stored::Layer("text_projection"),
};

pub(super) const SIGLIP_TEXT: TextNames = TextNames { projection: Stored::Layer("text_model.head"), ..TEXT };
