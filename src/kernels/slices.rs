//! Parts of tensors, copied (`shaders/slices.wgsl`): no dispatch may read one part of a buffer and write another, and no
//! product takes a part of one.

use std::ops::Range;

use super::texts::shader;
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("slices");

pub(super) fn variants() -> Vec<Variant> {
    vec![Variant::new(&SHADER, "main", &[])]
}

/// The elements `part` of x, as a tensor of `shape`.
///
/// # Errors
/// Elements that are not there or do not fill the shape; out of memory.
pub fn take(rec: &mut Recorder, x: &Tensor, part: Range<usize>, shape: &[usize]) -> Result<Tensor> {
    let y = rec.temp("slice", shape)?;
    if y.len() != part.len() {
        return Err(Error::invalid(format!("slice: elements {part:?} for shape {shape:?}")));
    }
    record(rec, x, part, &y, 0)?;
    Ok(y)
}

/// Writes all of x to y, from its element `first` on.
///
/// # Errors
/// Elements that are not there.
pub fn put(rec: &mut Recorder, x: &Tensor, y: &Tensor, first: usize) -> Result<()> {
    record(rec, x, 0..x.len(), y, first)
}

fn record(rec: &mut Recorder, x: &Tensor, part: Range<usize>, y: &Tensor, first: usize) -> Result<()> {
    if part.end > x.len() || part.is_empty() || first + part.len() > y.len() {
        let (from, to) = (x.shape(), y.shape());
        return Err(Error::invalid(format!("slice: elements {part:?} of {from:?} to {first} of {to:?}")));
    }
    let count = part.len();
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "main", &[]),
        label: "slice",
        params: bytemuck::bytes_of(&[count as u32, part.start as u32, first as u32]),
        bindings: &[x, y],
        grid: Grid::cover(count, 64),
        flops: 0.0,
        bytes: 8.0 * count as f64,
    })
}
