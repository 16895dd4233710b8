//! What the demonstration runs on one set, number of shots and seed.

use std::time::Instant;

use anyhow::Result;
use indicatif::ProgressBar;
use tipi::adapt::pini::{self, Pini, Training};
use tipi::adapt::tip::{self, Cache, TipParams};
use tipi::adapt::tip_f;
use tipi::adapt::tip_x::{TipX, TipXParams};
use tipi::adapt::zero_shot::Classifier;
use tipi::adapt::{overlap, search};
use tipi::clip::{Clip, Features, ImageEncoder};
use tipi::data::{Augment, Folder, Item};
use tipi::encode::{self, Encoded, Views};

use super::{Args, TEMPLATE};
use crate::{common, ui};

/// Everything that one set, number of shots and seed need.
pub struct Run<'a> {
    pub clip: &'a Clip,
    pub folder: &'a Folder,
    /// Features of all pictures of the set, encoded once, by the plain and the corrected tower.
    pub all: &'a Encoded,
    pub shots: usize,
    pub seed: u64,
    /// The set's name.
    pub set: &'a str,
}

/// Logits of the test pictures under one method.
pub struct Outcome {
    pub method: &'static str,
    pub logits: Vec<f32>,
    pub seconds: f64,
}

/// Trains the overlap correction on the generic pictures whose concepts are not among `tested`, the names of the classes
/// that the demonstration tests.
pub fn correction(
    clip: &Clip,
    folder: &Folder,
    tested: &[String],
    epochs: usize,
    bar: &ProgressBar,
) -> Result<overlap::Correction> {
    let (pictures, names) = folder.without(tested);
    // The paper's factor for training without labels. With its 0.03 for training with them overlap falls more on `shifted`,
    // but rises on `novel`.
    let config = overlap::Config { epochs, scale: 0.1, ..overlap::Config::paper(1) };
    let start = bar.position();
    Ok(common::train_correction(clip, &pictures, names.len(), &config, &mut |p| {
        ui::show(bar, &format!("overlap correction, loss {:.2}", p.loss));
        bar.set_position(start + (100 * p.pictures / (pictures.len() * epochs)) as u64);
        Ok(())
    })?)
}

/// A share of the set, as indices into it.
struct Part<'a> {
    run: &'a Run<'a>,
    indices: Vec<usize>,
}

impl<'a> Part<'a> {
    fn new(run: &'a Run<'a>, items: &[Item]) -> Part<'a> {
        let at = |item: &Item| run.all.items.iter().position(|a| a.path == item.path);
        Part { run, indices: items.iter().filter_map(at).collect() }
    }

    /// Features from both towers.
    fn features(&self) -> tipi::Result<Features> {
        self.run.all.features.rows(&self.indices, self.run.clip.config.embedding)
    }

    fn labels(&self) -> Vec<u32> {
        self.indices.iter().map(|i| self.run.all.items[*i].label as u32).collect()
    }
}

/// Features without the corrected tower's.
fn plain(features: &Features) -> Features {
    features.original.clone().into()
}

/// Runs all methods; also gives the test pictures as indices into the set. `encoder` has the correction.
pub fn run_all(
    run: &Run<'_>,
    args: &Args,
    encoder: &mut ImageEncoder<'_>,
    bar: &ProgressBar,
) -> Result<(Vec<Outcome>, Vec<usize>)> {
    let (clip, gpu, folder, shots) = (run.clip, &run.clip.gpu, run.folder, run.shots);
    let d = clip.config.embedding;
    let names = folder.names();
    let split = tipi::data::few_shot(&folder.items, &folder.classes, &folder.root, shots, shots.min(2), run.seed)?;
    let support = Part::new(run, &split.support);
    let (val, test) = (Part::new(run, &split.val), Part::new(run, &split.test));
    let (val_labels, val, both) = (val.labels(), val.features()?, test.features()?);
    let (val_plain, test_plain) = (plain(&val), plain(&both));
    let mut outcomes = Vec::new();
    let base = bar.position();
    let say = |what: &str| {
        ui::show(bar, &format!("{} {shots}-shot: {what}", run.set));
        bar.tick();
    };
    let mut note = |method: &'static str, start: Instant, logits: Vec<f32>| {
        outcomes.push(Outcome { method, logits, seconds: start.elapsed().as_secs_f64() });
    };

    say("zero-shot");
    let start = Instant::now();
    let classifier = Classifier::new(clip, &names, &[format!("{TEMPLATE} {{}}")])?;
    note("zero-shot", start, classifier.logits(&test_plain.original, gpu)?);

    say("caches");
    let start = Instant::now();
    let views = Views::Random { augment: Augment::TIP, count: 10, first: 0, seed: run.seed };
    let encoded = encode::encode(encoder, &split.support, &views, true, &mut |_| bar.tick())?;
    let keys = tip::keys_of_pictures(gpu, &encoded.features, views.count(), d)?;
    let key_labels = encoded.labels();
    let cache = |keys: &[f32]| Cache::new(gpu, keys, &key_labels, names.len(), d);
    // The time to encode counts for each cache: a user who takes one of them has to spend it.
    let encoding = start.elapsed();
    let since = |start: Instant| start.checked_sub(encoding).unwrap_or(start);

    let start = Instant::now();
    let plain_cache = cache(&keys.original)?;
    let found = search::choose(gpu, &classifier, &plain_cache, &val_plain, &val_labels)?;
    let params = found.map_or(TipParams::INITIAL, |found| found.params.tip());
    note("tip-adapter", since(start), plain_cache.logits(gpu, &classifier, &test_plain, params)?);

    say("Tip-Adapter-F");
    let start = Instant::now();
    let mut config = tip_f::Config::paper(run.seed);
    config.initial = params;
    // Each epoch takes one of the ten views that are there already.
    let count = views.count();
    let view = |epoch: usize| -> tipi::Result<Vec<f32>> {
        let rows: Vec<usize> = (0..key_labels.len()).map(|i| i * count + epoch % count).collect();
        Ok(encoded.features.rows(&rows, d)?.original)
    };
    let trained = tip_f::train(
        gpu,
        &classifier,
        &plain_cache,
        &config,
        &key_labels,
        &mut |epoch| view(epoch),
        (&val_plain.original, &val_labels),
        &mut |_| {
            bar.tick();
            Ok(())
        },
    )?;
    let found = search::choose(gpu, &classifier, &trained.cache, &val_plain, &val_labels)?;
    let params = found.map_or(params, |found| found.params.tip());
    note("tip-adapter-f", since(start), trained.cache.logits(gpu, &classifier, &test_plain, params)?);

    say("Tip-X");
    let tip_x = |keys_cache: Cache, val: &Features, test: &Features| -> Result<Vec<f32>> {
        let tip_x = TipX::new(gpu, &classifier, keys_cache, &keys.original, &key_labels)?;
        let found = search::choose_tip_x(gpu, &classifier, &tip_x, val, &val_labels)?;
        let initial = TipXParams { alpha: TipParams::INITIAL.alpha, beta: TipParams::INITIAL.beta, gamma: 0.0 };
        let params = found.as_ref().map_or(initial, |(found, _)| found.params);
        Ok(tip_x.logits(gpu, &classifier, test, params, found.map(|(_, psi)| psi))?)
    };
    let start = Instant::now();
    let logits = tip_x(plain_cache, &val_plain, &test_plain)?;
    note("tip-x", since(start), logits);

    say("corrected caches");
    let start = Instant::now();
    let corrected = cache(keys.affinity())?;
    let found = search::choose(gpu, &classifier, &corrected, &val, &val_labels)?;
    let params = found.map_or(TipParams::INITIAL, |found| found.params.tip());
    note("tip-adapter++", since(start), corrected.logits(gpu, &classifier, &both, params)?);
    let start = Instant::now();
    let logits = tip_x(corrected, &val, &both)?;
    note("tip-x++", since(start), logits);
    bar.set_position(base + 20);

    let start = Instant::now();
    let mut config = pini::Config::paper(TEMPLATE, run.seed);
    config.lr = pini::Config::rate(clip.logit_scale);
    let per_epoch = (support.indices.len() / config.batch.min(support.indices.len())).max(1);
    config.epochs = args.epochs.min(args.max_steps.div_ceil(per_epoch)).max(1);
    let untrained = Pini::untrained(clip, &names, &config)?;
    note("pini-untrained", start, untrained.logits(gpu, &test_plain.original)?);
    let start = Instant::now();
    let features = support.features()?.original;
    let labels = support.labels();
    let mut fixed = |_| Ok(features.clone());
    let trained = pini::train(clip, &names, &config, &labels, Training::default(), &mut fixed, &mut |p| {
        ui::show(bar, &format!("{} {shots}-shot: PiNI {}/{}", run.set, p.step, p.steps));
        bar.set_position(base + 20 + (80 * p.step / p.steps) as u64);
        Ok(())
    })?;
    note("pini", start, trained.logits(gpu, &test_plain.original)?);
    bar.set_position(base + 100);
    Ok((outcomes, test.indices))
}
