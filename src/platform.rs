//! What a page in a browser has otherwise than a computer: the clock, and no threads. How it waits is `gpu::wait`, how it reads
//! files `named`.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use std::time::{Instant, SystemTime, UNIX_EPOCH};
#[cfg(target_arch = "wasm32")]
pub(crate) use web_time::{Instant, SystemTime, UNIX_EPOCH};

/// Whether work can be done on another thread. Rayon asks by itself.
pub(crate) const THREADS: bool = !cfg!(target_arch = "wasm32");
