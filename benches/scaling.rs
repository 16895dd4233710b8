//! Cost as work grows: step time against classes, cache keys, batch and resolution, on towers of published size with random
//! weights. Prints a table and writes one SVG a series. Straight lines in double-logarithmic plots have the slope of the
//! work's growth; the table gives the slope of the time beside that of the floating-point operations.
//!
//! `cargo bench --bench scaling -- classes|keys|batch|resolution|all [FOLDER]`
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;

use support::{Size, best};
use tipi::low_level::gpu::{DeviceOptions, Gpu, Recorder};
use tipi::low_level::kernels::affinity;
use tipi::low_level::kernels::gemm::Precision;
use tipi::low_level::report::{Curve, line_plot};

/// What was measured at one size.
struct Point {
    size: f64,
    seconds: f64,
    flops: f64,
    megabytes: f64,
}

/// The slope of a straight line through the logarithms, by least squares.
fn slope(points: &[Point], value: fn(&Point) -> f64) -> f64 {
    let n = points.len() as f64;
    let xy: Vec<(f64, f64)> = points.iter().map(|p| (p.size.ln(), value(p).ln())).collect();
    let (mx, my) = (xy.iter().map(|p| p.0).sum::<f64>() / n, xy.iter().map(|p| p.1).sum::<f64>() / n);
    xy.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum::<f64>() / xy.iter().map(|p| (p.0 - mx).powi(2)).sum::<f64>()
}

fn show(folder: &Path, name: &str, of: &str, points: &[Point]) {
    println!("\n{name}\n{:>12} {:>10} {:>10} {:>12} {:>14}", of, "seconds", "GFLOP", "GFLOP/s", "temporaries");
    for p in points {
        println!(
            "{:>12} {:>10.4} {:>10.2} {:>12.1} {:>11.1} MB",
            p.size,
            p.seconds,
            p.flops / 1e9,
            p.flops / p.seconds / 1e9,
            p.megabytes
        );
    }
    let (time, work) = (slope(points, |p| p.seconds), slope(points, |p| p.flops));
    println!("slope of time {time:.2}, of work {work:.2}");
    let first = &points[0];
    let measured = points.iter().map(|p| (p.size, p.seconds)).collect();
    let by_work = points.iter().map(|p| (p.size, first.seconds * p.flops / first.flops)).collect();
    let curves = [
        Curve { name: "measured".into(), points: measured },
        Curve { name: "in proportion to floating-point operations".into(), points: by_work },
    ];
    let svg = line_plot(name, of, "seconds", &curves);
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(format!("{of}.svg")), svg).unwrap();
}

fn classes(gpu: &Gpu, folder: &Path) {
    let clip = support::clip(gpu, &support::B16_TEXT, Precision::F32);
    let points: Vec<Point> = [10, 30, 100, 300, 1000]
        .into_iter()
        .map(|n| {
            support::pini_step(&clip, n, 32, |run, plan| Point {
                size: n as f64,
                seconds: best(gpu, 2, run),
                flops: plan.flops(),
                megabytes: plan.allocated_bytes() as f64 / 1e6,
            })
        })
        .collect();
    show(folder, "PiNI step, text tower of ViT-B/16, 32 pictures", "classes", &points);
}

fn keys(gpu: &Gpu, folder: &Path) {
    let (queries, width) = (256, 512);
    let f = gpu.upload("queries", &support::noise(1, queries * width), &[queries, width]).unwrap();
    let beta = gpu.upload("beta", &[5.5f32], &[1]).unwrap();
    // One binding of some devices holds 128 MiB, which is 65,536 keys of 512: more are taken in parts, as one would.
    let part = (gpu.max_binding() as usize / (4 * width)).min(50_000);
    let points: Vec<Point> = [1_000, 3_000, 10_000, 30_000, 100_000]
        .into_iter()
        .map(|n: usize| {
            let mut rec = Recorder::new(gpu);
            let mut kept = Vec::new();
            for first in (0..n).step_by(part) {
                let n = part.min(n - first);
                let keys = gpu.upload("keys", &support::noise(2, n * width), &[n, width]).unwrap();
                let starts: Vec<u32> = (0..=n as u32 / 10).map(|c| 10 * c).collect();
                let keys = affinity::Keys::new(gpu, keys, &starts).unwrap();
                kept.push(affinity::cache_term(&mut rec, &f, &keys, &beta, 1.0, None).unwrap());
            }
            let plan = rec.finish().unwrap();
            Point {
                size: n as f64,
                seconds: best(gpu, 2, &|| plan.run().unwrap()),
                flops: plan.flops(),
                megabytes: plan.allocated_bytes() as f64 / 1e6,
            }
        })
        .collect();
    show(folder, "Cache term, 256 queries of 512, 10 keys a class", "keys", &points);
}

fn image_point(gpu: &Gpu, size: &Size, at: f64, batch: usize) -> Point {
    let clip = support::clip(gpu, size, Precision::F32);
    let step = clip.image.plan(batch).unwrap();
    Point {
        size: at,
        seconds: best(gpu, 2, &|| step.plan.run().unwrap()),
        flops: step.plan.flops(),
        megabytes: step.plan.allocated_bytes() as f64 / 1e6,
    }
}

fn batch(gpu: &Gpu, folder: &Path) {
    let points: Vec<Point> =
        [1, 2, 4, 8, 16].into_iter().map(|n| image_point(gpu, &support::B32, n as f64, n)).collect();
    show(folder, "Image tower of ViT-B/32", "batch", &points);
}

fn resolution(gpu: &Gpu, folder: &Path) {
    // Four blocks show the growth as twelve do.
    let size =
        |resolution| Size { name: "ViT-B-16 of 4 blocks", image_layers: 4, text_layers: 1, resolution, ..support::B16 };
    let points: Vec<Point> =
        [112, 160, 224, 320, 448].into_iter().map(|r| image_point(gpu, &size(r), r as f64, 1)).collect();
    show(folder, "Image tower of ViT-B/16, 4 blocks, one picture", "resolution", &points);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let folder = args.get(1).map_or("target/scaling", String::as_str);
    let folder = Path::new(folder);
    let wanted = |name: &str| args.first().is_some_and(|a| a == name || a == "all");
    let gpu = Gpu::open(&DeviceOptions { checked: Some(false), ..Default::default() }).unwrap();
    eprintln!("device: {}", gpu.describe());
    type Series = fn(&Gpu, &Path);
    let series: [(&str, Series); 4] =
        [("classes", classes), ("keys", keys), ("batch", batch), ("resolution", resolution)];
    let mut any = false;
    for (name, run) in series {
        if wanted(name) {
            run(&gpu, folder);
            any = true;
        }
    }
    if !any {
        // As a bare `cargo bench` calls it.
        println!("say what grows: classes, keys, batch, resolution or all");
    }
}
