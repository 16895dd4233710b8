//! What an application needs and no more. Everything here is built from what `low_level` has, and does what the program does.

mod classifier;
mod encoders;
mod examples;
mod features;
mod fit;
mod job;
mod method;
mod model;
mod prediction;

pub use classifier::Classifier;
pub use examples::Examples;
pub use features::{ImageFeatures, Neighbour, TextFeatures};
pub use fit::{Correction, FitOptions, Report};
pub use job::{Job, Progress};
pub use method::{Method, Setting};
pub use model::Model;
pub use prediction::{Prediction, Scored};
