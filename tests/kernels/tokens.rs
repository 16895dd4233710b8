//! What towers beyond CLIP's do with tokens: rotary positions, SwiGLU, pooling.

use tipi::low_level::gpu::{DType, Recorder};
use tipi::low_level::kernels::attention::Span;
use tipi::low_level::kernels::rotary::{self, Angles};
use tipi::low_level::kernels::{pooling, swiglu};

use crate::twins::real::{Real, Tracked};
use crate::twins::tokens::{Pooling, mean_of_spans, mean_of_spans_backward, rotate, swiglu as gated, swiglu_backward};
use crate::twins::{Random, check, check_gradient, check_rejects, widen};
use crate::{bits, gpu, invalid, run1, up, with_and_without_features};

const POOLINGS: [Pooling; 4] = [
    Pooling { batch: 1, tokens: 1, width: 1, heads: 1 },
    Pooling { batch: 3, tokens: 5, width: 6, heads: 2 },
    Pooling { batch: 2, tokens: 67, width: 33, heads: 11 },
    Pooling { batch: 1, tokens: 130, width: 72, heads: 1 },
];

/// Angles without a pattern, of which the first token's are zero.
fn angles(tokens: usize, head: usize) -> Vec<f64> {
    (0..tokens * head / 2).map(|i| if i < head / 2 { 0.0 } else { (i * i % 17) as f64 * 0.4 }).collect()
}

#[test]
fn queries_and_keys_are_turned_and_turned_back() {
    let mut random = Random::new(61);
    for (pictures, tokens, heads, head) in [(1, 1, 1, 2), (2, 5, 3, 4), (3, 17, 2, 24), (1, 33, 5, 12)] {
        let (rows, width) = (pictures * tokens, heads * head);
        let qkv = random.vector(rows * 3 * width);
        let all = angles(tokens, head);
        let table = Angles::upload(gpu(), &all, tokens, head).unwrap();
        let turned = |back: bool| {
            // In place: each time on numbers of its own.
            let x = up(&qkv, &[rows, 3 * width]);
            let turn = if back { rotary::turn_back } else { rotary::turn };
            run1(|rec| turn(rec, &x, &table, heads).map(|()| x.clone()))
        };
        let x = widen::<Tracked>(&qkv);
        let what = format!("rotary {pictures}×{tokens}, {heads} heads of {head}");
        let want = |sign| rotate(&x, &all, tokens, head, width, sign);
        check(&what, &turned(false), &want(1.0));
        check(&format!("{what}, back"), &turned(true), &want(-1.0));
        if tokens > 1 {
            check_rejects(&what, "the other way round", &turned(false), &want(-1.0));
        }
    }
    // Turning back is the gradient: the transpose of turning.
    let (tokens, head, width) = (3, 4, 8);
    let all = angles(tokens, head);
    let (x, dy) = (widen::<f64>(&random.vector(3 * 24)), widen::<f64>(&random.vector(3 * 24)));
    let dx = rotate(&dy, &all, tokens, head, width, -1.0);
    check_gradient("rotary", |x| rotate(x, &all, tokens, head, width, 1.0), &x, &dy, &dx);
    invalid("too few angles", Angles::upload(gpu(), &all[1..], tokens, head));
    let table = Angles::upload(gpu(), &all, tokens, head).unwrap();
    let mut rec = Recorder::new(gpu());
    let x = |rows: usize, cols: usize| gpu().empty("x", &[rows, cols], DType::F32).unwrap();
    invalid("no whole pictures", rotary::turn(&mut rec, &x(4, 24), &table, 2));
    invalid("another width", rotary::turn(&mut rec, &x(3, 21), &table, 2));
}

#[test]
fn swiglu_is_its_twin() {
    let mut random = Random::new(62);
    with_and_without_features(|| {
        for (rows, width) in [(1, 1), (3, 5), (17, 67)] {
            let x = Random::new(rows as u64).vector_in(2 * rows * width, -6.0, 6.0);
            let dy = Random::new(width as u64).vector(rows * width);
            let (x_g, dy_g) = (up(&x, &[rows, 2 * width]), up(&dy, &[rows, width]));
            let (x, dy) = (widen::<Tracked>(&x), widen::<Tracked>(&dy));
            let what = format!("swiglu {rows}×{width}");
            let got = run1(|rec| swiglu::forward(rec, &x_g));
            check(&what, &got, &gated(&x, width));
            let dx = run1(|rec| swiglu::backward(rec, &x_g, &dy_g));
            check(&format!("{what} dx"), &dx, &swiglu_backward(&x, &dy, width));
            if rows * width > 10 {
                let swapped: Vec<Tracked> =
                    x.chunks(2 * width).flat_map(|row| [&row[width..], &row[..width]].concat()).collect();
                check_rejects(&what, "gates for values", &got, &gated(&swapped, width));
            }
        }
    });
    let (x, dy) = (widen::<f64>(&random.vector(2 * 3 * 4)), widen::<f64>(&random.vector(3 * 4)));
    check_gradient("swiglu", |x| gated(x, 4), &x, &dy, &swiglu_backward(&x, &dy, 4));
    // Far out, where a power of e would overflow.
    let far = run1(|rec| swiglu::forward(rec, &up(&[-200.0, 200.0, 2.0, 3.0], &[1, 4])));
    assert_eq!(bits(&far), bits(&[-0.0, 600.0]));
    let mut rec = Recorder::new(gpu());
    invalid("odd", swiglu::forward(&mut rec, &up(&[0.0; 6], &[2, 3])));
}

#[test]
fn attention_pools_as_its_twin() {
    with_and_without_features(|| {
        for s in POOLINGS {
            let mut random = Random::new(63);
            let stride = s.width + s.heads;
            let x = random.vector_in(s.batch * s.tokens * stride, -4.0, 4.0);
            let dy = random.vector(s.batch * s.width);
            let (x_g, dy_g) = (up(&x, &[s.batch * s.tokens, stride]), up(&dy, &[s.batch, s.width]));
            let (x, dy) = (widen::<Tracked>(&x), widen::<Tracked>(&dy));
            let what = format!("{s:?}");
            let got = run1(|rec| Ok(pooling::attend(rec, &x_g, s.tokens, s.heads)?.y));
            check(&what, &got, &s.attend(&x));
            let dx = run1(|rec| {
                let pooled = pooling::attend(rec, &x_g, s.tokens, s.heads)?;
                pooling::attend_backward(rec, &x_g, &pooled, &dy_g, s.tokens, s.heads)
            });
            check(&format!("{what} dx"), &dx, &s.attend_backward(&x, &dy));
            if s.tokens > 1 {
                // Every token the same share.
                let flat: Vec<Tracked> = x
                    .chunks(stride)
                    .flat_map(|row| row[..s.width].iter().copied().chain(vec![Tracked::of(0.0); s.heads]))
                    .collect();
                check_rejects(&what, "equal shares", &got, &s.attend(&flat));
            }
        }
    });
    let s = Pooling { batch: 2, tokens: 3, width: 4, heads: 2 };
    let mut random = Random::new(64);
    let (x, dy) = (widen::<f64>(&random.vector(6 * 6)), widen::<f64>(&random.vector(8)));
    check_gradient("attention pooling", |x| s.attend(x), &x, &dy, &s.attend_backward(&x, &dy));
}

#[test]
fn means_pool_as_their_twin() {
    with_and_without_features(|| {
        for (s, first) in POOLINGS.into_iter().flat_map(|s| [(s, 0), (s, 1)]).filter(|(s, first)| s.tokens > *first) {
            let mut random = Random::new(65);
            let x = random.vector(s.batch * s.tokens * s.width);
            let dy = random.vector(s.batch * s.width);
            let (x_g, dy_g) = (up(&x, &[s.batch * s.tokens, s.width]), up(&dy, &[s.batch, s.width]));
            let what = format!("mean of {s:?} from {first}");
            let got = run1(|rec| pooling::mean(rec, &x_g, s.tokens, first));
            check(&what, &got, &s.mean(&widen::<Tracked>(&x), first));
            let dx = run1(|rec| pooling::mean_backward(rec, &dy_g, s.tokens, first));
            check(&format!("{what} dx"), &dx, &s.mean_backward(&widen::<Tracked>(&dy), first));
            if first == 1 {
                check_rejects(&what, "the class token, too", &got, &s.mean(&widen::<Tracked>(&x), 0));
            }
        }
    });
    let s = Pooling { batch: 2, tokens: 3, width: 4, heads: 1 };
    let mut random = Random::new(66);
    let (x, dy) = (widen::<f64>(&random.vector(24)), widen::<f64>(&random.vector(8)));
    check_gradient("mean", |x| s.mean(x, 1), &x, &dy, &s.mean_backward(&dy, 1));
    let mut rec = Recorder::new(gpu());
    let x = gpu().empty("x", &[6, 4], DType::F32).unwrap();
    invalid("nothing left", pooling::mean(&mut rec, &x, 3, 3));
    invalid("no whole pictures", pooling::mean(&mut rec, &x, 4, 0));
    invalid("heads", pooling::attend(&mut rec, &x, 3, 3));
}

/// Texts of these lengths, one after the other.
fn spans(lengths: &[usize]) -> Vec<Span> {
    let mut start = 0;
    let next = |&len: &usize| {
        start += len;
        Span { start: start - len, len }
    };
    lengths.iter().map(next).collect()
}

#[test]
fn means_of_texts_are_their_twin() {
    with_and_without_features(|| {
        for (lengths, width) in [(&[1][..], 1), (&[3, 1, 7], 5), (&[77, 2, 31, 4], 33), (&[130], 72)] {
            let mut random = Random::new(67);
            let rows = lengths.iter().sum();
            let (x, dy) = (random.vector(rows * width), random.vector(lengths.len() * width));
            let (x_g, dy_g) = (up(&x, &[rows, width]), up(&dy, &[lengths.len(), width]));
            let texts = pooling::Spans::new(gpu(), &spans(lengths)).unwrap();
            let what = format!("mean of texts of {lengths:?} rows of {width}");
            let got = run1(|rec| pooling::mean_of_spans(rec, &x_g, &texts));
            let x = widen::<Tracked>(&x);
            check(&what, &got, &mean_of_spans(&x, lengths, width));
            let dx = run1(|rec| pooling::mean_of_spans_backward(rec, &dy_g, &texts));
            let dy = widen::<Tracked>(&dy);
            check(&format!("{what} dx"), &dx, &mean_of_spans_backward(&dy, lengths, width));
            if lengths.len() > 1 {
                let swapped: Vec<usize> = lengths.iter().rev().copied().collect();
                check_rejects(&what, "texts of other lengths", &got, &mean_of_spans(&x, &swapped, width));
                check_rejects(
                    &format!("{what} dx"),
                    "texts of other lengths",
                    &dx,
                    &mean_of_spans_backward(&dy, &swapped, width),
                );
            }
        }
    });
    let mut random = Random::new(68);
    let (x, dy) = (widen::<f64>(&random.vector(24)), widen::<f64>(&random.vector(8)));
    let back = mean_of_spans_backward(&dy, &[4, 2], 4);
    check_gradient("mean of texts", |x| mean_of_spans(x, &[4, 2], 4), &x, &dy, &back);
    invalid("no texts", pooling::Spans::new(gpu(), &[]));
    invalid("an empty text", pooling::Spans::new(gpu(), &spans(&[3, 0, 2])));
    invalid("a gap", pooling::Spans::new(gpu(), &[Span { start: 0, len: 3 }, Span { start: 4, len: 1 }]));
    let mut rec = Recorder::new(gpu());
    let texts = pooling::Spans::new(gpu(), &spans(&[2, 3])).unwrap();
    let x = gpu().empty("x", &[6, 4], DType::F32).unwrap();
    invalid("other rows", pooling::mean_of_spans(&mut rec, &x, &texts));
    invalid("other texts", pooling::mean_of_spans_backward(&mut rec, &x, &texts));
}
