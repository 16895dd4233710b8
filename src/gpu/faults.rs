//! What goes wrong on a device: noted, to be told at the next call.
//!
//! On a device of its own tipi hears of it through wgpu's callbacks. A device that a host program shares has one callback
//! each, which is the host's. There, whatever tipi does with the device is done in an error scope, which wgpu keeps for each
//! thread apart, and whether the device is still there is seen by asking for something that a lost device refuses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Error, Result};

/// All kinds of errors that scopes can catch.
const KINDS: [wgpu::ErrorFilter; 3] =
    [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal];

/// The first validation error, and device loss.
#[derive(Debug)]
pub(super) struct Faults {
    noted: Arc<Mutex<Noted>>,
    /// On a host's device: what is asked for to see whether it is there.
    probe: Option<Mutex<wgpu::Buffer>>,
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
        Faults { noted, probe: None }
    }

    /// Notes what goes wrong in [`Faults::scoped`] on `device`, which is a host's.
    pub fn of_shared(device: &wgpu::Device) -> Faults {
        let mut faults = Faults { noted: Arc::default(), probe: None };
        let probe = scoped(device, &faults.noted, || {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("tipi: is the device there"),
                size: 4,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        faults.probe = Some(Mutex::new(probe));
        faults
    }

    /// Does something with `device`. On a host's device, what goes wrong meanwhile on this thread is noted here and the host
    /// does not hear of it.
    pub fn scoped<T>(&self, device: &wgpu::Device, work: impl FnOnce() -> T) -> T {
        if self.probe.is_none() { work() } else { scoped(device, &self.noted, work) }
    }

    /// Notes that the device is gone.
    pub fn lose(&self, message: String) {
        Noted::note_lost(&self.noted, message);
    }

    /// The loss of the device, else the first error.
    pub fn check(&self, device: &wgpu::Device) -> Result<()> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lost) = &noted.lost {
            return Err(Error::DeviceLost(lost.clone()));
        }
        let error = noted.error.clone();
        drop(noted);
        if self.probe.as_ref().is_some_and(|probe| self.scoped(device, || refuses(probe))) {
            self.lose("the program that it belongs to destroyed it, or the driver gave it up".into());
            return self.check(device);
        }
        error.map_or(Ok(()), |error| Err(Error::Gpu(error)))
    }
}

/// Does something with `device`, all errors of which on this thread are noted.
fn scoped<T>(device: &wgpu::Device, noted: &Mutex<Noted>, work: impl FnOnce() -> T) -> T {
    let scopes = KINDS.map(|kind| device.push_error_scope(kind));
    let done = work();
    for scope in scopes.into_iter().rev() {
        if let Some(error) = pollster::block_on(scope.pop()) {
            Noted::note(noted, &error);
        }
    }
    done
}

/// Whether the device refuses to map a buffer, as a lost one does at once. Nothing else tells: what is made on a lost device,
/// or submitted to it, vanishes without an error.
fn refuses(probe: &Mutex<wgpu::Buffer>) -> bool {
    let probe = probe.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = Arc::new(AtomicBool::new(false));
    let answer = refused.clone();
    probe.slice(..).map_async(wgpu::MapMode::Read, move |mapped| answer.store(mapped.is_err(), Ordering::Relaxed));
    // Taking it back is answered by an error, too, but later than here.
    let lost = refused.load(Ordering::Relaxed);
    probe.unmap();
    lost
}
