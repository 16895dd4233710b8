//! The papers' protocol on a folder of pictures, from a program of your own.
//!
//! ```sh
//! cargo run --release --example evaluate -- weights/picto examples/pictos/shifted out
//! ```

use std::path::Path;

use tipi::adapt::pini::{self, Evaluation};
use tipi::adapt::tip_f;
use tipi::clip::Clip;
use tipi::data::Dataset;
use tipi::eval::{self, How, Method, Protocol, Record, Watch};
use tipi::gpu::{DeviceOptions, Gpu};

/// Prints what happens. An application would move its progress bar, and return `Error::Stopped` from `at` when the user wants
/// to stop: the same run goes on later.
struct Print;

impl Watch for Print {
    fn begin(&mut self, what: &str, total: usize) {
        println!("{what} ({total})");
    }

    fn at(&mut self, _done: usize) -> tipi::Result<()> {
        Ok(())
    }

    fn end(&mut self) {}

    fn note(&mut self, text: &str) {
        println!("note: {text}");
    }

    fn result(&mut self, record: &Record, done: usize, all: usize) {
        println!("{done}/{all}: {} {:.1} %", record.task.file(), 100.0 * record.accuracy);
    }
}

fn main() -> tipi::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, out] = &arguments[..] else {
        return Err(tipi::Error::invalid(
            "give a model folder, a folder of pictures by class, and a folder for results",
        ));
    };
    let gpu = Gpu::open(&DeviceOptions::default())?;
    let clip = Clip::load(&gpu, Path::new(model))?;
    let mut dataset = Dataset::open(data, None)?;
    dataset.templates = vec!["an icon of {}".into()];
    dataset.words = "an icon of".into();
    let how = How {
        key_views: 10,
        augment: true,
        views: 10,
        grid: "standard".into(),
        tip_f: tip_f::Config::paper(0),
        pini: pini::Config { lr: pini::Config::rate(clip.logit_scale), ..pini::Config::paper("", 0) },
        evaluation: Evaluation::Mean,
    };
    let protocol = Protocol {
        methods: vec![Method::ZeroShot, Method::TipAdapter, Method::TipX],
        shots: vec![1, 2],
        seeds: vec![1, 2, 3],
        how,
        strict: false,
        batch: None,
    };
    let out = Path::new(out);
    let checked = eval::check(&dataset, &protocol, false)?;
    eval::run(&clip, checked, None, ("f32", out, &out.join("features")), &mut Print)?;
    let written = eval::report::write(out)?;
    println!("{}", written.html.display());
    Ok(())
}
