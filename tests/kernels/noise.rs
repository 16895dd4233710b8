//! Random numbers: their words, their distribution, and the noise made of them.

use tipi::low_level::gpu::DType;
use tipi::low_level::kernels::activation::Activation;
use tipi::low_level::kernels::{dropout, noise};

use crate::twins::noise::Draw;
use crate::twins::{Random, Real, Tracked, check, check_rejects, widen};
use crate::{bits, gpu, plan_on, run, twins, up, up_u32};

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
