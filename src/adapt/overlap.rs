//! Intra-modal overlap correction (arXiv 2409.11338, BMVC 2024): a bottleneck in every block of the frozen image
//! tower, trained on generic pictures, that draws pictures of one class together and others apart. Affinities of its
//! features make Tip-Adapter++ of Tip-Adapter and Tip-X++ of Tip-X.
//!
//! x ← x + attention(ln1 x); x ← x + mlp(ln2 x) + s·up(relu(down(x))), the branch taking the stream after attention.
//!
//! Trained with supervision: a linear head on the un-normalised projected features, over the classes of a generic set;
//! AdamW at 8e-3, batch 128, one epoch, cross-entropy, dropout 0.1 after the ReLU. Only bottlenecks and head train, and the
//! head is thrown away. Pixels are normalised as in evaluation (the authors' loader leaves that out in training).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::adapter_file::CORRECTION;
use super::dino::{self, SelfSupervised};
use super::lesson::Place;
use super::train::{self, At, Course, Identity, Job, Kept, ReadTensor, Tensors, streams};
use crate::clip::Clip;
use crate::data::{Item, PythonRandom, Shelf, stream_seed};
use crate::encode::source::digest_of;
use crate::encode::{self, Views};
use crate::gpu::{DType, Gpu, Plan, ReadBack, Recorder, Tensor, advise};
use crate::kernels::optim::{self, AdamW};
use crate::kernels::{dropout, loss, reduce};
use crate::nn::{Bottleneck, TrainableLinear};
use crate::watch::Watch;
use crate::{Error, Result, numbers};

/// The widest bottleneck; image towers of CLIPs are some 2,000 wide at most.
pub const MOST_BOTTLENECK: usize = 8192;

/// How the correction trains.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Config {
    /// Width of the bottlenecks.
    pub bottleneck: usize,
    /// s, the branch's factor.
    pub scale: f32,
    /// Share of the hidden layer that is dropped in training.
    pub dropout: f32,
    /// AdamW's rate.
    pub lr: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Pictures per step.
    pub batch: usize,
    /// Pictures at once: a batch is taken in parts of this many, whose gradients are added up.
    pub micro_batch: usize,
    /// Passes over the pictures.
    pub epochs: usize,
    /// Seed of initial values, shuffles and dropout.
    pub seed: u64,
    /// What training without labels has besides; none where there are labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_supervised: Option<SelfSupervised>,
}

impl Config {
    /// Where masks come from.
    fn dropout(&self) -> Dropout {
        if self.dropout > 0.0 { Dropout::Drawn(self.dropout) } else { Dropout::Off }
    }

    /// The paper's supervised settings.
    pub fn paper(seed: u64) -> Config {
        Config {
            bottleneck: 64,
            scale: 0.03,
            dropout: 0.1,
            lr: 8e-3,
            weight_decay: 0.01,
            batch: 128,
            micro_batch: 32,
            epochs: 1,
            seed,
            self_supervised: None,
        }
    }

    /// The paper's settings for training without labels, in steps of `batch` pictures; the authors' are of [`dino::BATCH`].
    pub fn without_labels(seed: u64, batch: usize) -> Config {
        Config {
            scale: 0.1,
            dropout: 0.0,
            lr: dino::rate(batch),
            weight_decay: 0.04,
            batch,
            micro_batch: 8,
            epochs: 10,
            self_supervised: Some(SelfSupervised::default()),
            ..Config::paper(seed)
        }
    }

    /// Checks the numbers that training multiplies by.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a rate, a scale or a dropout outside its range in [`numbers`], or a decay that is no number.
    pub fn check(&self) -> Result<()> {
        numbers::RATE.check("the learning rate", self.lr)?;
        numbers::BRANCH.check("the scale of the correction", f64::from(self.scale))?;
        numbers::DROPOUT.check("dropout", f64::from(self.dropout))?;
        numbers::DECAY.check("weight decay", self.weight_decay)?;
        let Some(settings) = &self.self_supervised else { return Ok(()) };
        if self.dropout > 0.0 {
            return Err(Error::invalid("training without labels has no dropout: leave it at 0"));
        }
        settings.check()
    }

    fn optimizer(&self) -> AdamW {
        AdamW { weight_decay: self.weight_decay, ..AdamW::new(self.lr) }
    }
}

/// A correction: one bottleneck per block of the image tower.
#[derive(Clone, Debug)]
pub struct Correction {
    /// In the order of the blocks.
    pub blocks: Vec<Bottleneck>,
}

/// The names that a correction's tensors have in the authors' checkpoints and in adapter files, block after block.
pub fn parameter_names(blocks: usize) -> Vec<String> {
    let parts = ["down_proj.weight", "down_proj.bias", "up_proj.weight", "up_proj.bias"];
    (0..blocks)
        .flat_map(|i| parts.iter().map(move |part| format!("transformer.resblocks.{i}.adaptmlp.{part}")))
        .collect()
}

/// Their shapes.
pub fn shapes(blocks: usize, width: usize, bottleneck: usize) -> Vec<Vec<usize>> {
    let one = [vec![bottleneck, width], vec![bottleneck], vec![width, bottleneck], vec![width]];
    (0..blocks).flat_map(|_| one.clone()).collect()
}

impl Correction {
    /// Fresh bottlenecks for the image tower of `clip`: `down` Kaiming-uniform (a = √5: uniform in ±1/√width), all else
    /// zero, so that the corrected tower starts as the plain one.
    ///
    /// # Errors
    /// A bottleneck of 0, or wider than [`MOST_BOTTLENECK`]; out of memory.
    pub fn init(clip: &Clip, config: &Config) -> Result<Correction> {
        if !(1..=MOST_BOTTLENECK).contains(&config.bottleneck) {
            let reason = format!("a bottleneck {} wide must be 1 to {MOST_BOTTLENECK} wide", config.bottleneck);
            return Err(Error::invalid(reason));
        }
        let (blocks, width) = clip.image.vit().map(|vit| (vit.transformer.blocks.len(), vit.width()))?;
        let factors = [(2 * blocks, "matrices"), (config.bottleneck, "rows"), (width, "columns")];
        numbers::check_memory("the correction", &factors, 4)?;
        let bound = 1.0 / (width as f64).sqrt();
        let values: Vec<Vec<f32>> = shapes(blocks, width, config.bottleneck)
            .iter()
            .enumerate()
            .map(|(i, shape)| {
                let mut rng = PythonRandom::new(stream_seed(config.seed, streams::CORRECTION, i as u64));
                let n: usize = shape.iter().product();
                (0..n).map(|_| if i % 4 == 0 { rng.uniform(-bound, bound) as f32 } else { 0.0 }).collect()
            })
            .collect();
        Correction::upload(&clip.gpu, &values, width, config.bottleneck, config.scale)
    }

    /// A correction from host values in the order of [`parameter_names`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when a length does not fit or `scale` is outside [`numbers::BRANCH`]; out of memory.
    pub fn upload(gpu: &Gpu, values: &[Vec<f32>], width: usize, bottleneck: usize, scale: f32) -> Result<Correction> {
        numbers::BRANCH.check("the scale of the correction", f64::from(scale))?;
        if values.is_empty() || !values.len().is_multiple_of(4) {
            return Err(Error::invalid(format!("{} tensors; a correction has four for each block", values.len())));
        }
        let linear = |what, out, input, at: &[Vec<f32>]| TrainableLinear::upload(gpu, what, out, input, &at[0], &at[1]);
        let blocks = values
            .chunks(4)
            .map(|v| {
                Ok(Bottleneck {
                    down: linear("bottleneck down", bottleneck, width, v)?,
                    up: linear("bottleneck up", width, bottleneck, &v[2..])?,
                    scale,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Correction { blocks })
    }

    /// All tensors in the order of [`parameter_names`].
    pub fn tensors(&self) -> Vec<&Tensor> {
        self.blocks.iter().flat_map(|b| [&b.down.weight, &b.down.bias, &b.up.weight, &b.up.bias]).collect()
    }

    /// All values in the order of [`parameter_names`].
    ///
    /// # Errors
    /// A lost device.
    pub fn download(&self, gpu: &Gpu) -> Result<Vec<Vec<f32>>> {
        self.tensors().into_iter().map(|t| gpu.read(t)).collect()
    }

    /// SHA-256 of all values and the factor: what tells a correction from others.
    ///
    /// # Errors
    /// A lost device.
    pub fn digest(&self, gpu: &Gpu) -> Result<String> {
        let mut hasher = Sha256::new();
        for tensor in self.tensors() {
            hasher.update(bytemuck::cast_slice(&gpu.read::<f32>(tensor)?));
        }
        hasher.update(self.scale().to_le_bytes());
        Ok(crate::hex(&hasher.finalize()))
    }

    /// Width of the bottlenecks.
    pub fn bottleneck(&self) -> usize {
        self.blocks.first().map_or(0, |b| b.down.bias.len())
    }

    /// The branch's factor.
    pub fn scale(&self) -> f32 {
        self.blocks.first().map_or(0.0, |b| b.scale)
    }
}

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
    clip: &'a Clip,
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
        let mut grads: Vec<Tensor> =
            blocks.into_iter().flat_map(|b| [b.down.weight, b.down.bias, b.up.weight, b.up.bias]).collect();
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
        super::check_labels("generic pictures", labels, step.labels.len(), self.head.bias.len())?;
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
        super::loss_of(self.begin_loss()?)
    }

    /// The same, on its way.
    fn begin_loss(&self) -> Result<ReadBack<f32>> {
        self.clip.gpu.begin_read(&self.loss_sum)
    }

    /// All that going on needs, by name.
    fn state(&self) -> Vec<(String, &Tensor)> {
        let parameters = self.parameters();
        let mut names = parameter_names(self.correction.blocks.len());
        names.extend(["head.weight".into(), "head.bias".into()]);
        let moments = names.iter().zip(&self.moments).map(|(name, tensor)| (format!("moments.{name}"), tensor));
        names.iter().cloned().zip(parameters).chain(moments).collect()
    }
}

/// Gives the normalised pixels `[n, 3, R, R]` of the pictures with these numbers, in the epoch given first.
pub type PixelSource<'a> = dyn FnMut(usize, &[usize]) -> Result<Vec<f32>> + 'a;

/// Makes all that training `n` pictures at a time needs, in a rehearsal.
pub(crate) fn rehearse(clip: &Clip, classes: usize, config: &Config, n: usize) -> Result<()> {
    let clip = clip.rehearsal();
    let head = Trainer::fresh_head(clip, classes, config.seed)?;
    Trainer::new(clip, Correction::init(clip, config)?, head)?.step(n, config.dropout()).map(drop)
}

/// A training under way.
struct Training<'a> {
    trainer: Trainer<'a>,
    config: &'a Config,
    course: &'a Course,
    labels: &'a [u32],
    pixels: &'a mut PixelSource<'a>,
    /// Steps for whole parts and for the shorter last parts of full and of partial batches, made when first needed.
    steps: BTreeMap<usize, Step>,
    classes: usize,
}

impl Training<'_> {
    /// Pictures at once.
    fn micro(&self) -> usize {
        self.config.micro_batch.min(self.course.batch())
    }

    /// The number of a step's first part among all parts.
    fn first_part(&self, at: At) -> usize {
        let of_full = self.course.batch().div_ceil(self.micro());
        let of_rest = self.course.rest().div_ceil(self.micro());
        let of_epoch = (self.course.pictures / self.course.batch()) * of_full + of_rest;
        at.epoch * of_epoch + at.place * of_full
    }
}

impl Job for Training<'_> {
    fn begin_epoch(&mut self, _epoch: usize) -> Result<()> {
        Ok(())
    }

    fn step(&mut self, at: At, pictures: &[usize]) -> Result<ReadBack<f32>> {
        let (config, classes, clip) = (self.config, self.classes, self.trainer.clip);
        let (first, micro) = (self.first_part(at), self.micro());
        for (i, part) in pictures.chunks(micro).enumerate() {
            let step = match self.steps.entry(part.len()) {
                Entry::Occupied(step) => step.into_mut(),
                Entry::Vacant(place) => {
                    let step = self.trainer.step(part.len(), config.dropout()).map_err(|error| {
                        advise(error, "training the correction with", part.len(), &|n| {
                            rehearse(clip, classes, config, n)
                        })
                    })?;
                    place.insert(step)
                }
            };
            let values = (self.pixels)(at.epoch, part)?;
            let chosen: Vec<u32> = part.iter().map(|i| self.labels[*i]).collect();
            let share = part.len() as f32 / pictures.len() as f32;
            let number = (config.seed, (first + i) as u32);
            self.trainer.run(step, (&values, &chosen), (share, i == 0), number)?;
        }
        self.trainer.update(config.optimizer(), at.number as u32 + 1)?;
        self.trainer.begin_loss()
    }

    fn put_down(&self) -> Result<(Tensors, Value)> {
        Ok((train::download(&self.trainer.clip.gpu, self.trainer.state())?, Value::Null))
    }

    fn take_up(&mut self, read: &ReadTensor<'_>, _rest: &Value) -> Result<()> {
        train::upload(&self.trainer.clip.gpu, self.trainer.state(), read)
    }
}

/// Trains a correction on pictures of `classes` generic classes. `labels` are those of all pictures, `pixels` gives the
/// pictures. Equal inputs and seed give equal bits on one device. Gives the loss of each epoch's last step, too.
///
/// # Errors
/// As [`train::run`]; labels out of range, too little memory; what `pixels` gives.
pub fn train(
    clip: &Clip,
    classes: usize,
    config: &Config,
    (labels, pixels): (&[u32], &mut PixelSource<'_>),
    kept: Option<&mut Kept>,
    watch: &mut dyn Watch,
) -> Result<(Correction, Vec<f32>)> {
    if classes < 2 {
        return Err(Error::invalid(format!("the correction learns to tell classes apart, and there is {classes}")));
    }
    super::check_labels("generic pictures", labels, labels.len(), classes)?;
    config.check()?;
    let course = Course {
        what: "the correction",
        pictures: labels.len(),
        batch: config.batch,
        whole_batches: false,
        epochs: config.epochs,
        seed: config.seed,
        stream: streams::SHUFFLE,
        rate: config.lr,
    };
    course.check()?;
    if config.micro_batch == 0 {
        return Err(Error::invalid("the correction needs a micro-batch of at least one picture"));
    }
    let trainer =
        Trainer::new(clip, Correction::init(clip, config)?, Trainer::fresh_head(clip, classes, config.seed)?)?;
    let mut job = Training { trainer, config, course: &course, labels, pixels, steps: BTreeMap::new(), classes };
    let losses = train::run(&mut job, &course, kept, watch)?;
    Ok((job.trainer.correction, losses))
}

/// Generic pictures.
#[derive(Clone, Copy)]
pub struct Generic<'a> {
    /// Their files, or where they are on the shelf.
    pub items: &'a [Item],
    /// The classes by label.
    pub names: &'a [String],
    /// Those that are in memory.
    pub shelf: &'a Shelf,
}

impl<'a> Generic<'a> {
    /// Pictures in files.
    pub fn of_files(items: &'a [Item], names: &'a [String]) -> Generic<'a> {
        Generic { items, names, shelf: Shelf::empty() }
    }
}

/// Trains a correction on generic pictures, which have been decoded before; without their labels where `config` says so. `place` is
/// where training is put down.
///
/// # Errors
/// As [`train()`], or as [`dino::train`]; a picture that can no longer be decoded.
pub fn learn(
    clip: &Clip,
    Generic { items, names, shelf }: Generic<'_>,
    config: &Config,
    place: Option<Place>,
    watch: &mut dyn Watch,
) -> Result<(Correction, Vec<f32>)> {
    if let Some(settings) = &config.self_supervised {
        return dino::learn(clip, (items, shelf), (config, settings), place, watch);
    }
    let labels: Vec<u32> = items.iter().map(|item| item.label as u32).collect();
    let mut pixels = |_: usize, which: &[usize]| {
        let chosen: Vec<Item> = which.iter().map(|i| items[*i].clone()).collect();
        encode::pixels(clip, &chosen, shelf, &Views::Center)
    };
    let mut kept = None;
    if let Some(Place { path, resume }) = place {
        let identity = Identity::new(CORRECTION, clip, names, config, digest_of(items, shelf, clip.preprocess.depth)?)?;
        kept = Some(Kept::new(&path, identity, resume));
    }
    train(clip, names.len(), config, (&labels, &mut pixels), kept.as_mut(), watch)
}
