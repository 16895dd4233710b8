//! Batch norm against its twin, its rows in one tensor and in several.

use tipi::low_level::gpu::{Recorder, Tensor};
use tipi::low_level::kernels::batchnorm::{self, Extra};

use crate::twins::batchnorm::Flaw;
use crate::twins::{Random, Tracked, check, check_rejects, widen};
use crate::{bits, gpu, invalid, run, run1, twins, up, with_and_without_features};

/// Rows as one tensor, or as two of unequal lengths.
fn parts(x: &[f32], channels: usize, split: usize) -> Vec<Tensor> {
    let (first, second) = x.split_at(split * channels);
    let rows = |part: &[f32]| up(part, &[part.len() / channels, channels]);
    [first, second].into_iter().filter(|part| !part.is_empty()).map(rows).collect()
}

#[test]
fn batch_norm_equals_its_definition() {
    with_and_without_features(|| {
        let mut random = Random::new(81);
        for (rows, channels, split) in [(2, 1, 0), (7, 3, 2), (130, 5, 0), (257, 33, 100), (1000, 64, 999)] {
            let what = format!("batch norm {rows}×{channels}");
            // Values off zero, as those of a layer are: sums of squares would cancel.
            let x: Vec<f32> = random.vector(rows * channels).iter().map(|v| v + 3.0).collect();
            let (gain, shift) = (random.vector_in(channels, 0.5, 1.5), random.vector(channels));
            let (base, dy) = (random.vector(rows * channels), random.vector(rows * channels));
            let before = random.vector_in(2 * channels, 0.1, 2.0);
            let (gain_g, shift_g) = (up(&gain, &[channels]), up(&shift, &[channels]));
            let (x_g, base_g) = (parts(&x, channels, split), parts(&base, channels, split));
            let (dy_g, running) = (parts(&dy, channels, split), up(&before, &[2, channels]));

            let stats = run1(|rec| batchnorm::statistics(rec, &x_g, &running));
            let after = gpu().read::<f32>(&running).unwrap();
            let wide = widen::<Tracked>(&x);
            let want = twins::batchnorm::statistics(&wide, channels, Flaw::None);
            check(&what, &stats, &want);
            check(&format!("{what} running"), &after, &twins::batchnorm::running(&wide, &widen(&before)));
            let stale = twins::batchnorm::running(&wide, &widen::<Tracked>(&after));
            check_rejects(&what, "statistics taken twice", &after, &stale);
            if rows < 300 {
                let wrong = twins::batchnorm::statistics(&wide, channels, Flaw::Sample);
                check_rejects(&what, "the sample's variance", &stats, &wrong);
            }

            let (wide_gain, wide_shift) = (widen::<Tracked>(&gain), widen::<Tracked>(&shift));
            let wide_base = widen::<Tracked>(&base);
            for (with_base, relu) in [(false, false), (false, true), (true, false), (true, true)] {
                let [got] = run(|rec| {
                    let stats = batchnorm::statistics(rec, &x_g, &running)?;
                    let whole = rec.temp("whole", &[rows, channels])?;
                    let mut at = 0;
                    for (x, base) in x_g.iter().zip(&base_g) {
                        let extra = Extra { base: with_base.then_some(base), relu };
                        let y = batchnorm::apply(rec, x, &stats, (&gain_g, &shift_g), extra)?;
                        tipi::low_level::kernels::slices::put(rec, &y, &whole, at)?;
                        at += y.len();
                    }
                    Ok([whole])
                });
                let given = with_base.then_some(&wide_base[..]);
                let want = twins::batchnorm::apply(&wide, &want, (&wide_gain, &wide_shift), given, relu);
                let what = format!("{what} base {with_base} relu {relu}");
                check(&what, &got, &want);
                if rows > 2 {
                    let running = widen::<Tracked>(&before);
                    let wrong: Vec<Tracked> =
                        twins::batchnorm::apply(&wide, &running, (&wide_gain, &wide_shift), given, relu);
                    check_rejects(&what, "running statistics for the batch's", &got, &wrong);
                }
            }

            let [dx, dgain, dshift] = run(|rec| {
                let stats = batchnorm::statistics(rec, &x_g, &running)?;
                let grads = batchnorm::backward(rec, &x_g, &stats, &gain_g, &dy_g)?;
                let whole = rec.temp("whole", &[rows, channels])?;
                let mut at = 0;
                for dx in &grads.x {
                    tipi::low_level::kernels::slices::put(rec, dx, &whole, at)?;
                    at += dx.len();
                }
                Ok([whole, grads.gain, grads.shift])
            });
            let wide_dy = widen::<Tracked>(&dy);
            let (dx_t, dgain_t, dshift_t) = twins::batchnorm::backward(&wide, &wide_gain, &wide_dy, Flaw::None);
            // Of two rows nearly nothing is left of dx: its bound is all that is compared.
            if rows > 2 {
                check(&format!("{what} dx"), &dx, &dx_t);
                let (wrong, ..) = twins::batchnorm::backward(&wide, &wide_gain, &wide_dy, Flaw::Detached);
                check_rejects(&format!("{what} dx"), "constant statistics", &dx, &wrong);
                check(&format!("{what} dgain"), &dgain, &dgain_t);
            }
            check(&format!("{what} dshift"), &dshift, &dshift_t);
        }
    });
}

#[test]
fn recalled_statistics_are_the_running_ones() {
    let mut random = Random::new(82);
    let channels = 37;
    let kept = random.vector_in(2 * channels, 0.1, 2.0);
    let running = up(&kept, &[2, channels]);
    let got = run1(|rec| batchnorm::recalled(rec, &running));
    let (mean, variance) = kept.split_at(channels);
    let rstd = |v: &f32| 1.0 / (f64::from(*v) + 1e-5).sqrt();
    let want: Vec<f64> = mean.iter().map(|v| f64::from(*v)).chain(variance.iter().map(rstd)).collect();
    twins::assert_close("recalled", &got, &want, &want.iter().map(|w| 1e-6 * w.abs()).collect::<Vec<_>>());
    assert_eq!(bits(&gpu().read::<f32>(&running).unwrap()), bits(&kept), "nothing is learned by looking");

    let mut rec = Recorder::new(gpu());
    let x = [up(&[0.0; 6], &[2, 3])];
    invalid("running of another width", batchnorm::statistics(&mut rec, &x, &running));
    invalid("no rows", batchnorm::statistics(&mut rec, &[], &running));
    let mixed = [up(&[0.0; 6], &[2, 3]), up(&[0.0; 4], &[2, 2])];
    invalid("rows of several widths", batchnorm::statistics(&mut rec, &mixed, &up(&[0.0; 6], &[2, 3])));
}
