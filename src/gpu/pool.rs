//! Free lists of GPU memory. A list hands out the smallest free piece that fits without wasting more than half.

use std::sync::{Mutex, PoisonError};

use super::arena::Extent;
use super::ledger::Entry;
use super::tensor::Memory;

/// Buffers are rounded up to this many bytes, so that near-equal sizes share.
const GRAIN: u64 = 256;

/// A free list. Its memory stays booked as taken.
#[derive(Debug, Default)]
pub(super) struct FreeList {
    free: Mutex<Vec<(Extent, Memory, Entry)>>,
}

/// The size a request of `bytes` is served with.
pub(super) fn rounded(bytes: u64) -> u64 {
    bytes.max(4).div_ceil(GRAIN) * GRAIN
}

impl FreeList {
    /// Takes free memory of at least `extent`, at most twice that.
    pub fn take(&self, extent: Extent) -> Option<(Memory, Entry)> {
        let most = match extent {
            Extent::Bytes(bytes) => rounded(bytes).saturating_mul(2),
            Extent::Texels(..) => extent.bytes().saturating_mul(2),
        };
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |e: &Extent| extent.fits(*e) && e.bytes() <= most;
        let found = (0..free.len()).filter(|i| fits(&free[*i].0)).min_by_key(|i| free[*i].0.bytes())?;
        let (_, memory, entry) = free.swap_remove(found);
        Some((memory, entry))
    }

    /// Takes memory back.
    pub fn give(&self, memory: Memory, entry: Entry) {
        let extent = match &memory {
            Memory::Buffer(buffer) => Extent::Bytes(buffer.size()),
            Memory::Texture(texture, _) => {
                let half = texture.format() == wgpu::TextureFormat::Rgba16Float;
                Extent::Texels(texture.width(), texture.height(), if half { 8 } else { 16 })
            }
        };
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push((extent, memory, entry));
    }

    /// Lets go of all free memory; tells whether there was some.
    pub fn clear(&self) -> bool {
        let freed = std::mem::take(&mut *self.free.lock().unwrap_or_else(PoisonError::into_inner));
        !freed.is_empty()
    }
}
