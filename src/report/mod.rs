//! Results for people to look at.

pub mod grid;

pub use grid::{Cell, Prediction, write_grid};
