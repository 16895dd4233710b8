//! A device, as far as an application has to do with it.

use std::fmt;

use crate::Result;
use crate::gpu::{self, DeviceOptions, Hold, HostDevice, HostOptions, HostRequest};

/// An open device. Cheap to clone; clones share all that is on it. [`Gpu::low_level`] has the rest of it: tensors, recorded plans,
/// what kernels can count on.
#[derive(Clone)]
pub struct Gpu(gpu::Gpu);

impl Gpu {
    /// Opens the device that `options` ask for, else the best one: discrete before integrated before CPU.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for an environment variable whose value means nothing, [`Error::NoDevice`](crate::Error::NoDevice), [`Error::DeviceNotFound`](crate::Error::DeviceNotFound),
    /// [`Error::Gpu`](crate::Error::Gpu) when the driver refuses to open it.
    pub fn open(options: &DeviceOptions) -> Result<Gpu> {
        gpu::Gpu::open(options).map(Gpu)
    }

    /// Runs on a device that a host program has open and goes on using, within the features and limits that it was opened
    /// with. tipi and the host stay out of each other's way:
    ///
    /// * What goes wrong in tipi does not reach the host's handlers, nor the other way round. A device that the host destroys, or
    ///   the driver gives up, is [`Error::DeviceLost`](crate::Error::DeviceLost) at tipi's next call.
    /// * Work is handed over in small submissions, so that a frame is at most [`HostOptions::late`] late.
    /// * No call of tipi's keeps a lock of wgpu's while it waits. It still waits: call it from a thread that does not draw, and
    ///   not from within wgpu's callbacks. wgpu calls callbacks on whichever thread submits or looks next, so the host's may
    ///   be called on a thread that works for tipi; errors that they cause there are tipi's.
    /// * wgpu refuses to configure a surface, as when a window changes its size, while anybody submits: [`Gpu::hold`] keeps
    ///   tipi from it meanwhile.
    /// * When the last handle is dropped, its memory is freed and the device stays.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for a device that tipi cannot run on, with what it lacks; [`Error::Invalid`](crate::Error::Invalid) for an adapter that
    /// the device is not of, for `late` of nothing, and for an environment variable whose value means nothing;
    /// [`Error::DeviceLost`](crate::Error::DeviceLost) for a device that is gone.
    pub fn on(host: HostDevice, options: &HostOptions) -> Result<Gpu> {
        gpu::Gpu::on(host, options).map(Gpu)
    }

    /// What a host should ask for when it opens a device of this adapter, besides what it needs itself: features that make tipi
    /// faster (subgroups, 16-bit floats, matrix units where they work, a cache of compiled pipelines), and larger limits, which take
    /// larger batches and models. tipi runs without any of the features, and within WebGPU's default limits.
    ///
    /// [`HostRequest::merge`] adds it to a device descriptor; in egui-wgpu that is what `WgpuSetupCreateNew::device_descriptor`
    /// returns. Matrix units are experimental in wgpu, because it does not check that their loads and stores stay in bounds; who
    /// does not want that strikes `EXPERIMENTAL_COOPERATIVE_MATRIX` out of the features.
    pub fn wanted_of(adapter: &wgpu::Adapter) -> HostRequest {
        gpu::Gpu::wanted_of(adapter)
    }

    /// Keeps tipi from submitting until the result is dropped. It returns once nothing of tipi's is on its way to the queue, which
    /// may take one submission. Work on other threads waits where it would submit. What this thread asks for goes through, but
    /// it may need what such work has locked: do nothing of tipi's meanwhile.
    ///
    /// wgpu refuses to configure a surface while another thread submits ("Failed to wait for GPU to come idle"). A program
    /// whose window tipi works beside holds it where surfaces are configured: in its handler of window events.
    pub fn hold(&self) -> Hold<'_> {
        self.0.hold()
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    pub fn kind(&self) -> &'static str {
        self.0.kind()
    }

    /// Name, kind, backend and why this device was taken, in one line.
    pub fn describe(&self) -> String {
        self.0.describe()
    }

    /// Bytes of GPU memory that may be used in all: as asked for, else what the driver says there is; none where it does not say
    /// (Metal, Direct3D).
    pub fn memory(&self) -> Option<u64> {
        self.0.memory()
    }

    /// Bytes of GPU memory that models and what runs them take, or that are kept for reuse.
    pub fn allocated_bytes(&self) -> u64 {
        self.0.allocated_bytes()
    }

    /// The most bytes that [`Gpu::allocated_bytes`] was at one time.
    pub fn peak_bytes(&self) -> u64 {
        self.0.peak_bytes()
    }

    /// Gives back memory that is kept for reuse. What is made next takes a little longer.
    pub fn release(&self) {
        self.0.release();
    }

    /// The first error that the driver reported, if any: an application that has been asleep learns so that the device is lost.
    ///
    /// # Errors
    /// [`Error::DeviceLost`](crate::Error::DeviceLost), [`Error::Gpu`](crate::Error::Gpu).
    pub fn check(&self) -> Result<()> {
        self.0.check()
    }

    /// The device as `low_level` has it, where nothing is promised.
    pub fn low_level(&self) -> &gpu::Gpu {
        &self.0
    }
}

impl From<gpu::Gpu> for Gpu {
    fn from(gpu: gpu::Gpu) -> Gpu {
        Gpu(gpu)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({})", self.describe())
    }
}
