//! What a model and each method will need of GPU memory, known before anything is allocated: everything is recorded as it
//! would be for a run, in a rehearsal ([`crate::gpu::Gpu::rehearsal`]).

use std::cell::OnceCell;

use crate::adapt::overlap::{self, Correction};
use crate::adapt::pini::{self, NoisyPrompts};
use crate::adapt::tip::{Cache, TipParams};
use crate::adapt::tip_f;
use crate::adapt::tip_x::TipX;
use crate::adapt::zero_shot::Classifier;
use crate::clip::{Clip, EndToken, Features};
use crate::gpu::advise;
use crate::{Error, Result};

/// Tokens of a text, markers included, where only their number counts.
const TOKENS: usize = 16;

/// The sizes that a method's memory is worked out for.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Pictures per step.
    pub batch: usize,
    /// Classes.
    pub classes: usize,
    /// Pictures of each class to learn from.
    pub shots: usize,
}

/// The largest batch that memory is worked out for.
pub const MOST_BATCH: usize = 65_536;
/// The most classes that memory is worked out for.
pub const MOST_CLASSES: usize = 100_000;
/// The most pictures of all classes together that memory is worked out for.
pub const MOST_PICTURES: usize = 10_000_000;

impl Setting {
    /// Checks that working it out takes neither long nor much memory itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] for none of something, more classes than [`MOST_CLASSES`], or more pictures than
    /// [`MOST_PICTURES`].
    pub fn check(&self) -> Result<()> {
        let Setting { batch, classes, shots } = *self;
        let pictures = classes.checked_mul(shots);
        if !(1..=MOST_CLASSES).contains(&classes) || !pictures.is_some_and(|n| (1..=MOST_PICTURES).contains(&n)) {
            return Err(Error::invalid(format!(
                "{classes} classes × {shots} shots: there must be 1 to {MOST_CLASSES} classes and 1 to {MOST_PICTURES} \
                 pictures in all"
            )));
        }
        if !(1..=MOST_BATCH).contains(&batch) {
            return Err(Error::invalid(format!("a batch of {batch} must be of 1 to {MOST_BATCH} pictures")));
        }
        Ok(())
    }
}

/// The memory of one way of using a model.
#[derive(Debug)]
pub struct Need {
    /// Which way.
    pub what: &'static str,
    /// Bytes in all, the model's weights among them, at the worst moment; or why it cannot be done here.
    pub bytes: Result<u64>,
}

/// Bytes of the model's weights on the GPU.
pub fn weights(clip: &Clip) -> u64 {
    clip.rehearsal().gpu.allocated_bytes()
}

/// What inference and each method's training need, weights included.
///
/// # Errors
/// As [`Setting::check`].
pub fn needs(clip: &Clip, setting: Setting) -> Result<Vec<Need>> {
    setting.check()?;
    let clip = clip.rehearsal();
    let Setting { batch, classes, shots } = setting;
    let (d, keys) = (clip.config.embedding, classes.saturating_mul(shots));
    let need = |what, work: &dyn Fn() -> Result<()>| {
        clip.gpu.forget_peak();
        Need { what, bytes: work().map(|()| clip.gpu.peak_bytes()) }
    };
    let of_batch = |what, work: &dyn Fn(usize) -> Result<()>| {
        need(what, &|| work(batch).map_err(|error| advise(error, &format!("{what} with"), batch, work)))
    };
    let texts = || Classifier::from_features(&clip.gpu, &vec![0.0; classes * d], classes, d, clip.logit_scale);
    let labels: Vec<u32> = (0..classes as u32).flat_map(|class| std::iter::repeat_n(class, shots)).collect();
    let cache = || Cache::rehearse(&clip.gpu, &labels, classes, d);
    // Of many classes the prompts take longer than all the rest, and they are the same for every batch that is tried.
    let names: Vec<String> = (1..=classes).map(|i| format!("class {i}")).collect();
    let pini = pini::Config::paper("a photo of a", 1);
    let prompts = OnceCell::new();
    let prompts = || match prompts.get() {
        Some(made) => Ok(made),
        None => NoisyPrompts::new(clip, &pini.template, &names).map(|made| prompts.get_or_init(|| made)),
    };
    let queries = |n: usize| Features::from(vec![0.0; n * d]);
    Ok(vec![
        of_batch("encoding pictures", &|n| clip.image.plan(n).map(drop)),
        need("encoding texts", &|| {
            let end = match clip.config.end {
                EndToken::HighestId => clip.config.vocabulary as u32 - 1,
                EndToken::First(id) => id,
            };
            let mut text = vec![0; TOKENS.min(clip.config.context).saturating_sub(1)];
            text.push(end);
            clip.text.encode(&vec![text; classes.max(1)], clip.config.end).map(drop)
        }),
        of_batch("encoding pictures with a corrected tower", &|n| {
            let correction = Correction::init(clip, &overlap::Config::paper(1))?;
            clip.image.plan_with(n, Some(&correction.blocks)).map(drop)
        }),
        of_batch("classifying by Tip-Adapter", &|n| {
            cache()?.logits(&clip.gpu, &texts()?, &queries(n), TipParams::INITIAL).map(drop)
        }),
        of_batch("classifying by Tip-X", &|n| {
            let (classifier, cache) = (texts()?, cache()?);
            let tip = TipX::rehearse(&clip.gpu, &classifier, cache)?;
            tip.range(&clip.gpu, &classifier, &queries(n)).map(drop)
        }),
        need("training Tip-Adapter-F", &|| {
            let (classifier, cache) = (texts()?, cache()?);
            let trainer = tip_f::Trainer::new(&clip.gpu, &classifier, &cache, TipParams::INITIAL)?;
            trainer.step(tip_f::Config::paper(1).batch.min(keys.max(1))).map(drop)
        }),
        of_batch("training a correction of the overlap", &|n| {
            overlap::rehearse(clip, classes, &overlap::Config::paper(1), n)
        }),
        of_batch("training PiNI", &|n| pini::rehearse(clip, prompts()?, &pini, n)),
    ])
}
