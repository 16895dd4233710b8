//! timm's vision transformers that open_clip's models are built on (timm 1.0: `vision_transformer.py`, `eva.py`), by name:
//! a configuration has the name only.

use super::vit::{Pool, ProjectionForm, Rotary, Stem, VitConfig};
use super::{Biases, TowerConfig};
use crate::kernels::activation::Activation;
use crate::nn::{Hidden, Norms};

const GELU: Hidden = Hidden::Activated(Activation::Gelu);

/// LayerNorm's eps where a model does not say another.
const EPS: f32 = 1e-6;

/// The tower of this name. Its projection is the classifier's layer, with as many classes as the joint space has
/// dimensions.
pub(super) fn tower(name: &str) -> Option<VitConfig> {
    let (family, rest) = name.split_once("_patch").unwrap_or((name, ""));
    let patch = rest.split('_').next().and_then(|side| side.parse().ok());
    if let Some(size) = family.strip_prefix("vit_pe_core_") {
        return pe_core(size, patch?);
    }
    match (family, name) {
        (_, "vit_base_mci_224") => Some(mobile()),
        (_, "vit_medium_patch16_gap_256") => Some(medium()),
        (_, "vit_large_patch14_clip_224" | "vit_large_patch14_clip_336") => {
            let tower = TowerConfig::plain([1024, 4096, 24, 16], GELU, 1e-5);
            Some(VitConfig { projection: ProjectionForm::Biased, ..VitConfig::clip(tower, patch?) })
        }
        (_, "eva_giant_patch14_224" | "eva_giant_patch14_clip_224") => {
            let tower = TowerConfig::plain([1408, 6144, 40, 16], GELU, EPS);
            Some(eva(TowerConfig { biases: Biases::NoKey, ..tower }, patch?))
        }
        ("eva02_base", _) => Some(eva02([768, 2048, 12, 12], patch?)),
        ("eva02_enormous", _) => {
            let tower = TowerConfig::plain([1792, 15360, 64, 16], GELU, EPS);
            Some(eva(TowerConfig { biases: Biases::NoKey, norms: Norms::Behind, ..tower }, patch?))
        }
        ("eva02_large", _) => Some(eva02([1024, 2730, 24, 16], patch?)),
        _ if rest.contains("_siglip_") => siglip(family, name, patch?),
        _ => None,
    }
}

fn siglip(family: &str, name: &str, patch: usize) -> Option<VitConfig> {
    let sizes = match family {
        "vit_base" => [768, 3072, 12, 12],
        "vit_large" => [1024, 4096, 24, 16],
        "vit_so400m" => [1152, 4304, 27, 16],
        "vit_giantopt" => [1536, 6144, 40, 16],
        _ => return None,
    };
    // Those that came with SigLIP 2 have JAX's GELU, as timm's list has it.
    let tanh = family == "vit_giantopt"
        || patch == 32
        || (family == "vit_so400m" && patch == 16)
        || name.ends_with("_512") && family == "vit_large";
    let activation = if tanh { Activation::GeluTanh } else { Activation::Gelu };
    let tower = TowerConfig::plain(sizes, Hidden::Activated(activation), EPS);
    let pool = Pool::Attention { heads: sizes[3], mlp: sizes[1], activation };
    Some(VitConfig::siglip(tower, patch, pool))
}

/// EVA-CLIP's (arXiv 2303.15389).
fn eva(tower: TowerConfig, patch: usize) -> VitConfig {
    VitConfig {
        stem: Stem::Patches { bias: true },
        pre_norm: false,
        projection: ProjectionForm::Biased,
        ..VitConfig::clip(tower, patch)
    }
}

fn eva02(sizes: [usize; 4], patch: usize) -> VitConfig {
    let tower = TowerConfig::plain(sizes, Hidden::Gated, EPS);
    let tower = TowerConfig { biases: Biases::NoKey, inner_norms: true, ..tower };
    VitConfig { rotary: Some(Rotary { reference: 16, offset: 0.0, column_first: false }), ..eva(tower, patch) }
}

/// Perception Encoder's (arXiv 2504.13181).
fn pe_core(size: &str, patch: usize) -> Option<VitConfig> {
    let (sizes, reference) = match size {
        "tiny" => ([192, 768, 12, 3], 24),
        "small" => ([384, 1536, 12, 6], 24),
        "base" => ([768, 3072, 12, 12], 14),
        "large" => ([1024, 4096, 24, 16], 24),
        "gigantic" => ([1536, 8960, 50, 16], 32),
        _ => return None,
    };
    let class = size != "gigantic";
    let offset = if class { 1.0 } else { 0.0 };
    let tower = TowerConfig::plain(sizes, GELU, 1e-5);
    let pool = Pool::Attention { heads: 8, mlp: 4 * sizes[0], activation: Activation::Gelu };
    Some(VitConfig {
        class,
        rotary: Some(Rotary { reference, offset, column_first: true }),
        pool,
        projection: ProjectionForm::Biased,
        ..VitConfig::clip(tower, patch)
    })
}

/// MobileCLIP-B's.
fn mobile() -> VitConfig {
    let tower = TowerConfig::plain([768, 3072, 12, 12], GELU, EPS);
    VitConfig {
        stem: Stem::Convolutions,
        class_position: false,
        pre_norm: false,
        projection: ProjectionForm::Biased,
        ..VitConfig::clip(tower, 16)
    }
}

fn medium() -> VitConfig {
    let tower = TowerConfig::plain([512, 2048, 12, 8], GELU, EPS);
    VitConfig {
        stem: Stem::Patches { bias: true },
        class: false,
        pre_norm: false,
        pool: Pool::Mean { norm_first: true },
        ..VitConfig::clip(TowerConfig { biases: Biases::None, layer_scale: true, ..tower }, 16)
    }
}
