//! A correction and its head in training: forward, loss, gradients, and one step.

use super::{Correction, parameter_names};
use crate::adapt::train::streams;
use crate::adapt::{check_labels, loss_of};
use crate::clip::Clip;
use crate::data::{PythonRandom, stream_seed};
use crate::gpu::{DType, Plan, ReadBack, Recorder, Tensor};
use crate::kernels::optim::{self, AdamW};
use crate::kernels::{dropout, loss, reduce};
use crate::nn::{BottleneckGrads, TrainableLinear};
use crate::{Error, Result};

/// Where a step's dropout masks come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dropout {
    /// There are none.
    Off,
    /// What is in [`Step::masks`].
    Given,
    /// Drawn anew each time, dropping this share.
    Drawn(f32),
}

/// Forward and backward of one part of a batch, recorded once.
pub struct Step {
    /// `[n, 3, R, R]`, normalised.
    pub pixels: Tensor,
    /// u32 `[n]`.
    pub labels: Tensor,
    /// One mask `[n·tokens, bottleneck]` per block, where there is dropout.
    pub masks: Vec<Tensor>,
    /// `[n, D]`, un-normalised adapted features.
    pub features: Tensor,
    /// `[n, classes]`.
    pub logits: Tensor,
    /// `[1]`, mean cross-entropy.
    pub loss: Tensor,
    /// Gradients in the order of [`Trainer::parameters`].
    pub grads: Vec<Tensor>,
    /// The recorded step.
    pub plan: Plan,
    counter: Tensor,
}

/// A correction and its head in training.
pub struct Trainer<'a> {
    pub(super) clip: &'a Clip,
    /// What is kept.
    pub correction: Correction,
    /// What is thrown away: `[classes, D]` and its bias.
    pub head: TrainableLinear,
    /// Gradients of a batch, summed over its parts.
    sums: Vec<Tensor>,
    moments: Vec<Tensor>,
    loss_sum: Tensor,
    hyper: Tensor,
    share: Tensor,
    update: Plan,
}

impl<'a> Trainer<'a> {
    /// A trainer that starts from `correction` and `head`.
    ///
    /// # Errors
    /// A head that does not fit the model; out of memory.
    pub fn new(clip: &'a Clip, correction: Correction, head: TrainableLinear) -> Result<Trainer<'a>> {
        let gpu = &clip.gpu;
        if head.weight.cols() != clip.config.embedding {
            return Err(Error::invalid(format!(
                "a head of shape {:?} for features of width {}",
                head.weight.shape(),
                clip.config.embedding
            )));
        }
        let mut parameters: Vec<Tensor> = correction.tensors().into_iter().cloned().collect();
        parameters.extend([head.weight.clone(), head.bias.clone()]);
        let sums: Vec<Tensor> = parameters.iter().map(|t| gpu.zeros("gradient", t.shape())).collect::<Result<_>>()?;
        let moments: Vec<Tensor> =
            parameters.iter().map(|t| gpu.zeros("moments", &[2, t.len()])).collect::<Result<_>>()?;
        let hyper = gpu.zeros("hyper", &[8])?;
        let mut rec = Recorder::new(gpu);
        for ((w, moments), sum) in parameters.iter().zip(&moments).zip(&sums) {
            optim::adamw(&mut rec, &hyper, sum, moments, w)?;
        }
        let update = rec.finish()?;
        let (loss_sum, share) = (gpu.zeros("loss", &[1])?, gpu.zeros("share", &[2])?);
        Ok(Trainer { clip, correction, head, sums, moments, loss_sum, hyper, share, update })
    }

    /// A head for `classes`, uniform in ±1/√D as PyTorch's linear layers.
    ///
    /// # Errors
    /// Out of memory.
    pub fn fresh_head(clip: &Clip, classes: usize, seed: u64) -> Result<TrainableLinear> {
        let d = clip.config.embedding;
        let bound = 1.0 / (d as f64).sqrt();
        let mut rng = PythonRandom::new(stream_seed(seed, streams::HEAD, 0));
        let mut draw = |n: usize| (0..n).map(|_| rng.uniform(-bound, bound) as f32).collect::<Vec<_>>();
        let (weight, bias) = (draw(classes * d), draw(classes));
        TrainableLinear::upload(&clip.gpu, "head", classes, d, &weight, &bias)
    }

    /// What trains: the correction's tensors, then the head's weight and bias.
    pub fn parameters(&self) -> Vec<&Tensor> {
        let mut all = self.correction.tensors();
        all.extend([&self.head.weight, &self.head.bias]);
        all
    }

    /// Records forward and backward for `n` pictures. Nothing of the frozen tower gets a gradient, and below the first
    /// block's bottleneck nothing is computed backward at all.
    ///
    /// # Errors
    /// Out of memory: fewer pictures at once need less.
    pub fn step(&self, n: usize, dropout: Dropout) -> Result<Step> {
        let (clip, gpu) = (self.clip, &self.clip.gpu);
        let size = clip.preprocess.size;
        let pixels = gpu.empty("pixels", &[n, 3, size, size], DType::F32)?;
        let labels = gpu.upload("labels", &vec![0u32; n], &[n])?;
        let counter = gpu.upload("counter", &[0u32; 4], &[4])?;
        let vit = clip.image.vit()?;
        let pattern = vit.pattern(n)?;
        let bottlenecks = &self.correction.blocks;
        let shape = [n * vit.picture_tokens(), self.correction.bottleneck()];
        let masks: Vec<Tensor> = match dropout {
            Dropout::Off => Vec::new(),
            _ => bottlenecks.iter().map(|_| gpu.zeros("dropout", &shape)).collect::<Result<_>>()?,
        };
        let mut rec = Recorder::new(gpu);
        let r = &mut rec;
        if let Dropout::Drawn(rate) = dropout {
            for (i, mask) in masks.iter().enumerate() {
                dropout::mask(r, &counter, streams::DROPOUT + i as u32, rate, mask)?;
            }
        }
        let (features, saved) = vit.forward_adapted(r, &pixels, &pattern, bottlenecks, &masks)?;
        let logits = self.head.forward(r, &features)?;
        let ce = loss::cross_entropy(r, &logits, &labels)?;
        let loss = reduce::mean_first(r, &ce.losses)?;
        let head = self.head.backward_weight(r, &features, &ce.grad)?;
        let dfeatures = self.head.backward_input(r, &ce.grad, None)?;
        let blocks = vit.backward_adapted(r, &dfeatures, saved, &pattern, bottlenecks)?;
        let mut grads: Vec<Tensor> = blocks.into_iter().flat_map(BottleneckGrads::tensors).collect();
        grads.extend([head.weight, head.bias]);
        for (sum, grad) in self.sums.iter().zip(&grads) {
            optim::accumulate(r, &self.share, grad, sum)?;
        }
        optim::accumulate(r, &self.share, &loss, &self.loss_sum)?;
        Ok(Step { pixels, labels, masks, features, logits, loss, grads, plan: rec.finish()?, counter })
    }

    /// Runs forward and backward of one part of a batch: `share` is the part's share of the batch's pictures, `first`
    /// says that it is the batch's first part, `number` tells this part's dropout from all others of the same `seed`.
    /// Returns without waiting.
    ///
    /// # Errors
    /// Lengths that do not fit, labels out of range; a lost device.
    pub fn run(
        &self,
        step: &Step,
        (pixels, labels): (&[f32], &[u32]),
        (share, first): (f32, bool),
        (seed, number): (u64, u32),
    ) -> Result<()> {
        let gpu = &self.clip.gpu;
        check_labels("generic pictures", labels, step.labels.len(), self.head.bias.len())?;
        gpu.write(&step.pixels, pixels)?;
        gpu.write(&step.labels, labels)?;
        gpu.write(&self.share, &[if first { 0.0 } else { 1.0 }, share])?;
        gpu.write(&step.counter, &[seed as u32, (seed >> 32) as u32, number, 0])?;
        step.plan.run()
    }

    /// One AdamW step with the batch's gradients, the `number`-th from 1 on. Returns without waiting.
    ///
    /// # Errors
    /// A lost device.
    pub fn update(&self, optimizer: AdamW, number: u32) -> Result<()> {
        self.clip.gpu.write(&self.hyper, &optimizer.hyper(number))?;
        self.update.run()
    }

    /// Mean cross-entropy of the last batch.
    ///
    /// # Errors
    /// A lost device.
    pub fn loss(&self) -> Result<f32> {
        loss_of(self.begin_loss()?)
    }

    /// The same, on its way.
    pub(super) fn begin_loss(&self) -> Result<ReadBack<f32>> {
        self.clip.gpu.begin_read(&self.loss_sum)
    }

    /// All that going on needs, by name.
    pub(super) fn state(&self) -> Vec<(String, &Tensor)> {
        let parameters = self.parameters();
        let mut names = parameter_names(self.correction.blocks.len());
        names.extend(["head.weight".into(), "head.bias".into()]);
        let moments = names.iter().zip(&self.moments).map(|(name, tensor)| (format!("moments.{name}"), tensor));
        names.iter().cloned().zip(parameters).chain(moments).collect()
    }
}
