//! `tipi convert`.

use std::path::PathBuf;

use anyhow::Result;
use tipi::low_level::clip::{ClipConfig, convert};
use tipi::low_level::text;

use crate::bars::Bars;
use crate::common::LoraArgs;
use crate::stop;
use crate::terminal::note;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Model: a folder, a file of weights (.safetensors, .pt, .pth or .bin), or ORG/NAME on the hub.
    #[arg(value_name = "IN")]
    model: PathBuf,
    /// Folder to write, which must not be there yet.
    #[arg(value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    lora: LoraArgs,
    /// Write 16-bit floats, which take half the room. Features differ by about a thousandth.
    #[arg(long)]
    f16: bool,
}

/// Converts.
pub fn run(args: &Args) -> Result<()> {
    convert::free(&args.out)?;
    let source = args.lora.source_of_argument(&args.model)?;
    let (checkpoint, ..) = ClipConfig::open(&source)?;
    stop::listen();
    let mut bars = Bars::new();
    let converted = convert::convert(&source, &checkpoint, &args.out, args.f16, &mut bars);
    bars.clear();
    let converted = converted?;
    if let Some(lora) = checkpoint.lora() {
        note!("merged a LoRA of {lora}");
    }
    if converted.left_out > 0 {
        let count = text::count(converted.left_out, "tensor", "tensors");
        note!("left out {count} that no tower reads, such as whole numbers");
    }
    let count = text::count(converted.tensors, "tensor", "tensors");
    note!("wrote {count}, {:.1} MB, to {}", converted.bytes as f64 / 1e6, args.out.display());
    Ok(())
}
