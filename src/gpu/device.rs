//! The open device: its memory, its limits, and what went wrong on it.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::adapters::{OPTIONAL, asked, choose, enumerate, kind, names};
use super::arena::Extent;
use super::capabilities::Capabilities;
use super::choices::{Choices, Measured};
use super::environment;
use super::ledger::{Entry, Ledger, installed};
use super::pipeline::Pipelines;
use super::pool::{FreeList, rounded};
use super::profile::Profile;
use super::tensor::{DType, Memory, Storage, Tensor, extent};
use crate::{Error, Result};

/// How long a submission may run before tipi gives up on it. Plans are split so that each submission takes far
/// less than a second on a GPU; a CPU driver may need minutes for a large one.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// How to open a device.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// Index or part of the name of the adapter; `None` takes `TIPI_ADAPTER`, else the best one.
    pub adapter: Option<String>,
    /// Keep index and loop checks in the shaders. `None` takes `TIPI_CHECKED`, else they are on in debug builds.
    pub checked: Option<bool>,
    /// Choose kernels by measuring them on this adapter, now and before. `Some(false)` measures nothing and leaves what was
    /// measured before alone: the kernel that promises most is taken. `None` takes `TIPI_TUNE`, else measures.
    pub tune: Option<bool>,
    /// The kernel that products must take where it can, by name; `None` takes `TIPI_KERNEL`, else leaves the choice open.
    pub kernel: Option<String>,
    /// Use no optional feature that kernels choose by (subgroups, f16, matrix units): what a plain adapter would run.
    /// `TIPI_PORTABLE=1` says the same.
    pub portable: bool,
    /// GPU memory in bytes that may be used; `None` takes `TIPI_MEMORY` (in MiB), else what the driver says there is.
    pub memory: Option<u64>,
    /// The folder for compiled pipelines and for what was measured; `None` takes `TIPI_CACHE_DIR`, else the user's cache
    /// folder.
    pub cache: Option<PathBuf>,
    /// Collect per-kernel timestamps (`--profile`). Slower: every dispatch gets a pass of its own.
    pub profile: bool,
}

/// What went wrong asynchronously: the first validation error, and device loss.
#[derive(Debug, Default)]
struct Faults {
    error: Option<String>,
    lost: Option<String>,
}

pub(super) struct Inner {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub pipelines: Pipelines,
    pub profile: Option<Mutex<Profile>>,
    info: wgpu::AdapterInfo,
    limits: wgpu::Limits,
    capabilities: Capabilities,
    choices: Choices,
    kernel: Option<String>,
    measures: bool,
    reason: String,
    faults: Arc<Mutex<Faults>>,
    pool: Arc<FreeList>,
    ledger: Arc<Ledger>,
    /// Bytes written that the last submission has not carried over yet.
    pub staged: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pipelines.save();
        // Drivers dislike a device that goes away with work under way.
        let _ =
            self.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(Duration::from_secs(5)) });
    }
}

/// An open device. Cheap to clone; all clones share buffers and pipelines.
#[derive(Clone)]
pub struct Gpu(pub(super) Arc<Inner>, Option<Arc<Ledger>>);

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({})", self.describe())
    }
}

/// The file for what was measured on an adapter: another driver may do better with another kernel.
fn choices_file(info: &wgpu::AdapterInfo, portable: bool) -> String {
    let features = if portable { " portable" } else { "" };
    let name = format!("{} {} {} {}{features}", info.name, info.backend, info.driver, info.driver_info);
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    format!("kernels-{}-{}.json", env!("CARGO_PKG_VERSION"), plain.chars().take(120).collect::<String>())
}

/// Bytes that memory of this extent takes.
fn size_of_memory(extent: Extent) -> u64 {
    match extent {
        Extent::Bytes(bytes) => rounded(bytes),
        Extent::Texels(..) => extent.bytes(),
    }
}

impl Gpu {
    /// Opens the adapter that `options` ask for, else the best one: discrete before integrated before CPU.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an environment variable whose value means nothing, [`Error::NoAdapter`],
    /// [`Error::AdapterNotFound`], [`Error::Unsupported`] when profiling is asked for and the
    /// adapter has no timestamps, [`Error::Gpu`] when the driver refuses the device.
    pub fn open(options: &DeviceOptions) -> Result<Gpu> {
        // What was asked for must mean something, before anything is opened.
        let portable = environment::switch("TIPI_PORTABLE")?.unwrap_or(false);
        let checked = environment::switch("TIPI_CHECKED")?.unwrap_or(cfg!(debug_assertions));
        let tune = environment::switch("TIPI_TUNE")?.unwrap_or(true);
        let memory = environment::mebibytes("TIPI_MEMORY")?;
        let adapters = enumerate();
        let (index, reason) = choose(&names(&adapters), asked(options).as_deref())?;
        let adapter = &adapters[index];
        let info = adapter.get_info();
        let limits = adapter.limits();
        let mut features = wgpu::Features::empty();
        for (_, feature) in OPTIONAL {
            features |= adapter.features() & feature;
        }
        if options.profile && !features.contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::Unsupported {
                adapter: info.name,
                reason: "no timestamp queries, so --profile cannot work; run without it".into(),
            });
        }
        let capabilities =
            Capabilities::of(&adapter.features(), &info, &limits, &adapter.cooperative_matrix_properties());
        let portable = options.portable || portable;
        let mut capabilities = if portable { capabilities.portable() } else { capabilities };
        let request = |with_matrices: bool| {
            let mut required_features = features;
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
                required_limits: limits.clone(),
                experimental_features,
                memory_hints: wgpu::MemoryHints::Performance,
                trace: wgpu::Trace::Off,
            }))
        };
        let opened = match request(capabilities.matrices.is_some()) {
            // An experimental feature must not keep anybody from a device that works without.
            Err(error) if capabilities.matrices.is_some() => {
                tracing::warn!("{}: matrix units are left out: {error}", info.name);
                capabilities.matrices = None;
                request(false)
            }
            opened => opened,
        };
        let (device, queue) = opened.map_err(|e| Error::Gpu(format!("{}: {e}", info.name)))?;

        let faults = Arc::new(Mutex::new(Faults::default()));
        let sink = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let mut faults = sink.lock().unwrap_or_else(PoisonError::into_inner);
            faults.error.get_or_insert_with(|| error.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
        }));
        let sink = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                let mut faults = sink.lock().unwrap_or_else(PoisonError::into_inner);
                faults.lost.get_or_insert(message);
            }
        });

        let checked = options.checked.unwrap_or(checked);
        let cache = options.cache.clone().or_else(environment::cache_dir);
        let cache_file = wgpu::util::pipeline_cache_key(&info)
            .and_then(|key| Some(cache.as_ref()?.join(format!("pipelines-{}-{key}", env!("CARGO_PKG_VERSION")))));
        let pipelines = Pipelines::new(&device, checked, cache_file);
        let profile = options.profile.then(|| Mutex::new(Profile::new(queue.get_timestamp_period())));
        let pool = Arc::new(FreeList::default());
        let ledger = Arc::new(Ledger::new(match options.memory.or(memory) {
            Some(asked) => Some(asked),
            None => installed(adapter, capabilities.cpu),
        }));
        let kernel =
            options.kernel.clone().filter(|name| !name.is_empty()).or_else(|| environment::text("TIPI_KERNEL"));
        let tunes = options.tune.unwrap_or(tune);
        // Without measuring nothing is read from the file either, nor written there.
        let choices = Choices::open(cache.filter(|_| tunes).map(|dir| dir.join(choices_file(&info, portable))));
        // Measuring would count among what is profiled.
        let measures = tunes && !options.profile;
        let inner = Inner {
            device,
            queue,
            pipelines,
            profile,
            info,
            limits,
            capabilities,
            choices,
            kernel,
            measures,
            reason,
            faults,
            pool,
            ledger,
            staged: AtomicU64::new(0),
        };
        Ok(Gpu(Arc::new(inner), None))
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.0.info.name
    }

    /// "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    pub fn kind(&self) -> &'static str {
        kind(self.0.info.device_type)
    }

    /// What kernels can count on.
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// What was measured under `key` on this adapter, in this process or, where kernels are chosen by measuring
    /// ([`DeviceOptions::tune`]), in an earlier one.
    pub fn measured(&self, key: &str) -> Option<Measured> {
        self.0.choices.get(key)
    }

    /// Notes what was measured, for this process and, where kernels are chosen by measuring, for later ones.
    pub fn note_measured(&self, key: &str, measured: Measured) {
        self.0.choices.note(key, measured);
    }

    /// Forgets all that was measured on this adapter.
    pub fn forget_measured(&self) {
        self.0.choices.clear();
    }

    /// The file that keeps what was measured; `None` where none does.
    pub fn measured_file(&self) -> Option<&PathBuf> {
        self.0.choices.path()
    }

    /// The kernel that products must take where it can, as it was asked for.
    pub fn asked_kernel(&self) -> Option<&str> {
        self.0.kernel.as_deref()
    }

    /// Whether to measure what was not measured enough before.
    pub fn measures(&self) -> bool {
        self.0.measures && !self.rehearses()
    }

    /// Whether the "GPU" is a driver that runs on the CPU: kernels pick other tiles there.
    pub fn is_cpu(&self) -> bool {
        self.0.capabilities.cpu
    }

    /// Name, kind, backend and why this adapter was taken, in one line.
    pub fn describe(&self) -> String {
        format!("{} ({}, {}): {}", self.name(), self.kind(), self.0.info.backend, self.0.reason)
    }

    /// The same device for a rehearsal: tensors made and plans recorded through this handle take no memory, have no
    /// contents and run nothing, but their bytes are counted ([`Gpu::allocated_bytes`]). What a model and a training step
    /// will need is so known exactly, and in no time, before anything is allocated. The count begins at zero.
    #[must_use]
    pub fn rehearsal(&self) -> Gpu {
        Gpu(self.0.clone(), Some(Arc::new(Ledger::new(self.memory()))))
    }

    /// Whether this handle is a [`Gpu::rehearsal`].
    pub fn rehearses(&self) -> bool {
        self.1.is_some()
    }

    fn ledger(&self) -> &Arc<Ledger> {
        self.1.as_ref().unwrap_or(&self.0.ledger)
    }

    /// Notes that `bytes` are taken.
    pub(super) fn take(&self, what: &str, bytes: u64) -> Result<Entry> {
        match self.ledger().take(what, bytes) {
            // What is kept for reuse can still be given back.
            Err(_) if !self.rehearses() && self.0.pool.clear() => {
                self.wait()?;
                self.ledger().take(what, bytes)
            }
            taken => taken,
        }
    }

    /// Bytes of GPU memory that tensors and plans take, or that are kept for reuse.
    pub fn allocated_bytes(&self) -> u64 {
        self.ledger().used()
    }

    /// The most bytes that [`Gpu::allocated_bytes`] was at one time, since [`Gpu::forget_peak`] or from the start.
    pub fn peak_bytes(&self) -> u64 {
        self.ledger().peak()
    }

    /// Begins to count [`Gpu::peak_bytes`] anew.
    pub fn forget_peak(&self) {
        self.ledger().forget_peak();
    }

    /// Bytes of GPU memory that may be used in all: as asked for, else what the driver says there is; `None` where it
    /// does not say (Metal, Direct3D).
    pub fn memory(&self) -> Option<u64> {
        self.0.ledger.limit()
    }

    /// Largest tensor that one kernel can bind, in bytes.
    pub fn max_binding(&self) -> u64 {
        self.0.limits.max_storage_buffer_binding_size.min(self.0.limits.max_buffer_size)
    }

    /// A tensor whose contents are undefined.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] past the adapter's limits.
    pub fn empty(&self, what: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        self.allocate(&self.0.pool, what, shape, dtype)
    }

    /// The extent of a tensor, if one binding of this adapter can hold it.
    pub(super) fn checked_extent(&self, what: &str, shape: &[usize], dtype: DType) -> Result<Extent> {
        if shape.contains(&0) {
            return Err(Error::invalid(format!("{what}: shape {shape:?} has no elements")));
        }
        let needed = extent(shape, dtype);
        let why = match needed {
            Some(Extent::Bytes(bytes)) if bytes <= self.max_binding() => return Ok(Extent::Bytes(bytes)),
            Some(Extent::Texels(w, h, texel)) if w.max(h) <= self.0.limits.max_texture_dimension_2d => {
                return Ok(Extent::Texels(w, h, texel));
            }
            Some(Extent::Texels(w, h, _)) => {
                let most = self.0.limits.max_texture_dimension_2d;
                format!("a texture of {w}×{h} texels, of which this adapter allows {most} each way")
            }
            _ => format!("one binding of this adapter holds at most {} bytes", self.max_binding()),
        };
        Err(Error::OutOfMemory { what: what.into(), needed: needed.map_or(u64::MAX, Extent::bytes), why })
    }

    fn allocate(&self, home: &Arc<FreeList>, what: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let extent = self.checked_extent(what, shape, dtype)?;
        let meaning = OnceLock::new();
        let tensor = |storage| Tensor { storage: Arc::new(storage), shape: shape.to_vec(), dtype };
        if self.rehearses() {
            let entry = Some(self.take(what, size_of_memory(extent))?);
            return Ok(tensor(Storage { memory: OnceLock::new(), entry, home: std::sync::Weak::new(), meaning }));
        }
        let (memory, entry) = match home.take(extent) {
            Some(free) => free,
            None => {
                let entry = self.take(what, size_of_memory(extent))?;
                (self.make(what, extent)?, entry)
            }
        };
        Ok(tensor(Storage { memory: OnceLock::from(memory), entry: Some(entry), home: Arc::downgrade(home), meaning }))
    }

    /// New GPU memory.
    pub(super) fn make(&self, what: &str, extent: Extent) -> Result<Memory> {
        let device = &self.0.device;
        let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let memory = match extent {
            Extent::Bytes(bytes) => Memory::Buffer(device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(what),
                size: rounded(bytes).min(self.0.limits.max_buffer_size),
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })),
            Extent::Texels(width, height, texel) => {
                let texture = device.create_texture(&wgpu::TextureDescriptor {
                    label: Some(what),
                    size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
                    mip_level_count: 1,
                    sample_count: 1,
                    dimension: wgpu::TextureDimension::D2,
                    format: if texel == 8 {
                        wgpu::TextureFormat::Rgba16Float
                    } else {
                        wgpu::TextureFormat::Rgba32Float
                    },
                    usage: wgpu::TextureUsages::TEXTURE_BINDING
                        | wgpu::TextureUsages::STORAGE_BINDING
                        | wgpu::TextureUsages::COPY_DST,
                    view_formats: &[],
                });
                let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
                Memory::Texture(texture, view)
            }
        };
        if pollster::block_on(scope.pop()).is_some() {
            let why = "the driver has no more".into();
            return Err(Error::OutOfMemory { what: what.into(), needed: extent.bytes(), why });
        }
        Ok(memory)
    }

    /// Waits until everything submitted has run, within bounds.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is gone or stays silent, [`Error::Gpu`] on any error noted so far.
    pub fn wait(&self) -> Result<()> {
        self.wait_for(None)
    }

    /// Waits until a submission, or everything submitted, has run.
    pub(super) fn wait_for(&self, submission: Option<&wgpu::SubmissionIndex>) -> Result<()> {
        let start = Instant::now();
        loop {
            let timeout = Some(Duration::from_secs(10));
            let submission_index = submission.cloned();
            let poll = self.0.device.poll(wgpu::PollType::Wait { submission_index, timeout });
            self.check()?;
            match poll {
                Ok(_) => return Ok(()),
                Err(wgpu::PollError::Timeout) if start.elapsed() < PATIENCE => {}
                Err(wgpu::PollError::Timeout) => {
                    return Err(Error::DeviceLost(format!("no answer for {} s", PATIENCE.as_secs())));
                }
                Err(e) => return Err(Error::Gpu(e.to_string())),
            }
        }
    }

    /// The first error that the driver reported, if any.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Gpu`].
    pub fn check(&self) -> Result<()> {
        let faults = self.0.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lost) = &faults.lost {
            return Err(Error::DeviceLost(lost.clone()));
        }
        match &faults.error {
            Some(error) => Err(Error::Gpu(error.clone())),
            None => Ok(()),
        }
    }

    /// The timestamps collected so far, when the device was opened with `profile`.
    pub fn profile(&self) -> Option<Profile> {
        self.0.profile.as_ref().map(|p| p.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) fn limits(&self) -> &wgpu::Limits {
        &self.0.limits
    }
}
