//! PiNI's training: one recorded step, and SGD.

use serde_json::Value;

use super::params::{ImageNoise, Params};
use super::{Config, Noise, NoisyPrompts, Pini};
use crate::adapt::train::{self, At, EpochSource, Fed, Job, Kept, ReadTensor, Tensors, streams};
use crate::adapt::{self, schedule};
use crate::clip::{Clip, Packed};
use crate::gpu::{Gpu, Plan, ReadBack, Recorder, Tensor, advise};
use crate::kernels::gemm::{Epilogue, Layout, matmul};
use crate::kernels::{loss, noise, normalize, optim, reduce, softmax};
use crate::watch::Watch;
use crate::{Error, Result};

/// The image noise of a forward pass, and what its backward needs.
struct ImageHead {
    q: Tensor,
    k: Tensor,
    u: Tensor,
    attention: Tensor,
    z: Tensor,
    mean: Tensor,
    spread: Tensor,
}

/// The forward pass from text and image features to logits, and what its backward needs.
pub(super) struct Head {
    noise: Option<ImageHead>,
    /// Image features with noise, as they are without.
    noisy: Tensor,
    noisy_unit: normalize::Unit,
    pub(super) logits: Tensor,
}

impl Head {
    /// Mean and signed spread of the image noise, where there is some.
    pub(super) fn noise(&self) -> Option<(&Tensor, &Tensor)> {
        self.noise.as_ref().map(|inside| (&inside.mean, &inside.spread))
    }
}

/// Records logits of image features v `[n, D]` and text features t, of which `text_unit` are the normalised ones. `noise`
/// are the image noise's layers, ε `[n·draws, D]` and the draws a picture.
pub(super) fn head_forward(
    rec: &mut Recorder,
    noise: Option<(&ImageNoise, &Tensor, usize)>,
    v: &Tensor,
    (t, text_unit): (&Tensor, &Tensor),
    scale: f32,
) -> Result<Head> {
    let mut noisy = v.clone();
    let noise = match noise {
        None => None,
        Some((layers, eps, draws)) => {
            let q = layers.query.forward(rec, v)?;
            let k = layers.key.forward(rec, t)?;
            let u = layers.value.forward(rec, t)?;
            let scores = matmul(rec, Layout::Nt, &q, &k, &Epilogue::default())?;
            let attention = softmax::forward(rec, &scores)?;
            let z = matmul(rec, Layout::Nn, &attention, &u, &Epilogue::default())?;
            let mean = layers.mean.forward(rec, &z)?;
            let spread = layers.spread.forward(rec, &z)?;
            noisy = noise::image_apply(rec, v, draws, &mean, &spread, eps)?;
            Some(ImageHead { q, k, u, attention, z, mean, spread })
        }
    };
    let noisy_unit = normalize::forward(rec, &noisy)?;
    let alpha = Epilogue { alpha: scale, ..Epilogue::default() };
    let logits = matmul(rec, Layout::Nt, &noisy_unit.y, text_unit, &alpha)?;
    Ok(Head { noise, noisy, noisy_unit, logits })
}

/// What [`image_backward`] gives: gradients of the ten parameters of the image noise, and of keys and values, through which
/// the text features get theirs.
struct ImageGrads {
    params: Vec<Tensor>,
    dk: Tensor,
    du: Tensor,
}

/// Records the image noise's backward from the gradient of the noisy features.
fn image_backward(
    rec: &mut Recorder,
    (layers, head): (&ImageNoise, &ImageHead),
    (v, t): (&Tensor, &Tensor),
    dnoisy: &Tensor,
    (eps, draws): (&Tensor, usize),
) -> Result<ImageGrads> {
    let (dmean, dspread) = noise::image_backward(rec, dnoisy, draws, &head.spread, eps)?;
    let mean = layers.mean.backward_weight(rec, &head.z, &dmean)?;
    let spread = layers.spread.backward_weight(rec, &head.z, &dspread)?;
    let dz = layers.mean.backward_input(rec, &dmean, None)?;
    let dz = layers.spread.backward_input(rec, &dspread, Some(&dz))?;
    let dattention = matmul(rec, Layout::Nt, &dz, &head.u, &Epilogue::default())?;
    let du = matmul(rec, Layout::Tn, &head.attention, &dz, &Epilogue::default())?;
    let dscores = softmax::backward(rec, &head.attention, &dattention)?;
    let dq = matmul(rec, Layout::Nn, &dscores, &head.k, &Epilogue::default())?;
    let dk = matmul(rec, Layout::Tn, &dscores, &head.q, &Epilogue::default())?;
    let query = layers.query.backward_weight(rec, v, &dq)?;
    let key = layers.key.backward_weight(rec, t, &dk)?;
    let value = layers.value.backward_weight(rec, t, &du)?;
    let params = [query, key, value, spread, mean].into_iter().flat_map(|g| [g.weight, g.bias]).collect();
    Ok(ImageGrads { params, dk, du })
}

/// The image noise inside a step.
pub struct ImageTaps {
    /// `[batch·draws, D]`, its random numbers.
    pub eps: Tensor,
    #[doc(hidden)]
    /// Means `[batch, D]`.
    pub mean: Tensor,
    #[doc(hidden)]
    /// Signed spreads `[batch, D]`.
    pub spread: Tensor,
    #[doc(hidden)]
    /// Attention of pictures over classes `[batch, classes]`.
    pub attention: Tensor,
}

/// A training step, recorded once: fill the inputs, run.
pub struct Step {
    /// `[batch, D]`, un-normalised image features.
    pub images: Tensor,
    /// `[P, text width]`, the text noise's random numbers, where prompts get noise.
    pub eps_text: Option<Tensor>,
    /// The image noise, where image features get some.
    pub image: Option<ImageTaps>,
    /// `[batch·draws, classes]`.
    pub logits: Tensor,
    /// `[1]`, mean cross-entropy.
    pub loss: Tensor,
    /// Gradients in the order of [`Params::tensors`].
    pub grads: Vec<Tensor>,
    /// Raw features of the prompts `[classes, D]`.
    pub text: Tensor,
    /// Noisy image features of length 1 `[batch·draws, D]`.
    pub noisy: Tensor,
    /// The recorded step.
    pub plan: Plan,
    draws: usize,
    /// u32 `[batch·draws]`: each picture's label, once for each of its draws.
    drawn_labels: Tensor,
    hyper: Tensor,
    counter: Tensor,
}

/// Where the text features of a step come from.
enum Texts {
    /// Token rows without noise and the pack's pattern: the tower runs in every step, forward and backward.
    Noisy(Tensor, Packed),
    /// Features that never change, as they are and normalised.
    Fixed(Tensor, Tensor),
}

/// PiNI in training.
pub struct Trainer<'a> {
    clip: &'a Clip,
    /// The prompts.
    pub prompts: NoisyPrompts,
    /// What trains.
    pub params: Params,
    velocity: Vec<Tensor>,
    texts: Texts,
}

impl<'a> Trainer<'a> {
    /// A trainer that starts from `params`.
    ///
    /// # Errors
    /// Prompts without noisy tokens for parameters of text noise, or the other way round; a context too short for the
    /// prompts; out of memory.
    pub fn new(clip: &'a Clip, prompts: NoisyPrompts, params: Params) -> Result<Trainer<'a>> {
        let noisy = params.text.as_ref().map_or(0, |text| text.mean.rows());
        if noisy != prompts.noisy {
            let reason = format!("prompts with {} noisy tokens, parameters for {noisy}", prompts.noisy);
            return Err(Error::invalid(reason));
        }
        let gpu = &clip.gpu;
        let velocity = params.tensors().into_iter().map(|t| gpu.zeros("velocity", t.shape())).collect::<Result<_>>()?;
        let texts = if params.text.is_some() {
            Texts::Noisy(clip.text.embed(&prompts.prompts)?, clip.text.packed(&prompts.prompts)?)
        } else {
            let (text, unit) = prompts.encode(clip)?;
            Texts::Fixed(text, unit)
        };
        Ok(Trainer { clip, prompts, params, velocity, texts })
    }

    /// Records a step for `batch` pictures with `draws` each. With `draw_noise` the step draws its own ε; without, it
    /// takes what is in `eps_text` and in the image noise's `eps`.
    ///
    /// # Errors
    /// More than one draw a picture without image noise; out of memory.
    pub fn step(&self, batch: usize, draws: usize, draw_noise: bool) -> Result<Step> {
        let (gpu, d) = (&self.clip.gpu, self.clip.config.embedding);
        let params = &self.params;
        if params.image.is_none() && draws != 1 {
            let reason = format!("{draws} draws a picture are of image noise, and there is text noise alone: take 1");
            return Err(Error::invalid(reason));
        }
        let images = gpu.zeros("image features", &[batch, d])?;
        let drawn_labels = gpu.upload("labels", &vec![0u32; batch * draws], &[batch * draws])?;
        let eps_text = params.text.as_ref().map(|text| gpu.zeros("eps", text.mean.shape())).transpose()?;
        let eps_image = params.image.as_ref().map(|_| gpu.zeros("eps", &[batch * draws, d])).transpose()?;
        let hyper = gpu.zeros("hyper", &[4])?;
        let counter = gpu.upload("counter", &[0u32; 4], &[4])?;

        let mut rec = Recorder::new(gpu);
        let r = &mut rec;
        if draw_noise {
            for (eps, stream) in [(&eps_text, streams::TEXT_NOISE), (&eps_image, streams::IMAGE_NOISE)] {
                if let Some(eps) = eps {
                    noise::normal(r, &counter, stream, eps)?;
                }
            }
        }
        // The text features, their normalised form, and what the tower's backward needs where there is one.
        let (text, text_unit, mut saved) = match (&self.texts, &params.text, &eps_text) {
            (Texts::Noisy(tokens, packed), Some(noise), Some(eps)) => {
                let x = noise::text_apply(r, tokens, self.prompts.rows(), &noise.mean, &noise.spread, eps)?;
                let (text, saved) = self.clip.text.forward_saved(r, &x, packed)?;
                let unit = normalize::forward(r, &text)?;
                (text, unit.y, Some((saved, packed, unit.norms, eps)))
            }
            (Texts::Fixed(text, unit), ..) => (text.clone(), unit.clone(), None),
            _ => return Err(Error::invalid("PiNI's trainer has noisy prompts but no text noise")),
        };
        let noise = params.image.as_ref().zip(eps_image.as_ref()).map(|(layers, eps)| (layers, eps, draws));
        let head = head_forward(r, noise, &images, (&text, &text_unit), self.clip.logit_scale)?;
        let ce = loss::cross_entropy(r, &head.logits, &drawn_labels)?;
        let loss = reduce::mean_first(r, &ce.losses)?;

        let alpha = Epilogue { alpha: self.clip.logit_scale, ..Epilogue::default() };
        let image = match (noise, &head.noise) {
            (Some((layers, eps, draws)), Some(inside)) => {
                let dunit = matmul(r, Layout::Nn, &ce.grad, &text_unit, &alpha)?;
                let dnoisy = normalize::backward(r, &head.noisy, &head.noisy_unit.norms, &dunit)?;
                Some((layers, image_backward(r, (layers, inside), (&images, &text), &dnoisy, (eps, draws))?))
            }
            _ => None,
        };
        let mut grads = Vec::new();
        if let Some((saved, packed, norms, eps)) = saved.take() {
            // The text features' gradient: through the logits, and through the keys and the values of the image noise.
            let dunit = matmul(r, Layout::Tn, &ce.grad, &head.noisy_unit.y, &alpha)?;
            let mut dt = normalize::backward(r, &text, &norms, &dunit)?;
            if let Some((layers, image)) = &image {
                dt = layers.key.backward_input(r, &image.dk, Some(&dt))?;
                dt = layers.value.backward_input(r, &image.du, Some(&dt))?;
            }
            let dx = self.clip.text.backward(r, &dt, saved, packed)?;
            let (dmean, dspread) = noise::text_backward(r, &dx, self.prompts.rows(), eps)?;
            grads.extend([dmean, dspread]);
        }
        grads.extend(image.into_iter().flat_map(|(_, image)| image.params));
        for ((w, velocity), grad) in params.tensors().into_iter().zip(&self.velocity).zip(&grads) {
            optim::sgd(r, &hyper, grad, velocity, w)?;
        }
        let image = eps_image.zip(head.noise).map(|(eps, inside)| ImageTaps {
            eps,
            mean: inside.mean,
            spread: inside.spread,
            attention: inside.attention,
        });
        Ok(Step {
            images,
            eps_text,
            image,
            logits: head.logits,
            loss,
            grads,
            text,
            noisy: head.noisy_unit.y,
            plan: rec.finish()?,
            draws,
            drawn_labels,
            hyper,
            counter,
        })
    }

    /// All that going on needs, by name.
    fn state(&self) -> Vec<(String, &Tensor)> {
        let (names, tensors) = (self.params.names(), self.params.tensors());
        let params = names.iter().zip(tensors).map(|(name, tensor)| ((*name).to_string(), tensor));
        let velocity = names.iter().zip(&self.velocity).map(|(name, tensor)| (format!("velocity.{name}"), tensor));
        params.chain(velocity).collect()
    }
}

impl Step {
    /// Runs the step at learning rate `lr`; `number` tells this step's noise from all others of the same `seed`.
    /// Returns without waiting.
    ///
    /// # Errors
    /// Lengths that do not fit; a lost device.
    pub fn run(&self, gpu: &Gpu, images: &[f32], labels: &[u32], config: &Config, lr: f64, number: u32) -> Result<()> {
        if let Some(label) = labels.iter().find(|l| **l as usize >= self.logits.cols()) {
            return Err(Error::invalid(format!("label {label}, of {} classes", self.logits.cols())));
        }
        gpu.write(&self.images, images)?;
        let drawn: Vec<u32> = labels.iter().flat_map(|l| std::iter::repeat_n(*l, self.draws)).collect();
        gpu.write(&self.drawn_labels, &drawn)?;
        gpu.write(&self.hyper, &[lr as f32, config.momentum as f32, config.weight_decay as f32, 0.0])?;
        gpu.write(&self.counter, &[config.seed as u32, (config.seed >> 32) as u32, number, 0])?;
        self.plan.run()
    }
}

/// Makes all that training on `n` pictures at a time needs, in a rehearsal.
pub(crate) fn rehearse(clip: &Clip, prompts: &NoisyPrompts, config: &Config, n: usize) -> Result<()> {
    let clip = &*clip.rehearsal();
    let params = Params::fresh(clip, prompts.noisy, config)?;
    Trainer::new(clip, prompts.clone(), params)?.step(n, config.draws, true).map(drop)
}

/// A training under way.
struct Training<'a> {
    trainer: Trainer<'a>,
    step: Step,
    config: &'a Config,
    fed: Fed<'a>,
}

impl Job for Training<'_> {
    fn begin_epoch(&mut self, epoch: usize) -> Result<()> {
        self.fed.begin(epoch)
    }

    fn step(&mut self, at: At, pictures: &[usize]) -> Result<ReadBack<f32>> {
        let (clip, config) = (self.trainer.clip, self.config);
        let lr = schedule::pini(at.epoch, config.epochs, config.lr);
        let (images, labels) = self.fed.of(pictures);
        self.step.run(&clip.gpu, &images, &labels, config, lr, at.number as u32)?;
        clip.gpu.begin_read(&self.step.loss)
    }

    fn put_down(&self) -> Result<(Tensors, Value)> {
        Ok((train::download(&self.trainer.clip.gpu, self.trainer.state())?, Value::Null))
    }

    fn take_up(&mut self, read: &ReadTensor<'_>, _rest: &Value) -> Result<()> {
        train::upload(&self.trainer.clip.gpu, self.trainer.state(), read)
    }
}

/// Trains PiNI on support pictures. `features(epoch)` gives the un-normalised features `[n, D]` of the pictures in that
/// epoch (fixed, or of fresh random views); `labels` are theirs. The last partial batch is dropped when there is a full
/// one. Equal inputs and seed give equal bits on one device. Gives the loss of each epoch's last step, too.
///
/// # Errors
/// As [`train::run`]; labels out of range, too little memory; what `features` gives.
pub fn train(
    clip: &Clip,
    classes: &[String],
    config: &Config,
    (labels, features): (&[u32], &mut EpochSource<'_>),
    kept: Option<&mut Kept>,
    watch: &mut dyn Watch,
) -> Result<(Pini, Vec<f32>)> {
    adapt::check_labels("support pictures", labels, labels.len(), classes.len())?;
    if config.noise == Noise::Text && config.draws > 1 {
        return Err(Error::invalid(format!(
            "{} draws a picture are of image noise, and there is text noise alone: take 1",
            config.draws
        )));
    }
    if config.noise == Noise::Pixels {
        return Err(Error::invalid("noise on pixels is learned from pictures, and these are features"));
    }
    config.check()?;
    let course = config.course(labels.len())?;
    let prompts = NoisyPrompts::of(clip, config, classes)?;
    let params = Params::fresh(clip, prompts.noisy, config)?;
    let trainer = Trainer::new(clip, prompts, params)?;
    let batch = course.batch();
    let step = trainer.step(batch, config.draws, true).map_err(|error| {
        advise(error, "training PiNI with", batch, &|n| rehearse(clip, &trainer.prompts, config, n))
    })?;
    let mut job = Training { trainer, step, config, fed: Fed::new(labels, features, clip.config.embedding) };
    let losses = train::run(&mut job, &course, kept, watch)?;
    let Trainer { prompts, params, .. } = job.trainer;
    Ok((Pini::new(clip, prompts, params)?, losses))
}
