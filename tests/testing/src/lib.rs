//! What tests are written with. Not published; the library and the program do not know it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod miniatures;
pub mod siglip;
pub mod twins;

use std::path::Path;

use tipi::low_level::clip::{
    Checkpoint, Clip, ClipConfig, ImageConfig, Pool, Preprocess, ProjectionForm, Source, TextStem, TowerConfig,
};
use tipi::low_level::gpu::Gpu;
use tipi::low_level::kernels::gemm::Precision;

/// The repository's root.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

/// The model in a folder. Where its configuration names a tower of timm's or of transformers', whose sizes the name implies, and
/// others stand beside it, those.
pub fn load(gpu: &Gpu, folder: &Path, precision: Precision) -> Clip {
    merged(gpu, folder, None, precision)
}

/// As [`load`], merged with a LoRA where one is given.
pub fn merged(gpu: &Gpu, folder: &Path, lora: Option<&Path>, precision: Precision) -> Clip {
    let source = Source::of(folder, lora).unwrap_or_else(|e| panic!("{e}"));
    let Ok(sizes) = std::fs::read_to_string(folder.join("sizes.json")) else {
        return Clip::load_source(gpu, &source, precision).unwrap_or_else(|e| panic!("{e}"));
    };
    let sizes: serde_json::Value = serde_json::from_str(&sizes).unwrap();
    let size = |name: &str| usize::try_from(sizes[name].as_u64().unwrap()).unwrap();
    let (checkpoint, mut config, preprocess) = ClipConfig::open(&source).unwrap_or_else(|e| panic!("{e}"));
    let (width, mlp, layers, heads) = (size("width"), size("mlp"), size("layers"), size("heads"));
    let tower = |named: &TowerConfig| TowerConfig { width, mlp, layers, heads, ..named.clone() };
    if let TextStem::Roberta { positions, .. } = &mut config.text_stem {
        *positions = size("positions");
        config.text = tower(&config.text);
        config.vocabulary = size("vocabulary");
        if let ProjectionForm::Mlp { hidden } = &mut config.text_projection {
            *hidden = usize::midpoint(width, config.embedding);
        }
        return described(gpu, folder, precision, (checkpoint, config, preprocess));
    }
    let ImageConfig::Vit(vit) = &mut config.image else { panic!("no vision transformer") };
    vit.tower = tower(&vit.tower);
    vit.patch = size("patch");
    if let Some(rotary) = &mut vit.rotary {
        rotary.reference = size("reference");
    }
    if let Pool::Attention { heads, mlp, .. } = &mut vit.pool {
        (*heads, *mlp) = (size("pool heads"), size("pool mlp"));
    }
    config.image_size = size("size");
    described(gpu, folder, precision, (checkpoint, config, preprocess))
}

fn described(gpu: &Gpu, folder: &Path, precision: Precision, opened: (Checkpoint, ClipConfig, Preprocess)) -> Clip {
    Clip::load_described(gpu, folder, precision, opened).unwrap_or_else(|e| panic!("{e}"))
}
