//! The way to a device and its queue. All that the GPU layer does with them goes through here, so that what goes wrong is
//! noted in one place, and a host program that shares the device is not disturbed.
//!
//! In a page no poll waits. Elsewhere a poll of wgpu that waits keeps a lock all the while which others' submissions need as
//! soon as anybody wants to drop something. So in a page and on a host's device nobody waits in a poll: it is looked at again and
//! again, with short sleeps between.
//! Nor does a poll there ask for a submission: where its time is up just as another thread's poll finds the queue empty,
//! wgpu 30 panics. Each submission that is looked at so tells by a callback that it has run.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::faults::Faults;
use super::gate::{Gate, Hold, Pass};
use super::wait;
use crate::platform::Instant;
use crate::{Error, Result};

/// How long a poll waits at most, on a device that is not shared.
const POLL: Duration = Duration::from_secs(10);

/// The shortest and the longest sleep between two looks.
const SLEEPS: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(1)];

/// Submissions that [`Link::wait`] for everything looks at: the last one is among them unless more threads than this submit
/// at the very same time.
const RECENT: usize = 16;

/// What was submitted.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    index: wgpu::SubmissionIndex,
    /// Whether it has run, as somebody's poll found: where [`Link::looks_again`].
    ran: Arc<AtomicBool>,
}

pub(super) struct Link {
    device: wgpu::Device,
    queue: wgpu::Queue,
    faults: Faults,
    shared: bool,
    gate: Gate,
    /// The last of tipi's own submissions, where [`Link::looks_again`].
    recent: Mutex<VecDeque<Submission>>,
}

impl Link {
    /// The way to a device that is tipi's own.
    pub fn own(device: wgpu::Device, queue: wgpu::Queue) -> Link {
        Link {
            faults: Faults::of_own(&device),
            device,
            queue,
            shared: false,
            gate: Gate::default(),
            recent: Mutex::default(),
        }
    }

    /// The way to a device that others use, too.
    pub fn shared(device: wgpu::Device, queue: wgpu::Queue) -> Link {
        Link {
            faults: Faults::of_shared(),
            device,
            queue,
            shared: true,
            gate: Gate::default(),
            recent: Mutex::default(),
        }
    }

    /// Whether others use the device, too.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether nobody may wait in a poll, so that the device is looked at again and again.
    fn looks_again(&self) -> bool {
        self.shared || !wait::POLLS
    }

    /// Does something with device and queue that neither waits nor takes long.
    pub fn with<T>(&self, work: impl FnOnce(&wgpu::Device, &wgpu::Queue) -> T) -> T {
        self.faults.scoped(&self.device, || work(&self.device, &self.queue))
    }

    /// Keeps all others from submitting.
    pub fn hold(&self) -> Hold<'_> {
        self.gate.hold()
    }

    /// Waits until nobody else holds. Whoever submits under a lock passes before locking: who holds may need the lock.
    pub fn pass(&self) -> Pass<'_> {
        self.gate.pass()
    }

    /// Submits what `record` puts into an encoder, behind what was written.
    pub fn submit(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) -> Submission {
        self.submit_with(&self.pass(), record)
    }

    /// The same, for who has passed.
    pub fn submit_with(&self, _passed: &Pass<'_>, record: impl FnOnce(&mut wgpu::CommandEncoder)) -> Submission {
        let ran = Arc::new(AtomicBool::new(false));
        let index = self.with(|device, queue| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            record(&mut encoder);
            if self.looks_again() {
                let ran = ran.clone();
                encoder.on_submitted_work_done(move || ran.store(true, Ordering::Release));
            }
            queue.submit([encoder.finish()])
        });
        let submission = Submission { index, ran };
        if self.looks_again() {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.push_back(submission.clone());
            if recent.len() > RECENT {
                recent.pop_front();
            }
        }
        submission
    }

    /// Submits what was written.
    pub fn flush(&self) {
        self.submit(|_| ());
    }

    /// Frees what the device is done with.
    pub fn look(&self) {
        let _ = self.poll(wgpu::PollType::Poll);
    }

    /// Whether what is waited for has run.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the driver gives up the device, [`Error::Gpu`] for a submission that was none.
    fn poll(&self, kind: wgpu::PollType) -> Result<bool> {
        // Nothing of ours is left half done, and wgpu's locks are free again after a panic.
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(kind))) {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(wgpu::PollError::Timeout)) => Ok(false),
            Ok(Err(error)) => Err(Error::Gpu(error.to_string())),
            // So wgpu says that the driver gave up the device. What else panics here is somebody's callback.
            Err(panic) => match panic.downcast_ref::<String>().filter(|text| text.contains("Device::poll")) {
                Some(text) => {
                    let lost = text.split_whitespace().collect::<Vec<_>>().join(" ");
                    self.faults.lose(lost.clone());
                    Err(Error::DeviceLost(lost))
                }
                None => resume_unwind(panic),
            },
        }
    }

    /// Waits until a submission, or everything that tipi submitted, has run: whether it still had to be waited for.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is gone or stays silent for so long, [`Error::Gpu`] on any error noted so far.
    pub fn wait(&self, submission: Option<&Submission>, patience: Duration) -> Result<bool> {
        let looks =
            self.looks(submission, patience, || self.faults.noted()).or_else(|error| self.check().and(Err(error)))?;
        self.check()?;
        looks.map(|looks| looks > 1).ok_or_else(|| Error::DeviceLost(format!("no answer for {} s", patience.as_secs())))
    }

    /// As [`Link::wait`] for everything, whatever went wrong before: whether all of it has run.
    pub fn drain(&self, patience: Duration) -> bool {
        match self.looks(None, patience, || Ok(())) {
            Ok(looks) => looks.is_some(),
            // What was never taken on does not run any more.
            Err(error) => matches!(error, Error::Gpu(_)),
        }
    }

    /// Looks at a submission, or everything that tipi submitted, until it has run: how often, or `None` where patience ends.
    /// Between two looks `goes_on` may end it.
    fn looks(
        &self,
        submission: Option<&Submission>,
        patience: Duration,
        goes_on: impl Fn() -> Result<()>,
    ) -> Result<Option<usize>> {
        let start = Instant::now();
        let targets = match submission {
            Some(one) => vec![one.clone()],
            // What others submitted is nobody's business here, and may never end.
            None => self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect(),
        };
        for looks in 1.. {
            let ran = if self.looks_again() {
                self.poll(wgpu::PollType::Poll).map(|_| targets.iter().all(|one| one.ran.load(Ordering::Acquire)))
            } else {
                let submission_index = submission.map(|one| one.index.clone());
                self.poll(wgpu::PollType::Wait { submission_index, timeout: Some(POLL.min(patience)) })
            };
            goes_on()?;
            if ran? {
                return Ok(Some(looks));
            }
            if start.elapsed() >= patience {
                break;
            }
            if self.looks_again() {
                // The longer it takes the less does it matter to be late.
                wait::nap((start.elapsed() / 8).clamp(SLEEPS[0], SLEEPS[1]));
            }
        }
        Ok(None)
    }

    /// The first error so far.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Gpu`].
    pub fn check(&self) -> Result<()> {
        self.faults.check(&self.device)
    }
}
