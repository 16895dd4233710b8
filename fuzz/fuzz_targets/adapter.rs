//! Adapter files, up to where they are bound to a model.
#![no_main]

use std::cell::LazyCell;

use tipi::low_level::adapt::adapter_file::{File, Meta};
use tipi_fuzz::{MIB, Scratch, target};

thread_local! {
    static SCRATCH: LazyCell<Scratch> = LazyCell::new(Scratch::default);
}

target!(64 * MIB, |data| SCRATCH.with(|scratch| {
    let Ok(file) = File::open(&scratch.write("adapter.safetensors", data)) else { return };
    // What the header says survives writing and reading.
    let text = serde_json::to_string(&file.meta).expect("it came from JSON");
    let again: Meta = serde_json::from_str(&text).expect("it was written from a description");
    assert_eq!(file.meta, again);
    assert!(file.meta.temperature.is_none_or(|t| t.is_finite() && t > 0.0));
}));
