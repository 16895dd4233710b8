//! LayerNorm with frozen gain and shift (`shaders/layernorm.wgsl`, `layernorm_texel.wgsl`).

use super::rowwise::{Rowwise, rowwise};
use super::texts::shader;
use super::{expect, expect_matrix};
use crate::gpu::{DType, Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Rowwise = rowwise!("layernorm");

static TEXEL: Shader = shader("layernorm_texel");

pub(super) fn variants() -> Vec<Variant> {
    let mut all = [("forward", 0, 0), ("forward", 0, 1), ("forward", 1, 0), ("backward", 0, 0), ("backward", 1, 0)]
        .map(|(entry, base, half)| SHADER.all(entry, &[("BASE", base), ("HALF", half)]))
        .concat();
    all.push(Variant::new(&TEXEL, "forward", &[]));
    all
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    eps: f32,
}

/// Output of [`forward`].
pub struct Normed {
    /// The normalised rows, of x's shape.
    pub y: Tensor,
    /// `[rows, 2]`: mean and reciprocal standard deviation of each row, for [`backward`].
    pub stats: Tensor,
}

/// y = (x − mean)/√(var + eps)·gain + shift over the last dimension; `gain` and `shift` are `[width]`.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn forward(rec: &mut Recorder, x: &Tensor, gain: &Tensor, shift: &Tensor, eps: f32) -> Result<Normed> {
    forward_onto(rec, x, (gain, shift), eps, None)
}

/// As [`forward`], with y as f16: what a product by matrix units reads ([`super::gemm::takes_half`]). Rows of an even number
/// only.
///
/// # Errors
/// As [`forward`]; rows of an odd number.
pub fn forward_half(rec: &mut Recorder, x: &Tensor, gain: &Tensor, shift: &Tensor, eps: f32) -> Result<Normed> {
    if !x.cols().is_multiple_of(2) {
        return Err(Error::invalid(format!("layernorm: rows of {} numbers are not stored as f16", x.cols())));
    }
    normed(rec, x, (gain, shift), eps, (None, DType::F16))
}

/// As [`forward`], plus `base` where given.
///
/// # Errors
/// As [`forward`].
pub fn forward_onto(
    rec: &mut Recorder,
    x: &Tensor,
    (gain, shift): (&Tensor, &Tensor),
    eps: f32,
    base: Option<&Tensor>,
) -> Result<Normed> {
    normed(rec, x, (gain, shift), eps, (base, DType::F32))
}

fn normed(
    rec: &mut Recorder,
    x: &Tensor,
    (gain, shift): (&Tensor, &Tensor),
    eps: f32,
    (base, stored): (Option<&Tensor>, DType),
) -> Result<Normed> {
    let (rows, width) = (x.rows(), x.cols());
    expect("layernorm", "gain", gain, &[width])?;
    expect("layernorm", "shift", shift, &[width])?;
    if let Some(base) = base {
        expect_matrix("layernorm", "base", base, rows, width)?;
    }
    let caps = *rec.gpu().capabilities();
    let y = rec.temp_of("layernorm", x.shape(), stored)?;
    let consts = [("BASE", u32::from(base.is_some())), ("HALF", u32::from(stored == DType::F16))];
    let stats = rec.temp("layernorm stats", &[rows, 2])?;
    rec.dispatch(&Dispatch {
        variant: SHADER.variant(&caps, "forward", &consts),
        label: "layernorm",
        params: bytemuck::bytes_of(&Params { rows: rows as u32, width: width as u32, eps }),
        bindings: &[&[x, gain, shift][..], base.as_slice(), &[&stats, &y]].concat(),
        grid: Grid::Linear(rows),
        flops: 8.0 * x.len() as f64,
        bytes: (x.bytes() + y.bytes()) as f64,
    })?;
    Ok(Normed { y, stats })
}

/// As [`forward`], with y as texels: what a product by [`super::gemm::Kernel::Texel`] reads without staging. CPU drivers
/// with subgroups of eight only.
///
/// # Errors
/// As [`forward`]; a device without such subgroups.
pub fn forward_texels(rec: &mut Recorder, x: &Tensor, gain: &Tensor, shift: &Tensor, eps: f32) -> Result<Normed> {
    let (rows, width) = (x.rows(), x.cols());
    expect("layernorm", "gain", gain, &[width])?;
    expect("layernorm", "shift", shift, &[width])?;
    if !rec.gpu().capabilities().subgroups_of(8) {
        return Err(Error::invalid("layernorm: texels need subgroups of eight"));
    }
    let y = rec.temp_of("layernorm", &[rows, width], DType::Texels)?;
    let stats = rec.temp("layernorm stats", &[rows, 2])?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&TEXEL, "forward", &[]),
        label: "layernorm",
        params: bytemuck::bytes_of(&Params { rows: rows as u32, width: width as u32, eps }),
        bindings: &[x, gain, shift, &stats, &y],
        grid: Grid::cover(rows, 4),
        flops: 8.0 * x.len() as f64,
        bytes: 8.0 * x.len() as f64,
    })?;
    Ok(Normed { y, stats })
}

/// dx for a frozen norm, plus `base` where given: the gradient that reaches x past the norm.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn backward(
    rec: &mut Recorder,
    x: &Tensor,
    stats: &Tensor,
    gain: &Tensor,
    dy: &Tensor,
    base: Option<&Tensor>,
) -> Result<Tensor> {
    let (rows, width) = (x.rows(), x.cols());
    expect("layernorm dx", "stats", stats, &[rows, 2])?;
    expect("layernorm dx", "gain", gain, &[width])?;
    expect_matrix("layernorm dx", "dy", dy, rows, width)?;
    if let Some(base) = base {
        expect_matrix("layernorm dx", "base", base, rows, width)?;
    }
    let caps = *rec.gpu().capabilities();
    let dx = rec.temp("layernorm dx", x.shape())?;
    rec.dispatch(&Dispatch {
        variant: SHADER.variant(&caps, "backward", &[("BASE", u32::from(base.is_some())), ("HALF", 0)]),
        label: "layernorm dx",
        params: bytemuck::bytes_of(&Params { rows: rows as u32, width: width as u32, eps: 0.0 }),
        bindings: &[&[x, gain, dy][..], base.as_slice(), &[stats, &dx]].concat(),
        grid: Grid::Linear(rows),
        flops: 12.0 * x.len() as f64,
        bytes: 12.0 * x.len() as f64,
    })?;
    Ok(dx)
}
