//! Ablations in the report: their tables, overlap against accuracy, and noise on pixels.

use super::{Drawing, Set, file_name, noisy};
use crate::Result;
use crate::eval::ablation::{self, Ablation};
use crate::eval::correlation::{Correlation, Point, points};
use crate::eval::summary::{Summary, shots};
use crate::eval::{NoisyPicture, Task};
use crate::report::{Dot, Dots, scatter};

/// The tables of ablations: of one dataset, or of each and of the mean over all.
pub(super) fn ablations(drawing: &mut Drawing, sets: &[Set], summary: &Summary) -> Result<()> {
    let mut parts: Vec<(String, Option<&Set>)> = Vec::new();
    if sets.len() > 1 {
        parts.push((format!("mean over {} datasets", sets.len()), None));
    }
    parts.extend(sets.iter().map(|set| (set.about.title.clone(), Some(set))));
    for ablation in ablation::ALL {
        let mut begun = false;
        for (title, set) in &parts {
            let name = set.map(|set| set.name.as_str());
            let tables = summary.ablations(name);
            let table = tables.iter().find(|(other, _)| other.name == ablation.name).map(|(_, table)| table);
            let correlation = summary.correlation_table(ablation, name);
            if table.is_none() && correlation.is_none() {
                continue;
            }
            if !begun {
                let id = format!("ablation-{}", ablation.name);
                drawing.page.section(&id, ablation.title, ablation.about);
                begun = true;
            }
            if let Some(table) = table {
                let caption = format!("{title}: accuracy in percent; the best of each part of a column is bold.");
                drawing.page.table(&caption, table);
            }
            if let Some(table) = correlation {
                let title = set.map_or_else(|| format!("{} datasets", sets.len()), |set| set.about.title.clone());
                if let Some(svg) = overlap_plot(ablation, summary, (&title, name)) {
                    let file = name.map_or_else(String::new, |name| format!("{}-", file_name(name)));
                    let svg = drawing.plot(&format!("{file}{}-accuracy", ablation.name), svg)?;
                    drawing.page.figures(&[svg]);
                }
                drawing.page.table(
                    &format!(
                        "{title}: Pearson's correlation of overlap and accuracy, with the number of points; below zero where less overlap \
                         goes with more accuracy. The last row takes off the mean of each method on each dataset, so that only what \
                         corrections change is left."
                    ),
                    &table,
                );
            }
        }
    }
    Ok(())
}

/// Overlap against accuracy at the largest number of shots, on a dataset or, without a name, on all. None without points.
fn overlap_plot(ablation: &Ablation, summary: &Summary, (title, dataset): (&str, Option<&str>)) -> Option<String> {
    let all = points(ablation, &summary.variants, dataset);
    let most = shots(&all.iter().map(|point| point.cell).collect::<Vec<_>>()).last().copied()?;
    let drawn: Vec<&Point<'_>> = all.iter().filter(|point| point.cell.shots == most).collect();
    let mut series: Vec<Dots> = Vec::new();
    for (mark, group) in ablation.groups.iter().enumerate() {
        for (colour, row) in group.rows.iter().enumerate() {
            let own = drawn.iter().filter(|point| row.is_of(point.cell));
            let dot = |point: &&Point<'_>| {
                let (overlap, accuracy) = (point.overlap, 100.0 * point.cell.mean);
                let on = point.cell.dataset.as_deref().unwrap_or_default();
                let name = format!("{}, {}, {on}: overlap {overlap:.4}, {accuracy:.1}%", group.title, point.is);
                Dot { x: overlap, y: accuracy, name }
            };
            let dots: Vec<Dot> = own.map(dot).collect();
            if !dots.is_empty() {
                series.push(Dots { name: format!("{}, {}", group.title, row.is), colour, mark, dots });
            }
        }
    }
    let own =
        |c: &&Correlation| (c.ablation, c.dataset.as_deref(), c.of, c.shots) == (ablation.name, dataset, None, most);
    let said = |within: bool| {
        let found = summary.correlations.iter().filter(own).find(|c| c.within == within);
        found.map_or_else(|| "–".into(), Correlation::shown)
    };
    let note = format!("r = {} over {} points; each less its mean {}", said(false), drawn.len(), said(true));
    let title = format!("{title}: overlap and accuracy, {}", most.title());
    Some(scatter(&title, &note, ("overlap of test pictures", "accuracy in percent"), &series))
}

/// Pictures with learned noise on their pixels: of PiNI as a method or of its ablation, at the largest number of shots and the
/// first seed.
pub(super) fn noisy_pictures(drawing: &mut Drawing, set: &Set, several: bool) -> Result<()> {
    let on_pixels = |task: &Task| match task.variant {
        Some(variant) => variant.name == "pixels",
        None => set
            .settings
            .setup
            .methods
            .get(task.method.info().name)
            .is_some_and(|of| of.get("noise").and_then(serde_json::Value::as_str) == Some("pixels")),
    };
    let tasks = set.journal.records.iter().map(|record| record.task).filter(on_pixels);
    let Some(task) = tasks.max_by_key(|task| (task.shots, std::cmp::Reverse(task.seed))) else { return Ok(()) };
    let detail = set.journal.detail_of(task, &set.test)?;
    let Some(noise) = detail.noise.filter(|noise| !noise.pictures.is_empty()) else { return Ok(()) };
    let name = file_name(&set.name);
    let lead = format!(
        "Test pictures, the means and spreads of the noise that was learned for their pixels, {} times as strong as they are, and the \
         pictures with the means added, {}, seed {}.",
        NoisyPicture::LOUDER,
        task.shots.title(),
        task.seed
    );
    let title = if several { format!("Noise on pixels: {}", set.about.title) } else { "Noise on pixels".into() };
    drawing.page.section(&format!("{name}-pixels"), &title, &lead);
    let svg = drawing.plot(&format!("{name}-pini-pixels"), noisy::svg(&set.about.title, &noise.pictures)?)?;
    drawing.page.figures(&[svg]);
    Ok(())
}
