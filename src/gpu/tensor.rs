//! Tensors: a typed, shaped view of a whole GPU buffer or texture. Cloning shares the memory; the last clone of a tensor
//! made outside of plans hands it back to the pool it came from.

use std::sync::{Arc, OnceLock, Weak};

use super::arena::Extent;
use super::ledger::Entry;
use super::memory::Memory;
use super::pool::FreeList;
use crate::{Error, Result};

/// Element type of a tensor. All arithmetic is f32; u32 holds indices, labels and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 32-bit unsigned integer.
    U32,
    /// 16-bit float, rows padded to an even number of elements: kernels read two at a time.
    F16,
    /// 32-bit float in a texture, a matrix row per texture row, four columns a texel. Drivers that run on the CPU read
    /// textures several times as fast as buffers.
    Texels,
    /// As [`DType::Texels`], 16-bit floats.
    HalfTexels,
    /// 8-bit whole number, rows padded to four elements: kernels read four at a time. What they stand for are multiples of
    /// [`Tensor::scales`].
    I8,
    /// As [`DType::I8`], in a texture.
    ByteTexels,
}

impl DType {
    /// Whether tensors of this type are textures.
    pub fn is_texture(self) -> bool {
        matches!(self, DType::Texels | DType::HalfTexels | DType::ByteTexels)
    }

    /// Whether elements are whole numbers of 8 bits.
    pub fn is_bytes(self) -> bool {
        matches!(self, DType::I8 | DType::ByteTexels)
    }

    /// Elements that a row is padded to whole multiples of.
    pub(super) fn padding(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 1,
            DType::F16 => 2,
            DType::I8 | DType::Texels | DType::HalfTexels | DType::ByteTexels => TEXEL_COLS,
        }
    }
}

/// Columns of a texel.
pub(super) const TEXEL_COLS: usize = 4;

/// Rust types that a tensor can be written from and read into.
pub trait Element: bytemuck::Pod {
    /// The matching element type.
    const DTYPE: DType;

    /// Whether the value is neither NaN nor infinite.
    fn is_number(&self) -> bool;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;

    fn is_number(&self) -> bool {
        self.is_finite()
    }
}

impl Element for u32 {
    const DTYPE: DType = DType::U32;

    fn is_number(&self) -> bool {
        true
    }
}

impl Element for i8 {
    const DTYPE: DType = DType::I8;

    fn is_number(&self) -> bool {
        true
    }
}

impl Element for half::f16 {
    const DTYPE: DType = DType::F16;

    fn is_number(&self) -> bool {
        self.is_finite()
    }
}

/// The memory behind a tensor.
#[derive(Debug)]
pub(super) struct Storage {
    /// Empty for a temporary of a plan that is still being recorded, and in a rehearsal.
    pub memory: OnceLock<Memory>,
    /// What the memory is booked as; a plan books its temporaries itself.
    pub entry: Option<Entry>,
    /// The pool that gets the memory back.
    pub home: Weak<FreeList>,
    /// What the numbers mean, where somebody said.
    pub meaning: OnceLock<Meaning>,
    /// What whole numbers are multiples of, a number for each row.
    pub scales: OnceLock<Tensor>,
}

impl Storage {
    /// Storage about which nothing more is known yet.
    pub fn new(memory: OnceLock<Memory>, entry: Option<Entry>, home: Weak<FreeList>) -> Storage {
        Storage { memory, entry, home, meaning: OnceLock::new(), scales: OnceLock::new() }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let (Some(memory), Some(entry), Some(home)) = (self.memory.take(), self.entry.take(), self.home.upgrade()) {
            home.give(memory, entry);
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

/// What a tensor's numbers mean to a user, for errors about them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meaning {
    pub what: &'static str,
    pub cause: &'static str,
}

impl Default for Meaning {
    fn default() -> Self {
        let cause = "the weights of the model or of its adapter, or what they were given, are damaged or too large";
        Meaning { what: "numbers computed on the GPU", cause }
    }
}

/// What a tensor of this shape and type takes; `None` where it has no elements or more than can be counted.
pub(super) fn extent(shape: &[usize], dtype: DType) -> Option<Extent> {
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64)).filter(|n| *n > 0)?;
    let cols = shape.last().copied().unwrap_or(1) as u64;
    let rows = elements / cols;
    Some(match dtype {
        DType::F32 | DType::U32 => Extent::Bytes(elements.checked_mul(4)?),
        DType::F16 => Extent::Bytes(rows.checked_mul(cols.div_ceil(2))?.checked_mul(4)?),
        DType::I8 => Extent::Bytes(rows.checked_mul(cols.div_ceil(4))?.checked_mul(4)?),
        DType::Texels | DType::HalfTexels | DType::ByteTexels => {
            let width = u32::try_from(cols.div_ceil(TEXEL_COLS as u64)).ok()?;
            let texel = match dtype {
                DType::Texels => 16,
                DType::HalfTexels => 8,
                _ => 4,
            };
            Extent::Texels(width, u32::try_from(rows).ok()?, texel)
        }
    })
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

    /// Bytes that the elements take, padding and scales included.
    pub fn bytes(&self) -> u64 {
        let own = extent(&self.shape, self.dtype).map_or(0, Extent::bytes);
        own + self.scales().map_or(0, Tensor::bytes)
    }

    /// What the elements of each row are multiples of, where they are whole numbers of 8 bits: `[rows]`, in a texture
    /// `[1, rows]` where the elements are in one.
    pub fn scales(&self) -> Option<&Tensor> {
        self.storage.scales.get()
    }

    /// The same tensor of 8-bit numbers with the scales of its rows. The first scales stay.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a tensor of anything else, or other scales than [`Tensor::scales`] says.
    pub fn with_scales(self, scales: Tensor) -> Result<Tensor> {
        let fits = match self.dtype {
            DType::I8 => scales.dtype == DType::F32 && scales.shape == [self.rows()],
            DType::ByteTexels => scales.dtype == DType::Texels && scales.shape == [1, self.rows()],
            _ => false,
        };
        if !fits {
            let (own, other) = ((self.dtype, &self.shape), (scales.dtype, &scales.shape));
            return Err(Error::invalid(format!("scales {other:?} for rows of {own:?}")));
        }
        self.storage.scales.get_or_init(|| scales);
        Ok(self)
    }

    /// The same elements under another shape. Where rows are padded (f16, i8, texels) the columns must stay.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor> {
        let padded = self.dtype.padding() > 1;
        let same_rows = shape.last() == self.shape.last();
        if shape.iter().product::<usize>() != self.len() || (padded && !same_rows) {
            return Err(Error::invalid(format!("cannot reshape {:?} to {shape:?}", self.shape)));
        }
        Ok(Tensor { storage: self.storage.clone(), shape: shape.to_vec(), dtype: self.dtype })
    }

    /// The first `rows` rows `[rows, cols]` alone, in the same memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] for none, for more than there are, or of a texture, whose shape is its own.
    pub fn first_rows(&self, rows: usize) -> Result<Tensor> {
        if rows == 0 || rows > self.rows() || self.dtype.is_texture() {
            return Err(Error::invalid(format!("the first {rows} rows of {:?} of {:?}", self.shape, self.dtype)));
        }
        Ok(Tensor { storage: self.storage.clone(), shape: vec![rows, self.cols()], dtype: self.dtype })
    }

    /// The same tensor under a name for users ("image features") and with what is likely wrong where its numbers are not
    /// finite: reading them is an error then. The first name stays.
    #[must_use]
    pub fn named(self, what: &'static str, cause: &'static str) -> Tensor {
        self.storage.meaning.get_or_init(|| Meaning { what, cause });
        self
    }

    pub(super) fn meaning(&self) -> Meaning {
        self.storage.meaning.get().copied().unwrap_or_default()
    }

    /// Whether both tensors live in one buffer (a kernel must not read and write one buffer in one dispatch).
    pub fn same_buffer(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
    }

    /// The memory.
    pub(super) fn memory(&self) -> Result<&Memory> {
        let missing = "a plan's temporary was used before its recording was finished";
        self.storage.memory.get().ok_or_else(|| Error::invalid(missing))
    }

    /// The buffer.
    pub(super) fn buffer(&self) -> Result<&wgpu::Buffer> {
        match self.memory()? {
            Memory::Buffer(buffer) => Ok(buffer),
            Memory::Texture(..) => Err(Error::invalid("a texture where a buffer is needed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DType, Extent, extent};

    #[test]
    fn extents_pad_rows_where_kernels_read_several_elements_at_once() {
        assert_eq!(extent(&[3, 5], DType::F32), Some(Extent::Bytes(60)));
        assert_eq!(extent(&[3, 5], DType::F16), Some(Extent::Bytes(36)));
        assert_eq!(extent(&[3, 5], DType::I8), Some(Extent::Bytes(24)));
        assert_eq!(extent(&[2, 3, 5], DType::Texels), Some(Extent::Texels(2, 6, 16)));
        assert_eq!(extent(&[3, 9], DType::ByteTexels), Some(Extent::Texels(3, 3, 4)));
        assert_eq!(extent(&[], DType::F32), Some(Extent::Bytes(4)));
        assert_eq!(extent(&[0, 5], DType::F32), None);
        assert_eq!(extent(&[usize::MAX, 5], DType::F32), None);
    }
}
