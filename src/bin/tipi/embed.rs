//! `tipi embed`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use safetensors::tensor::{Dtype, TensorView};
use tipi::Error;
use tipi::adapt::adapter_file;
use tipi::adapt::zero_shot::Classifier;
use tipi::clip::{Clip, Features};
use tipi::encode::{self, Views};
use tipi::input;
use tipi::nn::Bottleneck;
use tipi::text;

use crate::common::{self, GpuArgs, PictureArgs, PrecisionArgs};
use crate::tensors::TensorFile;
use crate::terminal::note;
use crate::ui;

/// What to embed.
#[derive(Subcommand)]
pub enum Args {
    /// Pictures: files, folders, or `pixel_values` [n,3,R,R] in a .safetensors file.
    Image(Image),
    /// Texts: as arguments, the lines of a file (`@lines.txt`) or of `-` (stdin), or `input_ids` [n,T] in a .safetensors
    /// file. A text that begins with @ is written with two.
    Text(Text),
    /// Class names: a zero-shot classifier, `weights` [C,D] f32, rows of length 1.
    Classifier(Class),
}

/// Options of `embed image`.
#[derive(clap::Args)]
pub struct Image {
    #[command(flatten)]
    common: Common,
    /// Overlap correction that `fit overlap` wrote, or a ++ adapter: write `adapted` [n,D] f32 beside `features`.
    #[arg(long, value_name = "FILE")]
    correction: Option<PathBuf>,
    /// Write `labels` [n] i64 too: the one input is a folder with a sub-folder of pictures per class.
    #[arg(long)]
    labels: bool,
    /// What to embed.
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
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
    /// Prompt with {} for the class; several are averaged.
    #[arg(long = "template", default_value = "a photo of a {}.")]
    templates: Vec<String>,
    /// Class names, in the order of the labels; or one folder with a sub-folder per class.
    #[arg(required = true)]
    classes: Vec<String>,
}

/// Options.
#[derive(clap::Args)]
pub struct Common {
    /// Model: a folder, or ORG/NAME (or ORG/NAME@REVISION) on the hub.
    #[arg(long, value_name = "DIR|ORG/NAME")]
    model: PathBuf,
    /// File to write: `features` [n,D] f32, un-normalised, in input order (of `classifier`: `weights`).
    #[arg(long, value_name = "F.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    gpu: GpuArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

/// What goes into the file.
struct Output {
    tensors: Vec<(&'static str, Dtype, Vec<usize>, Vec<u8>)>,
    /// What the rows are of.
    names: Vec<String>,
}

impl Output {
    fn f32(&mut self, name: &'static str, width: usize, values: &[f32]) {
        let shape = vec![values.len() / width, width];
        self.tensors.push((name, Dtype::F32, shape, bytemuck::cast_slice(values).to_vec()));
    }
}

/// Embeds.
pub fn run(args: &Args) -> Result<()> {
    let common = match args {
        Args::Image(args) => &args.common,
        Args::Text(args) => &args.common,
        Args::Classifier(args) => &args.common,
    };
    tipi::check_writable(&common.out)?;
    let gpu = common.gpu.open()?;
    let clip = common.precision.load(&gpu, &common::model_folder(&common.model)?)?;
    common::announce(&gpu);
    let d = clip.config.embedding;
    let mut output = Output { tensors: Vec::new(), names: Vec::new() };
    match args {
        Args::Image(args) => {
            let (features, labels, names) = images(args, &clip)?;
            output.f32("features", d, &features.original);
            if let Some(adapted) = &features.adapted {
                output.f32("adapted", d, adapted);
            }
            if let Some(labels) = labels {
                let bytes = bytemuck::cast_slice(&labels).to_vec();
                output.tensors.push(("labels", Dtype::I64, vec![labels.len()], bytes));
            }
            output.names = names;
        }
        Args::Text(args) => {
            let (features, names) = texts(args, &clip)?;
            output.f32("features", d, &features);
            output.names = names;
        }
        Args::Classifier(args) => {
            let classes = match &args.classes[..] {
                [one] if Path::new(one).is_dir() => {
                    common::open_folder(Path::new(one), &args.common.pictures.walk()?)?.names()
                }
                names => names.to_vec(),
            };
            let classifier = Classifier::new(&clip, &classes, &args.templates)?;
            output.f32("weights", d, &gpu.read::<f32>(&classifier.weights)?);
            output.names = classes;
        }
    }
    let metadata = HashMap::from([("inputs".to_string(), serde_json::to_string(&output.names)?)]);
    let mut views = Vec::new();
    for (name, dtype, shape, bytes) in &output.tensors {
        views.push((*name, TensorView::new(*dtype, shape.clone(), bytes)?));
    }
    let bytes = safetensors::serialize(views, Some(metadata))?;
    tipi::write_atomic(&common.out, &bytes)?;
    let written: Vec<_> = output.tensors.iter().map(|(name, _, shape, _)| format!("{name} {shape:?}")).collect();
    note!("wrote {} to {}", written.join(", "), common.out.display());
    common::finish(&gpu);
    Ok(())
}

fn is_safetensors(input: &Path) -> bool {
    input.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
}

/// Features, labels where asked for, and what each row is of.
type Embedded = (Features, Option<Vec<i64>>, Vec<String>);

fn images(args: &Image, clip: &Clip) -> Result<Embedded> {
    let adapter = args.correction.as_ref().map(|path| adapter_file::File::open(path)?.bind(clip)).transpose()?;
    let correction = adapter.as_ref().map(|adapter| {
        adapter.correction().ok_or_else(|| {
            Error::Invalid(
                "--correction names an adapter without an overlap correction; `tipi fit overlap` makes one".into(),
            )
        })
    });
    let correction = correction.transpose()?;
    let adapters = correction.map(|c| &c.blocks[..]);
    if args.labels {
        return labelled(args, clip, adapters);
    }
    let walk = args.common.pictures.walk()?;
    let mut features = Features::default();
    let mut names = Vec::new();
    let mut pending: Vec<PathBuf> = Vec::new();
    let flush = |pending: &mut Vec<PathBuf>, features: &mut Features, names: &mut Vec<String>| -> Result<()> {
        if !pending.is_empty() {
            let pictures = common::encode_paths(clip, pending, (&args.common.pictures, &walk), adapters)?;
            walk.refuse_picture(&args.common.out)?;
            features.extend(pictures.features);
            names.extend(pictures.paths.iter().map(|p| text::path(p)));
            pending.clear();
        }
        Ok(())
    };
    for input in &args.inputs {
        if !is_safetensors(input) {
            pending.push(input.clone());
            continue;
        }
        flush(&mut pending, &mut features, &mut names)?;
        let size = clip.preprocess.size;
        let (n, pixels) = read_pixels(input, size)?;
        let mut encoder = args.common.pictures.encoder(clip, n, adapters)?;
        let bar = ui::bar(n, "encoding pixels");
        features.extend(encoder.encode_all(&pixels, &mut |n| bar.inc(n as u64))?);
        bar.finish_and_clear();
        let name = text::path(input);
        names.extend((0..n).map(|i| format!("{name}#{i}")));
    }
    flush(&mut pending, &mut features, &mut names)?;
    Ok((features, None, names))
}

/// Pictures of a folder per class, with their labels.
fn labelled(args: &Image, clip: &Clip, adapters: Option<&[Bottleneck]>) -> Result<Embedded> {
    let [input] = &args.inputs[..] else {
        return Err(Error::Invalid("--labels takes one folder with a sub-folder of pictures per class".into()).into());
    };
    let walk = args.common.pictures.walk()?;
    let folder = common::open_folder(Path::new(input), &walk)?;
    walk.refuse_picture(&args.common.out)?;
    let mut encoder = args.common.pictures.encoder(clip, folder.items.len(), adapters)?;
    let bar = ui::bar(folder.items.len(), "encoding pictures");
    let strict = args.common.pictures.strict;
    let all = encode::encode(&mut encoder, &folder.items, &Views::Center, strict, &mut |n| bar.inc(n as u64))?;
    bar.finish_and_clear();
    common::report_skipped(&all.skipped);
    let labels = all.items.iter().map(|item| item.label as i64).collect();
    let names = all.items.iter().map(|item| text::path(&item.path)).collect();
    Ok((all.features, Some(labels), names))
}

fn texts(args: &Text, clip: &Clip) -> Result<(Vec<f32>, Vec<String>)> {
    let mut ids = Vec::new();
    let mut names = Vec::new();
    for input in &args.inputs {
        // Only what says so is a file: a text may have the name of one.
        let file = input.strip_prefix('@').filter(|rest| !rest.starts_with('@'));
        let path = Path::new(file.unwrap_or(input));
        if is_safetensors(path) {
            let rows = read_ids(path)?;
            let input = path.display();
            names.extend((0..rows.len()).map(|i| format!("{input}#{i}")));
            for (i, row) in rows.iter().enumerate() {
                if clip.config.end.position(row).is_none() {
                    return Err(Error::data(path, format!("row {i} of input_ids has no end token")).into());
                }
            }
            ids.extend(rows);
            continue;
        }
        let lines: Vec<String> = if input == "-" {
            input::read_stream(std::io::stdin().lock(), input::limit::LIST)?.lines().map(str::to_string).collect()
        } else if file.is_some() {
            let text = input::read_text(path, input::limit::LIST)?;
            text.lines().map(str::to_string).collect()
        } else {
            if path.is_file() {
                note!("'{input}' is taken as a text: @{input} reads the file");
            }
            // A text that begins with @ has another in front of it.
            vec![input.strip_prefix('@').unwrap_or(input).to_string()]
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
