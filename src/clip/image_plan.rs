//! What every kind of image tower is recorded as.

use crate::gpu::{Plan, Tensor};

/// An image tower recorded for one batch size: write `pixels`, run, read `features`.
pub struct ImagePlan {
    /// `[batch, 3, R, R]`, normalised.
    pub pixels: Tensor,
    /// `[batch, embedding]`, un-normalised.
    pub features: Tensor,
    /// Features of the tower with bottlenecks, where it was recorded with some.
    pub adapted: Option<Tensor>,
    /// The recorded step.
    pub plan: Plan,
}
