//! CLIP: configuration, weights, tokenizer, and the two towers.

mod config;
mod image_tower;
mod model;
mod text_tower;
mod tokenizer;
mod weights;

pub use config::{ClipConfig, EndToken, Preprocess, TowerConfig};
pub use image_tower::{AdaptedTaps, AdaptedTowerSaved, ImagePlan, ImageTaps, ImageTower};
pub use model::{Clip, Features, ImageEncoder, ModelId};
pub use text_tower::{Packed, Prompts, TextSaved, TextTaps, TextTower};
pub use tokenizer::Tokenizer;
pub use weights::{Checkpoint, Names};
