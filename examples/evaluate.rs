//! The papers' protocol on a folder of pictures, from a program of your own.
//!
//! ```sh
//! cargo run --release --example evaluate -- weights/picto examples/pictos/shifted out
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use tipi::low_level::adapt::method::find;
use tipi::low_level::clip::Clip;
use tipi::low_level::data::Dataset;
use tipi::low_level::eval::{self, How, Protocol, Record, Setup};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::watch::Watch;

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
}

impl eval::Watch for Print {
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
    let methods =
        ["zero-shot", "tip-adapter", "tip-x"].iter().map(|name| find(name)).collect::<tipi::Result<Vec<_>>>()?;
    let how = How { views: 10, grid: "standard".into(), ..How::default() };
    let protocol = Protocol {
        setup: Setup::new(how, &methods, &BTreeMap::new())?,
        methods,
        shots: vec![1, 2],
        seeds: vec![1, 2, 3],
        adapters: false,
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
