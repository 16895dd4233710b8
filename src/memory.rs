//! What a model and each method will need of GPU memory, known before anything is allocated: everything is recorded as it
//! would be for a run, in a rehearsal ([`crate::gpu::Gpu::rehearsal`]).

use crate::adapt::overlap::{self, Correction, Dropout};
use crate::adapt::pini::{self, NoisyPrompts};
use crate::adapt::tip::{Cache, TipParams};
use crate::adapt::tip_f;
use crate::adapt::tip_x::TipX;
use crate::adapt::zero_shot::Classifier;
use crate::clip::{Clip, EndToken, Features};
use crate::{Error, Result};

/// Tokens of a text, markers included, where only their number counts.
const TOKENS: usize = 16;

/// For what a method's memory is asked.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Pictures per step.
    pub batch: usize,
    /// Classes.
    pub classes: usize,
    /// Pictures of each class to learn from.
    pub shots: usize,
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
pub fn needs(clip: &Clip, setting: Setting) -> Vec<Need> {
    let clip = clip.rehearsal();
    let Setting { batch, classes, shots } = setting;
    let (d, keys) = (clip.config.embedding, classes.saturating_mul(shots));
    let need = |what, work: &dyn Fn(usize) -> Result<()>| {
        clip.gpu.forget_peak();
        let done = work(batch).map(|()| clip.gpu.peak_bytes());
        Need { what, bytes: done.map_err(|error| advise(error, what, batch, work)) }
    };
    let texts = || Classifier::from_features(&clip.gpu, &vec![0.0; classes * d], classes, d, clip.logit_scale);
    let labels: Vec<u32> = (0..classes as u32).flat_map(|class| std::iter::repeat_n(class, shots)).collect();
    let cache = || Cache::new(&clip.gpu, &vec![0.0; keys * d], &labels, classes, d);
    let queries = |n: usize| Features::from(vec![0.0; n * d]);
    vec![
        need("encoding pictures", &|n| clip.image.plan(n).map(drop)),
        need("encoding texts", &|_| {
            let end = match clip.config.end {
                EndToken::HighestId => clip.config.vocabulary as u32 - 1,
                EndToken::First(id) => id,
            };
            let mut text = vec![0; TOKENS.min(clip.config.context).saturating_sub(1)];
            text.push(end);
            clip.text.encode(&vec![text; classes.max(1)], clip.config.end).map(drop)
        }),
        need("encoding pictures with a corrected tower", &|n| {
            let correction = Correction::init(clip, &overlap::Config::paper(1))?;
            clip.image.plan_with(n, Some(&correction.blocks)).map(drop)
        }),
        need("classifying by Tip-Adapter", &|n| {
            cache()?.logits(&clip.gpu, &texts()?, &queries(n), TipParams::INITIAL).map(drop)
        }),
        need("classifying by Tip-X", &|n| {
            let (classifier, cache) = (texts()?, cache()?);
            let tip = TipX::new(&clip.gpu, &classifier, cache, &vec![0.0; keys * d], &labels)?;
            tip.range(&clip.gpu, &classifier, &queries(n)).map(drop)
        }),
        need("training Tip-Adapter-F", &|_| {
            let (classifier, cache) = (texts()?, cache()?);
            let trainer = tip_f::Trainer::new(&clip.gpu, &classifier, &cache, TipParams::INITIAL)?;
            trainer.step(tip_f::Config::paper(1).batch.min(keys.max(1))).map(drop)
        }),
        need("training a correction of the overlap", &|n| {
            let config = overlap::Config::paper(1);
            let correction = Correction::init(clip, &config)?;
            let head = overlap::Trainer::fresh_head(clip, classes, 1)?;
            overlap::Trainer::new(clip, correction, head)?.step(n, Dropout::Drawn(config.dropout)).map(drop)
        }),
        need("training PiNI", &|n| {
            let names: Vec<String> = (1..=classes).map(|i| format!("class {i}")).collect();
            let config = pini::Config::paper("a photo of a", 1);
            let prompts = NoisyPrompts::new(clip, &config.template, &names)?;
            let params = pini::Params::init(clip, prompts.noisy, config.reduction, 1)?;
            pini::Trainer::new(clip, prompts, params)?.step(n, config.draws, true).map(drop)
        }),
    ]
}

/// The largest batch up to `most` at which `fits` does not run out of memory; 0 where even one picture is too much.
///
/// # Errors
/// What `fits` returns, other than [`Error::OutOfMemory`].
pub fn largest(most: usize, fits: &dyn Fn(usize) -> Result<()>) -> Result<usize> {
    let try_one = |batch| match fits(batch) {
        Ok(()) => Ok(true),
        Err(Error::OutOfMemory { .. }) => Ok(false),
        Err(error) => Err(error),
    };
    if most == 0 || try_one(most)? {
        return Ok(most);
    }
    // Memory grows with the batch.
    let (mut fitting, mut failing) = (0, most);
    while fitting + 1 < failing {
        let middle = fitting.midpoint(failing);
        if try_one(middle)? { fitting = middle } else { failing = middle }
    }
    Ok(fitting)
}

/// An error of running out of memory with `batch` of something at a time, with the number that would fit; other errors
/// as they are. `rehearse` makes the same in a rehearsal.
pub(crate) fn advise(error: Error, what: &str, batch: usize, rehearse: &dyn Fn(usize) -> Result<()>) -> Error {
    let Error::OutOfMemory { what: short, needed, why } = error else { return error };
    let why = match largest(batch.saturating_sub(1), rehearse) {
        Ok(0) | Err(_) => format!("{why}; not even one at a time would fit"),
        Ok(fits) => format!("{why}; {fits} at a time would fit"),
    };
    Error::OutOfMemory { what: format!("{what} with {batch} pictures at a time ({short})"), needed, why }
}

#[cfg(test)]
mod tests {
    use super::largest;
    use crate::Error;

    #[test]
    fn the_largest_batch_is_found() {
        for most in [0usize, 1, 2, 7, 64] {
            for limit in 0..70 {
                let fits = |n: usize| match n <= limit {
                    true => Ok(()),
                    false => Err(Error::OutOfMemory { what: "x".into(), needed: 1, why: String::new() }),
                };
                assert_eq!(largest(most, &fits).unwrap(), most.min(limit));
            }
        }
        assert!(largest(4, &|_| Err(Error::invalid("other"))).is_err());
    }
}
