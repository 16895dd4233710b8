//! The results of an evaluation, as `tipi report` reads them.
#![no_main]

use std::cell::LazyCell;

use tipi::low_level::eval::report;
use tipi_fuzz::{MIB, Scratch, parts, target};

/// What an evaluation leaves, below the folder of a dataset.
const FILES: [&str; 7] = [
    "settings.json",
    "results.jsonl",
    "test.json",
    "overlap.json",
    "details/zero-shot-1shot-seed1.json",
    "details/tip-adapter-1shot-seed1.json",
    "details/pini-1shot-seed1.json",
];

thread_local! {
    static SCRATCH: LazyCell<Scratch> = LazyCell::new(Scratch::default);
}

target!(256 * MIB, |data| SCRATCH.with(|scratch| {
    for name in FILES {
        scratch.remove(&format!("out/set/{name}"));
    }
    for (name, bytes) in parts(data, &FILES) {
        scratch.write(&format!("out/set/{name}"), bytes);
    }
    let Ok(written) = report::write(&scratch.path().join("out")) else { return };
    assert!(written.html.is_file());
    for cell in &written.summary.cells {
        assert!((0.0..=1.0).contains(&cell.mean), "an accuracy of {}", cell.mean);
    }
}));
