//! Memory over hours of work: 20,000 pictures through the program, 10,000 steps of PiNI and 2,000 predictions in one
//! process. Too long for every run:
//!
//! ```sh
//! cargo test --release --test soak -- --ignored --nocapture --test-threads 1
//! ```
//!
//! `TIPI_SOAK=0.01` does a hundredth of it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tipi::low_level::adapt::adapter_file;
use tipi::low_level::adapt::method::{find, settled};
use tipi::low_level::adapt::{Choice, How, Lesson, Texts, learn};
use tipi::low_level::clip::{Clip, Features};
use tipi::low_level::data::{Item, decode};
use tipi::low_level::encode::{Source, Tower, Views};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::watch::Watch;

/// Bytes of a process that are in memory and not of a file. The CPU's Vulkan driver keeps tensors there, too.
fn resident(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Some(field("RssAnon:")? + field("RssShmem:")?)
}

/// So many of `whole` as `TIPI_SOAK` says, all of them by default.
fn share(whole: usize) -> usize {
    let share: f64 = std::env::var("TIPI_SOAK").map_or(1.0, |share| share.parse().unwrap());
    ((whole as f64 * share) as usize).max(20)
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn root() -> &'static Path {
    tipi_testing::root()
}

fn open() -> Clip {
    let gpu = Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap();
    Clip::load(&gpu, &root().join("weights/picto")).unwrap()
}

/// Features that are there already.
struct Rows(Vec<f32>);

impl Source for Rows {
    fn features(&mut self, _: Tower, _: &[Item], _: &Views, _: &mut dyn Watch) -> tipi::Result<Features> {
        Ok(self.0.clone().into())
    }

    fn fresh(&mut self, _: Tower, _: &[Item], _: &Views) -> tipi::Result<Features> {
        Ok(self.0.clone().into())
    }
}

/// Notes memory a tenth of the way, and at the end.
struct Marks<'a> {
    clip: &'a Clip,
    steps: usize,
    marks: Vec<(u64, u64)>,
}

impl Watch for Marks<'_> {
    fn begin(&mut self, _: &str, _: usize) {}
    fn at(&mut self, done: usize) -> tipi::Result<()> {
        if done == self.steps / 10 || done == self.steps {
            self.marks.push((resident("self").unwrap(), self.clip.gpu.allocated_bytes()));
        }
        Ok(())
    }
    fn end(&mut self) {}
    fn note(&mut self, _: &str) {}
}

/// Fails unless memory at the end is what it was a tenth of the way, but for `more` bytes.
fn flat(what: &str, at_a_tenth: u64, at_the_end: u64, more: u64) {
    println!("{what}: {:.1} MB at a tenth, {:.1} MB at the end", mb(at_a_tenth), mb(at_the_end));
    assert!(at_the_end < at_a_tenth + more, "{what}: {at_a_tenth} bytes became {at_the_end}");
}

#[test]
#[ignore = "minutes"]
fn memory_stays_flat_over_twenty_thousand_pictures() {
    let count = share(20_000);
    let folder = tempfile::tempdir().unwrap();
    for i in 0..count as u32 {
        let mut state = i + 1;
        let picture = image::RgbImage::from_fn(61, 47, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
        });
        picture.save(folder.path().join(format!("{i}.png"))).unwrap();
    }
    let out = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tipi"))
        .env("TIPI_TUNE", "off")
        .args(["embed", "image", "--model", "weights/picto", "--out"])
        .arg(out.path().join("features.safetensors"))
        .arg(folder.path())
        .current_dir(root())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut marks = Vec::new();
    while child.try_wait().unwrap().is_none() {
        if let Some(now) = resident(&child.id().to_string()) {
            marks.push(now);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(child.wait().unwrap().success());
    println!("{count} pictures in {:.0} s", start.elapsed().as_secs_f64());
    // Features and names grow with the number of pictures, and are held twice while the file is written.
    let rows = (count * (2 * 4 * 256 + 300)) as u64;
    let tenth = marks[..marks.len().div_ceil(4)].iter().max().copied().unwrap();
    flat("embed", tenth, marks.iter().max().copied().unwrap(), rows + 10_000_000);
}

#[test]
#[ignore = "minutes"]
fn memory_stays_flat_over_ten_thousand_steps_and_two_thousand_predictions() {
    let clip = open();
    let names: Vec<String> = ["apple", "bell", "fish"].map(String::from).to_vec();
    let (d, steps) = (clip.config.embedding, share(10_000));
    let support: Vec<Item> = (0..6).map(|i| Item { path: format!("{i}").into(), label: i % 3 }).collect();
    let rows: Vec<f32> = (0..support.len() * d).map(|i| (i as f32 * 0.37).sin()).collect();
    let method = find("pini").unwrap();
    let given = serde_json::json!({ "epochs": steps }).as_object().cloned().unwrap();
    let settings = settled(method, &given).unwrap();
    let (how, start) = (How { augment: false, ..How::default() }, Instant::now());
    let texts = Texts { classes: &names, templates: &[], words: "an icon of", dataset: "" };
    let choice = Choice { support: &support, val: &[], seed: 1 };
    let mut source = Rows(rows);
    let mut lesson = Lesson::new(&clip, texts, choice, &how, (None, &mut source)).unwrap();
    let mut watch = Marks { clip: &clip, steps, marks: Vec::new() };
    let learned = learn(method, &settings, &mut lesson, &mut watch).unwrap();
    let marks = watch.marks;
    println!("{steps} steps in {:.0} s", start.elapsed().as_secs_f64());
    flat("training, in memory", marks[0].0, marks[1].0, 5_000_000);
    flat("training, on the GPU", marks[0].1, marks[1].1, 1);

    // As an application does: an adapter file, opened once, and one picture after another.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.safetensors");
    let description = adapter_file::Description::new("pini", &*learned.fitted).unwrap();
    let adapter = adapter_file::Adapter::Method(learned.fitted, learned.calibration);
    adapter_file::save(&file, &clip, &adapter_file::Meta::new(&clip, &names, description, None, 1).unwrap(), &adapter)
        .unwrap();
    drop(adapter);
    let adapter = adapter_file::File::open(&file).unwrap().bind(&clip).unwrap().into_method().unwrap().0;
    let picture = std::fs::read_dir(root().join("examples/pictos/novel")).unwrap().next().unwrap().unwrap().path();
    let picture = std::fs::read_dir(picture).unwrap().next().unwrap().unwrap().path();
    let (count, start) = (share(2_000), Instant::now());
    let mut encoder = clip.image_encoder(1).unwrap();
    let mut marks = Vec::new();
    let mut first = None;
    for i in 1..=count {
        let features = encoder.encode_all(&clip.pixels(&decode(&picture).unwrap()), &mut |_| {}).unwrap();
        let logits = adapter.logits(&clip, &features, 0).unwrap();
        assert_eq!(first.get_or_insert_with(|| logits.clone()), &logits, "prediction {i}");
        if i == count / 10 || i == count {
            marks.push((resident("self").unwrap(), clip.gpu.allocated_bytes()));
        }
    }
    println!("{count} predictions in {:.0} s", start.elapsed().as_secs_f64());
    flat("predictions, in memory", marks[0].0, marks[1].0, 5_000_000);
    flat("predictions, on the GPU", marks[0].1, marks[1].1, 1);
}
