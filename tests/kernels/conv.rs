//! Convolutions, pools and patch embeddings.

use tipi::low_level::gpu::Recorder;
use tipi::low_level::kernels::conv::{Order, Pictures, Window};
use tipi::low_level::kernels::gemm::Epilogue;
use tipi::low_level::kernels::{conv, patch};

use crate::twins::conv::Convolution;
use crate::twins::linear::Patches;
use crate::twins::{Random, Real, Tracked, check, check_rejects, widen};
use crate::{gpu, plan_on, run, run1, twins, up, with_and_without_features};

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
            shape(3, 7, 8, 5, 3, 2, 1),
            shape(2, 1, 4, 3, 1, 1, 1),
            shape(1, 6, 68, 2, 3, 1, 1),
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
fn convolutions_that_train_have_their_gradients() {
    let shape =
        |batch, size, input, output, side| Convolution { batch, size, input, output, side, stride: 1, pad: side / 2 };
    with_and_without_features(|| {
        let mut random = Random::new(63);
        for s in [
            shape(1, 1, 1, 1, 1),
            shape(2, 5, 3, 4, 3),
            shape(3, 6, 7, 5, 1),
            shape(2, 7, 5, 9, 3),
            shape(1, 9, 2, 3, 5),
        ] {
            let depth = s.side * s.side * s.input;
            let x = random.vector(s.batch * s.size * s.size * s.input);
            let w = random.vector(s.output * depth);
            let (dy, base) = (random.vector(s.batch * s.size * s.size * s.output), random.vector(x.len()));
            let weight = up(&w, &[s.output, depth]);
            let last = up(&x, &[s.batch, s.size, s.size, s.input]);
            let first = up(
                &twins::conv::channels_first(&x, [s.batch, s.size * s.size, s.input]),
                &[s.batch, s.input, s.size, s.size],
            );
            let slopes = up(&dy, &[s.batch, s.size, s.size, s.output]);
            let past = up(&base, &[s.batch, s.size, s.size, s.input]);
            let (wide_x, wide_w, wide_dy) = (widen::<Tracked>(&x), widen::<Tracked>(&w), widen::<Tracked>(&dy));
            let want = twins::conv::convolution(&wide_x, &wide_w, s);
            let (dx, dw) = twins::conv::convolution_backward(&wide_x, &wide_w, &wide_dy, s);
            let dx: Vec<Tracked> = dx.iter().zip(widen::<Tracked>(&base)).map(|(d, b)| *d + b).collect();
            // All rows at once, and a few at a time: pieces that end within a picture and within a row.
            for unfolded in [u64::MAX, 4 * (depth * 7).max(s.side * s.side * s.output * 7) as u64] {
                let what = format!("{s:?} by {unfolded} bytes");
                let all = |x| Pictures { unfolded, ..Pictures::all(x) };
                let pixels = Pictures { unfolded, ..Pictures::of_pixels(&first, 0..s.batch) };
                let [y, y_pixels, dx_g, dw_g, dw_pixels] = run(|rec| {
                    Ok([
                        conv::same(rec, &all(&last), &weight, None)?,
                        conv::same(rec, &pixels, &weight, None)?,
                        conv::same_input(rec, &all(&slopes), &weight, s.side, Some(&past))?,
                        conv::same_weight(rec, &all(&last), &weight, &slopes, None)?,
                        conv::same_weight(rec, &pixels, &weight, &slopes, None)?,
                    ])
                });
                check(&what, &y, &want);
                check(&format!("{what} of pixels"), &y_pixels, &want);
                check(&format!("{what} dx"), &dx_g, &dx);
                check(&format!("{what} dw"), &dw_g, &dw);
                check(&format!("{what} dw of pixels"), &dw_pixels, &dw);
                if s.side > 1 {
                    let mut turned = wide_w.clone();
                    turned.chunks_exact_mut(depth).for_each(|k| k.rotate_left(s.input));
                    let (wrong, _) = twins::conv::convolution_backward(&wide_x, &turned, &wide_dy, s);
                    check_rejects(&format!("{what} dx"), "a window shifted by a column", &dx_g, &wrong);
                    let mut moved = wide_x.clone();
                    moved.rotate_left(s.input);
                    let (_, wrong) = twins::conv::convolution_backward(&moved, &wide_w, &wide_dy, s);
                    check_rejects(&format!("{what} dw"), "pictures shifted by a column", &dw_g, &wrong);
                }
            }
            // The gradients of two parts of a batch add up.
            if s.batch > 1 {
                let area = s.size * s.size * s.output;
                let part = up(&dy[area..], &[s.batch - 1, s.size, s.size, s.output]);
                let head = up(&dy[..area], &[1, s.size, s.size, s.output]);
                let [both] = run(|rec| {
                    let sum = conv::same_weight(rec, &Pictures::of_pixels(&first, 0..1), &weight, &head, None)?;
                    let rest = Pictures::of_pixels(&first, 1..s.batch);
                    Ok([conv::same_weight(rec, &rest, &weight, &part, Some(sum))?])
                });
                check(&format!("{s:?} dw in parts"), &both, &dw);
            }
        }
    });
    let mut rec = Recorder::new(gpu());
    let x = up(&[0.0; 8], &[1, 2, 2, 2]);
    for (what, weight) in [("an even side", up(&[0.0; 8], &[1, 8])), ("other channels", up(&[0.0; 27], &[1, 27]))] {
        assert!(conv::same(&mut rec, &Pictures::all(&x), &weight, None).is_err(), "{what}");
    }
    let weight = up(&[0.0; 18], &[1, 18]);
    assert!(conv::same_input(&mut rec, &Pictures::all(&x), &weight, 3, None).is_err(), "dy of other channels");
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
        Patches { batch: 1, size: 1, patch: 1, width: 1, class: true },
        Patches { batch: 3, size: 12, patch: 4, width: 5, class: true },
        Patches { batch: 2, size: 17, patch: 5, width: 33, class: true }, // two rows and columns of pixels left over
        Patches { batch: 2, size: 9, patch: 5, width: 12, class: true },
        Patches { batch: 1, size: 1, patch: 1, width: 1, class: false },
        Patches { batch: 3, size: 13, patch: 4, width: 7, class: false },
    ] {
        let pixels = random.vector(s.batch * 3 * s.size * s.size);
        let weight = random.vector(s.width * 3 * s.patch * s.patch);
        let (class, position) = (random.vector(s.width), random.vector(s.tokens() * s.width));
        let embedding = patch::PatchEmbedding {
            weight: up(&weight, &[s.width, 3 * s.patch * s.patch]),
            // Either the class token or a bias: the twin adds one of them.
            bias: (!s.class).then(|| up(&class, &[s.width])),
            class: s.class.then(|| up(&class, &[s.width])),
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
