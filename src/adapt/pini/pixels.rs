//! PiNI's noise on pixels: training through the whole frozen image tower, and what it learned.
//!
//! h = net(x) (batch norm by the batch's own statistics), s = each of h's planes times 0.1 over its RMS; x̃ = x + s_mean + |s_spread|·ε,
//! m draws a picture; v = tower(x̃), un-normalised; logits = s·normalise(v)·normalise(t)ᵀ with the plain template's texts t, which are
//! encoded once. Cross-entropy over all draws; SGD with momentum and weight decay on all of the network. In use, batch norm goes by the
//! running statistics.

use serde_json::Value;

use super::{Config, Evaluation, NoisyPrompts};
use crate::adapt::overlap::PixelSource;
use crate::adapt::plans::Plans;
use crate::adapt::train::{self, At, Job, Kept, ReadTensor, Tensors, streams};
use crate::adapt::{self, schedule};
use crate::clip::{Clip, Drawn, Features, PixelNoise, VisionTransformer};
use crate::data::{PythonRandom, stream_seed};
use crate::gpu::{DType, Gpu, Plan, ReadBack, Recorder, Tensor, advise};
use crate::kernels::gemm::{Epilogue, Layout, matmul};
use crate::kernels::{loss, noise, normalize, optim, planes, reduce};
use crate::nn::{NoiseNet, Statistics};
use crate::watch::Watch;
use crate::{Error, Result};

/// RMS of each channel plane of means and of spreads.
pub const LEVEL: f32 = 0.1;

/// Pictures per step where nobody says: activations of 32, as PiNI's other noises have, take some 12 GB at 224 pixels.
pub const BATCH: usize = 8;

/// The most draws that are averaged: each goes through the tower.
pub const MOST_AVERAGED: usize = 64;

/// A fresh network: convolutions uniform in ±1/√fan-in (PyTorch's default), gains 1, shifts 0.
///
/// # Errors
/// Out of memory.
pub fn fresh(gpu: &Gpu, config: &Config) -> Result<NoiseNet> {
    let mut number = 0;
    NoiseNet::load(gpu, config.widths, &mut |name, shape| {
        let n: usize = shape.iter().product();
        Ok(match shape {
            [_, input, side, _] => {
                let bound = 1.0 / ((input * side * side) as f64).sqrt();
                let mut rng = PythonRandom::new(stream_seed(config.seed, streams::PINI_PIXELS, number));
                number += 1;
                (0..n).map(|_| rng.uniform(-bound, bound) as f32).collect()
            }
            _ => vec![if name.ends_with(".weight") || name.ends_with("running_var") { 1.0 } else { 0.0 }; n],
        })
    })
}

/// A training step, recorded once.
pub struct PixelStep {
    /// `[batch, 3, R, R]`, normalised.
    pub pixels: Tensor,
    /// `[batch·draws, 3, R, R]`, its random numbers.
    pub eps: Tensor,
    /// `[batch, 6, R²]`: the noise's means, then its signed spreads.
    pub planes: Tensor,
    /// `[batch·draws, classes]`.
    pub logits: Tensor,
    /// `[1]`, mean cross-entropy.
    pub loss: Tensor,
    /// Gradients in the order of [`NoiseNet::tensors`].
    pub grads: Vec<Tensor>,
    /// The recorded step.
    pub plan: Plan,
    draws: usize,
    drawn_labels: Tensor,
    hyper: Tensor,
    counter: Tensor,
}

/// Noise on pixels in training.
pub struct PixelTrainer<'a> {
    clip: &'a Clip,
    vit: &'a VisionTransformer,
    /// What trains.
    pub net: NoiseNet,
    velocity: Vec<Tensor>,
    /// `[classes, D]` of length 1.
    text: Tensor,
}

impl<'a> PixelTrainer<'a> {
    /// A trainer that starts from `net`, with un-normalised text features `[classes, D]`.
    ///
    /// # Errors
    /// As [`ImageTower::to_pixels`](crate::clip::ImageTower::to_pixels); texts of another width; out of memory.
    pub fn new(clip: &'a Clip, text: &Tensor, net: NoiseNet) -> Result<PixelTrainer<'a>> {
        let (gpu, vit) = (&clip.gpu, clip.image.to_pixels()?);
        if text.cols() != clip.config.embedding {
            let (texts, width) = (text.shape(), clip.config.embedding);
            return Err(Error::invalid(format!("text features {texts:?} for an embedding {width} wide")));
        }
        let velocity = net.tensors().into_iter().map(|t| gpu.zeros("velocity", t.shape())).collect::<Result<_>>()?;
        let mut rec = Recorder::new(gpu);
        let text = normalize::forward(&mut rec, text)?.y;
        rec.finish()?.run()?;
        Ok(PixelTrainer { clip, vit, net, velocity, text })
    }

    /// Records a step for `batch` pictures with `draws` each. With `draw_noise` the step draws its own ε; without, it takes what is in
    /// [`PixelStep::eps`].
    ///
    /// # Errors
    /// Out of memory: fewer pictures need less.
    pub fn step(&self, batch: usize, draws: usize, draw_noise: bool) -> Result<PixelStep> {
        let (gpu, size) = (&self.clip.gpu, self.clip.preprocess.size);
        let rows = batch * draws;
        let pixels = gpu.empty("pixels", &[batch, 3, size, size], DType::F32)?;
        let eps = gpu.zeros("eps", &[rows, 3, size, size])?;
        let drawn_labels = gpu.upload("labels", &vec![0u32; rows], &[rows])?;
        let hyper = gpu.zeros("hyper", &[4])?;
        let counter = gpu.upload("counter", &[0u32; 4], &[4])?;
        let pattern = self.vit.pattern(rows)?;
        let mut rec = Recorder::new(gpu);
        let r = &mut rec;
        if draw_noise {
            noise::normal(r, &counter, streams::PIXEL_NOISE, &eps)?;
        }
        let (raw, saved) = self.net.forward_saved(r, &pixels, Statistics::Batch)?;
        let scaled = planes::scale(r, &raw, LEVEL)?;
        let noisy = planes::add(r, &pixels, &scaled.planes, &eps, draws)?;
        let (features, tower) = self.vit.forward_saved(r, &noisy, &pattern)?;
        drop(noisy);
        let unit = normalize::forward(r, &features)?;
        let alpha = Epilogue { alpha: self.clip.logit_scale, ..Epilogue::default() };
        let logits = matmul(r, Layout::Nt, &unit.y, &self.text, &alpha)?;
        let ce = loss::cross_entropy(r, &logits, &drawn_labels)?;
        let loss = reduce::mean_first(r, &ce.losses)?;

        let dunit = matmul(r, Layout::Nn, &ce.grad, &self.text, &alpha)?;
        let dfeatures = normalize::backward(r, &features, &unit.norms, &dunit)?;
        let dnoisy = self.vit.backward(r, &dfeatures, tower, &pattern)?;
        let dplanes = planes::add_backward(r, &scaled.planes, &eps, draws, &dnoisy)?;
        let draw = planes::scale_backward(r, &raw, &scaled, &dplanes)?;
        // What is still held when recording ends gets a place of its own.
        drop((features, unit, ce, dunit, dfeatures, dnoisy, dplanes, raw));
        let grads = self.net.backward(r, &pixels, saved, &draw)?;
        drop(draw);
        for ((w, velocity), grad) in self.net.tensors().into_iter().zip(&self.velocity).zip(&grads) {
            optim::sgd(r, &hyper, grad, velocity, w)?;
        }
        let planes = scaled.planes.clone();
        drop(scaled);
        let plan = rec.finish()?;
        Ok(PixelStep { pixels, eps, planes, logits, loss, grads, plan, draws, drawn_labels, hyper, counter })
    }

    /// All that going on needs, by name.
    fn state(&self) -> Vec<(String, &Tensor)> {
        let names: Vec<String> = NoiseNet::parameters(self.net.widths()).into_iter().map(|(name, _)| name).collect();
        let velocity = names.iter().zip(&self.velocity).map(|(name, tensor)| (format!("velocity.{name}"), tensor));
        let running = self.net.running().into_iter().enumerate().map(|(i, tensor)| (format!("running.{i}"), tensor));
        names.iter().cloned().zip(self.net.tensors()).chain(velocity).chain(running).collect()
    }
}

impl PixelStep {
    /// Runs the step at learning rate `lr`; `number` tells this step's noise from all others of the same seed. Returns without waiting.
    ///
    /// # Errors
    /// Lengths that do not fit, labels out of range; a lost device.
    pub fn run(&self, gpu: &Gpu, pixels: &[f32], labels: &[u32], config: &Config, lr: f64, number: u32) -> Result<()> {
        adapt::check_labels("pictures", labels, self.pixels.shape()[0], self.logits.cols())?;
        gpu.write(&self.pixels, pixels)?;
        let drawn: Vec<u32> = labels.iter().flat_map(|l| std::iter::repeat_n(*l, self.draws)).collect();
        gpu.write(&self.drawn_labels, &drawn)?;
        gpu.write(&self.hyper, &[lr as f32, config.momentum as f32, config.weight_decay as f32, 0.0])?;
        gpu.write(&self.counter, &[config.seed as u32, (config.seed >> 32) as u32, number, 0])?;
        self.plan.run()
    }
}

/// Makes all that training on `n` pictures at a time needs, in a rehearsal.
pub(crate) fn rehearse(clip: &Clip, classes: usize, config: &Config, n: usize) -> Result<()> {
    let clip = &*clip.rehearsal();
    let text = clip.gpu.zeros("texts", &[classes, clip.config.embedding])?;
    PixelTrainer::new(clip, &text, fresh(&clip.gpu, config)?)?.step(n, config.draws, true).map(drop)
}

/// A training under way.
struct Training<'a> {
    trainer: PixelTrainer<'a>,
    step: PixelStep,
    config: &'a Config,
    labels: &'a [u32],
    pixels: &'a mut PixelSource<'a>,
}

impl Job for Training<'_> {
    fn begin_epoch(&mut self, _epoch: usize) -> Result<()> {
        Ok(())
    }

    fn step(&mut self, at: At, pictures: &[usize]) -> Result<ReadBack<f32>> {
        let (gpu, config) = (&self.trainer.clip.gpu, self.config);
        let lr = schedule::pini(at.epoch, config.epochs, config.lr);
        let pixels = (self.pixels)(at.epoch, pictures)?;
        let labels: Vec<u32> = pictures.iter().map(|i| self.labels[*i]).collect();
        self.step.run(gpu, &pixels, &labels, config, lr, at.number as u32)?;
        gpu.begin_read(&self.step.loss)
    }

    fn put_down(&self) -> Result<(Tensors, Value)> {
        Ok((train::download(&self.trainer.clip.gpu, self.trainer.state())?, Value::Null))
    }

    fn take_up(&mut self, read: &ReadTensor<'_>, _rest: &Value) -> Result<()> {
        train::upload(&self.trainer.clip.gpu, self.trainer.state(), read)
    }
}

/// Trains noise on the pixels of support pictures. `pixels` gives normalised pixels of pictures in an epoch; `labels` are those of all.
/// The last partial batch is dropped when there is a full one. Equal inputs and seed give equal bits on one device. Gives the network,
/// and the loss of each epoch's last step.
///
/// # Errors
/// As [`train::run`]; a tower that noise on pixels cannot be on; labels out of range, too little memory; what `pixels` gives.
pub fn train(
    clip: &Clip,
    classes: &[String],
    config: &Config,
    (labels, pixels): (&[u32], &mut PixelSource<'_>),
    kept: Option<&mut Kept>,
    watch: &mut dyn Watch,
) -> Result<(NoiseNet, Vec<f32>)> {
    adapt::check_labels("support pictures", labels, labels.len(), classes.len())?;
    config.check()?;
    clip.image.to_pixels()?;
    let course = config.course(labels.len())?;
    let (text, _) = NoisyPrompts::of(clip, config, classes)?.encode(clip)?;
    let trainer = PixelTrainer::new(clip, &text, fresh(&clip.gpu, config)?)?;
    let batch = course.batch();
    let step = trainer.step(batch, config.draws, true).map_err(|error| {
        advise(error, "training PiNI's noise on pixels with", batch, &|n| rehearse(clip, classes.len(), config, n))
    })?;
    let mut job = Training { trainer, step, config, labels, pixels };
    let losses = train::run(&mut job, &course, kept, watch)?;
    Ok((job.trainer.net, losses))
}

/// Noise on pixels that was learned, and the texts that it meets.
pub struct PixelPredictor {
    /// The noise, and how it enters predictions.
    pub noise: PixelNoise,
    /// `[classes, D]` of length 1.
    text: Tensor,
    scale: f32,
    plans: Plans,
}

impl PixelPredictor {
    /// What predicts by `evaluation` with the plain template's texts.
    ///
    /// # Errors
    /// More draws than [`MOST_AVERAGED`]; as [`NoisyPrompts::of`]; a tower that noise on pixels cannot be on; a device that fails.
    pub fn new(
        clip: &Clip,
        classes: &[String],
        config: &Config,
        net: NoiseNet,
        evaluation: Evaluation,
    ) -> Result<PixelPredictor> {
        clip.image.to_pixels()?;
        let drawn = drawn(evaluation)?;
        let (_, text) = NoisyPrompts::of(clip, config, classes)?.encode(clip)?;
        let noise = PixelNoise { net, level: LEVEL, drawn };
        Ok(PixelPredictor { noise, text, scale: clip.logit_scale, plans: Plans::default() })
    }

    /// The same noise, which enters predictions by another `evaluation`.
    ///
    /// # Errors
    /// More draws than [`MOST_AVERAGED`].
    pub fn predicting(&self, evaluation: Evaluation) -> Result<PixelPredictor> {
        let noise = PixelNoise { drawn: drawn(evaluation)?, ..self.noise.clone() };
        Ok(PixelPredictor { noise, text: self.text.clone(), scale: self.scale, plans: Plans::default() })
    }

    /// Draws of each picture.
    fn rows(&self) -> usize {
        self.noise.rows()
    }

    /// Values of a picture's features.
    pub fn width(&self) -> usize {
        self.rows() * self.text.cols()
    }

    /// Whether logits are those of an average of probabilities, which is not what [`PixelPredictor::record`] records.
    pub fn averages(&self) -> bool {
        self.rows() > 1
    }

    pub(super) fn plans(&self) -> &Plans {
        &self.plans
    }

    /// Records logits `[n, classes]` of features `[n, rows·D]` of noisy pictures; of several draws their mean.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn record(&self, rec: &mut Recorder, raw: &Tensor) -> Result<Tensor> {
        let (pictures, rows, classes) = (raw.rows(), self.rows(), self.text.rows());
        let logits = self.of_draws(rec, &raw.reshape(&[pictures * rows, self.text.cols()])?)?;
        match rows {
            1 => Ok(logits),
            _ => reduce::mean_middle(rec, &logits.reshape(&[pictures, rows, classes])?),
        }
    }

    fn of_draws(&self, rec: &mut Recorder, raw: &Tensor) -> Result<Tensor> {
        let unit = normalize::forward(rec, raw)?.y;
        let alpha = Epilogue { alpha: self.scale, ..Epilogue::default() };
        matmul(rec, Layout::Nt, &unit, &self.text, &alpha)
    }

    /// Logits `[n, classes]` of features `[n, rows·D]` of noisy pictures; averages of draws are logarithms of mean probabilities.
    ///
    /// # Errors
    /// A length that does not fit; a device that fails.
    pub fn logits(&self, gpu: &Gpu, features: &[f32]) -> Result<Vec<f32>> {
        adapt::check_rows("features", features, self.width())?;
        let rows = Features::from(features.to_vec());
        let all = self.plans.logits(gpu, &rows, self.text.cols(), &|rec, raw, _| self.of_draws(rec, raw))?;
        match self.averages() {
            true => Ok(super::predict::averaged(&all, self.rows(), self.text.rows())),
            false => Ok(all),
        }
    }
}

/// What is drawn for an evaluation.
fn drawn(evaluation: Evaluation) -> Result<Option<Drawn>> {
    check_evaluation(evaluation)?;
    Ok(match evaluation {
        Evaluation::Mean => None,
        Evaluation::Draws { count, seed } => Some(Drawn { count, seed, stream: streams::DRAWN_PIXEL_NOISE }),
    })
}

/// Checks the draws of an evaluation of noise on pixels.
///
/// # Errors
/// [`Error::Invalid`] for more than [`MOST_AVERAGED`].
pub fn check_evaluation(evaluation: Evaluation) -> Result<()> {
    match evaluation {
        Evaluation::Draws { count, .. } if count > MOST_AVERAGED => Err(Error::invalid(format!(
            "evaluate is average:{count}, and each draw of noise on pixels goes through the image tower: take up to \
             {MOST_AVERAGED}"
        ))),
        other => other.check(),
    }
}
