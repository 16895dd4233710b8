//! Devices.

use tipi::{DeviceOptions, DeviceReport, Gpu, list_devices};

use crate::foreign::{Kept, Options, Place, TipiStr, item, options, place};
use crate::handle::{Held, held};
use crate::status::{Failure, TipiStatus, guard};

/// The devices that there are.
pub struct TipiDevices {
    _private: [u8; 0],
}

/// An open device.
pub struct TipiGpu {
    _private: [u8; 0],
}

pub(crate) struct Devices(Vec<Device>);

struct Device {
    report: DeviceReport,
    name: Kept,
    kind: Kept,
    backend: Kept,
    driver: Kept,
    uses: Kept,
}

impl Device {
    fn new(report: DeviceReport) -> Device {
        let (name, kind) = (report.name.as_str().into(), report.kind.into());
        let (backend, driver) = (report.backend.as_str().into(), report.driver.as_str().into());
        let uses = report.uses.join(", ").as_str().into();
        Device { report, name, kind, backend, driver, uses }
    }
}

impl Held for Devices {
    type Handle = TipiDevices;
    const KIND: &'static str = "TipiDevices";
}

pub(crate) struct Open {
    pub gpu: Gpu,
    name: Kept,
    kind: Kept,
    description: Kept,
}

impl Held for Open {
    type Handle = TipiGpu;
    const KIND: &'static str = "a TipiGpu";
}

/// A device that there is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiDevice {
    /// Its index, as text of which `TipiDeviceOptions.device` takes it.
    pub index: usize,
    /// Its name.
    pub name: TipiStr,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    pub kind: TipiStr,
    /// Vulkan, Metal, Dx12, …
    pub backend: TipiStr,
    /// The driver's name and version.
    pub driver: TipiStr,
    /// Features of it that tipi uses, with commas between them.
    pub uses: TipiStr,
    /// Whether it would be picked where none is asked for.
    pub is_default: bool,
}

/// How a device is opened.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiDeviceOptions {
    /// `sizeof(TipiDeviceOptions)`.
    pub size: usize,
    /// Index or part of the name of the device; where it is empty, what the environment variable TIPI_DEVICE says, else the best one.
    pub device: TipiStr,
    /// The folder for compiled pipelines and what was measured; where it is empty, TIPI_CACHE_DIR, else the user's cache folder.
    pub cache: TipiStr,
    /// Bytes of GPU memory that may be used; where it is 0, TIPI_MEMORY (in MiB), else what the driver says there is.
    pub memory: u64,
    /// 1 keeps index and loop checks in the shaders, -1 leaves them out; 0 does what TIPI_CHECKED says, else what the build is for.
    pub checked: i32,
    /// 1 chooses kernels by measuring them, -1 does not; 0 does what TIPI_TUNE says, else measures.
    pub tune: i32,
    /// Not 0: uses no optional feature of the device.
    pub portable: i32,
}

// SAFETY: it is so.
unsafe impl Options for TipiDeviceOptions {
    const USUAL: TipiDeviceOptions = TipiDeviceOptions {
        size: size_of::<TipiDeviceOptions>(),
        device: NONE,
        cache: NONE,
        memory: 0,
        checked: 0,
        tune: 0,
        portable: 0,
    };
}

/// No text.
pub(crate) const NONE: TipiStr = TipiStr { data: std::ptr::null(), length: 0 };

/// What an open device is, and how much of its memory is in use.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiGpuInfo {
    /// Its name.
    pub name: TipiStr,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    pub kind: TipiStr,
    /// Name, kind, backend and why this device was taken, in one line.
    pub description: TipiStr,
    /// Bytes of GPU memory that may be used in all; 0 where the driver does not say.
    pub memory: u64,
    /// Bytes that models and what runs them take, or that are kept for reuse.
    pub allocated: u64,
    /// The most that `allocated` was at one time.
    pub peak: u64,
}

/// Looks for devices. None opens one.
///
/// Ownership: `*devices` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_devices_list(devices: *mut *mut TipiDevices) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let devices = Place::at("devices", devices)?;
        devices.put(Devices(list_devices()?.into_iter().map(Device::new).collect()));
        Ok(())
    })
}

/// How many devices there are.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_devices_count(devices: *const TipiDevices, count: *mut usize) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        place("count", count)?.write(held::<Devices>("devices", devices)?.0.len());
        Ok(())
    })
}

/// The device of this number, from 0 on.
///
/// Ownership: the texts of `*device` are those of `devices`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_devices_get(
    devices: *const TipiDevices,
    number: usize,
    device: *mut TipiDevice,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let devices = held::<Devices>("devices", devices)?;
        let Device { report, name, kind, backend, driver, uses } = item("number", &devices.0, number)?;
        place("device", device)?.write(TipiDevice {
            index: report.index,
            name: name.str(),
            kind: kind.str(),
            backend: backend.str(),
            driver: driver.str(),
            uses: uses.str(),
            is_default: report.default,
        });
        Ok(())
    })
}

/// Opens a device: the one that the options ask for, else the best: discrete before integrated before CPU. Everything begins here, so
/// `abi` must be `TIPI_ABI_VERSION`: the program and the library agree, or nothing is done. `device_options` may be NULL.
///
/// Ownership: `*gpu` is the caller's, to be freed with `tipi_free`. What is made on the device keeps it open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_gpu_open(
    abi: u32,
    device_options: *const TipiDeviceOptions,
    gpu: *mut *mut TipiGpu,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let gpu = Place::at("gpu", gpu)?;
        if abi != crate::ABI_VERSION {
            let message = format!(
                "the program was compiled for ABI {abi} of tipi, and this library ({}) has ABI {}: compile it with this library's header",
                env!("CARGO_PKG_VERSION"),
                crate::ABI_VERSION
            );
            return Err(Failure { status: TipiStatus::TipiAbi, message });
        }
        let asked = options("device_options", device_options)?;
        let switch = |value: i32| (value != 0).then_some(value > 0);
        let opened = Gpu::open(&DeviceOptions {
            device: asked.device.given("device_options.device")?.map(String::from),
            cache: asked.cache.given("device_options.cache")?.map(Into::into),
            memory: Some(asked.memory).filter(|memory| *memory > 0),
            checked: switch(asked.checked),
            tune: switch(asked.tune),
            portable: asked.portable != 0,
            ..DeviceOptions::default()
        })?;
        let (name, kind) = (opened.name().into(), opened.kind().into());
        let description = opened.describe().as_str().into();
        gpu.put(Open { gpu: opened, name, kind, description });
        Ok(())
    })
}

/// What a device is, and how much of its memory is in use.
///
/// Ownership: the texts of `*info` are those of `gpu`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_gpu_info(gpu: *const TipiGpu, info: *mut TipiGpuInfo) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let open = held::<Open>("gpu", gpu)?;
        place("info", info)?.write(TipiGpuInfo {
            name: open.name.str(),
            kind: open.kind.str(),
            description: open.description.str(),
            memory: open.gpu.memory().unwrap_or(0),
            allocated: open.gpu.allocated_bytes(),
            peak: open.gpu.peak_bytes(),
        });
        Ok(())
    })
}

/// Gives back GPU memory that is kept for reuse. What is made next takes a little longer.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_gpu_release(gpu: *const TipiGpu) -> TipiStatus {
    guard(|| {
        held::<Open>("gpu", gpu)?.gpu.release();
        Ok(())
    })
}

/// Whether the device is well: the first error that the driver reported, if any. A program that has been asleep learns so that its
/// device is lost.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_gpu_check(gpu: *const TipiGpu) -> TipiStatus {
    guard(|| Ok(held::<Open>("gpu", gpu)?.gpu.check()?))
}
