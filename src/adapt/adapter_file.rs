//! Adapter files: what `tipi fit` learns, as safetensors. The header's metadata entry `tipi` is a JSON object with the
//! model's identity, the classes, the templates and the settings; predicting with another model is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::pini::{self, NoisyPrompts, Pini};
use super::tip::{Cache, TipParams};
use super::zero_shot::Classifier;
use crate::clip::{Clip, ModelId};
use crate::files::write_atomic;
use crate::{Error, Result};

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
    pub model_folder: PathBuf,
    /// Classes, in the order of the logits.
    pub classes: Vec<String>,
    /// The method and its settings.
    pub method: Method,
    /// Pictures per class.
    pub shots: usize,
    /// Seed of the few-shot choice and of training.
    pub seed: u64,
}

/// A method's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum Method {
    /// Tip-Adapter.
    TipAdapter {
        /// Templates of the zero-shot classifier.
        templates: Vec<String>,
        /// α and β.
        params: TipParams,
        /// Views averaged into each key; 0 when the picture itself was taken.
        views: usize,
    },
    /// PiNI.
    Pini {
        /// Training settings, the template among them.
        config: pini::Config,
        /// Noisy tokens.
        noisy: usize,
        /// Whether training saw fresh random views each epoch.
        augmented: bool,
    },
}

/// A tensor on its way to a file: bytes, shape, dtype.
type Stored = (Vec<u8>, Vec<usize>, Dtype);

/// A learned adapter, ready to predict.
pub enum Adapter {
    /// Tip-Adapter.
    Tip {
        /// The text classifier.
        classifier: Classifier,
        /// The cache.
        cache: Cache,
        /// α and β.
        params: TipParams,
    },
    /// PiNI.
    Pini(Box<Pini>),
}

impl Adapter {
    /// Logits `[n, classes]` of un-normalised image features `[n, D]`.
    ///
    /// # Errors
    /// A length that does not fit; a device that fails.
    pub fn logits(&self, clip: &Clip, features: &[f32]) -> Result<Vec<f32>> {
        match self {
            Adapter::Tip { classifier, cache, params } => cache.logits(&clip.gpu, classifier, features, *params),
            Adapter::Pini(pini) => pini.logits(&clip.gpu, features),
        }
    }

    /// Tensors by name: values and shape. Labels are stored as i64.
    fn tensors(&self, clip: &Clip) -> Result<BTreeMap<String, Stored>> {
        let mut all = BTreeMap::new();
        let bytes = |values: &[f32]| bytemuck::cast_slice(values).to_vec();
        match self {
            Adapter::Tip { classifier, cache, .. } => {
                let (keys, labels) = cache.host();
                let weights = clip.gpu.read::<f32>(&classifier.weights)?;
                let labels: Vec<i64> = labels.iter().map(|l| i64::from(*l)).collect();
                let width = classifier.weights.cols();
                all.insert("features".into(), (bytes(keys), vec![labels.len(), width], Dtype::F32));
                all.insert("weights".into(), (bytes(&weights), classifier.weights.shape().to_vec(), Dtype::F32));
                let length = labels.len();
                all.insert("labels".into(), (bytemuck::cast_slice(&labels).to_vec(), vec![length], Dtype::I64));
            }
            Adapter::Pini(pini) => {
                for (name, tensor) in pini::PARAMETERS.iter().zip(pini.params.tensors()) {
                    let values = clip.gpu.read::<f32>(tensor)?;
                    all.insert((*name).into(), (bytes(&values), tensor.shape().to_vec(), Dtype::F32));
                }
            }
        }
        Ok(all)
    }
}

impl Meta {
    /// What a file for `clip` says of itself.
    pub fn new(clip: &Clip, classes: &[String], method: Method, shots: usize, seed: u64) -> Meta {
        let folder = clip.folder();
        Meta {
            format: FORMAT.into(),
            model: clip.id().clone(),
            model_folder: folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf()),
            classes: classes.to_vec(),
            method,
            shots,
            seed,
        }
    }
}

/// Writes an adapter through a temporary file. Equal adapters give equal bytes.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written; a lost device.
pub fn save(path: &Path, clip: &Clip, meta: &Meta, adapter: &Adapter) -> Result<()> {
    let tensors = adapter.tensors(clip)?;
    let bad = |e: &dyn std::fmt::Display| Error::adapter_file(path, format!("cannot be written: {e}"));
    let mut views = Vec::with_capacity(tensors.len());
    for (name, (bytes, shape, dtype)) in &tensors {
        views.push((name.clone(), TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| bad(&e))?));
    }
    let json = serde_json::to_string(meta).map_err(|e| bad(&e))?;
    let metadata = std::collections::HashMap::from([("tipi".to_string(), json)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| bad(&e))?;
    write_atomic(path, &bytes)
}

/// An adapter file in memory, not yet bound to a model.
pub struct File {
    path: PathBuf,
    bytes: Vec<u8>,
    /// What it says of itself.
    pub meta: Meta,
}

impl File {
    /// Reads a file's header.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Safetensors`], [`Error::AdapterFile`] for a safetensors file that is no adapter.
    pub fn open(path: &Path) -> Result<File> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
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
        Ok(File { path: path.to_path_buf(), bytes, meta })
    }

    fn values(&self, file: &SafeTensors<'_>, name: &str, dtype: Dtype, rank: usize) -> Result<(Vec<u8>, Vec<usize>)> {
        let view =
            file.tensor(name).map_err(|_| Error::MissingTensor { path: self.path.clone(), tensor: name.into() })?;
        if view.dtype() != dtype || view.shape().len() != rank {
            return Err(Error::TensorForm {
                path: self.path.clone(),
                tensor: name.into(),
                expected: format!("{rank} dimensions of {dtype:?}"),
                found: format!("{:?} of {:?}", view.shape(), view.dtype()),
            });
        }
        Ok((view.data().to_vec(), view.shape().to_vec()))
    }

    /// Binds the adapter to its model.
    ///
    /// # Errors
    /// [`Error::AdapterFile`] when it was fitted to another model; [`Error::MissingTensor`] or [`Error::TensorForm`]
    /// when it is damaged; out of memory.
    pub fn bind(&self, clip: &Clip) -> Result<Adapter> {
        let (want, have) = (&self.meta.model, clip.id());
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
        let bad = |e: safetensors::SafeTensorError| Error::adapter_file(&self.path, e.to_string());
        let file = SafeTensors::deserialize(&self.bytes).map_err(bad)?;
        let floats = |bytes: &[u8]| -> Vec<f32> { bytemuck::pod_collect_to_vec(bytes) };
        let (classes, d) = (self.meta.classes.len(), clip.config.embedding);
        let form = |tensor: &str, expected: String, found: &[usize]| Error::TensorForm {
            path: self.path.clone(),
            tensor: tensor.into(),
            expected,
            found: format!("{found:?}"),
        };
        match &self.meta.method {
            Method::TipAdapter { params, .. } => {
                let (weights, shape) = self.values(&file, "weights", Dtype::F32, 2)?;
                if shape != [classes, d] {
                    return Err(form("weights", format!("[{classes}, {d}]"), &shape));
                }
                let classifier = Classifier::from_weights(&clip.gpu, &floats(&weights), classes, clip.logit_scale)?;
                let (keys, shape) = self.values(&file, "features", Dtype::F32, 2)?;
                let (labels, label_shape) = self.values(&file, "labels", Dtype::I64, 1)?;
                if shape[1] != d || shape[0] != label_shape[0] {
                    return Err(form("features", format!("[{}, {d}]", label_shape[0]), &shape));
                }
                let labels: Vec<i64> = bytemuck::pod_collect_to_vec(&labels);
                let labels = labels
                    .iter()
                    .map(|l| u32::try_from(*l).map_err(|_| form("labels", format!("0…{}", classes - 1), &[])))
                    .collect::<Result<Vec<u32>>>()?;
                let cache = Cache::new(&clip.gpu, &floats(&keys), &labels, classes, d)?;
                Ok(Adapter::Tip { classifier, cache, params: *params })
            }
            Method::Pini { config, noisy, .. } => {
                let prompts = NoisyPrompts::new(clip, &config.template, &self.meta.classes)?;
                if prompts.noisy != *noisy || config.reduction == 0 {
                    return Err(Error::adapter_file(
                        &self.path,
                        format!("the template has {} tokens, the file was fitted with {noisy}", prompts.noisy),
                    ));
                }
                let mut values = Vec::with_capacity(pini::PARAMETERS.len());
                let e = d / config.reduction;
                let shapes = pini::shapes(*noisy, clip.text.width(), d, e);
                for (name, want) in pini::PARAMETERS.iter().zip(&shapes) {
                    let (bytes, shape) = self.values(&file, name, Dtype::F32, want.len())?;
                    if shape != *want {
                        return Err(form(name, format!("{want:?}"), &shape));
                    }
                    values.push(floats(&bytes));
                }
                let params = pini::Params::upload(&clip.gpu, &values, *noisy, clip.text.width(), d, e)
                    .map_err(|e| Error::adapter_file(&self.path, e.to_string()))?;
                Ok(Adapter::Pini(Box::new(Pini::new(clip, &prompts, params)?)))
            }
        }
    }
}
