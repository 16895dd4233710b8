//! Host to GPU and back: uploads in bounded pieces, read-backs that need not wait for later work.

use std::sync::atomic::Ordering;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use super::device::{Gpu, PATIENCE};
use super::link::Submission;
use super::memory::Memory;
use super::tensor::{DType, Element, Meaning, TEXEL_COLS, Tensor};
use super::wait;
use crate::platform::Instant;
use crate::{Error, Result};

/// Bytes of an upload that are staged at once, and that may wait in staging buffers before it waits for them to arrive: they
/// lie in host memory.
const STAGED: (usize, u64) = (16 << 20, 64 << 20);

/// The same for a host's queue: whoever submits next, and that may be a frame, carries over what waits.
const STAGED_SHARED: (usize, u64) = (2 << 20, 4 << 20);

/// How long a read-back that has run is left before it is looked at again.
const LOOK: Duration = Duration::from_micros(50);

impl Gpu {
    /// A tensor with contents from the host.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] past the device's limits, [`Error::Invalid`] when `data` does not fill `shape`.
    pub fn upload<T: Element>(&self, what: &str, data: &[T], shape: &[usize]) -> Result<Tensor> {
        let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if elements != Some(data.len()) {
            return Err(Error::invalid(format!("{what}: {} values for shape {shape:?}", data.len())));
        }
        let tensor = self.empty(what, shape, T::DTYPE)?;
        self.write(&tensor, data)?;
        Ok(tensor)
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] past the device's limits.
    pub fn zeros(&self, what: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.empty(what, shape, DType::F32)?;
        if self.rehearses() {
            return Ok(tensor);
        }
        let buffer = tensor.buffer()?;
        self.inner.link.submit(|encoder| encoder.clear_buffer(buffer, 0, None));
        Ok(tensor)
    }

    /// Overwrites a tensor's contents. Takes effect before the next plan that is run.
    ///
    /// # Errors
    /// [`Error::Invalid`] when length or element type differ.
    pub fn write<T: Element>(&self, tensor: &Tensor, data: &[T]) -> Result<()> {
        if data.len() != tensor.len() {
            return Err(mismatch(tensor, data.len()));
        }
        self.write_rows(tensor, 0, data)
    }

    /// Overwrites rows of a tensor, its leading dimensions folded into rows, from row `first` on: as many as `data` fills.
    /// That is how a large matrix is brought over piece by piece, into a buffer or into a texture. Takes effect before the
    /// next plan that is run.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another element type than the tensor's, part of a row, or rows past the end.
    pub fn write_rows<T: Element>(&self, tensor: &Tensor, first: usize, data: &[T]) -> Result<()> {
        let cols = tensor.cols();
        let rows = data.len() / cols;
        let stored = match tensor.dtype() {
            DType::Texels => DType::F32,
            DType::HalfTexels => DType::F16,
            DType::ByteTexels => DType::I8,
            other => other,
        };
        let inside = first.checked_add(rows).is_some_and(|end| end <= tensor.rows());
        if stored != T::DTYPE || !data.len().is_multiple_of(cols) || !inside {
            return Err(mismatch(tensor, data.len()));
        }
        if self.rehearses() {
            return Ok(());
        }
        // Rows as they lie in memory: padded to whole words, or to whole texels.
        let width = cols.next_multiple_of(tensor.dtype().padding());
        let stride = width * size_of::<T>();
        let piece = self.staged().0;
        if stride > piece && !tensor.dtype().is_texture() && width == cols {
            // Vectors may be longer than a piece.
            return self.stage_bytes(tensor.buffer()?, (first * stride) as u64, bytemuck::cast_slice(data));
        }
        let at_once = (piece / stride).max(1);
        let mut padded = Vec::new();
        for (i, piece) in data.chunks(at_once * cols).enumerate() {
            let bytes: &[u8] = if width == cols {
                bytemuck::cast_slice(piece)
            } else {
                padded.clear();
                for row in piece.chunks(cols) {
                    padded.extend_from_slice(bytemuck::cast_slice::<T, u8>(row));
                    padded.resize(padded.len().next_multiple_of(stride), 0);
                }
                &padded
            };
            let row = first + i * at_once;
            match tensor.memory()? {
                Memory::Buffer(buffer) => self.write_bytes(buffer, (row * stride) as u64, bytes),
                Memory::Texture(texture, _) => {
                    let mut to = texture.as_image_copy();
                    to.origin.y = row as u32;
                    let layout = wgpu::TexelCopyBufferLayout {
                        offset: 0,
                        bytes_per_row: Some(stride as u32),
                        rows_per_image: None,
                    };
                    let size = wgpu::Extent3d {
                        width: (width / TEXEL_COLS) as u32,
                        height: (bytes.len() / stride) as u32,
                        depth_or_array_layers: 1,
                    };
                    self.inner.link.with(|_, queue| queue.write_texture(to, bytes, layout, size));
                }
            }
            self.note_staged(bytes.len())?;
        }
        Ok(())
    }

    /// Writes bytes to a buffer, piece by piece.
    fn stage_bytes(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        let size = self.staged().0;
        for (i, piece) in bytes.chunks(size).enumerate() {
            self.write_bytes(buffer, offset + (i * size) as u64, piece);
            self.note_staged(piece.len())?;
        }
        Ok(())
    }

    fn write_bytes(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        self.inner.link.with(|_, queue| queue.write_buffer(buffer, offset, bytes));
    }

    /// Bytes that are staged at once, and that may wait.
    fn staged(&self) -> (usize, u64) {
        if self.inner.link.is_shared() { STAGED_SHARED } else { STAGED }
    }

    /// Counts what lies in staging buffers, and has it carried over once it is too much: it would otherwise all be held
    /// a second time, until the next plan runs.
    fn note_staged(&self, bytes: usize) -> Result<()> {
        let before = self.inner.staged.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 > self.staged().1 {
            self.inner.staged.store(0, Ordering::Relaxed);
            self.inner.link.flush();
            self.wait()?;
        }
        Ok(())
    }

    /// A matrix `[rows, cols]` of texels with contents from the host, f32, f16 or i8; the last texel of each row is filled
    /// up with zeros.
    ///
    /// # Errors
    /// As [`Gpu::upload`].
    pub fn upload_texels<T: Element>(&self, what: &str, data: &[T], shape: [usize; 2]) -> Result<Tensor> {
        let dtype = match T::DTYPE {
            DType::F32 => DType::Texels,
            DType::F16 => DType::HalfTexels,
            DType::I8 => DType::ByteTexels,
            other => return Err(Error::invalid(format!("{what}: no texels of {other:?}"))),
        };
        let [rows, cols] = shape;
        if rows.checked_mul(cols) != Some(data.len()) {
            return Err(Error::invalid(format!("{what}: {} values for shape {shape:?}", data.len())));
        }
        let tensor = self.empty(what, &shape, dtype)?;
        self.write(&tensor, data)?;
        Ok(tensor)
    }

    /// A tensor's contents, which must be finite. Waits for all work submitted so far.
    ///
    /// # Errors
    /// [`Error::ResultNotFinite`], [`Error::DeviceLost`], [`Error::Gpu`], [`Error::Invalid`] when the element type differs.
    pub fn read<T: Element>(&self, tensor: &Tensor) -> Result<Vec<T>> {
        self.begin_read(tensor)?.finish()
    }

    /// Starts reading a tensor's contents as they will be when all work submitted so far is done, without waiting for it:
    /// later steps may be submitted, and may overwrite the tensor, before [`ReadBack::finish`] is called.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    pub fn begin_read<T: Element>(&self, tensor: &Tensor) -> Result<ReadBack<T>> {
        if T::DTYPE != tensor.dtype() {
            return Err(Error::invalid(format!("reading a {:?} tensor as {:?}", tensor.dtype(), T::DTYPE)));
        }
        let (rows, cols, meaning) = (tensor.rows(), tensor.cols(), tensor.meaning());
        let read =
            |pending| ReadBack { gpu: self.clone(), pending, rows, cols, meaning, element: std::marker::PhantomData };
        if self.rehearses() {
            return Ok(read(None));
        }
        let (buffer, size) = (tensor.buffer()?, tensor.bytes());
        let staging = self.inner.link.with(|device, _| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let submission = self.inner.link.submit(|encoder| encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size));
        self.check()?;
        Ok(read(Some((staging, submission))))
    }

    /// Maps a read-back buffer, which `submission` fills, and copies it out.
    pub(super) fn map(&self, staging: &wgpu::Buffer, submission: &Submission) -> Result<Vec<u8>> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.inner.link.with(|_, _| {
            staging.slice(..).map_async(wgpu::MapMode::Read, move |result| {
                let _ = sender.send(result);
            });
        });
        let start = Instant::now();
        let mapped = loop {
            self.wait_for(Some(submission))?;
            // The callback may run on another thread that polls the same device, a moment after our wait; in a page it comes
            // by itself.
            match receiver.try_recv() {
                Ok(mapped) => break mapped,
                Err(TryRecvError::Empty) if start.elapsed() < PATIENCE => wait::nap(LOOK),
                Err(_) => return Err(Error::DeviceLost("a read-back did not finish".into())),
            }
        };
        // A lost device maps nothing, and then that is what is wrong.
        let failed = |error: &dyn std::fmt::Display| {
            self.check().err().unwrap_or_else(|| Error::Gpu(format!("read-back: {error}")))
        };
        mapped.map_err(|e| failed(&e))?;
        let bytes = staging.slice(..).get_mapped_range().map_err(|e| failed(&e))?.to_vec();
        self.inner.link.with(|_, _| staging.unmap());
        Ok(bytes)
    }
}

fn mismatch(tensor: &Tensor, values: usize) -> Error {
    Error::invalid(format!("writing {values} values to a {:?} tensor of shape {:?}", tensor.dtype(), tensor.shape()))
}

/// A read that was started by [`Gpu::begin_read`].
pub struct ReadBack<T> {
    gpu: Gpu,
    /// The buffer that is filled, and the submission that fills it; none in a rehearsal.
    pending: Option<(wgpu::Buffer, Submission)>,
    rows: usize,
    cols: usize,
    meaning: Meaning,
    element: std::marker::PhantomData<T>,
}

impl<T: Element> ReadBack<T> {
    /// The contents, which must be finite: this is where whatever is computed leaves the GPU. Waits for the work submitted
    /// before the read was started, not for later work.
    ///
    /// # Errors
    /// [`Error::ResultNotFinite`], [`Error::DeviceLost`], [`Error::Gpu`].
    pub fn finish(self) -> Result<Vec<T>> {
        let (Meaning { what, cause }, cols) = (self.meaning, self.cols.max(1));
        let values = self.finish_unchecked()?;
        // The common case is one quick pass.
        if values.iter().all(|v| v.is_number()) {
            return Ok(values);
        }
        let wrong = || values.iter().enumerate().filter(|(_, v)| !v.is_number());
        let row = wrong().next().map_or(0, |(i, _)| i / cols);
        Err(Error::ResultNotFinite {
            what: what.into(),
            wrong: wrong().count(),
            of: values.len(),
            row,
            cause: cause.into(),
        })
    }

    /// As [`ReadBack::finish`], whatever the contents are: for callers that judge them, as training judges its loss.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Gpu`].
    pub fn finish_unchecked(self) -> Result<Vec<T>> {
        let Some((staging, submission)) = &self.pending else { return Ok(vec![T::zeroed(); self.rows * self.cols]) };
        let mut bytes = self.gpu.map(staging, submission)?;
        let (row, padded) = (self.cols, self.cols.next_multiple_of(T::DTYPE.padding()));
        if padded > row {
            let (row, padded) = (row * size_of::<T>(), padded * size_of::<T>());
            bytes = bytes.chunks(padded).flat_map(|r| &r[..row]).copied().collect();
        }
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}
