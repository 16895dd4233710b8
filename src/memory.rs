//! What a model and each method will need of GPU memory, known before anything is allocated: everything is recorded as it
//! would be for a run, in a rehearsal ([`crate::gpu::Gpu::rehearsal`]).

use std::cell::OnceCell;

use crate::adapt::METHODS;
use crate::adapt::dino;
use crate::adapt::method::Memory;
use crate::adapt::overlap::{self, Correction};
use crate::adapt::pini::{self, NoisyPrompts};
use crate::adapt::tip::Cache;
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

/// The most passes over pictures that a training may be asked for.
pub const MOST_EPOCHS: usize = 1_000_000;

/// What methods rehearse with ([`crate::adapt::Method::rehearse`]).
pub struct Rehearsal<'a> {
    /// The model in a rehearsal.
    pub clip: &'a Clip,
    classes: usize,
    /// Labels of the pictures to learn from, ascending.
    labels: Vec<u32>,
    names: Vec<String>,
    /// Of many classes the prompts take longer than all the rest, and they are the same for every batch that is tried.
    prompts: OnceCell<NoisyPrompts>,
}

impl<'a> Rehearsal<'a> {
    /// The words before the class names.
    pub const WORDS: &'static str = "a photo of a";

    fn new(clip: &'a Clip, Setting { classes, shots, .. }: Setting) -> Rehearsal<'a> {
        let labels = (0..classes as u32).flat_map(|class| std::iter::repeat_n(class, shots)).collect();
        let names = (1..=classes).map(|i| format!("class {i}")).collect();
        Rehearsal { clip, classes, labels, names, prompts: OnceCell::new() }
    }

    /// Pictures to learn from.
    pub fn pictures(&self) -> usize {
        self.labels.len()
    }

    /// A text classifier.
    ///
    /// # Errors
    /// Out of memory.
    pub fn texts(&self) -> Result<Classifier> {
        let (clip, d) = (self.clip, self.clip.config.embedding);
        Classifier::from_features(&clip.gpu, &vec![0.0; self.classes * d], self.classes, d, clip.logit_scale)
    }

    /// A cache.
    ///
    /// # Errors
    /// Out of memory.
    pub fn cache(&self) -> Result<Cache> {
        Cache::rehearse(&self.clip.gpu, &self.labels, self.classes, self.clip.config.embedding)
    }

    /// PiNI's prompts.
    ///
    /// # Errors
    /// A tokenizer that fails, prompts that are too long.
    pub fn prompts(&self) -> Result<&NoisyPrompts> {
        match self.prompts.get() {
            Some(made) => Ok(made),
            None => {
                let made = NoisyPrompts::new(self.clip, Self::WORDS, &self.names)?;
                Ok(self.prompts.get_or_init(|| made))
            }
        }
    }

    /// Features of `n` pictures to classify.
    pub fn queries(&self, n: usize) -> Features {
        Features::from(vec![0.0; n * self.clip.config.embedding])
    }
}

/// What inference and each method's training need, weights included.
///
/// # Errors
/// As [`Setting::check`].
pub fn needs(clip: &Clip, setting: Setting) -> Result<Vec<Need>> {
    setting.check()?;
    let clip = &*clip.rehearsal();
    let Setting { batch, classes, .. } = setting;
    let need = |what, work: &dyn Fn() -> Result<()>| {
        clip.gpu.forget_peak();
        Need { what, bytes: work().map(|()| clip.gpu.peak_bytes()) }
    };
    let of_batch = |what, work: &dyn Fn(usize) -> Result<()>| {
        need(what, &|| work(batch).map_err(|error| advise(error, &format!("{what} with"), batch, work)))
    };
    let mut needs = vec![
        of_batch("encoding pictures", &|n| clip.encoder(n, None).map(drop)),
        need("encoding texts", &|| {
            let (inner, end) = match clip.config.end {
                EndToken::HighestId => (0, clip.config.vocabulary as u32 - 1),
                EndToken::First(id) => (0, id),
                EndToken::Last => (0, 0),
                // Any other than the pad.
                EndToken::Mean { pad } => (u32::from(pad == 0), u32::from(pad == 0)),
            };
            // Where tokens see all others, padding is computed, too, unless it is hidden from them.
            let cut = clip.config.causal || matches!(clip.config.end, EndToken::Mean { .. });
            let tokens = if cut { TOKENS.min(clip.config.context) } else { clip.config.context };
            let mut text = vec![inner; tokens.saturating_sub(1)];
            text.push(end);
            clip.text.encode(&vec![text; classes.max(1)], clip.config.end).map(drop)
        }),
        of_batch("encoding pictures with a corrected tower", &|n| {
            let correction = Correction::init(clip, &overlap::Config::paper(1))?;
            clip.encoder(n, Some(&correction.blocks)).map(drop)
        }),
        of_batch("training a correction of the overlap", &|n| {
            overlap::rehearse(clip, classes, &overlap::Config::paper(1), n)
        }),
        of_batch("training a correction without labels", &|n| {
            let config = overlap::Config::without_labels(1, n);
            dino::rehearse(clip, &config, &config.self_supervised.clone().unwrap_or_default(), n)
        }),
    ];
    let rehearsal = Rehearsal::new(clip, setting);
    for method in METHODS {
        if let Some(Memory { what, by_batch }) = method.info().memory {
            needs.push(match by_batch {
                true => of_batch(what, &|n| method.rehearse(&rehearsal, n)),
                false => need(what, &|| method.rehearse(&rehearsal, batch)),
            });
        }
    }
    needs.push(of_batch("training PiNI's noise on pixels", &|n| {
        // What refuses the others refuses this one.
        rehearsal.prompts()?;
        pini::pixels::rehearse(clip, classes, &pini::Config::paper(Rehearsal::WORDS, 1), n)
    }));
    Ok(needs)
}
