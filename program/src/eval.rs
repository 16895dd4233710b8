//! `tipi eval` and `tipi report`.

mod corrections;

use std::path::{Path, PathBuf};

use anyhow::Result;
use tipi::Error;
use tipi::low_level::adapt::method::{self, Method};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::walk::mark_results;
use tipi::low_level::data::{Dataset, ELEVEN, SHIFTS, Shots, Walk};
use tipi::low_level::eval::ablation::{self, Ablation, find_ablation};
use tipi::low_level::eval::summary::Summary;
use tipi::low_level::eval::{self, Evaluation, Protocol, Setup};
use tipi::low_level::output::{Kind, Output};
use tipi::low_level::text;

use self::corrections::{CorrectionArgs, Corrections};
use crate::bars::Bars;
use crate::common::{self, DepthArgs, FormerGpuArgs, LoraArgs, PrecisionArgs, WalkArgs};
use crate::options::{HowArgs, OfMethods};
use crate::outputs::{self, ForceArgs};
use crate::terminal::{self, note};
use crate::{stop, ui};

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// What to evaluate: the names of known datasets below --root (`all` for those of the eleven that are there), a folder with
    /// a sub-folder of pictures per class, a folder with train, val and test, a CSV file with the columns path,label or
    /// path,label,split, or a split file of CoOp's form.
    #[arg(long, value_delimiter = ',', required = true, value_name = "NAME|FOLDER|FILE")]
    dataset: Vec<PathBuf>,
    /// Folder of the known datasets.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Model: a folder, a file of weights, or ORG/NAME (or ORG/NAME@REVISION) on the hub.
    #[arg(long, value_name = "PATH|ORG/NAME")]
    model: PathBuf,
    #[command(flatten)]
    lora: LoraArgs,
    /// Methods, by the names that `tipi fit` uses. By default all but auto; the ++ methods only if there is a correction.
    #[arg(long, value_delimiter = ',', value_parser = one_method)]
    methods: Vec<&'static dyn Method>,
    /// Run a paper's ablation in place of methods: pini (where the noise goes, pixels among it, draws, reduction, and how
    /// predictions treat the noise, one changed at a time), or overlap (Tip-Adapter and Tip-X without a correction, with one that
    /// was trained with labels, and with one that was trained without, beside overlap and feature variance).
    #[arg(long, value_name = "NAME", conflicts_with = "methods", value_parser = one_ablation)]
    ablation: Option<&'static Ablation>,
    /// Numbers of pictures per class to learn from, each from 1 to 1000000, or all. A class that has fewer gives all it has.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16", value_parser = common::shots)]
    shots: Vec<Shots>,
    /// Seeds for choosing pictures, for random views and for training.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// Folder for results, features and the report, outside the datasets. The same command continues an interrupted run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    /// Folder for features, which several runs can share. By default `features` in --out.
    #[arg(long, value_name = "DIR")]
    features: Option<PathBuf>,
    #[command(flatten)]
    corrections: CorrectionArgs,
    /// Prompt, with {} in place of the class. Give several to average them. By default the dataset's own.
    #[arg(long = "template")]
    templates: Vec<String>,
    /// The words of PiNI's prompt before the class. By default the dataset's own.
    #[arg(long)]
    words: Option<String>,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    settings: OfMethods,
    /// A folder of pictures of no class: measures how well they are told from the others, by the probability of the likeliest class,
    /// by energy, and by the distance to the most similar picture that was learned from. Pictures in a sub-folder with the name of a
    /// class are left out.
    #[arg(long, value_name = "FOLDER")]
    foreign: Option<PathBuf>,
    /// Keep what each method learned as an adapter file, in `adapters` below the dataset's folder in --out.
    #[arg(long)]
    adapters: bool,
    /// Stop with an error if a picture cannot be decoded, a folder cannot be read, a file looks like a picture and is of a kind
    /// that tipi does not read, or a class has fewer pictures than shots.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    walk: WalkArgs,
    #[command(flatten)]
    depth: DepthArgs,
    /// Pictures per step, from 1 to 65536. By default up to 32, or as many as fit into memory.
    #[arg(long, value_parser = common::count(1, common::MOST_BATCH))]
    batch: Option<usize>,
    /// Print the summary as JSON instead of tables.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gpu: FormerGpuArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

/// Reads the name of a method.
fn one_method(name: &str) -> Result<&'static dyn Method, String> {
    method::find(name).map_err(|error| error.to_string())
}

/// Reads the name of an ablation.
fn one_ablation(name: &str) -> Result<&'static Ablation, String> {
    find_ablation(name).map_err(|error| error.to_string())
}

/// Options of `tipi report`.
#[derive(clap::Args)]
pub struct ReportArgs {
    /// The folder that `tipi eval --out` wrote.
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    /// Print the summary as JSON instead of tables.
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
        let count = written.datasets.len();
        let ablations = |of: Option<&str>, whose: &str| -> Result<()> {
            for (ablation, table) in summary.ablations(of) {
                let heading = format!("\n{whose}: {}, accuracy in percent\n", ablation.title);
                terminal::print(&(heading + &ui::show_table(&table).to_string()))?;
            }
            let whose = of.map_or_else(|| format!("{count} datasets"), |_| whose.into());
            ablation::ALL.iter().try_for_each(|ablation| show_correlation(summary, ablation, (of, &whose)))
        };
        for (name, title) in &written.datasets {
            ablations(Some(name), &text::escaped(title))?;
            if summary.select(Some(name)).is_empty() {
                continue;
            }
            terminal::print(&format!(
                "\n{}: accuracy in percent\n{}",
                text::escaped(title),
                ui::show_table(&summary.accuracies(Some(name)))
            ))?;
            let (of, some) = (Some(&name[..]), |table| Some(table));
            let parts =
                [some(summary.calibration(of)), summary.coverage(of), summary.foreign(of), some(summary.costs(of))];
            let parts: Vec<String> = parts.iter().flatten().map(|table| ui::show_table(table).to_string()).collect();
            terminal::print(&parts.join("\n"))?;
        }
        ablations(None, &format!("mean over {count} datasets"))?;
        if !summary.average.is_empty() {
            terminal::print(&format!("\nmean over {count} datasets\n{}", ui::show_table(&summary.accuracies(None))))?;
        }
    }
    note!("report: {}", written.html.display());
    Ok(())
}

/// Prints how overlap and accuracy go together, where that was measured.
fn show_correlation(summary: &Summary, ablation: &Ablation, (of, whose): (Option<&str>, &str)) -> Result<()> {
    if let Some(table) = summary.correlation_table(ablation, of) {
        let heading = format!("\n{whose}: Pearson's correlation of overlap and accuracy (points)\n");
        terminal::print(&(heading + &ui::show_table(&table).to_string()))?;
    }
    Ok(())
}

impl Args {
    /// Whether results can go where they shall.
    fn look_at_folders(&self) -> Result<()> {
        for folder in std::iter::once(&self.out).chain(&self.features) {
            outputs::refuse_stdout(folder)?;
            if folder.exists() && !folder.is_dir() {
                return Err(
                    Error::data(folder, "this is a file, but results go into a folder: give another name").into()
                );
            }
        }
        if !self.force.force {
            eval::report::check(&self.out)?;
        }
        for path in eval::report::FILES.map(|name| self.out.join(name)).iter().filter(|path| path.exists()) {
            let output = Output::open(path, Kind::Html, true)?;
            self.corrections.files().iter().try_for_each(|read| output.reads(read, "a correction"))?;
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
                let reason = format!(
                    "none of the datasets is there; the known ones are {}",
                    [&ELEVEN[..], &SHIFTS].concat().join(", ")
                );
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
            let found = walk.found();
            let skipped = found.unreadable.into_values().chain(found.unread.into_values());
            dataset.notes.extend(skipped.map(|error| format!("skipped: {error}")));
            if let Some(twice) = datasets.iter().find(|other| other.name == dataset.name) {
                let reason = format!("--dataset has two datasets called '{}': rename a folder", twice.name);
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

    fn protocol(&self, clip: &Clip, corrections: &Corrections, walk: &Walk) -> Result<Protocol> {
        let corrected = corrections.some();
        let methods = match self.ablation {
            Some(ablation) => ablation.methods()?,
            None if self.methods.is_empty() => eval::methods(clip, corrected),
            None => self.methods.clone(),
        };
        if let Some(method) = methods.iter().find(|m| m.info().needs.correction && !corrected) {
            let reason = format!(
                "{method} needs an overlap correction: give one with --correction (`tipi fit overlap` makes it), or generic \
                 pictures to train one on with --generic"
            );
            return Err(Error::Invalid(reason).into());
        }
        Ok(Protocol {
            setup: Setup::new(self.how.0.clone(), &methods, &self.settings.0)?,
            methods,
            ablation: self.ablation,
            taught: self.compared().map_or_else(Vec::new, |_| corrections.taught()),
            shots: self.shots.clone(),
            seeds: self.seeds.clone(),
            adapters: self.adapters,
            strict: self.strict,
            batch: self.batch,
            foreign: self.foreign.as_deref().map_or(Ok(Vec::new()), |folder| eval::trust::foreign(folder, walk))?,
        })
    }

    /// The ablation, where it compares corrections.
    fn compared(&self) -> Option<&'static Ablation> {
        self.ablation.filter(|ablation| ablation.compares_corrections())
    }
}

/// Evaluates.
pub fn run(args: &Args) -> Result<()> {
    args.look_at_folders()?;
    let walk = args.walk.walk(args.strict)?;
    let datasets = args.datasets(&walk)?;
    let corrections = args.corrections.open(args.ablation, &walk)?;
    let features = args.features.clone().unwrap_or_else(|| args.out.join("features"));
    walk.refuse_folder(&args.out)?;
    walk.refuse_folder(&features)?;
    mark_results(&args.out)?;
    tipi::low_level::output::check_writable(&args.out.join("report.html"))?;
    let gpu = args.gpu.open()?;
    let clip = args.depth.of(args.precision.load(&gpu, &args.lora.source(&args.model)?)?);
    // Check all options before anything is trained.
    let protocol = args.protocol(&clip, &corrections, &walk)?;
    let tested: Vec<String> = datasets.iter().flat_map(|d| d.classes.iter().cloned()).collect();
    let ready = corrections.ready(&clip, &tested)?;
    let correcting = args.corrections.correcting(&ready, args.compared().is_some());
    let evaluation = Evaluation::new(&datasets, &protocol, correcting)?;
    common::announce(&gpu);
    stop::listen();
    let mut bars = Bars::new();
    let ended = evaluation.run(&clip, (&args.out, &features), &mut bars);
    bars.clear();
    if let Err(Error::Stopped) = ended {
        let out = args.out.display();
        note!("finished results are kept: run the same command to continue, or `tipi report {out}` to see them");
    }
    ended?;
    show(&args.out, args.json)?;
    common::finish(&gpu);
    Ok(())
}
