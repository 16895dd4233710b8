//! Cross-entropy with its gradient (`shaders/loss.wgsl`).

use super::expect;
use super::rowwise::{Rowwise, rowwise};
use crate::gpu::{DType, Dispatch, Grid, Recorder, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Rowwise = rowwise!("loss");

pub(super) fn variants() -> Vec<Variant> {
    SHADER.all("main", &[]).to_vec()
}

/// Output of [`cross_entropy`].
pub struct CrossEntropy {
    /// `[rows]`: −log softmax(logits)`[label]`.
    pub losses: Tensor,
    /// `[rows, classes]`: gradient of the mean of `losses` by the logits.
    pub grad: Tensor,
}

/// Cross-entropy of logits `[rows, classes]` against u32 labels `[rows]`, each below the number of classes.
///
/// # Errors
/// Shapes or element types that do not fit; out of memory.
pub fn cross_entropy(rec: &mut Recorder, logits: &Tensor, labels: &Tensor) -> Result<CrossEntropy> {
    let (rows, classes) = (logits.rows(), logits.cols());
    expect("cross-entropy", "labels", labels, &[rows])?;
    if labels.dtype() != DType::U32 {
        return Err(Error::invalid("cross-entropy: labels must be u32"));
    }
    let caps = *rec.gpu().capabilities();
    let losses = rec.temp("losses", &[rows])?;
    let grad = rec.temp("dlogits", &[rows, classes])?;
    rec.dispatch(&Dispatch {
        variant: SHADER.variant(&caps, "main", &[]),
        label: "cross-entropy",
        params: bytemuck::bytes_of(&[rows as u32, classes as u32]),
        bindings: &[logits, labels, &losses, &grad],
        grid: Grid::Linear(rows),
        flops: 6.0 * logits.len() as f64,
        bytes: 8.0 * logits.len() as f64,
    })?;
    Ok(CrossEntropy { losses, grad })
}
