//! Noise on pixels against its twin.

use tipi::low_level::gpu::Recorder;
use tipi::low_level::kernels::planes;

use crate::twins::planes::Planes;
use crate::twins::{Random, Tracked, check, check_rejects, widen};
use crate::{gpu, invalid, run, twins, up, with_and_without_features};

#[test]
fn planes_have_the_level_that_was_asked_for() {
    with_and_without_features(|| {
        let mut random = Random::new(91);
        let level = 0.1f32;
        for s in [
            Planes { pictures: 1, area: 1, planes: 2 },
            Planes { pictures: 3, area: 49, planes: 6 },
            Planes { pictures: 2, area: 1001, planes: 6 },
        ] {
            let n = s.pictures * s.area * s.planes;
            // Planes of very different strengths, as those of means and spreads are.
            let h: Vec<f32> =
                (0..n).map(|i| random.uniform(-1.0, 1.0) * 10f32.powi((i % s.planes) as i32 - 3)).collect();
            let ds = random.vector(n);
            let h_g = up(&h, &[s.pictures, s.area, s.planes]);
            let ds_g = up(&ds, &[s.pictures, s.planes, s.area]);
            let [y, dh] = run(|rec| {
                let scaled = planes::scale(rec, &h_g, level)?;
                let dh = planes::scale_backward(rec, &h_g, &scaled, &ds_g)?;
                Ok([scaled.planes, dh])
            });
            let what = format!("{s:?}");
            let (h, ds) = (widen::<Tracked>(&h), widen::<Tracked>(&ds));
            let level = f64::from(level);
            check(&what, &y, &twins::planes::scale(&h, level, s, false));
            if s.area > 1 {
                let wrong = twins::planes::scale(&h, level, s, true);
                check_rejects(&what, "the RMS of the picture for the plane's", &y, &wrong);
                check(&format!("{what} dx"), &dh, &twins::planes::scale_backward(&h, &ds, level, s, false));
                let wrong = twins::planes::scale_backward(&h, &ds, level, s, true);
                check_rejects(&format!("{what} dx"), "a constant RMS", &dh, &wrong);
            }
        }
    });
    let nothing = up(&[0.0; 24], &[2, 2, 6]);
    let [y] = run(|rec| Ok([planes::scale(rec, &nothing, 0.1)?.planes]));
    assert!(y.iter().all(|v| *v == 0.0), "nothing stays nothing: {y:?}");
    let mut rec = Recorder::new(gpu());
    invalid("an odd number of planes", planes::scale(&mut rec, &up(&[0.0; 12], &[2, 2, 3]), 0.1));
}

#[test]
fn pixels_get_their_noise() {
    let mut random = Random::new(92);
    for (pictures, size, draws, shared) in [(1, 1, 1, false), (3, 5, 2, false), (3, 5, 2, true), (2, 7, 3, true)] {
        let s = Planes { pictures, area: size * size, planes: 6 };
        let (one, rows) = (3 * s.area, pictures * draws);
        let x = random.vector(pictures * one);
        let mut noise = random.vector(2 * pictures * one);
        noise[one] = -0.3;
        if size > 1 {
            (noise[one + 1], noise[one + 2]) = (0.0, -0.0);
        }
        let drawn = if shared { draws } else { rows };
        let (eps, dy) = (random.vector_in(drawn * one, 0.1, 2.0), random.vector(rows * one));
        let x_g = up(&x, &[pictures, 3, size, size]);
        let noise_g = up(&noise, &[pictures, 6, s.area]);
        let (eps_g, dy_g) = (up(&eps, &[drawn, 3, size, size]), up(&dy, &[rows, 3, size, size]));
        let [y, dplanes] = run(|rec| {
            let y = planes::add(rec, &x_g, &noise_g, &eps_g, draws)?;
            Ok([y, planes::add_backward(rec, &noise_g, &eps_g, draws, &dy_g)?])
        });
        let what = format!("pixel noise {pictures}·{draws}×{size}, shared {shared}");
        let (x, noise) = (widen::<Tracked>(&x), widen::<Tracked>(&noise));
        let (eps, dy) = (widen::<Tracked>(&eps), widen::<Tracked>(&dy));
        check(&what, &y, &twins::planes::add(&x, &noise, &eps, draws, s, false));
        check_rejects(&what, "spread with its sign", &y, &twins::planes::add(&x, &noise, &eps, draws, s, true));
        check(&format!("{what} dx"), &dplanes, &twins::planes::add_backward(&noise, &eps, &dy, draws, s));
        if size > 1 {
            assert!(dplanes[one + 1] == 0.0 && dplanes[one + 2] == 0.0, "{what}: |0| has slope 0");
            let mut other = eps.clone();
            other.rotate_left(s.area);
            let wrong = twins::planes::add_backward(&noise, &other, &dy, draws, s);
            check_rejects(&format!("{what} dx"), "another draw", &dplanes, &wrong);
        }
    }
    let mut rec = Recorder::new(gpu());
    let (x, noise) = (up(&[0.0; 12], &[1, 3, 2, 2]), up(&[0.0; 24], &[1, 6, 4]));
    invalid("too few random numbers", planes::add(&mut rec, &x, &noise, &up(&[0.0; 6], &[1, 6]), 1));
    invalid("pixels of other pictures", planes::add(&mut rec, &up(&[0.0; 3], &[1, 3]), &noise, &x, 1));
}
