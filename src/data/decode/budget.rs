//! How much memory pictures may take while they are decoded: all threads of the process share it.
//!
//! A file of a few bytes can stand for a picture of half a gigabyte, and there are as many decoders as cores. Each
//! therefore says what it will need before it allocates, and waits until there is room. What is waited for are other
//! threads' pictures, never one's own.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that all pictures in decoding take together. A picture that needs more is decoded alone.
const SHARED: u64 = 1 << 30;
/// The most bytes that a single picture may need: twice what all may share.
const SINGLE: u64 = 2 * SHARED;
/// Bytes of all picture files that are in memory, to be decoded. A larger one is read alone.
const SHARED_FILES: u64 = 1 << 29;

/// The memory of files. Whoever waits for that of decoders has this already, so the two never wait in a circle.
static FILES: Pool = Pool::new(0, SHARED_FILES);
/// The memory of decoders.
static DECODED: Pool = Pool::new(1, SHARED);

thread_local! {
    /// How many rooms of each pool this thread holds.
    static HELD: Cell<[u32; 2]> = const { Cell::new([0; 2]) };
}

/// Room for a picture for which decoder and caller together hold `bytes` at a time; waits for it.
///
/// # Errors
///
/// A picture that needs more than any may.
pub(super) fn decoded(bytes: u64) -> Result<Room, String> {
    if bytes > SINGLE {
        return Err(format!("decoding it takes {bytes} bytes of memory, more than {SINGLE}: scale the picture down"));
    }
    Ok(DECODED.take(bytes))
}

/// Room for a file of `bytes`; waits for it.
pub(super) fn file(bytes: u64) -> Room {
    FILES.take(bytes)
}

/// Bytes that may be in use at once.
struct Pool {
    /// The place among the pools: a thread that holds room in one asks for more in later ones only.
    rank: usize,
    total: u64,
    state: Mutex<State>,
    changed: Condvar,
}

/// Who waits is served in order, so that a large picture does not wait for ever behind small ones.
struct State {
    used: u64,
    next: u64,
    serving: u64,
}

impl Pool {
    const fn new(rank: usize, total: u64) -> Self {
        Self { rank, total, state: Mutex::new(State { used: 0, next: 0, serving: 0 }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&'static self, bytes: u64) -> Room {
        let bytes = bytes.min(self.total);
        let mut held = HELD.get();
        let mut state = self.lock();
        // A thread that holds room does not wait for more, which could be for itself: a caller may decode one picture
        // while it uses another.
        if held.iter().skip(self.rank).all(|&count| count == 0) {
            let turn = state.next;
            state.next += 1;
            while state.serving != turn || state.used.saturating_add(bytes) > self.total {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.serving += 1;
        }
        state.used = state.used.saturating_add(bytes);
        drop(state);
        self.changed.notify_all();
        held[self.rank] += 1;
        HELD.set(held);
        Room { pool: self, bytes, on_one_thread: PhantomData }
    }
}

/// Bytes that are spoken for; dropping it gives them back.
pub(super) struct Room {
    pool: &'static Pool,
    bytes: u64,
    /// A thread's rooms are counted, so none may leave its thread.
    on_one_thread: PhantomData<*const ()>,
}

impl Room {
    /// Holds `bytes` from now on. More than before is not waited for: it may come to a little more than the budget.
    pub(super) fn resize(&mut self, bytes: u64) {
        let mut state = self.pool.lock();
        state.used = state.used.saturating_sub(self.bytes).saturating_add(bytes);
        drop(state);
        self.bytes = bytes;
        self.pool.changed.notify_all();
    }

    fn give(&self, bytes: u64) {
        let mut state = self.pool.lock();
        state.used = state.used.saturating_sub(bytes);
        drop(state);
        self.pool.changed.notify_all();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut held = HELD.get();
        held[self.pool.rank] = held[self.pool.rank].saturating_sub(1);
        HELD.set(held);
        self.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn pool(total: u64) -> &'static Pool {
        Box::leak(Box::new(Pool::new(1, total)))
    }

    #[test]
    fn threads_together_stay_within_the_budget_and_all_get_their_turn() {
        let pool = pool(100);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (now, most) = (&now, &most);
                scope.spawn(move || {
                    for round in 0..50 {
                        // Some would fill the pool alone, some ask for more than there is.
                        let bytes = (thread * 31 + round * 17) % 130 + 1;
                        let room = pool.take(bytes);
                        let used = now.fetch_add(bytes.min(100), Ordering::SeqCst) + bytes.min(100);
                        most.fetch_max(used, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(bytes.min(100), Ordering::SeqCst);
                        drop(room);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 100, "{most:?}");
        assert_eq!(pool.lock().used, 0);
    }

    #[test]
    fn a_thread_does_not_wait_for_itself() {
        let pool = pool(10);
        let mut first = pool.take(10);
        let second = pool.take(10);
        assert_eq!(pool.lock().used, 20);
        first.resize(3);
        assert_eq!(pool.lock().used, 13);
        drop((first, second));
        assert_eq!(pool.lock().used, 0);
        assert!(decoded(SINGLE + 1).is_err_and(|reason| reason.contains("scale the picture down")));
    }
}
