//! Adapter files: what `tipi fit` learns, as safetensors. The header's metadata entry `tipi` is a JSON object with the
//! model's identity, the classes, the templates and the settings; predicting with another model is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::calibrate;
use super::evidence::{Calibration, EvidenceCounts};
use super::method::{self, Fitted, Settings};
use super::overlap::{self, Correction};
use super::tip::Cache;
use super::zero_shot::Classifier;
use crate::clip::{Clip, ModelId, Source, is_local};
use crate::files::write_atomic;
use crate::gpu::Gpu;
use crate::kernels::gemm::Precision;
use crate::{Error, Result, input, numbers, text};

/// Version of the file format.
const FORMAT: &str = "tipi-adapter/1";

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Format and version.
    pub format: String,
    /// The model that it adapts.
    pub model: ModelId,
    /// Where that model was.
    #[serde(with = "crate::text::stored_path")]
    pub model_folder: PathBuf,
    /// Where the LoRA was that was given beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Stored>,
    /// Classes, in the order of the logits.
    pub classes: Vec<String>,
    /// The method and its settings.
    pub method: Description,
    /// Pictures per class; none where all pictures of a folder were taken.
    pub shots: Option<usize>,
    /// Seed of the few-shot choice and of training.
    pub seed: u64,
    /// Probabilities are softmax(logits/T); fitted on pictures that were not learned from, none where there were none.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// The pictures that confidence rests on; none in files from before they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceCounts>,
    /// Where a picture may have several classes: from which logit on it has each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Vec<f64>>,
    /// What the keys of a method that has such are of, in the keys' order: the pictures' paths below the folder that holds all of
    /// them. None in older files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<String>,
}

/// A path as a file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stored(#[serde(with = "crate::text::stored_path")] pub PathBuf);

/// What a file says of its method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The method's name, or [`CORRECTION`].
    pub name: String,
    /// What the method says of itself.
    #[serde(flatten)]
    pub words: Settings,
}

/// The name that an overlap correction has in place of a method's.
pub const CORRECTION: &str = "overlap";

/// Why a method's file is refused where a correction is wanted.
pub(crate) const NO_CORRECTION: &str =
    "this is an adapter that classifies, and no overlap correction; `tipi fit overlap` writes corrections";

impl Description {
    /// Of a method that has learned.
    ///
    /// # Errors
    /// As [`Fitted::words`].
    pub fn new(name: &str, fitted: &dyn Fitted) -> Result<Description> {
        Ok(Description { name: name.into(), words: fitted.words()? })
    }

    /// Of a correction.
    ///
    /// # Errors
    /// Settings that cannot be written down.
    pub fn of_correction(config: &overlap::Config) -> Result<Description> {
        Ok(Description { name: CORRECTION.into(), words: method::untyped(&OfCorrection { config: config.clone() })? })
    }

    /// How a correction was trained.
    ///
    /// # Errors
    /// Words of a method.
    pub(crate) fn correction(&self) -> Result<overlap::Config> {
        Ok(method::typed::<OfCorrection>(&self.words)?.config)
    }

    fn check(&self) -> Result<()> {
        if self.name == CORRECTION {
            let OfCorrection { config } = method::typed(&self.words)?;
            return numbers::BRANCH.check("the scale of the correction", f64::from(config.scale)).map(drop);
        }
        method::find(&self.name)?.check_words(&self.words)
    }
}

/// The words of a correction's file.
#[derive(Serialize, Deserialize)]
struct OfCorrection {
    config: overlap::Config,
}

/// What a correction's tensors do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorrectionForm {
    /// Width of the bottlenecks.
    pub bottleneck: usize,
    /// The branch's factor.
    pub scale: f32,
}

impl CorrectionForm {
    /// The form of a correction.
    pub fn of(correction: &Correction) -> CorrectionForm {
        CorrectionForm { bottleneck: correction.bottleneck(), scale: correction.scale() }
    }

    /// Checks the factor.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one outside [`numbers::BRANCH`].
    pub fn check(self) -> Result<()> {
        numbers::BRANCH.check("the scale of the correction", f64::from(self.scale)).map(drop)
    }
}

/// Tensors on their way to a file, by name.
#[derive(Default)]
pub struct Tensors(BTreeMap<String, (Vec<u8>, Vec<usize>, Dtype)>);

impl Tensors {
    /// Adds values.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.0.insert(name.into(), (bytemuck::cast_slice(values).to_vec(), shape.to_vec(), Dtype::F32));
    }

    /// Adds labels, stored as i64.
    pub fn labels(&mut self, name: &str, labels: &[u32]) {
        let labels: Vec<i64> = labels.iter().map(|label| i64::from(*label)).collect();
        self.0.insert(name.into(), (bytemuck::cast_slice(&labels).to_vec(), vec![labels.len()], Dtype::I64));
    }

    /// Adds a classifier.
    ///
    /// # Errors
    /// A lost device.
    pub fn classifier(&mut self, gpu: &Gpu, classifier: &Classifier) -> Result<()> {
        self.floats(WEIGHTS, classifier.weights.shape(), &gpu.read::<f32>(&classifier.weights)?);
        Ok(())
    }

    /// Adds a classifier and a cache.
    ///
    /// # Errors
    /// A lost device.
    pub fn cache(&mut self, gpu: &Gpu, classifier: &Classifier, cache: &Cache) -> Result<()> {
        let (keys, labels) = cache.host();
        self.floats("features", &[labels.len(), classifier.weights.cols()], keys);
        self.labels("labels", labels);
        self.classifier(gpu, classifier)
    }

    /// Adds a correction.
    ///
    /// # Errors
    /// A lost device.
    pub fn correction(&mut self, gpu: &Gpu, correction: &Correction) -> Result<()> {
        let names = overlap::parameter_names(correction.blocks.len());
        for (name, tensor) in names.into_iter().zip(correction.tensors()) {
            self.floats(&name, tensor.shape(), &gpu.read::<f32>(tensor)?);
        }
        Ok(())
    }
}

/// What an adapter file holds, bound to a model.
pub enum Adapter {
    /// A method that classifies, and how far its answers can be trusted.
    Method(Box<dyn Fitted>, Calibration),
    /// An overlap correction, which tells no classes apart.
    Correction(Correction),
}

impl Adapter {
    /// The correction that it is, or that its features need.
    pub fn correction(&self) -> Option<&Correction> {
        match self {
            Adapter::Method(fitted, _) => fitted.correction(),
            Adapter::Correction(correction) => Some(correction),
        }
    }

    /// The method, and how far its answers can be trusted.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a correction.
    pub fn into_method(self) -> Result<(Box<dyn Fitted>, Calibration)> {
        match self {
            Adapter::Method(fitted, calibration) => Ok((fitted, calibration)),
            Adapter::Correction(_) => Err(Error::invalid(
                "an overlap correction tells no classes apart: fit Tip-Adapter or Tip-X with it, and predict with what that \
                 gives",
            )),
        }
    }

    /// The correction.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a method.
    pub fn into_correction(self) -> Result<Correction> {
        match self {
            Adapter::Correction(correction) => Ok(correction),
            Adapter::Method(..) => Err(Error::invalid(NO_CORRECTION)),
        }
    }

    fn tensors(&self, gpu: &Gpu) -> Result<Tensors> {
        match self {
            Adapter::Method(fitted, calibration) => {
                let mut tensors = fitted.tensors(gpu)?;
                calibration.write(gpu, &mut tensors)?;
                Ok(tensors)
            }
            Adapter::Correction(correction) => {
                let mut tensors = Tensors::default();
                tensors.correction(gpu, correction)?;
                Ok(tensors)
            }
        }
    }
}

impl Meta {
    /// What a file for `clip` says of itself.
    ///
    /// # Errors
    /// As [`Clip::id`].
    pub fn new(clip: &Clip, classes: &[String], method: Description, shots: Option<usize>, seed: u64) -> Result<Meta> {
        let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        Ok(Meta {
            format: FORMAT.into(),
            model: clip.id()?.clone(),
            model_folder: whole(clip.folder()),
            lora: clip.source().given_lora().map(|lora| Stored(whole(lora))),
            classes: classes.to_vec(),
            method,
            shots,
            seed,
            temperature: None,
            evidence: None,
            thresholds: None,
            pictures: Vec::new(),
        })
    }

    /// Checks the numbers that a file says of itself.
    fn check(&self) -> Result<()> {
        self.temperature.map(calibrate::check).transpose()?;
        if let Some(thresholds) = &self.thresholds
            && (thresholds.len() != self.classes.len() || thresholds.iter().any(|threshold| !threshold.is_finite()))
        {
            let (have, want) = (thresholds.len(), self.classes.len());
            return Err(Error::invalid(format!(
                "{have} thresholds for {want} classes, or one that is no number; fit it again"
            )));
        }
        if self.classes.is_empty() && self.method.name != CORRECTION {
            return Err(Error::invalid("it has no classes; fit it again"));
        }
        self.method.check()
    }

    /// The same with thresholds, one for each class.
    #[must_use]
    pub fn with_thresholds(self, thresholds: Vec<f64>) -> Meta {
        Meta { thresholds: Some(thresholds), ..self }
    }

    /// The same with what is known of its confidence.
    #[must_use]
    pub fn calibrated(self, calibration: &Calibration) -> Meta {
        let evidence = (calibration.counts.all() > 0).then_some(calibration.counts);
        Meta { temperature: calibration.temperature, evidence, ..self }
    }

    /// The same with the names of the pictures that were learned from, in the order of keys. They are written where a file has
    /// keys.
    #[must_use]
    pub fn with_pictures(self, pictures: Vec<String>) -> Meta {
        Meta { pictures, ..self }
    }
}

/// Writes an adapter through a temporary file. Equal adapters give equal bytes.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written; a lost device.
pub fn save(path: &Path, clip: &Clip, meta: &Meta, adapter: &Adapter) -> Result<()> {
    write_atomic(path, &to_bytes(path, clip, meta, adapter)?)
}

/// An adapter as the bytes of a file; `path` names it in errors.
///
/// # Errors
/// A lost device.
pub fn to_bytes(path: &Path, clip: &Clip, meta: &Meta, adapter: &Adapter) -> Result<Vec<u8>> {
    bytes_of(path, meta, adapter.tensors(&clip.gpu)?)
}

/// What is in a file, as its bytes; `path` names it in errors.
///
/// # Errors
/// What cannot be written down.
pub(crate) fn bytes_of(path: &Path, meta: &Meta, tensors: Tensors) -> Result<Vec<u8>> {
    let Tensors(tensors) = tensors;
    let bad = |e: &dyn std::fmt::Display| Error::adapter_file(path, format!("cannot be written: {e}"));
    let mut views = Vec::with_capacity(tensors.len());
    for (name, (bytes, shape, dtype)) in &tensors {
        views.push((name.clone(), TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| bad(&e))?));
    }
    let mut meta = meta.clone();
    if tensors.get("labels").is_none_or(|(_, shape, _)| shape[..] != [meta.pictures.len()]) {
        // They are the keys' names, and nobody else's.
        meta.pictures.clear();
    }
    let json = serde_json::to_string(&meta).map_err(|e| bad(&e))?;
    let metadata = std::collections::HashMap::from([("tipi".to_string(), json)]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| bad(&e))
}

/// An adapter file in memory, not yet bound to a model.
pub struct File {
    path: PathBuf,
    bytes: Vec<u8>,
    /// What it says of itself.
    pub meta: Meta,
}

fn form(path: &Path, tensor: &str, expected: String, found: &[usize]) -> Error {
    Error::TensorForm { path: path.into(), tensor: tensor.into(), expected, found: format!("{found:?}") }
}

/// A tensor's bytes and shape.
fn values(path: &Path, file: &SafeTensors<'_>, name: &str, dtype: Dtype, rank: usize) -> Result<(Vec<u8>, Vec<usize>)> {
    let view = file.tensor(name).map_err(|_| Error::MissingTensor { path: path.into(), tensor: name.into() })?;
    if view.dtype() != dtype || view.shape().len() != rank {
        return Err(Error::TensorForm {
            path: path.into(),
            tensor: name.into(),
            expected: format!("{rank} dimensions of {dtype:?}"),
            found: format!("{:?} of {:?}", view.shape(), view.dtype()),
        });
    }
    Ok((view.data().to_vec(), view.shape().to_vec()))
}

/// An f32 tensor of exactly this shape, all finite; `path` names the file in errors.
pub(super) fn floats(path: &Path, file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let (bytes, found) = values(path, file, name, Dtype::F32, shape.len())?;
    if found != shape {
        return Err(form(path, name, format!("{shape:?}"), &found));
    }
    let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
    numbers::check_tensor(path, name, &values, 0, shape.last().copied().unwrap_or(1))?;
    Ok(values)
}

impl File {
    /// Reads a file's header.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Safetensors`], [`Error::AdapterFile`] for a safetensors file that is no adapter.
    pub fn open(path: &Path) -> Result<File> {
        File::from_bytes(path, input::read(path, input::limit::TENSORS)?)
    }

    /// A file from its bytes; `path` names it in errors.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<File> {
        let bad = |e: safetensors::SafeTensorError| Error::Safetensors {
            path: path.to_path_buf(),
            reason: format!("{e}; the file is truncated or damaged, fit it again"),
        };
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
        SafeTensors::deserialize(&bytes).map_err(bad)?;
        let json = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get("tipi"))
            .ok_or_else(|| Error::adapter_file(path, "this is no adapter of tipi's; `tipi fit` writes them"))?;
        let meta: Meta = serde_json::from_str(json)
            .map_err(|e| Error::adapter_file(path, format!("its description is not understood: {e}")))?;
        if meta.format != FORMAT {
            let found = &meta.format;
            return Err(Error::adapter_file(
                path,
                format!("format '{found}', this tipi reads '{FORMAT}'; fit it again"),
            ));
        }
        let Description { name, .. } = &meta.method;
        if name != CORRECTION && method::find(name).is_err() {
            let name = text::cut(name, text::NAME);
            let reason = format!("fitted by the method '{name}', which this tipi does not know: take one that does");
            return Err(Error::adapter_file(path, reason));
        }
        meta.check().map_err(|e| Error::adapter_file(path, e.to_string()))?;
        Ok(File { path: path.to_path_buf(), bytes, meta })
    }

    /// Loads the model that the adapter was fitted to from the folder that the file names, which may be anybody's words: it
    /// must be a local one, by its whole path, and what is in it must be that model by its digest before it is used.
    ///
    /// # Errors
    /// [`Error::AdapterFile`] for a path that is not whole or leads to another computer, for a folder that is not there, or
    /// of another model; the errors of [`Clip::load_as`].
    pub fn load_model(&self, gpu: &Gpu, precision: Precision) -> Result<Clip> {
        let (folder, name) = (&self.meta.model_folder, &self.meta.model.name);
        let bad = |what: &str, folder: &Path| {
            let folder = text::path(folder);
            let (name, folder) = (text::cut(name, text::NAME), text::cut(&folder, text::NAME));
            Err(Error::adapter_file(
                &self.path,
                format!("its model '{name}' {what} {folder}; give the model's own folder"),
            ))
        };
        let lora = self.meta.lora.as_ref().map(|lora| lora.0.as_path());
        if let Some(path) = [Some(folder.as_path()), lora].into_iter().flatten().find(|path| !is_local(path)) {
            return bad("is named by a path that is not a whole local one:", path);
        }
        if !folder.exists() {
            return bad("is no longer in", folder);
        }
        if let Some(lora) = lora.filter(|lora| !lora.is_dir()) {
            return bad("is merged with a LoRA that is no longer in", lora);
        }
        Clip::load_if(gpu, &Source::of(folder, lora)?, precision, |id| self.check_model(id))
    }

    /// Refuses another model than the one that the adapter was fitted to.
    fn check_model(&self, have: &ModelId) -> Result<()> {
        let want = &self.meta.model;
        if want.sha256 != have.sha256 {
            return Err(Error::adapter_file(
                &self.path,
                format!(
                    "fitted to model '{}' (sha256 {}…), not to '{}' (sha256 {}…); use that model or fit again",
                    want.name,
                    want.sha256.get(..12).unwrap_or(&want.sha256),
                    have.name,
                    have.sha256.get(..12).unwrap_or(&have.sha256)
                ),
            ));
        }
        Ok(())
    }

    /// Binds the adapter to its model.
    ///
    /// # Errors
    /// [`Error::AdapterFile`] when it was fitted to another model; [`Error::MissingTensor`] or [`Error::TensorForm`]
    /// when it is damaged, [`Error::NotFinite`] when it holds NaN or infinity; out of memory.
    pub fn bind(&self, clip: &Clip) -> Result<Adapter> {
        self.check_model(clip.id()?)?;
        let bad = |e: safetensors::SafeTensorError| Error::adapter_file(&self.path, e.to_string());
        let file = SafeTensors::deserialize(&self.bytes).map_err(bad)?;
        let Description { name, words } = &self.meta.method;
        let loading = Loading { path: &self.path, file, clip, classes: &self.meta.classes, words };
        if name == CORRECTION {
            let OfCorrection { config } = loading.words()?;
            let form = CorrectionForm { bottleneck: config.bottleneck, scale: config.scale };
            return Ok(Adapter::Correction(loading.correction(form)?));
        }
        let fitted = method::find(name)?.load(&loading)?;
        let calibration = Calibration::load(&loading, self.meta.temperature, self.meta.evidence)?;
        calibration
            .known
            .as_ref()
            .map_or(Ok(()), |known| known.check(fitted.width(clip)))
            .map_err(|e| loading.bad(e))?;
        Ok(Adapter::Method(fitted, calibration))
    }
}

impl File {
    /// The classifier of the classes' texts that the file holds, alone; none where its method has none.
    ///
    /// # Errors
    /// As [`File::bind`].
    pub fn texts(&self, clip: &Clip) -> Result<Option<Classifier>> {
        self.check_model(clip.id()?)?;
        let bad = |e: safetensors::SafeTensorError| Error::adapter_file(&self.path, e.to_string());
        let file = SafeTensors::deserialize(&self.bytes).map_err(bad)?;
        if !file.names().contains(&WEIGHTS) {
            return Ok(None);
        }
        let loading =
            Loading { path: &self.path, file, clip, classes: &self.meta.classes, words: &self.meta.method.words };
        loading.classifier().map(Some)
    }
}

/// The name of a classifier from text.
const WEIGHTS: &str = "weights";

/// A file that is being bound to a model.
pub struct Loading<'a> {
    path: &'a Path,
    file: SafeTensors<'a>,
    /// The model.
    pub clip: &'a Clip,
    /// The classes.
    pub classes: &'a [String],
    words: &'a Settings,
}

impl Loading<'_> {
    /// What the file says of its method.
    ///
    /// # Errors
    /// [`Error::AdapterFile`] for words of another form.
    pub fn words<T: DeserializeOwned>(&self) -> Result<T> {
        method::typed(self.words).map_err(|error| self.bad(error))
    }

    /// An error about the file.
    pub fn bad(&self, reason: impl std::fmt::Display) -> Error {
        Error::adapter_file(self.path, reason.to_string())
    }

    /// An f32 tensor of exactly this shape, all finite.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorForm`], [`Error::NotFinite`].
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        floats(self.path, &self.file, name, shape)
    }

    /// The shape of a tensor, where there is one of so many dimensions.
    pub fn shape<const N: usize>(&self, name: &str) -> Option<[usize; N]> {
        self.file.tensor(name).ok()?.shape().try_into().ok()
    }

    /// What [`Tensors::labels`] wrote.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorForm`]; labels that are not those of classes.
    pub fn labels(&self, name: &str) -> Result<Vec<u32>> {
        let classes = self.classes.len();
        let (labels, _) = values(self.path, &self.file, name, Dtype::I64, 1)?;
        let labels: Vec<i64> = bytemuck::pod_collect_to_vec(&labels);
        let label = |(row, label): (usize, &i64)| match u32::try_from(*label) {
            Ok(label) if (label as usize) < classes => Ok(label),
            _ => Err(self.bad(format!(
                "row {row} of '{name}' is {label}; the adapter has {classes} classes, labels count from 0"
            ))),
        };
        labels.iter().enumerate().map(label).collect()
    }

    /// The classifier that [`Tensors::classifier`] wrote.
    ///
    /// # Errors
    /// As [`Loading::floats`]; out of memory.
    pub fn classifier(&self) -> Result<Classifier> {
        let classes = self.classes.len();
        let weights = self.floats(WEIGHTS, &[classes, self.clip.config.embedding])?;
        Classifier::from_weights(&self.clip.gpu, &weights, classes, self.clip.logit_scale)
    }

    /// What [`Tensors::cache`] wrote.
    ///
    /// # Errors
    /// As [`Loading::floats`]; labels that are not those of classes; out of memory.
    pub fn cache(&self) -> Result<(Classifier, Cache)> {
        let (classes, d) = (self.classes.len(), self.clip.config.embedding);
        let classifier = self.classifier()?;
        let labels = self.labels("labels")?;
        let keys = self.floats("features", &[labels.len(), d])?;
        let cache = Cache::new(&self.clip.gpu, &keys, &labels, classes, d).map_err(|e| self.bad(e))?;
        Ok((classifier, cache))
    }

    /// What [`Tensors::correction`] wrote.
    ///
    /// # Errors
    /// As [`Loading::floats`]; a model whose image tower takes none; out of memory.
    pub fn correction(&self, form: CorrectionForm) -> Result<Correction> {
        let (blocks, width) = self.clip.image.vit().map(|vit| (vit.transformer.blocks.len(), vit.width()))?;
        let values = overlap::parameter_names(blocks)
            .iter()
            .zip(overlap::shapes(blocks, width, form.bottleneck))
            .map(|(name, shape)| self.floats(name, &shape))
            .collect::<Result<Vec<_>>>()?;
        Correction::upload(&self.clip.gpu, &values, width, form.bottleneck, form.scale)
    }
}
