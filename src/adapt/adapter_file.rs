//! Adapter files: what `tipi fit` learns, as safetensors. The header's metadata entry `tipi` is a JSON object with the
//! model's identity, the classes, the templates and the settings; predicting with another model is refused.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf, Prefix};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::calibrate;
use super::overlap::{self, Correction};
use super::pini::{self, Evaluation, NoisyPrompts, Pini};
use super::tip::{Cache, TipParams};
use super::tip_f;
use super::tip_x::{Psi, TipX, TipXParams};
use super::zero_shot::Classifier;
use crate::clip::{Clip, Features, ModelId};
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
    /// Classes, in the order of the logits.
    pub classes: Vec<String>,
    /// The method and its settings.
    pub method: Method,
    /// Pictures per class; none where all pictures of a folder were taken.
    pub shots: Option<usize>,
    /// Seed of the few-shot choice and of training.
    pub seed: u64,
    /// Probabilities are softmax(logits/T); fitted on validation pictures, none where there were none.
    #[serde(default)]
    pub temperature: Option<f64>,
}

/// A method's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum Method {
    /// Tip-Adapter and, with a correction, Tip-Adapter++.
    TipAdapter {
        /// Templates of the zero-shot classifier.
        templates: Vec<String>,
        /// α and β.
        params: TipParams,
        /// Views averaged into each key; 0 when the picture itself was taken.
        views: usize,
        /// The overlap correction's form, where there is one.
        correction: Option<CorrectionForm>,
    },
    /// Tip-Adapter-F.
    TipAdapterF {
        /// Templates of the zero-shot classifier.
        templates: Vec<String>,
        /// α and β.
        params: TipParams,
        /// Views averaged into each key before training; 0 when the picture itself was taken.
        views: usize,
        /// Training settings.
        config: tip_f::Config,
        /// The epoch whose keys were kept.
        epoch: usize,
    },
    /// Tip-X and, with a correction, Tip-X++.
    TipX {
        /// Templates of the zero-shot classifier.
        templates: Vec<String>,
        /// α, β and γ.
        params: TipXParams,
        /// ψ's range, frozen on validation pictures.
        psi: Psi,
        /// Views averaged into each key; 0 when the picture itself was taken.
        views: usize,
        /// The overlap correction's form, where there is one.
        correction: Option<CorrectionForm>,
    },
    /// An overlap correction, which classifies nothing by itself.
    Overlap {
        /// Training settings.
        config: overlap::Config,
    },
    /// PiNI.
    Pini {
        /// Training settings, the template among them.
        config: pini::Config,
        /// Noisy tokens.
        noisy: usize,
        /// Whether training saw fresh random views each epoch.
        augmented: bool,
        /// Random views that training drew from instead of fresh ones; 0 for fresh ones, or for the pictures as they are.
        #[serde(default)]
        views: usize,
        /// How predictions treat the noise.
        #[serde(default)]
        evaluation: Evaluation,
    },
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
}

/// A tensor on its way to a file: bytes, shape, dtype.
type Stored = (Vec<u8>, Vec<usize>, Dtype);

/// A learned adapter, ready to predict.
pub enum Adapter {
    /// Tip-Adapter, Tip-Adapter-F and Tip-Adapter++.
    Tip {
        /// The text classifier.
        classifier: Classifier,
        /// The cache.
        cache: Cache,
        /// α and β.
        params: TipParams,
        /// Whose features meet the keys, where it is not the plain tower.
        correction: Option<Correction>,
    },
    /// Tip-X and Tip-X++.
    TipX {
        /// The text classifier.
        classifier: Classifier,
        /// The cache with its keys' class distributions.
        tip_x: Box<TipX>,
        /// α, β and γ.
        params: TipXParams,
        /// ψ's range.
        psi: Psi,
        /// Whose features meet the keys, where it is not the plain tower.
        correction: Option<Correction>,
    },
    /// An overlap correction.
    Overlap(Correction),
    /// PiNI.
    Pini {
        /// The parameters and prompts.
        pini: Box<Pini>,
        /// How predictions treat the noise.
        evaluation: Evaluation,
    },
}

impl Adapter {
    /// The correction of the image tower that this adapter's features need: encode pictures with its blocks.
    pub fn correction(&self) -> Option<&Correction> {
        match self {
            Adapter::Tip { correction, .. } | Adapter::TipX { correction, .. } => correction.as_ref(),
            Adapter::Overlap(correction) => Some(correction),
            Adapter::Pini { .. } => None,
        }
    }

    /// Logits `[n, classes]` of un-normalised image features `[n, D]`.
    ///
    /// # Errors
    /// A length that does not fit, features without the adapted ones that the adapter needs, an overlap correction,
    /// which has no classes; a device that fails.
    pub fn logits(&self, clip: &Clip, features: &Features) -> Result<Vec<f32>> {
        if self.correction().is_some() != features.adapted.is_some() {
            let (need, have) = if features.adapted.is_some() { ("no ", "") } else { ("", "no ") };
            return Err(Error::invalid(format!("the adapter needs {need}adapted features, and there are {have}such")));
        }
        match self {
            Adapter::Tip { classifier, cache, params, .. } => cache.logits(&clip.gpu, classifier, features, *params),
            Adapter::TipX { classifier, tip_x, params, psi, .. } => {
                tip_x.logits(&clip.gpu, classifier, features, *params, Some(*psi))
            }
            Adapter::Overlap(_) => Err(Error::invalid(
                "an overlap correction tells no classes apart: give it to `tipi fit tip` or `tipi fit tip-x` as \
                 --correction, and predict with what that writes",
            )),
            Adapter::Pini { pini, evaluation } => {
                pini.predictor(clip, *evaluation)?.logits(&clip.gpu, &features.original, 0)
            }
        }
    }

    /// Tensors by name: values and shape. Labels are stored as i64.
    fn tensors(&self, clip: &Clip) -> Result<BTreeMap<String, Stored>> {
        let mut all = BTreeMap::new();
        let bytes = |values: &[f32]| bytemuck::cast_slice(values).to_vec();
        if let Adapter::Tip { classifier, cache, .. } = self {
            store_cache(clip, &mut all, classifier, cache)?;
        }
        if let Adapter::TipX { classifier, tip_x, correction, .. } = self {
            store_cache(clip, &mut all, classifier, tip_x.cache())?;
            if correction.is_some() {
                let shape = vec![tip_x.cache().host().1.len(), classifier.weights.cols()];
                all.insert(ORIGINAL.into(), (bytes(tip_x.host_keys()), shape, Dtype::F32));
            }
        }
        if let Some(correction) = self.correction() {
            let names = overlap::parameter_names(correction.blocks.len());
            for (name, tensor) in names.into_iter().zip(correction.tensors()) {
                all.insert(name, (bytes(&clip.gpu.read::<f32>(tensor)?), tensor.shape().to_vec(), Dtype::F32));
            }
        }
        if let Adapter::Pini { pini, .. } = self {
            for (name, tensor) in pini.params.names().into_iter().zip(pini.params.tensors()) {
                let values = clip.gpu.read::<f32>(tensor)?;
                all.insert(name.into(), (bytes(&values), tensor.shape().to_vec(), Dtype::F32));
            }
        }
        Ok(all)
    }
}

/// The keys of Tip-X++ from the plain tower, beside `features`, those from the corrected one.
const ORIGINAL: &str = "original";

fn store_cache(clip: &Clip, all: &mut BTreeMap<String, Stored>, classifier: &Classifier, cache: &Cache) -> Result<()> {
    let (keys, labels) = cache.host();
    let weights = clip.gpu.read::<f32>(&classifier.weights)?;
    let labels: Vec<i64> = labels.iter().map(|l| i64::from(*l)).collect();
    let (length, width) = (labels.len(), classifier.weights.cols());
    all.insert("features".into(), (bytemuck::cast_slice(keys).to_vec(), vec![length, width], Dtype::F32));
    let shape = classifier.weights.shape().to_vec();
    all.insert("weights".into(), (bytemuck::cast_slice(&weights).to_vec(), shape, Dtype::F32));
    all.insert("labels".into(), (bytemuck::cast_slice(&labels).to_vec(), vec![length], Dtype::I64));
    Ok(())
}

impl Meta {
    /// What a file for `clip` says of itself.
    ///
    /// # Errors
    /// As [`Clip::id`].
    pub fn new(clip: &Clip, classes: &[String], method: Method, shots: Option<usize>, seed: u64) -> Result<Meta> {
        let folder = clip.folder();
        Ok(Meta {
            format: FORMAT.into(),
            model: clip.id()?.clone(),
            model_folder: folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf()),
            classes: classes.to_vec(),
            method,
            shots,
            seed,
            temperature: None,
        })
    }

    /// Checks the numbers that a file says of itself.
    fn check(&self) -> Result<()> {
        self.temperature.map(calibrate::check).transpose()?;
        if self.classes.is_empty() && !matches!(self.method, Method::Overlap { .. }) {
            return Err(Error::invalid("it has no classes; fit it again"));
        }
        let branch = |scale: f32| numbers::BRANCH.check("the scale of the correction", f64::from(scale)).map(drop);
        let form = |form: &Option<CorrectionForm>| form.map_or(Ok(()), |form| branch(form.scale));
        match &self.method {
            Method::TipAdapter { params, correction, .. } => params.check().and_then(|()| form(correction)),
            Method::TipAdapterF { params, .. } => params.check(),
            Method::TipX { params, psi, correction, .. } => {
                params.check().and_then(|()| psi.check()).and_then(|()| form(correction))
            }
            Method::Overlap { config } => branch(config.scale),
            Method::Pini { evaluation, .. } => evaluation.check(),
        }
    }

    /// The same with a temperature.
    #[must_use]
    pub fn with_temperature(self, temperature: Option<f64>) -> Meta {
        Meta { temperature, ..self }
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
    let tensors = adapter.tensors(clip)?;
    let bad = |e: &dyn std::fmt::Display| Error::adapter_file(path, format!("cannot be written: {e}"));
    let mut views = Vec::with_capacity(tensors.len());
    for (name, (bytes, shape, dtype)) in &tensors {
        views.push((name.clone(), TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| bad(&e))?));
    }
    let json = serde_json::to_string(meta).map_err(|e| bad(&e))?;
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

/// Whether a path is whole, and on this computer as far as a path tells.
fn is_local(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    // `//server/share` and `\\\\server\\share`; a verbatim path of a disk begins so, too.
    let network = match path.components().next() {
        Some(Component::Prefix(prefix)) => !matches!(prefix.kind(), Prefix::Disk(_) | Prefix::VerbatimDisk(_)),
        _ => text.starts_with(b"//") || text.starts_with(b"\\\\"),
    };
    path.is_absolute() && !network
}

impl File {
    /// Reads a file's header.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Safetensors`], [`Error::AdapterFile`] for a safetensors file that is no adapter.
    pub fn open(path: &Path) -> Result<File> {
        let bytes = input::read(path, input::limit::TENSORS)?;
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
        let bad = |what: &str| {
            let folder = text::path(folder);
            let (name, folder) = (text::cut(name, text::NAME), text::cut(&folder, text::NAME));
            Err(Error::adapter_file(
                &self.path,
                format!("its model '{name}' {what} {folder}; give the model's own folder"),
            ))
        };
        if !is_local(folder) {
            return bad("is named by a path that is not a whole local one:");
        }
        if !folder.is_dir() {
            return bad("is no longer in");
        }
        Clip::load_if(gpu, folder, precision, |id| self.check_model(id))
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
        match &self.meta.method {
            Method::TipAdapter { params, correction, .. } => {
                let (classifier, cache) = self.cache(clip, &file)?;
                let correction = correction.map(|form| self.correction(clip, &file, form)).transpose()?;
                Ok(Adapter::Tip { classifier, cache, params: *params, correction })
            }
            Method::TipAdapterF { params, .. } => {
                let (classifier, cache) = self.cache(clip, &file)?;
                Ok(Adapter::Tip { classifier, cache, params: *params, correction: None })
            }
            Method::TipX { params, psi, correction, .. } => {
                let (classifier, cache) = self.cache(clip, &file)?;
                let correction = correction.map(|form| self.correction(clip, &file, form)).transpose()?;
                let (own, labels) = cache.host();
                let (own, labels) = (own.to_vec(), labels.to_vec());
                let keys = match correction {
                    Some(_) => self.floats(&file, ORIGINAL, &[labels.len(), clip.config.embedding])?,
                    None => own,
                };
                let tip_x = Box::new(TipX::new(&clip.gpu, &classifier, cache, &keys, &labels)?);
                Ok(Adapter::TipX { classifier, tip_x, params: *params, psi: *psi, correction })
            }
            Method::Overlap { config } => {
                let form = CorrectionForm { bottleneck: config.bottleneck, scale: config.scale };
                Ok(Adapter::Overlap(self.correction(clip, &file, form)?))
            }
            Method::Pini { config, noisy, evaluation, .. } => {
                let prompts = NoisyPrompts::of(clip, config, &self.meta.classes)?;
                if prompts.noisy != *noisy {
                    return Err(Error::adapter_file(
                        &self.path,
                        format!("the template has {} tokens, the file was fitted with {noisy}", prompts.noisy),
                    ));
                }
                let form = pini::Form::new(clip, *noisy, config)
                    .map_err(|e| Error::adapter_file(&self.path, e.to_string()))?;
                let values = form
                    .parameters()
                    .iter()
                    .map(|(name, shape)| self.floats(&file, name, shape))
                    .collect::<Result<Vec<_>>>()?;
                let params = pini::Params::of(&clip.gpu, form, &values)
                    .map_err(|e| Error::adapter_file(&self.path, e.to_string()))?;
                Ok(Adapter::Pini { pini: Box::new(Pini::new(clip, prompts, params)?), evaluation: *evaluation })
            }
        }
    }

    /// An f32 tensor of exactly this shape.
    fn floats(&self, file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        floats(&self.path, file, name, shape)
    }

    fn cache(&self, clip: &Clip, file: &SafeTensors<'_>) -> Result<(Classifier, Cache)> {
        let (classes, d) = (self.meta.classes.len(), clip.config.embedding);
        let weights = self.floats(file, "weights", &[classes, d])?;
        let classifier = Classifier::from_weights(&clip.gpu, &weights, classes, clip.logit_scale)?;
        let (labels, length) = values(&self.path, file, "labels", Dtype::I64, 1)?;
        let keys = self.floats(file, "features", &[length[0], d])?;
        let labels: Vec<i64> = bytemuck::pod_collect_to_vec(&labels);
        let labels = labels
            .iter()
            .enumerate()
            .map(|(row, label)| match u32::try_from(*label) {
                Ok(label) if (label as usize) < classes => Ok(label),
                _ => Err(Error::adapter_file(
                    &self.path,
                    format!("row {row} of 'labels' is {label}; the adapter has {classes} classes, labels count from 0"),
                )),
            })
            .collect::<Result<Vec<u32>>>()?;
        let cache = Cache::new(&clip.gpu, &keys, &labels, classes, d)
            .map_err(|e| Error::adapter_file(&self.path, e.to_string()))?;
        Ok((classifier, cache))
    }

    fn correction(&self, clip: &Clip, file: &SafeTensors<'_>, form: CorrectionForm) -> Result<Correction> {
        let (blocks, width) = clip.image.vit().map(|vit| (vit.transformer.blocks.len(), vit.width()))?;
        let values = overlap::parameter_names(blocks)
            .iter()
            .zip(overlap::shapes(blocks, width, form.bottleneck))
            .map(|(name, shape)| self.floats(file, name, &shape))
            .collect::<Result<Vec<_>>>()?;
        Correction::upload(&clip.gpu, &values, width, form.bottleneck, form.scale)
    }
}
