//! CLIPs of the published sizes with random weights: what they compute means nothing, what it takes does.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tipi::low_level::adapt::pini::{Config, Noise, NoisyPrompts, Params, Trainer, pixels};
use tipi::low_level::clip::Clip;
use tipi::low_level::gpu::{Gpu, Plan};
use tipi::low_level::kernels::gemm::Precision;

/// Sizes of a CLIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub name: &'static str,
    pub image_width: usize,
    pub image_layers: usize,
    pub patch: usize,
    pub resolution: usize,
    pub text_width: usize,
    pub text_layers: usize,
    pub embedding: usize,
}

pub const B32: Size = Size {
    name: "ViT-B-32",
    image_width: 768,
    image_layers: 12,
    patch: 32,
    resolution: 224,
    text_width: 512,
    text_layers: 12,
    embedding: 512,
};

pub const B16: Size = Size { name: "ViT-B-16", patch: 16, ..B32 };

pub const L14: Size =
    Size { name: "ViT-L-14", image_width: 1024, image_layers: 24, patch: 14, text_width: 768, embedding: 768, ..B32 };

/// Rows, columns and depth of products in towers: B/32's MLP for 64 pictures and for one, B/16's projections for 64, L/14's MLP
/// for 8, and a text tower's for 1,000 classes.
pub const PRODUCTS: [[usize; 3]; 6] =
    [[3200, 3072, 768], [3200, 768, 3072], [50, 3072, 768], [12_608, 2304, 768], [2056, 4096, 1024], [5000, 2048, 512]];

/// B/16's text tower with an image tower of one layer, for steps that take image features as given.
pub const B16_TEXT: Size = Size { name: "ViT-B-16 text", image_layers: 1, ..B16 };

/// B/16's image tower with a text tower of one layer, for steps that take text features as given.
pub const B16_IMAGE: Size = Size { name: "ViT-B-16 image", text_layers: 1, ..B16 };

const VOCABULARY: usize = 49408;
const CONTEXT: usize = 77;

/// Numbers in [−1, 1) without a pattern.
pub fn noise(seed: u32, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn tensors(s: &Size) -> BTreeMap<String, Vec<usize>> {
    let mut all = BTreeMap::new();
    let mut add = |name: &str, shape: &[usize]| {
        all.insert(name.to_string(), shape.to_vec());
    };
    let mut tower = |prefix: &str, width: usize, layers: usize| {
        for i in 0..layers {
            let at = format!("{prefix}resblocks.{i}.");
            for norm in ["ln_1", "ln_2"] {
                add(&format!("{at}{norm}.weight"), &[width]);
                add(&format!("{at}{norm}.bias"), &[width]);
            }
            add(&format!("{at}attn.in_proj_weight"), &[3 * width, width]);
            add(&format!("{at}attn.in_proj_bias"), &[3 * width]);
            add(&format!("{at}attn.out_proj.weight"), &[width, width]);
            add(&format!("{at}attn.out_proj.bias"), &[width]);
            add(&format!("{at}mlp.c_fc.weight"), &[4 * width, width]);
            add(&format!("{at}mlp.c_fc.bias"), &[4 * width]);
            add(&format!("{at}mlp.c_proj.weight"), &[width, 4 * width]);
            add(&format!("{at}mlp.c_proj.bias"), &[width]);
        }
    };
    tower("visual.transformer.", s.image_width, s.image_layers);
    tower("transformer.", s.text_width, s.text_layers);
    let grid = s.resolution / s.patch;
    add("visual.conv1.weight", &[s.image_width, 3, s.patch, s.patch]);
    add("visual.class_embedding", &[s.image_width]);
    add("visual.positional_embedding", &[grid * grid + 1, s.image_width]);
    for norm in ["visual.ln_pre", "visual.ln_post"] {
        add(&format!("{norm}.weight"), &[s.image_width]);
        add(&format!("{norm}.bias"), &[s.image_width]);
    }
    add("visual.proj", &[s.image_width, s.embedding]);
    add("token_embedding.weight", &[VOCABULARY, s.text_width]);
    add("positional_embedding", &[CONTEXT, s.text_width]);
    add("ln_final.weight", &[s.text_width]);
    add("ln_final.bias", &[s.text_width]);
    add("text_projection", &[s.text_width, s.embedding]);
    add("logit_scale", &[]);
    all
}

/// A folder with a checkpoint of that size, made if it is not there.
pub fn folder(s: &Size) -> PathBuf {
    let name = format!("tipi-random-{}-{}", s.name.replace(' ', "-"), s.resolution);
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tmp").join(name);
    let path = folder.join("model.safetensors");
    if path.exists() {
        return folder;
    }
    std::fs::create_dir_all(&folder).unwrap();
    let made: Vec<(String, Vec<usize>, Vec<u8>)> = tensors(s)
        .into_iter()
        .enumerate()
        .map(|(i, (name, shape))| {
            let n = shape.iter().product();
            let fan_in = shape.last().copied().unwrap_or(1) as f32;
            let gain = name.contains("ln_") && name.ends_with("weight");
            let bytes = noise(i as u32, n)
                .into_iter()
                .map(|v| match name.as_str() {
                    "logit_scale" => 100f32.ln(),
                    _ if gain => 1.0 + 0.1 * v,
                    _ => v / fan_in.sqrt(),
                })
                .flat_map(|v| f16::from_f32(v).to_le_bytes())
                .collect();
            (name, shape, bytes)
        })
        .collect();
    let views = made.iter().map(|(n, s, b)| (n.clone(), TensorView::new(Dtype::F16, s.clone(), b).unwrap()));
    let part = folder.join("model.part");
    safetensors::serialize_to_file(views, None, &part).unwrap();
    std::fs::rename(part, path).unwrap();
    folder
}

/// A CLIP of that size with random weights.
pub fn clip(gpu: &Gpu, size: &Size, precision: Precision) -> Clip {
    Clip::load_as(gpu, &folder(size), precision).unwrap()
}

/// Token ids of PiNI's prompts for so many classes with names of 1–4 tokens: start token, 16 "x", four words of a
/// template, the name, ".", end token; and how many of them are noisy.
pub fn prompts(classes: usize) -> (Vec<Vec<u32>>, usize) {
    let noisy = 20;
    let ids = (0..classes).map(|c| {
        let mut ids = vec![49406u32];
        ids.extend(std::iter::repeat_n(343, 16));
        ids.extend([320, 1125, 539, 320]);
        ids.extend((0..1 + c % 4).map(|i| 1000 + (c * 7 + i * 131) as u32 % 40_000));
        ids.extend([269, 49407]);
        ids
    });
    (ids.collect(), noisy)
}

/// Records a PiNI training step on `classes` classes with `batch` pictures, whose features are given, and hands it to `f`:
/// what runs it, and its plan.
pub fn pini_step<R>(clip: &Clip, classes: usize, batch: usize, f: impl FnOnce(&dyn Fn(), &Plan) -> R) -> R {
    let (ids, noisy) = prompts(classes);
    let prompts = NoisyPrompts::from_ids(clip, &ids, noisy).unwrap();
    let params = Params::init(clip, noisy, 1, 1).unwrap();
    let trainer = Trainer::new(clip, prompts, params).unwrap();
    let step = trainer.step(batch, 1, true).unwrap();
    let config = Config::paper("a photo of a", 1);
    let images = noise(3, batch * clip.config.embedding);
    let labels: Vec<u32> = (0..batch).map(|i| (i % classes) as u32).collect();
    f(&|| step.run(&clip.gpu, &images, &labels, &config, 1e-4, 0).unwrap(), &step.plan)
}

/// Records a step of PiNI's noise on pixels with `batch` pictures and hands it to `f`: what runs it, and its plan.
pub fn pixel_step<R>(clip: &Clip, classes: usize, batch: usize, f: impl FnOnce(&dyn Fn(), &Plan) -> R) -> R {
    let d = clip.config.embedding;
    let config = Config { noise: Noise::Pixels, ..Config::paper("a photo of a", 1) };
    let text = clip.gpu.upload("texts", &noise(4, classes * d), &[classes, d]).unwrap();
    let net = pixels::fresh(&clip.gpu, &config).unwrap();
    let trainer = pixels::PixelTrainer::new(clip, &text, net).unwrap();
    let step = trainer.step(batch, 1, true).unwrap();
    let pictures = noise(3, batch * 3 * clip.preprocess.size.pow(2));
    let labels: Vec<u32> = (0..batch).map(|i| (i % classes) as u32).collect();
    f(&|| step.run(&clip.gpu, &pictures, &labels, &config, 1e-4, 0).unwrap(), &step.plan)
}

/// The best of several runs, after one that is not counted.
pub fn best(gpu: &Gpu, repeats: usize, run: &dyn Fn()) -> f64 {
    let once = || {
        let start = Instant::now();
        run();
        gpu.wait().unwrap();
        start.elapsed().as_secs_f64()
    };
    once();
    (0..repeats).map(|_| once()).fold(f64::MAX, f64::min)
}
