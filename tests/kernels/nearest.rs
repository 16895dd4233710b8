//! The best of many scores, and rows that are most like others.

use tipi::Error;
use tipi::low_level::kernels::nearest::{self, Candidates, Lists, NONE};
use tipi::low_level::neighbours::{Near, Rows, Sizes};

use crate::twins::Random;
use crate::twins::nearest::{best, cosines, groups};
use crate::{gpu, invalid, plan_on, up, with_and_without_features};

/// Whom a list passes over.
fn own(number: u32) -> Option<usize> {
    (number != NONE).then_some(number as usize)
}

/// Lists of the best among `scores` `[lists, candidates]`, in blocks of so many candidates, in the order given.
fn kept(
    scores: &[f32],
    own: &[u32],
    most: usize,
    side: Candidates,
    blocks: &[std::ops::Range<usize>],
) -> Vec<Vec<Near>> {
    let (lists, all) = (own.len(), scores.len() / own.len());
    let kept = Lists::new(gpu(), own, most).unwrap();
    for block in blocks {
        let columns: Vec<f32> = (0..lists).flat_map(|list| &scores[list * all..][block.clone()]).copied().collect();
        let turned = || (0..block.len() * lists).map(|i| columns[i % lists * block.len() + i / lists]).collect();
        let tensor = match side {
            Candidates::Columns => up(&columns, &[lists, block.len()]),
            Candidates::Rows => up(&turned() as &Vec<f32>, &[block.len(), lists]),
        };
        let (plan, ()) = plan_on(gpu(), |rec| nearest::keep(rec, &tensor, side, block.start, &kept));
        plan.run().unwrap();
    }
    kept.read(gpu()).unwrap()
}

#[test]
fn lists_keep_the_best_of_all_blocks() {
    with_and_without_features(|| {
        let mut random = Random::new(70);
        for (lists, candidates, block, most) in [
            (1, 1, 1, 1),
            (1, 9, 4, 3),
            (3, 5, 5, 9), // fewer candidates than places
            (67, 130, 31, 1),
            (65, 301, 64, 10),
            (130, 97, 13, 100),
        ] {
            // Quarters: many scores are equal.
            let scores: Vec<f32> =
                random.vector_in(lists * candidates, -8.0, 8.0).into_iter().map(|v| v.round() / 8.0).collect();
            let mut own: Vec<u32> = random.labels(lists, candidates);
            own[0] = NONE;
            let mut blocks: Vec<_> =
                (0..candidates).step_by(block).map(|first| first..(first + block).min(candidates)).collect();
            let want: Vec<Vec<(usize, f64)>> = (0..lists)
                .map(|list| {
                    let row: Vec<f64> =
                        scores[list * candidates..][..candidates].iter().map(|v| f64::from(*v)).collect();
                    best(&row, self::own(own[list]), most)
                })
                .collect();
            let check = |blocks: &[std::ops::Range<usize>], what: &str| {
                for side in [Candidates::Rows, Candidates::Columns] {
                    let got = kept(&scores, &own, most, side, blocks);
                    let got: Vec<Vec<(usize, f64)>> = got
                        .into_iter()
                        .map(|list| list.into_iter().map(|(i, score)| (i as usize, f64::from(score))).collect())
                        .collect();
                    assert!(got == want, "{lists} lists of {most} of {candidates}, {side:?}, {what}");
                }
            };
            check(&blocks, "in their order");
            // Equal scores are kept by number, not by who came first.
            blocks.reverse();
            check(&blocks, "the last first");
        }
    });
}

#[test]
fn bits_say_who_is_alike() {
    with_and_without_features(|| {
        let mut random = Random::new(71);
        for (rows, cols) in [(1, 1), (31, 3), (32, 65), (33, 2), (100, 67)] {
            let scores: Vec<f32> = random.vector_in(rows * cols, -4.0, 4.0).into_iter().map(f32::round).collect();
            for side in [Candidates::Rows, Candidates::Columns] {
                let (plan, words) = plan_on(gpu(), |rec| nearest::alike(rec, &up(&scores, &[rows, cols]), side, 2.0));
                plan.run().unwrap();
                let words: Vec<u32> = gpu().read(&words).unwrap();
                let (candidates, lists) = if side == Candidates::Rows { (rows, cols) } else { (cols, rows) };
                assert_eq!(words.len(), candidates.div_ceil(32) * lists);
                for candidate in 0..candidates.next_multiple_of(32) {
                    for list in 0..lists {
                        let at = match side {
                            Candidates::Rows => candidate * cols + list,
                            Candidates::Columns => list * cols + candidate,
                        };
                        let want = candidate < candidates && scores[at] >= 2.0;
                        let got = words[candidate / 32 * lists + list] >> (candidate % 32) & 1 == 1;
                        assert_eq!(got, want, "{rows}×{cols}, {side:?}: candidate {candidate} of list {list}");
                    }
                }
            }
        }
    });
}

/// Ways to cut the work: one block, many, many that are not kept on the device, and kept without room for lists.
fn cuts(n: usize, width: usize) -> [Sizes; 4] {
    let rows = 4 * (n * width) as u64;
    [
        Sizes::of(gpu()),
        Sizes { block: 7, resident: u64::MAX },
        Sizes { block: 5, resident: 0 },
        Sizes { block: 33, resident: rows },
    ]
}

/// Checks lists of neighbours: the cosines are right, none better was left out, none is there twice, and of equal ones the lower
/// number comes first.
fn check(what: &str, got: &[Vec<Near>], cosines: &[Vec<f64>], own: &[u32], most: usize) {
    assert_eq!(got.len(), cosines.len(), "{what}");
    for ((list, cosines), own) in got.iter().zip(cosines).zip(own) {
        let want = best(cosines, self::own(*own), most);
        assert_eq!(list.len(), want.len(), "{what}");
        for ((row, cosine), (_, best)) in list.iter().zip(&want) {
            assert_ne!(row, own, "{what}: it is its own neighbour");
            assert!((f64::from(*cosine) - cosines[*row as usize]).abs() < 1e-6, "{what}: {cosine} of {row}");
            assert!((f64::from(*cosine) - best).abs() < 1e-6, "{what}: {cosine} where {best} is best");
        }
        for pair in list.windows(2) {
            let ((a, x), (b, y)) = (pair[0], pair[1]);
            assert!(x > y || (x == y && a < b), "{what}: {x} of {a} before {y} of {b}");
        }
    }
}

#[test]
fn neighbours_are_exact_however_the_work_is_cut() {
    with_and_without_features(|| {
        let mut random = Random::new(72);
        for (n, queries, width, most) in
            [(1, 1, 1, 1), (2, 3, 5, 4), (40, 17, 13, 3), (71, 9, 64, 100), (90, 21, 7, 10), (37, 4, 256, 6)]
        {
            let (rows, asked) = (random.vector_in(n * width, -3.0, 3.0), random.vector(queries * width));
            let mut known: Vec<Vec<Vec<Near>>> = Vec::new();
            for sizes in cuts(n, width) {
                let what = format!("{n} rows of {width}, {sizes:?}");
                let all = Rows::with_sizes(gpu(), rows.clone(), width, sizes).unwrap();
                let mut own = vec![NONE; queries];
                own[queries / 2] = (n / 2) as u32;
                let near = all.nearest(asked.clone(), &own, most, &mut |_| Ok(())).unwrap();
                check(&what, &near, &cosines(&asked, &rows, width), &own, most);
                let each: Vec<u32> = (0..n as u32).collect();
                let mut shares = Vec::new();
                let others = all
                    .nearest_others(most, &mut |share| {
                        shares.push(share);
                        Ok(())
                    })
                    .unwrap();
                check(&what, &others, &cosines(&rows, &rows, width), &each, most);
                assert!(n == 1 || (shares.is_sorted() && shares.last() == Some(&1.0)), "{what}: {shares:?}");
                known.extend([near, others]);
            }
            for pair in known.chunks(2) {
                assert!(pair == &known[..2], "{n} rows of {width}: other bits where the work is cut in another way");
            }
        }
    });
}

/// Rows of five directions in turn, with lengths of their own.
fn five_directions(n: usize, width: usize) -> Vec<f32> {
    let mut random = Random::new(73);
    let directions = random.unit_rows(5, width);
    (0..n).flat_map(|i| directions[i % 5 * width..][..width].iter().map(move |v| v * (1 << (i % 3)) as f32)).collect()
}

#[test]
fn equal_rows_come_in_their_order() {
    with_and_without_features(|| {
        let (n, width) = (43, 19);
        let rows = five_directions(n, width);
        for sizes in cuts(n, width) {
            let all = Rows::with_sizes(gpu(), rows.clone(), width, sizes).unwrap();
            let others = all.nearest_others(4, &mut |_| Ok(())).unwrap();
            for (row, near) in others.iter().enumerate() {
                let want: Vec<u32> =
                    (0..n).filter(|i| i % 5 == row % 5 && *i != row).take(4).map(|i| i as u32).collect();
                assert_eq!(near.iter().map(|(i, _)| *i).collect::<Vec<_>>(), want, "row {row}, {sizes:?}");
                assert!(near.iter().all(|(_, cosine)| *cosine > 1.0 - 1e-6 && *cosine <= 1.0));
            }
            // Equal rows are alike even where 1 is asked for.
            let groups = all.groups(1.0, &mut |_| Ok(())).unwrap();
            assert_eq!(groups.len(), 5, "{sizes:?}");
            for (first, group) in groups.iter().enumerate() {
                let rows: Vec<usize> = group.iter().map(|(row, _)| *row as usize).collect();
                assert_eq!(rows, (first..n).step_by(5).collect::<Vec<_>>(), "{sizes:?}");
            }
        }
    });
}

#[test]
fn groups_are_those_of_the_lowest_firsts() {
    with_and_without_features(|| {
        let mut random = Random::new(74);
        // Few values a row: chains of rows that are alike, whose ends are not.
        for (n, width, least) in [(1, 4, 0.5), (2, 1, 0.9), (70, 3, 0.9), (131, 4, 0.7), (64, 2, -1.0), (90, 5, 0.99)] {
            let rows = random.vector(n * width);
            let cosines = cosines(&rows, &rows, width);
            let want = groups(&cosines, least);
            assert_eq!(want, groups(&cosines, least - 2e-6), "the data must decide");
            for sizes in cuts(n, width) {
                let all = Rows::with_sizes(gpu(), rows.clone(), width, sizes).unwrap();
                let got = all.groups(least, &mut |_| Ok(())).unwrap();
                let numbers: Vec<Vec<usize>> =
                    got.iter().map(|group| group.iter().map(|(row, _)| *row as usize).collect()).collect();
                assert_eq!(numbers, want, "{n} rows of {width}, {least}, {sizes:?}");
                for group in &got {
                    for (row, cosine) in &group[1..] {
                        let want = cosines[group[0].0 as usize][*row as usize];
                        assert!((f64::from(*cosine) - want).abs() < 1e-6);
                    }
                }
            }
        }
    });
}

#[test]
fn odd_rows_are_compared_or_refused() {
    let none = |_: f64| Ok(());
    // Zeros are like nothing; large and small rows have directions like any other.
    let all = Rows::new(gpu(), vec![0.0, 0.0, 1e30, 0.0, 1e-30, 1e-30, -1.0, 0.0], 2).unwrap();
    let near = all.nearest(vec![3e30, 0.0], &[NONE], 9, &mut |share| none(share)).unwrap();
    assert_eq!(near[0].iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2, 0, 3]);
    assert!((near[0][1].1 - 0.5f32.sqrt()).abs() < 1e-6 && near[0][2].1 == 0.0 && near[0][3].1 == -1.0);
    assert!(all.nearest(vec![1.0, 2.0], &[NONE], 0, &mut |share| none(share)).unwrap()[0].is_empty());
    assert!(all.nearest(Vec::new(), &[], 3, &mut |share| none(share)).unwrap().is_empty());
    // A row without any other, and none at all.
    let one = Rows::new(gpu(), vec![1.0, 2.0], 2).unwrap();
    assert_eq!(one.nearest_others(5, &mut |share| none(share)).unwrap(), [Vec::new()]);
    assert!(one.groups(-1.0, &mut |share| none(share)).unwrap().is_empty());
    let nobody = Rows::new(gpu(), Vec::new(), 2).unwrap();
    assert!(nobody.is_empty() && nobody.nearest_others(5, &mut |share| none(share)).unwrap().is_empty());
    assert!(nobody.groups(0.5, &mut |share| none(share)).unwrap().is_empty());
    assert_eq!(nobody.nearest(vec![1.0, 2.0], &[NONE], 3, &mut |share| none(share)).unwrap(), [Vec::new()]);
    invalid("no width", Rows::new(gpu(), Vec::new(), 0));
    invalid("half a row", Rows::new(gpu(), vec![1.0; 3], 2));
    invalid("NaN", Rows::new(gpu(), vec![1.0, f32::NAN], 2));
    invalid("another width", all.nearest(vec![1.0; 3], &[NONE], 1, &mut |share| none(share)));
    invalid("infinity", all.nearest(vec![1.0, f32::INFINITY], &[NONE], 1, &mut |share| none(share)));
    invalid("own numbers", all.nearest(vec![1.0; 2], &[], 1, &mut |share| none(share)));
    invalid("a least of 1.1", all.groups(1.1, &mut |share| none(share)));
    invalid("a least that is no number", all.groups(f64::NAN, &mut |share| none(share)));
    // Whoever watches can end it.
    let ended = all.nearest_others(1, &mut |_| Err(Error::Stopped));
    assert!(matches!(ended, Err(Error::Stopped)));
}

#[test]
fn wrong_tensors_are_errors() {
    let lists = Lists::new(gpu(), &[NONE; 3], 2).unwrap();
    let scores = up(&[0.0; 12], &[4, 3]);
    let keep = |scores: &_, side, first, lists: &Lists| plan_on_result(scores, side, first, lists);
    assert!(keep(&scores, Candidates::Rows, 0, &lists).is_ok());
    invalid("the other side", keep(&scores, Candidates::Columns, 0, &lists));
    invalid("too many candidates", keep(&scores, Candidates::Rows, u32::MAX as usize - 2, &lists));
    let short = Lists { own: gpu().upload("own", &[NONE; 2], &[2]).unwrap(), ..lists.clone() };
    invalid("own", keep(&scores, Candidates::Rows, 0, &short));
    let floats = Lists { own: up(&[0.0; 3], &[3]), ..lists.clone() };
    invalid("own as floats", keep(&scores, Candidates::Rows, 0, &floats));
    let other = Lists { which: gpu().upload("which", &[NONE; 3], &[1, 3]).unwrap(), ..lists };
    invalid("which", keep(&scores, Candidates::Rows, 0, &other));
    assert!(Lists::new(gpu(), &[], 2).is_err() && Lists::new(gpu(), &[NONE], 0).is_err());
}

fn plan_on_result(
    scores: &tipi::low_level::gpu::Tensor,
    side: Candidates,
    first: usize,
    lists: &Lists,
) -> tipi::Result<()> {
    nearest::keep(&mut tipi::low_level::gpu::Recorder::new(gpu()), scores, side, first, lists)
}
