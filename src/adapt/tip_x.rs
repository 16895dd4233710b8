//! Tip-X (SuS-X, arXiv 2211.16198): Tip-Adapter, and beside it how alike pictures are in what the text classifier says.
//!
//! P = softmax(f·Wᵀ/T) of a picture and Q = softmax(G·Wᵀ/T) of a key, T = 0.5, M = KL(P ‖ Q). ψ is M rescaled so that it
//! spans the affinity's range, and logits = s·f·Wᵀ + α·exp(−β(1 − f·Gᵀ))·L + γ·(−ψ)·L.
//!
//! ψ depends on the smallest and largest M and affinity of the whole batch evaluated, so the paper's form cannot answer
//! for one picture. [`Psi`] is that range: taken over the pictures themselves it gives the paper's batch form, frozen on
//! validation pictures it makes prediction independent of who else is asked about.
//!
//! The divergences are one product (see `shaders/divergence.wgsl`). The rows that the authors' loop leaves at zero are
//! computed here.

use serde::{Deserialize, Serialize};

use super::adapter_file::{CorrectionForm, Loading, Tensors};
use super::lesson::Lesson;
use super::method::{self, Facts, Fit, Fitted, Info, Kind, Memory, Method, Needs, Setting, Settings};
use super::overlap::Correction;
use super::plans::Plans;
use super::tip::{Cache, TipParams, WEIGHTS, by_class, in_order};
use super::zero_shot::Classifier;
use crate::clip::Features;
use crate::gpu::{DType, Gpu, Recorder, Tensor};
use crate::kernels::divergence::{self, ClassSums, Distributions, Rescale};
use crate::kernels::extremes::extremes;
use crate::kernels::gemm::{Epilogue, Layout, matmul};
use crate::kernels::{affinity, gather};
use crate::memory::Rehearsal;
use crate::watch::Watch;
use crate::{Error, Result, numbers};

/// T, in softmax(f·Wᵀ/T).
pub const TEMPERATURE: f32 = 0.5;

/// Elements of a matrix of pictures and keys made at once while its range is taken: bounds GPU memory.
const AT_ONCE: usize = 4 << 20;

/// Weights of the cache term and the divergence term, and the affinity's sharpness.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TipXParams {
    /// Weight of the cache term.
    pub alpha: f64,
    /// Sharpness of the affinity.
    pub beta: f64,
    /// Weight of the divergence term; 0 in Tip-Adapter.
    pub gamma: f64,
}

impl TipXParams {
    /// Tip-Adapter's part.
    pub fn tip(self) -> TipParams {
        TipParams { alpha: self.alpha, beta: self.beta }
    }

    /// Checks that logits of these parameters stay in f32.
    ///
    /// # Errors
    /// As [`TipParams::check`]; γ outside [`numbers::WEIGHT`].
    pub fn check(self) -> Result<()> {
        self.tip().check()?;
        numbers::WEIGHT.check("gamma", self.gamma).map(drop)
    }
}

/// The ranges that make ψ of a divergence.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Psi {
    /// Smallest and largest divergence.
    pub divergence: [f32; 2],
    /// Smallest and largest affinity.
    pub affinity: [f32; 2],
}

impl Psi {
    /// ψ = slope·(M − low) + floor. Divergences that are all alike say nothing, and all get the smallest affinity.
    pub fn rescale(&self) -> Rescale {
        let [low, high] = self.divergence;
        let [floor, top] = self.affinity;
        let slope = if high > low { (top - floor) / (high - low) } else { 0.0 };
        Rescale { slope, low, floor }
    }

    /// Checks that the ranges are ranges, and that they make numbers of divergences.
    ///
    /// # Errors
    /// [`Error::Invalid`] for ends that are not finite or in the wrong order.
    pub fn check(&self) -> Result<()> {
        for (what, [low, high]) in [("divergence", self.divergence), ("affinity", self.affinity)] {
            if !(low.is_finite() && high.is_finite() && low <= high) {
                let reason = format!("ψ's range of the {what}, {low} to {high}, must be two finite numbers in order");
                return Err(Error::invalid(reason));
            }
        }
        if !self.rescale().slope.is_finite() {
            let [low, high] = self.divergence;
            return Err(Error::invalid(format!(
                "ψ's range of the divergence, {low} to {high}, is too narrow to divide by"
            )));
        }
        Ok(())
    }

    fn merge(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
        [a[0].min(b[0]), a[1].max(b[1])]
    }
}

/// A cache with its keys' class distributions.
pub struct TipX {
    cache: Cache,
    /// The keys that the divergences are taken of, normalised, sorted by class.
    host_keys: Vec<f32>,
    keys: Distributions,
    /// `[N]`: the keys' own part of each divergence.
    key_part: Tensor,
    sums: ClassSums,
}

impl TipX {
    /// Tip-X on `cache`. `keys` `[N, D]` with their labels are the normalised keys from the original features: in Tip-X
    /// those of the cache itself, in Tip-X++ those that the cache would have without the correction.
    ///
    /// # Errors
    /// [`Error::Invalid`] when keys, labels and cache do not belong together; out of memory.
    pub fn new(gpu: &Gpu, classifier: &Classifier, cache: Cache, keys: &[f32], labels: &[u32]) -> Result<TipX> {
        let width = classifier.weights.cols();
        let n = super::check_rows("keys", keys, width)?;
        let order = by_class(labels);
        let sorted: Vec<u32> = order.iter().map(|i| labels[*i]).collect();
        if n != labels.len() || sorted != cache.host().1 {
            return Err(Error::invalid(format!(
                "{n} keys with {} labels are not those of a cache of {}",
                labels.len(),
                cache.host().1.len()
            )));
        }
        let host_keys = in_order(keys, &order, width);
        let raw = gpu.upload("keys", &host_keys, &[n, width])?;
        TipX::on(gpu, classifier, cache, &raw, host_keys)
    }

    /// The form of Tip-X on a cache that is rehearsed.
    pub(crate) fn rehearse(gpu: &Gpu, classifier: &Classifier, cache: Cache) -> Result<TipX> {
        let raw = gpu.empty("keys", cache.keys().keys.shape(), DType::F32)?;
        TipX::on(gpu, classifier, cache, &raw, Vec::new())
    }

    /// Tip-X on `cache` and the sorted keys `raw`.
    fn on(gpu: &Gpu, classifier: &Classifier, cache: Cache, raw: &Tensor, host_keys: Vec<f32>) -> Result<TipX> {
        let n = raw.rows();
        let mut rec = Recorder::new(gpu);
        let keys = distributions(&mut rec, classifier, raw)?;
        let starts = cache.keys().starts.clone();
        let sums = ClassSums {
            centred: divergence::class_sums(&mut rec, &keys.centred, &starts)?,
            stats: divergence::class_sums(&mut rec, &keys.stats, &starts)?,
            starts,
        };
        let odd: Vec<u32> = (0..n as u32).map(|i| 2 * i + 1).collect();
        let odd = gpu.upload("odd", &odd, &[n])?;
        let key_part = gather::rows(&mut rec, &keys.stats.reshape(&[2 * n, 1])?, &odd)?.reshape(&[n])?;
        rec.finish()?.run()?;
        Ok(TipX { cache, host_keys, keys, key_part, sums })
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The original keys, sorted by class.
    pub fn host_keys(&self) -> &[f32] {
        &self.host_keys
    }

    /// Records M but for each row's own part, `[n, N]`, and the rows' distributions, whose `stats` `[n, 2]` hold that part
    /// first. f `[n, D]` are normalised original features; keys are sorted by class.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn record_divergences(
        &self,
        rec: &mut Recorder,
        classifier: &Classifier,
        f: &Tensor,
    ) -> Result<(Tensor, Distributions)> {
        let rows = distributions(rec, classifier, f)?;
        Ok((divergence::matrix(rec, &rows, &self.keys, &self.key_part)?, rows))
    }

    /// The ranges of M and of the affinity over all pictures and keys, from un-normalised features.
    ///
    /// # Errors
    /// No features, or rows that are not finite; a device that fails.
    pub fn range(&self, gpu: &Gpu, classifier: &Classifier, features: &Features) -> Result<Psi> {
        if features.original.is_empty() {
            return Err(Error::invalid("the range of ψ needs at least one picture"));
        }
        let nothing = [f32::INFINITY, f32::NEG_INFINITY];
        let mut psi = Psi { divergence: nothing, affinity: nothing };
        let keys = &self.cache.keys().keys;
        let at_once = (AT_ONCE / keys.rows()).max(1);
        let d = keys.cols();
        let n = features.original.len() / d;
        for first in (0..n).step_by(at_once) {
            let rows: Vec<usize> = (first..(first + at_once).min(n)).collect();
            super::normalized_rows(gpu, &features.rows(&rows, d)?, d, &mut |_, f, g| {
                let mut rec = Recorder::new(gpu);
                let (matrix, rows) = self.record_divergences(&mut rec, classifier, f)?;
                let kl = extremes(&mut rec, &matrix, Some(&rows.stats))?;
                drop(matrix);
                let similarity = matmul(&mut rec, Layout::Nt, g, keys, &Epilogue::default())?;
                let near = extremes(&mut rec, &similarity, None)?;
                rec.finish()?.run()?;
                let pair = |t: &Tensor| -> Result<[f32; 2]> {
                    let v = gpu.read::<f32>(t)?;
                    Ok([v[0], v[1]])
                };
                psi.divergence = Psi::merge(psi.divergence, pair(&kl)?);
                psi.affinity = Psi::merge(psi.affinity, pair(&near)?);
                Ok(())
            })?;
        }
        Ok(psi)
    }

    /// Records (−ψ)·L `[n, classes]` for normalised original features f `[n, D]`.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn record_term(&self, rec: &mut Recorder, classifier: &Classifier, f: &Tensor, psi: Psi) -> Result<Tensor> {
        let rows = distributions(rec, classifier, f)?;
        divergence::class_term(rec, &rows, &self.sums, psi.rescale(), 1.0, None)
    }

    /// Records logits `[n, classes]` for normalised original features f and the features g that meet the cache's keys,
    /// both `[n, D]`.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn record_logits(
        &self,
        rec: &mut Recorder,
        classifier: &Classifier,
        (f, g): (&Tensor, &Tensor),
        params: TipXParams,
        psi: Psi,
    ) -> Result<Tensor> {
        let rows = distributions(rec, classifier, f)?;
        let base = classifier.record(rec, f)?;
        let base = divergence::class_term(rec, &rows, &self.sums, psi.rescale(), params.gamma as f32, Some(&base))?;
        let beta = rec.gpu().upload("beta", &[params.beta as f32], &[1])?;
        let y = affinity::cache_term(rec, g, self.cache.keys(), &beta, params.alpha as f32, Some(&base))?;
        y.reshape(&[f.rows(), classifier.classes()])
    }

    /// Logits `[n, classes]` of un-normalised image features `[n, D]`; where they were adapted too (Tip-X++), the adapted
    /// ones meet the cache's keys. With `psi` none: the paper's batch form, with ψ's range taken over these pictures.
    ///
    /// # Errors
    /// Lengths that do not fit, parameters or a ψ out of range; a device that fails.
    pub fn logits(
        &self,
        gpu: &Gpu,
        classifier: &Classifier,
        features: &Features,
        params: TipXParams,
        psi: Option<Psi>,
    ) -> Result<Vec<f32>> {
        params.check()?;
        let psi = psi.map_or_else(|| self.range(gpu, classifier, features), Ok)?;
        psi.check()?;
        let mut logits = Vec::new();
        super::normalized_rows(gpu, features, classifier.weights.cols(), &mut |_, f, g| {
            logits.extend(super::compute(gpu, |rec| self.record_logits(rec, classifier, (f, g), params, psi))?);
            Ok(())
        })?;
        Ok(logits)
    }
}

/// The class distributions of normalised features `[n, D]` at temperature [`TEMPERATURE`].
fn distributions(rec: &mut Recorder, classifier: &Classifier, f: &Tensor) -> Result<Distributions> {
    let cooled = Epilogue { alpha: 1.0 / TEMPERATURE, ..Epilogue::default() };
    let z = matmul(rec, Layout::Nt, f, &classifier.weights, &cooled)?;
    divergence::distributions(rec, &z)
}

/// The method: Tip-X, and with a correction Tip-X++.
pub struct TipXMethod {
    /// Whether affinities come from the corrected tower.
    pub corrected: bool,
}

/// Its settings.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Weights {
    alpha: Option<f64>,
    beta: Option<f64>,
    gamma: Option<f64>,
}

impl Weights {
    /// α, β and γ where all are given.
    ///
    /// # Errors
    /// Some without the others, or out of range.
    fn params(self) -> Result<Option<TipXParams>> {
        match (self.alpha, self.beta, self.gamma) {
            (None, None, None) => Ok(None),
            (Some(alpha), Some(beta), Some(gamma)) => {
                let params = TipXParams { alpha, beta, gamma };
                params.check()?;
                Ok(Some(params))
            }
            _ => Err(Error::invalid("alpha, beta and gamma belong together: give all, or none to have them chosen")),
        }
    }
}

/// What its file says.
#[derive(Serialize, Deserialize)]
struct Words {
    templates: Vec<String>,
    params: TipXParams,
    psi: Psi,
    views: usize,
    correction: Option<CorrectionForm>,
}

/// The keys of Tip-X++ from the plain tower, beside `features`, those from the corrected one.
const ORIGINAL: &str = "original";

/// Tip-X that has learned.
struct Learned {
    classifier: Classifier,
    tip_x: TipX,
    correction: Option<Correction>,
    words: Words,
    plans: Plans,
}

impl Method for TipXMethod {
    fn info(&self) -> &'static Info {
        const NEEDS: Needs =
            Needs { support: true, keys: true, templates: true, grid: true, gamma: true, val: true, ..Needs::NONE };
        match self.corrected {
            false => &Info {
                name: "tip-x",
                aliases: &[],
                title: "Tip-X",
                about: "A cache that also compares what the text says about pictures. With a correction: Tip-X++.",
                paper: "arXiv 2211.16198",
                needs: NEEDS,
                memory: Some(Memory { what: "classifying by Tip-X", by_batch: true }),
                published: None,
            },
            true => &Info {
                name: "tip-x++",
                aliases: &[],
                title: "Tip-X++",
                about: "Tip-X whose affinities come from a corrected image tower.",
                paper: "arXiv 2409.11338",
                needs: Needs { correction: true, ..NEEDS },
                memory: None,
                published: None,
            },
        }
    }

    fn settings(&self) -> &'static [Setting] {
        const GAMMA: Setting = Setting {
            name: "gamma",
            help: "Weight of the divergence term, from -1e9 to 1e9.",
            kind: Kind::Number(numbers::WEIGHT),
            alone: false,
        };
        const ALL: [Setting; 3] = {
            let [alpha, beta] = WEIGHTS;
            [alpha, beta, GAMMA]
        };
        &ALL
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
        let (keys, val) = (lesson.keys(self.corrected, watch)?, lesson.val(self.corrected, watch)?);
        let gpu = &lesson.clip().gpu;
        let (classes, width) = (classifier.classes(), classifier.weights.cols());
        let cache = Cache::new(gpu, keys.affinity(), lesson.labels(), classes, width)?;
        let tip_x = TipX::new(gpu, &classifier, cache, &keys.original, lesson.labels())?;
        // ψ's range: frozen on validation pictures, or on the keys where there are none.
        let psi = tip_x.range(gpu, &classifier, if lesson.val_labels().is_empty() { &keys } else { &val })?;
        let (params, search) = match given {
            Some(params) => (params, None),
            None => {
                let folds = lesson.cache_folds(self.corrected, watch)?;
                let without = folds.iter().map(|fold| {
                    let cache = Cache::new(gpu, fold.keys.affinity(), &fold.labels, classes, width)?;
                    TipX::new(gpu, &classifier, cache, &fold.keys.original, &fold.labels)
                });
                let without = without.collect::<Result<Vec<_>>>()?;
                let folds: Vec<_> = without.iter().map(|tip_x| (tip_x, psi).into()).zip(&folds).collect();
                let chosen =
                    lesson.search((&tip_x, psi).into(), &folds, (self.corrected, TipParams::INITIAL), watch)?;
                (chosen.params, chosen.search)
            }
        };
        let correction = if self.corrected { Some(lesson.correction()?.clone()) } else { None };
        let words = Words {
            templates: lesson.texts().templates.to_vec(),
            params,
            psi,
            views: lesson.how().key_views,
            correction: correction.as_ref().map(CorrectionForm::of),
        };
        Ok(Fit { search, ..Fit::new(Learned { classifier, tip_x, correction, words, plans: Plans::default() }) })
    }

    fn check_words(&self, words: &Settings) -> Result<()> {
        let Words { params, psi, correction, .. } = method::typed(words)?;
        params.check()?;
        psi.check()?;
        correction.map_or(Ok(()), CorrectionForm::check)
    }

    fn load(&self, file: &Loading<'_>) -> Result<Box<dyn Fitted>> {
        let words: Words = file.words()?;
        let (classifier, cache) = file.cache()?;
        let correction = words.correction.map(|form| file.correction(form)).transpose()?;
        let (own, labels) = cache.host();
        let (own, labels) = (own.to_vec(), labels.to_vec());
        let keys = match correction {
            Some(_) => file.floats(ORIGINAL, &[labels.len(), file.clip.config.embedding])?,
            None => own,
        };
        let tip_x = TipX::new(&file.clip.gpu, &classifier, cache, &keys, &labels)?;
        Ok(Box::new(Learned { classifier, tip_x, correction, words, plans: Plans::default() }))
    }

    fn rehearse(&self, rehearsal: &Rehearsal<'_>, batch: usize) -> Result<()> {
        let (classifier, cache, gpu) = (rehearsal.texts()?, rehearsal.cache()?, &rehearsal.clip.gpu);
        let tip_x = TipX::rehearse(gpu, &classifier, cache)?;
        tip_x.range(gpu, &classifier, &rehearsal.queries(batch)).map(drop)
    }

    fn corrected(&self) -> Option<&'static dyn Method> {
        (!self.corrected).then_some(&TipXMethod { corrected: true })
    }
}

impl Fitted for Learned {
    fn record(&self, rec: &mut Recorder, raw: &Tensor, adapted: Option<&Tensor>) -> Result<Tensor> {
        // ψ's range is that of validation pictures: a picture's answer does not depend on the others.
        let Words { params, psi, .. } = &self.words;
        let (f, g) = super::record_units(rec, raw, adapted)?;
        self.tip_x.record_logits(rec, &self.classifier, (&f, &g), *params, *psi)
    }

    fn plans(&self) -> &Plans {
        &self.plans
    }

    fn correction(&self) -> Option<&Correction> {
        self.correction.as_ref()
    }

    fn chosen(&self) -> Settings {
        method::untyped(&self.words.params).unwrap_or_default()
    }

    fn facts(&self) -> Facts {
        let TipXParams { alpha, beta, gamma } = self.words.params;
        Facts { alpha: Some(alpha), beta: Some(beta), gamma: Some(gamma), epoch: None }
    }

    fn words(&self) -> Result<Settings> {
        method::untyped(&self.words)
    }

    fn tensors(&self, gpu: &Gpu) -> Result<Tensors> {
        let mut tensors = Tensors::default();
        tensors.cache(gpu, &self.classifier, self.tip_x.cache())?;
        if let Some(correction) = &self.correction {
            let shape = [self.tip_x.cache().host().1.len(), self.classifier.weights.cols()];
            tensors.floats(ORIGINAL, &shape, self.tip_x.host_keys());
            tensors.correction(gpu, correction)?;
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::Psi;

    #[test]
    fn psi_spans_the_affinity() {
        let psi = Psi { divergence: [0.5, 2.5], affinity: [-0.25, 0.75] };
        let r = psi.rescale();
        assert_eq!((r.slope, r.low, r.floor), (0.5, 0.5, -0.25));
        let flat = Psi { divergence: [1.0, 1.0], affinity: [0.1, 0.9] };
        assert_eq!(flat.rescale().slope, 0.0);
    }
}
