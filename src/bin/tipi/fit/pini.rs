//! `tipi fit pini`.

use std::time::Instant;

use anyhow::Result;
use tipi::adapt::adapter_file::{Adapter, Method};
use tipi::adapt::{accuracy, pini};
use tipi::data::Augment;
use tipi::encode::{self, Views};

use super::{Common, Start, note_right, positive};
use crate::{common, ui};

/// Options.
#[derive(clap::Args)]
pub struct Args {
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

/// Fits PiNI.
pub fn fit(args: &Args) -> Result<()> {
    let shared = &args.common;
    let clock = Instant::now();
    let start = shared.start()?;
    let Start { gpu, clip, folder, .. } = &start;
    let mut config = pini::Config::paper(&args.template, shared.seed);
    config.epochs = args.epochs as usize;
    config.draws = args.draws as usize;
    config.reduction = args.reduction as usize;
    config.lr = positive("--lr", args.lr.unwrap_or_else(|| pini::Config::rate(clip.logit_scale)))?;
    let support = &start.split.support;
    let val = shared.encode(clip, &start.split.val, &Views::Center, None)?;
    let labels: Vec<u32> = support.iter().map(|item| item.label as u32).collect();
    let bar = ui::bar(config.epochs * (labels.len() / config.batch.min(labels.len())), "training PiNI");
    let mut encoder = shared.pictures.encoder(clip, labels.len(), None)?;
    let mut encode = |views: &Views| Ok(encode::encode(&mut encoder, support, views, true, &mut |_| {})?.features);
    let fixed = if args.no_augment { Some(encode(&Views::Center)?.original) } else { None };
    let mut features = |epoch: usize| {
        if let Some(fixed) = &fixed {
            return Ok(fixed.clone());
        }
        // A fresh view of every picture each epoch, as the authors train.
        let views = Views::Random { augment: Augment::PINI, count: 1, first: epoch, seed: shared.seed };
        encode(&views).map(|features| features.original)
    };
    let names = folder.names();
    let pini = pini::train(clip, &names, &config, &labels, &mut features, &mut |p| {
        bar.set_position(p.step as u64);
        bar.set_message(format!("PiNI epoch {} loss {:.3}", p.epoch, p.loss));
    })?;
    bar.finish_and_clear();
    if !val.items.is_empty() {
        let logits = pini.logits(gpu, &val.features.original)?;
        note_right(val.items.len(), accuracy(&logits, &val.labels(), names.len()));
    }
    eprintln!("pini: {} epochs, lr {}, {:.1} s", config.epochs, config.lr, clock.elapsed().as_secs_f64());
    let method = Method::Pini { noisy: pini.noisy, config, augmented: !args.no_augment };
    shared.save(clip, folder, method, &Adapter::Pini(Box::new(pini)))?;
    common::finish(gpu);
    Ok(())
}
