//! tipi: few-shot CLIP on any GPU.
//!
//! Hand-written WGSL on wgpu runs CLIP and adapts it to a user's own few pictures per class, on any Vulkan, Metal or
//! DX12 device, without CUDA and without Python.
//!
//! # Words alone
//!
//! A [`Model`] on a [`Gpu`] tells classes apart by their names:
//!
//! ```
//! use tipi::{DeviceOptions, Gpu, Model, Picture};
//!
//! # fn main() -> tipi::Result<()> {
//! let gpu = Gpu::open(&DeviceOptions::default())?;
//! let model = Model::load(&gpu, "weights/picto")?;
//! let classifier = model.zero_shot(&["apple", "bell", "umbrella"], &["an icon of {}"])?;
//! let answer = classifier.predict(&Picture::file("examples/pictos/shifted/bell/lucide-bell.png"))?;
//! println!("{} ({:.0} %)", answer.best().name, 100.0 * answer.best().probability);
//! # assert_eq!(answer.best().name, "bell");
//! # Ok(())
//! # }
//! ```
//!
//! # A few pictures
//!
//! [`Examples`] of one's own classes make a [`Classifier`] of any [`Method`] in the register. It is kept in a file that the
//! program `tipi` reads, too:
//!
//! ```
//! use tipi::{DeviceOptions, Examples, FitOptions, Gpu, Method, Model, Picture, Unwatched};
//!
//! # fn main() -> tipi::Result<()> {
//! let gpu = Gpu::open(&DeviceOptions::default())?;
//! let model = Model::load(&gpu, "weights/picto")?;
//!
//! // A folder with a sub-folder for each class: two pictures of each to learn from, others to validate on.
//! let (examples, broken) = Examples::of_folder("examples/pictos/shifted")?.choose(2, 1, &mut Unwatched)?;
//! # assert!(broken.is_empty());
//! let options = FitOptions::new(Method::named("tip-adapter")?).with_template("an icon of {}");
//! let (classifier, report) = model.fit(&examples, &options, &mut Unwatched)?;
//! println!("{:.0} % of {} right", 100.0 * report.validation_accuracy.unwrap_or(0.0), report.validation_pictures);
//!
//! # let folder = std::env::temp_dir().join(format!("tipi-tour-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder).expect("a folder");
//! # let file = folder.join("my-adapter.safetensors");
//! classifier.save(&file)?;
//! let classifier = model.open_adapter(&file)?;
//! # std::fs::remove_dir_all(&folder).expect("a folder");
//! for class in classifier.predict(&Picture::file("examples/pictos/shifted/bell/lucide-bell.png"))?.top(3) {
//!     println!("{} ({:.0} %)", class.name, 100.0 * class.probability);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # The papers' protocol
//!
//! With the feature `eval`, a `Dataset` (a folder, a CSV file, or one of those that few-shot methods are compared on) goes through
//! every method, number of shots and seed; what is there already is not run again:
//!
//! ```no_run
//! # fn main() {}
//! # #[cfg(feature = "eval")]
//! # fn evaluate() -> tipi::Result<()> {
//! use tipi::{Dataset, DeviceOptions, EvaluationOptions, Gpu, Model, Shots, Unwatched};
//!
//! let model = Model::load(&Gpu::open(&DeviceOptions::default())?, "weights/picto")?;
//! let options = EvaluationOptions { shots: vec![Shots::UpTo(2), Shots::All], ..EvaluationOptions::new("results") };
//! let results = model.evaluate(&[Dataset::open("pictures")?], &options, &mut Unwatched)?;
//! for mean in results.means() {
//!     println!("{}, {} shots: {:.1} %", mean.method, mean.shots, 100.0 * mean.accuracy);
//! }
//! println!("{}", results.write_report()?.display());
//! # Ok(())
//! # }
//! ```
//!
//! # In an application
//!
//! * [`Job`] does long work on a thread of its own, says how far it is, and stops it within one submission to the GPU. [`Stop`]
//!   stops work on a thread of the application's in the same way.
//! * Settings come from text as well: [`FitOptions::with_settings`], [`FitOptions::with_how`], [`CorrectionOptions::of_json`].
//! * [`Picture`] takes files, a file's bytes and buffers of pixels.
//! * [`Classifier::predict`] records the way from pixels to probabilities once; calls after the first only run it.
//! * [`Model`], [`Classifier`] and [`Gpu`] are cheap to clone, and `Send + Sync`.
//! * [`Gpu::on`] runs on the device that draws the program's window: frames are at most some milliseconds late.
//! * A training that was stopped goes on from [`FitOptions::checkpoint`], and ends with the same bytes.
//! * [`Model::fit_correction`] trains the [`Correction`] that makes Tip-Adapter++ and Tip-X++.
//! * Every failure is an [`Error`] that names the file, tensor or argument and says what would be right. Nothing prints.
//!
//! # Features
//!
//! `hub` (on by default) adds `Model::fetch`, which takes models from the Hugging Face hub; `eval` (on by default) adds the papers'
//! protocol over datasets, and its reports. Without them the library needs no TLS, no SVG and no CSV.
//!
//! What all this is built from is in [`low_level`], where nothing is promised from version to version.

// A library does not print; the program, the examples and the tests do.
#![warn(clippy::print_stdout, clippy::print_stderr)]
// Files are opened by `input` alone, which tells pipes and devices from files.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

// The Rust code of the README and of the guide is compiled, and run where it can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
#[cfg(doctest)]
#[doc = include_str!("../docs/src/library.md")]
struct Guide;

mod door;
mod error;
mod files;
mod identity;
pub mod low_level;
mod named;
mod platform;
mod settings;

// The house calls its rooms by their short names.
#[cfg(feature = "hub")]
use low_level::hub;
use low_level::{
    adapt, clip, data, encode, gpu, input, kernels, lock, memory, neighbours, nn, numbers, output, text, watch,
};
#[cfg(feature = "eval")]
use low_level::{eval, report};

#[doc(inline)]
pub use adapt::evidence::{EvidenceCounts, UnknownBy};
#[doc(inline)]
pub use adapt::method::Settings;
#[doc(inline)]
pub use adapt::{How, JudgeBy};
#[doc(inline)]
pub use data::{Depth, Picture, Shots};
#[doc(inline)]
pub use door::{
    Classifier, Correction, CorrectionOptions, Examples, FitOptions, Gallery, Gpu, ImageFeatures, Job, Method, Model,
    Neighbour, Prediction, Progress, Report, Scored, SelfSupervision, Setting, TextFeatures,
};
#[cfg(feature = "eval")]
#[doc(inline)]
pub use door::{Dataset, Evaluation, EvaluationCorrection, EvaluationOptions, Mean, Outcome};
#[doc(inline)]
pub use error::{Error, Result};
#[cfg(feature = "eval")]
#[doc(inline)]
pub use eval::{Coverage, Foreign};
#[doc(inline)]
pub use gpu::{DeviceOptions, DeviceReport, Hold, HostDevice, HostOptions, HostRequest, Stop, list_devices};
#[doc(inline)]
pub use kernels::gemm::Precision;
#[doc(inline)]
pub use named::{Files, ReadAt};
#[doc(inline)]
pub use watch::{Unwatched, Watch};

use files::hex;
