//! Strided sums and means (`shaders/reduce.wgsl`).

use super::texts::shader;
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("reduce");

pub(super) fn variants() -> Vec<Variant> {
    vec![Variant::new(&SHADER, "main", &[])]
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    groups: u32,
    terms: u32,
    width: u32,
    group_step: u32,
    term_step: u32,
    scale: f32,
}

/// Mean over the middle dimension of x `[groups, terms, width]` → `[groups, width]`.
///
/// # Errors
/// Another rank; out of memory.
pub fn mean_middle(rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
    let [groups, terms, width] = *x.shape() else {
        return Err(Error::invalid(format!("mean over the middle of shape {:?}", x.shape())));
    };
    let steps = (terms * width, width);
    record(rec, x, &[groups, width], (groups, terms, width), steps, 1.0 / terms as f32)
}

/// Mean over the first dimension of x `[terms, …]` → `[…]`.
///
/// # Errors
/// Out of memory.
pub fn mean_first(rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
    let terms = x.shape().first().copied().unwrap_or(1);
    let width = x.len() / terms;
    let shape: &[usize] = if x.shape().len() > 1 { &x.shape()[1..] } else { &[1] };
    record(rec, x, shape, (1, terms, width), (0, width), 1.0 / terms as f32)
}

/// Sum over all rows of x `[rows, width]` → `[width]`: a bias gradient.
///
/// # Errors
/// Out of memory.
pub fn sum_rows(rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
    sum_rows_scaled(rec, x, 1.0)
}

/// `scale` times the sum over all rows of x `[rows, width]` → `[width]`.
///
/// # Errors
/// Out of memory.
pub fn sum_rows_scaled(rec: &mut Recorder, x: &Tensor, scale: f32) -> Result<Tensor> {
    record(rec, x, &[x.cols()], (1, x.rows(), x.cols()), (0, x.cols()), scale)
}

/// `scale`·x, of x's shape.
///
/// # Errors
/// Out of memory.
pub fn scaled(rec: &mut Recorder, x: &Tensor, scale: f32) -> Result<Tensor> {
    record(rec, x, x.shape(), (1, 1, x.len()), (0, 0), scale)
}

fn record(
    rec: &mut Recorder,
    x: &Tensor,
    shape: &[usize],
    (groups, terms, width): (usize, usize, usize),
    (group_step, term_step): (usize, usize),
    scale: f32,
) -> Result<Tensor> {
    let y = rec.temp("reduce", shape)?;
    let params = Params {
        groups: groups as u32,
        terms: terms as u32,
        width: width as u32,
        group_step: group_step as u32,
        term_step: term_step as u32,
        scale,
    };
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "main", &[]),
        label: "reduce",
        params: bytemuck::bytes_of(&params),
        bindings: &[x, &y],
        grid: Grid::cover(groups * width, 64),
        flops: x.len() as f64,
        bytes: 4.0 * (x.len() + y.len()) as f64,
    })?;
    Ok(y)
}
