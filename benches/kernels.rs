//! Time per kernel: record once, then run the plan and wait. `cargo bench --bench kernels`; `TIPI_DEVICE` picks the
//! device. Groups marked "flop" count floating-point operations as elements, so that criterion's Gelem/s are GFLOP/s;
//! the others count the bytes that must move.
#![allow(missing_docs)] // of what criterion's macros make
#![allow(clippy::unwrap_used)] // a bench that cannot run may end

mod support;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tipi::Result;
use tipi::low_level::gpu::{DeviceOptions, Dispatch, Gpu, Grid, Recorder, Shader, Tensor, Variant};
use tipi::low_level::kernels::activation::{self, Activation};
use tipi::low_level::kernels::attention::{self, Pattern, Span};
use tipi::low_level::kernels::dino::{self, Views};
use tipi::low_level::kernels::gemm::{self, Epilogue, Kernel, Layout, Precision};
use tipi::low_level::kernels::{
    affinity, batchnorm, clipping, conv, divergence, dropout, extremes, gather, layernorm, loss, nearest, noise,
    normalize, optim, pairs, patch, peak, reduce, search, softmax, texels,
};

/// The device, and inputs for it.
struct Bench {
    gpu: Gpu,
}

impl Bench {
    fn new() -> Self {
        Bench { gpu: Gpu::open(&DeviceOptions { checked: Some(false), ..Default::default() }).unwrap() }
    }

    /// Numbers in [−1, 1) without a pattern that a kernel could profit from.
    fn tensor(&self, shape: &[usize]) -> Tensor {
        let data = support::noise(1, shape.iter().product());
        self.gpu.upload("bench", &data, shape).unwrap()
    }

    fn indices(&self, n: usize, below: usize) -> Tensor {
        let data: Vec<u32> = (0..n).map(|i| (i * 7919 % below) as u32).collect();
        self.gpu.upload("bench", &data, &[n]).unwrap()
    }

    /// One line of a group. `bytes` none: count the plan's floating-point operations.
    fn run<R>(
        &self,
        criterion: &mut Criterion,
        group: &str,
        name: &str,
        bytes: Option<usize>,
        record: impl FnOnce(&mut Recorder) -> Result<R>,
    ) {
        let mut rec = Recorder::new(&self.gpu);
        let out = record(&mut rec).unwrap();
        let plan = rec.finish().unwrap();
        // Once before: drivers compile on first use.
        plan.run().unwrap();
        self.gpu.wait().unwrap();
        let mut group = criterion.benchmark_group(group);
        group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        group.throughput(match bytes {
            Some(bytes) => Throughput::Bytes(bytes as u64),
            None => Throughput::Elements(plan.flops() as u64),
        });
        group.bench_function(name, |b| {
            b.iter(|| {
                plan.run().unwrap();
                self.gpu.wait().unwrap();
            });
        });
        group.finish();
        drop(out);
    }
}

fn products(c: &mut Criterion) {
    let bench = Bench::new();
    let group = "gemm (flop)";
    for kernel in Kernel::ALL.into_iter().filter(|k| k.runs_on(bench.gpu.capabilities())) {
        for (layout, m, n, k) in [
            (Layout::Nt, 1600, 3072, 768),
            (Layout::Nt, 320, 768, 768),
            (Layout::Nn, 320, 768, 768),
            (Layout::Tn, 320, 768, 768),
        ] {
            let (a, b) = match layout {
                Layout::Nt => ([m, k], [n, k]),
                Layout::Nn => ([m, k], [k, n]),
                Layout::Tn => ([k, m], [k, n]),
            };
            let (a, b) = (bench.tensor(&a), bench.tensor(&b));
            bench.run(c, group, &format!("{kernel:?} {layout:?} {m}x{n}x{k}"), None, |rec| {
                gemm::matmul_with(rec, kernel, layout, &a, &b, &Epilogue::default())
            });
        }
    }
    // Weights as frozen layers keep them.
    let values = vec![0.5; 3072 * 768];
    let x = bench.tensor(&[1600, 768]);
    for precision in [Precision::F32, Precision::F16, Precision::Int8] {
        let w = gemm::freeze(&bench.gpu, "bench", &values, [3072, 768], precision).unwrap();
        bench.run(c, group, &format!("frozen {precision:?} Nt 1600x3072x768"), None, |rec| {
            gemm::matmul(rec, Layout::Nt, &x, &w, &Epilogue::default())
        });
    }
    let (a, b, bias, residual) =
        (bench.tensor(&[320, 768]), bench.tensor(&[768, 768]), bench.tensor(&[768]), bench.tensor(&[320, 768]));
    let epilogue = Epilogue {
        bias: Some(&bias),
        activation: Some(Activation::QuickGelu),
        residual: Some(&residual),
        alpha: 1.0,
        half: false,
    };
    bench.run(c, group, "bias, QuickGELU, residual 320x768x768", None, |rec| {
        gemm::matmul(rec, Layout::Nt, &a, &b, &epilogue)
    });
    bench.run(c, group, "peak: products and sums in registers", None, |rec| peak::multiply(rec, 4096, 200));
    let pixels = bench.tensor(&[8, 3, 224, 224]);
    let embedding = patch::PatchEmbedding {
        weight: bench.tensor(&[192, 3 * 32 * 32]),
        bias: None,
        class: Some(bench.tensor(&[192])),
        position: bench.tensor(&[50, 192]),
        patch: 32,
    };
    let maps = bench.tensor(&[8, 56, 56, 64]);
    let weight = bench.tensor(&[64, 9 * 64]);
    let window = conv::Window { side: 3, stride: 1, pad: 1 };
    bench.run(c, group, "convolution 3x3, 8x56x56x64", None, |rec| {
        let from = (conv::Order::ChannelsLast, 0..8);
        conv::forward(rec, &maps, from, window, &weight, &gemm::Epilogue::default())
    });
    bench.run(c, group, "convolution 3x3 dx, 8x56x56x64", None, |rec| {
        conv::same_input(rec, &conv::Pictures::all(&maps), &weight, 3, None)
    });
    bench.run(c, group, "convolution 3x3 dw, 8x56x56x64", None, |rec| {
        conv::same_weight(rec, &conv::Pictures::all(&maps), &weight, &maps, None)
    });
    let layer = [maps.clone()];
    let (gain, running) = (bench.tensor(&[64]), bench.tensor(&[2, 64]));
    bench.run(c, "maps", "batch norm statistics, 8x56x56x64", Some(4 * maps.len()), |rec| {
        batchnorm::statistics(rec, &layer, &running)
    });
    bench.run(c, "maps", "batch norm dx, 8x56x56x64", Some(20 * maps.len()), |rec| {
        Ok(batchnorm::backward(rec, &layer, &running, &gain, &layer)?.x.remove(0))
    });
    let bytes = Some(5 * maps.len());
    bench.run(c, "maps", "average pool 2x2, 8x56x56x64", bytes, |rec| conv::pool(rec, &maps, 2));
    bench.run(c, group, "patch embedding 8x224, patches of 32, width 192", None, |rec| {
        patch::forward(rec, &pixels, &embedding)
    });
}

fn attention(c: &mut Criterion) {
    let bench = Bench::new();
    let group = "attention (flop)";
    let heads = 3;
    let width = heads * 64;
    let mut pair = |name: &str, pattern: &Pattern| {
        let (qkv, dy) = (bench.tensor(&[pattern.rows(), 3 * width]), bench.tensor(&[pattern.rows(), width]));
        bench.run(c, group, &format!("{name} forward"), None, |rec| attention::forward(rec, &qkv, pattern, heads));
        // Forward once, to have its output; only backward is in the plan that is timed.
        let mut rec = Recorder::new(&bench.gpu);
        let out = attention::forward(&mut rec, &qkv, pattern, heads).unwrap();
        let forward = rec.finish().unwrap();
        forward.run().unwrap();
        bench.run(c, group, &format!("{name} backward"), None, |rec| {
            attention::backward(rec, &qkv, &out, &dy, pattern, heads)
        });
    };
    pair("60 texts of 24", &Pattern::uniform(&bench.gpu, 60, 24, true).unwrap());
    let spans: Vec<_> = (0..60).map(|i| Span { start: 20 + i * 4, len: 4 }).collect();
    let prefix = Some(Span { start: 0, len: 20 });
    pair("60 texts of 4 after 20 shared", &Pattern::new(&bench.gpu, prefix, &spans, true).unwrap());
    pair("8 pictures of 50", &Pattern::uniform(&bench.gpu, 8, 50, false).unwrap());
}

fn rows(c: &mut Criterion) {
    let bench = Bench::new();
    let (rows, width) = (1600, 768);
    let (x, dy, gain) = (bench.tensor(&[rows, width]), bench.tensor(&[rows, width]), bench.tensor(&[width]));
    let (stats, norms) = (bench.tensor(&[rows, 2]), bench.tensor(&[rows]));
    let labels = bench.indices(rows, width);
    let group = "rows 1600x768";
    let passes = |n: usize| Some(n * 4 * rows * width);
    bench.run(c, group, "layernorm", passes(2), |rec| layernorm::forward(rec, &x, &gain, &gain, 1e-5));
    bench.run(c, group, "layernorm dx", passes(3), |rec| layernorm::backward(rec, &x, &stats, &gain, &dy, None));
    bench.run(c, group, "normalize", passes(2), |rec| normalize::forward(rec, &x));
    bench.run(c, group, "normalize dx", passes(3), |rec| normalize::backward(rec, &x, &norms, &dy));
    bench.run(c, group, "softmax", passes(2), |rec| softmax::forward(rec, &x));
    bench.run(c, group, "softmax dx", passes(3), |rec| softmax::backward(rec, &x, &dy));
    bench.run(c, group, "cross-entropy", passes(2), |rec| loss::cross_entropy(rec, &x, &labels));
    for kind in [Activation::QuickGelu, Activation::Gelu] {
        bench.run(c, group, &format!("{kind:?}"), passes(2), |rec| activation::forward(rec, kind, &x));
        bench.run(c, group, &format!("{kind:?} dx"), passes(3), |rec| activation::backward(rec, kind, &x, &dy));
    }
    bench.run(c, group, "sum of rows", passes(1), |rec| reduce::sum_rows(rec, &x));
    bench.run(c, group, "extremes", passes(1), |rec| extremes::extremes(rec, &x, None));
    let order = bench.indices(rows, rows);
    bench.run(c, group, "gather", passes(2), |rec| gather::rows(rec, &x, &order));
    bench.run(c, group, "dropout and ReLU", passes(3), |rec| dropout::relu(rec, &x, &dy));
    bench.run(c, group, "dropout and ReLU dx", passes(4), |rec| dropout::relu_backward(rec, &x, &dy, &dy));
    bench.run(c, group, "stage texels", passes(2), |rec| texels::stage(rec, &x));
    bench.run(c, group, "stage texels of the transpose", passes(2), |rec| texels::stage_transposed(rec, &x));
    if bench.gpu.capabilities().subgroups_of(8) {
        bench.run(c, group, "layernorm as texels", passes(2), |rec| {
            layernorm::forward_texels(rec, &x, &gain, &gain, 1e-5)
        });
    }
    let (w, grad) = (bench.tensor(&[rows, width]), bench.tensor(&[rows, width]));
    let (hyper4, hyper8, moments) = (bench.tensor(&[4]), bench.tensor(&[8]), bench.tensor(&[2, rows * width]));
    bench.run(c, group, "SGD", passes(5), |rec| optim::sgd(rec, &hyper4, &grad, &dy, &w));
    bench.run(c, group, "AdamW", passes(7), |rec| optim::adamw(rec, &hyper8, &grad, &moments, &w));
    let hyper1 = bench.tensor(&[1]);
    bench.run(c, group, "running mean", passes(3), |rec| optim::blend(rec, &hyper1, &grad, &w));
    bench.run(c, group, "clip", passes(3), |rec| clipping::clip(rec, &grad, 0.3));
    let counter = bench.indices(4, 9);
    bench.run(c, group, "dropout mask", passes(1), |rec| dropout::mask(rec, &counter, 1, 0.5, &dy));
    bench.run(c, group, "normal", passes(1), |rec| noise::normal(rec, &counter, 1, &dy));
}

/// DINO's loss over the paper's head: four pictures of two global and ten local crops.
fn wide_head(c: &mut Criterion) {
    let bench = Bench::new();
    let (views, width) = (Views { pictures: 4, globals: 2, all: 12 }, 65_536);
    let (said, x) = (bench.tensor(&[8, width]), bench.tensor(&[48, width]));
    let (centre, sharp) = (bench.tensor(&[width]), bench.tensor(&[2]));
    let group = "wide head 48x65536";
    let passes = |rows: usize| Some(4 * rows * width);
    bench.run(c, group, "dino teacher", passes(16), |rec| dino::teacher(rec, &said, &centre, &sharp, views));
    bench.run(c, group, "dino student", passes(104), |rec| dino::student(rec, &x, &said, &sharp, views));
}

fn cache(c: &mut Criterion) {
    let bench = Bench::new();
    let (queries, width, classes, shots) = (256, 512, 32, 16);
    let (f, keys) = (bench.tensor(&[queries, width]), bench.tensor(&[classes * shots, width]));
    let starts: Vec<u32> = (0..=classes).map(|c| (c * shots) as u32).collect();
    let keys = affinity::Keys::new(&bench.gpu, keys, &starts).unwrap();
    let (base, labels) = (bench.tensor(&[queries, classes]), bench.indices(queries, classes));
    for count in [1, affinity::MAX_BETAS] {
        let betas = bench.tensor(&[count]);
        bench.run(c, "cache (flop)", &format!("affinity, {count} betas"), None, |rec| {
            affinity::cache_term(rec, &f, &keys, &betas, 1.0, None)
        });
    }
    let cached = bench.tensor(&[20, queries, classes]);
    let kl = bench.tensor(&[queries, classes]);
    let even = |n: usize| (0..n).map(|i| i as f32 * 0.1).collect::<Vec<f32>>();
    let terms = search::Terms { base: &base, cache: &cached, kl: None };
    let (few, many) = (even(20), even(200));
    bench.run(c, "cache (flop)", "search, 20 by 20", None, |rec| search::count(rec, terms, &labels, &few, &[0.0]));
    let with_kl = search::Terms { kl: Some(&kl), ..terms };
    bench.run(c, "cache (flop)", "search, 200 by 20 by 50", None, |rec| {
        search::count(rec, with_kl, &labels, &many, &even(50))
    });
    bench.run(c, "cache (flop)", "distributions", None, |rec| Ok(divergence::distributions(rec, &base)?.stats));
    let (similar, of) = (bench.tensor(&[1024, 1024]), bench.indices(1024, 100));
    let counts = bench.gpu.upload("bench", &vec![0u32; 2 * pairs::BINS], &[2, pairs::BINS]).unwrap();
    bench.run(c, "cache (flop)", "pairs 1024x1024", None, |rec| {
        pairs::count(rec, &similar, (&of, &of), (0, 0), &counts)
    });
    let lists = nearest::Lists::new(&bench.gpu, &[nearest::NONE; 1024], 10).unwrap();
    for side in [nearest::Candidates::Rows, nearest::Candidates::Columns] {
        bench.run(c, "cache (flop)", &format!("nearest 10 of 1024x1024, {side:?}"), None, |rec| {
            nearest::keep(rec, &similar, side, 0, &lists)
        });
    }
    bench.run(c, "cache (flop)", "alike 1024x1024", None, |rec| {
        nearest::alike(rec, &similar, nearest::Candidates::Rows, 0.9)
    });
}

/// The elementwise part of the cache term, for the three kernels that the fused one replaces.
static EXP: Shader = Shader {
    name: "exp",
    text: "exp",
    texts: &[(
        "exp",
        "@group(0) @binding(0) var<uniform> p: vec4<u32>;
        @group(0) @binding(1) var<storage, read> x: array<f32>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>,
                @builtin(local_invocation_index) l: u32) {
            let i = (w.y * n.x + w.x) * 64u + l;
            if i < p.x { y[i] = exp(5.5 * (x[i] - 1.0)); }
        }",
    )],
    instead: &[],
};

/// The fused cache term of 16,000 keys and 1,000 classes, with each kernel, and what it replaces: the affinity by a
/// GEMM, exponentials, and the product with the one-hot labels by another.
fn fused(c: &mut Criterion) {
    let bench = Bench::new();
    let group = "cache term 256x512, 16000 keys, 1000 classes";
    let (queries, width, classes, shots) = (256, 512, 1000, 16);
    let n = classes * shots;
    let (f, keys) = (bench.tensor(&[queries, width]), bench.tensor(&[n, width]));
    let starts: Vec<u32> = (0..=classes).map(|c| (c * shots) as u32).collect();
    let cache = affinity::Keys::new(&bench.gpu, keys.clone(), &starts).unwrap();
    let beta = bench.gpu.upload("bench", &[5.5f32], &[1]).unwrap();
    for kernel in affinity::Kernel::ALL {
        // The others are for fewer keys a class.
        if !kernel.runs_on(bench.gpu.capabilities()) || matches!(kernel, affinity::Kernel::Rows(1 | 4)) {
            continue;
        }
        let mut extra = 0;
        bench.run(c, group, &format!("fused, {kernel:?}"), Some(4 * (f.len() + keys.len())), |rec| {
            let y = affinity::cache_term_with(rec, kernel, &f, &cache, &beta, 1.0, None)?;
            extra = y.bytes();
            Ok(y)
        });
        println!("{group}/fused, {kernel:?}: {:.1} MB besides its inputs, all of it the result", extra as f64 / 1e6);
    }
    let mut hot = vec![0f32; classes * n];
    (0..n).for_each(|j| hot[j / shots * n + j] = 1.0);
    let hot = bench.gpu.upload("bench", &hot, &[classes, n]).unwrap();
    bench.run(c, group, "GEMM, exp, GEMM", Some(4 * (f.len() + keys.len())), |rec| {
        let affinity = gemm::matmul(rec, Layout::Nt, &f, &keys, &Epilogue::default())?;
        let near = rec.temp("exp", &[queries, n])?;
        rec.dispatch(&Dispatch {
            variant: Variant::new(&EXP, "main", &[]),
            label: "exp",
            params: bytemuck::bytes_of(&[near.len() as u32, 0, 0, 0]),
            bindings: &[&affinity, &near],
            grid: Grid::cover(near.len(), 64),
            flops: near.len() as f64,
            bytes: 8.0 * near.len() as f64,
        })?;
        gemm::matmul(rec, Layout::Nt, &near, &hot, &Epilogue::default())
    });
}

criterion_group!(benches, products, attention, rows, wide_head, cache, fused);
criterion_main!(benches);
