//! Attention over packed sequences (`shaders/attention.wgsl`, `attention_tile.wgsl`, `attention_texel.wgsl`).

use super::texts::shader;
use super::{expect, expect_matrix, texels};
use crate::gpu::{Capabilities, DType, Dispatch, Gpu, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("attention");

static TILE: Shader = shader("attention_tile");

static TEXEL: Shader = shader("attention_texel");

/// The kernels that compute attention. Rows of a workgroup: a CPU driver runs 8 side by side, and sequences of a few rows
/// (class names behind a shared prefix) would leave most of a larger workgroup idle; GPUs want 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// 32 rows, in tiles in workgroup memory: GPUs, for heads whose width is a multiple of 16.
    Tile,
    /// 32 rows, from buffers: GPUs with other heads, or with little workgroup memory.
    Rows32,
    /// 8 rows, from buffers: drivers that run on the CPU.
    Rows8,
    /// 8 rows that share what they fetch from textures: CPU drivers with subgroups of eight.
    Texel,
}

impl Kernel {
    /// All kernels.
    pub const ALL: [Kernel; 4] = [Kernel::Tile, Kernel::Rows32, Kernel::Rows8, Kernel::Texel];

    /// The kernel for a device and so many rows in all.
    pub fn select(caps: &Capabilities, rows: usize) -> Kernel {
        match caps.cpu {
            false if Kernel::Tile.runs_on(caps) => Kernel::Tile,
            false => Kernel::Rows32,
            true if Kernel::Texel.runs_on(caps) && rows <= caps.texture as usize => Kernel::Texel,
            true => Kernel::Rows8,
        }
    }

    /// Whether the kernel runs on a device.
    pub fn runs_on(self, caps: &Capabilities) -> bool {
        match self {
            Kernel::Tile => caps.invocations >= TILE_INVOCATIONS && caps.workgroup_memory >= tile_memory("forward", 16),
            Kernel::Rows32 | Kernel::Rows8 => true,
            Kernel::Texel => caps.subgroups_of(8),
        }
    }

    fn rows(self) -> usize {
        match self {
            Kernel::Tile | Kernel::Rows32 => 32,
            Kernel::Rows8 | Kernel::Texel => 8,
        }
    }
}

/// Invocations of a tile's workgroup: four a row.
const TILE_INVOCATIONS: u32 = 128;

/// Bytes of workgroup memory that an entry point of the tiles takes for heads of this width.
fn tile_memory(entry: &str, head: u32) -> u32 {
    let (rows, keys) = (32, 16);
    // Vectors of rows and of keys, one more in each than needed; scores, of which a row has one more than needed.
    let (vectors, scores) = (16 * (head / 4 + 1) * (rows + keys), 4 * rows * (keys + 1));
    match entry {
        "forward" => vectors + scores,
        "backward_q" => 2 * vectors + scores,
        _ => 2 * (vectors + scores),
    }
}

/// Rows up to which [`Kernel::select`] takes the same kernel on this device, whatever their number; `None` where it always
/// does.
pub fn most_rows(gpu: &Gpu) -> Option<usize> {
    let caps = gpu.capabilities();
    (caps.cpu && Kernel::Texel.runs_on(caps)).then_some(caps.texture as usize)
}

const ENTRIES: [&str; 5] = ["forward", "weights", "dot_rows", "backward_q", "backward_kv"];
/// What texels and tiles have of these.
const MAIN_ENTRIES: [&str; 3] = ["forward", "backward_q", "backward_kv"];

fn variant(kernel: Kernel, entry: &'static str, head: usize, causal: bool) -> Variant {
    variant_of(kernel, entry, head, (causal, false))
}

fn variant_of(kernel: Kernel, entry: &'static str, head: usize, (causal, half): (bool, bool)) -> Variant {
    let form = [("HEAD", head as u32), ("CAUSAL", u32::from(causal))];
    let consts = [form[0], form[1], ("BLOCK", kernel.rows() as u32), ("HALF", u32::from(half))];
    match kernel {
        Kernel::Texel => Variant::new(&TEXEL, entry, &consts[..2]),
        Kernel::Tile => Variant::new(&TILE, entry, &consts),
        Kernel::Rows8 | Kernel::Rows32 => Variant::new(&SHADER, entry, &consts[..3]),
    }
}

/// Whether a variant, named by its key, is of the kernel with blocks of so many rows.
fn is_by_rows(key: &str, rows: usize) -> bool {
    key.starts_with("attention/") && key.ends_with(&format!(",BLOCK={rows}"))
}

pub(super) fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for head in [12, 16, 64, 80] {
        for causal in [false, true] {
            for kernel in [Kernel::Rows8, Kernel::Rows32] {
                all.extend(ENTRIES.map(|entry| variant(kernel, entry, head, causal)));
            }
            all.extend(MAIN_ENTRIES.map(|entry| variant(Kernel::Texel, entry, head, causal)));
            if head.is_multiple_of(16) {
                all.extend(MAIN_ENTRIES.map(|entry| variant(Kernel::Tile, entry, head, causal)));
                all.push(variant_of(Kernel::Tile, "forward", head, (causal, true)));
            }
        }
    }
    all
}

/// One sequence of a packed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first row.
    pub start: usize,
    /// Its number of rows.
    pub len: usize,
}

/// Which rows attend to which.
#[derive(Clone, Debug)]
pub struct Pattern {
    blocks: Tensor,
    count: usize,
    rows: usize,
    longest: usize,
    pairs: f64,
    causal: bool,
    kernel: Kernel,
}

impl Pattern {
    /// Sequences that lie one after the other, each attending to itself. When `prefix` is given, it is the first
    /// span, and every other sequence attends to all of it too: its keys and values are computed once and its
    /// gradient is summed over all the others in their order.
    ///
    /// # Errors
    /// Spans that are empty or do not lie one after the other; out of memory.
    pub fn new(gpu: &Gpu, prefix: Option<Span>, sequences: &[Span], causal: bool) -> Result<Pattern> {
        let rows = prefix.iter().chain(sequences).map(|s| s.len).sum();
        let kernel = match Kernel::select(gpu.capabilities(), rows) {
            // Blocks of either size do on any device.
            Kernel::Tile if gpu.leaves_out(&|key| key.starts_with("attention_tile/")) => Kernel::Rows32,
            Kernel::Rows32 if gpu.leaves_out(&|key| is_by_rows(key, 32)) => Kernel::Rows8,
            Kernel::Rows8 if gpu.leaves_out(&|key| is_by_rows(key, 8)) => Kernel::Rows32,
            kernel => kernel,
        };
        Pattern::with_kernel(gpu, kernel, prefix, sequences, causal)
    }

    /// As [`Pattern::new`], for the kernel given.
    ///
    /// # Errors
    /// As [`Pattern::new`]; a kernel that does not run on this device.
    pub fn with_kernel(
        gpu: &Gpu,
        kernel: Kernel,
        prefix: Option<Span>,
        sequences: &[Span],
        causal: bool,
    ) -> Result<Pattern> {
        if !kernel.runs_on(gpu.capabilities()) {
            return Err(Error::invalid(format!("attention: {kernel:?} does not run on {}", gpu.name())));
        }
        let block = kernel.rows();
        let mut next = 0;
        for span in prefix.iter().chain(sequences) {
            if span.len == 0 || span.start != next {
                return Err(Error::invalid(format!("attention: sequence {span:?} where row {next} should start")));
            }
            next += span.len;
        }
        let shared = prefix.unwrap_or(Span { start: 0, len: 0 });
        let mut blocks: Vec<u32> = Vec::new();
        let mut add = |span: &Span, prefix: Span, users: Span| {
            for first in (span.start..span.start + span.len).step_by(block) {
                let rows = block.min(span.start + span.len - first);
                let numbers = [first, rows, prefix.start, prefix.len, span.start, span.len, users.start, users.len];
                blocks.extend(numbers.map(|v| v as u32));
            }
        };
        let none = Span { start: 0, len: 0 };
        if let Some(prefix) = &prefix {
            add(prefix, none, Span { start: prefix.len, len: next - prefix.len });
        }
        for span in sequences {
            add(span, shared, none);
        }
        let own: f64 = prefix.iter().chain(sequences).map(|s| (s.len * s.len) as f64).sum();
        let pairs = own * if causal { 0.5 } else { 1.0 } + (shared.len * (next - shared.len)) as f64;
        let longest = sequences.iter().map(|s| s.len).max().unwrap_or(0) + shared.len;
        let count = blocks.len() / 8;
        let blocks = gpu.upload("attention blocks", &blocks, &[count, 8])?;
        Ok(Pattern { blocks, count, rows: next, longest, pairs, causal, kernel })
    }

    /// `batch` sequences of `tokens` rows each.
    ///
    /// # Errors
    /// Out of memory.
    pub fn uniform(gpu: &Gpu, batch: usize, tokens: usize, causal: bool) -> Result<Pattern> {
        let spans: Vec<_> = (0..batch).map(|b| Span { start: b * tokens, len: tokens }).collect();
        Pattern::new(gpu, None, &spans, causal)
    }

    /// Rows of all sequences together.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// Output of [`forward`].
pub struct Attended {
    /// `[rows, width]`: the heads' mixtures, side by side.
    pub y: Tensor,
    /// `[rows, heads]`: log of the softmax's denominator, for [`backward`].
    pub lse: Tensor,
}

#[derive(Clone, Copy)]
struct Form {
    heads: usize,
    width: usize,
    head: usize,
}

fn form(qkv: &Tensor, pattern: &Pattern, heads: usize) -> Result<Form> {
    let width = qkv.cols() / 3;
    if heads == 0 || qkv.cols() != 3 * width || !width.is_multiple_of(heads) {
        return Err(Error::invalid(format!("attention: {:?} is not three times {heads} heads", qkv.shape())));
    }
    expect_matrix("attention", "qkv", qkv, pattern.rows, 3 * width)?;
    Ok(Form { heads, width, head: width / heads })
}

/// The kernel for an entry point and these operands, and qkv and dy as it reads them.
fn operands(
    rec: &mut Recorder,
    pattern: &Pattern,
    f: &Form,
    (entry, inputs): (&str, [&Tensor; 2]),
) -> Result<(Kernel, [Tensor; 2])> {
    let caps = *rec.gpu().capabilities();
    let fits = match pattern.kernel {
        Kernel::Tile => f.head.is_multiple_of(16) && tile_memory(entry, f.head as u32) <= caps.workgroup_memory,
        Kernel::Texel => f.head.is_multiple_of(4) && caps.holds_texels(pattern.rows, 3 * f.width),
        Kernel::Rows32 | Kernel::Rows8 => true,
    };
    if !fits || pattern.kernel != Kernel::Texel {
        let kernel = if fits { pattern.kernel } else { in_buffers(pattern) };
        return Ok((kernel, inputs.map(Clone::clone)));
    }
    let qkv = texels::stage(rec, inputs[0])?;
    let dy = if inputs[1].same_buffer(inputs[0]) { qkv.clone() } else { texels::stage(rec, inputs[1])? };
    Ok((Kernel::Texel, [qkv, dy]))
}

/// The kernel with blocks of as many rows that takes any head, and any entry point.
fn in_buffers(pattern: &Pattern) -> Kernel {
    match pattern.kernel {
        Kernel::Tile => Kernel::Rows32,
        Kernel::Texel => Kernel::Rows8,
        kernel => kernel,
    }
}

fn params(pattern: &Pattern, heads: usize, keys: usize) -> [u32; 4] {
    [pattern.rows, heads, pattern.count, keys].map(|v| v as u32)
}

/// softmax(q·kᵀ/√head)·v per head, for qkv `[rows, 3·width]`.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn forward(rec: &mut Recorder, qkv: &Tensor, pattern: &Pattern, heads: usize) -> Result<Attended> {
    attend(rec, qkv, pattern, heads, false)
}

/// As [`forward`], with the heads' mixtures as f16 where the kernel for them stores such: for nothing but a product by matrix
/// units ([`super::gemm::takes_half`]), and not for [`backward`].
///
/// # Errors
/// As [`forward`].
pub fn forward_half(rec: &mut Recorder, qkv: &Tensor, pattern: &Pattern, heads: usize) -> Result<Attended> {
    attend(rec, qkv, pattern, heads, true)
}

fn attend(rec: &mut Recorder, qkv: &Tensor, pattern: &Pattern, heads: usize, half: bool) -> Result<Attended> {
    let f = form(qkv, pattern, heads)?;
    let (kernel, [from, _]) = operands(rec, pattern, &f, ("forward", [qkv, qkv]))?;
    let half = half && kernel == Kernel::Tile;
    let stored = if half { DType::F16 } else { DType::F32 };
    let y = rec.temp_of("attention", &[pattern.rows, f.width], stored)?;
    let lse = rec.temp("attention lse", &[pattern.rows, heads])?;
    rec.dispatch(&Dispatch {
        variant: variant_of(kernel, "forward", f.head, (pattern.causal, half)),
        label: "attention",
        params: bytemuck::bytes_of(&params(pattern, heads, 0)),
        bindings: &[&pattern.blocks, &from, &lse, &y],
        grid: Grid::Cube(pattern.count, heads, 1),
        flops: 4.0 * pattern.pairs * f.width as f64,
        bytes: (qkv.bytes() + y.bytes()) as f64,
    })?;
    Ok(Attended { y, lse })
}

/// The attention weights `[rows, heads, longest sequence]`, prefix first, zeros where a key is not seen. For looking
/// at; neither inference nor training writes them.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn weights(rec: &mut Recorder, qkv: &Tensor, lse: &Tensor, pattern: &Pattern, heads: usize) -> Result<Tensor> {
    let f = form(qkv, pattern, heads)?;
    expect("attention weights", "lse", lse, &[pattern.rows, heads])?;
    let y = rec.temp("attention weights", &[pattern.rows, heads, pattern.longest])?;
    rec.dispatch(&Dispatch {
        variant: variant(in_buffers(pattern), "weights", f.head, pattern.causal),
        label: "attention weights",
        params: bytemuck::bytes_of(&params(pattern, heads, pattern.longest)),
        bindings: &[&pattern.blocks, qkv, lse, &y],
        grid: Grid::Cube(pattern.count, heads, 1),
        flops: 2.0 * pattern.pairs * f.width as f64,
        bytes: 4.0 * (qkv.len() + y.len()) as f64,
    })?;
    Ok(y)
}

/// dqkv `[rows, 3·width]` from what forward took and gave, and dy `[rows, width]`. Weights are rebuilt from `lse`.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn backward(
    rec: &mut Recorder,
    qkv: &Tensor,
    out: &Attended,
    dy: &Tensor,
    pattern: &Pattern,
    heads: usize,
) -> Result<Tensor> {
    let f = form(qkv, pattern, heads)?;
    expect_matrix("attention dx", "dy", dy, pattern.rows, f.width)?;
    expect("attention dx", "lse", &out.lse, &[pattern.rows, heads])?;
    let delta = rec.temp("attention delta", &[pattern.rows, heads])?;
    let params = params(pattern, f.heads, 0);
    rec.dispatch(&Dispatch {
        variant: variant(in_buffers(pattern), "dot_rows", f.head, pattern.causal),
        label: "attention delta",
        params: bytemuck::bytes_of(&params),
        bindings: &[&out.y, dy, &delta],
        grid: Grid::cover(pattern.rows * heads, 64),
        flops: 2.0 * dy.len() as f64,
        bytes: 8.0 * dy.len() as f64,
    })?;
    let dqkv = rec.temp("dqkv", qkv.shape())?;
    // The last entry point takes the most memory: both by one kernel.
    let (kernel, [from, gradient]) = operands(rec, pattern, &f, ("backward_kv", [qkv, dy]))?;
    for (entry, label, products) in [("backward_q", "attention dq", 6.0), ("backward_kv", "attention dkv", 8.0)] {
        rec.dispatch(&Dispatch {
            variant: variant(kernel, entry, f.head, pattern.causal),
            label,
            params: bytemuck::bytes_of(&params),
            bindings: &[&pattern.blocks, &from, &gradient, &delta, &out.lse, &dqkv],
            grid: Grid::Cube(pattern.count, heads, 1),
            flops: products * pattern.pairs * f.width as f64,
            bytes: 4.0 * (2 * qkv.len() + dy.len()) as f64,
        })?;
    }
    Ok(dqkv)
}

#[cfg(test)]
mod tests {
    use super::{Kernel, MAIN_ENTRIES, TILE_INVOCATIONS, tile_memory, variant};

    #[test]
    fn tiles_want_what_their_text_takes() {
        for (head, entry) in [16, 64, 80].into_iter().flat_map(|head| MAIN_ENTRIES.map(|entry| (head, entry))) {
            let text = variant(Kernel::Tile, entry, head, true).wgsl().unwrap().text;
            let module = naga::front::wgsl::parse_str(&text).unwrap();
            let info = naga::valid::Validator::new(Default::default(), naga::valid::Capabilities::all());
            let info = { info }.validate(&module).unwrap();
            let i = module.entry_points.iter().position(|e| e.name == entry).unwrap();
            let used = module.global_variables.iter().filter(|(handle, variable)| {
                variable.space == naga::AddressSpace::WorkGroup && !info.get_entry_point(i)[*handle].is_empty()
            });
            let memory: u32 = used.map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx())).sum();
            assert_eq!(memory, tile_memory(entry, head as u32), "{entry}, {head}");
            assert_eq!(module.entry_points[i].workgroup_size.iter().product::<u32>(), TILE_INVOCATIONS);
        }
        // What WebGPU promises is enough for the usual head.
        assert!(tile_memory("forward", 64) <= 16 << 10 && tile_memory("backward_kv", 64) <= 32 << 10);
    }
}
