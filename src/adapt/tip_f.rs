//! Tip-Adapter-F (arXiv 2207.09519): a Tip-Adapter whose cache keys train.
//!
//! The keys are the only weights. They start as the cache's, α and β stay at their initial values, and the cross-entropy
//! of s·f·Wᵀ + α·exp(−β(1 − f·Gᵀ))·L is minimised by AdamW (rate 1e-3, eps 1e-4, decay 0.01) under a cosine that ends at
//! 0, in batches of 256 for 20 epochs. The keys are not normalised again. α and β are searched afterwards.
//!
//! The epoch that is kept is chosen on validation pictures. The authors' code chooses it on the test set.

use super::schedule;
use super::tip::{Cache, TipParams};
use super::zero_shot::Classifier;
use crate::data::{PythonRandom, stream_seed};
use crate::gpu::{DType, Gpu, Plan, Recorder, Tensor};
use crate::kernels::optim::{self, AdamW};
use crate::kernels::{affinity, loss, normalize, reduce};
use crate::{Error, Result, numbers};

/// How the keys train.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Config {
    /// α and β during training.
    pub initial: TipParams,
    /// Rate at the first step.
    pub lr: f64,
    /// AdamW's eps.
    pub eps: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Passes over the support pictures.
    pub epochs: usize,
    /// Pictures per step.
    pub batch: usize,
    /// Seed of the shuffles.
    pub seed: u64,
}

impl Config {
    /// The authors' settings. They take 100 epochs on EuroSAT and 20 elsewhere.
    pub fn paper(seed: u64) -> Config {
        Config { initial: TipParams::INITIAL, lr: 1e-3, eps: 1e-4, weight_decay: 0.01, epochs: 20, batch: 256, seed }
    }

    /// Checks the numbers that training multiplies by.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number outside its range in [`numbers`].
    pub fn check(&self) -> Result<()> {
        self.initial.check()?;
        numbers::RATE.check("the learning rate", self.lr)?;
        numbers::RATE.check("eps", self.eps)?;
        numbers::DECAY.check("weight decay", self.weight_decay).map(drop)
    }

    /// The optimizer at one step of the schedule.
    fn optimizer(&self, step: usize, total: usize) -> AdamW {
        let lr = schedule::cosine(step, total, self.lr);
        AdamW { eps: self.eps, weight_decay: self.weight_decay, ..AdamW::new(lr) }
    }
}

/// A training step, recorded once for one number of pictures.
pub struct Step {
    /// `[batch, D]`, un-normalised image features.
    pub images: Tensor,
    /// u32 `[batch]`.
    pub labels: Tensor,
    /// `[1]`, mean cross-entropy before the step.
    pub loss: Tensor,
    /// `[N, D]`, gradient of the keys.
    pub grad: Tensor,
    /// The recorded step.
    pub plan: Plan,
}

/// Keys in training.
pub struct Trainer<'a> {
    gpu: &'a Gpu,
    classifier: &'a Classifier,
    initial: TipParams,
    /// `[N, D]`, sorted by class.
    pub keys: affinity::Keys,
    labels: Tensor,
    beta: Tensor,
    moments: Tensor,
    hyper: Tensor,
}

impl<'a> Trainer<'a> {
    /// A trainer that starts from the keys of `cache`, which is left as it is.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(gpu: &'a Gpu, classifier: &'a Classifier, cache: &Cache, initial: TipParams) -> Result<Trainer<'a>> {
        let (values, labels) = cache.host();
        let shape = cache.keys().keys.shape();
        // A rehearsed cache has no values.
        let keys = match gpu.rehearses() {
            true => gpu.empty("keys", shape, DType::F32)?,
            false => gpu.upload("keys", values, shape)?,
        };
        let moments = gpu.zeros("moments", &[2, keys.len()])?;
        Ok(Trainer {
            gpu,
            classifier,
            initial,
            keys: cache.keys().with_keys(keys)?,
            labels: gpu.upload("key labels", labels, &[labels.len()])?,
            beta: gpu.upload("beta", &[initial.beta as f32], &[1])?,
            moments,
            hyper: gpu.zeros("hyper", &[8])?,
        })
    }

    /// Records a step for `batch` pictures.
    ///
    /// # Errors
    /// Out of memory.
    pub fn step(&self, batch: usize) -> Result<Step> {
        let gpu = self.gpu;
        let images = gpu.zeros("image features", &[batch, self.keys.keys.cols()])?;
        let labels = gpu.upload("labels", &vec![0u32; batch], &[batch])?;
        let mut rec = Recorder::new(gpu);
        let r = &mut rec;
        let f = normalize::forward(r, &images)?.y;
        let base = self.classifier.record(r, &f)?;
        let alpha = self.initial.alpha as f32;
        let logits = affinity::cache_term(r, &f, &self.keys, &self.beta, alpha, Some(&base))?;
        let ce = loss::cross_entropy(r, &logits.reshape(&[batch, self.classifier.classes()])?, &labels)?;
        let loss = reduce::mean_first(r, &ce.losses)?;
        let grad = affinity::backward_keys(r, &f, &self.keys, &self.labels, &self.beta, alpha, &ce.grad)?;
        optim::adamw(r, &self.hyper, &grad, &self.moments, &self.keys.keys)?;
        Ok(Step { images, labels, loss, grad, plan: rec.finish()? })
    }

    /// Runs a step, the `number`-th of all from 1 on. Returns without waiting.
    ///
    /// # Errors
    /// Lengths that do not fit, labels out of range; a lost device.
    pub fn run(&self, step: &Step, images: &[f32], labels: &[u32], optimizer: AdamW, number: u32) -> Result<()> {
        super::check_labels("support", labels, step.images.rows(), self.classifier.classes())?;
        self.gpu.write(&step.images, images)?;
        self.gpu.write(&step.labels, labels)?;
        self.gpu.write(&self.hyper, &optimizer.hyper(number))?;
        step.plan.run()
    }
}

/// Where training is, for progress bars.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Epochs done.
    pub epoch: usize,
    /// Cross-entropy of the epoch's last step.
    pub loss: f32,
    /// Share of validation pictures that are right after it, at the initial α and β.
    pub val_accuracy: Option<f64>,
}

/// What training gives.
pub struct Trained {
    /// The cache with its trained keys.
    pub cache: Cache,
    /// The epoch that is kept, from 1 on.
    pub epoch: usize,
    /// Its accuracy on the validation pictures, where there were some.
    pub val_accuracy: Option<f64>,
}

/// Trains the keys of `cache`. `features(epoch)` gives the un-normalised features `[n, D]` of the support pictures in that
/// epoch (the authors take a fresh random view of each), `labels` are theirs. With validation features and labels the
/// first epoch of the highest accuracy is kept, without them the last. Equal inputs and seed give equal bits on one
/// adapter.
///
/// # Errors
/// A loss that is no longer finite, labels out of range, out of memory, a lost device; what `features` and `progress` give.
#[allow(clippy::too_many_arguments)]
pub fn train(
    gpu: &Gpu,
    classifier: &Classifier,
    cache: &Cache,
    config: &Config,
    labels: &[u32],
    features: &mut dyn FnMut(usize) -> Result<Vec<f32>>,
    val: (&[f32], &[u32]),
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<Trained> {
    if labels.is_empty() || config.batch == 0 || config.epochs == 0 {
        return Err(Error::invalid("Tip-Adapter-F needs at least one picture, one epoch and a batch of one"));
    }
    config.check()?;
    let d = cache.keys().keys.cols();
    let trainer = Trainer::new(gpu, classifier, cache, config.initial)?;
    let batch = config.batch.min(labels.len());
    let full = trainer.step(batch)?;
    let rest = labels.len() % batch;
    let last = if rest > 0 { Some(trainer.step(rest)?) } else { None };
    let per_epoch = labels.len().div_ceil(batch);
    let total = per_epoch * config.epochs;
    let val_features = crate::clip::Features::from(val.0.to_vec());
    let mut number = 0;
    let mut best: Option<(usize, Option<f64>, Vec<f32>)> = None;
    for epoch in 0..config.epochs {
        let values = features(epoch)?;
        if values.len() != labels.len() * d {
            return Err(Error::invalid(format!("{} feature values for {} pictures", values.len(), labels.len())));
        }
        let mut order: Vec<usize> = (0..labels.len()).collect();
        PythonRandom::new(stream_seed(config.seed, 0x7469_7066, epoch as u64)).shuffle(&mut order);
        let mut seen = &full;
        for chunk in order.chunks(batch) {
            let step = if chunk.len() == batch { &full } else { last.as_ref().unwrap_or(&full) };
            let images: Vec<f32> = chunk.iter().flat_map(|i| &values[i * d..(i + 1) * d]).copied().collect();
            let chosen: Vec<u32> = chunk.iter().map(|i| labels[*i]).collect();
            let optimizer = config.optimizer(number, total);
            number += 1;
            trainer.run(step, &images, &chosen, optimizer, number as u32)?;
            seen = step;
        }
        let loss = super::loss_of(gpu.begin_read(&seen.loss)?)?;
        if !loss.is_finite() {
            return Err(Error::invalid(format!(
                "Tip-Adapter-F's loss is {loss} in epoch {}: training diverged; use a lower --lr than {}",
                epoch + 1,
                config.lr
            )));
        }
        let keys = gpu.read::<f32>(&trainer.keys.keys)?;
        let val_accuracy = if val.1.is_empty() {
            None
        } else {
            let now = cache.with_keys(gpu, &keys)?;
            let logits = now.logits(gpu, classifier, &val_features, config.initial)?;
            Some(super::accuracy(&logits, val.1, classifier.classes()))
        };
        // Without validation pictures there is nothing to choose by, and the last epoch stays.
        if best.as_ref().is_none_or(|(_, had, _)| val_accuracy.is_none() || val_accuracy > *had) {
            best = Some((epoch + 1, val_accuracy, keys));
        }
        progress(Progress { epoch: epoch + 1, loss, val_accuracy })?;
    }
    let (epoch, val_accuracy, keys) = best.ok_or_else(|| Error::invalid("no epoch was run"))?;
    Ok(Trained { cache: cache.with_keys(gpu, &keys)?, epoch, val_accuracy })
}
