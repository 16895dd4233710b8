//! A file of tensors, whatever its format: it stays on disk and open, and tensors are read from their places when they are
//! asked for, a piece at a time.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use half::{bf16, f16};
use safetensors::Dtype;

use super::{legacy, safetensors as header, torch};
use crate::input::{self, Stored};
use crate::{Error, Result, numbers};

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
/// The most bytes that are looked at together of a tensor whose values do not lie one after the other.
const WINDOW: u64 = 16 << 20;

/// Why a file's tensors cannot be told.
pub(super) enum Unread {
    Io(io::Error),
    Bad(String),
}

/// Where a tensor lies and what it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Info {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Where its first value is in the file.
    pub start: u64,
    /// Bytes from there to the end of its last value.
    pub bytes: u64,
    /// Values from one index to the next along each dimension; none where they lie one after the other in the order of the
    /// indices.
    pub strides: Option<Vec<usize>>,
}

/// A file's tensors by their names.
#[derive(Default)]
pub(super) struct Tensors(BTreeMap<String, Info>);

impl Tensors {
    pub fn info(&self, name: &str) -> Option<&Info> {
        self.0.get(name)
    }

    pub fn tensors(&self) -> BTreeMap<String, &Info> {
        self.0.iter().map(|(name, info)| (name.clone(), info)).collect()
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Takes `prefix` off all names.
    pub fn strip(&mut self, prefix: &str) {
        let all = std::mem::take(&mut self.0).into_iter();
        self.0 = all.map(|(name, info)| (name.strip_prefix(prefix).map(String::from).unwrap_or(name), info)).collect();
    }
}

impl FromIterator<(String, Info)> for Tensors {
    fn from_iter<T: IntoIterator<Item = (String, Info)>>(all: T) -> Tensors {
        Tensors(all.into_iter().collect())
    }
}

/// The format of a file of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Safetensors,
    Torch,
}

/// A file of tensors.
pub(super) struct Shard {
    pub path: PathBuf,
    format: Format,
    file: Stored,
    /// Size and time of change when it was opened.
    pub stamp: Stamp,
    pub metadata: Tensors,
}

/// What shows that a file was written to.
#[derive(PartialEq)]
pub(super) struct Stamp {
    pub size: u64,
    changed: Option<SystemTime>,
}

impl Stamp {
    fn of(file: &Stored) -> io::Result<Stamp> {
        Ok(Stamp { size: file.size()?, changed: file.changed()? })
    }
}

impl Shard {
    /// Opens a file; what it is, it says itself. Only what tells the tensors' places is read.
    pub fn open(path: &Path) -> Result<Shard> {
        let io = |e| Error::io(path, e);
        let file = input::open_stored(path)?;
        let stamp = Stamp::of(&file).map_err(io)?;
        let mut head = vec![0; stamp.size.min(16) as usize];
        file.read_exact_at(&mut head, 0).map_err(io)?;
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let (format, metadata) = if header::begins(&head) {
            (Format::Safetensors, header::read(&file, stamp.size))
        } else if torch::begins(&head) {
            (Format::Torch, torch::read(&file, stamp.size))
        } else if legacy::begins(&head) {
            (Format::Torch, legacy::read(&file, stamp.size))
        } else if ["pt", "pth", "bin", "ckpt"].iter().any(|known| ending.eq_ignore_ascii_case(known)) {
            (Format::Torch, Err(Unread::Bad(torch::unknown(&head))))
        } else {
            (Format::Safetensors, header::read(&file, stamp.size))
        };
        let metadata = metadata.map_err(|unread| match unread {
            Unread::Io(error) => io(error),
            Unread::Bad(reason) => bad(path, format, reason),
        })?;
        Ok(Shard { path: path.to_path_buf(), format, file, stamp, metadata })
    }

    /// Reads bytes from a place in the file, a piece at a time.
    ///
    /// # Errors
    /// [`Error::Safetensors`] or [`Error::Torch`] when the file was written to or cut short since it was opened;
    /// [`Error::Io`].
    pub fn read(&self, start: u64, bytes: usize, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut piece = vec![0; bytes.min(PIECE)];
        let mut at = 0;
        while at < bytes {
            let part = &mut piece[..(bytes - at).min(PIECE)];
            match self.file.read_exact_at(part, start + at as u64) {
                Ok(()) => take(part),
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(self.rewritten()),
                Err(e) => return Err(Error::io(&self.path, e)),
            }
            at += part.len();
        }
        // After the bytes: what was read before the file changed is as it was.
        let stamp = Stamp::of(&self.file).map_err(|e| Error::io(&self.path, e))?;
        if stamp == self.stamp { Ok(()) } else { Err(self.rewritten()) }
    }

    fn rewritten(&self) -> Error {
        self.bad("the file was changed while the model is in use; load it again once it is whole".into())
    }

    /// An error about the file.
    pub fn bad(&self, reason: String) -> Error {
        bad(&self.path, self.format, reason)
    }
}

fn bad(path: &Path, format: Format, reason: String) -> Error {
    let path = path.to_path_buf();
    match format {
        Format::Safetensors => Error::Safetensors { path, reason },
        Format::Torch => Error::Torch { path, reason },
    }
}

/// A tensor of floats in its file.
pub(super) struct Place<'a> {
    pub name: &'a str,
    pub shard: &'a Shard,
    pub info: &'a Info,
}

impl Place<'_> {
    /// Values of one index along the first dimension.
    pub fn stride(&self) -> usize {
        self.info.shape.iter().skip(1).product()
    }

    /// Values in all.
    fn count(&self) -> usize {
        self.info.shape.iter().product()
    }

    /// All values, as f32; all of them are finite.
    pub fn all(&self) -> Result<Vec<f32>> {
        if self.info.shape.is_empty() { self.widened(0..1) } else { self.rows(0..self.info.shape[0]) }
    }

    /// The values of these indices along the first dimension, as f32.
    pub fn rows(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let stride = self.stride();
        match &self.info.strides {
            None => self.widened(rows.start * stride..rows.end * stride),
            Some(strides) => {
                let mut axes = vec![Axis { count: rows.len(), step: strides[0] as u64, out: stride }];
                let mut out = stride;
                for (count, step) in self.info.shape.iter().zip(strides).skip(1) {
                    out /= (*count).max(1);
                    axes.push(Axis { count: *count, step: *step as u64, out });
                }
                // From one window to the next in the order of the file.
                axes.sort_by_key(|axis| std::cmp::Reverse(axis.step));
                let mut values = vec![0.0; rows.len() * stride];
                if !values.is_empty() {
                    self.gather(&axes, rows.start as u64 * strides[0] as u64, 0, &mut values)?;
                }
                self.finite(&values, rows.start * stride)?;
                Ok(values)
            }
        }
    }

    /// So many values of a tensor whose values lie one after the other.
    fn widened(&self, range: Range<usize>) -> Result<Vec<f32>> {
        debug_assert!(range.end <= self.count());
        let size = size(self.info.dtype);
        let mut values = Vec::with_capacity(range.len());
        // Pieces end between values: their length is a multiple of every float's.
        let start = self.info.start + (range.start * size) as u64;
        self.shard.read(start, range.len() * size, &mut |piece| widen(piece, self.info.dtype, &mut values))?;
        self.finite(&values, range.start)?;
        Ok(values)
    }

    fn finite(&self, values: &[f32], first: usize) -> Result<()> {
        let width = self.info.shape.last().copied().unwrap_or(1);
        numbers::check_tensor(&self.shard.path, self.name, values, first, width)
    }

    /// Puts the values along `axes`, the first of which is `from` values behind the tensor's own first, at their places in
    /// `values`, from `out` on. As much is read at once as a window takes.
    fn gather(&self, axes: &[Axis], from: u64, out: usize, values: &mut [f32]) -> Result<()> {
        let size = size(self.info.dtype) as u64;
        let span = |axes: &[Axis]| axes.iter().map(|a| (a.count as u64 - 1) * a.step).sum::<u64>() + 1;
        let most = WINDOW / size;
        if span(axes) <= most {
            let mut window = Vec::with_capacity(span(axes) as usize);
            let (start, bytes) = (self.info.start + from * size, span(axes) * size);
            self.shard.read(start, bytes as usize, &mut |piece| widen(piece, self.info.dtype, &mut window))?;
            scatter(axes, &window, out, values);
            return Ok(());
        }
        let Some((axis, inner)) = axes.split_first() else { return Ok(()) };
        // As many of the outermost indices at a time as fit.
        let together = match most.checked_sub(span(inner)) {
            Some(room) => (room / axis.step.max(1) + 1).min(axis.count as u64) as usize,
            None => 1,
        };
        for first in (0..axis.count).step_by(together) {
            let count = together.min(axis.count - first);
            let (from, out) = (from + first as u64 * axis.step, out + first * axis.out);
            if count == 1 {
                self.gather(inner, from, out, values)?;
            } else {
                let part: Vec<Axis> = std::iter::once(Axis { count, ..*axis }).chain(inner.iter().copied()).collect();
                self.gather(&part, from, out, values)?;
            }
        }
        Ok(())
    }
}

/// A dimension of a tensor whose values do not lie one after the other.
#[derive(Clone, Copy)]
struct Axis {
    count: usize,
    /// Values from one index to the next in the file.
    step: u64,
    /// The same in the result.
    out: usize,
}

/// Moves the values along `axes` from the start of `window` to their places from `out` on.
fn scatter(axes: &[Axis], window: &[f32], out: usize, values: &mut [f32]) {
    match axes.split_first() {
        None => values[out] = window[0],
        Some((axis, inner)) => {
            for index in 0..axis.count {
                scatter(inner, &window[index * axis.step as usize..], out + index * axis.out, values);
            }
        }
    }
}

/// Whether the values are floats of a kind that is read.
pub(super) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Bytes of a float.
fn size(dtype: Dtype) -> usize {
    if dtype == Dtype::F32 { 4 } else { 2 }
}

fn widen(bytes: &[u8], dtype: Dtype, values: &mut Vec<f32>) {
    match dtype {
        Dtype::F16 => values.extend(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())),
        Dtype::BF16 => values.extend(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
        _ => values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Axis, Dtype, scatter, widen};
    use half::{bf16, f16};

    #[test]
    fn all_float_types_widen_to_their_values() {
        let values = [0.0f32, -1.5, 0.15625, 240.0];
        let widen = |bytes: &[u8], dtype| {
            let mut out = Vec::new();
            widen(bytes, dtype, &mut out);
            out
        };
        let bytes: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(widen(&bytes, Dtype::F16), values);
        let bytes: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(widen(&bytes, Dtype::BF16), values);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(widen(&bytes, Dtype::F32), values);
    }

    #[test]
    fn a_transposed_matrix_comes_out_in_the_order_of_its_indices() {
        // Three rows of two, stored column by column.
        let axes = [Axis { count: 2, step: 3, out: 1 }, Axis { count: 3, step: 1, out: 2 }];
        let mut values = vec![0.0; 6];
        scatter(&axes, &[1., 2., 3., 4., 5., 6.], 0, &mut values);
        assert_eq!(values, [1., 4., 2., 5., 3., 6.]);
    }
}
