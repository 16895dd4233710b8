//! Adapters and the open device.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::arena::Extent;
use super::capabilities::{Capabilities, Matrices};
use super::choices::Choices;
use super::pipeline::Pipelines;
use super::pool::{FreeList, rounded};
use super::profile::Profile;
use super::tensor::{DType, Element, Memory, Storage, TEXEL_COLS, Tensor, extent};
use crate::{Error, Result};

/// How long a submission may run before tipi gives up on it. Plans are split so that each submission takes far
/// less than a second on a GPU; a CPU driver may need minutes for a large one.
const PATIENCE: Duration = Duration::from_secs(600);

/// Bytes of an upload that are staged at once.
const PIECE: usize = 16 << 20;

/// How to open a device.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// Index or part of the name of the adapter; `None` takes `TIPI_ADAPTER`, else the best one.
    pub adapter: Option<String>,
    /// Keep index and loop checks in the shaders. `None`: on in debug builds and with `TIPI_CHECKED=1`.
    pub checked: Option<bool>,
    /// Measure which kernel is best where that was never measured on this adapter. `None`: unless `TIPI_TUNE` is "off" or
    /// "0". What was measured before is used either way.
    pub tune: Option<bool>,
    /// The kernel that products must take where it can, by name; `None` takes `TIPI_KERNEL`, else leaves the choice open.
    pub kernel: Option<String>,
    /// Use no optional feature that kernels choose by (subgroups, f16, matrix units): what a plain adapter would run.
    /// `TIPI_PORTABLE=1` says the same.
    pub portable: bool,
    /// Collect per-kernel timestamps (`--profile`). Slower: every dispatch gets a pass of its own.
    pub profile: bool,
}

/// What tipi knows of an adapter, and what it would use of it.
#[derive(Clone, Debug)]
pub struct AdapterReport {
    /// Index, as `--adapter` takes it.
    pub index: usize,
    /// The adapter's name.
    pub name: String,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    pub kind: &'static str,
    /// Vulkan, Metal, Dx12, …
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// Invocations per workgroup.
    pub max_invocations: u32,
    /// Smallest and largest subgroup size; zeros where the adapter has none.
    pub subgroup: (u32, u32),
    /// What kernels could count on.
    pub capabilities: Capabilities,
    /// Features that tipi uses when they are there.
    pub uses: Vec<&'static str>,
    /// Whether it would be picked without `--adapter`.
    pub default: bool,
}

/// Features used when present: name shown, and the flag.
const OPTIONAL: [(&str, wgpu::Features); 4] = [
    ("timestamps", wgpu::Features::TIMESTAMP_QUERY),
    ("pipeline cache", wgpu::Features::PIPELINE_CACHE),
    ("subgroups", wgpu::Features::SUBGROUP),
    ("16-bit floats", wgpu::Features::SHADER_F16),
];

fn kind(ty: wgpu::DeviceType) -> &'static str {
    match ty {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "CPU",
        wgpu::DeviceType::Other => "other",
    }
}

/// Lower is better: discrete before integrated before virtual before unknown before CPU.
fn rank(ty: wgpu::DeviceType) -> u32 {
    match ty {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

/// Which adapter to take, and why. `wanted` is an index or part of a name; a pure function so that it can be tested.
fn choose(adapters: &[(String, wgpu::DeviceType)], wanted: Option<&str>) -> Result<(usize, String)> {
    if adapters.is_empty() {
        return Err(Error::NoAdapter);
    }
    if let Some(wanted) = wanted {
        // A number is an index and nothing else: many names have digits in them.
        let lower = wanted.to_lowercase();
        let found = match wanted.parse::<usize>() {
            Ok(index) => Some(index).filter(|i| *i < adapters.len()),
            Err(_) if lower.is_empty() => None,
            Err(_) => adapters.iter().position(|(name, _)| name.to_lowercase().contains(&lower)),
        };
        return match found {
            Some(i) => Ok((i, format!("asked for as '{wanted}'"))),
            None => Err(Error::AdapterNotFound {
                asked: wanted.into(),
                available: adapters
                    .iter()
                    .enumerate()
                    .map(|(i, (name, ty))| format!("{i}: {name} ({})", kind(*ty)))
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        };
    }
    let mut best = 0;
    for (i, (_, ty)) in adapters.iter().enumerate() {
        if rank(*ty) < rank(adapters[best].1) {
            best = i;
        }
    }
    let why = if adapters.len() == 1 {
        "the only adapter".to_string()
    } else {
        format!("best of {}: discrete before integrated before CPU", adapters.len())
    };
    Ok((best, why))
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
    desc.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let instance = wgpu::Instance::new(desc);
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
}

fn names(adapters: &[wgpu::Adapter]) -> Vec<(String, wgpu::DeviceType)> {
    adapters.iter().map(|a| a.get_info()).map(|i| (i.name, i.device_type)).collect()
}

fn asked(options: &DeviceOptions) -> Option<String> {
    let from_environment = || std::env::var_os("TIPI_ADAPTER").filter(|v| !v.is_empty());
    options.adapter.clone().or_else(|| from_environment().map(|v| v.to_string_lossy().into_owned()))
}

/// All adapters, with what tipi would use of each (`tipi devices`).
///
/// # Errors
/// [`Error::NoAdapter`] when there are none.
pub fn list_adapters() -> Result<Vec<AdapterReport>> {
    let adapters = enumerate();
    let (default, _) = choose(&names(&adapters), None)?;
    Ok(adapters
        .iter()
        .enumerate()
        .map(|(index, adapter)| {
            let info = adapter.get_info();
            let (features, limits) = (adapter.features(), adapter.limits());
            let capabilities = Capabilities::of(&features, &info, &limits, &adapter.cooperative_matrix_properties());
            AdapterReport {
                index,
                kind: kind(info.device_type),
                backend: info.backend.to_string(),
                driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
                max_binding: limits.max_storage_buffer_binding_size,
                workgroup_memory: limits.max_compute_workgroup_storage_size,
                max_invocations: limits.max_compute_invocations_per_workgroup,
                subgroup: (info.subgroup_min_size, info.subgroup_max_size),
                uses: OPTIONAL
                    .iter()
                    .filter(|(_, f)| features.contains(*f))
                    .map(|(n, _)| *n)
                    .chain(capabilities.matrices.map(Matrices::name))
                    .collect(),
                capabilities,
                default: index == default,
                name: info.name,
            }
        })
        .collect())
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
pub struct Gpu(pub(super) Arc<Inner>);

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({})", self.describe())
    }
}

/// Where tipi keeps what it can make again: `TIPI_CACHE_DIR`, else the user's cache folder.
fn cache_dir() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("TIPI_CACHE_DIR").or_else(|| {
        if cfg!(target_os = "windows") {
            var("LOCALAPPDATA").map(|p| p.join("tipi"))
        } else if cfg!(target_os = "macos") {
            var("HOME").map(|p| p.join("Library/Caches/tipi"))
        } else {
            var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|p| p.join(".cache"))).map(|p| p.join("tipi"))
        }
    })
}

/// The file for what was measured on an adapter: another driver may do better with another kernel.
fn choices_file(info: &wgpu::AdapterInfo, portable: bool) -> String {
    let features = if portable { " portable" } else { "" };
    let name = format!("{} {} {} {}{features}", info.name, info.backend, info.driver, info.driver_info);
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    format!("kernels-{}-{}.json", env!("CARGO_PKG_VERSION"), plain.chars().take(120).collect::<String>())
}

impl Gpu {
    /// Opens the adapter that `options` ask for, else the best one: discrete before integrated before CPU.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], [`Error::AdapterNotFound`], [`Error::Unsupported`] when profiling is asked for and the
    /// adapter has no timestamps, [`Error::Gpu`] when the driver refuses the device.
    pub fn open(options: &DeviceOptions) -> Result<Gpu> {
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
        let portable = options.portable || std::env::var("TIPI_PORTABLE").is_ok_and(|v| v == "1");
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

        let checked =
            options.checked.unwrap_or(cfg!(debug_assertions) || std::env::var("TIPI_CHECKED").is_ok_and(|v| v == "1"));
        let cache_file = wgpu::util::pipeline_cache_key(&info)
            .and_then(|key| Some(cache_dir()?.join(format!("pipelines-{}-{key}", env!("CARGO_PKG_VERSION")))));
        let pipelines = Pipelines::new(&device, checked, cache_file);
        let profile = options.profile.then(|| Mutex::new(Profile::new(queue.get_timestamp_period())));
        let pool = Arc::new(FreeList::default());
        let from_environment = || std::env::var_os("TIPI_KERNEL").map(|v| v.to_string_lossy().into_owned());
        let kernel = options.kernel.clone().or_else(from_environment).filter(|name| !name.is_empty());
        let choices = Choices::open(cache_dir().map(|dir| dir.join(choices_file(&info, portable))));
        let asked = options.tune.unwrap_or_else(|| !std::env::var("TIPI_TUNE").is_ok_and(|v| v == "off" || v == "0"));
        // Measuring would count among what is profiled.
        let measures = asked && !options.profile;
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
        };
        Ok(Gpu(Arc::new(inner)))
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

    /// What was measured to be best under `key` on this adapter, in this process or an earlier one.
    pub fn measured(&self, key: &str) -> Option<String> {
        self.0.choices.get(key)
    }

    /// Notes what was measured to be best, for this process and later ones.
    pub fn note_measured(&self, key: &str, choice: &str) {
        self.0.choices.note(key, choice);
    }

    /// Forgets all that was measured on this adapter.
    pub fn forget_measured(&self) {
        self.0.choices.clear();
    }

    /// The file that keeps what was measured.
    pub fn measured_file(&self) -> Option<&PathBuf> {
        self.0.choices.path()
    }

    /// The kernel that products must take where it can, as it was asked for.
    pub fn asked_kernel(&self) -> Option<&str> {
        self.0.kernel.as_deref()
    }

    /// Whether to measure what was never measured before.
    pub fn measures(&self) -> bool {
        self.0.measures
    }

    /// Whether the "GPU" is a driver that runs on the CPU: kernels pick other tiles there.
    pub fn is_cpu(&self) -> bool {
        self.0.capabilities.cpu
    }

    /// Name, kind, backend and why this adapter was taken, in one line.
    pub fn describe(&self) -> String {
        format!("{} ({}, {}): {}", self.name(), self.kind(), self.0.info.backend, self.0.reason)
    }

    /// Bytes of all tensors made outside of plans, in use or kept for reuse.
    pub fn allocated_bytes(&self) -> u64 {
        self.0.pool.allocated()
    }

    /// Largest tensor that one kernel can bind, in bytes.
    pub fn max_binding(&self) -> u64 {
        self.0.limits.max_storage_buffer_binding_size.min(self.0.limits.max_buffer_size)
    }

    /// A tensor with contents from the host.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] past the adapter's limits, [`Error::Invalid`] when `data` does not fill `shape`.
    pub fn upload<T: Element>(&self, what: &str, data: &[T], shape: &[usize]) -> Result<Tensor> {
        let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if elements != Some(data.len()) {
            return Err(Error::invalid(format!("{what}: {} values for shape {shape:?}", data.len())));
        }
        let tensor = self.empty(what, shape, T::DTYPE)?;
        self.write(&tensor, data)?;
        Ok(tensor)
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] past the adapter's limits.
    pub fn zeros(&self, what: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.empty(what, shape, DType::F32)?;
        let mut encoder = self.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.clear_buffer(tensor.buffer()?, 0, None);
        self.0.queue.submit([encoder.finish()]);
        Ok(tensor)
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
        let memory = match home.take(extent) {
            Some(memory) => memory,
            None => {
                let memory = self.make(what, extent)?;
                home.note(match &memory {
                    Memory::Buffer(buffer) => buffer.size(),
                    Memory::Texture(..) => extent.bytes(),
                });
                memory
            }
        };
        let storage = Storage { memory: OnceLock::from(memory), home: Arc::downgrade(home) };
        Ok(Tensor { storage: Arc::new(storage), shape: shape.to_vec(), dtype })
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

    /// Overwrites a tensor's contents. Takes effect before the next plan that is run.
    ///
    /// # Errors
    /// [`Error::Invalid`] when length or element type differ.
    pub fn write<T: Element>(&self, tensor: &Tensor, data: &[T]) -> Result<()> {
        if data.len() != tensor.len() || T::DTYPE != tensor.dtype() {
            return Err(Error::invalid(format!(
                "writing {} values to a {:?} tensor of shape {:?}",
                data.len(),
                tensor.dtype(),
                tensor.shape()
            )));
        }
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let padded;
        let bytes = if T::DTYPE == DType::F16 && !tensor.cols().is_multiple_of(2) {
            let row = 2 * tensor.cols();
            padded = bytes.chunks(row).flat_map(|r| r.iter().copied().chain([0, 0])).collect::<Vec<u8>>();
            &padded
        } else {
            bytes
        };
        // Pieces, each flushed: otherwise a large upload is staged a second time in full.
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            self.0.queue.write_buffer(tensor.buffer()?, (i * PIECE) as u64, piece);
            if bytes.len() > PIECE {
                self.0.queue.submit([]);
                self.wait()?;
            }
        }
        Ok(())
    }

    /// A matrix `[rows, cols]` of texels with contents from the host, f32 or f16; the last texel of each row is filled up
    /// with zeros.
    ///
    /// # Errors
    /// As [`Gpu::upload`].
    pub fn upload_texels<T: Element>(&self, what: &str, data: &[T], shape: [usize; 2]) -> Result<Tensor> {
        let dtype = match T::DTYPE {
            DType::F32 => DType::Texels,
            DType::F16 => DType::HalfTexels,
            other => return Err(Error::invalid(format!("{what}: no texels of {other:?}"))),
        };
        let [rows, cols] = shape;
        if rows.checked_mul(cols) != Some(data.len()) {
            return Err(Error::invalid(format!("{what}: {} values for shape {shape:?}", data.len())));
        }
        let tensor = self.empty(what, &shape, dtype)?;
        let Memory::Texture(texture, _) = tensor.memory()? else {
            return Err(Error::invalid(format!("{what}: not a texture")));
        };
        let width = cols.div_ceil(TEXEL_COLS);
        let stride = width * TEXEL_COLS * size_of::<T>();
        let rows_at_once = (PIECE / stride).max(1);
        let mut padded = Vec::new();
        for (i, piece) in data.chunks(rows_at_once * cols).enumerate() {
            padded.clear();
            for row in piece.chunks(cols) {
                padded.extend_from_slice(bytemuck::cast_slice::<T, u8>(row));
                padded.resize(padded.len().next_multiple_of(stride), 0);
            }
            let mut to = texture.as_image_copy();
            to.origin.y = (i * rows_at_once) as u32;
            let height = (padded.len() / stride) as u32;
            self.0.queue.write_texture(
                to,
                &padded,
                wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(stride as u32), rows_per_image: None },
                wgpu::Extent3d { width: width as u32, height, depth_or_array_layers: 1 },
            );
            if rows * stride > PIECE {
                self.0.queue.submit([]);
                self.wait()?;
            }
        }
        Ok(tensor)
    }

    /// A tensor's contents. Waits for all work submitted so far.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Gpu`], [`Error::Invalid`] when the element type differs.
    pub fn read<T: Element>(&self, tensor: &Tensor) -> Result<Vec<T>> {
        self.begin_read(tensor)?.finish()
    }

    /// Starts reading a tensor's contents as they will be when all work submitted so far is done, without waiting for it:
    /// later steps may be submitted, and may overwrite the tensor, before [`ReadBack::finish`] is called.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    pub fn begin_read<T: Element>(&self, tensor: &Tensor) -> Result<ReadBack<T>> {
        if T::DTYPE != tensor.dtype() {
            return Err(Error::invalid(format!("reading a {:?} tensor as {:?}", tensor.dtype(), T::DTYPE)));
        }
        let staging = self.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size: tensor.bytes(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(tensor.buffer()?, 0, &staging, 0, tensor.bytes());
        let submission = self.0.queue.submit([encoder.finish()]);
        self.check()?;
        let cols = tensor.cols();
        Ok(ReadBack { gpu: self.clone(), staging, submission, cols, element: std::marker::PhantomData })
    }

    /// Maps a read-back buffer, which `submission` fills, and copies it out.
    pub(super) fn map(&self, staging: &wgpu::Buffer, submission: &wgpu::SubmissionIndex) -> Result<Vec<u8>> {
        let (sender, receiver) = std::sync::mpsc::channel();
        staging.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            let _ = sender.send(result);
        });
        let start = Instant::now();
        let mapped = loop {
            self.wait_for(Some(submission))?;
            // The callback may run on another thread that polls the same device, a moment after our wait.
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(mapped) => break mapped,
                Err(_) if start.elapsed() < PATIENCE => {}
                Err(_) => return Err(Error::DeviceLost("a read-back did not finish".into())),
            }
        };
        mapped.map_err(|e| Error::Gpu(format!("read-back: {e}")))?;
        let bytes = staging.slice(..).get_mapped_range().map_err(|e| Error::Gpu(format!("read-back: {e}")))?.to_vec();
        staging.unmap();
        Ok(bytes)
    }

    /// Waits until everything submitted has run, within bounds.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is gone or stays silent, [`Error::Gpu`] on any error noted so far.
    pub fn wait(&self) -> Result<()> {
        self.wait_for(None)
    }

    /// Waits until a submission, or everything submitted, has run.
    fn wait_for(&self, submission: Option<&wgpu::SubmissionIndex>) -> Result<()> {
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

/// A read that was started by [`Gpu::begin_read`].
pub struct ReadBack<T> {
    gpu: Gpu,
    staging: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    cols: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Element> ReadBack<T> {
    /// The contents. Waits for the work submitted before the read was started, not for later work.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Gpu`].
    pub fn finish(self) -> Result<Vec<T>> {
        let mut bytes = self.gpu.map(&self.staging, &self.submission)?;
        if T::DTYPE == DType::F16 && !self.cols.is_multiple_of(2) {
            let row = 2 * self.cols;
            bytes = bytes.chunks(row + 2).flat_map(|r| &r[..row]).copied().collect();
        }
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::choose;
    use crate::Error;
    use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu};

    fn adapters() -> Vec<(String, wgpu::DeviceType)> {
        vec![("llvmpipe".into(), Cpu), ("Intel Iris".into(), IntegratedGpu), ("GeForce RTX 4090".into(), DiscreteGpu)]
    }

    #[test]
    fn prefers_discrete_and_says_why() {
        let (i, why) = choose(&adapters(), None).unwrap();
        assert_eq!(i, 2);
        assert!(why.contains("discrete before integrated"));
        assert_eq!(choose(&adapters()[..2], None).unwrap().0, 1);
        assert_eq!(choose(&adapters()[..1], None).unwrap(), (0, "the only adapter".into()));
    }

    #[test]
    fn an_asked_for_adapter_is_taken_or_is_an_error() {
        assert_eq!(choose(&adapters(), Some("0")).unwrap().0, 0);
        assert_eq!(choose(&adapters(), Some("iris")).unwrap().0, 1);
        // "4090" holds a 0 and a 4, and is still neither adapter 4 nor any other index.
        assert!(choose(&adapters(), Some("4")).is_err() && choose(&adapters(), Some("")).is_err());
        let error = choose(&adapters(), Some("7")).unwrap_err();
        assert!(matches!(error, Error::AdapterNotFound { .. }));
        assert!(error.to_string().contains("2: GeForce RTX 4090 (discrete GPU)"), "{error}");
        assert!(matches!(choose(&[], None), Err(Error::NoAdapter)));
    }
}
