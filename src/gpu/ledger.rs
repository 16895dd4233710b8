//! The books of GPU memory: how much is taken, and how much there may be. Running out is then foreseen, with numbers,
//! and not found out from a driver that may do anything from an error to freezing the desktop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result, input};

/// Bytes taken of bytes there are.
#[derive(Debug)]
pub(super) struct Ledger {
    used: AtomicU64,
    /// The most that was taken at one time since [`Ledger::forget_peak`].
    peak: AtomicU64,
    /// What may be taken in all; `u64::MAX` where nobody knows.
    limit: u64,
}

/// Bytes that are taken until this is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Ledger {
    pub fn new(limit: Option<u64>) -> Ledger {
        Ledger { used: AtomicU64::new(0), peak: AtomicU64::new(0), limit: limit.unwrap_or(u64::MAX) }
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there are not as many left.
    pub fn take(self: &Arc<Ledger>, what: &str, bytes: u64) -> Result<Entry> {
        let taken = |used: u64| used.checked_add(bytes).filter(|after| *after <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken) {
            Ok(before) => {
                self.peak.fetch_max(before + bytes, Ordering::Relaxed);
                Ok(Entry { ledger: self.clone(), bytes })
            }
            Err(used) => Err(Error::OutOfMemory {
                what: what.into(),
                needed: bytes,
                why: format!("{} of {} bytes are left", self.limit.saturating_sub(used), self.limit),
            }),
        }
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    pub fn forget_peak(&self) {
        self.peak.store(self.used(), Ordering::Relaxed);
    }

    pub fn limit(&self) -> Option<u64> {
        (self.limit != u64::MAX).then_some(self.limit)
    }
}

/// Bytes of memory that there are: what the driver says is local to the device, or, where the device is the CPU, what the
/// system has available (such drivers state a constant). `None` where neither can be asked for.
pub(super) fn installed(adapter: &wgpu::Adapter, cpu: bool) -> Option<u64> {
    let free = if cpu { available() } else { None };
    free.or_else(|| device_local(adapter))
}

/// The sum of Vulkan's memory heaps on the device.
#[cfg(not(any(target_vendor = "apple", target_arch = "wasm32")))]
fn device_local(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the handles live as long as the guard, and are only asked for properties.
    let heaps = unsafe {
        let adapter = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = adapter.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(adapter.raw_physical_device())
    };
    let heaps = heaps.memory_heaps.get(..heaps.memory_heap_count as usize)?;
    // Bit 0 of a heap's flags: DEVICE_LOCAL.
    Some(heaps.iter().filter(|heap| heap.flags.as_raw() & 1 == 1).map(|heap| heap.size).sum()).filter(|sum| *sum > 0)
}

#[cfg(any(target_vendor = "apple", target_arch = "wasm32"))]
fn device_local(_: &wgpu::Adapter) -> Option<u64> {
    None
}

/// Memory that Linux can give without swapping.
fn available() -> Option<u64> {
    let table = input::read_text("/proc/meminfo".as_ref(), input::limit::TEXT).ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::Ledger;
    use std::sync::Arc;

    #[test]
    fn what_is_dropped_can_be_taken_again_and_no_more_than_there_is() {
        let ledger = Arc::new(Ledger::new(Some(100)));
        let first = ledger.take("a", 60).unwrap();
        let error = ledger.take("b", 41).unwrap_err().to_string();
        assert!(error.contains("b needs 41 bytes, 40 of 100 bytes are left"), "{error}");
        let _second = ledger.take("b", 40).unwrap();
        assert_eq!(ledger.used(), 100);
        drop(first);
        assert_eq!((ledger.used(), ledger.peak(), ledger.limit()), (40, 100, Some(100)));
        ledger.forget_peak();
        assert_eq!(ledger.peak(), 40);
        assert!(ledger.take("c", u64::MAX).is_err());
        let open = Arc::new(Ledger::new(None));
        assert!(open.take("d", 1 << 60).is_ok() && open.limit().is_none());
    }
}
