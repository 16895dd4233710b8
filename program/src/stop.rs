//! Stops long work cleanly: after Ctrl-C or a termination request it ends at its next step, and finished work is kept. A
//! second request ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

use tipi::Error;

use crate::terminal::note;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Starts to listen.
pub fn listen() {
    let handler = || {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(CODE);
        }
        note!("stopping after the current step; press Ctrl-C again to stop at once");
    };
    // Without a handler the system ends the program at once.
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C will not be noticed: {error}");
    }
}

/// The exit code of a program that was stopped, by the convention of shells.
pub const CODE: i32 = 130;

/// Fails once a stop was asked for.
pub fn check() -> tipi::Result<()> {
    if ASKED.load(Ordering::SeqCst) { Err(Error::Stopped) } else { Ok(()) }
}
