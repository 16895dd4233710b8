//! PiNI (arXiv 2412.10817, AAAI 2025): beneficial noise, learned, on the text prompts and image features of a frozen
//! CLIP.
//!
//! Text noise: the prompt is 16 "x" words, the template's words, the class name and "."; each of the P tokens before
//! the class name has a learned mean and spread, and one draw ε serves all classes: embedding += spread·ε + mean.
//! These tokens are the same for every class and attention is causal, so they are one shared prefix of the pack.
//!
//! Image noise, from un-normalised image features v (no gradient) and text features t:
//! q = v·Wqᵀ + bq, k = t·Wkᵀ + bk, u = t·Wvᵀ + bv, A = softmax(q·kᵀ), z = A·u (no 1/√d),
//! mean = z·Wmᵀ + bm, spread = |z·Wsᵀ + bs|, noisy v = v + spread·ε + mean, m draws a picture.
//!
//! Pixel noise, the paper's ablation: means and spreads of each pixel by a small network ([`NoiseNet`]), each
//! channel plane scaled to an RMS of 0.1, on the normalised pixels: x + |spread|·ε + mean. Texts are the plain template's, and the
//! gradient passes through the whole frozen image tower ([`pixels`]).
//!
//! logits = s·normalise(noisy v)·normalise(t)ᵀ, cross-entropy over all draws, SGD with momentum and weight decay.
//! [`Noise`] says where noise goes, the paper's ablation: the other side then is the plain model's. With image noise alone the
//! text features are constants, and the text tower runs once.
//!
//! [`train`] trains, [`Pini`] predicts, at the noise's mean or by drawing ([`Evaluation`]).

mod method;
mod params;
pub mod pixels;
mod predict;
mod prompts;
mod train;

use super::train::{Course, streams};
use crate::nn::NoiseNet;
use crate::{Error, Result, numbers};

pub use method::PiniMethod;
pub use params::{Form, ImageNoise, PARAMETERS, Params, TextNoise};
pub use predict::{Evaluation, Pini, Predictor};
pub use prompts::{NoisyPrompts, PREFIX_WORDS, prefix_tokens};
pub(crate) use train::rehearse;
pub use train::{ImageTaps, Step, Trainer, train};

/// Where noise goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Noise {
    /// On the prompts alone.
    Text,
    /// On the image features alone; prompts are the plain template's.
    Image,
    /// On both: PiNI.
    #[default]
    Both,
    /// On the pictures' pixels; prompts are the plain template's.
    Pixels,
}

impl Noise {
    /// Whether prompts get noise.
    pub fn on_text(self) -> bool {
        matches!(self, Noise::Text | Noise::Both)
    }

    /// Whether image features get noise.
    pub fn on_image(self) -> bool {
        matches!(self, Noise::Image | Noise::Both)
    }
}

/// The most noise draws per picture.
pub const MOST_DRAWS: usize = 10_000;

/// The most channels of the network that makes noise of pixels.
pub const MOST_CHANNELS: usize = 4096;

/// How PiNI trains. Defaults are the paper's, but for a model whose logit scale is not 100 (see [`Config::rate`]).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Config {
    /// The template's words, without the class name.
    pub template: String,
    /// Where noise goes.
    #[serde(default)]
    pub noise: Noise,
    /// D is divided by this in the cross-attention.
    pub reduction: usize,
    /// Noise draws per picture, m.
    pub draws: usize,
    /// Passes over the support pictures.
    pub epochs: usize,
    /// Pictures per step.
    pub batch: usize,
    /// Top of the learning-rate schedule.
    pub lr: f64,
    /// SGD's momentum.
    pub momentum: f64,
    /// Weight decay, on all parameters.
    pub weight_decay: f64,
    /// Channels of the network that makes noise of pixels: of all stages but the third, and of that.
    #[serde(default = "published", skip_serializing_if = "is_published")]
    pub widths: [usize; 2],
    /// Seed of initial values, shuffles and noise.
    pub seed: u64,
}

fn published() -> [usize; 2] {
    NoiseNet::PUBLISHED
}

fn is_published(widths: &[usize; 2]) -> bool {
    *widths == published()
}

impl Config {
    /// The paper's settings.
    pub fn paper(template: &str, seed: u64) -> Config {
        Config {
            template: template.into(),
            noise: Noise::Both,
            reduction: 1,
            draws: 1,
            epochs: 100,
            batch: 32,
            lr: 0.001,
            momentum: 0.9,
            weight_decay: 5e-4,
            widths: published(),
            seed,
        }
    }

    /// Checks the numbers that training multiplies by.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number outside its range in [`numbers`].
    pub fn check(&self) -> Result<()> {
        if !(1..=MOST_DRAWS).contains(&self.draws) {
            return Err(Error::invalid(format!("{} noise draws per picture must be 1 to {MOST_DRAWS}", self.draws)));
        }
        if let Some(width) = self.widths.iter().find(|width| !(1..=MOST_CHANNELS).contains(*width)) {
            return Err(Error::invalid(format!("{width} channels of noise on pixels must be 1 to {MOST_CHANNELS}")));
        }
        numbers::RATE.check("the learning rate", self.lr)?;
        numbers::DECAY.check("momentum", self.momentum)?;
        numbers::DECAY.check("weight decay", self.weight_decay).map(drop)
    }

    /// How training goes over so many pictures, wherever noise is.
    ///
    /// # Errors
    /// As [`Course::check`].
    fn course(&self, pictures: usize) -> Result<Course> {
        let course = Course {
            what: "PiNI",
            pictures,
            batch: self.batch,
            whole_batches: true,
            epochs: self.epochs,
            seed: self.seed,
            stream: streams::SHUFFLE,
            rate: self.lr,
        };
        course.check()?;
        Ok(course)
    }

    /// The paper's rate of 0.001 belongs to a logit scale of 100. Gradients are proportional to the scale, so a model
    /// with a smaller one needs a larger rate to take the same steps: 0.001·100/s.
    pub fn rate(logit_scale: f32) -> f64 {
        0.1 / f64::from(logit_scale)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn the_rate_is_the_papers_at_a_scale_of_100() {
        assert!((Config::rate(100.0) - 0.001).abs() < 1e-12);
        assert!((Config::rate(25.0) - 0.004).abs() < 1e-12);
    }
}
