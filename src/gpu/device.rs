//! The open device: what it is, what was measured on it, and waiting for it.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::capabilities::Capabilities;
use super::choices::{Choices, Measured};
use super::devices::kind;
use super::ledger::Ledger;
use super::link::{Link, Submission};
use super::pace::Pace;
use super::pipeline::Pipelines;
use super::pool::FreeList;
use super::profile::Profile;
use super::timeline::Timeline;
use super::trials::Trials;
use crate::Result;

/// How long a submission may run before tipi gives up on it. Plans are split so that each submission takes far
/// less than a second on a GPU; a CPU driver may need minutes for a large one.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

pub(super) struct Inner {
    pub link: Link,
    /// How fast plans are handed over, where a host draws on the same queue.
    pub pace: Option<Pace>,
    pub pipelines: Pipelines,
    pub trials: Trials,
    pub profile: Option<Mutex<Profile>>,
    pub timeline: Timeline,
    pub info: wgpu::AdapterInfo,
    pub limits: wgpu::Limits,
    pub capabilities: Capabilities,
    pub choices: Choices,
    /// The kernel that was asked for.
    pub kernel: Option<String>,
    pub measures: bool,
    /// Why this device was taken.
    pub reason: String,
    pub pool: Arc<FreeList>,
    pub ledger: Arc<Ledger>,
    /// Bytes written that the last submission has not carried over yet.
    pub staged: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pipelines.save();
        let submitted = self.trials.submitted();
        // Drivers dislike a device that goes away with work under way. A host's stays, and wgpu keeps what its work needs; only
        // whether kernels ran that were used for the first time is still to be known.
        let waits = !self.link.is_shared() || !submitted.is_empty();
        if waits && self.link.drain(Duration::from_secs(5)) {
            self.trials.ran(&submitted);
        }
        self.trials.close();
    }
}

/// An open device. Cheap to clone; all clones share buffers and pipelines.
#[derive(Clone)]
pub struct Gpu {
    pub(super) inner: Arc<Inner>,
    /// The books of a rehearsal, where this is one.
    pub(super) rehearsal: Option<Arc<Ledger>>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({})", self.describe())
    }
}

impl Gpu {
    /// The device's name.
    pub fn name(&self) -> &str {
        &self.inner.info.name
    }

    /// "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    pub fn kind(&self) -> &'static str {
        kind(self.inner.info.device_type)
    }

    /// Whether this is a handle to the same device.
    pub(crate) fn is(&self, other: &Gpu) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// What kernels can count on.
    pub fn capabilities(&self) -> &Capabilities {
        &self.inner.capabilities
    }

    /// What was measured under `key` on this device, in this process or, where kernels are chosen by measuring
    /// ([`super::DeviceOptions::tune`]), in an earlier one.
    pub fn measured(&self, key: &str) -> Option<Measured> {
        self.inner.choices.get(key)
    }

    /// Notes what was measured, for this process and, where kernels are chosen by measuring, for later ones.
    pub fn note_measured(&self, key: &str, measured: Measured) {
        self.inner.choices.note(key, measured);
    }

    /// Forgets all that was measured on this device.
    pub fn forget_measured(&self) {
        self.inner.choices.clear();
    }

    /// The file that keeps what was measured; `None` where none does.
    pub fn measured_file(&self) -> Option<&PathBuf> {
        self.inner.choices.path()
    }

    /// The kernel that products must take where it can, as it was asked for.
    pub fn asked_kernel(&self) -> Option<&str> {
        self.inner.kernel.as_deref()
    }

    /// Whether a kernel that `which` is true of (by its variant's key) ended a program on this device before. Who has another
    /// for the same work takes that.
    pub fn leaves_out(&self, which: &dyn Fn(&str) -> bool) -> bool {
        self.inner.trials.leaves_out(which)
    }

    /// Whether to measure what was not measured enough before.
    pub fn measures(&self) -> bool {
        self.inner.measures && !self.rehearses()
    }

    /// Whether the "GPU" is a driver that runs on the CPU: kernels pick other tiles there.
    pub fn is_cpu(&self) -> bool {
        self.inner.capabilities.cpu
    }

    /// Name, kind, backend and why this device was taken, in one line.
    pub fn describe(&self) -> String {
        format!("{} ({}, {}): {}", self.name(), self.kind(), self.inner.info.backend, self.inner.reason)
    }

    /// Waits until everything submitted has run, within bounds.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`] when the device is gone or stays silent, [`crate::Error::Gpu`] on any error noted so far.
    pub fn wait(&self) -> Result<()> {
        self.wait_for(None)
    }

    /// Waits until a submission, or everything submitted, has run.
    pub(super) fn wait_for(&self, submission: Option<&Submission>) -> Result<()> {
        // A later submission may still be under way, but what this one waits for is most of what was submitted.
        let submitted = self.inner.trials.submitted();
        self.inner.link.wait(submission, PATIENCE)?;
        self.inner.trials.ran(&submitted);
        Ok(())
    }

    /// The first error that the driver reported, if any.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Gpu`].
    pub fn check(&self) -> Result<()> {
        self.inner.link.check()
    }

    /// The timestamps collected so far, when the device was opened with `profile`.
    pub fn profile(&self) -> Option<Profile> {
        self.inner.profile.as_ref().map(|p| p.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) fn limits(&self) -> &wgpu::Limits {
        &self.inner.limits
    }
}
