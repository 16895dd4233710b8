//! What goes wrong on a device: noted, to be told at the next call.
//!
//! On a device of its own tipi hears of it through wgpu's callbacks. A device that a host program shares has one callback
//! each, which is the host's. There, whatever tipi does with the device is done in an error scope, which wgpu keeps for each
//! thread apart, and whether the device is still there is seen by asking for something that a lost device refuses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::wait;
use crate::{Error, Result};

/// All kinds of errors that scopes can catch.
const KINDS: [wgpu::ErrorFilter; 3] =
    [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal];

/// The first validation error, and device loss.
#[derive(Debug)]
pub(super) struct Faults {
    noted: Arc<Mutex<Noted>>,
    /// Whether the device is a host's.
    shared: bool,
}

#[derive(Debug, Default)]
struct Noted {
    error: Option<String>,
    lost: Option<String>,
}

impl Noted {
    fn note(noted: &Mutex<Noted>, error: &wgpu::Error) {
        let line = || error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        noted.lock().unwrap_or_else(PoisonError::into_inner).error.get_or_insert_with(line);
    }

    fn note_lost(noted: &Mutex<Noted>, message: String) {
        noted.lock().unwrap_or_else(PoisonError::into_inner).lost.get_or_insert(message);
    }
}

impl Faults {
    /// Notes what goes wrong on `device`, which is tipi's own, from now on.
    pub fn of_own(device: &wgpu::Device) -> Faults {
        let noted = Arc::<Mutex<Noted>>::default();
        let sink = noted.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| Noted::note(&sink, &error)));
        let sink = noted.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Its own end is no loss.
            if reason != wgpu::DeviceLostReason::Destroyed {
                Noted::note_lost(&sink, message);
            }
        });
        Faults { noted, shared: false }
    }

    /// Notes what goes wrong in [`Faults::scoped`], on a device that is a host's.
    pub fn of_shared() -> Faults {
        Faults { noted: Arc::default(), shared: true }
    }

    /// Does something with `device`. On a host's device, what goes wrong meanwhile on this thread is noted here and the host
    /// does not hear of it.
    pub fn scoped<T>(&self, device: &wgpu::Device, work: impl FnOnce() -> T) -> T {
        if self.shared { scoped(device, &self.noted, work) } else { work() }
    }

    /// Notes that the device is gone.
    pub fn lose(&self, message: String) {
        Noted::note_lost(&self.noted, message);
    }

    /// The loss of the device, else the first error, as far as they were noted.
    pub fn noted(&self) -> Result<()> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        match (&noted.lost, &noted.error) {
            (Some(lost), _) => Err(Error::DeviceLost(lost.clone())),
            (None, Some(error)) => Err(Error::Gpu(error.clone())),
            (None, None) => Ok(()),
        }
    }

    /// The loss of the device, which is looked for, else the first error.
    pub fn check(&self, device: &wgpu::Device) -> Result<()> {
        if self.shared && !matches!(self.noted(), Err(Error::DeviceLost(_))) && is_lost(device) {
            self.lose("the program that it belongs to destroyed it, or the driver gave it up".into());
        }
        self.noted()
    }
}

/// Does something with `device`, all errors of which on this thread are noted.
fn scoped<T>(device: &wgpu::Device, noted: &Mutex<Noted>, work: impl FnOnce() -> T) -> T {
    let scopes = KINDS.map(|kind| device.push_error_scope(kind));
    let done = work();
    for scope in scopes.into_iter().rev() {
        if let Some(error) = wait::block_on(scope.pop()) {
            Noted::note(noted, &error);
        }
    }
    done
}

/// Whether the device refuses to map a buffer, as a lost one does at once. Nothing else tells: what is made on a lost device,
/// or submitted to it, vanishes without an error.
///
/// The buffer is a new one each time. Others' polls map one that is taken back at the same moment, and it is refused then
/// the next time.
fn is_lost(device: &wgpu::Device) -> bool {
    let size = 4;
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: Some("is it there"), size, usage, mapped_at_creation: false };
    let made = Mutex::default();
    let buffer = scoped(device, &made, || device.create_buffer(&descriptor));
    if made.into_inner().unwrap_or_else(PoisonError::into_inner).error.is_some() {
        // No memory, and that is another matter.
        return false;
    }
    let refused = Arc::new(AtomicBool::new(false));
    let answer = refused.clone();
    scoped(device, &Mutex::default(), || {
        buffer.slice(..).map_async(wgpu::MapMode::Read, move |mapped| answer.store(mapped.is_err(), Ordering::Relaxed));
    });
    refused.load(Ordering::Relaxed)
}
