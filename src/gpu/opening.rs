//! Opening a device: what was asked for, by options and by the environment, and what it gives.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::capabilities::Capabilities;
use super::choices::Choices;
use super::device::{Gpu, Inner};
use super::devices::{OPTIONAL, asked, choose, enumerate, info_of, names};
use super::environment;
use super::ledger::{Ledger, installed};
use super::limits::LimitSet;
use super::link::Link;
use super::pace::Pace;
use super::pipeline::Pipelines;
use super::pool::FreeList;
use super::profile::Profile;
use super::timeline::Timeline;
use super::trials::{Trials, listed};
use super::wait;
use crate::{Error, Result};

/// How to open a device. What tipi's own program and tests set beside this is not shown, so write `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// Index or part of the name of the device; `None` takes `TIPI_DEVICE`, else the best one.
    pub device: Option<String>,
    /// Keep index and loop checks in the shaders. `None` takes `TIPI_CHECKED`, else they are on in debug builds.
    pub checked: Option<bool>,
    /// Choose kernels by measuring them on this device, now and before. `Some(false)` measures nothing and leaves what was
    /// measured before alone: the kernel that promises most is taken. `None` takes `TIPI_TUNE`, else measures.
    pub tune: Option<bool>,
    #[doc(hidden)]
    /// The kernel that products must take where it can, by name; `None` takes `TIPI_KERNEL`, else leaves the choice open.
    pub kernel: Option<String>,
    /// Use no optional feature that kernels choose by (subgroups, f16, matrix units): what a plain device would run.
    /// `TIPI_PORTABLE=1` says the same.
    pub portable: bool,
    #[doc(hidden)]
    /// Open it as a device that has no more than this; `None` takes `TIPI_LIMITS`, else all that there is.
    pub limits: Option<LimitSet>,
    #[doc(hidden)]
    /// A program that tries kernels whose first use was under way when a process ended: it is called with `try-kernels`, a
    /// device's index and a file, and ends with status 0 where [`Gpu::try_kernels`] does well. tipi's own is one. `None`
    /// tries them in this process.
    pub trial: Option<PathBuf>,
    /// GPU memory in bytes that may be used; `None` takes `TIPI_MEMORY` (in MiB), else what the driver says there is.
    pub memory: Option<u64>,
    /// The folder for compiled pipelines and for what was measured; `None` takes `TIPI_CACHE_DIR`, else the user's cache
    /// folder.
    pub cache: Option<PathBuf>,
    #[doc(hidden)]
    /// Collect per-kernel timestamps. Slower: every dispatch gets a pass of its own.
    pub profile: bool,
}

/// Options and environment together.
#[derive(Default)]
pub(super) struct Asked {
    pub portable: bool,
    pub limits: Option<LimitSet>,
    checked: bool,
    pub tune: Option<bool>,
    memory: Option<u64>,
    kernel: Option<String>,
    cache: Option<PathBuf>,
}

impl Asked {
    /// What was asked for; every variable must mean something, whether an option takes its place or not.
    pub fn of(options: &DeviceOptions) -> Result<Asked> {
        let portable = environment::switch("TIPI_PORTABLE")?.unwrap_or(false);
        let checked = environment::switch("TIPI_CHECKED")?.unwrap_or(cfg!(debug_assertions));
        let tune = environment::switch("TIPI_TUNE")?;
        let memory = environment::mebibytes("TIPI_MEMORY")?;
        let limits = environment::limits()?;
        let kernel = options.kernel.clone().filter(|name| !name.is_empty());
        Ok(Asked {
            portable: options.portable || portable,
            limits: options.limits.or(limits),
            checked: options.checked.unwrap_or(checked),
            tune: options.tune.or(tune),
            memory: options.memory.or(memory),
            kernel: kernel.or_else(|| environment::text("TIPI_KERNEL")),
            cache: options.cache.clone().or_else(environment::cache_dir),
        })
    }
}

/// What a device is opened with, or used for.
pub(super) struct Wanted {
    pub features: wgpu::Features,
    pub limits: wgpu::Limits,
    pub capabilities: Capabilities,
}

impl Wanted {
    /// All of `adapter` that tipi uses and that was asked for.
    pub fn of(adapter: &wgpu::Adapter, info: &wgpu::AdapterInfo, asked: &Asked) -> Wanted {
        Wanted::out_of(adapter, info, (adapter.features(), adapter.limits()), asked)
    }

    /// All of these features and limits of `adapter` that tipi uses and that was asked for.
    pub fn out_of(
        adapter: &wgpu::Adapter,
        info: &wgpu::AdapterInfo,
        (features, limits): (wgpu::Features, wgpu::Limits),
        asked: &Asked,
    ) -> Wanted {
        let all = OPTIONAL.iter().fold(wgpu::Features::empty(), |all, (_, feature)| all | *feature)
            | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        let pretended = asked.limits.map_or(all, |set| all & set.features());
        let features = features & pretended;
        let limits = asked.limits.map_or(limits.clone(), |set| set.of(&limits));
        let capabilities = Capabilities::of(&features, info, &limits, &adapter.cooperative_matrix_properties());
        let capabilities = if asked.portable { capabilities.portable() } else { capabilities };
        let capabilities = if asked.limits.is_some() { capabilities.pretended() } else { capabilities };
        Wanted { features, limits, capabilities }
    }
}

/// A connection to a device, and what is known of it.
pub(super) struct Opened<'p> {
    pub link: Link,
    pub pace: Option<Pace>,
    pub info: wgpu::AdapterInfo,
    pub wanted: Wanted,
    /// What tells the device from others in files' names.
    pub stem: String,
    /// Memory that there is.
    pub installed: Option<u64>,
    /// The program that tries kernels, with its arguments.
    pub program: Option<(&'p Path, &'p [&'p str])>,
    pub measures: bool,
    pub profiles: bool,
    /// Why it was taken.
    pub reason: String,
}

/// Asks the driver for a device, with cooperative matrices or without.
fn request(
    adapter: &wgpu::Adapter,
    wanted: &Wanted,
    with_matrices: bool,
) -> std::result::Result<(wgpu::Device, wgpu::Queue), String> {
    let mut required_features = wanted.features;
    let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
    required_features.set(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, with_matrices);
    if with_matrices {
        // SAFETY: what is experimental about cooperative matrices is that their loads and stores are not
        // bounds-checked; the kernels that use them stay within their tensors by the sizes that the host checks.
        experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    let opened = wait::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("tipi"),
        required_features,
        required_limits: wanted.limits.clone(),
        experimental_features,
        memory_hints: wgpu::MemoryHints::Performance,
        trace: wgpu::Trace::Off,
    }));
    opened.map_err(|error| error.to_string())
}

/// [`request`] with cooperative matrices, which some drivers announce and wgpu then panics over.
pub(super) fn request_with_matrices(
    adapter: &wgpu::Adapter,
    wanted: &Wanted,
) -> std::result::Result<(wgpu::Device, wgpu::Queue), String> {
    // Nothing is left half done: neither value is used again after a panic but to ask once more.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| request(adapter, wanted, true)))
        .unwrap_or_else(|_| Err("the driver does not keep what it promises".into()))
}

/// Opens `adapter`, and strikes from what is wanted what it does not open with.
fn connect(adapter: &wgpu::Adapter, name: &str, wanted: &mut Wanted) -> Result<(wgpu::Device, wgpu::Queue)> {
    if wanted.capabilities.matrices.is_some() {
        match request_with_matrices(adapter, wanted) {
            Ok(opened) => return Ok(opened),
            // An experimental feature must not keep anybody from a device that works without.
            Err(error) => {
                tracing::warn!("{name}: matrix units are left out: {error}");
                wanted.capabilities.matrices = None;
            }
        }
    }
    request(adapter, wanted, false).map_err(|e| Error::Gpu(format!("{name}: {e}")))
}

/// The file of compiled pipelines, where the driver can tell for which device they are.
fn pipelines_file(info: &wgpu::AdapterInfo, cache: &Path) -> Option<PathBuf> {
    let key = wgpu::util::pipeline_cache_key(info)?;
    Some(cache.join(format!("pipelines-{}-{key}", env!("CARGO_PKG_VERSION"))))
}

/// What tells a device and its driver from others, as part of a file's name: another driver may do better with another kernel.
pub(super) fn file_stem(info: &wgpu::AdapterInfo, asked: &Asked) -> String {
    let features = if asked.portable { " portable" } else { "" };
    let limits = asked.limits.map_or(String::new(), |set| format!(" {}", set.name()));
    let name = format!("{} {} {} {}{features}{limits}", info.name, info.backend, info.driver, info.driver_info);
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    format!("{}-{}", env!("CARGO_PKG_VERSION"), plain.chars().take(120).collect::<String>())
}

/// What is left of `capabilities` where kernels ended programs on this device: those that need subgroups, or matrix units,
/// have others beside them that do without.
fn without_deadly(capabilities: &mut Capabilities, trials: &Trials) {
    if trials.leaves_out(&|key| key.starts_with("gemm_matrix")) {
        capabilities.matrices = None;
    }
    let by_subgroups = |key: &str| {
        let family = key.split('/').next().unwrap_or_default();
        ["_subgroup", "_subgroups", "_texel"].iter().any(|form| family.ends_with(form))
    };
    if trials.leaves_out(&by_subgroups) {
        (capabilities.subgroups, capabilities.matrices) = (None, None);
    }
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
        let asked_for = Asked::of(options)?;
        let adapters = enumerate();
        let (index, reason) = choose(&names(&adapters), asked(options.device.as_deref()).as_deref())?;
        let adapter = &adapters[index];
        let info = info_of(adapter);
        let mut wanted = Wanted::of(adapter, &info, &asked_for);
        if options.profile && !wanted.features.contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::Unsupported {
                device: info.name,
                reason: "no timestamp queries, so kernels cannot be timed; open it without `profile`".into(),
            });
        }
        let (device, queue) = connect(adapter, &info.name, &mut wanted)?;
        let number = index.to_string();
        let program = options.trial.as_deref().map(|program| (program, ["try-kernels", "--device", number.as_str()]));
        let opened = Opened {
            link: Link::own(device, queue),
            pace: None,
            stem: file_stem(&info, &asked_for),
            installed: installed(adapter, wanted.capabilities.cpu),
            program: program.as_ref().map(|(program, args)| (*program, args.as_slice())),
            // Measuring would count among what is profiled.
            measures: asked_for.tune.unwrap_or(true) && !options.profile,
            profiles: options.profile,
            info,
            wanted,
            reason,
        };
        Ok(Gpu::with(opened, asked_for))
    }

    /// The device on an open connection.
    pub(super) fn with(opened: Opened<'_>, asked: Asked) -> Gpu {
        let Opened { link, pace, info, wanted, stem, installed, program, measures, profiles, reason } = opened;
        let Wanted { limits, mut capabilities, .. } = wanted;
        let cache_file = asked.cache.as_ref().and_then(|cache| pipelines_file(&info, cache));
        let pipelines = link.with(|device, _| Pipelines::new(device, asked.checked, cache_file));
        // Kernels with index checks are others.
        let checked = if asked.checked { "-checked" } else { "" };
        let trials = Trials::open(asked.cache.clone().map(|folder| (folder, format!("{stem}{checked}"))));
        trials.settle(program, &|trial| pipelines.attempt(&link, trial));
        without_deadly(&mut capabilities, &trials);
        // Without measuring nothing is read from the file either, nor written there.
        let choices_dir = asked.cache.filter(|_| asked.tune.unwrap_or(true));
        let choices = Choices::open(choices_dir.map(|dir| dir.join(format!("kernels-{stem}.json"))));
        let period = |_: &wgpu::Device, queue: &wgpu::Queue| queue.get_timestamp_period();
        let inner = Inner {
            profile: profiles.then(|| Mutex::new(Profile::new(link.with(period)))),
            timeline: Timeline::default(),
            pipelines,
            trials,
            measures,
            kernel: asked.kernel,
            pool: Arc::new(FreeList::default()),
            ledger: Arc::new(Ledger::new(asked.memory.or(installed))),
            staged: AtomicU64::new(0),
            link,
            pace,
            info,
            limits,
            capabilities,
            choices,
            reason,
        };
        Gpu { inner: Arc::new(inner), rehearsal: None }
    }

    /// Compiles and runs the kernels that a file lists, as [`DeviceOptions::trial`] says: whether all of them did well. A driver
    /// that cannot do it may end the process.
    ///
    /// # Errors
    /// A file that cannot be read or is no such list.
    pub fn try_kernels(&self, list: &Path) -> Result<bool> {
        let Inner { pipelines, link, .. } = &*self.inner;
        let trials = listed(list)?;
        Ok(trials.iter().all(|trial| pipelines.attempt(link, trial)) && self.check().is_ok())
    }
}
