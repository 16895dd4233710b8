//! `tipi fit tip`, `tip-f` and `tip-x`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use tipi::adapt::adapter_file::{self, Adapter, CorrectionForm, Method};
use tipi::adapt::overlap::Correction;
use tipi::adapt::search::{self, Found};
use tipi::adapt::tip::{self, Cache, TipParams};
use tipi::adapt::tip_f;
use tipi::adapt::tip_x::{self, TipXParams};
use tipi::adapt::zero_shot::Classifier;
use tipi::clip::Features;
use tipi::data::Augment;
use tipi::encode::{self, Encoded, Views};
use tipi::numbers;
use tipi::output::Output;
use tipi::text;

use super::{Common, Start};
use crate::terminal::note;
use crate::{common, ui};

/// Options that all caches have.
#[derive(clap::Args)]
struct CacheArgs {
    #[command(flatten)]
    common: Common,
    /// Prompt with {} for the class; several are averaged.
    #[arg(long = "template", default_value = "a photo of a {}.")]
    templates: Vec<String>,
    /// Random views averaged into each key, up to 1000; 0 takes the picture itself.
    #[arg(long, default_value_t = 10, value_parser = common::count(0, common::MOST_VIEWS))]
    views: usize,
}

/// Options of `fit tip`.
#[derive(clap::Args)]
pub struct Tip {
    #[command(flatten)]
    cache: CacheArgs,
    /// Overlap correction that `fit overlap` wrote: makes Tip-Adapter++.
    #[arg(long, value_name = "FILE")]
    correction: Option<PathBuf>,
    /// Weight of the cache term, from -1e9 to 1e9; by default chosen, with β, on pictures that are not learned from.
    #[arg(long, requires = "beta", allow_negative_numbers = true, value_parser = common::within(numbers::WEIGHT))]
    alpha: Option<f64>,
    /// Sharpness of the affinity, from -20 to 1e9.
    #[arg(long, requires = "alpha", allow_negative_numbers = true, value_parser = common::within(numbers::SHARPNESS))]
    beta: Option<f64>,
}

/// Options of `fit tip-f`.
#[derive(clap::Args)]
pub struct TipF {
    #[command(flatten)]
    cache: CacheArgs,
    /// Passes over the pictures, from 1 to 1000000; the best on validation pictures is kept.
    #[arg(long, default_value_t = 20, value_parser = common::count(1, common::MOST_EPOCHS))]
    epochs: usize,
    /// Learning rate at the first step, from 1e-12 to 1000; it falls to 0 along a cosine.
    #[arg(long, default_value_t = 0.001, allow_negative_numbers = true, value_parser = common::within(numbers::RATE))]
    lr: f64,
    /// Weight of the cache term during training, from -1e9 to 1e9.
    #[arg(long, default_value_t = TipParams::INITIAL.alpha, allow_negative_numbers = true,
        value_parser = common::within(numbers::WEIGHT))]
    initial_alpha: f64,
    /// Sharpness of the affinity during training, from -20 to 1e9.
    #[arg(long, default_value_t = TipParams::INITIAL.beta, allow_negative_numbers = true,
        value_parser = common::within(numbers::SHARPNESS))]
    initial_beta: f64,
    /// Learn from the pictures as they are, not from a fresh random view of each every epoch. Faster.
    #[arg(long)]
    no_augment: bool,
}

/// Options of `fit tip-x`.
#[derive(clap::Args)]
pub struct TipX {
    #[command(flatten)]
    cache: CacheArgs,
    /// Overlap correction that `fit overlap` wrote: makes Tip-X++.
    #[arg(long, value_name = "FILE")]
    correction: Option<PathBuf>,
    /// Weight of the cache term, from -1e9 to 1e9; by default chosen, with β and γ, on pictures that are not learned from.
    #[arg(long, requires_all = ["beta", "gamma"], allow_negative_numbers = true,
        value_parser = common::within(numbers::WEIGHT))]
    alpha: Option<f64>,
    /// Sharpness of the affinity, from -20 to 1e9.
    #[arg(long, requires_all = ["alpha", "gamma"], allow_negative_numbers = true,
        value_parser = common::within(numbers::SHARPNESS))]
    beta: Option<f64>,
    /// Weight of the divergence term, from -1e9 to 1e9.
    #[arg(long, requires_all = ["alpha", "beta"], allow_negative_numbers = true,
        value_parser = common::within(numbers::WEIGHT))]
    gamma: Option<f64>,
}

/// What all caches are made of.
struct Parts {
    output: Output,
    start: Start,
    clock: Instant,
    classifier: Classifier,
    correction: Option<Correction>,
    /// Normalised keys `[N, D]` from the plain and, with a correction, the corrected tower.
    keys: Features,
    labels: Vec<u32>,
    cache: Cache,
    val: Encoded,
}

impl CacheArgs {
    fn parts(&self, correction: Option<&PathBuf>) -> Result<Parts> {
        let clock = Instant::now();
        let output = self.common.output()?;
        if let Some(path) = correction {
            output.reads(path, "a correction")?;
        }
        let file = correction.map(|path| adapter_file::File::open(path)).transpose()?;
        let start = self.common.start(&output)?;
        let Start { gpu, clip, folder, split } = &start;
        let correction = file.map(|file| common::correction(&file, clip)).transpose()?;
        let adapters = correction.as_ref().map(|c| &c.blocks[..]);
        let (classifier, unclear) = Classifier::beside_pictures(clip, &folder.names(), &self.templates)?;
        unclear.iter().for_each(|reason| note!("{reason}"));
        let views = match self.views {
            0 => Views::Center,
            count => Views::Random { augment: Augment::TIP, count, first: 0, seed: self.common.seed },
        };
        let support = self.common.encode(clip, &split.support, &views, adapters)?;
        let val = self.common.encode(clip, &split.val, &Views::Center, adapters)?;
        let d = clip.config.embedding;
        let keys = tip::keys_of_pictures(gpu, &support.features, views.count(), d)?;
        let labels = support.labels();
        let cache = Cache::new(gpu, keys.affinity(), &labels, folder.classes.len(), d)?;
        Ok(Parts { output, classifier, correction, keys, labels, cache, val, clock, start })
    }
}

impl Parts {
    fn note(&self, method: &str, params: TipXParams) {
        let name = if self.correction.is_some() { format!("{method}++") } else { method.to_string() };
        let gamma = if params.gamma == 0.0 { String::new() } else { format!(", gamma {:.3}", params.gamma) };
        note!(
            "{name}: {} of {}, alpha {:.3}, beta {:.3}{gamma}, {:.1} s",
            text::count(self.labels.len(), "key", "keys"),
            text::count(self.start.folder.classes.len(), "class", "classes"),
            params.alpha,
            params.beta,
            self.clock.elapsed().as_secs_f64()
        );
    }

    /// The point found; the authors' initial values where there was nothing to search on.
    fn found(found: Option<&Found>) -> TipXParams {
        match found {
            Some(found) => found.params,
            None => {
                note!("no pictures are left to choose α and β on: taking the authors' initial values");
                TipXParams { alpha: TipParams::INITIAL.alpha, beta: TipParams::INITIAL.beta, gamma: 0.0 }
            }
        }
    }

    fn form(&self) -> Option<CorrectionForm> {
        self.correction.as_ref().map(CorrectionForm::of)
    }
}

/// Fits Tip-Adapter or Tip-Adapter++.
pub fn fit_tip(args: &Tip) -> Result<()> {
    let set = args.alpha.zip(args.beta);
    let parts = args.cache.parts(args.correction.as_ref())?;
    let gpu = &parts.start.gpu;
    let params = match set {
        Some((alpha, beta)) => TipXParams { alpha, beta, gamma: 0.0 },
        None => {
            let val = &parts.val;
            let found = search::choose(gpu, &parts.classifier, &parts.cache, &val.features, &val.labels())?;
            Parts::found(found.as_ref())
        }
    };
    parts.note("tip-adapter", params);
    let (templates, params) = (args.cache.templates.clone(), params.tip());
    let method = Method::TipAdapter { templates, params, views: args.cache.views, correction: parts.form() };
    let adapter =
        Adapter::Tip { classifier: parts.classifier, cache: parts.cache, params, correction: parts.correction };
    args.cache.common.save(parts.output, &parts.start, method, &adapter, &parts.val)?;
    common::finish(&parts.start.gpu);
    Ok(())
}

/// Fits Tip-Adapter-F.
pub fn fit_tip_f(args: &TipF) -> Result<()> {
    let mut config = tip_f::Config::paper(args.cache.common.seed);
    config.lr = args.lr;
    config.epochs = args.epochs;
    config.initial = TipParams { alpha: args.initial_alpha, beta: args.initial_beta };
    let mut parts = args.cache.parts(None)?;
    let Start { gpu, clip, split, .. } = &parts.start;
    let bar = ui::bar(config.epochs, "training keys");
    let mut encoder = args.cache.common.pictures.encoder(clip, parts.labels.len(), None)?;
    let mut encode =
        |views: &Views| Ok(encode::encode(&mut encoder, &split.support, views, true, &mut |_| {})?.features.original);
    let fixed = if args.no_augment { Some(encode(&Views::Center)?) } else { None };
    let seed = args.cache.common.seed;
    let mut features = |epoch: usize| match &fixed {
        Some(fixed) => Ok(fixed.clone()),
        // Views numbered after those that made the keys.
        None => encode(&Views::Random { augment: Augment::TIP, count: 1, first: args.cache.views + epoch, seed }),
    };
    let val = (&parts.val.features.original[..], &parts.val.labels()[..]);
    let trained =
        tip_f::train(gpu, &parts.classifier, &parts.cache, &config, &parts.labels, &mut features, val, &mut |p| {
            bar.set_position(p.epoch as u64);
            ui::show(&bar, &format!("Tip-Adapter-F loss {:.3}", p.loss));
            Ok(())
        })?;
    bar.finish_and_clear();
    match trained.val_accuracy {
        Some(right) => note!("kept epoch {} of {}: {:.1} % right", trained.epoch, config.epochs, 100.0 * right),
        None => note!("no pictures are left to choose an epoch on: kept the last"),
    }
    let found = search::choose(gpu, &parts.classifier, &trained.cache, &parts.val.features, val.1)?;
    parts.cache = trained.cache;
    let params = match &found {
        Some(_) => Parts::found(found.as_ref()),
        None => TipXParams { alpha: config.initial.alpha, beta: config.initial.beta, gamma: 0.0 },
    };
    parts.note("tip-adapter-f", params);
    let (templates, views, epoch) = (args.cache.templates.clone(), args.cache.views, trained.epoch);
    let params = params.tip();
    let method = Method::TipAdapterF { templates, params, views, config, epoch };
    let Parts { output, classifier, cache, start, val, .. } = parts;
    let adapter = Adapter::Tip { classifier, cache, params, correction: None };
    args.cache.common.save(output, &start, method, &adapter, &val)?;
    common::finish(&start.gpu);
    Ok(())
}

/// Fits Tip-X or Tip-X++.
pub fn fit_tip_x(args: &TipX) -> Result<()> {
    let set = args.alpha.zip(args.beta).zip(args.gamma);
    let parts = args.cache.parts(args.correction.as_ref())?;
    let gpu = &parts.start.gpu;
    let (keys, labels) = (&parts.keys.original, &parts.labels);
    let tip_x = tip_x::TipX::new(gpu, &parts.classifier, parts.cache.clone(), keys, labels)?;
    let val = &parts.val;
    let found = match set {
        None => search::choose_tip_x(gpu, &parts.classifier, &tip_x, &val.features, &val.labels())?,
        Some(_) => None,
    };
    let params = match set {
        Some(((alpha, beta), gamma)) => TipXParams { alpha, beta, gamma },
        None => Parts::found(found.as_ref().map(|(found, _)| found)),
    };
    // ψ's range: frozen on validation pictures, or on the keys where there are none.
    let psi = match found {
        Some((_, psi)) => psi,
        None if !val.items.is_empty() => tip_x.range(gpu, &parts.classifier, &val.features)?,
        None => tip_x.range(gpu, &parts.classifier, &parts.keys)?,
    };
    parts.note("tip-x", params);
    let templates = args.cache.templates.clone();
    let method = Method::TipX { templates, params, psi, views: args.cache.views, correction: parts.form() };
    let adapter = Adapter::TipX {
        classifier: parts.classifier,
        tip_x: Box::new(tip_x),
        params,
        psi,
        correction: parts.correction,
    };
    args.cache.common.save(parts.output, &parts.start, method, &adapter, &parts.val)?;
    common::finish(&parts.start.gpu);
    Ok(())
}
