//! Everything that the door is built from, for programs that need more than it has: kernels of their own, the papers'
//! protocol step by step, files read and checked as tipi does. **Nothing here is promised**: names and signatures change
//! with any version.
//!
//! From the bottom up: [`gpu`] knows wgpu and nothing of CLIP; [`kernels`] has one module per shader family; [`nn`] the
//! layers; [`clip`] the towers; [`data`] pictures on the CPU; [`encode`] takes pictures to features; [`adapt`] has one
//! module per method; [`memory`] foresees what they need; [`neighbours`] finds the rows that are most like others. [`input`]
//! opens files, [`output`] is where results go, [`lock`] keeps two programs apart, [`numbers`] checks values, [`text`] makes
//! foreign text safe to print, [`watch`] has progress, [`roofline`] times kernels. With the feature `eval`, `report` draws and `eval` runs the papers' protocol; with `hub`,
//! `hub` fetches models.

#[path = "adapt/mod.rs"]
pub mod adapt;
#[path = "clip/mod.rs"]
pub mod clip;
#[path = "data/mod.rs"]
pub mod data;
#[path = "encode/mod.rs"]
pub mod encode;
#[cfg(feature = "eval")]
#[path = "eval/mod.rs"]
pub mod eval;
#[path = "gpu/mod.rs"]
pub mod gpu;
#[cfg(feature = "hub")]
#[path = "hub/mod.rs"]
pub mod hub;
#[path = "input.rs"]
pub mod input;
#[path = "kernels/mod.rs"]
pub mod kernels;
#[path = "lock.rs"]
pub mod lock;
#[path = "memory.rs"]
pub mod memory;
#[path = "neighbours.rs"]
pub mod neighbours;
#[path = "nn/mod.rs"]
pub mod nn;
#[path = "numbers.rs"]
pub mod numbers;
#[path = "output/mod.rs"]
pub mod output;
#[cfg(feature = "eval")]
#[path = "report/mod.rs"]
pub mod report;
#[path = "roofline.rs"]
pub mod roofline;
#[path = "text.rs"]
pub mod text;
#[path = "watch.rs"]
pub mod watch;
