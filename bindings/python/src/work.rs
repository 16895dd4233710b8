//! Long calls: done on a thread of their own without Python's lock, while the calling thread looks after progress, warnings and
//! Ctrl-C.

use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use tipi::{Job, Watch};

use crate::errors::{Answer, invalid};

/// How often Python is asked for signals: nobody notices that Ctrl-C is so late, and asking takes microseconds.
const LOOK: Duration = Duration::from_millis(25);

/// How far long work is.
#[pyclass(frozen, get_all, module = "tipi")]
pub(crate) struct Progress {
    /// What is being done: `encoding pictures`.
    what: String,
    /// Parts of it that are done.
    done: usize,
    /// Parts in all.
    total: usize,
    /// What may stand beside it: an epoch, a loss.
    beside: String,
    /// Seconds since this stretch of work began.
    elapsed: f64,
}

#[pymethods]
impl Progress {
    /// Share that is done, from 0 to 1.
    #[getter]
    fn share(&self) -> f64 {
        (self.done as f64 / self.total.max(1) as f64).min(1.0)
    }

    fn __repr__(&self) -> String {
        format!("Progress({:?}, {} of {})", self.what, self.done, self.total)
    }
}

/// What the working thread rings where something changed, and at the end.
#[derive(Default)]
struct Bell {
    state: Mutex<Rung>,
    ringing: Condvar,
}

#[derive(Default)]
struct Rung {
    changed: bool,
    ended: bool,
}

impl Bell {
    fn state(&self) -> MutexGuard<'_, Rung> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, ended: bool) {
        let mut state = self.state();
        state.changed = true;
        state.ended |= ended;
        self.ringing.notify_all();
    }

    /// Waits for the end, at most until it is time to look; with `changes` for any change as well. Whether it is the end.
    fn wait(&self, changes: bool) -> bool {
        let mut state = self.state();
        if !(state.ended || changes && state.changed) {
            let quiet = |state: &mut Rung| !(state.ended || changes && state.changed);
            let waited = self.ringing.wait_timeout_while(state, LOOK, quiet);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.changed = false;
        state.ended
    }
}

/// Rings at the end, after a panic too.
struct Ended(Arc<Bell>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ring(true);
    }
}

/// Does long work. `progress` is called on this thread with a [`Progress`] where that has changed. What it raises stops the work,
/// and so does Ctrl-C where this is Python's main thread: within one submission to the GPU.
pub(crate) fn watched<T: Send + 'static>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&mut dyn Watch) -> tipi::Result<T> + Send + 'static,
) -> Answer<T> {
    of_this_process()?;
    let bell = Arc::new(Bell::default());
    let (at_end, at_change) = (bell.clone(), bell.clone());
    let job = Job::start_with(
        move |watch| {
            let _ended = Ended(at_end);
            work(watch)
        },
        move || at_change.ring(false),
    );
    let (mut seen, changes) = (tipi::Progress::default(), progress.is_some());
    loop {
        let ended = py.detach(|| bell.wait(changes));
        if let Err(raised) = look(py, &job, progress, &mut seen) {
            job.cancel();
            // What it was doing is over before this returns; a result that came all the same is of no use any more.
            drop(py.detach(|| job.wait()));
            return Err(raised.into());
        }
        if ended {
            return Ok(py.detach(|| job.wait())?);
        }
    }
}

/// Hears signals, and tells of what has changed.
fn look<T: Send + 'static>(
    py: Python<'_>,
    job: &Job<T>,
    progress: Option<&Bound<'_, PyAny>>,
    seen: &mut tipi::Progress,
) -> PyResult<()> {
    py.check_signals()?;
    if let Some(progress) = progress {
        let now = job.progress();
        let same = (&now.what, now.done, now.total, &now.beside) == (&seen.what, seen.done, seen.total, &seen.beside);
        if !same && !now.what.is_empty() {
            let tipi::Progress { what, done, total, beside, elapsed } = now.clone();
            *seen = now;
            progress.call1((Progress { what, done, total, beside, elapsed: elapsed.as_secs_f64() },))?;
        }
    }
    for note in job.notes() {
        warn(py, &note)?;
    }
    Ok(())
}

/// Something that people should know, as a warning of Python's.
fn warn(py: Python<'_>, note: &str) -> PyResult<()> {
    let category = py.import("tipi.errors")?.getattr("Note")?;
    // No note has a zero byte; one that had would be cut there.
    let text = CString::new(note.split('\0').next().unwrap_or_default()).unwrap_or_default();
    PyErr::warn(py, &category, &text, 1)
}

/// Fails in a process that was forked from one that had used tipi: the threads that worked there are not here, and a driver's state
/// is not to be shared.
pub(crate) fn of_this_process() -> Answer<()> {
    static USED_BY: AtomicU32 = AtomicU32::new(0);
    let here = std::process::id();
    match USED_BY.compare_exchange(0, here, Ordering::AcqRel, Ordering::Acquire) {
        Err(there) if there != here => Err(invalid(
            "tipi was used before this process was forked, and a GPU cannot be used on both sides of a fork: start processes with \
             multiprocessing.get_context('spawn'), or load the first model in the new process",
        )),
        _ => Ok(()),
    }
}
