//! Sums, extremes, rows that are picked, and the loops that find a device's peaks.

use tipi::low_level::kernels::{extremes, gather, peak, reduce};

use crate::twins::{Random, Tracked, check, check_rejects, widen};
use crate::{bits, run, run1, twins, up, up_u32, with_and_without_features};

#[test]
fn reductions() {
    let mut random = Random::new(6);
    for [groups, terms, width] in [[1, 1, 1], [3, 33, 5], [5, 2, 67], [2, 150, 12], [33, 7, 192]] {
        let x = random.vector(groups * terms * width);
        let x_g = up(&x, &[groups, terms, width]);
        let rows = groups * terms;
        let [middle, first, sum] = run(|rec| {
            Ok([
                reduce::mean_middle(rec, &x_g)?,
                reduce::mean_first(rec, &x_g)?,
                reduce::sum_rows(rec, &x_g.reshape(&[rows, width])?)?,
            ])
        });
        let x = widen::<Tracked>(&x);
        let what = format!("reduce {groups}×{terms}×{width}");
        check(&what, &middle, &twins::linear::reduce(&x, [groups, terms, width], true));
        check(&what, &first, &twins::linear::reduce(&x, [1, groups, terms * width], true));
        check(&what, &sum, &twins::linear::reduce(&x, [1, rows, width], false));
        if terms > 1 {
            let wrong = twins::linear::reduce(&x, [groups, terms, width], false);
            check_rejects(&what, "a sum for the mean", &middle, &wrong);
            check_rejects(&what, "a mean for the sum", &sum, &twins::linear::reduce(&x, [1, rows, width], true));
        }
    }
    let x = random.vector(9);
    let got = run1(|rec| reduce::mean_first(rec, &up(&x, &[9])));
    check("mean of a vector", &got, &twins::linear::reduce(&widen(&x), [1, 9, 1], true));
}

#[test]
fn extremes_are_found() {
    with_and_without_features(|| {
        let mut random = Random::new(32);
        for (rows, width) in [(1, 1), (3, 5), (67, 33), (130, 200), (1, 1000)] {
            let (x, offsets) = (random.vector(rows * width), random.vector(rows * 2));
            let (x_g, offsets_g) = (up(&x, &[rows, width]), up(&offsets, &[rows, 2]));
            let [plain, offset] =
                run(|rec| Ok([extremes::extremes(rec, &x_g, None)?, extremes::extremes(rec, &x_g, Some(&offsets_g))?]));
            let of = |x: &[f32]| x.iter().fold([f32::MAX, f32::MIN], |[low, high], v| [low.min(*v), high.max(*v)]);
            assert_eq!(plain, of(&x), "{rows}×{width}");
            let moved: Vec<f32> = x.iter().enumerate().map(|(i, v)| v + offsets[2 * (i / width)]).collect();
            assert_eq!(offset, of(&moved), "{rows}×{width} with offsets");
            assert_ne!(plain, offset);
            let by_row = run1(|rec| extremes::of_rows(rec, &x_g));
            assert_eq!(by_row, x.chunks_exact(width).flat_map(of).collect::<Vec<f32>>(), "rows of {rows}×{width}");
            let mut wrong = x.clone();
            wrong[rows * width / 2] = 2.0;
            assert_ne!(plain, of(&wrong), "a planted extreme passed");
        }
    });
}

#[test]
fn gather_picks_rows_and_its_inverse_puts_them_back() {
    let mut random = Random::new(7);
    for (rows, width) in [(1, 1), (3, 5), (33, 12), (67, 150)] {
        let x = random.vector(rows * width);
        let mut index: Vec<u32> = random.labels(rows + 2, rows);
        index[1] = gather::NONE;
        let got = run1(|rec| gather::rows(rec, &up(&x, &[rows, width]), &up_u32(&index)));
        let want = twins::linear::gather(&x, &index, width);
        assert_eq!(bits(&got), bits(&want), "{rows}×{width}");
        let mut wrong = index.clone();
        wrong[0] = gather::NONE;
        assert_ne!(bits(&got), bits(&twins::linear::gather(&x, &wrong, width)), "a planted index passed");

        // Each row picked once at most: the gradient of picking is a gather by the inverse.
        let picked: Vec<u32> = (0..rows as u32).rev().step_by(2).collect();
        let back = gather::inverse(&picked, rows);
        let dy = random.vector(picked.len() * width);
        let dx = run1(|rec| gather::rows(rec, &up(&dy, &[picked.len(), width]), &up_u32(&back)));
        let mut want = vec![0.0; rows * width];
        for (row, dy) in picked.iter().zip(dy.chunks(width)) {
            want[*row as usize * width..][..width].copy_from_slice(dy);
        }
        assert_eq!(bits(&dx), bits(&want), "back, {rows}×{width}");
    }
}

#[test]
fn the_peaks_kernels_do_all_their_work() {
    let x = Random::new(47).vector(4 * 131);
    let x_g = up(&x, &[131, 4]);
    assert_eq!(bits(&run1(|rec| peak::copy(rec, &x_g))), bits(&x));
    // Were steps left out, a rate measured with them would be too good.
    let twin = |i: usize, steps: usize| -> f64 {
        let (factor, s) = (f64::from(0.999f32), i as f64 * 1e-9);
        let chain = |start: f64| (0..2 * steps).fold(start, |v, _| v * factor + s);
        (0..8).map(|c| chain(s + f64::from(c))).sum()
    };
    for steps in [1, 7] {
        let got = run1(|rec| peak::multiply(rec, 67, steps));
        let close = |steps| {
            got.chunks(4).enumerate().all(|(i, y)| y.iter().all(|v| (f64::from(*v) - twin(i, steps)).abs() < 1e-4))
        };
        assert!(close(steps), "{steps} steps: {:?}, not {}", &got[..4], twin(0, steps));
        assert!(!close(steps + 1) && !close(steps - 1), "{steps} steps look like another number of them");
    }
}
