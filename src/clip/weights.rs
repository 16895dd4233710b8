//! Checkpoints: memory-mapped safetensors under either of CLIP's two naming schemes.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, SafeTensors};

use super::config::{ClipConfig, TowerConfig};
use crate::gpu::{Gpu, Tensor};
use crate::kernels::gemm::{self, Precision};
use crate::kernels::patch::PatchEmbedding;
use crate::nn::{Block, FrozenLinear, LayerNorm, Transformer};
use crate::{Error, Result};

/// The two naming schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// `vision_model.encoder.layers.0.self_attn.q_proj.weight`, …
    HuggingFace,
    /// `visual.transformer.resblocks.0.attn.in_proj_weight`, …: OpenAI's and open_clip's.
    OpenAi,
}

/// Which tower a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Image,
    Text,
}

/// A checkpoint: the file stays on disk, its pages come in as tensors are read.
pub struct Checkpoint {
    path: PathBuf,
    map: memmap2::Mmap,
    metadata: Metadata,
    /// Where tensor data start in the file.
    data: usize,
    names: Names,
}

impl Checkpoint {
    /// Opens a safetensors file; reads its header only.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Safetensors`] for a truncated or hostile file; [`Error::MissingTensor`] for a file
    /// that is no CLIP.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let bad = |reason: String| Error::Safetensors { path: path.to_path_buf(), reason };
        let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
        if file.metadata().map_err(|e| Error::io(path, e))?.len() < 8 {
            return Err(bad("shorter than its 8-byte header length; download it again".into()));
        }
        // SAFETY: the mapping is read-only; tipi does not promise anything if another process rewrites the file
        // under it, and every read below stays within the mapped length.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|e| bad(format!("{e}; the file is truncated or damaged, fetch it again")))?;
        let data = header + 8;
        // The header's own offsets are checked by the parser; that they fit the file is not.
        let end = metadata.tensors().values().map(|t| t.data_offsets.1).max().unwrap_or(0);
        if data.checked_add(end).is_none_or(|end| end > map.len()) {
            return Err(bad(format!(
                "its header needs {} bytes of data, the file has {}; it is truncated, fetch it again",
                end,
                map.len() - data
            )));
        }
        let has = |name: &str| metadata.tensors().contains_key(name);
        let names = if has("visual.conv1.weight") {
            Names::OpenAi
        } else if has("vision_model.embeddings.patch_embedding.weight") {
            Names::HuggingFace
        } else {
            return Err(Error::MissingTensor {
                path: path.to_path_buf(),
                tensor: "vision_model.embeddings.patch_embedding.weight' (or OpenAI's 'visual.conv1.weight".into(),
            });
        };
        Ok(Checkpoint { path: path.to_path_buf(), map, metadata, data, names })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which naming scheme the file uses.
    pub fn names(&self) -> Names {
        self.names
    }

    /// The whole file, for hashing.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// A tensor's shape.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.info(name)?.shape.clone())
    }

    fn info(&self, name: &str) -> Result<&safetensors::tensor::TensorInfo> {
        self.metadata.info(name).ok_or_else(|| Error::MissingTensor { path: self.path.clone(), tensor: name.into() })
    }

    /// How many numbered layers follow `prefix` (`<prefix><number>.…`), counting from 0 to the highest number.
    pub fn count_layers(&self, prefix: &str) -> usize {
        let number = |name: &String| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        self.metadata.tensors().keys().filter_map(number).max().map_or(0, |n| n.saturating_add(1))
    }

    /// Checks that a tensor has `shape` (`None` for a scalar stored with or without a dimension) and a float type.
    fn checked(&self, name: &str, shape: &[usize]) -> Result<(&[u8], Dtype)> {
        let info = self.info(name)?;
        let scalar = shape.is_empty() && info.shape == [1];
        let float = matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        if (info.shape != shape && !scalar) || !float {
            return Err(Error::TensorForm {
                path: self.path.clone(),
                tensor: name.into(),
                expected: format!("{shape:?} of F32, F16 or BF16"),
                found: format!("{:?} of {:?}", info.shape, info.dtype),
            });
        }
        let (start, end) = info.data_offsets;
        let size = if info.dtype == Dtype::F32 { 4 } else { 2 };
        let bytes = self.map.get(self.data + start..self.data + end);
        let length = shape.iter().try_fold(size, |n: usize, d| n.checked_mul(*d));
        match bytes {
            Some(bytes) if Some(bytes.len()) == length => Ok((bytes, info.dtype)),
            _ => Err(Error::Safetensors {
                path: self.path.clone(),
                reason: format!("tensor '{name}' lies outside the file"),
            }),
        }
    }

    /// A tensor's values as f32.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorForm`], [`Error::Safetensors`].
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (bytes, dtype) = self.checked(name, shape)?;
        Ok(widen(bytes, dtype))
    }

    /// Rows `rows` of a tensor `[n, width]` as f32, one after the other: only their pages are read.
    ///
    /// # Errors
    /// As [`Checkpoint::values`]; [`Error::Invalid`] for a row past the end.
    pub fn rows(&self, name: &str, shape: [usize; 2], rows: &[u32]) -> Result<Vec<f32>> {
        let (bytes, dtype) = self.checked(name, &shape)?;
        let stride = shape[1] * if dtype == Dtype::F32 { 4 } else { 2 };
        let mut values = Vec::with_capacity(rows.len() * shape[1]);
        for row in rows {
            let start = *row as usize * stride;
            let Some(bytes) = bytes.get(start..start + stride) else {
                return Err(Error::invalid(format!("token id {row} is past the vocabulary of {}", shape[0])));
            };
            values.extend(widen(bytes, dtype));
        }
        Ok(values)
    }
}

fn widen(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}

/// Swaps the two dimensions of a row-major `[rows, cols]` matrix.
fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for c in 0..cols {
        out.extend((0..rows).map(|r| values[r * cols + c]));
    }
    out
}

/// Loads layers onto the GPU under the checkpoint's names.
pub(super) struct Loader<'a> {
    pub gpu: &'a Gpu,
    pub checkpoint: &'a Checkpoint,
    /// Of the frozen matrices.
    pub precision: Precision,
}

impl Loader<'_> {
    fn upload(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.gpu.upload(name, &self.checkpoint.values(name, shape)?, shape)
    }

    /// A frozen matrix, in the form that the device's kernels read.
    fn freeze(&self, name: &str, shape: [usize; 2]) -> Result<Tensor> {
        gemm::freeze(self.gpu, name, &self.checkpoint.values(name, &shape)?, shape, self.precision)
    }

    fn norm(&self, name: &str, width: usize, eps: f32) -> Result<LayerNorm> {
        Ok(LayerNorm {
            gain: self.upload(&format!("{name}.weight"), &[width])?,
            shift: self.upload(&format!("{name}.bias"), &[width])?,
            eps,
        })
    }

    fn linear(&self, name: &str, out: usize, input: usize) -> Result<FrozenLinear> {
        Ok(FrozenLinear {
            weight: self.freeze(&format!("{name}.weight"), [out, input])?,
            bias: Some(self.upload(&format!("{name}.bias"), &[out])?),
        })
    }

    /// Queries, keys and values as one layer, whether they are stored as one or as three.
    fn qkv(&self, name: &str, width: usize) -> Result<FrozenLinear> {
        let (weight, bias) = match self.checkpoint.names {
            Names::OpenAi => (
                self.checkpoint.values(&format!("{name}.in_proj_weight"), &[3 * width, width])?,
                self.checkpoint.values(&format!("{name}.in_proj_bias"), &[3 * width])?,
            ),
            Names::HuggingFace => {
                let mut weight = Vec::with_capacity(3 * width * width);
                let mut bias = Vec::with_capacity(3 * width);
                for part in ["q_proj", "k_proj", "v_proj"] {
                    weight.extend(self.checkpoint.values(&format!("{name}.{part}.weight"), &[width, width])?);
                    bias.extend(self.checkpoint.values(&format!("{name}.{part}.bias"), &[width])?);
                }
                (weight, bias)
            }
        };
        Ok(FrozenLinear {
            weight: gemm::freeze(self.gpu, name, &weight, [3 * width, width], self.precision)?,
            bias: Some(self.gpu.upload(name, &bias, &[3 * width])?),
        })
    }

    pub fn transformer(&self, side: Side, config: &TowerConfig) -> Result<Transformer> {
        let (prefix, attn, out, ln1, ln2, up, down) = match (self.checkpoint.names, side) {
            (Names::HuggingFace, Side::Image) => {
                ("vision_model.encoder.layers.", "self_attn", "out_proj", "layer_norm1", "layer_norm2", "fc1", "fc2")
            }
            (Names::HuggingFace, Side::Text) => {
                ("text_model.encoder.layers.", "self_attn", "out_proj", "layer_norm1", "layer_norm2", "fc1", "fc2")
            }
            (Names::OpenAi, Side::Image) => {
                ("visual.transformer.resblocks.", "attn", "out_proj", "ln_1", "ln_2", "c_fc", "c_proj")
            }
            (Names::OpenAi, Side::Text) => {
                ("transformer.resblocks.", "attn", "out_proj", "ln_1", "ln_2", "c_fc", "c_proj")
            }
        };
        let stored = self.checkpoint.count_layers(prefix);
        if stored > config.layers {
            return Err(Error::config(
                self.checkpoint.path(),
                format!(
                    "holds '{prefix}{}' but the configuration says {} layers; the two do not belong together",
                    stored - 1,
                    config.layers
                ),
            ));
        }
        let (width, mlp, eps) = (config.width, config.mlp, config.eps);
        let mut blocks = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
            let at = format!("{prefix}{i}.");
            blocks.push(Block {
                ln1: self.norm(&format!("{at}{ln1}"), width, eps)?,
                qkv: self.qkv(&format!("{at}{attn}"), width)?,
                out: self.linear(&format!("{at}{attn}.{out}"), width, width)?,
                ln2: self.norm(&format!("{at}{ln2}"), width, eps)?,
                up: self.linear(&format!("{at}mlp.{up}"), mlp, width)?,
                down: self.linear(&format!("{at}mlp.{down}"), width, mlp)?,
            });
        }
        Ok(Transformer { blocks, heads: config.heads, activation: config.activation })
    }

    pub fn patches(&self, config: &ClipConfig) -> Result<PatchEmbedding> {
        let (weight, class, position) = match self.checkpoint.names {
            Names::HuggingFace => (
                "vision_model.embeddings.patch_embedding.weight",
                "vision_model.embeddings.class_embedding",
                "vision_model.embeddings.position_embedding.weight",
            ),
            Names::OpenAi => ("visual.conv1.weight", "visual.class_embedding", "visual.positional_embedding"),
        };
        let (width, patch) = (config.image.width, config.patch);
        let kernel = self.checkpoint.values(weight, &[width, 3, patch, patch])?;
        Ok(PatchEmbedding {
            weight: gemm::freeze(self.gpu, weight, &kernel, [width, 3 * patch * patch], self.precision)?,
            class: self.upload(class, &[width])?,
            position: self.upload(position, &[config.image_tokens(), width])?,
            patch,
        })
    }

    /// The norms before and after the image blocks.
    pub fn image_norms(&self, config: &TowerConfig) -> Result<(LayerNorm, LayerNorm)> {
        let (pre, post) = match self.checkpoint.names {
            // The missing e is in the published checkpoints.
            Names::HuggingFace => ("vision_model.pre_layrnorm", "vision_model.post_layernorm"),
            Names::OpenAi => ("visual.ln_pre", "visual.ln_post"),
        };
        Ok((self.norm(pre, config.width, config.eps)?, self.norm(post, config.width, config.eps)?))
    }

    pub fn text_norm(&self, config: &TowerConfig) -> Result<LayerNorm> {
        let name = match self.checkpoint.names {
            Names::HuggingFace => "text_model.final_layer_norm",
            Names::OpenAi => "ln_final",
        };
        self.norm(name, config.width, config.eps)
    }

    /// The projection to the joint space as `[embedding, width]`, whichever way it is stored.
    pub fn projection(&self, side: Side, width: usize, embedding: usize) -> Result<FrozenLinear> {
        let name = match (self.checkpoint.names, side) {
            (Names::HuggingFace, Side::Image) => "visual_projection.weight",
            (Names::HuggingFace, Side::Text) => "text_projection.weight",
            (Names::OpenAi, Side::Image) => "visual.proj",
            (Names::OpenAi, Side::Text) => "text_projection",
        };
        let weight = match self.checkpoint.names {
            Names::HuggingFace => self.checkpoint.values(name, &[embedding, width])?,
            Names::OpenAi => transpose(&self.checkpoint.values(name, &[width, embedding])?, width, embedding),
        };
        let weight = gemm::freeze(self.gpu, name, &weight, [embedding, width], self.precision)?;
        Ok(FrozenLinear { weight, bias: None })
    }
}

#[cfg(test)]
mod tests {
    use super::{Dtype, transpose, widen};
    use half::{bf16, f16};

    #[test]
    fn all_float_types_widen_to_their_values() {
        let values = [0.0f32, -1.5, 0.15625, 240.0];
        let bytes: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(widen(&bytes, Dtype::F16), values);
        let bytes: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(widen(&bytes, Dtype::BF16), values);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(widen(&bytes, Dtype::F32), values);
    }

    #[test]
    fn transposing_exchanges_rows_and_columns() {
        assert_eq!(transpose(&[1., 2., 3., 4., 5., 6.], 2, 3), [1., 4., 2., 5., 3., 6.]);
    }
}
