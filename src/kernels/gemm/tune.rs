//! Which kernel is best for a class of problems on an adapter: measured once, kept on disk.

use std::time::Duration;

use super::{Epilogue, Kernel, Layout, Problem, matmul_with};
use crate::gpu::{DType, Gpu, Recorder, Tensor};
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

/// How long the repetitions of one candidate may take together.
const BUDGET: Duration = Duration::from_millis(300);

/// Floating-point operations between two looks at the clock, so that what is timed is the kernel and not the submission.
const WORK: f64 = 5e7;

/// The best kernel for the problem's class: what was measured before, else what is measured now. `None` where measuring
/// is off or there is nothing to choose from.
pub(super) fn best(gpu: &Gpu, problem: &Problem) -> Result<Option<Kernel>> {
    let candidates = Kernel::candidates(gpu.capabilities(), problem);
    if candidates.len() < 2 {
        return Ok(None);
    }
    let key = key(problem);
    if let Some(kernel) = gpu.measured(&key).as_deref().and_then(Kernel::of_name) {
        return Ok(Some(kernel));
    }
    if !gpu.measures() {
        return Ok(None);
    }
    let timings = measure(gpu, problem)?;
    Ok(fastest(&timings))
}

fn key(problem: &Problem) -> String {
    format!("gemm {}", problem.class())
}

fn fastest(timings: &[Timing]) -> Option<Kernel> {
    let sound = timings.iter().filter_map(|t| Some((t.kernel, t.seconds?)));
    sound.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(kernel, _)| kernel)
}

/// Measures every candidate for a problem, and keeps the fastest of those whose results are right as the choice for the
/// problem's class. Takes seconds; called on the first use of a class, and by `tipi tune`.
///
/// # Errors
/// Out of memory; a device that fails.
pub fn measure(gpu: &Gpu, problem: &Problem) -> Result<Vec<Timing>> {
    let cap = if gpu.is_cpu() { 1024 } else { 4096 };
    let sized = Problem { m: problem.m.min(cap / 2), n: problem.n.min(cap), k: problem.k.min(cap), ..*problem };
    let (a, b) = operands(gpu, &sized)?;
    let mut timings = Vec::new();
    for kernel in Kernel::candidates(gpu.capabilities(), problem) {
        let flops = 2.0 * sized.m as f64 * sized.n as f64 * sized.k as f64;
        let seconds =
            if is_right(gpu, kernel, problem)? { Some(time(gpu, kernel, sized.layout, &a, &b, flops)?) } else { None };
        if seconds.is_none() {
            tracing::warn!("{}: kernel {} computes wrong products here and is left out", gpu.name(), kernel.name());
        }
        timings.push(Timing { kernel, seconds, flops });
    }
    if let Some(kernel) = fastest(&timings) {
        gpu.note_measured(&key(problem), kernel.name());
    }
    Ok(timings)
}

/// A and B of a problem.
fn operands(gpu: &Gpu, p: &Problem) -> Result<(Tensor, Tensor)> {
    let a = if p.layout == Layout::Tn { [p.k, p.m] } else { [p.m, p.k] };
    let b = if p.layout == Layout::Nt { [p.n, p.k] } else { [p.k, p.n] };
    let values = noise_values(b[0] * b[1]);
    let half = || values.iter().map(|v| half::f16::from_f32(*v)).collect::<Vec<_>>();
    let b = match p.b {
        DType::F32 => gpu.upload("tune", &values, &b)?,
        DType::F16 => gpu.upload("tune", &half(), &b)?,
        DType::Texels => gpu.upload_texels("tune", &values, b)?,
        DType::HalfTexels => gpu.upload_texels("tune", &half(), b)?,
        DType::U32 => return Err(Error::invalid("gemm: no products of u32")),
    };
    Ok((gpu.upload("tune", &noise_values(a[0] * a[1]), &a)?, b))
}

/// Whether a kernel's product of a small odd shape is right on this device. Drivers have been wrong before.
fn is_right(gpu: &Gpu, kernel: Kernel, problem: &Problem) -> Result<bool> {
    let small = Problem { m: 37, n: 45, k: 51, ..*problem };
    let (a, b) = operands(gpu, &small)?;
    let mut rec = Recorder::new(gpu);
    let c = matmul_with(&mut rec, kernel, small.layout, &a, &b, &Epilogue::default())?;
    rec.finish()?.run()?;
    let got = gpu.read::<f32>(&c)?;
    let Problem { layout, m, n, k, .. } = small;
    let (a, b) = (noise_values(m * k), noise_values(n * k));
    // Operands in f16 are rounded by 2⁻¹¹, both where matrix units take A as well; sums of 51 terms of at most 1.
    let bound = if matches!(problem.b, DType::F32 | DType::Texels) { 1e-4 } else { 2e-2 };
    let at = |row: usize, col: usize| -> f64 {
        let term = |i: usize| {
            let a = if layout == Layout::Tn { a[i * m + row] } else { a[row * k + i] };
            let b = if layout == Layout::Nt { b[col * k + i] } else { b[i * n + col] };
            f64::from(a) * f64::from(b)
        };
        (0..k).map(term).sum()
    };
    Ok((0..m * n).all(|i| (f64::from(got[i]) - at(i / n, i % n)).abs() < bound))
}

/// Seconds of one product, the best of several.
fn time(gpu: &Gpu, kernel: Kernel, layout: Layout, a: &Tensor, b: &Tensor, flops: f64) -> Result<f64> {
    let times = (WORK / flops).clamp(1.0, 50.0) as usize;
    let mut rec = Recorder::new(gpu);
    for _ in 0..times {
        matmul_with(&mut rec, kernel, layout, a, b, &Epilogue::default())?;
    }
    let plan = rec.finish()?;
    let best = plan.time(BUDGET, 10)?;
    Ok(best.as_secs_f64() / times as f64)
}

#[cfg(test)]
mod tests {
    use super::{Kernel, Timing, fastest};

    #[test]
    fn the_fastest_of_those_that_are_right_is_chosen() {
        let timing = |kernel, seconds| Timing { kernel, seconds, flops: 1.0 };
        let all = [timing(Kernel::Rows, Some(2.0)), timing(Kernel::Matrix, None), timing(Kernel::Tile, Some(1.0))];
        assert_eq!(fastest(&all), Some(Kernel::Tile));
        assert_eq!(fastest(&all[1..2]), None);
    }
}
