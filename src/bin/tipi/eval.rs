//! `tipi eval` and `tipi report`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanDuration, MultiProgress, ProgressBar};
use tipi::Error;
use tipi::adapt::adapter_file::{self, Adapter, Meta};
use tipi::adapt::overlap::{self, Correction};
use tipi::adapt::pini;
use tipi::adapt::tip_f;
use tipi::clip::Clip;
use tipi::data::walk::mark_results;
use tipi::data::{Dataset, ELEVEN, Folder, SHIFTS, Walk};
use tipi::eval::{self, Corrected, How, Method, Protocol, Record, Watch};
use tipi::numbers;
use tipi::output::{Kind, Output};
use tipi::text;

use crate::common::{self, GpuArgs, PrecisionArgs, WalkArgs};
use crate::fit::NoiseArgs;
use crate::outputs::{self, ForceArgs};
use crate::terminal::{self, note};
use crate::{stop, ui};

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// What to evaluate: known datasets below --root (`tipi data check` lists them; `all` for those of the eleven that are
    /// there), a folder with a sub-folder of pictures per class or with train/val/test folders, or a CSV of path,label.
    #[arg(long, value_delimiter = ',', required = true, value_name = "NAME|FOLDER|CSV")]
    dataset: Vec<PathBuf>,
    /// Folder of the known datasets.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Model: a folder, or ORG/NAME (or ORG/NAME@REVISION) on the hub.
    #[arg(long, value_name = "DIR|ORG/NAME")]
    model: PathBuf,
    /// zero-shot, tip-adapter, tip-adapter-f, tip-x, tip-adapter++, tip-x++, pini; by default all, without the ++ ones where
    /// there is no correction.
    #[arg(long, value_delimiter = ',')]
    methods: Vec<Method>,
    /// Numbers of pictures per class to learn from, each from 1 to 1000000.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16", value_parser = common::count(1, common::MOST_SHOTS))]
    shots: Vec<usize>,
    /// Seeds of the few-shot choice, of views and of training.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// Folder for results, features and the report, outside the datasets. The same command goes on with what is there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    /// Folder for features, to share between several --out; by default `features` in --out.
    #[arg(long, value_name = "DIR")]
    features: Option<PathBuf>,
    /// Overlap correction for the ++ methods, that `fit overlap` wrote.
    #[arg(long, value_name = "FILE")]
    correction: Option<PathBuf>,
    /// Train the correction first, on this folder of generic pictures, one sub-folder per class, without the classes that
    /// are evaluated.
    #[arg(long, value_name = "FOLDER", conflicts_with = "correction")]
    generic: Option<PathBuf>,
    /// Passes over the generic pictures, from 1 to 1000000.
    #[arg(long, default_value_t = 1, requires = "generic", value_parser = common::count(1, common::MOST_EPOCHS))]
    correction_epochs: usize,
    /// Factor of the correction's branch in training, from 1e-6 to 1000.
    #[arg(long, default_value_t = 0.03, requires = "generic", allow_negative_numbers = true,
        value_parser = common::within(numbers::BRANCH))]
    correction_scale: f64,
    /// Prompt with {} for the class; several are averaged. By default the dataset's own.
    #[arg(long = "template")]
    templates: Vec<String>,
    /// PiNI's words before the class name. By default the dataset's own.
    #[arg(long)]
    words: Option<String>,
    /// Random views averaged into each cache key, up to 1000; 0 takes the picture itself.
    #[arg(long, default_value_t = 10, value_parser = common::count(0, common::MOST_VIEWS))]
    key_views: usize,
    /// Encode this many random views of each picture, up to 1000, beforehand, for Tip-Adapter-F and PiNI to draw from. By
    /// default (0) every epoch sees a fresh one of each, as with the authors.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = common::count(0, common::MOST_VIEWS))]
    views: usize,
    /// Train on the pictures as they are, not on random views of them.
    #[arg(long, conflicts_with = "views")]
    no_augment: bool,
    /// Grid of the search: paper, standard, tip-adapter (its own for each dataset), or
    /// alpha=lo:hi:n,beta=lo:hi:n,gamma=lo:hi:n.
    #[arg(long, default_value = "paper")]
    grid: String,
    /// Tip-Adapter-F's passes over the pictures, from 1 to 1000000. By default the authors' 20, and 100 on EuroSAT.
    #[arg(long, value_parser = common::count(1, common::MOST_EPOCHS))]
    tip_f_epochs: Option<usize>,
    /// PiNI's passes over the pictures, from 1 to 1000000.
    #[arg(long, default_value_t = 100, value_parser = common::count(1, common::MOST_EPOCHS))]
    pini_epochs: usize,
    /// Top of PiNI's learning-rate schedule, from 1e-12 to 1000; by default the paper's 0.001 at a logit scale of 100, more
    /// at a smaller one.
    #[arg(long, allow_negative_numbers = true, value_parser = common::within(numbers::RATE))]
    pini_lr: Option<f64>,
    #[command(flatten)]
    noise: NoiseArgs,
    /// Fail at a picture that cannot be decoded, a folder that cannot be read, or a class with fewer pictures than shots.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    walk: WalkArgs,
    /// Pictures per step, from 1 to 65536. Without it, up to 32 as memory allows.
    #[arg(long, value_parser = common::count(1, common::MOST_BATCH))]
    batch: Option<usize>,
    /// The summary as JSON on stdout instead of tables.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gpu: GpuArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

/// Options of `tipi report`.
#[derive(clap::Args)]
pub struct ReportArgs {
    /// The folder that `tipi eval --out` wrote.
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    /// The summary as JSON on stdout instead of tables.
    #[arg(long)]
    json: bool,
}

/// Makes the report anew.
pub fn report(args: &ReportArgs) -> Result<()> {
    if !args.force.force {
        eval::report::check(&args.out)?;
    }
    show(&args.out, args.json)
}

/// Writes the report and prints its tables.
fn show(out: &Path, json: bool) -> Result<()> {
    let written = eval::report::write(out)?;
    let summary = &written.summary;
    if json {
        terminal::print_json(summary, true)?;
    } else {
        for (name, title) in &written.datasets {
            terminal::print(&format!(
                "\n{}: accuracy in percent\n{}",
                text::escaped(title),
                ui::show_table(&summary.accuracies(Some(name)))
            ))?;
            let parts = [summary.calibration(Some(name)), summary.costs(Some(name))];
            terminal::print(&parts.map(|t| ui::show_table(&t).to_string()).join("\n"))?;
        }
        if !summary.average.is_empty() {
            let count = written.datasets.len();
            terminal::print(&format!("\nmean over {count} datasets\n{}", ui::show_table(&summary.accuracies(None))))?;
        }
    }
    note!("report: {}", written.html.display());
    Ok(())
}

impl Args {
    /// Whether results can go where they shall.
    fn look_at_folders(&self) -> Result<()> {
        for folder in std::iter::once(&self.out).chain(&self.features) {
            outputs::refuse_stdout(folder)?;
            if folder.exists() && !folder.is_dir() {
                return Err(Error::data(folder, "this is a file, and results need a folder: give another name").into());
            }
        }
        if !self.force.force {
            eval::report::check(&self.out)?;
        }
        for path in eval::report::FILES.map(|name| self.out.join(name)).iter().filter(|path| path.exists()) {
            let output = Output::open(path, Kind::Html, true)?;
            self.correction.iter().try_for_each(|read| output.reads(read, "a correction"))?;
            self.dataset.iter().try_for_each(|read| output.reads(Path::new(read), "a list of pictures"))?;
        }
        Ok(())
    }

    fn datasets(&self, walk: &Walk) -> Result<Vec<Dataset>> {
        let mut names: Vec<PathBuf> = Vec::new();
        for what in &self.dataset {
            if what.as_os_str() != "all" {
                names.push(what.clone());
                continue;
            }
            let Some(root) = &self.root else {
                return Err(Error::Invalid("--dataset all: say where the datasets are with --root DIR".into()).into());
            };
            let there = |name: &str| Dataset::folder(name, root).is_some_and(|folder| folder.is_dir());
            let (found, absent): (Vec<&str>, Vec<&str>) = ELEVEN.iter().copied().partition(|name| there(name));
            if found.is_empty() {
                let reason =
                    format!("none of the datasets is there; known are {}", [&ELEVEN[..], &SHIFTS].concat().join(", "));
                return Err(Error::data(root, reason).into());
            }
            if !absent.is_empty() {
                note!("not below {}: {}", root.display(), absent.join(", "));
            }
            names.extend(found.into_iter().map(PathBuf::from));
        }
        let mut datasets: Vec<Dataset> = Vec::new();
        for name in names {
            let mut dataset = Dataset::open_with(&name, self.root.as_deref(), walk)?;
            dataset.notes.extend(walk.found().unreadable.into_values().map(|error| format!("skipped: {error}")));
            if let Some(twice) = datasets.iter().find(|other| other.name == dataset.name) {
                let reason = format!("--dataset names two of the name '{}': rename a folder", twice.name);
                return Err(Error::Invalid(reason).into());
            }
            if !self.templates.is_empty() {
                dataset.templates.clone_from(&self.templates);
            }
            if let Some(words) = &self.words {
                dataset.words.clone_from(words);
            }
            datasets.push(dataset);
        }
        Ok(datasets)
    }

    fn protocol(&self, clip: &Clip, dataset: &Dataset, corrected: bool) -> Result<Protocol> {
        let mut tip_f = tip_f::Config::paper(0);
        tip_f.epochs = match self.tip_f_epochs {
            Some(epochs) => epochs,
            // The authors' own exception.
            None if dataset.name == "eurosat" => 100,
            None => tip_f.epochs,
        };
        let lr = self.pini_lr.unwrap_or_else(|| pini::Config::rate(clip.logit_scale));
        let pini = pini::Config { epochs: self.pini_epochs, lr, ..pini::Config::paper("", 0) };
        let pini = self.noise.apply(pini);
        let methods = if self.methods.is_empty() {
            Method::ALL.into_iter().filter(|m| corrected || !m.corrected()).collect()
        } else {
            self.methods.clone()
        };
        Ok(Protocol {
            methods,
            shots: self.shots.clone(),
            seeds: self.seeds.clone(),
            how: How {
                key_views: self.key_views,
                augment: !self.no_augment,
                views: self.views,
                grid: self.grid.clone(),
                tip_f,
                pini,
                evaluation: self.noise.evaluate,
            },
            strict: self.strict,
            batch: self.batch,
        })
    }

    /// The correction asked for: read, or trained and kept in --out.
    fn correction(&self, clip: &Clip, datasets: &[Dataset], generic: Option<&Folder>) -> Result<Option<Correction>> {
        let Some(folder) = generic else {
            let Some(path) = &self.correction else { return Ok(None) };
            return Ok(Some(common::correction(&adapter_file::File::open(path)?, clip)?));
        };
        let tested: Vec<String> = datasets.iter().flat_map(|d| d.classes.iter().cloned()).collect();
        let (pictures, names) = folder.without(&tested);
        let config = overlap::Config {
            epochs: self.correction_epochs,
            scale: self.correction_scale as f32,
            // One correction serves all seeds of the choice, also those that are added later.
            ..overlap::Config::paper(1)
        };
        let method = adapter_file::Method::Overlap { config: config.clone() };
        let kept = self.out.join("correction.safetensors");
        if kept.is_file() {
            let file = adapter_file::File::open(&kept)?;
            if file.meta.method != method || file.meta.classes != names {
                let reason =
                    "was trained otherwise or without other classes: take another --out, or give it with --correction";
                return Err(Error::data(&kept, reason).into());
            }
            return Ok(Some(common::correction(&file, clip)?));
        }
        let pictures = common::sound_pictures(&pictures, self.strict)?;
        let bar = ui::bar(pictures.len() * config.epochs, "training the correction");
        let correction = common::train_correction(clip, &pictures, names.len(), &config, &mut |p| {
            bar.set_position(p.pictures as u64);
            stop::check()
        });
        bar.finish_and_clear();
        let adapter = Adapter::Overlap(correction?);
        adapter_file::save(&kept, clip, &Meta::new(clip, &names, method, None, config.seed)?, &adapter)?;
        match adapter {
            Adapter::Overlap(correction) => Ok(Some(correction)),
            _ => Ok(None),
        }
    }
}

/// Evaluates.
pub fn run(args: &Args) -> Result<()> {
    args.look_at_folders()?;
    let walk = args.walk.walk(args.strict)?;
    let datasets = args.datasets(&walk)?;
    let generic = args.generic.as_ref().map(|folder| common::open_folder(folder, &walk)).transpose()?;
    let features = args.features.clone().unwrap_or_else(|| args.out.join("features"));
    walk.refuse_folder(&args.out)?;
    walk.refuse_folder(&features)?;
    mark_results(&args.out)?;
    tipi::check_writable(&args.out.join("report.html"))?;
    let gpu = args.gpu.open()?;
    let clip = args.precision.load(&gpu, &common::model_folder(&args.model)?)?;
    let with_correction = args.correction.is_some() || args.generic.is_some();
    // All that can be wrong with the options, before anything is trained.
    let protocols =
        datasets.iter().map(|d| args.protocol(&clip, d, with_correction)).collect::<Result<Vec<Protocol>>>()?;
    let checked = protocols
        .iter()
        .zip(&datasets)
        .map(|(protocol, dataset)| Ok((protocol, eval::check(dataset, protocol, with_correction)?)))
        .collect::<Result<Vec<_>>>()?;
    common::announce(&gpu);
    stop::listen();
    let correction = args.correction(&clip, &datasets, generic.as_ref())?;
    let digest = correction.as_ref().map(|c| common::digest(&gpu, c)).transpose()?;
    let corrected = correction.as_ref().zip(digest.as_deref());
    let corrected = corrected.map(|(correction, digest)| Corrected { correction, digest });
    let precision = args.precision.precision.name();
    let mut bars = Bars::new();
    for (protocol, checked) in checked {
        // Without ++ methods the corrected tower would be run for nothing.
        let corrected = corrected.filter(|_| protocol.methods.iter().any(|m| m.corrected()));
        match eval::run(&clip, checked, corrected, (precision, &args.out, &features), &mut bars) {
            Err(Error::Stopped) => {
                bars.clear();
                let out = args.out.display();
                note!("what is finished is kept: the same command goes on, `tipi report {out}` shows what is there");
                return Err(Error::Stopped.into());
            }
            other => other?,
        }
    }
    bars.clear();
    show(&args.out, args.json)?;
    common::finish(&gpu);
    Ok(())
}

/// Progress: results so far, and the work under way.
struct Bars {
    all: MultiProgress,
    results: Option<ProgressBar>,
    work: Option<ProgressBar>,
    start: Instant,
    /// When progress was last put into words, for those who read a file instead of a terminal.
    told: Instant,
}

/// How often progress is put into words where bars are not seen.
const TELL: Duration = Duration::from_secs(30);

impl Bars {
    fn new() -> Bars {
        let now = Instant::now();
        Bars { all: MultiProgress::new(), results: None, work: None, start: now, told: now }
    }

    fn say(&self, text: &str) {
        self.all.suspend(|| note!("{text}"));
    }

    fn clear(&mut self) {
        for bar in self.work.take().into_iter().chain(self.results.take()) {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Bars {
    fn begin(&mut self, what: &str, total: usize) {
        self.end();
        self.work = Some(self.all.add(ui::bar(total, what)));
    }

    fn at(&mut self, done: usize) -> tipi::Result<()> {
        if let Some(bar) = &self.work {
            bar.set_position(done as u64);
            if bar.is_hidden() && self.told.elapsed() >= TELL {
                self.told = Instant::now();
                let (all, rate) = (bar.length().unwrap_or_default(), bar.per_sec());
                note!("{}: {done}/{all}, {rate:.1}/s, {} left", bar.message(), HumanDuration(bar.eta()));
            }
        }
        stop::check()
    }

    fn end(&mut self) {
        if let Some(bar) = self.work.take() {
            bar.finish_and_clear();
        }
    }

    fn note(&mut self, text: &str) {
        self.say(text);
    }

    fn result(&mut self, record: &Record, done: usize, all: usize) {
        let bar = self.results.get_or_insert_with(|| self.all.insert(0, ui::bar(all, "results"))).clone();
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        let task = record.task;
        self.say(&format!(
            "[{done}/{all}] {} {} {}-shot seed {}: {:.1} % of {} right ({:.0} s so far)",
            record.dataset,
            task.method,
            task.shots,
            task.seed,
            100.0 * record.accuracy,
            record.test,
            self.start.elapsed().as_secs_f64()
        ));
        if done == all {
            bar.finish_and_clear();
            self.results = None;
        }
    }
}
