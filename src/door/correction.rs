//! Overlap corrections: trained, read, kept.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::json::{merged, object};
use super::{Examples, Model, Report};
use crate::adapt::adapter_file::{self, Adapter, Description, File, Meta};
use crate::adapt::dino::{self, SelfSupervised};
use crate::adapt::overlap::{self, Config, Generic};
use crate::data::{Item, Shelf};
use crate::output::{Kind, Output};
use crate::watch::Watch;
use crate::{Error, Result, text};

/// An overlap correction (arXiv 2409.11338) bound to its model: with one, Tip-Adapter becomes Tip-Adapter++, and Tip-X
/// Tip-X++. [`Model::fit_correction`] trains one, [`Model::open_correction`] reads one. Cheap to clone.
#[derive(Clone)]
pub struct Correction(Arc<Inner>);

struct Inner {
    model: Model,
    adapter: Adapter,
    classes: Vec<String>,
    config: Config,
    /// What a file says of it: made when first asked for, since the model's identity takes reading all its weights.
    meta: OnceLock<Meta>,
}

/// How a correction learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorrectionOptions {
    /// Passes over the pictures.
    pub epochs: usize,
    /// Width of the bottlenecks, from 1 to 8192.
    pub bottleneck: usize,
    /// Factor on the bottlenecks' branch, from 1e-6 to 1000. The paper's is 0.03 for training with labels.
    pub scale: f64,
    /// Share of the bottleneck that is dropped in training, from 0 to 0.99.
    pub dropout: f64,
    /// Learning rate, from 1e-12 to 1000.
    pub rate: f64,
    /// Pictures per training step.
    pub batch: usize,
    /// Pictures at once; less takes less memory and gives the same steps.
    pub micro_batch: usize,
    /// Seed of initial values, shuffles and dropout. The same seed gives the same correction, to the bit, on the same device.
    pub seed: u64,
    /// Training without labels; none where it learns to tell the examples' classes apart. Begin with
    /// [`CorrectionOptions::without_labels`], whose other settings are those that belong to it.
    pub self_supervision: Option<SelfSupervision>,
    /// As [`FitOptions::checkpoint`](crate::FitOptions::checkpoint).
    pub checkpoint: Option<PathBuf>,
}

/// What training without labels has besides: a student learns to say of crops of a picture what its own running mean says of
/// others (DINO, arXiv 2104.14294).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfSupervision {
    /// Outputs of the random head that crops are compared through, from 2 to 1048576. It takes most of the memory.
    pub head: usize,
    /// Local crops of each picture, from 1 to 96, beside the two global ones.
    pub local_crops: usize,
    /// The share of the running mean that stays at a step, from 0 to 1, at the beginning; 1 at the end.
    pub momentum: f64,
}

impl SelfSupervision {
    fn of(settings: &SelfSupervised) -> SelfSupervision {
        let SelfSupervised { head, local_crops, momentum, .. } = *settings;
        SelfSupervision { head, local_crops, momentum }
    }

    fn settings(&self) -> SelfSupervised {
        let SelfSupervision { head, local_crops, momentum } = *self;
        SelfSupervised { head, local_crops, momentum, ..SelfSupervised::default() }
    }
}

impl Default for SelfSupervision {
    /// The paper's settings.
    fn default() -> SelfSupervision {
        SelfSupervision::of(&SelfSupervised::default())
    }
}

impl Default for CorrectionOptions {
    /// The paper's settings.
    fn default() -> CorrectionOptions {
        CorrectionOptions::of(&Config::paper(1))
    }
}

impl CorrectionOptions {
    /// The paper's settings for training without labels, in steps of `batch` pictures: it is the rate's measure. The authors'
    /// steps are of 120.
    pub fn without_labels(batch: usize) -> CorrectionOptions {
        CorrectionOptions::of(&Config::without_labels(1, batch))
    }

    /// Options from a JSON object with the names of the fields: `{"epochs": 3, "rate": 0.0001}`. What is not in it has the paper's
    /// settings: with a `self_supervision` those for training without labels, in steps of the object's `batch`, else of the authors'.
    ///
    /// # Errors
    /// [`Error::Invalid`] for text that is no JSON object, a field that there is not, or a value of another form.
    pub fn of_json(json: &str) -> Result<CorrectionOptions> {
        const WHAT: &str = "the correction's options";
        let fields = object(WHAT, json)?;
        let base = match fields.get("self_supervision") {
            None | Some(Value::Null) => CorrectionOptions::default(),
            Some(_) => {
                let given = fields.get("batch").and_then(Value::as_u64).and_then(|batch| usize::try_from(batch).ok());
                CorrectionOptions::without_labels(given.unwrap_or(dino::BATCH))
            }
        };
        merged(WHAT, &base, json)
    }

    fn of(config: &Config) -> CorrectionOptions {
        // The shortest number that is this f32, not the f64 that is nearest to it: 0.03 and not 0.029999999329447746.
        let exact = |value: f32| value.to_string().parse().unwrap_or(f64::from(value));
        CorrectionOptions {
            epochs: config.epochs,
            bottleneck: config.bottleneck,
            scale: exact(config.scale),
            dropout: exact(config.dropout),
            rate: config.lr,
            batch: config.batch,
            micro_batch: config.micro_batch,
            seed: config.seed,
            self_supervision: config.self_supervised.as_ref().map(SelfSupervision::of),
            checkpoint: None,
        }
    }

    pub(super) fn config(&self) -> Config {
        let base = match self.self_supervision {
            Some(_) => Config::without_labels(self.seed, self.batch),
            None => Config::paper(self.seed),
        };
        Config {
            epochs: self.epochs,
            bottleneck: self.bottleneck,
            scale: self.scale as f32,
            dropout: self.dropout as f32,
            lr: self.rate,
            batch: self.batch,
            micro_batch: self.micro_batch,
            self_supervised: self.self_supervision.as_ref().map(SelfSupervision::settings),
            ..base
        }
    }
}

impl Correction {
    fn new(model: &Model, correction: overlap::Correction, (classes, config): (&[String], Config)) -> Correction {
        let (model, adapter, meta) = (model.clone(), Adapter::Correction(correction), OnceLock::new());
        Correction(Arc::new(Inner { model, adapter, classes: classes.to_vec(), config, meta }))
    }

    pub(super) fn of_file(model: &Model, file: &File) -> Result<Correction> {
        let adapter = Adapter::Correction(file.bind(model.clip())?.into_correction()?);
        let config = file.meta.method.correction()?;
        let (classes, meta) = (file.meta.classes.clone(), file.meta.clone().into());
        Ok(Correction(Arc::new(Inner { model: model.clone(), adapter, classes, config, meta })))
    }

    /// The classes that it was trained to tell apart: those that are told apart with it should not be among them. None where it was
    /// trained without labels.
    pub fn classes(&self) -> &[String] {
        &self.0.classes
    }

    /// Passes over the pictures that it was trained with.
    pub fn epochs(&self) -> usize {
        self.0.config.epochs
    }

    /// All that it was trained with.
    pub fn options(&self) -> CorrectionOptions {
        CorrectionOptions::of(&self.0.config)
    }

    /// What it is, for people: `64 wide, scale 0.03, 1 epoch over 400 classes`.
    pub fn facts(&self) -> String {
        let CorrectionOptions { bottleneck, scale, epochs, .. } = self.options();
        let epochs = text::count(epochs, "epoch", "epochs");
        let over = match self.0.config.self_supervised {
            Some(_) => "without labels".to_string(),
            None => format!("over {}", text::count(self.classes().len(), "class", "classes")),
        };
        format!("{bottleneck} wide, scale {scale}, {epochs} {over}")
    }

    /// Writes a file that [`Model::open_correction`] and `--correction` of `tipi` read. An adapter that is there already is
    /// overwritten, any other file is not.
    ///
    /// # Errors
    /// [`Error::Foreign`] for another file in its place; [`Error::Io`]; a lost device.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let output = Output::open(path, Kind::Adapter, false)?;
        output.write(&self.bytes(path)?)
    }

    /// The same as bytes. Equal corrections give equal ones.
    ///
    /// # Errors
    /// A lost device.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.bytes("correction".as_ref())
    }

    fn bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let Inner { model, adapter, classes, config, meta } = &*self.0;
        let meta = match meta.get() {
            Some(meta) => meta,
            None => {
                let description = Description::of_correction(config)?;
                let made = Meta::new(model.clip(), classes, description, None, config.seed)?;
                meta.get_or_init(|| made)
            }
        };
        adapter_file::to_bytes(path, model.clip(), meta, adapter)
    }

    /// The correction as the parts have it, for `model`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one of another model, or on another device.
    pub(super) fn of_model(&self, model: &Model) -> Result<&overlap::Correction> {
        let own = &self.0.model;
        if own.number() != model.number() {
            if !own.clip().gpu.is(&model.clip().gpu) {
                return Err(Error::invalid("the correction is on another device: open it with this model"));
            }
            let (its, this) = (own.clip().id()?, model.clip().id()?);
            if its.sha256 != this.sha256 {
                let reason = format!("the correction is of the model '{}', this is '{}'", its.name, this.name);
                return Err(Error::invalid(reason));
            }
        }
        self.0.adapter.correction().ok_or_else(|| Error::invalid("there is no correction"))
    }
}

impl fmt::Debug for Correction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Correction({})", self.facts())
    }
}

/// [`Model::fit_correction`].
pub(super) fn fit(
    model: &Model,
    examples: &Examples,
    options: &CorrectionOptions,
    watch: &mut dyn Watch,
) -> Result<(Correction, Report)> {
    let (clip, config) = (model.clip(), options.config());
    if config.self_supervised.is_none() {
        examples.check()?;
    }
    config.check()?;
    let checkpoint = options.checkpoint.as_deref().map(Checkpoint::take).transpose()?;
    // Broken pictures are found before hours are spent.
    examples.all_sound(watch)?;
    let mut shelf = Shelf::default();
    let items: Vec<Item> = examples.items(&mut shelf);
    let pictures = Generic { items: &items, names: examples.classes(), shelf: &shelf };
    let place = checkpoint.as_ref().map(Checkpoint::place);
    let (correction, losses) = overlap::learn(clip, pictures, &config, place, watch)?;
    let classes: &[String] = if config.self_supervised.is_some() { &[] } else { examples.classes() };
    let correction = Correction::new(model, correction, (classes, config));
    checkpoint.map_or(Ok(()), Checkpoint::remove)?;
    Ok((correction, Report { losses, ..Report::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_from_text() {
        let of = CorrectionOptions::of_json;
        assert_eq!(of("{}").unwrap(), CorrectionOptions::default());
        let wanted = CorrectionOptions { epochs: 7, rate: 0.25, ..CorrectionOptions::default() };
        assert_eq!(of(r#"{"epochs": 7, "rate": 0.25}"#).unwrap(), wanted);
        let mut wanted = CorrectionOptions::without_labels(16);
        assert_eq!(of(r#"{"batch": 16, "self_supervision": {}}"#).unwrap(), wanted);
        wanted = CorrectionOptions::without_labels(dino::BATCH);
        wanted.self_supervision = Some(SelfSupervision { local_crops: 3, ..SelfSupervision::default() });
        assert_eq!(of(r#"{"self_supervision": {"local_crops": 3}}"#).unwrap(), wanted);
        let says = |json| of(json).unwrap_err().to_string();
        assert!(says(r#"{"lr": 1}"#).contains("options: there is no 'lr'; there are batch"));
        assert!(says(r#"{"self_supervision": {"crops": 1}}"#).contains("there is no 'self_supervision.crops'"));
        assert!(says(r#"{"batch": "many"}"#).contains("invalid type"));
    }
}
