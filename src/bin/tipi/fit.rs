//! `tipi fit`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Subcommand;
use tipi::adapt::adapter_file::{self, Adapter, Meta, Method};
use tipi::adapt::search::{Grid, search};
use tipi::adapt::tip::{self, Cache, TipParams};
use tipi::adapt::zero_shot::Classifier;
use tipi::adapt::{accuracy, pini};
use tipi::clip::Clip;
use tipi::data::{Augment, Folder, Split};
use tipi::encode::{self, Encoded, Views};
use tipi::gpu::{Gpu, Recorder};
use tipi::kernels::normalize;

use crate::common::{self, GpuArgs};
use crate::ui;

/// Methods.
#[derive(Subcommand)]
pub enum Args {
    /// Tip-Adapter: a cache of the pictures' features; no training.
    Tip(Tip),
    /// PiNI: noise learned on prompts and image features.
    Pini(Pini),
}

/// Options that all methods have.
#[derive(clap::Args)]
pub struct Common {
    /// Model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder with one sub-folder of pictures per class.
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Pictures per class to learn from.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    shots: u32,
    /// Seed of the choice of pictures, of views and of training.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Adapter file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Fail at the first picture that cannot be decoded.
    #[arg(long)]
    strict: bool,
    /// Pictures per step of the image tower.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    #[command(flatten)]
    gpu: GpuArgs,
}

/// Options of `fit tip`.
#[derive(clap::Args)]
pub struct Tip {
    #[command(flatten)]
    common: Common,
    /// Prompt with {} for the class; several are averaged.
    #[arg(long = "template", default_value = "a photo of a {}.")]
    templates: Vec<String>,
    /// Random views averaged into each key; 0 takes the picture itself.
    #[arg(long, default_value_t = 10)]
    views: usize,
    /// Weight of the cache term; by default chosen, with β, on pictures that are not learned from.
    #[arg(long, requires = "beta", allow_negative_numbers = true)]
    alpha: Option<f64>,
    /// Sharpness of the affinity.
    #[arg(long, requires = "alpha", allow_negative_numbers = true)]
    beta: Option<f64>,
}

/// Options of `fit pini`.
#[derive(clap::Args)]
pub struct Pini {
    #[command(flatten)]
    common: Common,
    /// The prompt's words before the class name.
    #[arg(long, default_value = "a photo of a")]
    template: String,
    /// Passes over the pictures.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Top of the learning-rate schedule; by default the paper's 0.001 at a logit scale of 100, more at a smaller one.
    #[arg(long, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Noise draws per picture.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// The cross-attention's width is the embedding's divided by this.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    reduction: u32,
    /// Learn from the pictures as they are, not from a fresh random view of each every epoch. Faster.
    #[arg(long)]
    no_augment: bool,
}

/// Fits.
pub fn run(args: &Args) -> Result<()> {
    match args {
        Args::Tip(args) => fit_tip(args),
        Args::Pini(args) => fit_pini(args),
    }
}

/// What fitting starts from.
struct Start {
    gpu: Gpu,
    clip: Clip,
    folder: Folder,
    split: Split,
}

impl Common {
    /// Looks at everything that can be wrong before the first long step: the output, the pictures, the model.
    fn start(&self) -> Result<Start> {
        common::check_writable(&self.out)?;
        let folder = Folder::open(&self.data)?;
        let shots = (self.shots as usize, self.shots.min(4) as usize);
        let bar = ui::bar(folder.items.len(), "checking pictures");
        let chosen = encode::choose(&folder, shots, self.seed, self.strict, &|n| bar.set_position(n as u64))?;
        bar.finish_and_clear();
        for error in &chosen.skipped {
            eprintln!("skipped: {error}");
        }
        common::note_skipped(chosen.skipped.len());
        let gpu = self.gpu.open()?;
        let clip = Clip::load(&gpu, &self.model)?;
        common::announce(&gpu);
        Ok(Start { gpu, clip, folder, split: chosen.split })
    }

    /// Features of the support pictures under `views`, and of the validation pictures as they are.
    fn encode(&self, start: &Start, views: &Views) -> Result<(Encoded, Encoded)> {
        let mut encoder = start.clip.image_encoder(self.batch as usize)?;
        let (support, val) = (&start.split.support, &start.split.val);
        let bar = ui::bar(support.len() * views.count() + val.len(), "encoding pictures");
        let mut done = |n: usize| bar.inc(n as u64);
        let support = encode::encode(&mut encoder, support, views, true, &mut done)?;
        let val = encode::encode(&mut encoder, val, &Views::Center, true, &mut done)?;
        bar.finish_and_clear();
        Ok((support, val))
    }

    fn save(&self, clip: &Clip, folder: &Folder, method: Method, adapter: &Adapter) -> Result<()> {
        let meta = Meta::new(clip, &folder.names(), method, self.shots as usize, self.seed);
        adapter_file::save(&self.out, clip, &meta, adapter)?;
        eprintln!("wrote {}", self.out.display());
        Ok(())
    }
}

/// Zero-shot logits and normalised features of validation pictures, and the best α and β on them.
pub fn choose(
    gpu: &Gpu,
    classifier: &Classifier,
    cache: &Cache,
    features: &[f32],
    labels: &[u32],
) -> tipi::Result<(TipParams, f64)> {
    if labels.is_empty() {
        return Ok((TipParams::INITIAL, f64::NAN));
    }
    let raw = gpu.upload("validation features", features, &[labels.len(), features.len() / labels.len()])?;
    let mut rec = Recorder::new(gpu);
    let f = normalize::forward(&mut rec, &raw)?.y;
    let base = classifier.record(&mut rec, &f)?;
    let plan = rec.finish()?;
    plan.run()?;
    let found = search(gpu, cache, &base, &f, labels, &Grid::standard())?;
    Ok((found.params, f64::from(found.correct) / labels.len() as f64))
}

fn fit_tip(args: &Tip) -> Result<()> {
    let common = &args.common;
    let clock = Instant::now();
    let start = common.start()?;
    let Start { gpu, clip, folder, .. } = &start;
    let classifier = Classifier::new(clip, &folder.names(), &args.templates)?;
    let views = match args.views {
        0 => Views::Center,
        count => Views::Random { augment: Augment::TIP, count, first: 0, seed: common.seed },
    };
    let (support, val) = common.encode(&start, &views)?;
    let d = clip.config.embedding;
    let keys = tip::keys(gpu, &encode::by_view(&support.features, views.count(), d), views.count(), d)?;
    let cache = Cache::new(gpu, &keys, &support.labels(), folder.classes.len(), d)?;
    let params = match (args.alpha, args.beta) {
        (Some(alpha), Some(beta)) if alpha.is_finite() && beta.is_finite() => TipParams { alpha, beta },
        (Some(_), Some(_)) => return Err(tipi::Error::Invalid("--alpha and --beta must be numbers".into()).into()),
        _ if val.items.is_empty() => {
            eprintln!("no pictures are left to choose α and β on: taking the authors' initial values");
            TipParams::INITIAL
        }
        _ => {
            let (params, right) = choose(gpu, &classifier, &cache, &val.features, &val.labels())?;
            eprintln!("{} validation pictures: {:.1} % right", val.items.len(), 100.0 * right);
            params
        }
    };
    eprintln!(
        "tip-adapter: {} keys of {} classes, alpha {:.3}, beta {:.3}, {:.1} s",
        support.items.len(),
        folder.classes.len(),
        params.alpha,
        params.beta,
        clock.elapsed().as_secs_f64()
    );
    let method = Method::TipAdapter { templates: args.templates.clone(), params, views: args.views };
    common.save(clip, folder, method, &Adapter::Tip { classifier, cache, params })?;
    common::finish(gpu);
    Ok(())
}

fn fit_pini(args: &Pini) -> Result<()> {
    let common = &args.common;
    let clock = Instant::now();
    let start = common.start()?;
    let Start { gpu, clip, folder, .. } = &start;
    let mut config = pini::Config::paper(&args.template, common.seed);
    config.epochs = args.epochs as usize;
    config.draws = args.draws as usize;
    config.reduction = args.reduction as usize;
    config.lr = args.lr.unwrap_or_else(|| pini::Config::rate(clip.logit_scale));
    if !(config.lr.is_finite() && config.lr > 0.0) {
        return Err(tipi::Error::Invalid(format!("--lr {} must be a positive number", config.lr)).into());
    }
    let (support, val) = common.encode(&start, &Views::Center)?;
    let labels = support.labels();
    let mut encoder = clip.image_encoder((common.batch as usize).min(labels.len()))?;
    let bar = ui::bar(config.epochs * (labels.len() / config.batch.min(labels.len())), "training PiNI");
    let fixed = &support.features;
    let mut features = |epoch: usize| {
        if args.no_augment {
            return Ok(fixed.clone());
        }
        // A fresh view of every picture each epoch, as the authors train.
        let views = Views::Random { augment: Augment::PINI, count: 1, first: epoch, seed: common.seed };
        Ok(encode::encode(&mut encoder, &support.items, &views, true, &mut |_| {})?.features)
    };
    let names = folder.names();
    let pini = pini::train(clip, &names, &config, &labels, &mut features, &mut |p| {
        bar.set_position(p.step as u64);
        bar.set_message(format!("PiNI epoch {} loss {:.3}", p.epoch, p.loss));
    })?;
    bar.finish_and_clear();
    if !val.items.is_empty() {
        let logits = pini.logits(gpu, &val.features)?;
        let right = accuracy(&logits, &val.labels(), names.len());
        eprintln!("{} validation pictures: {:.1} % right", val.items.len(), 100.0 * right);
    }
    eprintln!("pini: {} epochs, lr {}, {:.1} s", config.epochs, config.lr, clock.elapsed().as_secs_f64());
    let method = Method::Pini { noisy: pini.noisy, config, augmented: !args.no_augment };
    common.save(clip, folder, method, &Adapter::Pini(Box::new(pini)))?;
    common::finish(gpu);
    Ok(())
}
