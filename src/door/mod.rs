//! What an application needs and no more. Everything here is built from what `low_level` has, and does what the program does.

mod checkpoint;
mod classifier;
mod correction;
#[cfg(feature = "eval")]
mod dataset;
mod encoders;
#[cfg(feature = "eval")]
mod evaluation;
mod examples;
mod features;
mod fit;
mod gallery;
mod gpu;
mod job;
mod json;
mod method;
mod model;
mod prediction;

pub use classifier::Classifier;
pub use correction::{Correction, CorrectionOptions, SelfSupervision};
#[cfg(feature = "eval")]
pub use dataset::Dataset;
#[cfg(feature = "eval")]
pub use evaluation::{Evaluation, EvaluationCorrection, EvaluationOptions, Mean, Outcome};
pub use examples::Examples;
pub use features::{ImageFeatures, Neighbour, TextFeatures};
pub use fit::{FitOptions, Report};
pub use gallery::Gallery;
pub use gpu::Gpu;
pub use job::{Job, Progress};
pub use method::{Method, Setting};
pub use model::Model;
pub use prediction::{Prediction, Scored};
