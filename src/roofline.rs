//! How near each kernel comes to what its adapter can do: time at the shapes of a CLIP, as a share of the adapter's own
//! measured peak of arithmetic and of memory (`tipi bench`).

use std::time::Duration;

use crate::Result;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::activation::{self, Activation};
use crate::kernels::attention::{self, Pattern, Span};
use crate::kernels::conv::{self, Order, Window};
use crate::kernels::gemm::{self, Epilogue, Layout, Precision};
use crate::kernels::{affinity, divergence, layernorm, loss, noise, noise_values, normalize, peak, reduce, softmax};

/// A kernel's time.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Row {
    /// The kernel and its shape.
    pub name: String,
    /// Seconds, the best of several runs.
    pub seconds: f64,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes that must be moved at the least.
    pub bytes: f64,
}

/// What was measured on an adapter.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Roofline {
    /// The adapter, its kind and backend.
    pub adapter: String,
    /// Products and sums in registers, FLOP/s.
    pub peak_flops: f64,
    /// Copying a buffer, bytes read and written a second.
    pub peak_bytes: f64,
    /// The kernels.
    pub rows: Vec<Row>,
}

impl Roofline {
    /// The least time that a kernel could take, by arithmetic and by memory, as shares of what it took.
    pub fn shares(&self, row: &Row) -> (f64, f64) {
        (row.flops / self.peak_flops / row.seconds, row.bytes / self.peak_bytes / row.seconds)
    }
}

/// Times what is recorded.
struct Timer<'a> {
    gpu: &'a Gpu,
    budget: Duration,
}

impl Timer<'_> {
    fn row<R>(&self, name: &str, record: impl FnOnce(&mut Recorder) -> Result<R>) -> Result<Row> {
        let mut rec = Recorder::new(self.gpu);
        let kept = record(&mut rec)?;
        let plan = rec.finish()?;
        let seconds = plan.time(self.budget, 50)?.as_secs_f64();
        drop(kept);
        Ok(Row { name: name.into(), seconds, flops: plan.flops(), bytes: plan.bytes() })
    }
}

/// Kernels that [`measure`] times.
pub const KERNELS: usize = 29;

/// Measures the adapter's peaks and every kernel at shapes of a B-size CLIP, with `pictures` pictures in a batch and repetitions of a
/// kernel for `budget`. `done` is called with each row as it is measured.
///
/// # Errors
/// Out of memory; a device that fails.
pub fn measure(gpu: &Gpu, pictures: usize, budget: Duration, done: &mut dyn FnMut(&Row)) -> Result<Roofline> {
    let timer = Timer { gpu, budget };
    let (invocations, steps) = if gpu.is_cpu() { (4096, 500) } else { (1 << 20, 500) };
    let arithmetic = timer.row("peak", |rec| peak::multiply(rec, invocations, steps))?;
    let tensor = |shape: &[usize]| gpu.upload("bench", &noise_values(shape.iter().product()), shape);
    // Past what caches hold.
    let large = tensor(&[1 << 22, 4])?;
    let memory = timer.row("copy", |rec| peak::copy(rec, &large))?;
    drop(large);
    let mut result = Roofline {
        adapter: gpu.describe(),
        peak_flops: arithmetic.flops / arithmetic.seconds,
        peak_bytes: memory.bytes / memory.seconds,
        rows: Vec::new(),
    };
    let mut add = |row: Row| {
        done(&row);
        result.rows.push(row);
    };
    let (width, tokens) = (768, 50);
    let rows = pictures * tokens;
    let none = Epilogue::default();
    let x = tensor(&[rows, width])?;
    let wide = tensor(&[rows, 4 * width])?;
    let bias = tensor(&[4 * width])?;
    for precision in [Precision::F32, Precision::F16] {
        let up = gemm::freeze(gpu, "bench", &noise_values(4 * width * width), [4 * width, width], precision)?;
        let epilogue = Epilogue { bias: Some(&bias), activation: Some(Activation::QuickGelu), ..none };
        let name = |what: &str, m: usize, n: usize, k: usize| format!("gemm {what} {precision:?} {m}×{n}×{k}");
        add(timer.row(&name("nt", rows, 4 * width, width), |rec| gemm::matmul(rec, Layout::Nt, &x, &up, &none))?);
        add(timer.row(&name("nn", rows, width, 4 * width), |rec| gemm::matmul(rec, Layout::Nn, &wide, &up, &none))?);
        add(timer.row(&name("nt, bias, QuickGELU,", rows, 4 * width, width), |rec| {
            gemm::matmul(rec, Layout::Nt, &x, &up, &epilogue)
        })?);
        let one = tensor(&[pictures, width])?;
        add(timer
            .row(&name("nt", pictures, 4 * width, width), |rec| gemm::matmul(rec, Layout::Nt, &one, &up, &none))?);
    }
    add(timer
        .row(&format!("gemm tn F32 {width}×{width}×{rows}"), |rec| gemm::matmul(rec, Layout::Tn, &x, &x, &none))?);
    let mut attend = |name: &str, pattern: &Pattern, heads: usize| {
        let qkv = tensor(&[pattern.rows(), 3 * 64 * heads])?;
        let dy = tensor(&[pattern.rows(), 64 * heads])?;
        let mut rec = Recorder::new(gpu);
        let out = attention::forward(&mut rec, &qkv, pattern, heads)?;
        rec.finish()?.run()?;
        add(timer.row(&format!("attention {name}"), |rec| attention::forward(rec, &qkv, pattern, heads))?);
        add(timer
            .row(&format!("attention dx {name}"), |rec| attention::backward(rec, &qkv, &out, &dy, pattern, heads))?);
        Ok::<_, crate::Error>(())
    };
    attend(&format!("{pictures} pictures of {tokens}"), &Pattern::uniform(gpu, pictures, tokens, false)?, 12)?;
    let spans: Vec<_> = (0..100).map(|i| Span { start: 21 + 5 * i, len: 5 }).collect();
    let shared = Pattern::new(gpu, Some(Span { start: 0, len: 21 }), &spans, true)?;
    attend("100 names of 5 after 21 shared", &shared, 8)?;

    let shape = format!("{rows}×{width}");
    let (gain, stats, norms) = (tensor(&[width])?, tensor(&[rows, 2])?, tensor(&[rows])?);
    let labels: Vec<u32> = (0..rows).map(|i| (i * 7919 % width) as u32).collect();
    let labels = gpu.upload("bench", &labels, &[rows])?;
    let dy = tensor(&[rows, width])?;
    let mut plain = |name: &str, record: &dyn Fn(&mut Recorder) -> Result<Vec<Tensor>>| {
        add(timer.row(&format!("{name} {shape}"), record)?);
        Ok::<_, crate::Error>(())
    };
    plain("layernorm", &|rec| Ok(vec![layernorm::forward(rec, &x, &gain, &gain, 1e-5)?.y]))?;
    plain("layernorm dx", &|rec| Ok(vec![layernorm::backward(rec, &x, &stats, &gain, &dy, None)?]))?;
    plain("normalize", &|rec| Ok(vec![normalize::forward(rec, &x)?.y]))?;
    plain("normalize dx", &|rec| Ok(vec![normalize::backward(rec, &x, &norms, &dy)?]))?;
    plain("softmax", &|rec| Ok(vec![softmax::forward(rec, &x)?]))?;
    plain("softmax dx", &|rec| Ok(vec![softmax::backward(rec, &x, &dy)?]))?;
    plain("cross-entropy", &|rec| Ok(vec![loss::cross_entropy(rec, &x, &labels)?.grad]))?;
    plain("QuickGELU", &|rec| Ok(vec![activation::forward(rec, Activation::QuickGelu, &x)?]))?;
    plain("QuickGELU dx", &|rec| Ok(vec![activation::backward(rec, Activation::QuickGelu, &x, &dy)?]))?;
    plain("sum of rows", &|rec| Ok(vec![reduce::sum_rows(rec, &x)?]))?;
    plain("distributions", &|rec| Ok(vec![divergence::distributions(rec, &x)?.stats]))?;
    let counter = gpu.upload("bench", &[1u32, 2, 3, 0], &[4])?;
    plain("normal", &|rec| noise::normal(rec, &counter, 1, &dy).map(|()| Vec::new()))?;

    let (queries, classes, shots) = (256, 100, 16);
    let f = tensor(&[queries, 512])?;
    let starts: Vec<u32> = (0..=classes).map(|c| (c * shots) as u32).collect();
    let keys = affinity::Keys::new(gpu, tensor(&[classes * shots, 512])?, &starts)?;
    for betas in [1, affinity::MAX_BETAS] {
        let values = tensor(&[betas])?;
        add(timer.row(&format!("affinity {queries} queries, {} keys, {betas} β", classes * shots), |rec| {
            affinity::cache_term(rec, &f, &keys, &values, 1.0, None)
        })?);
    }
    // A convolution of a ResNet's third stage, and the pool before its fourth.
    let (size, channels) = (14, 256);
    let maps = tensor(&[pictures, size, size, channels])?;
    let weight =
        gemm::freeze(gpu, "bench", &noise_values(9 * channels * channels), [channels, 9 * channels], Precision::F32)?;
    let window = Window { side: 3, stride: 1, pad: 1 };
    let shape = format!("{pictures}×{size}×{size}×{channels}");
    add(timer.row(&format!("convolution 3×3 {shape}"), |rec| {
        conv::forward(rec, &maps, (Order::ChannelsLast, 0..pictures), window, &weight, &none)
    })?);
    add(timer.row(&format!("average pool 2×2 {shape}"), |rec| conv::pool(rec, &maps, 2))?);
    Ok(result)
}
