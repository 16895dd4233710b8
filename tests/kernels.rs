//! Every kernel against its f64 twin on odd shapes, the twins against finite differences, and the GPU layer's promises.
//!
//! Each comparison is also shown to fail: on elements that are off by a few bounds (`twins::assert_close`), and on
//! twins with an error in their mathematics (`check_rejects`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod twins;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::OnceLock;

use tipi::gpu::{Access, DType, DeviceOptions, Dispatch, Gpu, Grid, Matrices, Plan, Recorder, Shader, Tensor, Variant};
use tipi::kernels::activation::{self, Activation};
use tipi::kernels::attention::{self, Pattern, Span};
use tipi::kernels::conv::{Order, Window};
use tipi::kernels::gemm::{self, Epilogue, Kernel, Layout, Precision};
use tipi::kernels::{
    affinity, conv, divergence, dropout, extremes, gather, layernorm, loss, noise, normalize, optim, pairs, patch,
    peak, reduce, search, softmax,
};
use tipi::{Error, Result};
use twins::attention::{Heads, Ragged};
use twins::cache::Axes;
use twins::conv::Convolution;
use twins::divergence::Psi;
use twins::linear::Patches;
use twins::noise::Draw;
use twins::rowwise::{Adam, Flaw, Sgd};
use twins::{Random, Real, Tracked, assert_close, check, check_gradient, check_rejects, tolerance, values, widen};

const ACTIVATIONS: [Activation; 3] = Activation::ALL;

thread_local! {
    /// Whether this thread's tests run without the adapter's optional features.
    static PORTABLE: Cell<bool> = const { Cell::new(false) };
}

/// The adapter that `TIPI_ADAPTER` asks for, else the best one, with index checks in the shaders.
fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    static WITHOUT: OnceLock<Gpu> = OnceLock::new();
    let open = |portable| {
        let options = DeviceOptions { checked: Some(true), tune: Some(false), portable, ..Default::default() };
        Gpu::open(&options).unwrap()
    };
    if PORTABLE.get() { WITHOUT.get_or_init(|| open(true)) } else { GPU.get_or_init(|| open(false)) }
}

/// Runs a test with the kernels that this adapter takes, and with those that any adapter can run.
fn with_and_without_features(test: impl Fn()) {
    for portable in [false, true] {
        PORTABLE.set(portable);
        test();
    }
    PORTABLE.set(false);
}

fn up(x: &[f32], shape: &[usize]) -> Tensor {
    gpu().upload("test", x, shape).unwrap()
}

fn up_u32(x: &[u32]) -> Tensor {
    gpu().upload("test", x, &[x.len()]).unwrap()
}

fn plan_on<R>(gpu: &Gpu, record: impl FnOnce(&mut Recorder) -> Result<R>) -> (Plan, R) {
    let mut rec = Recorder::new(gpu);
    let out = record(&mut rec).unwrap();
    (rec.finish().unwrap(), out)
}

/// Records, runs, and reads back what the recording returned.
fn run<const N: usize>(record: impl FnOnce(&mut Recorder) -> Result<[Tensor; N]>) -> [Vec<f32>; N] {
    let (plan, out) = plan_on(gpu(), record);
    plan.run().unwrap();
    out.map(|t| gpu().read(&t).unwrap())
}

fn run1(record: impl FnOnce(&mut Recorder) -> Result<Tensor>) -> Vec<f32> {
    let [y] = run(|rec| Ok([record(rec)?]));
    y
}

fn invalid<T>(what: &str, result: Result<T>) {
    match result {
        Err(Error::Invalid(_)) => {}
        Err(other) => panic!("{what}: {other} where Invalid was expected"),
        Ok(_) => panic!("{what}: no error"),
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

// ---- The twins themselves ------------------------------------------------------------------------------------------

#[test]
fn erf_agrees_with_its_table() {
    // Abramowitz and Stegun, table 7.1.
    for (x, y) in [
        (0.1, 0.112_462_916_018_284_9),
        (0.5, 0.520_499_877_813_046_5),
        (1.0, 0.842_700_792_949_714_9),
        (2.0, 0.995_322_265_018_952_7),
        (2.5, 0.999_593_047_982_555),
        (3.0, 0.999_977_909_503_001_4),
    ] {
        assert!((twins::real::erf(x) - y).abs() < 1e-14, "erf({x})");
        assert!((twins::real::erf(-x) + y).abs() < 1e-14, "erf(-{x})");
    }
    let (below, above) = (twins::real::erf(2.5 - 1e-13), twins::real::erf(2.5 + 1e-13));
    assert!((below - above).abs() < 1e-14, "the two branches meet");
}

#[test]
fn twin_gradients_agree_with_finite_differences() {
    let mut random = Random::new(1);
    let mut draw = |n: usize| widen::<f64>(&random.vector(n));

    for kind in ACTIVATIONS {
        let (x, dy) = (draw(9).iter().map(|v| 4.0 * v).collect::<Vec<_>>(), draw(9));
        let dx = twins::linear::activation_backward(kind, &x, &dy);
        check_gradient("activation", |x| twins::linear::activation(kind, x), &x, &dy, &dx);
    }

    // A linear layer's two gradients are GEMMs in the other layouts.
    let [m, n, k] = [3, 4, 5];
    let (x, w, dy) = (draw(m * k), draw(n * k), draw(m * n));
    let dx = twins::linear::matmul(Layout::Nn, &dy, &w, [m, k, n]);
    let patches = Patches { batch: 2, size: 5, patch: 2, width: 3 };
    let pixels = draw(2 * 3 * 25);
    let (kernel, dtokens) = (draw(3 * 12), draw(2 * 5 * 3));
    let zeros = vec![0.0; 15];
    let embed = |x: &[f64]| twins::linear::patch_embedding(x, &kernel, &zeros[..3], &zeros, patches);
    let dpixels = twins::linear::patch_embedding_backward(&dtokens, &kernel, patches);
    check_gradient("patch dx", embed, &pixels, &dtokens, &dpixels);
    check_gradient("gemm dx", |x| twins::linear::matmul(Layout::Nt, x, &w, [m, n, k]), &x, &dy, &dx);
    let dw = twins::linear::matmul(Layout::Tn, &dy, &x, [n, k, m]);
    check_gradient("gemm dw", |w| twins::linear::matmul(Layout::Nt, &x, w, [m, n, k]), &w, &dy, &dw);

    let width = 7;
    let (x, gain, shift, dy, eps) = (draw(3 * width), draw(width), draw(width), draw(3 * width), 1e-2);
    let norm = |x: &[f64]| twins::rowwise::layernorm(x, &gain, &shift, eps, Flaw::None).0;
    let dx = twins::rowwise::layernorm_backward(&x, &gain, &dy, eps, None);
    check_gradient("layernorm", norm, &x, &dy, &dx);
    // With `base` the gradient is that of x + layernorm(x), where base is the outer gradient.
    let dx = twins::rowwise::layernorm_backward(&x, &gain, &dy, eps, Some(&dy));
    let outer = |x: &[f64]| norm(x).iter().zip(x).map(|(y, x)| y + x).collect();
    check_gradient("layernorm with base", outer, &x, &dy, &dx);

    let dx = twins::rowwise::normalize_backward(&x, &dy, width, true);
    check_gradient("normalize", |x| twins::rowwise::normalize(x, width).0, &x, &dy, &dx);
    let dx = twins::rowwise::softmax_backward(&twins::rowwise::softmax(&x, width), &dy, width);
    check_gradient("softmax", |x| twins::rowwise::softmax(x, width), &x, &dy, &dx);
    let labels = [3, 0, 6];
    let dx = twins::rowwise::cross_entropy_backward(&x, &labels, width);
    let mean = |x: &[f64]| vec![twins::rowwise::cross_entropy(x, &labels, width).iter().sum::<f64>() / 3.0];
    check_gradient("cross-entropy", mean, &x, &[1.0], &dx);

    for causal in [false, true] {
        for prefix in [0, 2] {
            let ragged = Ragged { prefix, lens: vec![3, 1, 2], causal };
            let heads = Heads { count: 2, head: 3, unscaled: false };
            let (qkv, dy) = (draw(ragged.rows() * 3 * heads.width()), draw(ragged.rows() * heads.width()));
            let dx = twins::attention::backward(&qkv, &dy, &ragged, heads);
            let what = format!("attention {ragged:?}");
            check_gradient(&what, |x| twins::attention::forward(x, &ragged, heads).0, &qkv, &dy, &dx);
        }
    }

    let (keys, f) = (draw(4 * 3), draw(2 * 3));
    let (labels, dy) = ([0, 0, 1, 2], draw(2 * 3));
    let term = |keys: &[f64]| twins::cache::cache_term(&f, keys, &[0, 2, 3, 4], &[2.5], 1.5, 3);
    let dkeys = twins::cache::cache_backward(&f, &keys, &labels, 2.5, 1.5, &dy, 3);
    check_gradient("cache keys", term, &keys, &dy, &dkeys);

    let (rows, width, noisy) = (5, 3, 1..4);
    let (x, mean, spread, eps, dy) = (draw(rows * width), draw(9), draw(9), draw(9), draw(rows * width));
    let (dmean, dspread) = twins::noise::text_backward(&dy, noisy.clone(), &eps, width);
    let text = |mean: &[f64], spread: &[f64]| twins::noise::text(&x, noisy.clone(), mean, spread, &eps, width);
    check_gradient("text noise, mean", |m| text(m, &spread), &mean, &dy, &dmean);
    check_gradient("text noise, spread", |s| text(&mean, s), &spread, &dy, &dspread);

    let (rows, draws) = (3, 4);
    let (v, eps, dy) = (draw(rows * width), draw(rows * draws * width), draw(rows * draws * width));
    let (dmean, dspread) = twins::noise::image_backward(&dy, draws, &spread, &eps, width);
    let image = |mean: &[f64], spread: &[f64]| twins::noise::image(&v, draws, mean, spread, &eps, width, false);
    check_gradient("image noise, mean", |m| image(m, &spread), &mean, &dy, &dmean);
    check_gradient("image noise, spread", |s| image(&mean, s), &spread, &dy, &dspread);
}

// ---- GEMM and what goes with it ------------------------------------------------------------------------------------

#[test]
fn gemm_in_all_layouts_by_all_kernels_with_all_epilogues() {
    let mut random = Random::new(2);
    for [m, n, k] in [[1, 1, 1], [3, 5, 7], [9, 33, 4], [8, 32, 16], [65, 33, 17], [1, 150, 192], [70, 130, 129]] {
        let (a, b) = (random.vector(m * k), random.vector(n * k));
        let (bias, residual) = (random.vector(n), random.vector(m * n));
        let (a_t, b_t) = (widen::<Tracked>(&a), widen::<Tracked>(&b));
        let (bias_t, residual_t) = (widen::<Tracked>(&bias), widen::<Tracked>(&residual));
        let (bias_g, residual_g) = (up(&bias, &[n]), up(&residual, &[m, n]));
        for layout in Layout::ALL {
            let product = twins::linear::matmul(layout, &a_t, &b_t, [m, n, k]);
            let (a_shape, b_shape) = match layout {
                Layout::Nt => ([m, k], [n, k]),
                Layout::Nn => ([m, k], [k, n]),
                Layout::Tn => ([k, m], [k, n]),
            };
            let (a_g, b_g) = (up(&a, &a_shape), up(&b, &b_shape));
            let problem = gemm::Problem { layout, m, n, k, b: DType::F32 };
            // What the first kernel of an order gave, by epilogue.
            let mut first: HashMap<(gemm::Order, usize), Vec<u32>> = HashMap::new();
            for kernel in Kernel::ALL.into_iter().filter(|k| k.takes(gpu().capabilities(), &problem)) {
                for code in 0..16 {
                    // All kernels share one epilogue: all of its combinations by one kernel, each of its parts by all, and
                    // for gradients, which have hardly any, two. Compiling takes the time here.
                    let tested: &[usize] = match (kernel, layout) {
                        (Kernel::Rows, Layout::Nt) => &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
                        (_, Layout::Nt) => &[0, 5, 10, 15],
                        _ => &[0, 12],
                    };
                    if !tested.contains(&code) {
                        continue;
                    }
                    let activation = [None, Some(ACTIVATIONS[0]), Some(ACTIVATIONS[1]), Some(ACTIVATIONS[2])][code % 4];
                    let (with_bias, with_residual) = (code / 4 % 2 == 1, code / 8 == 1);
                    let alpha = if code % 2 == 0 { 1.0 } else { -0.7 };
                    let what = format!("{kernel:?} {layout:?} {m}×{n}×{k}, alpha {alpha}, epilogue {code}");
                    let epilogue = Epilogue {
                        alpha,
                        bias: with_bias.then_some(&bias_g),
                        activation,
                        residual: with_residual.then_some(&residual_g),
                    };
                    let got = run1(|rec| gemm::matmul_with(rec, kernel, layout, &a_g, &b_g, &epilogue));
                    let same = first.entry((kernel.order(), code)).or_insert_with(|| bits(&got));
                    assert_eq!(*same, bits(&got), "{what}: other bits than another kernel of its order");
                    let twin = |product: &[Tracked], alpha, bias, activation, residual| {
                        twins::linear::epilogue(product, alpha, bias, activation, residual)
                    };
                    let bias_t = with_bias.then_some(&bias_t[..]);
                    let residual_t = with_residual.then_some(&residual_t[..]);
                    check(&what, &got, &twin(&product, alpha, bias_t, activation, residual_t));

                    let rejects = |error: &str, wrong: &[Tracked]| check_rejects(&what, error, &got, wrong);
                    if alpha != 1.0 {
                        rejects("no alpha", &twin(&product, 1.0, bias_t, activation, residual_t));
                    }
                    if with_bias {
                        rejects("no bias", &twin(&product, alpha, None, activation, residual_t));
                    }
                    if with_residual {
                        rejects("no residual", &twin(&product, alpha, bias_t, activation, None));
                    }
                    // A positive number is its own ReLU, so one element may not tell.
                    if let Some(kind) = activation.filter(|a| *a != Activation::Relu || m * n > 10) {
                        rejects("no activation", &twin(&product, alpha, bias_t, None, residual_t));
                        let other = ACTIVATIONS.into_iter().find(|a| *a != kind);
                        rejects("the other activation", &twin(&product, alpha, bias_t, other, residual_t));
                        if with_residual {
                            // Residual before the activation instead of after it.
                            let early = twin(&product, alpha, bias_t, None, residual_t);
                            rejects("residual first", &twin(&early, 1.0, None, activation, None));
                        }
                    }
                }
                if k > 1 {
                    // The reduction stops one short: A's last column is zero.
                    let what = format!("{kernel:?} {layout:?} {m}×{n}×{k}");
                    let got = run1(|rec| gemm::matmul_with(rec, kernel, layout, &a_g, &b_g, &Epilogue::default()));
                    let mut short = a_t.clone();
                    for i in 0..m {
                        let last = if layout == Layout::Tn { (k - 1) * m + i } else { i * k + k - 1 };
                        short[last] = Tracked::of(0.0);
                    }
                    let wrong = twins::linear::matmul(layout, &short, &b_t, [m, n, k]);
                    check_rejects(&what, "k − 1 terms", &got, &wrong);
                }
            }
        }
    }
}

/// Frozen operands: f16 in buffers, whose rows are padded to whole words, and f32 and f16 in textures, whose rows are padded
/// to whole texels; f16 counts as the values that it holds.
#[test]
fn gemm_of_frozen_operands_by_all_kernels() {
    let mut random = Random::new(46);
    let caps = gpu().capabilities();
    let mut taken = 0;
    for [m, n, k] in [[3, 5, 7], [1, 33, 9], [17, 34, 6], [70, 130, 67]] {
        let (a, b) = (random.vector(m * k), random.vector(n * k));
        let (bias, residual) = (random.vector(n), random.vector(m * n));
        let (bias_t, residual_t) = (widen::<Tracked>(&bias), widen::<Tracked>(&residual));
        let half: Vec<half::f16> = b.iter().map(|v| half::f16::from_f32(*v)).collect();
        let rounded: Vec<f32> = half.iter().map(|v| v.to_f32()).collect();
        for layout in [Layout::Nt, Layout::Nn] {
            let shape = if layout == Layout::Nt { [n, k] } else { [k, n] };
            let stored = gpu().upload("test", &half, &shape).unwrap();
            assert_eq!(gpu().read::<half::f16>(&stored).unwrap(), half, "{shape:?}");
            let forms = [
                (stored, &rounded),
                (gpu().upload_texels("test", &b, shape).unwrap(), &b),
                (gpu().upload_texels("test", &half, shape).unwrap(), &rounded),
            ];
            // What the first kernel of an order gave, by whether B was rounded.
            let mut first: HashMap<(gemm::Order, bool), Vec<u32>> = HashMap::new();
            for (b_g, values) in forms {
                let problem = gemm::Problem { layout, m, n, k, b: b_g.dtype() };
                for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.takes(caps, &problem)) {
                    let what = format!("{kernel:?} {layout:?} {m}×{n}×{k}, B in {:?}", b_g.dtype());
                    let (bias_g, residual_g) = (up(&bias, &[n]), up(&residual, &[m, n]));
                    let epilogue = Epilogue {
                        alpha: 0.5,
                        bias: Some(&bias_g),
                        activation: Some(Activation::Gelu),
                        residual: Some(&residual_g),
                    };
                    // Matrix units that take f16 take A in it, too.
                    let halves = kernel == Kernel::Matrix && caps.matrices == Some(Matrices::Square16);
                    let taken_a: Vec<f32> =
                        if halves { a.iter().map(|v| half::f16::from_f32(*v).to_f32()).collect() } else { a.clone() };
                    let product = twins::linear::matmul(layout, &widen::<Tracked>(&taken_a), &widen(values), [m, n, k]);
                    let twin =
                        |bias, residual| twins::linear::epilogue(&product, 0.5, bias, Some(Activation::Gelu), residual);
                    let got = run1(|rec| gemm::matmul_with(rec, kernel, layout, &up(&a, &[m, k]), &b_g, &epilogue));
                    let same =
                        first.entry((kernel.order(), b_g.dtype() == DType::Texels)).or_insert_with(|| bits(&got));
                    assert_eq!(*same, bits(&got), "{what}: other bits than another kernel of its order");
                    check(&what, &got, &twin(Some(&bias_t[..]), Some(&residual_t[..])));
                    check_rejects(&what, "no bias", &got, &twin(None, Some(&residual_t[..])));
                    if b_g.dtype() != DType::Texels {
                        let whole = twins::linear::matmul(layout, &widen::<Tracked>(&taken_a), &widen(&b), [m, n, k]);
                        let (bias_t, residual_t) = (Some(&bias_t[..]), Some(&residual_t[..]));
                        let whole = twins::linear::epilogue(&whole, 0.5, bias_t, Some(Activation::Gelu), residual_t);
                        check_rejects(&what, "B not rounded", &got, &whole);
                    }
                    taken += 1;
                }
                // What no kernel takes is an error, not a wrong product.
                let refused = Kernel::ALL.into_iter().find(|kernel| !kernel.takes(caps, &problem)).unwrap();
                let mut rec = Recorder::new(gpu());
                let a_g = up(&a, &[m, k]);
                invalid("refused", gemm::matmul_with(&mut rec, refused, layout, &a_g, &b_g, &Epilogue::default()));
            }
        }
    }
    // Kernels of textures need subgroups of eight, and those of f16 in buffers some workgroup memory.
    let b = |b| gemm::Problem { layout: Layout::Nt, m: 1, n: 1, k: 1, b };
    let any = |dtype| Kernel::ALL.into_iter().any(|kernel| kernel.takes(caps, &b(dtype)));
    assert_eq!(taken > 0, any(DType::F16) || any(DType::Texels));
}

#[test]
fn gemm_folds_leading_dimensions() {
    let mut random = Random::new(3);
    let (a, b) = (random.vector(2 * 3 * 5), random.vector(4 * 5));
    let got = run1(|rec| gemm::matmul(rec, Layout::Nt, &up(&a, &[2, 3, 5]), &up(&b, &[4, 5]), &Epilogue::default()));
    check("folded", &got, &twins::linear::matmul(Layout::Nt, &widen(&a), &widen(&b), [6, 4, 5]));
}

#[test]
fn activations_and_their_slopes() {
    let mut random = Random::new(4);
    // Where they are not checked by differences: at its kink ReLU has slope 0, as PyTorch's.
    for kind in ACTIVATIONS {
        for n in [1, 64, 67, 1000] {
            let mut x = random.vector_in(n, -9.0, 9.0);
            // Where the pieces of erf meet, and where everything saturates.
            for (slot, v) in x.iter_mut().zip([0.0, 1.414, 1.4143, -5.656, 5.658, -40.0, 40.0, -1e4, 1e4, 1e-30]) {
                *slot = v;
            }
            let dy = random.vector(n);
            let (x_g, dy_g) = (up(&x, &[n]), up(&dy, &[n]));
            let [y, dx] =
                run(|rec| Ok([activation::forward(rec, kind, &x_g)?, activation::backward(rec, kind, &x_g, &dy_g)?]));
            let (x, dy) = (widen::<Tracked>(&x), widen::<Tracked>(&dy));
            let what = format!("{kind:?} {n}");
            check(&what, &y, &twins::linear::activation(kind, &x));
            check(&format!("{what} dx"), &dx, &twins::linear::activation_backward(kind, &x, &dy));
            if n > 64 {
                let other = ACTIVATIONS.into_iter().find(|a| *a != kind).unwrap();
                check_rejects(&what, "the other activation", &y, &twins::linear::activation(other, &x));
                let wrong = twins::linear::activation_backward(other, &x, &dy);
                check_rejects(&what, "the other slope", &dx, &wrong);
                let wrong: Vec<_> = dy.iter().zip(&y).map(|(d, y)| *d * Tracked::of(f64::from(*y))).collect();
                check_rejects(&what, "the value for the slope", &dx, &wrong);
            }
        }
    }
}

#[test]
fn convolutions_equal_their_definition() {
    let shape =
        |batch, size, input, output, side, stride, pad| Convolution { batch, size, input, output, side, stride, pad };
    with_and_without_features(|| {
        let mut random = Random::new(61);
        for s in [
            shape(1, 1, 1, 1, 1, 1, 0),
            shape(3, 5, 7, 6, 1, 1, 0),
            shape(2, 7, 3, 5, 3, 2, 1),
            shape(3, 8, 5, 4, 3, 1, 1),
            shape(2, 9, 2, 3, 5, 3, 2),
            shape(1, 6, 33, 17, 2, 1, 0),
        ] {
            let x = random.vector(s.batch * s.size * s.size * s.input);
            let w = random.vector(s.output * s.side * s.side * s.input);
            let window = Window { side: s.side, stride: s.stride, pad: s.pad };
            let weight = up(&w, &[s.output, s.side * s.side * s.input]);
            let last = up(&x, &[s.batch, s.size, s.size, s.input]);
            let planes = twins::conv::channels_first(&x, [s.batch, s.size * s.size, s.input]);
            let first = up(&planes, &[s.batch, s.input, s.size, s.size]);
            let want: Vec<Tracked> = twins::conv::convolution(&widen(&x), &widen(&w), s);
            for (order, pictures) in [(Order::ChannelsLast, &last), (Order::ChannelsFirst, &first)] {
                let what = format!("{s:?} {order:?}");
                let of = |images: std::ops::Range<usize>| {
                    run1(|rec| conv::forward(rec, pictures, (order, images), window, &weight, &Epilogue::default()))
                };
                let y = of(0..s.batch);
                check(&what, &y, &want);
                if s.batch > 1 {
                    // The same products of the last pictures alone, read from an offset; other tiles may sum otherwise.
                    check(&what, &of(1..s.batch), &want[want.len() / s.batch..]);
                }
                if s.side > 1 {
                    let mut turned = w.clone();
                    turned.chunks_exact_mut(s.side * s.side * s.input).for_each(|k| k.rotate_left(s.input));
                    let wrong: Vec<Tracked> = twins::conv::convolution(&widen(&x), &widen(&turned), s);
                    check_rejects(&what, "a window shifted by a column", &y, &wrong);
                }
            }
        }
    });
}

#[test]
fn pools_and_pool_tokens_equal_their_definitions() {
    let mut random = Random::new(62);
    for [batch, size, channels, side] in [[1, 1, 1, 1], [2, 7, 5, 2], [3, 6, 33, 3], [2, 4, 6, 4]] {
        let x = random.vector(batch * size * size * channels);
        let pictures = up(&x, &[batch, size, size, channels]);
        let y = run1(|rec| conv::pool(rec, &pictures, side));
        check("pool", &y, &twins::conv::pool(&widen(&x), [batch, size, channels, side]));
        let position = random.vector((size * size + 1) * channels);
        let at = up(&position, &[size * size + 1, channels]);
        let (plan, y) = plan_on(gpu(), |rec| {
            let y = rec.temp("tokens", &[batch, size * size + 1, channels])?;
            // In two parts, as a tower with a bounded number of pictures at a time writes them.
            for first in [0, batch / 2] {
                let n = if first == 0 { (batch / 2).max(1) } else { batch - first };
                let part =
                    up(&x[first * size * size * channels..][..n * size * size * channels], &[n, size, size, channels]);
                conv::tokens(rec, &part, &at, &y, first)?;
            }
            Ok(y)
        });
        plan.run().unwrap();
        let y = gpu().read::<f32>(&y).unwrap();
        let shape = [batch, size * size, channels];
        check("tokens", &y, &twins::conv::tokens(&widen(&x), &widen(&position), shape));
        if size > 1 {
            let mut moved = position.clone();
            moved.rotate_left(channels);
            check_rejects(
                "tokens",
                "positions off by one",
                &y,
                &twins::conv::tokens(&widen(&x), &widen(&moved), shape),
            );
        }
    }
    let x = up(&[0.0; 24], &[2, 2, 2, 3]);
    let mut rec = Recorder::new(gpu());
    assert!(conv::pool(&mut rec, &x, 3).is_err() && conv::pool(&mut rec, &x, 0).is_err());
    let window = Window { side: 3, stride: 1, pad: 0 };
    let weight = up(&[0.0; 27], &[1, 27]);
    let order = Order::ChannelsLast;
    assert!(conv::forward(&mut rec, &x, (order, 0..2), window, &weight, &Epilogue::default()).is_err(), "too small");
    let padded = Window { pad: 1, ..window };
    assert!(conv::forward(&mut rec, &x, (order, 0..3), padded, &weight, &Epilogue::default()).is_err(), "too many");
    assert!(conv::forward(&mut rec, &x, (order, 0..2), padded, &weight, &Epilogue::default()).is_ok());
}

#[test]
fn patch_embedding_is_the_strided_convolution() {
    let mut random = Random::new(5);
    for s in [
        Patches { batch: 1, size: 1, patch: 1, width: 1 },
        Patches { batch: 3, size: 12, patch: 4, width: 5 },
        Patches { batch: 2, size: 17, patch: 5, width: 33 }, // two rows and columns of pixels left over
        Patches { batch: 2, size: 9, patch: 5, width: 12 },
    ] {
        let pixels = random.vector(s.batch * 3 * s.size * s.size);
        let weight = random.vector(s.width * 3 * s.patch * s.patch);
        let (class, position) = (random.vector(s.width), random.vector(s.tokens() * s.width));
        let embedding = patch::PatchEmbedding {
            weight: up(&weight, &[s.width, 3 * s.patch * s.patch]),
            class: up(&class, &[s.width]),
            position: up(&position, &[s.tokens(), s.width]),
            patch: s.patch,
        };
        let got = run1(|rec| patch::forward(rec, &up(&pixels, &[s.batch, 3, s.size, s.size]), &embedding));
        let (pixels, weight) = (widen::<Tracked>(&pixels), widen::<Tracked>(&weight));
        let (class, position) = (widen::<Tracked>(&class), widen::<Tracked>(&position));
        let what = format!("patches {s:?}");
        let dy = random.vector(s.batch * s.tokens() * s.width);
        let dy_g = up(&dy, &[s.batch, s.tokens(), s.width]);
        let dpixels = run1(|rec| patch::backward(rec, &dy_g, &embedding, s.size));
        let dy = widen::<Tracked>(&dy);
        check(&format!("{what} dx"), &dpixels, &twins::linear::patch_embedding_backward(&dy, &weight, s));
        if s.patch > 1 && s.grid() > 1 {
            let turned: Vec<_> =
                weight.chunks(s.patch * s.patch).flat_map(|w| twins::linear::transpose(w, s.patch)).collect();
            let wrong = twins::linear::patch_embedding_backward(&dy, &turned, s);
            check_rejects(&format!("{what} dx"), "rows for columns", &dpixels, &wrong);
        }
        check(&what, &got, &twins::linear::patch_embedding(&pixels, &weight, &class, &position, s));

        let nowhere = vec![Tracked::of(0.0); position.len()];
        let wrong = twins::linear::patch_embedding(&pixels, &weight, &class, &nowhere, s);
        check_rejects(&what, "no positions", &got, &wrong);
        if s.patch > 1 {
            let turned: Vec<_> =
                weight.chunks(s.patch * s.patch).flat_map(|w| twins::linear::transpose(w, s.patch)).collect();
            let wrong = twins::linear::patch_embedding(&pixels, &turned, &class, &position, s);
            check_rejects(&what, "rows for columns", &got, &wrong);
        }
    }
}

#[test]
fn reductions() {
    let mut random = Random::new(6);
    for [groups, terms, width] in [[1, 1, 1], [3, 33, 5], [5, 2, 67], [2, 150, 12], [33, 7, 192]] {
        let x = random.vector(groups * terms * width);
        let x_g = up(&x, &[groups, terms, width]);
        let rows = groups * terms;
        let [middle, first, sum] = run(|rec| {
            Ok([
                reduce::mean_middle(rec, &x_g)?,
                reduce::mean_first(rec, &x_g)?,
                reduce::sum_rows(rec, &x_g.reshape(&[rows, width])?)?,
            ])
        });
        let x = widen::<Tracked>(&x);
        let what = format!("reduce {groups}×{terms}×{width}");
        check(&what, &middle, &twins::linear::reduce(&x, [groups, terms, width], true));
        check(&what, &first, &twins::linear::reduce(&x, [1, groups, terms * width], true));
        check(&what, &sum, &twins::linear::reduce(&x, [1, rows, width], false));
        if terms > 1 {
            let wrong = twins::linear::reduce(&x, [groups, terms, width], false);
            check_rejects(&what, "a sum for the mean", &middle, &wrong);
            check_rejects(&what, "a mean for the sum", &sum, &twins::linear::reduce(&x, [1, rows, width], true));
        }
    }
    let x = random.vector(9);
    let got = run1(|rec| reduce::mean_first(rec, &up(&x, &[9])));
    check("mean of a vector", &got, &twins::linear::reduce(&widen(&x), [1, 9, 1], true));
}

#[test]
fn gather_picks_rows_and_its_inverse_puts_them_back() {
    let mut random = Random::new(7);
    for (rows, width) in [(1, 1), (3, 5), (33, 12), (67, 150)] {
        let x = random.vector(rows * width);
        let mut index: Vec<u32> = random.labels(rows + 2, rows);
        index[1] = gather::NONE;
        let got = run1(|rec| gather::rows(rec, &up(&x, &[rows, width]), &up_u32(&index)));
        let want = twins::linear::gather(&x, &index, width);
        assert_eq!(bits(&got), bits(&want), "{rows}×{width}");
        let mut wrong = index.clone();
        wrong[0] = gather::NONE;
        assert_ne!(bits(&got), bits(&twins::linear::gather(&x, &wrong, width)), "a planted index passed");

        // Each row picked once at most: the gradient of picking is a gather by the inverse.
        let picked: Vec<u32> = (0..rows as u32).rev().step_by(2).collect();
        let back = gather::inverse(&picked, rows);
        let dy = random.vector(picked.len() * width);
        let dx = run1(|rec| gather::rows(rec, &up(&dy, &[picked.len(), width]), &up_u32(&back)));
        let mut want = vec![0.0; rows * width];
        for (row, dy) in picked.iter().zip(dy.chunks(width)) {
            want[*row as usize * width..][..width].copy_from_slice(dy);
        }
        assert_eq!(bits(&dx), bits(&want), "back, {rows}×{width}");
    }
}

// ---- Rows ----------------------------------------------------------------------------------------------------------

const ROWS: [usize; 4] = [1, 3, 33, 67];
const WIDTHS: [usize; 7] = [1, 5, 12, 33, 64, 150, 192];

#[test]
fn layernorm_forward_and_backward() {
    with_and_without_features(|| {
        let mut random = Random::new(8);
        let eps = 1e-5;
        for rows in ROWS {
            for width in WIDTHS {
                // Ordinary rows, rows so flat that eps decides, and rows far from zero.
                for (size, offset) in [(1.0, 0.0), (1e-3, 0.0), (1.0, 300.0)] {
                    if width == 1 && offset != 0.0 {
                        continue; // nothing but the mean's rounding error would be compared
                    }
                    let x: Vec<f32> =
                        random.vector(rows * width).iter().map(|v| (f64::from(*v) * size + offset) as f32).collect();
                    let (gain, shift) = (random.vector_in(width, 0.5, 1.5), random.vector(width));
                    let (dy, base) = (random.vector(rows * width), random.vector(rows * width));
                    let shape = [rows, width];
                    let (x_g, gain_g, shift_g) = (up(&x, &shape), up(&gain, &[width]), up(&shift, &[width]));
                    let (dy_g, base_g) = (up(&dy, &shape), up(&base, &shape));
                    let [y, stats, dx, based] = run(|rec| {
                        let n = layernorm::forward(rec, &x_g, &gain_g, &shift_g, eps)?;
                        let dx = layernorm::backward(rec, &x_g, &n.stats, &gain_g, &dy_g, None)?;
                        let based = layernorm::backward(rec, &x_g, &n.stats, &gain_g, &dy_g, Some(&base_g))?;
                        Ok([n.y, n.stats, dx, based])
                    });
                    let (x, gain, shift) = (widen::<Tracked>(&x), widen(&gain), widen(&shift));
                    let (dy, base) = (widen(&dy), widen::<Tracked>(&base));
                    let what = format!("layernorm {rows}×{width}, ±{size} around {offset}");
                    let (y_t, stats_t) = twins::rowwise::layernorm(&x, &gain, &shift, eps, Flaw::None);
                    check(&what, &y, &y_t);
                    check(&format!("{what} stats"), &stats, &stats_t);
                    if gpu().capabilities().subgroups_of(8) {
                        // Texels cannot be read back; times the identity, exactly, they are numbers in a buffer.
                        let identity: Vec<f32> =
                            (0..width * width).map(|i| f32::from(u8::from(i / width == i % width))).collect();
                        let identity = up(&identity, &[width, width]);
                        let [y, stats] = run(|rec| {
                            let n = layernorm::forward_texels(rec, &x_g, &gain_g, &shift_g, eps)?;
                            let one = Epilogue::default();
                            let y = gemm::matmul_with(rec, Kernel::Texel, Layout::Nt, &n.y, &identity, &one)?;
                            Ok([y, n.stats])
                        });
                        check(&format!("{what} as texels"), &y, &y_t);
                        check(&format!("{what} stats beside texels"), &stats, &stats_t);
                        if width > 1 {
                            let wrong = twins::rowwise::layernorm(&x, &gain, &shift, eps, Flaw::Sample).0;
                            check_rejects(&format!("{what} as texels"), "variance over n − 1", &y, &wrong);
                        }
                    }
                    let dx_t = twins::rowwise::layernorm_backward(&x, &gain, &dy, eps, None);
                    check(&format!("{what} dx"), &dx, &dx_t);
                    let based_t = twins::rowwise::layernorm_backward(&x, &gain, &dy, eps, Some(&base));
                    check(&format!("{what} dx with base"), &based, &based_t);

                    if width > 1 {
                        check_rejects(&what, "no base", &based, &dx_t);
                        let wrong = twins::rowwise::layernorm(&x, &gain, &shift, eps, Flaw::Sample).0;
                        check_rejects(&what, "variance over n − 1", &y, &wrong);
                        if size < 1.0 {
                            let wrong = twins::rowwise::layernorm(&x, &gain, &shift, eps, Flaw::NoEps).0;
                            check_rejects(&what, "no eps", &y, &wrong);
                            let wrong = twins::rowwise::layernorm_backward(&x, &gain, &dy, 0.0, None);
                            check_rejects(&what, "no eps in dx", &dx, &wrong);
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn normalize_forward_and_backward() {
    with_and_without_features(|| {
        let mut random = Random::new(9);
        for rows in ROWS {
            for width in WIDTHS {
                let mut x = random.vector_in(rows * width, -3.0, 5.0);
                let dy = random.vector(rows * width);
                if rows > 1 {
                    x[width..2 * width].fill(0.0);
                }
                let shape = [rows, width];
                let (x_g, dy_g) = (up(&x, &shape), up(&dy, &shape));
                let [y, norms, dx] = run(|rec| {
                    let n = normalize::forward(rec, &x_g)?;
                    let dx = normalize::backward(rec, &x_g, &n.norms, &dy_g)?;
                    Ok([n.y, n.norms, dx])
                });
                let (x, dy) = (widen::<Tracked>(&x), widen::<Tracked>(&dy));
                let what = format!("normalize {rows}×{width}");
                let (y_t, norms_t) = twins::rowwise::normalize(&x, width);
                check(&what, &y, &y_t);
                check(&format!("{what} norms"), &norms, &norms_t);
                let dx_t = twins::rowwise::normalize_backward(&x, &dy, width, true);
                if rows > 1 {
                    assert!(y[width..2 * width].iter().all(|v| *v == 0.0), "{what}: a row of zeros stays zero");
                    // That row's gradient is dy/1e-12; it must not hide the others in `check`'s look at the bounds.
                    let rest = 2 * width..;
                    let (got, want) = (&dx[rest.clone()], &dx_t[rest]);
                    assert_close(&format!("{what} dx"), got, &values(want), &tolerance(want));
                    check(&format!("{what} dx of the zero row"), &dx[width..2 * width], &dx_t[width..2 * width]);
                }
                if width == 1 {
                    // The true gradient is 0, so that bounds cannot be measured by it.
                    assert_close(&what, &dx[..1], &values(&dx_t[..1]), &tolerance(&dx_t[..1]));
                } else {
                    check(&format!("{what} dx"), &dx[..width], &dx_t[..width]);
                    let wrong = twins::rowwise::normalize_backward(&x, &dy, width, false);
                    check_rejects(&what, "length taken as constant", &dx[..width], &wrong[..width]);
                }
            }
        }
    });
}

#[test]
fn softmax_forward_and_backward() {
    with_and_without_features(|| {
        let mut random = Random::new(10);
        for rows in ROWS {
            for width in WIDTHS {
                for size in [2.0, 1e4] {
                    let x = random.vector_in(rows * width, -size, size);
                    let dy = random.vector(rows * width);
                    let shape = [rows, width];
                    let (x_g, dy_g) = (up(&x, &shape), up(&dy, &shape));
                    let [y, dx] = run(|rec| {
                        let y = softmax::forward(rec, &x_g)?;
                        let dx = softmax::backward(rec, &y, &dy_g)?;
                        Ok([y, dx])
                    });
                    let what = format!("softmax {rows}×{width}, ±{size}");
                    let y_t = twins::rowwise::softmax(&widen::<Tracked>(&x), width);
                    check(&what, &y, &y_t);
                    // Backward from the softmax that the kernel was given.
                    let (y_f, dy) = (widen::<Tracked>(&y), widen::<Tracked>(&dy));
                    check(&format!("{what} dx"), &dx, &twins::rowwise::softmax_backward(&y_f, &dy, width));
                    if width == 1 {
                        assert!(y.iter().all(|v| *v == 1.0), "{what}");
                    } else if size < 10.0 {
                        let wrong: Vec<_> = y_f.iter().zip(&dy).map(|(y, d)| *y * *d).collect();
                        check_rejects(&what, "no mean in dx", &dx, &wrong);
                        let doubled: Vec<Tracked> = x.iter().map(|v| Tracked::of(2.0 * f64::from(*v))).collect();
                        check_rejects(&what, "another temperature", &y, &twins::rowwise::softmax(&doubled, width));
                    }
                }
            }
        }
    });
}

#[test]
fn cross_entropy_and_its_gradient() {
    with_and_without_features(|| {
        let mut random = Random::new(11);
        for rows in ROWS {
            for classes in WIDTHS {
                for size in [3.0, 1e4] {
                    let logits = random.vector_in(rows * classes, -size, size);
                    let labels = random.labels(rows, classes);
                    let (x_g, labels_g) = (up(&logits, &[rows, classes]), up_u32(&labels));
                    let [losses, grad] = run(|rec| {
                        let ce = loss::cross_entropy(rec, &x_g, &labels_g)?;
                        Ok([ce.losses, ce.grad])
                    });
                    let x = widen::<Tracked>(&logits);
                    let what = format!("cross-entropy {rows}×{classes}, ±{size}");
                    check(&what, &losses, &twins::rowwise::cross_entropy(&x, &labels, classes));
                    let grad_t = twins::rowwise::cross_entropy_backward(&x, &labels, classes);
                    check(&format!("{what} dx"), &grad, &grad_t);
                    if classes == 1 {
                        assert!(losses.iter().chain(&grad).all(|v| *v == 0.0), "{what}: one class is certain");
                    } else {
                        let other: Vec<u32> = labels.iter().map(|l| (l + 1) % classes as u32).collect();
                        let wrong = twins::rowwise::cross_entropy(&x, &other, classes);
                        check_rejects(&what, "another label", &losses, &wrong);
                        let wrong = twins::rowwise::cross_entropy_backward(&x, &other, classes);
                        check_rejects(&what, "another label in dx", &grad, &wrong);
                        if rows > 1 && size < 10.0 {
                            let sum: Vec<_> = grad_t.iter().map(|v| *v * Tracked::of(rows as f64)).collect();
                            check_rejects(&what, "the sum's gradient", &grad, &sum);
                        }
                    }
                }
            }
        }
    });
}

/// More rows, and more elements, than one dimension of a dispatch takes.
#[test]
fn grids_past_one_dimension() {
    let (rows, width) = (70_001, 3);
    let x = Random::new(12).vector(rows * width);
    let got = run1(|rec| softmax::forward(rec, &up(&x, &[rows, width])));
    check("70001 rows", &got, &twins::rowwise::softmax(&widen::<Tracked>(&x), width));
    let n = 65_535 * 64 + 4_097;
    let x: Vec<f32> = (0..n).map(|i| (i % 1000) as f32 * 0.01 - 5.0).collect();
    let got = run1(|rec| activation::forward(rec, Activation::QuickGelu, &up(&x, &[n])));
    let want = twins::linear::activation(Activation::QuickGelu, &widen::<Tracked>(&x[..1000]));
    for (i, part) in got.chunks(1000).enumerate().filter(|(i, _)| i % 500 == 0 || *i >= n / 1000 - 1) {
        check(&format!("elements from {}", i * 1000), part, &want[..part.len()]);
    }
    assert!(got.iter().enumerate().all(|(i, v)| v.to_bits() == got[i % 1000].to_bits()));
}

// ---- Attention -----------------------------------------------------------------------------------------------------

fn pattern(r: &Ragged, kernel: attention::Kernel) -> Pattern {
    let prefix = (r.prefix > 0).then_some(Span { start: 0, len: r.prefix });
    let mut start = r.prefix;
    let spans: Vec<Span> = r
        .lens
        .iter()
        .map(|len| {
            start += len;
            Span { start: start - len, len: *len }
        })
        .collect();
    let pattern = Pattern::with_kernel(gpu(), kernel, prefix, &spans, r.causal).unwrap();
    assert_eq!(pattern.rows(), r.rows());
    pattern
}

/// All kernels that run here, whichever this adapter would take.
fn attention_case(random: &mut Random, ragged: &Ragged, heads: Heads, size: f64) {
    for kernel in attention::Kernel::ALL.into_iter().filter(|k| k.runs_on(gpu().capabilities())) {
        attention_case_by(random, ragged, heads, size, kernel);
    }
}

fn attention_case_by(random: &mut Random, ragged: &Ragged, heads: Heads, size: f64, kernel: attention::Kernel) {
    let (rows, width) = (ragged.rows(), heads.width());
    let what = format!("attention {ragged:?}, {} heads of {}, ±{size}, by {kernel:?}", heads.count, heads.head);
    let (qkv, dy) = (random.vector_in(rows * 3 * width, -size, size), random.vector(rows * width));
    let (qkv_g, dy_g, pattern) = (up(&qkv, &[rows, 3 * width]), up(&dy, &[rows, width]), pattern(ragged, kernel));
    let [y, lse, weights, dqkv] = run(|rec| {
        let out = attention::forward(rec, &qkv_g, &pattern, heads.count)?;
        let weights = attention::weights(rec, &qkv_g, &out.lse, &pattern, heads.count)?;
        let dqkv = attention::backward(rec, &qkv_g, &out, &dy_g, &pattern, heads.count)?;
        Ok([out.y, out.lse, weights, dqkv])
    });
    let (qkv, dy) = (widen::<Tracked>(&qkv), widen::<Tracked>(&dy));
    let (y_t, lse_t) = twins::attention::forward(&qkv, ragged, heads);
    check(&what, &y, &y_t);
    check(&format!("{what} lse"), &lse, &lse_t);
    check(&format!("{what} weights"), &weights, &twins::attention::weights(&qkv, ragged, heads));
    check(&format!("{what} dqkv"), &dqkv, &twins::attention::backward(&qkv, &dy, ragged, heads));

    let longest = ragged.lens.iter().copied().max().unwrap_or(0);
    let rejects = |error: &str, ragged: &Ragged, heads: Heads| {
        check_rejects(&what, error, &y, &twins::attention::forward(&qkv, ragged, heads).0);
        let wrong = twins::attention::backward(&qkv, &dy, ragged, heads);
        check_rejects(&format!("{what} dqkv"), error, &dqkv, &wrong);
    };
    if longest > 2 {
        rejects("the other mask", &Ragged { causal: !ragged.causal, ..ragged.clone() }, heads);
        if heads.head > 1 {
            rejects("no scale", ragged, Heads { unscaled: true, ..heads });
        }
        if ragged.prefix > 0 {
            // The prefix's rows as a sequence that nobody else sees.
            let lens = [&[ragged.prefix], &ragged.lens[..]].concat();
            rejects("no prefix", &Ragged { prefix: 0, lens, ..ragged.clone() }, heads);
        }
        if ragged.lens.len() > 1 {
            let lens = vec![ragged.lens.iter().sum()];
            rejects("sequences that see each other", &Ragged { lens, ..ragged.clone() }, heads);
        }
    }
}

#[test]
fn attention_forward_weights_and_backward() {
    let mut random = Random::new(13);
    for (count, head) in [(1, 1), (3, 12), (2, 16), (1, 33), (3, 64), (2, 80)] {
        let heads = Heads { count, head, unscaled: false };
        for causal in [false, true] {
            for prefix in [0, 5] {
                let ragged = Ragged { prefix, lens: vec![7, 1, 33, 2], causal };
                attention_case(&mut random, &ragged, heads, 1.0);
            }
        }
    }
    let heads = Heads { count: 2, head: 12, unscaled: false };
    for causal in [false, true] {
        for (prefix, lens) in [
            (0, vec![1]),
            (0, vec![70]),
            (0, vec![32, 64, 65, 31]),
            (40, vec![3, 70, 1, 35]),
            (1, vec![1, 1]),
            (64, vec![5, 5, 5]),
            (3, vec![]),
        ] {
            attention_case(&mut random, &Ragged { prefix, lens, causal }, heads, 1.0);
        }
        // Scores up to ±40: the running maximum has to move.
        attention_case(&mut random, &Ragged { prefix: 4, lens: vec![9, 40], causal }, heads, 6.0);
    }
}

#[test]
fn uniform_patterns_are_equal_spans() {
    let mut random = Random::new(14);
    let (batch, tokens, heads) = (3, 17, 2);
    let qkv = up(&random.vector(batch * tokens * 3 * 24), &[batch * tokens, 72]);
    for causal in [false, true] {
        let uniform = Pattern::uniform(gpu(), batch, tokens, causal).unwrap();
        let kernel = attention::Kernel::select(gpu().capabilities(), batch * tokens);
        let spans = pattern(&Ragged { prefix: 0, lens: vec![tokens; batch], causal }, kernel);
        let [a, b] = run(|rec| {
            Ok([attention::forward(rec, &qkv, &uniform, heads)?.y, attention::forward(rec, &qkv, &spans, heads)?.y])
        });
        assert_eq!(bits(&a), bits(&b));
    }
}

// ---- Peaks ---------------------------------------------------------------------------------------------------------

#[test]
fn the_peaks_kernels_do_all_their_work() {
    let x = Random::new(47).vector(4 * 131);
    let x_g = up(&x, &[131, 4]);
    assert_eq!(bits(&run1(|rec| peak::copy(rec, &x_g))), bits(&x));
    // Were steps left out, a rate measured with them would be too good.
    let twin = |i: usize, steps: usize| -> f64 {
        let (factor, s) = (f64::from(0.999f32), i as f64 * 1e-9);
        let chain = |start: f64| (0..2 * steps).fold(start, |v, _| v * factor + s);
        (0..8).map(|c| chain(s + f64::from(c))).sum()
    };
    for steps in [1, 7] {
        let got = run1(|rec| peak::multiply(rec, 67, steps));
        let close = |steps| {
            got.chunks(4).enumerate().all(|(i, y)| y.iter().all(|v| (f64::from(*v) - twin(i, steps)).abs() < 1e-4))
        };
        assert!(close(steps), "{steps} steps: {:?}, not {}", &got[..4], twin(0, steps));
        assert!(!close(steps + 1) && !close(steps - 1), "{steps} steps look like another number of them");
    }
}

// ---- Noise ---------------------------------------------------------------------------------------------------------

fn normals(draw: Draw, n: usize) -> Vec<f32> {
    let counter = up_u32(&[draw.seed as u32, (draw.seed >> 32) as u32, draw.step, 0]);
    let out = gpu().empty("noise", &[n], DType::F32).unwrap();
    let (plan, ()) = plan_on(gpu(), |rec| noise::normal(rec, &counter, draw.stream, &out));
    plan.run().unwrap();
    gpu().read(&out).unwrap()
}

#[test]
fn philox_gives_the_published_numbers() {
    // kat_vectors of Random123, philox4x32 with 10 rounds.
    for (counter, key, want) in [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ] {
        assert_eq!(twins::noise::philox(counter, key), want);
    }
}

#[test]
fn normals_are_those_of_the_counter() {
    for (n, draw) in [
        (1, Draw { seed: 0, step: 0, stream: 0 }),
        (5, Draw { seed: 7, step: 1, stream: 2 }),
        (1030, Draw { seed: 0x243f_6a88_85a3_08d3, step: u32::MAX, stream: 3 }),
        (20_003, Draw { seed: u64::MAX, step: 12, stream: 0xdead_beef }),
    ] {
        let got = normals(draw, n);
        let what = format!("normal {n} of {draw:?}");
        assert_eq!(bits(&got), bits(&twins::noise::exact_normal(draw, n)), "{what}: the same bits on every device");
        check(&what, &got, &twins::noise::normal(draw, n, false));
        check_rejects(&what, "sine for cosine", &got, &twins::noise::normal(draw, n, true));
        let later = Draw { step: draw.step.wrapping_add(1), ..draw };
        check_rejects(&what, "the next step", &got, &twins::noise::normal(later, n, false));

        assert_eq!(bits(&got), bits(&normals(draw, n)), "{what}: the same counter, the same bits");
        let others = [
            later,
            Draw { stream: draw.stream.wrapping_add(1), ..draw },
            Draw { seed: draw.seed ^ 1, ..draw },
            Draw { seed: draw.seed ^ 1 << 32, ..draw },
        ];
        for other in others {
            assert_ne!(bits(&got), bits(&normals(other, n)), "{what} is that of {other:?}");
        }
    }
}

/// Radii and angles of all words: the shader's polynomials, in the whole numbers that it computes with.
#[test]
fn radii_and_angles_of_all_words_are_within_their_bounds() {
    use rayon::prelude::*;
    let units = 1u32 << 24;
    // Half a unit of 24 bits, and what the polynomials and a root of 25 bits add.
    let bound = 2f64.powi(-24) * 1.51;
    let near = |got: f64, want: f64| (got - want).abs() <= bound * want.abs();
    (0..units).into_par_iter().for_each(|word| {
        let unit = (f64::from(word) + 1.0) / f64::from(units);
        let radius = twins::noise::scaled_value(twins::noise::exact_radius(word << 8));
        assert!(near(radius, (-2.0 * unit.ln()).sqrt()), "radius of {unit}: {radius}");
        if word < units / 4 {
            let x = u64::from(word) + 1;
            let sine = twins::noise::scaled_value(twins::noise::exact_sine(x));
            let want = (std::f64::consts::FRAC_PI_2 * x as f64 / (1u64 << 22) as f64).sin();
            assert!(near(sine, want), "sine of {x}: {sine}, not {want}");
        }
    });
    // The quarters of a turn.
    for word in (0..units).step_by(4097).chain(units - 1..units).chain((0..4).map(|q| (q + 1) * (units / 4) - 1)) {
        let angle = std::f64::consts::TAU * (f64::from(word) + 1.0) / f64::from(units);
        let got = twins::noise::exact_direction(word << 8);
        for ((size, negative), want) in got.into_iter().zip([angle.cos(), angle.sin()]) {
            let size = twins::noise::scaled_value(size);
            let value = if negative { -size } else { size };
            // TAU is not quite a turn, so that what should be 0 is not.
            assert!(near(value, want) || (value - want).abs() < 1e-14, "direction of {angle}: {value}, not {want}");
        }
    }
}

#[test]
fn normals_are_normal() {
    let n = 1 << 20;
    let x = normals(Draw { seed: 5, step: 6, stream: 7 }, n);
    assert!(x.iter().all(|v| v.is_finite() && v.abs() < 5.8), "within what 24 bits allow");
    let moment = |p: i32| x.iter().map(|v| f64::from(*v).powi(p)).sum::<f64>() / n as f64;
    // Five standard deviations of each estimate.
    let within = |what: &str, got: f64, want: f64, variance: f64| {
        let tol = 5.0 * (variance / n as f64).sqrt();
        assert!((got - want).abs() < tol, "{what}: {got}, expected {want} ± {tol}");
    };
    within("mean", moment(1), 0.0, 1.0);
    within("variance", moment(2), 1.0, 2.0);
    within("third moment", moment(3), 0.0, 15.0);
    within("fourth moment", moment(4), 3.0, 96.0);
    for lag in [1, 2, 4] {
        let together = x.windows(lag + 1).map(|w| f64::from(w[0]) * f64::from(w[lag])).sum::<f64>() / n as f64;
        within("autocorrelation", together, 0.0, 1.0);
    }
}

#[test]
fn text_noise() {
    let mut random = Random::new(15);
    for (rows, noisy, width) in [(1, 0..1, 1), (5, 1..4, 3), (67, 30..67, 33), (33, 0..3, 192)] {
        let (x, dy) = (random.vector(rows * width), random.vector(rows * width));
        let n = noisy.len() * width;
        let (mean, spread, eps) = (random.vector(n), random.vector(n), random.vector(n));
        let part = [noisy.len(), width];
        let (x_g, dy_g) = (up(&x, &[rows, width]), up(&dy, &[rows, width]));
        let (mean_g, spread_g, eps_g) = (up(&mean, &part), up(&spread, &part), up(&eps, &part));
        let [y, dmean, dspread] = run(|rec| {
            let y = noise::text_apply(rec, &x_g, noisy.clone(), &mean_g, &spread_g, &eps_g)?;
            let (dmean, dspread) = noise::text_backward(rec, &dy_g, noisy.clone(), &eps_g)?;
            Ok([y, dmean, dspread])
        });
        let (x, dy) = (widen::<Tracked>(&x), widen::<Tracked>(&dy));
        let (mean, spread, eps) = (widen(&mean), widen(&spread), widen::<Tracked>(&eps));
        let what = format!("text noise {noisy:?} of {rows}×{width}");
        check(&what, &y, &twins::noise::text(&x, noisy.clone(), &mean, &spread, &eps, width));
        let (dmean_t, dspread_t) = twins::noise::text_backward(&dy, noisy.clone(), &eps, width);
        check(&format!("{what} dmean"), &dmean, &dmean_t);
        check(&format!("{what} dspread"), &dspread, &dspread_t);

        let absolute: Vec<_> = spread.iter().map(|s| s.abs()).collect();
        if n > 3 {
            let wrong = twins::noise::text(&x, noisy.clone(), &mean, &absolute, &eps, width);
            check_rejects(&what, "|spread|", &y, &wrong);
        }
        check_rejects(&what, "dmean for dspread", &dspread, &dmean_t);
        check_rejects(&what, "no noise", &y, &x);
    }
}

#[test]
fn image_noise() {
    let mut random = Random::new(16);
    for (rows, draws, width) in [(1, 1, 1), (3, 4, 5), (33, 7, 12), (5, 2, 150)] {
        let v = random.vector(rows * width);
        let (mean, mut spread) = (random.vector(rows * width), random.vector(rows * width));
        spread[0] = -0.4;
        if rows > 1 {
            spread[1] = 0.0;
            spread[2] = -0.0;
        }
        let n = rows * draws;
        let (eps, dy) = (random.vector_in(n * width, 0.1, 2.0), random.vector(n * width));
        let shape = [rows, width];
        let (v_g, mean_g, spread_g) = (up(&v, &shape), up(&mean, &shape), up(&spread, &shape));
        let (eps_g, dy_g) = (up(&eps, &[n, width]), up(&dy, &[n, width]));
        let [y, dmean, dspread] = run(|rec| {
            let y = noise::image_apply(rec, &v_g, draws, &mean_g, &spread_g, &eps_g)?;
            let (dmean, dspread) = noise::image_backward(rec, &dy_g, draws, &spread_g, &eps_g)?;
            Ok([y, dmean, dspread])
        });
        let (v, mean, spread) = (widen::<Tracked>(&v), widen::<Tracked>(&mean), widen::<Tracked>(&spread));
        let (eps, dy) = (widen::<Tracked>(&eps), widen::<Tracked>(&dy));
        let what = format!("image noise {rows}·{draws}×{width}");
        check(&what, &y, &twins::noise::image(&v, draws, &mean, &spread, &eps, width, false));
        let (dmean_t, dspread_t) = twins::noise::image_backward(&dy, draws, &spread, &eps, width);
        check(&format!("{what} dmean"), &dmean, &dmean_t);
        check(&format!("{what} dspread"), &dspread, &dspread_t);
        if rows > 1 {
            assert!(dspread[1] == 0.0 && dspread[2] == 0.0, "{what}: |0| has slope 0");
        }
        let wrong = twins::noise::image(&v, draws, &mean, &spread, &eps, width, true);
        check_rejects(&what, "spread with its sign", &y, &wrong);
        let absolute: Vec<_> = spread.iter().map(|s| s.abs()).collect();
        let wrong = twins::noise::image_backward(&dy, draws, &absolute, &eps, width).1;
        check_rejects(&what, "no sign in dspread", &dspread, &wrong);
    }
}

// ---- Training and search -------------------------------------------------------------------------------------------

#[test]
fn sgd_over_several_steps() {
    let mut random = Random::new(17);
    for n in [1, 67, 1000] {
        let options = [
            Sgd { lr: 0.1, momentum: 0.9, decay: 5e-2 },
            Sgd { lr: 0.02, momentum: 0.9, decay: 5e-2 }, // lr changes between runs of the one plan
            Sgd { lr: 0.3, momentum: 0.5, decay: 0.0 },
            Sgd { lr: 0.07, momentum: 0.0, decay: 0.1 },
        ];
        let w = random.vector(n);
        let (w_g, velocity_g) = (up(&w, &[n]), gpu().zeros("velocity", &[n]).unwrap());
        let (hyper_g, grad_g) = (gpu().zeros("hyper", &[4]).unwrap(), gpu().zeros("grad", &[n]).unwrap());
        let (plan, ()) = plan_on(gpu(), |rec| optim::sgd(rec, &hyper_g, &grad_g, &velocity_g, &w_g));
        let mut w_t = widen::<Tracked>(&w);
        let mut velocity_t = vec![Tracked::of(0.0); n];
        for (step, o) in options.into_iter().enumerate() {
            let grad = random.vector(n);
            gpu().write(&hyper_g, &[o.lr, o.momentum, o.decay, 0.0]).unwrap();
            gpu().write(&grad_g, &grad).unwrap();
            plan.run().unwrap();
            let grad = widen::<Tracked>(&grad);
            let before = (velocity_t.clone(), w_t.clone());
            twins::rowwise::sgd_step(o, &grad, &mut velocity_t, &mut w_t);
            let (got, velocity) = (gpu().read(&w_g).unwrap(), gpu().read(&velocity_g).unwrap());
            let what = format!("sgd, {n} weights, step {step}");
            check(&what, &got, &w_t);
            check(&format!("{what} velocity"), &velocity, &velocity_t);
            let wrong = |error: &str, o: Sgd| {
                let (mut velocity, mut w) = before.clone();
                twins::rowwise::sgd_step(o, &grad, &mut velocity, &mut w);
                check_rejects(&what, error, &got, &w);
            };
            if step > 0 && o.momentum > 0.0 {
                wrong("no momentum", Sgd { momentum: 0.0, ..o });
            }
            if o.decay > 0.0 {
                wrong("no decay", Sgd { decay: 0.0, ..o });
            }
            wrong("a step the other way", Sgd { lr: -o.lr, ..o });
        }
    }
}

#[test]
fn cache_terms() {
    let mut random = Random::new(18);
    // (queries, width, keys by class, betas, base)
    for (queries, width, per_class, count, with_base) in [
        (1, 1, vec![1], 1, false),
        (3, 5, vec![2, 0, 7], 1, true),
        (33, 12, vec![0, 16, 1, 5, 0], 7, false),
        (67, 33, vec![4, 3, 8], 20, false),
        (35, 150, vec![9; 11], 1, true),
        (32, 192, vec![16, 0, 1], 3, false),
        (101, 7, vec![1; 40], 2, false), // more classes than a tile has keys, more queries than a workgroup
        // More keys than are staged at a time, a class that alone has more, and one without any at the end.
        (9, 6, [vec![16; 140], vec![2100], vec![0, 3, 0]].concat(), 2, false),
        (97, 9, vec![1, 0, 33, 0, 17, 40, 0], 1, true),
    ] {
        let (keys_n, classes) = (per_class.iter().sum::<usize>(), per_class.len());
        let mut starts = vec![0];
        for n in &per_class {
            starts.push(starts[starts.len() - 1] + *n as u32);
        }
        let (f, keys) = (random.unit_rows(queries, width), random.unit_rows(keys_n, width));
        let (betas, base) = (random.vector_in(count, 0.3, 12.0), random.vector(queries * classes));
        let scale = 1.7;
        let cache = affinity::Keys::new(gpu(), up(&keys, &[keys_n, width]), &starts).unwrap();
        let base_g = up(&base, &[queries, classes]);
        let (f_g, betas_g) = (up(&f, &[queries, width]), up(&betas, &[count]));
        let (f, keys, betas) = (widen::<Tracked>(&f), widen::<Tracked>(&keys), widen::<Tracked>(&betas));
        let twin = |starts: &[u32], betas: &[Tracked], scale: f32, with_base: bool| -> Vec<Tracked> {
            let y = twins::cache::cache_term(&f, &keys, starts, betas, scale, width);
            let base = widen::<Tracked>(&base);
            y.iter().enumerate().map(|(i, v)| if with_base { *v + base[i] } else { *v }).collect()
        };
        for kernel in affinity::Kernel::ALL.into_iter().filter(|k| k.runs_on(gpu().capabilities())) {
            let what = format!("cache term {queries}×{width}, {per_class:?}, {count} betas by {kernel:?}");
            let got = run1(|rec| {
                let base = with_base.then_some(&base_g);
                affinity::cache_term_with(rec, kernel, &f_g, &cache, &betas_g, scale, base)
            });
            check(&what, &got, &twin(&starts, &betas, scale, with_base));
            check_rejects(&what, "no scale", &got, &twin(&starts, &betas, 1.0, with_base));
            if with_base {
                check_rejects(&what, "no base", &got, &twin(&starts, &betas, scale, false));
            }
            if count > 1 {
                let turned: Vec<_> = betas.iter().rev().copied().collect();
                check_rejects(&what, "betas turned round", &got, &twin(&starts, &turned, scale, with_base));
            }
            if classes > 1 {
                let mut moved = starts.clone();
                moved[1] = if starts[1] > 0 { starts[1] - 1 } else { 1 };
                check_rejects(&what, "a key of another class", &got, &twin(&moved, &betas, scale, with_base));
            }
        }
    }
}

#[test]
fn cache_terms_take_every_number_of_betas() {
    let mut random = Random::new(19);
    let (queries, width, classes) = (5, 8, 2);
    let (f, keys) = (random.unit_rows(queries, width), random.unit_rows(7, width));
    let cache = affinity::Keys::new(gpu(), up(&keys, &[7, width]), &[0, 3, 7]).unwrap();
    for count in 1..=affinity::MAX_BETAS {
        let betas = random.vector_in(count, 0.3, 12.0);
        // By the kernel that compiles fastest: what each does with its number of betas is in `cache_terms`.
        let got = run1(|rec| {
            let (f, betas) = (up(&f, &[queries, width]), up(&betas, &[count]));
            affinity::cache_term_with(rec, affinity::Kernel::Tile, &f, &cache, &betas, 0.5, None)
        });
        assert_eq!(got.len(), count * queries * classes);
        let want =
            twins::cache::cache_term::<Tracked>(&widen(&f), &widen(&keys), &[0, 3, 7], &widen(&betas), 0.5, width);
        check(&format!("{count} betas"), &got, &want);
    }
}

/// 16,000 keys: the [queries, keys] affinity alone would take 16 MB.
#[test]
fn cache_terms_need_no_memory_but_their_result() {
    let (queries, width, classes, shots) = (256, 512, 1000, 16);
    let starts: Vec<u32> = (0..=classes as u32).map(|c| c * shots).collect();
    let keys = gpu().zeros("keys", &[classes * shots as usize, width]).unwrap();
    let cache = affinity::Keys::new(gpu(), keys, &starts).unwrap();
    let (f, beta) = (gpu().zeros("f", &[queries, width]).unwrap(), up(&[5.5], &[1]));
    let (plan, y) = plan_on(gpu(), |rec| affinity::cache_term(rec, &f, &cache, &beta, 1.0, None));
    assert_eq!(y.shape(), [1, queries, classes]);
    assert!(plan.allocated_bytes() < 8 << 20, "{} bytes", plan.allocated_bytes());
}

#[test]
fn cache_keys_get_their_gradient() {
    let mut random = Random::new(25);
    for (queries, width, per_class) in
        [(1, 1, vec![1]), (3, 5, vec![2, 0, 7]), (33, 12, vec![0, 16, 1, 5]), (37, 33, vec![3; 17])]
    {
        let labels: Vec<u32> =
            per_class.iter().enumerate().flat_map(|(c, n)| std::iter::repeat_n(c as u32, *n)).collect();
        let (n, classes) = (labels.len(), per_class.len());
        let starts: Vec<u32> = (0..=classes as u32).map(|c| labels.partition_point(|l| *l < c) as u32).collect();
        let (f, keys) = (random.unit_rows(queries, width), random.unit_rows(n, width));
        let dy = random.vector(queries * classes);
        let (beta, scale) = (3.7, 1.3);
        let cache = affinity::Keys::new(gpu(), up(&keys, &[n, width]), &starts).unwrap();
        let got = run1(|rec| {
            let (f, dy) = (up(&f, &[queries, width]), up(&dy, &[queries, classes]));
            affinity::backward_keys(rec, &f, &cache, &up_u32(&labels), &up(&[beta], &[1]), scale, &dy)
        });
        let what = format!("cache keys {queries}×{width}, {per_class:?}");
        let (f, keys, dy) = (widen::<Tracked>(&f), widen::<Tracked>(&keys), widen::<Tracked>(&dy));
        let twin = |beta: f32, labels: &[u32]| {
            twins::cache::cache_backward(&f, &keys, labels, Tracked::of(f64::from(beta)), scale, &dy, width)
        };
        check(&what, &got, &twin(beta, &labels));
        check_rejects(&what, "another beta", &got, &twin(beta * 1.01, &labels));
        if classes > 2 {
            let other: Vec<u32> = labels.iter().map(|l| (l + 1) % classes as u32).collect();
            check_rejects(&what, "another class's gradient", &got, &twin(beta, &other));
        }
    }
}

fn counts(base: &[f32], cache: &[f32], kl: Option<&[f32]>, labels: &[u32], axes: Axes<'_>) -> Vec<u32> {
    let rows = labels.len();
    let classes = base.len() / rows;
    let betas = cache.len() / base.len();
    let (plan, out) = plan_on(gpu(), |rec| {
        let (base, cache) = (up(base, &[rows, classes]), up(cache, &[betas, rows, classes]));
        let kl = kl.map(|kl| up(kl, &[rows, classes]));
        let terms = search::Terms { base: &base, cache: &cache, kl: kl.as_ref() };
        search::count(rec, terms, &up_u32(labels), axes.alphas, axes.gammas)
    });
    plan.run().unwrap();
    gpu().read(&out).unwrap()
}

fn ascending(mut values: Vec<f32>) -> Vec<f32> {
    values.sort_by(f32::total_cmp);
    values
}

#[test]
fn search_counts_right_answers() {
    let mut random = Random::new(20);
    for (rows, classes, betas, alphas, gammas) in [
        (1, 1, 1, 1, 0),
        (3, 5, 2, 3, 0),
        (67, 12, 5, 7, 3),
        (150, 33, 3, 20, 0),
        (40, 9, 2, 300, 2), // more values of α than the smaller room holds
        (131, 17, 1, 1, 5),
        (257, 100, 2, 60, 9), // more values of γ than a workgroup takes
    ] {
        let (mut base, mut cache) = (random.vector(rows * classes), random.vector(betas * rows * classes));
        let kl = (gammas > 0).then(|| random.vector(rows * classes));
        let labels = random.labels(rows, classes);
        // Labels that win at some points and lose at others, however many classes there are.
        for (row, label) in labels.iter().enumerate() {
            base[row * classes + *label as usize] += 0.8;
            (0..betas).for_each(|b| cache[(b * rows + row) * classes + *label as usize] += 0.3);
        }
        // Negative values too: nothing forbids them.
        let alphas = ascending(random.vector_in(alphas, -2.0, 4.0));
        let gammas = if gammas > 0 { random.vector_in(gammas, -1.0, 3.0) } else { vec![0.0] };
        let axes = Axes { alphas: &alphas, gammas: &gammas };
        let got = counts(&base, &cache, kl.as_deref(), &labels, axes);
        let want = twins::cache::search(&base, &cache, kl.as_deref(), &labels, axes, false);
        assert_eq!(got.len(), want.len());
        let unsure: u32 = want.iter().map(|c| c.most - c.least).sum();
        assert!(unsure as usize <= want.len() / 20 + 1, "the data must decide: {unsure} rows are too close to call");
        let fits = |want: &[twins::cache::Count]| got.iter().zip(want).all(|(g, w)| w.least <= *g && *g <= w.most);
        assert!(fits(&want), "search {rows}×{classes}: {got:?}, expected {want:?}");
        if rows > 3 {
            let other: Vec<u32> = labels.iter().map(|l| (l + 1) % classes as u32).collect();
            assert!(
                !fits(&twins::cache::search(&base, &cache, kl.as_deref(), &other, axes, false)),
                "other labels passed"
            );
            if kl.is_some() {
                assert!(!fits(&twins::cache::search(&base, &cache, None, &labels, axes, false)), "no kl passed");
            }
            let moved: Vec<f32> = alphas.iter().map(|a| a + 0.3).collect();
            let axes = Axes { alphas: &moved, gammas: &gammas };
            let wrong = twins::cache::search(&base, &cache, kl.as_deref(), &labels, axes, false);
            assert!(!fits(&wrong), "another α passed");
        }
    }
}

#[test]
fn search_gives_ties_to_the_first() {
    // Halves and quarters: all sums are exact.
    let mut random = Random::new(21);
    let (rows, classes) = (130, 5);
    let mut coarse = |n: usize| (0..n).map(|_| random.below(3) as f32 * 0.5).collect::<Vec<_>>();
    let (base, cache, kl) = (coarse(rows * classes), coarse(2 * rows * classes), coarse(rows * classes));
    let axes = Axes { alphas: &[0.0, 0.5, 1.0, 2.0], gammas: &[0.0, 1.0, 2.0] };
    let labels = random.labels(rows, classes);
    let got = counts(&base, &cache, Some(&kl), &labels, axes);
    let first = twins::cache::search(&base, &cache, Some(&kl), &labels, axes, false);
    let last = twins::cache::search(&base, &cache, Some(&kl), &labels, axes, true);
    // No row is too close to call except exact ties, which the model decides.
    assert!(first.iter().all(|c| c.least == c.most));
    assert_eq!(got, first.iter().map(|c| c.least).collect::<Vec<_>>());
    assert_ne!(got, last.iter().map(|c| c.least).collect::<Vec<_>>(), "ties to the last passed");
}

/// Classes that are equal but for a few units in the last place: where intervals cannot tell, the plain comparison
/// decides, as a loop over the points in f32 would.
#[test]
fn search_decides_near_ties_as_a_plain_loop() {
    let mut random = Random::new(26);
    let (rows, classes) = (200, 6);
    let near = |v: &[f32], random: &mut Random| -> Vec<f32> {
        v.chunks(classes)
            .flat_map(|row| {
                let own = row[0];
                (0..classes).map(|_| f32::from_bits(own.to_bits() + random.below(3) as u32)).collect::<Vec<_>>()
            })
            .collect()
    };
    let base = random.vector_in(rows * classes, 1.0, 2.0);
    let cache = random.vector_in(rows * classes, 1.0, 2.0);
    let (base, cache) = (near(&base, &mut random), near(&cache, &mut random));
    let labels = random.labels(rows, classes);
    // Powers of two: α·cache is exact, so that one rounding is all there is, fused or not.
    let axes = Axes { alphas: &[0.0, 0.25, 0.5, 1.0, 2.0, 4.0], gammas: &[0.0] };
    let got = counts(&base, &cache, None, &labels, axes);
    let plain: Vec<u32> = axes
        .alphas
        .iter()
        .map(|alpha| {
            let right = |row: usize| {
                let at = row * classes;
                let v: Vec<f32> = (at..at + classes).map(|i| alpha.mul_add(cache[i], base[i])).collect();
                v.iter().enumerate().all(|(c, x)| {
                    let own = v[labels[row] as usize];
                    c == labels[row] as usize || own > *x || (own == *x && (labels[row] as usize) < c)
                })
            };
            (0..rows).filter(|row| right(*row)).count() as u32
        })
        .collect();
    assert_eq!(got, plain);
    assert!(plain.iter().all(|c| *c > 0 && *c < rows as u32), "{plain:?} says nothing");
}

#[test]
fn adamw_over_several_steps() {
    let mut random = Random::new(27);
    for n in [1, 67, 1000] {
        let w = random.vector(n);
        let (w_g, moments_g) = (up(&w, &[n]), gpu().zeros("moments", &[2, n]).unwrap());
        let (hyper_g, grad_g) = (gpu().zeros("hyper", &[8]).unwrap(), gpu().zeros("grad", &[n]).unwrap());
        let (plan, ()) = plan_on(gpu(), |rec| optim::adamw(rec, &hyper_g, &grad_g, &moments_g, &w_g));
        let mut w_t = widen::<Tracked>(&w);
        let (mut m_t, mut v_t) = (vec![Tracked::of(0.0); n], vec![Tracked::of(0.0); n]);
        for (step, (lr, decay, eps)) in
            [(0.1, 0.05, 1e-4), (0.02, 0.05, 1e-8), (0.3, 0.0, 1e-2)].into_iter().enumerate()
        {
            let grad = random.vector(n);
            let o = optim::AdamW { weight_decay: decay, eps, ..optim::AdamW::new(lr) };
            gpu().write(&hyper_g, &o.hyper(step as u32 + 1)).unwrap();
            gpu().write(&grad_g, &grad).unwrap();
            plan.run().unwrap();
            let grad = widen::<Tracked>(&grad);
            let before = (m_t.clone(), v_t.clone(), w_t.clone());
            let adam = Adam { lr, betas: o.betas, eps, decay, step: step as i32 + 1 };
            twins::rowwise::adamw_step(adam, &grad, &mut m_t, &mut v_t, &mut w_t);
            let (got, moments) = (gpu().read(&w_g).unwrap(), gpu().read::<f32>(&moments_g).unwrap());
            let what = format!("adamw, {n} weights, step {step}");
            check(&what, &got, &w_t);
            check(&format!("{what} mean"), &moments[..n], &m_t);
            check(&format!("{what} square"), &moments[n..], &v_t);
            let wrong = |error: &str, adam: Adam| {
                let (mut m, mut v, mut w) = before.clone();
                twins::rowwise::adamw_step(adam, &grad, &mut m, &mut v, &mut w);
                check_rejects(&what, error, &got, &w);
            };
            wrong("no bias correction", Adam { step: 1000, ..adam });
            wrong("another eps", Adam { eps: eps + 1e-3, ..adam });
            if decay > 0.0 {
                wrong("no decay", Adam { decay: 0.0, ..adam });
            }
        }
    }
}

#[test]
fn gradients_of_parts_add_up() {
    let n = 131;
    let mut random = Random::new(28);
    let (a, b) = (random.vector(n), random.vector(n));
    let sum = up(&vec![f32::NAN; n], &[n]);
    let (hyper, grad) = (up(&[0.0, 0.25], &[2]), up(&a, &[n]));
    let (plan, ()) = plan_on(gpu(), |rec| optim::accumulate(rec, &hyper, &grad, &sum));
    plan.run().unwrap();
    gpu().write(&hyper, &[1.0, 0.75]).unwrap();
    gpu().write(&grad, &b).unwrap();
    plan.run().unwrap();
    let of = |v: f64| Tracked::of(v);
    let want: Vec<Tracked> =
        widen::<Tracked>(&a).iter().zip(&widen::<Tracked>(&b)).map(|(a, b)| of(0.25) * *a + of(0.75) * *b).collect();
    let got = gpu().read(&sum).unwrap();
    check("accumulate", &got, &want);
    check_rejects("accumulate", "the last part only", &got, &widen::<Tracked>(&b));
}

#[test]
fn dropout_masks_and_what_passes_them() {
    let mut random = Random::new(29);
    for (n, rate, draw) in [
        (1, 0.0, Draw { seed: 3, step: 0, stream: 0 }),
        (67, 0.1, Draw { seed: 7, step: 1, stream: 2 }),
        (1030, 0.5, Draw { seed: u64::MAX, step: 12, stream: 0xdead_beef }),
        (20_003, 0.1, Draw { seed: 1, step: 2, stream: 3 }),
    ] {
        let counter = up_u32(&[draw.seed as u32, (draw.seed >> 32) as u32, draw.step, 0]);
        let mask = gpu().empty("mask", &[n], DType::F32).unwrap();
        let (x, dy) = (random.vector(n), random.vector(n));
        let (x_g, dy_g) = (up(&x, &[n]), up(&dy, &[n]));
        let [y, dx] = run(|rec| {
            dropout::mask(rec, &counter, draw.stream, rate, &mask)?;
            Ok([dropout::relu(rec, &x_g, &mask)?, dropout::relu_backward(rec, &x_g, &dy_g, &mask)?])
        });
        let got = gpu().read::<f32>(&mask).unwrap();
        let want = twins::noise::mask(draw, n, rate);
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs());
        assert!(close(&got, &want), "mask of {n}");
        if n > 1 {
            let later = Draw { step: draw.step + 1, ..draw };
            assert!(!close(&got, &twins::noise::mask(later, n, rate)), "the next step's mask passed");
            let kept = got.iter().filter(|v| **v > 0.0).count() as f64 / n as f64;
            let tol = 5.0 * (f64::from(rate * (1.0 - rate)) / n as f64).sqrt();
            assert!((kept - 1.0 + f64::from(rate)).abs() < tol, "{kept} of {n} kept at {rate}");
        }
        let (x, dy, mask) = (widen::<Tracked>(&x), widen::<Tracked>(&dy), widen::<Tracked>(&got));
        let times = |a: &[Tracked], b: &[Tracked]| a.iter().zip(b).map(|(a, b)| *a * *b).collect::<Vec<_>>();
        let relu = twins::linear::activation(Activation::Relu, &x);
        check(&format!("dropout relu {n}"), &y, &times(&relu, &mask));
        let slope = twins::linear::activation_backward(Activation::Relu, &x, &dy);
        check(&format!("dropout relu dx {n}"), &dx, &times(&slope, &mask));
        if n > 1 {
            check_rejects("dropout relu", "no mask", &y, &relu);
            check_rejects("dropout relu dx", "no ReLU", &dx, &times(&dy, &mask));
        }
    }
}

// ---- Tip-X and the measure of overlap -------------------------------------------------------------------------------

#[test]
fn the_twin_of_divergences_is_their_definition() {
    let mut random = Random::new(30);
    for classes in [1, 2, 7, 101] {
        let (p, q) = (widen::<f64>(&random.vector(3 * classes)), widen::<f64>(&random.vector(5 * classes)));
        let (_, shares, own) = twins::divergence::distributions(&p, classes);
        let (centred, _, parts) = twins::divergence::distributions(&q, classes);
        let parts: Vec<f64> = parts.chunks(2).map(|s| s[1]).collect();
        let m = twins::divergence::matrix(&shares, &centred, &parts, classes);
        let want = twins::divergence::kl(&p, &q, classes);
        for (i, (m, want)) in m.iter().zip(&want).enumerate() {
            assert!((m + own[2 * (i / 5)] - want).abs() < 1e-12, "{classes} classes");
        }
        assert!(classes == 1 || want.iter().all(|v| *v > 0.0));
    }
}

#[test]
fn divergences_and_their_class_terms() {
    with_and_without_features(|| {
        let mut random = Random::new(31);
        for (rows, classes, per_class) in [
            (1, 1, vec![1]),
            (3, 5, vec![2, 0, 7, 1, 3]),
            (33, 12, vec![4; 12]),
            (7, 101, (0..101).map(|i| i % 3).collect::<Vec<usize>>()),
        ] {
            let mut starts = vec![0u32];
            for n in &per_class {
                starts.push(starts[starts.len() - 1] + *n as u32);
            }
            let n = starts[classes] as usize;
            // From the size of a cosine over T, as Tip-X has them, to well beyond.
            for size in [0.1, 1.5] {
                let (x, q) =
                    (random.vector_in(rows * classes, -size, size), random.vector_in(n * classes, -size, size));
                let (x_g, q_g) = (up(&x, &[rows, classes]), up(&q, &[n, classes]));
                let psi = Psi { slope: 3.5, low: 0.0625, floor: -0.25, gamma: 1.5 };
                let base = random.vector(rows * classes);
                let base_g = up(&base, &[rows, classes]);
                let starts_g = up_u32(&starts);
                let part = up(&random.vector(n), &[n]);
                let [centred, shares, stats, matrix, key_sums, term, based] = run(|rec| {
                    let p = divergence::distributions(rec, &x_g)?;
                    let q = divergence::distributions(rec, &q_g)?;
                    let sums = divergence::ClassSums {
                        centred: divergence::class_sums(rec, &q.centred, &starts_g)?,
                        stats: divergence::class_sums(rec, &q.stats, &starts_g)?,
                        starts: starts_g.clone(),
                    };
                    let rescale = divergence::Rescale { slope: psi.slope, low: psi.low, floor: psi.floor };
                    Ok([
                        p.centred.clone(),
                        p.shares.clone(),
                        p.stats.clone(),
                        divergence::matrix(rec, &p, &q, &part)?,
                        sums.centred.clone(),
                        divergence::class_term(rec, &p, &sums, rescale, psi.gamma, None)?,
                        divergence::class_term(rec, &p, &sums, rescale, psi.gamma, Some(&base_g))?,
                    ])
                });
                let what = format!("divergences {rows}×{classes}, {n} keys, ±{size}");
                let (x, q) = (widen::<Tracked>(&x), widen::<Tracked>(&q));
                let (centred_t, shares_t, stats_t) = twins::divergence::distributions(&x, classes);
                let (q_centred, _, q_stats) = twins::divergence::distributions(&q, classes);
                if classes == 1 {
                    assert!(
                        centred.iter().chain(&shares).chain(&stats).all(|v| *v == 0.0),
                        "{what}: one class is certain"
                    );
                } else {
                    check(&format!("{what} centred"), &centred, &centred_t);
                    check(&format!("{what} shares"), &shares, &shares_t);
                    check(&format!("{what} stats"), &stats, &stats_t);
                    check_rejects(&what, "not centred", &centred, &x);
                    let plain: Vec<Tracked> = shares_t.iter().map(|v| *v + Tracked::of(1.0 / classes as f64)).collect();
                    check_rejects(&what, "probabilities not centred", &shares, &plain);
                }
                let parts = widen::<Tracked>(&gpu().read::<f32>(&part).unwrap());
                let matrix_t = twins::divergence::matrix(&shares_t, &q_centred, &parts, classes);
                check(&format!("{what} matrix"), &matrix, &matrix_t);
                if classes > 1 {
                    let sums_t = twins::divergence::class_sums(&q_centred, &starts, classes);
                    check(&format!("{what} class sums"), &key_sums, &sums_t);
                }
                // The term key by key, from the matrix with each row's and each key's own part.
                let own: Vec<Tracked> = q_stats.chunks(2).map(|s| s[1]).collect();
                let kl: Vec<Tracked> = twins::divergence::matrix(&shares_t, &q_centred, &own, classes)
                    .iter()
                    .enumerate()
                    .map(|(i, v)| *v + stats_t[2 * (i / n)])
                    .collect();
                let term_t = twins::divergence::class_term(&kl, &starts, psi);
                check(&format!("{what} term"), &term, &term_t);
                let with_base: Vec<Tracked> =
                    term_t.iter().zip(&widen::<Tracked>(&base)).map(|(t, b)| *t + *b).collect();
                check(&format!("{what} term with base"), &based, &with_base);
                check_rejects(&what, "no base", &based, &term_t);
                for (error, wrong) in [
                    ("another slope", Psi { slope: 3.6, ..psi }),
                    ("another low", Psi { low: 0.07, ..psi }),
                    ("another floor", Psi { floor: -0.2, ..psi }),
                    ("no gamma", Psi { gamma: 1.0, ..psi }),
                ] {
                    if classes > 1 {
                        check_rejects(&what, error, &term, &twins::divergence::class_term(&kl, &starts, wrong));
                    }
                }
            }
        }
    });
}

#[test]
fn extremes_are_found() {
    with_and_without_features(|| {
        let mut random = Random::new(32);
        for (rows, width) in [(1, 1), (3, 5), (67, 33), (130, 200), (1, 1000)] {
            let (x, offsets) = (random.vector(rows * width), random.vector(rows * 2));
            let (x_g, offsets_g) = (up(&x, &[rows, width]), up(&offsets, &[rows, 2]));
            let [plain, offset] =
                run(|rec| Ok([extremes::extremes(rec, &x_g, None)?, extremes::extremes(rec, &x_g, Some(&offsets_g))?]));
            let of = |x: &[f32]| x.iter().fold([f32::MAX, f32::MIN], |[low, high], v| [low.min(*v), high.max(*v)]);
            assert_eq!(plain, of(&x), "{rows}×{width}");
            let moved: Vec<f32> = x.iter().enumerate().map(|(i, v)| v + offsets[2 * (i / width)]).collect();
            assert_eq!(offset, of(&moved), "{rows}×{width} with offsets");
            assert_ne!(plain, offset);
            let mut wrong = x.clone();
            wrong[rows * width / 2] = 2.0;
            assert_ne!(plain, of(&wrong), "a planted extreme passed");
        }
    });
}

#[test]
fn pairs_are_counted_once() {
    let mut random = Random::new(33);
    let bins = pairs::BINS;
    for (rows, cols, first) in
        [(1, 1, (0, 1)), (5, 5, (0, 0)), (67, 33, (0, 67)), (130, 130, (256, 256)), (3, 70, (100, 60))]
    {
        // Similarities in the middles of bins, and the ends, so that rounding decides nothing.
        let x: Vec<f32> = (0..rows * cols)
            .map(|i| match i % 11 {
                0 => 1.0,
                1 => -1.0,
                _ => (-1.0 + (2.0 * random.below(bins) as f64 + 1.0) / bins as f64) as f32,
            })
            .collect();
        let (row_labels, col_labels) = (random.labels(rows, 3), random.labels(cols, 3));
        let counts = gpu().upload("counts", &vec![0u32; 2 * bins], &[2, bins]).unwrap();
        let (plan, ()) = plan_on(gpu(), |rec| {
            let (a, b) = (up_u32(&row_labels), up_u32(&col_labels));
            pairs::count(rec, &up(&x, &[rows, cols]), (&a, &b), first, &counts)
        });
        plan.run().unwrap();
        let got = gpu().read::<u32>(&counts).unwrap();
        let want = twins::divergence::pairs(&x, &row_labels, &col_labels, first, bins, false);
        assert_eq!(got, want, "{rows}×{cols} from {first:?}");
        if first.0 == first.1 && rows > 1 {
            let mirrored = twins::divergence::pairs(&x, &row_labels, &col_labels, first, bins, true);
            assert_ne!(got, mirrored, "pairs counted from both sides passed");
        }
        let other: Vec<u32> = col_labels.iter().map(|l| (l + 1) % 3).collect();
        assert_ne!(got, twins::divergence::pairs(&x, &row_labels, &other, first, bins, false), "other labels passed");
        // Counts add up over blocks.
        plan.run().unwrap();
        assert_eq!(gpu().read::<u32>(&counts).unwrap(), want.iter().map(|c| 2 * c).collect::<Vec<_>>());
    }
}

// ---- Errors --------------------------------------------------------------------------------------------------------

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let t = |shape: &[usize]| gpu().zeros("test", shape).unwrap();
    let u = |n: usize| up_u32(&vec![0; n]);
    let rec = &mut Recorder::new(gpu());
    let act = Activation::Gelu;
    let (m34, m35, m43, v3, v4, v5) = (t(&[3, 4]), t(&[3, 5]), t(&[4, 3]), t(&[3]), t(&[4]), t(&[5]));

    invalid("activation", activation::backward(rec, act, &m34, &m35));
    for layout in Layout::ALL {
        invalid("gemm", gemm::matmul(rec, layout, &m34, &t(&[5, 7]), &Epilogue::default()));
    }
    let with = |bias, residual| Epilogue { bias, residual, ..Default::default() };
    invalid("gemm bias", gemm::matmul(rec, Layout::Nt, &m34, &m34, &with(Some(&v4), None)));
    invalid("gemm residual", gemm::matmul(rec, Layout::Nt, &m34, &m34, &with(None, Some(&m34))));
    invalid("layernorm gain", layernorm::forward(rec, &m34, &v3, &v4, 1e-5).map(|_| ()));
    invalid("layernorm shift", layernorm::forward(rec, &m34, &v4, &v3, 1e-5).map(|_| ()));
    let stats = t(&[3, 2]);
    invalid("layernorm stats", layernorm::backward(rec, &m34, &v4, &v4, &m34, None));
    invalid("layernorm gain", layernorm::backward(rec, &m34, &stats, &v5, &m34, None));
    invalid("layernorm dy", layernorm::backward(rec, &m34, &stats, &v4, &m43, None));
    invalid("layernorm base", layernorm::backward(rec, &m34, &stats, &v4, &m34, Some(&m35)));
    invalid("normalize norms", normalize::backward(rec, &m34, &v4, &m34));
    invalid("normalize dy", normalize::backward(rec, &m34, &v3, &m35));
    invalid("softmax", softmax::backward(rec, &m34, &m35));
    invalid("labels", loss::cross_entropy(rec, &m34, &u(4)).map(|_| ()));
    invalid("labels' type", loss::cross_entropy(rec, &m34, &v3).map(|_| ()));
    invalid("index", gather::rows(rec, &m34, &v3));
    invalid("mean over the middle", reduce::mean_middle(rec, &m34));
    invalid("sgd hyper", optim::sgd(rec, &v3, &m34, &m34, &m34));
    invalid("sgd grad", optim::sgd(rec, &v4, &m35, &m34, &m34));
    invalid("sgd velocity", optim::sgd(rec, &v4, &m34, &m35, &m34));
    let all = &m34;
    invalid("sgd on one buffer", optim::sgd(rec, &v4, all, all, all));

    invalid("counter", noise::normal(rec, &u(3), 0, &v5));
    invalid("counter's type", noise::normal(rec, &v4, 0, &v5));
    invalid("text noise", noise::text_apply(rec, &m34, 0..2, &m34, &m34, &m34).map(|_| ()));
    let m24 = t(&[2, 4]);
    invalid("text noise past the end", noise::text_apply(rec, &m34, 2..4, &m24, &m24, &m24));
    invalid("text noise dx past the end", noise::text_backward(rec, &m34, 2..4, &m24).map(|_| ()));
    invalid("text noise dx", noise::text_backward(rec, &m34, 0..1, &m24).map(|_| ()));
    invalid("image noise mean", noise::image_apply(rec, &m34, 2, &m35, &m34, &t(&[6, 4])));
    invalid("image noise eps", noise::image_apply(rec, &m34, 2, &m34, &m34, &m34));
    invalid("no draws", noise::image_apply(rec, &m34, 0, &m34, &m34, &m34));
    invalid("image noise dx", noise::image_backward(rec, &m34, 2, &m34, &t(&[6, 4])).map(|_| ()));

    let embedding = |weight: &[usize], position: &[usize], patch| patch::PatchEmbedding {
        weight: t(weight),
        class: t(&[5]),
        position: t(position),
        patch,
    };
    let pixels = t(&[2, 3, 8, 8]);
    let sound = embedding(&[5, 48], &[5, 5], 4);
    assert!(patch::forward(rec, &pixels, &sound).is_ok());
    invalid("two channels", patch::forward(rec, &t(&[2, 2, 8, 8]), &sound));
    invalid("not square", patch::forward(rec, &t(&[2, 3, 8, 9]), &sound));
    invalid("smaller than a patch", patch::forward(rec, &t(&[2, 3, 3, 3]), &sound));
    invalid("patch weight", patch::forward(rec, &pixels, &embedding(&[5, 47], &[5, 5], 4)));
    invalid("positions", patch::forward(rec, &pixels, &embedding(&[5, 48], &[4, 5], 4)));
    invalid("patches of nothing", patch::forward(rec, &pixels, &embedding(&[5, 48], &[5, 5], 0)));

    let span = |start, len| Span { start, len };
    invalid("no sequences", Pattern::new(gpu(), None, &[], false));
    invalid("an empty sequence", Pattern::new(gpu(), None, &[span(0, 0)], false));
    invalid("a gap", Pattern::new(gpu(), None, &[span(0, 2), span(3, 1)], false));
    invalid("an overlap", Pattern::new(gpu(), Some(span(0, 2)), &[span(1, 2)], false));
    let pattern = Pattern::uniform(gpu(), 3, 1, true).unwrap();
    let qkv = t(&[3, 12]);
    let out = attention::forward(rec, &qkv, &pattern, 2).unwrap();
    invalid("attention heads", attention::forward(rec, &qkv, &pattern, 3).map(|_| ()));
    invalid("no heads", attention::forward(rec, &qkv, &pattern, 0).map(|_| ()));
    invalid("attention width", attention::forward(rec, &t(&[3, 13]), &pattern, 1).map(|_| ()));
    invalid("attention width", attention::forward(rec, &t(&[3, 2]), &pattern, 1).map(|_| ()));
    invalid("attention rows", attention::forward(rec, &t(&[4, 12]), &pattern, 2).map(|_| ()));
    invalid("attention lse", attention::weights(rec, &qkv, &v3, &pattern, 2));
    invalid("attention dy", attention::backward(rec, &qkv, &out, &m35, &pattern, 2));

    let keys = affinity::Keys::new(gpu(), t(&[6, 4]), &[0, 2, 6]).unwrap();
    invalid("starts that end early", affinity::Keys::new(gpu(), t(&[6, 4]), &[0, 2, 5]));
    invalid("starts that descend", affinity::Keys::new(gpu(), t(&[6, 4]), &[0, 7, 6]));
    invalid("starts from 1", affinity::Keys::new(gpu(), t(&[6, 4]), &[1, 2, 6]));
    invalid("no classes", affinity::Keys::new(gpu(), t(&[6, 4]), &[6]));
    invalid("other keys", keys.with_keys(t(&[5, 4])));
    invalid("keys' width", affinity::cache_term(rec, &m35, &keys, &t(&[1]), 1.0, None));
    invalid("betas", affinity::cache_term(rec, &m34, &keys, &t(&[21]), 1.0, None));
    invalid("betas with base", affinity::cache_term(rec, &m34, &keys, &t(&[2]), 1.0, Some(&t(&[3, 2]))));
    invalid("base", affinity::cache_term(rec, &m34, &keys, &t(&[1]), 1.0, Some(&m34)));
    let (m32, one) = (t(&[3, 2]), t(&[1]));
    invalid("keys' dy", affinity::backward_keys(rec, &m34, &keys, &u(6), &one, 1.0, &m34));
    invalid("keys' labels", affinity::backward_keys(rec, &m34, &keys, &u(5), &one, 1.0, &m32));
    invalid("keys' labels' type", affinity::backward_keys(rec, &m34, &keys, &t(&[6]), &one, 1.0, &m32));
    invalid("keys' betas", affinity::backward_keys(rec, &m34, &keys, &u(6), &t(&[2]), 1.0, &m32));

    let cached = t(&[2, 3, 4]);
    let terms = search::Terms { base: &m34, cache: &cached, kl: None };
    let with = |cache, kl| search::Terms { cache, kl, ..terms };
    let (other, up) = (t(&[2, 4, 3]), [0.0, 1.0]);
    invalid("search cache", search::count(rec, with(&other, None), &u(3), &up, &[0.0]));
    invalid("search cache", search::count(rec, with(&v5, None), &u(3), &up, &[0.0]));
    invalid("search kl", search::count(rec, with(&cached, Some(&m35)), &u(3), &up, &[0.0]));
    invalid("search labels", search::count(rec, terms, &u(4), &up, &[0.0]));
    invalid("search labels' type", search::count(rec, terms, &v3, &up, &[0.0]));
    invalid("no alphas", search::count(rec, terms, &u(3), &[], &[0.0]));
    invalid("descending alphas", search::count(rec, terms, &u(3), &[1.0, 0.0], &[0.0]));
    invalid("too many alphas", search::count(rec, terms, &u(3), &vec![0.0; search::MAX_ALPHAS + 1], &[0.0]));
    invalid("no gammas", search::count(rec, terms, &u(3), &up, &[]));

    invalid("adamw hyper", optim::adamw(rec, &v4, &m34, &t(&[2, 12]), &m35));
    invalid("adamw grad", optim::adamw(rec, &t(&[8]), &m35, &t(&[2, 12]), &m34));
    invalid("adamw moments", optim::adamw(rec, &t(&[8]), &m34, &t(&[12]), &m34));
    invalid("accumulate hyper", optim::accumulate(rec, &v4, &m34, &m34));
    invalid("accumulate grad", optim::accumulate(rec, &t(&[2]), &m34, &m35));
    invalid("dropout counter", dropout::mask(rec, &u(3), 0, 0.1, &m34));
    invalid("dropout counter's type", dropout::mask(rec, &v4, 0, 0.1, &m34));
    invalid("dropout of everything", dropout::mask(rec, &u(4), 0, 1.0, &m34));
    invalid("dropout mask", dropout::relu(rec, &m34, &m35));
    invalid("dropout dy", dropout::relu_backward(rec, &m34, &m35, &m34));

    let p = divergence::distributions(rec, &m34).unwrap();
    invalid("class starts", divergence::class_sums(rec, &m34, &v4));
    let sums = |centred: &[usize], stats: &[usize], starts: usize| divergence::ClassSums {
        centred: t(centred),
        stats: t(stats),
        starts: u(starts),
    };
    let psi = divergence::Rescale { slope: 1.0, low: 0.0, floor: 0.0 };
    invalid("class sums", divergence::class_term(rec, &p, &sums(&[3, 4], &[4, 2], 5), psi, 1.0, None));
    invalid("class statistics", divergence::class_term(rec, &p, &sums(&[4, 4], &[3, 2], 5), psi, 1.0, None));
    invalid("class starts", divergence::class_term(rec, &p, &sums(&[4, 4], &[4, 2], 4), psi, 1.0, None));
    invalid("base", divergence::class_term(rec, &p, &sums(&[4, 4], &[4, 2], 5), psi, 1.0, Some(&m35)));
    invalid("divergence parts", divergence::matrix(rec, &p, &p, &v4));
    invalid("offsets", extremes::extremes(rec, &m34, Some(&v4)));
    let counts = gpu().upload("counts", &vec![0u32; 2 * pairs::BINS], &[2, pairs::BINS]).unwrap();
    invalid("pair labels", pairs::count(rec, &m34, (&u(4), &u(4)), (0, 0), &counts));
    invalid("pair labels' type", pairs::count(rec, &m34, (&u(3), &v4), (0, 0), &counts));
    invalid("pair counts", pairs::count(rec, &m34, (&u(3), &u(4)), (0, 0), &u(2)));

    invalid("upload", gpu().upload("test", &[1f32; 5], &[2, 3]));
    invalid("empty", gpu().empty("test", &[2, 0], DType::F32));
    invalid("write", gpu().write(&v3, &[1f32; 4]));
    invalid("write of another type", gpu().write(&v3, &[1u32; 3]));
    invalid("read of another type", gpu().read::<u32>(&v3));
    invalid("reshape", v3.reshape(&[2, 2]));
    gpu().check().unwrap();
}

#[test]
fn tensors_past_the_limits_are_out_of_memory() {
    let limit = gpu().max_binding();
    let past = |what: &str, result: Result<Tensor>| match result {
        Err(Error::OutOfMemory { needed, .. }) => assert!(needed > gpu().max_binding(), "{what}: {needed}"),
        Err(other) => panic!("{what}: {other} where OutOfMemory was expected"),
        Ok(_) => panic!("{what}: no error"),
    };
    let rows = (limit / 4 / 1024) as usize + 1;
    past("empty", gpu().empty("test", &[rows, 1024], DType::F32));
    past("empty past 64 bits", gpu().empty("test", &[usize::MAX, 9], DType::U32));
    let rec = &mut Recorder::new(gpu());
    past("temp", rec.temp("test", &[1024, rows]));
    let side = ((limit / 4) as f64).sqrt() as usize + 1;
    let column = gpu().zeros("test", &[side, 1]).unwrap();
    past("gemm", gemm::matmul(rec, Layout::Nt, &column, &column, &Epilogue::default()));
    gpu().check().unwrap();
}

// ---- The GPU layer -------------------------------------------------------------------------------------------------

/// A block of a tower, forward and backward, with temporaries dropped as soon as they may be.
fn block(rec: &mut Recorder, x: &Tensor, w: &Tensor, gain: &Tensor, pattern: &Pattern) -> Result<[Tensor; 2]> {
    let normed = layernorm::forward(rec, x, gain, gain, 1e-5)?;
    let qkv = gemm::matmul(rec, Layout::Nt, &normed.y, w, &Epilogue::default())?;
    let out = attention::forward(rec, &qkv, pattern, 2)?;
    let y = softmax::forward(rec, &out.y)?;
    let dy = softmax::backward(rec, &y, x)?;
    let dqkv = attention::backward(rec, &qkv, &out, &dy, pattern, 2)?;
    drop((out, qkv, dy));
    let dn = gemm::matmul(rec, Layout::Nn, &dqkv, w, &Epilogue::default())?;
    let dx = layernorm::backward(rec, x, &normed.stats, gain, &dn, Some(x))?;
    Ok([y, dx])
}

const BLOCK: (usize, usize) = (51, 24);

fn block_on(gpu: &Gpu) -> (Plan, [Tensor; 2]) {
    let (rows, width) = BLOCK;
    let mut random = Random::new(22);
    let mut up = |shape: &[usize]| gpu.upload("test", &random.vector(shape.iter().product()), shape).unwrap();
    let (x, w, gain) = (up(&[rows, width]), up(&[3 * width, width]), up(&[width]));
    let pattern = Pattern::uniform(gpu, 3, rows / 3, true).unwrap();
    plan_on(gpu, |rec| block(rec, &x, &w, &gain, &pattern))
}

fn read_all(gpu: &Gpu, out: &[Tensor; 2]) -> [Vec<u32>; 2] {
    [0, 1].map(|i| bits(&gpu.read(&out[i]).unwrap()))
}

#[test]
fn plans_run_twice_and_on_two_devices_give_equal_bits() {
    let (plan, out) = block_on(gpu());
    plan.run().unwrap();
    let first = read_all(gpu(), &out);
    assert!(first.iter().flatten().any(|b| *b != 0));
    for _ in 0..3 {
        plan.run().unwrap();
        assert_eq!(read_all(gpu(), &out), first);
    }
    let other = Gpu::open(&DeviceOptions { checked: Some(true), tune: Some(false), ..Default::default() }).unwrap();
    let (plan, out) = block_on(&other);
    plan.run().unwrap();
    assert_eq!(read_all(&other, &out), first, "another device");
    // Index checks change nothing for kernels that stay in bounds.
    let unchecked =
        Gpu::open(&DeviceOptions { checked: Some(false), tune: Some(false), ..Default::default() }).unwrap();
    let (plan, out) = block_on(&unchecked);
    plan.run().unwrap();
    let relative = |a: &[u32], b: &[u32]| {
        a.iter().zip(b).all(|(a, b)| {
            let (a, b) = (f32::from_bits(*a), f32::from_bits(*b));
            (a - b).abs() <= 1e-5 * (1.0 + a.abs())
        })
    };
    let got = read_all(&unchecked, &out);
    assert!(relative(&got[0], &first[0]) && relative(&got[1], &first[1]), "without checks");
}

#[test]
fn temporaries_are_reused_and_clobber_nothing() {
    let n = 4096;
    let x = Random::new(23).vector(n);
    let x_g = up(&x, &[n]);
    let links = 12;
    let chain = |rec: &mut Recorder, keep: &mut Vec<Tensor>, kept: &[usize]| -> Result<Tensor> {
        let mut y = x_g.clone();
        for i in 0..links {
            y = activation::forward(rec, Activation::Gelu, &y)?;
            if kept.contains(&i) {
                keep.push(y.clone());
            }
        }
        Ok(y)
    };
    let mut all = Vec::new();
    let every: Vec<usize> = (0..links).collect();
    let (plan, last) = plan_on(gpu(), |rec| chain(rec, &mut all, &every));
    plan.run().unwrap();
    let want: Vec<Vec<f32>> = all.iter().map(|t| gpu().read(t).unwrap()).collect();
    assert_eq!(plan.allocated_bytes(), (links * n * 4) as u64, "held tensors share nothing");
    assert_eq!(bits(&gpu().read::<f32>(&last).unwrap()), bits(&want[links - 1]));

    let mut some = Vec::new();
    let (plan, last) = plan_on(gpu(), |rec| chain(rec, &mut some, &[2, 5]));
    // Two held, and two between which the rest alternates.
    assert_eq!(plan.allocated_bytes(), (4 * n * 4) as u64);
    assert_eq!(plan.live_bytes(), plan.allocated_bytes(), "no layout could do with less");
    for _ in 0..2 {
        plan.run().unwrap();
        assert_eq!(bits(&gpu().read::<f32>(&some[0]).unwrap()), bits(&want[2]));
        assert_eq!(bits(&gpu().read::<f32>(&some[1]).unwrap()), bits(&want[5]));
        assert_eq!(bits(&gpu().read::<f32>(&last).unwrap()), bits(&want[links - 1]));
        assert_eq!(bits(&gpu().read::<f32>(&x_g).unwrap()), bits(&x), "the input");
    }

    // A plan keeps what it reads alive: an input dropped by its owner is not handed to the next who asks.
    let input = up(&x, &[n]);
    let (plan, y) = plan_on(gpu(), |rec| activation::forward(rec, Activation::Gelu, &input));
    drop(input);
    let others: Vec<Tensor> = (0..4).map(|_| up(&vec![9.0; n], &[n])).collect();
    plan.run().unwrap();
    assert_eq!(bits(&gpu().read::<f32>(&y).unwrap()), bits(&want[0]));
    drop(others);
    // And what a plan made stays whole when the plan is gone.
    drop(plan);
    let others: Vec<Tensor> = (0..4).map(|_| up(&vec![9.0; n], &[n])).collect();
    assert_eq!(bits(&gpu().read::<f32>(&y).unwrap()), bits(&want[0]));
    drop(others);
}

#[test]
fn what_is_not_finite_does_not_leave_the_gpu_in_silence() {
    for (wrong, at) in [(f32::NAN, 7), (f32::INFINITY, 0), (f32::NEG_INFINITY, 11)] {
        let mut x = vec![1.0; 12];
        x[at] = wrong;
        let named = up(&x, &[4, 3]).named("things", "somebody broke them");
        let error = gpu().read::<f32>(&named.reshape(&[4, 3]).unwrap()).unwrap_err();
        assert!(matches!(&error, Error::ResultNotFinite { wrong: 1, of: 12, row, .. } if *row == at / 3), "{error:?}");
        let text = error.to_string();
        assert!(
            text.starts_with("things came out as NaN or infinity") && text.ends_with("somebody broke them"),
            "{text}"
        );
        let unnamed = gpu().read::<f32>(&up(&x, &[12])).unwrap_err();
        assert!(unnamed.to_string().contains("computed on the GPU"), "{unnamed}");
        // Who asks for it gets what is there.
        let read = gpu().begin_read::<f32>(&named).unwrap().finish_unchecked().unwrap();
        assert_eq!(bits(&read), bits(&x));
        let half: Vec<half::f16> = x.iter().map(|v| half::f16::from_f32(*v)).collect();
        assert!(gpu().read::<half::f16>(&gpu().upload("test", &half, &[4, 3]).unwrap()).is_err());
    }
    assert_eq!(gpu().read::<u32>(&up_u32(&[u32::MAX])).unwrap(), [u32::MAX]);
    assert!(gpu().read::<f32>(&up(&[f32::MAX, f32::MIN, -0.0], &[3])).is_ok());
}

#[test]
fn the_pool_takes_buffers_back() {
    let gpu = Gpu::open(&DeviceOptions { checked: Some(true), tune: Some(false), ..Default::default() }).unwrap();
    for i in 0..20 {
        let x = gpu.upload("test", &vec![i as f32; 1000 + i], &[1000 + i]).unwrap();
        assert_eq!(gpu.read::<f32>(&x).unwrap(), vec![i as f32; 1000 + i]);
    }
    let bytes = gpu.allocated_bytes();
    assert!(bytes <= 3 * 4352, "{bytes} bytes for one tensor at a time");
}

/// Rows written piece by piece land where they belong, in buffers and in textures, padded or not.
#[test]
fn rows_are_written_one_piece_after_another() {
    let (rows, cols) = (7, 5);
    let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
    let half: Vec<half::f16> = values.iter().map(|v| half::f16::from_f32(*v)).collect();
    let gpu = gpu();
    for dtype in [DType::F32, DType::F16, DType::Texels, DType::HalfTexels] {
        let x = gpu.empty("rows", &[rows, cols], dtype).unwrap();
        for (first, count) in [(4, 3), (0, 1), (1, 3)] {
            let range = first * cols..(first + count) * cols;
            match dtype {
                DType::F32 | DType::Texels => gpu.write_rows(&x, first, &values[range]).unwrap(),
                _ => gpu.write_rows(&x, first, &half[range]).unwrap(),
            }
        }
        // Read through products with the unit matrix, by all kernels that take this form here.
        let unit: Vec<f32> = (0..cols * cols).map(|i| f32::from(i % (cols + 1) == 0)).collect();
        let unit = up(&unit, &[cols, cols]);
        let problem = gemm::Problem { layout: Layout::Nt, m: cols, n: rows, k: cols, b: dtype };
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.takes(gpu.capabilities(), &problem)) {
            let y = run1(|rec| gemm::matmul_with(rec, kernel, Layout::Nt, &unit, &x, &Epilogue::default()));
            let got: Vec<f32> = (0..rows * cols).map(|i| y[i % cols * rows + i / cols]).collect();
            assert_eq!(got, values, "{dtype:?} by {kernel:?}");
        }
        assert!(gpu.write_rows(&x, 6, &values[..2 * cols]).is_err() && gpu.write_rows(&x, 0, &values[..3]).is_err());
    }
}

/// A rehearsal needs what the run itself then takes, byte for byte, and takes nothing.
#[test]
fn a_rehearsal_counts_what_a_run_takes() {
    let own = Gpu::open(&DeviceOptions { tune: Some(false), memory: Some(4 << 20), ..Default::default() }).unwrap();
    let work = |gpu: &Gpu, m: usize| {
        let x = gpu.upload("x", &vec![1.0f32; m * 300], &[m, 300])?;
        let w = gemm::freeze(gpu, "w", &vec![0.5; 70 * 300], [70, 300], Precision::F32)?;
        let mut rec = Recorder::new(gpu);
        let y = gemm::matmul(&mut rec, Layout::Nt, &x, &w, &Epilogue::default())?;
        let z = gemm::matmul(&mut rec, Layout::Nn, &y, &w, &Epilogue::default())?;
        drop(y);
        let plan = rec.finish()?;
        plan.run()?;
        Ok::<_, Error>((gpu.read::<f32>(&z)?, plan, x, w))
    };
    let rehearsal = own.rehearsal();
    let (zeros, _plan, _x, _w) = work(&rehearsal, 200).unwrap();
    assert_eq!(own.allocated_bytes(), 0, "a rehearsal takes no memory");
    assert_eq!(zeros, vec![0.0; 200 * 300]);
    let (z, plan, x, w) = work(&own, 200).unwrap();
    assert_eq!(z[0], 300.0 * 0.5 * 70.0 * 0.5);
    assert_eq!(rehearsal.allocated_bytes(), own.allocated_bytes());
    drop((plan, z));
    assert!(own.allocated_bytes() < rehearsal.allocated_bytes(), "a plan's memory is given back");
    // Too much is found out in both, with numbers, before the driver is asked.
    for gpu in [&own, &own.rehearsal()] {
        let error = work(gpu, 3000).err().unwrap().to_string();
        assert!(error.contains("of 4194304 bytes are left"), "{error}");
    }
    drop((x, w));
    // What lies in the pool makes room for what would not fit beside it.
    let large = own.empty("large", &[1000, 1000], DType::F32).unwrap();
    assert!(own.allocated_bytes() <= 4 << 20);
    drop(large);
}

/// A kernel of the tests' own, so that its cost can be stated at will.
static TWICE: Shader = Shader {
    name: "twice",
    source: "@group(0) @binding(0) var<uniform> n: vec4<u32>;
        @group(0) @binding(1) var<storage, read> x: array<f32>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < n.x { y[id.x] = 2.0 * x[id.x] + 1.0; }
        }",
    access: &[Access::Read, Access::Write],
};

fn twice(rec: &mut Recorder, x: &Tensor, flops: f64) -> Result<Tensor> {
    let y = rec.temp("twice", x.shape())?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&TWICE, "main", &[]),
        label: "twice",
        params: bytemuck::bytes_of(&[x.len() as u32, 0, 0, 0]),
        bindings: &[x, &y],
        grid: Grid::cover(x.len(), 64),
        flops,
        bytes: 0.0,
    })?;
    Ok(y)
}

#[test]
fn a_plan_in_several_submissions_gives_equal_bits() {
    let (rows, width) = BLOCK;
    let mut random = Random::new(24);
    let (x, w) =
        (up(&random.vector(rows * width), &[rows, width]), up(&random.vector(3 * width * width), &[3 * width, width]));
    let gain = up(&random.vector(width), &[width]);
    let pattern = Pattern::uniform(gpu(), 3, rows / 3, false).unwrap();
    let mut results = Vec::new();
    for flops in [0.0, 3e10, 1e12] {
        let (plan, out) = plan_on(gpu(), |rec| {
            let x = twice(rec, &x, flops)?;
            let [y, dx] = block(rec, &x, &w, &gain, &pattern)?;
            let x = twice(rec, &dx, flops)?;
            let [_, dx] = block(rec, &x, &w, &gain, &pattern)?;
            Ok([twice(rec, &y, flops)?, twice(rec, &dx, flops)?])
        });
        plan.run().unwrap();
        results.push((plan.submissions(), read_all(gpu(), &out)));
    }
    assert_eq!(results.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(results[0].1, results[1].1);
    assert_eq!(results[0].1, results[2].1);
}

#[test]
fn dispatches_that_would_race_or_do_not_fit_are_errors() {
    let rec = &mut Recorder::new(gpu());
    let x = up(&[1.0; 8], &[8]);
    let dispatch = |rec: &mut Recorder, bindings: &[&Tensor], groups| {
        rec.dispatch(&Dispatch {
            variant: Variant::new(&TWICE, "main", &[]),
            label: "twice",
            params: bytemuck::bytes_of(&[8u32, 0, 0, 0]),
            bindings,
            grid: Grid::Cube(groups, 1, 1),
            flops: 0.0,
            bytes: 0.0,
        })
    };
    invalid("in place", dispatch(rec, &[&x, &x.reshape(&[2, 4]).unwrap()], 1));
    invalid("one binding", dispatch(rec, &[&x], 1));
    let y = rec.temp("y", &[8]).unwrap();
    invalid("no workgroups", dispatch(rec, &[&x, &y], 0));
    invalid("too many workgroups", dispatch(rec, &[&x, &y], 1 << 20));
    dispatch(rec, &[&x, &y], 1).unwrap();
}

#[test]
fn profiles_have_times() {
    let gpu =
        match Gpu::open(&DeviceOptions { profile: true, checked: Some(true), tune: Some(false), ..Default::default() })
        {
            // Some adapters have no timestamps, and say so.
            Err(Error::Unsupported { .. }) => return,
            other => other.unwrap(),
        };
    let (m, n, k) = (200, 150, 300);
    let (a, b) = (gpu.zeros("a", &[m, k]).unwrap(), gpu.zeros("b", &[n, k]).unwrap());
    let (plan, y) = plan_on(&gpu, |rec| {
        let c = gemm::matmul_with(rec, Kernel::Rows, Layout::Nt, &a, &b, &Epilogue::default())?;
        softmax::forward(rec, &c)
    });
    assert_eq!(plan.labels(), ["gemm nt", "softmax"]);
    plan.run().unwrap();
    plan.run().unwrap();
    assert!((gpu.read::<f32>(&y).unwrap()[0] - 1.0 / n as f32).abs() < 1e-6);
    let rows = gpu.profile().unwrap().rows();
    assert_eq!(rows.len(), 2);
    assert!(rows[0].seconds >= rows[1].seconds, "slowest first");
    let row = rows.iter().find(|r| r.label == "gemm nt").unwrap();
    assert_eq!(row.calls, 2);
    assert!(row.seconds > 0.0 && row.seconds < 60.0, "{} s", row.seconds);
    assert_eq!(row.flops, 2.0 * 2.0 * (m * n * k) as f64);
    assert!(row.bytes > 0.0);
    // A device opened without it keeps none.
    assert!(self::gpu().profile().is_none());
}
