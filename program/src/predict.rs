//! `tipi predict`.

use std::path::PathBuf;

use anyhow::Result;
use tipi::Model;
use tipi::low_level::adapt::adapter_file;
use tipi::low_level::numbers;

use crate::classify::print_answers;
use crate::common::{self, GpuArgs, PictureArgs, PrecisionArgs};
use crate::terminal::note;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Adapter file from `tipi fit`.
    #[arg(long, value_name = "FILE")]
    adapter: PathBuf,
    /// Model: a folder, or ORG/NAME on the hub. By default the folder that the adapter was fitted with, if the model in it is
    /// still the same.
    #[arg(long, value_name = "DIR|ORG/NAME")]
    model: Option<PathBuf>,
    /// Pictures and folders of pictures.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Answer "unknown" if the likeliest class is less probable than this, from 0 to 1. Probabilities use the temperature that
    /// `tipi fit` fitted on validation pictures.
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = common::within(numbers::PROBABILITY))]
    min_confidence: Option<f64>,
    /// Print one JSON array instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    gpu: GpuArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

/// Predicts.
pub fn run(args: &Args) -> Result<()> {
    let least = args.min_confidence.unwrap_or(0.0);
    let walk = args.pictures.walk()?;
    let file = adapter_file::File::open(&args.adapter)?;
    if args.min_confidence.is_some() && file.meta.temperature.is_none() {
        note!(
            "the adapter has no temperature, because there were no validation pictures: probabilities may be too high"
        );
    }
    let gpu = args.gpu.open()?;
    let clip = match &args.model {
        Some(model) => args.precision.load(&gpu, &common::model_folder(model)?)?,
        None => {
            let clip = file.load_model(&gpu, args.precision.stored()).map_err(|error| match error {
                tipi::Error::AdapterFile { path, reason } => {
                    tipi::Error::AdapterFile { path, reason: format!("{reason} (--model says where it is)") }
                }
                other => other,
            })?;
            note!("model: {}", clip.folder().display());
            clip
        }
    };
    let classifier = match Model::from(args.pictures.depth.of(clip)).bind(&file) {
        // The file holds a correction instead.
        Err(error @ tipi::Error::Invalid(_)) => {
            return Err(tipi::Error::Invalid(format!("{error} (`tipi fit tip-adapter --correction`)")).into());
        }
        other => other?.asking_for(least)?,
    };
    common::announce(&gpu);
    print_answers(&classifier, &args.paths, (&args.pictures, &walk), args.json)?;
    common::finish(&gpu);
    Ok(())
}
