//! Tensors: a typed, shaped view of a whole GPU buffer. Cloning shares the buffer; the last clone to be dropped
//! hands it back to the pool it came from.

use std::sync::{Arc, Weak};

use super::pool::FreeList;

/// Element type of a tensor. All arithmetic is f32; u32 holds indices, labels and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 32-bit unsigned integer.
    U32,
}

/// Rust types that a tensor can hold.
pub trait Element: bytemuck::Pod {
    /// The matching element type.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}

impl Element for u32 {
    const DTYPE: DType = DType::U32;
}

/// The buffer behind a tensor.
#[derive(Debug)]
pub(super) struct Storage {
    /// Always present until drop, when it moves back to its pool.
    pub buffer: Option<wgpu::Buffer>,
    pub home: Weak<FreeList>,
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let (Some(buffer), Some(home)) = (self.buffer.take(), self.home.upgrade()) {
            home.give(buffer);
        }
    }
}

/// A dense row-major tensor in GPU memory.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(super) storage: Arc<Storage>,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: DType,
}

impl Tensor {
    /// Lengths of the dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no elements. tipi makes none such; the method completes [`Tensor::len`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Length of the last dimension; 1 for a scalar.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        self.len() / self.cols().max(1)
    }

    /// Bytes that the elements take.
    pub fn bytes(&self) -> u64 {
        self.len() as u64 * 4
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when the number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> crate::Result<Tensor> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(crate::Error::invalid(format!("cannot reshape {:?} to {shape:?}", self.shape)));
        }
        Ok(Tensor { storage: self.storage.clone(), shape: shape.to_vec(), dtype: self.dtype })
    }

    /// Whether both tensors live in one buffer (a kernel must not read and write one buffer in one dispatch).
    pub fn same_buffer(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
    }

    /// The buffer. It is there for as long as the tensor is.
    pub(super) fn buffer(&self) -> crate::Result<&wgpu::Buffer> {
        self.storage.buffer.as_ref().ok_or_else(|| crate::Error::Gpu("tensor without a buffer".into()))
    }
}
