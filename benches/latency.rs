//! How long a program waits that classifies one picture at a time: from its start to the first answer, and for every picture after
//! it. Beside it, what the same costs with features that travel to the host and back, and with a way that is recorded anew for
//! each picture.
//!
//! `cargo bench --bench latency` (`-- picto` for the bundled model alone)

#![allow(clippy::expect_used, missing_docs)]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tipi::low_level::adapt::zero_shot::Classifier as Recorded;
use tipi::low_level::data::decode;
use tipi::{DeviceOptions, Gpu, Model, Picture};

const CLASSES: [&str; 8] = ["apple", "bell", "car", "dress", "fish", "hammer", "rocket", "umbrella"];
const TEMPLATE: &str = "an icon of {}";

fn milliseconds(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

/// Least and median of several runs.
fn times(rounds: usize, mut run: impl FnMut(usize)) -> (Duration, Duration) {
    let mut all: Vec<Duration> = (0..rounds)
        .map(|round| {
            let start = Instant::now();
            run(round);
            start.elapsed()
        })
        .collect();
    all.sort();
    (all[0], all[rounds / 2])
}

/// A way to answer, and its times.
fn row(what: &str, (least, median): (Duration, Duration)) {
    println!("    {what:<52} {:8.2} {:8.2}", milliseconds(least), milliseconds(median));
}

fn measure(name: &str, folder: &Path, pictures: &[PathBuf], rounds: usize) {
    let start = Instant::now();
    let mut last = start;
    let mut stage = |what: &str| {
        let now = Instant::now();
        println!("    {what:<52} {:8.1} {:8.1}", milliseconds(now - last), milliseconds(now - start));
        last = now;
    };
    println!("\n{name}\n  {:<54} {:>8} {:>8}", "from the start (ms)", "took", "in all");
    let gpu = Gpu::open(&DeviceOptions::default()).expect("a GPU");
    stage("device opened");
    let model = Model::load(&gpu, folder).expect("the model");
    stage("model loaded");
    let classifier = model.zero_shot(&CLASSES, &[TEMPLATE]).expect("a classifier");
    stage("classes encoded");
    classifier.predict(&Picture::file(&pictures[0])).expect("an answer");
    stage("first answer");

    let clip = model.clip();
    let classes = CLASSES.map(String::from);
    let recorded = Recorded::new(clip, &classes, &[TEMPLATE.to_string()]).expect("a classifier");
    let mut encoder = clip.image_encoder(1).expect("an encoder");
    let path = |round: usize| &pictures[round % pictures.len()];
    println!("  {:<54} {:>8} {:>8}", "every picture after it (ms)", "least", "median");
    row(
        "reading and decoding alone",
        times(rounds, |round| {
            clip.prepare(&decode(path(round)).expect("a picture"));
        }),
    );
    row(
        "Classifier::predict",
        times(rounds, |round| {
            classifier.predict(&Picture::file(path(round))).expect("an answer");
        }),
    );
    let mut by_host = |round: usize| {
        let picture = clip.prepare(&decode(path(round)).expect("a picture"));
        encoder.encode_pictures(&picture.data, &mut |_| {}).expect("features")
    };
    row(
        "features to the host and back, recorded anew",
        times(rounds, |round| {
            recorded.logits(&by_host(round).original, gpu.low_level()).expect("logits");
        }),
    );
    row(
        "the tower recorded anew as well",
        times(rounds.min(20), |round| {
            let picture = clip.prepare(&decode(path(round)).expect("a picture"));
            let mut encoder = clip.image_encoder(1).expect("an encoder");
            let features = encoder.encode_pictures(&picture.data, &mut |_| {}).expect("features");
            recorded.logits(&features.original, gpu.low_level()).expect("logits");
        }),
    );
}

fn main() {
    // Cargo passes options of its own.
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let set = root.join("examples/pictos/shifted");
    let mut pictures = Vec::new();
    for class in CLASSES {
        let files = std::fs::read_dir(set.join(class)).expect("pictures");
        pictures.extend(files.map(|file| file.expect("a file").path()));
    }
    pictures.sort();
    println!("device: {}", Gpu::open(&DeviceOptions::default()).expect("a GPU").describe());
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.to_lowercase().contains(part));
    if wanted("picto") {
        measure("picto, 64×64 pixels", &root.join("weights/picto"), &pictures, 200);
    }
    if wanted("vit-b/32") {
        measure("ViT-B/32 with random weights, 224×224 pixels", &support::folder(&support::B32), &pictures, 20);
    }
}
