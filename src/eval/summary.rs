//! Results over seeds: means, standard deviations, and tables of them.

use serde::Serialize;

use super::Record;
use super::ablation::{self, Ablation, Variant};
use super::correlation::{Correlation, correlations};
use super::trust::{COVERAGES, Coverage, Foreign};
use crate::Result;
use crate::adapt::{METHODS, Method};
use crate::data::Shots;
use crate::report::Table;

/// Mean.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard deviation of the values themselves (over n), as NumPy's.
pub fn deviation(values: &[f64]) -> f64 {
    let m = mean(values);
    (values.iter().map(|v| (v - m).powi(2)).sum::<f64>() / values.len().max(1) as f64).sqrt()
}

/// A method at a number of shots on a dataset, over seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The dataset's name; none for the mean over several.
    pub dataset: Option<String>,
    /// Method.
    pub method: &'static dyn Method,
    /// What of an ablation it is, where it is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<&'static Variant>,
    /// Pictures per class.
    pub shots: Shots,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Accuracy of each.
    pub accuracies: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// Mean expected calibration error of softmax(logits).
    pub calibration_error: f64,
    /// The same at the fitted temperatures, where there are some.
    pub calibration_error_fitted: Option<f64>,
    /// Mean of −log of the true class's probability at the fitted temperatures, where there are some.
    pub log_loss_fitted: Option<f64>,
    /// How often sets of classes hold the right one, on the mean; nothing without evidence.
    pub coverage: Vec<Coverage>,
    /// How well pictures of no class are told from the others, on the mean; nothing where there were none.
    pub foreign: Vec<Foreign>,
    /// Mean overlap of test pictures' similarities, where corrections are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<f64>,
    /// Mean variance of their features, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_variance: Option<f64>,
    /// Mean seconds to learn.
    pub fit_seconds: f64,
    /// Mean milliseconds to classify a picture from its features.
    pub predict_milliseconds: f64,
    /// Most bytes of GPU memory.
    pub peak_bytes: u64,
}

/// All results of one or several datasets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// By dataset, shots and method.
    pub cells: Vec<Cell>,
    /// Means over the datasets, where all have the same seeds.
    pub average: Vec<Cell>,
    /// What is of ablations, likewise: of single datasets, then means.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Cell>,
    /// How overlap and accuracy go together where corrections are compared: of single datasets, then of all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub correlations: Vec<Correlation>,
}

impl Summary {
    /// Of the records of each dataset.
    pub fn of(datasets: &[&[Record]]) -> Summary {
        let mut summary =
            Summary { cells: Vec::new(), average: Vec::new(), variants: Vec::new(), correlations: Vec::new() };
        let mut shots: Vec<Shots> = datasets.iter().flat_map(|d| d.iter().map(|r| r.task.shots)).collect();
        shots.sort_unstable();
        shots.dedup();
        for shots in shots {
            let of = |method, variant| -> (Vec<Cell>, Option<Cell>) {
                let cells: Vec<Cell> =
                    datasets.iter().filter_map(|records| cell(records, (method, variant), shots)).collect();
                let same = cells.windows(2).all(|pair| pair[0].seeds == pair[1].seeds);
                let whole = cells.len() > 1 && cells.len() == datasets.len() && same;
                let mean = whole.then(|| average(&cells));
                (cells, mean)
            };
            for method in METHODS.iter().copied() {
                let (cells, mean) = of(method, None);
                summary.average.extend(mean);
                summary.cells.extend(cells);
            }
            for variant in ablation::ALL.iter().flat_map(|ablation| ablation.variants) {
                let Ok(method) = variant.method() else { continue };
                let (cells, mean) = of(method, Some(variant));
                summary.variants.extend(cells.into_iter().chain(mean));
            }
        }
        summary.correlations = correlations(&summary.variants);
        summary
    }

    /// The cells of a dataset, or, without a name, the means over all.
    pub fn select(&self, dataset: Option<&str>) -> Vec<&Cell> {
        match dataset {
            Some(name) => self.cells.iter().filter(|c| c.dataset.as_deref() == Some(name)).collect(),
            None => self.average.iter().collect(),
        }
    }

    /// The tables of ablations of a dataset, or, without a name, of the means over all, in percent.
    pub fn ablations(&self, dataset: Option<&str>) -> Vec<(&'static Ablation, Table)> {
        let cells: Vec<&Cell> = self.variants.iter().filter(|c| c.dataset.as_deref() == dataset).collect();
        ablation::ALL.iter().filter_map(|ablation| Some((*ablation, ablation.table(&cells)?))).collect()
    }

    /// Accuracy by method and number of shots, in percent.
    pub fn accuracies(&self, dataset: Option<&str>) -> Table {
        let cells = self.select(dataset);
        let shots = shots(&cells);
        let mut table = Table {
            head: std::iter::once("method".into()).chain(shots.iter().map(|k| k.title())).collect(),
            rows: Vec::new(),
            bold: Vec::new(),
        };
        let mut best: Vec<Option<(f64, usize)>> = vec![None; shots.len()];
        for method in METHODS.iter().copied() {
            let of_method: Vec<&&Cell> = cells.iter().filter(|c| c.method == method).collect();
            if of_method.is_empty() {
                continue;
            }
            let mut row = vec![method.info().title.to_string()];
            for (column, k) in shots.iter().enumerate() {
                let cell = of_method.iter().find(|c| c.shots == *k);
                row.push(cell.map_or_else(|| "–".into(), |cell| percent(cell)));
                if let Some(cell) = cell
                    && best[column].is_none_or(|(top, _)| cell.mean > top)
                {
                    best[column] = Some((cell.mean, table.rows.len()));
                }
            }
            table.rows.push(row);
        }
        if table.rows.len() > 1 {
            let best = best.iter().enumerate();
            table.bold = best.filter_map(|(column, best)| best.map(|(_, row)| (row, column + 1))).collect();
        }
        table
    }

    /// What each method costs, at the largest number of shots.
    pub fn costs(&self, dataset: Option<&str>) -> Table {
        let cells = self.select(dataset);
        let most = shots(&cells).last().copied();
        let mut table = Table {
            head: ["method", "learning", "classifying a picture", "peak GPU memory"].map(String::from).to_vec(),
            rows: Vec::new(),
            bold: Vec::new(),
        };
        for cell in cells.iter().filter(|c| Some(c.shots) == most) {
            table.rows.push(vec![
                cell.method.info().title.into(),
                format!("{:.2} s", cell.fit_seconds),
                format!("{:.3} ms", cell.predict_milliseconds),
                format!("{:.1} MB", cell.peak_bytes as f64 / 1e6),
            ]);
        }
        table
    }

    /// How well confidence and accuracy agree, at the largest number of shots.
    pub fn calibration(&self, dataset: Option<&str>) -> Table {
        let cells = self.select(dataset);
        let most = shots(&cells).last().copied();
        let head = ["method", "accuracy", "ECE as predicted", "ECE at the fitted temperature", "log-loss there"];
        let mut table = Table { head: head.map(String::from).to_vec(), rows: Vec::new(), bold: Vec::new() };
        for cell in cells.iter().filter(|c| Some(c.shots) == most) {
            let fitted = cell.calibration_error_fitted;
            table.rows.push(vec![
                cell.method.info().title.into(),
                format!("{:.1}", 100.0 * cell.mean),
                format!("{:.1}", 100.0 * cell.calibration_error),
                fitted.map_or_else(|| "–".into(), |e| format!("{:.1}", 100.0 * e)),
                cell.log_loss_fitted.map_or_else(|| "–".into(), |loss| format!("{loss:.3}")),
            ]);
        }
        table
    }

    /// How often sets of classes hold the right one, and how many classes they are, at the largest number of shots; none where nothing
    /// was measured.
    pub fn coverage(&self, dataset: Option<&str>) -> Option<Table> {
        let cells = self.select(dataset);
        let most = shots(&cells).last().copied();
        let asked = COVERAGES.map(|coverage| format!("asked {:.0} %: held, classes", 100.0 * coverage));
        let mut table = Table { head: vec!["method".into()], rows: Vec::new(), bold: Vec::new() };
        table.head.extend(asked);
        for cell in cells.iter().filter(|c| Some(c.shots) == most && c.coverage.len() == COVERAGES.len()) {
            let mut row = vec![cell.method.info().title.to_string()];
            row.extend(cell.coverage.iter().map(|c| {
                let short = if c.supported { "" } else { " (too few pictures)" };
                format!("{:.1} %, {:.1}{short}", 100.0 * c.held, c.size)
            }));
            table.rows.push(row);
        }
        (!table.rows.is_empty()).then_some(table)
    }

    /// How well pictures of no class are told from the others, at the largest number of shots; none where nothing was measured.
    pub fn foreign(&self, dataset: Option<&str>) -> Option<Table> {
        let cells = self.select(dataset);
        let most = shots(&cells).last().copied();
        let head = ["method", "by", "AUROC", "known that are kept", "foreign that are refused"];
        let mut table = Table { head: head.map(String::from).to_vec(), rows: Vec::new(), bold: Vec::new() };
        for cell in cells.iter().filter(|c| Some(c.shots) == most) {
            table.rows.extend(cell.foreign.iter().map(|f| {
                let short = if f.supported { "" } else { " (too few pictures)" };
                vec![
                    cell.method.info().title.into(),
                    f.by.to_string(),
                    format!("{:.1}", 100.0 * f.auroc),
                    format!("{:.1} %{short}", 100.0 * f.kept),
                    format!("{:.1} %", 100.0 * f.refused),
                ]
            }));
        }
        (!table.rows.is_empty()).then_some(table)
    }

    /// All cells as CSV.
    ///
    /// # Errors
    /// None that users can cause.
    pub fn csv(&self) -> Result<String> {
        let head = [
            "dataset",
            "method",
            "shots",
            "seeds",
            "accuracy_mean",
            "accuracy_deviation",
            "calibration_error",
            "calibration_error_fitted",
            "log_loss_fitted",
            "overlap",
            "feature_variance",
            "fit_seconds",
            "predict_milliseconds",
            "peak_bytes",
        ];
        let maybe = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let rows = self.cells.iter().chain(&self.average).chain(&self.variants).map(|cell| {
            let variant = cell.variant.map_or_else(String::new, |variant| format!(" {variant}"));
            vec![
                cell.dataset.clone().unwrap_or_else(|| "mean".into()),
                format!("{}{variant}", cell.method.info().name),
                cell.shots.to_string(),
                cell.seeds.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                cell.mean.to_string(),
                cell.deviation.to_string(),
                cell.calibration_error.to_string(),
                maybe(cell.calibration_error_fitted),
                maybe(cell.log_loss_fitted),
                maybe(cell.overlap),
                maybe(cell.feature_variance),
                cell.fit_seconds.to_string(),
                cell.predict_milliseconds.to_string(),
                cell.peak_bytes.to_string(),
            ]
        });
        Table { head: head.map(String::from).to_vec(), rows: rows.collect(), bold: Vec::new() }.csv()
    }
}

/// The numbers of shots among cells, ascending.
pub fn shots(cells: &[&Cell]) -> Vec<Shots> {
    let mut shots: Vec<Shots> = cells.iter().map(|c| c.shots).collect();
    shots.sort_unstable();
    shots.dedup();
    shots
}

/// Accuracy in percent, with its spread where there are several seeds.
pub(super) fn percent(cell: &Cell) -> String {
    if cell.accuracies.len() > 1 {
        format!("{:.1} ± {:.1}", 100.0 * cell.mean, 100.0 * cell.deviation)
    } else {
        format!("{:.1}", 100.0 * cell.mean)
    }
}

fn cell(
    records: &[Record],
    (method, variant): (&'static dyn Method, Option<&'static Variant>),
    shots: Shots,
) -> Option<Cell> {
    let wanted = |r: &&Record| (r.task.method, r.task.variant, r.task.shots) == (method, variant, shots);
    let mut of: Vec<&Record> = records.iter().filter(wanted).collect();
    // Results come in any order when a run was taken up.
    of.sort_by_key(|r| r.task.seed);
    let first = of.first()?;
    let values = |get: &dyn Fn(&Record) -> f64| of.iter().map(|r| get(r)).collect::<Vec<f64>>();
    let accuracies = values(&|r| r.accuracy);
    let of_all = |get: fn(&Record) -> Option<f64>| mean_of_all(of.iter().map(|r| get(r)));
    Some(Cell {
        dataset: Some(first.dataset.clone()),
        method,
        variant,
        shots,
        seeds: of.iter().map(|r| r.task.seed).collect(),
        mean: mean(&accuracies),
        deviation: deviation(&accuracies),
        accuracies,
        calibration_error: mean(&values(&|r| r.calibration_error)),
        calibration_error_fitted: of_all(|r| r.calibration_error_fitted),
        log_loss_fitted: of_all(|r| r.log_loss_fitted),
        coverage: mean_coverage(&of.iter().map(|r| &r.coverage[..]).collect::<Vec<_>>()),
        foreign: mean_foreign(&of.iter().map(|r| &r.foreign[..]).collect::<Vec<_>>()),
        overlap: of_all(|r| r.overlap),
        feature_variance: of_all(|r| r.feature_variance),
        fit_seconds: mean(&values(&|r| r.fit_seconds)),
        predict_milliseconds: mean(&values(&|r| 1e3 * r.predict_seconds / r.test.max(1) as f64)),
        peak_bytes: of.iter().map(|r| r.peak_bytes).max().unwrap_or_default(),
    })
}

/// The mean of what all have; none where one has it not.
fn mean_of_all(all: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = all.collect::<Option<_>>()?;
    Some(mean(&values))
}

/// The mean coverage; nothing where not all have one.
fn mean_coverage(all: &[&[Coverage]]) -> Vec<Coverage> {
    let same = all.iter().map(|each| each.len()).min().unwrap_or_default();
    let of = |i: usize, get: fn(&Coverage) -> f64| mean(&all.iter().map(|each| get(&each[i])).collect::<Vec<f64>>());
    let coverage = |i: usize| Coverage {
        wanted: all[0][i].wanted,
        held: of(i, |c| c.held),
        size: of(i, |c| c.size),
        supported: all.iter().all(|each| each[i].supported),
    };
    (0..same).map(coverage).collect()
}

/// The same of how well pictures of no class are told from the others.
fn mean_foreign(all: &[&[Foreign]]) -> Vec<Foreign> {
    let same = all.iter().map(|each| each.len()).min().unwrap_or_default();
    let of = |i: usize, get: fn(&Foreign) -> f64| mean(&all.iter().map(|each| get(&each[i])).collect::<Vec<f64>>());
    let foreign = |i: usize| Foreign {
        by: all[0][i].by,
        auroc: of(i, |f| f.auroc),
        kept: of(i, |f| f.kept),
        refused: of(i, |f| f.refused),
        pictures: all.iter().map(|each| each[i].pictures).sum::<usize>() / all.len().max(1),
        supported: all.iter().all(|each| each[i].supported),
    };
    (0..same).map(foreign).collect()
}

/// The mean over datasets, seed by seed, so that its spread is that of the papers' averages.
fn average(cells: &[Cell]) -> Cell {
    let seeds = cells[0].seeds.clone();
    let of = |get: &dyn Fn(&Cell) -> f64| mean(&cells.iter().map(get).collect::<Vec<f64>>());
    let accuracies: Vec<f64> = (0..seeds.len()).map(|i| of(&|c| c.accuracies[i])).collect();
    let of_all = |get: fn(&Cell) -> Option<f64>| mean_of_all(cells.iter().map(get));
    Cell {
        dataset: None,
        method: cells[0].method,
        variant: cells[0].variant,
        shots: cells[0].shots,
        mean: mean(&accuracies),
        deviation: deviation(&accuracies),
        accuracies,
        seeds,
        calibration_error: of(&|c| c.calibration_error),
        calibration_error_fitted: of_all(|c| c.calibration_error_fitted),
        log_loss_fitted: of_all(|c| c.log_loss_fitted),
        coverage: mean_coverage(&cells.iter().map(|c| &c.coverage[..]).collect::<Vec<_>>()),
        foreign: mean_foreign(&cells.iter().map(|c| &c.foreign[..]).collect::<Vec<_>>()),
        overlap: of_all(|c| c.overlap),
        feature_variance: of_all(|c| c.feature_variance),
        fit_seconds: of(&|c| c.fit_seconds),
        predict_milliseconds: of(&|c| c.predict_milliseconds),
        peak_bytes: cells.iter().map(|c| c.peak_bytes).max().unwrap_or_default(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::adapt::evidence::EvidenceCounts;
    use crate::adapt::method::find;
    use crate::eval::Task;

    pub(crate) fn record(dataset: &str, method: &str, shots: usize, seed: u64, correct: usize) -> Record {
        Record {
            dataset: dataset.into(),
            task: Task::new(find(method).unwrap(), shots.into(), seed),
            accuracy: correct as f64 / 100.0,
            correct,
            test: 100,
            support: 5 * shots,
            val: 5,
            val_accuracy: Some(0.5),
            alpha: None,
            beta: None,
            gamma: None,
            epoch: None,
            temperature: Some(1.5),
            evidence: EvidenceCounts::default(),
            coverage: Vec::new(),
            foreign: Vec::new(),
            overlap: None,
            feature_variance: None,
            calibration_error: 0.1,
            calibration_error_fitted: Some(0.05),
            log_loss: 1.0,
            log_loss_fitted: Some(0.9),
            fit_seconds: 2.0,
            predict_seconds: 0.1,
            peak_bytes: 5_000_000,
            data: String::new(),
        }
    }

    #[test]
    fn tables_do_not_depend_on_the_order_of_results() {
        let mut a = vec![
            record("a", "tip-adapter", 1, 2, 60),
            record("a", "tip-adapter", 1, 1, 50),
            record("a", "zero-shot", 1, 1, 40),
            record("a", "zero-shot", 1, 2, 40),
        ];
        let summary = Summary::of(&[&a]);
        let table = summary.accuracies(Some("a"));
        assert_eq!(table.rows, [["zero-shot", "40.0 ± 0.0"], ["Tip-Adapter", "55.0 ± 5.0"]]);
        assert_eq!(table.bold, [(1, 1)]);
        a.reverse();
        assert_eq!(Summary::of(&[&a]), summary);
        assert!(summary.average.is_empty(), "one dataset has no average");
        assert!(summary.csv().unwrap().contains("a,tip-adapter,1,1 2,0.55,"));
    }

    #[test]
    fn averages_are_over_datasets_seed_by_seed() {
        let a = [record("a", "pini", 4, 1, 50), record("a", "pini", 4, 2, 60)];
        let b = [record("b", "pini", 4, 1, 90), record("b", "pini", 4, 2, 80)];
        let summary = Summary::of(&[&a, &b]);
        assert_eq!(summary.average.len(), 1);
        assert_eq!(summary.average[0].accuracies, [0.7, 0.7]);
        assert_eq!(summary.accuracies(None).rows, [["PiNI", "70.0 ± 0.0"]]);
        // A dataset that lacks a seed would shift the mean.
        assert!(Summary::of(&[&a, &b[..1]]).average.is_empty());
    }
}
