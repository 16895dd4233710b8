//! Histograms of pair similarities (`shaders/pairs.wgsl`).

use super::expect;
use super::texts::shader;
use crate::gpu::{DType, Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("pairs");

/// Bins of a histogram over the similarities −1…1: 0.02 wide, so that a few hundred pairs still fill them.
pub const BINS: usize = 100;

fn variant() -> Variant {
    Variant::new(&SHADER, "main", &[("BINS", BINS as u32)])
}

pub(super) fn variants() -> Vec<Variant> {
    vec![variant()]
}

/// Adds to `counts` (u32 `[2, BINS]`, same-class pairs first) the pairs i < j of one list of features whose similarities
/// x `[rows, cols]` are: row r is the list's feature `first.0 + r`, column c its feature `first.1 + c`. The labels are u32
/// `[rows]` and `[cols]`.
///
/// # Errors
/// Shapes or element types that do not fit.
pub fn count(
    rec: &mut Recorder,
    x: &Tensor,
    (row_labels, col_labels): (&Tensor, &Tensor),
    first: (usize, usize),
    counts: &Tensor,
) -> Result<()> {
    expect("pairs", "row labels", row_labels, &[x.rows()])?;
    expect("pairs", "column labels", col_labels, &[x.cols()])?;
    expect("pairs", "counts", counts, &[2, BINS])?;
    if [row_labels, col_labels, counts].iter().any(|t| t.dtype() != DType::U32) {
        return Err(Error::invalid("pairs: labels and counts must be u32"));
    }
    rec.dispatch(&Dispatch {
        variant: variant(),
        label: "pairs",
        params: bytemuck::bytes_of(&[x.rows(), x.cols(), first.0, first.1].map(|v| v as u32)),
        bindings: &[x, row_labels, col_labels, counts],
        grid: Grid::Linear(x.rows()),
        flops: 4.0 * x.len() as f64,
        bytes: 4.0 * x.len() as f64,
    })
}
