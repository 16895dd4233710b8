//! PiNI's prompts: words "x", the template's words, the class name and ".", what all classes share computed once.

use std::ops::Range;

use super::Config;
use crate::clip::{Clip, Prompts};
use crate::data::class_name;
use crate::gpu::{Recorder, Tensor};
use crate::kernels::normalize;
use crate::{Error, Result};

/// Words "x" before the template.
pub const PREFIX_WORDS: usize = 16;

/// The noisy prompts of a set of classes.
#[derive(Clone, Debug, PartialEq)]
pub struct NoisyPrompts {
    /// The packed texts, start token and P template tokens shared.
    pub prompts: Prompts,
    /// P, the number of noisy tokens.
    pub noisy: usize,
}

impl NoisyPrompts {
    /// Prompts of `classes` for a template of plain words ("a photo of a").
    ///
    /// # Errors
    /// A tokenizer that fails; a context too short for the prompts.
    pub fn new(clip: &Clip, template: &str, classes: &[String]) -> Result<NoisyPrompts> {
        words_only(template)?;
        shares_a_prefix(clip)?;
        let tokenizer = clip.tokenizer()?;
        let prefix = format!("{}{}", "x ".repeat(PREFIX_WORDS), template.trim());
        let noisy = tokenizer.ids(&prefix)?.len();
        let mut ids = Vec::with_capacity(classes.len());
        for class in classes {
            let text = format!("{prefix} {}.", class_name(class));
            let own = tokenizer.ids(&text)?;
            if own.len() > tokenizer.room() {
                return Err(Error::invalid(format!(
                    "PiNI's prompt for class '{class}' is longer than the model's context of {} tokens; \
                     shorten the template or the class name",
                    clip.config.context
                )));
            }
            ids.push(tokenizer.framed(&own));
        }
        NoisyPrompts::from_ids(clip, &ids, noisy)
    }

    /// Prompts given as token ids, of which the start token and `noisy` more are the same in all.
    ///
    /// # Errors
    /// Prompts that differ there or lack an end token.
    pub fn from_ids(clip: &Clip, ids: &[Vec<u32>], noisy: usize) -> Result<NoisyPrompts> {
        shares_a_prefix(clip)?;
        Ok(NoisyPrompts { prompts: Prompts::pack_shared(ids, clip.config.end, noisy + 1)?, noisy })
    }

    /// The prompts that `config` trains on: noisy ones, or, where only image features get noise, the plain template's.
    ///
    /// # Errors
    /// As [`NoisyPrompts::new`].
    pub fn of(clip: &Clip, config: &Config, classes: &[String]) -> Result<NoisyPrompts> {
        if config.noise.on_text() {
            NoisyPrompts::new(clip, &config.template, classes)
        } else {
            NoisyPrompts::plain(clip, &config.template, classes)
        }
    }

    /// Prompts without noise and without the words "x": the frozen text side of image-only noise.
    ///
    /// # Errors
    /// As [`NoisyPrompts::new`].
    pub fn plain(clip: &Clip, template: &str, classes: &[String]) -> Result<NoisyPrompts> {
        words_only(template)?;
        shares_a_prefix(clip)?;
        let tokenizer = clip.tokenizer()?;
        let text = |class: &String| format!("{} {}.", template.trim(), class_name(class));
        let ids = classes.iter().map(|class| tokenizer.prompt(&text(class))).collect::<Result<Vec<_>>>()?;
        Ok(NoisyPrompts { prompts: Prompts::pack(&ids, clip.config.end)?, noisy: 0 })
    }

    /// Features `[classes, D]` of the prompts without noise, un-normalised and of length 1.
    ///
    /// # Errors
    /// Out of memory, a lost device.
    pub fn encode(&self, clip: &Clip) -> Result<(Tensor, Tensor)> {
        let (tokens, packed) = (clip.text.embed(&self.prompts)?, clip.text.packed(&self.prompts)?);
        let mut rec = Recorder::new(&clip.gpu);
        let text = clip.text.forward(&mut rec, tokens, &packed)?;
        let unit = normalize::forward(&mut rec, &text)?.y;
        rec.finish()?.run()?;
        Ok((text, unit))
    }

    /// The noisy rows of the pack: those after the start token.
    pub(super) fn rows(&self) -> Range<usize> {
        1..1 + self.noisy
    }
}

/// PiNI computes the noisy beginning once for all classes, which needs a text tower whose tokens see those before them only.
fn shares_a_prefix(clip: &Clip) -> Result<()> {
    if clip.config.causal {
        return Ok(());
    }
    Err(Error::invalid(
        "PiNI needs a text tower with causal attention, as CLIP's is: this model's tokens see all others, so that texts that \
         begin alike share nothing; take Tip-Adapter, Tip-X, GDA or ProLIP",
    ))
}

fn words_only(template: &str) -> Result<()> {
    if template.contains("{}") {
        return Err(Error::invalid(format!(
            "PiNI's template '{template}' must hold plain words only: the class name comes after them by itself"
        )));
    }
    Ok(())
}

/// The noisy tokens of a template as text, in order: the words "x" and the template's own.
///
/// # Errors
/// A tokenizer that fails.
pub fn prefix_tokens(clip: &Clip, template: &str) -> Result<Vec<String>> {
    let tokenizer = clip.tokenizer()?;
    let mut tokens = Vec::new();
    for word in std::iter::repeat_n("x", PREFIX_WORDS).chain(template.split_whitespace()) {
        let ids = tokenizer.ids(word)?.len();
        // A word of several tokens is named on each.
        tokens.extend((1..=ids).map(|i| if ids == 1 { word.to_string() } else { format!("{word} {i}") }));
    }
    Ok(tokens)
}
