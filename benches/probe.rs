//! tipi's times for `benches/peers/compare.py`: one JSON object a line, {"engine", "case", "seconds"}.
//!
//! `cargo bench --bench probe -- gemm|image|pini CLASSES|gemm-large [SIDE]|image-large [BATCH]`
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use support::best;

use tipi::gpu::{DeviceOptions, Gpu, Plan, Recorder};
use tipi::kernels::gemm::{self, Epilogue, Kernel, Layout, Precision};
use tipi::kernels::peak;

fn report(case: &str, engine: &str, seconds: f64, more: &str) {
    println!("{{\"engine\": \"{engine}\", \"case\": \"{case}\", \"seconds\": {seconds}{more}}}");
}

fn megabytes(plan: &Plan) -> String {
    format!(", \"megabytes\": {:.1}, \"gflop\": {:.2}", plan.allocated_bytes() as f64 / 1e6, plan.flops() / 1e9)
}

fn product(gpu: &Gpu, engine: &str, kernel: Option<Kernel>) {
    let (m, n, k) = (1600, 3072, 768);
    let a = gpu.upload("a", &support::noise(1, m * k), &[m, k]).unwrap();
    let values = support::noise(2, n * k);
    let mut rec = Recorder::new(gpu);
    // As a frozen layer has it: B in the form that the device's kernels read.
    let c = match kernel {
        None => {
            let b = gemm::freeze(gpu, "b", &values, [n, k], Precision::F32).unwrap();
            gemm::matmul(&mut rec, Layout::Nt, &a, &b, &Epilogue::default())
        }
        Some(kernel) => {
            let b = gpu.upload("b", &values, &[n, k]).unwrap();
            gemm::matmul_with(&mut rec, kernel, Layout::Nt, &a, &b, &Epilogue::default())
        }
    };
    let plan = rec.finish().unwrap();
    let repeats = if kernel == Some(Kernel::Tile) { 1 } else { 5 };
    report("gemm", engine, best(gpu, repeats, &|| plan.run().unwrap()), "");
    drop(c);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let gpu = Gpu::open(&DeviceOptions { checked: Some(false), ..Default::default() }).unwrap();
    eprintln!("device: {}", gpu.describe());
    match args.first().map(String::as_str) {
        Some("gemm") => {
            product(&gpu, "tipi", None);
            product(
                &gpu,
                "tipi, operands in buffers",
                Some(Kernel::Subgroup).filter(|k| k.runs_on(gpu.capabilities())),
            );
            product(&gpu, "plain 64x64x32 tile", Some(Kernel::Tile));
        }
        Some("image") => {
            for (precision, engine) in [(Precision::F32, "tipi"), (Precision::F16, "tipi, f16 weights")] {
                let clip = support::clip(&gpu, &support::B32, precision);
                let step = clip.image.plan(8).unwrap();
                report("image", engine, best(&gpu, 3, &|| step.plan.run().unwrap()), &megabytes(&step.plan));
            }
        }
        Some("pini") => {
            let classes = args.get(1).and_then(|c| c.parse().ok()).unwrap_or(100);
            let clip = support::clip(&gpu, &support::B16_TEXT, Precision::F32);
            support::pini_step(&clip, classes, 32, |run, plan| {
                let seconds = best(&gpu, 2, run);
                report(&format!("pini {classes}"), "tipi", seconds, &megabytes(plan));
            });
        }
        // What a discrete GPU is asked for: a large product in f32 and f16, as a share of the device's own peak.
        Some("gemm-large") => {
            let side = args.get(1).and_then(|s| s.parse().ok()).unwrap_or(4096);
            let steps = if gpu.is_cpu() { 100 } else { 2000 };
            let mut rec = Recorder::new(&gpu);
            let peak = peak::multiply(&mut rec, if gpu.is_cpu() { 4096 } else { 1 << 20 }, steps).unwrap();
            let plan = rec.finish().unwrap();
            let rate = plan.flops() / best(&gpu, 3, &|| plan.run().unwrap());
            drop(peak);
            let a = gpu.upload("a", &support::noise(1, side * side), &[side, side]).unwrap();
            let values = support::noise(2, side * side);
            for (precision, engine) in [(Precision::F32, "tipi"), (Precision::F16, "tipi, f16 weights")] {
                let b = gemm::freeze(&gpu, "b", &values, [side, side], precision).unwrap();
                let mut rec = Recorder::new(&gpu);
                let c = gemm::matmul(&mut rec, Layout::Nt, &a, &b, &Epilogue::default()).unwrap();
                let plan = rec.finish().unwrap();
                let seconds = best(&gpu, 3, &|| plan.run().unwrap());
                let share = plan.flops() / seconds / rate;
                report("gemm-large", engine, seconds, &format!(", \"side\": {side}, \"of_f32_peak\": {share:.3}"));
                drop(c);
            }
        }
        Some("image-large") => {
            let batch = args.get(1).and_then(|b| b.parse().ok()).unwrap_or(64);
            for (precision, engine) in [(Precision::F32, "tipi"), (Precision::F16, "tipi, f16 weights")] {
                let clip = support::clip(&gpu, &support::B16, precision);
                let step = clip.image.plan(batch).unwrap();
                let seconds = best(&gpu, 3, &|| step.plan.run().unwrap());
                report("image-large", engine, seconds, &format!(", \"batch\": {batch}{}", megabytes(&step.plan)));
            }
        }
        // As `cargo test --benches` and a bare `cargo bench` call it: that it starts is all there is to see.
        _ => println!("say what to time: gemm, image, pini CLASSES, gemm-large or image-large"),
    }
}
