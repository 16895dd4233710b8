//! Devices: finding them, telling what they can do, and picking one.

use super::capabilities::{Capabilities, Matrices};
use super::environment;
use super::wait;
use crate::{Error, Result};

/// What tipi knows of a device, and what it would use of it.
#[derive(Clone, Debug)]
pub struct DeviceReport {
    /// Index, as [`super::DeviceOptions::device`] takes it.
    pub index: usize,
    /// The device's name.
    pub name: String,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    pub kind: &'static str,
    /// Vulkan, Metal, Dx12, …
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    #[doc(hidden)]
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    #[doc(hidden)]
    /// Workgroup memory in bytes.
    pub workgroup_memory: u32,
    #[doc(hidden)]
    /// Invocations per workgroup.
    pub max_invocations: u32,
    #[doc(hidden)]
    /// Smallest and largest subgroup size; zeros where the device has none.
    pub subgroup: (u32, u32),
    #[doc(hidden)]
    /// What kernels could count on.
    pub capabilities: Capabilities,
    /// Features that tipi uses when they are there.
    pub uses: Vec<&'static str>,
    /// Whether it would be picked where none is asked for.
    pub default: bool,
}

/// Features used when present: name shown, and the flag.
pub(super) const OPTIONAL: [(&str, wgpu::Features); 4] = [
    ("timestamps", wgpu::Features::TIMESTAMP_QUERY),
    ("pipeline cache", wgpu::Features::PIPELINE_CACHE),
    ("subgroups", wgpu::Features::SUBGROUP),
    ("16-bit floats", wgpu::Features::SHADER_F16),
];

pub(super) fn kind(ty: wgpu::DeviceType) -> &'static str {
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

/// Which device to take, and why. `wanted` is an index or part of a name; a pure function so that it can be tested.
pub(super) fn choose(devices: &[(String, wgpu::DeviceType)], wanted: Option<&str>) -> Result<(usize, String)> {
    if devices.is_empty() {
        return Err(Error::NoDevice);
    }
    if let Some(wanted) = wanted {
        // A number is an index and nothing else: many names have digits in them.
        let lower = wanted.to_lowercase();
        let found = match wanted.parse::<usize>() {
            Ok(index) => Some(index).filter(|i| *i < devices.len()),
            Err(_) if lower.is_empty() => None,
            Err(_) => devices.iter().position(|(name, _)| name.to_lowercase().contains(&lower)),
        };
        return match found {
            Some(i) => Ok((i, format!("asked for as '{wanted}'"))),
            None => Err(Error::DeviceNotFound {
                asked: wanted.into(),
                available: devices
                    .iter()
                    .enumerate()
                    .map(|(i, (name, ty))| format!("{i}: {name} ({})", kind(*ty)))
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        };
    }
    let mut best = 0;
    for (i, (_, ty)) in devices.iter().enumerate() {
        if rank(*ty) < rank(devices[best].1) {
            best = i;
        }
    }
    let why = if devices.len() == 1 {
        "the only device".to_string()
    } else {
        format!("best of {}: discrete before integrated before CPU", devices.len())
    };
    Ok((best, why))
}

pub(super) fn enumerate() -> Vec<wgpu::Adapter> {
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
    desc.backends =
        wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12 | wgpu::Backends::BROWSER_WEBGPU;
    let instance = wgpu::Instance::new(desc);
    wait::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
}

pub(super) fn names(adapters: &[wgpu::Adapter]) -> Vec<(String, wgpu::DeviceType)> {
    adapters.iter().map(info_of).map(|info| (info.name, info.device_type)).collect()
}

/// What is known of a device. Browsers do not tell its name.
pub(super) fn info_of(adapter: &wgpu::Adapter) -> wgpu::AdapterInfo {
    let mut info = adapter.get_info();
    if info.name.is_empty() {
        info.name = "GPU of the browser".into();
    }
    info
}

/// The device asked for: by `option`, else by the environment.
pub(super) fn asked(option: Option<&str>) -> Option<String> {
    option.map(String::from).or_else(environment::device)
}

/// All devices, with what tipi would use of each (`tipi devices`).
///
/// # Errors
/// [`Error::NoDevice`] when there are none.
pub fn list_devices() -> Result<Vec<DeviceReport>> {
    let adapters = enumerate();
    let (default, _) = choose(&names(&adapters), None)?;
    Ok(adapters
        .iter()
        .enumerate()
        .map(|(index, adapter)| {
            let info = info_of(adapter);
            let (features, limits) = (adapter.features(), adapter.limits());
            let capabilities = Capabilities::of(&features, &info, &limits, &adapter.cooperative_matrix_properties());
            DeviceReport {
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

#[cfg(test)]
mod tests {
    use super::choose;
    use crate::Error;
    use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu};

    fn devices() -> Vec<(String, wgpu::DeviceType)> {
        vec![("llvmpipe".into(), Cpu), ("Intel Iris".into(), IntegratedGpu), ("GeForce RTX 4090".into(), DiscreteGpu)]
    }

    #[test]
    fn prefers_discrete_and_says_why() {
        let (i, why) = choose(&devices(), None).unwrap();
        assert_eq!(i, 2);
        assert!(why.contains("discrete before integrated"));
        assert_eq!(choose(&devices()[..2], None).unwrap().0, 1);
        assert_eq!(choose(&devices()[..1], None).unwrap(), (0, "the only device".into()));
    }

    #[test]
    fn an_asked_for_device_is_taken_or_is_an_error() {
        assert_eq!(choose(&devices(), Some("0")).unwrap().0, 0);
        assert_eq!(choose(&devices(), Some("iris")).unwrap().0, 1);
        // "4090" holds a 0 and a 4, and is still neither device 4 nor any other index.
        assert!(choose(&devices(), Some("4")).is_err() && choose(&devices(), Some("")).is_err());
        let error = choose(&devices(), Some("7")).unwrap_err();
        assert!(matches!(error, Error::DeviceNotFound { .. }));
        assert!(error.to_string().contains("2: GeForce RTX 4090 (discrete GPU)"), "{error}");
        assert!(matches!(choose(&[], None), Err(Error::NoDevice)));
    }
}
