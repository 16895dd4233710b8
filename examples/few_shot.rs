//! Few-shot adaptation from an application: learn from a folder of pictures by any method, and keep what was learned as a file
//! that `tipi predict` reads too.
//!
//! `cargo run --release --example few_shot -- examples/pictos/shifted adapter.safetensors tip-adapter`

use std::path::PathBuf;

use tipi::low_level::adapt::adapter_file::{self, Adapter, Description, Meta};
use tipi::low_level::adapt::method::{Settings, find, settled};
use tipi::low_level::adapt::{Choice, How, Learned, Lesson, Texts, learn};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::Folder;
use tipi::low_level::encode::{self, Direct};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::watch::Unwatched;

fn main() -> tipi::Result<()> {
    let mut args = std::env::args().skip(1);
    let data = args.next().unwrap_or_else(|| "examples/pictos/shifted".into());
    let out = PathBuf::from(args.next().unwrap_or_else(|| "adapter.safetensors".into()));
    let method = find(&args.next().unwrap_or_else(|| "tip-adapter".into()))?;
    let (shots, seed) = (2, 1);

    let gpu = Gpu::open(&DeviceOptions::default())?;
    let clip = Clip::load(&gpu, "weights/picto".as_ref())?;
    let folder = Folder::open(data)?;
    let classes = folder.names();

    // Two pictures of each class to learn from, and up to two to choose settings on.
    let split = encode::choose(&folder, (shots, 2), seed, false, &|_| {})?.split;
    let templates = ["an icon of {}".to_string()];
    let texts = Texts { classes: &classes, templates: &templates, words: "an icon of", dataset: "" };
    let choice = Choice { support: &split.support, val: &split.val, seed };
    let (how, mut source) = (How::default(), Direct::new(&clip, None, None));
    let mut lesson = Lesson::new(&clip, texts, choice, &how, (None, &mut source))?;
    let settings = settled(method, &Settings::new())?;
    let Learned { fitted, temperature, val_accuracy, .. } = learn(method, &settings, &mut lesson, &mut Unwatched)?;

    println!("{method}: {}, {:.1} % of validation pictures right", fitted.facts(), 100.0 * val_accuracy.unwrap_or(0.0));
    let description = Description::new(method.info().name, &*fitted)?;
    let meta = Meta::new(&clip, &classes, description, Some(shots), seed)?.with_temperature(temperature);
    adapter_file::save(&out, &clip, &meta, &Adapter::Method(fitted))?;
    println!("{} classes: {}", classes.len(), out.display());
    Ok(())
}
