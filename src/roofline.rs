//! How near each kernel comes to what its device can do: time at the shapes of a CLIP, as a share of the device's own
//! measured peak of arithmetic and of memory (`tipi bench`).

use std::time::Duration;

use crate::Result;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::activation::{self, Activation};
use crate::kernels::attention::{self, Pattern, Span};
use crate::kernels::conv::{self, Order, Pictures, Window};
use crate::kernels::gemm::{self, Epilogue, Layout, Precision};
use crate::kernels::{
    affinity, batchnorm, divergence, layernorm, loss, noise, noise_values, normalize, peak, planes, reduce, softmax,
};

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

/// What was measured on a device.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Roofline {
    /// The device, its kind and backend.
    pub device: String,
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

/// Width of a row, and tokens of a picture.
const WIDTH: usize = 768;
const TOKENS: usize = 50;

/// Weights' precisions that products are timed with.
const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::F16, Precision::Int8];
/// Products of each precision.
const PRODUCTS: usize = 4;
/// Patterns of attention.
const PATTERNS: usize = 2;
/// Kernels of attention for each pattern.
const ATTENTIONS: usize = 2;
/// Numbers of β that affinity is timed with.
const BETAS: [usize; 2] = [1, affinity::MAX_BETAS];
/// Convolutions and pools.
const CONVOLUTIONS: usize = 2;
/// Layers of the network that makes noise of pixels, forward and backward.
const NOISE_LAYERS: usize = 5;

/// What kernels take that go over rows.
struct Rows {
    x: Tensor,
    dy: Tensor,
    gain: Tensor,
    stats: Tensor,
    norms: Tensor,
    labels: Tensor,
    counter: Tensor,
}

/// Records a kernel and gives what must be kept until it ran.
type Record = fn(&Rows, &mut Recorder) -> Result<Vec<Tensor>>;

/// Kernels that go over rows, by name.
const ROWWISE: [(&str, Record); 12] = [
    ("layernorm", |t, rec| Ok(vec![layernorm::forward(rec, &t.x, &t.gain, &t.gain, 1e-5)?.y])),
    ("layernorm dx", |t, rec| Ok(vec![layernorm::backward(rec, &t.x, &t.stats, &t.gain, &t.dy, None)?])),
    ("normalize", |t, rec| Ok(vec![normalize::forward(rec, &t.x)?.y])),
    ("normalize dx", |t, rec| Ok(vec![normalize::backward(rec, &t.x, &t.norms, &t.dy)?])),
    ("softmax", |t, rec| Ok(vec![softmax::forward(rec, &t.x)?])),
    ("softmax dx", |t, rec| Ok(vec![softmax::backward(rec, &t.x, &t.dy)?])),
    ("cross-entropy", |t, rec| Ok(vec![loss::cross_entropy(rec, &t.x, &t.labels)?.grad])),
    ("QuickGELU", |t, rec| Ok(vec![activation::forward(rec, Activation::QuickGelu, &t.x)?])),
    ("QuickGELU dx", |t, rec| Ok(vec![activation::backward(rec, Activation::QuickGelu, &t.x, &t.dy)?])),
    ("sum of rows", |t, rec| Ok(vec![reduce::sum_rows(rec, &t.x)?])),
    ("distributions", |t, rec| Ok(vec![divergence::distributions(rec, &t.x)?.stats])),
    ("normal", |t, rec| noise::normal(rec, &t.counter, 1, &t.dy).map(|()| Vec::new())),
];

/// Kernels that [`measure`] times; the product that gives a weight's gradient is in no table.
pub const KERNELS: usize =
    PRECISIONS.len() * PRODUCTS + 1 + PATTERNS * ATTENTIONS + ROWWISE.len() + BETAS.len() + CONVOLUTIONS + NOISE_LAYERS;

/// Times what is recorded.
fn time<R>(gpu: &Gpu, budget: Duration, name: String, record: impl FnOnce(&mut Recorder) -> Result<R>) -> Result<Row> {
    let mut rec = Recorder::new(gpu);
    let kept = record(&mut rec)?;
    let plan = rec.finish()?;
    let seconds = plan.time(budget, 50)?.as_secs_f64();
    drop(kept);
    Ok(Row { name, seconds, flops: plan.flops(), bytes: plan.bytes() })
}

fn tensor(gpu: &Gpu, shape: &[usize]) -> Result<Tensor> {
    gpu.upload("bench", &noise_values(shape.iter().product()), shape)
}

/// The device's peaks: FLOP/s, and bytes a second.
fn peaks(gpu: &Gpu, budget: Duration) -> Result<(f64, f64)> {
    let invocations = if gpu.is_cpu() { 4096 } else { 1 << 20 };
    let arithmetic = time(gpu, budget, "peak".into(), |rec| peak::multiply(rec, invocations, 500))?;
    // Past what caches hold.
    let large = tensor(gpu, &[1 << 22, 4])?;
    let memory = time(gpu, budget, "copy".into(), |rec| peak::copy(rec, &large))?;
    Ok((arithmetic.flops / arithmetic.seconds, memory.bytes / memory.seconds))
}

/// Measures the device's peaks and every kernel at shapes of a B-size CLIP, with `pictures` pictures in a batch and
/// repetitions of a kernel for `budget`. `done` is called with each row as it is measured, [`KERNELS`] times.
///
/// # Errors
/// Out of memory; a device that fails.
pub fn measure(gpu: &Gpu, pictures: usize, budget: Duration, done: &mut dyn FnMut(&Row)) -> Result<Roofline> {
    let (peak_flops, peak_bytes) = peaks(gpu, budget)?;
    let mut bench = Bench { gpu, pictures, budget, done };
    let mut rows = Vec::with_capacity(KERNELS);
    for precision in PRECISIONS {
        rows.extend(bench.products(precision)?);
    }
    rows.push(bench.weight_gradient()?);
    for (name, pattern, heads) in bench.patterns()? {
        rows.extend(bench.attention(&name, &pattern, heads)?);
    }
    rows.extend(bench.rowwise()?);
    rows.extend(bench.affinity()?);
    rows.extend(bench.convolutions()?);
    rows.extend(bench.noise_layers()?);
    Ok(Roofline { device: gpu.describe(), peak_flops, peak_bytes, rows })
}

/// Times kernels by family.
struct Bench<'a> {
    gpu: &'a Gpu,
    pictures: usize,
    budget: Duration,
    done: &'a mut dyn FnMut(&Row),
}

impl Bench<'_> {
    fn time<R>(&mut self, name: String, record: impl FnOnce(&mut Recorder) -> Result<R>) -> Result<Row> {
        let row = time(self.gpu, self.budget, name, record)?;
        (self.done)(&row);
        Ok(row)
    }

    fn tensor(&self, shape: &[usize]) -> Result<Tensor> {
        tensor(self.gpu, shape)
    }

    /// Rows of all tokens of all pictures.
    fn rows(&self) -> usize {
        self.pictures * TOKENS
    }

    /// Products of an MLP's layer.
    fn products(&mut self, precision: Precision) -> Result<[Row; PRODUCTS]> {
        let (rows, pictures, none) = (self.rows(), self.pictures, Epilogue::default());
        let (x, one) = (self.tensor(&[rows, WIDTH])?, self.tensor(&[pictures, WIDTH])?);
        let (wide, bias) = (self.tensor(&[rows, 4 * WIDTH])?, self.tensor(&[4 * WIDTH])?);
        let values = noise_values(4 * WIDTH * WIDTH);
        let up = gemm::freeze(self.gpu, "bench", &values, [4 * WIDTH, WIDTH], precision)?;
        let fused = Epilogue { bias: Some(&bias), activation: Some(Activation::QuickGelu), ..none };
        let name = |what: &str, m: usize, n: usize, k: usize| format!("gemm {what} {precision:?} {m}×{n}×{k}");
        let nt = |what: &str, m: usize| name(what, m, 4 * WIDTH, WIDTH);
        Ok([
            self.time(nt("nt", rows), |rec| gemm::matmul(rec, Layout::Nt, &x, &up, &none))?,
            self.time(name("nn", rows, WIDTH, 4 * WIDTH), |rec| gemm::matmul(rec, Layout::Nn, &wide, &up, &none))?,
            self.time(nt("nt, bias, QuickGELU,", rows), |rec| gemm::matmul(rec, Layout::Nt, &x, &up, &fused))?,
            self.time(nt("nt", pictures), |rec| gemm::matmul(rec, Layout::Nt, &one, &up, &none))?,
        ])
    }

    fn weight_gradient(&mut self) -> Result<Row> {
        let rows = self.rows();
        let x = self.tensor(&[rows, WIDTH])?;
        self.time(format!("gemm tn F32 {WIDTH}×{WIDTH}×{rows}"), |rec| {
            gemm::matmul(rec, Layout::Tn, &x, &x, &Epilogue::default())
        })
    }

    /// Pictures, and class names after a template that they share: name, pattern, heads.
    fn patterns(&self) -> Result<[(String, Pattern, usize); PATTERNS]> {
        let pictures = self.pictures;
        let spans: Vec<_> = (0..100).map(|i| Span { start: 21 + 5 * i, len: 5 }).collect();
        let shared = Pattern::new(self.gpu, Some(Span { start: 0, len: 21 }), &spans, true)?;
        Ok([
            (format!("{pictures} pictures of {TOKENS}"), Pattern::uniform(self.gpu, pictures, TOKENS, false)?, 12),
            ("100 names of 5 after 21 shared".into(), shared, 8),
        ])
    }

    fn attention(&mut self, name: &str, pattern: &Pattern, heads: usize) -> Result<[Row; ATTENTIONS]> {
        let qkv = self.tensor(&[pattern.rows(), 3 * 64 * heads])?;
        let dy = self.tensor(&[pattern.rows(), 64 * heads])?;
        let mut rec = Recorder::new(self.gpu);
        let out = attention::forward(&mut rec, &qkv, pattern, heads)?;
        rec.finish()?.run()?;
        Ok([
            self.time(format!("attention {name}"), |rec| attention::forward(rec, &qkv, pattern, heads))?,
            self.time(format!("attention dx {name}"), |rec| attention::backward(rec, &qkv, &out, &dy, pattern, heads))?,
        ])
    }

    fn rowwise(&mut self) -> Result<Vec<Row>> {
        let rows = self.rows();
        let labels: Vec<u32> = (0..rows).map(|i| (i * 7919 % WIDTH) as u32).collect();
        let tensors = Rows {
            x: self.tensor(&[rows, WIDTH])?,
            dy: self.tensor(&[rows, WIDTH])?,
            gain: self.tensor(&[WIDTH])?,
            stats: self.tensor(&[rows, 2])?,
            norms: self.tensor(&[rows])?,
            labels: self.gpu.upload("bench", &labels, &[rows])?,
            counter: self.gpu.upload("bench", &[1u32, 2, 3, 0], &[4])?,
        };
        let one =
            |(name, record): &(&str, Record)| self.time(format!("{name} {rows}×{WIDTH}"), |rec| record(&tensors, rec));
        ROWWISE.iter().map(one).collect()
    }

    fn affinity(&mut self) -> Result<Vec<Row>> {
        let (queries, classes, shots) = (256, 100, 16);
        let f = self.tensor(&[queries, 512])?;
        let starts: Vec<u32> = (0..=classes).map(|c| (c * shots) as u32).collect();
        let keys = affinity::Keys::new(self.gpu, self.tensor(&[classes * shots, 512])?, &starts)?;
        let one = |betas: usize| {
            let values = self.tensor(&[betas])?;
            self.time(format!("affinity {queries} queries, {} keys, {betas} β", classes * shots), |rec| {
                affinity::cache_term(rec, &f, &keys, &values, 1.0, None)
            })
        };
        BETAS.into_iter().map(one).collect()
    }

    /// A convolution of a ResNet's third stage, and the pool before its fourth.
    fn convolutions(&mut self) -> Result<[Row; CONVOLUTIONS]> {
        let (pictures, size, channels) = (self.pictures, 14, 256);
        let maps = self.tensor(&[pictures, size, size, channels])?;
        let values = noise_values(9 * channels * channels);
        let weight = gemm::freeze(self.gpu, "bench", &values, [channels, 9 * channels], Precision::F32)?;
        let window = Window { side: 3, stride: 1, pad: 1 };
        let shape = format!("{pictures}×{size}×{size}×{channels}");
        Ok([
            self.time(format!("convolution 3×3 {shape}"), |rec| {
                let from = (Order::ChannelsLast, 0..pictures);
                conv::forward(rec, &maps, from, window, &weight, &Epilogue::default())
            })?,
            self.time(format!("average pool 2×2 {shape}"), |rec| conv::pool(rec, &maps, 2))?,
        ])
    }

    /// A layer that makes noise of pixels, of one picture of 112 pixels.
    fn noise_layers(&mut self) -> Result<[Row; NOISE_LAYERS]> {
        let (size, channels) = (112, 64);
        let (maps, dy) = (self.tensor(&[1, size, size, channels])?, self.tensor(&[1, size, size, channels])?);
        let weight = self.tensor(&[channels, 9 * channels])?;
        let (gain, running) = (self.tensor(&[channels])?, self.tensor(&[2, channels])?);
        let raw = self.tensor(&[1, size * size, 6])?;
        let (maps, dy) = ([maps], [dy]);
        let shape = format!("1×{size}×{size}×{channels}");
        Ok([
            self.time(format!("convolution dx 3×3 {shape}"), |rec| {
                conv::same_input(rec, &Pictures::all(&dy[0]), &weight, 3, None)
            })?,
            self.time(format!("convolution dw 3×3 {shape}"), |rec| {
                conv::same_weight(rec, &Pictures::all(&maps[0]), &weight, &dy[0], None)
            })?,
            self.time(format!("batch norm {shape}"), |rec| {
                let stats = batchnorm::statistics(rec, &maps, &running)?;
                batchnorm::apply(rec, &maps[0], &stats, (&gain, &gain), batchnorm::Extra { base: None, relu: true })
            })?,
            self.time(format!("batch norm dx {shape}"), |rec| batchnorm::backward(rec, &maps, &running, &gain, &dy))?,
            self.time(format!("noise planes 1×{size}×{size}×6"), |rec| planes::scale(rec, &raw, 0.1))?,
        ])
    }
}
