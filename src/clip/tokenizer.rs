//! The tokenizer: the folder's tokenizer.json, or CLIP's own rules where a folder ships none; with CLIP's markers set here.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use super::bpe::{self, Bpe, Markers};
use super::config::{ClipConfig, OPEN_CLIP};
use super::tokenizer_file;
use crate::{Error, Result, input, text};

/// Rows of the token embedding that belong to CLIP's own rules.
const VOCABULARY: usize = 49_408;

/// The most bytes that a text may have once a tokenizer.json's rules have prepared it.
const LONGEST: usize = 16 << 20;

/// Runs code that panics at a file which contradicts itself.
fn guarded<T>(path: &Path, run: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(run))
        .map_err(|_| Error::config(path, "not a valid tokenizer: its rules contradict themselves; fetch it again"))
}

/// How a text is split.
enum Rules {
    /// As a tokenizer.json says.
    File {
        /// The rules.
        inner: Box<tokenizers::Tokenizer>,
        /// The file.
        path: PathBuf,
        /// How many times as long a text may become.
        growth: usize,
    },
    /// As OpenAI's and open_clip's code does.
    BuiltIn(Box<Bpe>),
}

/// Turns texts into token ids.
pub struct Tokenizer {
    rules: Rules,
    start: u32,
    end: u32,
    context: usize,
}

impl Tokenizer {
    /// The tokenizer of a model folder: its tokenizer.json, else CLIP's own rules if the vocabulary is theirs.
    ///
    /// # Errors
    /// [`Error::Config`] when tokenizer.json is malformed or lacks CLIP's markers, or is missing and cannot be done without.
    pub fn of_folder(folder: &Path, config: &ClipConfig) -> Result<Tokenizer> {
        let path = folder.join("tokenizer.json");
        if path.exists() || config.vocabulary != VOCABULARY {
            return Tokenizer::open(&path, config.context);
        }
        let markers = if folder.join(OPEN_CLIP).exists() { Markers::OpenClip } else { Markers::OpenAi };
        Tokenizer::built_in(markers, config.context)
    }

    /// CLIP's own rules; `context` is the longest prompt in tokens, markers included.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the rules built in are damaged, which the tests exclude.
    pub fn built_in(markers: Markers, context: usize) -> Result<Tokenizer> {
        let rules = Rules::BuiltIn(Box::new(Bpe::new(markers)?));
        Ok(Tokenizer { rules, start: bpe::START, end: bpe::END, context })
    }

    /// Reads a tokenizer.json; `context` is the longest prompt in tokens, markers included.
    ///
    /// # Errors
    /// [`Error::Config`] when the file is missing, malformed, or lacks CLIP's markers.
    pub fn open(path: &Path, context: usize) -> Result<Tokenizer> {
        if !path.exists() {
            return Err(Error::config(path, "no tokenizer here; a model folder needs its tokenizer.json"));
        }
        let text = input::read(path, input::limit::TOKENIZER)?;
        let stated = tokenizer_file::look_over(path, &text)?;
        let mut inner = guarded(path, || tokenizers::Tokenizer::from_bytes(&text))?
            .map_err(|e| Error::config(path, format!("not a valid tokenizer: {e}")))?;
        // Markers and length are tipi's business: the end token must survive truncation, and packs need no padding.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::config(path, e.to_string()))?;
        stated.check(path, |token| inner.token_to_id(token))?;
        let marker = |token: &str| {
            inner.token_to_id(token).ok_or_else(|| Error::config(path, format!("the token '{token}' is missing")))
        };
        let (start, end) = (marker("<|startoftext|>")?, marker("<|endoftext|>")?);
        let rules = Rules::File { inner: Box::new(inner), path: path.to_path_buf(), growth: stated.growth };
        Ok(Tokenizer { rules, start, end, context })
    }

    /// Where the rules come from, in a few words.
    pub fn describe(&self) -> &'static str {
        match self.rules {
            Rules::File { .. } => "tokenizer.json",
            Rules::BuiltIn(_) => "CLIP's own, built in",
        }
    }

    /// The ids of a text, without markers.
    ///
    /// # Errors
    /// [`Error::Config`] when the tokenizer's rules fail on the text.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        match &self.rules {
            Rules::BuiltIn(bpe) => Ok(bpe.ids(text)),
            Rules::File { inner, path, growth } => {
                let longest = LONGEST / growth;
                if text.len() > longest {
                    let reason = format!("a text of {} bytes is too long for these rules: give {longest}", text.len());
                    return Err(Error::config(path, reason));
                }
                let begin: String = text.chars().take(60).collect();
                let encoding = guarded(path, || inner.encode(text, false))?
                    .map_err(|e| Error::config(path, format!("cannot tokenize '{begin}': {e}")))?;
                Ok(encoding.get_ids().to_vec())
            }
        }
    }

    /// Start marker, ids, end marker. A text too long for the context loses its tail, with a warning.
    ///
    /// # Errors
    /// As [`Tokenizer::ids`].
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.ids(text)?;
        let room = self.context.saturating_sub(2);
        if ids.len() > room {
            tracing::warn!(
                "'{}' is {} tokens long, {room} fit: its end is cut off",
                text::cut(text, text::NAME),
                ids.len()
            );
            ids.truncate(room);
        }
        Ok(self.framed(&ids))
    }

    /// Ids between the start and the end marker.
    pub(crate) fn framed(&self, ids: &[u32]) -> Vec<u32> {
        let mut prompt = Vec::with_capacity(ids.len() + 2);
        prompt.push(self.start);
        prompt.extend_from_slice(ids);
        prompt.push(self.end);
        prompt
    }
}
