//! CLIP: configuration, weights, tokenizer, and the two towers.

mod bpe;
mod checkpoint;
mod cleanup;
mod config;
mod encoder;
mod image_plan;
mod image_tower;
mod json;
mod loader;
mod model;
mod mojibake;
mod preprocess;
mod resnet;
mod text_tower;
mod tokenizer;
mod tokenizer_file;
mod vit;

pub use bpe::{Bpe, Markers};
pub use checkpoint::{Checkpoint, Names, Parameters};
pub use config::{ClipConfig, EndToken, ImageConfig, ResNetConfig, TowerConfig};
pub use encoder::{BatchPlan, Features, ImageEncoder};
pub use image_plan::{ImagePlan, Kept, Samples};
pub use image_tower::{ImageTower, Projection};
pub use model::{Clip, ModelId};
pub use preprocess::{Preprocess, Resize};
pub use resnet::ResNet;
pub use text_tower::{Packed, Prompts, TextSaved, TextTaps, TextTower};
pub use tokenizer::Tokenizer;
pub use vit::{AdaptedTaps, AdaptedTowerSaved, ImageTaps, VisionTransformer};
