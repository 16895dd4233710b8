//! Clipping of gradients by their length, tensor by tensor (`shaders/clipping.wgsl`).

use super::rowwise::{Rowwise, rowwise};
use crate::gpu::{Dispatch, Grid, Recorder, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Rowwise = rowwise!("clipping");

pub(super) fn variants() -> Vec<Variant> {
    [SHADER.all("squares", &[]), SHADER.all("clip", &[])].concat()
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    most: f32,
}

/// Shortens `grad`, in place, where it is longer than `most`: times min(1, most/(‖grad‖ + 1e-6)), as PyTorch's
/// `clip_grad_norm_` on this tensor alone.
///
/// # Errors
/// A `most` that is not a number above 0; out of memory.
pub fn clip(rec: &mut Recorder, grad: &Tensor, most: f32) -> Result<()> {
    if !(most > 0.0 && most.is_finite()) {
        return Err(Error::invalid(format!("clipping gradients at {most}; it must be a number above 0")));
    }
    let (rows, width) = (grad.rows(), grad.cols());
    let params = Params { rows: rows as u32, width: width as u32, most };
    let caps = *rec.gpu().capabilities();
    let parts = rec.temp("squares", &[rows])?;
    for (entry, bindings) in [("squares", [grad, &parts]), ("clip", [&parts, grad])] {
        rec.dispatch(&Dispatch {
            variant: SHADER.variant(&caps, entry, &[]),
            label: "clip",
            params: bytemuck::bytes_of(&params),
            bindings: &bindings,
            grid: Grid::Linear(rows),
            flops: 2.0 * grad.len() as f64,
            bytes: 4.0 * grad.len() as f64,
        })?;
    }
    Ok(())
}
