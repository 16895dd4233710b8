//! Free lists of GPU memory. A list hands out the smallest free piece that fits without wasting more than half.

use std::sync::{Mutex, PoisonError};

use super::arena::Extent;
use super::ledger::Entry;
use super::memory::{self, Memory};

/// A free list. Its memory stays booked as taken.
#[derive(Debug, Default)]
pub(super) struct FreeList {
    free: Mutex<Vec<(Extent, Memory, Entry)>>,
}

impl FreeList {
    /// Takes free memory of at least `extent`, at most twice that.
    pub fn take(&self, extent: Extent) -> Option<(Memory, Entry)> {
        let most = memory::size(extent).saturating_mul(2);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |e: &Extent| extent.fits(*e) && e.bytes() <= most;
        let found = (0..free.len()).filter(|i| fits(&free[*i].0)).min_by_key(|i| free[*i].0.bytes())?;
        let (_, memory, entry) = free.swap_remove(found);
        Some((memory, entry))
    }

    /// Takes memory back.
    pub fn give(&self, memory: Memory, entry: Entry) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push((memory.extent(), memory, entry));
    }

    /// Lets go of all free memory; tells whether there was some.
    pub fn clear(&self) -> bool {
        let freed = std::mem::take(&mut *self.free.lock().unwrap_or_else(PoisonError::into_inner));
        !freed.is_empty()
    }
}
