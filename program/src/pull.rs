//! `tipi pull`.

use anyhow::Result;
use tipi::low_level::hub::{Hub, REVISION};

use crate::terminal;
use crate::ui;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// The model on the hub.
    #[arg(value_name = "ORG/NAME")]
    model: String,
    /// Branch, tag or commit.
    #[arg(long, default_value = REVISION)]
    revision: String,
}

/// Fetches the missing files of a model into the cache, and prints its folder.
pub fn run(args: &Args) -> Result<()> {
    let bar = ui::bytes();
    let folder =
        Hub::from_env()?.pull(&args.model, &args.revision, &mut |p| ui::show_fetch(&bar, p.file, p.done, p.total))?;
    bar.finish_and_clear();
    terminal::print_path(&folder)?;
    Ok(())
}
