//! DINO's loss (`shaders/dino.wgsl`; arXiv 2104.14294): what a teacher says of some views of a picture, and a student's loss
//! on all of them.

use super::rowwise::{Rowwise, rowwise};
use super::{expect, expect_matrix};
use crate::gpu::{Dispatch, Grid, Recorder, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Rowwise = rowwise!("dino");

pub(super) fn variants() -> Vec<Variant> {
    [SHADER.all("teacher", &[]), SHADER.all("student", &[])].concat()
}

/// How a batch's rows lie: view after view, row `view · pictures + picture`. The first `globals` views are the teacher's, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Views {
    /// Pictures.
    pub pictures: usize,
    /// Views of each picture that the teacher sees.
    pub globals: usize,
    /// All views of each picture.
    pub all: usize,
}

impl Views {
    /// Pairs of a teacher's view and another one, of each picture.
    pub fn pairs(&self) -> usize {
        self.globals * self.all.saturating_sub(1)
    }

    fn check(&self) -> Result<()> {
        if self.pictures > 0 && (1..=self.all).contains(&self.globals) && self.pairs() > 0 {
            return Ok(());
        }
        Err(Error::invalid(format!("dino: {self:?}; at least one picture, one global view and two in all are needed")))
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    pictures: u32,
    globals: u32,
    weight: f32,
    step: f32,
}

impl Params {
    fn of(views: Views, rows: usize, width: usize) -> Params {
        let [rows, width, pictures, globals] = [rows, width, views.pictures, views.globals].map(|v| v as u32);
        let pairs = views.pairs() as f64;
        let (weight, step) = (views.all as f64 / pairs, 1.0 / (pairs * views.pictures as f64));
        Params { rows, width, pictures, globals, weight: weight as f32, step: step as f32 }
    }
}

/// softmax((x − centre)/τ) for x `[globals · pictures, width]`: what the student is to say. `centre` has `width` numbers and
/// `sharp` `[2]` holds 1/τ of the teacher and of the student.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn teacher(rec: &mut Recorder, x: &Tensor, centre: &Tensor, sharp: &Tensor, views: Views) -> Result<Tensor> {
    let (rows, width) = (views.globals * views.pictures, x.cols());
    views.check()?;
    expect_matrix("dino", "the teacher's logits", x, rows, width)?;
    expect("dino", "centre", centre, &[width])?;
    expect("dino", "sharp", sharp, &[2])?;
    let caps = *rec.gpu().capabilities();
    let y = rec.temp("dino teacher", &[rows, width])?;
    rec.dispatch(&Dispatch {
        variant: SHADER.variant(&caps, "teacher", &[]),
        label: "dino teacher",
        params: bytemuck::bytes_of(&Params::of(views, rows, width)),
        bindings: &[x, sharp, centre, &y],
        grid: Grid::Linear(rows),
        flops: 8.0 * x.len() as f64,
        bytes: 8.0 * x.len() as f64,
    })?;
    Ok(y)
}

/// Output of [`student`].
pub struct Loss {
    /// `[views · pictures]`; their mean is the loss: of each picture the mean cross-entropy over all pairs of a teacher's view
    /// and another of the student's, and of those the mean.
    pub losses: Tensor,
    /// `[views · pictures, width]`: that mean's gradient by the student's logits.
    pub grad: Tensor,
}

/// The loss of a student's logits x `[views · pictures, width]` against what [`teacher`] gave.
///
/// # Errors
/// Shapes that do not fit; out of memory.
pub fn student(rec: &mut Recorder, x: &Tensor, teacher: &Tensor, sharp: &Tensor, views: Views) -> Result<Loss> {
    let (rows, width) = (views.all * views.pictures, x.cols());
    views.check()?;
    expect_matrix("dino", "the student's logits", x, rows, width)?;
    expect_matrix("dino", "the teacher's part", teacher, views.globals * views.pictures, width)?;
    expect("dino", "sharp", sharp, &[2])?;
    let caps = *rec.gpu().capabilities();
    let (losses, grad) = (rec.temp("losses", &[rows])?, rec.temp("dlogits", &[rows, width])?);
    rec.dispatch(&Dispatch {
        variant: SHADER.variant(&caps, "student", &[]),
        label: "dino student",
        params: bytemuck::bytes_of(&Params::of(views, rows, width)),
        bindings: &[x, sharp, teacher, &losses, &grad],
        grid: Grid::Linear(rows),
        flops: 12.0 * x.len() as f64,
        bytes: 4.0 * (x.len() * (2 + views.globals)) as f64,
    })?;
    Ok(Loss { losses, grad })
}
