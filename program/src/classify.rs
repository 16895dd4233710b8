//! `tipi classify`: zero-shot.

use std::path::PathBuf;

use anyhow::Result;
use tipi::Model;
use tipi::low_level::numbers;

use crate::answers::{AnswerArgs, Asked, Rule, print_answers, print_labels};
use crate::common::{self, FormerGpuArgs, LoraArgs, PictureArgs, PrecisionArgs};
use crate::labels::LabelArgs;
use crate::paths::PathArgs;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Model: a folder, a file of weights, or ORG/NAME (or ORG/NAME@REVISION) on the hub.
    #[arg(long, value_name = "PATH|ORG/NAME")]
    model: PathBuf,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    paths: PathArgs,
    /// Ask for each label by itself whether the picture has it: its prompts against its --negation, or by a SigLIP's own
    /// probability.
    #[arg(long)]
    multi_label: bool,
    /// Prompt for pictures without a label, with {} in its place. Give several to average them [default: 'a photo without a
    /// {}.', or none for a SigLIP]
    #[arg(long, requires = "multi_label", value_name = "PROMPT")]
    negation: Vec<String>,
    /// A picture has a label if that is at least so probable, from 0 to 1.
    #[arg(long, requires = "multi_label", default_value_t = 0.5, value_name = "P", allow_negative_numbers = true,
        value_parser = common::within(numbers::PROBABILITY))]
    threshold: f64,
    #[command(flatten)]
    answers: AnswerArgs,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    gpu: FormerGpuArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

/// What is asked of pictures without a label, where nothing else is said.
const NEGATION: &str = "a photo without a {}.";

/// Classifies.
pub fn run(args: &Args) -> Result<()> {
    let labels = args.labels.read()?;
    let walk = args.pictures.walk()?;
    let paths = args.paths.read()?;
    let gpu = args.gpu.open()?;
    let clip = args.precision.load(&gpu, &args.lora.source(&args.model)?)?;
    let model = Model::from(args.pictures.depth.of(clip));
    if args.multi_label {
        // A SigLIP says of a text by itself how probably it describes a picture.
        let own = model.clip().config.logit_bias && args.negation.is_empty();
        let usual = [NEGATION.to_string()];
        let negations = if args.negation.is_empty() { &usual } else { &args.negation[..] };
        let classifier = match own {
            true => args.labels.classifier(&model, &labels)?,
            false => args.labels.with_negations(&model, &labels, negations)?,
        };
        common::announce(&gpu);
        let listed = paths.list(&walk)?;
        let names = labels.into_iter().map(|label| label.name).collect();
        let least = args.threshold;
        let rule = match own {
            true => Rule::Sigmoid { names, bias: model.clip().logit_bias.into(), least },
            false => Rule::Negation { names, least },
        };
        let asked = Asked { classifier: &classifier, texts: Some(&classifier) };
        print_labels(&asked, &rule, &listed, (&args.pictures, &args.answers))?;
        common::finish(&gpu);
        return Ok(());
    }
    let classifier = args.labels.classifier(&model, &labels)?;
    common::announce(&gpu);
    let listed = paths.list(&walk)?;
    let asked = Asked { classifier: &classifier, texts: Some(&classifier) };
    print_answers(&asked, &listed, &args.pictures, &args.answers)?;
    common::finish(&gpu);
    Ok(())
}
