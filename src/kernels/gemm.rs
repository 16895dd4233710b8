//! General matrix products with fused epilogues (`shaders/gemm_tile.wgsl`, `gemm_rows.wgsl`, `gemm_subgroup.wgsl`).

use super::activation::Activation;
use super::expect_matrix;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Dispatch, Gpu, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

/// How the operands are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// A `[m,k]` · B `[n,k]`ᵀ: forward of a linear layer with its weight as stored, `[out,in]`.
    Nt,
    /// A `[m,k]` · B `[k,n]`: dX of that layer.
    Nn,
    /// A `[k,m]`ᵀ · B `[k,n]`: dW of a layer that trains.
    Tn,
}

impl Layout {
    /// All layouts.
    pub const ALL: [Layout; 3] = [Layout::Nt, Layout::Nn, Layout::Tn];

    fn label(self) -> &'static str {
        match self {
            Layout::Nt => "gemm nt",
            Layout::Nn => "gemm nn",
            Layout::Tn => "gemm tn",
        }
    }
}

/// What is done to each element on its way out: act(alpha·x + bias) + residual.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Factor on the product.
    pub alpha: f32,
    /// `[n]`, added to each row.
    pub bias: Option<&'a Tensor>,
    /// Applied after the bias.
    pub activation: Option<Activation>,
    /// `[m,n]`, added last.
    pub residual: Option<&'a Tensor>,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Epilogue { alpha: 1.0, bias: None, activation: None, residual: None }
    }
}

/// The kernels that compute a GEMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// 64×64 tiles through workgroup memory: GPUs.
    Tile,
    /// 16×12 register tiles without workgroup memory: drivers that run on the CPU.
    Rows,
    /// 32×8 register tiles that share loads across a subgroup of eight: CPU drivers that have such.
    Subgroup,
}

impl Kernel {
    /// All kernels.
    pub const ALL: [Kernel; 3] = [Kernel::Tile, Kernel::Rows, Kernel::Subgroup];

    /// The kernel for a driver: a pure function of what is known before measuring.
    pub fn select(cpu_driver: bool, subgroups_of_eight: bool) -> Kernel {
        match (cpu_driver, subgroups_of_eight) {
            (false, _) => Kernel::Tile,
            (true, false) => Kernel::Rows,
            (true, true) => Kernel::Subgroup,
        }
    }

    /// Whether the kernel runs on this device.
    pub fn runs_on(self, gpu: &Gpu) -> bool {
        self != Kernel::Subgroup || gpu.has_subgroups_of(8)
    }

    fn shader(self) -> &'static Shader {
        match self {
            Kernel::Tile => &TILE,
            Kernel::Rows => &ROWS,
            Kernel::Subgroup => &SUBGROUP,
        }
    }
}

const ACCESS: &[crate::gpu::Access] = &[Read, Read, Read, Read, Write];

static TILE: Shader = Shader {
    name: "gemm_tile",
    source: concat!(
        include_str!("../../shaders/gemm_tile.wgsl"),
        include_str!("../../shaders/gemm_epilogue.wgsl"),
        include_str!("../../shaders/gelu.wgsl")
    ),
    access: ACCESS,
};

static ROWS: Shader = Shader {
    name: "gemm_rows",
    source: concat!(
        include_str!("../../shaders/gemm_rows.wgsl"),
        include_str!("../../shaders/gemm_columns.wgsl"),
        include_str!("../../shaders/gemm_epilogue.wgsl"),
        include_str!("../../shaders/gelu.wgsl")
    ),
    access: ACCESS,
};

static SUBGROUP: Shader = Shader {
    name: "gemm_subgroup",
    source: concat!(
        include_str!("../../shaders/gemm_subgroup.wgsl"),
        include_str!("../../shaders/gemm_columns.wgsl"),
        include_str!("../../shaders/gemm_epilogue.wgsl"),
        include_str!("../../shaders/gelu.wgsl")
    ),
    access: ACCESS,
};

fn variant(kernel: Kernel, layout: Layout, bias: bool, activation: Option<Activation>, residual: bool) -> Variant {
    let consts = [
        ("TRANS_A", u32::from(layout == Layout::Tn)),
        ("TRANS_B", u32::from(layout == Layout::Nt)),
        ("BIAS", u32::from(bias)),
        ("ACT", activation.map_or(0, Activation::code)),
        ("RESIDUAL", u32::from(residual)),
    ];
    Variant::new(kernel.shader(), "main", &consts)
}

pub(super) fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for kernel in Kernel::ALL {
        for layout in Layout::ALL {
            for bias in [false, true] {
                for activation in std::iter::once(None).chain(Activation::ALL.map(Some)) {
                    for residual in [false, true] {
                        all.push(variant(kernel, layout, bias, activation, residual));
                    }
                }
            }
        }
    }
    all
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    m: u32,
    n: u32,
    k: u32,
    alpha: f32,
}

/// C `[m,n]` of `a` and `b`, whose leading dimensions are folded into rows, by the kernel for this driver.
///
/// # Errors
/// Shapes that do not fit each other; out of memory.
pub fn matmul(rec: &mut Recorder, layout: Layout, a: &Tensor, b: &Tensor, epilogue: &Epilogue<'_>) -> Result<Tensor> {
    let kernel = Kernel::select(rec.gpu().is_cpu(), rec.gpu().has_subgroups_of(8));
    matmul_with(rec, kernel, layout, a, b, epilogue)
}

/// As [`matmul`], by the kernel given.
///
/// # Errors
/// As [`matmul`]; a kernel that does not run on this device.
pub fn matmul_with(
    rec: &mut Recorder,
    kernel: Kernel,
    layout: Layout,
    a: &Tensor,
    b: &Tensor,
    epilogue: &Epilogue<'_>,
) -> Result<Tensor> {
    let (m, k) = if layout == Layout::Tn { (a.cols(), a.rows()) } else { (a.rows(), a.cols()) };
    let (n, k_b) = if layout == Layout::Nt { (b.rows(), b.cols()) } else { (b.cols(), b.rows()) };
    if !kernel.runs_on(rec.gpu()) {
        return Err(Error::invalid(format!("{}: {kernel:?} needs subgroups of eight", layout.label())));
    }
    if k != k_b {
        let (a, b) = (a.shape(), b.shape());
        return Err(Error::invalid(format!("{}: {a:?} and {b:?} do not share their inner dimension", layout.label())));
    }
    if let Some(bias) = epilogue.bias {
        super::expect(layout.label(), "bias", bias, &[n])?;
    }
    if let Some(residual) = epilogue.residual {
        expect_matrix(layout.label(), "residual", residual, m, n)?;
    }
    let c = rec.temp(layout.label(), &[m, n])?;
    let grid = match kernel {
        Kernel::Tile => Grid::Cube(n.div_ceil(64), m.div_ceil(64), 1),
        Kernel::Rows => Grid::Cube(n.div_ceil(96), m.div_ceil(16), 1),
        Kernel::Subgroup => Grid::Cube(n.div_ceil(64), m.div_ceil(32), 1),
    };
    let (mf, nf, kf) = (m as f64, n as f64, k as f64);
    rec.dispatch(&Dispatch {
        variant: variant(kernel, layout, epilogue.bias.is_some(), epilogue.activation, epilogue.residual.is_some()),
        label: layout.label(),
        params: bytemuck::bytes_of(&Params { m: m as u32, n: n as u32, k: k as u32, alpha: epilogue.alpha }),
        bindings: &[a, b, epilogue.bias.unwrap_or(a), epilogue.residual.unwrap_or(a), &c],
        grid,
        flops: 2.0 * mf * nf * kf,
        bytes: 4.0 * (mf * kf + nf * kf + mf * nf),
    })?;
    Ok(c)
}

#[cfg(test)]
mod tests {
    use super::Kernel;

    #[test]
    fn cpu_drivers_get_register_tiles_and_gpus_workgroup_tiles() {
        assert_eq!(Kernel::select(true, false), Kernel::Rows);
        assert_eq!(Kernel::select(true, true), Kernel::Subgroup);
        assert_eq!(Kernel::select(false, true), Kernel::Tile);
    }
}
