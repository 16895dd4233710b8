//! The device's memory: tensors made of it, the books that are kept of it, and rehearsals, which keep books only.

use std::sync::{Arc, OnceLock, Weak};

use super::arena::Extent;
use super::device::Gpu;
use super::ledger::{Entry, Ledger};
use super::memory::{self, Memory};
use super::tensor::{DType, Storage, Tensor, extent};
use crate::{Error, Result};

impl Gpu {
    /// The same device for a rehearsal: tensors made and plans recorded through this handle take no memory, have no
    /// contents and run nothing, but their bytes are counted ([`Gpu::allocated_bytes`]), from zero on. So it is known at
    /// once, and to the byte, what a model or a training step will need, before anything is allocated.
    #[must_use]
    pub fn rehearsal(&self) -> Gpu {
        Gpu { inner: self.inner.clone(), rehearsal: Some(Arc::new(Ledger::new(self.memory()))) }
    }

    /// Whether this handle is a [`Gpu::rehearsal`].
    pub fn rehearses(&self) -> bool {
        self.rehearsal.is_some()
    }

    fn ledger(&self) -> &Arc<Ledger> {
        self.rehearsal.as_ref().unwrap_or(&self.inner.ledger)
    }

    /// Notes that `bytes` are taken.
    pub(super) fn take(&self, what: &str, bytes: u64) -> Result<Entry> {
        match self.ledger().take(what, bytes) {
            // What is kept for reuse can still be given back.
            Err(_) if !self.rehearses() && self.inner.pool.clear() => {
                self.wait()?;
                self.ledger().take(what, bytes)
            }
            taken => taken,
        }
    }

    /// Bytes of GPU memory that tensors and plans take, or that are kept for reuse.
    pub fn allocated_bytes(&self) -> u64 {
        self.ledger().used()
    }

    /// Gives back memory that is kept for reuse. What is made next takes a little longer.
    pub fn release(&self) {
        if self.inner.pool.clear() {
            // The driver lets go of it once it is asked what has run.
            self.inner.link.look();
        }
    }

    /// The most bytes that [`Gpu::allocated_bytes`] was at one time, since [`Gpu::forget_peak`] or from the start.
    pub fn peak_bytes(&self) -> u64 {
        self.ledger().peak()
    }

    /// Begins to count [`Gpu::peak_bytes`] anew.
    pub fn forget_peak(&self) {
        self.ledger().forget_peak();
    }

    /// Bytes of GPU memory that may be used in all: as asked for, else what the driver says there is; `None` where it
    /// does not say (Metal, Direct3D).
    pub fn memory(&self) -> Option<u64> {
        self.inner.ledger.limit()
    }

    /// Largest tensor that one kernel can bind, in bytes.
    pub fn max_binding(&self) -> u64 {
        self.inner.limits.max_storage_buffer_binding_size.min(self.inner.limits.max_buffer_size)
    }

    /// A tensor whose contents are undefined.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] past the device's limits.
    pub fn empty(&self, what: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let extent = self.checked_extent(what, shape, dtype)?;
        let tensor = |storage| Tensor { storage: Arc::new(storage), shape: shape.to_vec(), dtype };
        if self.rehearses() {
            let entry = Some(self.take(what, memory::size(extent))?);
            return Ok(tensor(Storage::new(OnceLock::new(), entry, Weak::new())));
        }
        let pool = &self.inner.pool;
        let (memory, entry) = match pool.take(extent) {
            Some(free) => free,
            None => {
                let entry = self.take(what, memory::size(extent))?;
                (self.make(what, extent)?, entry)
            }
        };
        Ok(tensor(Storage::new(OnceLock::from(memory), Some(entry), Arc::downgrade(pool))))
    }

    /// The extent of a tensor, if one binding of this device can hold it.
    pub(super) fn checked_extent(&self, what: &str, shape: &[usize], dtype: DType) -> Result<Extent> {
        if shape.contains(&0) {
            return Err(Error::invalid(format!("{what}: shape {shape:?} has no elements")));
        }
        let needed = extent(shape, dtype);
        let why = match needed {
            Some(Extent::Bytes(bytes)) if bytes <= self.max_binding() => return Ok(Extent::Bytes(bytes)),
            Some(Extent::Texels(w, h, texel)) if w.max(h) <= self.inner.limits.max_texture_dimension_2d => {
                return Ok(Extent::Texels(w, h, texel));
            }
            Some(Extent::Texels(w, h, _)) => {
                let most = self.inner.limits.max_texture_dimension_2d;
                format!("a texture of {w}×{h} texels, of which this device allows {most} each way")
            }
            _ => format!("one binding of this device holds at most {} bytes", self.max_binding()),
        };
        Err(Error::OutOfMemory { what: what.into(), needed: needed.map_or(u64::MAX, Extent::bytes), why })
    }

    /// New GPU memory.
    pub(super) fn make(&self, what: &str, extent: Extent) -> Result<Memory> {
        let most = self.inner.limits.max_buffer_size;
        self.inner.link.with(|device, _| Memory::new(device, what, extent, most))
    }
}
