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
//! logits = s·normalise(noisy v)·normalise(t)ᵀ, cross-entropy over all draws, SGD with momentum and weight decay.

use std::ops::Range;

use crate::clip::{Clip, Packed, Prompts, TextSaved};
use crate::data::{PythonRandom, class_name, stream_seed};
use crate::gpu::{Gpu, Plan, ReadBack, Recorder, Tensor, advise};
use crate::kernels::gemm::{Epilogue, Layout, matmul};
use crate::kernels::{loss, noise, normalize, optim, reduce, softmax};
use crate::nn::TrainableLinear;
use crate::{Error, Result};

/// Words "x" before the template.
pub const PREFIX_WORDS: usize = 16;

/// Streams of the noise generator.
const TEXT_STREAM: u32 = 1;
const IMAGE_STREAM: u32 = 2;

/// The names that the parameters have in the authors' checkpoints and in adapter files.
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
        if template.contains("{}") {
            return Err(Error::invalid(format!(
                "PiNI's template '{template}' must hold plain words only: the class name comes after them by itself"
            )));
        }
        let tokenizer = clip.tokenizer()?;
        let prefix = format!("{}{}", "x ".repeat(PREFIX_WORDS), template.trim());
        let noisy = tokenizer.ids(&prefix)?.len();
        let mut ids = Vec::with_capacity(classes.len());
        for class in classes {
            let text = format!("{prefix} {}.", class_name(class));
            if tokenizer.ids(&text)?.len() + 2 > clip.config.context {
                return Err(Error::invalid(format!(
                    "PiNI's prompt for class '{class}' is longer than the model's context of {} tokens; \
                     shorten the template or the class name",
                    clip.config.context
                )));
            }
            ids.push(tokenizer.prompt(&text)?);
        }
        NoisyPrompts::from_ids(clip, &ids, noisy)
    }

    /// Prompts given as token ids, of which the start token and `noisy` more are the same in all.
    ///
    /// # Errors
    /// Prompts that differ there or lack an end token.
    pub fn from_ids(clip: &Clip, ids: &[Vec<u32>], noisy: usize) -> Result<NoisyPrompts> {
        Ok(NoisyPrompts { prompts: Prompts::pack_shared(ids, clip.config.end, noisy + 1)?, noisy })
    }

    /// The noisy rows of the pack: those after the start token.
    fn rows(&self) -> Range<usize> {
        1..1 + self.noisy
    }
}

/// What trains.
#[derive(Clone, Debug)]
pub struct Params {
    /// `[P, text width]`.
    pub text_mean: Tensor,
    /// `[P, text width]`, signed.
    pub text_spread: Tensor,
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

impl Params {
    /// Fresh parameters: text mean and spread from N(0, 0.02), the linear layers uniform in ±1/√fan-in (PyTorch's
    /// default), so that untrained image noise is not zero.
    ///
    /// # Errors
    /// A reduction that does not divide D; out of memory.
    pub fn init(clip: &Clip, noisy: usize, reduction: usize, seed: u64) -> Result<Params> {
        let (d, width) = (clip.config.embedding, clip.text.width());
        if reduction == 0 || d % reduction != 0 {
            return Err(Error::invalid(format!("reduction {reduction} does not divide the embedding width {d}")));
        }
        let e = d / reduction;
        let shapes = shapes(noisy, width, d, e);
        let mut values = Vec::with_capacity(PARAMETERS.len());
        for (i, shape) in shapes.iter().enumerate() {
            let mut rng = PythonRandom::new(stream_seed(seed, 0x5049_4e49, i as u64));
            let n: usize = shape.iter().product();
            // The first two are the text's mean and spread; of the five linear layers, three start from D, two from D/r.
            values.push(if i < 2 {
                (0..n).map(|_| (0.02 * normal(&mut rng)) as f32).collect::<Vec<f32>>()
            } else {
                let fan_in = if i < 8 { d } else { e };
                let bound = 1.0 / (fan_in as f64).sqrt();
                (0..n).map(|_| rng.uniform(-bound, bound) as f32).collect()
            });
        }
        Params::upload(&clip.gpu, &values, noisy, width, d, e)
    }

    /// Parameters from host values in the order of [`PARAMETERS`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when a length does not fit; out of memory.
    pub fn upload(gpu: &Gpu, values: &[Vec<f32>], noisy: usize, width: usize, d: usize, e: usize) -> Result<Params> {
        let shapes = shapes(noisy, width, d, e);
        if values.len() != shapes.len() {
            return Err(Error::invalid(format!("{} parameters, PiNI has {}", values.len(), shapes.len())));
        }
        let tensor = |i: usize| gpu.upload(PARAMETERS[i], &values[i], &shapes[i]);
        let linear = |i: usize| Ok(TrainableLinear { weight: tensor(i)?, bias: tensor(i + 1)? });
        Ok(Params {
            text_mean: tensor(0)?,
            text_spread: tensor(1)?,
            query: linear(2)?,
            key: linear(4)?,
            value: linear(6)?,
            spread: linear(8)?,
            mean: linear(10)?,
        })
    }

    /// All tensors in the order of [`PARAMETERS`].
    pub fn tensors(&self) -> [&Tensor; 12] {
        [
            &self.text_mean,
            &self.text_spread,
            &self.query.weight,
            &self.query.bias,
            &self.key.weight,
            &self.key.bias,
            &self.value.weight,
            &self.value.bias,
            &self.spread.weight,
            &self.spread.bias,
            &self.mean.weight,
            &self.mean.bias,
        ]
    }

    /// All values in the order of [`PARAMETERS`].
    ///
    /// # Errors
    /// A lost device.
    pub fn download(&self, gpu: &Gpu) -> Result<Vec<Vec<f32>>> {
        self.tensors().iter().map(|t| gpu.read(t)).collect()
    }
}

pub(super) fn shapes(noisy: usize, width: usize, d: usize, e: usize) -> Vec<Vec<usize>> {
    let text = vec![noisy, width];
    let (inner, outer) = ((vec![e, d], vec![e]), (vec![d, e], vec![d]));
    let mut all = vec![text.clone(), text];
    for (weight, bias) in [&inner, &inner, &inner, &outer, &outer] {
        all.extend([weight.clone(), bias.clone()]);
    }
    all
}

/// A standard normal by Box–Muller.
fn normal(rng: &mut PythonRandom) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random()).cos()
}

/// The forward pass from text and image features to logits, and what its backward needs.
struct Head {
    q: Tensor,
    k: Tensor,
    u: Tensor,
    attention: Tensor,
    z: Tensor,
    mean: Tensor,
    spread: Tensor,
    noisy: Tensor,
    noisy_unit: normalize::Unit,
    text_unit: normalize::Unit,
    logits: Tensor,
}

fn head_forward(
    rec: &mut Recorder,
    params: &Params,
    v: &Tensor,
    t: &Tensor,
    eps: &Tensor,
    draws: usize,
    scale: f32,
) -> Result<Head> {
    let q = params.query.forward(rec, v)?;
    let k = params.key.forward(rec, t)?;
    let u = params.value.forward(rec, t)?;
    let scores = matmul(rec, Layout::Nt, &q, &k, &Epilogue::default())?;
    let attention = softmax::forward(rec, &scores)?;
    let z = matmul(rec, Layout::Nn, &attention, &u, &Epilogue::default())?;
    let mean = params.mean.forward(rec, &z)?;
    let spread = params.spread.forward(rec, &z)?;
    let noisy = noise::image_apply(rec, v, draws, &mean, &spread, eps)?;
    let noisy_unit = normalize::forward(rec, &noisy)?;
    let text_unit = normalize::forward(rec, t)?;
    let alpha = Epilogue { alpha: scale, ..Epilogue::default() };
    let logits = matmul(rec, Layout::Nt, &noisy_unit.y, &text_unit.y, &alpha)?;
    Ok(Head { q, k, u, attention, z, mean, spread, noisy, noisy_unit, text_unit, logits })
}

/// Gradients of one step, in the order of [`PARAMETERS`].
struct Grads(Vec<Tensor>);

#[allow(clippy::too_many_arguments)]
fn backward(
    rec: &mut Recorder,
    clip: &Clip,
    params: &Params,
    head: &Head,
    (v, t): (&Tensor, &Tensor),
    dlogits: &Tensor,
    (eps_text, eps_image, draws): (&Tensor, &Tensor, usize),
    (saved, packed, rows): (TextSaved, &Packed, Range<usize>),
) -> Result<Grads> {
    let alpha = Epilogue { alpha: clip.logit_scale, ..Epilogue::default() };
    let dnoisy_unit = matmul(rec, Layout::Nn, dlogits, &head.text_unit.y, &alpha)?;
    let dtext_unit = matmul(rec, Layout::Tn, dlogits, &head.noisy_unit.y, &alpha)?;
    let dnoisy = normalize::backward(rec, &head.noisy, &head.noisy_unit.norms, &dnoisy_unit)?;
    let (dmean, dspread) = noise::image_backward(rec, &dnoisy, draws, &head.spread, eps_image)?;
    let mean = params.mean.backward_weight(rec, &head.z, &dmean)?;
    let spread = params.spread.backward_weight(rec, &head.z, &dspread)?;
    let dz = params.mean.backward_input(rec, &dmean, None)?;
    let dz = params.spread.backward_input(rec, &dspread, Some(&dz))?;
    let dattention = matmul(rec, Layout::Nt, &dz, &head.u, &Epilogue::default())?;
    let du = matmul(rec, Layout::Tn, &head.attention, &dz, &Epilogue::default())?;
    let dscores = softmax::backward(rec, &head.attention, &dattention)?;
    let dq = matmul(rec, Layout::Nn, &dscores, &head.k, &Epilogue::default())?;
    let dk = matmul(rec, Layout::Tn, &dscores, &head.q, &Epilogue::default())?;
    let query = params.query.backward_weight(rec, v, &dq)?;
    let key = params.key.backward_weight(rec, t, &dk)?;
    let value = params.value.backward_weight(rec, t, &du)?;
    // The text features' gradient: through the logits, the keys and the values.
    let dt = normalize::backward(rec, t, &head.text_unit.norms, &dtext_unit)?;
    let dt = params.key.backward_input(rec, &dk, Some(&dt))?;
    let dt = params.value.backward_input(rec, &du, Some(&dt))?;
    let dx = clip.text.backward(rec, &dt, saved, packed)?;
    let (dtext_mean, dtext_spread) = noise::text_backward(rec, &dx, rows, eps_text)?;
    let mut all = vec![dtext_mean, dtext_spread];
    for grads in [query, key, value, spread, mean] {
        all.extend([grads.weight, grads.bias]);
    }
    Ok(Grads(all))
}

/// How PiNI trains. Defaults are the paper's, but for a model whose logit scale is not 100 (see [`Config::rate`]).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Config {
    /// The template's words, without the class name.
    pub template: String,
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
    /// Seed of initial values, shuffles and noise.
    pub seed: u64,
}

impl Config {
    /// The paper's settings.
    pub fn paper(template: &str, seed: u64) -> Config {
        Config {
            template: template.into(),
            reduction: 1,
            draws: 1,
            epochs: 100,
            batch: 32,
            lr: 0.001,
            momentum: 0.9,
            weight_decay: 5e-4,
            seed,
        }
    }

    /// The paper's rate of 0.001 belongs to a logit scale of 100. Gradients are proportional to the scale, so a model
    /// with a smaller one needs a larger rate to take the same steps: 0.001·100/s.
    pub fn rate(logit_scale: f32) -> f64 {
        0.1 / f64::from(logit_scale)
    }
}

/// A training step, recorded once: fill the inputs, run.
pub struct Step {
    /// `[batch, D]`, un-normalised image features.
    pub images: Tensor,
    /// `[P, text width]`.
    pub eps_text: Tensor,
    /// `[batch·draws, D]`.
    pub eps_image: Tensor,
    /// `[batch·draws, classes]`.
    pub logits: Tensor,
    /// `[1]`, mean cross-entropy.
    pub loss: Tensor,
    /// Gradients in the order of [`PARAMETERS`].
    pub grads: Vec<Tensor>,
    /// Raw features of the noisy prompts `[classes, D]`.
    pub text: Tensor,
    /// Means of the image noise `[batch, D]`.
    pub mean: Tensor,
    /// Signed spreads of the image noise `[batch, D]`.
    pub spread: Tensor,
    /// Attention of pictures over classes `[batch, classes]`.
    pub attention: Tensor,
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

/// PiNI in training.
pub struct Trainer<'a> {
    clip: &'a Clip,
    /// The prompts.
    pub prompts: NoisyPrompts,
    /// What trains.
    pub params: Params,
    velocity: Vec<Tensor>,
    tokens: Tensor,
    packed: Packed,
}

impl<'a> Trainer<'a> {
    /// A trainer that starts from `params`.
    ///
    /// # Errors
    /// A context too short for the prompts; out of memory.
    pub fn new(clip: &'a Clip, prompts: NoisyPrompts, params: Params) -> Result<Trainer<'a>> {
        let velocity = params.tensors().iter().map(|t| clip.gpu.zeros("velocity", t.shape())).collect::<Result<_>>()?;
        let tokens = clip.text.embed(&prompts.prompts)?;
        let packed = clip.text.packed(&prompts.prompts)?;
        Ok(Trainer { clip, prompts, params, velocity, tokens, packed })
    }

    /// Records a step for `batch` pictures with `draws` each. With `draw_noise` the step draws its own ε; without, it
    /// takes what is in `eps_text` and `eps_image`.
    ///
    /// # Errors
    /// Out of memory.
    pub fn step(&self, batch: usize, draws: usize, draw_noise: bool) -> Result<Step> {
        let (gpu, d) = (&self.clip.gpu, self.clip.config.embedding);
        let params = &self.params;
        let images = gpu.zeros("image features", &[batch, d])?;
        let drawn_labels = gpu.upload("labels", &vec![0u32; batch * draws], &[batch * draws])?;
        let eps_text = gpu.zeros("eps", params.text_mean.shape())?;
        let eps_image = gpu.zeros("eps", &[batch * draws, d])?;
        let hyper = gpu.zeros("hyper", &[4])?;
        let counter = gpu.upload("counter", &[0u32; 4], &[4])?;

        let mut rec = Recorder::new(gpu);
        let r = &mut rec;
        if draw_noise {
            noise::normal(r, &counter, TEXT_STREAM, &eps_text)?;
            noise::normal(r, &counter, IMAGE_STREAM, &eps_image)?;
        }
        let x =
            noise::text_apply(r, &self.tokens, self.prompts.rows(), &params.text_mean, &params.text_spread, &eps_text)?;
        let (text, saved) = self.clip.text.forward_saved(r, &x, &self.packed)?;
        drop(x);
        let head = head_forward(r, params, &images, &text, &eps_image, draws, self.clip.logit_scale)?;
        let ce = loss::cross_entropy(r, &head.logits, &drawn_labels)?;
        let loss = reduce::mean_first(r, &ce.losses)?;
        let grads = backward(
            r,
            self.clip,
            params,
            &head,
            (&images, &text),
            &ce.grad,
            (&eps_text, &eps_image, draws),
            (saved, &self.packed, self.prompts.rows()),
        )?
        .0;
        for ((w, velocity), grad) in params.tensors().iter().zip(&self.velocity).zip(&grads) {
            optim::sgd(r, &hyper, grad, velocity, w)?;
        }
        Ok(Step {
            images,
            eps_text,
            eps_image,
            logits: head.logits,
            loss,
            grads,
            text,
            mean: head.mean,
            spread: head.spread,
            attention: head.attention,
            noisy: head.noisy_unit.y,
            plan: rec.finish()?,
            draws,
            drawn_labels,
            hyper,
            counter,
        })
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

/// Where training is, for progress bars.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Epochs done.
    pub epoch: usize,
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Mean cross-entropy of the last step.
    pub loss: f32,
}

/// Makes all that training on `n` pictures at a time needs, in a rehearsal.
pub(crate) fn rehearse(clip: &Clip, prompts: &NoisyPrompts, config: &Config, n: usize) -> Result<()> {
    let clip = clip.rehearsal();
    let params = Params::init(clip, prompts.noisy, config.reduction, config.seed)?;
    Trainer::new(clip, prompts.clone(), params)?.step(n, config.draws, true).map(drop)
}

/// Trains PiNI on support pictures. `features(epoch)` gives the un-normalised features `[n, D]` of the pictures in that
/// epoch (fixed, or of fresh random views); `labels` are theirs. The last partial batch is dropped when there is a full
/// one. Equal inputs and seed give equal bits on one adapter.
///
/// # Errors
/// A loss that is no longer finite (the rate is too high), labels out of range, out of memory, a lost device.
pub fn train(
    clip: &Clip,
    classes: &[String],
    config: &Config,
    labels: &[u32],
    features: &mut dyn FnMut(usize) -> Result<Vec<f32>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Pini> {
    if let Some(label) = labels.iter().find(|l| **l as usize >= classes.len()) {
        return Err(Error::invalid(format!("label {label} among the support pictures, of {} classes", classes.len())));
    }
    if labels.is_empty() || config.batch == 0 || config.draws == 0 {
        return Err(Error::invalid("PiNI needs at least one picture, one draw and a batch of one"));
    }
    let prompts = NoisyPrompts::new(clip, &config.template, classes)?;
    let params = Params::init(clip, prompts.noisy, config.reduction, config.seed)?;
    let trainer = Trainer::new(clip, prompts, params)?;
    let batch = config.batch.min(labels.len());
    let step = trainer.step(batch, config.draws, true).map_err(|error| {
        advise(error, "training PiNI with", batch, &|n| rehearse(clip, &trainer.prompts, config, n))
    })?;
    let d = clip.config.embedding;
    let per_epoch = labels.len() / batch;
    let steps = per_epoch * config.epochs;
    let mut number = 0;
    let mut report = |(epoch, step, read): (usize, usize, ReadBack<f32>)| {
        let loss = read.finish()?.first().copied().unwrap_or(f32::NAN);
        if !loss.is_finite() {
            return Err(Error::invalid(format!(
                "PiNI's loss is {loss} in epoch {epoch}: training diverged; use a lower --lr than {}",
                config.lr
            )));
        }
        progress(Progress { epoch: epoch + 1, step, steps, loss });
        Ok(())
    };
    let mut running = None;
    for epoch in 0..config.epochs {
        let lr = super::schedule::pini(epoch, config.epochs, config.lr);
        let values = features(epoch)?;
        if values.len() != labels.len() * d {
            return Err(Error::invalid(format!("{} feature values for {} pictures", values.len(), labels.len())));
        }
        let mut order: Vec<usize> = (0..labels.len()).collect();
        PythonRandom::new(stream_seed(config.seed, 0x7368_7566, epoch as u64)).shuffle(&mut order);
        for chunk in order.chunks_exact(batch) {
            let images: Vec<f32> = chunk.iter().flat_map(|i| &values[i * d..(i + 1) * d]).copied().collect();
            let chosen: Vec<u32> = chunk.iter().map(|i| labels[*i]).collect();
            step.run(&clip.gpu, &images, &chosen, config, lr, number as u32)?;
            number += 1;
            // A loss is fetched one step late, so that the device never waits for the host.
            let read = clip.gpu.begin_read::<f32>(&step.loss)?;
            if let Some(earlier) = running.replace((epoch, number, read)) {
                report(earlier)?;
            }
        }
    }
    running.map(report).transpose()?;
    Pini::new(clip, &trainer.prompts, trainer.params.clone())
}

/// PiNI for prediction, evaluated at the mean of its noise (ε = 0).
pub struct Pini {
    /// The parameters.
    pub params: Params,
    /// P, the number of noisy tokens.
    pub noisy: usize,
    /// Raw features of the prompts with their mean noise `[classes, D]`.
    text: Tensor,
    scale: f32,
}

impl Pini {
    /// PiNI with these parameters; encodes the prompts once.
    ///
    /// # Errors
    /// Out of memory, a lost device.
    pub fn new(clip: &Clip, prompts: &NoisyPrompts, params: Params) -> Result<Pini> {
        let gpu = &clip.gpu;
        let tokens = clip.text.embed(&prompts.prompts)?;
        let packed = clip.text.packed(&prompts.prompts)?;
        let zero = gpu.zeros("eps", params.text_mean.shape())?;
        let mut rec = Recorder::new(gpu);
        let rows = prompts.rows();
        let x = noise::text_apply(&mut rec, &tokens, rows, &params.text_mean, &params.text_spread, &zero)?;
        let text = clip.text.forward(&mut rec, x, &packed)?;
        rec.finish()?.run()?;
        Ok(Pini { params, noisy: prompts.noisy, text, scale: clip.logit_scale })
    }

    /// An untrained PiNI: what training starts from.
    ///
    /// # Errors
    /// As [`train`].
    pub fn untrained(clip: &Clip, classes: &[String], config: &Config) -> Result<Pini> {
        let prompts = NoisyPrompts::new(clip, &config.template, classes)?;
        let params = Params::init(clip, prompts.noisy, config.reduction, config.seed)?;
        Pini::new(clip, &prompts, params)
    }

    /// Logits `[n, classes]` of un-normalised image features `[n, D]`.
    ///
    /// # Errors
    /// A length that does not fit; a device that fails.
    pub fn logits(&self, gpu: &Gpu, features: &[f32]) -> Result<Vec<f32>> {
        super::by_rows(gpu, features, self.text.cols(), |rec, v| {
            let zero = gpu.zeros("eps", v.shape())?;
            Ok(head_forward(rec, &self.params, v, &self.text, &zero, 1, self.scale)?.logits)
        })
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
