//! What kernels that take a row per workgroup have in common: the two forms of their sums over it.

use crate::gpu::{Capabilities, Shader, Variant};

/// A shader in both forms.
pub(super) struct Rowwise {
    /// 64 invocations a row, sums through workgroup memory: GPUs, and any device.
    pub workgroup: Shader,
    /// 8 invocations a row, which are one subgroup: CPU drivers that have such.
    pub subgroup: Shader,
}

impl Rowwise {
    fn suits(caps: &Capabilities) -> bool {
        caps.cpu && caps.subgroups_of(8)
    }

    /// A variant in the form for a device.
    pub fn variant(&'static self, caps: &Capabilities, entry: &'static str, consts: &[(&'static str, u32)]) -> Variant {
        Variant::new(if Self::suits(caps) { &self.subgroup } else { &self.workgroup }, entry, consts)
    }

    /// Invocations of a workgroup in the form for a device.
    pub fn lanes(caps: &Capabilities) -> usize {
        if Self::suits(caps) { 8 } else { 64 }
    }

    /// A variant in both forms.
    pub fn both(&'static self, entry: &'static str, consts: &[(&'static str, u32)]) -> [Variant; 2] {
        [&self.workgroup, &self.subgroup].map(|shader| Variant::new(shader, entry, consts))
    }
}

/// The shader of this name in both forms.
macro_rules! rowwise {
    ($name:literal) => {
        crate::kernels::rowwise::Rowwise {
            workgroup: crate::kernels::texts::rowwise_shader($name, $name, &[("rowwise", "workgroup")]),
            subgroup: crate::kernels::texts::rowwise_shader(
                concat!($name, "_subgroup"),
                $name,
                &[("rowwise", "subgroup")],
            ),
        }
    };
}
pub(super) use rowwise;
