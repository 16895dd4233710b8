//! GDA (arXiv 2402.04087, ICLR 2024): Gaussian discriminant analysis on CLIP's features, beside text, without training.
//!
//! Classes are taken for Gaussians of one covariance Σ, that of features minus their class's mean. With n features f of length 1,
//! D wide (all views of the support pictures), precision Ω = D·((n − 1)·Σ + tr(Σ)·I)⁻¹, weights Ω·μ of each class's mean μ and
//! biases log π − ½·μᵀ·Ω·μ. logits = s·f·Wᵀ + α·(f·(Ω·μ)ᵀ + bias), α being the first of seven that has most validation pictures
//! right. All of it is linear in f: a picture costs one product.
//!
//! The classes' shares π are equal, as in the paper, or those of the pictures (`prior`). A class without pictures gets the mean
//! of the others' weights and biases, so that text alone speaks for or against it.

use nalgebra::{Cholesky, DMatrix};
use serde::{Deserialize, Serialize};

use super::adapter_file::{Loading, Tensors};
use super::lesson::Lesson;
use super::method::{self, Facts, Fit, Fitted, Info, Kind, Method, Needs, Setting, Settings};
use super::plans::Plans;
use super::search;
use super::zero_shot::Classifier;
use crate::clip::Features;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::normalize;
use crate::nn::TrainableLinear;
use crate::watch::Watch;
use crate::{Error, Result, numbers};

/// Weights of the Gaussians that are tried.
const ALPHAS: [f64; 7] = [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0];
/// The weight where none is better than another.
const ALPHA: f64 = 0.1;

/// The Gaussians of classes, seen from a feature of length 1: `f·weightsᵀ + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussians {
    /// Ω·μ, `[classes, D]`.
    pub weights: Vec<f64>,
    /// log π − ½·μᵀ·Ω·μ, `[classes]`.
    pub bias: Vec<f64>,
}

/// How frequent classes are expected to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prior {
    /// All alike.
    #[default]
    Equal,
    /// As often as there are pictures of them.
    Pictures,
}

impl Gaussians {
    /// Those of features `[n, width]`, which are normalised here, and their labels.
    ///
    /// # Errors
    /// Lengths that do not fit, labels out of range, no features, or features without any spread.
    pub fn new(features: &[f32], labels: &[u32], classes: usize, width: usize, prior: Prior) -> Result<Gaussians> {
        let n = super::check_rows("features", features, width)?;
        super::check_labels("features", labels, n, classes)?;
        let mut rows = DMatrix::from_row_iterator(n, width, features.iter().map(|v| f64::from(*v)));
        for mut row in rows.row_iter_mut() {
            let length = row.norm().max(f64::from(f32::MIN_POSITIVE));
            row /= length;
        }
        let mut counts = vec![0usize; classes];
        let mut means = DMatrix::<f64>::zeros(classes, width);
        for (row, label) in rows.row_iter().zip(labels) {
            counts[*label as usize] += 1;
            let mut mean = means.row_mut(*label as usize);
            mean += row;
        }
        for (mut mean, count) in means.row_iter_mut().zip(&counts) {
            mean /= (*count).max(1) as f64;
        }
        for (mut row, label) in rows.row_iter_mut().zip(labels) {
            row -= means.row(*label as usize);
        }
        // (n − 1)·Σ is the sum of outer products itself.
        let mut spread = rows.tr_mul(&rows);
        let trace = spread.trace() / n.saturating_sub(1).max(1) as f64;
        if trace < 1e-12 {
            return Err(Error::invalid(
                "the pictures' features have no spread within their classes: give more pictures per class, or more random views \
                 of each",
            ));
        }
        for i in 0..width {
            spread[(i, i)] += trace;
        }
        let not = || Error::invalid("the covariance of the features cannot be inverted");
        let solved = Cholesky::new(spread).ok_or_else(not)?.solve(&means.transpose()) * width as f64;
        let all: usize = counts.iter().sum();
        let bias = |class: usize| {
            let share = match prior {
                Prior::Equal => 1.0 / classes as f64,
                Prior::Pictures => counts[class] as f64 / all as f64,
            };
            share.ln() - 0.5 * means.row(class).transpose().dot(&solved.column(class))
        };
        let seen: Vec<usize> = (0..classes).filter(|class| counts[*class] > 0).collect();
        let mean = |of: &dyn Fn(usize) -> f64| seen.iter().map(|class| of(*class)).sum::<f64>() / seen.len() as f64;
        let (mut weights, mut biases) = (Vec::with_capacity(classes * width), Vec::with_capacity(classes));
        for (class, count) in counts.iter().enumerate() {
            if *count > 0 {
                weights.extend(solved.column(class).iter());
                biases.push(bias(class));
            } else {
                weights.extend((0..width).map(|i| mean(&|class| solved[(i, class)])));
                biases.push(mean(&bias));
            }
        }
        Ok(Gaussians { weights, bias: biases })
    }
}

/// The method.
pub struct Gda;

/// Its settings.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Options {
    /// Chosen where it is not given.
    alpha: Option<f64>,
    prior: Prior,
}

/// What its file says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Words {
    templates: Vec<String>,
    alpha: f64,
    prior: Prior,
    views: usize,
}

/// Gaussians beside text.
struct Learned {
    classifier: Classifier,
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Both together.
    all: TrainableLinear,
    words: Words,
    plans: Plans,
}

impl Learned {
    fn new(gpu: &Gpu, classifier: Classifier, (weights, bias): (Vec<f32>, Vec<f32>), words: Words) -> Result<Learned> {
        let (classes, width) = (classifier.classes(), classifier.weights.cols());
        let (scale, alpha) = (f64::from(classifier.scale), words.alpha);
        let text = gpu.read::<f32>(&classifier.weights)?;
        let together = |(text, own): (&f32, &f32)| (scale * f64::from(*text) + alpha * f64::from(*own)) as f32;
        let all: Vec<f32> = text.iter().zip(&weights).map(together).collect();
        let weighed: Vec<f32> = bias.iter().map(|own| (alpha * f64::from(*own)) as f32).collect();
        let all = TrainableLinear::upload(gpu, "text and Gaussians", classes, width, &all, &weighed)?;
        Ok(Learned { classifier, weights, bias, all, words, plans: Plans::default() })
    }
}

impl Method for Gda {
    fn info(&self) -> &'static Info {
        &Info {
            name: "gda",
            aliases: &[],
            title: "GDA",
            about: "Gaussian discriminant analysis of the pictures' features, beside text; no training.",
            paper: "arXiv 2402.04087",
            needs: Needs { support: true, keys: true, templates: true, val: true, ..Needs::NONE },
            memory: None,
            published: None,
        }
    }

    fn settings(&self) -> &'static [Setting] {
        &[
            Setting {
                name: "alpha",
                help: "Weight of the Gaussians, from -1e9 to 1e9. By default one of 1e-4, 1e-3 … 100, chosen on pictures not learned from.",
                kind: Kind::Number(numbers::WEIGHT),
                alone: false,
            },
            Setting {
                name: "prior",
                help: "How frequent classes are expected to be.",
                kind: Kind::Choice(&[
                    ("equal", "all equally, as in the paper"),
                    ("pictures", "as often as there are pictures"),
                ]),
                alone: false,
            },
        ]
    }

    fn defaults(&self) -> Settings {
        method::untyped(&Options::default()).unwrap_or_default()
    }

    fn check(&self, settings: &Settings) -> Result<()> {
        let options: Options = method::typed(settings)?;
        options.alpha.map_or(Ok(()), |alpha| numbers::WEIGHT.check("alpha", alpha).map(drop))
    }

    fn fit(&self, lesson: &mut Lesson<'_>, settings: &Settings, watch: &mut dyn Watch) -> Result<Fit> {
        let Options { alpha, prior } = method::typed(settings)?;
        let classifier = lesson.classifier(watch)?;
        let (features, views) = lesson.key_views(watch)?;
        let (clip, classes, width) = (lesson.clip(), classifier.classes(), classifier.weights.cols());
        let each =
            |labels: &[u32]| labels.iter().flat_map(|label| std::iter::repeat_n(*label, views)).collect::<Vec<u32>>();
        let gaussians = Gaussians::new(&features.original, &each(lesson.labels()), classes, width, prior)?;
        let words = Words {
            templates: lesson.texts().templates.to_vec(),
            alpha: alpha.unwrap_or(ALPHA),
            prior,
            views: lesson.how().key_views,
        };
        let with = |Gaussians { weights, bias }: &Gaussians, alpha: f64| {
            let narrow = |all: &[f64]| all.iter().map(|v| *v as f32).collect::<Vec<f32>>();
            Learned::new(
                &clip.gpu,
                classifier.clone(),
                (narrow(weights), narrow(bias)),
                Words { alpha, ..words.clone() },
            )
        };
        if alpha.is_some() {
            return Ok(Fit::new(with(&gaussians, words.alpha)?));
        }
        // Who is asked, by what was made without them.
        let mut asked: Vec<(Gaussians, Features, Vec<u32>)> = Vec::new();
        if !lesson.val_labels().is_empty() {
            asked.push((gaussians.clone(), lesson.val(false, watch)?, lesson.val_labels().to_vec()));
        }
        for fold in lesson.cache_folds(false, watch)? {
            let some = features.rows(&fold.rest, views * width)?;
            // Pictures may be too alike where some are missing.
            if let Ok(without) = Gaussians::new(&some.original, &each(&fold.labels), classes, width, prior) {
                asked.push((without, fold.asked, fold.truth));
            }
        }
        if asked.is_empty() {
            watch.note(&format!("no pictures are left to choose α on: taking {ALPHA}"));
            return Ok(Fit::new(with(&gaussians, ALPHA)?));
        }
        let mut counts = Vec::new();
        for alpha in ALPHAS {
            let mut right = 0;
            for (gaussians, features, labels) in &asked {
                let logits = with(gaussians, alpha)?.logits(clip, features, 0)?;
                right += (super::accuracy(&logits, labels, classes) * labels.len() as f64).round() as u32;
            }
            counts.push(right);
        }
        let thin = lesson.thin();
        let best = search::most(&counts, |i| if thin { (ALPHAS[i] / ALPHA).ln().powi(2) } else { 0.0 });
        Ok(Fit::new(with(&gaussians, ALPHAS[best])?))
    }

    fn check_words(&self, words: &Settings) -> Result<()> {
        numbers::WEIGHT.check("alpha", method::typed::<Words>(words)?.alpha).map(drop)
    }

    fn load(&self, file: &Loading<'_>) -> Result<Box<dyn Fitted>> {
        let (classes, width) = (file.classes.len(), file.clip.config.embedding);
        let parts = (file.floats("gda.weights", &[classes, width])?, file.floats("gda.bias", &[classes])?);
        Ok(Box::new(Learned::new(&file.clip.gpu, file.classifier()?, parts, file.words()?)?))
    }
}

impl Fitted for Learned {
    fn record(&self, rec: &mut Recorder, raw: &Tensor, _adapted: Option<&Tensor>) -> Result<Tensor> {
        let f = normalize::forward(rec, raw)?.y;
        self.all.forward(rec, &f)
    }

    fn plans(&self) -> &Plans {
        &self.plans
    }

    fn chosen(&self) -> Settings {
        Settings::from_iter([("alpha".to_string(), self.words.alpha.into())])
    }

    fn facts(&self) -> Facts {
        Facts { alpha: Some(self.words.alpha), ..Facts::default() }
    }

    fn words(&self) -> Result<Settings> {
        method::untyped(&self.words)
    }

    fn tensors(&self, gpu: &Gpu) -> Result<Tensors> {
        let mut tensors = Tensors::default();
        tensors.classifier(gpu, &self.classifier)?;
        tensors.floats("gda.weights", self.classifier.weights.shape(), &self.weights);
        tensors.floats("gda.bias", &[self.bias.len()], &self.bias);
        Ok(tensors)
    }
}
