//! What a device can do, as far as kernels care: plain data, so that choosing among kernels is a pure function.

use super::tensor::TEXEL_COLS;

/// Forms of cooperative matrices that tipi has kernels for: square tiles with f32 sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matrices {
    /// 8×8 tiles of f32: Metal.
    Square8,
    /// 8×8 tiles of f16 operands: Mesa's CPU driver, in newer versions (26.2 has them, 25.0 not).
    Half8,
    /// 16×16 tiles of f16 operands: Vulkan on NVIDIA and AMD.
    Square16,
}

impl Matrices {
    /// As shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Matrices::Square8 => "matrix units 8×8",
            Matrices::Half8 => "matrix units 8×8, 16-bit",
            Matrices::Square16 => "matrix units 16×16",
        }
    }

    /// Rows and columns of a tile.
    pub fn side(self) -> u32 {
        if self == Matrices::Square16 { 16 } else { 8 }
    }

    /// Whether operands are rounded to f16.
    pub fn half(self) -> bool {
        self != Matrices::Square8
    }

    /// The form that a device has kernels for, the largest first.
    fn of(offered: &[wgpu::CooperativeMatrixProperties], f16: bool) -> Option<Matrices> {
        [Matrices::Square16, Matrices::Half8, Matrices::Square8].into_iter().filter(|form| f16 || !form.half()).find(
            |form| {
                let (side, operands) = (
                    form.side(),
                    if form.half() { wgpu::CooperativeScalarType::F16 } else { wgpu::CooperativeScalarType::F32 },
                );
                offered.iter().any(|p| {
                    (p.m_size, p.n_size, p.k_size) == (side, side, side)
                        && p.ab_type == operands
                        && p.cr_type == wgpu::CooperativeScalarType::F32
                })
            },
        )
    }
}

/// What kernels can count on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The driver runs on the CPU.
    pub cpu: bool,
    /// Smallest and largest subgroup, where the shader language's subgroup operations can be used.
    pub subgroups: Option<(u32, u32)>,
    /// The `f16` type in shaders. Storage in f16 works without.
    pub f16: bool,
    /// Cooperative matrices.
    pub matrices: Option<Matrices>,
    /// Texels that a texture may have each way.
    pub texture: u32,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub invocations: u32,
}

impl Capabilities {
    pub(super) fn of(
        features: &wgpu::Features,
        info: &wgpu::AdapterInfo,
        limits: &wgpu::Limits,
        matrices: &[wgpu::CooperativeMatrixProperties],
    ) -> Capabilities {
        let f16 = features.contains(wgpu::Features::SHADER_F16);
        let cooperative = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        let matrices = if cooperative { Matrices::of(matrices, f16) } else { None };
        Capabilities {
            cpu: info.device_type == wgpu::DeviceType::Cpu,
            subgroups: features
                .contains(wgpu::Features::SUBGROUP)
                .then_some((info.subgroup_min_size, info.subgroup_max_size)),
            f16,
            matrices,
            texture: limits.max_texture_dimension_2d,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            invocations: limits.max_compute_invocations_per_workgroup,
        }
    }

    /// The same device as one of another kind with so little: nothing is chosen as for a CPU driver.
    pub(super) fn pretended(self) -> Capabilities {
        Capabilities { cpu: false, ..self }
    }

    /// The same device without its optional features.
    pub(super) fn portable(self) -> Capabilities {
        Capabilities { subgroups: None, f16: false, matrices: None, ..self }
    }

    /// Whether a texture can hold a matrix of this many rows and columns, four columns a texel.
    pub fn holds_texels(&self, rows: usize, cols: usize) -> bool {
        rows.max(cols.div_ceil(TEXEL_COLS)) <= self.texture as usize
    }

    /// Whether kernels may rely on subgroups of exactly this many invocations.
    pub fn subgroups_of(&self, size: u32) -> bool {
        self.subgroups == Some((size, size))
    }
}
