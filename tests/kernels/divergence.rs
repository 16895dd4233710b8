//! Tip-X's divergences, and the pairs that measure overlap.

use tipi::low_level::kernels::{divergence, pairs};

use crate::twins::divergence::Psi;
use crate::twins::{Random, Real, Tracked, check, check_rejects, widen};
use crate::{gpu, plan_on, run, twins, up, up_u32, with_and_without_features};

#[test]
fn the_twin_of_divergences_is_their_definition() {
    let mut random = Random::new(30);
    for classes in [1, 2, 7, 101] {
        let (p, q) = (widen::<f64>(&random.vector(3 * classes)), widen::<f64>(&random.vector(5 * classes)));
        let (_, shares, own) = twins::divergence::distributions(&p, classes);
        let (centred, _, parts) = twins::divergence::distributions(&q, classes);
        let parts: Vec<f64> = parts.chunks(2).map(|s| s[1]).collect();
        let m = twins::divergence::matrix(&shares, &centred, &parts, classes);
        let want = twins::divergence::kl(&p, &q, classes);
        for (i, (m, want)) in m.iter().zip(&want).enumerate() {
            assert!((m + own[2 * (i / 5)] - want).abs() < 1e-12, "{classes} classes");
        }
        assert!(classes == 1 || want.iter().all(|v| *v > 0.0));
    }
}

#[test]
fn divergences_and_their_class_terms() {
    with_and_without_features(|| {
        let mut random = Random::new(31);
        for (rows, classes, per_class) in [
            (1, 1, vec![1]),
            (3, 5, vec![2, 0, 7, 1, 3]),
            (33, 12, vec![4; 12]),
            (7, 101, (0..101).map(|i| i % 3).collect::<Vec<usize>>()),
        ] {
            let mut starts = vec![0u32];
            for n in &per_class {
                starts.push(starts[starts.len() - 1] + *n as u32);
            }
            let n = starts[classes] as usize;
            // From the size of a cosine over T, as Tip-X has them, to well beyond.
            for size in [0.1, 1.5] {
                let (x, q) =
                    (random.vector_in(rows * classes, -size, size), random.vector_in(n * classes, -size, size));
                let (x_g, q_g) = (up(&x, &[rows, classes]), up(&q, &[n, classes]));
                let psi = Psi { slope: 3.5, low: 0.0625, floor: -0.25, gamma: 1.5 };
                let base = random.vector(rows * classes);
                let base_g = up(&base, &[rows, classes]);
                let starts_g = up_u32(&starts);
                let part = up(&random.vector(n), &[n]);
                let [centred, shares, stats, matrix, key_sums, term, based] = run(|rec| {
                    let p = divergence::distributions(rec, &x_g)?;
                    let q = divergence::distributions(rec, &q_g)?;
                    let sums = divergence::ClassSums {
                        centred: divergence::class_sums(rec, &q.centred, &starts_g)?,
                        stats: divergence::class_sums(rec, &q.stats, &starts_g)?,
                        starts: starts_g.clone(),
                    };
                    let rescale = divergence::Rescale { slope: psi.slope, low: psi.low, floor: psi.floor };
                    Ok([
                        p.centred.clone(),
                        p.shares.clone(),
                        p.stats.clone(),
                        divergence::matrix(rec, &p, &q, &part)?,
                        sums.centred.clone(),
                        divergence::class_term(rec, &p, &sums, rescale, psi.gamma, None)?,
                        divergence::class_term(rec, &p, &sums, rescale, psi.gamma, Some(&base_g))?,
                    ])
                });
                let what = format!("divergences {rows}×{classes}, {n} keys, ±{size}");
                let (x, q) = (widen::<Tracked>(&x), widen::<Tracked>(&q));
                let (centred_t, shares_t, stats_t) = twins::divergence::distributions(&x, classes);
                let (q_centred, _, q_stats) = twins::divergence::distributions(&q, classes);
                if classes == 1 {
                    assert!(
                        centred.iter().chain(&shares).chain(&stats).all(|v| *v == 0.0),
                        "{what}: one class is certain"
                    );
                } else {
                    check(&format!("{what} centred"), &centred, &centred_t);
                    check(&format!("{what} shares"), &shares, &shares_t);
                    check(&format!("{what} stats"), &stats, &stats_t);
                    check_rejects(&what, "not centred", &centred, &x);
                    let plain: Vec<Tracked> = shares_t.iter().map(|v| *v + Tracked::of(1.0 / classes as f64)).collect();
                    check_rejects(&what, "probabilities not centred", &shares, &plain);
                }
                let parts = widen::<Tracked>(&gpu().read::<f32>(&part).unwrap());
                let matrix_t = twins::divergence::matrix(&shares_t, &q_centred, &parts, classes);
                check(&format!("{what} matrix"), &matrix, &matrix_t);
                if classes > 1 {
                    let sums_t = twins::divergence::class_sums(&q_centred, &starts, classes);
                    check(&format!("{what} class sums"), &key_sums, &sums_t);
                }
                // The term key by key, from the matrix with each row's and each key's own part.
                let own: Vec<Tracked> = q_stats.chunks(2).map(|s| s[1]).collect();
                let kl: Vec<Tracked> = twins::divergence::matrix(&shares_t, &q_centred, &own, classes)
                    .iter()
                    .enumerate()
                    .map(|(i, v)| *v + stats_t[2 * (i / n)])
                    .collect();
                let term_t = twins::divergence::class_term(&kl, &starts, psi);
                check(&format!("{what} term"), &term, &term_t);
                let with_base: Vec<Tracked> =
                    term_t.iter().zip(&widen::<Tracked>(&base)).map(|(t, b)| *t + *b).collect();
                check(&format!("{what} term with base"), &based, &with_base);
                check_rejects(&what, "no base", &based, &term_t);
                for (error, wrong) in [
                    ("another slope", Psi { slope: 3.6, ..psi }),
                    ("another low", Psi { low: 0.07, ..psi }),
                    ("another floor", Psi { floor: -0.2, ..psi }),
                    ("no gamma", Psi { gamma: 1.0, ..psi }),
                ] {
                    if classes > 1 {
                        check_rejects(&what, error, &term, &twins::divergence::class_term(&kl, &starts, wrong));
                    }
                }
            }
        }
    });
}

#[test]
fn pairs_are_counted_once() {
    let mut random = Random::new(33);
    let bins = pairs::BINS;
    for (rows, cols, first) in
        [(1, 1, (0, 1)), (5, 5, (0, 0)), (67, 33, (0, 67)), (130, 130, (256, 256)), (3, 70, (100, 60))]
    {
        // Similarities in the middles of bins, and the ends, so that rounding decides nothing.
        let x: Vec<f32> = (0..rows * cols)
            .map(|i| match i % 11 {
                0 => 1.0,
                1 => -1.0,
                _ => (-1.0 + (2.0 * random.below(bins) as f64 + 1.0) / bins as f64) as f32,
            })
            .collect();
        let (row_labels, col_labels) = (random.labels(rows, 3), random.labels(cols, 3));
        let counts = gpu().upload("counts", &vec![0u32; 2 * bins], &[2, bins]).unwrap();
        let (plan, ()) = plan_on(gpu(), |rec| {
            let (a, b) = (up_u32(&row_labels), up_u32(&col_labels));
            pairs::count(rec, &up(&x, &[rows, cols]), (&a, &b), first, &counts)
        });
        plan.run().unwrap();
        let got = gpu().read::<u32>(&counts).unwrap();
        let want = twins::divergence::pairs(&x, &row_labels, &col_labels, first, bins, false);
        assert_eq!(got, want, "{rows}×{cols} from {first:?}");
        if first.0 == first.1 && rows > 1 {
            let mirrored = twins::divergence::pairs(&x, &row_labels, &col_labels, first, bins, true);
            assert_ne!(got, mirrored, "pairs counted from both sides passed");
        }
        let other: Vec<u32> = col_labels.iter().map(|l| (l + 1) % 3).collect();
        assert_ne!(got, twins::divergence::pairs(&x, &row_labels, &other, first, bins, false), "other labels passed");
        // Counts add up over blocks.
        plan.run().unwrap();
        assert_eq!(gpu().read::<u32>(&counts).unwrap(), want.iter().map(|c| 2 * c).collect::<Vec<_>>());
    }
}
