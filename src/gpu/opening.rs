//! Opening a device: what was asked for, by options and by the environment, and what it gives.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::capabilities::Capabilities;
use super::choices::Choices;
use super::device::{Gpu, Inner};
use super::devices::{OPTIONAL, asked, choose, enumerate, names};
use super::environment;
use super::faults::Faults;
use super::ledger::{Ledger, installed};
use super::pipeline::Pipelines;
use super::pool::FreeList;
use super::profile::Profile;
use crate::{Error, Result};

/// How to open a device.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// Index or part of the name of the device; `None` takes `TIPI_DEVICE`, else the best one.
    pub device: Option<String>,
    /// Keep index and loop checks in the shaders. `None` takes `TIPI_CHECKED`, else they are on in debug builds.
    pub checked: Option<bool>,
    /// Choose kernels by measuring them on this device, now and before. `Some(false)` measures nothing and leaves what was
    /// measured before alone: the kernel that promises most is taken. `None` takes `TIPI_TUNE`, else measures.
    pub tune: Option<bool>,
    /// The kernel that products must take where it can, by name; `None` takes `TIPI_KERNEL`, else leaves the choice open.
    pub kernel: Option<String>,
    /// Use no optional feature that kernels choose by (subgroups, f16, matrix units): what a plain device would run.
    /// `TIPI_PORTABLE=1` says the same.
    pub portable: bool,
    /// GPU memory in bytes that may be used; `None` takes `TIPI_MEMORY` (in MiB), else what the driver says there is.
    pub memory: Option<u64>,
    /// The folder for compiled pipelines and for what was measured; `None` takes `TIPI_CACHE_DIR`, else the user's cache
    /// folder.
    pub cache: Option<PathBuf>,
    /// Collect per-kernel timestamps. Slower: every dispatch gets a pass of its own.
    pub profile: bool,
}

/// Options and environment together.
struct Asked {
    portable: bool,
    checked: bool,
    tune: bool,
    memory: Option<u64>,
    kernel: Option<String>,
    cache: Option<PathBuf>,
}

impl Asked {
    /// What was asked for; every variable must mean something, whether an option takes its place or not.
    fn of(options: &DeviceOptions) -> Result<Asked> {
        let portable = environment::switch("TIPI_PORTABLE")?.unwrap_or(false);
        let checked = environment::switch("TIPI_CHECKED")?.unwrap_or(cfg!(debug_assertions));
        let tune = environment::switch("TIPI_TUNE")?.unwrap_or(true);
        let memory = environment::mebibytes("TIPI_MEMORY")?;
        let kernel = options.kernel.clone().filter(|name| !name.is_empty());
        Ok(Asked {
            portable: options.portable || portable,
            checked: options.checked.unwrap_or(checked),
            tune: options.tune.unwrap_or(tune),
            memory: options.memory.or(memory),
            kernel: kernel.or_else(|| environment::text("TIPI_KERNEL")),
            cache: options.cache.clone().or_else(environment::cache_dir),
        })
    }
}

/// The features of `adapter` that tipi uses.
fn useful_features(adapter: &wgpu::Adapter) -> wgpu::Features {
    OPTIONAL.iter().fold(wgpu::Features::empty(), |all, (_, feature)| all | (adapter.features() & *feature))
}

/// Asks the driver for a device, with cooperative matrices or without.
fn request(
    adapter: &wgpu::Adapter,
    with_matrices: bool,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let mut required_features = useful_features(adapter);
    let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
    if with_matrices {
        required_features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        // SAFETY: what is experimental about cooperative matrices is that their loads and stores are not
        // bounds-checked; the kernels that use them stay within their tensors by the sizes that the host checks.
        experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("tipi"),
        required_features,
        required_limits: adapter.limits(),
        experimental_features,
        memory_hints: wgpu::MemoryHints::Performance,
        trace: wgpu::Trace::Off,
    }))
}

/// Opens `adapter`, and strikes from `capabilities` what it does not open with.
fn connect(
    adapter: &wgpu::Adapter,
    name: &str,
    capabilities: &mut Capabilities,
) -> Result<(wgpu::Device, wgpu::Queue)> {
    let opened = match request(adapter, capabilities.matrices.is_some()) {
        // An experimental feature must not keep anybody from a device that works without.
        Err(error) if capabilities.matrices.is_some() => {
            tracing::warn!("{name}: matrix units are left out: {error}");
            capabilities.matrices = None;
            request(adapter, false)
        }
        opened => opened,
    };
    opened.map_err(|e| Error::Gpu(format!("{name}: {e}")))
}

/// The file of compiled pipelines, where the driver can tell for which device they are.
fn pipelines_file(info: &wgpu::AdapterInfo, cache: &Path) -> Option<PathBuf> {
    let key = wgpu::util::pipeline_cache_key(info)?;
    Some(cache.join(format!("pipelines-{}-{key}", env!("CARGO_PKG_VERSION"))))
}

/// The file for what was measured on a device: another driver may do better with another kernel.
fn choices_file(info: &wgpu::AdapterInfo, portable: bool) -> String {
    let features = if portable { " portable" } else { "" };
    let name = format!("{} {} {} {}{features}", info.name, info.backend, info.driver, info.driver_info);
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    format!("kernels-{}-{}.json", env!("CARGO_PKG_VERSION"), plain.chars().take(120).collect::<String>())
}

impl Gpu {
    /// Opens the device that `options` ask for, else the best one: discrete before integrated before CPU.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an environment variable whose value means nothing, [`Error::NoDevice`],
    /// [`Error::DeviceNotFound`], [`Error::Unsupported`] when profiling is asked for and the device
    /// has no timestamps, [`Error::Gpu`] when the driver refuses to open it.
    pub fn open(options: &DeviceOptions) -> Result<Gpu> {
        // What was asked for must mean something, before anything is opened.
        let wanted = Asked::of(options)?;
        let adapters = enumerate();
        let (index, reason) = choose(&names(&adapters), asked(options.device.as_deref()).as_deref())?;
        let adapter = &adapters[index];
        let (info, limits) = (adapter.get_info(), adapter.limits());
        if options.profile && !adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::Unsupported {
                device: info.name,
                reason: "no timestamp queries, so kernels cannot be timed; open it without `profile`".into(),
            });
        }
        let cooperative = adapter.cooperative_matrix_properties();
        let capabilities = Capabilities::of(&adapter.features(), &info, &limits, &cooperative);
        let mut capabilities = if wanted.portable { capabilities.portable() } else { capabilities };
        let (device, queue) = connect(adapter, &info.name, &mut capabilities)?;

        let cache_file = wanted.cache.as_ref().and_then(|cache| pipelines_file(&info, cache));
        // Without measuring nothing is read from the file either, nor written there.
        let choices_dir = wanted.cache.filter(|_| wanted.tune);
        let choices = Choices::open(choices_dir.map(|dir| dir.join(choices_file(&info, wanted.portable))));
        let memory = wanted.memory.or_else(|| installed(adapter, capabilities.cpu));
        let inner = Inner {
            faults: Faults::of(&device),
            pipelines: Pipelines::new(&device, wanted.checked, cache_file),
            profile: options.profile.then(|| Mutex::new(Profile::new(queue.get_timestamp_period()))),
            // Measuring would count among what is profiled.
            measures: wanted.tune && !options.profile,
            kernel: wanted.kernel,
            pool: Arc::new(FreeList::default()),
            ledger: Arc::new(Ledger::new(memory)),
            staged: AtomicU64::new(0),
            device,
            queue,
            info,
            limits,
            capabilities,
            choices,
            reason,
        };
        Ok(Gpu { inner: Arc::new(inner), rehearsal: None })
    }
}
