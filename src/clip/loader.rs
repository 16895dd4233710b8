//! From a checkpoint's names to layers on the GPU. Matrices go over a few rows at a time; in a rehearsal every tensor's
//! name, shape and type is checked and none is read.

use std::ops::Range;

use super::checkpoint::{Checkpoint, Names};
use super::config::TowerConfig;
use crate::gpu::{DType, Gpu, Tensor};
use crate::kernels::gemm::{self, Precision};
use crate::kernels::patch::PatchEmbedding;
use crate::nn::{Block, FrozenLinear, LayerNorm, Transformer};
use crate::{Error, Result, numbers};

/// Which tower a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Image,
    Text,
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
    pub fn upload(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.checkpoint.check(name, shape)?;
        self.upload_made(name, shape, || self.checkpoint.values(name, shape))
    }

    /// Values made of the file's, if all are finite: folding norms into weights can leave f32.
    fn finite(&self, what: &str, values: Vec<f32>, shape: &[usize]) -> Result<Vec<f32>> {
        let width = shape.last().copied().unwrap_or(1);
        numbers::check_tensor(self.checkpoint.path(), what, &values, 0, width)?;
        Ok(values)
    }

    /// A tensor whose values are computed from the file; a rehearsal asks for none.
    pub fn upload_made(
        &self,
        what: &str,
        shape: &[usize],
        values: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<Tensor> {
        if self.gpu.rehearses() {
            return self.gpu.empty(what, shape, DType::F32);
        }
        self.gpu.upload(what, &self.finite(what, values()?, shape)?, shape)
    }

    /// A frozen matrix `[out, in]` in the form that the device's kernels read: the stored tensors named `parts` one below
    /// the other, each of the shape `stored` (whose first dimension is its rows).
    fn freeze(&self, parts: &[&str], stored: &[usize]) -> Result<Tensor> {
        let rows = stored.first().copied().unwrap_or(1);
        let cols = stored.iter().skip(1).product();
        for name in parts {
            self.checkpoint.check(name, stored)?;
        }
        let what = parts.first().copied().unwrap_or_default();
        let mut values = |wanted: Range<usize>| {
            let mut values = Vec::with_capacity(wanted.len() * cols);
            for (i, name) in parts.iter().enumerate() {
                let (first, last) = (wanted.start.max(i * rows), wanted.end.min((i + 1) * rows));
                if first < last {
                    values.extend(self.checkpoint.part(name, stored, first - i * rows..last - i * rows)?);
                }
            }
            Ok(values)
        };
        gemm::freeze_rows(self.gpu, what, [rows * parts.len(), cols], self.precision, &mut values)
    }

    /// A frozen matrix whose values are computed from the file.
    pub fn freeze_made(
        &self,
        what: &str,
        shape: [usize; 2],
        values: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<Tensor> {
        // A rehearsal asks for no rows.
        let mut once = Some(values);
        let mut all = Vec::new();
        gemm::freeze_rows(self.gpu, what, shape, self.precision, &mut |rows| {
            if let Some(values) = once.take() {
                all = self.finite(what, values()?, &shape)?;
            }
            let part = all.get(rows.start * shape[1]..rows.end * shape[1]);
            Ok(part.ok_or_else(|| Error::invalid(format!("{what}: too few values for {shape:?}")))?.to_vec())
        })
    }

    fn norm(&self, name: &str, width: usize, eps: f32) -> Result<LayerNorm> {
        Ok(LayerNorm {
            gain: self.upload(&format!("{name}.weight"), &[width])?,
            shift: self.upload(&format!("{name}.bias"), &[width])?,
            eps,
        })
    }

    pub fn linear(&self, name: &str, out: usize, input: usize) -> Result<FrozenLinear> {
        Ok(FrozenLinear {
            weight: self.freeze(&[&format!("{name}.weight")], &[out, input])?,
            bias: Some(self.upload(&format!("{name}.bias"), &[out])?),
        })
    }

    /// Queries, keys and values as one layer, whether they are stored as one or as three.
    fn qkv(&self, name: &str, width: usize) -> Result<FrozenLinear> {
        match self.checkpoint.names() {
            Names::OpenAi => Ok(FrozenLinear {
                weight: self.freeze(&[&format!("{name}.in_proj_weight")], &[3 * width, width])?,
                bias: Some(self.upload(&format!("{name}.in_proj_bias"), &[3 * width])?),
            }),
            Names::HuggingFace => self.qkv_of_three(name, width),
        }
    }

    /// Queries, keys and values, stored as three layers, as one.
    pub fn qkv_of_three(&self, name: &str, width: usize) -> Result<FrozenLinear> {
        let names = |kind: &str| ["q_proj", "k_proj", "v_proj"].map(|part| format!("{name}.{part}.{kind}"));
        let (weights, biases) = (names("weight"), names("bias"));
        for name in &biases {
            self.checkpoint.check(name, &[width])?;
        }
        let bias = || {
            let mut all = Vec::with_capacity(3 * width);
            for name in &biases {
                all.extend(self.checkpoint.values(name, &[width])?);
            }
            Ok(all)
        };
        Ok(FrozenLinear {
            weight: self.freeze(&weights.each_ref().map(String::as_str), &[width, width])?,
            bias: Some(self.upload_made(name, &[3 * width], bias)?),
        })
    }

    /// Refuses more numbered layers than the configuration has.
    pub fn no_more_layers(&self, prefix: &str, layers: usize) -> Result<()> {
        let stored = self.checkpoint.count_layers(prefix);
        if stored <= layers {
            return Ok(());
        }
        Err(Error::config(
            self.checkpoint.path(),
            format!(
                "holds '{prefix}{}' but the configuration says {layers} layers; the two do not belong together",
                stored - 1
            ),
        ))
    }

    pub fn transformer(&self, side: Side, config: &TowerConfig) -> Result<Transformer> {
        let hf = ("self_attn", "layer_norm1", "layer_norm2", "fc1", "fc2");
        let openai = ("attn", "ln_1", "ln_2", "c_fc", "c_proj");
        let (prefix, (attn, ln1, ln2, up, down)) = match (self.checkpoint.names(), side) {
            (Names::HuggingFace, Side::Image) => ("vision_model.encoder.layers.".to_string(), hf),
            (Names::HuggingFace, Side::Text) => ("text_model.encoder.layers.".to_string(), hf),
            (Names::OpenAi, Side::Image) => ("visual.transformer.resblocks.".to_string(), openai),
            (Names::OpenAi, Side::Text) => (self.checkpoint.text_name("transformer.resblocks."), openai),
        };
        self.no_more_layers(&prefix, config.layers)?;
        let (width, mlp, eps) = (config.width, config.mlp, config.eps);
        let mut blocks = Vec::new();
        for i in 0..config.layers {
            let at = format!("{prefix}{i}.");
            blocks.push(Block {
                ln1: self.norm(&format!("{at}{ln1}"), width, eps)?,
                qkv: self.qkv(&format!("{at}{attn}"), width)?,
                out: self.linear(&format!("{at}{attn}.out_proj"), width, width)?,
                ln2: self.norm(&format!("{at}{ln2}"), width, eps)?,
                up: self.linear(&format!("{at}mlp.{up}"), mlp, width)?,
                down: self.linear(&format!("{at}mlp.{down}"), width, mlp)?,
            });
        }
        Ok(Transformer { blocks, heads: config.heads, activation: config.activation })
    }

    pub fn patches(&self, width: usize, patch: usize, tokens: usize) -> Result<PatchEmbedding> {
        let (weight, class, position) = match self.checkpoint.names() {
            Names::HuggingFace => (
                "vision_model.embeddings.patch_embedding.weight",
                "vision_model.embeddings.class_embedding",
                "vision_model.embeddings.position_embedding.weight",
            ),
            Names::OpenAi => ("visual.conv1.weight", "visual.class_embedding", "visual.positional_embedding"),
        };
        Ok(PatchEmbedding {
            weight: self.freeze(&[weight], &[width, 3, patch, patch])?,
            class: self.upload(class, &[width])?,
            position: self.upload(position, &[tokens, width])?,
            patch,
        })
    }

    /// The norms before and after the image blocks.
    pub fn image_norms(&self, config: &TowerConfig) -> Result<(LayerNorm, LayerNorm)> {
        let (pre, post) = match self.checkpoint.names() {
            // The missing e is in the published checkpoints.
            Names::HuggingFace => ("vision_model.pre_layrnorm", "vision_model.post_layernorm"),
            Names::OpenAi => ("visual.ln_pre", "visual.ln_post"),
        };
        Ok((self.norm(pre, config.width, config.eps)?, self.norm(post, config.width, config.eps)?))
    }

    pub fn text_norm(&self, config: &TowerConfig) -> Result<LayerNorm> {
        let name = match self.checkpoint.names() {
            Names::HuggingFace => "text_model.final_layer_norm".to_string(),
            Names::OpenAi => self.checkpoint.text_name("ln_final"),
        };
        self.norm(&name, config.width, config.eps)
    }

    /// The projection to the joint space as `[embedding, width]`, whichever way it is stored.
    pub fn projection(&self, side: Side, width: usize, embedding: usize) -> Result<FrozenLinear> {
        let name = match (self.checkpoint.names(), side) {
            (Names::HuggingFace, Side::Image) => "visual_projection.weight".to_string(),
            (Names::HuggingFace, Side::Text) => "text_projection.weight".to_string(),
            (Names::OpenAi, Side::Image) => "visual.proj".to_string(),
            (Names::OpenAi, Side::Text) => self.checkpoint.text_name("text_projection"),
        };
        let weight = match self.checkpoint.names() {
            Names::HuggingFace => self.freeze(&[&name], &[embedding, width])?,
            Names::OpenAi => {
                self.checkpoint.check(&name, &[width, embedding])?;
                let stored = || Ok(transpose(&self.checkpoint.values(&name, &[width, embedding])?, width, embedding));
                self.freeze_made(&name, [embedding, width], stored)?
            }
        };
        Ok(FrozenLinear { weight, bias: None })
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn transposing_exchanges_rows_and_columns() {
        assert_eq!(transpose(&[1., 2., 3., 4., 5., 6.], 2, 3), [1., 4., 2., 5., 3., 6.]);
    }
}
