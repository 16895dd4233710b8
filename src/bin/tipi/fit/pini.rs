//! `tipi fit pini`.

use std::time::Instant;

use std::path::Path;

use anyhow::Result;
use sha2::{Digest, Sha256};
use tipi::Error;
use tipi::adapt::adapter_file::{Adapter, Method};
use tipi::adapt::pini::{self, Evaluation, Noise, Training, checkpoint};
use tipi::adapt::zero_shot;
use tipi::data::{Augment, Item};
use tipi::encode::{self, Views};
use tipi::numbers;
use tipi::text;

use super::{Common, Start};
use crate::outputs::Beside;
use crate::terminal::note;
use crate::{common, stop, ui};

/// Options.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// The prompt's words before the class name.
    #[arg(long, default_value = "a photo of a")]
    template: String,
    /// Passes over the pictures, from 1 to 1000000.
    #[arg(long, default_value_t = 100, value_parser = common::count(1, common::MOST_EPOCHS))]
    epochs: usize,
    /// Top of the learning-rate schedule, from 1e-12 to 1000; by default the paper's 0.001 at a logit scale of 100, more at
    /// a smaller one.
    #[arg(long, allow_negative_numbers = true, value_parser = common::within(numbers::RATE))]
    lr: Option<f64>,
    /// Learn from the pictures as they are, not from a fresh random view of each every epoch. Fastest.
    #[arg(long, conflicts_with = "views")]
    no_augment: bool,
    /// Encode this many random views of each picture, from 1 to 1000, beforehand and draw from them, instead of a fresh one
    /// every epoch.
    #[arg(long, value_name = "N", value_parser = common::count(1, common::MOST_VIEWS))]
    views: Option<usize>,
    #[command(flatten)]
    noise: NoiseArgs,
    /// Go on from the checkpoint that an interrupted run of the same command left.
    #[arg(long)]
    resume: bool,
}

/// Options of the noise, which `tipi eval` has as well.
#[derive(clap::Args, Clone)]
pub struct NoiseArgs {
    /// Where PiNI's noise goes.
    #[arg(long, value_enum, default_value_t = NoiseArg::Both)]
    noise: NoiseArg,
    /// PiNI's noise draws per picture in training, from 1 to 10000.
    #[arg(long, default_value_t = 1, value_parser = common::count(1, pini::MOST_DRAWS))]
    draws: usize,
    /// The width of PiNI's cross-attention is the embedding's divided by this, from 1 to 65536.
    #[arg(long, default_value_t = 1, value_parser = common::count(1, 65_536))]
    reduction: usize,
    /// How PiNI's predictions treat the noise: mean, draw (one draw, as the authors' code), or average:S (over S draws, from
    /// 1 to 10000).
    #[arg(long, default_value = "mean", value_name = "mean|draw|average:S")]
    pub evaluate: Evaluation,
}

impl NoiseArgs {
    /// Settings with these options.
    pub fn apply(&self, config: pini::Config) -> pini::Config {
        let noise = match self.noise {
            NoiseArg::Text => Noise::Text,
            NoiseArg::Image => Noise::Image,
            NoiseArg::Both => Noise::Both,
        };
        pini::Config { noise, draws: self.draws, reduction: self.reduction, ..config }
    }
}

/// Where noise goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum NoiseArg {
    /// On the prompts alone.
    Text,
    /// On the image features alone.
    Image,
    /// On both.
    Both,
}

/// What training sees, in words and as a digest of its pictures: a checkpoint of other data is refused.
fn describe(items: &[Item], views: &str) -> Result<String> {
    let mut hasher = Sha256::new();
    for item in items {
        let bytes = tipi::data::read_picture(&item.path)?;
        hasher.update((item.label as u64).to_le_bytes());
        hasher.update(Sha256::digest(&bytes));
    }
    Ok(format!("{} pictures, {views}, {}", items.len(), tipi::hex(&hasher.finalize())))
}

/// Fits PiNI.
pub fn fit(args: &Args) -> Result<()> {
    let shared = &args.common;
    let clock = Instant::now();
    let output = shared.output()?;
    // Until all is written, so that no two trainings take turns at one checkpoint.
    let kept = Beside::checkpoint(&output, &shared.force)?;
    let saved = kept.as_ref().map(Beside::path);
    if args.resume && !saved.is_some_and(Path::is_file) {
        let name = saved.map_or("checkpoint of what is written to no file".into(), |saved| saved.display().to_string());
        let reason = format!("--resume: there is no {name}; leave the option out to start");
        return Err(Error::Invalid(reason).into());
    }
    let start = shared.start(&output)?;
    let Start { gpu, clip, folder, .. } = &start;
    let mut config = args.noise.apply(pini::Config::paper(&args.template, shared.seed));
    config.epochs = args.epochs;
    config.lr = args.lr.unwrap_or_else(|| pini::Config::rate(clip.logit_scale));
    let support = &start.split.support;
    let names = folder.names();
    let prompt = format!("{} {{}}.", args.template);
    zero_shot::unclear(clip, &names, &[prompt])?.iter().for_each(|reason| note!("{reason}"));
    let views = match (args.no_augment, args.views) {
        (true, _) => "as they are".to_string(),
        (_, Some(views)) => format!("{views} views"),
        _ => "fresh views".to_string(),
    };
    let run = checkpoint::Run::new(clip, &names, &config, &describe(support, &views)?)?;
    let begin = saved.filter(|_| args.resume).map(|saved| checkpoint::load(saved, clip, &run)).transpose()?;
    if let Some(state) = &begin {
        note!("going on after epoch {} of {}", state.epoch, config.epochs);
    }
    let val = shared.encode(clip, &start.split.val, &Views::Center, None)?;
    let labels: Vec<u32> = support.iter().map(|item| item.label as u32).collect();
    let bar = ui::bar(config.epochs * (labels.len() / config.batch.min(labels.len())), "training PiNI");
    let mut encoder = shared.pictures.encoder(clip, labels.len(), None)?;
    let mut encode = |views: &Views| {
        let mut done = |_| bar.tick();
        Ok::<_, Error>(encode::encode(&mut encoder, support, views, true, &mut done)?.features.original)
    };
    let random = |count, first| Views::Random { augment: Augment::PINI, count, first, seed: shared.seed };
    let fixed = match (args.no_augment, args.views) {
        (true, _) => Some((encode(&Views::Center)?, 1)),
        (_, Some(views)) => Some((encode(&random(views, 0))?, views)),
        _ => None,
    };
    let mut features = |epoch: usize| match &fixed {
        Some((fixed, views)) => encode::draw_views(fixed, *views, clip.config.embedding, shared.seed, epoch),
        // A fresh view of every picture each epoch, as the authors train.
        None => encode(&random(1, epoch)),
    };
    stop::listen();
    let mut keep = |state: &pini::State| saved.map_or(Ok(()), |saved| checkpoint::save(saved, clip, &run, state));
    let training = Training { start: begin, each_epoch: Some(&mut keep) };
    let pini = pini::train(clip, &names, &config, &labels, training, &mut features, &mut |p| {
        bar.set_position(p.step as u64);
        ui::show(&bar, &format!("PiNI epoch {} loss {:.3}", p.epoch, p.loss));
        stop::check()
    });
    bar.finish_and_clear();
    let pini = match pini {
        Err(Error::Stopped) => {
            if let Some(saved) = saved.filter(|saved| saved.is_file()) {
                note!("the same command with --resume goes on from {}", saved.display());
            }
            return Err(Error::Stopped.into());
        }
        other => other?,
    };
    let epochs = text::count(config.epochs, "epoch", "epochs");
    note!("pini: {epochs}, lr {:.3e}, {:.1} s", config.lr, clock.elapsed().as_secs_f64());
    let evaluation = args.noise.evaluate.seeded(shared.seed);
    let (noisy, views) = (pini.noisy(), args.views.unwrap_or(0));
    let method = Method::Pini { noisy, config, augmented: !args.no_augment, views, evaluation };
    let adapter = Adapter::Pini { pini: Box::new(pini), evaluation };
    shared.save(output, &start, method, &adapter, &val)?;
    // Nothing is left to go on with.
    kept.map_or(Ok(()), Beside::remove_file)?;
    common::finish(gpu);
    Ok(())
}
