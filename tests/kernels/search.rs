//! Counts of right answers over a grid.

use tipi::low_level::kernels::search;

use crate::twins::Random;
use crate::twins::cache::Axes;
use crate::{gpu, plan_on, twins, up, up_u32};

fn counts(base: &[f32], cache: &[f32], kl: Option<&[f32]>, labels: &[u32], axes: Axes<'_>) -> Vec<u32> {
    let rows = labels.len();
    let classes = base.len() / rows;
    let betas = cache.len() / base.len();
    let (plan, out) = plan_on(gpu(), |rec| {
        let (base, cache) = (up(base, &[rows, classes]), up(cache, &[betas, rows, classes]));
        let kl = kl.map(|kl| up(kl, &[rows, classes]));
        let terms = search::Terms { base: &base, cache: &cache, kl: kl.as_ref() };
        search::count(rec, terms, &up_u32(labels), axes.alphas, axes.gammas)
    });
    plan.run().unwrap();
    gpu().read(&out).unwrap()
}

fn ascending(mut values: Vec<f32>) -> Vec<f32> {
    values.sort_by(f32::total_cmp);
    values
}

#[test]
fn search_counts_right_answers() {
    let mut random = Random::new(20);
    for (rows, classes, betas, alphas, gammas) in [
        (1, 1, 1, 1, 0),
        (3, 5, 2, 3, 0),
        (67, 12, 5, 7, 3),
        (150, 33, 3, 20, 0),
        (40, 9, 2, 300, 2), // more values of α than the smaller room holds
        (131, 17, 1, 1, 5),
        (257, 100, 2, 60, 9), // more values of γ than a workgroup takes
    ] {
        let (mut base, mut cache) = (random.vector(rows * classes), random.vector(betas * rows * classes));
        let kl = (gammas > 0).then(|| random.vector(rows * classes));
        let labels = random.labels(rows, classes);
        // Labels that win at some points and lose at others, however many classes there are.
        for (row, label) in labels.iter().enumerate() {
            base[row * classes + *label as usize] += 0.8;
            (0..betas).for_each(|b| cache[(b * rows + row) * classes + *label as usize] += 0.3);
        }
        // Negative values too: nothing forbids them.
        let alphas = ascending(random.vector_in(alphas, -2.0, 4.0));
        let gammas = if gammas > 0 { random.vector_in(gammas, -1.0, 3.0) } else { vec![0.0] };
        let axes = Axes { alphas: &alphas, gammas: &gammas };
        let got = counts(&base, &cache, kl.as_deref(), &labels, axes);
        let want = twins::cache::search(&base, &cache, kl.as_deref(), &labels, axes, false);
        assert_eq!(got.len(), want.len());
        let unsure: u32 = want.iter().map(|c| c.most - c.least).sum();
        assert!(unsure as usize <= want.len() / 20 + 1, "the data must decide: {unsure} rows are too close to call");
        let fits = |want: &[twins::cache::Count]| got.iter().zip(want).all(|(g, w)| w.least <= *g && *g <= w.most);
        assert!(fits(&want), "search {rows}×{classes}: {got:?}, expected {want:?}");
        if rows > 3 {
            let other: Vec<u32> = labels.iter().map(|l| (l + 1) % classes as u32).collect();
            assert!(
                !fits(&twins::cache::search(&base, &cache, kl.as_deref(), &other, axes, false)),
                "other labels passed"
            );
            if kl.is_some() {
                assert!(!fits(&twins::cache::search(&base, &cache, None, &labels, axes, false)), "no kl passed");
            }
            let moved: Vec<f32> = alphas.iter().map(|a| a + 0.3).collect();
            let axes = Axes { alphas: &moved, gammas: &gammas };
            let wrong = twins::cache::search(&base, &cache, kl.as_deref(), &labels, axes, false);
            assert!(!fits(&wrong), "another α passed");
        }
    }
}

#[test]
fn search_gives_ties_to_the_first() {
    // Halves and quarters: all sums are exact.
    let mut random = Random::new(21);
    let (rows, classes) = (130, 5);
    let mut coarse = |n: usize| (0..n).map(|_| random.below(3) as f32 * 0.5).collect::<Vec<_>>();
    let (base, cache, kl) = (coarse(rows * classes), coarse(2 * rows * classes), coarse(rows * classes));
    let axes = Axes { alphas: &[0.0, 0.5, 1.0, 2.0], gammas: &[0.0, 1.0, 2.0] };
    let labels = random.labels(rows, classes);
    let got = counts(&base, &cache, Some(&kl), &labels, axes);
    let first = twins::cache::search(&base, &cache, Some(&kl), &labels, axes, false);
    let last = twins::cache::search(&base, &cache, Some(&kl), &labels, axes, true);
    // No row is too close to call except exact ties, which the model decides.
    assert!(first.iter().all(|c| c.least == c.most));
    assert_eq!(got, first.iter().map(|c| c.least).collect::<Vec<_>>());
    assert_ne!(got, last.iter().map(|c| c.least).collect::<Vec<_>>(), "ties to the last passed");
}

/// Classes that are equal but for a few units in the last place: where intervals cannot tell, the plain comparison
/// decides, as a loop over the points in f32 would.
#[test]
fn search_decides_near_ties_as_a_plain_loop() {
    let mut random = Random::new(26);
    let (rows, classes) = (200, 6);
    let near = |v: &[f32], random: &mut Random| -> Vec<f32> {
        v.chunks(classes)
            .flat_map(|row| {
                let own = row[0];
                (0..classes).map(|_| f32::from_bits(own.to_bits() + random.below(3) as u32)).collect::<Vec<_>>()
            })
            .collect()
    };
    let base = random.vector_in(rows * classes, 1.0, 2.0);
    let cache = random.vector_in(rows * classes, 1.0, 2.0);
    let (base, cache) = (near(&base, &mut random), near(&cache, &mut random));
    let labels = random.labels(rows, classes);
    let kl = near(&random.vector_in(rows * classes, -0.5, -0.1), &mut random);
    // The first axes make products exact, the others round them: fused with a sum they would come out otherwise.
    let axes = [
        Axes { alphas: &[0.0, 0.25, 0.5, 1.0, 2.0, 4.0], gammas: &[0.0] },
        Axes { alphas: &[0.1, 0.3, 0.7, 1.3, 2.9, 3.7], gammas: &[0.3, 1.7, 2.1] },
    ];
    for axes in axes {
        let got = counts(&base, &cache, Some(&kl), &labels, axes);
        let plain = |fused: bool| -> Vec<u32> {
            let sum = |a: f32, b: f32, c: f32| if fused { a.mul_add(b, c) } else { c + a * b };
            let points = axes.gammas.iter().flat_map(|gamma| axes.alphas.iter().map(move |alpha| (*gamma, *alpha)));
            points
                .map(|(gamma, alpha)| {
                    let right = |row: usize| {
                        let own = labels[row] as usize;
                        let at = row * classes..(row + 1) * classes;
                        let v: Vec<f32> = at.map(|i| sum(alpha, cache[i], sum(gamma, kl[i], base[i]))).collect();
                        v.iter().enumerate().all(|(c, x)| c == own || v[own] > *x || (v[own] == *x && own < c))
                    };
                    (0..rows).filter(|row| right(*row)).count() as u32
                })
                .collect()
        };
        assert_eq!(got, plain(false));
        assert!(got.iter().all(|c| *c > 0 && *c < rows as u32), "{got:?} says nothing");
        if axes.gammas.len() > 1 {
            assert_ne!(got, plain(true), "fused sums passed");
        }
    }
}
