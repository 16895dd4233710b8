//! Zero-shot CLIP (arXiv 2103.00020): a classifier from text alone.
//!
//! Per class, the prompts of all templates are encoded, each normalised, averaged and normalised again: W `[classes, D]`.
//! logits = s·f·Wᵀ with f the normalised image features and s = exp(logit_scale).

use crate::clip::Clip;
use crate::data::class_name;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::gemm::{Epilogue, Layout, matmul};
use crate::kernels::{normalize, reduce};
use crate::{Error, Result, numbers};

/// A text classifier on the GPU.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// `[classes, D]`, rows of length 1.
    pub weights: Tensor,
    /// exp(logit_scale).
    pub scale: f32,
}

/// The texts of each class: every template with the class name in its place. Underscores in names become spaces.
///
/// # Errors
/// [`Error::Invalid`] for no classes, no templates, or a template without `{}`.
pub fn prompts(classes: &[String], templates: &[String]) -> Result<Vec<String>> {
    if classes.is_empty() || templates.is_empty() {
        return Err(Error::invalid("at least one class and one template are needed"));
    }
    if let Some(template) = templates.iter().find(|t| !t.contains("{}")) {
        return Err(Error::invalid(format!("template '{template}' has no {{}} where the class name goes")));
    }
    Ok(classes.iter().flat_map(|c| templates.iter().map(move |t| t.replace("{}", &class_name(c)))).collect())
}

fn check_scale(scale: f32) -> Result<()> {
    numbers::LOGIT_SCALE.check("the logit scale", f64::from(scale)).map(drop)
}

impl Classifier {
    /// The classifier of `classes` under `templates`.
    ///
    /// # Errors
    /// As [`prompts`]; a tokenizer or device that fails.
    pub fn new(clip: &Clip, classes: &[String], templates: &[String]) -> Result<Classifier> {
        let features = clip.encode_texts(&prompts(classes, templates)?)?;
        Classifier::from_features(&clip.gpu, &features, classes.len(), clip.config.embedding, clip.logit_scale)
    }

    /// The classifier of un-normalised text features `[classes, templates, D]`.
    ///
    /// # Errors
    /// A length that does not fit, values that are not finite, a scale outside [`numbers::LOGIT_SCALE`]; a device that fails.
    pub fn from_features(gpu: &Gpu, features: &[f32], classes: usize, width: usize, scale: f32) -> Result<Classifier> {
        check_scale(scale)?;
        super::check_rows("text features", features, width)?;
        let templates = features.len() / (classes * width).max(1);
        let raw = gpu.upload("text features", features, &[classes, templates, width])?;
        let mut rec = Recorder::new(gpu);
        let each = normalize::forward(&mut rec, &raw)?.y;
        let mean = reduce::mean_middle(&mut rec, &each)?;
        let weights = normalize::forward(&mut rec, &mean)?.y;
        rec.finish()?.run()?;
        Ok(Classifier { weights: weights.named("class weights", "text features are damaged or too large"), scale })
    }

    /// The classifier of weights `[classes, D]` that are normalised already.
    ///
    /// # Errors
    /// As [`Classifier::from_features`].
    pub fn from_weights(gpu: &Gpu, weights: &[f32], classes: usize, scale: f32) -> Result<Classifier> {
        check_scale(scale)?;
        let width = weights.len() / classes.max(1);
        super::check_rows("classifier", weights, width)?;
        Ok(Classifier { weights: gpu.upload("classifier", weights, &[classes, width])?, scale })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.weights.rows()
    }

    /// Logits `[n, classes]` of un-normalised image features `[n, D]`.
    ///
    /// # Errors
    /// A length that does not fit; a device that fails.
    pub fn logits(&self, features: &[f32], gpu: &Gpu) -> Result<Vec<f32>> {
        super::by_rows(gpu, features, self.weights.cols(), |rec, raw| {
            let f = normalize::forward(rec, raw)?.y;
            self.record(rec, &f)
        })
    }

    /// Records s·f·Wᵀ `[n, classes]` for normalised features f `[n, D]`.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn record(&self, rec: &mut Recorder, f: &Tensor) -> Result<Tensor> {
        matmul(rec, Layout::Nt, f, &self.weights, &Epilogue { alpha: self.scale, ..Epilogue::default() })
    }
}
