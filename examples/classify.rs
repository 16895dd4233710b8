//! Zero-shot classification in a few lines: which of some labels fits a picture best?
//!
//! `cargo run --release --example classify -- examples/pictos/shifted/anchor/*.png`

use tipi::low_level::adapt::probabilities;
use tipi::low_level::adapt::zero_shot::Classifier;
use tipi::low_level::clip::Clip;
use tipi::low_level::data::decode;
use tipi::low_level::gpu::{DeviceOptions, Gpu};

fn main() -> tipi::Result<()> {
    let gpu = Gpu::open(&DeviceOptions::default())?;
    let clip = Clip::load(&gpu, "weights/picto".as_ref())?;
    let labels = ["anchor", "bell", "umbrella"].map(String::from);
    let classifier = Classifier::new(&clip, &labels, &["an icon of {}".to_string()])?;
    let mut encoder = clip.image_encoder(1)?;
    for path in std::env::args().skip(1) {
        let pixels = clip.pixels(&decode(path.as_ref())?);
        let features = encoder.encode(&pixels, &mut |_| {})?;
        let logits = classifier.logits(&features, &gpu)?;
        for (label, p) in labels.iter().zip(probabilities(&logits)) {
            println!("{path}: {label} {:.1} %", 100.0 * p);
        }
    }
    Ok(())
}
