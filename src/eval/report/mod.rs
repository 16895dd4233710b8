//! The report: one HTML page, its plots as SVG and PNG, and all numbers as CSV and JSON, made of what a run left on disk.

use std::path::{Path, PathBuf};

mod ablations;
mod confusions;
mod noisy;
mod plots;
mod tables;

use self::ablations::{ablations, noisy_pictures};
use self::confusions::confusions;
use self::plots::{noise_plots, reliability_plot, search_plot};
use self::tables::{published_table, results_table, settings_section};
use super::journal::Journal;
use super::summary::{Cell, Summary, mean, shots};
use super::{About, Detail, Record, Settings, Task, TestSet};
use crate::adapt::method::baseline;
use crate::adapt::{METHODS, Method};
use crate::data::walk::{self, mark_results};
use crate::data::{ELEVEN, SHIFTS};
use crate::files::write_atomic;
use crate::output::Kind;
use crate::report::histogram::{self, Panel};
use crate::report::{Page, Point, Series, Tile, accuracy_plot, png};
use crate::{Error, Result, text};

/// A dataset's results as they lie on disk.
struct Set {
    folder: PathBuf,
    name: String,
    settings: Settings,
    about: About,
    journal: Journal,
    test: TestSet,
}

/// What was written.
pub struct Written {
    /// The page.
    pub html: PathBuf,
    /// The tables.
    pub summary: Summary,
    /// Datasets by name and title, in order.
    pub datasets: Vec<(String, String)>,
}

/// The numbers of a report.
pub struct Results {
    /// All results, dataset by dataset.
    pub records: Vec<Record>,
    /// Their means.
    pub summary: Summary,
}

/// Reads all results below `out`.
///
/// # Errors
/// As [`write()`].
pub fn results(out: &Path) -> Result<Results> {
    let sets = read(out)?;
    let summary = summary(&sets);
    Ok(Results { records: sets.into_iter().flat_map(|set| set.journal.records).collect(), summary })
}

fn summary(sets: &[Set]) -> Summary {
    let records: Vec<&[Record]> = sets.iter().map(|set| &set.journal.records[..]).collect();
    Summary::of(&records)
}

/// The files of a report, beside its plots.
pub const FILES: [&str; 4] = ["report.html", "summary.csv", "results.csv", "results.json"];

/// Looks whether the report's files may be written to `out`: whether what has their names there, if anything, is a report of
/// tipi's.
///
/// # Errors
/// [`Error::Foreign`] with the first file that is not.
pub fn check(out: &Path) -> Result<()> {
    let [html, tables @ ..] = FILES.map(|name| out.join(name));
    Kind::Html.check(&html)?;
    // Tables have no marks of their own.
    if Kind::Html.is_at(&html) || walk::is_results(out) {
        return Ok(());
    }
    tables.iter().try_for_each(|table| Kind::Html.check(table))
}

/// Reads all results below `out` and writes `report.html`, `plots/`, `results.csv`, `summary.csv` and `results.json` there.
///
/// # Errors
/// [`Error::Data`] when there are no results; [`Error::Io`].
pub fn write(out: &Path) -> Result<Written> {
    let sets = read(out)?;
    let summary = summary(&sets);
    let mut drawing = Drawing { folder: out.join("plots"), page: Page::new(&title(&sets), &subtitle(&sets)) };
    mark_results(&drawing.folder)?;
    overview(&mut drawing, &sets, &summary)?;
    ablations(&mut drawing, &sets, &summary)?;
    for set in &sets {
        of_set(&mut drawing, set, &summary, sets.len() > 1)?;
        noisy_pictures(&mut drawing, set, sets.len() > 1)?;
    }
    settings_section(&mut drawing.page, &sets);
    let html = out.join("report.html");
    write_atomic(&html, drawing.page.finish().as_bytes())?;
    write_atomic(&out.join("summary.csv"), summary.csv()?.as_bytes())?;
    write_atomic(&out.join("results.csv"), results_table(&sets).csv()?.as_bytes())?;
    let json = serde_json::json!({
        "summary": summary,
        "datasets": sets.iter().map(|set| serde_json::json!({
            "settings": set.settings,
            "about": set.about,
            "results": set.journal.records,
        })).collect::<Vec<_>>(),
    });
    let json = serde_json::to_vec_pretty(&json).map_err(|e| Error::data(out, e.to_string()))?;
    write_atomic(&out.join("results.json"), &json)?;
    let datasets = sets.into_iter().map(|set| (set.name, set.about.title)).collect();
    Ok(Written { html, summary, datasets })
}

/// The datasets with results below `out`: known ones in the papers' order, then others by name.
fn read(out: &Path) -> Result<Vec<Set>> {
    let entries = walk::entries(out).map_err(|e| Error::io(out, e))?;
    let mut sets = Vec::new();
    for folder in entries.into_iter().map(|entry| entry.path) {
        if !folder.join("settings.json").is_file() {
            continue;
        }
        let (journal, settings, about) = Journal::look(&folder)?;
        if journal.records.is_empty() {
            continue;
        }
        if let Some(other) = sets.iter().find(|set: &&Set| set.name == settings.dataset) {
            let reason = format!("{} holds results of '{}', too: remove one", other.folder.display(), other.name);
            return Err(Error::data(folder, reason));
        }
        let test = journal.test()?;
        sets.push(Set { folder, name: settings.dataset.clone(), settings, about, journal, test });
    }
    if sets.is_empty() {
        return Err(Error::data(out, "there are no results; `tipi eval` writes them"));
    }
    let place = |name: &str| ELEVEN.iter().chain(&SHIFTS).position(|known| *known == name).unwrap_or(usize::MAX);
    sets.sort_by(|a, b| place(&a.name).cmp(&place(&b.name)).then_with(|| a.name.cmp(&b.name)));
    Ok(sets)
}

fn title(sets: &[Set]) -> String {
    match sets {
        [one] => format!("Few-shot CLIP on {}", one.about.title),
        many => format!("Few-shot CLIP on {} datasets", many.len()),
    }
}

fn subtitle(sets: &[Set]) -> String {
    let mut models: Vec<&str> = sets.iter().map(|set| &set.about.model[..]).collect();
    models.dedup();
    let mut devices: Vec<&str> = sets.iter().map(|set| &set.about.device[..]).collect();
    devices.dedup();
    format!("Model {}, computed on {}", models.join(", "), devices.join(" and on "))
}

/// The page under construction, and where plots go.
struct Drawing {
    folder: PathBuf,
    page: Page,
}

impl Drawing {
    /// Writes a plot as SVG and PNG and gives it back for the page.
    fn plot(&self, name: &str, svg: String) -> Result<String> {
        write_atomic(&self.folder.join(format!("{name}.svg")), svg.as_bytes())?;
        // Drawing takes far longer than all the rest and reads nothing that is foreign: fuzzing does without.
        if !cfg!(fuzzing) {
            write_atomic(&self.folder.join(format!("{name}.png")), &png(&svg)?)?;
        }
        Ok(svg)
    }
}

fn curves(cells: &[&Cell]) -> Vec<Series> {
    let of = |method: &'static dyn Method| {
        let points: Vec<Point> = cells
            .iter()
            .filter(|c| c.method == method)
            .map(|c| Point { shots: c.shots, mean: c.mean, deviation: c.deviation })
            .collect();
        (!points.is_empty()).then(|| Series { name: method.info().title.into(), points })
    };
    METHODS.iter().copied().filter_map(of).collect()
}

/// The method with the highest mean accuracy at the largest number of shots.
fn best<'c>(cells: &[&'c Cell]) -> Option<&'c Cell> {
    let most = shots(cells).last().copied()?;
    cells.iter().copied().filter(|c| c.shots == most).reduce(|a, b| if b.mean > a.mean { b } else { a })
}

fn overview(drawing: &mut Drawing, sets: &[Set], summary: &Summary) -> Result<()> {
    let single = (sets.len() == 1).then(|| sets[0].name.as_str());
    let cells = summary.select(single);
    if summary.cells.is_empty() && !summary.variants.is_empty() {
        // An ablation alone has tables of its own.
        return Ok(());
    }
    drawing.page.section(
        "accuracy",
        "Accuracy",
        "Share of test pictures that are told right, by the number of pictures per class that were learned from. Mean and \
         standard deviation over the seeds of the few-shot choice.",
    );
    if let Some(top) = best(&cells) {
        let zero = cells.iter().find(|c| c.method == baseline() && c.shots == top.shots);
        let gain = zero.map_or(String::new(), |z| format!("{:+.1} points over zero-shot", 100.0 * (top.mean - z.mean)));
        let tested: usize = sets.iter().map(|set| set.test.paths.len()).sum();
        let results: usize = sets.iter().map(|set| set.journal.records.len()).sum();
        drawing.page.tiles(&[
            Tile {
                value: format!("{:.1} %", 100.0 * top.mean),
                label: format!("{} at {}", top.method.info().title, top.shots.title()),
                note: gain,
            },
            Tile {
                value: tested.to_string(),
                label: "test pictures".into(),
                note: format!("of {}", text::count(sets.iter().map(|s| s.settings.classes).sum(), "class", "classes")),
            },
            Tile {
                value: results.to_string(),
                label: if results == 1 { "result" } else { "results" }.into(),
                note: text::count(top.seeds.len(), "seed", "seeds"),
            },
        ]);
    }
    let mut figures = Vec::new();
    if !cells.is_empty() {
        let name = single.map_or_else(|| format!("mean over {} datasets", sets.len()), |_| sets[0].about.title.clone());
        figures.push(drawing.plot("accuracy", accuracy_plot(&name, &curves(&cells)))?);
    }
    if single.is_none() {
        for set in sets {
            let plot = accuracy_plot(&set.about.title, &curves(&summary.select(Some(&set.name))));
            figures.push(drawing.plot(&format!("{}-accuracy", file_name(&set.name)), plot)?);
        }
    }
    drawing.page.figures(&figures);
    if !cells.is_empty() {
        drawing.page.table("Accuracy in percent; the best of each column is bold.", &summary.accuracies(single));
    }
    let published = published_table(sets, summary);
    if !published.rows.is_empty() {
        drawing.page.heading("Beside published numbers");
        drawing.page.text(
            "Tip-Adapter's and CLIP's are of RN50, means over the eleven datasets; the zero-shot numbers of single datasets are \
             open_clip's of OpenAI's ViT-B/16, on other splits than CoOp's. Only numbers of the same model compare.",
        );
        drawing.page.table("Accuracy in percent.", &published);
    }
    Ok(())
}

/// A name as part of a file's name.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_+".contains(c) { c } else { '-' }).collect()
}

fn of_set(drawing: &mut Drawing, set: &Set, summary: &Summary, several: bool) -> Result<()> {
    let cells = summary.select(Some(&set.name));
    let Some(most) = shots(&cells).last().copied() else { return Ok(()) };
    let shot = most.title();
    let file = file_name(&set.name);
    let prefix = if several { format!("{}: ", set.about.title) } else { String::new() };
    // What is shown of single results is of the largest number of shots and the first seed that has most methods.
    let mut of_most: Vec<Task> = set.journal.records.iter().map(|r| r.task).collect();
    of_most.retain(|task| task.shots == most && task.variant.is_none());
    of_most.sort_by_key(|t| (t.method, t.seed));
    let seed = of_most.iter().map(|t| t.seed).min().unwrap_or_default();
    let mut details: Vec<(Task, Detail)> = Vec::new();
    for task in of_most {
        details.push((task, set.journal.detail_of(task, &set.test)?));
    }
    let shown: Vec<(&'static dyn Method, &Detail)> =
        details.iter().filter(|(task, _)| task.seed == seed).map(|(task, detail)| (task.method, detail)).collect();

    if several {
        drawing.page.section(&file, &set.about.title, &set.about.source);
        drawing
            .page
            .table("Accuracy in percent; the best of each column is bold.", &summary.accuracies(Some(&set.name)));
    }
    let mut part = |drawing: &mut Drawing, id: &str, title: &str, lead: &str| {
        if several {
            drawing.page.heading(title);
            drawing.page.text(lead);
        } else {
            drawing.page.section(id, title, lead);
        }
    };

    let searched: Vec<_> = shown.iter().filter_map(|(m, d)| Some((*m, d.search.as_ref()?))).collect();
    if !searched.is_empty() {
        part(
            drawing,
            "search",
            "The search over α and β",
            &format!(
                "Validation pictures that are right at each point (for methods with γ, at its best value there), {shot}, \
                 seed {seed}. The ring is the point that was taken."
            ),
        );
        let mut figures = Vec::new();
        for (method, map) in searched {
            let record = set.journal.of(Task::new(method, most, seed));
            let svg = search_plot(&format!("{prefix}{}", method.info().title), map, record);
            figures.push(drawing.plot(&format!("{file}-search-{method}"), svg)?);
        }
        drawing.page.figures(&figures);
    }

    if let Some(overlap) = set.journal.overlap()? {
        part(
            drawing,
            "overlap",
            "Intra-modal overlap",
            "Cosine similarities of test pictures of one class and of different classes. The area that both histograms share \
             is what the correction is to reduce.",
        );
        let mut panels = vec![Panel::new("before correction", &overlap.before)];
        panels.extend(overlap.after.as_ref().map(|after| Panel::new("after correction", after)));
        let svg = histogram::svg(&set.about.title, &panels);
        let svg = drawing.plot(&format!("{file}-overlap"), svg)?;
        drawing.page.figures(&[svg]);
    }

    if let Some(noise) = shown.iter().find_map(|(_, detail)| detail.noise.as_ref()) {
        part(
            drawing,
            "noise",
            "What PiNI learned",
            &format!("Mean and spread of the noise on each prompt token and on image features, {shot}, seed {seed}."),
        );
        let mut figures = Vec::new();
        for (name, svg) in noise_plots(noise, &prefix) {
            figures.push(drawing.plot(&format!("{file}-pini-{name}"), svg)?);
        }
        drawing.page.figures(&figures);
    }

    part(
        drawing,
        "confidence",
        "Confidence",
        &format!(
            "Of pictures predicted with 80 % confidence, 80 % should be right. A temperature corrects what is not, without \
             changing any prediction. It is fitted on pictures that were not learned from: validation pictures, and where they \
             are few, pictures left out in turn. ECE is the expected calibration error, in percent. {shot}, all seeds \
             together."
        ),
    );
    drawing.page.table("Expected calibration error in percent.", &summary.calibration(Some(&set.name)));
    if let Some(table) = summary.coverage(Some(&set.name)) {
        drawing.page.table(
            "Sets of classes that shall hold the right one with the probability asked for: how often they did, and how many classes \
             they are on the mean.",
            &table,
        );
    }
    if let Some(table) = summary.foreign(Some(&set.name)) {
        let foreign = set.journal.records.iter().find_map(|r| r.foreign.first()).map_or(0, |f| f.pictures);
        drawing.page.table(
            &format!(
                "Telling {foreign} pictures of no class from test pictures: the probability that a test picture is the more familiar \
                 of two (AUROC, in percent), and what is refused where 95 % of the known are to be kept."
            ),
            &table,
        );
    }
    let mut figures = Vec::new();
    for method in METHODS.iter().copied() {
        let of: Vec<&Detail> = details.iter().filter(|(t, _)| t.method == method).map(|(_, d)| d).collect();
        if of.is_empty() {
            continue;
        }
        let temperatures: Vec<f64> = set
            .journal
            .records
            .iter()
            .filter(|r| r.task.method == method && r.task.shots == most && r.task.variant.is_none())
            .filter_map(|r| r.temperature)
            .collect();
        let svg = reliability_plot(&format!("{prefix}{}", method.info().title), &of, mean(&temperatures));
        figures.push(drawing.plot(&format!("{file}-reliability-{method}"), svg)?);
    }
    drawing.page.figures(&figures);

    if let Some((method, detail)) = best(&cells).and_then(|top| shown.iter().find(|(m, _)| *m == top.method)) {
        confusions(drawing, set, (*method, detail), &shown, &mut part);
    }

    part(
        drawing,
        "cost",
        "Cost",
        &format!(
            "{shot}, mean over seeds, on {}. Learning is training and search from features (and encoding where training \
             takes fresh views); pictures are encoded once for all methods. Memory is the most in use, the model's included.",
            set.about.device
        ),
    );
    drawing.page.table("Time and memory of each method.", &summary.costs(Some(&set.name)));
    Ok(())
}
