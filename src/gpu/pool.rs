//! Free lists of GPU buffers. A list hands out the smallest free buffer that fits without wasting more than half.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Buffers are rounded up to this many bytes, so that near-equal sizes share.
const GRAIN: u64 = 256;

/// A free list, and the bytes that its buffers take in all (in use or free).
#[derive(Debug, Default)]
pub(super) struct FreeList {
    free: Mutex<BTreeMap<u64, Vec<wgpu::Buffer>>>,
    allocated: AtomicU64,
}

/// The size a request of `bytes` is served with.
pub(super) fn rounded(bytes: u64) -> u64 {
    bytes.max(4).div_ceil(GRAIN) * GRAIN
}

impl FreeList {
    /// Takes a free buffer of at least `bytes`, at most twice that.
    pub fn take(&self, bytes: u64) -> Option<wgpu::Buffer> {
        let size = rounded(bytes);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let key = *free.range(size..=size.saturating_mul(2)).next()?.0;
        let list = free.get_mut(&key)?;
        let buffer = list.pop();
        if list.is_empty() {
            free.remove(&key);
        }
        buffer
    }

    /// Takes a buffer back.
    pub fn give(&self, buffer: wgpu::Buffer) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.entry(buffer.size()).or_default().push(buffer);
    }

    /// Notes a new buffer of `bytes`.
    pub fn note(&self, bytes: u64) {
        self.allocated.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of all buffers that were made for this list.
    pub fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }
}
