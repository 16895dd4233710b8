//! Devices that this one can pretend to be: with no more than others have, and kernels chosen as there.

use std::str::FromStr;

/// What a device is opened as, at the most. For trying on one machine what runs on another: a program that works under these
/// works where they are all there is. Slower, above all on a CPU driver, for which kernels are then not chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSet {
    /// What WebGPU promises everywhere: 128 MiB a binding, 16 KiB of workgroup memory, 256 invocations, 8 storage buffers, no
    /// subgroups, no 16-bit floats, no timestamps.
    WebGpu,
    /// A phone: as [`LimitSet::WebGpu`], with 128 invocations and textures of 4096 texels each way.
    Mobile,
    /// An old integrated GPU: 128 MiB a binding, 32 KiB of workgroup memory, 512 invocations, subgroups, timestamps, but no
    /// 16-bit floats.
    Integrated,
}

impl LimitSet {
    /// All of them.
    pub const ALL: [LimitSet; 3] = [LimitSet::WebGpu, LimitSet::Mobile, LimitSet::Integrated];

    /// As `TIPI_LIMITS` spells it.
    pub fn name(self) -> &'static str {
        match self {
            LimitSet::WebGpu => "webgpu",
            LimitSet::Mobile => "mobile",
            LimitSet::Integrated => "integrated",
        }
    }

    /// What is left of a device's limits.
    pub(super) fn of(self, device: &wgpu::Limits) -> wgpu::Limits {
        let webgpu = wgpu::Limits::default();
        let most = match self {
            LimitSet::WebGpu => webgpu,
            LimitSet::Mobile => wgpu::Limits {
                max_compute_invocations_per_workgroup: 128,
                max_compute_workgroup_size_x: 128,
                max_compute_workgroup_size_y: 128,
                max_texture_dimension_2d: 4096,
                ..webgpu
            },
            LimitSet::Integrated => wgpu::Limits {
                max_compute_workgroup_storage_size: 32 << 10,
                max_compute_invocations_per_workgroup: 512,
                max_compute_workgroup_size_x: 512,
                max_compute_workgroup_size_y: 512,
                max_buffer_size: 1 << 30,
                max_texture_dimension_2d: 16384,
                ..webgpu
            },
        };
        most.or_worse_values_from(device)
    }

    /// What is left of a device's optional features.
    pub(super) fn features(self) -> wgpu::Features {
        match self {
            LimitSet::WebGpu | LimitSet::Mobile => wgpu::Features::empty(),
            LimitSet::Integrated => {
                wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::PIPELINE_CACHE | wgpu::Features::SUBGROUP
            }
        }
    }
}

impl FromStr for LimitSet {
    type Err = String;

    fn from_str(name: &str) -> Result<LimitSet, String> {
        LimitSet::ALL.into_iter().find(|set| set.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            let all: Vec<_> = LimitSet::ALL.iter().map(|set| set.name()).collect();
            format!("{name} is no set of limits; there are {}", all.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::LimitSet;

    #[test]
    fn names_are_read_as_they_are_written() {
        for set in LimitSet::ALL {
            assert_eq!(set.name().parse::<LimitSet>(), Ok(set));
        }
        let error = "webgl".parse::<LimitSet>().unwrap_err();
        assert!(error.contains("webgl") && error.contains("webgpu, mobile, integrated"), "{error}");
    }

    #[test]
    fn nothing_is_left_that_the_device_has_not() {
        let small = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::default() };
        for set in LimitSet::ALL {
            assert_eq!(set.of(&small).max_storage_buffers_per_shader_stage, 4, "{}", set.name());
            assert_eq!(set.of(&wgpu::Limits::unlimited()).max_storage_buffer_binding_size, 128 << 20);
        }
    }
}
