//! tipi for C and C++. `include/tipi.h` is made of this crate's public functions and says what they do; the rules at its top hold
//! for all of them. Each function wraps one of the library's door, and has no logic of its own but to check what C hands over:
//!
//! * `handle` keeps what handles stand for, so that a handle that was freed is an error and not a crash.
//! * `status` turns errors and panics into a status and a message per thread.
//! * `foreign` reads what comes by pointers, and writes results.
//! * `watch` calls back, and stops.
//!
//! It is a Rust library, too, so that its tests can call what C calls.

// What callers must keep to stands once, at the top of the header: pointers point to what their types say.
#![allow(clippy::missing_safety_doc)]
// A library does not print.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod classifier;
mod correction;
mod examples;
mod features;
mod fit;
mod foreign;
mod gallery;
mod gpu;
mod handle;
mod model;
mod owned;
mod pictures;
mod predictions;
mod status;
mod watch;

pub use classifier::*;
pub use correction::*;
pub use examples::*;
pub use features::*;
pub use fit::*;
pub use foreign::TipiStr;
pub use gallery::*;
pub use gpu::*;
pub use handle::{tipi_free, tipi_live_handles};
pub use model::*;
pub use owned::*;
pub use pictures::*;
pub use predictions::*;
pub use status::{TipiStatus, tipi_abi_version, tipi_last_error, tipi_status_name, tipi_version};
pub use watch::*;

/// What `TIPI_ABI_VERSION` is in the header.
pub const ABI_VERSION: u32 = 1;
