//! `tipi fit`: a subcommand for every method of the register, and for the overlap correction.

mod overlap;
mod several;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches, Subcommand};
use tipi::Error;
use tipi::low_level::adapt::adapter_file::{self, Adapter, Description, File, Meta};
use tipi::low_level::adapt::evidence::FEW;
use tipi::low_level::adapt::method::{self, Settings, Tried};
use tipi::low_level::adapt::{Choice, How, Learned, Lesson, METHODS, Method, Place, Texts, learn, names};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::sampling::ALL_TAKEN;
use tipi::low_level::data::{Found, Shots, Split, TEMPLATE, WORDS, Walk};
use tipi::low_level::encode::{self, Direct};
use tipi::low_level::gpu::Gpu;
use tipi::low_level::kernels::gemm::Precision;
use tipi::low_level::output::{Kind, Output};
use tipi::low_level::text;

use crate::bars::Bars;
use crate::common::{self, FormerGpuArgs, LoraArgs, PictureArgs};
use crate::outputs::{Beside, ForceArgs};
use crate::terminal::{note, note_lines};
use crate::{options, stop, ui};

/// What is fitted.
pub enum Args {
    /// A method.
    Method(Box<MethodArgs>),
    /// The overlap correction.
    Overlap(Box<overlap::Args>),
}

const OVERLAP: &str =
    "The intra-modal overlap correction: bottlenecks in the image tower, learned from generic pictures";

impl Subcommand for Args {
    fn augment_subcommands(command: Command) -> Command {
        let commands = METHODS.iter().copied().map(MethodArgs::command);
        let overlap = overlap::Args::augment_args(Command::new(adapter_file::CORRECTION)).about(OVERLAP);
        command.subcommands(commands).subcommand(overlap).subcommand_required(true).arg_required_else_help(true)
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        name == adapter_file::CORRECTION || method::find(name).is_ok()
    }
}

impl FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let none = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(none)?;
        if name == adapter_file::CORRECTION {
            return Ok(Args::Overlap(Box::new(overlap::Args::from_arg_matches(matches)?)));
        }
        let method = method::find(name).map_err(|_| none())?;
        Ok(Args::Method(Box::new(MethodArgs::read(method, matches)?)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Options of a method.
pub struct MethodArgs {
    method: &'static dyn Method,
    common: Common,
    templates: Vec<String>,
    words: Option<String>,
    how: How,
    settings: Settings,
    correction: Option<PathBuf>,
    resume: bool,
}

impl MethodArgs {
    fn command(method: &'static dyn Method) -> Command {
        let info = method.info();
        let command = Common::augment_args(Command::new(info.name));
        let mut command = command.about(info.about).visible_aliases(info.aliases.iter().copied());
        if info.needs.templates {
            command = command.arg(Arg::new("template").long("template").action(ArgAction::Append).help(
                "Prompt, with {} in place of the class. Give several to average them [default: a known dataset's own, \
                 else 'a photo of a {}.']",
            ));
        }
        if info.needs.words {
            let arg = Arg::new("words").long("words");
            let arg = arg.help("The words of PiNI's prompt before the class [default: 'a photo of a']");
            // What the option was called before methods had both.
            command = command.arg(if info.needs.templates { arg } else { arg.alias("template") });
        }
        if info.needs.correction || method.corrected().is_some() {
            let arg = Arg::new("correction").long("correction").value_name("FILE");
            let arg = arg.value_parser(clap::value_parser!(PathBuf)).required(info.needs.correction);
            command = command.arg(arg.help(match method.corrected() {
                Some(other) => {
                    format!("Overlap correction from `tipi fit overlap`; turns this into {}", other.info().title)
                }
                None => "Overlap correction from `tipi fit overlap`".into(),
            }));
        }
        let former = if info.needs.keys { "key-views" } else { "train-views" };
        command = options::add_how(command, info.needs, former);
        if info.needs.training {
            let help = "Continue from the checkpoint of an interrupted run of the same command";
            command = command.arg(Arg::new("resume").long("resume").action(ArgAction::SetTrue).help(help));
        }
        options::add_settings(command, method)
    }

    fn read(method: &'static dyn Method, matches: &ArgMatches) -> Result<MethodArgs, clap::Error> {
        let correction = matches.try_get_one::<PathBuf>("correction").ok().flatten().cloned();
        let templates = matches.try_get_many::<String>("template").ok().flatten();
        Ok(MethodArgs {
            method: method.corrected().filter(|_| correction.is_some()).unwrap_or(method),
            common: Common::from_arg_matches(matches)?,
            templates: templates.map(|all| all.cloned().collect()).unwrap_or_default(),
            words: matches.try_get_one::<String>("words").ok().flatten().cloned(),
            how: options::how(matches),
            settings: options::settings(method, matches),
            correction,
            resume: matches.try_get_one::<bool>("resume").ok().flatten().copied().unwrap_or(false),
        })
    }
}

/// Fits.
pub fn run(args: &Args) -> Result<()> {
    match args {
        Args::Method(args) if args.common.multi_label => several::fit(args),
        Args::Method(args) => args.fit(),
        Args::Overlap(args) => overlap::fit(args),
    }
}

/// Options that all few-shot methods have.
#[derive(clap::Args)]
struct Common {
    /// Model: a folder, a file of weights, or ORG/NAME (or ORG/NAME@REVISION) on the hub.
    #[arg(long, value_name = "PATH|ORG/NAME")]
    model: PathBuf,
    #[command(flatten)]
    lora: LoraArgs,
    /// Pictures to learn from, all that `tipi data check` takes: a folder with one sub-folder per class, a folder with train and
    /// val or test, a CSV file with the columns path,label or path,label,split, a split file of CoOp's form, or the name of a known
    /// dataset below --root. Of what has parts it learns from train, and validates on val.
    #[arg(long, value_name = "FOLDER|FILE|NAME")]
    data: PathBuf,
    /// Folder of the known datasets.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Pictures per class to learn from, from 1 to 1000000, or all. A class that has fewer gives all it has. With all, none are
    /// put aside to validate on.
    #[arg(long, value_parser = common::shots, value_name = "N|all")]
    shots: Shots,
    /// Learn pictures that may have several labels each, and a threshold for each label. --data is a CSV file whose labels have ;
    /// or | between them. For tip-adapter.
    #[arg(long)]
    multi_label: bool,
    /// With --multi-label: file of the labels that there are, one a line, in the order of the answers. Others are an error then.
    #[arg(long, value_name = "FILE", requires = "multi_label")]
    labels_file: Option<PathBuf>,
    /// Seed for choosing pictures, for random views and for training.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Adapter file to write. An adapter of that name is overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    gpu: FormerGpuArgs,
}

/// Looks at what `--data` names, and says what was passed over.
fn open(path: &Path, root: Option<&Path>, walk: &Walk) -> Result<Found> {
    let found = Found::open(path, root, walk)?;
    common::say_walk(walk);
    if let Found::Parts(dataset) = &found {
        note!("{}: {}", dataset.title, dataset.source);
    }
    Ok(found)
}

/// What fitting starts from.
struct Start {
    gpu: Gpu,
    clip: Clip,
    name: String,
    classes: Vec<String>,
    /// The set's own template and words, where it is a known one.
    template: String,
    words: String,
    split: Split,
}

impl Common {
    /// Looks at where the adapter is to be written.
    fn output(&self) -> Result<Output> {
        self.force.open(&self.out, Kind::Adapter)
    }

    /// Looks at everything that can be wrong before the first long step: the pictures, the model, and whether `output` is
    /// among them.
    fn start(&self, output: &Output) -> Result<Start> {
        let walk = self.pictures.walk()?;
        let data = open(&self.data, self.root.as_deref(), &walk)?;
        data.items().into_iter().try_for_each(|item| output.reads(&item.path, "a picture"))?;
        walk.refuse_picture(&self.out)?;
        let model = self.lora.source(&self.model)?;
        common::read_model(output, &model)?;
        let bar = ui::bar(data.items().len(), "checking pictures");
        let (strict, done) = (self.pictures.strict, |n: usize| bar.set_position(n as u64));
        let chosen = match &data {
            Found::Whole(whole) => encode::choose(&whole.folder, self.shots, self.seed, strict, &done)?,
            Found::Parts(dataset) => encode::choose_parts(dataset, self.shots, self.seed, strict, &done)?,
        };
        bar.finish_and_clear();
        common::report_skipped(&chosen.skipped);
        if let Some(short) = &chosen.short {
            note!("{short}; {ALL_TAKEN}");
        }
        let gpu = self.gpu.open()?;
        let clip = self.pictures.depth.of(Clip::load_source(&gpu, &model, Precision::F32)?);
        common::announce(&gpu);
        let (template, words) = match &data {
            Found::Parts(dataset) => (dataset.templates.first().cloned(), dataset.words.clone()),
            Found::Whole(_) => (None, WORDS.into()),
        };
        let template = template.unwrap_or_else(|| TEMPLATE.into());
        Ok(Start { gpu, clip, name: data.name(), classes: data.classes(), template, words, split: chosen.split })
    }

    /// Writes what was learned.
    fn save(&self, output: Output, start: &Start, learned: Learned) -> Result<()> {
        let Learned { method, fitted, calibration, right, .. } = learned;
        let counts = calibration.counts;
        match (right, calibration.temperature) {
            (Some(right), Some(temperature)) => {
                note!("{counts}: {:.1} % right", 100.0 * right);
                note!("temperature {temperature:.3}");
                if counts.all() < FEW {
                    note!(
                        "confidence rests on {} alone, so it is a guess: give {FEW} or more",
                        text::count(counts.all(), "picture", "pictures")
                    );
                }
            }
            _ => note!(
                "no pictures are left to fit a temperature on, so probabilities may be too high: give at least two per class"
            ),
        }
        let description = Description::new(method.info().name, &*fitted)?;
        let meta = Meta::new(&start.clip, &start.classes, description, self.shots.number(), self.seed)?;
        let meta = meta.calibrated(&calibration).with_pictures(names::of_keys(&start.split.support));
        let bytes = adapter_file::to_bytes(output.path(), &start.clip, &meta, &Adapter::Method(fitted, calibration))?;
        let name = output.name();
        output.write(&bytes)?;
        note!("wrote {name}");
        Ok(())
    }
}

/// The checkpoint beside a result, and whether to continue from it.
fn checkpoint(output: &Output, force: &ForceArgs, resume: bool) -> Result<(Option<Beside>, Option<Place>)> {
    // It is held until all is written, so that two trainings cannot share one checkpoint.
    let kept = Beside::checkpoint(output, force)?;
    let path = kept.as_ref().map(|kept| kept.path().to_path_buf());
    if resume && !path.as_deref().is_some_and(Path::is_file) {
        let name = path.map_or("checkpoint, because the result is not written to a file".into(), |path| {
            path.display().to_string()
        });
        let reason = format!("--resume: there is no {name}; leave out --resume to start from the beginning");
        return Err(Error::Invalid(reason).into());
    }
    Ok((kept, path.map(|path| Place { path, resume })))
}

/// Prints how to continue an interrupted training.
fn say_stopped(error: Error, kept: Option<&Beside>) -> anyhow::Error {
    if let (Error::Stopped, Some(kept)) = (&error, kept.filter(|kept| kept.path().is_file())) {
        note!("run the same command with --resume to continue from {}", kept.path().display());
    }
    error.into()
}

/// What was chosen among, as a table.
fn tried(all: &[Tried]) -> ui::Table {
    let mut table = ui::table(&["method", "log-loss", "right", "pictures", "seconds", ""]);
    for row in all {
        let number = |value: Option<f64>, factor: f64, digits: usize| match value {
            Some(value) => format!("{:.digits$}", factor * value),
            None => "–".into(),
        };
        table.add_row([
            row.method.info().title.to_string(),
            number(row.log_loss, 1.0, 3),
            number(row.accuracy, 100.0, 1),
            row.pictures.to_string(),
            format!("{:.1}", row.seconds),
            if row.chosen { "taken".into() } else { String::new() },
        ]);
    }
    table
}

impl MethodArgs {
    fn fit(&self) -> Result<()> {
        let clock = Instant::now();
        let shared = &self.common;
        let settings = method::settled(self.method, &self.settings);
        let settings = settings.map_err(|error| options::translated(self.method, &error))?;
        let output = shared.output()?;
        if let Some(path) = &self.correction {
            output.reads(path, "a correction")?;
        }
        let trains = self.method.info().needs.training;
        let (kept, place) = if trains { checkpoint(&output, &shared.force, self.resume)? } else { (None, None) };
        let file = self.correction.as_ref().map(|path| File::open(path)).transpose()?;
        let start = shared.start(&output)?;
        let Start { clip, classes, split, name, .. } = &start;
        let correction = file.map(|file| common::correction(&file, clip)).transpose()?;
        let templates = match self.templates.is_empty() {
            true => vec![start.template.clone()],
            false => self.templates.clone(),
        };
        let words = self.words.as_deref().unwrap_or(&start.words);
        let texts = Texts { classes, templates: &templates, words, dataset: name };
        let choice = Choice { support: &split.support, val: &split.val, seed: shared.seed };
        let bottlenecks = correction.as_ref().map(|correction| &correction.blocks[..]);
        let mut source = Direct::new(clip, bottlenecks, shared.pictures.batch());
        let mut lesson = Lesson::new(clip, texts, choice, &self.how, (correction.as_ref(), &mut source))?;
        lesson.keep_at(place);
        stop::listen();
        let mut bars = Bars::new();
        let learned = learn(self.method, &settings, &mut lesson, &mut bars);
        bars.clear();
        let learned = learned.map_err(|error| say_stopped(error, kept.as_ref()))?;
        if !learned.tried.is_empty() {
            note_lines(&tried(&learned.tried).to_string());
        }
        let facts = learned.fitted.facts().to_string();
        note!(
            "{}: {} of {}{}{facts}, {:.1} s",
            learned.method,
            text::count(split.support.len(), "picture", "pictures"),
            text::count(classes.len(), "class", "classes"),
            if facts.is_empty() { "" } else { ", " },
            clock.elapsed().as_secs_f64()
        );
        shared.save(output, &start, learned)?;
        // Nothing is left to go on with.
        kept.map_or(Ok(()), Beside::remove_file)?;
        common::finish(&start.gpu);
        Ok(())
    }
}
