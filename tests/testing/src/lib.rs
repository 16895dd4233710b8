//! What tests are written with. Not published; the library and the program do not know it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod miniatures;
pub mod siglip;
pub mod twins;

use std::path::Path;

use tipi::low_level::clip::{Clip, ClipConfig, ImageConfig, Pool, Source, TowerConfig};
use tipi::low_level::gpu::Gpu;
use tipi::low_level::kernels::gemm::Precision;

/// The repository's root.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

/// The model in a folder. Where its configuration names a tower of timm's, whose sizes the name implies, and others stand
/// beside it, those.
pub fn load(gpu: &Gpu, folder: &Path, precision: Precision) -> Clip {
    let Ok(sizes) = std::fs::read_to_string(folder.join("sizes.json")) else {
        return Clip::load_as(gpu, folder, precision).unwrap_or_else(|e| panic!("{e}"));
    };
    let sizes: serde_json::Value = serde_json::from_str(&sizes).unwrap();
    let size = |name: &str| usize::try_from(sizes[name].as_u64().unwrap()).unwrap();
    let (checkpoint, mut config, preprocess) =
        Source::of(folder, None).and_then(|source| ClipConfig::open(&source)).unwrap_or_else(|e| panic!("{e}"));
    let ImageConfig::Vit(vit) = &mut config.image else { panic!("no vision transformer") };
    let (width, mlp, layers, heads) = (size("width"), size("mlp"), size("layers"), size("heads"));
    vit.tower = TowerConfig { width, mlp, layers, heads, ..vit.tower.clone() };
    vit.patch = size("patch");
    if let Some(rotary) = &mut vit.rotary {
        rotary.reference = size("reference");
    }
    if let Pool::Attention { heads, mlp, .. } = &mut vit.pool {
        (*heads, *mlp) = (size("pool heads"), size("pool mlp"));
    }
    config.image_size = size("size");
    Clip::load_described(gpu, folder, precision, (checkpoint, config, preprocess)).unwrap_or_else(|e| panic!("{e}"))
}
