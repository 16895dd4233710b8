//! `tipi classify`: zero-shot.

use std::path::PathBuf;

use anyhow::Result;
use tipi::low_level::adapt::calibrate::confident;
use tipi::low_level::adapt::zero_shot::Classifier;
use tipi::low_level::text;

use crate::common::{self, FormerGpuArgs, PictureArgs, PrecisionArgs};
use crate::terminal;
use crate::ui;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Model: a folder, or ORG/NAME (or ORG/NAME@REVISION) on the hub.
    #[arg(long, value_name = "DIR|ORG/NAME")]
    model: PathBuf,
    /// Labels, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    labels: Vec<String>,
    /// Prompt with {} for the label; several are averaged.
    #[arg(long = "template", default_value = "a photo of a {}.")]
    templates: Vec<String>,
    /// Pictures and folders of pictures.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// One JSON array on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    gpu: FormerGpuArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

/// Classifies.
pub fn run(args: &Args) -> Result<()> {
    let labels: Vec<String> = args.labels.iter().map(|l| l.trim().to_string()).filter(|l| !l.is_empty()).collect();
    if labels.is_empty() {
        return Err(tipi::Error::Invalid("--labels names no label; separate them by commas".into()).into());
    }
    let walk = args.pictures.walk()?;
    let gpu = args.gpu.open()?;
    let clip = args.precision.load(&gpu, &common::model_folder(&args.model)?)?;
    let classifier = Classifier::new(&clip, &labels, &args.templates)?;
    common::announce(&gpu);
    let pictures = common::encode_paths(&clip, &args.paths, (&args.pictures, &walk), common::tower(None))?;
    let logits = classifier.logits(&pictures.features.original, &gpu)?;
    let confidence = Confidence { temperature: 1.0, least: 0.0 };
    print_ranked(&pictures.paths, &logits, &labels, &confidence, args.json)?;
    common::finish(&gpu);
    Ok(())
}

/// How sure a prediction must be, and how sureness is measured.
pub struct Confidence {
    /// Probabilities are softmax(logits/T).
    pub temperature: f64,
    /// Below this probability the answer is [`UNKNOWN`].
    pub least: f64,
}

/// The answer where no class is likely enough.
const UNKNOWN: &str = "unknown";

/// Prints class, probability and runner-up of each picture.
pub fn print_ranked(
    paths: &[PathBuf],
    logits: &[f32],
    classes: &[String],
    confidence: &Confidence,
    json: bool,
) -> Result<()> {
    let mut rows = Vec::with_capacity(paths.len());
    let mut table = ui::table(&["picture", "class", "probability", "runner-up", "probability"]);
    for (path, row) in paths.iter().zip(logits.chunks_exact(classes.len())) {
        let p = confident(row, confidence.temperature);
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
        let (first, second) = (order[0], order.get(1).copied());
        let sure = p[first] >= confidence.least;
        let shown = text::path(path);
        let mut object = serde_json::json!({
            "path": shown,
            "class": if sure { &classes[first] } else { UNKNOWN },
            "likeliest": classes[first],
            "probability": p[first],
            "runner_up": second.map(|i| &classes[i]),
            "runner_up_probability": second.map(|i| p[i]),
        });
        if let Some(bytes) = text::path_bytes(path) {
            object["path_bytes"] = bytes.into();
        }
        rows.push(object);
        table.add_row([
            shown,
            if sure { classes[first].clone() } else { format!("{UNKNOWN} ({}?)", classes[first]) },
            format!("{:.1} %", 100.0 * p[first]),
            second.map_or("-".into(), |i| classes[i].clone()),
            second.map_or("-".into(), |i| format!("{:.1} %", 100.0 * p[i])),
        ]);
    }
    if json {
        terminal::print_json(&rows, true)?;
    } else {
        terminal::print(&table.to_string())?;
    }
    Ok(())
}
