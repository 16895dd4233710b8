//! Tip-Adapter (arXiv 2207.09519): a cache of the support pictures' features, and no training.
//!
//! Keys G `[N, D]`: each support picture's un-normalised features averaged over its augmented views, then normalised.
//! logits = s·f·Wᵀ + α·exp(−β(1 − f·Gᵀ))·L with L the one-hot labels. With the keys sorted by class, ·L is a sum over
//! each class's run of keys, and the affinity matrix is never written.

use serde::{Deserialize, Serialize};

use super::adapter_file::{CorrectionForm, Loading, Tensors};
use super::lesson::Lesson;
use super::method::{self, Facts, Fit, Fitted, Info, Kind, Memory, Method, Needs, Setting, Settings};
use super::overlap::Correction;
use super::plans::Plans;
use super::search::Searched;
use super::zero_shot::Classifier;
use crate::clip::Features;
use crate::gpu::{DType, Gpu, Recorder, Tensor};
use crate::kernels::{affinity, normalize, reduce};
use crate::memory::Rehearsal;
use crate::watch::Watch;
use crate::{Error, Result, numbers};

/// The cache's two hyper-parameters.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TipParams {
    /// Weight of the cache term.
    pub alpha: f64,
    /// Sharpness of the affinity.
    pub beta: f64,
}

impl TipParams {
    /// The authors' starting point, for when there is nothing to search on.
    pub const INITIAL: TipParams = TipParams { alpha: 1.0, beta: 5.5 };

    /// Checks that logits of these parameters stay in f32.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one outside [`numbers::WEIGHT`] or [`numbers::SHARPNESS`], with the range.
    pub fn check(self) -> Result<()> {
        numbers::WEIGHT.check("alpha", self.alpha)?;
        numbers::SHARPNESS.check("beta", self.beta).map(drop)
    }
}

/// The number of pictures that features of `views` views each, `width` wide, are of.
fn pictures(features: &[f32], views: usize, width: usize) -> Result<usize> {
    match views.checked_mul(width) {
        Some(one) if one > 0 && !features.is_empty() && features.len().is_multiple_of(one) => Ok(features.len() / one),
        _ => Err(Error::invalid(format!("{} feature values for {views} views of width {width}", features.len()))),
    }
}

/// Keys `[N, D]`, in the order of the pictures, from un-normalised features of their views `[views, N, D]`.
///
/// # Errors
/// A length that does not fit; a device that fails.
pub fn keys(gpu: &Gpu, features: &[f32], views: usize, width: usize) -> Result<Vec<f32>> {
    let n = pictures(features, views, width)?;
    let mut keys = Vec::with_capacity(n * width);
    for first in (0..n).step_by(super::ROWS) {
        let count = super::ROWS.min(n - first);
        let part: Vec<f32> = (0..views)
            .flat_map(|view| &features[(view * n + first) * width..(view * n + first + count) * width])
            .copied()
            .collect();
        let raw = gpu.upload("views", &part, &[views, count, width])?;
        keys.extend(super::compute(gpu, |rec| {
            let mean = reduce::mean_first(rec, &raw)?;
            Ok(normalize::forward(rec, &mean)?.y)
        })?);
    }
    Ok(keys)
}

/// Turns features `[pictures, views, D]` into `[views, pictures, D]`, the order in which views are averaged.
fn by_view(features: &[f32], views: usize, width: usize) -> Vec<f32> {
    let pictures = features.len() / views.saturating_mul(width).max(1);
    let mut out = Vec::with_capacity(features.len());
    for view in 0..views {
        for picture in 0..pictures {
            let at = (picture * views + view) * width;
            out.extend_from_slice(&features[at..at + width]);
        }
    }
    out
}

/// [`keys`] of pictures as they are encoded, `[N, views, D]`, from both towers where there are two.
///
/// # Errors
/// As [`keys`].
pub fn keys_of_pictures(gpu: &Gpu, features: &Features, views: usize, width: usize) -> Result<Features> {
    let of = |all: &[f32]| {
        pictures(all, views, width)?;
        keys(gpu, &by_view(all, views, width), views, width)
    };
    Ok(Features { original: of(&features.original)?, adapted: features.adapted.as_deref().map(of).transpose()? })
}

/// The order that sorts labels by class. Stable, so that equal inputs give one order of summation.
pub(super) fn by_class(labels: &[u32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by_key(|i| labels[*i]);
    order
}

/// Rows of `x` in the order given.
pub(super) fn in_order(x: &[f32], order: &[usize], width: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(order.len() * width);
    for i in order {
        rows.extend_from_slice(&x[i * width..(i + 1) * width]);
    }
    rows
}

/// Where each class begins among ascending labels, and where the last one ends.
fn starts(labels: &[u32], classes: usize) -> Vec<u32> {
    (0..=classes as u32).map(|c| labels.partition_point(|label| *label < c) as u32).collect()
}

/// A cache on the GPU.
#[derive(Clone, Debug)]
pub struct Cache {
    keys: affinity::Keys,
    host_keys: Vec<f32>,
    host_labels: Vec<u32>,
}

impl Cache {
    /// A cache of normalised keys `[N, width]` with their labels. A class may have no key: its cache term is zero.
    ///
    /// # Errors
    /// [`Error::Invalid`] when lengths differ, a label is out of range or a key is not finite; out of memory.
    pub fn new(gpu: &Gpu, keys: &[f32], labels: &[u32], classes: usize, width: usize) -> Result<Cache> {
        let n = super::check_rows("cache keys", keys, width)?;
        super::check_labels("cache", labels, n, classes)?;
        if n == 0 {
            return Err(Error::invalid("a cache needs at least one key"));
        }
        let order = by_class(labels);
        let host_keys = in_order(keys, &order, width);
        let host_labels: Vec<u32> = order.iter().map(|i| labels[*i]).collect();
        let keys = gpu.upload("cache keys", &host_keys, &[labels.len(), width])?;
        let keys = affinity::Keys::new(gpu, keys, &starts(&host_labels, classes))?;
        Ok(Cache { keys, host_keys, host_labels })
    }

    /// The form of a cache for a rehearsal, in which nobody asks for the keys: they may take more memory on the host than
    /// anybody has. `labels` ascend.
    pub(crate) fn rehearse(gpu: &Gpu, labels: &[u32], classes: usize, width: usize) -> Result<Cache> {
        let keys = gpu.empty("cache keys", &[labels.len(), width], DType::F32)?;
        let keys = affinity::Keys::new(gpu, keys, &starts(labels, classes))?;
        Ok(Cache { keys, host_keys: Vec::new(), host_labels: labels.to_vec() })
    }

    /// The keys on the GPU, sorted by class.
    pub fn keys(&self) -> &affinity::Keys {
        &self.keys
    }

    /// The same cache with other keys, `[N, width]`, in the order of [`Cache::host`].
    ///
    /// # Errors
    /// As [`Cache::new`].
    pub fn with_keys(&self, gpu: &Gpu, keys: &[f32]) -> Result<Cache> {
        Cache::new(gpu, keys, &self.host_labels, self.keys.starts.len() - 1, self.keys.keys.cols())
    }

    /// Keys and labels, sorted by class.
    pub fn host(&self) -> (&[f32], &[u32]) {
        (&self.host_keys, &self.host_labels)
    }

    /// Records the cache terms `[betas, n, classes]` of normalised features f `[n, D]` for up to
    /// [`affinity::MAX_BETAS`] values of β.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn record_terms(&self, rec: &mut Recorder, f: &Tensor, betas: &Tensor) -> Result<Tensor> {
        affinity::cache_term(rec, f, &self.keys, betas, 1.0, None)
    }

    /// Records zero-shot logits plus α times the cache term, `[n, classes]`, for normalised features f `[n, D]`.
    /// `affinity` are the features that meet the keys; they differ from `f` only in Tip-Adapter++.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn record_logits(
        &self,
        rec: &mut Recorder,
        classifier: &Classifier,
        f: &Tensor,
        affinity: &Tensor,
        params: TipParams,
    ) -> Result<Tensor> {
        let base = classifier.record(rec, f)?;
        let beta = rec.gpu().upload("beta", &[params.beta as f32], &[1])?;
        let y = affinity::cache_term(rec, affinity, &self.keys, &beta, params.alpha as f32, Some(&base))?;
        y.reshape(&[f.rows(), classifier.classes()])
    }

    /// Logits `[n, classes]` of un-normalised image features `[n, D]`; where they were adapted too (Tip-Adapter++), the
    /// adapted ones meet the keys.
    ///
    /// # Errors
    /// A length that does not fit, α or β out of range; a device that fails.
    pub fn logits(
        &self,
        gpu: &Gpu,
        classifier: &Classifier,
        features: &Features,
        params: TipParams,
    ) -> Result<Vec<f32>> {
        params.check()?;
        let mut logits = Vec::new();
        super::normalized_rows(gpu, features, self.keys.keys.cols(), &mut |_, f, g| {
            logits.extend(super::compute(gpu, |rec| self.record_logits(rec, classifier, f, g, params))?);
            Ok(())
        })?;
        Ok(logits)
    }
}

/// The method: Tip-Adapter, and with a correction Tip-Adapter++.
pub struct TipAdapter {
    /// Whether affinities come from the corrected tower.
    pub corrected: bool,
}

/// Its settings.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Weights {
    /// Weight of the cache term; chosen where it is not given.
    alpha: Option<f64>,
    /// Sharpness of the affinity.
    beta: Option<f64>,
}

impl Weights {
    /// α and β where both are given.
    ///
    /// # Errors
    /// One without the other, or out of range.
    fn params(self) -> Result<Option<TipParams>> {
        match (self.alpha, self.beta) {
            (None, None) => Ok(None),
            (Some(alpha), Some(beta)) => {
                let params = TipParams { alpha, beta };
                params.check()?;
                Ok(Some(params))
            }
            _ => Err(Error::invalid("alpha and beta belong together: give both, or neither to have them chosen")),
        }
    }
}

/// α and β, in options.
pub(super) const WEIGHTS: [Setting; 2] = [
    Setting {
        name: "alpha",
        help: "Weight of the cache term, from -1e9 to 1e9. By default it is searched on pictures not learned from.",
        kind: Kind::Number(numbers::WEIGHT),
        alone: false,
    },
    Setting {
        name: "beta",
        help: "Sharpness of the affinity, from -20 to 1e9.",
        kind: Kind::Number(numbers::SHARPNESS),
        alone: false,
    },
];

/// What a cache's file says.
#[derive(Serialize, Deserialize)]
struct Words {
    templates: Vec<String>,
    params: TipParams,
    views: usize,
    correction: Option<CorrectionForm>,
}

/// A cache that has learned.
struct Learned {
    classifier: Classifier,
    cache: Cache,
    params: TipParams,
    /// Whose features meet the keys, where it is not the plain tower.
    correction: Option<Correction>,
    templates: Vec<String>,
    views: usize,
    plans: Plans,
}

impl Method for TipAdapter {
    fn info(&self) -> &'static Info {
        const NEEDS: Needs = Needs { support: true, keys: true, templates: true, grid: true, val: true, ..Needs::NONE };
        match self.corrected {
            false => &Info {
                name: "tip-adapter",
                aliases: &["tip"],
                title: "Tip-Adapter",
                about: "A cache of the pictures' features; no training. With a correction: Tip-Adapter++.",
                paper: "arXiv 2207.09519",
                needs: NEEDS,
                memory: Some(Memory { what: "classifying by Tip-Adapter", by_batch: true }),
                published: Some([62.33, 64.62, 66.54, 68.50, 70.32]),
            },
            true => &Info {
                name: "tip-adapter++",
                aliases: &["tip++"],
                title: "Tip-Adapter++",
                about: "Tip-Adapter whose affinities come from a corrected image tower.",
                paper: "arXiv 2409.11338",
                needs: Needs { correction: true, ..NEEDS },
                memory: None,
                published: None,
            },
        }
    }

    fn settings(&self) -> &'static [Setting] {
        &WEIGHTS
    }

    fn defaults(&self) -> Settings {
        method::untyped(&Weights::default()).unwrap_or_default()
    }

    fn check(&self, settings: &Settings) -> Result<()> {
        method::typed::<Weights>(settings)?.params().map(drop)
    }

    fn fit(&self, lesson: &mut Lesson<'_>, settings: &Settings, watch: &mut dyn Watch) -> Result<Fit> {
        let given = method::typed::<Weights>(settings)?.params()?;
        let classifier = lesson.classifier(watch)?;
        let keys = lesson.keys(self.corrected, watch)?;
        let gpu = &lesson.clip().gpu;
        let cache = Cache::new(gpu, keys.affinity(), lesson.labels(), classifier.classes(), classifier.weights.cols())?;
        let (params, search) = match given {
            Some(params) => (params, None),
            None => {
                let folds = lesson.cache_folds(self.corrected, watch)?;
                let (classes, width) = (classifier.classes(), classifier.weights.cols());
                let caches =
                    folds.iter().map(|fold| Cache::new(gpu, fold.keys.affinity(), &fold.labels, classes, width));
                let caches = caches.collect::<Result<Vec<_>>>()?;
                let folds: Vec<_> = caches.iter().map(Searched::from).zip(&folds).collect();
                let chosen = lesson.search((&cache).into(), &folds, (self.corrected, TipParams::INITIAL), watch)?;
                (chosen.params.tip(), chosen.search)
            }
        };
        let correction = if self.corrected { Some(lesson.correction()?.clone()) } else { None };
        let (templates, views) = (lesson.texts().templates.to_vec(), lesson.how().key_views);
        let fitted = Learned { classifier, cache, params, correction, templates, views, plans: Plans::default() };
        Ok(Fit { search, ..Fit::new(fitted) })
    }

    fn check_words(&self, words: &Settings) -> Result<()> {
        let words: Words = method::typed(words)?;
        words.params.check()?;
        words.correction.map_or(Ok(()), CorrectionForm::check)
    }

    fn load(&self, file: &Loading<'_>) -> Result<Box<dyn Fitted>> {
        let Words { templates, params, views, correction } = file.words()?;
        let (classifier, cache) = file.cache()?;
        let correction = correction.map(|form| file.correction(form)).transpose()?;
        Ok(Box::new(Learned { classifier, cache, params, correction, templates, views, plans: Plans::default() }))
    }

    fn rehearse(&self, rehearsal: &Rehearsal<'_>, batch: usize) -> Result<()> {
        let (classifier, cache) = (rehearsal.texts()?, rehearsal.cache()?);
        cache.logits(&rehearsal.clip.gpu, &classifier, &rehearsal.queries(batch), TipParams::INITIAL).map(drop)
    }

    fn corrected(&self) -> Option<&'static dyn Method> {
        (!self.corrected).then_some(&TipAdapter { corrected: true })
    }
}

impl Fitted for Learned {
    fn record(&self, rec: &mut Recorder, raw: &Tensor, adapted: Option<&Tensor>) -> Result<Tensor> {
        let (f, g) = super::record_units(rec, raw, adapted)?;
        self.cache.record_logits(rec, &self.classifier, &f, &g, self.params)
    }

    fn plans(&self) -> &Plans {
        &self.plans
    }

    fn correction(&self) -> Option<&Correction> {
        self.correction.as_ref()
    }

    fn chosen(&self) -> Settings {
        method::untyped(&self.params).unwrap_or_default()
    }

    fn facts(&self) -> Facts {
        Facts { alpha: Some(self.params.alpha), beta: Some(self.params.beta), ..Facts::default() }
    }

    fn words(&self) -> Result<Settings> {
        method::untyped(&Words {
            templates: self.templates.clone(),
            params: self.params,
            views: self.views,
            correction: self.correction.as_ref().map(CorrectionForm::of),
        })
    }

    fn tensors(&self, gpu: &Gpu) -> Result<Tensors> {
        let mut tensors = Tensors::default();
        tensors.cache(gpu, &self.classifier, &self.cache)?;
        if let Some(correction) = &self.correction {
            tensors.correction(gpu, correction)?;
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::by_view;

    #[test]
    fn views_change_places_with_pictures() {
        // Two pictures, three views, width 1: picture·10 + view.
        assert_eq!(by_view(&[0., 1., 2., 10., 11., 12.], 3, 1), [0., 10., 1., 11., 2., 12.]);
    }
}
