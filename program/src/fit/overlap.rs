//! `tipi fit overlap`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use tipi::Error;
use tipi::low_level::adapt::adapter_file::{self, Adapter, Description, Meta};
use tipi::low_level::adapt::dino::{self, SelfSupervised};
use tipi::low_level::adapt::overlap;
use tipi::low_level::clip::Clip;
use tipi::low_level::data::{Found, Item, Walk, list_pictures_with};
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
    /// train. With --self-supervised any folder of pictures, all below it taken (where it has train and val or test, train).
    #[arg(long, value_name = "FOLDER|FILE|NAME")]
    data: PathBuf,
    /// Learn without labels (DINO): a student says of small crops of a picture what its own running mean says of large ones. It
    /// takes longer, and more memory.
    #[arg(long)]
    self_supervised: bool,
    /// With --self-supervised: outputs of the random head that crops are compared through, from 2 to 1048576. It takes most of the
    /// memory.
    #[arg(long, default_value_t = 65536, requires = "self_supervised", value_parser = common::count(2, dino::MOST_WIDTH))]
    head: usize,
    /// With --self-supervised: local crops of each picture beside two global ones, from 1 to 96.
    #[arg(long, default_value_t = 10, requires = "self_supervised", value_parser = common::count(1, dino::MOST_LOCAL_CROPS))]
    local_crops: usize,
    /// With --self-supervised: the share of the running mean that stays at a step, from 0 to 1, at the beginning; 1 at the end.
    #[arg(long, default_value_t = 0.9998, allow_negative_numbers = true, requires = "self_supervised",
          value_parser = common::within(numbers::DECAY))]
    momentum: f64,
    /// Folder of the known datasets.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Adapter file to write. An adapter of that name is overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    /// For lists of very many pictures: decode none before training begins. One that cannot be decoded takes no part in its step
    /// (--strict makes that an error), and --resume goes by the files' names, sizes and times.
    #[arg(long, conflicts_with = "self_supervised")]
    stream: bool,
    /// Passes over the pictures, from 1 to 1000000 [default: 1; without labels 10].
    #[arg(long, value_parser = common::count(1, common::MOST_EPOCHS))]
    epochs: Option<usize>,
    /// Seed of initial values, shuffles and dropout.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Width of the bottlenecks, from 1 to 8192.
    #[arg(long, default_value_t = 64, value_parser = common::count(1, overlap::MOST_BOTTLENECK))]
    bottleneck: usize,
    /// How strongly the bottlenecks act: a factor on their branch, from 1e-6 to 1000 [default: 0.03; without labels 0.1].
    #[arg(long, allow_negative_numbers = true, value_parser = common::within(numbers::BRANCH))]
    scale: Option<f64>,
    /// Dropout of the bottlenecks in training, from 0 to 0.99 [default: 0.1; without labels there is none].
    #[arg(long, allow_negative_numbers = true, conflicts_with = "self_supervised", value_parser = common::within(numbers::DROPOUT))]
    dropout: Option<f64>,
    /// Learning rate, from 1e-12 to 1000 [default: 8e-3; without labels 8e-4 for each 256 pictures of a step].
    #[arg(long, allow_negative_numbers = true, value_parser = common::within(numbers::RATE))]
    lr: Option<f64>,
    /// Pictures per training step, from 1 to 65536 [default: 128; without labels 120].
    #[arg(long, value_parser = common::count(1, common::MOST_BATCH))]
    batch: Option<usize>,
    /// Pictures on the GPU at once, from 1 to 65536 [default: 32; without labels 8]. Fewer take less memory; the steps stay the same.
    #[arg(long, value_parser = common::count(1, common::MOST_BATCH))]
    micro_batch: Option<usize>,
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

/// What is learned from.
struct Pictures {
    items: Vec<Item>,
    /// The classes by label; none where labels are not looked at.
    names: Vec<String>,
}

impl Args {
    fn config(&self) -> overlap::Config {
        let base = match self.self_supervised {
            true => overlap::Config::without_labels(self.seed, self.batch.unwrap_or(dino::BATCH)),
            false => overlap::Config::paper(self.seed),
        };
        let (head, local_crops, momentum) = (self.head, self.local_crops, self.momentum);
        overlap::Config {
            bottleneck: self.bottleneck,
            scale: self.scale.map_or(base.scale, |scale| scale as f32),
            dropout: self.dropout.map_or(base.dropout, |dropout| dropout as f32),
            lr: self.lr.unwrap_or(base.lr),
            batch: self.batch.unwrap_or(base.batch),
            micro_batch: self.micro_batch.unwrap_or(base.micro_batch),
            epochs: self.epochs.unwrap_or(base.epochs),
            self_supervised: base.self_supervised.map(|settings| SelfSupervised {
                head,
                local_crops,
                momentum,
                ..settings
            }),
            ..base
        }
    }

    fn pictures(&self, walk: &Walk) -> Result<Pictures> {
        let found = || super::open(&self.data, self.root.as_deref(), walk);
        if !self.self_supervised {
            let data = found()?;
            return Ok(Pictures { items: data.to_learn_from().to_vec(), names: data.classes() });
        }
        // Without labels a folder needs no class folders; what has parts keeps those that are not to be learned from.
        let items = match self.data.is_dir() && !Found::has_parts(&self.data, walk)? {
            true => {
                let paths = list_pictures_with(&self.data, walk)?;
                common::say_walk(walk);
                paths.into_iter().map(|path| Item { path, label: 0 }).collect()
            }
            false => found()?.to_learn_from().to_vec(),
        };
        if items.len() < 2 {
            let reason = "there is one picture; training without labels needs two at least: add some";
            return Err(Error::data(&self.data, reason).into());
        }
        Ok(Pictures { items, names: Vec::new() })
    }
}

/// Fits a correction.
pub fn fit(args: &Args) -> Result<()> {
    let clock = Instant::now();
    let config = args.config();
    let output = args.force.open(&args.out, Kind::Adapter)?;
    let (kept, place) = checkpoint(&output, &args.force, args.resume)?;
    let walk = args.walk.walk(args.strict)?;
    let Pictures { items, names } = args.pictures(&walk)?;
    outputs::read_items(&output, &items)?;
    walk.refuse_picture(&args.out)?;
    let model = args.lora.source(&args.model)?;
    common::read_model(&output, &model)?;
    let items = if args.stream { items } else { common::sound_pictures(&items, args.strict)? };
    let gpu = args.gpu.open()?;
    let clip = args.depth.of(Clip::load_source(&gpu, &model, Precision::F32)?);
    common::announce(&gpu);
    stop::listen();
    let mut bars = Bars::new();
    let generic = overlap::Generic::of_files(&items, &names);
    let correction = match args.stream {
        true => overlap::learn_streaming(&clip, generic, (&config, args.strict), place, &mut bars),
        false => overlap::learn(&clip, generic, &config, place, &mut bars),
    };
    bars.clear();
    let (correction, losses) = correction.map_err(|error| say_stopped(error, kept.as_ref()))?;
    note!(
        "overlap: {} {}, {}, last loss {:.3}, {:.1} s",
        text::count(items.len(), "picture", "pictures"),
        match args.self_supervised {
            true => "without labels".to_string(),
            false => format!("of {}", text::count(names.len(), "class", "classes")),
        },
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
