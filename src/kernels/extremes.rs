//! The smallest and the largest element of a matrix (`shaders/extremes.wgsl`).

use super::rowwise::{Rowwise, rowwise};
use crate::gpu::{Dispatch, Grid, Recorder, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Rowwise = rowwise!("extremes");

pub(super) fn variants() -> Vec<Variant> {
    [("rows", 0), ("rows", 1), ("all_rows", 0)].map(|(entry, offset)| SHADER.all(entry, &[("OFFSET", offset)])).concat()
}

/// `[2]`: the smallest and the largest element of x `[rows, width]`, after the first column of `offsets` `[rows, any]` has
/// been added to its rows, where given.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn extremes(rec: &mut Recorder, x: &Tensor, offsets: Option<&Tensor>) -> Result<Tensor> {
    let rows = rows_with(rec, x, offsets)?;
    let y = rec.temp("extremes", &[2])?;
    let caps = *rec.gpu().capabilities();
    rec.dispatch(&Dispatch {
        variant: SHADER.variant(&caps, "all_rows", &[("OFFSET", 0)]),
        label: "extremes",
        params: bytemuck::bytes_of(&[x.rows() as u32, 2]),
        bindings: &[&rows, &y],
        grid: Grid::Linear(1),
        flops: 2.0 * rows.len() as f64,
        bytes: 4.0 * rows.len() as f64,
    })?;
    Ok(y)
}

/// `[rows, 2]`: the smallest and the largest element of each row of x `[rows, width]`.
///
/// # Errors
/// Out of memory.
pub fn of_rows(rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
    rows_with(rec, x, None)
}

fn rows_with(rec: &mut Recorder, x: &Tensor, offsets: Option<&Tensor>) -> Result<Tensor> {
    if let Some(offsets) = offsets.filter(|o| o.rows() != x.rows()) {
        let (x, offsets) = (x.shape(), offsets.shape());
        return Err(Error::invalid(format!("extremes: offsets {offsets:?} for rows of {x:?}")));
    }
    let rows = rec.temp("extremes", &[x.rows(), 2])?;
    let caps = *rec.gpu().capabilities();
    let step = offsets.map_or(0, Tensor::cols);
    rec.dispatch(&Dispatch {
        variant: SHADER.variant(&caps, "rows", &[("OFFSET", u32::from(offsets.is_some()))]),
        label: "extremes",
        params: bytemuck::bytes_of(&[x.rows() as u32, x.cols() as u32, step as u32, 0]),
        bindings: &[&[x][..], offsets.as_slice(), &[&rows]].concat(),
        grid: Grid::Linear(x.rows()),
        flops: 2.0 * x.len() as f64,
        bytes: 4.0 * x.len() as f64,
    })?;
    Ok(rows)
}
