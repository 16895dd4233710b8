//! `tipi fit`: one file per family of methods.

mod caches;
mod overlap;
mod pini;

pub use pini::NoiseArgs;

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use tipi::adapt::adapter_file::{self, Adapter, Meta, Method};
use tipi::adapt::{accuracy, calibrate};
use tipi::clip::Clip;
use tipi::data::{Folder, Item, Split};
use tipi::encode::{self, Encoded, Views};
use tipi::gpu::Gpu;
use tipi::nn::Bottleneck;
use tipi::output::{Kind, Output};
use tipi::text;

use crate::common::{self, GpuArgs, PictureArgs};
use crate::outputs::{self, ForceArgs};
use crate::terminal::note;
use crate::ui;

/// Methods.
#[derive(Subcommand)]
pub enum Args {
    /// Tip-Adapter: a cache of the pictures' features; no training. With --correction: Tip-Adapter++.
    #[command(visible_alias = "tip-adapter")]
    Tip(caches::Tip),
    /// Tip-Adapter-F: a cache whose keys are trained.
    #[command(visible_alias = "tip-adapter-f")]
    TipF(caches::TipF),
    /// Tip-X: a cache, and how alike pictures are in what the text says of them. With --correction: Tip-X++.
    TipX(caches::TipX),
    /// The intra-modal overlap correction: adapters in the image tower, learned from generic pictures.
    Overlap(overlap::Args),
    /// PiNI: noise learned on prompts and image features.
    Pini(pini::Args),
}

/// Fits.
pub fn run(args: &Args) -> Result<()> {
    match args {
        Args::Tip(args) => caches::fit_tip(args),
        Args::TipF(args) => caches::fit_tip_f(args),
        Args::TipX(args) => caches::fit_tip_x(args),
        Args::Overlap(args) => overlap::fit(args),
        Args::Pini(args) => pini::fit(args),
    }
}

/// Options that all few-shot methods have.
#[derive(clap::Args)]
struct Common {
    /// Model: a folder, or ORG/NAME (or ORG/NAME@REVISION) on the hub.
    #[arg(long, value_name = "DIR|ORG/NAME")]
    model: PathBuf,
    /// Folder with one sub-folder of pictures per class.
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Pictures per class to learn from, from 1 to 1000000.
    #[arg(long, value_parser = common::count(1, common::MOST_SHOTS))]
    shots: usize,
    /// Seed of the choice of pictures, of views and of training.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Adapter file to write; an adapter that is there already is overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    gpu: GpuArgs,
}

/// What fitting starts from.
struct Start {
    gpu: Gpu,
    clip: Clip,
    folder: Folder,
    split: Split,
}

impl Common {
    /// Looks at where the adapter is to be written.
    fn output(&self) -> Result<Output> {
        self.force.open(&self.out, Kind::Adapter)
    }

    /// Looks at everything that can be wrong before the first long step: the pictures, the model, and whether `output` is
    /// among them.
    fn start(&self, output: &Output) -> Result<Start> {
        let walk = self.pictures.walk()?;
        let folder = common::open_folder(&self.data, &walk)?;
        outputs::read_items(output, &folder.items)?;
        walk.refuse_picture(&self.out)?;
        let model = common::model_folder(&self.model)?;
        output.reads_folder(&model, "a file of the model")?;
        let shots = (self.shots, self.shots.min(4));
        let bar = ui::bar(folder.items.len(), "checking pictures");
        let chosen = encode::choose(&folder, shots, self.seed, self.pictures.strict, &|n| bar.set_position(n as u64))?;
        bar.finish_and_clear();
        common::report_skipped(&chosen.skipped);
        let gpu = self.gpu.open()?;
        let clip = Clip::load(&gpu, &model)?;
        common::announce(&gpu);
        Ok(Start { gpu, clip, folder, split: chosen.split })
    }

    /// Encodes pictures under `views`, by the tower with adapters too where given.
    fn encode(&self, clip: &Clip, items: &[Item], views: &Views, adapters: Option<&[Bottleneck]>) -> Result<Encoded> {
        let total = items.len() * views.count();
        let mut encoder = self.pictures.encoder(clip, total, adapters)?;
        let bar = ui::bar(total, "encoding pictures");
        let encoded = encode::encode(&mut encoder, items, views, true, &mut |n| bar.inc(n as u64))?;
        bar.finish_and_clear();
        Ok(encoded)
    }

    /// Fits the temperature on validation pictures, says how many of them are right, and writes the adapter.
    fn save(
        &self,
        output: Output,
        Start { clip, folder, .. }: &Start,
        method: Method,
        adapter: &Adapter,
        val: &Encoded,
    ) -> Result<()> {
        let (names, labels) = (folder.names(), val.labels());
        let mut meta = Meta::new(clip, &names, method, Some(self.shots), self.seed)?;
        if labels.is_empty() {
            note!("no pictures are left to fit a temperature on: probabilities are the softmax of the logits");
        } else {
            let logits = adapter.logits(clip, &val.features)?;
            let temperature = calibrate::temperature(&logits, &labels, names.len())?;
            note_right(labels.len(), accuracy(&logits, &labels, names.len()));
            note!("temperature {:.3}", temperature.unwrap_or(1.0));
            meta = meta.with_temperature(temperature);
        }
        let bytes = adapter_file::to_bytes(output.path(), clip, &meta, adapter)?;
        let name = output.name();
        output.write(&bytes)?;
        note!("wrote {name}");
        Ok(())
    }
}

/// Says how well validation pictures are told apart.
fn note_right(count: usize, share: f64) {
    let pictures = text::count(count, "validation picture", "validation pictures");
    note!("{pictures}: {:.1} % right", 100.0 * share);
}
