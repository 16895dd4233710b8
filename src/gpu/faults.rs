//! What goes wrong on a device and arrives through callbacks: noted, to be told at the next call.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Error, Result};

/// The first validation error, and device loss.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    error: Option<String>,
    lost: Option<String>,
}

impl Faults {
    /// Notes what goes wrong on `device` from now on.
    pub fn of(device: &wgpu::Device) -> Faults {
        let faults = Faults::default();
        let sink = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let line = || error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            sink.0.lock().unwrap_or_else(PoisonError::into_inner).error.get_or_insert_with(line);
        }));
        let sink = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                sink.0.lock().unwrap_or_else(PoisonError::into_inner).lost.get_or_insert(message);
            }
        });
        faults
    }

    /// The loss of the device, else the first error.
    pub fn check(&self) -> Result<()> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&noted.lost, &noted.error) {
            (Some(lost), _) => Err(Error::DeviceLost(lost.clone())),
            (None, Some(error)) => Err(Error::Gpu(error.clone())),
            (None, None) => Ok(()),
        }
    }
}
