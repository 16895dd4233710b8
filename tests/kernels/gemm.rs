//! Matrix products by all kernels, and activations.

use std::collections::HashMap;

use tipi::low_level::gpu::{DType, Matrices, Recorder, Tensor};
use tipi::low_level::kernels::activation::{self, Activation};
use tipi::low_level::kernels::gemm::{self, Bytes, Epilogue, Kernel, Layout, Precision};

use crate::twins::{Random, Real, Tracked, check, check_rejects, widen};
use crate::{ACTIVATIONS, bits, check_half, gpu, invalid, run, run1, run1_half, twins, up, with_and_without_features};

#[test]
fn gemm_in_all_layouts_by_all_kernels_with_all_epilogues() {
    let mut random = Random::new(2);
    // Odd ones; operands whose rows are whole fours and so come four at a time, A's, B's or both; whole tiles several turns deep.
    for [m, n, k] in
        [[1, 1, 1], [3, 5, 7], [9, 33, 4], [8, 32, 16], [65, 33, 17], [1, 150, 192], [70, 130, 129], [132, 136, 68]]
    {
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
            let problem = gemm::Problem { layout, m, n, k, a: DType::F32, b: DType::F32 };
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
                        half: false,
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
    for [m, n, k] in [[3, 5, 7], [1, 33, 9], [17, 34, 6], [70, 130, 67], [132, 136, 68]] {
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
                let problem = gemm::Problem { layout, m, n, k, a: DType::F32, b: b_g.dtype() };
                for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.takes(caps, &problem)) {
                    let what = format!("{kernel:?} {layout:?} {m}×{n}×{k}, B in {:?}", b_g.dtype());
                    let (bias_g, residual_g) = (up(&bias, &[n]), up(&residual, &[m, n]));
                    let epilogue = Epilogue {
                        alpha: 0.5,
                        bias: Some(&bias_g),
                        activation: Some(Activation::Gelu),
                        residual: Some(&residual_g),
                        half: false,
                    };
                    // Matrix units that take f16 take A in it, too.
                    let halves = kernel.by_matrix_units() && caps.matrices.is_some_and(Matrices::half);
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
    let b = |b| gemm::Problem { layout: Layout::Nt, m: 1, n: 1, k: 1, a: DType::F32, b };
    let any = |dtype| Kernel::ALL.into_iter().any(|kernel| kernel.takes(caps, &b(dtype)));
    assert_eq!(taken > 0, any(DType::F16) || any(DType::Texels));
}

/// Rows that are made for matrix units alone: f16 in place of f32 changes nothing, since they round to it.
#[test]
fn gemm_of_rows_in_f16_gives_the_bits_of_rounded_ones() {
    let mut random = Random::new(47);
    let caps = gpu().capabilities();
    for [m, n, k] in [[1, 4, 4], [3, 36, 12], [70, 132, 68], [132, 136, 132]] {
        let (a, b) = (random.vector(m * k), random.vector(n * k));
        let (bias, residual) = (up(&random.vector(n), &[n]), up(&random.vector(m * n), &[m, n]));
        let half: Vec<half::f16> = a.iter().map(|v| half::f16::from_f32(*v)).collect();
        let rounded: Vec<f32> = half.iter().map(|v| v.to_f32()).collect();
        let (half_g, rounded_g) = (gpu().upload("test", &half, &[m, k]).unwrap(), up(&rounded, &[m, k]));
        let weights: Vec<half::f16> = b.iter().map(|v| half::f16::from_f32(*v)).collect();
        let bytes = Bytes::of(&b, k).unwrap().upload(gpu(), "test", [n, k], false).unwrap();
        for b_g in [gpu().upload("test", &weights, &[n, k]).unwrap(), bytes] {
            let problem = gemm::Problem { layout: Layout::Nt, m, n, k, a: DType::F16, b: b_g.dtype() };
            let (takes, not): (Vec<_>, Vec<_>) = Kernel::ALL.into_iter().partition(|k| k.takes(caps, &problem));
            assert!(!gemm::takes_half(gpu(), m, &b_g).unwrap() || !takes.is_empty());
            for kernel in takes {
                let what = format!("{kernel:?} {m}×{n}×{k}, B in {:?}", b_g.dtype());
                let activation = Some(Activation::QuickGelu);
                let added = Epilogue { bias: Some(&bias), residual: Some(&residual), ..Epilogue::default() };
                let of =
                    |a: &Tensor, e: &Epilogue<'_>| run1(|rec| gemm::matmul_with(rec, kernel, Layout::Nt, a, &b_g, e));
                let whole = of(&rounded_g, &added);
                assert_eq!(bits(&of(&half_g, &added)), bits(&whole), "{what}");
                let plain = Epilogue { residual: None, ..added };
                assert_ne!(bits(&of(&half_g, &plain)), bits(&whole), "{what}: sees no residual");
                // And stored as f16, for the next product.
                let hidden = Epilogue { activation, ..plain };
                let stored = Epilogue { half: true, ..hidden };
                let got = run1_half(|rec| gemm::matmul_with(rec, kernel, Layout::Nt, &half_g, &b_g, &stored));
                check_half(&what, &got, &of(&half_g, &hidden));
            }
            for kernel in not {
                let mut rec = Recorder::new(gpu());
                let plain = Epilogue::default();
                invalid("rows of f16", gemm::matmul_with(&mut rec, kernel, Layout::Nt, &half_g, &b_g, &plain));
                let stored = Epilogue { half: true, ..plain };
                invalid("f16 stored", gemm::matmul_with(&mut rec, kernel, Layout::Nt, &rounded_g, &b_g, &stored));
            }
        }
    }
}

/// Rows of very different sizes, each with a scale of its own; one of nothing.
fn uneven(random: &mut Random, rows: usize, cols: usize) -> Vec<f32> {
    let mut values = random.vector(rows * cols);
    for (i, row) in values.chunks_mut(cols).enumerate() {
        let size = if i % 7 == 5 { 0.0 } else { 0.3f32 * 2.5f32.powi(i as i32 % 4 - 2) };
        row.iter_mut().for_each(|v| *v *= size);
    }
    values
}

/// op(A)·op(B) for B in bytes [rows, cols], in the order in which it is computed: of Bᵀ sums are scaled, else B is. `round` is
/// what becomes of a scaled number before it is multiplied.
fn product_of_bytes(
    layout: Layout,
    a: &[f32],
    (bytes, scales): (&[i8], &[f32]),
    round: &dyn Fn(f32) -> f32,
    sizes: [usize; 3],
) -> Vec<Tracked> {
    let cols = bytes.len() / scales.len();
    let whole = bytes.iter().map(|v| Tracked::of(f64::from(*v)));
    let scale = |i: usize| Tracked::of(f64::from(scales[i]));
    if layout == Layout::Nt {
        let sums = twins::linear::matmul(layout, &widen(a), &whole.collect::<Vec<_>>(), sizes);
        return sums.into_iter().enumerate().map(|(i, sum)| scale(i % sizes[1]) * sum).collect();
    }
    let scaled = whole.enumerate().map(|(i, v)| {
        let v = scale(i / cols) * v;
        let rounded = f64::from(round(v.value as f32)) - f64::from(v.value as f32);
        v + Tracked::of(rounded)
    });
    twins::linear::matmul(layout, &widen(a), &scaled.collect::<Vec<_>>(), sizes)
}

/// Frozen operands of 8-bit numbers with a scale for each row, in buffers and in textures, whose rows are padded to fours.
#[test]
fn gemm_of_bytes_by_all_kernels() {
    let mut random = Random::new(81);
    let caps = gpu().capabilities();
    for [m, n, k] in [[1, 1, 1], [3, 5, 7], [1, 33, 9], [17, 34, 6], [70, 130, 67], [132, 136, 68]] {
        let a = random.vector(m * k);
        let (bias, residual) = (random.vector(n), random.vector(m * n));
        let (bias_t, residual_t) = (widen::<Tracked>(&bias), widen::<Tracked>(&residual));
        let (bias_g, residual_g) = (up(&bias, &[n]), up(&residual, &[m, n]));
        let whole = Epilogue {
            alpha: 0.5,
            bias: Some(&bias_g),
            activation: Some(Activation::Gelu),
            residual: Some(&residual_g),
            half: false,
        };
        for layout in [Layout::Nt, Layout::Nn] {
            let shape = if layout == Layout::Nt { [n, k] } else { [k, n] };
            let b = uneven(&mut random, shape[0], shape[1]);
            let stored = Bytes::of(&b, shape[1]).unwrap();
            let mut first: HashMap<(gemm::Order, bool), Vec<u32>> = HashMap::new();
            for texels in [false, true] {
                let b_g = stored.upload(gpu(), "test", shape, texels).unwrap();
                let problem = gemm::Problem { layout, m, n, k, a: DType::F32, b: b_g.dtype() };
                let (takes, not): (Vec<_>, Vec<_>) = Kernel::ALL.into_iter().partition(|k| k.takes(caps, &problem));
                for (kernel, fused) in takes.into_iter().flat_map(|kernel| [(kernel, false), (kernel, true)]) {
                    let what = format!("{kernel:?} {layout:?} {m}×{n}×{k}, B in {:?}, fused {fused}", b_g.dtype());
                    let epilogue = if fused { whole } else { Epilogue::default() };
                    let twin = |a: &[f32], bytes: &[i8], scales: &[f32], round: &dyn Fn(f32) -> f32| {
                        let product = product_of_bytes(layout, a, (bytes, scales), round, [m, n, k]);
                        match fused {
                            false => product,
                            true => twins::linear::epilogue(
                                &product,
                                0.5,
                                Some(&bias_t),
                                Some(Activation::Gelu),
                                Some(&residual_t),
                            ),
                        }
                    };
                    // Matrix units that take f16 take A in it, and B where it is scaled before.
                    let halves = kernel.by_matrix_units() && caps.matrices.is_some_and(Matrices::half);
                    let round = |v: f32| if halves { half::f16::from_f32(v).to_f32() } else { v };
                    let a_t: Vec<f32> = a.iter().map(|v| round(*v)).collect();
                    let a_g = up(&a, &[m, k]);
                    let got = run1(|rec| gemm::matmul_with(rec, kernel, layout, &a_g, &b_g, &epilogue));
                    let same = first.entry((kernel.order(), fused)).or_insert_with(|| bits(&got));
                    assert_eq!(*same, bits(&got), "{what}: other bits than another kernel of its order");
                    check(&what, &got, &twin(&a_t, &stored.bytes, &stored.scales, &round));
                    if shape[0] < 3 || shape[1] < 3 {
                        continue;
                    }
                    let rejects = |error: &str, bytes: &[i8], scales: &[f32]| {
                        check_rejects(&what, error, &got, &twin(&a_t, bytes, scales, &round));
                    };
                    rejects("no scales", &stored.bytes, &vec![1.0; shape[0]]);
                    let mut other = stored.scales.clone();
                    other.rotate_left(1);
                    rejects("the next row's scale", &stored.bytes, &other);
                    let mut other = stored.scales.clone();
                    other[0] *= 1.01;
                    rejects("a scale that is off by a hundredth", &stored.bytes, &other);
                    let mut other = stored.bytes.clone();
                    other[0] = other[0].wrapping_add(1);
                    rejects("a number that is off by one", &other, &stored.scales);
                    let unsigned: Vec<i8> = stored.bytes.iter().map(|v| v & 127).collect();
                    rejects("no signs", &unsigned, &stored.scales);
                }
                for refused in not {
                    let mut rec = Recorder::new(gpu());
                    let a_g = up(&a, &[m, k]);
                    invalid("refused", gemm::matmul_with(&mut rec, refused, layout, &a_g, &b_g, &Epilogue::default()));
                }
            }
        }
    }
}

/// Layers as a model's are frozen, in the form and by the kernels that a device takes, forward and backward.
#[test]
fn layers_in_int8_are_within_half_a_step_of_their_weights() {
    with_and_without_features(|| {
        let mut random = Random::new(82);
        for [rows, out, input] in [[5, 33, 18], [40, 68, 132]] {
            let weights = uneven(&mut random, out, input);
            let frozen = gemm::freeze(gpu(), "w", &weights, [out, input], Precision::Int8).unwrap();
            let scales = gpu().read::<f32>(frozen.scales().unwrap());
            assert!(frozen.dtype().is_texture() || scales.unwrap() == Bytes::of(&weights, input).unwrap().scales);
            let stored = Bytes::of(&weights, input).unwrap();
            let (x, dy) = (random.vector(rows * input), random.vector(rows * out));
            for (layout, a, sizes) in [(Layout::Nt, &x, [rows, out, input]), (Layout::Nn, &dy, [rows, input, out])] {
                let a_g = up(a, &[rows, sizes[2]]);
                let got = run1(|rec| gemm::matmul(rec, layout, &a_g, &frozen, &Epilogue::default()));
                let what = format!("{layout:?} {sizes:?} by {:?}", frozen.dtype());
                let problem =
                    gemm::Problem { layout, m: rows, n: sizes[1], k: sizes[2], a: DType::F32, b: frozen.dtype() };
                let units = gemm::choose(gpu(), &problem).unwrap().by_matrix_units();
                let halves = units && gpu().capabilities().matrices.is_some_and(Matrices::half);
                let round = |v: f32| if halves { half::f16::from_f32(v).to_f32() } else { v };
                let a: Vec<f32> = a.iter().map(|v| round(*v)).collect();
                let twin = product_of_bytes(layout, &a, (&stored.bytes, &stored.scales), &round, sizes);
                check(&what, &got, &twin);
                // And of the weights themselves it is off by no more than half a step of each.
                let exact = twins::linear::matmul(layout, &widen::<f64>(&a), &widen(&weights), sizes);
                for (i, (got, exact)) in got.iter().zip(&exact).enumerate() {
                    let (row, col) = (i / sizes[1], i % sizes[1]);
                    let step = |j: usize| f64::from(stored.scales[if layout == Layout::Nt { col } else { j }]);
                    let half = |j: usize| 0.5 * step(j) * f64::from(a[row * sizes[2] + j]).abs();
                    let most: f64 = (0..sizes[2]).map(half).sum::<f64>() + if halves { 0.02 } else { 1e-4 };
                    assert!(
                        (f64::from(*got) - exact).abs() <= most,
                        "{what} at {i}: {got} and {exact}, at most {most}"
                    );
                }
                let full = twins::linear::matmul(layout, &widen::<Tracked>(&a), &widen(&weights), sizes);
                check_rejects(&what, "weights not rounded", &got, &full);
            }
        }
        // What int8 cannot hold well is f16 as long as that holds it.
        for (outlier, halves) in [(60.0, true), (1e6, false)] {
            let mut weights = random.vector(6 * 50);
            weights.iter_mut().step_by(50).for_each(|v| *v = outlier);
            let frozen = gemm::freeze(gpu(), "w", &weights, [6, 50], Precision::Int8).unwrap();
            let kinds = if halves { [DType::F16, DType::HalfTexels] } else { [DType::F32, DType::Texels] };
            assert!(kinds.contains(&frozen.dtype()) && frozen.scales().is_none(), "{outlier}: {:?}", frozen.dtype());
        }
        for wrong in [f32::NAN, f32::INFINITY] {
            invalid("not finite", gemm::freeze(gpu(), "w", &[1.0, wrong, 2.0, 3.0], [2, 2], Precision::Int8));
        }
        // Bytes without what they are multiples of are an error, and so are scales for anything else.
        let bare = gpu().upload("test", &[1i8, 2, 3, 4, 5, 6], &[2, 3]).unwrap();
        assert_eq!(gpu().read::<i8>(&bare).unwrap(), [1, 2, 3, 4, 5, 6]);
        let mut rec = Recorder::new(gpu());
        invalid("no scales", gemm::matmul(&mut rec, Layout::Nt, &up(&[0.0; 3], &[1, 3]), &bare, &Epilogue::default()));
        invalid("too few scales", bare.with_scales(up(&[1.0], &[1])));
        invalid("scales of f32", up(&[1.0, 2.0], &[2, 1]).with_scales(up(&[1.0, 1.0], &[2])));
    });
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
