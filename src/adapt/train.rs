//! The loop of every training: shuffle, step, check, and a state that can be put down after any step and taken up with the
//! same bits. What is trained is a [`Job`]; this module knows neither pictures nor methods.
//!
//! The register of random streams is here, too: [`streams`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::adapter_file::floats;
use crate::clip::{Clip, ModelId};
use crate::data::{PythonRandom, stream_seed};
use crate::files::write_own;
use crate::gpu::{Gpu, ReadBack, Tensor};
use crate::platform::Instant;
use crate::watch::Watch;
use crate::{Error, Result, input, numbers};

/// All that random numbers in training and prediction are drawn for. What has a name here is drawn from a stream of its own,
/// so that no two draws of one seed are the same numbers.
pub mod streams {
    /// On the host, by [`stream_seed`](crate::data::stream_seed): order of pictures in an epoch.
    pub const SHUFFLE: u64 = 0x7368_7566;
    /// The same for Tip-Adapter-F.
    pub const SHUFFLE_TIP_F: u64 = 0x7469_7066;
    /// A head's first weights.
    pub const HEAD: u64 = 0x6865_6164;
    /// A correction's first weights.
    pub const CORRECTION: u64 = 0x6f76_6c70;
    /// The first of four layers of the head that training without labels looks through.
    pub const WIDE_HEAD: u64 = 0x6469_6e6f;
    /// PiNI's first parameters.
    pub const PINI: u64 = 0x5049_4e49;
    /// Those of its noise on pixels.
    pub const PINI_PIXELS: u64 = 0x5049_5849;

    /// On the device, by Philox: the text noise of a training step.
    pub const TEXT_NOISE: u32 = 1;
    /// The image noise of a training step.
    pub const IMAGE_NOISE: u32 = 2;
    /// The text noise of a draw in prediction.
    pub const DRAWN_TEXT_NOISE: u32 = 3;
    /// The image noise of a draw in prediction, of the first block of pictures; each further block takes the stream
    /// [`BLOCK_STREAMS`] above the last one's, so that its noise does not depend on what was asked before.
    pub const DRAWN_IMAGE_NOISE: u32 = 4;
    /// The noise on pixels of a training step.
    pub const PIXEL_NOISE: u32 = 5;
    /// The noise on pixels of all draws in prediction.
    pub const DRAWN_PIXEL_NOISE: u32 = 6;
    /// See [`DRAWN_IMAGE_NOISE`].
    pub const BLOCK_STREAMS: u32 = 8;
    /// Dropout in the first block of a tower; block i draws from this plus i.
    pub const DROPOUT: u32 = 1 << 16;
}

/// What a training goes through.
#[derive(Clone, Debug)]
pub struct Course {
    /// What is trained, as bars and errors say it: `PiNI`.
    pub what: &'static str,
    /// Pictures.
    pub pictures: usize,
    /// Pictures per step.
    pub batch: usize,
    /// Whether an epoch's last, smaller batch is left out.
    pub whole_batches: bool,
    /// Passes over the pictures.
    pub epochs: usize,
    /// Seed of the orders.
    pub seed: u64,
    /// The orders' stream, one of [`streams`].
    pub stream: u64,
    /// The rate, as an error that it is too high names it.
    pub rate: f64,
}

impl Course {
    /// Checks that there is something to do.
    pub(crate) fn check(&self) -> Result<()> {
        if self.pictures == 0 || self.batch == 0 || self.epochs == 0 {
            let reason = format!("{} needs at least one picture, one epoch and a batch of one", self.what);
            return Err(Error::Invalid(reason));
        }
        Ok(())
    }

    /// Pictures of a step that is not an epoch's last.
    pub fn batch(&self) -> usize {
        self.batch.min(self.pictures)
    }

    /// Pictures of an epoch's last step where they are fewer, and are not left out; else 0.
    pub fn rest(&self) -> usize {
        if self.whole_batches { 0 } else { self.pictures % self.batch().max(1) }
    }

    /// Steps of an epoch.
    pub fn per_epoch(&self) -> usize {
        self.pictures / self.batch().max(1) + usize::from(self.rest() > 0)
    }

    /// Steps in all.
    pub fn steps(&self) -> usize {
        self.per_epoch() * self.epochs
    }

    /// The pictures of an epoch, in the order in which they come.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.pictures).collect();
        PythonRandom::new(stream_seed(self.seed, self.stream, epoch as u64)).shuffle(&mut order);
        order
    }
}

/// Where a step stands.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The epoch under way, from 0 on.
    pub epoch: usize,
    /// The step's place in it.
    pub place: usize,
    /// Its number among all, from 0 on.
    pub number: usize,
}

/// Tensors on the host by name, with their shapes.
pub type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Reads a tensor of a state by name and shape.
pub type ReadTensor<'r> = dyn Fn(&str, &[usize]) -> Result<Vec<f32>> + 'r;

/// Gives the un-normalised features `[n, D]` of all pictures in an epoch.
pub type EpochSource<'s> = dyn FnMut(usize) -> Result<Vec<f32>> + 's;

/// Pictures' features, epoch by epoch, with their labels.
pub(crate) struct Fed<'a> {
    labels: &'a [u32],
    source: &'a mut EpochSource<'a>,
    width: usize,
    /// Those of the epoch under way, `[n, width]`.
    features: Vec<f32>,
}

impl<'a> Fed<'a> {
    /// Features `width` wide of pictures with these labels.
    pub fn new(labels: &'a [u32], source: &'a mut EpochSource<'a>, width: usize) -> Fed<'a> {
        Fed { labels, source, width, features: Vec::new() }
    }

    /// Gets an epoch's features.
    ///
    /// # Errors
    /// What the source gives; features of another number of pictures.
    pub fn begin(&mut self, epoch: usize) -> Result<()> {
        self.features = (self.source)(epoch)?;
        if self.features.len() != self.labels.len() * self.width {
            let (values, pictures) = (self.features.len(), self.labels.len());
            return Err(Error::invalid(format!("{values} feature values for {pictures} pictures")));
        }
        Ok(())
    }

    /// The features and labels of a step's pictures.
    pub fn of(&self, pictures: &[usize]) -> (Vec<f32>, Vec<u32>) {
        let row = |i: &usize| &self.features[i * self.width..(i + 1) * self.width];
        let rows = pictures.iter().flat_map(row).copied().collect();
        (rows, pictures.iter().map(|i| self.labels[*i]).collect())
    }
}

/// Something that trains.
pub trait Job {
    /// An epoch begins, or is gone on with.
    ///
    /// # Errors
    /// What making its inputs gives.
    fn begin_epoch(&mut self, epoch: usize) -> Result<()>;

    /// Starts a step on these pictures. Gives the step's loss, on its way from the device.
    ///
    /// # Errors
    /// A lost device; inputs that do not fit.
    fn step(&mut self, at: At, pictures: &[usize]) -> Result<ReadBack<f32>>;

    /// An epoch has ended.
    ///
    /// # Errors
    /// A lost device.
    fn end_epoch(&mut self, _epoch: usize) -> Result<()> {
        Ok(())
    }

    /// All that going on with the same bits needs: what trains and the optimizer's state; and what is no tensor.
    ///
    /// # Errors
    /// A lost device.
    fn put_down(&self) -> Result<(Tensors, Value)>;

    /// Takes up what [`Job::put_down`] gave.
    ///
    /// # Errors
    /// Tensors that are not there or of another shape.
    fn take_up(&mut self, read: &ReadTensor<'_>, rest: &Value) -> Result<()>;
}

/// [`Tensors`] of what is on the device.
///
/// # Errors
/// A lost device.
pub fn download<'t>(gpu: &Gpu, tensors: impl IntoIterator<Item = (String, &'t Tensor)>) -> Result<Tensors> {
    tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.shape().to_vec(), gpu.read(tensor)?))).collect()
}

/// The way back.
///
/// # Errors
/// As [`Job::take_up`].
pub fn upload<'t>(
    gpu: &Gpu,
    tensors: impl IntoIterator<Item = (String, &'t Tensor)>,
    read: &ReadTensor<'_>,
) -> Result<()> {
    tensors.into_iter().try_for_each(|(name, tensor)| gpu.write(tensor, &read(&name, tensor.shape())?))
}

/// Runs a training to its end, from the beginning or from the state that is kept. Gives the loss of each epoch's last step.
/// Equal inputs and seeds give equal bits on one device, however often it is stopped and gone on with.
///
/// A stop by `watch` takes effect after the step under way, and the state is put down.
///
/// # Errors
/// Nothing to do; a loss that is no longer finite; [`Error::Stopped`]; a lost device; what the job and the state's file give.
pub fn run(job: &mut dyn Job, course: &Course, mut kept: Option<&mut Kept>, watch: &mut dyn Watch) -> Result<Vec<f32>> {
    course.check()?;
    let (per_epoch, steps) = (course.per_epoch(), course.steps());
    let mut losses = Vec::new();
    let mut number = 0;
    if let Some(state) = kept.as_deref_mut().map(|kept| kept.load(job, course)).transpose()?.flatten() {
        (number, losses) = (state.step, state.losses);
        watch.note(&format!("going on after step {number} of {steps}"));
    }
    watch.begin(&format!("training {}", course.what), steps);
    let report = |(epoch, number, read): (usize, usize, ReadBack<f32>), watch: &mut dyn Watch| {
        let loss = super::loss_of(read)?;
        if !loss.is_finite() {
            return Err(Error::Diverged { what: course.what, loss, epoch: epoch + 1, rate: course.rate });
        }
        watch.show(&format!("{} epoch {} loss {loss:.3}", course.what, epoch + 1));
        match watch.at(number) {
            Ok(()) => Ok((loss, false)),
            Err(Error::Stopped) => Ok((loss, true)),
            Err(error) => Err(error),
        }
    };
    let (mut order, mut stopped, mut running) = (Vec::new(), false, None);
    while number < steps {
        let at = At { epoch: number / per_epoch, place: number % per_epoch, number };
        if at.place == 0 || order.is_empty() {
            job.begin_epoch(at.epoch)?;
            order = course.order(at.epoch);
        }
        let first = at.place * course.batch();
        let pictures = &order[first..(first + course.batch()).min(order.len())];
        // A loss is fetched one step late, so that the device never waits for the host.
        let read = job.step(at, pictures)?;
        number += 1;
        if let Some(earlier) = running.replace((at.epoch, number, read)) {
            stopped |= report(earlier, watch)?.1;
        }
        let ended = number % per_epoch == 0;
        let due = kept.as_ref().is_some_and(|kept| kept.is_due(ended)) && number < steps;
        if ended || due || stopped {
            // A state is put down only once its loss is known to be a number.
            if let Some((loss, stop)) = running.take().map(|last| report(last, watch)).transpose()? {
                stopped |= stop && number < steps;
                if ended {
                    losses.push(loss);
                }
            }
        }
        if ended {
            job.end_epoch(at.epoch)?;
        }
        if let Some(kept) = kept.as_deref_mut().filter(|_| due || stopped) {
            kept.save(job, number, &losses)?;
        }
        if stopped {
            watch.end();
            return Err(Error::Stopped);
        }
    }
    watch.end();
    Ok(losses)
}

/// What a training must have in common with the one that a state is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// What is trained.
    pub method: String,
    /// The model.
    pub model: ModelId,
    /// The classes.
    pub classes: Vec<String>,
    /// All settings, seeds among them.
    pub settings: Value,
    /// What is trained on, in words or as a digest: pictures, labels and views.
    pub data: String,
}

impl Identity {
    /// A training of `method` on a model.
    ///
    /// # Errors
    /// As [`Clip::id`]; settings that cannot be written down.
    pub fn new(
        method: &str,
        clip: &Clip,
        classes: &[String],
        settings: &impl Serialize,
        data: String,
    ) -> Result<Identity> {
        let settings = serde_json::to_value(settings).map_err(|e| Error::invalid(format!("settings: {e}")))?;
        Ok(Identity { method: method.into(), model: clip.id()?.clone(), classes: classes.to_vec(), settings, data })
    }

    /// What in another one differs first, in words.
    fn difference(&self, found: &Identity) -> Option<String> {
        if self.method != found.method {
            return Some(format!("it is of {}, this is {}", found.method, self.method));
        }
        if self.model.sha256 != found.model.sha256 {
            return Some(format!("it is of model '{}', this is '{}'", found.model.name, self.model.name));
        }
        if self.classes != found.classes {
            return Some(format!("it has {} classes, these are {} others", found.classes.len(), self.classes.len()));
        }
        if let Some(text) = crate::settings::difference(&found.settings, &self.settings) {
            return Some(text);
        }
        (self.data != found.data).then(|| "it was trained on other pictures or other views of them".into())
    }
}

const FORMAT: &str = "tipi-training/1";

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    #[serde(flatten)]
    identity: Identity,
    /// Steps done.
    step: usize,
    /// Loss of each epoch's last step.
    losses: Vec<f32>,
    /// What else the job put down.
    rest: Value,
}

/// How often a state is put down, from the end of the first epoch on, where nobody says.
const EVERY: Duration = Duration::from_secs(5);

/// A training's state in a file.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    identity: Identity,
    every: Duration,
    /// When that was done last.
    last: Option<Instant>,
    begun: Instant,
    resume: bool,
}

impl Kept {
    /// A state at `path`. With `resume` training goes on from what is there, if something is; without, that is written over.
    pub fn new(path: &Path, identity: Identity, resume: bool) -> Kept {
        Kept { path: path.to_path_buf(), identity, every: EVERY, last: None, begun: Instant::now(), resume }
    }

    /// The same, put down this often at the least.
    #[must_use]
    pub fn every(self, every: Duration) -> Kept {
        Kept { every, ..self }
    }

    /// Whether a state is to be put down: at the end of the first epoch, and whenever enough time has passed.
    fn is_due(&self, ended: bool) -> bool {
        ended && self.last.is_none() || self.last.unwrap_or(self.begun).elapsed() >= self.every
    }

    /// Writes a state through a temporary file.
    fn save(&mut self, job: &dyn Job, step: usize, losses: &[f32]) -> Result<()> {
        let bad = |e: &dyn std::fmt::Display| Error::adapter_file(&self.path, format!("cannot be written: {e}"));
        let (tensors, rest) = job.put_down()?;
        let mut views = Vec::with_capacity(tensors.len());
        for (name, shape, values) in &tensors {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
            views.push((name.clone(), view.map_err(|e| bad(&e))?));
        }
        let identity = self.identity.clone();
        let header = Header { format: FORMAT.into(), identity, step, losses: losses.to_vec(), rest };
        let json = serde_json::to_string(&header).map_err(|e| bad(&e))?;
        let bytes = safetensors::serialize(views, Some(HashMap::from([("tipi".to_string(), json)])));
        write_own(&self.path, &bytes.map_err(|e| bad(&e))?)?;
        self.last = Some(Instant::now());
        Ok(())
    }

    /// Takes up the state that the same training left, where one is to be gone on with.
    fn load(&mut self, job: &mut dyn Job, course: &Course) -> Result<Option<Header>> {
        let path = &self.path;
        if !self.resume || !path.is_file() {
            return Ok(None);
        }
        let bytes = input::read(path, input::limit::TENSORS)?;
        let unsound = |e: safetensors::SafeTensorError| Error::Safetensors {
            path: path.clone(),
            reason: format!("{e}; the file is truncated or damaged, remove it to start anew"),
        };
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(unsound)?;
        let json = metadata.metadata().as_ref().and_then(|m| m.get("tipi"));
        let json = json.ok_or_else(|| Error::adapter_file(path, "this is no checkpoint of a training"))?;
        // The format first: another one's header may have other fields.
        let format: Value = serde_json::from_str(json).unwrap_or_default();
        let format = format.get("format").and_then(Value::as_str).unwrap_or_default();
        if format != FORMAT {
            let format = crate::text::cut(format, crate::text::NAME);
            let reason = format!("format '{format}', this tipi reads '{FORMAT}'; remove it to start anew");
            return Err(Error::adapter_file(path, reason));
        }
        let header: Header = serde_json::from_str(json)
            .map_err(|e| Error::adapter_file(path, format!("this is no checkpoint of a training: {e}")))?;
        if let Some(difference) = self.identity.difference(&header.identity) {
            let reason =
                format!("a checkpoint of other settings: {difference}; give those, or remove it to start anew");
            return Err(Error::adapter_file(path, reason));
        }
        let (step, steps) = (header.step, course.steps());
        let sound = header.losses.len() == step / course.per_epoch().max(1);
        if !sound || numbers::not_finite(&header.losses).is_some() || step > steps || u32::try_from(step).is_err() {
            let reason = format!(
                "step {step} of {steps} and {} losses do not belong together; remove it to start anew",
                header.losses.len()
            );
            return Err(Error::adapter_file(path, reason));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(unsound)?;
        job.take_up(&|name, shape| floats(path, &file, name, shape), &header.rest).map_err(|error| match error {
            Error::Invalid(reason) => Error::adapter_file(path, reason),
            other => other,
        })?;
        Ok(Some(header))
    }
}

#[cfg(test)]
mod tests {
    use super::Course;

    #[test]
    fn a_course_takes_what_there_is() {
        let course = |pictures, batch, whole_batches| Course {
            what: "nothing",
            pictures,
            batch,
            whole_batches,
            epochs: 3,
            seed: 1,
            stream: 2,
            rate: 0.1,
        };
        let some = course(10, 4, false);
        assert_eq!((some.batch(), some.rest(), some.per_epoch(), some.steps()), (4, 2, 3, 9));
        let whole = course(10, 4, true);
        assert_eq!((whole.rest(), whole.per_epoch()), (0, 2));
        let few = course(3, 32, true);
        assert_eq!((few.batch(), few.per_epoch(), few.rest()), (3, 1, 0));
        assert!(course(0, 4, false).check().is_err() && course(1, 0, false).check().is_err());
        let mut order = some.order(1);
        assert_ne!(order, some.order(2));
        order.sort_unstable();
        assert_eq!(order, (0..10).collect::<Vec<_>>());
    }
}
