//! What takes a row at a time: LayerNorm, normalisation, softmax, cross-entropy.

use tipi::low_level::gpu::Recorder;
use tipi::low_level::kernels::activation::{self, Activation};
use tipi::low_level::kernels::gemm::{self, Epilogue, Kernel, Layout};
use tipi::low_level::kernels::{layernorm, loss, normalize, softmax};

use crate::twins::rowwise::Flaw;
use crate::twins::{Random, Real, Tracked, assert_close, check, check_rejects, tolerance, values, widen};
use crate::{check_half, gpu, invalid, run, run1, run1_half, twins, up, up_u32, with_and_without_features};

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
                    let [y, stats, dx, based, onto] = run(|rec| {
                        let n = layernorm::forward(rec, &x_g, &gain_g, &shift_g, eps)?;
                        let onto = layernorm::forward_onto(rec, &x_g, (&gain_g, &shift_g), eps, Some(&base_g))?.y;
                        let dx = layernorm::backward(rec, &x_g, &n.stats, &gain_g, &dy_g, None)?;
                        let based = layernorm::backward(rec, &x_g, &n.stats, &gain_g, &dy_g, Some(&base_g))?;
                        Ok([n.y, n.stats, dx, based, onto])
                    });
                    let (x, gain, shift) = (widen::<Tracked>(&x), widen(&gain), widen(&shift));
                    let (dy, base) = (widen(&dy), widen::<Tracked>(&base));
                    let what = format!("layernorm {rows}×{width}, ±{size} around {offset}");
                    let (y_t, stats_t) = twins::rowwise::layernorm(&x, &gain, &shift, eps, Flaw::None);
                    check(&what, &y, &y_t);
                    check(&format!("{what} stats"), &stats, &stats_t);
                    let onto_t: Vec<Tracked> = y_t.iter().zip(&base).map(|(y, base)| *y + *base).collect();
                    check(&format!("{what} onto"), &onto, &onto_t);
                    check_rejects(&format!("{what} onto"), "nothing to add to", &onto, &y_t);
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
                    let half = |rec: &mut Recorder| layernorm::forward_half(rec, &x_g, &gain_g, &shift_g, eps);
                    if width % 2 == 0 {
                        check_half(&format!("{what} as f16"), &run1_half(|rec| Ok(half(rec)?.y)), &y);
                        check(&format!("{what} stats beside f16"), &run1(|rec| Ok(half(rec)?.stats)), &stats_t);
                    } else {
                        invalid("an odd width", half(&mut Recorder::new(gpu())));
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
