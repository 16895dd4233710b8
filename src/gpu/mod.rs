//! The GPU layer: devices, buffers, pipelines and recorded plans on wgpu. It knows nothing of CLIP.
//!
//! The way through it: [`Gpu::open`] picks a device and opens it, or [`Gpu::on`] takes one that a host program has open; [`Gpu::upload`] makes [`Tensor`]s;
//! a [`Recorder`] collects dispatches; [`Recorder::finish`] lays out their temporaries by lifetime and turns
//! them into a [`Plan`] whose bind groups and parameters are built once; [`Plan::run`] encodes the whole step
//! into one pass and submits it; [`Gpu::read`] brings results back. [`Gpu::rehearsal`] does all of it but run: it counts
//! the memory.

mod allocation;
mod arena;
mod capabilities;
mod choices;
mod device;
mod devices;
mod environment;
mod faults;
mod fitting;
mod gate;
mod host;
mod ledger;
mod limits;
mod link;
mod memory;
mod opening;
mod pace;
mod pipeline;
mod plan;
mod pool;
mod profile;
mod recorder;
mod stop;
mod tensor;
mod timeline;
mod transfer;
mod trials;
mod wait;
mod wgsl;

pub use capabilities::{Capabilities, Matrices};
pub use choices::Measured;
pub use device::Gpu;
pub use devices::{DeviceReport, list_devices};
pub(crate) use fitting::advise;
pub use fitting::largest;
pub use gate::Hold;
pub use host::{HostDevice, HostOptions, HostRequest};
pub use limits::LimitSet;
pub use opening::DeviceOptions;
pub use pipeline::{Access, Shader, Variant};
pub use plan::Plan;
pub use profile::{Profile, ProfileRow};
pub use recorder::{Dispatch, Grid, Recorder};
pub use stop::Stop;
pub(crate) use stop::check as heed_stop;
pub use tensor::{DType, Element, Tensor};
pub use timeline::Span;
pub use transfer::ReadBack;
pub use wgsl::{Binding, Wgsl};
