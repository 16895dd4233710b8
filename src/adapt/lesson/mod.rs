//! What methods learn from: one choice of pictures, and everything that several methods make of it once.

mod epochs;
mod folds;
mod how;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

pub use self::epochs::Epochs;
pub use self::folds::{Fold, Folds};
pub use self::how::{How, JudgeBy};
use super::evidence::ENOUGH;
use super::method::{Fitted, Method, SearchMap, Settings, settled};
use super::overlap::Correction;
use super::search::{self, Grid, Searched};
use super::tip::{self, TipParams};
use super::tip_x::TipXParams;
use super::train::{Identity, Kept};
use super::zero_shot::{self, Classifier};
use crate::clip::{Clip, Features, PixelNoise};
use crate::data::{Augment, Item};
use crate::encode::{Source, Tower, Views, drawn_view};
use crate::watch::Watch;
use crate::{Error, Result};

/// The classes, and what text says of them.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// The classes by label.
    pub classes: &'a [String],
    /// Zero-shot templates, `{}` standing for the class.
    pub templates: &'a [String],
    /// PiNI's words before the class.
    pub words: &'a str,
    /// The dataset's name: Tip-Adapter has grids for some.
    pub dataset: &'a str,
}

/// A choice of pictures.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// To learn from.
    pub support: &'a [Item],
    /// To search on.
    pub val: &'a [Item],
    /// Seed of the choice, of views and of training.
    pub seed: u64,
}

/// Where a training is put down.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Whether to go on from what is there.
    pub resume: bool,
}

/// One choice of pictures, for any number of methods.
pub struct Lesson<'a> {
    clip: &'a Clip,
    texts: Texts<'a>,
    choice: Choice<'a>,
    how: &'a How,
    correction: Option<&'a Correction>,
    source: &'a mut dyn Source,
    labels: Vec<u32>,
    val_labels: Vec<u32>,
    made: Made,
    place: Option<Place>,
    settings: Option<&'a BTreeMap<String, Settings>>,
}

/// What a lesson has made of its pictures so far. Another lesson on the same choice can go on with it.
#[derive(Clone, Default)]
pub struct Made {
    classifier: Option<Classifier>,
    keys: Option<Features>,
    /// Features of all views that make the keys, from all towers that there are.
    views: Option<Arc<Features>>,
    val: Option<Features>,
    /// Un-normalised features of the support pictures as they are.
    center: Option<Features>,
    data: Option<String>,
}

impl From<Classifier> for Made {
    fn from(classifier: Classifier) -> Made {
        Made { classifier: Some(classifier), ..Made::default() }
    }
}

/// What was chosen on the evidence.
pub struct Chosen {
    /// α, β and γ.
    pub params: TipXParams,
    /// The search, where there was one.
    pub search: Option<SearchMap>,
}

fn labels(items: &[Item]) -> Vec<u32> {
    items.iter().map(|item| item.label as u32).collect()
}

impl<'a> Lesson<'a> {
    /// A lesson on a choice of pictures, which have been decoded before. `correction` is what `source` gives corrected features
    /// with; without one, methods that need one are refused.
    ///
    /// # Errors
    /// A label that is not that of a class.
    pub fn new(
        clip: &'a Clip,
        texts: Texts<'a>,
        choice: Choice<'a>,
        how: &'a How,
        (correction, source): (Option<&'a Correction>, &'a mut dyn Source),
    ) -> Result<Lesson<'a>> {
        let (support, val) = (labels(choice.support), labels(choice.val));
        for (what, labels) in [("support pictures", &support), ("validation pictures", &val)] {
            super::check_labels(what, labels, labels.len(), texts.classes.len())?;
        }
        Ok(Lesson {
            clip,
            texts,
            choice,
            how,
            correction,
            source,
            labels: support,
            val_labels: val,
            made: Made::default(),
            place: None,
            settings: None,
        })
    }

    /// The same with what another lesson on the same choice has made.
    #[must_use]
    pub fn with(self, made: Made) -> Lesson<'a> {
        Lesson { made, ..self }
    }

    /// What was made of the pictures.
    pub fn into_made(self) -> Made {
        self.made
    }

    /// Makes what methods share and this one needs, so that its own time can be told from that.
    ///
    /// # Errors
    /// As [`Lesson::keys`].
    pub fn prepare(&mut self, method: &dyn Method, watch: &mut dyn Watch) -> Result<()> {
        let needs = method.info().needs;
        if needs.templates {
            self.classifier(watch)?;
        }
        if needs.keys {
            self.keys(needs.correction, watch)?;
        }
        self.val(needs.correction, watch).map(drop)
    }

    /// The settings of methods by name, where one is chosen among several; defaults for those that are not there.
    #[must_use]
    pub fn with_settings(self, settings: &'a BTreeMap<String, Settings>) -> Lesson<'a> {
        Lesson { settings: Some(settings), ..self }
    }

    /// The settings of a method that is tried among others.
    ///
    /// # Errors
    /// As [`settled`].
    pub fn settings_of(&self, method: &dyn Method) -> Result<Settings> {
        let given = self.settings.and_then(|all| all.get(method.info().name));
        settled(method, given.unwrap_or(&Settings::new()))
    }

    /// The same pictures to learn from, with others to validate on.
    pub fn validated_on<'l>(&'l mut self, val: &'l [Item]) -> Lesson<'l>
    where
        'a: 'l,
    {
        let Made { classifier, keys, views, center, .. } = self.made.clone();
        let made = Made { classifier, keys, views, center, ..Made::default() };
        Lesson {
            clip: self.clip,
            texts: self.texts,
            choice: Choice { val, ..self.choice },
            how: self.how,
            correction: self.correction,
            source: self.source,
            labels: self.labels.clone(),
            val_labels: labels(val),
            made,
            place: None,
            settings: self.settings,
        }
    }

    /// Where the next training is put down; none where it is lost when it stops.
    pub fn keep_at(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// The model.
    pub fn clip(&self) -> &'a Clip {
        self.clip
    }

    /// The classes and their texts.
    pub fn texts(&self) -> Texts<'a> {
        self.texts
    }

    /// How pictures are seen.
    pub fn how(&self) -> &'a How {
        self.how
    }

    /// The pictures.
    pub fn choice(&self) -> Choice<'a> {
        self.choice
    }

    /// Un-normalised features of pictures by the tower that all methods share.
    ///
    /// # Errors
    /// What the source gives.
    pub fn features(&mut self, items: &[Item], views: &Views, watch: &mut dyn Watch) -> Result<Features> {
        if items.is_empty() {
            return Ok(Features::default());
        }
        self.source.features(self.tower(), items, views, watch)
    }

    /// Seed of views and of training.
    pub fn seed(&self) -> u64 {
        self.choice.seed
    }

    /// The overlap correction.
    ///
    /// # Errors
    /// There is none.
    pub fn correction(&self) -> Result<&'a Correction> {
        self.correction.ok_or_else(|| Error::invalid("the method needs an overlap correction, and there is none"))
    }

    /// Labels of the support pictures.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Labels of the validation pictures.
    pub fn val_labels(&self) -> &[u32] {
        &self.val_labels
    }

    /// The zero-shot classifier.
    ///
    /// # Errors
    /// As [`Classifier::beside_pictures`].
    pub fn classifier(&mut self, watch: &mut dyn Watch) -> Result<Classifier> {
        if let Some(classifier) = &self.made.classifier {
            return Ok(classifier.clone());
        }
        let Texts { classes, templates, .. } = self.texts;
        let (classifier, unclear) = Classifier::beside_pictures(self.clip, classes, templates)?;
        unclear.iter().for_each(|reason| watch.note(reason));
        Ok(self.made.classifier.insert(classifier).clone())
    }

    /// Says what text cannot tell apart under these templates, where [`Lesson::classifier`] has not said so.
    ///
    /// # Errors
    /// A tokenizer that fails.
    pub fn note_unclear(&self, templates: &[String], watch: &mut dyn Watch) -> Result<()> {
        if self.made.classifier.is_none() {
            zero_shot::unclear(self.clip, self.texts.classes, templates)?.iter().for_each(|reason| watch.note(reason));
        }
        Ok(())
    }

    /// The tower of features that all methods share.
    fn tower(&self) -> Tower {
        if self.correction.is_some() { Tower::Corrected } else { Tower::Plain }
    }

    fn some_support(&self) -> Result<()> {
        match self.labels.is_empty() {
            true => Err(Error::invalid("there are no pictures to learn from, or none of them could be decoded")),
            false => Ok(()),
        }
    }

    /// Normalised cache keys `[N, D]` of the support pictures, those of the corrected tower among them where `corrected`.
    ///
    /// # Errors
    /// No pictures; `corrected` without a correction; what the source gives.
    pub fn keys(&mut self, corrected: bool, watch: &mut dyn Watch) -> Result<Features> {
        if self.made.keys.is_none() {
            let (features, views) = self.key_views(watch)?;
            let width = self.clip.config.embedding;
            self.made.keys = Some(tip::keys_of_pictures(&self.clip.gpu, &features, views, width)?);
        }
        self.of_tower(self.made.keys.clone(), corrected)
    }

    /// Un-normalised features `[N, D]` of the validation pictures, those of the corrected tower among them where `corrected`.
    ///
    /// # Errors
    /// As [`Lesson::keys`], but there may be no pictures.
    pub fn val(&mut self, corrected: bool, watch: &mut dyn Watch) -> Result<Features> {
        if self.made.val.is_none() {
            let features = match self.choice.val.is_empty() {
                true => Features { original: Vec::new(), adapted: self.correction.map(|_| Vec::new()) },
                false => self.source.features(self.tower(), self.choice.val, &Views::Center, watch)?,
            };
            self.made.val = Some(features);
        }
        self.of_tower(self.made.val.clone(), corrected)
    }

    /// Un-normalised features of the validation pictures as what has learned takes them.
    ///
    /// # Errors
    /// As [`Lesson::val`].
    pub fn val_for(&mut self, fitted: &dyn Fitted, watch: &mut dyn Watch) -> Result<Features> {
        match self.own_features(fitted, self.choice.val, watch)? {
            Some(features) => Ok(features),
            None => self.val(fitted.tower() == Tower::Corrected, watch),
        }
    }

    /// Features of pictures that only what has learned takes; none where those serve that are made once for all methods.
    fn own_features(&mut self, fitted: &dyn Fitted, items: &[Item], watch: &mut dyn Watch) -> Result<Option<Features>> {
        match (fitted.pixels(), fitted.tower()) {
            (Some(noise), _) => self.noisy(noise, items, watch).map(Some),
            (None, Tower::Unprojected) if items.is_empty() => Ok(Some(Features::default())),
            (None, tower @ Tower::Unprojected) => self.source.features(tower, items, &Views::Center, watch).map(Some),
            _ => Ok(None),
        }
    }

    /// Un-normalised features `[n, rows·D]` of pictures with this noise on their pixels.
    ///
    /// # Errors
    /// As [`Source::noisy`].
    pub fn noisy(&mut self, noise: &PixelNoise, items: &[Item], watch: &mut dyn Watch) -> Result<Features> {
        match items.is_empty() {
            true => Ok(Features::default()),
            false => self.source.noisy(noise, items, &Views::Center, watch),
        }
    }

    /// Normalised pixels `[n, 3, R, R]` of the support pictures with these numbers in an epoch of training: of fresh random views,
    /// of one of so many views, or of the pictures as they are.
    ///
    /// # Errors
    /// As [`Source::pixels`]; a number of a picture that is not there.
    pub fn epoch_pixels(&mut self, augment: Augment, epoch: usize, which: &[usize]) -> Result<Vec<f32>> {
        let Choice { support, seed, .. } = self.choice;
        let item = |i: &usize| {
            let none = || Error::invalid(format!("picture {i} of {}", support.len()));
            support.get(*i).cloned().ok_or_else(none)
        };
        let items = which.iter().map(item).collect::<Result<Vec<Item>>>()?;
        let view = |first: usize| Views::Random { augment, count: 1, first, seed };
        match (self.how.augment, self.how.views) {
            (false, _) => self.source.pixels(&items, &Views::Center),
            (true, 0) => self.source.pixels(&items, &view(epoch)),
            (true, views) => {
                let mut all = Vec::new();
                for (item, number) in items.iter().zip(which) {
                    let drawn = view(drawn_view(seed, *number, epoch, views));
                    all.extend(self.source.pixels(std::slice::from_ref(item), &drawn)?);
                }
                Ok(all)
            }
        }
    }

    /// Un-normalised features `[N, views, D]` of all views that make the cache keys, and the number of views.
    ///
    /// # Errors
    /// As [`Lesson::keys`].
    pub fn key_views(&mut self, watch: &mut dyn Watch) -> Result<(Arc<Features>, usize)> {
        self.some_support()?;
        let views = self.how.of_keys(self.choice.seed);
        let features = match &self.made.views {
            Some(features) => features.clone(),
            None => {
                let features = self.source.features(self.tower(), self.choice.support, &views, watch)?;
                self.made.views.insert(Arc::new(features)).clone()
            }
        };
        Ok((features, views.count()))
    }

    fn of_tower(&self, features: Option<Features>, corrected: bool) -> Result<Features> {
        let features = features.unwrap_or_default();
        if corrected {
            self.correction()?;
            return Ok(features);
        }
        Ok(features.original.into())
    }

    /// What gives the support pictures' features in each epoch of training, and the labels: of fresh random views, of views drawn
    /// from those encoded beforehand, or of the pictures as they are; by the plain tower or up to its projection. Fresh ones are
    /// numbered from `first`, so that they are no views that were seen otherwise.
    ///
    /// # Errors
    /// As [`Lesson::keys`].
    pub fn epochs(
        &mut self,
        (augment, first): (Augment, usize),
        tower: Tower,
        watch: &mut dyn Watch,
    ) -> Result<(Vec<u32>, Epochs<'_>)> {
        self.some_support()?;
        let Choice { support, seed, .. } = self.choice;
        let How { augment: augmented, views, key_views, .. } = *self.how;
        let fixed = match (augmented, views) {
            (true, 0) => None,
            (false, _) => {
                // Where nothing but the plain tower is asked for, the one that all share serves.
                let tower = if tower == Tower::Plain { self.tower() } else { tower };
                Some((self.source.features(tower, support, &Views::Center, watch)?.original, 1))
            }
            (true, count) => {
                // Where keys are made of the same views, they are there already.
                let shared = tower == Tower::Plain && augment == Augment::TIP && count <= key_views;
                let tower = if shared { self.tower() } else { tower };
                let views = Views::Random { augment, count, first: 0, seed };
                Some((self.source.features(tower, support, &views, watch)?.original, count))
            }
        };
        Ok((self.labels.clone(), Epochs::new(fixed, self.source, (support, tower), (augment, first, seed))))
    }

    /// Where a training of `method` is put down, and what tells it from others.
    ///
    /// # Errors
    /// As [`Identity::new`]; a picture that cannot be read.
    pub fn kept(&mut self, method: &dyn Method, settings: &impl Serialize) -> Result<Option<Kept>> {
        let Some(Place { path, resume }) = self.place.clone() else { return Ok(None) };
        if self.made.data.is_none() {
            let (support, val) = (self.source.digest(self.choice.support)?, self.source.digest(self.choice.val)?);
            self.made.data = Some(format!("{support} {val}"));
        }
        let data = format!("{} with {}", self.made.data.as_deref().unwrap_or_default(), self.how.describe());
        let identity = Identity::new(method.info().name, self.clip, self.texts.classes, settings, data)?;
        Ok(Some(Kept::new(&path, identity, resume)))
    }

    /// Whether there are so few validation pictures that the support pictures have to speak as well.
    pub fn thin(&self) -> bool {
        self.how.judge_by == JudgeBy::LeftOut && self.val_labels.len() < ENOUGH
    }

    /// Chooses α, β and, with a divergence, γ over the grid: those with which most of the evidence is right. That is the validation
    /// pictures by `searched`; where they are few, the pictures of each of `folds` by what was made without them as well, and a
    /// picture more must then be right for what lies far from `initial`. `initial` where there is no evidence.
    ///
    /// # Errors
    /// As [`search::search`].
    pub fn search(
        &mut self,
        searched: Searched<'_>,
        folds: &[(Searched<'_>, &Fold)],
        (corrected, initial): (bool, TipParams),
        watch: &mut dyn Watch,
    ) -> Result<Chosen> {
        let TipParams { alpha, beta } = initial;
        let initial = TipXParams { alpha, beta, gamma: 0.0 };
        let of = self.val_labels.len() + folds.iter().map(|(_, fold)| fold.truth.len()).sum::<usize>();
        if of == 0 {
            watch.note("no pictures are left to choose α and β on: taking the values to begin with");
            return Ok(Chosen { params: initial, search: None });
        }
        let grid = self.how.grid(self.texts.dataset, searched.divergence.is_some())?;
        let (classifier, val) = (self.classifier(watch)?, self.val(corrected, watch)?);
        let whole = (!self.val_labels.is_empty()).then_some((searched, &val, &self.val_labels[..]));
        let folds = folds.iter().map(|(searched, fold)| (*searched, &fold.asked, &fold.truth[..]));
        let mut counts = vec![0u32; grid.len()];
        watch.begin("searching α and β", 100);
        let (mut stopped, mut before) = (Ok(()), 0);
        let gpu = &self.clip.gpu;
        for (searched, features, labels) in whole.into_iter().chain(folds) {
            let found = search::search(gpu, &classifier, searched, features, labels, &grid, &mut |share| {
                if stopped.is_ok() {
                    let done = before as f64 + share * labels.len() as f64;
                    stopped = watch.at((100.0 * done / of as f64) as usize);
                }
            })?;
            stopped = Ok(stopped?);
            before += labels.len();
            counts.iter_mut().zip(&found.counts).for_each(|(sum, count)| *sum += count);
        }
        watch.end();
        let best = grid.best(&counts, self.thin().then_some(initial));
        Ok(Chosen { params: grid.params(best), search: Some(map(&grid, &counts, of)) })
    }
}

/// The search as a map over α and β, the best over γ.
fn map(grid: &Grid, counts: &[u32], of: usize) -> SearchMap {
    let (na, nb) = (grid.alphas.len(), grid.betas.len());
    let mut correct = vec![0; na * nb];
    for (i, count) in counts.iter().enumerate() {
        let (a, b, _) = grid.at(i);
        correct[b * na + a] = (*count).max(correct[b * na + a]);
    }
    SearchMap { alphas: grid.alphas.clone(), betas: grid.betas.clone(), correct, of }
}
