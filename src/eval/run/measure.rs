//! What is measured: accuracy, and beside it PiNI's noise, and how alike pictures of different classes are.

use std::collections::HashMap;
use std::time::Instant;

use base64::Engine;
use sha2::{Digest, Sha256};

use super::{BLOCK, Run, Shot, Watch, features_by};
use crate::adapt::adapter_file::{self, Adapter, Description, Meta};
use crate::adapt::method::{Fitted, Noise};
use crate::adapt::similarity::{self, Similarities};
use crate::adapt::{Learned, calibrate, names};
use crate::clip::{Features, PixelNoise};
use crate::data::Item;
use crate::encode::source::Corrected;
use crate::encode::{RowId, Source, Tower, Views};
use crate::eval::journal::Overlap;
use crate::eval::score::Score;
use crate::eval::trust::Trusting;
use crate::eval::{Detail, NoiseMap, NoisyPicture, Record, Task};
use crate::{Error, Result, hex};

/// Test pictures whose similarities are measured: their pairs grow with the square.
const OVERLAP: usize = 4096;
/// Pictures whose noise on pixels is kept.
const NOISY_PICTURES: usize = 4;
/// Classes whose mean image noise is kept.
const NOISY_CLASSES: usize = 24;

/// Gives the cosine of each of these features with the most similar known picture.
type Near<'n> = dyn Fn(&Features) -> Result<Vec<f32>> + 'n;

impl Run<'_> {
    /// Classifies the test pictures by what was learned in so many seconds.
    pub(super) fn measure(
        &mut self,
        task: Task,
        shot: &Shot,
        (learned, fit_seconds): (Learned, f64),
        watch: &mut dyn Watch,
    ) -> Result<(Record, Detail)> {
        let Learned { method, fitted, search, losses, calibration, val_accuracy, .. } = learned;
        let temperature = calibration.temperature;
        let (clip, classes) = (self.clip, self.dataset.classes.len());
        let tower = fitted.tower();
        if tower != Tower::Noisy {
            self.source.provide(tower, &self.test_items, &self.test, watch)?;
        }
        let start = Instant::now();
        watch.begin(task.method.info().title, self.test.len());
        let mut score = Score::new(classes, self.dataset.subset.as_deref(), temperature);
        let mut trusting = Trusting::new(&calibration, classes);
        let near = |features: &Features| match &calibration.known {
            Some(known) => known.similarity(&clip.gpu, features.affinity()),
            None => Ok(Vec::new()),
        };
        for (block, rows) in self.test.chunks(BLOCK).enumerate() {
            let first = block * BLOCK;
            let items = &self.test_items[first..first + rows.len()];
            let features = features_by(&mut self.source, &*fitted, (items, rows))?;
            let logits = fitted.logits(clip, &features, first)?;
            let labels = &self.test_labels[first..first + rows.len()];
            score.add(&logits, labels);
            trusting.add(&logits, labels);
            if !self.foreign.is_empty() {
                trusting.compare(false, &logits, &near(&features)?)?;
            }
            watch.at(first + rows.len())?;
        }
        watch.end();
        let predict_seconds = start.elapsed().as_secs_f64();
        let peak_bytes = clip.gpu.peak_bytes();
        // Among some of the classes the evidence on all of them says nothing.
        let (coverage, foreign) = match self.dataset.subset {
            Some(_) => (Vec::new(), Vec::new()),
            None => {
                self.compare_foreign(&*fitted, &mut trusting, &near, watch)?;
                trusting.finish()?
            }
        };
        let compared = match self.protocol.compares_corrections() {
            true => self.alike(tower, watch)?,
            false => None,
        };
        let (noise, facts, evidence) = (self.noise(&*fitted)?, fitted.facts(), calibration.counts);
        if self.protocol.adapters {
            let description = Description::new(method.info().name, &*fitted)?;
            let meta = Meta::new(clip, &self.dataset.classes, description, task.shots.number(), task.seed)?;
            let path = self.journal.adapter(task);
            let folder = path.parent().unwrap_or(&path);
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
            let meta = meta.calibrated(&calibration).with_pictures(names::of_keys(&shot.support));
            adapter_file::save(&path, clip, &meta, &Adapter::Method(fitted, calibration))?;
        }
        let record = Record {
            dataset: self.dataset.name.clone(),
            task,
            accuracy: score.correct as f64 / self.test.len() as f64,
            correct: score.correct,
            test: self.test.len(),
            support: shot.support.len(),
            val: shot.val.len(),
            val_accuracy,
            alpha: facts.alpha,
            beta: facts.beta,
            gamma: facts.gamma,
            epoch: facts.epoch,
            temperature,
            calibration_error: score.reliability.error(),
            calibration_error_fitted: score.fitted.as_ref().map(calibrate::Reliability::error),
            log_loss: score.reliability.mean_log_loss(),
            log_loss_fitted: score.fitted.as_ref().map(calibrate::Reliability::mean_log_loss),
            evidence,
            coverage,
            foreign,
            overlap: compared.map(|(overlap, _)| overlap),
            feature_variance: compared.map(|(_, variance)| variance),
            fit_seconds,
            predict_seconds,
            peak_bytes,
            data: shot.data.clone(),
        };
        let detail = Detail {
            predicted: score.predicted,
            confidence: score.confidence,
            reliability: score.reliability,
            reliability_fitted: score.fitted,
            search,
            losses,
            noise,
            support: shot.support.iter().map(|item| (item.path.clone(), item.label)).collect(),
        };
        Ok((record, detail))
    }

    /// Compares pictures of no class with the test pictures.
    pub(super) fn compare_foreign(
        &mut self,
        fitted: &dyn Fitted,
        trusting: &mut Trusting<'_>,
        near: &Near<'_>,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        if self.foreign.is_empty() || !trusting.some() {
            return Ok(());
        }
        let (items, rows): (Vec<Item>, Vec<RowId>) = self.foreign.iter().cloned().unzip();
        if fitted.tower() != Tower::Noisy {
            self.source.provide(fitted.tower(), &items, &rows, watch)?;
        }
        for (block, (rows, items)) in rows.chunks(BLOCK).zip(items.chunks(BLOCK)).enumerate() {
            let features = features_by(&mut self.source, fitted, (items, rows))?;
            let logits = fitted.logits(self.clip, &features, block * BLOCK)?;
            trusting.compare(true, &logits, &near(&features)?)?;
        }
        Ok(())
    }

    /// Learned noise, that of image features by class over the first test pictures.
    pub(super) fn noise(&mut self, fitted: &dyn Fitted) -> Result<Option<NoiseMap>> {
        if let Some(noise) = fitted.pixels() {
            return Ok(Some(NoiseMap { pictures: self.noisy_pictures(noise)?, ..NoiseMap::default() }));
        }
        let d = self.clip.config.embedding;
        let count = self.test.len().min(BLOCK);
        // Spread over the test set, which is sorted by class as a rule.
        let which: Vec<usize> = (0..count).map(|i| i * self.test.len() / count).collect();
        let rows: Vec<RowId> = which.iter().map(|i| self.test[*i]).collect();
        let features = self.source.rows(&rows)?.original.into();
        let Some(noise) = fitted.noise(self.clip, &features)? else { return Ok(None) };
        let Noise { tokens, text_mean, text_spread, image_mean, image_spread } = noise;
        let mut map = NoiseMap { tokens, text_mean, text_spread, ..NoiseMap::default() };
        if image_mean.is_empty() {
            return Ok(Some(map));
        }
        let own: Vec<u32> = which.iter().map(|i| self.test_labels[*i]).collect();
        let mut labels = own.clone();
        labels.sort_unstable();
        labels.dedup();
        labels.truncate(NOISY_CLASSES);
        for label in labels {
            let of_class: Vec<usize> = (0..count).filter(|i| own[*i] == label).collect();
            let average = |all: &[f32]| -> Vec<f32> {
                let sum = |at: usize| of_class.iter().map(|i| f64::from(all[i * d + at])).sum::<f64>();
                (0..d).map(|at| (sum(at) / of_class.len() as f64) as f32).collect()
            };
            map.classes.push(self.dataset.classes[label as usize].clone());
            map.image_mean.extend(average(&image_mean));
            map.image_spread.extend(average(&image_spread));
        }
        Ok(Some(map))
    }

    /// Some test pictures, each of another class where there are so many, with the noise that their pixels get.
    fn noisy_pictures(&mut self, noise: &PixelNoise) -> Result<Vec<NoisyPicture>> {
        let mut chosen: Vec<Item> = Vec::new();
        for item in &self.test_items {
            if chosen.len() < NOISY_PICTURES && chosen.iter().all(|other| other.label != item.label) {
                chosen.push(item.clone());
            }
        }
        let pixels = self.source.pixels(&chosen, &Views::Center)?;
        let (mean, spread) = noise.of_pixels(self.clip, &pixels)?;
        let (size, normalize) = (self.clip.preprocess.size, &self.clip.preprocess.normalize);
        let (area, louder) = (size * size, NoisyPicture::LOUDER);
        let mut all = Vec::with_capacity(chosen.len());
        for (number, item) in chosen.iter().enumerate() {
            let mut samples = Vec::with_capacity(4 * 3 * area);
            for panel in 0..4 {
                for (at, channel) in (0..area).flat_map(|at| (0..3).map(move |channel| (at, channel))) {
                    let i = (number * 3 + channel) * area + at;
                    let (offset, deviation) = (normalize.mean[channel], normalize.std[channel]);
                    let share = match panel {
                        0 => pixels[i] * deviation + offset,
                        1 => 0.5 + louder * mean[i] * deviation,
                        2 => louder * spread[i] * deviation,
                        _ => (pixels[i] + mean[i]) * deviation + offset,
                    };
                    samples.push((255.0 * share).round().clamp(0.0, 255.0) as u8);
                }
            }
            let samples = base64::engine::general_purpose::STANDARD.encode(samples);
            all.push(NoisyPicture { class: self.dataset.classes[item.label].clone(), size, samples });
        }
        Ok(all)
    }

    /// Similarities of test pictures, or of some of very many, by the plain tower and, with a correction, by the corrected one. None
    /// where no class has two pictures, or there is but one class.
    fn similarities(&mut self, towers: &[Tower], watch: &mut dyn Watch) -> Result<Option<Vec<Similarities>>> {
        let count = self.test.len().min(OVERLAP);
        let which: Vec<usize> = (0..count).map(|i| i * self.test.len() / count).collect();
        let rows: Vec<RowId> = which.iter().map(|i| self.test[*i]).collect();
        let labels: Vec<u32> = which.iter().map(|i| self.test_labels[*i]).collect();
        let mut per_class: HashMap<u32, usize> = HashMap::new();
        labels.iter().for_each(|label| *per_class.entry(*label).or_default() += 1);
        if per_class.len() < 2 || per_class.values().all(|n| *n < 2) {
            return Ok(None);
        }
        watch.begin("measuring overlap", 100);
        let mut all = Vec::with_capacity(towers.len());
        for tower in towers {
            let features = self.source.rows_of(*tower, &rows)?;
            let (gpu, width) = (&self.clip.gpu, self.clip.config.embedding);
            all.push(similarity::measure(gpu, features.affinity(), &labels, width, &mut |_| {})?);
        }
        watch.end();
        Ok(Some(all))
    }

    /// Overlap and variance of test pictures' features by a tower, measured once.
    fn alike(&mut self, tower: Tower, watch: &mut dyn Watch) -> Result<Option<(f64, f64)>> {
        if let Some(there) = self.alike.get(&tower) {
            return Ok(*there);
        }
        let measured = self.similarities(&[tower], watch)?;
        let alike = measured.and_then(|all| all.first().map(|s| (s.overlap(), s.variance)));
        self.alike.insert(tower, alike);
        Ok(alike)
    }

    /// Measures how much alike test pictures of different classes are, unless that is there already.
    pub(super) fn overlap(&mut self, corrected: Option<Corrected<'_>>, watch: &mut dyn Watch) -> Result<()> {
        let mut hasher = Sha256::new();
        self.test.iter().for_each(|row| hasher.update(row));
        let pictures = hex(&hasher.finalize());
        let of = format!("{pictures} {}", corrected.map_or("", |c| c.digest));
        // What was measured with a correction says all that measuring without one would.
        let enough = |there: &str| there == of || corrected.is_none() && there.starts_with(&pictures);
        if self.journal.overlap()?.is_some_and(|there| enough(&there.of)) {
            return Ok(());
        }
        let towers = [Tower::Plain, Tower::Corrected];
        let towers = if corrected.is_some() { &towers[..] } else { &towers[..1] };
        let Some(mut all) = self.similarities(towers, watch)? else {
            watch.note("overlap is not measured: no class has two test pictures");
            return Ok(());
        };
        let after = (all.len() > 1).then(|| all.pop()).flatten();
        match all.pop() {
            Some(before) => self.journal.keep_overlap(&Overlap { of, before, after }),
            None => Ok(()),
        }
    }
}
