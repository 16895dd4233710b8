//! Tip-Adapter-F (arXiv 2207.09519): a Tip-Adapter whose cache keys train.
//!
//! The keys are the only weights. They start as the cache's, α and β stay at their initial values, and the cross-entropy
//! of s·f·Wᵀ + α·exp(−β(1 − f·Gᵀ))·L is minimised by AdamW (rate 1e-3, eps 1e-4, decay 0.01) under a cosine that ends at
//! 0, in batches of 256 for 20 epochs. The keys are not normalised again. α and β are searched afterwards.
//!
//! The epoch that is kept is chosen on validation pictures. The authors' code chooses it on the test set.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::adapter_file::{Loading, Tensors as FileTensors};
use super::lesson::Lesson;
use super::method::{self, Facts, Fit, Fitted, Info, Kind, Memory, Method, Needs, Setting, Settings};
use super::plans::Plans;
use super::schedule;
use super::tip::{Cache, TipParams};
use super::train::{self, At, Course, EpochSource, Fed, Job, Kept, ReadTensor, Tensors, streams};
use super::zero_shot::Classifier;
use crate::clip::Features;
use crate::data::Augment;
use crate::encode::Tower;
use crate::gpu::{DType, Gpu, Plan, ReadBack, Recorder, Tensor};
use crate::kernels::optim::{self, AdamW};
use crate::kernels::{affinity, loss, normalize, reduce};
use crate::memory::{self, Rehearsal};
use crate::watch::Watch;
use crate::{Error, Result, numbers};

/// How the keys train.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Config {
    /// α and β during training.
    pub initial: TipParams,
    /// Rate at the first step.
    pub lr: f64,
    /// AdamW's eps.
    pub eps: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Passes over the support pictures.
    pub epochs: usize,
    /// Pictures per step.
    pub batch: usize,
    /// Seed of the shuffles.
    pub seed: u64,
}

impl Config {
    /// The authors' settings. They take 100 epochs on EuroSAT and 20 elsewhere.
    pub fn paper(seed: u64) -> Config {
        Config { initial: TipParams::INITIAL, lr: 1e-3, eps: 1e-4, weight_decay: 0.01, epochs: 20, batch: 256, seed }
    }

    /// Checks the numbers that training multiplies by.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number outside its range in [`numbers`].
    pub fn check(&self) -> Result<()> {
        self.initial.check()?;
        numbers::RATE.check("the learning rate", self.lr)?;
        numbers::RATE.check("eps", self.eps)?;
        numbers::DECAY.check("weight decay", self.weight_decay).map(drop)
    }

    /// The optimizer at one step of the schedule.
    fn optimizer(&self, step: usize, total: usize) -> AdamW {
        let lr = schedule::cosine(step, total, self.lr);
        AdamW { eps: self.eps, weight_decay: self.weight_decay, ..AdamW::new(lr) }
    }
}

/// A training step, recorded once for one number of pictures.
pub struct Step {
    /// `[batch, D]`, un-normalised image features.
    pub images: Tensor,
    /// u32 `[batch]`.
    pub labels: Tensor,
    /// `[1]`, mean cross-entropy before the step.
    pub loss: Tensor,
    /// `[N, D]`, gradient of the keys.
    pub grad: Tensor,
    /// The recorded step.
    pub plan: Plan,
}

/// Keys in training.
pub struct Trainer<'a> {
    gpu: &'a Gpu,
    classifier: &'a Classifier,
    initial: TipParams,
    /// `[N, D]`, sorted by class.
    pub keys: affinity::Keys,
    labels: Tensor,
    beta: Tensor,
    moments: Tensor,
    hyper: Tensor,
}

impl<'a> Trainer<'a> {
    /// A trainer that starts from the keys of `cache`, which is left as it is.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(gpu: &'a Gpu, classifier: &'a Classifier, cache: &Cache, initial: TipParams) -> Result<Trainer<'a>> {
        let (values, labels) = cache.host();
        let shape = cache.keys().keys.shape();
        // A rehearsed cache has no values.
        let keys = match gpu.rehearses() {
            true => gpu.empty("keys", shape, DType::F32)?,
            false => gpu.upload("keys", values, shape)?,
        };
        let moments = gpu.zeros("moments", &[2, keys.len()])?;
        Ok(Trainer {
            gpu,
            classifier,
            initial,
            keys: cache.keys().with_keys(keys)?,
            labels: gpu.upload("key labels", labels, &[labels.len()])?,
            beta: gpu.upload("beta", &[initial.beta as f32], &[1])?,
            moments,
            hyper: gpu.zeros("hyper", &[8])?,
        })
    }

    /// Records a step for `batch` pictures.
    ///
    /// # Errors
    /// Out of memory.
    pub fn step(&self, batch: usize) -> Result<Step> {
        let gpu = self.gpu;
        let images = gpu.zeros("image features", &[batch, self.keys.keys.cols()])?;
        let labels = gpu.upload("labels", &vec![0u32; batch], &[batch])?;
        let mut rec = Recorder::new(gpu);
        let r = &mut rec;
        let f = normalize::forward(r, &images)?.y;
        let base = self.classifier.record(r, &f)?;
        let alpha = self.initial.alpha as f32;
        let logits = affinity::cache_term(r, &f, &self.keys, &self.beta, alpha, Some(&base))?;
        let ce = loss::cross_entropy(r, &logits.reshape(&[batch, self.classifier.classes()])?, &labels)?;
        let loss = reduce::mean_first(r, &ce.losses)?;
        let grad = affinity::backward_keys(r, &f, &self.keys, &self.labels, &self.beta, alpha, &ce.grad)?;
        optim::adamw(r, &self.hyper, &grad, &self.moments, &self.keys.keys)?;
        Ok(Step { images, labels, loss, grad, plan: rec.finish()? })
    }

    /// Runs a step, the `number`-th of all from 1 on. Returns without waiting.
    ///
    /// # Errors
    /// Lengths that do not fit, labels out of range; a lost device.
    pub fn run(&self, step: &Step, images: &[f32], labels: &[u32], optimizer: AdamW, number: u32) -> Result<()> {
        super::check_labels("support", labels, step.images.rows(), self.classifier.classes())?;
        self.gpu.write(&step.images, images)?;
        self.gpu.write(&step.labels, labels)?;
        self.gpu.write(&self.hyper, &optimizer.hyper(number))?;
        step.plan.run()
    }
}

/// What training gives.
pub struct Trained {
    /// The cache with its trained keys.
    pub cache: Cache,
    /// The epoch that is kept, from 1 on.
    pub epoch: usize,
    /// Its accuracy on the validation pictures, where there were some.
    pub val_accuracy: Option<f64>,
    /// Cross-entropy of each epoch's last step.
    pub losses: Vec<f32>,
}

/// Keys that were best so far.
struct Best {
    /// Their epoch, from 1 on.
    epoch: usize,
    val_accuracy: Option<f64>,
    keys: Vec<f32>,
}

/// A training under way.
struct Training<'a> {
    trainer: Trainer<'a>,
    cache: &'a Cache,
    config: &'a Config,
    course: &'a Course,
    full: Step,
    last: Option<Step>,
    fed: Fed<'a>,
    val: (&'a Features, &'a [u32]),
    best: Option<Best>,
}

impl Training<'_> {
    fn tensors(&self) -> [(String, &Tensor); 2] {
        [("keys".into(), &self.trainer.keys.keys), ("moments".into(), &self.trainer.moments)]
    }
}

impl Job for Training<'_> {
    fn begin_epoch(&mut self, epoch: usize) -> Result<()> {
        self.fed.begin(epoch)
    }

    fn step(&mut self, at: At, pictures: &[usize]) -> Result<ReadBack<f32>> {
        let whole = pictures.len() == self.course.batch();
        let step = if whole { &self.full } else { self.last.as_ref().unwrap_or(&self.full) };
        let (images, labels) = self.fed.of(pictures);
        let optimizer = self.config.optimizer(at.number, self.course.steps());
        self.trainer.run(step, &images, &labels, optimizer, at.number as u32 + 1)?;
        self.trainer.gpu.begin_read(&step.loss)
    }

    fn end_epoch(&mut self, epoch: usize) -> Result<()> {
        let (gpu, classifier) = (self.trainer.gpu, self.trainer.classifier);
        let keys = gpu.read::<f32>(&self.trainer.keys.keys)?;
        let val_accuracy = if self.val.1.is_empty() {
            None
        } else {
            let now = self.cache.with_keys(gpu, &keys)?;
            let logits = now.logits(gpu, classifier, self.val.0, self.config.initial)?;
            Some(super::accuracy(&logits, self.val.1, classifier.classes()))
        };
        // Without validation pictures there is nothing to choose by, and the last epoch stays.
        if self.best.as_ref().is_none_or(|best| val_accuracy.is_none() || val_accuracy > best.val_accuracy) {
            self.best = Some(Best { epoch: epoch + 1, val_accuracy, keys });
        }
        Ok(())
    }

    fn put_down(&self) -> Result<(Tensors, Value)> {
        let mut tensors = train::download(self.trainer.gpu, self.tensors())?;
        let mut rest = Value::Null;
        if let Some(best) = &self.best {
            tensors.push(("best".into(), self.trainer.keys.keys.shape().to_vec(), best.keys.clone()));
            rest = json!({ "epoch": best.epoch, "val_accuracy": best.val_accuracy });
        }
        Ok((tensors, rest))
    }

    fn take_up(&mut self, read: &ReadTensor<'_>, rest: &Value) -> Result<()> {
        train::upload(self.trainer.gpu, self.tensors(), read)?;
        if let Some(epoch) = rest.get("epoch").and_then(Value::as_u64) {
            let keys = read("best", self.trainer.keys.keys.shape())?;
            let val_accuracy = rest.get("val_accuracy").and_then(Value::as_f64);
            self.best = Some(Best { epoch: epoch as usize, val_accuracy, keys });
        }
        Ok(())
    }
}

/// What the keys of `cache` are trained on.
pub struct Material<'a> {
    /// Labels of the support pictures.
    pub labels: &'a [u32],
    /// Gives the un-normalised features `[n, D]` of the support pictures in an epoch (the authors take a fresh random view of
    /// each).
    pub features: &'a mut EpochSource<'a>,
    /// Un-normalised features of validation pictures, and their labels: the first epoch of the highest accuracy on them is
    /// kept, without them the last.
    pub val: (&'a Features, &'a [u32]),
}

/// Trains the keys of `cache`. Equal inputs and seed give equal bits on one device.
///
/// # Errors
/// As [`train::run`]; labels out of range, too little memory; what the material gives.
pub fn train(
    gpu: &Gpu,
    classifier: &Classifier,
    cache: &Cache,
    config: &Config,
    material: Material<'_>,
    kept: Option<&mut Kept>,
    watch: &mut dyn Watch,
) -> Result<Trained> {
    config.check()?;
    let Material { labels, features, val } = material;
    let course = Course {
        what: "Tip-Adapter-F",
        pictures: labels.len(),
        batch: config.batch,
        whole_batches: false,
        epochs: config.epochs,
        seed: config.seed,
        stream: streams::SHUFFLE_TIP_F,
        rate: config.lr,
    };
    let trainer = Trainer::new(gpu, classifier, cache, config.initial)?;
    let full = trainer.step(course.batch().max(1))?;
    let last = if course.rest() > 0 { Some(trainer.step(course.rest())?) } else { None };
    let fed = Fed::new(labels, features, classifier.weights.cols());
    let mut job = Training { trainer, cache, config, course: &course, full, last, fed, val, best: None };
    let losses = train::run(&mut job, &course, kept, watch)?;
    let Best { epoch, val_accuracy, keys } = job.best.ok_or_else(|| Error::invalid("no epoch was run"))?;
    Ok(Trained { cache: cache.with_keys(gpu, &keys)?, epoch, val_accuracy, losses })
}

/// The method.
pub struct TipAdapterF;

/// Its settings.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Options {
    /// None are the authors' 20, and 100 on EuroSAT.
    epochs: Option<usize>,
    lr: f64,
    initial_alpha: f64,
    initial_beta: f64,
}

impl Default for Options {
    fn default() -> Options {
        let Config { lr, initial, .. } = Config::paper(0);
        Options { epochs: None, lr, initial_alpha: initial.alpha, initial_beta: initial.beta }
    }
}

impl Options {
    /// Settings of the training on a dataset.
    fn config(self, dataset: &str, seed: u64) -> Config {
        let paper = Config::paper(seed);
        // The authors' own exception.
        let usual = if dataset == "eurosat" { 100 } else { paper.epochs };
        let initial = TipParams { alpha: self.initial_alpha, beta: self.initial_beta };
        Config { epochs: self.epochs.unwrap_or(usual), lr: self.lr, initial, ..paper }
    }
}

/// What its file says.
#[derive(Serialize, Deserialize)]
struct Words {
    templates: Vec<String>,
    params: TipParams,
    views: usize,
    config: Config,
    epoch: usize,
}

/// A cache whose keys have trained.
struct Learned {
    classifier: Classifier,
    cache: Cache,
    words: Words,
    plans: Plans,
}

impl Method for TipAdapterF {
    fn info(&self) -> &'static Info {
        &Info {
            name: "tip-adapter-f",
            aliases: &["tip-f"],
            title: "Tip-Adapter-F",
            about: "A cache whose keys are trained.",
            paper: "arXiv 2207.09519",
            needs: Needs {
                support: true,
                keys: true,
                templates: true,
                training: true,
                grid: true,
                val: true,
                ..Needs::NONE
            },
            memory: Some(Memory { what: "training Tip-Adapter-F", by_batch: false }),
            published: Some([64.60, 66.65, 69.67, 72.45, 75.83]),
        }
    }

    fn settings(&self) -> &'static [Setting] {
        &[
            Setting {
                name: "epochs",
                help: "Passes over the pictures, from 1 to 1000000. The best one on validation pictures is kept. By default 20, \
                       and 100 on EuroSAT, as in the paper.",
                kind: Kind::Count(1, memory::MOST_EPOCHS),
                alone: false,
            },
            Setting::COSINE_RATE,
            Setting {
                name: "initial_alpha",
                help: "Weight of the cache term during training, from -1e9 to 1e9.",
                kind: Kind::Number(numbers::WEIGHT),
                alone: false,
            },
            Setting {
                name: "initial_beta",
                help: "Sharpness of the affinity during training, from -20 to 1e9.",
                kind: Kind::Number(numbers::SHARPNESS),
                alone: false,
            },
        ]
    }

    fn defaults(&self) -> Settings {
        method::untyped(&Options::default()).unwrap_or_default()
    }

    fn check(&self, settings: &Settings) -> Result<()> {
        method::typed::<Options>(settings)?.config("", 0).check()
    }

    fn fit(&self, lesson: &mut Lesson<'_>, settings: &Settings, watch: &mut dyn Watch) -> Result<Fit> {
        let config = method::typed::<Options>(settings)?.config(lesson.texts().dataset, lesson.seed());
        let classifier = lesson.classifier(watch)?;
        let (keys, val) = (lesson.keys(false, watch)?, lesson.val(false, watch)?);
        let (clip, how, val_labels) = (lesson.clip(), lesson.how(), lesson.val_labels().to_vec());
        let width = classifier.weights.cols();
        let cache = Cache::new(&clip.gpu, keys.affinity(), lesson.labels(), classifier.classes(), width)?;
        let mut kept = lesson.kept(self, &config)?;
        let (labels, mut epochs) = lesson.epochs((Augment::TIP, how.key_views), Tower::Plain, watch)?;
        let material =
            Material { labels: &labels, features: &mut |epoch| epochs.features(epoch), val: (&val, &val_labels) };
        let trained = train(&clip.gpu, &classifier, &cache, &config, material, kept.as_mut(), watch)?;
        match trained.val_accuracy {
            Some(right) => {
                let (epoch, of) = (trained.epoch, config.epochs);
                watch.note(&format!("kept epoch {epoch} of {of}: {:.1} % of validation pictures right", 100.0 * right));
            }
            None => watch.note("no pictures are left to choose an epoch on: kept the last"),
        }
        let chosen = lesson.search((&trained.cache).into(), &[], (false, config.initial), watch)?;
        let words = Words {
            templates: lesson.texts().templates.to_vec(),
            params: chosen.params.tip(),
            views: how.key_views,
            config,
            epoch: trained.epoch,
        };
        let fitted = Learned { classifier, cache: trained.cache, words, plans: Plans::default() };
        Ok(Fit { search: chosen.search, losses: trained.losses, ..Fit::new(fitted) })
    }

    fn check_words(&self, words: &Settings) -> Result<()> {
        method::typed::<Words>(words)?.params.check()
    }

    fn load(&self, file: &Loading<'_>) -> Result<Box<dyn Fitted>> {
        let (classifier, cache) = file.cache()?;
        Ok(Box::new(Learned { classifier, cache, words: file.words()?, plans: Plans::default() }))
    }

    fn rehearse(&self, rehearsal: &Rehearsal<'_>, _batch: usize) -> Result<()> {
        let (classifier, cache) = (rehearsal.texts()?, rehearsal.cache()?);
        let trainer = Trainer::new(&rehearsal.clip.gpu, &classifier, &cache, TipParams::INITIAL)?;
        trainer.step(Config::paper(1).batch.min(rehearsal.pictures().max(1))).map(drop)
    }
}

impl Fitted for Learned {
    fn record(&self, rec: &mut Recorder, raw: &Tensor, _adapted: Option<&Tensor>) -> Result<Tensor> {
        let f = normalize::forward(rec, raw)?.y;
        self.cache.record_logits(rec, &self.classifier, &f, &f, self.words.params)
    }

    fn plans(&self) -> &Plans {
        &self.plans
    }

    fn facts(&self) -> Facts {
        let Words { params, epoch, .. } = &self.words;
        Facts { alpha: Some(params.alpha), beta: Some(params.beta), gamma: None, epoch: Some(*epoch) }
    }

    fn words(&self) -> Result<Settings> {
        method::untyped(&self.words)
    }

    fn tensors(&self, gpu: &Gpu) -> Result<FileTensors> {
        let mut tensors = FileTensors::default();
        tensors.cache(gpu, &self.classifier, &self.cache)?;
        Ok(tensors)
    }
}
