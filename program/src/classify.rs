//! `tipi classify`: zero-shot.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tipi::low_level::data::Walk;
use tipi::low_level::text;
use tipi::{Classifier, Model, Picture, Prediction};

use crate::bars::Bars;
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
    /// Prompt, with {} in place of the label. Give several to average them.
    #[arg(long = "template", default_value = "a photo of a {}.")]
    templates: Vec<String>,
    /// Pictures and folders of pictures.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Print one JSON array instead of a table.
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
        return Err(tipi::Error::Invalid("--labels has no label in it; separate labels by commas".into()).into());
    }
    let walk = args.pictures.walk()?;
    let gpu = args.gpu.open()?;
    let clip = args.precision.load(&gpu, &common::model_folder(&args.model)?)?;
    let model = Model::from(args.pictures.depth.of(clip));
    let classifier = model.zero_shot(&labels, &args.templates)?;
    common::announce(&gpu);
    print_answers(&classifier, &args.paths, (&args.pictures, &walk), args.json)?;
    common::finish(&gpu);
    Ok(())
}

/// The answer if no class is likely enough.
const UNKNOWN: &str = "unknown";

/// Prints class, probability and runner-up of pictures, files and those in folders. A broken picture inside a folder is named,
/// skipped and counted; one that was named itself, or any with `--strict`, is an error.
pub fn print_answers(
    classifier: &Classifier,
    inputs: &[PathBuf],
    (args, walk): (&PictureArgs, &Walk),
    json: bool,
) -> Result<()> {
    let listed = common::list(inputs, walk)?;
    let pictures: Vec<Picture> = listed.iter().map(|(path, _)| Picture::file(path)).collect();
    let classifier = args.batch().map_or(classifier.clone(), |batch| classifier.in_batches_of(batch));
    let mut bars = Bars::new();
    let mut answers: Vec<(&Path, Prediction)> = Vec::new();
    let mut skipped = Vec::new();
    let looked = classifier.predict_each(&pictures, &mut bars, &mut |number, answer| {
        let (path, explicit) = &listed[number];
        match answer {
            Ok(answer) => answers.push((path, answer)),
            Err(error) if *explicit || args.strict => return Err(error),
            Err(error) => skipped.push(error),
        }
        Ok(())
    });
    bars.clear();
    looked?;
    common::report_skipped(&skipped);
    if answers.is_empty() {
        return Err(tipi::Error::Invalid("none of the pictures could be decoded".into()).into());
    }
    let mut rows = Vec::with_capacity(answers.len());
    let mut table = ui::table(&["picture", "class", "probability", "runner-up", "probability"]);
    for (path, answer) in &answers {
        let (best, second) = (answer.best(), answer.top(2).nth(1));
        let shown = text::path(path);
        let mut object = serde_json::json!({
            "path": shown,
            "class": answer.class().unwrap_or(UNKNOWN),
            "likeliest": best.name,
            "probability": best.probability,
            "runner_up": second.map(|second| second.name),
            "runner_up_probability": second.map(|second| second.probability),
        });
        if let Some(bytes) = text::path_bytes(path) {
            object["path_bytes"] = bytes.into();
        }
        rows.push(object);
        table.add_row([
            shown,
            answer.class().map_or_else(|| format!("{UNKNOWN} ({}?)", best.name), String::from),
            format!("{:.1} %", 100.0 * best.probability),
            second.map_or("-".into(), |second| second.name.to_string()),
            second.map_or("-".into(), |second| format!("{:.1} %", 100.0 * second.probability)),
        ]);
    }
    if json {
        terminal::print_json(&rows, true)?;
    } else {
        terminal::print(&table.to_string())?;
    }
    Ok(())
}
