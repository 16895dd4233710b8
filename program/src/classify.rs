//! `tipi classify`: zero-shot.

use std::path::PathBuf;

use anyhow::Result;
use tipi::Model;

use crate::answers::{AnswerArgs, Asked, print_answers};
use crate::common::{self, FormerGpuArgs, PictureArgs, PrecisionArgs};
use crate::labels::LabelArgs;
use crate::paths::PathArgs;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Model: a folder, or ORG/NAME (or ORG/NAME@REVISION) on the hub.
    #[arg(long, value_name = "DIR|ORG/NAME")]
    model: PathBuf,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    paths: PathArgs,
    #[command(flatten)]
    answers: AnswerArgs,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    gpu: FormerGpuArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

/// Classifies.
pub fn run(args: &Args) -> Result<()> {
    let labels = args.labels.read()?;
    let walk = args.pictures.walk()?;
    let paths = args.paths.read()?;
    let gpu = args.gpu.open()?;
    let model = Model::from(args.precision.load(&gpu, &common::model_folder(&args.model)?)?);
    let classifier = args.labels.classifier(&model, &labels)?;
    common::announce(&gpu);
    let listed = paths.list(&walk)?;
    let asked = Asked { classifier: &classifier, texts: Some(&classifier) };
    print_answers(&asked, &listed, &args.pictures, &args.answers)?;
    common::finish(&gpu);
    Ok(())
}
