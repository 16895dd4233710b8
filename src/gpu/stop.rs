//! The wish to stop, for work that is under way on a thread.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

thread_local! {
    /// The wishes that work on this thread heeds.
    static HEEDED: RefCell<Vec<Stop>> = const { RefCell::new(Vec::new()) };
}

/// A wish to stop. Clones share it. Work in [`Stop::during`] ends with [`Error::Stopped`] where a plan would go on to its
/// next submission: within some milliseconds on a host's queue, where submissions are small and one follows when another
/// has run ([`super::Gpu::on`]), and before the next plan on tipi's own device.
///
/// A plan that was stopped has written some of what it writes. Running it again gives what it would have given, but for
/// a training's step, which changes what it trains: that training is over, and goes on from the state that was put down last.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A wish that nobody has yet.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// The wish that a flag of the program stands for.
    pub fn on(flag: Arc<AtomicBool>) -> Stop {
        Stop(flag)
    }

    /// Wishes it. From any thread.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is wished.
    pub fn is_wished(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Does work that heeds it, on this thread.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Heeding;
        impl Drop for Heeding {
            fn drop(&mut self) {
                HEEDED.with_borrow_mut(|heeded| heeded.pop());
            }
        }
        HEEDED.with_borrow_mut(|heeded| heeded.push(self.clone()));
        let _heeding = Heeding;
        work()
    }
}

/// Whether work on this thread is to stop.
///
/// # Errors
/// [`Error::Stopped`].
pub(crate) fn check() -> Result<()> {
    HEEDED.with_borrow(|heeded| if heeded.iter().any(Stop::is_wished) { Err(Error::Stopped) } else { Ok(()) })
}

#[cfg(test)]
mod tests {
    use super::{Stop, check};
    use crate::Error;

    #[test]
    fn a_wish_counts_during_its_work_and_on_its_thread() {
        let (outer, inner) = (Stop::new(), Stop::new());
        inner.stop();
        assert!(check().is_ok());
        outer.during(|| {
            assert!(check().is_ok());
            assert!(matches!(inner.during(check), Err(Error::Stopped)));
            assert!(check().is_ok());
            std::thread::spawn(move || inner.stop()).join().unwrap();
            outer.clone().stop();
            assert!(matches!(check(), Err(Error::Stopped)));
            assert!(std::thread::spawn(check).join().unwrap().is_ok());
        });
        assert!(std::panic::catch_unwind(|| outer.during(|| panic!("on purpose"))).is_err());
        assert!(check().is_ok());
    }
}
