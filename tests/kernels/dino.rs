//! What training without labels computes: DINO's loss, clipped gradients, running means, crops of several sizes.

use tipi::low_level::gpu::{DType, Recorder};
use tipi::low_level::kernels::dino::{self, Views};
use tipi::low_level::kernels::patch::{self, Pictures};
use tipi::low_level::kernels::{clipping, optim};

use crate::twins::dino::{Batch, blended, clipped};
use crate::twins::linear::{Patches, patch_embedding};
use crate::twins::{Random, Real, Tracked, check, check_gradient, check_rejects, widen};
use crate::{bits, gpu, invalid, run, run1, up, with_and_without_features};

const BATCHES: [Batch; 6] = [
    Batch { pictures: 1, globals: 1, all: 2, width: 1 },
    Batch { pictures: 1, globals: 2, all: 2, width: 5 },
    Batch { pictures: 3, globals: 2, all: 5, width: 33 },
    Batch { pictures: 2, globals: 3, all: 4, width: 64 },
    Batch { pictures: 5, globals: 1, all: 7, width: 67 },
    Batch { pictures: 2, globals: 2, all: 12, width: 1037 },
];

fn views(b: Batch) -> Views {
    Views { pictures: b.pictures, globals: b.globals, all: b.all }
}

#[test]
fn a_student_learns_what_its_teacher_says_of_other_views() {
    with_and_without_features(|| {
        let mut random = Random::new(71);
        for b in BATCHES {
            let (own, rows) = (b.globals * b.pictures, b.all * b.pictures);
            let (x, said) = (random.vector(rows * b.width), random.vector(own * b.width));
            let centre = random.vector_in(b.width, -0.5, 0.5);
            let sharp = [1.0f32 / 0.04, 1.0 / 0.1];
            let (x_g, said_g) = (up(&x, &[rows, b.width]), up(&said, &[own, b.width]));
            let (centre_g, sharp_g) = (up(&centre, &[b.width]), up(&sharp, &[2]));
            let what = format!("{b:?}");
            let t = run1(|rec| dino::teacher(rec, &said_g, &centre_g, &sharp_g, views(b)));
            let (said, centre) = (widen::<Tracked>(&said), widen::<Tracked>(&centre));
            check(&format!("{what}, teacher"), &t, &b.teacher(&said, &centre, sharp[0]));
            if b.width > 1 {
                let nowhere = vec![Tracked::of(0.0); b.width];
                check_rejects(&what, "no centre", &t, &b.teacher(&said, &nowhere, sharp[0]));
                check_rejects(&what, "the student's temperature", &t, &b.teacher(&said, &centre, sharp[1]));
            }
            // The student from what the kernel was given.
            let t_g = up(&t, &[own, b.width]);
            let [losses, grad] = run(|rec| {
                let loss = dino::student(rec, &x_g, &t_g, &sharp_g, views(b))?;
                Ok([loss.losses, loss.grad])
            });
            let (x, t) = (widen::<Tracked>(&x), widen::<Tracked>(&t));
            if b.width == 1 {
                assert!(losses.iter().chain(&grad).all(|v| v.abs() < 1e-6), "{what}: one output is certain");
                continue;
            }
            check(&format!("{what}, losses"), &losses, &b.losses(&x, &t, sharp[1], false));
            check(&format!("{what}, gradient"), &grad, &b.backward(&x, &t, sharp[1], false));
            check_rejects(&what, "its own view too", &losses, &b.losses(&x, &t, sharp[1], true));
            check_rejects(&what, "its own view's gradient", &grad, &b.backward(&x, &t, sharp[1], true));
            check_rejects(&what, "the teacher's temperature", &grad, &b.backward(&x, &t, sharp[0], false));
            let again = run(|rec| {
                let loss = dino::student(rec, &x_g, &t_g, &sharp_g, views(b))?;
                Ok([loss.losses, loss.grad])
            });
            assert!(bits(&again[0]) == bits(&losses) && bits(&again[1]) == bits(&grad), "{what}: other bits");
        }
    });
}

/// As wide as the paper's, with logits as far apart as rows of length 1 make them.
#[test]
fn a_head_of_65536_outputs() {
    let b = Batch { pictures: 1, globals: 2, all: 3, width: 65_536 };
    let mut random = Random::new(72);
    let (x, said) = (random.vector(3 * b.width), random.vector(2 * b.width));
    let (x_g, said_g) = (up(&x, &[3, b.width]), up(&said, &[2, b.width]));
    let (centre_g, sharp_g) = (gpu().zeros("centre", &[b.width]).unwrap(), up(&[1.0 / 0.07, 10.0], &[2]));
    let [t, losses, grad] = run(|rec| {
        let t = dino::teacher(rec, &said_g, &centre_g, &sharp_g, views(b))?;
        let loss = dino::student(rec, &x_g, &t, &sharp_g, views(b))?;
        Ok([t, loss.losses, loss.grad])
    });
    let sum: f64 = t[..b.width].iter().map(|v| f64::from(*v)).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    let (x, t) = (widen::<f64>(&x), widen::<f64>(&t));
    let close = |got: &[f32], want: &[f64], bound: f64| {
        got.iter().zip(want).all(|(g, w)| (f64::from(*g) - w).abs() <= bound * w.abs().max(1e-9))
    };
    let want = b.losses(&x, &t, 10.0, false);
    assert!(close(&losses, &want, 3e-5), "{losses:?} for {want:?}");
    assert!(!close(&losses, &b.losses(&x, &t, 10.0, true), 3e-5));
    // Small differences of small numbers: as a share of the largest.
    let want = b.backward(&x, &t, 10.0, false);
    let top = want.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    assert!(grad.iter().zip(&want).all(|(g, w)| (f64::from(*g) - w).abs() < 1e-5 * top));
}

#[test]
fn the_twins_gradient_is_the_slope() {
    let mut random = Random::new(73);
    for b in [
        Batch { pictures: 2, globals: 2, all: 3, width: 5 },
        Batch { pictures: 1, globals: 1, all: 4, width: 3 },
        Batch { pictures: 3, globals: 2, all: 2, width: 2 },
    ] {
        let x = widen::<f64>(&random.vector(b.all * b.pictures * b.width));
        let said = widen::<f64>(&random.vector(b.globals * b.pictures * b.width));
        let t = b.teacher(&said, &vec![0.25; b.width], 5.0);
        let dx = b.backward(&x, &t, 2.0, false);
        check_gradient(&format!("{b:?}"), |x| vec![b.loss(x, &t, 2.0)], &x, &[1.0], &dx);
    }
}

#[test]
fn gradients_are_cut_to_a_length() {
    with_and_without_features(|| {
        let mut random = Random::new(74);
        for shape in [vec![1], vec![7], vec![130], vec![3, 5], vec![67, 33], vec![5, 1, 9]] {
            let n = shape.iter().product();
            let grad = random.vector(n);
            for most in [0.3f32, 1e4] {
                let g = up(&grad, &shape);
                run(|rec| clipping::clip(rec, &g, most).map(|()| []));
                let got = gpu().read::<f32>(&g).unwrap();
                let wide = widen::<Tracked>(&grad);
                let what = format!("{shape:?} cut to {most}");
                check(&what, &got, &clipped(&wide, most));
                if most > 1.0 {
                    assert_eq!(bits(&got), bits(&grad), "{what}: what is shorter stays");
                } else if n > 1 {
                    check_rejects(&what, "not cut", &got, &wide);
                    check_rejects(&what, "another length", &got, &clipped(&wide, 0.31));
                }
            }
        }
    });
    let mut rec = Recorder::new(gpu());
    for most in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        invalid("no length", clipping::clip(&mut rec, &up(&[1.0], &[1]), most));
    }
}

#[test]
fn a_running_mean_forgets_and_stays_where_it_is() {
    let mut random = Random::new(75);
    for n in [1, 67, 1000] {
        let (w, x) = (random.vector(n), random.vector(n));
        for share in [2e-4f32, 0.1, 1.0] {
            let (w_g, x_g, hyper) = (up(&w, &[n]), up(&x, &[n]), up(&[share], &[1]));
            run(|rec| optim::blend(rec, &hyper, &x_g, &w_g).map(|()| []));
            let got = gpu().read::<f32>(&w_g).unwrap();
            let (w, x) = (widen::<Tracked>(&w), widen::<Tracked>(&x));
            check("running mean", &got, &blended(&w, &x, share));
            check_rejects("running mean", "the other share", &got, &blended(&x, &w, share * 0.5));
        }
        let (w_g, x_g, hyper) = (up(&w, &[n]), up(&w, &[n]), up(&[0.3], &[1]));
        run(|rec| optim::blend(rec, &hyper, &x_g, &w_g).map(|()| []));
        assert_eq!(bits(&gpu().read::<f32>(&w_g).unwrap()), bits(&w));
    }
}

#[test]
fn pictures_of_several_sizes_are_embedded_as_each_by_itself() {
    let mut random = Random::new(76);
    for (patch, width, class, sizes) in [
        (4, 5, true, vec![(3, 13), (1, 4)]),
        (5, 33, true, vec![(1, 17), (4, 5), (2, 10)]),
        (3, 7, false, vec![(2, 7), (3, 12)]),
    ] {
        let (weight, token) = (random.vector(width * 3 * patch * patch), random.vector(width));
        let all: Vec<Patches> =
            sizes.iter().map(|(batch, size)| Patches { batch: *batch, size: *size, patch, width, class }).collect();
        let pixels: Vec<Vec<f32>> = all.iter().map(|s| random.vector(s.batch * 3 * s.size * s.size)).collect();
        let positions: Vec<Vec<f32>> = all.iter().map(|s| random.vector(s.tokens() * width)).collect();
        let embedding = patch::PatchEmbedding {
            weight: up(&weight, &[width, 3 * patch * patch]),
            bias: (!class).then(|| up(&token, &[width])),
            class: class.then(|| up(&token, &[width])),
            position: up(&positions[0], &[all[0].tokens(), width]),
            patch,
        };
        let tensors: Vec<_> = all
            .iter()
            .zip(&pixels)
            .zip(&positions)
            .map(|((s, x), p)| (up(x, &[s.batch, 3, s.size, s.size]), up(p, &[s.tokens(), width])))
            .collect();
        let given: Vec<Pictures<'_>> = tensors.iter().map(|(pixels, position)| Pictures { pixels, position }).collect();
        let got = run1(|rec| patch::forward_sizes(rec, &given, &embedding));
        let twin = |order: &[usize]| -> Vec<Tracked> {
            let of = |i: &usize| {
                let (x, p) = (widen(&pixels[*i]), widen(&positions[*i]));
                patch_embedding(&x, &widen(&weight), &widen(&token), &p, all[*i])
            };
            order.iter().flat_map(of).collect()
        };
        let order: Vec<usize> = (0..all.len()).collect();
        let turned: Vec<usize> = order.iter().rev().copied().collect();
        let what = format!("{sizes:?}, patches of {patch}");
        check(&what, &got, &twin(&order));
        check_rejects(&what, "the other order", &got, &twin(&turned));
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let mut rec = Recorder::new(gpu());
    let t = |shape: &[usize]| gpu().empty("t", shape, DType::F32).unwrap();
    let v = Views { pictures: 2, globals: 2, all: 3 };
    let (x, said, centre, sharp) = (t(&[6, 5]), t(&[4, 5]), t(&[5]), t(&[2]));
    assert!(dino::teacher(&mut rec, &said, &centre, &sharp, v).is_ok());
    assert!(dino::student(&mut rec, &x, &said, &sharp, v).is_ok());
    invalid("rows", dino::teacher(&mut rec, &x, &centre, &sharp, v));
    invalid("centre", dino::teacher(&mut rec, &said, &t(&[4]), &sharp, v));
    invalid("teacher", dino::student(&mut rec, &x, &t(&[4, 4]), &sharp, v));
    invalid("student", dino::student(&mut rec, &said, &said, &sharp, v));
    invalid("temperatures", dino::student(&mut rec, &x, &said, &t(&[1]), v));
    for wrong in [Views { pictures: 0, ..v }, Views { globals: 4, ..v }, Views { globals: 1, all: 1, ..v }] {
        invalid("views", dino::student(&mut rec, &x, &said, &sharp, wrong));
    }
    invalid("share", optim::blend(&mut rec, &t(&[2]), &x, &said));
}
