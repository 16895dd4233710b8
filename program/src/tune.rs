//! `tipi tune`: which GEMM kernel is best on this device, by class of problems.

use std::collections::HashSet;

use anyhow::Result;
use tipi::low_level::gpu::DType;
use tipi::low_level::kernels::gemm::{self, Kernel, Layout, Problem, Timing, Timings};
use tipi::low_level::text;

use crate::common::{self, FormerGpuArgs};
use crate::terminal::{self, note};
use crate::ui;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Forget what was measured on this device, and measure nothing.
    #[arg(long)]
    forget: bool,
    /// Numbers of rows to measure, each from 1 to 65536: the pictures, tokens or texts that are computed at a time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 50, 500, 4000], value_parser = common::count(1, 65_536))]
    rows: Vec<usize>,
    /// Print one JSON array instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gpu: FormerGpuArgs,
}

/// Problems of CLIPs of all published sizes with so many rows; one of each class.
fn problems(rows: &[usize]) -> Vec<Problem> {
    let mut all = Vec::new();
    for b in [DType::F32, DType::F16, DType::I8] {
        for m in rows.iter().copied() {
            for (n, k) in [(512, 512), (768, 3072), (3072, 768), (100, 512)] {
                all.push(Problem { layout: Layout::Nt, m, n, k, a: DType::F32, b });
                // Rows for matrix units.
                all.push(Problem { layout: Layout::Nt, m, n, k, a: DType::F16, b });
                if m > 1 {
                    all.push(Problem { layout: Layout::Nn, m, n: k, k: n, a: DType::F32, b });
                }
            }
        }
        if b == DType::F32 {
            // Weight gradients: the rows are what is summed over.
            for k in rows.iter().copied() {
                all.extend([(512, 512), (768, 64)].map(|(m, n)| Problem {
                    layout: Layout::Tn,
                    m,
                    n,
                    k,
                    a: DType::F32,
                    b,
                }));
            }
        }
    }
    let mut seen = HashSet::new();
    all.retain(|p| seen.insert(p.class()));
    all
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<()> {
    let gpu = args.gpu.open_to_measure()?;
    common::announce(&gpu);
    if args.forget {
        gpu.forget_measured();
        note!("forgot what was measured on {}", gpu.name());
        return Ok(());
    }
    let caps = gpu.capabilities();
    let open: Vec<Problem> = problems(&args.rows)
        .into_iter()
        .filter(|p| Kernel::groups(caps, p).first().is_some_and(|g| g.len() > 1))
        .collect();
    let bar = ui::bar(open.len(), "measuring classes of products");
    let mut measured: Vec<(Problem, Timings)> = Vec::new();
    for problem in open {
        ui::show(&bar, &problem.class());
        measured.push((problem, gemm::measure(&gpu, &problem)?));
        bar.inc(1);
    }
    bar.finish_and_clear();
    if args.json {
        let rows: Vec<_> = measured
            .iter()
            .map(|(problem, timings)| {
                let each: Vec<_> = timings
                    .all
                    .iter()
                    .map(|t| serde_json::json!({ "kernel": t.kernel.name(), "gflops": t.seconds.map(|s| t.flops / s / 1e9) }))
                    .collect();
                serde_json::json!({ "class": problem.class(), "chosen": timings.chosen.name(), "timings": each })
            })
            .collect();
        terminal::print_json(&rows, true)?;
        return Ok(());
    }
    let mut table = ui::table(&["products", "used", "GFLOP/s of each"]);
    for (problem, timings) in &measured {
        let mut sorted: Vec<(&Timing, f64)> =
            timings.all.iter().map(|t| (t, t.seconds.map_or(0.0, |s| t.flops / s / 1e9))).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        let each: Vec<String> = sorted
            .iter()
            .map(|(t, rate)| match t.seconds {
                Some(_) => format!("{} {rate:.1}", t.kernel.name()),
                None => format!("{} wrong", t.kernel.name()),
            })
            .collect();
        table.add_row([problem.class(), timings.chosen.name().to_string(), each.join(", ")]);
    }
    let kept = gpu.measured_file().map_or("nowhere".into(), |path| text::escaped(&text::path(path)).into_owned());
    let only = if measured.is_empty() { "\nno class of products has more than one kernel here" } else { "" };
    terminal::print(&format!("{table}{only}\nkept in {kept}; `tipi tune --forget` deletes it"))?;
    Ok(())
}
