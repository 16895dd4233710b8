//! What a text tower is made of, and the towers from transformers that open_clip's models are built on (`hf_model.py`), by name: a
//! configuration has the name only.

use super::{EndToken, ProjectionForm, TowerConfig};
use crate::kernels::activation::Activation;
use crate::nn::{Hidden, Norms};

/// What makes the blocks' input of a text's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextStem {
    /// Rows of tokens and of positions, added.
    Plain,
    /// RoBERTa's (arXiv 1907.11692): a row for the kind of text is added, too, and a norm follows.
    Roberta {
        /// Rows of the table of positions.
        positions: usize,
        /// Which of them is that of a text's first token: the one behind the pad's id.
        first: usize,
        /// Rows of the table of kinds. All texts are of the first.
        kinds: usize,
    },
}

impl TextStem {
    /// The most tokens that it has positions for, where that is not the context itself.
    pub(super) fn most(self) -> Option<usize> {
        match self {
            TextStem::Plain => None,
            TextStem::Roberta { positions, first, .. } => Some(positions.saturating_sub(first)),
        }
    }
}

/// A text tower as a configuration describes it.
pub(super) struct TextConfig {
    pub tower: TowerConfig,
    pub stem: TextStem,
    pub vocabulary: usize,
    pub end: EndToken,
    pub causal: bool,
    pub projection: ProjectionForm,
}

/// The id of `<pad>` in the vocabularies of RoBERTa and XLM-RoBERTa.
const PAD: u32 = 1;

/// The text tower of this name on the hub, without a projection. Its sizes are those of the `config.json` there; the tensors'
/// shapes are held against them on loading.
pub(super) fn of_transformers(name: &str) -> Option<TextConfig> {
    let (sizes, vocabulary) = match name {
        "roberta-base" | "FacebookAI/roberta-base" => ([768, 3072, 12, 12], 50_265),
        "roberta-large" | "FacebookAI/roberta-large" => ([1024, 4096, 24, 16], 50_265),
        "xlm-roberta-base" | "FacebookAI/xlm-roberta-base" => ([768, 3072, 12, 12], 250_002),
        "xlm-roberta-large" | "FacebookAI/xlm-roberta-large" => ([1024, 4096, 24, 16], 250_002),
        _ => return None,
    };
    let tower = TowerConfig::plain(sizes, Hidden::Activated(Activation::Gelu), 1e-5);
    Some(TextConfig {
        tower: TowerConfig { norms: Norms::OfSum, ..tower },
        stem: TextStem::Roberta { positions: 514, first: PAD as usize + 1, kinds: 1 },
        vocabulary,
        end: EndToken::Mean { pad: PAD },
        causal: false,
        projection: ProjectionForm::None,
    })
}
