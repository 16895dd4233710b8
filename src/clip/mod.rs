//! CLIP: configuration, weights, tokenizer, and the two towers.

mod bpe;
mod charsmap;
mod checkpoint;
mod cleanup;
mod config;
pub mod convert;
mod convolution;
mod encoder;
mod frame;
mod image_plan;
mod image_tower;
mod json;
mod loader;
mod model;
mod mojibake;
mod names;
mod pixel_noise;
mod preprocess;
mod resnet;
mod sentencepiece;
mod source;
mod text_tower;
mod tokenizer;
mod tokenizer_file;
mod unigram;
mod vit;

pub use bpe::{Bpe, Markers};
pub use checkpoint::{Checkpoint, Parameters, WHOLE};
pub use config::{
    Biases, ClipConfig, EndToken, ImageConfig, Pool, ProjectionForm, ResNetConfig, Rotary, Stem, TextStem, TowerConfig,
    VitConfig,
};
pub use encoder::{BatchPlan, Features, ImageEncoder};
pub use frame::{Clean, Frame, Pad};
pub use image_plan::{ImagePlan, Kept, Samples};
pub use image_tower::{ImageTower, Projection};
pub use model::{Clip, ModelId, Rehearsed};
pub use names::Names;
pub use pixel_noise::{Drawn, PixelNoise};
pub use preprocess::{Preprocess, Resize};
pub use resnet::ResNet;
#[cfg(feature = "hub")]
pub(crate) use source::DESCRIPTIONS;
pub use source::Source;
pub(crate) use source::is_local;
pub use text_tower::{Packed, Prompts, TextSaved, TextTower};
pub use tokenizer::Tokenizer;
pub use vit::{AdaptedTowerSaved, CropFeatures, CropSizes, Crops, TowerSaved, VisionTransformer};

// What is hidden from the docs, here and elsewhere, only tests look at: the insides of towers, which they hold against other
// implementations, and functions in the form that those have. It is public because tests are crates of their own.
#[doc(hidden)]
pub use text_tower::TextTaps;
#[doc(hidden)]
pub use vit::{AdaptedTaps, ImageTaps};
