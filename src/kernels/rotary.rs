//! Rotary positions (`shaders/rotary.wgsl`; RoFormer, arXiv 2104.09864).

use super::texts::shader;
use super::{expect, expect_matrix};
use crate::gpu::{Dispatch, Gpu, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("rotary");

pub(super) fn variants() -> Vec<Variant> {
    vec![Variant::new(&SHADER, "turn", &[])]
}

/// The angles that the queries and keys of a picture's tokens are turned by, the same for all heads.
#[derive(Clone, Debug)]
pub struct Angles {
    /// `[tokens, head]`: cosine and sine of each pair's angle, side by side.
    table: Tensor,
}

impl Angles {
    /// From the angles `[tokens, head/2]` themselves, in radians.
    ///
    /// # Errors
    /// Another number of angles; out of memory.
    pub fn upload(gpu: &Gpu, angles: &[f64], tokens: usize, head: usize) -> Result<Angles> {
        if tokens == 0 || head == 0 || 2 * angles.len() != tokens * head {
            return Err(Error::invalid(format!("{} angles for {tokens} tokens and heads {head} wide", angles.len())));
        }
        let table: Vec<f32> = angles.iter().flat_map(|a| [a.cos() as f32, a.sin() as f32]).collect();
        Ok(Angles { table: gpu.upload("rotary positions", &table, &[tokens, head])? })
    }
}

/// Turns the queries and keys of qkv `[pictures·tokens, 3·width]`, in place.
///
/// # Errors
/// Shapes that do not fit.
pub fn turn(rec: &mut Recorder, qkv: &Tensor, angles: &Angles, heads: usize) -> Result<()> {
    record(rec, qkv, angles, heads, false)
}

/// Turns them back, in place: the gradient by what [`turn`] took from that by what it gave.
///
/// # Errors
/// As [`turn`].
pub fn turn_back(rec: &mut Recorder, dqkv: &Tensor, angles: &Angles, heads: usize) -> Result<()> {
    record(rec, dqkv, angles, heads, true)
}

fn record(rec: &mut Recorder, qkv: &Tensor, angles: &Angles, heads: usize, back: bool) -> Result<()> {
    let (tokens, head) = (angles.table.rows(), angles.table.cols());
    let width = heads * head;
    let rows = qkv.rows();
    expect_matrix("rotary", "qkv", qkv, rows, 3 * width)?;
    expect("rotary", "angles", &angles.table, &[tokens, head])?;
    if !rows.is_multiple_of(tokens) {
        return Err(Error::invalid(format!("rotary: {rows} rows are no whole pictures of {tokens} tokens")));
    }
    let params = [rows, tokens, width, head, usize::from(back)].map(|v| v as u32);
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "turn", &[]),
        label: "rotary",
        params: bytemuck::bytes_of(&params),
        bindings: &[&angles.table, qkv],
        grid: Grid::cover(rows * width, 64),
        flops: 6.0 * (rows * width) as f64,
        bytes: 16.0 * (rows * width) as f64,
    })
}
