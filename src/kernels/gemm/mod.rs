//! General matrix products with fused epilogues (`shaders/gemm_*.wgsl`).

mod bytes;
mod kernel;
mod tune;

use std::ops::Range;

pub(super) use kernel::variants;
pub use kernel::{Kernel, Order, Problem};
pub use tune::{Timing, Timings, measure};

use super::activation::Activation;
use super::{expect_matrix, texels};
use crate::gpu::{DType, Dispatch, Gpu, Recorder, Tensor};
use crate::{Error, Result};
pub use bytes::Bytes;
use bytes::Lost;
use kernel::{Form, Parts, variant};

/// How the operands are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// A `[m,k]` · B `[n,k]`ᵀ: forward of a linear layer with its weight as stored, `[out,in]`.
    Nt,
    /// A `[m,k]` · B `[k,n]`: dX of that layer.
    Nn,
    /// A `[k,m]`ᵀ · B `[k,n]`: dW of a layer that trains.
    Tn,
}

impl Layout {
    /// All layouts.
    pub const ALL: [Layout; 3] = [Layout::Nt, Layout::Nn, Layout::Tn];

    fn label(self) -> &'static str {
        match self {
            Layout::Nt => "gemm nt",
            Layout::Nn => "gemm nn",
            Layout::Tn => "gemm tn",
        }
    }
}

/// What is done to each element on its way out: act(alpha·x + bias) + residual, and how that is stored.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Factor on the product.
    pub alpha: f32,
    /// `[n]`, added to each row.
    pub bias: Option<&'a Tensor>,
    /// Applied after the bias.
    pub activation: Option<Activation>,
    /// `[m,n]`, added last.
    pub residual: Option<&'a Tensor>,
    /// Stored as f16, as a product by matrix units reads it ([`takes_half`]). Only a product by such units stores it so, of
    /// whole fours of columns.
    pub half: bool,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Epilogue { alpha: 1.0, bias: None, activation: None, residual: None, half: false }
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    m: u32,
    n: u32,
    k: u32,
    alpha: f32,
    first: u32,
}

/// What frozen weights are stored as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// f16: half the memory, and matrix units where there are some. Sums stay f32.
    F16,
    /// Whole numbers of 8 bits times a scale for each output: a quarter of the memory, and matrix units where there are some.
    /// Sums stay f32. A matrix that would lose too much by it, because some of its numbers are many times as large as the
    /// others in their rows, is kept as f16; what is foreseen of memory does not know of such.
    Int8,
}

impl Precision {
    /// `f32`, `f16` or `int8`, as options and files have it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Int8 => "int8",
        }
    }
}

/// As what share of a matrix's length (the root of its squares' sum, without each row's largest) its error may be, for it to
/// be kept as int8. Rows of
/// normal numbers lose 0.7 %; by a ViT-B/32 of such weights features are then off by 2 % of their length, and by 4.5 %, a
/// cosine of 0.999, where matrices lose 1.5 %.
const MOST_LOST: f64 = 0.015;

/// Bytes of f32 values that [`freeze_rows`] asks for at a time.
const PIECE: usize = 16 << 20;

/// A frozen matrix `[rows, cols]` in the form that this device's kernels read fastest as operand B of layouts Nt and Nn.
///
/// # Errors
/// Values that do not fill the shape; out of memory.
pub fn freeze(gpu: &Gpu, what: &str, values: &[f32], shape: [usize; 2], precision: Precision) -> Result<Tensor> {
    let cols = shape[1];
    if shape[0].checked_mul(cols) != Some(values.len()) {
        return Err(Error::invalid(format!("{what}: {} values for shape {shape:?}", values.len())));
    }
    freeze_rows(gpu, what, shape, precision, &mut |rows| Ok(values[rows.start * cols..rows.end * cols].to_vec()))
}

/// As [`freeze`], with the values asked for a few rows at a time: a matrix need never lie in host memory as a whole.
///
/// # Errors
/// What `values` returns, which may be asked for all rows twice; another number of values than it was asked for; values that
/// the precision cannot hold; out of memory.
pub fn freeze_rows(
    gpu: &Gpu,
    what: &str,
    shape: [usize; 2],
    precision: Precision,
    values: &mut dyn FnMut(Range<usize>) -> Result<Vec<f32>>,
) -> Result<Tensor> {
    let caps = gpu.capabilities();
    let [n, k] = shape;
    let large = Problem { layout: Layout::Nt, m: 512, n, k, a: DType::F32, b: DType::F32 };
    // The form decides how LayerNorm adds up what it hands to this matrix, so it follows from what the device is and not
    // from the clock.
    let asked = Problem { n: 1024, k: 1024, ..large };
    let (in_buffer, in_texture) = match precision {
        Precision::F32 => (DType::F32, DType::Texels),
        Precision::F16 => (DType::F16, DType::HalfTexels),
        Precision::Int8 => (DType::I8, DType::ByteTexels),
    };
    let in_buffers = Problem { b: in_buffer, ..asked };
    let texels = match forced(gpu)? {
        Some(kernel) if kernel == Kernel::Texel || kernel.takes(caps, &in_buffers) => kernel == Kernel::Texel,
        _ => tune::usual(gpu, &asked)? == Kernel::Texel,
    } && Kernel::Texel.takes(caps, &large)
        && Kernel::Texel.takes(caps, &Problem { layout: Layout::Nn, n: k, k: n, ..large });
    let mut frozen = gpu.empty(what, &shape, if texels { in_texture } else { in_buffer })?;
    if precision == Precision::Int8 {
        let scales = match texels {
            true => gpu.empty(what, &[1, n], DType::Texels)?,
            false => gpu.empty(what, &[n], DType::F32)?,
        };
        frozen = frozen.with_scales(scales)?;
    }
    if gpu.rehearses() {
        return Ok(frozen);
    }
    let at_once = (PIECE / (4 * k)).max(1);
    let (mut scales, mut lost) = (Vec::new(), Lost::default());
    for first in (0..n).step_by(at_once) {
        let rows = first..(first + at_once).min(n);
        let piece = values(rows.clone())?;
        if piece.len() != rows.len() * k {
            return Err(Error::invalid(format!("{what}: {} values for rows {rows:?} of {shape:?}", piece.len())));
        }
        match precision {
            Precision::F32 => gpu.write_rows(&frozen, first, &piece)?,
            Precision::F16 => {
                let half: Vec<half::f16> = piece.iter().map(|v| half::f16::from_f32(*v)).collect();
                if let Some(i) = (0..piece.len()).find(|i| half[*i].is_infinite() && piece[*i].is_finite()) {
                    return Err(Error::invalid(format!(
                        "{what}: {} is past f16's range; use f32 for this model",
                        piece[i]
                    )));
                }
                gpu.write_rows(&frozen, first, &half)?;
            }
            Precision::Int8 => {
                let rows = Bytes::of(&piece, k).map_err(|wrong| Error::invalid(format!("{what}: {wrong}")))?;
                gpu.write_rows(&frozen, first, &rows.bytes)?;
                lost.add(&piece, &rows);
                scales.extend(rows.scales);
            }
        }
    }
    if lost.share() > MOST_LOST {
        drop(frozen);
        let precision = if lost.largest <= half::f16::MAX.to_f32() { Precision::F16 } else { Precision::F32 };
        tracing::debug!("{what}: kept in {}, since int8 would lose {:.1} %", precision.name(), 100.0 * lost.share());
        return freeze_rows(gpu, what, shape, precision, values);
    }
    if let Some(to) = frozen.scales() {
        gpu.write(to, &scales)?;
    }
    Ok(frozen)
}

/// The kernel for a problem on this device: what `TIPI_KERNEL` names, else the best of those that add up in the order which
/// belongs to the problem (see [`Kernel::groups`]), checked and measured now if never before and measuring is on.
///
/// # Errors
/// `TIPI_KERNEL` with a name that is none or of a kernel that this device cannot run; operands that no kernel takes, or
/// that every kernel multiplies wrongly here; a device that fails while measuring.
pub fn choose(gpu: &Gpu, problem: &Problem) -> Result<Kernel> {
    match forced(gpu)? {
        Some(kernel) if kernel.takes(gpu.capabilities(), problem) => Ok(kernel),
        _ => tune::best(gpu, problem),
    }
}

/// Whether who makes `rows` rows for nothing but the product with Bᵀ, `weight` as [`freeze`] left it, should store them as
/// f16: matrix units will compute it, which round them to that anyway.
///
/// # Errors
/// As [`choose`], but for operands that no kernel takes or that every kernel multiplies wrongly: f32 may still do.
pub fn takes_half(gpu: &Gpu, rows: usize, weight: &Tensor) -> Result<bool> {
    let (n, k, b) = (weight.rows(), weight.cols(), weight.dtype());
    let problem = Problem { layout: Layout::Nt, m: rows, n, k, a: DType::F16, b };
    let caps = gpu.capabilities();
    if !Kernel::ALL.iter().any(|kernel| kernel.takes(caps, &problem)) {
        return Ok(false);
    }
    match choose(gpu, &problem) {
        Ok(_) => Ok(true),
        Err(Error::Invalid(_) | Error::Unsupported { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The kernel that was asked for by name.
fn forced(gpu: &Gpu) -> Result<Option<Kernel>> {
    let Some(name) = gpu.asked_kernel() else { return Ok(None) };
    let names = |kernels: &mut dyn Iterator<Item = Kernel>| kernels.map(Kernel::name).collect::<Vec<_>>().join(", ");
    match Kernel::of_name(name) {
        Some(kernel) if kernel.runs_on(gpu.capabilities()) => Ok(Some(kernel)),
        Some(_) => {
            let able = names(&mut Kernel::ALL.into_iter().filter(|k| k.runs_on(gpu.capabilities())));
            let reason = format!("cannot run the kernel TIPI_KERNEL={name}; it can run {able}");
            Err(Error::Unsupported { device: gpu.name().into(), reason })
        }
        None => {
            let all = names(&mut Kernel::ALL.into_iter());
            Err(Error::invalid(format!("TIPI_KERNEL={name} is no kernel; there are {all}")))
        }
    }
}

/// C `[m,n]` of `a` and `b`, whose leading dimensions are folded into rows, by the kernel for this device. B may be stored
/// as f32, or as [`freeze`] left it.
///
/// # Errors
/// Shapes that do not fit each other; out of memory.
pub fn matmul(rec: &mut Recorder, layout: Layout, a: &Tensor, b: &Tensor, epilogue: &Epilogue<'_>) -> Result<Tensor> {
    let problem = problem(layout, a, b)?;
    let kernel = choose(rec.gpu(), &problem)?;
    record(rec, kernel, &problem, a, b, epilogue)
}

/// As [`matmul`], by the kernel given.
///
/// # Errors
/// As [`matmul`]; a kernel that does not run on this device or does not take B as it is stored.
pub fn matmul_with(
    rec: &mut Recorder,
    kernel: Kernel,
    layout: Layout,
    a: &Tensor,
    b: &Tensor,
    epilogue: &Epilogue<'_>,
) -> Result<Tensor> {
    let problem = problem(layout, a, b)?;
    record(rec, kernel, &problem, a, b, epilogue)
}

fn problem(layout: Layout, a: &Tensor, b: &Tensor) -> Result<Problem> {
    let (m, k) = if layout == Layout::Tn { (a.cols(), a.rows()) } else { (a.rows(), a.cols()) };
    let (n, k_b) = if layout == Layout::Nt { (b.rows(), b.cols()) } else { (b.cols(), b.rows()) };
    if k != k_b {
        let (a, b) = (a.shape(), b.shape());
        return Err(Error::invalid(format!("{}: {a:?} and {b:?} do not share their inner dimension", layout.label())));
    }
    let half = if a.dtype() == DType::F16 { DType::F16 } else { DType::F32 };
    Ok(Problem { layout, m, n, k, a: half, b: b.dtype() })
}

fn record(
    rec: &mut Recorder,
    kernel: Kernel,
    problem: &Problem,
    a: &Tensor,
    b: &Tensor,
    epilogue: &Epilogue<'_>,
) -> Result<Tensor> {
    let Problem { layout, m, n, k, .. } = *problem;
    let caps = *rec.gpu().capabilities();
    if !kernel.takes(&caps, problem) {
        return Err(Error::invalid(format!("{}: {kernel:?} does not take {problem:?} here", layout.label())));
    }
    if let Some(bias) = epilogue.bias {
        super::expect(layout.label(), "bias", bias, &[n])?;
    }
    if let Some(residual) = epilogue.residual {
        expect_matrix(layout.label(), "residual", residual, m, n)?;
    }
    let half = epilogue.half;
    if half && !(kernel.stores_half(&caps) && n.is_multiple_of(4)) {
        return Err(Error::invalid(format!("{}: {kernel:?} does not store {n} columns as f16 here", layout.label())));
    }
    let (bias, residual) = (epilogue.bias.is_some(), epilogue.residual.is_some());
    let parts = Parts { bias, activation: epilogue.activation, residual, half };
    if b.dtype().is_bytes() && b.scales().is_none() {
        return Err(Error::invalid(format!("{}: B's bytes have no scales", layout.label())));
    }
    let variant = variant(kernel, Form::of(problem), parts, caps.matrices);
    let c = rec.temp_of(layout.label(), &[m, n], if half { DType::F16 } else { DType::F32 })?;
    let width = |half: bool| if half { 2.0 } else { 4.0 };
    let dispatch = |rec: &mut Recorder, a: &Tensor, b: &Tensor, first: usize, rows: usize| {
        let (mf, nf, kf) = (rows as f64, n as f64, k as f64);
        rec.dispatch(&Dispatch {
            variant: variant.clone(),
            label: layout.label(),
            params: bytemuck::bytes_of(&Params {
                m: rows as u32,
                n: n as u32,
                k: k as u32,
                alpha: epilogue.alpha,
                first: first as u32,
            }),
            bindings: &[
                &[a, b][..],
                epilogue.bias.as_slice(),
                epilogue.residual.as_slice(),
                &[&c],
                b.scales().as_slice(),
            ]
            .concat(),
            grid: kernel.grid(rows, n, caps.matrices),
            flops: 2.0 * mf * nf * kf,
            bytes: mf * kf * width(problem.a == DType::F16) + mf * nf * width(half) + b.bytes() as f64,
        })
    };
    if kernel != Kernel::Texel {
        dispatch(rec, a, b, 0, m)?;
        return Ok(c);
    }
    let staged;
    let b = if problem.b.is_texture() {
        b
    } else {
        staged = texels::stage(rec, b)?;
        &staged
    };
    if a.dtype() == DType::Texels {
        dispatch(rec, a, b, 0, m)?;
    } else if layout == Layout::Tn {
        let a = texels::stage_transposed(rec, a)?;
        dispatch(rec, &a, b, 0, m)?;
    } else {
        // A texture holds so many rows and no more.
        for first in (0..m).step_by(caps.texture as usize) {
            let rows = (m - first).min(caps.texture as usize);
            let a = texels::stage_rows(rec, a, first..first + rows)?;
            dispatch(rec, &a, b, first, rows)?;
        }
    }
    Ok(c)
}
