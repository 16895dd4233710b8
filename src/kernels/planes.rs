//! Noise on pixels: channel planes of a fixed RMS, what is added to pixels, and the gradients (`shaders/planes.wgsl`).

use super::texts::shader;
use super::{expect, reduce};
use crate::gpu::{Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("planes");

pub(super) fn variants() -> Vec<Variant> {
    ["squares", "scale", "add", "split", "products", "unscale"].map(|entry| Variant::new(&SHADER, entry, &[])).to_vec()
}

/// Invocations that add up one plane, at the most.
const CHUNKS: usize = 256;

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    pictures: u32,
    area: u32,
    planes: u32,
    chunk: u32,
    chunks: u32,
    draws: u32,
    every: u32,
    level: f32,
}

/// Planes of the RMS that was asked for, and what [`scale_backward`] needs.
pub struct Scaled {
    /// `[pictures, planes, area]`.
    pub planes: Tensor,
    /// `[pictures, planes]`: mean squares before scaling.
    square: Tensor,
    level: f32,
}

fn sizes(h: &Tensor) -> Result<(usize, usize, usize)> {
    match *h.shape() {
        [pictures, area, planes] if planes.is_multiple_of(2) => Ok((pictures, area, planes)),
        _ => {
            Err(Error::invalid(format!("planes: raw noise has shape {:?}, not [pictures, area, 2·colours]", h.shape())))
        }
    }
}

fn params((pictures, area, planes): (usize, usize, usize)) -> (Params, usize) {
    let chunk = area.isqrt().max(area.div_ceil(CHUNKS)).max(1);
    let chunks = area.div_ceil(chunk);
    let [pictures, area, planes, chunk, chunks_u] = [pictures, area, planes, chunk, chunks].map(|v| v as u32);
    (Params { pictures, area, planes, chunk, chunks: chunks_u, ..Params::default() }, chunks)
}

/// Each plane of raw noise h `[pictures, area, planes]` times what gives it the RMS `level`.
///
/// # Errors
/// Another rank; out of memory.
pub fn scale(rec: &mut Recorder, h: &Tensor, level: f32) -> Result<Scaled> {
    let (pictures, area, planes) = sizes(h)?;
    let (params, chunks) = params((pictures, area, planes));
    let partial = rec.temp("planes", &[pictures, chunks, planes])?;
    dispatch(rec, "squares", "planes squares", &params, &[h, &partial], (partial.len(), 2 * h.len()))?;
    let square = reduce::mean_middle(rec, &partial)?;
    let y = rec.temp("noise planes", &[pictures, planes, area])?;
    let params = Params { level, ..params };
    dispatch(rec, "scale", "planes", &params, &[h, &square, &y], (y.len(), 3 * y.len()))?;
    Ok(Scaled { planes: y, square, level })
}

/// Gradient by the raw noise, `[pictures, area, planes]`, from that by the planes: through their RMS, too.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn scale_backward(rec: &mut Recorder, h: &Tensor, scaled: &Scaled, dplanes: &Tensor) -> Result<Tensor> {
    let (pictures, area, planes) = sizes(h)?;
    expect("planes dx", "dplanes", dplanes, &[pictures, planes, area])?;
    expect("planes dx", "mean squares", &scaled.square, &[pictures, planes])?;
    let (params, chunks) = params((pictures, area, planes));
    let partial = rec.temp("planes", &[pictures, chunks, planes])?;
    dispatch(rec, "products", "planes products", &params, &[h, dplanes, &partial], (partial.len(), 2 * h.len()))?;
    let product = reduce::mean_middle(rec, &partial)?;
    let dh = rec.temp("planes dx", h.shape())?;
    let params = Params { level: scaled.level, ..params };
    let bound = [h, &scaled.square, &product, dplanes, &dh];
    dispatch(rec, "unscale", "planes dx", &params, &bound, (dh.len(), 8 * dh.len()))?;
    Ok(dh)
}

/// The sizes of pixels and noise: (parameters, elements of a picture).
fn fitting(planes: &Tensor, eps: &Tensor, draws: usize) -> Result<(Params, usize)> {
    let &[pictures, of_all, area] = planes.shape() else {
        return Err(Error::invalid(format!("pixel noise: planes have shape {:?}", planes.shape())));
    };
    let one = of_all / 2 * area;
    let every = eps.len() / one.max(1);
    if one == 0 || draws == 0 || every == 0 || eps.len() != every * one || !(pictures * draws).is_multiple_of(every) {
        let (planes, eps) = (planes.shape(), eps.shape());
        return Err(Error::invalid(format!("pixel noise: {draws} draws of {eps:?} for planes {planes:?}")));
    }
    let [pictures, area, planes, draws, every] = [pictures, area, of_all, draws, every].map(|v| v as u32);
    Ok((Params { pictures, area, planes, draws, every, ..Params::default() }, one))
}

/// y `[pictures·draws, …]`: row b·draws+d is `x[b]` + mean + |spread|·ε, the first half of `planes [pictures, 2·colours, area]`
/// being means and the second spreads. x is `[pictures, colours, …]`; eps has as many rows as y, or fewer, which repeat:
/// `draws` of them are the same draws for every picture.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn add(rec: &mut Recorder, x: &Tensor, planes: &Tensor, eps: &Tensor, draws: usize) -> Result<Tensor> {
    let (params, one) = fitting(planes, eps, draws)?;
    let pictures = params.pictures as usize;
    if x.len() != pictures * one || x.shape().first() != Some(&pictures) {
        return Err(Error::invalid(format!("pixel noise: {:?} for pixels {:?}", planes.shape(), x.shape())));
    }
    let shape = [&[pictures * draws][..], &x.shape()[1..]].concat();
    let y = rec.temp("noisy pixels", &shape)?;
    dispatch(rec, "add", "pixel noise", &params, &[x, planes, eps, &y], (y.len(), 4 * y.len()))?;
    Ok(y)
}

/// The gradient of [`add`] by the planes from dy. That of |spread| at zero is zero, as in PyTorch.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn add_backward(rec: &mut Recorder, planes: &Tensor, eps: &Tensor, draws: usize, dy: &Tensor) -> Result<Tensor> {
    let (params, one) = fitting(planes, eps, draws)?;
    if dy.len() != params.pictures as usize * draws * one {
        return Err(Error::invalid(format!("pixel noise dx: {:?} for dy {:?}", planes.shape(), dy.shape())));
    }
    let dplanes = rec.temp("pixel noise dx", planes.shape())?;
    let bound = [planes, eps, dy, &dplanes];
    dispatch(rec, "split", "pixel noise dx", &params, &bound, (dplanes.len() / 2, 4 * dy.len()))?;
    Ok(dplanes)
}

fn dispatch(
    rec: &mut Recorder,
    entry: &'static str,
    label: &'static str,
    params: &Params,
    bindings: &[&Tensor],
    (invocations, flops): (usize, usize),
) -> Result<()> {
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, entry, &[]),
        label,
        params: bytemuck::bytes_of(params),
        bindings,
        grid: Grid::cover(invocations, 64),
        flops: flops as f64,
        bytes: bindings.iter().map(|tensor| tensor.bytes() as f64).sum(),
    })
}
