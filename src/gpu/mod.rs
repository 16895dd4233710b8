//! The GPU layer: adapters, buffers, pipelines and recorded plans on wgpu. It knows nothing of CLIP.
//!
//! The way through it: [`Gpu::open`] picks an adapter and opens it; [`Gpu::upload`] makes [`Tensor`]s;
//! a [`Recorder`] collects dispatches, taking its temporaries from a pool of its own; [`Recorder::finish`] turns
//! them into a [`Plan`] whose bind groups and parameters are built once; [`Plan::run`] encodes the whole step
//! into one pass and submits it; [`Gpu::read`] brings results back.

mod device;
mod pipeline;
mod pool;
mod profile;
mod recorder;
mod tensor;

pub use device::{AdapterReport, DeviceOptions, Gpu, list_adapters};
pub use pipeline::{Access, Shader, Variant};
pub use profile::{Profile, ProfileRow};
pub use recorder::{Dispatch, Grid, Plan, Recorder};
pub use tensor::{DType, Element, Tensor};
