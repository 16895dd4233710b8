//! tipi: few-shot CLIP on any GPU.
//!
//! Hand-written WGSL on wgpu runs CLIP and adapts it to a user's own few pictures per class, on any Vulkan, Metal or
//! DX12 device, without CUDA and without Python.
//!
//! ```no_run
//! use tipi::adapt::zero_shot::Classifier;
//! use tipi::clip::Clip;
//! use tipi::data::decode;
//! use tipi::gpu::{DeviceOptions, Gpu};
//!
//! # fn main() -> tipi::Result<()> {
//! let gpu = Gpu::open(&DeviceOptions::default())?;
//! let clip = Clip::load(&gpu, "weights/picto".as_ref())?;
//! let classes = ["anchor".to_string(), "bell".to_string()];
//! let classifier = Classifier::new(&clip, &classes, &["an icon of {}".to_string()])?;
//! let pixels = clip.pixels(&decode("picture.png".as_ref())?);
//! let features = clip.image_encoder(1)?.encode(&pixels, &mut |_| {})?;
//! let logits = classifier.logits(&features, &gpu)?;
//! println!("{}: {logits:?}", gpu.describe());
//! # Ok(())
//! # }
//! ```
//!
//! The house, from the bottom up: [`gpu`] knows wgpu and nothing of CLIP; [`kernels`] has one module per shader
//! family; [`nn`] the layers; [`clip`] the towers; [`data`] pictures on the CPU; [`encode`] takes pictures to features;
//! [`adapt`] has one module per method; [`memory`] foresees what they need; [`report`] draws; [`eval`] runs the
//! papers' protocol and reports it; [`input`] opens files, [`output`] is where results go, [`lock`] keeps two programs apart,
//! [`numbers`] checks values. The feature `hub`
//! (on by default) adds the module `hub`, which fetches models. ARCHITECTURE.md tells the data's way through it.

// A library does not print; the program, the examples and the tests do.
#![warn(clippy::print_stdout, clippy::print_stderr)]
// Files are opened by `input` alone, which tells pipes and devices from files.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod error;
mod files;
mod identity;
pub mod low_level;
mod settings;

// The house calls its rooms by their short names.
#[cfg(feature = "hub")]
use low_level::hub;
use low_level::{adapt, clip, data, encode, gpu, input, kernels, memory, nn, numbers, text, watch};
#[cfg(feature = "eval")]
use low_level::{eval, lock, output, report};

pub use error::{Error, Result};
use files::hex;
