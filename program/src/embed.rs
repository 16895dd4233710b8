//! `tipi embed`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Subcommand;
use tipi::Error;
use tipi::low_level::adapt::adapter_file;
use tipi::low_level::adapt::overlap::Correction;
use tipi::low_level::adapt::zero_shot::Classifier;
use tipi::low_level::clip::{Clip, Features};
use tipi::low_level::data::Item;
use tipi::low_level::encode::Views;
use tipi::low_level::encode::store::{Key, Store};
use tipi::low_level::input;
use tipi::low_level::text;

use crate::common::{self, FormerGpuArgs, LoraArgs, PictureArgs, PrecisionArgs};
use crate::embeddings::{Contents, Target};
use crate::labels;
use crate::outputs::{Beside, ForceArgs};
use crate::paths::{PathArgs, Paths};
use crate::tensors::TensorFile;
use crate::terminal::note;
use crate::{stop, ui};

/// What to embed.
#[derive(Subcommand)]
pub enum Args {
    /// Pictures: files, folders, or `pixel_values` [n,3,R,R] in a .safetensors file.
    Image(Image),
    /// Texts: arguments, the lines of a file (`@lines.txt`) or of stdin (`-`), or `input_ids` [n,T] in a .safetensors file.
    /// Write @@ for a text that begins with @.
    Text(Text),
    /// Class names: a zero-shot classifier, `weights` [C,D] f32, rows of length 1.
    Classifier(Class),
}

/// Options of `embed image`.
#[derive(clap::Args)]
pub struct Image {
    #[command(flatten)]
    common: Common,
    /// Overlap correction from `tipi fit overlap`, or a ++ adapter. Adds `adapted` [n,D] f32 to the file.
    #[arg(long, value_name = "FILE")]
    correction: Option<PathBuf>,
    /// Add `labels` [n] i64 to the file. The input must be one folder with a sub-folder of pictures per class.
    #[arg(long)]
    labels: bool,
    #[command(flatten)]
    inputs: PathArgs,
}

/// Options of `embed text`.
#[derive(clap::Args)]
pub struct Text {
    #[command(flatten)]
    common: Common,
    /// What to embed.
    #[arg(required = true)]
    inputs: Vec<String>,
}

/// Options of `embed classifier`.
#[derive(clap::Args)]
pub struct Class {
    #[command(flatten)]
    common: Common,
    /// Prompt, with {} in place of the class. Give several to average them.
    #[arg(long = "template", default_value = "a photo of a {}.")]
    templates: Vec<String>,
    /// File of classes, one a line, perhaps with prompts of their own, as `tipi classify` takes it.
    #[arg(long, value_name = "FILE", conflicts_with = "classes")]
    labels_file: Option<PathBuf>,
    /// The names of the classes, in the order of the labels, or one folder with a sub-folder per class.
    #[arg(required_unless_present = "labels_file")]
    classes: Vec<String>,
}

impl Class {
    /// The classes, and their classifier.
    fn classifier(&self, clip: &Clip) -> Result<(Vec<String>, Classifier)> {
        if let Some(path) = &self.labels_file {
            let labels = labels::of_file(path)?;
            let classes: Vec<String> = labels.iter().map(|label| label.name.clone()).collect();
            if labels.iter().any(|label| !label.prompts.is_empty()) {
                let prompts =
                    labels.iter().map(|label| label.prompts_or(&self.templates)).collect::<Result<Vec<_>>>()?;
                let classifier = Classifier::of_prompts(clip, &classes, &prompts)?;
                return Ok((classes, classifier));
            }
            let classifier = Classifier::new(clip, &classes, &self.templates)?;
            return Ok((classes, classifier));
        }
        let classes = match &self.classes[..] {
            [one] if Path::new(one).is_dir() => {
                common::open_folder(Path::new(one), &self.common.pictures.walk()?)?.names()
            }
            names => names.to_vec(),
        };
        let classifier = Classifier::new(clip, &classes, &self.templates)?;
        Ok((classes, classifier))
    }
}

/// Options.
#[derive(clap::Args)]
pub struct Common {
    /// Model: a folder, a file of weights, or ORG/NAME (or ORG/NAME@REVISION) on the hub.
    #[arg(long, value_name = "PATH|ORG/NAME")]
    model: PathBuf,
    #[command(flatten)]
    lora: LoraArgs,
    /// File to write, or `-` for stdout. It holds `features` [n,D] f32 (`weights` for `classifier`), not normalised, in the
    /// order of the inputs, in the form that its ending says: .safetensors; .npy, with what the rows are of beside it in
    /// .paths.txt; or .csv, with that in the first column. A file of embeddings of that name is overwritten.
    #[arg(long, value_name = "FILE|-")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    gpu: FormerGpuArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

/// Embeds.
pub fn run(args: &Args) -> Result<()> {
    let common = match args {
        Args::Image(args) => &args.common,
        Args::Text(args) => &args.common,
        Args::Classifier(args) => &args.common,
    };
    let output = Target::open(&common.force, &common.out)?;
    let mut pictures = Vec::new();
    match args {
        Args::Image(args) => {
            output.takes(args.labels, args.correction.is_some())?;
            args.correction.iter().try_for_each(|path| output.reads(path, "a correction"))?;
            pictures = inputs(args, &output)?;
        }
        Args::Text(args) => args.inputs.iter().try_for_each(|input| match TextInput::of(input) {
            TextInput::Ids(path) => output.reads(path, "a file of input_ids"),
            TextInput::List(path) => output.reads(path, "a list of texts"),
            TextInput::Stdin | TextInput::Text(_) => Ok(()),
        })?,
        Args::Classifier(args) => {
            args.labels_file.iter().try_for_each(|path| output.reads(path, "a file of labels"))?;
        }
    }
    let model = common.lora.source(&common.model)?;
    common::read_model(&output.output, &model)?;
    let kept = if pictures.is_empty() { None } else { Beside::features(&output.output)? };
    let gpu = common.gpu.open()?;
    let clip = common.pictures.depth.of(common.precision.load(&gpu, &model)?);
    common::announce(&gpu);
    let d = clip.config.embedding;
    let mut contents = Contents::new(match args {
        Args::Image(_) => "path",
        Args::Text(_) => "text",
        Args::Classifier(_) => "class",
    });
    match args {
        Args::Image(args) => {
            let (features, labels, names) = images(args, &pictures, &clip, kept.as_ref())?;
            contents.f32("features", d, &features.original);
            if let Some(adapted) = &features.adapted {
                contents.f32("adapted", d, adapted);
            }
            if let Some(labels) = labels {
                contents.labels(&labels);
            }
            contents.names = names;
        }
        Args::Text(args) => {
            let (features, names) = texts(args, &clip)?;
            contents.f32("features", d, &features);
            contents.names = names;
        }
        Args::Classifier(args) => {
            let (classes, classifier) = args.classifier(&clip)?;
            contents.f32("weights", d, &gpu.read::<f32>(&classifier.weights)?);
            contents.names = classes;
        }
    }
    // Known already where something was kept beside the result, since that belongs to a model.
    contents.model = if matches!(args, Args::Image(_)) { Some(clip.id()?.sha256.clone()) } else { None };
    output.write(&contents)?;
    if let Some(kept) = &kept {
        kept.remove_features();
    }
    common::finish(&gpu);
    Ok(())
}

fn is_safetensors(input: &Path) -> bool {
    input.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
}

/// Features, labels where asked for, and what each row is of.
type Embedded = (Features, Option<Vec<i64>>, Vec<String>);

/// A picture to embed, and whether it was given directly. If so, it must not be broken.
type Listed = (Item, bool);

/// Encodes pictures, keeping what is done until the result is written.
struct Work<'a> {
    args: &'a Image,
    clip: &'a Clip,
    correction: Option<&'a Correction>,
    kept: Option<&'a Beside>,
    /// Where features go that are not kept beside a result.
    passing: Option<tempfile::TempDir>,
}

impl Work<'_> {
    /// Encodes pictures and gives their features, and those that could be decoded.
    fn encode(&mut self, pictures: &[Listed]) -> Result<(Features, Vec<Item>)> {
        let folder = match (self.kept, &mut self.passing) {
            (Some(kept), _) => kept.path(),
            (None, Some(passing)) => passing.path(),
            (None, passing) => {
                let made = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
                passing.insert(made).path()
            }
        };
        let gpu = &self.clip.gpu;
        let digest = self.correction.map(|correction| correction.digest(gpu)).transpose()?;
        let key = Key::new(self.clip, self.clip.precision().name(), digest)?;
        let mut store = Store::open(folder, &key, self.clip.config.embedding)?;
        let tower = common::tower(self.correction);
        let mut encoder = self.args.common.pictures.encoder(self.clip, pictures.len(), tower)?;
        let bar = ui::bar(pictures.len(), "encoding pictures");
        let (mut items, mut ids, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for run in pictures.chunk_by(|a, b| a.1 == b.1) {
            let before = items.len() + skipped.len();
            let strict = run[0].1 || self.args.common.pictures.strict;
            let all: Vec<&Item> = run.iter().map(|(item, _)| item).collect();
            let filled = store.fill(&mut encoder, &all, &Views::Center, strict, &mut |p| {
                bar.set_position((before + p.pictures) as u64);
                stop::check()
            })?;
            for (item, rows) in all.into_iter().zip(filled.rows) {
                let Some(rows) = rows else { continue };
                ids.extend(rows);
                items.push(item.clone());
            }
            skipped.extend(filled.skipped);
        }
        bar.finish_and_clear();
        common::report_skipped(&skipped);
        if items.is_empty() {
            return Err(Error::Invalid("none of the pictures could be decoded".into()).into());
        }
        Ok((store.rows(&ids)?, items))
    }

    /// Encodes prepared pixels of a file.
    fn encode_pixels(&self, path: &Path) -> Result<(Features, usize)> {
        let size = self.clip.preprocess.size;
        let (n, pixels) = read_pixels(path, size)?;
        let tower = common::tower(self.correction);
        let mut encoder = self.args.common.pictures.encoder(self.clip, n, tower)?;
        let bar = ui::bar(n, "encoding pixels");
        let mut features = Features::default();
        for step in pixels.chunks(PIXELS_AT_ONCE * 3 * size * size) {
            features.extend(encoder.encode_all(step, &mut |n| bar.inc(n as u64))?);
            stop::check()?;
        }
        bar.finish_and_clear();
        Ok((features, n))
    }

    /// All inputs, in their order.
    fn all(&mut self, inputs: &[Input]) -> Result<Embedded> {
        let mut features = Features::default();
        let (mut names, mut labels) = (Vec::new(), Vec::new());
        for input in inputs {
            match input {
                Input::Pictures(pictures) => {
                    let (new, items) = self.encode(pictures)?;
                    features.extend(new);
                    labels.extend(items.iter().map(|item| item.label as i64));
                    names.extend(items.iter().map(|item| text::path(&item.path)));
                }
                Input::Pixels(path) => {
                    let (new, n) = self.encode_pixels(path)?;
                    features.extend(new);
                    names.extend((0..n).map(|i| format!("{}#{i}", text::path(path))));
                }
            }
        }
        Ok((features, self.args.labels.then_some(labels), names))
    }
}

/// Pixels are encoded so many pictures at a time: between them the work can be stopped.
const PIXELS_AT_ONCE: usize = 256;

/// What follows each other among the inputs.
enum Input {
    Pictures(Vec<Listed>),
    Pixels(PathBuf),
}

/// What there is to embed. Every file of it is known to `output` as one that is read.
fn inputs(args: &Image, output: &Target) -> Result<Vec<Input>> {
    let mut found = Vec::new();
    let walk = args.common.pictures.walk()?;
    let Paths(inputs) = args.inputs.read()?;
    if args.labels {
        let [(input, _)] = &inputs[..] else {
            return Err(
                Error::Invalid("--labels takes one folder with a sub-folder of pictures per class".into()).into()
            );
        };
        found.push(Input::Pictures(
            common::open_folder(input, &walk)?.items.into_iter().map(|item| (item, false)).collect(),
        ));
    } else {
        for inputs in inputs.chunk_by(|(a, _), (b, _)| !is_safetensors(a) && !is_safetensors(b)) {
            if let [(one, _)] = inputs
                && is_safetensors(one)
            {
                found.push(Input::Pixels(one.into()));
                continue;
            }
            let listed = Paths(inputs.to_vec()).list(&walk)?;
            let listed = listed.into_iter().map(|(path, explicit)| (Item { path, label: 0 }, explicit));
            found.push(Input::Pictures(listed.collect()));
        }
    }
    for input in &found {
        match input {
            Input::Pictures(pictures) => {
                pictures.iter().try_for_each(|(item, _)| output.reads(&item.path, "a picture"))?;
            }
            Input::Pixels(path) => output.reads(path, "a file of pixels")?,
        }
    }
    walk.refuse_picture(output.output.path())?;
    Ok(found)
}

/// After a failure within this time nothing is kept, because it is as quickly done again.
const WORTH_KEEPING: Duration = Duration::from_secs(5);

fn images(args: &Image, inputs: &[Input], clip: &Clip, kept: Option<&Beside>) -> Result<Embedded> {
    let adapter = args.correction.as_ref().map(|path| adapter_file::File::open(path)?.bind(clip)).transpose()?;
    let correction = adapter.as_ref().map(|adapter| {
        adapter.correction().ok_or_else(|| {
            Error::Invalid(
                "--correction names an adapter without an overlap correction; `tipi fit overlap` makes one".into(),
            )
        })
    });
    let mut work = Work { args, clip, correction: correction.transpose()?, kept, passing: None };
    stop::listen();
    let clock = Instant::now();
    let result = work.all(inputs);
    if let (Err(error), Some(kept)) = (&result, kept) {
        let stopped = matches!(error.downcast_ref(), Some(Error::Stopped));
        if stopped || clock.elapsed() > WORTH_KEEPING {
            note!("finished features are kept in {}: the same command goes on from there", kept.path().display());
        } else {
            kept.remove_features();
        }
    }
    result
}

/// What an argument of `embed text` means. A file must be marked by @, because a text may look like the name of a file.
enum TextInput<'a> {
    /// A safetensors file with `input_ids`.
    Ids(&'a Path),
    /// A file of texts, one a line.
    List(&'a Path),
    /// The same from standard input.
    Stdin,
    /// The text itself.
    Text(&'a str),
}

impl<'a> TextInput<'a> {
    fn of(input: &'a str) -> Self {
        let file = input.strip_prefix('@').filter(|rest| !rest.starts_with('@'));
        let path = Path::new(file.unwrap_or(input));
        match file {
            _ if is_safetensors(path) => TextInput::Ids(path),
            Some(_) => TextInput::List(path),
            None if input == "-" => TextInput::Stdin,
            // @@ stands for a text that begins with @.
            None => TextInput::Text(input.strip_prefix('@').unwrap_or(input)),
        }
    }
}

fn texts(args: &Text, clip: &Clip) -> Result<(Vec<f32>, Vec<String>)> {
    let mut ids = Vec::new();
    let mut names = Vec::new();
    for input in &args.inputs {
        let lines: Vec<String> = match TextInput::of(input) {
            TextInput::Ids(path) => {
                let rows = read_ids(path)?;
                names.extend((0..rows.len()).map(|i| format!("{}#{i}", path.display())));
                for (i, row) in rows.iter().enumerate() {
                    if let Some(lacking) = clip.config.end.lacking(row) {
                        return Err(Error::data(path, format!("row {i} of input_ids has {lacking}")).into());
                    }
                }
                ids.extend(rows);
                continue;
            }
            TextInput::List(path) => input::read_text(path, input::limit::LIST)?.lines().map(str::to_string).collect(),
            TextInput::Stdin => {
                input::read_stream(std::io::stdin().lock(), input::limit::LIST)?.lines().map(str::to_string).collect()
            }
            TextInput::Text(text) => {
                if Path::new(input).is_file() {
                    note!("'{input}' is taken as a text: @{input} reads the file");
                }
                vec![text.to_string()]
            }
        };
        for line in lines {
            ids.push(clip.tokenizer()?.prompt(&line)?);
            names.push(line);
        }
    }
    if ids.is_empty() {
        return Err(Error::Invalid("there is no text among the inputs".into()).into());
    }
    Ok((clip.text.encode(&ids, clip.config.end)?, names))
}

fn read_pixels(path: &Path, size: usize) -> Result<(usize, Vec<f32>), Error> {
    let file = TensorFile::open(path)?;
    let (shape, pixels) = file.f32("pixel_values")?;
    match shape[..] {
        [n, 3, h, w] if n > 0 && h == size && w == size => Ok((n, pixels)),
        _ => Err(file.form("pixel_values", format!("[n, 3, {size}, {size}] of F32"))),
    }
}

fn read_ids(path: &Path) -> Result<Vec<Vec<u32>>, Error> {
    let file = TensorFile::open(path)?;
    let form = || file.form("input_ids", "[n, T] of non-negative integers".into());
    let (shape, wide) = file.integers("input_ids")?;
    if shape.len() != 2 || wide.is_empty() {
        return Err(form());
    }
    let ids = wide.iter().map(|v| u32::try_from(*v).map_err(|_| form())).collect::<Result<Vec<u32>, Error>>()?;
    Ok(ids.chunks(shape[1]).map(<[u32]>::to_vec).collect())
}
