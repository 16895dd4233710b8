//! What has learned, and answers.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::encoders::{Encoder, Encoders, Wanted, prepared};
use super::features::ImageFeatures;
use super::{Method, Model, Prediction};
use crate::adapt::adapter_file::{self, Description, File, Meta};
use crate::adapt::evidence::{self, Calibration, EvidenceCounts, UnknownBy};
use crate::adapt::known::Known;
use crate::adapt::method::{self, Fitted};
use crate::adapt::zero_shot;
use crate::clip::Features;
use crate::data::Picture;
use crate::encode::Tower;
use crate::gpu::{Plan, ReadBack, Recorder, Tensor};
use crate::output::{Kind, Output};
use crate::watch::{Unwatched, Watch};
use crate::{Error, Result, numbers};

/// Ways from pictures to logits that are kept recorded.
const READY: usize = 2;

/// A method that has learned, bound to its model: it tells classes apart. Cheap to clone; clones can be used from several
/// threads at once, which then take turns.
#[derive(Clone)]
pub struct Classifier {
    inner: Arc<Inner>,
    asked: Asked,
    batch: Option<usize>,
}

/// What is asked of answers beside the likeliest class.
#[derive(Clone, Default)]
struct Asked {
    /// The probability that the likeliest class must have.
    least: f64,
    /// What tells the unknown, and how familiar a picture must be; none where the evidence does not tell.
    familiar: Option<(UnknownBy, Option<f64>)>,
    /// The probability that classes must have to be in the set: for each, or one for all; none of what is always in it.
    set: Option<Arc<[Option<f32>]>>,
}

struct Inner {
    model: Model,
    fitted: Box<dyn Fitted>,
    classes: Arc<[String]>,
    story: Story,
    /// What a file says of it: made when first asked for, since the model's identity takes reading all its weights.
    meta: OnceLock<Meta>,
    /// Towers with a correction of this classifier's; others are the model's.
    corrected: Encoders,
    ready: Mutex<Vec<Arc<Ready>>>,
}

/// How it came to be.
pub(super) struct Story {
    pub method: Description,
    pub shots: Option<usize>,
    pub seed: u64,
    pub calibration: Calibration,
    /// What its keys are of.
    pub pictures: Vec<String>,
}

impl Story {
    /// Of what has learned from text alone.
    fn of_text(method: Description) -> Story {
        Story { method, shots: None, seed: 0, calibration: Calibration::default(), pictures: Vec::new() }
    }
}

/// Takes what became of each picture of a batch, and of those that were decoded the logits and, where they are asked for, the cosines
/// with the most similar known picture.
type Each<'a> = dyn FnMut(Vec<Result<()>>, (&[f32], &[f32])) -> Result<()> + 'a;

/// The way from pictures to logits, recorded: the method's part takes the tower's features where they are.
struct Ready {
    encoder: Arc<Encoder>,
    plan: Plan,
    logits: Tensor,
    /// `[n, 2]`, the second of each row being the cosine with the most similar known picture.
    near: Option<Tensor>,
}

impl Classifier {
    pub(super) fn new(model: &Model, fitted: Box<dyn Fitted>, classes: &[String], story: Story) -> Classifier {
        Classifier::with(model, fitted, (classes, story), OnceLock::new())
    }

    fn with(
        model: &Model,
        fitted: Box<dyn Fitted>,
        (classes, story): (&[String], Story),
        meta: OnceLock<Meta>,
    ) -> Classifier {
        let (corrected, ready) = (Encoders::default(), Mutex::default());
        let inner = Inner { model: model.clone(), fitted, classes: classes.into(), story, meta, corrected, ready };
        Classifier { inner: Arc::new(inner), asked: Asked::default(), batch: None }
    }

    pub(super) fn of_text(model: &Model, classes: &[String], templates: &[String]) -> Result<Classifier> {
        let clip = model.clip();
        let classifier = zero_shot::Classifier::new(clip, classes, templates)?;
        let fitted = zero_shot::fitted(classifier, templates);
        let method = Description::new(method::baseline().info().name, &*fitted)?;
        Ok(Classifier::new(model, fitted, classes, Story::of_text(method)))
    }

    /// Of a classifier whose prompts are not told.
    pub(super) fn of_texts(model: &Model, texts: zero_shot::Classifier, classes: &[String]) -> Result<Classifier> {
        let fitted = zero_shot::fitted(texts, &[]);
        let method = Description::new(method::baseline().info().name, &*fitted)?;
        Ok(Classifier::new(model, fitted, classes, Story::of_text(method)))
    }

    pub(super) fn of_file(model: &Model, file: &File) -> Result<Classifier> {
        let (fitted, calibration) = file.bind(model.clip())?.into_method()?;
        let Meta { classes, method, shots, seed, pictures, .. } = file.meta.clone();
        let story = Story { method, shots, seed, calibration, pictures };
        Ok(Classifier::with(model, fitted, (&classes, story), file.meta.clone().into()))
    }

    /// The same, but answering "unknown" ([`Prediction::class`] is none) where the likeliest class is less probable than
    /// `probability`, from 0 to 1.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no probability.
    pub fn asking_for(&self, probability: f64) -> Result<Classifier> {
        let least = numbers::PROBABILITY.check("the probability to ask for", probability)?;
        Ok(Classifier { asked: Asked { least, ..self.asked.clone() }, ..self.clone() })
    }

    /// The same, but answering "unknown" to what is not like the pictures it knows: of pictures that are of one of its classes, at
    /// least the share `keep`, from 0 to 1, gets an answer. The threshold comes from the pictures behind its confidence
    /// ([`Classifier::evidence`]); where they are too few for that share ([`Classifier::supported`]), all get an answer.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no share; where there is no evidence; for [`UnknownBy::Distance`] where it has learned from no pictures.
    pub fn keeping(&self, keep: f64, by: UnknownBy) -> Result<Classifier> {
        let keep = numbers::PROBABILITY.check("the share to keep", keep)?;
        let least = self.calibrated()?.least_familiar(keep, by)?;
        Ok(Classifier { asked: Asked { familiar: Some((by, least)), ..self.asked.clone() }, ..self.clone() })
    }

    /// The same, but saying of each picture which classes it may be of ([`Prediction::set`]): the smallest sets that hold the right one
    /// with probability `coverage`, from 0 to 1; for pictures of all classes together or, with `per_class`, of each class.
    /// Source: split conformal prediction (arXiv 2107.07511) over [`Classifier::evidence`]. Where that is too little for the
    /// coverage ([`Classifier::supported`]), sets hold all classes of which it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no probability; where there is no evidence.
    pub fn covering(&self, coverage: f64, per_class: bool) -> Result<Classifier> {
        let coverage = numbers::PROBABILITY.check("the coverage", coverage)?;
        let calibration = self.calibrated()?;
        let of = |label| calibration.least_probability(coverage, label);
        let set: Vec<Option<f32>> = match per_class {
            true => (0..self.classes().len() as u32).map(|label| of(Some(label))).collect(),
            false => vec![of(None)],
        };
        Ok(Classifier { asked: Asked { set: Some(set.into()), ..self.asked.clone() }, ..self.clone() })
    }

    /// The pictures that confidence rests on: what it has not learned from.
    pub fn evidence(&self) -> EvidenceCounts {
        self.inner.story.calibration.counts
    }

    /// The highest coverage, or share to keep, that the evidence supports: n/(n + 1) of n pictures, those of the class with fewest
    /// where `per_class`.
    pub fn supported(&self, per_class: bool) -> f64 {
        let rows = &self.inner.story.calibration.rows;
        if !per_class {
            return Calibration::supported(rows.len());
        }
        let mut counts = vec![0usize; self.classes().len()];
        for row in rows {
            if let Some(count) = counts.get_mut(row.label as usize) {
                *count += 1;
            }
        }
        Calibration::supported(counts.into_iter().min().unwrap_or_default())
    }

    fn calibrated(&self) -> Result<&Calibration> {
        match &self.inner.story.calibration {
            calibration if calibration.rows.is_empty() => Err(Error::invalid(
                "the adapter holds no evidence of how often it is right: fit it again, with at least two pictures per class",
            )),
            calibration => Ok(calibration),
        }
    }

    /// The classes, in the order of scores and probabilities.
    pub fn classes(&self) -> &[String] {
        &self.inner.classes
    }

    /// The method that learned it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a file of a method that is not in the register.
    pub fn method(&self) -> Result<Method> {
        Method::named(&self.inner.story.method.name)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.inner.model
    }

    /// Probabilities are softmax(scores/T): T as it was fitted on [`Classifier::evidence`], none where there was none. Without it
    /// they may claim too much.
    pub fn temperature(&self) -> Option<f64> {
        self.inner.story.calibration.temperature
    }

    /// Where pictures may have several classes (`tipi fit --multi-label`): from which score on a picture has each. Its predictions'
    /// probabilities then say nothing; their scores do.
    pub fn thresholds(&self) -> Option<&[f64]> {
        self.inner.meta.get()?.thresholds.as_deref()
    }

    /// What it found, for people: `alpha 1.200, beta 5.500`; empty where there is nothing to tell.
    pub fn facts(&self) -> String {
        self.inner.fitted.facts().to_string()
    }

    /// What a picture shows. The first call records the way, which the following ones take.
    ///
    /// # Errors
    /// A picture that cannot be read or decoded; too little memory, a lost device.
    pub fn predict(&self, picture: &Picture) -> Result<Prediction> {
        let mut all = self.predict_all(std::slice::from_ref(picture), &mut Unwatched)?;
        all.pop().unwrap_or_else(|| Err(Error::invalid("no answer for a picture")))
    }

    /// What pictures show, in their order; an error for each that cannot be read or decoded.
    ///
    /// # Errors
    /// Too little memory, a lost device; what `watch` gives.
    pub fn predict_all(&self, pictures: &[Picture], watch: &mut dyn Watch) -> Result<Vec<Result<Prediction>>> {
        let mut answers = Vec::with_capacity(pictures.len());
        self.predict_each(pictures, watch, &mut |_, answer| {
            answers.push(answer);
            Ok(())
        })?;
        Ok(answers)
    }

    /// The same, answer by answer: `each` is called with a picture's number and what it shows, in the order of the pictures.
    ///
    /// # Errors
    /// As [`Classifier::predict_all`]; what `each` gives, which ends the work.
    pub fn predict_each(
        &self,
        pictures: &[Picture],
        watch: &mut dyn Watch,
        each: &mut dyn FnMut(usize, Result<Prediction>) -> Result<()>,
    ) -> Result<()> {
        let mut number = 0;
        self.logits(pictures, watch, &mut |batch, (logits, near)| {
            let mut rows = logits.chunks_exact(self.classes().len()).enumerate();
            for picture in batch {
                let row = picture.and_then(|()| rows.next().ok_or_else(|| Error::invalid("no answer for a picture")));
                each(number, row.and_then(|(i, row)| self.prediction(row, near.get(i).copied())))?;
                number += 1;
            }
            Ok(())
        })
    }

    /// The same, taking exactly `pictures` at a time, whether there is memory for so many or not; otherwise it takes up to 32, as
    /// memory allows. Answers do not depend on it.
    #[must_use]
    pub fn in_batches_of(&self, pictures: usize) -> Classifier {
        Classifier { batch: Some(pictures), ..self.clone() }
    }

    /// Whether [`Classifier::predict_features`] works for this one: its method takes the model's own features.
    pub fn takes_features(&self) -> bool {
        self.inner.fitted.tower() == Tower::Plain
    }

    /// What pictures with these un-normalised features of [`Model::encode`] show.
    ///
    /// # Errors
    /// [`Error::Invalid`] for features of another width, or a method that takes those of another tower (with a correction, or
    /// before the projection); too little memory, a lost device.
    pub fn predict_features(&self, features: &ImageFeatures) -> Result<Vec<Prediction>> {
        let (fitted, clip) = (&self.inner.fitted, self.model().clip());
        if !self.takes_features() {
            let reason =
                format!("{} takes other features than the model's own: give it pictures", self.inner.story.method.name);
            return Err(Error::invalid(reason));
        }
        if features.width() != clip.config.embedding {
            let (have, want) = (features.width(), clip.config.embedding);
            return Err(Error::invalid(format!("features are {have} wide, the model's {want}")));
        }
        let features = Features::from(features.values().to_vec());
        let (logits, near) = (fitted.logits(clip, &features, 0)?, self.near(&features)?);
        let rows = logits.chunks_exact(self.classes().len()).enumerate();
        rows.map(|(i, row)| self.prediction(row, near.get(i).copied())).collect()
    }

    /// Writes an adapter file, which [`Model::open_adapter`] and `tipi predict` read. An adapter that is there already is
    /// overwritten, any other file is not.
    ///
    /// # Errors
    /// [`Error::Foreign`] for another file in its place; [`Error::Io`]; a lost device.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let output = Output::open(path, Kind::Adapter, false)?;
        output.write(&self.bytes(path)?)
    }

    /// The same as bytes. Equal adapters give equal ones.
    ///
    /// # Errors
    /// A lost device.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.bytes("adapter".as_ref())
    }

    fn bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let gpu = &self.model().clip().gpu;
        let mut tensors = self.inner.fitted.tensors(gpu)?;
        self.inner.story.calibration.write(gpu, &mut tensors)?;
        adapter_file::bytes_of(path, self.meta()?, tensors)
    }

    fn meta(&self) -> Result<&Meta> {
        if let Some(meta) = self.inner.meta.get() {
            return Ok(meta);
        }
        let Story { method, shots, seed, calibration, pictures } = &self.inner.story;
        let meta = Meta::new(self.model().clip(), self.classes(), method.clone(), *shots, *seed)?;
        let meta = meta.calibrated(calibration).with_pictures(pictures.clone());
        Ok(self.inner.meta.get_or_init(|| meta))
    }

    /// Gives back the GPU memory that was kept for the next pictures. They take a little longer then.
    pub fn release(&self) {
        self.inner.ready.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.inner.corrected.clear();
        self.inner.fitted.plans().clear();
        self.model().gpu().release();
    }

    /// The cosine of each of these features with the most similar known picture, where that is asked for.
    fn near(&self, features: &Features) -> Result<Vec<f32>> {
        match self.known() {
            Some(known) => known.similarity(&self.model().clip().gpu, features.affinity()),
            None => Ok(Vec::new()),
        }
    }

    /// The known pictures, where distances from them are asked for.
    fn known(&self) -> Option<&Known> {
        let by_distance = matches!(self.asked.familiar, Some((UnknownBy::Distance, _)));
        self.inner.story.calibration.known.as_ref().filter(|_| by_distance)
    }

    fn prediction(&self, logits: &[f32], near: Option<f32>) -> Result<Prediction> {
        let Asked { least, familiar, set } = &self.asked;
        let plain = Prediction::new(&self.inner.classes, logits, self.temperature().unwrap_or(1.0), *least);
        let plain = match set {
            Some(set) => plain.with_set(set),
            None => plain,
        };
        let Some((by, needed)) = familiar else { return Ok(plain) };
        let said = (plain.best().probability, evidence::energy(logits));
        let score = self.inner.story.calibration.familiarity(*by, said, near.unwrap_or_default())?;
        Ok(plain.with_familiarity(score, *needed))
    }

    /// Calls `each` with batches of pictures in their order: what became of each, and the logits of those that were decoded.
    fn logits(&self, pictures: &[Picture], watch: &mut dyn Watch, each: &mut Each<'_>) -> Result<()> {
        if pictures.is_empty() {
            return Ok(());
        }
        let clip = self.model().clip();
        let encoder = self.encoder(pictures.len())?;
        watch.begin("looking at pictures", pictures.len());
        let mut done = 0;
        if self.inner.fitted.draws() {
            // Draws are made on blocks of pictures, from features.
            let (mut features, mut broken) = (Features::default(), Vec::new());
            prepared(clip, pictures, encoder.batch, |batch| {
                done += batch.pictures.len();
                features.extend(encoder.plan().encode_pictures(&batch.samples, &mut |_| {})?);
                broken.extend(batch.pictures);
                watch.at(done)
            })?;
            let logits = match broken.iter().any(Result::is_ok) {
                true => self.inner.fitted.logits(clip, &features, 0)?,
                false => Vec::new(),
            };
            each(broken, (&logits, &self.near(&features)?))?;
        } else {
            let ready = self.ready(&encoder)?;
            let classes = self.classes().len();
            // Results are fetched one step late, while the next one runs.
            type Step = (Vec<Result<()>>, Option<ReadBack<f32>>, Option<ReadBack<f32>>);
            let mut take = |(pictures, logits, near): Step| {
                let count = pictures.iter().filter(|picture| picture.is_ok()).count();
                let logits = logits.map_or(Ok(Vec::new()), ReadBack::finish)?;
                let near = near.map_or(Ok(Vec::new()), ReadBack::finish)?;
                let near: Vec<f32> = near.chunks_exact(2).map(|pair| pair[1]).collect();
                each(pictures, (logits.get(..count * classes).unwrap_or_default(), &near))
            };
            let mut running: Option<Step> = None;
            prepared(clip, pictures, encoder.batch, |batch| {
                done += batch.pictures.len();
                let (logits, near) = match batch.samples.is_empty() {
                    true => (None, None),
                    false => {
                        // Whoever comes next overwrites the results no sooner than they were copied.
                        let (plan, gpu) = (encoder.plan(), &self.model().clip().gpu);
                        plan.step(&batch.samples, &ready.plan)?;
                        let near = ready.near.as_ref().map(|near| gpu.begin_read(near)).transpose()?;
                        (Some(gpu.begin_read(&ready.logits)?), near)
                    }
                };
                if let Some(earlier) = running.replace((batch.pictures, logits, near)) {
                    take(earlier)?;
                }
                watch.at(done)
            })?;
            running.map(take).transpose()?;
        }
        watch.end();
        Ok(())
    }

    fn encoder(&self, pictures: usize) -> Result<Arc<Encoder>> {
        let (fitted, model) = (&self.inner.fitted, self.model());
        let own = fitted.correction().is_some() || fitted.pixels().is_some();
        let encoders = if own { &self.inner.corrected } else { model.encoders() };
        let wanted = Wanted { tower: fitted.tower(), pictures, exactly: self.batch };
        encoders.get(model.clip(), wanted, fitted.correction(), fitted.pixels())
    }

    /// The method's part, recorded behind this encoder.
    fn ready(&self, encoder: &Arc<Encoder>) -> Result<Arc<Ready>> {
        let mut kept = self.inner.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known();
        let serves =
            |ready: &Arc<Ready>| Arc::ptr_eq(&ready.encoder, encoder) && ready.near.is_some() == known.is_some();
        if let Some(place) = kept.iter().position(serves) {
            let found = kept.remove(place);
            kept.push(found.clone());
            return Ok(found);
        }
        if kept.len() >= READY {
            kept.remove(0);
        }
        let (plan, logits, near) = {
            let tower = encoder.plan();
            let (features, adapted) = tower.outputs();
            let mut rec = Recorder::new(&self.model().clip().gpu);
            let logits = self.inner.fitted.record(&mut rec, features, adapted)?;
            let near = known.map(|known| known.record(&mut rec, adapted.unwrap_or(features))).transpose()?;
            (rec.finish()?, crate::adapt::named_logits(&logits), near)
        };
        let ready = Arc::new(Ready { encoder: encoder.clone(), plan, logits, near });
        kept.push(ready.clone());
        Ok(ready)
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Classifier({}, {} classes)", self.inner.story.method.name, self.classes().len())
    }
}
