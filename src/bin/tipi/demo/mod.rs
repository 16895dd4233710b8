//! `tipi demo`: the main job on the bundled model and pictures.

mod methods;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use tipi::adapt::{accuracy, adapter_file, argmax, probabilities, similarity};
use tipi::clip::Clip;
use tipi::data::{Folder, Walk, decode};
use tipi::encode::{self, Views};
use tipi::eval::summary::{deviation, mean};
use tipi::gpu::Gpu;
use tipi::output::Kind;
use tipi::report::{Cell, Prediction, draw_grid};

use self::methods::{Outcome, Run};
use crate::common::{self, GpuArgs};
use crate::outputs::{self, ForceArgs};
use crate::terminal;
use crate::ui;

/// The bundled model's template.
const TEMPLATE: &str = "an icon of";

/// Sets and shots of the demonstration.
const RUNS: [(&str, &[usize]); 2] = [("shifted", &[1, 2]), ("novel", &[1, 2, 4])];

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// One JSON object on stdout instead of the table.
    #[arg(long)]
    json: bool,
    /// Sets to run: shifted, novel.
    #[arg(long, value_delimiter = ',', default_value = "shifted,novel")]
    sets: Vec<String>,
    /// Numbers of pictures per class to run: 1 and 2 on shifted, 1, 2 and 4 on novel.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_parser = common::count(1, 4))]
    shots: Vec<usize>,
    /// Seeds of the few-shot choice and of training; accuracies are averaged.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    seeds: Vec<u64>,
    /// Where to write the picture of predictions.
    #[arg(long, value_name = "FILE", default_value = "pictos-demo.png")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    /// PiNI's passes over the pictures, from 1 to 1000000.
    #[arg(long, default_value_t = 10, value_parser = common::count(1, common::MOST_EPOCHS))]
    epochs: usize,
    /// PiNI's steps at most, from 1 to 1000000, however many pictures there are.
    #[arg(long, default_value_t = 100, value_parser = common::count(1, common::MOST_EPOCHS))]
    max_steps: usize,
    /// Overlap correction to use for the ++ methods, instead of training one.
    #[arg(long, value_name = "FILE")]
    correction: Option<PathBuf>,
    /// The overlap correction's passes over its pictures, from 1 to 1000000.
    #[arg(long, default_value_t = 1, value_parser = common::count(1, common::MOST_EPOCHS))]
    correction_epochs: usize,
    #[command(flatten)]
    gpu: GpuArgs,
}

struct Row {
    set: &'static str,
    method: &'static str,
    shots: usize,
    accuracies: Vec<f64>,
    seconds: f64,
}

/// Intra-modal overlap of a set in the plain and the corrected tower.
struct Overlap {
    set: &'static str,
    before: f64,
    after: f64,
}

impl Args {
    /// What of [`RUNS`] was asked for.
    fn runs(&self) -> Result<Vec<(&'static str, Vec<usize>)>> {
        if let Some(unknown) = self.sets.iter().find(|s| RUNS.iter().all(|(set, _)| set != s)) {
            return Err(tipi::Error::Invalid(format!("--sets has no '{unknown}'; there are shifted and novel")).into());
        }
        let chosen = |shots: &[usize]| shots.iter().copied().filter(|k| self.shots.contains(k)).collect::<Vec<_>>();
        let runs: Vec<_> = RUNS
            .iter()
            .filter(|(set, _)| self.sets.iter().any(|s| s == set))
            .map(|(set, shots)| (*set, chosen(shots)))
            .filter(|(_, shots)| !shots.is_empty())
            .collect();
        if runs.is_empty() || self.seeds.is_empty() {
            return Err(tipi::Error::Invalid(
                "nothing to run: --shots are 1 and 2 on shifted, 1, 2 and 4 on novel".into(),
            )
            .into());
        }
        Ok(runs)
    }
}

/// Runs the demonstration.
pub fn run(args: &Args) -> Result<()> {
    let runs = args.runs()?;
    let output = args.force.open(&args.out, Kind::Png)?;
    args.correction.iter().try_for_each(|path| output.reads(path, "a correction"))?;
    let pictures = common::bundled("examples/pictos")?;
    let walk = Walk::default();
    let open = |set: &Path| Folder::open_with(set, &walk);
    let generic = open(&common::bundled("examples/pictos-generic")?)?;
    let sets = RUNS.iter().map(|(set, _)| Ok((*set, open(&pictures.join(set))?))).collect::<Result<Vec<_>>>()?;
    outputs::read_items(&output, &generic.items)?;
    sets.iter().try_for_each(|(_, folder)| outputs::read_items(&output, &folder.items))?;
    walk.refuse_picture(&args.out)?;
    let model = common::bundled("weights/picto")?;
    output.reads_folder(&model, "a file of the model")?;
    let start = Instant::now();
    let gpu = args.gpu.open()?;
    let clip = Clip::load(&gpu, &model)?;
    common::announce(&gpu);
    let mut rows: Vec<Row> = Vec::new();
    let (mut cells, mut overlaps) = (Vec::new(), Vec::new());
    let steps = runs.iter().map(|(_, shots)| shots.len()).sum::<usize>() * args.seeds.len() * 100 + 100;
    let bar = ui::bar(steps, "");
    let clock = Instant::now();
    let correction = match &args.correction {
        Some(path) => common::correction(&adapter_file::File::open(path)?, &clip)?,
        None => {
            let tested: Vec<String> = sets.iter().flat_map(|(_, folder)| folder.names()).collect();
            methods::correction(&clip, &generic, &tested, args.correction_epochs, &bar)?
        }
    };
    let correction_seconds = clock.elapsed().as_secs_f64();
    let mut encoder = clip.image_encoder_with(32, Some(&correction.blocks))?;
    for (set, all_shots) in &runs {
        let set = *set;
        let Some((_, folder)) = sets.iter().find(|(name, _)| *name == set) else { continue };
        ui::show(&bar, &format!("{set}: encoding pictures"));
        bar.tick();
        let all = encode::encode(&mut encoder, &folder.items, &Views::Center, true, &mut |_| bar.tick())?;
        let (labels, d) = (all.labels(), clip.config.embedding);
        let overlap = |features: &[f32]| similarity::measure(&gpu, features, &labels, d, &mut |_| bar.tick());
        overlaps.push(Overlap {
            set,
            before: overlap(&all.features.original)?.overlap(),
            after: overlap(all.features.affinity())?.overlap(),
        });
        for shots in all_shots {
            for (i, seed) in args.seeds.iter().enumerate() {
                let run = Run { clip: &clip, folder, all: &all, shots: *shots, seed: *seed, set };
                let (outcomes, test) = methods::run_all(&run, args, &mut encoder, &bar)?;
                let labels: Vec<u32> = test.iter().map(|t| all.items[*t].label as u32).collect();
                for outcome in &outcomes {
                    let right = accuracy(&outcome.logits, &labels, folder.classes.len());
                    let same = |r: &&mut Row| r.set == set && r.method == outcome.method && r.shots == *shots;
                    match rows.iter_mut().find(same) {
                        Some(row) => {
                            row.accuracies.push(right);
                            row.seconds += outcome.seconds;
                        }
                        None => rows.push(Row {
                            set,
                            method: outcome.method,
                            shots: *shots,
                            accuracies: vec![right],
                            seconds: outcome.seconds,
                        }),
                    }
                }
                // The last number of shots of each set goes into the picture.
                if i == 0 && Some(shots) == all_shots.last() {
                    cells.extend(grid(&run, &outcomes, &test)?);
                }
            }
        }
    }
    bar.finish_and_clear();
    let drawn = draw_grid(&title(&args.seeds), &cells, 6).and_then(|bytes| output.write(&bytes));
    // The table first: a picture that cannot be written must not cost minutes of work.
    let seconds = (start.elapsed().as_secs_f64(), correction_seconds);
    print(args, &gpu, &rows, &overlaps, seconds)?;
    drawn?;
    common::finish(&gpu);
    Ok(())
}

fn title(seeds: &[u64]) -> String {
    format!("tipi demo, seed {}: left out pictures, and what each method says", seeds.first().copied().unwrap_or(1))
}

/// A dozen test pictures, spread over the classes, with what each method says.
fn grid(run: &Run<'_>, outcomes: &[Outcome], test: &[usize]) -> Result<Vec<Cell>> {
    let names = run.folder.names();
    let c = names.len();
    let mut cells = Vec::new();
    for at in (0..test.len()).step_by((test.len() / 12).max(1)).take(12) {
        let item = &run.all.items[test[at]];
        let predictions = outcomes
            .iter()
            .filter(|o| o.method != "pini-untrained")
            .map(|o| {
                let row = &o.logits[at * c..(at + 1) * c];
                let best = argmax(row);
                Prediction {
                    method: o.method.to_string(),
                    class: names[best].clone(),
                    probability: probabilities(row)[best],
                    correct: best == item.label,
                }
            })
            .collect();
        cells.push(Cell { picture: decode(&item.path)?, truth: names[item.label].clone(), predictions });
    }
    Ok(cells)
}

fn print(args: &Args, gpu: &Gpu, rows: &[Row], overlaps: &[Overlap], (seconds, correction): (f64, f64)) -> Result<()> {
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|r| {
                serde_json::json!({
                    "set": r.set, "method": r.method, "shots": r.shots,
                    "accuracy": mean(&r.accuracies), "seconds": r.seconds / r.accuracies.len() as f64,
                })
            })
            .collect();
        let object = serde_json::json!({
            "adapter": gpu.name(), "seeds": args.seeds, "seconds": seconds, "correction_seconds": correction,
            "picture": shown(&args.out), "rows": rows,
            "overlap": overlaps.iter().map(|o| serde_json::json!({
                "set": o.set, "before": o.before, "after": o.after,
            })).collect::<Vec<_>>(),
        });
        terminal::print_json(&object, true)?;
        return Ok(());
    }
    let mut table = ui::table(&["set", "shots", "method", "accuracy", "gain", "seconds"]);
    for row in rows {
        let zero = rows.iter().find(|r| r.set == row.set && r.shots == row.shots && r.method == "zero-shot");
        let gain = zero.map_or(0.0, |z| mean(&row.accuracies) - mean(&z.accuracies));
        let spread = if row.accuracies.len() > 1 {
            format!(" ± {:.1}", 100.0 * deviation(&row.accuracies))
        } else {
            String::new()
        };
        table.add_row([
            row.set.to_string(),
            row.shots.to_string(),
            row.method.to_string(),
            format!("{:.1} %{spread}", 100.0 * mean(&row.accuracies)),
            if row.method == "zero-shot" { String::new() } else { format!("{:+.1}", 100.0 * gain) },
            format!("{:.1}", row.seconds / row.accuracies.len() as f64),
        ]);
    }
    let corrected: Vec<_> =
        overlaps.iter().map(|o| format!("{} {:.4} before, {:.4} after", o.set, o.before, o.after)).collect();
    let line = format!(
        "overlap of similarities within and between classes: {}\n{}; {seconds:.0} s in all, {correction:.0} s of them for the correction of the ++ methods. Some predictions: {}",
        corrected.join("; "),
        gpu.describe(),
        shown(&args.out)
    );
    terminal::print(&format!("{table}\n{line}"))?;
    Ok(())
}

fn shown(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}
