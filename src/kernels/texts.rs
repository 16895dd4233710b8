//! The WGSL texts in `shaders/`, which import each other by name (see [`crate::gpu::Wgsl`]).

use crate::gpu::Shader;

macro_rules! texts {
    ($($name:literal)+) => {
        &[$(($name, include_str!(concat!("../../shaders/", $name, ".wgsl")))),+]
    };
}

#[rustfmt::skip]
static TEXTS: &[(&str, &str)] = texts![
    "activation" "affinity" "affinity_cache" "affinity_grad" "affinity_queries" "affinity_rows" "affinity_subgroup"
    "affinity_texel" "attention" "attention_blocks" "attention_texel"
    "attention_tile" "batchnorm" "clipping" "conv" "dino" "divergence" "dropout" "extremes" "gather" "gelu"
    "gemm" "gemm_columns" "gemm_matrix" "gemm_matrix16" "gemm_matrix8" "gemm_matrix8_half" "gemm_rows" "gemm_staged"
    "gemm_subgroup" "gemm_texel" "gemm_tile" "layernorm" "layernorm_texel" "linear" "loss" "nearest" "noise" "normal" "normalize" "optim"
    "pairs" "patch" "peak" "philox" "planes" "pooling" "quads" "reduce" "rotary" "samples" "search" "slices" "softmax" "subgroup" "subgroups" "swiglu"
    "texels" "unfold" "workgroup"
];

/// The shader of this name, which is also its text's.
pub(super) const fn shader(name: &'static str) -> Shader {
    Shader { name, text: name, texts: TEXTS, instead: &[] }
}

/// The shader of this name from a text that imports `rowwise`, for which another stands.
pub(super) const fn rowwise_shader(
    name: &'static str,
    text: &'static str,
    rowwise: &'static [(&'static str, &'static str)],
) -> Shader {
    Shader { name, text, texts: TEXTS, instead: rowwise }
}
