//! `tipi fit`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Subcommand;
use tipi::adapt::adapter_file::{self, Adapter, Meta, Method};
use tipi::adapt::search;
use tipi::adapt::tip::{self, Cache, TipParams};
use tipi::adapt::zero_shot::Classifier;
use tipi::adapt::{accuracy, pini};
use tipi::clip::Clip;
use tipi::data::{Augment, Folder, Item, Split};
use tipi::encode::{self, Encoded, Views};
use tipi::gpu::Gpu;

use crate::common::{self, GpuArgs, PictureArgs};
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
    #[command(flatten)]
    pictures: PictureArgs,
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
        tipi::check_writable(&self.out)?;
        let folder = Folder::open(&self.data)?;
        let shots = (self.shots as usize, self.shots.min(4) as usize);
        let bar = ui::bar(folder.items.len(), "checking pictures");
        let chosen = encode::choose(&folder, shots, self.seed, self.pictures.strict, &|n| bar.set_position(n as u64))?;
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

    /// Encodes pictures under `views`.
    fn encode(&self, clip: &Clip, items: &[Item], views: &Views) -> Result<Encoded> {
        let total = items.len() * views.count();
        let mut encoder = clip.image_encoder(self.pictures.batch(total))?;
        let bar = ui::bar(total, "encoding pictures");
        let encoded = encode::encode(&mut encoder, items, views, true, &mut |n| bar.inc(n as u64))?;
        bar.finish_and_clear();
        Ok(encoded)
    }

    fn save(&self, clip: &Clip, folder: &Folder, method: Method, adapter: &Adapter) -> Result<()> {
        let meta = Meta::new(clip, &folder.names(), method, self.shots as usize, self.seed);
        adapter_file::save(&self.out, clip, &meta, adapter)?;
        eprintln!("wrote {}", self.out.display());
        Ok(())
    }
}

/// Says how well validation pictures are told apart.
fn note_right(count: usize, share: f64) {
    eprintln!("{count} validation pictures: {:.1} % right", 100.0 * share);
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
    let support = common.encode(clip, &start.split.support, &views)?;
    let val = common.encode(clip, &start.split.val, &Views::Center)?;
    let d = clip.config.embedding;
    let keys = tip::keys(gpu, &encode::by_view(&support.features, views.count(), d), views.count(), d)?;
    let cache = Cache::new(gpu, &keys, &support.labels(), folder.classes.len(), d)?;
    let params = match (args.alpha, args.beta) {
        (Some(alpha), Some(beta)) if alpha.is_finite() && beta.is_finite() => TipParams { alpha, beta },
        (Some(_), Some(_)) => return Err(tipi::Error::Invalid("--alpha and --beta must be numbers".into()).into()),
        _ => match search::choose(gpu, &classifier, &cache, &val.features, &val.labels())? {
            Some(found) => {
                note_right(val.items.len(), f64::from(found.correct) / val.items.len() as f64);
                found.params
            }
            None => {
                eprintln!("no pictures are left to choose α and β on: taking the authors' initial values");
                TipParams::INITIAL
            }
        },
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
    let support = &start.split.support;
    let val = common.encode(clip, &start.split.val, &Views::Center)?;
    let labels: Vec<u32> = support.iter().map(|item| item.label as u32).collect();
    let bar = ui::bar(config.epochs * (labels.len() / config.batch.min(labels.len())), "training PiNI");
    let mut encoder = clip.image_encoder(common.pictures.batch(labels.len()))?;
    let fixed = match args.no_augment {
        true => Some(encode::encode(&mut encoder, support, &Views::Center, true, &mut |_| {})?.features),
        false => None,
    };
    let mut features = |epoch: usize| {
        if let Some(fixed) = &fixed {
            return Ok(fixed.clone());
        }
        // A fresh view of every picture each epoch, as the authors train.
        let views = Views::Random { augment: Augment::PINI, count: 1, first: epoch, seed: common.seed };
        Ok(encode::encode(&mut encoder, support, &views, true, &mut |_| {})?.features)
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
        note_right(val.items.len(), right);
    }
    eprintln!("pini: {} epochs, lr {}, {:.1} s", config.epochs, config.lr, clock.elapsed().as_secs_f64());
    let method = Method::Pini { noisy: pini.noisy, config, augmented: !args.no_augment };
    common.save(clip, folder, method, &Adapter::Pini(Box::new(pini)))?;
    common::finish(gpu);
    Ok(())
}
