//! Rows by number (`shaders/gather.wgsl`): picking class and end tokens, and the way back.

use super::texts::shader;
use crate::gpu::{DType, Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("gather");

/// An index that stands for no row: the output row is zero.
pub const NONE: u32 = u32::MAX;

pub(super) fn variants() -> Vec<Variant> {
    vec![Variant::new(&SHADER, "main", &[])]
}

/// y `[n, width]`: row i is x's row `index[i]`, or zeros where that is [`NONE`]. `index` is u32 `[n]`; numbers past x's
/// rows give zeros too. The backward of picking rows is a gather by [`inverse`].
///
/// # Errors
/// An index of another element type; out of memory.
pub fn rows(rec: &mut Recorder, x: &Tensor, index: &Tensor) -> Result<Tensor> {
    if index.dtype() != DType::U32 {
        return Err(Error::invalid("gather: the index must be u32"));
    }
    let (n, width) = (index.len(), x.cols());
    let y = rec.temp("gather", &[n, width])?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "main", &[]),
        label: "gather",
        params: bytemuck::bytes_of(&[n as u32, width as u32]),
        bindings: &[x, index, &y],
        grid: Grid::cover(y.len(), 64),
        flops: 0.0,
        bytes: 8.0 * y.len() as f64,
    })?;
    Ok(y)
}

/// For rows picked by `index` out of `n`: which picked row each of the n became, or [`NONE`].
pub fn inverse(index: &[u32], n: usize) -> Vec<u32> {
    let mut inverse = vec![NONE; n];
    for (i, row) in index.iter().enumerate() {
        if let Some(slot) = inverse.get_mut(*row as usize) {
            *slot = i as u32;
        }
    }
    inverse
}
