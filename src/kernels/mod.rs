//! One module per shader family: checks shapes, picks a variant, records the dispatch. Forward and backward side by
//! side. Every function takes the [`crate::gpu::Recorder`] first and returns the tensors it makes.
//!
//! How to add one: ARCHITECTURE.md, "Adding a kernel".

pub mod activation;
pub mod affinity;
pub mod attention;
pub mod batchnorm;
pub mod clipping;
pub mod conv;
pub mod dino;
pub mod divergence;
pub mod dropout;
pub mod extremes;
pub mod gather;
pub mod gemm;
pub mod layernorm;
pub mod loss;
pub mod nearest;
pub mod noise;
pub mod normalize;
pub mod optim;
pub mod pairs;
pub mod patch;
pub mod peak;
pub mod planes;
pub mod pooling;
pub mod reduce;
pub mod rotary;
mod rowwise;
pub mod samples;
pub mod search;
pub mod slices;
pub mod softmax;
pub mod swiglu;
pub mod texels;
mod texts;

use crate::gpu::{Tensor, Variant};
use crate::{Error, Result};

/// Every shader variant that tipi can build, for translation tests: with odd and common constants where they are open.
pub fn variants() -> Vec<Variant> {
    [
        activation::variants(),
        affinity::variants(),
        attention::variants(),
        batchnorm::variants(),
        clipping::variants(),
        conv::variants(),
        dino::variants(),
        divergence::variants(),
        dropout::variants(),
        extremes::variants(),
        gather::variants(),
        gemm::variants(),
        layernorm::variants(),
        loss::variants(),
        nearest::variants(),
        noise::variants(),
        normalize::variants(),
        optim::variants(),
        pairs::variants(),
        patch::variants(),
        peak::variants(),
        planes::variants(),
        pooling::variants(),
        reduce::variants(),
        rotary::variants(),
        samples::variants(),
        search::variants(),
        slices::variants(),
        softmax::variants(),
        swiglu::variants(),
        texels::variants(),
    ]
    .concat()
}

/// Numbers in [−1, 1) without a pattern that a kernel could profit from, for measuring.
pub(crate) fn noise_values(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// An error unless `tensor` has the shape that the kernel needs.
fn expect(kernel: &str, what: &str, tensor: &Tensor, shape: &[usize]) -> Result<()> {
    if tensor.shape() == shape {
        return Ok(());
    }
    Err(Error::invalid(format!("{kernel}: {what} has shape {:?}, expected {shape:?}", tensor.shape())))
}

/// An error unless `tensor` has this many rows and columns, whatever its leading dimensions.
fn expect_matrix(kernel: &str, what: &str, tensor: &Tensor, rows: usize, cols: usize) -> Result<()> {
    if tensor.rows() == rows && tensor.cols() == cols {
        return Ok(());
    }
    Err(Error::invalid(format!("{kernel}: {what} has shape {:?}, expected {rows} rows of {cols}", tensor.shape())))
}
