//! Tip-Adapter's cache term without the affinity matrix (`shaders/affinity.wgsl`, `affinity_rows.wgsl`,
//! `affinity_subgroup.wgsl`, `affinity_texel.wgsl`), and what its keys get back (`shaders/affinity_grad.wgsl`).

use std::ops::Range;

use super::gemm::{Epilogue, Layout, matmul};
use super::texts::shader;
use super::{expect, texels};
use crate::gpu::{Capabilities, DType, Dispatch, Gpu, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static TILE: Shader = shader("affinity");

static ROWS: Shader = shader("affinity_rows");

static SUBGROUP: Shader = shader("affinity_subgroup");

static TEXEL: Shader = shader("affinity_texel");

static GRAD: Shader = shader("affinity_grad");

/// β that one dispatch serves at most: more would not stay in registers.
pub const MAX_BETAS: usize = 20;

/// The kernels that compute a cache term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// 64 queries × 16 keys through workgroup memory: GPUs.
    Tile,
    /// Register tiles of this many keys of one class × 12 queries: drivers that run on the CPU.
    Rows(u32),
    /// Register tiles of 16 keys × 12 queries that share loads across a subgroup of eight: CPU drivers that have such.
    Subgroup,
    /// As `Subgroup`, 16 keys × 4 queries, from textures.
    Texel,
}

impl Kernel {
    /// All kernels.
    pub const ALL: [Kernel; 6] =
        [Kernel::Tile, Kernel::Rows(1), Kernel::Rows(4), Kernel::Rows(16), Kernel::Subgroup, Kernel::Texel];

    /// The kernel for a driver and a cache. A tile of `Rows` holds keys of one class only, so it is no larger than
    /// classes are.
    pub fn select(caps: &Capabilities, keys: usize, classes: usize) -> Kernel {
        match keys.div_ceil(classes.max(1)) {
            _ if !caps.cpu => Kernel::Tile,
            _ if caps.subgroups_of(8) => Kernel::Texel,
            0..=1 => Kernel::Rows(1),
            2..=4 => Kernel::Rows(4),
            _ => Kernel::Rows(16),
        }
    }

    fn tiling(self) -> Tiling {
        match self {
            Kernel::Tile => Tiling { keys: TILE_KEYS, queries: 64, per: 1 },
            Kernel::Rows(keys) => Tiling { keys, queries: 96, per: 12 },
            Kernel::Subgroup => Tiling { keys: TILE_KEYS, queries: 96, per: 12 },
            Kernel::Texel => Tiling { keys: TILE_KEYS, queries: 32, per: 4 },
        }
    }

    /// Whether the kernel runs on this device.
    pub fn runs_on(self, caps: &Capabilities) -> bool {
        !matches!(self, Kernel::Subgroup | Kernel::Texel) || caps.subgroups_of(8)
    }
}

/// How a kernel shares out the products of queries and keys. Grid and constants of the text follow from it.
#[derive(Clone, Copy)]
struct Tiling {
    /// Keys of a tile.
    keys: u32,
    /// Queries of a workgroup.
    queries: u32,
    /// Queries of an invocation.
    per: u32,
}

/// Keys of a tile, which classes are taken together by, in all kernels that take several at once.
const TILE_KEYS: u32 = 16;

fn variant(kernel: Kernel, betas: usize, base: bool) -> Variant {
    let Tiling { keys, queries, per } = kernel.tiling();
    let shader = match kernel {
        Kernel::Tile => &TILE,
        Kernel::Rows(_) => &ROWS,
        Kernel::Subgroup => &SUBGROUP,
        Kernel::Texel => &TEXEL,
    };
    let form = [("BETAS", betas as u32), ("BASE", u32::from(base))];
    Variant::new(shader, "main", &[form[0], form[1], ("KEYS", keys), ("QUERIES", queries), ("PER", per)])
}

pub(super) fn variants() -> Vec<Variant> {
    let mut all = vec![Variant::new(&GRAD, "main", &[])];
    for kernel in Kernel::ALL {
        for (betas, base) in [(1, false), (1, true), (7, false), (11, false), (MAX_BETAS, false)] {
            all.push(variant(kernel, betas, base));
        }
    }
    all
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    queries: u32,
    classes: u32,
    width: u32,
    scale: f32,
    /// Keys that `Kernel::Texel` has in its texture.
    first: u32,
    past: u32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct GradParams {
    keys: u32,
    queries: u32,
    classes: u32,
    scale: f32,
}

/// Keys that are staged as a texture at a time: as many again would take as much memory as the keys themselves.
const PART_KEYS: u32 = 2048;

/// The keys that a cache term sums over, sorted by class.
#[derive(Clone, Debug)]
pub struct Keys {
    /// `[n, width]`, rows of length 1 (unless they were trained), all of class 0 first, then class 1, …
    pub keys: Tensor,
    /// u32 `[classes+1]`: class c's keys are rows `starts[c]…starts[c+1]`.
    pub starts: Tensor,
    /// u32 `[blocks, 2]`: ranges of classes that a workgroup takes together.
    blocks: Tensor,
    /// The same blocks, and the keys that they have, in parts that a texture can hold; none where a class is too large.
    parts: Vec<(Tensor, Range<usize>)>,
}

impl Keys {
    /// Keys `[n, width]` that are sorted by class, and where each class starts, `[classes+1]`.
    ///
    /// # Errors
    /// Starts that do not begin at 0, do not ascend or do not end at n; out of memory.
    pub fn new(gpu: &Gpu, keys: Tensor, starts: &[u32]) -> Result<Keys> {
        let ends = (starts.first(), starts.last());
        if starts.len() < 2
            || ends != (Some(&0), Some(&(keys.rows() as u32)))
            || starts.windows(2).any(|pair| pair[0] > pair[1])
        {
            return Err(Error::invalid(format!("affinity: class starts that do not fit {} keys", keys.rows())));
        }
        // Classes are taken together while their keys fit one tile.
        let mut blocks: Vec<u32> = Vec::new();
        let mut first = 0;
        for c in 1..starts.len() {
            let over = c + 1 == starts.len() || starts[c + 1] - starts[first] > TILE_KEYS;
            if over {
                blocks.extend([first as u32, c as u32]);
                first = c;
            }
        }
        let most = gpu.capabilities().texture;
        let mut parts = Vec::new();
        let mut from = 0;
        for to in 1..=blocks.len() / 2 {
            let past = |block: usize| starts[blocks[2 * block + 1] as usize];
            let begin = starts[blocks[2 * from] as usize];
            // A block has a tile's worth of keys unless it is one class, which may be any size.
            if past(to - 1) - begin > most {
                parts.clear();
                break;
            }
            if to == blocks.len() / 2 || past(to) - begin > PART_KEYS {
                let part = gpu.upload("class blocks", &blocks[2 * from..2 * to], &[to - from, 2])?;
                parts.push((part, begin as usize..past(to - 1) as usize));
                from = to;
            }
        }
        Ok(Keys {
            parts,
            starts: gpu.upload("class starts", starts, &[starts.len()])?,
            blocks: gpu.upload("class blocks", &blocks, &[blocks.len() / 2, 2])?,
            keys,
        })
    }

    /// The same classes with other keys of the same shape.
    ///
    /// # Errors
    /// Another shape.
    pub fn with_keys(&self, keys: Tensor) -> Result<Keys> {
        expect("affinity", "keys", &keys, self.keys.shape())?;
        Ok(Keys { keys, ..self.clone() })
    }

    /// Whether [`Kernel::Texel`] can take these keys with queries f.
    fn fits_textures(&self, caps: &Capabilities, f: &Tensor) -> bool {
        !self.parts.is_empty() && caps.holds_texels(f.rows(), f.cols())
    }

    fn classes(&self) -> usize {
        self.starts.len() - 1
    }
}

/// y `[betas, queries, classes]` = scale·Σ over each class's keys of exp(−β(1 − f·g)), plus `base` `[queries, classes]`
/// when given (one β only). `f` `[queries, width]` has rows of length 1; `betas` is `[1…20]`. The `[queries, n]` affinity is
/// never written (Tip-Adapter, arXiv 2207.09519, eq. 5–6).
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn cache_term(
    rec: &mut Recorder,
    f: &Tensor,
    cache: &Keys,
    betas: &Tensor,
    scale: f32,
    base: Option<&Tensor>,
) -> Result<Tensor> {
    let caps = *rec.gpu().capabilities();
    let kernel = match Kernel::select(&caps, cache.keys.rows(), cache.classes()) {
        Kernel::Texel if !cache.fits_textures(&caps, f) => Kernel::Subgroup,
        kernel => kernel,
    };
    cache_term_with(rec, kernel, f, cache, betas, scale, base)
}

/// As [`cache_term`], by the kernel given.
///
/// # Errors
/// As [`cache_term`].
#[allow(clippy::too_many_arguments)]
pub fn cache_term_with(
    rec: &mut Recorder,
    kernel: Kernel,
    f: &Tensor,
    cache: &Keys,
    betas: &Tensor,
    scale: f32,
    base: Option<&Tensor>,
) -> Result<Tensor> {
    let (queries, width, count) = (f.rows(), f.cols(), betas.len());
    let classes = cache.classes();
    if cache.keys.cols() != width || !kernel.runs_on(rec.gpu().capabilities()) {
        return Err(Error::invalid(format!(
            "affinity: queries {:?} and keys {:?} by {kernel:?}",
            f.shape(),
            cache.keys.shape()
        )));
    }
    if count > MAX_BETAS || (base.is_some() && count != 1) {
        return Err(Error::invalid(format!("affinity: {count} betas; at most {MAX_BETAS}, and one with a base")));
    }
    if let Some(base) = base {
        expect("affinity", "base", base, &[queries, classes])?;
    }
    let y = rec.temp("cache term", &[count, queries, classes])?;
    let flops = |keys: usize| queries as f64 * keys as f64 * (2.0 * width as f64 + 3.0 * count as f64);
    let bytes = |keys: usize| 4.0 * (f.len() + keys * width + y.len() * keys / cache.keys.rows().max(1)) as f64;
    let params = |keys: &Range<usize>| Params {
        queries: queries as u32,
        classes: classes as u32,
        width: width as u32,
        scale,
        first: keys.start as u32,
        past: keys.end as u32,
    };
    let variant = variant(kernel, count, base.is_some());
    let across = queries.div_ceil(kernel.tiling().queries as usize);
    if kernel == Kernel::Texel {
        if !cache.fits_textures(rec.gpu().capabilities(), f) {
            return Err(Error::invalid("affinity: more queries or more keys of one class than a texture has rows"));
        }
        let staged = texels::stage(rec, f)?;
        for (blocks, keys) in &cache.parts {
            // A part of classes without keys still has its sums of nothing to store.
            let from = keys.start.min(cache.keys.rows() - 1);
            let held = from..keys.end.max(from + 1);
            let g = texels::stage_rows(rec, &cache.keys, held.clone())?;
            rec.dispatch(&Dispatch {
                variant: variant.clone(),
                label: "affinity",
                params: bytemuck::bytes_of(&params(&held)),
                bindings: &[&[&staged, &g, &cache.starts, betas][..], base.as_slice(), &[blocks, &y]].concat(),
                grid: Grid::Cube(across, blocks.rows(), 1),
                flops: flops(keys.len()),
                bytes: bytes(keys.len()),
            })?;
        }
        return Ok(y);
    }
    let keys = cache.keys.rows();
    // A tile of `Rows` takes one class.
    let blocks = (!matches!(kernel, Kernel::Rows(_))).then_some(&cache.blocks);
    rec.dispatch(&Dispatch {
        variant,
        label: "affinity",
        params: bytemuck::bytes_of(&params(&(0..keys))),
        bindings: &[&[f, &cache.keys, &cache.starts, betas][..], base.as_slice(), blocks.as_slice(), &[&y]].concat(),
        grid: Grid::Cube(across, blocks.map_or(classes, Tensor::rows), 1),
        flops: flops(keys),
        bytes: bytes(keys),
    })?;
    Ok(y)
}

/// Gradient `[N, width]` of the keys of [`cache_term`] (one β, factor `scale`) from the logits' gradient dy
/// `[queries, classes]`. `labels` is u32 `[N]`: the keys' classes. Needs two matrices `[N, queries]` besides.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn backward_keys(
    rec: &mut Recorder,
    f: &Tensor,
    cache: &Keys,
    labels: &Tensor,
    beta: &Tensor,
    scale: f32,
    dy: &Tensor,
) -> Result<Tensor> {
    let (keys, queries, classes) = (cache.keys.rows(), f.rows(), cache.classes());
    expect("affinity dx", "dy", dy, &[queries, classes])?;
    expect("affinity dx", "labels", labels, &[keys])?;
    expect("affinity dx", "beta", beta, &[1])?;
    if labels.dtype() != DType::U32 {
        return Err(Error::invalid("affinity dx: labels must be u32"));
    }
    let similarity = matmul(rec, Layout::Nt, &cache.keys, f, &Epilogue::default())?;
    let slopes = rec.temp("affinity dx", &[keys, queries])?;
    let params = GradParams { keys: keys as u32, queries: queries as u32, classes: classes as u32, scale };
    rec.dispatch(&Dispatch {
        variant: Variant::new(&GRAD, "main", &[]),
        label: "affinity dx",
        params: bytemuck::bytes_of(&params),
        bindings: &[&similarity, dy, labels, beta, &slopes],
        grid: Grid::cover(slopes.len(), 64),
        flops: 5.0 * slopes.len() as f64,
        bytes: 8.0 * slopes.len() as f64,
    })?;
    matmul(rec, Layout::Nn, &slopes, f, &Epilogue::default())
}

#[cfg(test)]
mod tests {
    use super::Kernel;
    use crate::gpu::Capabilities;

    #[test]
    fn tiles_are_no_larger_than_classes_are() {
        let caps = |cpu, size| Capabilities {
            cpu,
            subgroups: Some((size, size)),
            f16: false,
            matrices: None,
            texture: 16384,
            workgroup_memory: 32768,
            invocations: 256,
        };
        assert_eq!(Kernel::select(&caps(false, 8), 1600, 100), Kernel::Tile);
        assert_eq!(Kernel::select(&caps(true, 8), 1600, 100), Kernel::Texel);
        assert_eq!(Kernel::select(&caps(true, 4), 100, 100), Kernel::Rows(1));
        assert_eq!(Kernel::select(&caps(true, 4), 101, 100), Kernel::Rows(4));
        assert_eq!(Kernel::select(&caps(true, 4), 1600, 100), Kernel::Rows(16));
    }
}
