//! From a picture's tokens to one row, the last norm among it.

use crate::clip::config::{Pool as PoolConfig, VitConfig};
use crate::clip::loader::Loader;
use crate::clip::names::PoolAttention;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::activation::Activation;
use crate::kernels::pooling;
use crate::nn::{AttentionPool, FrozenLinear, LayerNorm, Picked, PoolSaved};
use crate::{Error, Result};

/// How tokens become one row.
pub(super) struct Pool {
    norm: LayerNorm,
    kind: Kind,
    tokens: usize,
}

enum Kind {
    Class,
    Mean { norm_first: bool, first: usize },
    Attention(Box<AttentionPool>),
}

/// What backward through a pool needs: the norm's input and statistics, and what attention needs.
pub(super) struct Saved {
    x: Tensor,
    stats: Tensor,
    pool: Option<PoolSaved>,
}

impl Pool {
    pub fn load(loader: &Loader<'_>, config: &VitConfig, tokens: usize) -> Result<Pool> {
        let names = loader.checkpoint.names().image();
        let (width, eps) = (config.tower.width, config.tower.eps);
        let kind = match config.pool {
            PoolConfig::Class => Kind::Class,
            PoolConfig::Mean { norm_first } => Kind::Mean { norm_first, first: usize::from(config.class) },
            PoolConfig::Attention { heads, mlp, activation } => {
                Kind::Attention(Box::new(attention(loader, [width, heads, mlp], eps, activation)?))
            }
        };
        Ok(Pool { norm: loader.norm(names.post, width, eps)?, kind, tokens })
    }

    /// Width of a token.
    pub fn width(&self) -> usize {
        self.norm.gain.len()
    }

    /// Whether it looks at the class token alone.
    pub fn is_class(&self) -> bool {
        matches!(self.kind, Kind::Class)
    }

    /// The rows that the blocks' last need compute, of `batch` pictures; none where all are pooled.
    pub fn picked(&self, gpu: &Gpu, batch: usize) -> Result<Option<Picked>> {
        if !self.is_class() {
            return Ok(None);
        }
        let rows: Vec<u32> = (0..batch).map(|b| (b * self.tokens) as u32).collect();
        Picked::new(gpu, &rows, batch * self.tokens).map(Some)
    }

    /// Those rows of the blocks' output, x `[picked or all rows, width]` → `[batch, width]`.
    pub fn forward(&self, rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward_saved(rec, x)?.0)
    }

    /// As [`Pool::forward`], with what backward needs.
    pub fn forward_saved(&self, rec: &mut Recorder, x: &Tensor) -> Result<(Tensor, Saved)> {
        if let Kind::Mean { norm_first: false, first } = self.kind {
            let x = pooling::mean(rec, x, self.tokens, first)?;
            let normed = self.norm.forward(rec, &x)?;
            return Ok((normed.y, Saved { x, stats: normed.stats, pool: None }));
        }
        let normed = self.norm.forward(rec, x)?;
        let (y, pool) = match &self.kind {
            Kind::Class => (normed.y, None),
            Kind::Mean { first, .. } => (pooling::mean(rec, &normed.y, self.tokens, *first)?, None),
            Kind::Attention(pool) => {
                let (y, saved) = pool.forward_saved(rec, &normed.y, self.tokens)?;
                (y, Some(saved))
            }
        };
        Ok((y, Saved { x: x.clone(), stats: normed.stats, pool }))
    }

    /// The gradient by what forward took, from that by what it gave.
    pub fn backward(&self, rec: &mut Recorder, dy: &Tensor, saved: Saved) -> Result<Tensor> {
        let Saved { x, stats, pool } = saved;
        match (&self.kind, pool) {
            (Kind::Mean { norm_first: false, first }, _) => {
                let dmean = self.norm.backward(rec, &x, &stats, dy, None)?;
                pooling::mean_backward(rec, &dmean, self.tokens, *first)
            }
            (Kind::Mean { first, .. }, _) => {
                let dnormed = pooling::mean_backward(rec, dy, self.tokens, *first)?;
                self.norm.backward(rec, &x, &stats, &dnormed, None)
            }
            (Kind::Attention(attention), Some(saved)) => {
                let dnormed = attention.backward(rec, dy, saved, self.tokens)?;
                self.norm.backward(rec, &x, &stats, &dnormed, None)
            }
            _ => self.norm.backward(rec, &x, &stats, dy, None),
        }
    }
}

/// Attention pooling, its keys folded into the query.
fn attention(
    loader: &Loader<'_>,
    [width, heads, mlp]: [usize; 3],
    eps: f32,
    activation: Activation,
) -> Result<AttentionPool> {
    let names = loader.named(loader.checkpoint.names().image().pool.as_ref(), "attention pooling")?;
    let checkpoint = loader.checkpoint;
    // Where the rows of queries, keys and values lie: the tensor, its rows in all, and the first.
    let part = |n: usize| match &names.attention {
        PoolAttention::Fused { weight, bias } => ((*weight).to_string(), (*bias).to_string(), 3, n),
        PoolAttention::Two { query, .. } if n == 0 => (format!("{query}.weight"), format!("{query}.bias"), 1, 0),
        PoolAttention::Two { keys_values, .. } => {
            (format!("{keys_values}.weight"), format!("{keys_values}.bias"), 2, n - 1)
        }
    };
    for n in 0..3 {
        let (weight, bias, parts, _) = part(n);
        checkpoint.check(&weight, &[parts * width, width])?;
        checkpoint.check(&bias, &[parts * width])?;
    }
    checkpoint.check(names.query, &[width])?;
    let rows = |n: usize| {
        let (weight, _, parts, at) = part(n);
        checkpoint.part(&weight, &[parts * width, width], at * width..(at + 1) * width)
    };
    let biases = |n: usize| {
        let (_, bias, parts, at) = part(n);
        checkpoint.part(&bias, &[parts * width], at * width..(at + 1) * width)
    };
    let (what, _, _, _) = part(2);
    let weight = loader.freeze_made(&what, [width + heads, width], || {
        let query = affine(&rows(0)?, &biases(0)?, &checkpoint.values(names.query, &[width])?)?;
        let mut all = rows(2)?;
        all.extend(scores(&query, &rows(1)?, heads)?);
        Ok(all)
    })?;
    let bias = loader.upload_made(&what, &[width + heads], || Ok([biases(2)?, vec![0.0; heads]].concat()))?;
    Ok(AttentionPool {
        values: FrozenLinear { weight, bias: Some(bias) },
        heads,
        out: loader.linear(names.out, width, width)?,
        norm: loader.norm(names.norm, width, eps)?,
        up: loader.linear(names.up, mlp, width)?,
        down: loader.linear(names.down, width, mlp)?,
        activation,
    })
}

/// W·x + b in f64.
fn affine(weight: &[f32], bias: &[f32], x: &[f32]) -> Result<Vec<f64>> {
    if weight.len() != bias.len() * x.len() || x.is_empty() {
        return Err(Error::invalid("pooling: a query that does not fit its layer"));
    }
    let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>();
    Ok(weight.chunks(x.len()).zip(bias).map(|(row, b)| dot(row) + f64::from(*b)).collect())
}

/// What a token is multiplied by for each head's score, `[heads, width]`: the head's keys times its part of the query, over
/// the square root of its width.
fn scores(query: &[f64], keys: &[f32], heads: usize) -> Result<Vec<f32>> {
    let width = query.len();
    let head = width.checked_div(heads).unwrap_or(0);
    if head == 0 || keys.len() != width * width {
        return Err(Error::invalid("pooling: keys that do not fit their query"));
    }
    let mut all = Vec::with_capacity(heads * width);
    for (keys, query) in keys.chunks(head * width).zip(query.chunks(head)) {
        let mut row = vec![0.0f64; width];
        for (key, q) in keys.chunks(width).zip(query) {
            for (sum, k) in row.iter_mut().zip(key) {
                *sum += f64::from(*k) * q;
            }
        }
        all.extend(row.iter().map(|v| (v / (head as f64).sqrt()) as f32));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::{affine, scores};

    #[test]
    fn scores_are_those_of_queries_and_keys() {
        // Width 4, two heads; keys and query layer without a pattern.
        let number = |i: usize, by: usize| ((i * by) % 13) as f32 / 5.0 - 1.0;
        let layer: Vec<f32> = (0..16).map(|i| number(i, 7)).collect();
        let keys: Vec<f32> = (0..16).map(|i| number(i, 5)).collect();
        let (bias, x, token) = ([0.5, -1.0, 0.25, 2.0], [1.0, -0.5, 2.0, 0.75], [0.3f64, -2.0, 1.0, 0.5]);
        let query = affine(&layer, &bias, &x).unwrap();
        let folded = scores(&query, &keys, 2).unwrap();
        for head in 0..2 {
            let key = |d: usize| (0..4).map(|i| f64::from(keys[(2 * head + d) * 4 + i]) * token[i]).sum::<f64>();
            let want = (0..2).map(|d| query[2 * head + d] * key(d)).sum::<f64>() / 2f64.sqrt();
            let got: f64 = (0..4).map(|i| f64::from(folded[head * 4 + i]) * token[i]).sum();
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
        assert!(affine(&layer, &bias[..3], &x).is_err() && scores(&query, &keys[1..], 2).is_err());
    }
}
