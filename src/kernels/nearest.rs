//! The best of many scores, as blocks of them come by (`shaders/nearest.wgsl`).

use std::cmp::Ordering;

use super::expect;
use super::texts::shader;
use crate::gpu::{DType, Dispatch, Gpu, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("nearest");

pub(super) fn variants() -> Vec<Variant> {
    ["keep", "alike"].map(|entry| Variant::new(&SHADER, entry, &[])).to_vec()
}

/// The number of no candidate.
pub const NONE: u32 = u32::MAX;

/// The score of a place that is not filled yet, below all others.
pub const UNFILLED: f32 = -3.0e38;

/// The order of candidates with their scores: the best first, of equal ones the lower number first.
pub fn better_first((a, x): &(u32, f32), (b, y): &(u32, f32)) -> Ordering {
    y.partial_cmp(x).unwrap_or(Ordering::Equal).then(a.cmp(b))
}

/// Which side of a matrix of scores the candidates are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidates {
    /// A candidate is a row; each column has a list.
    Rows,
    /// A candidate is a column; each row has a list.
    Columns,
}

/// Lists of the best so far.
#[derive(Clone, Debug)]
pub struct Lists {
    /// u32 `[lists]`: the number of the candidate that a list passes over, or [`NONE`].
    pub own: Tensor,
    /// `[most, lists]`: the best scores so far, a heap in each column.
    pub best: Tensor,
    /// u32 `[most, lists]`: whose they are.
    pub which: Tensor,
}

impl Lists {
    /// Empty lists, one for each of `own`, of up to `most` candidates.
    ///
    /// # Errors
    /// No lists, or lists of nothing; out of memory.
    pub fn new(gpu: &Gpu, own: &[u32], most: usize) -> Result<Lists> {
        let lists = Lists {
            own: gpu.upload("own numbers", own, &[own.len()])?,
            best: gpu.empty("best scores", &[most, own.len()], DType::F32)?,
            which: gpu.empty("best candidates", &[most, own.len()], DType::U32)?,
        };
        lists.clear(gpu)?;
        Ok(lists)
    }

    /// Empties them.
    ///
    /// # Errors
    /// A device that fails.
    pub fn clear(&self, gpu: &Gpu) -> Result<()> {
        gpu.write(&self.best, &vec![UNFILLED; self.best.len()])?;
        gpu.write(&self.which, &vec![NONE; self.which.len()])
    }

    /// What is in them: of each list its candidates and their scores, in the order of [`better_first`].
    ///
    /// # Errors
    /// Scores that are not finite; a device that fails.
    pub fn read(&self, gpu: &Gpu) -> Result<Vec<Vec<(u32, f32)>>> {
        let best = gpu.begin_read::<f32>(&self.best)?;
        let which = gpu.read::<u32>(&self.which)?;
        let best = best.finish()?;
        let count = self.own.len();
        let of = |list: usize| {
            let column = (0..which.len() / count).map(|row| row * count + list);
            let mut found: Vec<(u32, f32)> =
                column.filter(|at| which[*at] != NONE).map(|at| (which[at], best[at])).collect();
            found.sort_by(better_first);
            found
        };
        Ok((0..count).map(of).collect())
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    candidates: u32,
    lists: u32,
    along: u32,
    across: u32,
    first: u32,
    most: u32,
    least: f32,
}

impl Params {
    fn of(scores: &Tensor, side: Candidates) -> Params {
        let (rows, cols) = (scores.rows() as u32, scores.cols() as u32);
        let (candidates, lists, along, across) = match side {
            Candidates::Rows => (rows, cols, cols, 1),
            Candidates::Columns => (cols, rows, 1, cols),
        };
        Params { candidates, lists, along, across, first: 0, most: 0, least: 0.0 }
    }
}

/// Keeps in `lists` what is better than their worst among a block's scores `[rows, cols]`, whose candidates have the numbers
/// `first`, `first` + 1, ….
///
/// # Errors
/// Shapes or element types that do not fit; numbers past what u32 holds.
pub fn keep(rec: &mut Recorder, scores: &Tensor, side: Candidates, first: usize, lists: &Lists) -> Result<()> {
    let Lists { own, best, which } = lists;
    let params = Params { first: first as u32, most: best.rows() as u32, ..Params::of(scores, side) };
    let count = params.lists as usize;
    expect("nearest", "own", own, &[count])?;
    expect("nearest", "best", best, &[best.rows(), count])?;
    expect("nearest", "which", which, best.shape())?;
    if [own, which].iter().any(|tensor| tensor.dtype() != DType::U32) {
        return Err(Error::invalid("nearest: own and which must be u32"));
    }
    if first.saturating_add(params.candidates as usize) > NONE as usize {
        return Err(Error::invalid(format!("nearest: more than {NONE} candidates")));
    }
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "keep", &[]),
        label: "nearest",
        params: bytemuck::bytes_of(&params),
        bindings: &[scores, own, best, which],
        grid: Grid::cover(count, 64),
        flops: scores.len() as f64,
        bytes: 4.0 * scores.len() as f64 + 16.0 * best.len() as f64,
    })
}

/// u32 `[⌈candidates/32⌉, lists]`: bit c % 32 of a word says whether candidate c's score is `least` or more.
///
/// # Errors
/// Out of memory.
pub fn alike(rec: &mut Recorder, scores: &Tensor, side: Candidates, least: f32) -> Result<Tensor> {
    let params = Params { least, ..Params::of(scores, side) };
    let words =
        rec.temp_of("alike", &[(params.candidates as usize).div_ceil(32), params.lists as usize], DType::U32)?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "alike", &[]),
        label: "alike",
        params: bytemuck::bytes_of(&params),
        bindings: &[scores, &words],
        grid: Grid::cover(words.len(), 64),
        flops: scores.len() as f64,
        bytes: 4.0 * scores.len() as f64,
    })?;
    Ok(words)
}
