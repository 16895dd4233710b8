//! How overlap and accuracy go together: what the paper of the overlap correction claims (arXiv 2409.11338), by Pearson's coefficient.
//!
//! A point is what a method is with one correction or none, on a dataset, with a number of shots: the overlap of its features, and its
//! mean accuracy over seeds. Methods and datasets differ in accuracy for many reasons, so beside the coefficient of all points stands
//! that of the distances from the mean of each method on each dataset: what a correction changes (J. Bland and D. Altman, "Calculating
//! correlation coefficients with repeated observations", BMJ 1995).

use serde::Serialize;

use super::ablation::{self, Ablation, Group};
use super::summary::{Cell, Summary, mean, shots};
use crate::data::Shots;
use crate::report::Table;

/// The least number of points that a coefficient is given for: of two it is always 1 or −1.
const LEAST: usize = 3;

/// How overlap and accuracy go together, among points of one number of shots.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// The ablation's name.
    pub ablation: &'static str,
    /// The dataset's name; none for all datasets.
    pub dataset: Option<String>,
    /// The method that corrections are put on; none for all.
    pub of: Option<&'static str>,
    /// Whether points are taken as their distances from the mean of their method on their dataset.
    pub within: bool,
    /// Pictures per class.
    pub shots: Shots,
    /// Points.
    pub points: usize,
    /// Pearson's coefficient; none of fewer than three points, or where one of both is the same for all.
    pub r: Option<f64>,
}

impl Correlation {
    /// The coefficient with its sign, as people read it.
    pub fn shown(&self) -> String {
        self.r.map_or_else(|| "–".into(), |r| format!("{r:+.3}").replace('-', "−"))
    }
}

/// Overlap and mean accuracy of a method with one correction or none.
#[derive(Clone, Copy, Debug)]
pub struct Point<'c> {
    /// The part of the table that it stands in.
    pub group: &'static Group,
    /// The correction's name.
    pub is: &'static str,
    /// What it is of.
    pub cell: &'c Cell,
    /// The overlap of test pictures.
    pub overlap: f64,
}

/// The points of an ablation on a dataset, or, without a name, on all.
pub fn points<'c>(ablation: &Ablation, cells: &'c [Cell], dataset: Option<&str>) -> Vec<Point<'c>> {
    let rows = ablation.groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row)));
    let of_row = |(group, row): (&'static Group, &'static ablation::Row)| {
        let fits = move |cell: &&'c Cell| match (dataset, &cell.dataset) {
            // Means over datasets are no points.
            (_, None) => false,
            (Some(wanted), Some(name)) => wanted == name,
            (None, Some(_)) => true,
        };
        let own = cells.iter().filter(fits).filter(|cell| row.is_of(cell));
        own.filter_map(move |cell| Some(Point { group, is: row.is, cell, overlap: cell.overlap? })).collect::<Vec<_>>()
    };
    rows.flat_map(of_row).collect()
}

/// Pearson's coefficient of points; none of fewer than three, or where one coordinate is the same for all.
pub fn pearson(points: &[(f64, f64)]) -> Option<f64> {
    if points.len() < LEAST {
        return None;
    }
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
    let (mx, my) = (mean(&x), mean(&y));
    let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| of(x - mx, y - my)).sum::<f64>();
    let (xx, yy, xy) = (sum(&|dx, _| dx * dx), sum(&|_, dy| dy * dy), sum(&|dx, dy| dx * dy));
    // What rounding leaves of equal numbers is no spread.
    let flat = |squares: f64, middle: f64| squares.sqrt() <= 1e-12 * middle.abs().max(f64::MIN_POSITIVE);
    (!flat(xx, mx) && !flat(yy, my)).then(|| (xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

/// Points as their distances from the mean of their method on their dataset.
fn distances(points: &[&Point<'_>]) -> Vec<(f64, f64)> {
    let of = |one: &Point<'_>| {
        let same = |other: &&&Point<'_>| other.group.title == one.group.title && other.cell.dataset == one.cell.dataset;
        let (x, y): (Vec<f64>, Vec<f64>) = points.iter().filter(same).map(|p| (p.overlap, p.cell.mean)).unzip();
        (one.overlap - mean(&x), one.cell.mean - mean(&y))
    };
    points.iter().map(|point| of(point)).collect()
}

/// The coefficients of all ablations that measure overlap: of each dataset, then, of several, of all.
pub(super) fn correlations(cells: &[Cell]) -> Vec<Correlation> {
    let mut datasets: Vec<Option<&str>> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.dataset.is_some()) {
        let name = cell.dataset.as_deref();
        if !datasets.contains(&name) {
            datasets.push(name);
        }
    }
    if datasets.len() > 1 {
        datasets.push(None);
    }
    let mut all = Vec::new();
    for ablation in ablation::ALL.iter().filter(|ablation| ablation.compares_corrections()) {
        for dataset in &datasets {
            let points = points(ablation, cells, *dataset);
            for shots in shots(&points.iter().map(|point| point.cell).collect::<Vec<_>>()) {
                let of = |title: Option<&str>| -> Vec<&Point<'_>> {
                    let fits =
                        |p: &&Point<'_>| p.cell.shots == shots && title.is_none_or(|title| title == p.group.title);
                    points.iter().filter(fits).collect()
                };
                let mut add = |of: Option<&'static str>, within: bool, points: &[(f64, f64)]| {
                    let (dataset, r) = (dataset.map(String::from), pearson(points));
                    let ablation = ablation.name;
                    all.push(Correlation { ablation, dataset, of, within, shots, points: points.len(), r });
                };
                let plain = |points: &[&Point<'_>]| points.iter().map(|p| (p.overlap, p.cell.mean)).collect::<Vec<_>>();
                for group in ablation.groups {
                    add(Some(group.title), false, &plain(&of(Some(group.title))));
                }
                add(None, false, &plain(&of(None)));
                add(None, true, &distances(&of(None)));
            }
        }
    }
    all
}

impl Summary {
    /// The coefficients of an ablation on a dataset, or, without a name, on all; none where overlap was not measured.
    pub fn correlation_table(&self, ablation: &Ablation, dataset: Option<&str>) -> Option<Table> {
        let own: Vec<&Correlation> = self
            .correlations
            .iter()
            .filter(|c| c.ablation == ablation.name && c.dataset.as_deref() == dataset)
            .collect();
        let mut columns: Vec<Shots> = own.iter().map(|c| c.shots).collect();
        columns.sort_unstable();
        columns.dedup();
        if columns.is_empty() {
            return None;
        }
        let head = std::iter::once("overlap and accuracy of".into()).chain(columns.iter().map(|k| k.title()));
        let mut table = Table { head: head.collect(), rows: Vec::new(), bold: Vec::new() };
        let named = ablation.groups.iter().map(|group| (Some(group.title), false, group.title));
        for (of, within, name) in named.chain([(None, false, "all"), (None, true, "all, each less its mean")]) {
            let value = |shots: &Shots| {
                let found = own.iter().find(|c| c.of == of && c.within == within && c.shots == *shots);
                found.filter(|c| c.r.is_some()).map_or_else(|| "–".into(), |c| format!("{} ({})", c.shown(), c.points))
            };
            table.rows.push(std::iter::once(name.into()).chain(columns.iter().map(value)).collect());
        }
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Record;
    use crate::eval::ablation::find_ablation;
    use crate::eval::summary::tests::record;

    /// Pearson's coefficient as the covariance of standardised values, in one plain loop.
    fn by_loop(points: &[(f64, f64)]) -> f64 {
        let n = points.len() as f64;
        let (mut x, mut y, mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (a, b) in points {
            x += a;
            y += b;
            xx += a * a;
            yy += b * b;
            xy += a * b;
        }
        (n * xy - x * y) / ((n * xx - x * x) * (n * yy - y * y)).sqrt()
    }

    #[test]
    fn the_coefficient_is_that_of_a_plain_loop() {
        let points = [(0.3, 0.6), (0.25, 0.71), (0.1, 0.7), (0.18, 0.9), (0.4, 0.42)];
        assert!((pearson(&points).unwrap() - by_loop(&points)).abs() < 1e-12);
        assert!((pearson(&[(1.0, 5.0), (2.0, 3.0), (3.0, 1.0)]).unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(pearson(&points[..2]), None);
        assert_eq!(pearson(&[(0.1, 0.2), (0.1, 0.3), (0.1, 0.4)]), None, "all overlaps are equal");
        assert_eq!(pearson(&[(0.1, 0.7), (0.2, 0.7), (0.3, 0.7)]), None, "all accuracies are equal");
    }

    #[test]
    fn points_are_of_methods_corrections_and_datasets() {
        let ablation = find_ablation("overlap").unwrap();
        // Overlap and right pictures of each variant, on a dataset on which all is easy and on one on which all is hard: within each
        // method less overlap is more accuracy, over all it is the other way round.
        let values = [
            ("easy", [(0.5, 90), (0.4, 93), (0.3, 95), (0.5, 91), (0.4, 95), (0.3, 97)]),
            ("hard", [(0.2, 30), (0.15, 33), (0.1, 37), (0.2, 31), (0.15, 34), (0.1, 40)]),
        ];
        let of = |(name, values): &(&str, [(f64, usize); 6])| -> Vec<Record> {
            let one = |(variant, (overlap, correct)): (&'static ablation::Variant, &(f64, usize))| {
                let mut record = record(name, variant.method, 4, 1, *correct);
                record.task.variant = Some(variant);
                record.overlap = Some(*overlap);
                record
            };
            ablation.variants.iter().zip(values).map(one).collect()
        };
        let records: Vec<Vec<Record>> = values.iter().map(of).collect();
        let summary = Summary::of(&records.iter().map(|set| &set[..]).collect::<Vec<_>>());
        assert_eq!(summary.correlations.len(), 3 * 4);
        let found = |dataset: Option<&str>, of: Option<&str>, within| {
            let own = |c: &&Correlation| (c.dataset.as_deref(), c.of, c.within) == (dataset, of, within);
            summary.correlations.iter().find(own).unwrap()
        };
        let pairs = |values: &[(f64, usize)]| values.iter().map(|(o, c)| (*o, *c as f64 / 100.0)).collect::<Vec<_>>();
        let (easy, hard) = (pairs(&values[0].1), pairs(&values[1].1));
        let close = |c: &Correlation, points: &[(f64, f64)]| {
            assert_eq!(c.points, points.len());
            assert!((c.r.unwrap() - by_loop(points)).abs() < 1e-9, "{c:?} {}", by_loop(points));
        };
        close(found(Some("easy"), Some("Tip-Adapter"), false), &easy[..3]);
        close(found(Some("hard"), Some("Tip-X"), false), &hard[3..]);
        close(found(Some("hard"), None, false), &hard);
        let all = [&easy[..], &hard[..]].concat();
        close(found(None, None, false), &all);
        let less = |three: &[(f64, f64)]| {
            let (x, y) = (three.iter().map(|p| p.0).sum::<f64>() / 3.0, three.iter().map(|p| p.1).sum::<f64>() / 3.0);
            three.iter().map(|p| (p.0 - x, p.1 - y)).collect::<Vec<_>>()
        };
        close(found(None, None, true), &all.chunks(3).flat_map(less).collect::<Vec<_>>());
        assert!(found(None, None, false).r.unwrap() > 0.8 && found(None, None, true).r.unwrap() < -0.8);
        let table = summary.correlation_table(ablation, None).unwrap();
        assert_eq!(table.head, ["overlap and accuracy of", "4 shot"]);
        let names: Vec<&str> = table.rows.iter().map(|row| &row[0][..]).collect();
        assert_eq!(names, ["Tip-Adapter", "Tip-X", "all", "all, each less its mean"]);
        assert!(table.rows[3][1].starts_with('−') && table.rows[3][1].ends_with(" (12)"), "{table:?}");
        assert!(summary.correlation_table(find_ablation("pini").unwrap(), None).is_none());
    }
}
