//! Long work on a thread of its own, watched from another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::gpu::Stop;
use crate::platform::Instant;
use crate::watch::Watch;
use crate::{Error, Result};

/// How far long work is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// What is being done: `encoding pictures`. Empty before the first stretch of work.
    pub what: String,
    /// Parts of it that are done.
    pub done: usize,
    /// Parts in all.
    pub total: usize,
    /// What may stand beside it: an epoch, a loss.
    pub beside: String,
    /// Time since this stretch of work began.
    pub elapsed: Duration,
}

impl Progress {
    /// Share that is done, from 0 to 1.
    pub fn share(&self) -> f32 {
        (self.done as f32 / self.total.max(1) as f32).min(1.0)
    }

    /// Time that is likely left of this stretch of work; none before the first part is done.
    pub fn left(&self) -> Option<Duration> {
        (self.done > 0).then(|| self.elapsed.mul_f64(self.total.saturating_sub(self.done) as f64 / self.done as f64))
    }
}

/// Long work under way: fitting, encoding, evaluating. Dropping it stops the work and does not wait.
///
/// ```no_run
/// # use tipi::{Examples, FitOptions, Job, Model, Method};
/// # fn frame(model: &Model, examples: &Examples) -> tipi::Result<()> {
/// let (model, examples) = (model.clone(), examples.clone());
/// let options = FitOptions::new(Method::named("tip-adapter")?);
/// let mut job = Job::start(move |watch| model.fit(&examples, &options, watch));
/// // Each frame:
/// println!("{} {:.0} %", job.progress().what, 100.0 * job.progress().share());
/// if let Some(result) = job.take() {
///     println!("{}", result?.0.classes().len());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Job<T> {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<T>>>,
}

#[derive(Default)]
struct Shared {
    stop: Stop,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    progress: Progress,
    began: Option<Instant>,
    notes: Vec<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Job<T> {
    /// Starts work on a thread of its own. It is given what watches it, and should end soon once that says
    /// [`Error::Stopped`]; all of tipi's own work does.
    pub fn start(work: impl FnOnce(&mut dyn Watch) -> Result<T> + Send + 'static) -> Job<T> {
        Job::start_with(work, || {})
    }

    /// The same. `changed` is called, on that thread, where [`Job::progress`] changes and at the end: it may ask for another
    /// frame.
    pub fn start_with(
        work: impl FnOnce(&mut dyn Watch) -> Result<T> + Send + 'static,
        changed: impl Fn() + Send + 'static,
    ) -> Job<T> {
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let thread = std::thread::spawn(move || {
            // What a program does at the end must be done after a panic, too.
            struct Last<F: Fn()>(F);
            impl<F: Fn()> Drop for Last<F> {
                fn drop(&mut self) {
                    (self.0)();
                }
            }
            let last = Last(changed);
            let mut watch = Watching { shared: &seen, changed: &last.0 };
            seen.stop.during(|| work(&mut watch))
        });
        Job { shared, thread: Some(thread) }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let state = self.shared.state();
        let elapsed = state.began.map_or(Duration::ZERO, |began| began.elapsed());
        Progress { elapsed, ..state.progress.clone() }
    }

    /// What people should know, since the last call.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().notes)
    }

    /// Asks it to stop: it ends with [`Error::Stopped`] once what the GPU was last given is done. What it had made is freed.
    pub fn cancel(&self) {
        self.shared.stop.stop();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Its result, once it has ended; none before, and none the second time.
    pub fn take(&mut self) -> Option<Result<T>> {
        match self.is_finished() {
            true => self.thread.take().map(ended),
            false => None,
        }
    }

    /// Waits for its result.
    ///
    /// # Errors
    /// What the work gives; [`Error::Invalid`] where the result was taken before.
    pub fn wait(mut self) -> Result<T> {
        let taken = || Err(Error::invalid("the result of this work was taken before"));
        self.thread.take().map_or_else(taken, ended)
    }
}

fn ended<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    // A panic goes on where the result is asked for, as if the work had been done there.
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        self.shared.stop.stop();
    }
}

struct Watching<'a> {
    shared: &'a Shared,
    changed: &'a dyn Fn(),
}

impl Watching<'_> {
    fn change(&mut self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state());
        (self.changed)();
    }
}

impl Watch for Watching<'_> {
    fn begin(&mut self, what: &str, total: usize) {
        self.change(|state| {
            state.progress = Progress { what: what.into(), total, ..Progress::default() };
            state.began = Some(Instant::now());
        });
    }

    fn at(&mut self, done: usize) -> Result<()> {
        self.change(|state| state.progress.done = done);
        match self.shared.stop.is_wished() {
            true => Err(Error::Stopped),
            false => Ok(()),
        }
    }

    fn show(&mut self, text: &str) {
        self.change(|state| state.progress.beside = text.into());
    }

    fn end(&mut self) {
        self.change(|state| state.progress.done = state.progress.total);
    }

    fn note(&mut self, text: &str) {
        self.change(|state| state.notes.push(text.into()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn work_is_watched_stopped_and_taken_once() {
        let (go, wait) = mpsc::channel::<()>();
        let (said, hear) = mpsc::channel::<()>();
        let mut job = Job::start_with(
            move |watch| {
                watch.begin("counting", 10);
                watch.note("it begins");
                for i in 0..10 {
                    watch.at(i)?;
                    wait.recv().unwrap();
                }
                watch.end();
                Ok(7)
            },
            move || {
                let _ = said.send(());
            },
        );
        go.send(()).unwrap();
        while job.progress().done < 1 {
            hear.recv().unwrap();
        }
        let progress = job.progress();
        assert_eq!((progress.what.as_str(), progress.done, progress.total), ("counting", 1, 10));
        assert!(progress.left().is_some() && (progress.share() - 0.1).abs() < 1e-6);
        assert_eq!(job.notes(), ["it begins"]);
        assert!(job.notes().is_empty() && job.take().is_none());
        job.cancel();
        go.send(()).unwrap();
        while !job.is_finished() {
            std::thread::yield_now();
        }
        assert!(matches!(job.take(), Some(Err(Error::Stopped))));
        assert!(job.take().is_none() && job.wait().is_err());
    }

    #[test]
    fn a_job_that_nobody_stops_gives_its_result() {
        assert_eq!(Job::start(|_| Ok(3)).wait().unwrap(), 3);
        let job = Job::start(|_| -> Result<()> { panic!("broken") });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.wait())).is_err());
    }
}
