//! tipi's times for `benches/peers/compare.py` and `benches/gpu/run.sh`: one JSON object a line, {"engine", "case", "seconds"},
//! with "work" and its "unit" for what is done in that time.
//!
//! `cargo bench --bench probe -- gemm|image|pini CLASSES|pixels [BATCH]|products [SIDE]|towers [BATCH,BATCH…] [NAME…]|cache [KEYS]|dino [PICTURES]|timeline [PICTURES] [BATCH] [NAME]`
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;
use std::time::Instant;

use support::best;

use tipi::low_level::adapt::dino::{SelfSupervised, Trainer};
use tipi::low_level::adapt::overlap::Config;
use tipi::low_level::clip::Clip;
use tipi::low_level::data::{Folder, Item};
use tipi::low_level::encode::{Views, encode};
use tipi::low_level::gpu::{DeviceOptions, Gpu, Plan, Recorder};
use tipi::low_level::kernels::gemm::{self, Epilogue, Kernel, Layout, Precision};
use tipi::low_level::kernels::{affinity, peak, search};

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

fn work(amount: f64, unit: &str) -> String {
    format!(", \"work\": {amount}, \"unit\": \"{unit}\"")
}

const PRECISIONS: [(Precision, &str); 3] =
    [(Precision::F32, "tipi"), (Precision::F16, "tipi, f16 weights"), (Precision::Int8, "tipi, int8 weights")];

/// Products of the shapes that towers have, and a square one, as shares of the device's own peak in f32.
fn products(gpu: &Gpu, side: usize) {
    let mut rec = Recorder::new(gpu);
    let (threads, steps) = if gpu.is_cpu() { (4096, 100) } else { (1 << 20, 2000) };
    let peak = peak::multiply(&mut rec, threads, steps).unwrap();
    let plan = rec.finish().unwrap();
    let rate = plan.flops() / best(gpu, 3, &|| plan.run().unwrap());
    drop(peak);
    for [m, n, k] in support::PRODUCTS.into_iter().chain([[side; 3]]) {
        // What a small device is asked for when `side` says so.
        let m = m.min(side);
        let a = gpu.upload("a", &support::noise(1, m * k), &[m, k]).unwrap();
        let values = support::noise(2, n * k);
        for (precision, engine) in PRECISIONS {
            let b = gemm::freeze(gpu, "b", &values, [n, k], precision).unwrap();
            let mut rec = Recorder::new(gpu);
            let c = gemm::matmul(&mut rec, Layout::Nt, &a, &b, &Epilogue::default()).unwrap();
            let plan = rec.finish().unwrap();
            let seconds = best(gpu, 3, &|| plan.run().unwrap());
            let share = plan.flops() / seconds / rate;
            let more = format!("{}, \"of_f32_peak\": {share:.3}", work(plan.flops() / 1e9, "GFLOP"));
            report(&format!("product {m}×{n}×{k}"), engine, seconds, &more);
            drop(c);
        }
    }
}

/// Image towers of published size, all or those of these names, at several numbers of pictures.
fn towers(gpu: &Gpu, batches: &str, names: &[String]) {
    let batches: Vec<usize> = batches.split(',').map(|b| b.parse().unwrap()).collect();
    let wanted = |size: &support::Size| names.is_empty() || names.iter().any(|name| name == size.name);
    for size in [support::B32, support::B16, support::L14].into_iter().filter(wanted) {
        for (precision, engine) in PRECISIONS {
            let clip = support::clip(gpu, &size, precision);
            for batch in &batches {
                let step = clip.image.plan(*batch).unwrap();
                let seconds = best(gpu, 3, &|| step.plan.run().unwrap());
                let done = format!("{}{}", work(*batch as f64, "images"), megabytes(&step.plan));
                report(&format!("{}, {batch} pictures", size.name), engine, seconds, &done);
            }
        }
    }
}

/// The cache term of so many keys, ten a class, and the search over what comes of it.
fn cache(gpu: &Gpu, count: usize) {
    let (queries, width) = (256, 512);
    let classes = count.div_ceil(10);
    let f = gpu.upload("queries", &support::noise(1, queries * width), &[queries, width]).unwrap();
    let keys = gpu.upload("keys", &support::noise(2, count * width), &[count, width]).unwrap();
    let starts: Vec<u32> = (0..=classes).map(|c| (10 * c).min(count) as u32).collect();
    let keys = affinity::Keys::new(gpu, keys, &starts).unwrap();
    let even = |n: usize| (1..=n).map(|i| 7.0 * i as f32 / n as f32).collect::<Vec<_>>();
    for betas in [1, 20] {
        let beta = gpu.upload("beta", &even(betas), &[betas]).unwrap();
        let mut rec = Recorder::new(gpu);
        let term = affinity::cache_term(&mut rec, &f, &keys, &beta, 1.0, None).unwrap();
        let plan = rec.finish().unwrap();
        let seconds = best(gpu, 3, &|| plan.run().unwrap());
        let done = format!("{}{}", work(plan.flops() / 1e9, "GFLOP"), megabytes(&plan));
        report(&format!("cache term, {count} keys, {betas} β"), "tipi", seconds, &done);
        drop(term);
    }
    let (rows, classes) = (1000, 100);
    let logits = |seed, many: usize| {
        let shape = [many, rows, classes];
        gpu.upload("logits", &support::noise(seed, many * rows * classes), &shape[usize::from(many == 1)..]).unwrap()
    };
    let (base, terms, kl) = (logits(3, 1), logits(4, 20), logits(5, 1));
    let labels: Vec<u32> = (0..rows as u32).map(|i| i % classes as u32).collect();
    let labels = gpu.upload("labels", &labels, &[rows]).unwrap();
    let mut rec = Recorder::new(gpu);
    let terms = search::Terms { base: &base, cache: &terms, kl: Some(&kl) };
    let counts = search::count(&mut rec, terms, &labels, &even(200), &even(50)).unwrap();
    let plan = rec.finish().unwrap();
    let seconds = best(gpu, 3, &|| plan.run().unwrap());
    report("search, 200×20×50 points", "tipi", seconds, &work(200_000.0, "points"));
    drop(counts);
}

/// A step of the correction without labels, ViT-B/16, two global and ten local crops of each picture, the paper's head.
fn dino(gpu: &Gpu, pictures: usize) {
    let clip = support::clip(gpu, &support::B16, Precision::F32);
    let config = Config::without_labels(1, 120);
    let settings = SelfSupervised::default();
    let trainer = Trainer::fresh(&clip, &config, &settings).unwrap();
    let step = trainer.step(pictures).unwrap();
    let now = settings.moment(&config, 100, 500);
    let pixels: Vec<Vec<f32>> = step.pixels.iter().map(|crops| support::noise(6, crops.len())).collect();
    let seconds = best(gpu, 2, &|| {
        trainer.run(&step, &pixels, (1.0, true), &now).unwrap();
        trainer.update(&now, 5).unwrap();
    });
    let done = format!("{}{}", work(1.0, "steps"), megabytes(&step.plan));
    report(&format!("dino {pictures}"), "tipi", seconds, &done);
}

/// When the device works and when it waits while pictures become features, as `tipi embed image` makes them: of the bundled model, or
/// of one of random weights by its name.
fn timeline(gpu: &Gpu, pictures: usize, batch: usize, name: Option<&str>) {
    let clip = match [support::B32, support::B16, support::L14].iter().find(|size| Some(size.name) == name) {
        Some(size) => support::clip(gpu, size, Precision::F32),
        None => Clip::load(gpu, Path::new("weights/picto")).unwrap(),
    };
    let found = Folder::open("examples/pictos/shifted").unwrap();
    let items: Vec<Item> = found.items.into_iter().cycle().take(pictures).collect();
    let mut encoder = clip.image_encoder(batch).unwrap();
    let views = Views::Center;
    // Kernels are compiled before.
    encode(&mut encoder, &items[..batch.min(pictures)], &views, true, &mut |_| {}).unwrap();
    gpu.begin_timeline().unwrap();
    let start = Instant::now();
    encode(&mut encoder, &items, &views, true, &mut |_| {}).unwrap();
    let wall = start.elapsed().as_secs_f64();
    let spans = gpu.end_timeline().unwrap();
    let busy: f64 = spans.iter().map(|span| span.end - span.begin).sum();
    let mut gaps: Vec<f64> = spans.windows(2).map(|pair| (pair[1].begin - pair[0].end).max(0.0)).collect();
    let (idle, count) = (gaps.iter().sum::<f64>(), spans.len());
    gaps.sort_by(f64::total_cmp);
    let (half, most) = gaps.last().map_or((0.0, 0.0), |most| (gaps[gaps.len() / 2], *most));
    let found = format!(
        ", \"submissions\": {count}, \"busy\": {busy}, \"idle\": {idle}, \"gap\": {half}, \"longest gap\": {most}"
    );
    report(
        &format!("timeline {pictures} by {batch}"),
        "tipi",
        wall,
        &format!("{}{found}", work(pictures as f64, "pictures")),
    );
    // A character for a hundredth of the time: how much of it the device worked.
    let end = spans.iter().map(|span| span.end).fold(0.0, f64::max) / 100.0;
    let share = |i: usize| {
        let (from, to) = (i as f64 * end, (i + 1) as f64 * end);
        spans.iter().map(|span| (span.end.min(to) - span.begin.max(from)).max(0.0)).sum::<f64>() / end
    };
    let line: String =
        (0..100).map(|i| [' ', '░', '▒', '▓', '█'][(share(i) * 4.0).round().clamp(0.0, 4.0) as usize]).collect();
    eprintln!("|{line}| {:.2} s, {:.1} % of them idle", 100.0 * end, 100.0 * idle / (100.0 * end));
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
            for (precision, engine) in PRECISIONS {
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
                let done = format!("{}{}", work(1.0, "steps"), megabytes(plan));
                report(&format!("pini {classes}"), "tipi", seconds, &done);
            });
        }
        Some("pixels") => {
            let batch = args.get(1).and_then(|b| b.parse().ok()).unwrap_or(8);
            let clip = support::clip(&gpu, &support::B16_IMAGE, Precision::F32);
            support::pixel_step(&clip, 100, batch, |run, plan| {
                let seconds = best(&gpu, 1, run);
                let done = format!("{}{}", work(1.0, "steps"), megabytes(plan));
                report(&format!("pixels {batch}"), "tipi", seconds, &done);
            });
        }
        Some("products") => products(&gpu, args.get(1).and_then(|s| s.parse().ok()).unwrap_or(4096)),
        Some("towers") => towers(&gpu, args.get(1).map_or("1,8,64", String::as_str), args.get(2..).unwrap_or_default()),
        Some("cache") => cache(&gpu, args.get(1).and_then(|k| k.parse().ok()).unwrap_or(16_000)),
        Some("timeline") => {
            let number = |at: usize, or| args.get(at).and_then(|n| n.parse().ok()).unwrap_or(or);
            timeline(&gpu, number(1, 512), number(2, 32), args.get(3).map(String::as_str));
        }
        Some("dino") => dino(&gpu, args.get(1).and_then(|n| n.parse().ok()).unwrap_or(2)),
        // As `cargo test --benches` and a bare `cargo bench` call it: that it starts is all there is to see.
        _ => println!(
            "say what to time: gemm, image, pini CLASSES, pixels, products, towers, cache, dino PICTURES or timeline"
        ),
    }
}
