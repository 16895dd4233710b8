//! Few-shot adaptation from an application: build a Tip-Adapter cache from a folder of pictures, without training, and
//! keep it as a file that `tipi predict` reads too.
//!
//! `cargo run --release --example few_shot -- examples/pictos/shifted adapter.safetensors`

use std::path::PathBuf;

use tipi::adapt::adapter_file::{self, Adapter, Meta, Method};
use tipi::adapt::tip::{self, Cache, TipParams};
use tipi::adapt::zero_shot::Classifier;
use tipi::clip::Clip;
use tipi::data::{Augment, Folder};
use tipi::encode::{self, Views};
use tipi::gpu::{DeviceOptions, Gpu};

fn main() -> tipi::Result<()> {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let data = args.next().unwrap_or_else(|| "examples/pictos/shifted".into());
    let out = args.next().unwrap_or_else(|| "adapter.safetensors".into());
    let (shots, seed) = (2, 1);

    let gpu = Gpu::open(&DeviceOptions::default())?;
    let clip = Clip::load(&gpu, "weights/picto".as_ref())?;
    let folder = Folder::open(data)?;
    let names = folder.names();
    let templates = ["an icon of {}".to_string()];
    let classifier = Classifier::new(&clip, &names, &templates)?;

    // Two pictures of each class, four random views of each.
    let views = Views::Random { augment: Augment::TIP, count: 4, first: 0, seed };
    let mut encoder = clip.image_encoder(32)?;
    let split = encode::choose(&folder, (shots, 1), seed, false, &|_| {})?.split;
    let support = encode::encode(&mut encoder, &split.support, &views, false, &mut |_| {})?;
    let width = clip.config.embedding;
    let keys = tip::keys_of_pictures(&gpu, &support.features, 4, width)?;
    let cache = Cache::new(&gpu, &keys.original, &support.labels(), names.len(), width)?;

    let params = TipParams::INITIAL;
    let method = Method::TipAdapter { templates: templates.to_vec(), params, views: 4, correction: None };
    let meta = Meta::new(&clip, &names, method, Some(shots), seed)?;
    adapter_file::save(&out, &clip, &meta, &Adapter::Tip { classifier, cache, params, correction: None })?;
    println!("{} classes, {} keys: {}", names.len(), support.items.len(), out.display());
    Ok(())
}
