//! Whole steps: an image-tower forward and a PiNI training step, on the bundled model and on towers of published size with
//! random weights. Throughput is in floating-point operations, so criterion's Gelem/s are GFLOP/s.

#![allow(clippy::expect_used, missing_docs)]

mod support;

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tipi::low_level::adapt::pini::{Config, NoisyPrompts, Params, Trainer};
use tipi::low_level::clip::Clip;
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::kernels::gemm::Precision;

fn steps(c: &mut Criterion) {
    let gpu = Gpu::open(&DeviceOptions::default()).expect("a GPU");
    eprintln!("device: {}", gpu.describe());
    let clip = Clip::load(&gpu, &Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/picto")).expect("the model");

    let mut group = c.benchmark_group("steps (flop)");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for batch in [1, 8, 32] {
        let step = clip.image.plan(batch).expect("a plan");
        group.throughput(Throughput::Elements(step.plan.flops() as u64));
        group.bench_function(format!("image tower forward, picto, batch {batch}"), |b| {
            b.iter(|| {
                step.plan.run().expect("a step");
                gpu.wait().expect("the device");
            });
        });
    }
    for count in [10, 60] {
        let classes: Vec<String> = (0..count).map(|i| format!("thing {i}")).collect();
        let prompts = NoisyPrompts::new(&clip, "an icon of", &classes).expect("prompts");
        let params = Params::init(&clip, prompts.noisy, 1, 1).expect("parameters");
        let trainer = Trainer::new(&clip, prompts, params).expect("a trainer");
        let step = trainer.step(32, 1, true).expect("a plan");
        let config = Config::paper("an icon of", 1);
        let images = vec![0.1; 32 * clip.config.embedding];
        let labels: Vec<u32> = (0..32).map(|i| i % count as u32).collect();
        group.throughput(Throughput::Elements(step.plan.flops() as u64));
        group.bench_function(format!("PiNI step, picto, {count} classes, 32 pictures"), |b| {
            b.iter(|| {
                step.run(&gpu, &images, &labels, &config, 1e-4, 0).expect("a step");
                gpu.wait().expect("the device");
            });
        });
    }
    for precision in [Precision::F32, Precision::F16, Precision::Int8] {
        let clip = support::clip(&gpu, &support::B32, precision);
        let step = clip.image.plan(8).expect("a plan");
        group.throughput(Throughput::Elements(step.plan.flops() as u64));
        group.bench_function(format!("image tower forward, ViT-B/32 in {precision:?}, batch 8"), |b| {
            b.iter(|| {
                step.plan.run().expect("a step");
                gpu.wait().expect("the device");
            });
        });
    }
    let clip = support::clip(&gpu, &support::B16_TEXT, Precision::F32);
    support::pini_step(&clip, 100, 32, |run, plan| {
        group.throughput(Throughput::Elements(plan.flops() as u64));
        group.bench_function("PiNI step, ViT-B/16's text tower, 100 classes, 32 pictures", |b| {
            b.iter(|| {
                run();
                gpu.wait().expect("the device");
            });
        });
    });
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
