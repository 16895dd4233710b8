//! What kernels that take a row per workgroup have in common: the forms of their sums over it.

use crate::gpu::{Capabilities, Shader, Variant};

/// A shader in all forms.
pub(super) struct Rowwise {
    /// 64 invocations a row, sums through workgroup memory: any device.
    pub workgroup: Shader,
    /// 64 invocations a row, sums by subgroups of any size: GPUs that have such.
    pub subgroups: Shader,
    /// 8 invocations a row, which are one subgroup: CPU drivers that have such.
    pub subgroup: Shader,
}

impl Rowwise {
    fn form(&'static self, caps: &Capabilities) -> &'static Shader {
        match caps.subgroups {
            _ if caps.cpu && caps.subgroups_of(8) => &self.subgroup,
            // More than a row has invocations would leave some of a subgroup without work, and sums undefined.
            Some((_, most)) if !caps.cpu && most <= 64 => &self.subgroups,
            _ => &self.workgroup,
        }
    }

    /// A variant in the form for a device.
    pub fn variant(&'static self, caps: &Capabilities, entry: &'static str, consts: &[(&'static str, u32)]) -> Variant {
        Variant::new(self.form(caps), entry, consts)
    }

    /// Invocations of a workgroup in the form for a device.
    pub fn lanes(caps: &Capabilities) -> usize {
        if caps.cpu && caps.subgroups_of(8) { 8 } else { 64 }
    }

    /// A variant in all forms.
    pub fn all(&'static self, entry: &'static str, consts: &[(&'static str, u32)]) -> [Variant; 3] {
        [&self.workgroup, &self.subgroups, &self.subgroup].map(|shader| Variant::new(shader, entry, consts))
    }
}

/// The shader of this name in all forms.
macro_rules! rowwise {
    ($name:literal) => {
        crate::kernels::rowwise::Rowwise {
            workgroup: crate::kernels::texts::rowwise_shader($name, $name, &[("rowwise", "workgroup")]),
            subgroups: crate::kernels::texts::rowwise_shader(
                concat!($name, "_subgroups"),
                $name,
                &[("rowwise", "subgroups")],
            ),
            subgroup: crate::kernels::texts::rowwise_shader(
                concat!($name, "_subgroup"),
                $name,
                &[("rowwise", "subgroup")],
            ),
        }
    };
}
pub(super) use rowwise;
