//! Running on a device that a host program has open, say to draw its window with it: what it should ask for when it opens it,
//! whether what it has is enough, and how tipi stays out of its way.

use std::path::PathBuf;
use std::time::Duration;

use super::device::Gpu;
use super::gate::Hold;
use super::ledger::installed;
use super::link::Link;
use super::opening::{Asked, DeviceOptions, Opened, Wanted, file_stem, request_with_matrices};
use super::pace::Pace;
use crate::{Error, Result};

/// How late a frame may be where nobody says.
const LATE: Duration = Duration::from_millis(8);

/// A device that a host program has open. All three are handles that are cheap to clone; egui-wgpu's `RenderState` has them.
#[derive(Clone, Debug)]
pub struct HostDevice {
    /// What the device was opened from.
    pub adapter: wgpu::Adapter,
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
}

/// How to run on a host's device; write `..Default::default()` after what you set. What an option leaves open the environment says, as for [`DeviceOptions`].
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// The most that a frame may wait behind tipi's work; `None` is 8 ms. Smaller costs tipi some speed. It holds where single
    /// kernels are faster than that, as on a discrete GPU; what they take is learned within the first few submissions.
    pub late: Option<Duration>,
    /// As [`DeviceOptions::memory`]. The host's own buffers and textures are not counted, so it should leave them room.
    pub memory: Option<u64>,
    /// As [`DeviceOptions::cache`].
    pub cache: Option<PathBuf>,
    /// As [`DeviceOptions::checked`].
    pub checked: Option<bool>,
    /// As [`DeviceOptions::tune`], but `None` measures nothing new, only takes what was measured before: a window that is
    /// drawn meanwhile disturbs the clock.
    pub tune: Option<bool>,
    #[doc(hidden)]
    /// As [`DeviceOptions::kernel`].
    pub kernel: Option<String>,
    /// As [`DeviceOptions::portable`].
    pub portable: bool,
}

/// What a host should ask for when it opens a device that tipi is to use, besides what it needs itself: see
/// [`Gpu::wanted_of`].
#[derive(Clone, Debug)]
pub struct HostRequest {
    /// Features that the adapter has and tipi uses.
    pub features: wgpu::Features,
    /// WebGPU's default limits, with those that tipi can use raised to the adapter's.
    pub limits: wgpu::Limits,
    /// Allows cooperative matrices where they are among the features.
    pub experimental_features: wgpu::ExperimentalFeatures,
}

impl HostRequest {
    /// Adds it to what a host asks for. Nothing that the host asked for gets less.
    pub fn merge<L>(&self, descriptor: &mut wgpu::wgt::DeviceDescriptor<L>) {
        descriptor.required_features |= self.features;
        for need in &NEEDS {
            (need.raise)(&mut descriptor.required_limits, &self.limits);
        }
        if self.experimental_features.is_enabled() {
            descriptor.experimental_features = self.experimental_features;
        }
    }
}

/// A limit that tipi needs so much of at least.
struct Need {
    name: &'static str,
    least: u64,
    get: fn(&wgpu::Limits) -> u64,
    raise: fn(&mut wgpu::Limits, &wgpu::Limits),
}

macro_rules! need {
    ($field:ident, $least:expr) => {
        Need {
            name: stringify!($field),
            least: $least,
            get: |limits| limits.$field.into(),
            raise: |limits, to| limits.$field = limits.$field.max(to.$field),
        }
    };
}

/// The least of it is what [`super::LimitSet::Mobile`] has, under which all of tipi is tried.
const NEEDS: [Need; 9] = [
    need!(max_storage_buffer_binding_size, 128 << 20),
    need!(max_buffer_size, 128 << 20),
    need!(max_storage_buffers_per_shader_stage, 8),
    need!(max_compute_workgroup_storage_size, 16 << 10),
    need!(max_compute_invocations_per_workgroup, 128),
    need!(max_compute_workgroup_size_x, 128),
    need!(max_compute_workgroup_size_y, 128),
    need!(max_compute_workgroups_per_dimension, 65535),
    need!(max_texture_dimension_2d, 4096),
];

/// Whether tipi can run on a device with these limits, of an adapter with those.
fn suits(
    info: &wgpu::AdapterInfo,
    flags: wgpu::DownlevelFlags,
    limits: &wgpu::Limits,
    adapter: &wgpu::Limits,
) -> Result<()> {
    let unsupported = |reason| Err(Error::Unsupported { device: info.name.clone(), reason });
    if ![wgpu::Backend::Vulkan, wgpu::Backend::Metal, wgpu::Backend::Dx12].contains(&info.backend) {
        let backend = info.backend;
        return unsupported(format!("it is used through {backend}; tipi needs Vulkan, Metal or Direct3D 12"));
    }
    if !flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
        return unsupported("it has no compute shaders, and tipi needs them; take another device".into());
    }
    let short: Vec<&Need> = NEEDS.iter().filter(|need| (need.get)(limits) < need.least).collect();
    if short.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = (short.iter())
        .map(|need| format!("{} is {}, tipi needs {}", need.name, (need.get)(limits), need.least))
        .collect();
    let remedy = if short.iter().all(|need| (need.get)(adapter) >= need.least) {
        "the adapter has as much: open the device with what `Gpu::wanted_of` gives"
    } else {
        "the adapter has no more: take another one"
    };
    unsupported(format!("the program opened it with less than tipi needs: {}; {remedy}", list.join(", ")))
}

/// What tells a device with less than its adapter has from a whole one, in files' names: what was measured on one does not
/// hold for the other.
fn lesser(has: &Wanted, could: &Wanted) -> String {
    let (has, could) = (&has.capabilities, &could.capabilities);
    if has == could {
        return String::new();
    }
    let parts = [has.subgroups.map(|_| "s"), has.f16.then_some("h"), has.matrices.map(|_| "m")];
    let parts: String = parts.into_iter().flatten().collect();
    format!("-less-{parts}{}-{}-{}", has.workgroup_memory, has.invocations, has.texture)
}

impl Gpu {
    /// What a host should ask for when it opens a device of this adapter, besides what it needs itself:
    ///
    /// * `SUBGROUP`: sums within a subgroup instead of through workgroup memory; most kernels on a CPU driver;
    /// * `SHADER_F16`: with cooperative matrices, their operands;
    /// * `EXPERIMENTAL_COOPERATIVE_MATRIX`: matrix units, several times as fast where there are some. Only where a device
    ///   opens with them, which is tried: some drivers promise them and do not keep it. wgpu calls them experimental because
    ///   it does not check that their loads and stores stay in bounds; who does not want that strikes the feature out;
    /// * `PIPELINE_CACHE`: later starts compile nothing;
    /// * limits: larger bindings and buffers take larger batches and models, larger textures more products on CPU drivers;
    ///   the others are raised to what tipi needs at the least, should a host ask for little.
    ///
    /// tipi runs without any of the features, and within WebGPU's default limits. [`HostRequest::merge`] adds it to a
    /// device descriptor; in egui-wgpu that is what `WgpuSetupCreateNew::device_descriptor` returns.
    pub fn wanted_of(adapter: &wgpu::Adapter) -> HostRequest {
        let (info, has) = (adapter.get_info(), adapter.limits());
        let wanted = Wanted::of(adapter, &info, &Asked::default());
        let matrices = wanted.capabilities.matrices.is_some() && request_with_matrices(adapter, &wanted).is_ok();
        let mut features = wanted.features - wgpu::Features::TIMESTAMP_QUERY;
        features.set(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, matrices);
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if matrices {
            // SAFETY: as where tipi opens a device with them.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let mut limits = wgpu::Limits::default().or_worse_values_from(&has);
        for need in &NEEDS {
            (need.raise)(&mut limits, &has);
        }
        HostRequest { features, limits, experimental_features }
    }

    /// Keeps tipi from submitting until the result is dropped. [`crate::Gpu::hold`] says what for.
    pub fn hold(&self) -> Hold<'_> {
        self.inner.link.hold()
    }

    /// Runs on a device that a host program has open and goes on using, within the features and limits that it was opened
    /// with. [`crate::Gpu::on`] says how the two stay out of each other's way, and what fails.
    ///
    /// Inputs lie in the queue until anybody submits, and that may be a frame: no more than some megabytes at a time.
    ///
    /// # Errors
    /// As [`crate::Gpu::on`].
    pub fn on(host: HostDevice, options: &HostOptions) -> Result<Gpu> {
        let HostOptions { late, memory, cache, checked, tune, kernel, portable } = options.clone();
        let asked = Asked::of(&DeviceOptions { memory, cache, checked, tune, kernel, portable, ..Default::default() })?;
        let late = late.unwrap_or(LATE);
        if late.is_zero() {
            return Err(Error::invalid("late: a frame may be late by some milliseconds; nothing runs in no time"));
        }
        let HostDevice { adapter, device, queue } = host;
        let (info, of) = (device.adapter_info(), adapter.get_info());
        let identity = |info: &wgpu::AdapterInfo| (info.name.clone(), info.vendor, info.device, info.backend);
        if identity(&info) != identity(&of) {
            let (device, adapter) = (&info.name, &of.name);
            return Err(Error::invalid(format!("device {device} was not opened from adapter {adapter}, give its own")));
        }
        suits(&info, adapter.get_downlevel_capabilities().flags, &device.limits(), &adapter.limits())?;
        let wanted = Wanted::out_of(&adapter, &info, (device.features(), device.limits()), &asked);
        let stem = file_stem(&info, &asked) + &lesser(&wanted, &Wanted::of(&adapter, &info, &asked));
        let link = Link::shared(device, queue);
        link.check()?;
        let opened = Opened {
            link,
            pace: Some(Pace::new(late)),
            installed: installed(&adapter, wanted.capabilities.cpu),
            program: None,
            measures: asked.tune == Some(true),
            profiles: false,
            reason: "the device of the program that tipi is part of".into(),
            info,
            wanted,
            stem,
        };
        Ok(Gpu::with(opened, asked))
    }
}

#[cfg(test)]
mod tests {
    use super::{NEEDS, suits};
    use crate::gpu::LimitSet;

    fn said(backend: wgpu::Backend, flags: wgpu::DownlevelFlags, limits: &wgpu::Limits) -> String {
        let mut info = wgpu::AdapterInfo::new(wgpu::DeviceType::DiscreteGpu, backend);
        info.name = "Some GPU".into();
        suits(&info, flags, limits, &wgpu::Limits::default()).err().map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn what_tipi_is_tried_under_suits_it() {
        let all = wgpu::DownlevelFlags::all();
        for set in LimitSet::ALL {
            let limits = set.of(&wgpu::Limits::unlimited());
            for backend in [wgpu::Backend::Vulkan, wgpu::Backend::Metal, wgpu::Backend::Dx12] {
                assert_eq!(said(backend, all, &limits), "", "{}", set.name());
            }
        }
        let mobile = LimitSet::Mobile.of(&wgpu::Limits::unlimited());
        let tight = NEEDS.iter().filter(|need| (need.get)(&mobile) == need.least).count();
        assert!(tight >= 7, "only {tight} needs are as low as what they were tried under");
    }

    #[test]
    fn what_is_missing_is_named_with_what_would_be_right() {
        let (vulkan, all) = (wgpu::Backend::Vulkan, wgpu::DownlevelFlags::all());
        for need in &NEEDS {
            let mut limits = wgpu::Limits::downlevel_webgl2_defaults();
            NEEDS.iter().filter(|n| n.name != need.name).for_each(|n| (n.raise)(&mut limits, &wgpu::Limits::default()));
            let error = said(vulkan, all, &limits);
            let fine = (need.get)(&limits) >= need.least;
            let named = error.contains(need.name) && error.contains(&format!("needs {}", need.least));
            assert!(fine != named && (fine || error.contains("Some GPU")), "{}: {error}", need.name);
            assert!(fine || error.contains("Gpu::wanted_of"), "{error}");
        }
        assert!(said(wgpu::Backend::Gl, all, &wgpu::Limits::default()).contains("Vulkan, Metal or Direct3D 12"));
        let error = said(vulkan, all - wgpu::DownlevelFlags::COMPUTE_SHADERS, &wgpu::Limits::default());
        assert!(error.contains("no compute shaders"), "{error}");
    }
}
