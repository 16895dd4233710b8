//! Rows that are most like others, by the cosine of the angle between them: exact, in blocks on the GPU, so that memory does not
//! grow with the number of pairs.
//!
//! A block of keys times a block of queries is one product, whose scores go into the queries' running lists
//! ([`kernels::nearest`]); the lists are read back once for each block of queries. Where rows are compared with each other, a block
//! of products serves both of its sides, since a·b and b·a have the same bits. What comes out depends on no block's size: every score
//! is the same sum, and of equal scores the lower number is the better one.
//!
//! [`kernels::nearest`]: crate::kernels::nearest

use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::gemm::{Epilogue, Layout, Precision, freeze_rows, matmul};
pub use crate::kernels::nearest::NONE;
use crate::kernels::nearest::{self, Candidates, Lists};
use crate::{Error, Result, numbers};

/// By how much a cosine may be off: rounding of its terms and of their sum. A least cosine is lowered by it, so that equal rows have
/// one of 1.
pub const ROUNDING: f64 = 1e-6;

/// Products between two waits for the device: then progress is shown, and a wish to stop is heard.
const AT_ONCE: usize = 8;

/// A row that is near: its number and its cosine.
pub type Near = (u32, f32);

/// How the work is cut. It changes memory and speed, and nothing that comes out.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Rows of a block.
    pub block: usize,
    /// Bytes that keys, and lists while rows are compared with each other, may take on the device together.
    pub resident: u64,
}

impl Sizes {
    /// What suits a device.
    pub fn of(gpu: &Gpu) -> Sizes {
        /// Bytes that are taken where the device does not say what it has.
        const USUAL: u64 = 1 << 30;
        let free = |all: u64| all.saturating_sub(gpu.allocated_bytes());
        // On a CPU driver a block's scores stay in its cache.
        let block = if gpu.is_cpu() { 2048 } else { 4096 };
        Sizes { block, resident: gpu.memory().map_or(USUAL, |all| free(all) / 2) }
    }

    /// Rows of a block whose rows have `width` values.
    fn rows(&self, gpu: &Gpu, width: usize) -> usize {
        let most = (gpu.max_binding() / 4) as usize;
        let texture = gpu.capabilities().texture as usize;
        self.block.min(most / width).min(most.isqrt()).min(texture).max(1)
    }
}

/// Rows of length 1, compared with others.
pub struct Rows {
    gpu: Gpu,
    values: Vec<f32>,
    width: usize,
    sizes: Sizes,
    /// Rows of a block.
    block: usize,
    /// Values of a row on the device, those past `width` being zeros.
    stride: usize,
    /// All rows on the device, where they fit.
    resident: Option<Vec<Block>>,
}

/// Rows on the device.
#[derive(Clone)]
struct Block {
    /// The first one's number.
    first: usize,
    rows: Tensor,
}

/// Makes rows of `width` values as long as 1; a row of zeros stays as it is.
///
/// # Errors
/// Values that are no rows, or not finite; `what` names them.
fn to_units(what: &str, values: &mut [f32], width: usize) -> Result<()> {
    if width == 0 || !values.len().is_multiple_of(width) {
        return Err(Error::invalid(format!("{what}: {} values are no rows of width {width}", values.len())));
    }
    if let Some(at) = numbers::not_finite(values) {
        return Err(Error::invalid(format!("{what}: row {}, column {} is not finite", at / width, at % width)));
    }
    for row in values.chunks_exact_mut(width) {
        let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        }
    }
    Ok(())
}

/// Values that a row of `width` takes on the device. Where a processor reads rows that lie a power of two apart, its cache holds few of
/// them at a time; a few zeros more are in another place for each row, and change no sum.
fn stride(gpu: &Gpu, width: usize) -> usize {
    const FOUR: usize = 4;
    let whole = width.next_multiple_of(FOUR);
    if gpu.is_cpu() && whole >= 256 && whole.is_power_of_two() { whole + FOUR } else { width }
}

impl Rows {
    /// Rows `[n, width]`, whatever their length.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that are no rows or not finite, or more rows than u32 counts; a device that fails.
    pub fn new(gpu: &Gpu, values: Vec<f32>, width: usize) -> Result<Rows> {
        Rows::with_sizes(gpu, values, width, Sizes::of(gpu))
    }

    /// The same with the work cut in another way.
    ///
    /// # Errors
    /// As [`Rows::new`].
    pub fn with_sizes(gpu: &Gpu, mut values: Vec<f32>, width: usize, sizes: Sizes) -> Result<Rows> {
        to_units("features", &mut values, width)?;
        if values.len() / width >= NONE as usize {
            return Err(Error::invalid(format!("features: {} rows are more than {NONE}", values.len() / width)));
        }
        let stride = stride(gpu, width);
        let block = sizes.rows(gpu, stride);
        let mut rows = Rows { gpu: gpu.clone(), values, width, sizes, block, stride, resident: None };
        if 4 * rows.len() as u64 * stride as u64 <= sizes.resident {
            rows.resident = match rows.firsts().map(|first| rows.upload(first)).collect::<Result<Vec<Block>>>() {
                Ok(blocks) => Some(blocks),
                // They are brought over block by block when they are needed.
                Err(Error::OutOfMemory { .. }) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(rows)
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Where blocks begin.
    fn firsts(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.len()).step_by(self.block)
    }

    fn upload(&self, first: usize) -> Result<Block> {
        let past = (first + self.block).min(self.len());
        let rows = self.frozen("keys", &self.values[first * self.width..past * self.width])?;
        Ok(Block { first, rows })
    }

    /// Rows as products take them.
    fn frozen(&self, what: &str, values: &[f32]) -> Result<Tensor> {
        let (width, stride) = (self.width, self.stride);
        freeze_rows(&self.gpu, what, [values.len() / width, stride], Precision::F32, &mut |rows| {
            let mut piece = vec![0.0; rows.len() * stride];
            let rows = values[rows.start * width..rows.end * width].chunks_exact(width);
            piece.chunks_exact_mut(stride).zip(rows).for_each(|(to, row)| to[..width].copy_from_slice(row));
            Ok(piece)
        })
    }

    /// The block of a number.
    fn block(&self, number: usize) -> Result<Block> {
        match &self.resident {
            Some(blocks) => Ok(blocks[number].clone()),
            None => self.upload(number * self.block),
        }
    }

    /// The cosine of two rows.
    fn cosine(&self, a: usize, b: usize) -> f32 {
        let row = |number: usize| &self.values[number * self.width..(number + 1) * self.width];
        let dot: f64 = row(a).iter().zip(row(b)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        dot.clamp(-1.0, 1.0) as f32
    }

    /// For each of `queries` `[m, width]`, whatever their length, the `most` rows that are most like it, the nearest first, of equals
    /// the lower number first. A query passes over the row of its number in `own`, if that is not [`NONE`]. `done` is
    /// called with the share of the work done so far, and stops it with an error.
    ///
    /// # Errors
    /// [`Error::Invalid`] for queries of another width or not finite, or another number of them than of `own`; out of memory, a
    /// device that fails; what `done` gives.
    pub fn nearest(
        &self,
        mut queries: Vec<f32>,
        own: &[u32],
        most: usize,
        done: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Vec<Vec<Near>>> {
        to_units("queries", &mut queries, self.width)?;
        if queries.len() / self.width != own.len() {
            let count = queries.len() / self.width;
            return Err(Error::invalid(format!("{} own numbers for {count} queries", own.len())));
        }
        self.nearest_units(&queries, own, most, done)
    }

    fn nearest_units(
        &self,
        queries: &[f32],
        own: &[u32],
        most: usize,
        done: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Vec<Vec<Near>>> {
        let most = most.min(self.len());
        if most == 0 {
            return Ok(vec![Vec::new(); own.len()]);
        }
        let (gpu, blocks) = (&self.gpu, self.firsts().count());
        let at_once = self.block.min((gpu.max_binding() / 4) as usize / most).max(1);
        let all = (own.len().div_ceil(at_once) * blocks) as f64;
        let (mut found, mut made) = (Vec::with_capacity(own.len()), 0);
        for (queries, own) in queries.chunks(at_once * self.width).zip(own.chunks(at_once)) {
            let queries = self.frozen("queries", queries)?;
            let lists = Lists::new(gpu, own, most)?;
            for number in (0..blocks).step_by(AT_ONCE) {
                let mut rec = Recorder::new(gpu);
                let past = (number + AT_ONCE).min(blocks);
                for number in number..past {
                    let keys = self.block(number)?;
                    let scores = matmul(&mut rec, Layout::Nt, &keys.rows, &queries, &Epilogue::default())?;
                    nearest::keep(&mut rec, &scores, Candidates::Rows, keys.first, &lists)?;
                }
                rec.finish()?.run()?;
                gpu.wait()?;
                made += past - number;
                done(made as f64 / all)?;
            }
            found.extend(clamped(lists.read(gpu)?));
        }
        Ok(found)
    }

    /// For each row the `most` others that are most like it, as [`Rows::nearest`].
    ///
    /// # Errors
    /// Out of memory, a device that fails; what `done` gives.
    pub fn nearest_others(&self, most: usize, done: &mut dyn FnMut(f64) -> Result<()>) -> Result<Vec<Vec<Near>>> {
        let most = most.min(self.len().saturating_sub(1));
        if most == 0 {
            return Ok(vec![Vec::new(); self.len()]);
        }
        let own: Vec<u32> = (0..self.len() as u32).collect();
        let (gpu, width) = (&self.gpu, (2 * most + 1 + self.width) as u64);
        let lists = match &self.resident {
            Some(blocks) if 4 * self.len() as u64 * width <= self.sizes.resident => own
                .chunks(self.block)
                .map(|own| Lists::new(gpu, own, most))
                .collect::<Result<Vec<Lists>>>()
                .map(|lists| Some((blocks, lists))),
            _ => Ok(None),
        };
        let (blocks, lists) = match lists {
            Ok(Some(both)) => both,
            // Each block's lists when it is its turn, at twice the work.
            Ok(None) | Err(Error::OutOfMemory { .. }) => return self.nearest_units(&self.values, &own, most, done),
            Err(error) => return Err(error),
        };
        self.each_pair_of_blocks(done, &mut |rec, a, b, scores| {
            nearest::keep(rec, &scores, Candidates::Rows, blocks[b].first, &lists[a])?;
            if a != b {
                nearest::keep(rec, &scores, Candidates::Columns, blocks[a].first, &lists[b])?;
            }
            Ok(None)
        })?;
        let mut found = Vec::with_capacity(self.len());
        for lists in &lists {
            found.extend(clamped(lists.read(gpu)?));
        }
        Ok(found)
    }

    /// Groups of rows that are alike: the first of a group is the lowest, and each other has a cosine of `least` or more with the
    /// first, less [`ROUNDING`]. Two firsts never have, nor a first and a row in no group: who keeps the first of each group
    /// keeps no two that are alike. A row that is like several firsts is with the lowest of them. The cosines are those with the
    /// group's first, whose own is 1.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a `least` that is no cosine; out of memory, a device that fails; what `done` gives.
    pub fn groups(&self, least: f64, done: &mut dyn FnMut(f64) -> Result<()>) -> Result<Vec<Vec<Near>>> {
        numbers::COSINE.check("the least cosine", least)?;
        let least = (least - ROUNDING) as f32;
        // Whom each row is with.
        let mut with = vec![NONE; self.len()];
        let (block, len) = (self.block, self.len());
        self.each_pair_of_blocks_then(
            done,
            &mut |rec, _, _, scores| nearest::alike(rec, &scores, Candidates::Rows, least).map(Some),
            &mut |a, b, words| {
                let count = block.min(len - a * block);
                for (word, row) in words.chunks_exact(count).enumerate() {
                    // All of lower numbers have been judged, and no higher one can take a row from them.
                    for (column, bits) in row.iter().enumerate().filter(|(_, bits)| **bits != 0) {
                        let first = a * block + column;
                        let mut bits = if with[first] == NONE { *bits } else { 0 };
                        while bits != 0 {
                            let other = b * block + 32 * word + bits.trailing_zeros() as usize;
                            bits &= bits - 1;
                            if other > first && with[other] == NONE {
                                with[other] = first as u32;
                            }
                        }
                    }
                }
            },
        )?;
        let mut groups: std::collections::BTreeMap<u32, Vec<Near>> = std::collections::BTreeMap::new();
        for (row, first) in with.iter().enumerate().filter(|(_, first)| **first != NONE) {
            let group = groups.entry(*first).or_insert_with(|| vec![(*first, 1.0)]);
            group.push((row as u32, self.cosine(*first as usize, row)));
        }
        Ok(groups.into_values().collect())
    }

    /// [`Rows::each_pair_of_blocks_then`] for what leaves nothing to be read.
    fn each_pair_of_blocks(&self, done: &mut dyn FnMut(f64) -> Result<()>, record: &mut Record<'_>) -> Result<()> {
        self.each_pair_of_blocks_then(done, record, &mut |_, _, _| {})
    }

    /// Makes the scores `[rows of b, rows of a]` of every pair of blocks a ≤ b, in their order, has recorded what is done with them,
    /// and hands over what that leaves.
    fn each_pair_of_blocks_then(
        &self,
        done: &mut dyn FnMut(f64) -> Result<()>,
        record: &mut Record<'_>,
        take: &mut dyn FnMut(usize, usize, &[u32]),
    ) -> Result<()> {
        let blocks = self.firsts().count();
        let (mut made, all) = (0, (blocks * (blocks + 1) / 2) as f64);
        for a in 0..blocks {
            let own = self.block(a)?;
            for first in (a..blocks).step_by(AT_ONCE) {
                let mut rec = Recorder::new(&self.gpu);
                let mut left = Vec::new();
                let past = (first + AT_ONCE).min(blocks);
                for b in first..past {
                    let other = if a == b { own.clone() } else { self.block(b)? };
                    let scores = matmul(&mut rec, Layout::Nt, &other.rows, &own.rows, &Epilogue::default())?;
                    left.extend(record(&mut rec, a, b, scores)?.map(|words| (b, words)));
                }
                rec.finish()?.run()?;
                self.gpu.wait()?;
                for (b, words) in left {
                    take(a, b, &self.gpu.read::<u32>(&words)?);
                }
                made += past - first;
                done(made as f64 / all)?;
            }
        }
        Ok(())
    }
}

/// Records what is done with the scores of two blocks, and gives what is to be read.
type Record<'a> = dyn FnMut(&mut Recorder, usize, usize, Tensor) -> Result<Option<Tensor>> + 'a;

/// Cosines that rounding took past 1 are 1, and equal then.
fn clamped(lists: Vec<Vec<Near>>) -> impl Iterator<Item = Vec<Near>> {
    lists.into_iter().map(|mut list| {
        list.iter_mut().for_each(|(_, cosine)| *cosine = cosine.clamp(-1.0, 1.0));
        list.sort_by(nearest::better_first);
        list
    })
}
