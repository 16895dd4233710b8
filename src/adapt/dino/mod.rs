//! The overlap correction trained without labels (arXiv 2409.11338, with DINO, arXiv 2104.14294): a student sees two global and
//! ten local crops of each picture and is to say of each what its teacher says of another global one. Both are the frozen image
//! tower with bottlenecks of their own ([`crate::adapt::overlap`]), and look through one random head, which is frozen.
//!
//! loss = mean over pictures and over pairs (q, v), q a global crop of the teacher's and v another of the student's, of
//! −Σ_k t_q\[k]·log p_v\[k], with t = softmax((teacher − centre)/τ) and p = softmax(student/0.1). The centre is a running mean of
//! what the teacher says, the teacher a running mean of the student.
//!
//! As the authors ran it: no dropout, gradients clipped tensor by tensor, decay of matrices alone, flips and no changes of
//! colour. Otherwise than there, pixels are normalised as the model wants them, in training as later. What is kept is the student.

mod head;
mod trainer;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::head::{Head, MOST_WIDTH, Values};
pub use self::trainer::{Step, Trainer};
use super::adapter_file::CORRECTION;
use super::lesson::Place;
use super::overlap::{Config, Correction};
use super::schedule;
use super::train::{self, At, Course, Identity, Job, Kept, ReadTensor, Tensors, streams};
use crate::clip::Clip;
use crate::data::{Augment, Item, Shelf};
use crate::encode::source::digest_of;
use crate::encode::{self, Crops};
use crate::gpu::{ReadBack, advise, largest};
use crate::watch::Watch;
use crate::{Error, Result, numbers, text};

/// Crops of each picture that the teacher sees.
pub const GLOBAL_CROPS: usize = 2;

/// The most local crops.
pub const MOST_LOCAL_CROPS: usize = 96;

/// What training without labels has besides [`Config`], whose rate and decay are where its schedules begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfSupervised {
    /// Outputs of the head.
    pub head: usize,
    /// Width of its first two layers.
    pub hidden: usize,
    /// Width of its third.
    pub narrow: usize,
    /// Local crops of each picture, beside the two global ones.
    pub local_crops: usize,
    /// The student's temperature.
    pub student_temperature: f64,
    /// The teacher's temperature at the beginning, and later.
    pub teacher_temperature: (f64, f64),
    /// Epochs over which the one becomes the other.
    pub temperature_epochs: usize,
    /// The share of the teacher that stays at a step, at the beginning; 1 at the end, by a cosine.
    pub momentum: f64,
    /// The share of the centre that stays at a step.
    pub centre_momentum: f64,
    /// The length that each tensor's gradient is cut to.
    pub clip: f64,
    /// Epochs over which the rate rises from 0.
    pub warm_epochs: usize,
    /// The rate at the end, by a cosine.
    pub last_rate: f64,
    /// Weight decay at the end, by a cosine.
    pub last_decay: f64,
}

impl Default for SelfSupervised {
    /// The paper's settings.
    fn default() -> SelfSupervised {
        SelfSupervised {
            head: 65_536,
            hidden: 2048,
            narrow: 256,
            local_crops: 10,
            student_temperature: 0.1,
            teacher_temperature: (0.04, 0.07),
            temperature_epochs: 3,
            momentum: 0.9998,
            centre_momentum: 0.9,
            clip: 0.3,
            warm_epochs: 2,
            last_rate: 2e-6,
            last_decay: 0.4,
        }
    }
}

/// The authors' batch: 40 pictures on each of three GPUs.
pub const BATCH: usize = 120;

/// The rate that belongs to a batch: 8e-4 for 256 pictures.
pub fn rate(batch: usize) -> f64 {
    8e-4 * batch as f64 / 256.0
}

/// What the schedules say of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// AdamW's rate.
    pub rate: f64,
    /// Weight decay of matrices.
    pub decay: f64,
    /// The share of the teacher that stays.
    pub momentum: f64,
    /// The teacher's temperature.
    pub temperature: f64,
}

impl SelfSupervised {
    /// Widths of the head's layers: of the first two, of the third, and of the last.
    pub fn sizes(&self) -> [usize; 3] {
        [self.hidden, self.narrow, self.head]
    }

    /// Checks the numbers that training multiplies by, and that the head can be made.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number outside its range.
    pub fn check(&self) -> Result<()> {
        head::check(self.sizes())?;
        if !(1..=MOST_LOCAL_CROPS).contains(&self.local_crops) {
            let reason = format!("{} local crops; there must be 1 to {MOST_LOCAL_CROPS}", self.local_crops);
            return Err(Error::invalid(reason));
        }
        let (first, last) = self.teacher_temperature;
        numbers::TEMPERATURE.check("the student's temperature", self.student_temperature)?;
        numbers::TEMPERATURE.check("the teacher's temperature", first)?;
        numbers::TEMPERATURE.check("the teacher's temperature", last)?;
        numbers::DECAY.check("the teacher's momentum", self.momentum)?;
        numbers::DECAY.check("the centre's momentum", self.centre_momentum)?;
        numbers::RATE.check("the length of gradients", self.clip)?;
        numbers::RATE.check("the last learning rate", self.last_rate)?;
        numbers::DECAY.check("the last weight decay", self.last_decay).map(drop)
    }

    /// What holds at step `number`, from 0 on, of a training of so many epochs of `per_epoch` steps.
    pub fn moment(&self, config: &Config, per_epoch: usize, number: usize) -> Moment {
        let total = per_epoch * config.epochs;
        let warm = (per_epoch * self.warm_epochs).min(total);
        Moment {
            rate: schedule::warmed(number, (warm, total), (config.lr, self.last_rate)),
            decay: schedule::between(number, total, (config.weight_decay, self.last_decay)),
            momentum: schedule::between(number, total, (self.momentum, 1.0)),
            temperature: schedule::temperature(
                number / per_epoch.max(1),
                self.temperature_epochs,
                self.teacher_temperature,
            ),
        }
    }
}

/// Gives the normalised pixels of the global and of the local crops of the pictures with these numbers, in the epoch given
/// first: each `[views · n, 3, side, side]`, view after view.
pub type CropSource<'a> = dyn FnMut(usize, &[usize]) -> Result<Vec<Vec<f32>>> + 'a;

/// Makes all that training `n` pictures at a time needs, in a rehearsal.
pub(crate) fn rehearse(clip: &Clip, config: &Config, settings: &SelfSupervised, n: usize) -> Result<()> {
    Trainer::fresh(&clip.rehearsal(), config, settings)?.step(n).map(drop)
}

/// Checks before anything is made that the head fits with `n` pictures at a time, and says what would where it does not.
fn foresee(clip: &Clip, config: &Config, settings: &SelfSupervised, n: usize) -> Result<()> {
    let Err(error) = rehearse(clip, config, settings, n) else { return Ok(()) };
    let Error::OutOfMemory { what, needed, why } = error else { return Err(error) };
    let with = |head: usize| SelfSupervised { head, ..settings.clone() };
    let pictures = largest(n.saturating_sub(1), &|n| rehearse(clip, config, settings, n))?;
    let head = largest(settings.head.saturating_sub(1), &|head| rehearse(clip, config, &with(head), n))?;
    let fits = match (pictures, head) {
        (0, 0 | 1) => "nor would a smaller head, even with one picture at a time".to_string(),
        (0, head) => format!("a head of {head} would fit"),
        (pictures, 0 | 1) => format!("{} at a time would fit", text::count(pictures, "picture", "pictures")),
        (pictures, head) => {
            let pictures = text::count(pictures, "picture", "pictures");
            format!("{pictures} at a time, or a head of {head}, would fit")
        }
    };
    let what = format!(
        "training the correction without labels with a head of {} and {} at a time ({what})",
        settings.head,
        text::count(n, "picture", "pictures")
    );
    Err(Error::OutOfMemory { what, needed, why: format!("{why}; {fits}") })
}

/// A training under way.
struct Training<'a> {
    trainer: Trainer<'a>,
    clip: &'a Clip,
    config: &'a Config,
    settings: &'a SelfSupervised,
    course: &'a Course,
    crops: &'a mut CropSource<'a>,
    /// Steps for whole parts and for the shorter last one, made when first needed.
    steps: BTreeMap<usize, Step>,
}

impl Job for Training<'_> {
    fn begin_epoch(&mut self, _epoch: usize) -> Result<()> {
        Ok(())
    }

    fn step(&mut self, at: At, pictures: &[usize]) -> Result<ReadBack<f32>> {
        let now = self.settings.moment(self.config, self.course.per_epoch(), at.number);
        for (i, part) in pictures.chunks(self.config.micro_batch).enumerate() {
            let step = match self.steps.entry(part.len()) {
                Entry::Occupied(step) => step.into_mut(),
                Entry::Vacant(place) => {
                    let (clip, config, settings) = (self.clip, self.config, self.settings);
                    place.insert(self.trainer.step(part.len()).map_err(|error| {
                        let again = |n| rehearse(clip, config, settings, n);
                        advise(error, "training the correction without labels with", part.len(), &again)
                    })?)
                }
            };
            let values = (self.crops)(at.epoch, part)?;
            self.trainer.run(step, &values, (part.len() as f32 / pictures.len() as f32, i == 0), &now)?;
        }
        self.trainer.update(&now, at.number as u32 + 1)?;
        self.trainer.begin_loss()
    }

    fn put_down(&self) -> Result<(Tensors, Value)> {
        Ok((train::download(&self.clip.gpu, self.trainer.state())?, Value::Null))
    }

    fn take_up(&mut self, read: &ReadTensor<'_>, _rest: &Value) -> Result<()> {
        train::upload(&self.clip.gpu, self.trainer.state(), read)
    }
}

/// Trains a correction on this many pictures, whose crops `crops` gives. Equal inputs and seed give equal bits on one device.
/// Gives the student, and the loss of each epoch's last step. An epoch's last, smaller batch is left out.
///
/// # Errors
/// As [`train::run`]; fewer than two pictures; settings out of range; a model that takes no crops; a head that does not fit the
/// memory, with what would; what `crops` gives.
pub fn train(
    clip: &Clip,
    (config, settings): (&Config, &SelfSupervised),
    (pictures, crops): (usize, &mut CropSource<'_>),
    kept: Option<&mut Kept>,
    watch: &mut dyn Watch,
) -> Result<(Correction, Vec<f32>)> {
    config.check()?;
    if pictures < 2 {
        let there = text::count(pictures, "picture", "pictures");
        return Err(Error::invalid(format!(
            "training without labels needs at least two pictures, and there is {there}"
        )));
    }
    let course = Course {
        what: "the correction without labels",
        pictures,
        batch: config.batch,
        whole_batches: true,
        epochs: config.epochs,
        seed: config.seed,
        stream: streams::SHUFFLE,
        rate: config.lr,
    };
    course.check()?;
    if config.micro_batch == 0 {
        return Err(Error::invalid("the correction needs a micro-batch of at least one picture"));
    }
    foresee(clip, config, settings, config.micro_batch.min(course.batch()))?;
    let trainer = Trainer::fresh(clip, config, settings)?;
    let mut job = Training { trainer, clip, config, settings, course: &course, crops, steps: BTreeMap::new() };
    let losses = train::run(&mut job, &course, kept, watch)?;
    Ok((job.trainer.student, losses))
}

/// Trains a correction on pictures, whose labels are not looked at. They have been decoded before. `place` is where training is
/// put down.
///
/// # Errors
/// As [`train()`]; a picture that can no longer be decoded.
pub fn learn(
    clip: &Clip,
    (items, shelf): (&[Item], &Shelf),
    (config, settings): (&Config, &SelfSupervised),
    place: Option<Place>,
    watch: &mut dyn Watch,
) -> Result<(Correction, Vec<f32>)> {
    let (global, local) = (clip.preprocess.size, clip.image.vit()?.local_side()?);
    let kinds = [
        Crops { augment: Augment::GLOBAL, count: GLOBAL_CROPS, side: global },
        Crops { augment: Augment::LOCAL, count: settings.local_crops, side: local },
    ];
    let mut crops = |epoch: usize, which: &[usize]| {
        let chosen: Vec<Item> = which.iter().map(|i| items[*i].clone()).collect();
        encode::crops(clip, &chosen, shelf, &kinds, (config.seed, epoch))
    };
    let mut kept = None;
    if let Some(Place { path, resume }) = place {
        let unlabelled: Vec<Item> = items.iter().map(|item| Item { label: 0, ..item.clone() }).collect();
        let data = digest_of(&unlabelled, shelf, clip.preprocess.depth)?;
        kept = Some(Kept::new(&path, Identity::new(CORRECTION, clip, &[], config, data)?, resume));
    }
    train(clip, (config, settings), (items.len(), &mut crops), kept.as_mut(), watch)
}
