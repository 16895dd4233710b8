//! PiNI for prediction: at the mean of its noise, or by drawing from it.

use std::fmt;
use std::str::FromStr;

use super::train::head_forward;
use super::{Config, NoisyPrompts, Params};
use crate::adapt::plans::Plans;
use crate::adapt::train::streams;
use crate::clip::Clip;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::{noise, normalize};
use crate::{Error, Result, adapt};

/// How noise enters predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evaluation {
    /// At its mean, ε = 0: nothing random.
    #[default]
    Mean,
    /// The average of the probabilities under this many draws; a single one is what the authors' code evaluates.
    Draws {
        /// Draws.
        count: usize,
        /// Seed of the draws.
        seed: u64,
    },
}

impl Evaluation {
    /// The most draws that are averaged.
    pub const MOST_DRAWS: usize = 10_000;

    /// Checks the number of draws.
    ///
    /// # Errors
    /// [`Error::Invalid`] for none, or more than [`Evaluation::MOST_DRAWS`].
    pub fn check(&self) -> Result<()> {
        match self {
            Evaluation::Draws { count, .. } if !(1..=Self::MOST_DRAWS).contains(count) => {
                Err(Error::invalid(format!("{count} draws to average must be from 1 to {}", Self::MOST_DRAWS)))
            }
            _ => Ok(()),
        }
    }

    /// The same with draws from another seed.
    pub fn seeded(self, seed: u64) -> Evaluation {
        match self {
            Evaluation::Mean => Evaluation::Mean,
            Evaluation::Draws { count, .. } => Evaluation::Draws { count, seed },
        }
    }
}

impl FromStr for Evaluation {
    type Err = Error;

    /// `mean`, `draw` or `average:S`.
    fn from_str(text: &str) -> Result<Evaluation> {
        let count = match text {
            "mean" => return Ok(Evaluation::Mean),
            "draw" => Some(1),
            other => other
                .strip_prefix("average:")
                .and_then(|s| s.parse().ok())
                .filter(|s| (1..=Evaluation::MOST_DRAWS).contains(s)),
        };
        count.map(|count| Evaluation::Draws { count, seed: 0 }).ok_or_else(|| {
            Error::invalid(format!("evaluation '{text}' must be mean, draw or average:S with S from 1 to 10000"))
        })
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evaluation::Mean => f.write_str("mean"),
            Evaluation::Draws { count: 1, .. } => f.write_str("draw"),
            Evaluation::Draws { count, .. } => write!(f, "average:{count}"),
        }
    }
}

/// A learned PiNI.
#[derive(Clone)]
pub struct Pini {
    /// The parameters.
    pub params: Params,
    prompts: NoisyPrompts,
    /// Raw features `[classes, D]` of the prompts with their mean noise, and the same normalised.
    text: (Tensor, Tensor),
    scale: f32,
}

impl Pini {
    /// PiNI with these parameters; encodes the prompts once.
    ///
    /// # Errors
    /// Prompts that do not fit the parameters; out of memory, a lost device.
    pub fn new(clip: &Clip, prompts: NoisyPrompts, params: Params) -> Result<Pini> {
        let text = encode(clip, &prompts, &params, None)?;
        Ok(Pini { params, prompts, text, scale: clip.logit_scale })
    }

    /// An untrained PiNI: what training starts from.
    ///
    /// # Errors
    /// A context too short for the prompts, a reduction that does not divide D; out of memory, a lost device.
    pub fn untrained(clip: &Clip, classes: &[String], config: &Config) -> Result<Pini> {
        let prompts = NoisyPrompts::of(clip, config, classes)?;
        let params = Params::fresh(clip, prompts.noisy, config)?;
        Pini::new(clip, prompts, params)
    }

    /// P, the number of noisy tokens.
    pub fn noisy(&self) -> usize {
        self.prompts.noisy
    }

    /// Logits `[n, classes]` of un-normalised image features `[n, D]` at the noise's mean.
    ///
    /// # Errors
    /// A length that does not fit; a device that fails.
    pub fn logits(&self, gpu: &Gpu, features: &[f32]) -> Result<Vec<f32>> {
        let texts = vec![self.text.clone()];
        Predictor { plans: Plans::default(), pini: self.clone(), evaluation: Evaluation::Mean, texts }
            .logits(gpu, features, 0)
    }

    /// Mean and spread `[n, D]` of the image noise of un-normalised image features `[n, D]`; the spread as it is used, without
    /// its sign. Nothing where image features get no noise.
    ///
    /// # Errors
    /// A length that does not fit; a device that fails.
    pub fn image_noise(&self, gpu: &Gpu, features: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        let d = self.text.0.cols();
        adapt::check_rows("features", features, d)?;
        let (mut mean, mut spread) = (Vec::new(), Vec::new());
        let Some(layers) = &self.params.image else { return Ok((mean, spread)) };
        for rows in features.chunks(adapt::ROWS * d) {
            let v = gpu.upload("image features", rows, &[rows.len() / d, d])?;
            let eps = gpu.zeros("eps", v.shape())?;
            let mut rec = Recorder::new(gpu);
            let (text, unit) = &self.text;
            let head = head_forward(&mut rec, Some((layers, &eps, 1)), &v, (text, unit), self.scale)?;
            let Some((of_mean, of_spread)) = head.noise() else { continue };
            let (of_mean, of_spread) = (of_mean.clone(), of_spread.clone());
            drop(head);
            rec.finish()?.run()?;
            mean.extend(gpu.read::<f32>(&of_mean)?);
            spread.extend(gpu.read::<f32>(&of_spread)?.iter().map(|v| v.abs()));
        }
        Ok((mean, spread))
    }

    /// What predicts by `evaluation`; encodes the prompts once for each draw.
    ///
    /// # Errors
    /// No draws or too many; out of memory, a lost device.
    pub fn predictor(&self, clip: &Clip, evaluation: Evaluation) -> Result<Predictor> {
        evaluation.check()?;
        let texts = match evaluation {
            Evaluation::Draws { count, seed } if self.params.text.is_some() => (0..count)
                .map(|draw| encode(clip, &self.prompts, &self.params, Some((seed, draw as u32))))
                .collect::<Result<_>>()?,
            Evaluation::Draws { count, .. } => vec![self.text.clone(); count],
            Evaluation::Mean => vec![self.text.clone()],
        };
        Ok(Predictor { plans: Plans::default(), pini: self.clone(), evaluation, texts })
    }
}

/// Features of prompts, as they are and normalised, with the noise of a draw or the noise's mean.
fn encode(clip: &Clip, prompts: &NoisyPrompts, params: &Params, draw: Option<(u64, u32)>) -> Result<(Tensor, Tensor)> {
    let gpu = &clip.gpu;
    if params.text.as_ref().map_or(0, |text| text.mean.rows()) != prompts.noisy {
        return Err(Error::invalid(format!("prompts with {} noisy tokens for parameters of others", prompts.noisy)));
    }
    let mut x = clip.text.embed(&prompts.prompts)?;
    let packed = clip.text.packed(&prompts.prompts)?;
    let mut rec = Recorder::new(gpu);
    if let Some(text) = &params.text {
        let eps = gpu.zeros("eps", text.mean.shape())?;
        if let Some((seed, draw)) = draw {
            noise::normal(&mut rec, &counter(gpu, seed, draw)?, streams::DRAWN_TEXT_NOISE, &eps)?;
        }
        x = noise::text_apply(&mut rec, &x, prompts.rows(), &text.mean, &text.spread, &eps)?;
    }
    let features = clip.text.forward(&mut rec, x, &packed)?;
    let unit = normalize::forward(&mut rec, &features)?.y;
    rec.finish()?.run()?;
    Ok((features, unit))
}

fn counter(gpu: &Gpu, seed: u64, draw: u32) -> Result<Tensor> {
    gpu.upload("counter", &[seed as u32, (seed >> 32) as u32, draw, 0], &[4])
}

/// PiNI with its text side ready, for any number of pictures.
pub struct Predictor {
    /// At the noise's mean all is recorded once.
    plans: Plans,
    /// What was learned.
    pub pini: Pini,
    evaluation: Evaluation,
    /// Text features of each draw, as they are and normalised.
    texts: Vec<(Tensor, Tensor)>,
}

impl Predictor {
    /// Whether noise is drawn for a prediction.
    pub fn draws(&self) -> bool {
        self.evaluation != Evaluation::Mean
    }

    /// Records logits `[n, classes]` of un-normalised image features `[n, D]` at the noise's mean.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn record(&self, rec: &mut Recorder, v: &Tensor) -> Result<Tensor> {
        let (text, unit) = &self.texts[0];
        let Some(layers) = &self.pini.params.image else {
            return Ok(head_forward(rec, None, v, (text, unit), self.pini.scale)?.logits);
        };
        let eps = rec.gpu().zeros("eps", v.shape())?;
        Ok(head_forward(rec, Some((layers, &eps, 1)), v, (text, unit), self.pini.scale)?.logits)
    }

    pub(super) fn plans(&self) -> &Plans {
        &self.plans
    }

    /// Logits `[n, classes]` of un-normalised image features `[n, D]`; averages of draws are logarithms of mean
    /// probabilities. `first` is the number of the first picture among all that are asked about: draws depend on it, so
    /// that pictures get the same noise whether they come at once or in blocks of a multiple of 2,048.
    ///
    /// # Errors
    /// A length that does not fit; a device that fails.
    pub fn logits(&self, gpu: &Gpu, features: &[f32], first: usize) -> Result<Vec<f32>> {
        let (pini, d) = (&self.pini, self.texts[0].0.cols());
        if !self.draws() {
            let features = features.to_vec().into();
            return self.plans.logits(gpu, &features, d, &|rec, v, _| self.record(rec, v));
        }
        adapt::check_rows("features", features, d)?;
        let mut logits = Vec::new();
        for (block, rows) in features.chunks(adapt::ROWS * d).enumerate() {
            let block = (first / adapt::ROWS + block) as u32;
            let v = gpu.upload("image features", rows, &[rows.len() / d, d])?;
            let draw = |number: usize| {
                adapt::compute(gpu, |rec| {
                    let (text, unit) = &self.texts[number];
                    let Some(layers) = &pini.params.image else {
                        return Ok(head_forward(rec, None, &v, (text, unit), pini.scale)?.logits);
                    };
                    let eps = gpu.zeros("eps", v.shape())?;
                    if let Evaluation::Draws { seed, .. } = self.evaluation {
                        let stream = streams::DRAWN_IMAGE_NOISE + streams::BLOCK_STREAMS * block;
                        noise::normal(rec, &counter(gpu, seed, number as u32)?, stream, &eps)?;
                    }
                    Ok(head_forward(rec, Some((layers, &eps, 1)), &v, (text, unit), pini.scale)?.logits)
                })
            };
            if self.texts.len() == 1 {
                logits.extend(draw(0)?);
                continue;
            }
            let classes = self.texts[0].0.rows();
            let mut sum = vec![0.0f64; rows.len() / d * classes];
            for number in 0..self.texts.len() {
                for (sum, row) in sum.chunks_exact_mut(classes).zip(draw(number)?.chunks_exact(classes)) {
                    sum.iter_mut().zip(adapt::probabilities(row)).for_each(|(s, p)| *s += p);
                }
            }
            logits.extend(log_mean(&sum, self.texts.len()));
        }
        Ok(logits)
    }
}

/// Logarithms of means of probabilities, from sums over `count`.
fn log_mean(sums: &[f64], count: usize) -> impl Iterator<Item = f32> {
    // A probability that is 0 in every draw would be minus infinity.
    sums.iter().map(move |s| (s / count as f64).max(f64::from(f32::MIN_POSITIVE)).ln() as f32)
}

/// Logarithms of mean probabilities `[n, classes]` of logits `[n, draws, classes]`.
pub(super) fn averaged(logits: &[f32], draws: usize, classes: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(logits.len() / draws.max(1));
    for rows in logits.chunks_exact(draws * classes) {
        let mut sum = vec![0.0f64; classes];
        for row in rows.chunks_exact(classes) {
            sum.iter_mut().zip(adapt::probabilities(row)).for_each(|(s, p)| *s += p);
        }
        all.extend(log_mean(&sum, draws));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{Evaluation, averaged};

    #[test]
    fn averages_are_of_probabilities() {
        // Two pictures of two draws: probabilities (3/4, 1/4) and (1/2, 1/2), then twice the same.
        let logits = [3f32.ln(), 0.0, 5.0, 5.0, 1.0, 2.0, 1.0, 2.0];
        let got = averaged(&logits, 2, 2);
        let right = [0.625f32.ln(), 0.375f32.ln()];
        assert!(got[..2].iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
        assert!((got[3] - got[2] - 1.0).abs() < 1e-6, "{got:?}");
    }

    #[test]
    fn evaluations_have_names() {
        for text in ["mean", "draw", "average:10"] {
            assert_eq!(text.parse::<Evaluation>().unwrap().to_string(), text);
        }
        for text in ["", "average", "average:0", "average:x", "Mean"] {
            assert!(text.parse::<Evaluation>().unwrap_err().to_string().contains("average:S"), "{text}");
        }
    }
}
