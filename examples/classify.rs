//! Zero-shot classification in a few lines: which of some labels fits a picture best?
//!
//! `cargo run --release --example classify -- examples/pictos/shifted/apple/*.png`

use tipi::{DeviceOptions, Gpu, Model, Picture};

fn main() -> tipi::Result<()> {
    let gpu = Gpu::open(&DeviceOptions::default())?;
    let model = Model::load(&gpu, "weights/picto")?;
    let classifier = model.zero_shot(&["apple", "bell", "umbrella"], &["an icon of {}"])?;
    for path in std::env::args().skip(1) {
        let answer = classifier.predict(&Picture::file(&path))?;
        let all: Vec<String> =
            answer.top(3).map(|class| format!("{} {:.1} %", class.name, 100.0 * class.probability)).collect();
        println!("{path}: {}", all.join(", "));
    }
    Ok(())
}
