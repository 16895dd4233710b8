//! The tokenizer: the folder's tokenizer.json, with CLIP's markers set here.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Turns texts into token ids.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    start: u32,
    end: u32,
    context: usize,
}

impl Tokenizer {
    /// Reads a tokenizer.json; `context` is the longest prompt in tokens, markers included.
    ///
    /// # Errors
    /// [`Error::Config`] when the file is missing, malformed, or lacks CLIP's markers.
    pub fn open(path: &Path, context: usize) -> Result<Tokenizer> {
        if !path.exists() {
            return Err(Error::config(path, "no tokenizer here; a model folder needs its tokenizer.json"));
        }
        let mut inner = tokenizers::Tokenizer::from_file(path)
            .map_err(|e| Error::config(path, format!("not a valid tokenizer: {e}")))?;
        // Markers and length are tipi's business: the end token must survive truncation, and packs need no padding.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::config(path, e.to_string()))?;
        let marker = |token: &str| {
            inner.token_to_id(token).ok_or_else(|| Error::config(path, format!("the token '{token}' is missing")))
        };
        let (start, end) = (marker("<|startoftext|>")?, marker("<|endoftext|>")?);
        Ok(Tokenizer { inner, path: path.to_path_buf(), start, end, context })
    }

    /// The ids of a text, without markers.
    ///
    /// # Errors
    /// [`Error::Config`] when the tokenizer's rules fail on the text.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|e| Error::config(&self.path, format!("cannot tokenize '{text}': {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Start marker, ids, end marker. A text too long for the context loses its tail, with a warning.
    ///
    /// # Errors
    /// As [`Tokenizer::ids`].
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.ids(text)?;
        let room = self.context.saturating_sub(2);
        if ids.len() > room {
            tracing::warn!("'{text}' is {} tokens long, {room} fit: its end is cut off", ids.len());
            ids.truncate(room);
        }
        let mut prompt = Vec::with_capacity(ids.len() + 2);
        prompt.push(self.start);
        prompt.append(&mut ids);
        prompt.push(self.end);
        Ok(prompt)
    }
}
