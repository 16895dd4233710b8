//! `tipi demo`: every method on the bundled model and pictures.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use serde_json::json;
use tipi::low_level::adapt::method::{Settings, baseline, find};
use tipi::low_level::adapt::overlap::{self, Correction};
use tipi::low_level::adapt::{How, Method, adapter_file};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::{Dataset, Folder, Shots, Walk, decode};
use tipi::low_level::eval::correction::{Generic, kept};
use tipi::low_level::eval::journal::Journal;
use tipi::low_level::eval::summary::{deviation, mean};
use tipi::low_level::eval::{self, Detail, Protocol, Setup, Task, TestSet};
use tipi::low_level::gpu::Gpu;
use tipi::low_level::output::Kind;
use tipi::low_level::report::{Cell, Prediction, draw_grid};
use tipi::low_level::text;

use crate::bars::Bars;
use crate::common::{self, FormerGpuArgs};
use crate::outputs::{self, ForceArgs};
use crate::terminal::{self, note};
use crate::{stop, ui};

/// The bundled model's template.
const TEMPLATE: &str = "an icon of {}";
/// The same as words before a class.
const WORDS: &str = "an icon of";
/// Shortcuts: a coarser grid than the papers'.
const GRID: &str = "standard";
/// How strongly a correction that is trained here acts, as with the bundled one.
const SCALE: f32 = 0.1;
/// Pictures in a step of its training: with the paper's 128 there would be a dozen steps in a pass.
const BATCH: usize = 32;
/// Test pictures of each set that are drawn: half of them learning turned right, half were right before.
const DRAWN: usize = 12;
/// Methods that are drawn, one of each kind.
const DRAWN_METHODS: [&str; 5] = ["zero-shot", "tip-adapter-f", "tip-x", "gda", "pini"];
/// The one whose answers choose what is drawn, and are counted.
const COUNTED: &str = "tip-adapter-f";

/// The sets, and what they are.
const SETS: [(&str, &str); 2] = [
    ("shifted", "things that the model knows, in styles that it has never seen"),
    ("novel", "things that it has never seen"),
];
/// The set whose names mean nothing to the model. What learns on the side of names, and takes longest, is left out there.
const NAMELESS: &str = "novel";
/// Most classes of a set.
const MOST_CLASSES: usize = 60;
/// Most pictures a class to learn from: as many again are set aside for searching, and some must be left to test.
const MOST_SHOTS: usize = 8;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Sets to run: shifted, novel.
    #[arg(long, value_delimiter = ',', default_value = "shifted,novel")]
    sets: Vec<String>,
    /// Classes of each set, from 2 to 60 (all), spread evenly over it.
    #[arg(long, default_value_t = 20, value_parser = common::count(2, MOST_CLASSES))]
    classes: usize,
    /// Numbers of pictures per class to learn from, from 1 to 8.
    #[arg(long, value_delimiter = ',', default_value = "4", value_parser = common::count(1, MOST_SHOTS))]
    shots: Vec<usize>,
    /// Seeds for choosing pictures and for training. Accuracies are averaged over them.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    seeds: Vec<u64>,
    /// Where the model and the pictures are: a checkout of tipi's repository, or a folder with weights/picto, examples/pictos and
    /// examples/pictos-generic in it. By default the working folder, or the checkout that the program was built in.
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// Where to write the picture of predictions.
    #[arg(long, value_name = "FILE", default_value = "pictos-demo.png")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    /// PiNI's passes over the pictures, from 1 to 1000000.
    #[arg(long, default_value_t = 100, value_parser = common::count(1, common::MOST_EPOCHS))]
    epochs: usize,
    /// Overlap correction to use for the ++ methods, instead of the bundled one.
    #[arg(long, value_name = "FILE")]
    correction: Option<PathBuf>,
    /// Train the overlap correction here instead, with so many passes over the generic pictures, from 1 to 1000000. A pass takes minutes
    /// without a GPU.
    #[arg(long, value_name = "N", conflicts_with = "correction", value_parser = common::count(1, common::MOST_EPOCHS))]
    correction_epochs: Option<usize>,
    #[command(flatten)]
    gpu: FormerGpuArgs,
}

struct Row {
    set: &'static str,
    method: &'static dyn Method,
    shots: Shots,
    accuracies: Vec<f64>,
    seconds: f64,
}

/// Intra-modal overlap of a set in the plain and the corrected tower.
struct Overlap {
    set: &'static str,
    before: f64,
    after: f64,
}

/// What the demonstration needs, which is in the repository and in no package: the model, and the pictures.
const BUNDLED: [&str; 3] = ["weights/picto", "examples/pictos", "examples/pictos-generic"];
/// The overlap correction that lies in the model's folder.
const CORRECTION: &str = "overlap/correction.safetensors";

impl Args {
    /// Where [`BUNDLED`] is: in the folder that was named, else in the working folder or one that the program lies in, as below a
    /// checkout's `target`.
    fn bundled(&self) -> Result<[PathBuf; 3]> {
        let [all @ .., last] = BUNDLED;
        let all = format!("{} and {last}", all.join(", "));
        let lacking = |root: &Path| BUNDLED.into_iter().find(|part| !root.join(part).is_dir());
        let root = if let Some(root) = &self.from {
            if let Some(part) = lacking(root) {
                let reason = format!(
                    "{part} is not in it: --from names a checkout of tipi's repository, or a folder with {all}"
                );
                return Err(tipi::Error::data(root, reason).into());
            }
            root.clone()
        } else {
            let program = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
            let around = program.ancestors().skip(1).take(4).map(Path::to_path_buf);
            let found = std::iter::once(PathBuf::new()).chain(around).find(|root| lacking(root).is_none());
            found.ok_or_else(|| {
                tipi::Error::Invalid(format!(
                    "the model and the pictures of the demonstration are not here, {all}: they are in tipi's repository \
                     alone; run tipi demo there, or name a checkout with --from FOLDER"
                ))
            })?
        };
        Ok(BUNDLED.map(|part| root.join(part)))
    }

    /// The sets asked for, in their own order.
    fn chosen(&self) -> Result<Vec<&'static str>> {
        if let Some(unknown) = self.sets.iter().find(|s| SETS.iter().all(|(set, _)| set != s)) {
            return Err(tipi::Error::Invalid(format!("--sets has no '{unknown}'; there are shifted and novel")).into());
        }
        let chosen: Vec<_> =
            SETS.iter().map(|(set, _)| *set).filter(|set| self.sets.iter().any(|s| s == set)).collect();
        if chosen.is_empty() || self.shots.is_empty() || self.seeds.is_empty() {
            return Err(
                tipi::Error::Invalid("nothing to run: --sets, --shots and --seeds need a value each".into()).into()
            );
        }
        Ok(chosen)
    }
}

/// Runs the demo: an evaluation of each set, whose results are shown and not kept.
pub fn run(args: &Args) -> Result<()> {
    let sets = args.chosen()?;
    let [model, pictures, generic] = args.bundled()?;
    let output = args.force.open(&args.out, Kind::Png)?;
    args.correction.iter().try_for_each(|path| output.reads(path, "a correction"))?;
    let walk = Walk::default();
    let generic = Folder::open_with(generic, &walk)?;
    let datasets = SETS.iter().map(|(set, _)| dataset(&pictures.join(set), &walk)).collect::<Result<Vec<_>>>()?;
    outputs::read_items(&output, &generic.items)?;
    for (_, items) in datasets.iter().flat_map(Dataset::parts) {
        outputs::read_items(&output, items)?;
    }
    walk.refuse_picture(&args.out)?;
    output.reads_folder(&model, "a file of the model")?;
    let start = Instant::now();
    let gpu = args.gpu.open()?;
    let clip = Clip::load(&gpu, &model)?;
    common::announce(&gpu);
    note!(
        "shortcuts: {} of each set's classes; {} sees the pictures as they are; α, β and γ are searched on the {GRID} grid; no PiNI \
         on {NAMELESS}, whose names mean nothing",
        args.classes,
        if args.key_views() == 0 { "all learning" } else { "training" }
    );
    stop::listen();
    let mut bars = Bars::new().quiet();
    let folder = tempfile::tempdir()?;
    let clock = Instant::now();
    let correction = args.correction(&clip, (&generic, &datasets), (&model, folder.path()), &mut bars)?;
    let correction_seconds = clock.elapsed().as_secs_f64();
    let digest = correction.digest(&gpu)?;
    let mut shown = Shown::default();
    for set in sets {
        let Some(dataset) = datasets.iter().find(|dataset| dataset.name == set) else { continue };
        let protocol = args.protocol(&clip, set)?;
        let dataset = few(dataset, args.classes);
        let checked = eval::check(&dataset, &protocol, true)?;
        let features = folder.path().join("features");
        let corrections = Some((&correction, &digest[..])).into();
        eval::run(&clip, checked, &corrections, ("f32", folder.path(), &features), &mut bars)?;
        shown.add(set, &folder.path().join(set), &protocol)?;
    }
    bars.clear();
    let drawn = draw_grid(&shown.title(), &shown.cells, 6).and_then(|bytes| output.write(&bytes));
    // The table comes first, so that minutes of work are not lost if the picture cannot be written.
    let seconds = (start.elapsed().as_secs_f64(), correction_seconds);
    print(args, &gpu, &shown, seconds)?;
    drawn?;
    common::finish(&gpu);
    Ok(())
}

/// A bundled set with the bundled model's words.
fn dataset(folder: &Path, walk: &Walk) -> Result<Dataset> {
    let mut dataset = Dataset::open_with(folder, None, walk)?;
    dataset.templates = vec![TEMPLATE.into()];
    dataset.words = WORDS.into();
    Ok(dataset)
}

/// The task of telling `most` of a set's classes apart, taken evenly from all of them.
fn few(dataset: &Dataset, most: usize) -> Dataset {
    let taken: HashSet<usize> = evenly(most, dataset.classes.len()).collect();
    let left = dataset.classes.iter().enumerate().filter(|(class, _)| !taken.contains(class));
    dataset.without(&left.map(|(_, name)| name.clone()).collect::<Vec<_>>())
}

impl Args {
    fn protocol(&self, clip: &Clip, set: &str) -> Result<Protocol> {
        let mut methods = eval::methods(clip, true);
        methods.retain(|method| set != NAMELESS || !method.info().needs.words);
        let how = How { augment: false, key_views: self.key_views(), grid: GRID.into(), ..How::default() };
        // What takes longest: each step goes through the text tower.
        let epochs: Settings = [("epochs".to_string(), json!(self.epochs))].into_iter().collect();
        let through_text = |m: &&&dyn Method| m.info().needs.words && m.info().needs.training;
        let slow = methods.iter().filter(through_text).map(|m| (m.info().name.to_string(), epochs.clone()));
        let settings: BTreeMap<String, Settings> = slow.collect();
        Ok(Protocol {
            setup: Setup::new(how, &methods, &settings)?,
            methods,
            ablation: None,
            taught: Vec::new(),
            shots: self.shots.iter().copied().map(Shots::UpTo).collect(),
            seeds: self.seeds.clone(),
            adapters: false,
            strict: true,
            batch: None,
            foreign: Vec::new(),
        })
    }

    /// Random views averaged into a cache key. None, to save time, but of a single picture GDA needs several.
    fn key_views(&self) -> usize {
        if self.shots.contains(&1) { How::default().key_views } else { 0 }
    }

    /// The correction asked for, the bundled one, or one trained on generic pictures whose concepts are not among those tested.
    fn correction(
        &self,
        clip: &Clip,
        (generic, datasets): (&Folder, &[Dataset]),
        (model, folder): (&Path, &Path),
        bars: &mut Bars,
    ) -> Result<Correction> {
        let Some(epochs) = self.correction_epochs else {
            let path = self.correction.clone().unwrap_or_else(|| model.join(CORRECTION));
            return common::correction(&adapter_file::File::open(&path)?, clip);
        };
        let tested: Vec<String> = datasets.iter().flat_map(|dataset| dataset.classes.iter().cloned()).collect();
        let (pictures, names) = generic.without(&tested);
        let config = overlap::Config { epochs, batch: BATCH, scale: SCALE, ..overlap::Config::paper(1) };
        let generic = Generic { pictures: overlap::Generic::of_files(&pictures, &names), config, place: None };
        Ok(kept(clip, &generic, (&folder.join("correction.safetensors"), &[], true), bars)?)
    }
}

/// What is shown of the results.
#[derive(Default)]
struct Shown {
    rows: Vec<Row>,
    overlaps: Vec<Overlap>,
    turns: Vec<Turns>,
    cells: Vec<Cell>,
}

/// What learning changed of a set's answers.
struct Turns {
    set: &'static str,
    shots: Shots,
    /// Test pictures.
    count: usize,
    /// Wrong without examples, right with them; and the other way round.
    gained: usize,
    lost: usize,
}

impl Turns {
    fn say(&self) -> String {
        let (about, title) =
            (SETS.iter().find(|(set, _)| *set == self.set).map_or("", |(_, about)| about), title(COUNTED));
        format!(
            "{} ({about}): of {} pictures, {title} with {} turns {} wrong answers right and {} right ones wrong",
            self.set,
            self.count,
            text::count(self.shots.number().unwrap_or(0), "example a class", "examples a class"),
            self.gained,
            self.lost
        )
    }
}

/// The name that people read.
fn title(method: &str) -> &str {
    find(method).map_or(method, |method| method.info().title)
}

impl Shown {
    fn add(&mut self, set: &'static str, folder: &Path, protocol: &Protocol) -> Result<()> {
        let (journal, ..) = Journal::look(folder)?;
        for shots in &protocol.shots {
            for method in &protocol.methods {
                let of = |seed: &u64| journal.of(Task::new(*method, *shots, *seed));
                let records: Vec<_> = protocol.seeds.iter().filter_map(of).collect();
                self.rows.push(Row {
                    set,
                    method: *method,
                    shots: *shots,
                    accuracies: records.iter().map(|record| record.accuracy).collect(),
                    seconds: records.iter().map(|record| record.fit_seconds + record.predict_seconds).sum(),
                });
            }
        }
        if let Some(measured) = journal.overlap()? {
            let (before, after) = (measured.before.overlap(), measured.after.as_ref().map(|after| after.overlap()));
            self.overlaps.push(Overlap { set, before, after: after.unwrap_or(before) });
        }
        // The last number of shots of each set goes into the picture.
        if let (Some(shots), Some(seed)) = (protocol.shots.last(), protocol.seeds.first()) {
            let test = journal.test()?;
            let detail = |method: &&'static dyn Method| {
                let detail = journal.detail(Task::new(*method, *shots, *seed))?;
                Ok((method.info().name, detail))
            };
            let details = protocol.methods.iter().map(detail).collect::<Result<BTreeMap<_, _>>>()?;
            if let (Some(before), Some(after)) = (details.get(baseline().info().name), details.get(COUNTED)) {
                let right = |detail: &Detail, at: usize| detail.predicted[at] == test.labels[at];
                let which = |b: bool, a: bool| {
                    (0..test.paths.len())
                        .filter(|&at| (right(before, at), right(after, at)) == (b, a))
                        .collect::<Vec<_>>()
                };
                let (gained, kept, lost) = (which(false, true), which(true, true), which(true, false).len());
                self.turns.push(Turns { set, shots: *shots, count: test.paths.len(), gained: gained.len(), lost });
                let some = |among: &[usize]| spread(among, &test.labels, DRAWN / 2);
                for at in [some(&gained), some(&kept)].concat() {
                    self.cells.push(cell(&test, &details, at)?);
                }
            }
        }
        Ok(())
    }

    fn title(&self) -> String {
        let mut lines = vec![
            "tipi demo: pictures that nothing was learned from, and what each method says".to_string(),
            format!(
                "Of each set, up to {} pictures that examples turn right, then up to {} that were right before. All of them:",
                DRAWN / 2,
                DRAWN / 2
            ),
        ];
        lines.extend(self.turns.iter().map(Turns::say));
        lines.join("\n")
    }
}

/// At most `most` of `among`, each of another class as long as there are some, spread over them.
fn spread(among: &[usize], labels: &[u32], most: usize) -> Vec<usize> {
    let mut seen = HashSet::new();
    let (first, rest): (Vec<usize>, Vec<usize>) = among.iter().partition(|&&at| seen.insert(labels[at]));
    let from = if first.len() >= most { first } else { [first, rest].concat() };
    evenly(most, from.len()).map(|i| from[i]).collect()
}

/// At most `most` of the numbers below `all`, spread over them.
fn evenly(most: usize, all: usize) -> impl Iterator<Item = usize> {
    let count = most.min(all);
    (0..count).map(move |i| i * all / count)
}

/// A test picture with what the drawn methods say.
fn cell(test: &TestSet, details: &BTreeMap<&'static str, Detail>, at: usize) -> Result<Cell> {
    let name = |class: u32| test.classes[class as usize].clone();
    let of = |method: &&str| {
        let detail = details.get(*method)?;
        let (class, correct) = (name(detail.predicted[at]), detail.predicted[at] == test.labels[at]);
        Some(Prediction {
            method: title(method).to_string(),
            class,
            probability: f64::from(detail.confidence[at]),
            correct,
        })
    };
    let predictions = DRAWN_METHODS.iter().filter_map(of).collect();
    Ok(Cell { picture: decode(&test.paths[at])?, truth: name(test.labels[at]), predictions })
}

fn print(args: &Args, gpu: &Gpu, results: &Shown, (seconds, correction): (f64, f64)) -> Result<()> {
    let Shown { rows, overlaps, turns, .. } = results;
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
            "device": gpu.name(), "seeds": args.seeds, "seconds": seconds, "correction_seconds": correction,
            "picture": shown(&args.out), "rows": rows,
            "overlap": overlaps.iter().map(|o| serde_json::json!({
                "set": o.set, "before": o.before, "after": o.after,
            })).collect::<Vec<_>>(),
            "turned": turns.iter().map(|t| serde_json::json!({
                "set": t.set, "shots": t.shots, "method": COUNTED, "pictures": t.count, "right": t.gained, "wrong": t.lost,
            })).collect::<Vec<_>>(),
        });
        terminal::print_json(&object, true)?;
        return Ok(());
    }
    // A line for each method, a column for each set and number of examples.
    let mut columns: Vec<(&str, Shots)> = Vec::new();
    let mut methods: Vec<&'static dyn Method> = Vec::new();
    for row in rows {
        if !columns.contains(&(row.set, row.shots)) {
            columns.push((row.set, row.shots));
        }
        if !methods.contains(&row.method) {
            methods.push(row.method);
        }
    }
    let heads: Vec<_> = columns.iter().map(|(set, shots)| format!("{set}, {shots} a class")).collect();
    let heads: Vec<_> = std::iter::once("method").chain(heads.iter().map(String::as_str)).chain(["seconds"]).collect();
    let mut table = ui::table(&heads);
    let of = |column: &(&str, Shots), method| rows.iter().find(|r| (r.set, r.shots) == *column && r.method == method);
    for method in methods {
        let cells = columns.iter().map(|column| {
            let Some(row) = of(column, method) else { return String::new() };
            let zero = of(column, baseline()).map_or(0.0, |zero| mean(&zero.accuracies));
            let mut cell = format!("{:.1} %", 100.0 * mean(&row.accuracies));
            if row.accuracies.len() > 1 {
                cell += &format!(" ± {:.1}", 100.0 * deviation(&row.accuracies));
            }
            if method != baseline() {
                cell += &format!(" ({:+.1})", 100.0 * (mean(&row.accuracies) - zero));
            }
            cell
        });
        let seconds: f64 = columns.iter().filter_map(|column| of(column, method)).map(|row| row.seconds).sum();
        let cells = cells.collect::<Vec<_>>();
        table.add_row([vec![method.info().title.to_string()], cells, vec![format!("{seconds:.1}")]].concat());
    }
    let corrected: Vec<_> =
        overlaps.iter().map(|o| format!("{} {:.3} before, {:.3} after", o.set, o.before, o.after)).collect();
    let lines = [
        turns.iter().map(Turns::say).collect::<Vec<_>>().join("\n"),
        format!("overlap of similarities within and between classes: {}", corrected.join("; ")),
        match args.correction_epochs {
            None => format!("{}; {seconds:.0} s in all", gpu.describe()),
            Some(_) => format!(
                "{}; {seconds:.0} s in all, {correction:.0} s of them for the correction of the ++ methods",
                gpu.describe()
            ),
        },
        format!("pictures and answers: {}", shown(&args.out)),
    ];
    terminal::print(&format!("{table}\n{}", lines.join("\n")))?;
    Ok(())
}

fn shown(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}
