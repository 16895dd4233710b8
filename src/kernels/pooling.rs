//! From the tokens of a picture or text to one row (`shaders/pooling.wgsl`): by attention of a query that is the same for all
//! pictures, or by their mean.

use super::attention::Span;
use super::texts::shader;
use super::{expect, expect_matrix};
use crate::gpu::{Dispatch, Gpu, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("pooling");

pub(super) fn variants() -> Vec<Variant> {
    let entries = ["shares", "mix", "back", "mean", "mean_back", "mean_spans", "mean_spans_back"];
    entries.map(|entry| Variant::new(&SHADER, entry, &[])).to_vec()
}

/// Output of [`attend`].
pub struct Pooled {
    /// `[batch, width]`: the heads' mixtures, side by side.
    pub y: Tensor,
    /// `[batch·tokens, heads]`: each token's share in them, for [`attend_backward`].
    pub shares: Tensor,
}

/// What rows of pictures are.
#[derive(Clone, Copy)]
struct Form {
    batch: usize,
    tokens: usize,
    width: usize,
    heads: usize,
    first: usize,
}

impl Form {
    fn of(x: &Tensor, tokens: usize, heads: usize, first: usize) -> Result<Form> {
        let (rows, width) = (x.rows(), x.cols().saturating_sub(heads));
        if tokens <= first || !rows.is_multiple_of(tokens) || width == 0 {
            return Err(Error::invalid(format!("pooling: {:?} are no pictures of {tokens} tokens", x.shape())));
        }
        if heads > 0 && !width.is_multiple_of(heads) {
            return Err(Error::invalid(format!(
                "pooling: {:?} is not values and the scores of {heads} heads",
                x.shape()
            )));
        }
        Ok(Form { batch: rows / tokens, tokens, width, heads, first })
    }

    fn record(self, rec: &mut Recorder, entry: &'static str, bindings: &[&Tensor], invocations: usize) -> Result<()> {
        let Form { batch, tokens, width, heads, first } = self;
        let all = (batch * tokens * (width + heads)) as f64;
        rec.dispatch(&Dispatch {
            variant: Variant::new(&SHADER, entry, &[]),
            label: if entry.ends_with("back") { "pooling dx" } else { "pooling" },
            params: bytemuck::bytes_of(&[batch, tokens, width, heads, first].map(|v| v as u32)),
            bindings,
            grid: Grid::cover(invocations, 64),
            flops: 2.0 * all,
            bytes: 4.0 * all,
        })
    }
}

/// Σ softmax(scores)·values over the tokens of each picture, per head, for x `[batch·tokens, width + heads]`: values, and
/// behind them a score per head.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn attend(rec: &mut Recorder, x: &Tensor, tokens: usize, heads: usize) -> Result<Pooled> {
    let form = Form::of(x, tokens, heads, 0)?;
    let shares = rec.temp("pooling shares", &[form.batch * tokens, heads])?;
    form.record(rec, "shares", &[x, &shares], form.batch * heads)?;
    let y = rec.temp("pooled", &[form.batch, form.width])?;
    form.record(rec, "mix", &[x, &shares, &y], y.len())?;
    Ok(Pooled { y, shares })
}

/// dx `[batch·tokens, width + heads]` from what [`attend`] took and gave, and dy `[batch, width]`.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn attend_backward(
    rec: &mut Recorder,
    x: &Tensor,
    pooled: &Pooled,
    dy: &Tensor,
    tokens: usize,
    heads: usize,
) -> Result<Tensor> {
    let form = Form::of(x, tokens, heads, 0)?;
    expect_matrix("pooling dx", "dy", dy, form.batch, form.width)?;
    expect("pooling dx", "shares", &pooled.shares, &[form.batch * tokens, heads])?;
    let dx = rec.temp("pooling dx", x.shape())?;
    form.record(rec, "back", &[x, &pooled.shares, &pooled.y, dy, &dx], form.batch * tokens * heads)?;
    Ok(dx)
}

/// The mean `[batch, width]` over the tokens from `first` on of each picture in x `[batch·tokens, width]`.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn mean(rec: &mut Recorder, x: &Tensor, tokens: usize, first: usize) -> Result<Tensor> {
    let form = Form::of(x, tokens, 0, first)?;
    let y = rec.temp("pooled", &[form.batch, form.width])?;
    form.record(rec, "mean", &[x, &y], y.len())?;
    Ok(y)
}

/// dx `[batch·tokens, width]` of [`mean`] from dy `[batch, width]`.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn mean_backward(rec: &mut Recorder, dy: &Tensor, tokens: usize, first: usize) -> Result<Tensor> {
    let dx = rec.temp("pooling dx", &[dy.rows() * tokens, dy.cols()])?;
    let form = Form::of(&dx, tokens, 0, first)?;
    form.record(rec, "mean_back", &[dy, &dx], dx.len())?;
    Ok(dx)
}

/// Which rows belong to which of several texts, for [`mean_of_spans`].
#[derive(Clone, Debug)]
pub struct Spans {
    /// u32 `[texts, 2]`: the first row and the number of rows.
    spans: Tensor,
    /// u32 `[rows]`: the text of each row.
    owners: Tensor,
}

impl Spans {
    /// Texts that lie one after the other.
    ///
    /// # Errors
    /// No texts, or such as are empty or do not lie one after the other; out of memory.
    pub fn new(gpu: &Gpu, spans: &[Span]) -> Result<Spans> {
        let (mut numbers, mut owners) = (Vec::new(), Vec::new());
        for (text, span) in spans.iter().enumerate() {
            if span.len == 0 || span.start != owners.len() {
                let next = owners.len();
                return Err(Error::invalid(format!("pooling: text {span:?} where row {next} should start")));
            }
            numbers.extend([span.start as u32, span.len as u32]);
            owners.resize(span.start + span.len, text as u32);
        }
        if spans.is_empty() {
            return Err(Error::invalid("pooling: no texts"));
        }
        Ok(Spans {
            spans: gpu.upload("texts' rows", &numbers, &[spans.len(), 2])?,
            owners: gpu.upload("rows' texts", &owners, &[owners.len()])?,
        })
    }

    fn record(&self, rec: &mut Recorder, entry: &'static str, bindings: &[&Tensor], width: usize) -> Result<()> {
        let (texts, rows) = (self.spans.rows(), self.owners.len());
        let back = entry.ends_with("back");
        rec.dispatch(&Dispatch {
            variant: Variant::new(&SHADER, entry, &[]),
            label: if back { "pooling dx" } else { "pooling" },
            params: bytemuck::bytes_of(&[texts, rows, width, 0, 0].map(|v| v as u32)),
            bindings,
            grid: Grid::cover(if back { rows } else { texts } * width, 64),
            flops: (rows * width) as f64,
            bytes: 4.0 * ((rows + texts) * width) as f64,
        })
    }
}

/// The mean `[texts, width]` of each text's rows in x `[rows, width]`.
///
/// # Errors
/// Another number of rows; out of memory.
pub fn mean_of_spans(rec: &mut Recorder, x: &Tensor, texts: &Spans) -> Result<Tensor> {
    expect_matrix("pooling", "x", x, texts.owners.len(), x.cols())?;
    let y = rec.temp("pooled", &[texts.spans.rows(), x.cols()])?;
    texts.record(rec, "mean_spans", &[x, &y, &texts.spans], x.cols())?;
    Ok(y)
}

/// dx `[rows, width]` of [`mean_of_spans`] from dy `[texts, width]`.
///
/// # Errors
/// Another number of texts; out of memory.
pub fn mean_of_spans_backward(rec: &mut Recorder, dy: &Tensor, texts: &Spans) -> Result<Tensor> {
    expect_matrix("pooling dx", "dy", dy, texts.spans.rows(), dy.cols())?;
    let dx = rec.temp("pooling dx", &[texts.owners.len(), dy.cols()])?;
    texts.record(rec, "mean_spans_back", &[dy, &dx, &texts.spans, &texts.owners], dy.cols())?;
    Ok(dx)
}
