//! Terms of Tip-Adapter's cache, and the gradient of its keys.

use tipi::low_level::kernels::affinity;

use crate::twins::{Random, Real, Tracked, check, check_rejects, widen};
use crate::{gpu, plan_on, run1, twins, up, up_u32};

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
