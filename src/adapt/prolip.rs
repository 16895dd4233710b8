//! ProLIP (arXiv 2410.05270): of the image tower the last layer alone trains, the projection P, held near where it was.
//!
//! x `[n, width]` are features before the projection, encoded once a view; v = x·Pᵀ (plus a ResNet's bias, which stays), logits =
//! s·normalise(v)·Wᵀ, loss = mean cross-entropy + λ·‖P − P₀‖², the squares summed. Adam at 1e-5, eps 1e-4, a cosine to 0 over 300
//! epochs, every epoch one step on one view of all pictures. Without validation λ = 1/shots; the last epoch is kept.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::adapter_file::{Loading, Tensors};
use super::lesson::Lesson;
use super::method::{self, Facts, Fit, Fitted, Info, Kind, Memory, Method, Needs, Setting, Settings};
use super::plans::Plans;
use super::schedule;
use super::train::{self, At, Course, EpochSource, Fed, Job, Kept, ReadTensor, Tensors as State, streams};
use super::zero_shot::Classifier;
use crate::Result;
use crate::clip::Clip;
use crate::data::Augment;
use crate::encode::Tower;
use crate::gpu::{DType, Gpu, Plan, ReadBack, Recorder, Tensor};
use crate::kernels::gemm::{Epilogue, Layout, matmul};
use crate::kernels::optim::{self, AdamW};
use crate::kernels::{loss, normalize, reduce};
use crate::memory::Rehearsal;
use crate::nn::FrozenLinear;
use crate::numbers::{self, Range};
use crate::watch::Watch;

/// λ.
const PENALTY: Range = Range::new(0.0, 1e3);

/// How the projection trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Adam's rate at the first step.
    pub lr: f64,
    /// Adam's eps.
    pub eps: f64,
    /// λ, the weight of the squared distance from the projection as it was.
    pub penalty: f64,
    /// Passes over the pictures, one step each.
    pub epochs: usize,
    /// Seed of the views that are drawn.
    pub seed: u64,
}

impl Config {
    /// The paper's settings without validation, for so many pictures per class.
    pub fn paper(shots: usize, seed: u64) -> Config {
        Config { lr: 1e-5, eps: 1e-4, penalty: 1.0 / shots.max(1) as f64, epochs: 300, seed }
    }

    /// Checks the numbers that training multiplies by.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a number outside its range in [`numbers`].
    pub fn check(&self) -> Result<()> {
        numbers::RATE.check("the learning rate", self.lr)?;
        numbers::RATE.check("eps", self.eps)?;
        PENALTY.check("the penalty", self.penalty).map(drop)
    }

    fn optimizer(&self, step: usize) -> AdamW {
        AdamW { eps: self.eps, weight_decay: 0.0, ..AdamW::new(schedule::cosine(step, self.epochs, self.lr)) }
    }
}

/// A training step, recorded once for one number of pictures.
pub struct Step {
    /// `[n, width]`, features before the projection.
    pub images: Tensor,
    /// u32 `[n]`.
    pub labels: Tensor,
    /// `[1]`, mean cross-entropy before the step.
    pub loss: Tensor,
    /// `[D, width]`, gradient of the projection, that of the penalty included.
    pub grad: Tensor,
    /// The recorded step.
    pub plan: Plan,
}

/// A projection in training.
pub struct Trainer<'a> {
    gpu: &'a Gpu,
    classifier: &'a Classifier,
    /// What trains, `[D, width]`, and the bias that stays.
    pub projection: FrozenLinear,
    /// P₀.
    start: Tensor,
    moments: Tensor,
    hyper: Tensor,
    /// The factors of the gradient's three parts: of the loss, of P and of P₀.
    parts: [Tensor; 3],
}

impl<'a> Trainer<'a> {
    /// A trainer that starts from weights `[D, width]` and their bias, with λ = `penalty`.
    ///
    /// # Errors
    /// Lengths that do not fit; out of memory.
    pub fn new(
        gpu: &'a Gpu,
        classifier: &'a Classifier,
        (weight, bias): (&[f32], Option<&[f32]>),
        width: usize,
        penalty: f64,
    ) -> Result<Trainer<'a>> {
        let shape = [classifier.weights.cols(), width];
        let projection = FrozenLinear {
            weight: gpu.upload("projection", weight, &shape)?,
            bias: bias.map(|bias| gpu.upload("projection's bias", bias, &shape[..1])).transpose()?,
        };
        // Of λ·‖P − P₀‖² the gradient is 2·λ·P − 2·λ·P₀.
        let twice = (2.0 * penalty) as f32;
        let part = |keep: f32, share: f32| gpu.upload("share", &[keep, share], &[2]);
        Ok(Trainer {
            gpu,
            classifier,
            projection,
            start: gpu.upload("projection at the start", weight, &shape)?,
            moments: gpu.zeros("moments", &[2, weight.len()])?,
            hyper: gpu.zeros("hyper", &[8])?,
            parts: [part(0.0, 1.0)?, part(1.0, twice)?, part(1.0, -twice)?],
        })
    }

    /// Records a step for `n` pictures.
    ///
    /// # Errors
    /// Out of memory.
    pub fn step(&self, n: usize) -> Result<Step> {
        let (gpu, weight) = (self.gpu, &self.projection.weight);
        let images = gpu.empty("features before the projection", &[n, weight.cols()], DType::F32)?;
        let labels = gpu.upload("labels", &vec![0u32; n], &[n])?;
        let grad = gpu.empty("gradient", weight.shape(), DType::F32)?;
        let mut rec = Recorder::new(gpu);
        let r = &mut rec;
        let v = self.projection.forward(r, &images, &Epilogue::default())?;
        let unit = normalize::forward(r, &v)?;
        let logits = self.classifier.record(r, &unit.y)?;
        let ce = loss::cross_entropy(r, &logits, &labels)?;
        let loss = reduce::mean_first(r, &ce.losses)?;
        let scaled = Epilogue { alpha: self.classifier.scale, ..Epilogue::default() };
        let dunit = matmul(r, Layout::Nn, &ce.grad, &self.classifier.weights, &scaled)?;
        let dv = normalize::backward(r, &v, &unit.norms, &dunit)?;
        let of_loss = matmul(r, Layout::Tn, &dv, &images, &Epilogue::default())?;
        for (share, part) in self.parts.iter().zip([&of_loss, weight, &self.start]) {
            optim::accumulate(r, share, part, &grad)?;
        }
        optim::adamw(r, &self.hyper, &grad, &self.moments, weight)?;
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

    fn state(&self) -> [(String, &Tensor); 2] {
        [("projection".into(), &self.projection.weight), ("moments".into(), &self.moments)]
    }
}

/// A training under way.
struct Training<'a> {
    trainer: Trainer<'a>,
    step: Step,
    config: &'a Config,
    fed: Fed<'a>,
}

impl Job for Training<'_> {
    fn begin_epoch(&mut self, epoch: usize) -> Result<()> {
        self.fed.begin(epoch)
    }

    fn step(&mut self, at: At, pictures: &[usize]) -> Result<ReadBack<f32>> {
        let (images, labels) = self.fed.of(pictures);
        self.trainer.run(&self.step, &images, &labels, self.config.optimizer(at.number), at.number as u32 + 1)?;
        self.trainer.gpu.begin_read(&self.step.loss)
    }

    fn put_down(&self) -> Result<(State, Value)> {
        Ok((train::download(self.trainer.gpu, self.trainer.state())?, Value::Null))
    }

    fn take_up(&mut self, read: &ReadTensor<'_>, _rest: &Value) -> Result<()> {
        train::upload(self.trainer.gpu, self.trainer.state(), read)
    }
}

/// Trains a projection that begins as the model's own. `features(epoch)` gives features before the projection `[n, width]` of
/// the support pictures in that epoch. Gives the projection's weights `[D, width]` and each epoch's loss.
///
/// # Errors
/// As [`train::run`]; labels out of range, too little memory; what `features` gives.
pub fn train(
    clip: &Clip,
    classifier: &Classifier,
    config: &Config,
    (labels, features): (&[u32], &mut EpochSource<'_>),
    kept: Option<&mut Kept>,
    watch: &mut dyn Watch,
) -> Result<(FrozenLinear, Vec<f32>)> {
    config.check()?;
    let course = Course {
        what: "ProLIP",
        pictures: labels.len(),
        batch: labels.len(),
        whole_batches: true,
        epochs: config.epochs,
        seed: config.seed,
        stream: streams::SHUFFLE,
        rate: config.lr,
    };
    course.check()?;
    let own = clip.image.projection(&clip.gpu)?;
    let parts = (&own.weight[..], own.bias.as_deref());
    let trainer = Trainer::new(&clip.gpu, classifier, parts, own.width, config.penalty)?;
    let step = trainer.step(labels.len())?;
    let mut job = Training { trainer, step, config, fed: Fed::new(labels, features, own.width) };
    let losses = train::run(&mut job, &course, kept, watch)?;
    Ok((job.trainer.projection, losses))
}

/// The method.
pub struct ProLip;

/// Its settings.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Options {
    epochs: usize,
    lr: f64,
    /// None is 1/shots.
    penalty: Option<f64>,
}

impl Default for Options {
    fn default() -> Options {
        let Config { epochs, lr, .. } = Config::paper(1, 0);
        Options { epochs, lr, penalty: None }
    }
}

impl Options {
    fn config(self, shots: usize, seed: u64) -> Config {
        let paper = Config::paper(shots, seed);
        Config { epochs: self.epochs, lr: self.lr, penalty: self.penalty.unwrap_or(paper.penalty), ..paper }
    }
}

/// What its file says.
#[derive(Serialize, Deserialize)]
struct Words {
    templates: Vec<String>,
    config: Config,
    /// Whether training saw random views.
    augmented: bool,
    /// Random views that training drew from; 0 for fresh ones each epoch, or for the pictures as they are.
    views: usize,
}

/// A projection that has learned.
struct Learned {
    classifier: Classifier,
    projection: FrozenLinear,
    words: Words,
    plans: Plans,
}

impl Method for ProLip {
    fn info(&self) -> &'static Info {
        &Info {
            name: "prolip",
            aliases: &[],
            title: "ProLIP",
            about: "Trains the last projection of the image tower, and holds it close to where it was.",
            paper: "arXiv 2410.05270",
            needs: Needs { support: true, templates: true, training: true, ..Needs::NONE },
            memory: Some(Memory { what: "training ProLIP", by_batch: false }),
            published: None,
        }
    }

    fn settings(&self) -> &'static [Setting] {
        &[
            Setting::EPOCHS,
            Setting::COSINE_RATE,
            Setting {
                name: "penalty",
                help: "How strongly the projection is held in place, from 0 to 1000: the weight of its squared change. By default 1/shots.",
                kind: Kind::Number(PENALTY),
                alone: false,
            },
        ]
    }

    fn defaults(&self) -> Settings {
        method::untyped(&Options::default()).unwrap_or_default()
    }

    fn check(&self, settings: &Settings) -> Result<()> {
        method::typed::<Options>(settings)?.config(1, 0).check()
    }

    fn fit(&self, lesson: &mut Lesson<'_>, settings: &Settings, watch: &mut dyn Watch) -> Result<Fit> {
        let options: Options = method::typed(settings)?;
        let classifier = lesson.classifier(watch)?;
        let mut shots = vec![0usize; classifier.classes()];
        lesson.labels().iter().for_each(|label| shots[*label as usize] += 1);
        let config = options.config(shots.into_iter().max().unwrap_or(1), lesson.seed());
        let (clip, how, templates) = (lesson.clip(), lesson.how(), lesson.texts().templates.to_vec());
        let mut kept = lesson.kept(self, &config)?;
        let (labels, mut epochs) = lesson.epochs((Augment::TIP, 0), Tower::Unprojected, watch)?;
        let mut features = |epoch: usize| epochs.features(epoch);
        let material = (&labels[..], &mut features as &mut EpochSource<'_>);
        let (projection, losses) = train(clip, &classifier, &config, material, kept.as_mut(), watch)?;
        let views = if how.augment { how.views } else { 0 };
        let words = Words { templates, config, augmented: how.augment, views };
        Ok(Fit { losses, ..Fit::new(Learned { classifier, projection, words, plans: Plans::default() }) })
    }

    fn check_words(&self, words: &Settings) -> Result<()> {
        method::typed::<Words>(words).map(drop)
    }

    fn load(&self, file: &Loading<'_>) -> Result<Box<dyn Fitted>> {
        let (clip, classifier) = (file.clip, file.classifier()?);
        let own = clip.image.projection(&clip.gpu)?;
        let shape = [clip.config.embedding, own.width];
        let weight = clip.gpu.upload("projection", &file.floats("projection", &shape)?, &shape)?;
        let bias = own.bias.map(|bias| clip.gpu.upload("projection's bias", &bias, &shape[..1])).transpose()?;
        Ok(Box::new(Learned {
            classifier,
            projection: FrozenLinear { weight, bias },
            words: file.words()?,
            plans: Plans::default(),
        }))
    }

    fn rehearse(&self, rehearsal: &Rehearsal<'_>, _batch: usize) -> Result<()> {
        let (classifier, clip) = (rehearsal.texts()?, rehearsal.clip);
        let width = clip.image.projected_width();
        let weight = vec![0.0; width * clip.config.embedding];
        let trainer = Trainer::new(&clip.gpu, &classifier, (&weight, None), width, 1.0)?;
        trainer.step(rehearsal.pictures().max(1)).map(drop)
    }
}

impl Fitted for Learned {
    fn record(&self, rec: &mut Recorder, raw: &Tensor, _adapted: Option<&Tensor>) -> Result<Tensor> {
        let v = self.projection.forward(rec, raw, &Epilogue::default())?;
        let unit = normalize::forward(rec, &v)?.y;
        self.classifier.record(rec, &unit)
    }

    fn plans(&self) -> &Plans {
        &self.plans
    }

    fn width(&self, _clip: &Clip) -> usize {
        self.projection.weight.cols()
    }

    fn tower(&self) -> Tower {
        Tower::Unprojected
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn words(&self) -> Result<Settings> {
        method::untyped(&self.words)
    }

    fn tensors(&self, gpu: &Gpu) -> Result<Tensors> {
        let mut tensors = Tensors::default();
        tensors.classifier(gpu, &self.classifier)?;
        let weight = &self.projection.weight;
        tensors.floats("projection", weight.shape(), &gpu.read::<f32>(weight)?);
        Ok(tensors)
    }
}
