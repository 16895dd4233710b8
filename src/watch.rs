//! What watches long work: progress bars, and the wish to stop.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Result;

/// What watches long work. Work is a row of stretches, one at a time.
pub trait Watch {
    /// A stretch of work begins, of so many parts.
    fn begin(&mut self, what: &str, total: usize);
    /// So many of its parts are done. An error stops the work in good order.
    ///
    /// # Errors
    /// [`Error::Stopped`](crate::Error::Stopped) to stop.
    fn at(&mut self, done: usize) -> Result<()>;
    /// What may stand beside the progress: an epoch, a loss.
    fn show(&mut self, _text: &str) {}
    /// The stretch is over.
    fn end(&mut self);
    /// Something that people should know.
    fn note(&mut self, text: &str);
}

thread_local! {
    /// What says that this thread's work should stop.
    static STOP: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Does work on this thread that ends with [`Error::Stopped`](crate::Error::Stopped) soon after `stop` became true, also
/// between two steps at which a [`Watch`] is asked.
pub fn stoppable<R>(stop: &Arc<AtomicBool>, work: impl FnOnce() -> R) -> R {
    /// Work within work is over, also after a panic.
    struct Before(Option<Arc<AtomicBool>>);
    impl Drop for Before {
        fn drop(&mut self) {
            STOP.set(self.0.take());
        }
    }
    let _before = Before(STOP.replace(Some(stop.clone())));
    work()
}

/// Whether this thread's work should stop.
pub fn wanted_to_stop() -> bool {
    STOP.with_borrow(|stop| stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)))
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn begin(&mut self, _what: &str, _total: usize) {}

    fn at(&mut self, _done: usize) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) {}

    fn note(&mut self, _text: &str) {}
}
