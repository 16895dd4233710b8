//! `tipi devices`.

use anyhow::Result;
use tipi::low_level::gpu::{DType, DeviceReport, list_devices};
use tipi::low_level::kernels::gemm::{Kernel, Layout, Problem};

use crate::terminal;
use crate::ui;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Print one JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

/// Options of `tipi try-kernels`, which the program calls itself with.
#[derive(clap::Args)]
pub struct TryArgs {
    #[command(flatten)]
    gpu: crate::common::GpuArgs,
    list: std::path::PathBuf,
}

/// Tries kernels whose first use was under way when a process ended (see `tipi::low_level::gpu::DeviceOptions::trial`).
pub fn try_kernels(args: &TryArgs) -> Result<()> {
    anyhow::ensure!(args.gpu.open()?.try_kernels(&args.list)?, "a kernel of {} does not run", args.list.display());
    Ok(())
}

/// Lists the devices.
pub fn run(args: &Args) -> Result<()> {
    let devices = list_devices()?;
    if args.json {
        let rows: Vec<_> = devices
            .iter()
            .map(|a| {
                serde_json::json!({
                    "index": a.index, "name": a.name, "kind": a.kind, "backend": a.backend, "driver": a.driver,
                    "max_binding": a.max_binding, "workgroup_memory": a.workgroup_memory,
                    "max_invocations": a.max_invocations, "subgroup": [a.subgroup.0, a.subgroup.1],
                    "uses": uses(a), "default": a.default,
                })
            })
            .collect();
        terminal::print_json(&rows, true)?;
        return Ok(());
    }
    let mut table =
        ui::table(&["", "device", "kind", "backend", "driver", "binding", "workgroup", "subgroup", "tipi uses"]);
    for a in &devices {
        table.add_row([
            format!("{}{}", a.index, if a.default { " *" } else { "" }),
            a.name.clone(),
            a.kind.to_string(),
            a.backend.clone(),
            a.driver.clone(),
            format!("{} MiB", a.max_binding >> 20),
            format!("{} KiB, {}", a.workgroup_memory >> 10, a.max_invocations),
            if a.subgroup.0 == a.subgroup.1 {
                a.subgroup.0.to_string()
            } else {
                format!("{}–{}", a.subgroup.0, a.subgroup.1)
            },
            uses(a).join(", "),
        ]);
    }
    terminal::print(&format!("{table}\n* is taken without --device"))?;
    Ok(())
}

/// What tipi would use: the GEMM that promises most for a large product (`tipi tune` measures), and optional features.
fn uses(device: &DeviceReport) -> Vec<&'static str> {
    let large = Problem { layout: Layout::Nt, m: 1024, n: 1024, k: 1024, a: DType::F32, b: DType::F32 };
    let gemm = match Kernel::groups(&device.capabilities, &large).concat().first().copied() {
        Some(Kernel::Tile | Kernel::Wide | Kernel::Thin) => "GEMM in workgroup tiles",
        Some(Kernel::Matrix | Kernel::MatrixWide) => "GEMM by matrix units",
        Some(Kernel::Texel) => "GEMM from textures",
        Some(Kernel::Subgroup) => "GEMM in register tiles shared by subgroups",
        Some(Kernel::Rows) | None => "GEMM in register tiles",
    };
    std::iter::once(gemm).chain(device.uses.iter().copied()).collect()
}
