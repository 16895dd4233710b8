//! How the ids of a text become a prompt: what is done to the text before, the markers around its ids, the padding.

use crate::{Error, Result};

/// What is done to a text before it is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clean {
    /// What the rules themselves do: CLIP's own clean as [`Clean::Lower`], a tokenizer.json as it says.
    Own,
    /// open_clip's `whitespace`: broken encodings and entities repaired, single spaces.
    Whitespace,
    /// open_clip's `lower`: as [`Clean::Whitespace`], and in lower case.
    Lower,
    /// open_clip's `canonicalize`: broken encodings and entities repaired, `_` as a space, no other punctuation of ASCII, lower
    /// case, single spaces.
    Canonicalize,
    /// transformers' `SiglipTokenizer`: lower case, no punctuation of ASCII, single spaces.
    Siglip,
    /// transformers' `Siglip2Tokenizer`: lower case letter by letter, but for tokens that a tokenizer.json keeps whole.
    Letters,
}

impl Clean {
    /// What open_clip's `tokenizer_kwargs.clean` names.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that open_clip does not know.
    pub fn named(name: &str) -> Result<Clean> {
        match name {
            "lower" => Ok(Clean::Lower),
            "whitespace" => Ok(Clean::Whitespace),
            "canonicalize" => Ok(Clean::Canonicalize),
            _ => Err(Error::invalid(format!(
                "'{name}' is no way to clean texts; lower, whitespace and canonicalize are"
            ))),
        }
    }
}

/// What fills a prompt up to the whole context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pad {
    /// The token that is spelled so.
    Token(String),
    /// This id, whatever it stands for.
    Id(u32),
}

/// How the ids of a text become a prompt. Markers are named by their spelling in the tokenizer's files.
///
/// All families cut a text that is too long in the same way: it loses its last ids, and the markers stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What is done to a text before.
    pub clean: Clean,
    /// In front of the ids.
    pub start: Option<String>,
    /// Behind the ids.
    pub end: Option<String>,
    /// What fills a prompt up to the whole context. A tower whose attention sees what follows the end token, or that reads
    /// the last position, needs it; for any other it would change nothing and cost time.
    pub pad: Option<Pad>,
    /// A token in whose place 0 stands wherever it occurs, at the end, too: open_clip's `strip_sep_token`.
    pub erased: Option<String>,
}

impl Frame {
    /// A frame without a pad whose texts are cleaned as its rules say.
    fn of(start: Option<&str>, end: &str) -> Frame {
        Frame { clean: Clean::Own, start: start.map(str::to_owned), end: Some(end.to_owned()), pad: None, erased: None }
    }

    /// CLIP, and all that share its tokenizer: EVA-02, PE-Core, MobileCLIP's B, MetaCLIP 1. Their text attention is causal and
    /// they read the end token, so that the zeros behind it are seen by nothing.
    pub fn clip() -> Frame {
        Frame::of(Some("<|startoftext|>"), "<|endoftext|>")
    }

    /// The same where text attention sees the zeros behind the end token: open_clip's `no_causal_mask`, as in MobileCLIP's S models
    /// and MobileCLIP 2's L-14.
    pub fn clip_padded() -> Frame {
        Frame { pad: Some(Pad::Id(0)), ..Frame::clip() }
    }

    /// SigLIP as transformers runs it: the end token is the pad, too, and the last position is read.
    pub fn siglip() -> Frame {
        Frame { clean: Clean::Siglip, pad: Some(Pad::Token("</s>".into())), ..Frame::of(None, "</s>") }
    }

    /// SigLIP 2 as transformers runs it (Gemma's tokenizer).
    pub fn siglip2() -> Frame {
        Frame { clean: Clean::Letters, pad: Some(Pad::Token("<pad>".into())), ..Frame::of(None, "<eos>") }
    }

    /// CLIPA in open_clip: BERT's tokenizer, whose separator behind the text is taken out again. The last position is read, and
    /// all others are seen.
    pub fn clipa() -> Frame {
        Frame {
            clean: Clean::Whitespace,
            pad: Some(Pad::Token("[PAD]".into())),
            erased: Some("[SEP]".into()),
            ..Frame::of(Some("[CLS]"), "[SEP]")
        }
    }

    /// MetaCLIP 2 with the tokenizer of XLM-V, as transformers runs it; open_clip cleans with [`Clean::Whitespace`]. Attention is
    /// causal, and the end token is read.
    pub fn metaclip2() -> Frame {
        Frame::roberta()
    }

    /// RoBERTa and XLM-RoBERTa, as transformers runs them; open_clip cleans with [`Clean::Whitespace`]. Nothing sees or reads their
    /// padding.
    pub fn roberta() -> Frame {
        Frame::of(Some("<s>"), "</s>")
    }

    /// MetaCLIP 2 with the tokenizer of mT5, as open_clip's `ViT-L-14-worldwide` with its `canonicalize`. Attention is causal,
    /// and the end token is read.
    pub fn mt5() -> Frame {
        Frame { clean: Clean::Canonicalize, ..Frame::of(None, "</s>") }
    }

    /// The same with another cleaning.
    #[must_use]
    pub fn cleaned(self, clean: Clean) -> Frame {
        Frame { clean, ..self }
    }

    /// Whether prompts have CLIP's markers.
    pub(super) fn is_clips(&self) -> bool {
        let clip = Frame::clip();
        let pad = !matches!(self.pad, Some(Pad::Token(_)));
        self.start == clip.start && self.end == clip.end && pad && self.erased.is_none()
    }
}
