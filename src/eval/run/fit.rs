//! Learning one method from one choice of pictures.

use super::{Run, Shot, Tower};
use crate::adapt::pini::{self, Pini, Training, checkpoint};
use crate::adapt::search::{self, Found, Grid};
use crate::adapt::tip::{self, Cache, TipParams};
use crate::adapt::tip_f;
use crate::adapt::tip_x::{Psi, TipX, TipXParams};
use crate::clip::{Features, ImageEncoder};
use crate::data::{Augment, Item};
use crate::encode::{self, Views};
use crate::eval::{How, Method, SearchMap, Task, Watch};
use crate::{Error, Result};

/// A method that has learned.
pub(super) enum Fitted {
    ZeroShot,
    Tip(Cache, TipParams),
    TipX(Box<TipX>, TipXParams, Psi),
    Pini(Box<Pini>),
}

/// What learning leaves beside the method.
#[derive(Default)]
pub(super) struct Learned {
    pub params: Option<TipXParams>,
    pub search: Option<SearchMap>,
    pub epoch: Option<usize>,
    pub losses: Vec<f32>,
}

/// Features without the corrected tower's.
pub(super) fn plain(features: &Features) -> Features {
    features.original.clone().into()
}

impl<'a> Run<'a> {
    /// The cache keys of a choice, encoded when first needed.
    pub(super) fn keys(&mut self, shot: &mut Shot<'a>, watch: &mut dyn Watch) -> Result<Features> {
        if let Some(keys) = &shot.keys {
            return Ok(keys.clone());
        }
        if shot.support.is_empty() {
            return Err(Error::data(&self.dataset.root, "none of the pictures to learn from could be decoded"));
        }
        let views = match self.protocol.how.key_views {
            0 => Views::Center,
            count => Views::Random { augment: Augment::TIP, count, first: 0, seed: shot.seed },
        };
        let features = self.view_features(Tower::Whole, &shot.support, &views, watch)?;
        let keys = tip::keys_of_pictures(&self.clip.gpu, &features, views.count(), self.clip.config.embedding)?;
        shot.keys = Some(keys.clone());
        Ok(keys)
    }

    /// Learns a method.
    pub(super) fn fit(
        &mut self,
        task: Task,
        shot: &Shot<'a>,
        keys: Option<Features>,
        watch: &mut dyn Watch,
    ) -> Result<(Fitted, Learned)> {
        let Some(keys) = keys else {
            return match task.method {
                Method::Pini => self.fit_pini(task, shot, watch),
                _ => Ok((Fitted::ZeroShot, Learned::default())),
            };
        };
        let (clip, gpu) = (self.clip, self.clip.gpu.clone());
        let (classes, d) = (self.dataset.classes.len(), clip.config.embedding);
        let how = &self.protocol.how;
        let key_views = how.key_views;
        let corrected = task.method.corrected();
        let affinity = if corrected { keys.affinity() } else { &keys.original };
        let mut cache = Cache::new(&gpu, affinity, &shot.support_labels, classes, d)?;
        let val = if corrected { shot.val.clone() } else { plain(&shot.val) };
        let mut learned = Learned::default();
        if matches!(task.method, Method::TipX | Method::TipXPlus) {
            let tip_x = TipX::new(&gpu, &self.classifier, cache, &keys.original, &shot.support_labels)?;
            let with_keys = if corrected { keys.clone() } else { plain(&keys) };
            // ψ's range: frozen on validation pictures, or on the keys where there are none.
            let psi =
                tip_x.range(&gpu, &self.classifier, if shot.val_labels.is_empty() { &with_keys } else { &val })?;
            let grid = how.grid(&self.dataset.name, true)?;
            let params =
                self.search(search::Method::TipX(&tip_x, psi), &grid, (&val, &shot.val_labels), &mut learned, watch)?;
            return Ok((Fitted::TipX(Box::new(tip_x), params, psi), learned));
        }
        if task.method == Method::TipAdapterF {
            let config = tip_f::Config { seed: task.seed, ..how.tip_f.clone() };
            let views = self.training_views(&shot.support, Augment::TIP, shot.seed, watch)?;
            watch.begin(&format!("{}: training Tip-Adapter-F", self.dataset.title), config.epochs);
            let classifier = self.classifier.clone();
            let encoder = &mut self.side(Tower::Plain).encoder;
            let mut features = |epoch: usize| match &views {
                Some((features, count)) => encode::draw_views(features, *count, d, shot.seed, epoch),
                // Numbered after the views that made the keys.
                None => fresh_views(encoder, &shot.support, Augment::TIP, shot.seed, key_views + epoch),
            };
            let (val, labels) = ((&val.original[..], &shot.val_labels[..]), &shot.support_labels);
            let mut losses = Vec::new();
            let trained = tip_f::train(&gpu, &classifier, &cache, &config, labels, &mut features, val, &mut |p| {
                losses.push(p.loss);
                watch.at(p.epoch)
            })?;
            watch.end();
            learned.epoch = Some(trained.epoch);
            learned.losses = losses;
            cache = trained.cache;
        }
        let grid = how.grid(&self.dataset.name, false)?;
        let params = self.search(search::Method::Tip(&cache), &grid, (&val, &shot.val_labels), &mut learned, watch)?;
        Ok((Fitted::Tip(cache, params.tip()), learned))
    }

    /// Searches the grid on validation pictures; the authors' starting point where there are none.
    fn search(
        &self,
        method: search::Method<'_>,
        grid: &Grid,
        (val, labels): (&Features, &[u32]),
        learned: &mut Learned,
        watch: &mut dyn Watch,
    ) -> Result<TipXParams> {
        if labels.is_empty() {
            let TipParams { alpha, beta } = self.protocol.how.tip_f.initial;
            let params = TipXParams { alpha, beta, gamma: 0.0 };
            learned.params = Some(params);
            return Ok(params);
        }
        watch.begin(&format!("{}: searching α and β", self.dataset.title), 100);
        let mut stopped = Ok(());
        let found = search::search(&self.clip.gpu, &self.classifier, method, val, labels, grid, &mut |share| {
            if stopped.is_ok() {
                stopped = watch.at((100.0 * share) as usize);
            }
        })?;
        watch.end();
        stopped?;
        learned.params = Some(found.params);
        learned.search = Some(map(grid, &found, labels.len()));
        Ok(found.params)
    }

    /// Features of precomputed views for training (or of the pictures as they are), and their number; none where training takes
    /// fresh ones.
    fn training_views(
        &mut self,
        support: &[&Item],
        augment: Augment,
        seed: u64,
        watch: &mut dyn Watch,
    ) -> Result<Option<(Vec<f32>, usize)>> {
        if !self.protocol.how.augment {
            return Ok(Some((self.view_features(Tower::Whole, support, &Views::Center, watch)?.original, 1)));
        }
        let count = self.protocol.how.views;
        if count == 0 {
            return Ok(None);
        }
        // Tip-Adapter-F's are the first of those that made the keys, which are there already.
        let tower = if augment == Augment::TIP { Tower::Whole } else { Tower::Plain };
        let views = Views::Random { augment, count, first: 0, seed };
        Ok(Some((self.view_features(tower, support, &views, watch)?.original, count)))
    }

    fn fit_pini(&mut self, task: Task, shot: &Shot<'a>, watch: &mut dyn Watch) -> Result<(Fitted, Learned)> {
        let How { pini, views, augment, .. } = &self.protocol.how;
        let config = pini::Config { template: self.dataset.words.clone(), seed: task.seed, ..pini.clone() };
        let seen = if *augment { format!("{views} views") } else { "no views".into() };
        let classes = &self.dataset.classes;
        if shot.support.is_empty() {
            return Err(Error::data(&self.dataset.root, "none of the pictures to learn from could be decoded"));
        }
        let drawn = self.training_views(&shot.support, Augment::PINI, task.seed, watch)?;
        let run = checkpoint::Run::new(self.clip, classes, &config, &format!("{} with {seen}", shot.data))?;
        let saved = self.journal.checkpoint(task);
        let start = if saved.is_file() { Some(checkpoint::load(&saved, self.clip, &run)?) } else { None };
        let batch = config.batch.min(shot.support.len());
        let steps = shot.support.len() / batch * config.epochs;
        watch.begin(&format!("{}: training PiNI", self.dataset.title), steps);
        let (clip, encoder) = (self.clip, &mut self.side(Tower::Plain).encoder);
        let mut features = |epoch: usize| match &drawn {
            Some((features, count)) => encode::draw_views(features, *count, clip.config.embedding, task.seed, epoch),
            None => fresh_views(encoder, &shot.support, Augment::PINI, task.seed, epoch),
        };
        let mut losses = Vec::new();
        let mut keep = |state: &pini::State| {
            losses.clone_from(&state.losses);
            checkpoint::save(&saved, clip, &run, state)
        };
        let training = Training { start, each_epoch: Some(&mut keep) };
        let pini = pini::train(clip, classes, &config, &shot.support_labels, training, &mut features, &mut |p| {
            watch.at(p.step)
        })?;
        watch.end();
        Ok((Fitted::Pini(Box::new(pini)), Learned { losses, ..Learned::default() }))
    }
}

/// Features `[pictures, D]` of a fresh random view of each picture.
fn fresh_views(
    encoder: &mut ImageEncoder<'_>,
    items: &[&Item],
    augment: Augment,
    seed: u64,
    first: usize,
) -> Result<Vec<f32>> {
    let items: Vec<Item> = items.iter().map(|item| (*item).clone()).collect();
    let views = Views::Random { augment, count: 1, first, seed };
    Ok(encode::encode(encoder, &items, &views, true, &mut |_| {})?.features.original)
}

/// The search as a map over α and β, the best over γ.
fn map(grid: &Grid, found: &Found, of: usize) -> SearchMap {
    let (na, nb) = (grid.alphas.len(), grid.betas.len());
    let mut correct = vec![0; na * nb];
    for (i, count) in found.counts.iter().enumerate() {
        let (a, b, _) = grid.at(i);
        correct[b * na + a] = count.max(&correct[b * na + a]).to_owned();
    }
    SearchMap { alphas: grid.alphas.clone(), betas: grid.betas.clone(), correct, of }
}
