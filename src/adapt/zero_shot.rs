//! Zero-shot CLIP (arXiv 2103.00020): a classifier from text alone.
//!
//! Per class, the prompts of all templates are encoded, each normalised, averaged and normalised again: W `[classes, D]`.
//! logits = s·f·Wᵀ with f the normalised image features and s = exp(logit_scale).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::{Deserialize, Serialize};

use super::adapter_file::{Loading, Tensors};
use super::lesson::Lesson;
use super::method::{self, Facts, Fit, Fitted, Info, Method, Needs, Settings};
use super::plans::Plans;
use crate::clip::Clip;
use crate::data::class_name;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::gemm::{Epilogue, Layout, matmul};
use crate::kernels::{normalize, reduce};
use crate::watch::Watch;
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

/// Why text says nothing of some `classes`, or cannot tell them apart under `templates`, a reason each: names without a
/// token, and classes whose prompts have the same tokens, such as names that differ in case alone.
///
/// # Errors
/// As [`prompts`]; a tokenizer that fails.
pub fn unclear(clip: &Clip, classes: &[String], templates: &[String]) -> Result<Vec<String>> {
    let nothing = seen(clip, "")?;
    let mut reasons = Vec::new();
    for class in classes {
        if seen(clip, &class_name(class))? == nothing {
            reasons.push(format!(
                "the class '{}' has no tokens: the model reads nothing in this name; give it another",
                class
            ));
        }
    }
    let texts = prompts(classes, templates)?;
    let texts: Vec<&[String]> = texts.chunks_exact(templates.len()).collect();
    reasons.extend(alike(clip, classes, &texts)?);
    Ok(reasons)
}

/// The tokens of a text that the tower sees. It looks no further than the first end token, which stands for what is unknown to
/// some tokenizers.
fn seen(clip: &Clip, text: &str) -> Result<Vec<u32>> {
    let mut ids = clip.tokenizer()?.prompt(text)?;
    ids.truncate(clip.config.end.position(&ids).unwrap_or(ids.len()));
    Ok(ids)
}

/// Which classes have prompts of the same tokens, a reason each.
fn alike(clip: &Clip, classes: &[String], prompts: &[&[String]]) -> Result<Vec<String>> {
    let mut reasons = Vec::new();
    let mut first: HashMap<Vec<Vec<u32>>, &String> = HashMap::new();
    for (class, prompts) in classes.iter().zip(prompts) {
        let tokens = prompts.iter().map(|text| seen(clip, text)).collect::<Result<Vec<_>>>()?;
        match first.entry(tokens) {
            Entry::Vacant(place) => {
                place.insert(class);
            }
            Entry::Occupied(other) => reasons.push(format!(
                "the classes '{}' and '{}' have the same tokens: text cannot tell them apart; rename one",
                other.get(),
                class
            )),
        }
    }
    Ok(reasons)
}

impl Classifier {
    /// The classifier of `classes` under `templates`, where text alone decides.
    ///
    /// # Errors
    /// As [`prompts`]; classes that text cannot tell apart or says nothing of ([`unclear`]); a tokenizer or device that
    /// fails.
    pub fn new(clip: &Clip, classes: &[String], templates: &[String]) -> Result<Classifier> {
        let (classifier, unclear) = Classifier::beside_pictures(clip, classes, templates)?;
        match unclear.into_iter().next() {
            Some(reason) => Err(Error::Invalid(reason)),
            None => Ok(classifier),
        }
    }

    /// The classifier of `classes` under `templates`, where pictures may tell apart what text cannot; with what it cannot
    /// ([`unclear`]).
    ///
    /// # Errors
    /// As [`prompts`]; a tokenizer or device that fails.
    pub fn beside_pictures(clip: &Clip, classes: &[String], templates: &[String]) -> Result<(Classifier, Vec<String>)> {
        let prompts = prompts(classes, templates)?;
        let unclear = unclear(clip, classes, templates)?;
        let features = clip.encode_texts(&prompts)?;
        let (classes, width) = (classes.len(), clip.config.embedding);
        Ok((Classifier::from_features(&clip.gpu, &features, classes, width, clip.logit_scale)?, unclear))
    }

    /// The classifier of classes that have prompts of their own, each as many as it likes; those of a class are averaged.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no classes, a class without a prompt, prompts in which the model reads nothing, or classes of the
    /// same prompts; a tokenizer or device that fails.
    pub fn of_prompts(clip: &Clip, classes: &[String], prompts: &[Vec<String>]) -> Result<Classifier> {
        if classes.is_empty() || classes.len() != prompts.len() {
            return Err(Error::invalid(format!("{} classes have {} lists of prompts", classes.len(), prompts.len())));
        }
        let nothing = seen(clip, "")?;
        for (class, prompts) in classes.iter().zip(prompts) {
            if prompts.is_empty() {
                return Err(Error::invalid(format!("the class '{class}' has no prompt")));
            }
            for prompt in prompts {
                if seen(clip, prompt)? == nothing {
                    return Err(Error::invalid(format!(
                        "the prompt '{prompt}' of the class '{class}' has no tokens: the model reads nothing in it; give another"
                    )));
                }
            }
        }
        let lists: Vec<&[String]> = prompts.iter().map(Vec::as_slice).collect();
        if let Some(reason) = alike(clip, classes, &lists)?.into_iter().next() {
            return Err(Error::Invalid(reason));
        }
        let width = clip.config.embedding;
        let mut weights = vec![0.0; classes.len() * width];
        let mut counts: Vec<usize> = prompts.iter().map(Vec::len).collect();
        counts.sort_unstable();
        counts.dedup();
        // Classes of as many prompts go together.
        for count in counts {
            let which: Vec<usize> = (0..classes.len()).filter(|class| prompts[*class].len() == count).collect();
            let texts: Vec<&String> = which.iter().flat_map(|class| &prompts[*class]).collect();
            let features = clip.encode_texts(&texts)?;
            let part = Classifier::from_features(&clip.gpu, &features, which.len(), width, clip.logit_scale)?;
            for (class, row) in which.into_iter().zip(clip.gpu.read::<f32>(&part.weights)?.chunks_exact(width)) {
                weights[class * width..][..width].copy_from_slice(row);
            }
        }
        Classifier::from_weights(&clip.gpu, &weights, classes.len(), clip.logit_scale)
    }

    /// The classifier of un-normalised text features `[classes, templates, D]`.
    ///
    /// # Errors
    /// A length that does not fit, values that are not finite, a scale outside [`numbers::LOGIT_SCALE`]; a device that fails.
    pub fn from_features(gpu: &Gpu, features: &[f32], classes: usize, width: usize, scale: f32) -> Result<Classifier> {
        check_scale(scale)?;
        super::check_rows("text features", features, width)?;
        let templates = features.len() / classes.saturating_mul(width).max(1);
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

/// The method.
pub struct ZeroShot;

/// What its file says.
#[derive(Serialize, Deserialize)]
struct Words {
    templates: Vec<String>,
}

/// The classifier as a method that has learned nothing but words.
struct OfText {
    classifier: Classifier,
    templates: Vec<String>,
    plans: Plans,
}

/// The classifier as what has learned.
pub(crate) fn fitted(classifier: Classifier, templates: &[String]) -> Box<dyn Fitted> {
    Box::new(OfText { classifier, templates: templates.to_vec(), plans: Plans::default() })
}

impl Method for ZeroShot {
    fn info(&self) -> &'static Info {
        &Info {
            name: "zero-shot",
            aliases: &[],
            title: "zero-shot",
            about: "CLIP's classifier from text alone. The pictures only set how confident it is.",
            paper: "arXiv 2103.00020",
            needs: Needs { templates: true, ..Needs::NONE },
            memory: None,
            published: Some([58.89; 5]),
        }
    }

    fn fit(&self, lesson: &mut Lesson<'_>, _settings: &Settings, watch: &mut dyn Watch) -> Result<Fit> {
        let templates = lesson.texts().templates.to_vec();
        Ok(Fit::new(OfText { classifier: lesson.classifier(watch)?, templates, plans: Plans::default() }))
    }

    fn check_words(&self, words: &Settings) -> Result<()> {
        method::typed::<Words>(words).map(drop)
    }

    fn load(&self, file: &Loading<'_>) -> Result<Box<dyn Fitted>> {
        let Words { templates } = file.words()?;
        Ok(Box::new(OfText { classifier: file.classifier()?, templates, plans: Plans::default() }))
    }
}

impl Fitted for OfText {
    fn record(&self, rec: &mut Recorder, raw: &Tensor, _adapted: Option<&Tensor>) -> Result<Tensor> {
        let f = normalize::forward(rec, raw)?.y;
        self.classifier.record(rec, &f)
    }

    fn plans(&self) -> &Plans {
        &self.plans
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn words(&self) -> Result<Settings> {
        method::untyped(&Words { templates: self.templates.clone() })
    }

    fn tensors(&self, gpu: &Gpu) -> Result<Tensors> {
        let mut tensors = Tensors::default();
        tensors.classifier(gpu, &self.classifier)?;
        Ok(tensors)
    }
}
