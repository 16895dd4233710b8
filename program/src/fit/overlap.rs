//! `tipi fit overlap`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use tipi::low_level::adapt::adapter_file::{self, Adapter, Description, Meta};
use tipi::low_level::adapt::overlap;
use tipi::low_level::clip::Clip;
use tipi::low_level::kernels::gemm::Precision;
use tipi::low_level::numbers;
use tipi::low_level::output::Kind;
use tipi::low_level::text;

use super::{checkpoint, say_stopped};
use crate::bars::Bars;
use crate::common::{self, DepthArgs, FormerGpuArgs, LoraArgs, WalkArgs};
use crate::outputs::{self, Beside, ForceArgs};
use crate::stop;
use crate::terminal::note;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Model: a folder, a file of weights, or ORG/NAME (or ORG/NAME@REVISION) on the hub.
    #[arg(long, value_name = "PATH|ORG/NAME")]
    model: PathBuf,
    #[command(flatten)]
    lora: LoraArgs,
    /// Generic pictures: many classes, none of which you want to tell apart later. As the other methods' --data; of what has parts,
    /// train.
    #[arg(long, value_name = "FOLDER|FILE|NAME")]
    data: PathBuf,
    /// Folder of the known datasets.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Adapter file to write. An adapter of that name is overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    /// Passes over the pictures, from 1 to 1000000.
    #[arg(long, default_value_t = 1, value_parser = common::count(1, common::MOST_EPOCHS))]
    epochs: usize,
    /// Seed of initial values, shuffles and dropout.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Width of the bottlenecks, from 1 to 8192.
    #[arg(long, default_value_t = 64, value_parser = common::count(1, overlap::MOST_BOTTLENECK))]
    bottleneck: usize,
    /// How strongly the bottlenecks act: a factor on their branch, from 1e-6 to 1000.
    #[arg(long, default_value_t = 0.03, allow_negative_numbers = true, value_parser = common::within(numbers::BRANCH))]
    scale: f64,
    /// Dropout of the bottlenecks in training, from 0 to 0.99.
    #[arg(long, default_value_t = 0.1, allow_negative_numbers = true, value_parser = common::within(numbers::DROPOUT))]
    dropout: f64,
    /// Learning rate, from 1e-12 to 1000.
    #[arg(long, default_value_t = 8e-3, allow_negative_numbers = true, value_parser = common::within(numbers::RATE))]
    lr: f64,
    /// Pictures per training step, from 1 to 65536.
    #[arg(long, default_value_t = 128, value_parser = common::count(1, common::MOST_BATCH))]
    batch: usize,
    /// Pictures on the GPU at once, from 1 to 65536. Fewer take less memory; the steps stay the same.
    #[arg(long, default_value_t = 32, value_parser = common::count(1, common::MOST_BATCH))]
    micro_batch: usize,
    /// Stop with an error at the first picture that cannot be decoded, folder that cannot be read, or file that looks like a
    /// picture and is of a kind that tipi does not read, instead of skipping it.
    #[arg(long)]
    strict: bool,
    /// Continue from the checkpoint of an interrupted run of the same command.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    walk: WalkArgs,
    #[command(flatten)]
    depth: DepthArgs,
    #[command(flatten)]
    gpu: FormerGpuArgs,
}

/// Fits a correction.
pub fn fit(args: &Args) -> Result<()> {
    let clock = Instant::now();
    let config = overlap::Config {
        bottleneck: args.bottleneck,
        scale: args.scale as f32,
        dropout: args.dropout as f32,
        lr: args.lr,
        batch: args.batch,
        micro_batch: args.micro_batch,
        epochs: args.epochs,
        ..overlap::Config::paper(args.seed)
    };
    let output = args.force.open(&args.out, Kind::Adapter)?;
    let (kept, place) = checkpoint(&output, &args.force, args.resume)?;
    let walk = args.walk.walk(args.strict)?;
    let data = super::open(&args.data, args.root.as_deref(), &walk)?;
    outputs::read_items(&output, data.to_learn_from())?;
    walk.refuse_picture(&args.out)?;
    let model = args.lora.source(&args.model)?;
    common::read_model(&output, &model)?;
    let items = common::sound_pictures(data.to_learn_from(), args.strict)?;
    let gpu = args.gpu.open()?;
    let clip = args.depth.of(Clip::load_source(&gpu, &model, Precision::F32)?);
    common::announce(&gpu);
    stop::listen();
    let mut bars = Bars::new();
    let names = data.classes();
    let correction = overlap::learn(&clip, overlap::Generic::of_files(&items, &names), &config, place, &mut bars);
    bars.clear();
    let (correction, losses) = correction.map_err(|error| say_stopped(error, kept.as_ref()))?;
    note!(
        "overlap: {} of {}, {}, last loss {:.3}, {:.1} s",
        text::count(items.len(), "picture", "pictures"),
        text::count(names.len(), "class", "classes"),
        text::count(config.epochs, "epoch", "epochs"),
        losses.last().copied().unwrap_or(f32::NAN),
        clock.elapsed().as_secs_f64()
    );
    let meta = Meta::new(&clip, &names, Description::of_correction(&config)?, None, args.seed)?;
    let bytes = adapter_file::to_bytes(output.path(), &clip, &meta, &Adapter::Correction(correction))?;
    let name = output.name();
    output.write(&bytes)?;
    note!("wrote {name}");
    kept.map_or(Ok(()), Beside::remove_file)?;
    common::finish(&gpu);
    Ok(())
}
