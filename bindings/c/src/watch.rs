//! Progress, notes, and the wish to stop.

use std::ffi::c_void;

use tipi::{Stop, Watch};

use crate::foreign::{Kept, Options, Place, TipiStr, options};
use crate::handle::{Held, held, held_or_none};
use crate::status::{Result, TipiStatus, guard};

/// A wish to stop, which any thread may have: calls with it in their `TipiWatch` end with `TIPI_STOPPED` once the GPU has done
/// what it was last given.
pub struct TipiStop {
    _private: [u8; 0],
}

impl Held for Stop {
    type Handle = TipiStop;
    const KIND: &'static str = "a TipiStop";
}

/// How far long work is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiProgress {
    /// What is being done: "encoding pictures".
    pub what: TipiStr,
    /// Parts of it that are done.
    pub done: u64,
    /// Parts in all.
    pub total: u64,
    /// What may stand beside it: an epoch, a loss. Empty where there is nothing.
    pub beside: TipiStr,
}

/// Called where progress changes, on the thread that called tipi. Another result than 0 stops the work, which ends with
/// `TIPI_STOPPED`. The progress and its texts are there until it returns.
pub type TipiOnProgress = Option<unsafe extern "C" fn(data: *mut c_void, progress: *const TipiProgress) -> i32>;

/// Called with what people should know, on the thread that called tipi. The text is there until it returns.
pub type TipiOnNote = Option<unsafe extern "C" fn(data: *mut c_void, note: TipiStr)>;

/// What watches long work. All but `size` may be 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiWatch {
    /// `sizeof(TipiWatch)`.
    pub size: usize,
    /// Called where progress changes.
    pub progress: TipiOnProgress,
    /// Called with notes.
    pub note: TipiOnNote,
    /// Given to both.
    pub data: *mut c_void,
    /// Stops the work from another thread.
    pub stop: *const TipiStop,
}

// SAFETY: it is so; an `Option` of a function pointer is a pointer.
unsafe impl Options for TipiWatch {
    const USUAL: TipiWatch = TipiWatch {
        size: size_of::<TipiWatch>(),
        progress: None,
        note: None,
        data: std::ptr::null_mut(),
        stop: std::ptr::null(),
    };
}

struct Calling {
    watch: TipiWatch,
    /// What the callback wished.
    wish: Stop,
    /// What another thread wished.
    stop: Option<Stop>,
    what: Kept,
    beside: Kept,
    done: usize,
    total: usize,
}

impl Calling {
    fn tell(&self) {
        let Some(progress) = self.watch.progress else { return };
        let told = TipiProgress {
            what: self.what.str(),
            done: self.done as u64,
            total: self.total as u64,
            beside: self.beside.str(),
        };
        // SAFETY: the caller gave a function that may be called so.
        if unsafe { progress(self.watch.data, &raw const told) } != 0 {
            self.wish.stop();
        }
    }
}

impl Watch for Calling {
    fn begin(&mut self, what: &str, total: usize) {
        (self.what, self.beside, self.done, self.total) = (what.into(), Kept::default(), 0, total);
        self.tell();
    }

    fn at(&mut self, done: usize) -> tipi::Result<()> {
        self.done = done;
        self.tell();
        match self.wish.is_wished() || self.stop.as_ref().is_some_and(Stop::is_wished) {
            true => Err(tipi::Error::Stopped),
            false => Ok(()),
        }
    }

    fn show(&mut self, text: &str) {
        self.beside = text.into();
    }

    fn end(&mut self) {
        // Most work has told so already.
        if self.done != self.total {
            self.done = self.total;
            self.tell();
        }
    }

    fn note(&mut self, text: &str) {
        if let Some(note) = self.watch.note {
            let text = Kept::from(text);
            // SAFETY: the caller gave a function that may be called so.
            unsafe { note(self.watch.data, text.str()) };
        }
    }
}

/// Does work that is watched so.
///
/// # Safety
/// `watch` is NULL or what its type says.
pub(crate) unsafe fn watched<T>(
    watch: *const TipiWatch,
    work: impl FnOnce(&mut dyn Watch) -> tipi::Result<T>,
) -> Result<T> {
    // SAFETY: as promised.
    let watch = unsafe { options("watch", watch) }?;
    let stop = held_or_none::<Stop>("watch.stop", watch.stop)?.map(|stop| (*stop).clone());
    let wish = Stop::new();
    let (what, beside) = (Kept::default(), Kept::default());
    let mut calling = Calling { watch, wish: wish.clone(), stop: stop.clone(), what, beside, done: 0, total: 0 };
    // What only looks at what it was given, and asks nobody, ends at once, too.
    if stop.as_ref().is_some_and(Stop::is_wished) {
        return Err(tipi::Error::Stopped.into());
    }
    let work = || wish.during(|| work(&mut calling));
    Ok(match &stop {
        Some(stop) => stop.during(work),
        None => work(),
    }?)
}

/// Makes a wish to stop that nobody has yet.
///
/// Ownership: `*stop` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_stop_new(stop: *mut *mut TipiStop) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        Place::<Stop>::at("stop", stop)?.put(Stop::new());
        Ok(())
    })
}

/// Wishes it, from any thread. All calls that watch it end with `TIPI_STOPPED`, now and later.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_stop_now(stop: *const TipiStop) -> TipiStatus {
    guard(|| {
        held::<Stop>("stop", stop)?.stop();
        Ok(())
    })
}
