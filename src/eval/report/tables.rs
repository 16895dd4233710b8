//! Tables and lists of the report.

use serde_json::Value;

use super::Set;
use crate::adapt::METHODS;
use crate::adapt::evidence::UnknownBy;
use crate::adapt::method::baseline;
use crate::data::ELEVEN;
use crate::eval::summary::{Cell, Summary};
use crate::eval::{Coverage, published};
use crate::report::{Page, Table};

pub(super) fn published_table(sets: &[Set], summary: &Summary) -> Table {
    let head = ["what", "shots", "published", "here"].map(String::from).to_vec();
    let mut table = Table { head, rows: Vec::new(), bold: Vec::new() };
    let here = |cell: Option<&&Cell>| cell.map_or("–".into(), |c| format!("{:.2}", 100.0 * c.mean));
    if ELEVEN.iter().all(|name| sets.iter().any(|set| set.name == *name)) && sets.len() == ELEVEN.len() {
        let cells = summary.select(None);
        for method in METHODS.iter().copied() {
            for shots in published::SHOTS {
                let Some(there) = published::eleven(method, shots) else { continue };
                let cell = cells.iter().find(|c| c.method == method && c.shots == shots.into());
                let what = format!("{}, RN50, eleven datasets", method.info().title);
                table.rows.push(vec![what, shots.to_string(), format!("{there:.2}"), here(cell)]);
            }
        }
    }
    for set in sets {
        if let Some(there) = published::zero_shot(&set.name) {
            let cells = summary.select(Some(&set.name));
            let cell = cells.iter().find(|c| c.method == baseline());
            let what = format!("zero-shot, ViT-B/16, {}", set.about.title);
            table.rows.push(vec![what, "0".into(), format!("{there:.1}"), here(cell)]);
        }
    }
    table
}

pub(super) fn settings_section(page: &mut Page, sets: &[Set]) {
    page.section("settings", "Settings and data", "What these numbers were measured with.");
    for set in sets {
        page.heading(&set.about.title);
        let how = &set.settings.setup.how;
        let views = |n: usize, none: &str| if n == 0 { none.to_string() } else { format!("{n} random views") };
        let [train, val, test] = set.about.parts;
        let mut items = vec![
            format!(
                "{train} pictures to learn from, {val} to validate on, {test} to test on, of {} classes",
                set.settings.classes
            ),
            format!("parts: {}", set.about.source),
            format!("model {} (sha256 {}…), {}", set.about.model, first(&set.settings.model), set.settings.precision),
            format!("templates: {}; PiNI's words: {}", set.settings.templates.join(" | "), set.settings.words),
            format!(
                "cache keys: {}; training on {}; grid {}",
                views(how.key_views, "the pictures as they are"),
                if how.augment {
                    views(how.views, "a fresh random view of each picture every epoch")
                } else {
                    "the pictures as they are".into()
                },
                how.grid
            ),
        ];
        items.extend(set.settings.setup.methods.iter().filter_map(|(name, settings)| {
            let of = |(name, value): (&String, &Value)| {
                (!value.is_null()).then(|| format!("{} {value}", name.replace('_', " ")))
            };
            let all: Vec<String> = settings.iter().filter_map(of).collect();
            (!all.is_empty()).then(|| format!("{name}: {}", all.join(", ")))
        }));
        if let Some(correction) = &set.settings.correction {
            items.push(format!("overlap correction: sha256 {}…", first(correction)));
        }
        let compared = set.settings.compared.iter();
        items.extend(compared.map(|(teaching, sha256)| format!("{teaching} correction: sha256 {}…", first(sha256))));
        items.extend(set.about.notes.iter().cloned());
        items.extend(set.test.unreadable.iter().map(|reason| format!("left out: {reason}")));
        page.list(&items);
    }
}

fn first(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// All results, one row each.
pub(super) fn results_table(sets: &[Set]) -> Table {
    let head = [
        "dataset",
        "method",
        "shots",
        "seed",
        "accuracy",
        "correct",
        "test",
        "support",
        "val",
        "val_accuracy",
        "alpha",
        "beta",
        "gamma",
        "epoch",
        "temperature",
        "calibration_error",
        "calibration_error_fitted",
        "log_loss",
        "log_loss_fitted",
        "evidence",
        "coverage_80",
        "coverage_90",
        "coverage_95",
        "set_80",
        "set_90",
        "set_95",
        "auroc_probability",
        "auroc_energy",
        "auroc_distance",
        "overlap",
        "feature_variance",
        "fit_seconds",
        "predict_seconds",
        "peak_bytes",
    ];
    let mut rows = Vec::new();
    for r in sets.iter().flat_map(|set| &set.journal.records) {
        let maybe = |v: Option<f64>| v.map_or_else(String::new, |v| v.to_string());
        let covered = |i: usize, get: fn(&Coverage) -> f64| maybe(r.coverage.get(i).map(get));
        let told = |by: UnknownBy| maybe(r.foreign.iter().find(|f| f.by == by).map(|f| f.auroc));
        rows.push(vec![
            r.dataset.clone(),
            r.task.what(),
            r.task.shots.to_string(),
            r.task.seed.to_string(),
            r.accuracy.to_string(),
            r.correct.to_string(),
            r.test.to_string(),
            r.support.to_string(),
            r.val.to_string(),
            maybe(r.val_accuracy),
            maybe(r.alpha),
            maybe(r.beta),
            maybe(r.gamma),
            r.epoch.map_or_else(String::new, |e| e.to_string()),
            maybe(r.temperature),
            r.calibration_error.to_string(),
            maybe(r.calibration_error_fitted),
            r.log_loss.to_string(),
            maybe(r.log_loss_fitted),
            r.evidence.all().to_string(),
            covered(0, |c| c.held),
            covered(1, |c| c.held),
            covered(2, |c| c.held),
            covered(0, |c| c.size),
            covered(1, |c| c.size),
            covered(2, |c| c.size),
            told(UnknownBy::Probability),
            told(UnknownBy::Energy),
            told(UnknownBy::Distance),
            maybe(r.overlap),
            maybe(r.feature_variance),
            r.fit_seconds.to_string(),
            r.predict_seconds.to_string(),
            r.peak_bytes.to_string(),
        ]);
    }
    Table { head: head.map(String::from).to_vec(), rows, bold: Vec::new() }
}
