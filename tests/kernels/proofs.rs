//! The twins themselves: against tables, and their gradients against finite differences.

use tipi::low_level::kernels::gemm::Layout;

use crate::twins::attention::{Heads, Ragged};
use crate::twins::linear::Patches;
use crate::twins::rowwise::Flaw;
use crate::twins::{Random, check_gradient, widen};
use crate::{ACTIVATIONS, twins};

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
    let patches = Patches { batch: 2, size: 5, patch: 2, width: 3, class: true };
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

#[test]
fn gradients_of_noise_on_pixels_agree_with_finite_differences() {
    use crate::twins::batchnorm::{self, Flaw};
    use crate::twins::conv::{Convolution, convolution, convolution_backward};
    use crate::twins::planes::{self, Planes};

    let mut random = Random::new(2);
    let mut draw = |n: usize| widen::<f64>(&random.vector(n));
    for (side, size) in [(3, 4), (1, 3), (3, 2)] {
        let s = Convolution { batch: 2, size, input: 3, output: 2, side, stride: 1, pad: side / 2 };
        let (x, w, dy) = (draw(2 * size * size * 3), draw(2 * side * side * 3), draw(2 * size * size * 2));
        let (dx, dw) = convolution_backward(&x, &w, &dy, s);
        check_gradient(&format!("{s:?} dx"), |x| convolution(x, &w, s), &x, &dy, &dx);
        check_gradient(&format!("{s:?} dw"), |w| convolution(&x, w, s), &w, &dy, &dw);
    }

    let (x, gain, shift, dy) = (draw(5 * 3), draw(3), draw(3), draw(5 * 3));
    let (dx, dgain, dshift) = batchnorm::backward(&x, &gain, &dy, Flaw::None);
    check_gradient("batch norm dx", |x| batchnorm::forward(x, &gain, &shift), &x, &dy, &dx);
    check_gradient("batch norm, gain", |gain| batchnorm::forward(&x, gain, &shift), &gain, &dy, &dgain);
    check_gradient("batch norm, shift", |shift| batchnorm::forward(&x, &gain, shift), &shift, &dy, &dshift);

    let s = Planes { pictures: 2, area: 5, planes: 6 };
    let (h, dy) = (draw(60), draw(60));
    let dh = planes::scale_backward(&h, &dy, 0.1, s, false);
    check_gradient("planes dx", |h| planes::scale(h, 0.1, s, false), &h, &dy, &dh);
    for shared in [false, true] {
        let (x, eps, dy) = (draw(30), draw(if shared { 45 } else { 90 }), draw(90));
        let dplanes = planes::add_backward(&h, &eps, &dy, 3, s);
        check_gradient("pixel noise", |h| planes::add(&x, h, &eps, 3, s, false), &h, &dy, &dplanes);
    }
}
