//! tipi: few-shot CLIP on any GPU.

pub mod adapt;
pub mod clip;
pub mod data;
mod error;
pub mod gpu;
pub mod kernels;
pub mod nn;

pub use error::{Error, Result};
