//! Intra-modal overlap correction (arXiv 2409.11338, BMVC 2024): a bottleneck in every block of the frozen image
//! tower, trained on generic pictures, that draws pictures of one class together and others apart. Affinities of its
//! features make Tip-Adapter++ of Tip-Adapter and Tip-X++ of Tip-X.
//!
//! x ← x + attention(ln1 x); x ← x + mlp(ln2 x) + s·up(relu(down(x))), the branch taking the stream after attention.
//!
//! Trained with supervision: a linear head on the un-normalised projected features, over the classes of a generic set;
//! AdamW at 8e-3, batch 128, one epoch, cross-entropy, dropout 0.1 after the ReLU. Only bottlenecks and head train, and the
//! head is thrown away. Pixels are normalised as in evaluation (the authors' loader leaves that out in training).

mod trainer;

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use self::trainer::{Dropout, Step, Trainer};
use super::adapter_file::CORRECTION;
use super::dino::{self, SelfSupervised};
use super::lesson::Place;
use super::train::{self, At, Course, Identity, Job, Kept, ReadTensor, Tensors, streams};
use crate::clip::Clip;
use crate::data::{Item, PythonRandom, Shelf, stream_seed};
use crate::encode::source::{digest_of, listing_of};
use crate::encode::{self, Views};
use crate::gpu::{Gpu, ReadBack, Tensor, advise};
use crate::kernels::optim::AdamW;
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

/// Gives the normalised pixels `[n, 3, R, R]` of the pictures with these numbers, in the epoch given first.
pub type PixelSource<'a> = dyn FnMut(usize, &[usize]) -> Result<Vec<f32>> + 'a;

/// Makes all that training `n` pictures at a time needs, in a rehearsal.
pub(crate) fn rehearse(clip: &Clip, classes: usize, config: &Config, n: usize) -> Result<()> {
    let clip = &*clip.rehearsal();
    let head = Trainer::fresh_head(clip, classes, config.seed)?;
    Trainer::new(clip, Correction::init(clip, config)?, head)?.step(n, config.dropout()).map(drop)
}

/// Pixels of those of some pictures that there are, and which these are.
struct Pixels {
    values: Vec<f32>,
    of: Vec<usize>,
}

/// As [`PixelSource`], some of the pictures left out.
type Source<'a> = dyn FnMut(usize, &[usize]) -> Result<Pixels> + 'a;

/// A training under way.
struct Training<'a> {
    trainer: Trainer<'a>,
    config: &'a Config,
    course: &'a Course,
    labels: &'a [u32],
    pixels: &'a mut Source<'a>,
    /// Steps for whole parts and for the shorter last parts of full and of partial batches, made when first needed.
    steps: BTreeMap<usize, Step>,
    classes: usize,
}

impl Training<'_> {
    /// Pictures at once.
    fn micro(&self) -> usize {
        self.config.micro_batch.min(self.course.batch())
    }

    /// Forward and backward of so many pictures.
    fn record(&self, n: usize) -> Result<Step> {
        let (config, classes, clip) = (self.config, self.classes, self.trainer.clip);
        self.trainer
            .step(n, config.dropout())
            .map_err(|error| advise(error, "training the correction with", n, &|n| rehearse(clip, classes, config, n)))
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
        let config = self.config;
        let (first, micro) = (self.first_part(at), self.micro());
        let mut begun = false;
        for (i, part) in pictures.chunks(micro).enumerate() {
            // Made before the first picture is looked at, so that running out of memory is seen then.
            if !self.steps.contains_key(&part.len()) {
                let step = self.record(part.len())?;
                self.steps.insert(part.len(), step);
            }
            let whole = part.len();
            let Pixels { values, of: part } = (self.pixels)(at.epoch, part)?;
            if part.is_empty() {
                continue;
            }
            // Where pictures were left out; not kept, since there may be many sizes.
            let shorter = if part.len() < whole { Some(self.record(part.len())?) } else { None };
            let Some(step) = shorter.as_ref().or_else(|| self.steps.get(&whole)) else { continue };
            let chosen: Vec<u32> = part.iter().map(|i| self.labels[*i]).collect();
            let share = part.len() as f32 / pictures.len() as f32;
            let number = (config.seed, (first + i) as u32);
            self.trainer.run(step, (&values, &chosen), (share, !begun), number)?;
            begun = true;
        }
        if !begun {
            return Err(Error::invalid(format!("none of the {} pictures of a step can be decoded", pictures.len())));
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
    let mut pixels = |epoch: usize, which: &[usize]| Ok(Pixels { values: pixels(epoch, which)?, of: which.to_vec() });
    train_from(clip, classes, config, (labels, &mut pixels), kept, watch)
}

/// [`train()`] where pictures may be left out.
fn train_from(
    clip: &Clip,
    classes: usize,
    config: &Config,
    (labels, pixels): (&[u32], &mut Source<'_>),
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

/// As [`learn`], for lists of very many pictures: none has been decoded before, and none is read but for its step. One that cannot
/// be decoded takes no part in its step; with `strict` it is an error. What is put down belongs to the list and to its files' sizes
/// and times. `watch` is told how many were left out since training began or went on.
///
/// # Errors
/// As [`train()`]; settings for training without labels; a step of which no picture can be decoded; a file that is not there.
pub fn learn_streaming(
    clip: &Clip,
    Generic { items, names, shelf }: Generic<'_>,
    (config, strict): (&Config, bool),
    place: Option<Place>,
    watch: &mut dyn Watch,
) -> Result<(Correction, Vec<f32>)> {
    if config.self_supervised.is_some() {
        return Err(Error::invalid("training without labels does not stream: decode its pictures before"));
    }
    let labels: Vec<u32> = items.iter().map(|item| item.label as u32).collect();
    let mut skipped = 0;
    let mut pixels = |_: usize, which: &[usize]| {
        let chosen: Vec<Item> = which.iter().map(|i| items[*i].clone()).collect();
        let sound = encode::sound_pixels(clip, &chosen, shelf, &Views::Center, strict)?;
        for error in &sound.skipped {
            tracing::warn!("skipped: {error}");
        }
        skipped += sound.skipped.len();
        Ok(Pixels { values: sound.values, of: sound.which.iter().map(|i| which[*i]).collect() })
    };
    let mut kept = None;
    if let Some(Place { path, resume }) = place {
        kept = Some(Kept::new(&path, Identity::new(CORRECTION, clip, names, config, listing_of(items)?)?, resume));
    }
    let learned = train_from(clip, names.len(), config, (&labels, &mut pixels), kept.as_mut(), watch);
    if skipped > 0 {
        watch.note(&format!("{} skipped", crate::text::count(skipped, "picture", "pictures")));
    }
    learned
}
