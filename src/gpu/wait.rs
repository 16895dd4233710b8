//! Waiting: the one place that knows how. A program sleeps; a page in a browser has to let its event loop turn, or nothing
//! that it waits for ever comes.
//!
//! In a page the module is suspended meanwhile (JavaScript Promise Integration), so that no function of tipi's has to be
//! asynchronous, and a page runs the very code that is tested natively. Whoever builds for `wasm32-unknown-unknown` gives the
//! import `turn` from the module `./tipi-turn.js`, a `WebAssembly.Suspending` function whose promise is kept at the event loop's
//! next turn, and calls what may wait through `WebAssembly.promising`, in a worker (`bindings/web`).

#[cfg(not(target_arch = "wasm32"))]
mod here {
    use std::time::Duration;

    /// Whether a poll of the device can wait by itself.
    pub const POLLS: bool = true;

    /// What a future gives.
    pub fn block_on<F: Future>(future: F) -> F::Output {
        pollster::block_on(future)
    }

    /// Does nothing for a while.
    pub fn nap(time: Duration) {
        std::thread::sleep(time);
    }
}

#[cfg(target_arch = "wasm32")]
mod here {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    pub const POLLS: bool = false;

    #[link(wasm_import_module = "./tipi-turn.js")]
    unsafe extern "C" {
        /// Suspends the module until the event loop has turned.
        safe fn turn();
    }

    pub fn block_on<F: Future>(future: F) -> F::Output {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            turn();
        }
    }

    /// The event loop knows best how long that is.
    pub fn nap(_: Duration) {
        turn();
    }
}

pub(super) use here::{POLLS, block_on, nap};
