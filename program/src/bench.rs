//! `tipi bench`: how close each kernel comes to the peak of the device.

use std::time::Duration;

use anyhow::Result;
use tipi::low_level::roofline;

use crate::common::{self, FormerGpuArgs};
use crate::terminal;
use crate::ui;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Pictures in a batch, 50 tokens each, from 1 to 1024.
    #[arg(long, default_value_t = 8, value_parser = common::count(1, 1024))]
    pictures: usize,
    /// Time for all repetitions of one kernel, in milliseconds, from 1 to 3600000.
    #[arg(long, default_value_t = 500, value_name = "MS", value_parser = common::count(1, 3_600_000))]
    budget: usize,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gpu: FormerGpuArgs,
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<()> {
    let gpu = args.gpu.open()?;
    common::announce(&gpu);
    let bar = ui::bar(roofline::KERNELS, "timing kernels");
    let measured = roofline::measure(&gpu, args.pictures, Duration::from_millis(args.budget as u64), &mut |row| {
        ui::show(&bar, &row.name);
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    if args.json {
        terminal::print_json(&measured, true)?;
        return Ok(());
    }
    let mut table = ui::table(&["kernel", "time", "GFLOP/s", "GB/s", "of peak FLOP/s", "of peak bandwidth"]);
    for row in &measured.rows {
        let (arithmetic, memory) = measured.shares(row);
        table.add_row([
            row.name.clone(),
            format!("{:.3} ms", row.seconds * 1e3),
            format!("{:.1}", row.flops / row.seconds / 1e9),
            format!("{:.2}", row.bytes / row.seconds / 1e9),
            format!("{:.1} %", 100.0 * arithmetic),
            format!("{:.1} %", 100.0 * memory),
        ]);
    }
    terminal::print(&format!(
        "{table}\n{}\nits own peaks: {:.1} GFLOP/s in registers, {:.2} GB/s copying a buffer of 64 MiB",
        measured.device,
        measured.peak_flops / 1e9,
        measured.peak_bytes / 1e9
    ))?;
    common::finish(&gpu);
    Ok(())
}
