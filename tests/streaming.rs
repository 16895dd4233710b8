//! Memory while features stream to disk: it does not grow with the number of pictures. A file of its own, because what is
//! measured is the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use tipi::low_level::clip::Clip;
use tipi::low_level::data::{Augment, Item};
use tipi::low_level::encode::Views;
use tipi::low_level::encode::store::{Key, Store};
use tipi::low_level::gpu::{DeviceOptions, Gpu};

/// Bytes of the process that are in memory and not of a file.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
}

#[test]
fn memory_stays_flat_while_features_stream_to_disk() {
    let gpu = Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap();
    let clip = Clip::load(&gpu, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model_a")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let items: Vec<Item> = (0..600u32)
        .map(|i| {
            let path = dir.path().join(format!("{i}.png"));
            let mut state = i + 1;
            image::RgbImage::from_fn(9, 7, |_, _| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                image::Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
            })
            .save(&path)
            .unwrap();
            Item { path, label: 0 }
        })
        .collect();
    let out = tempfile::tempdir().unwrap();
    let mut store = Store::open(out.path(), &Key::new(&clip, "f32", None).unwrap(), clip.config.embedding).unwrap();
    let mut encoder = clip.image_encoder(16).unwrap();
    // Twelve views a picture: 7,200 rows of network inputs, 88 MB if they were kept.
    let views = Views::Random { augment: Augment::TIP, count: 12, first: 0, seed: 1 };
    let mut marks = Vec::new();
    let wanted: Vec<&Item> = items.iter().collect();
    let filled = store
        .fill(&mut encoder, &wanted, &views, true, &mut |p| {
            // Once the buffers are there, a tenth of the way, and at the end.
            if p.pictures >= 60 && marks.is_empty() || p.pictures == 600 {
                marks.push(resident());
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(filled.encoded, 7_200);
    assert_eq!(store.len(), 7_200);
    let grown = marks[1].saturating_sub(marks[0]) as f64 / 1e6;
    println!("{:.0} MB at a tenth, {grown:.1} MB more at the end", marks[0] as f64 / 1e6);
    assert!(grown < 20.0, "memory grew by {grown:.1} MB");
}
