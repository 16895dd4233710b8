//! Where submissions wait while a host does what wgpu does not allow beside them.

use std::marker::PhantomData;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// A gate on the way to the queue.
#[derive(Debug, Default)]
pub(super) struct Gate {
    held: Mutex<Option<(ThreadId, usize)>>,
    free: Condvar,
}

/// While it lives, nothing is submitted. See [`Gpu::hold`](super::Gpu::hold).
#[must_use = "work goes on as soon as this is dropped"]
#[derive(Debug)]
pub struct Hold<'a> {
    gate: &'a Gate,
    /// It is dropped on the thread that holds.
    stays: PhantomData<*const ()>,
}

/// While it lives, nobody holds.
pub(super) struct Pass<'a>(MutexGuard<'a, Option<(ThreadId, usize)>>);

impl Gate {
    /// Waits until nobody else holds.
    pub fn pass(&self) -> Pass<'_> {
        let me = thread::current().id();
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let by_another = |held: &mut Option<(ThreadId, usize)>| held.is_some_and(|(thread, _)| thread != me);
        Pass(self.free.wait_while(held, by_another).unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until nobody passes, and lets nobody else do so.
    pub fn hold(&self) -> Hold<'_> {
        let me = thread::current().id();
        let mut held = self.pass().0;
        let depth = held.map_or(0, |(_, depth)| depth);
        *held = Some((me, depth + 1));
        Hold { gate: self, stays: PhantomData }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut held = self.gate.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = held.filter(|(_, depth)| *depth > 1).map(|(thread, depth)| (thread, depth - 1));
        if held.is_none() {
            self.gate.free.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn others_wait_and_the_holder_passes() {
        let (gate, passed) = (Gate::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            let outer = gate.hold();
            let inner = gate.hold();
            scope.spawn(|| {
                let _pass = gate.pass();
                passed.fetch_add(1, Ordering::SeqCst);
            });
            drop(gate.pass());
            drop(inner);
            thread::sleep(Duration::from_millis(50));
            assert_eq!(passed.load(Ordering::SeqCst), 0, "the outer one still holds");
            drop(outer);
        });
        assert_eq!(passed.load(Ordering::SeqCst), 1);
        drop(gate.pass());
    }
}
