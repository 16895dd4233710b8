//! timm's names of a vision transformer (`vision_transformer.py`, `eva.py`), as open_clip puts them into a model.

use super::{Attention, BlockNames, ImageNames, PoolAttention, PoolNames, Stored, Up};

/// A projection behind the tower, instead of the classifier's layer in it; it has no bias.
pub(super) const PROJECTION: Stored = Stored::Layer("visual.head.proj");

pub(super) const BLOCK: BlockNames = BlockNames {
    ln1: "norm1",
    attention: Attention::Fused { weight: "attn.qkv.weight", bias: "attn.qkv.bias" },
    mixed: Some("attn.norm"),
    out: "attn.proj",
    ln2: "norm2",
    up: Up::One("mlp.fc1"),
    hidden: Some("mlp.norm"),
    down: "mlp.fc2",
    scales: Some(["ls1.gamma", "ls2.gamma"]),
};

/// EVA: its keys have no bias.
pub(super) const EVA_BLOCK: BlockNames = BlockNames {
    attention: Attention::FusedApart { weight: "attn.qkv.weight", biases: ["attn.q_bias", "attn.v_bias"] },
    ..BLOCK
};

/// EVA-02.
pub(super) const EVA02_BLOCK: BlockNames = BlockNames {
    attention: Attention::Three(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
    up: Up::Gated(["mlp.fc1_g", "mlp.fc1_x"]),
    ..BLOCK
};

pub(super) const IMAGE: ImageNames = ImageNames {
    patches: "visual.trunk.patch_embed.proj",
    class: "visual.trunk.cls_token",
    position: "visual.trunk.pos_embed",
    pre: "visual.trunk.norm_pre",
    post: "visual.trunk.norm",
    blocks: "visual.trunk.blocks.",
    pool: Some(PoolNames {
        query: "visual.trunk.attn_pool.latent",
        attention: PoolAttention::Two { query: "visual.trunk.attn_pool.q", keys_values: "visual.trunk.attn_pool.kv" },
        out: "visual.trunk.attn_pool.proj",
        norm: "visual.trunk.attn_pool.norm",
        up: "visual.trunk.attn_pool.mlp.fc1",
        down: "visual.trunk.attn_pool.mlp.fc2",
    }),
    projection: Some(Stored::Layer("visual.trunk.head")),
};
