//! What PiNI trains: a mean and a spread for each template token, and five linear layers that make image noise.

use super::{Config, Noise};
use crate::adapt::train::streams;
use crate::clip::Clip;
use crate::data::{PythonRandom, stream_seed};
use crate::gpu::{Gpu, Tensor};
use crate::nn::TrainableLinear;
use crate::{Error, Result};

/// The names that the parameters have in the authors' checkpoints and in adapter files: two of the text noise, ten of the
/// image noise.
pub const PARAMETERS: [&str; 12] = [
    "promptVpnGenerator.template_mu",
    "promptVpnGenerator.template_var",
    "imageVpnGenerator.crossAttention.fc_q.weight",
    "imageVpnGenerator.crossAttention.fc_q.bias",
    "imageVpnGenerator.crossAttention.fc_k.weight",
    "imageVpnGenerator.crossAttention.fc_k.bias",
    "imageVpnGenerator.crossAttention.fc_v.weight",
    "imageVpnGenerator.crossAttention.fc_v.bias",
    "imageVpnGenerator.fc_variance.weight",
    "imageVpnGenerator.fc_variance.bias",
    "imageVpnGenerator.fc_mean.weight",
    "imageVpnGenerator.fc_mean.bias",
];

/// Parameters of the text noise among [`PARAMETERS`]; they come first.
const OF_TEXT: usize = 2;

/// The sizes of PiNI's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Where noise goes.
    pub noise: Noise,
    /// P, the number of noisy tokens.
    pub noisy: usize,
    /// Width of the text tower.
    pub width: usize,
    /// D, width of the embedding.
    pub embedding: usize,
    /// D/reduction, width of the cross-attention.
    pub inner: usize,
}

impl Form {
    /// The form for a model, P noisy tokens and settings.
    ///
    /// # Errors
    /// A reduction that does not divide D.
    pub fn new(clip: &Clip, noisy: usize, config: &Config) -> Result<Form> {
        let (embedding, reduction) = (clip.config.embedding, config.reduction);
        if reduction == 0 || !embedding.is_multiple_of(reduction) {
            return Err(Error::invalid(format!(
                "reduction {reduction} does not divide the embedding width {embedding}"
            )));
        }
        Ok(Form { noise: config.noise, noisy, width: clip.text.width(), embedding, inner: embedding / reduction })
    }

    /// Name and shape of each parameter, in the order of [`PARAMETERS`].
    pub fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        let (d, e) = (self.embedding, self.inner);
        let text = vec![self.noisy, self.width];
        let (inner, outer) = ((vec![e, d], vec![e]), (vec![d, e], vec![d]));
        let mut shapes = vec![text.clone(), text];
        for (weight, bias) in [&inner, &inner, &inner, &outer, &outer] {
            shapes.extend([weight.clone(), bias.clone()]);
        }
        let wanted = |i: usize| if i < OF_TEXT { self.noise.on_text() } else { self.noise.on_image() };
        PARAMETERS.into_iter().zip(shapes).enumerate().filter(|(i, _)| wanted(*i)).map(|(_, named)| named).collect()
    }
}

/// The text noise.
#[derive(Clone, Debug)]
pub struct TextNoise {
    /// `[P, text width]`.
    pub mean: Tensor,
    /// `[P, text width]`, signed.
    pub spread: Tensor,
}

/// The image noise.
#[derive(Clone, Debug)]
pub struct ImageNoise {
    /// D → D/reduction.
    pub query: TrainableLinear,
    /// D → D/reduction.
    pub key: TrainableLinear,
    /// D → D/reduction.
    pub value: TrainableLinear,
    /// D/reduction → D, signed.
    pub spread: TrainableLinear,
    /// D/reduction → D.
    pub mean: TrainableLinear,
}

/// What trains.
#[derive(Clone, Debug)]
pub struct Params {
    /// Of the prompts, where they get noise.
    pub text: Option<TextNoise>,
    /// Of the image features, where they get noise.
    pub image: Option<ImageNoise>,
}

impl Params {
    /// Fresh parameters of both noises; see [`Params::fresh`].
    ///
    /// # Errors
    /// A reduction that does not divide D; out of memory.
    pub fn init(clip: &Clip, noisy: usize, reduction: usize, seed: u64) -> Result<Params> {
        Params::fresh(clip, noisy, &Config { reduction, ..Config::paper("", seed) })
    }

    /// Fresh parameters: text mean and spread from N(0, 0.02), the linear layers uniform in ±1/√fan-in (PyTorch's
    /// default), so that untrained image noise is not zero.
    ///
    /// # Errors
    /// A reduction that does not divide D; out of memory.
    pub fn fresh(clip: &Clip, noisy: usize, config: &Config) -> Result<Params> {
        let form = Form::new(clip, noisy, config)?;
        let values = form.parameters().into_iter().map(|(name, shape)| {
            // The generator's stream is the parameter's place among all, so that a noise starts the same with and without
            // the other.
            let place = PARAMETERS.iter().position(|p| *p == name).unwrap_or_default();
            let mut rng = PythonRandom::new(stream_seed(config.seed, streams::PINI, place as u64));
            let n: usize = shape.iter().product();
            if place < OF_TEXT {
                (0..n).map(|_| (0.02 * rng.normal()) as f32).collect::<Vec<f32>>()
            } else {
                // Of the five linear layers, three start from D, two from D/reduction.
                let fan_in = if place < 8 { form.embedding } else { form.inner };
                let bound = 1.0 / (fan_in as f64).sqrt();
                (0..n).map(|_| rng.uniform(-bound, bound) as f32).collect()
            }
        });
        let values: Vec<Vec<f32>> = values.collect();
        Params::of(&clip.gpu, form, &values)
    }

    /// Parameters of both noises from host values in the order of [`PARAMETERS`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when a length does not fit; out of memory.
    pub fn upload(gpu: &Gpu, values: &[Vec<f32>], noisy: usize, width: usize, d: usize, e: usize) -> Result<Params> {
        Params::of(gpu, Form { noise: Noise::Both, noisy, width, embedding: d, inner: e }, values)
    }

    /// Parameters from host values in the order of [`Form::parameters`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when a length does not fit; out of memory.
    pub fn of(gpu: &Gpu, form: Form, values: &[Vec<f32>]) -> Result<Params> {
        let parameters = form.parameters();
        if values.len() != parameters.len() {
            return Err(Error::invalid(format!("{} parameters, PiNI has {}", values.len(), parameters.len())));
        }
        let mut tensors = Vec::with_capacity(values.len());
        for ((name, shape), values) in parameters.iter().zip(values) {
            tensors.push(gpu.upload(name, values, shape)?);
        }
        let (text, image) = tensors.split_at(if form.noise.on_text() { OF_TEXT } else { 0 });
        let text = match text {
            [mean, spread] => Some(TextNoise { mean: mean.clone(), spread: spread.clone() }),
            _ => None,
        };
        let linear = |i: usize| TrainableLinear { weight: image[i].clone(), bias: image[i + 1].clone() };
        let image = (!image.is_empty()).then(|| ImageNoise {
            query: linear(0),
            key: linear(2),
            value: linear(4),
            spread: linear(6),
            mean: linear(8),
        });
        Ok(Params { text, image })
    }

    /// All tensors in the order of [`Form::parameters`].
    pub fn tensors(&self) -> Vec<&Tensor> {
        let mut all = Vec::with_capacity(PARAMETERS.len());
        if let Some(text) = &self.text {
            all.extend([&text.mean, &text.spread]);
        }
        if let Some(ImageNoise { query, key, value, spread, mean }) = &self.image {
            for linear in [query, key, value, spread, mean] {
                all.extend([&linear.weight, &linear.bias]);
            }
        }
        all
    }

    /// The names of [`Params::tensors`].
    pub fn names(&self) -> Vec<&'static str> {
        let text = if self.text.is_some() { &PARAMETERS[..OF_TEXT] } else { &[] };
        let image = if self.image.is_some() { &PARAMETERS[OF_TEXT..] } else { &[] };
        text.iter().chain(image).copied().collect()
    }

    /// All values in the order of [`Form::parameters`].
    ///
    /// # Errors
    /// A lost device.
    pub fn download(&self, gpu: &Gpu) -> Result<Vec<Vec<f32>>> {
        self.tensors().into_iter().map(|t| gpu.read(t)).collect()
    }
}
