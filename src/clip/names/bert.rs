//! transformers' names of a text tower of BERT's form (`modeling_roberta.py`), as open_clip puts it into a model.

use super::{Attention, BlockNames, Stored, TextNames, Up};

pub(super) const BLOCK: BlockNames = BlockNames {
    ln1: "attention.output.LayerNorm",
    attention: Attention::Three(["attention.self.query", "attention.self.key", "attention.self.value"]),
    mixed: None,
    out: "attention.output.dense",
    ln2: "output.LayerNorm",
    up: Up::One("intermediate.dense"),
    hidden: None,
    down: "output.dense",
    scales: None,
};

pub(super) const TEXT: TextNames = TextNames {
    tokens: "text.transformer.embeddings.word_embeddings.weight",
    position: "text.transformer.embeddings.position_embeddings.weight",
    kind: Some("text.transformer.embeddings.token_type_embeddings.weight"),
    pre: Some("text.transformer.embeddings.LayerNorm"),
    // The last block's own is the last.
    norm: None,
    blocks: "text.transformer.encoder.layer.",
    projection: Stored::Layer("text.proj"),
};
