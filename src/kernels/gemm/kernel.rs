//! The kernels that compute a GEMM: their shaders, what each can take, and the order in which they are worth trying.

use super::{Activation, Layout};
use crate::gpu::Access::{Read, ReadTexels, Write};
use crate::gpu::{Access, Capabilities, DType, Grid, Matrices, Shader, Variant};

/// The kernels that compute a GEMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// 64×64 tiles through workgroup memory, 32 deep, 4×4 per invocation: any GPU.
    Tile,
    /// 128×128 tiles through workgroup memory, 16 deep, 8×8 per invocation: large products on GPUs.
    Wide,
    /// 16×64 tiles through workgroup memory, 32 deep, 4×4 per invocation: few rows, on GPUs.
    Thin,
    /// Matrix units, through workgroup memory: GPUs that have them.
    Matrix,
    /// 16×12 register tiles without workgroup memory: drivers that run on the CPU.
    Rows,
    /// 32×8 register tiles that share loads across a subgroup of eight: CPU drivers that have such.
    Subgroup,
    /// As `Subgroup`, 16×4, from operands in textures: CPU drivers, where texels are fetched faster than buffers are read.
    Texel,
}

/// A product, as far as choosing a kernel for it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// How the operands are stored.
    pub layout: Layout,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// What B is stored as.
    pub b: DType,
}

/// Products of this many rows at most are thin.
const THIN: usize = 16;

impl Problem {
    /// The class of problems that one measurement answers for.
    pub fn class(&self) -> String {
        // Powers of four: the best kernel changes slowly, and measuring takes time.
        let size = |n: usize| 1usize << (2 * n.max(1).ilog2().div_ceil(2)).clamp(4, 12);
        format!("{:?} {:?} {}x{}x{}", self.layout, self.b, size(self.m), size(self.n), size(self.k))
    }
}

impl Kernel {
    /// All kernels.
    pub const ALL: [Kernel; 7] =
        [Kernel::Tile, Kernel::Wide, Kernel::Thin, Kernel::Matrix, Kernel::Rows, Kernel::Subgroup, Kernel::Texel];

    /// As `TIPI_KERNEL` and tables spell it.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Tile => "tile",
            Kernel::Wide => "wide",
            Kernel::Thin => "thin",
            Kernel::Matrix => "matrix",
            Kernel::Rows => "rows",
            Kernel::Subgroup => "subgroup",
            Kernel::Texel => "texel",
        }
    }

    /// The kernel of this name.
    pub fn of_name(name: &str) -> Option<Kernel> {
        Kernel::ALL.into_iter().find(|k| k.name().eq_ignore_ascii_case(name))
    }

    /// Whether the kernel runs on an adapter at all.
    pub fn runs_on(self, caps: &Capabilities) -> bool {
        match self {
            Kernel::Tile => caps.invocations >= 256 && caps.workgroup_memory >= 17_408,
            Kernel::Wide => caps.invocations >= 256 && caps.workgroup_memory >= 16_896,
            Kernel::Thin => caps.invocations >= 64 && caps.workgroup_memory >= 11_264,
            Kernel::Matrix => {
                // The shader asks for its subgroup's number.
                let units = caps.matrices.is_some() && caps.subgroups.is_some();
                units && caps.invocations >= 128 && caps.workgroup_memory >= 27_648
            }
            Kernel::Rows => true,
            Kernel::Subgroup | Kernel::Texel => caps.subgroups_of(8),
        }
    }

    /// Whether the kernel runs on an adapter and can take the problem.
    pub fn takes(self, caps: &Capabilities, problem: &Problem) -> bool {
        self.runs_on(caps)
            && match (self, problem.b) {
                (Kernel::Texel, DType::Texels | DType::HalfTexels) => problem.layout != Layout::Tn,
                // Operands in buffers are staged as textures first, B and A's transpose in one piece.
                (Kernel::Texel, DType::F32) => match problem.layout {
                    Layout::Nt => caps.holds_texels(problem.n, problem.k),
                    Layout::Nn => caps.holds_texels(problem.k, problem.n) && caps.holds_texels(1, problem.k),
                    Layout::Tn => caps.holds_texels(problem.k, problem.n) && caps.holds_texels(problem.m, problem.k),
                },
                (Kernel::Tile | Kernel::Wide | Kernel::Thin, DType::F32 | DType::F16) => true,
                // A is rounded to what the matrix units take, which only those who ask for f16 have agreed to.
                (Kernel::Matrix, DType::F16) => problem.layout != Layout::Tn,
                (Kernel::Matrix, DType::F32) => {
                    caps.matrices == Some(Matrices::Square8) && problem.layout != Layout::Tn
                }
                (Kernel::Rows | Kernel::Subgroup, DType::F32) => true,
                _ => false,
            }
    }

    /// The kernels worth measuring for a problem, the most promising first; that one is taken where nothing was measured.
    /// A pure function of what is known beforehand.
    pub fn candidates(caps: &Capabilities, problem: &Problem) -> Vec<Kernel> {
        let order: &[Kernel] = if caps.cpu {
            &[Kernel::Texel, Kernel::Subgroup, Kernel::Rows, Kernel::Tile]
        } else if problem.m <= THIN {
            &[Kernel::Thin, Kernel::Tile, Kernel::Matrix, Kernel::Rows]
        } else if problem.m >= 512 && problem.n >= 512 {
            &[Kernel::Matrix, Kernel::Wide, Kernel::Tile, Kernel::Thin, Kernel::Rows]
        } else {
            &[Kernel::Tile, Kernel::Matrix, Kernel::Wide, Kernel::Thin, Kernel::Rows]
        };
        let mut all: Vec<Kernel> = order.iter().copied().filter(|k| k.takes(caps, problem)).collect();
        // What is there for the case that nothing better runs need not be measured against what does.
        if all.len() > 1 {
            all.retain(|k| if caps.cpu { *k != Kernel::Tile } else { *k != Kernel::Rows });
        }
        all
    }

    /// The kernel for a problem: the one forced where it can take it, else the one measured best, else the most
    /// promising. `None` when no kernel can take it.
    pub fn select(
        caps: &Capabilities,
        problem: &Problem,
        forced: Option<Kernel>,
        measured: Option<Kernel>,
    ) -> Option<Kernel> {
        forced
            .filter(|k| k.takes(caps, problem))
            .or_else(|| measured.filter(|k| k.takes(caps, problem)))
            .or_else(|| Kernel::candidates(caps, problem).first().copied())
    }

    /// Rows and columns of C that a workgroup computes.
    fn tile(self, matrices: Option<Matrices>) -> (usize, usize) {
        match self {
            Kernel::Tile => (64, 64),
            Kernel::Wide => (128, 128),
            Kernel::Thin => (16, 64),
            Kernel::Matrix if matrices == Some(Matrices::Square8) => (32, 32),
            Kernel::Matrix => (64, 64),
            Kernel::Rows => (16, 96),
            Kernel::Subgroup => (32, 64),
            Kernel::Texel => (16, 32),
        }
    }

    pub(super) fn grid(self, m: usize, n: usize, matrices: Option<Matrices>) -> Grid {
        let (rows, cols) = self.tile(matrices);
        Grid::Cube(n.div_ceil(cols), m.div_ceil(rows), 1)
    }
}

const BUFFERS: &[Access] = &[Read, Read, Read, Read, Write];

macro_rules! shader {
    ($name:literal, $access:expr, $($piece:literal),+) => {
        Shader {
            name: $name,
            source: concat!(
                $(include_str!(concat!("../../../shaders/", $piece, ".wgsl")),)+
                include_str!("../../../shaders/gemm_epilogue.wgsl"),
                include_str!("../../../shaders/gelu.wgsl")
            ),
            access: $access,
        }
    };
}

static TILE: Shader = shader!("gemm_tile", BUFFERS, "gemm_tile");
static MATRIX16: Shader = shader!("gemm_matrix16", BUFFERS, "gemm_matrix16", "gemm_matrix");
static MATRIX8: Shader = shader!("gemm_matrix8", BUFFERS, "gemm_matrix8", "gemm_matrix");
static ROWS: Shader = shader!("gemm_rows", BUFFERS, "gemm_rows", "gemm_columns");
static SUBGROUP: Shader = shader!("gemm_subgroup", BUFFERS, "gemm_subgroup", "gemm_columns");
static TEXEL: Shader = shader!("gemm_texel", &[ReadTexels, ReadTexels, Read, Read, Write], "gemm_texel");

/// Which parts of the epilogue a variant has.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub bias: bool,
    pub activation: Option<Activation>,
    pub residual: bool,
}

pub(super) fn variant(kernel: Kernel, layout: Layout, b: DType, parts: Parts, matrices: Option<Matrices>) -> Variant {
    let trans_a = ("TRANS_A", u32::from(layout == Layout::Tn));
    let half_b = ("HALF_B", u32::from(b == DType::F16));
    let common = [
        ("TRANS_B", u32::from(layout == Layout::Nt)),
        ("BIAS", u32::from(parts.bias)),
        ("ACT", parts.activation.map_or(0, Activation::code)),
        ("RESIDUAL", u32::from(parts.residual)),
    ];
    let tile = |m: u32, n: u32, depth: u32, per: u32| {
        vec![trans_a, half_b, ("TILE_M", m), ("TILE_N", n), ("DEPTH", depth), ("PER_M", per), ("PER_N", per)]
    };
    let (shader, mut consts) = match kernel {
        Kernel::Tile => (&TILE, tile(64, 64, 32, 4)),
        Kernel::Wide => (&TILE, tile(128, 128, 16, 8)),
        Kernel::Thin => (&TILE, tile(16, 64, 32, 4)),
        Kernel::Matrix if matrices == Some(Matrices::Square8) => (&MATRIX8, vec![half_b]),
        Kernel::Matrix => (&MATRIX16, vec![half_b]),
        Kernel::Rows => (&ROWS, vec![trans_a]),
        Kernel::Subgroup => (&SUBGROUP, vec![trans_a]),
        Kernel::Texel => (&TEXEL, vec![]),
    };
    consts.extend(common);
    Variant::new(shader, "main", &consts)
}

pub(in crate::kernels) fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    let forms = [
        (Kernel::Tile, DType::F32, None),
        (Kernel::Tile, DType::F16, None),
        (Kernel::Wide, DType::F32, None),
        (Kernel::Wide, DType::F16, None),
        (Kernel::Thin, DType::F32, None),
        (Kernel::Thin, DType::F16, None),
        (Kernel::Matrix, DType::F16, Some(Matrices::Square16)),
        (Kernel::Matrix, DType::F16, Some(Matrices::Square8)),
        (Kernel::Matrix, DType::F32, Some(Matrices::Square8)),
        (Kernel::Rows, DType::F32, None),
        (Kernel::Subgroup, DType::F32, None),
        (Kernel::Texel, DType::F32, None),
    ];
    for (kernel, b, matrices) in forms {
        for layout in Layout::ALL {
            if layout == Layout::Tn && matches!(kernel, Kernel::Matrix | Kernel::Texel) {
                continue;
            }
            for bias in [false, true] {
                for activation in std::iter::once(None).chain(Activation::ALL.map(Some)) {
                    for residual in [false, true] {
                        all.push(variant(kernel, layout, b, Parts { bias, activation, residual }, matrices));
                    }
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{Kernel, Layout, Problem};
    use crate::gpu::{Capabilities, DType, Matrices};

    const LAVAPIPE: Capabilities = Capabilities {
        cpu: true,
        subgroups: Some((8, 8)),
        f16: true,
        matrices: None,
        texture: 16384,
        workgroup_memory: 32768,
        invocations: 1024,
    };

    fn gpu(matrices: Option<Matrices>) -> Capabilities {
        Capabilities { cpu: false, subgroups: Some((32, 32)), matrices, workgroup_memory: 49152, ..LAVAPIPE }
    }

    fn problem(layout: Layout, m: usize, n: usize, k: usize, b: DType) -> Problem {
        Problem { layout, m, n, k, b }
    }

    fn first(caps: &Capabilities, p: Problem) -> Option<Kernel> {
        Kernel::select(caps, &p, None, None)
    }

    #[test]
    fn cpu_drivers_get_texels_and_what_is_left_without_subgroups_of_eight() {
        let p = problem(Layout::Nt, 1600, 3072, 768, DType::F32);
        assert_eq!(first(&LAVAPIPE, p), Some(Kernel::Texel));
        let sixteen = Capabilities { subgroups: Some((16, 16)), ..LAVAPIPE };
        assert_eq!(first(&sixteen, p), Some(Kernel::Rows));
        // An operand past what a texture holds.
        assert_eq!(first(&LAVAPIPE, problem(Layout::Nt, 10, 20_000, 768, DType::F32)), Some(Kernel::Subgroup));
        assert_eq!(first(&LAVAPIPE, problem(Layout::Tn, 64, 768, 20_000, DType::F32)), Some(Kernel::Subgroup));
    }

    #[test]
    fn gpus_get_tiles_by_the_shape_and_matrix_units_only_for_operands_they_hold() {
        let plain = gpu(None);
        assert_eq!(first(&plain, problem(Layout::Nt, 8, 768, 768, DType::F32)), Some(Kernel::Thin));
        assert_eq!(first(&plain, problem(Layout::Nn, 100, 768, 768, DType::F16)), Some(Kernel::Tile));
        assert_eq!(first(&plain, problem(Layout::Tn, 4096, 4096, 4096, DType::F32)), Some(Kernel::Wide));
        let nvidia = gpu(Some(Matrices::Square16));
        assert_eq!(first(&nvidia, problem(Layout::Nt, 4096, 4096, 4096, DType::F16)), Some(Kernel::Matrix));
        assert_eq!(first(&nvidia, problem(Layout::Nt, 4096, 4096, 4096, DType::F32)), Some(Kernel::Wide));
        let apple = gpu(Some(Matrices::Square8));
        assert_eq!(first(&apple, problem(Layout::Nt, 4096, 4096, 4096, DType::F32)), Some(Kernel::Matrix));
        let small = Capabilities { workgroup_memory: 16384, invocations: 256, ..plain };
        assert_eq!(first(&small, problem(Layout::Nt, 4096, 4096, 4096, DType::F32)), Some(Kernel::Thin));
    }

    #[test]
    fn what_was_forced_or_measured_is_taken_where_it_can_take_the_problem() {
        let p = problem(Layout::Nt, 100, 100, 100, DType::F32);
        let select = |forced, measured| Kernel::select(&LAVAPIPE, &p, forced, measured);
        assert_eq!(select(Some(Kernel::Rows), Some(Kernel::Subgroup)), Some(Kernel::Rows));
        assert_eq!(select(None, Some(Kernel::Subgroup)), Some(Kernel::Subgroup));
        assert_eq!(select(Some(Kernel::Matrix), Some(Kernel::Subgroup)), Some(Kernel::Subgroup));
        let texels = problem(Layout::Nt, 100, 100, 100, DType::Texels);
        assert_eq!(Kernel::select(&LAVAPIPE, &texels, Some(Kernel::Rows), None), Some(Kernel::Texel));
        assert_eq!(Kernel::select(&gpu(None), &texels, None, None), None);
    }

    #[test]
    fn candidates_are_distinct_and_can_take_the_problem() {
        for caps in [LAVAPIPE, gpu(None), gpu(Some(Matrices::Square16)), gpu(Some(Matrices::Square8))] {
            for layout in Layout::ALL {
                for (m, b) in [(1, DType::F32), (100, DType::F16), (4096, DType::F32), (4096, DType::F16)] {
                    let p = problem(layout, m, 1000, 1000, b);
                    let all = Kernel::candidates(&caps, &p);
                    assert!(!all.is_empty(), "{caps:?} {p:?}");
                    assert!(all.iter().all(|k| k.takes(&caps, &p)));
                    assert!((1..all.len()).all(|i| !all[..i].contains(&all[i])));
                }
            }
        }
    }

    #[test]
    fn classes_gather_like_shapes() {
        let class = |m, n, k| problem(Layout::Nt, m, n, k, DType::F32).class();
        assert_eq!(class(1600, 3072, 768), class(1100, 4000, 1000));
        assert_ne!(class(1600, 3072, 768), class(16, 3072, 768));
        assert_eq!(class(1, 1, 1), "Nt F32 16x16x16");
        assert_eq!(class(1 << 20, 5000, 4096), "Nt F32 4096x4096x4096");
    }

    #[test]
    fn names_lead_back_to_kernels() {
        for kernel in Kernel::ALL {
            assert_eq!(Kernel::of_name(kernel.name()), Some(kernel));
        }
        assert_eq!(Kernel::of_name("Texel"), Some(Kernel::Texel));
        assert_eq!(Kernel::of_name("fast"), None);
    }
}
