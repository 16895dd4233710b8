//! `tipi predict`.

use std::path::PathBuf;

use anyhow::Result;
use tipi::Model;
use tipi::low_level::adapt::adapter_file;
use tipi::low_level::adapt::evidence::FEW;
use tipi::low_level::numbers;

use crate::answers::{AnswerArgs, Asked, Rule, print_answers, print_labels};
use crate::common::{self, GpuArgs, LoraArgs, PictureArgs, PrecisionArgs};
use crate::explain::{self, Keys};
use crate::paths::PathArgs;
use crate::terminal::note;
use crate::trust::TrustArgs;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Adapter file from `tipi fit`.
    #[arg(long, value_name = "FILE")]
    adapter: PathBuf,
    /// Model: a folder, a file of weights, or ORG/NAME on the hub. By default the folder that the adapter was fitted with, if the model in it is
    /// still the same.
    #[arg(long, value_name = "PATH|ORG/NAME")]
    model: Option<PathBuf>,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    paths: PathArgs,
    /// Answer "unknown" if the likeliest class is less probable than this, from 0 to 1. Probabilities use the temperature that
    /// `tipi fit` fitted.
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = common::within(numbers::PROBABILITY))]
    min_confidence: Option<f64>,
    /// Say which of the pictures that it learned from spoke most for each answer, and how much text said against them.
    #[arg(long, conflicts_with_all = ["csv", "jsonl", "top", "scores", "coverage", "keep", "multi_label"])]
    explain: bool,
    /// Say of each label by itself whether the picture has it. An adapter that was fitted so needs no telling.
    #[arg(long, conflicts_with = "min_confidence")]
    multi_label: bool,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    answers: AnswerArgs,
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
    let paths = args.paths.read()?;
    let file = adapter_file::File::open(&args.adapter)?;
    if args.multi_label && file.meta.thresholds.is_none() {
        let reason = "it has no thresholds, which --multi-label needs: fit it with --multi-label";
        return Err(tipi::Error::AdapterFile { path: args.adapter.clone(), reason: reason.into() }.into());
    }
    if args.min_confidence.is_some() && file.meta.thresholds.is_some() {
        let reason = "--min-confidence: the adapter was fitted with --multi-label, and has a threshold for each label";
        return Err(tipi::Error::Invalid(reason.into()).into());
    }
    if args.trust.some() && file.meta.thresholds.is_some() {
        let reason = "--coverage and --keep: the adapter was fitted with --multi-label, where a picture may be of any number of classes";
        return Err(tipi::Error::Invalid(reason.into()).into());
    }
    if args.min_confidence.is_some() {
        match (file.meta.temperature, file.meta.evidence) {
            (None, _) => note!(
                "the adapter has no temperature, because there were no pictures to fit it on: probabilities may be too high"
            ),
            (_, Some(counts)) if counts.all() < FEW => {
                note!("confidence rests on {counts}: with so few it is a guess");
            }
            _ => {}
        }
    }
    let gpu = args.gpu.open()?;
    let clip = match &args.model {
        Some(model) => args.precision.load(&gpu, &args.lora.source(model)?)?,
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
    let model = Model::from(args.pictures.depth.of(clip));
    let classifier = match model.bind(&file) {
        // The file holds a correction instead.
        Err(error @ tipi::Error::Invalid(_)) => {
            return Err(tipi::Error::Invalid(format!("{error} (`tipi fit tip-adapter --correction`)")).into());
        }
        other => args.trust.apply(other?.asking_for(least)?)?,
    };
    common::announce(&gpu);
    let wanted = args.answers.needs_texts(classifier.classes().len());
    let texts = if wanted { model.texts_of(&file)? } else { None };
    let listed = paths.list(&walk)?;
    if args.explain {
        match Keys::of(&args.adapter, &file, classifier.model().clip())? {
            Some(keys) => {
                explain::run(&classifier, &keys, &listed, &args.pictures, args.answers.json())?;
                common::finish(&gpu);
                return Ok(());
            }
            None => note!("{} has no keys: no single pictures speak for its answers", file.meta.method.name),
        }
    }
    let asked = Asked { classifier: &classifier, texts: texts.as_ref() };
    match &file.meta.thresholds {
        Some(each) => {
            print_labels(&asked, &Rule::Thresholds(each.clone()), &listed, (&args.pictures, &args.answers))?;
        }
        None => print_answers(&asked, &listed, &args.pictures, &args.answers)?,
    }
    common::finish(&gpu);
    Ok(())
}
