//! What the targets have in common: bounds, panics, files, and what every decoded picture must fulfil.

mod memory;
mod picture;
mod scratch;

use std::backtrace::Backtrace;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Mutex, PoisonError};

pub use memory::MIB;
pub use picture::picture;
pub use scratch::{Scratch, WIDTH, below, features_key, parts};

/// The last panic: what it said, and where.
static LAST: Mutex<Option<(String, Backtrace)>> = Mutex::new(None);
/// Places whose panics were caught by tipi and shown already.
static SHOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Makes a fuzz target of code that looks at `&[u8]`. The code may hold so many bytes of memory at a time beside what it
/// held before, and must not panic.
#[macro_export]
macro_rules! target {
    ($most:expr, |$data:ident| $body:expr) => {
        libfuzzer_sys::fuzz_target!(init: $crate::begin(), |$data: &[u8]| -> libfuzzer_sys::Corpus {
            $crate::run($most, || libfuzzer_sys::Corpus::from($body))
        });
    };
}

/// Replaces libFuzzer's panic hook, which ends the program at every panic: those that tipi catches are no failures.
pub fn begin() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, Location::to_string);
        // A panic within the hook would end the program without a word.
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some((info.to_string(), Backtrace::force_capture()));
        if SHOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(place) {
            eprintln!("panic, perhaps caught: {info}");
        }
    }));
}

/// Runs the body of a target within its bounds.
pub fn run<T>(most: usize, body: impl FnOnce() -> T) -> T {
    match memory::within(most, || catch_unwind(AssertUnwindSafe(body))) {
        Ok(done) => done,
        Err(_) => {
            if let Some((message, trace)) = LAST.lock().unwrap_or_else(PoisonError::into_inner).take() {
                eprintln!("{message}\n{trace}");
            }
            std::process::abort();
        }
    }
}
