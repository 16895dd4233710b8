//! The kernels that compute a GEMM: their shaders, what each can take, and the order in which they are worth trying.

use super::{Activation, Layout};
use crate::gpu::{Capabilities, DType, Grid, Matrices, Measured, Shader, Variant};
use crate::kernels::texts::shader;

/// The kernels that compute a GEMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// 64×64 tiles through workgroup memory, 16 deep, 4×4 per invocation: any GPU.
    Tile,
    /// 128×128 tiles through workgroup memory, 8 deep, 8×8 per invocation: large products on GPUs.
    Wide,
    /// 16×64 tiles through workgroup memory, 32 deep, 4×4 per invocation: few rows, on GPUs.
    Thin,
    /// Matrix units, through workgroup memory: GPUs that have them.
    Matrix,
    /// As `Matrix`, larger tiles: large products.
    MatrixWide,
    /// 16×12 register tiles without workgroup memory: drivers that run on the CPU.
    Rows,
    /// 32×8 register tiles that share loads across a subgroup of eight: CPU drivers that have such.
    Subgroup,
    /// As `Subgroup`, 16×4, from operands in textures: CPU drivers, where texels are fetched faster than buffers are read.
    Texel,
}

/// The order in which a kernel adds up the terms of a sum. Kernels of one order give the same bits; between orders results
/// differ in the last places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// One after the other along k, each by a fused multiply-add: every kernel that runs on ordinary units.
    Ascending,
    /// As the device's matrix units add, several at once.
    MatrixUnits,
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
    /// What A is stored as: f32, or f16 where matrix units round it to that anyway. Texels count as f32.
    pub a: DType,
    /// What B is stored as.
    pub b: DType,
}

/// Products of this many rows at most are thin.
const THIN: usize = 16;

/// By how much a kernel must be faster than the usual one to be taken in its place: measurements of equal work on a machine
/// that does other things differ by a few hundredths.
const MARGIN: f64 = 0.1;

impl Problem {
    /// The class of problems that one measurement answers for.
    pub fn class(&self) -> String {
        // Powers of four: the best kernel changes slowly, and measuring takes time.
        let size = |n: usize| 1usize << (2 * n.max(1).ilog2().div_ceil(2)).clamp(4, 12);
        let a = if self.a == DType::F16 { " of F16" } else { "" };
        format!("{:?} {:?}{a} {}x{}x{}", self.layout, self.b, size(self.m), size(self.n), size(self.k))
    }
}

impl Kernel {
    /// All kernels.
    pub const ALL: [Kernel; 8] = [
        Kernel::Tile,
        Kernel::Wide,
        Kernel::Thin,
        Kernel::Matrix,
        Kernel::MatrixWide,
        Kernel::Rows,
        Kernel::Subgroup,
        Kernel::Texel,
    ];

    /// As `TIPI_KERNEL` and tables spell it.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Tile => "tile",
            Kernel::Wide => "wide",
            Kernel::Thin => "thin",
            Kernel::Matrix => "matrix",
            Kernel::MatrixWide => "matrix-wide",
            Kernel::Rows => "rows",
            Kernel::Subgroup => "subgroup",
            Kernel::Texel => "texel",
        }
    }

    /// The kernel of this name.
    pub fn of_name(name: &str) -> Option<Kernel> {
        Kernel::ALL.into_iter().find(|k| k.name().eq_ignore_ascii_case(name))
    }

    /// Whether the kernel runs on a device at all.
    pub fn runs_on(self, caps: &Capabilities) -> bool {
        let has = match self {
            // The shader asks for its subgroup's number.
            Kernel::Matrix | Kernel::MatrixWide => caps.matrices.is_some() && caps.subgroups.is_some(),
            Kernel::Tile | Kernel::Wide | Kernel::Thin | Kernel::Rows => true,
            Kernel::Subgroup | Kernel::Texel => caps.subgroups_of(8),
        };
        has && caps.invocations >= self.tiling(caps.matrices).invocations()
            && caps.workgroup_memory >= self.workgroup_memory(caps.matrices)
    }

    /// Whether the kernel runs on a device and can take the problem.
    pub fn takes(self, caps: &Capabilities, problem: &Problem) -> bool {
        self.runs_on(caps)
            && (problem.a != DType::F16 || self.takes_half_a(caps, problem))
            && match (self, problem.b) {
                (Kernel::Texel, dtype) if dtype.is_texture() => problem.layout != Layout::Tn,
                // Operands in buffers are staged as textures first, B and A's transpose in one piece.
                (Kernel::Texel, DType::F32) => match problem.layout {
                    Layout::Nt => caps.holds_texels(problem.n, problem.k),
                    Layout::Nn => caps.holds_texels(problem.k, problem.n) && caps.holds_texels(1, problem.k),
                    Layout::Tn => caps.holds_texels(problem.k, problem.n) && caps.holds_texels(problem.m, problem.k),
                },
                (Kernel::Tile | Kernel::Wide | Kernel::Thin, DType::F32 | DType::F16) => true,
                // A is rounded to what the matrix units take, which only those who ask for f16 or int8 have agreed to.
                (Kernel::Matrix | Kernel::MatrixWide, DType::F16 | DType::I8) => problem.layout != Layout::Tn,
                (Kernel::Matrix | Kernel::MatrixWide, DType::F32) => {
                    caps.matrices == Some(Matrices::Square8) && problem.layout != Layout::Tn
                }
                (Kernel::Rows | Kernel::Subgroup, DType::F32 | DType::F16) => true,
                (Kernel::Tile | Kernel::Wide | Kernel::Thin | Kernel::Rows | Kernel::Subgroup, DType::I8) => {
                    problem.layout != Layout::Tn
                }
                _ => false,
            }
    }

    /// Whether the kernel reads rows of f16: only where it would round f32 to that.
    fn takes_half_a(self, caps: &Capabilities, problem: &Problem) -> bool {
        self.stores_half(caps) && problem.layout == Layout::Nt && problem.k.is_multiple_of(4)
    }

    /// Whether the kernel can store the product as f16, for another that takes it so.
    pub fn stores_half(self, caps: &Capabilities) -> bool {
        self.by_matrix_units() && caps.matrices.is_some_and(Matrices::half)
    }

    /// Whether it is the matrix units that compute.
    pub fn by_matrix_units(self) -> bool {
        matches!(self, Kernel::Matrix | Kernel::MatrixWide)
    }

    /// The order in which the kernel adds.
    pub fn order(self) -> Order {
        match self {
            Kernel::Matrix | Kernel::MatrixWide => Order::MatrixUnits,
            _ => Order::Ascending,
        }
    }

    /// The kernels worth measuring for a problem, in groups of one order each; in each the most promising first, which is
    /// taken where nothing was measured. The first group is the one to choose from, the next only where a driver computes
    /// wrongly by all of it. Which order comes first follows from the device, the layout and B's type alone: not from the
    /// sizes, since the number of pictures at a time must not change what comes out, and not from the clock.
    /// A pure function of what is known beforehand.
    pub fn groups(caps: &Capabilities, problem: &Problem) -> Vec<Vec<Kernel>> {
        let ascending: &[Kernel] = if caps.cpu {
            &[Kernel::Texel, Kernel::Subgroup, Kernel::Rows, Kernel::Tile, Kernel::Thin]
        } else if problem.m <= THIN {
            &[Kernel::Thin, Kernel::Tile, Kernel::Rows]
        } else if problem.m >= 512 && problem.n >= 512 {
            &[Kernel::Wide, Kernel::Tile, Kernel::Thin, Kernel::Rows]
        } else {
            &[Kernel::Tile, Kernel::Wide, Kernel::Thin, Kernel::Rows]
        };
        let mut ascending: Vec<Kernel> = ascending.iter().copied().filter(|k| k.takes(caps, problem)).collect();
        // What is there for the case that nothing better runs need not be measured against what does.
        let spare = |k: &Kernel| if caps.cpu { matches!(k, Kernel::Tile | Kernel::Thin) } else { *k == Kernel::Rows };
        if !ascending.iter().all(spare) {
            ascending.retain(|k| !spare(k));
        }
        let matrix: &[Kernel] = match problem.m >= 512 && problem.n >= 512 {
            _ if caps.cpu => &[],
            true => &[Kernel::MatrixWide, Kernel::Matrix],
            false => &[Kernel::Matrix, Kernel::MatrixWide],
        };
        let matrix: Vec<Kernel> = matrix.iter().copied().filter(|k| k.takes(caps, problem)).collect();
        std::iter::once(matrix).chain([ascending]).filter(|group| !group.is_empty()).collect()
    }

    /// Of a group the first kernel that was not found wrong, or another that was measured to be faster by more than noise.
    /// `None` where all were found wrong.
    pub(super) fn best(group: &[Kernel], measured: &Measured) -> Option<Kernel> {
        let first = Kernel::first(group, measured)?;
        let seconds = |kernel: Kernel| measured.seconds.get(kernel.name()).copied().flatten();
        let Some(usual) = seconds(first) else { return Some(first) };
        let timed = group.iter().filter_map(|kernel| Some((*kernel, seconds(*kernel)?)));
        let (fastest, least) = timed.min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(if least < usual * (1.0 - MARGIN) { fastest } else { first })
    }

    /// The first kernel of a group that was not found wrong.
    pub(super) fn first(group: &[Kernel], measured: &Measured) -> Option<Kernel> {
        group.iter().copied().find(|kernel| measured.seconds.get(kernel.name()) != Some(&None))
    }

    fn tiling(self, matrices: Option<Matrices>) -> Tiling {
        let (rows, cols, depth, per) = match self {
            Kernel::Tile => (64, 64, 16, (4, 4)),
            Kernel::Wide => (128, 128, 8, (8, 8)),
            Kernel::Thin => (16, 64, 32, (4, 4)),
            Kernel::Matrix if matrices.is_some_and(|m| m.side() == 8) => (32, 32, 32, (4, 2)),
            Kernel::Matrix => (64, 64, 32, (8, 4)),
            Kernel::MatrixWide if matrices.is_some_and(|m| m.side() == 8) => (64, 64, 32, (4, 4)),
            Kernel::MatrixWide => (128, 128, 32, (8, 8)),
            Kernel::Rows => (16, 96, 0, (16, 12)),
            Kernel::Subgroup => (32, 64, 0, (32, 8)),
            Kernel::Texel => (16, 32, 0, (16, 4)),
        };
        Tiling { rows, cols, depth, per }
    }

    /// Bytes of workgroup memory that the kernel's text declares.
    fn workgroup_memory(self, matrices: Option<Matrices>) -> u32 {
        let Tiling { rows, cols, depth, .. } = self.tiling(matrices);
        match self {
            // Vectors of four numbers, and one more in each step of k, of either operand.
            Kernel::Tile | Kernel::Wide | Kernel::Thin => 16 * depth * (rows / 4 + 1 + cols / 4 + 1),
            // Rows of operands are 8 elements longer than needed, those of C's matrices, one of each part, 4.
            Kernel::Matrix | Kernel::MatrixWide => {
                let (element, side) = matrices.map_or((2, 16), |m| (if m.half() { 2 } else { 4 }, m.side()));
                let across = if self == Kernel::MatrixWide { 4 } else { 2 };
                let parts = (rows / (2 * side)) * (cols / (across * side));
                element * (rows + cols) * (depth + 8) + 4 * parts * side * (side + 4)
            }
            Kernel::Rows | Kernel::Subgroup | Kernel::Texel => 0,
        }
    }

    /// Whether a variant, named by its key, is this kernel's.
    pub(super) fn is_of(self, key: &str) -> bool {
        let shader = match self {
            Kernel::Tile | Kernel::Wide | Kernel::Thin => &TILE,
            Kernel::Matrix | Kernel::MatrixWide => return key.starts_with("gemm_matrix"),
            Kernel::Rows => &ROWS,
            Kernel::Subgroup => &SUBGROUP,
            Kernel::Texel => &TEXEL,
        };
        let tile = Variant::new(shader, "main", &self.tiling(None).consts()[..2]);
        key.strip_prefix(&tile.key()).is_some_and(|rest| rest.starts_with(','))
    }

    pub(super) fn grid(self, m: usize, n: usize, matrices: Option<Matrices>) -> Grid {
        let Tiling { rows, cols, .. } = self.tiling(matrices);
        Grid::Cube(n.div_ceil(cols as usize), m.div_ceil(rows as usize), 1)
    }
}

/// How a kernel shares out C. Grid, constants of the text, and what a device must have all follow from it.
#[derive(Clone, Copy)]
struct Tiling {
    /// Rows of C that a workgroup computes.
    rows: u32,
    /// Columns of C that a workgroup computes.
    cols: u32,
    /// Steps of k that are staged in workgroup memory at a time; 0 for kernels without.
    depth: u32,
    /// Rows and columns of an invocation's share.
    per: (u32, u32),
}

impl Tiling {
    fn invocations(self) -> u32 {
        (self.rows / self.per.0) * (self.cols / self.per.1)
    }

    fn consts(self) -> Vec<(&'static str, u32)> {
        let Tiling { rows, cols, depth, per } = self;
        let mut all = vec![("TILE_M", rows), ("TILE_N", cols), ("DEPTH", depth), ("PER_M", per.0), ("PER_N", per.1)];
        if depth > 0 {
            let loads = |across: u32| across * depth / 4 / self.invocations();
            all.extend([("LOADS_A", loads(rows)), ("LOADS_B", loads(cols))]);
        }
        all
    }
}

static TILE: Shader = shader("gemm_tile");
static MATRIX16: Shader = shader("gemm_matrix16");
static MATRIX8: Shader = shader("gemm_matrix8");
static MATRIX8_HALF: Shader = shader("gemm_matrix8_half");
static ROWS: Shader = shader("gemm_rows");
static SUBGROUP: Shader = shader("gemm_subgroup");
static TEXEL: Shader = shader("gemm_texel");

/// Which parts of the epilogue a variant has.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub bias: bool,
    pub activation: Option<Activation>,
    pub residual: bool,
    /// C is stored as f16.
    pub half: bool,
}

/// How a product's operands are stored.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub layout: Layout,
    pub a: DType,
    pub b: DType,
    /// Whether rows of A and of B, as stored, are whole fours. Rows of bytes always are.
    pub fours: (bool, bool),
}

impl Form {
    pub fn of(problem: &Problem) -> Form {
        let Problem { layout, m, n, k, a, b } = *problem;
        let (a_width, b_width) = (if layout == Layout::Tn { m } else { k }, if layout == Layout::Nt { k } else { n });
        Form { layout, a, b, fours: (a_width.is_multiple_of(4), b.is_bytes() || b_width.is_multiple_of(4)) }
    }
}

pub(super) fn variant(kernel: Kernel, form: Form, parts: Parts, matrices: Option<Matrices>) -> Variant {
    let Form { layout, a, b, fours } = form;
    let shader = match kernel {
        Kernel::Tile | Kernel::Wide | Kernel::Thin => &TILE,
        Kernel::Matrix | Kernel::MatrixWide => match matrices {
            Some(Matrices::Square8) => &MATRIX8,
            Some(Matrices::Half8) => &MATRIX8_HALF,
            Some(Matrices::Square16) | None => &MATRIX16,
        },
        Kernel::Rows => &ROWS,
        Kernel::Subgroup => &SUBGROUP,
        Kernel::Texel => &TEXEL,
    };
    let form = [
        // Texels are staged as rows of A whatever the layout.
        ("TRANS_A", u32::from(layout == Layout::Tn && kernel != Kernel::Texel)),
        ("TRANS_B", u32::from(layout == Layout::Nt)),
        ("HALF_B", u32::from(b == DType::F16)),
        ("BYTE_B", u32::from(b.is_bytes())),
        ("SCALED", u32::from(b.is_bytes() && layout == Layout::Nt)),
        ("BIAS", u32::from(parts.bias)),
        ("ACT", parts.activation.map_or(0, Activation::code)),
        ("RESIDUAL", u32::from(parts.residual)),
        ("HALF_C", u32::from(parts.half)),
    ];
    let tiling = kernel.tiling(matrices);
    let mut consts = [&tiling.consts()[..], &form].concat();
    if tiling.depth > 0 {
        consts.extend([("FOUR_A", u32::from(fours.0)), ("FOUR_B", u32::from(fours.1))]);
        consts.push(("HALF_A", u32::from(a == DType::F16)));
    }
    if kernel.by_matrix_units() {
        consts.push(("WIDE", u32::from(kernel == Kernel::MatrixWide)));
    }
    Variant::new(shader, "main", &consts)
}

pub(in crate::low_level::kernels) fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    let forms = [
        (Kernel::Tile, DType::F32, None),
        (Kernel::Tile, DType::F16, None),
        (Kernel::Tile, DType::I8, None),
        (Kernel::Wide, DType::F32, None),
        (Kernel::Wide, DType::F16, None),
        (Kernel::Wide, DType::I8, None),
        (Kernel::Thin, DType::F32, None),
        (Kernel::Thin, DType::F16, None),
        (Kernel::Thin, DType::I8, None),
        (Kernel::Matrix, DType::F16, Some(Matrices::Square16)),
        (Kernel::Matrix, DType::F16, Some(Matrices::Half8)),
        (Kernel::Matrix, DType::F16, Some(Matrices::Square8)),
        (Kernel::Matrix, DType::F32, Some(Matrices::Square8)),
        (Kernel::Matrix, DType::I8, Some(Matrices::Square16)),
        (Kernel::Matrix, DType::I8, Some(Matrices::Half8)),
        (Kernel::Matrix, DType::I8, Some(Matrices::Square8)),
        (Kernel::MatrixWide, DType::F16, Some(Matrices::Square16)),
        (Kernel::MatrixWide, DType::F16, Some(Matrices::Half8)),
        (Kernel::MatrixWide, DType::F16, Some(Matrices::Square8)),
        (Kernel::MatrixWide, DType::F32, Some(Matrices::Square8)),
        (Kernel::MatrixWide, DType::I8, Some(Matrices::Square16)),
        (Kernel::MatrixWide, DType::I8, Some(Matrices::Half8)),
        (Kernel::MatrixWide, DType::I8, Some(Matrices::Square8)),
        (Kernel::Rows, DType::F32, None),
        (Kernel::Rows, DType::F16, None),
        (Kernel::Rows, DType::I8, None),
        (Kernel::Subgroup, DType::F32, None),
        (Kernel::Subgroup, DType::F16, None),
        (Kernel::Subgroup, DType::I8, None),
        (Kernel::Texel, DType::F32, None),
        (Kernel::Texel, DType::ByteTexels, None),
    ];
    // What towers do with rows of f16: to residuals, to the next product's rows, and neither.
    for (kernel, b, matrices) in forms.into_iter().filter(|(.., matrices)| matrices.is_some_and(Matrices::half)) {
        for (half, activation, residual) in
            [(false, None, false), (false, None, true), (true, Some(Activation::QuickGelu), false)]
        {
            let form = Form { layout: Layout::Nt, a: DType::F16, b, fours: (true, true) };
            all.push(variant(kernel, form, Parts { bias: true, activation, residual, half }, matrices));
        }
    }
    for (kernel, b, matrices) in forms {
        for layout in Layout::ALL {
            if layout == Layout::Tn && (kernel.by_matrix_units() || kernel == Kernel::Texel || b.is_bytes()) {
                continue;
            }
            let staged = kernel.tiling(matrices).depth > 0;
            for (number, fours) in [(true, true), (false, false), (true, false), (false, true)].into_iter().enumerate()
            {
                // Kernels that stage nothing have one form. How operands are loaded and what is done with sums do not meet:
                // all epilogues with one way of loading, two with the others.
                if number > 0 && !staged || b.is_bytes() && !fours.1 {
                    continue;
                }
                for bias in [false, true] {
                    for activation in std::iter::once(None).chain(Activation::ALL.map(Some)) {
                        for residual in [false, true] {
                            if number == 0 || (bias == residual && bias == (activation == Some(Activation::Gelu))) {
                                let parts = Parts { bias, activation, residual, half: false };
                                all.push(variant(kernel, Form { layout, a: DType::F32, b, fours }, parts, matrices));
                            }
                        }
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
    use crate::gpu::{Capabilities, DType, Matrices, Measured};

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
        Problem { layout, m, n, k, a: DType::F32, b }
    }

    /// As a device chooses, from what was measured.
    fn select(caps: &Capabilities, p: &Problem, measured: &Measured) -> Option<Kernel> {
        Kernel::groups(caps, p).into_iter().find_map(|group| Kernel::best(&group, measured))
    }

    fn first(caps: &Capabilities, p: Problem) -> Option<Kernel> {
        select(caps, &p, &Measured::default())
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
        for b in [DType::F16, DType::I8] {
            assert_eq!(first(&LAVAPIPE, problem(Layout::Nt, 10, 20_000, 768, b)), Some(Kernel::Subgroup));
            assert_eq!(first(&sixteen, problem(Layout::Nn, 10, 768, 768, b)), Some(Kernel::Rows));
        }
    }

    #[test]
    fn gpus_get_tiles_by_the_shape_and_matrix_units_for_operands_they_hold() {
        let plain = gpu(None);
        assert_eq!(first(&plain, problem(Layout::Nt, 8, 768, 768, DType::F32)), Some(Kernel::Thin));
        assert_eq!(first(&plain, problem(Layout::Nn, 100, 768, 768, DType::F16)), Some(Kernel::Tile));
        assert_eq!(first(&plain, problem(Layout::Tn, 4096, 4096, 4096, DType::F32)), Some(Kernel::Wide));
        let nvidia = gpu(Some(Matrices::Square16));
        assert_eq!(first(&nvidia, problem(Layout::Nt, 4096, 4096, 4096, DType::F16)), Some(Kernel::MatrixWide));
        assert_eq!(first(&nvidia, problem(Layout::Nt, 4096, 4096, 4096, DType::F32)), Some(Kernel::Wide));
        // A single picture is added up as it is among many.
        assert_eq!(first(&nvidia, problem(Layout::Nt, 1, 768, 768, DType::F16)), Some(Kernel::Matrix));
        // Bytes are exact in f16.
        assert_eq!(first(&nvidia, problem(Layout::Nt, 1, 768, 768, DType::I8)), Some(Kernel::Matrix));
        assert_eq!(first(&plain, problem(Layout::Nn, 100, 768, 768, DType::I8)), Some(Kernel::Tile));
        // Scales are those of a frozen layer's outputs; no weight's gradient is made with one.
        assert_eq!(first(&plain, problem(Layout::Tn, 100, 768, 768, DType::I8)), None);
        let apple = gpu(Some(Matrices::Square8));
        assert_eq!(first(&apple, problem(Layout::Nt, 4096, 4096, 4096, DType::F32)), Some(Kernel::MatrixWide));
        // What WebGPU promises is enough, and a phone's 128 invocations are for thin tiles.
        let browser = Capabilities { workgroup_memory: 16384, invocations: 256, subgroups: None, ..plain };
        assert_eq!(first(&browser, problem(Layout::Nt, 4096, 4096, 4096, DType::F32)), Some(Kernel::Wide));
        let phone = Capabilities { invocations: 128, ..browser };
        assert_eq!(first(&phone, problem(Layout::Nt, 4096, 4096, 4096, DType::F16)), Some(Kernel::Thin));
    }

    fn measured(all: &[(Kernel, Option<f64>)]) -> Measured {
        let mut measured = Measured::default();
        measured.add(&all.iter().map(|(kernel, seconds)| (kernel.name(), *seconds)).collect::<Vec<_>>());
        measured
    }

    #[test]
    fn what_was_measured_is_taken_where_it_can_take_the_problem() {
        let faster = |kernel| measured(&[(Kernel::Texel, Some(1.0)), (kernel, Some(0.5))]);
        let p = problem(Layout::Nt, 100, 100, 100, DType::F32);
        assert_eq!(select(&LAVAPIPE, &p, &faster(Kernel::Subgroup)), Some(Kernel::Subgroup));
        assert_eq!(select(&LAVAPIPE, &p, &faster(Kernel::Matrix)), Some(Kernel::Texel));
        let texels = problem(Layout::Nt, 100, 100, 100, DType::Texels);
        assert_eq!(select(&LAVAPIPE, &texels, &faster(Kernel::Rows)), Some(Kernel::Texel));
        assert_eq!(select(&gpu(None), &texels, &Measured::default()), None);
    }

    #[test]
    fn a_kernel_must_be_clearly_faster_and_right() {
        let group = [Kernel::Texel, Kernel::Subgroup, Kernel::Rows];
        let best = |all: &[(Kernel, Option<f64>)]| Kernel::best(&group, &measured(all));
        let all =
            |texel, subgroup, rows| best(&[(Kernel::Texel, texel), (Kernel::Subgroup, subgroup), (Kernel::Rows, rows)]);
        assert_eq!(all(Some(1.0), Some(0.95), Some(2.0)), Some(Kernel::Texel), "within the margin");
        assert_eq!(all(Some(1.0), Some(0.85), Some(0.8)), Some(Kernel::Rows));
        assert_eq!(all(None, Some(1.0), Some(0.95)), Some(Kernel::Subgroup), "the usual one is wrong");
        assert_eq!(all(Some(1.0), Some(0.85), None), Some(Kernel::Subgroup));
        assert_eq!(all(None, None, None), None, "all are wrong");
        assert_eq!(best(&[]), Some(Kernel::Texel), "nothing was measured");
        assert_eq!(best(&[(Kernel::Rows, Some(0.1))]), Some(Kernel::Texel), "there is nothing to compare with");
    }

    /// Times that say otherwise must not change the order of sums, and so the bits; nor must the sizes.
    #[test]
    fn no_measurement_and_no_size_changes_the_order_of_sums() {
        let every: Vec<_> = Kernel::ALL.into_iter().collect();
        for caps in [LAVAPIPE, gpu(None), gpu(Some(Matrices::Square16)), gpu(Some(Matrices::Square8))] {
            for layout in Layout::ALL {
                for b in [DType::F32, DType::F16, DType::I8, DType::Texels, DType::HalfTexels, DType::ByteTexels] {
                    let mut orders = Vec::new();
                    for size in [1, 16, 17, 300, 512, 5000, 40_000] {
                        for p in [problem(layout, size, 512, 64, b), problem(layout, 512, size, size, b)] {
                            for fast in &every {
                                let times: Vec<_> =
                                    every.iter().map(|k| (*k, Some(if k == fast { 1e-6 } else { 1.0 }))).collect();
                                let chosen = select(&caps, &p, &measured(&times));
                                orders.extend(chosen.map(Kernel::order));
                            }
                        }
                    }
                    assert!(orders.windows(2).all(|w| w[0] == w[1]), "{caps:?} {layout:?} {b:?}: {orders:?}");
                }
            }
        }
    }

    #[test]
    fn groups_are_of_one_order_and_can_take_the_problem() {
        for caps in [LAVAPIPE, gpu(None), gpu(Some(Matrices::Square16)), gpu(Some(Matrices::Square8))] {
            for layout in Layout::ALL {
                for (m, b) in [(1, DType::F32), (100, DType::F16), (4096, DType::F32), (4096, DType::F16)] {
                    let p = problem(layout, m, 1000, 1000, b);
                    let groups = Kernel::groups(&caps, &p);
                    assert!(!groups.is_empty(), "{caps:?} {p:?}");
                    let all = groups.concat();
                    assert!(all.iter().all(|k| k.takes(&caps, &p)));
                    assert!((1..all.len()).all(|i| !all[..i].contains(&all[i])));
                    assert!(groups.iter().all(|g| !g.is_empty() && g.iter().all(|k| k.order() == g[0].order())));
                }
            }
        }
    }

    #[test]
    fn rows_of_f16_go_to_matrix_units_that_round_to_it() {
        let of = |k, b| Problem { a: DType::F16, ..problem(Layout::Nt, 512, 768, k, b) };
        for matrices in [Matrices::Square16, Matrices::Half8] {
            let caps = gpu(Some(matrices));
            assert!(first(&caps, of(768, DType::F16)).is_some_and(Kernel::by_matrix_units));
            assert!(first(&caps, of(768, DType::I8)).is_some_and(Kernel::by_matrix_units));
            assert_eq!(first(&caps, of(770, DType::F16)), None);
            assert_eq!(first(&caps, Problem { layout: Layout::Nn, ..of(768, DType::F16) }), None);
        }
        for caps in [LAVAPIPE, gpu(None), gpu(Some(Matrices::Square8))] {
            assert_eq!(first(&caps, of(768, DType::F16)), None);
        }
        assert_ne!(of(768, DType::F16).class(), problem(Layout::Nt, 512, 768, 768, DType::F16).class());
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
