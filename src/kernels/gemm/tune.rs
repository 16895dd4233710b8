//! Which kernel is best for a class of problems on a device: checked and measured on first use, kept on disk.

use std::time::Duration;

use super::{Activation, Bytes, Epilogue, Kernel, Layout, Problem, matmul_with};
use crate::gpu::{DType, Gpu, Measured, Plan, Recorder, Tensor};
use crate::kernels::noise_values;
use crate::{Error, Result};

/// What a candidate took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The candidate.
    pub kernel: Kernel,
    /// Seconds of one product, the best of several; `None` for a kernel whose result was wrong.
    pub seconds: Option<f64>,
    /// Floating-point operations of that product.
    pub flops: f64,
}

/// What was measured for a class of problems.
#[derive(Clone, Debug)]
pub struct Timings {
    /// Each candidate, the most promising first.
    pub all: Vec<Timing>,
    /// The one that is used.
    pub chosen: Kernel,
}

/// How long the repetitions of one candidate may take together.
const BUDGET: Duration = Duration::from_millis(300);

/// Rounds that candidates are measured in, one after the other in each, so that what else the machine does meets all.
const ROUNDS: usize = 10;

/// Floating-point operations between two looks at the clock, so that what is timed is the kernel and not the submission.
const WORK: f64 = 5e7;

/// The kernel for the problem's class: the best of those that add up in the order that belongs to it. What was not checked
/// and measured enough before is now, where that is on; matrix units are checked either way, since drivers have been seen to
/// compute wrongly by them.
pub(super) fn best(gpu: &Gpu, problem: &Problem) -> Result<Kernel> {
    of_groups(gpu, problem, &Kernel::best)
}

/// As [`best`], but whatever was measured: the most promising that is not wrong.
pub(super) fn usual(gpu: &Gpu, problem: &Problem) -> Result<Kernel> {
    of_groups(gpu, problem, &Kernel::first)
}

fn of_groups(gpu: &Gpu, problem: &Problem, pick: &dyn Fn(&[Kernel], &Measured) -> Option<Kernel>) -> Result<Kernel> {
    let key = key(problem);
    let mut measured = gpu.measured(&key).unwrap_or_default();
    let groups = usable(gpu, problem);
    for group in &groups {
        let unknown = group.iter().any(|kernel| !measured.seconds.contains_key(kernel.name()));
        let measures = gpu.measures() && group.len() > 1 && (unknown || measured.wants_another_look());
        let unsure = group.iter().any(|kernel| kernel.by_matrix_units()) && !gpu.rehearses() && unknown;
        if measures || unsure {
            look(gpu, problem, group, &mut measured)?;
            gpu.note_measured(&key, measured.clone());
        }
        if let Some(kernel) = pick(group, &measured) {
            return Ok(kernel);
        }
    }
    Err(none_right(gpu, problem, &groups.concat()))
}

/// [`Kernel::groups`] without kernels that ended a program here.
fn usable(gpu: &Gpu, problem: &Problem) -> Vec<Vec<Kernel>> {
    let mut groups = Kernel::groups(gpu.capabilities(), problem);
    for group in &mut groups {
        group.retain(|kernel| !gpu.leaves_out(&|key| kernel.is_of(key)));
    }
    groups.retain(|group| !group.is_empty());
    groups
}

fn none_right(gpu: &Gpu, problem: &Problem, tried: &[Kernel]) -> Error {
    let label = problem.layout.label();
    if tried.is_empty() {
        let a = if problem.a == DType::F16 { "A as F16 and " } else { "" };
        return Error::invalid(format!("{label}: no kernel takes {a}B as {:?}", problem.b));
    }
    let names: Vec<_> = tried.iter().map(|kernel| kernel.name()).collect();
    let reason = format!(
        "every kernel for {label} with B as {:?} computes wrong products here ({}); update the driver, or take another \
         device",
        problem.b,
        names.join(", ")
    );
    Error::Unsupported { device: gpu.name().into(), reason }
}

fn key(problem: &Problem) -> String {
    format!("gemm {}", problem.class())
}

/// Checks and measures every candidate for a problem anew, and keeps that for the problem's class. Takes seconds; called by
/// `tipi tune`.
///
/// # Errors
/// Out of memory; a device that fails, or that computes wrongly by every candidate.
pub fn measure(gpu: &Gpu, problem: &Problem) -> Result<Timings> {
    let groups = usable(gpu, problem);
    let mut measured = Measured::default();
    for group in &groups {
        let flops = look(gpu, problem, group, &mut measured)?;
        gpu.note_measured(&key(problem), measured.clone());
        if let Some(chosen) = Kernel::best(group, &measured) {
            let seconds = |kernel: &Kernel| measured.seconds.get(kernel.name()).copied().flatten();
            let all = group.iter().map(|kernel| Timing { kernel: *kernel, seconds: seconds(kernel), flops }).collect();
            return Ok(Timings { all, chosen });
        }
    }
    Err(none_right(gpu, problem, &groups.concat()))
}

/// Checks the kernels of a group, and measures those that are right where there are several. Gives the floating-point
/// operations of the product that was measured.
fn look(gpu: &Gpu, problem: &Problem, group: &[Kernel], measured: &mut Measured) -> Result<f64> {
    let mut right: Vec<Kernel> = Vec::new();
    let mut expected: Option<Vec<u32>> = None;
    for kernel in group {
        let products = CHECKED.map(|sizes| product(gpu, *kernel, problem, sizes));
        let products = products.into_iter().collect::<Result<Vec<Product>>>()?;
        let bits = products.iter().flat_map(|product| &product.values).map(|v| v.to_bits()).collect();
        if !products.iter().all(Product::is_right) {
            tracing::warn!("{}: kernel {} computes wrong products here and is left out", gpu.name(), kernel.name());
        } else if expected.as_ref().is_some_and(|expected| *expected != bits) {
            // A compiler may round otherwise than was written. Then the clock would choose among results.
            tracing::warn!("{}: kernel {} rounds otherwise here and is left out", gpu.name(), kernel.name());
        } else {
            expected = Some(bits);
            right.push(*kernel);
        }
    }
    let cap = if gpu.is_cpu() { 1024 } else { 4096 };
    let sized = Problem { m: problem.m.min(cap / 2), n: problem.n.min(cap), k: problem.k.min(cap), ..*problem };
    let flops = 2.0 * sized.m as f64 * sized.n as f64 * sized.k as f64;
    let seconds = if right.len() > 1 { time(gpu, &right, &sized, flops)? } else { vec![0.0; right.len()] };
    let of = |kernel: &Kernel| right.iter().position(|k| k == kernel).map(|i| seconds[i]);
    measured.add(&group.iter().map(|kernel| (kernel.name(), of(kernel))).collect::<Vec<_>>());
    Ok(flops)
}

/// What a product of a problem takes.
struct Operands {
    a: Tensor,
    b: Tensor,
    bias: Tensor,
    residual: Tensor,
}

impl Operands {
    fn new(gpu: &Gpu, p: &Problem) -> Result<Operands> {
        let a = if p.layout == Layout::Tn { [p.k, p.m] } else { [p.m, p.k] };
        let b = if p.layout == Layout::Nt { [p.n, p.k] } else { [p.k, p.n] };
        let values = noise_values(b[0] * b[1]);
        let half = || values.iter().map(|v| half::f16::from_f32(*v)).collect::<Vec<_>>();
        let bytes = || Bytes::of(&values, b[1]).map_err(Error::invalid);
        let b = match p.b {
            DType::F32 => gpu.upload("tune", &values, &b)?,
            DType::F16 => gpu.upload("tune", &half(), &b)?,
            DType::Texels => gpu.upload_texels("tune", &values, b)?,
            DType::HalfTexels => gpu.upload_texels("tune", &half(), b)?,
            DType::I8 | DType::ByteTexels => bytes()?.upload(gpu, "tune", b, p.b.is_texture())?,
            DType::U32 => return Err(Error::invalid("gemm: no products of u32")),
        };
        let rows = noise_values(a[0] * a[1]);
        let a = match p.a {
            DType::F16 => {
                let half: Vec<_> = rows.iter().map(|v| half::f16::from_f32(*v)).collect();
                gpu.upload("tune", &half, &a)?
            }
            _ => gpu.upload("tune", &rows, &a)?,
        };
        Ok(Operands {
            a,
            b,
            bias: gpu.upload("tune", &noise_values(p.n), &[p.n])?,
            residual: gpu.upload("tune", &noise_values(p.m * p.n), &[p.m, p.n])?,
        })
    }
}

/// What is done to products that are checked and measured: each part of an epilogue, since that is where kernels differ.
fn record(rec: &mut Recorder, kernel: Kernel, layout: Layout, operands: &Operands) -> Result<Tensor> {
    let epilogue = Epilogue {
        alpha: ALPHA,
        bias: Some(&operands.bias),
        activation: Some(Activation::QuickGelu),
        residual: Some(&operands.residual),
        half: false,
    };
    matmul_with(rec, kernel, layout, &operands.a, &operands.b, &epilogue)
}

const ALPHA: f32 = 0.7;

/// Rows, columns and depth of the products that are checked: larger than any tile each way and several times as deep, since some
/// drivers lose or double sums from one turn of the loop along k to the next; odd, and in whole fours, which are loaded otherwise.
const CHECKED: [[usize; 3]; 2] = [[150, 139, 131], [148, 140, 132]];

/// Times that a product is computed when it is checked.
const TURNS: usize = 3;

/// A product that is checked.
struct Product {
    problem: Problem,
    values: Vec<f32>,
}

fn product(gpu: &Gpu, kernel: Kernel, problem: &Problem, [m, n, k]: [usize; 3]) -> Result<Product> {
    let problem = Problem { m, n, k, ..*problem };
    let operands = Operands::new(gpu, &problem)?;
    let mut rec = Recorder::new(gpu);
    let c = record(&mut rec, kernel, problem.layout, &operands)?;
    let plan = rec.finish()?;
    // Once more each time: what was left in registers or in workgroup memory must not show.
    let mut values = Vec::new();
    for turn in 0..TURNS {
        plan.run()?;
        let now = gpu.begin_read::<f32>(&c)?.finish_unchecked()?;
        if turn > 0 && now != values {
            values.fill(f32::NAN);
            break;
        }
        values = now;
    }
    Ok(Product { problem, values })
}

impl Product {
    /// Whether it is right. Drivers have been wrong before.
    fn is_right(&self) -> bool {
        let Problem { layout, m, n, k, b, .. } = self.problem;
        let (a, from, bias, residual) =
            (noise_values(m * k), noise_values(n * k), noise_values(n), noise_values(m * n));
        let bytes = if b.is_bytes() { Bytes::of(&from, if layout == Layout::Nt { k } else { n }).ok() } else { None };
        let from: Vec<f64> = match &bytes {
            Some(bytes) => bytes.values().collect(),
            None => from.into_iter().map(f64::from).collect(),
        };
        // Operands in f16 are rounded by 2⁻¹¹, both where matrix units take A as well; sums of 131 terms of at most 1.
        let bound = if matches!(b, DType::F32 | DType::Texels) { 1e-4 } else { 4e-2 };
        let at = |row: usize, col: usize| -> f64 {
            let term = |i: usize| {
                let a = if layout == Layout::Tn { a[i * m + row] } else { a[row * k + i] };
                let b = if layout == Layout::Nt { from[col * k + i] } else { from[i * n + col] };
                f64::from(a) * b
            };
            let v = f64::from(ALPHA) * (0..k).map(term).sum::<f64>() + f64::from(bias[col]);
            v / (1.0 + (-1.702 * v).exp()) + f64::from(residual[row * n + col])
        };
        (0..m * n).all(|i| (f64::from(self.values[i]) - at(i / n, i % n)).abs() < bound)
    }
}

/// Seconds of one product by each kernel, the best of several.
fn time(gpu: &Gpu, kernels: &[Kernel], problem: &Problem, flops: f64) -> Result<Vec<f64>> {
    let operands = Operands::new(gpu, problem)?;
    let times = (WORK / flops).clamp(1.0, 50.0) as usize;
    let plans = kernels.iter().map(|kernel| {
        let mut rec = Recorder::new(gpu);
        for _ in 0..times {
            record(&mut rec, *kernel, problem.layout, &operands)?;
        }
        rec.finish()
    });
    let plans = plans.collect::<Result<Vec<Plan>>>()?;
    let least = Plan::time_together(&plans, BUDGET * kernels.len() as u32, ROUNDS)?;
    Ok(least.iter().map(|time| time.as_secs_f64() / times as f64).collect())
}
