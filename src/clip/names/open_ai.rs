//! OpenAI's names, which are also open_clip's. Where its text tower is a module of its own, `text.` stands in front of the
//! text tower's.

use super::{Attention, BlockNames, ImageNames, Stored, TextNames, Up};

pub(super) const BLOCK: BlockNames = BlockNames {
    ln1: "ln_1",
    attention: Attention::Fused { weight: "attn.in_proj_weight", bias: "attn.in_proj_bias" },
    mixed: None,
    out: "attn.out_proj",
    ln2: "ln_2",
    up: Up::One("mlp.c_fc"),
    hidden: None,
    down: "mlp.c_proj",
    scales: Some(["ls_1.gamma", "ls_2.gamma"]),
};

pub(super) const IMAGE: ImageNames = ImageNames {
    patches: "visual.conv1",
    class: "visual.class_embedding",
    position: "visual.positional_embedding",
    pre: "visual.ln_pre",
    post: "visual.ln_post",
    blocks: "visual.transformer.resblocks.",
    // Its own attentional pooling is another (CoCa's), and refused.
    pool: None,
    projection: Some(Stored::Transposed("visual.proj")),
};

pub(super) const TEXT: TextNames = TextNames {
    tokens: "token_embedding.weight",
    position: "positional_embedding",
    kind: None,
    pre: None,
    norm: Some("ln_final"),
    blocks: "transformer.resblocks.",
    projection: Stored::Transposed("text_projection"),
};
