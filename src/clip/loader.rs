//! From a checkpoint's names to layers on the GPU. Matrices go over a few rows at a time; in a rehearsal every tensor's
//! name, shape and type is checked and none is read.

use std::ops::Range;

use super::checkpoint::Checkpoint;
use super::config::{Biases, ProjectionForm, TowerConfig};
use super::names::{Attention, BlockNames, Stored, Up};
use crate::gpu::{DType, Gpu, Tensor};
use crate::kernels::gemm::{self, Precision};
use crate::kernels::rotary::Angles;
use crate::nn::{Block, FrozenLinear, LayerNorm, Transformer};
use crate::{Error, Result, numbers};

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
    pub fn freeze(&self, parts: &[&str], stored: &[usize]) -> Result<Tensor> {
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

    /// A name that a scheme has only where its models have such a part.
    pub fn named<T>(&self, name: Option<T>, part: &str) -> Result<T> {
        let lacks = || format!("the configuration asks for {part}, and models under such names have none");
        name.ok_or_else(|| Error::config(self.checkpoint.path(), lacks()))
    }

    pub fn norm(&self, name: &str, width: usize, eps: f32) -> Result<LayerNorm> {
        Ok(LayerNorm {
            gain: self.upload(&format!("{name}.weight"), &[width])?,
            shift: self.upload(&format!("{name}.bias"), &[width])?,
            eps,
        })
    }

    /// A layer without a bias.
    pub fn matrix(&self, name: &str, out: usize, input: usize) -> Result<FrozenLinear> {
        Ok(FrozenLinear { weight: self.freeze(&[&format!("{name}.weight")], &[out, input])?, bias: None })
    }

    pub fn linear(&self, name: &str, out: usize, input: usize) -> Result<FrozenLinear> {
        Ok(FrozenLinear {
            weight: self.freeze(&[&format!("{name}.weight")], &[out, input])?,
            bias: Some(self.upload(&format!("{name}.bias"), &[out])?),
        })
    }

    /// A layer whose outputs are scaled by the factors of this name, which are multiplied into it.
    fn scaled(&self, name: &str, factors: &str, out: usize, input: usize) -> Result<FrozenLinear> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let checkpoint = self.checkpoint;
        for (name, shape) in [(&*weight, &[out, input][..]), (&bias, &[out]), (factors, &[out])] {
            checkpoint.check(name, shape)?;
        }
        let times = |values: Vec<f32>, width: usize| {
            let factors = checkpoint.values(factors, &[out])?;
            let rows = values.chunks(width).zip(factors);
            Ok(rows.flat_map(|(row, factor)| row.iter().map(move |v| v * factor)).collect())
        };
        Ok(FrozenLinear {
            weight: self
                .freeze_made(&weight, [out, input], || times(checkpoint.values(&weight, &[out, input])?, input))?,
            bias: Some(self.upload_made(&bias, &[out], || times(checkpoint.values(&bias, &[out])?, 1))?),
        })
    }

    /// Queries, keys and values as one layer, whether they are stored as one or as three.
    fn qkv(&self, at: &str, names: &Attention, biases: Biases, width: usize) -> Result<FrozenLinear> {
        let whole = |name: &str| format!("{at}{name}");
        match names {
            Attention::Fused { weight, bias } => Ok(FrozenLinear {
                weight: self.freeze(&[&whole(weight)], &[3 * width, width])?,
                bias: match biases {
                    Biases::None => None,
                    _ => Some(self.upload(&whole(bias), &[3 * width])?),
                },
            }),
            Attention::FusedApart { weight, biases } => {
                let [query, value] = biases.map(whole);
                Ok(FrozenLinear {
                    weight: self.freeze(&[&whole(weight)], &[3 * width, width])?,
                    bias: Some(self.joined(&[Some(query), None, Some(value)], width)?),
                })
            }
            Attention::Three(names) => self.qkv_of_three(&names.map(whole), biases, width),
        }
    }

    /// Queries, keys and values, stored as three layers, as one.
    pub fn qkv_of_three(&self, layers: &[String; 3], biases: Biases, width: usize) -> Result<FrozenLinear> {
        let weights = layers.each_ref().map(|layer| format!("{layer}.weight"));
        let mut names = layers.each_ref().map(|layer| Some(format!("{layer}.bias")));
        if biases == Biases::NoKey {
            names[1] = None;
        }
        Ok(FrozenLinear {
            weight: self.freeze(&weights.each_ref().map(String::as_str), &[width, width])?,
            bias: Some(self.joined(&names, width)?),
        })
    }

    /// Biases of `width` one after the other, zeros where there is none.
    fn joined(&self, names: &[Option<String>], width: usize) -> Result<Tensor> {
        let named = names.iter().flatten();
        named.clone().try_for_each(|name| self.checkpoint.check(name, &[width]))?;
        let values = || {
            let mut all = Vec::with_capacity(names.len() * width);
            for name in names {
                match name {
                    Some(name) => all.extend(self.checkpoint.values(name, &[width])?),
                    None => all.resize(all.len() + width, 0.0),
                }
            }
            Ok(all)
        };
        self.upload_made(named.clone().next().map_or("biases", String::as_str), &[names.len() * width], values)
    }

    /// An MLP's first layer.
    fn up(&self, at: &str, names: &Up, mlp: usize, width: usize) -> Result<FrozenLinear> {
        match names {
            Up::One(name) => self.linear(&format!("{at}{name}"), mlp, width),
            Up::Gated(names) => {
                let part = |kind: &str| names.map(|name| format!("{at}{name}.{kind}"));
                Ok(FrozenLinear {
                    weight: self.freeze(&part("weight").each_ref().map(String::as_str), &[mlp, width])?,
                    bias: Some(self.joined(&part("bias").map(Some), mlp)?),
                })
            }
        }
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

    /// The blocks whose names begin with `prefix`, and `angles` for their attention.
    pub fn transformer(
        &self,
        prefix: &str,
        names: &BlockNames,
        config: &TowerConfig,
        angles: Option<Angles>,
    ) -> Result<Transformer> {
        self.no_more_layers(prefix, config.layers)?;
        let (width, mlp, eps) = (config.width, config.mlp, config.eps);
        let [attended, added] = match config.layer_scale {
            true => self.named(names.scales, "LayerScale")?.map(Some),
            false => [None; 2],
        };
        let inner = |at: &str, name: Option<&str>, width: usize| match config.inner_norms {
            true => {
                let name = self.named(name, "norms inside attention and MLP")?;
                self.norm(&format!("{at}{name}"), width, eps).map(Some)
            }
            false => Ok(None),
        };
        let last = |at: &str, name: &str, factors: Option<&str>, input: usize| match factors {
            Some(factors) => self.scaled(&format!("{at}{name}"), &format!("{at}{factors}"), width, input),
            None => self.linear(&format!("{at}{name}"), width, input),
        };
        let mut blocks = Vec::new();
        for i in 0..config.layers {
            let at = format!("{prefix}{i}.");
            let name = |name: &str| format!("{at}{name}");
            blocks.push(Block {
                ln1: self.norm(&name(names.ln1), width, eps)?,
                qkv: self.qkv(&at, &names.attention, config.biases, width)?,
                mixed: inner(&at, names.mixed, width)?,
                out: last(&at, names.out, attended, width)?,
                ln2: self.norm(&name(names.ln2), width, eps)?,
                up: self.up(&at, &names.up, mlp, width)?,
                hidden: inner(&at, names.hidden, mlp)?,
                down: last(&at, names.down, added, mlp)?,
            });
        }
        let (heads, hidden, norms) = (config.heads, config.hidden, config.norms);
        Ok(Transformer { blocks, heads, hidden, angles, norms })
    }

    /// The last layer of a projection to the joint space, as `[embedding, width]` whichever way it is stored.
    pub fn projection(
        &self,
        (prefix, stored): (&str, Option<&Stored>),
        form: ProjectionForm,
        width: usize,
        embedding: usize,
    ) -> Result<Option<FrozenLinear>> {
        if form == ProjectionForm::None {
            if width == embedding {
                return Ok(None);
            }
            return Err(Error::config(
                self.checkpoint.path(),
                format!(
                    "a tower of width {width} without a projection does not lead into a joint space of {embedding}"
                ),
            ));
        }
        let stored = self.named(stored, "a projection")?;
        let (Stored::Layer(name) | Stored::Transposed(name)) = stored;
        let plain = format!("{prefix}{name}");
        let layer = match (stored, form) {
            // What has a bias is a layer in every scheme.
            (_, ProjectionForm::Biased) => self.linear(&plain, embedding, width)?,
            (_, ProjectionForm::Mlp { hidden }) => self.matrix(&format!("{plain}.2"), embedding, hidden)?,
            (Stored::Layer(_), _) => self.matrix(&plain, embedding, width)?,
            (Stored::Transposed(_), _) => {
                self.checkpoint.check(&plain, &[width, embedding])?;
                let stored = || Ok(transpose(&self.checkpoint.values(&plain, &[width, embedding])?, width, embedding));
                FrozenLinear { weight: self.freeze_made(&plain, [embedding, width], stored)?, bias: None }
            }
        };
        Ok(Some(layer))
    }

    /// The layer before it, where the projection is an MLP: torch numbers its layers, the activation among them.
    pub fn before_projection(
        &self,
        (prefix, stored): (&str, &Stored),
        form: ProjectionForm,
        width: usize,
    ) -> Result<Option<FrozenLinear>> {
        let (Stored::Layer(name) | Stored::Transposed(name)) = stored;
        match form {
            ProjectionForm::Mlp { hidden } => self.matrix(&format!("{prefix}{name}.0"), hidden, width).map(Some),
            _ => Ok(None),
        }
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
