//! A file of rows: where they lie in it, and whether they are still what was written.
//!
//! Beside the rows stand SHA-256 digests of blocks of [`BLOCK`] of them, of their names, values and of what made them. A
//! block is read and compared before the first of its rows is used.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::RowId;
use crate::clip::Features;
use crate::files::{hex, write_atomic};
use crate::{Error, Result, input, numbers};

/// Rows that have a digest in common.
pub(super) const BLOCK: usize = 64;

/// What all files of a store have in common.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Width of a row.
    pub width: usize,
    /// Whether there are adapted rows.
    pub corrected: bool,
    /// What made the rows; part of every digest, so that rows of another model are told.
    pub seal: Vec<u8>,
}

/// What is known of a block.
const UNREAD: u8 = 0;
const SOUND: u8 = 1;
const DAMAGED: u8 = 2;

/// A file of rows.
#[derive(Debug)]
pub(super) struct Shard {
    pub path: PathBuf,
    pub rows: usize,
    layout: Layout,
    /// Bytes at which names, features and adapted features begin.
    names: u64,
    features: u64,
    adapted: Option<u64>,
    /// Each block's digest, and what is known of it.
    digests: Vec<RowId>,
    states: Vec<AtomicU8>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl Shard {
    /// Reads a file's header and the names of its rows. None for a file of an earlier version, which has no digests.
    pub fn open(path: PathBuf, layout: &Layout) -> Result<Option<(Shard, Vec<RowId>)>> {
        let damaged = |reason: &str| Error::Safetensors {
            path: path.clone(),
            reason: format!("{reason}; remove it, its pictures will be encoded again"),
        };
        let mut file = input::open(&path)?;
        let length = file.metadata().map_err(|e| Error::io(&path, e))?.len();
        let mut size = [0; 8];
        file.read_exact(&mut size).map_err(|_| damaged("it has no header"))?;
        let size = u64::from_le_bytes(size);
        if size > length.saturating_sub(8) || size > 1 << 20 {
            return Err(damaged("its header is longer than the file"));
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(|_| damaged("it is cut short"))?;
        let header: HashMap<String, serde_json::Value> =
            serde_json::from_slice(&header).map_err(|_| damaged("its header is not JSON"))?;
        let data = 8 + size;
        let find = |name: &str, dtype: &str, width: usize| -> Result<Option<(usize, u64)>> {
            let Some(entry) = header.get(name) else { return Ok(None) };
            let entry: Entry =
                serde_json::from_value(entry.clone()).map_err(|_| damaged(&format!("'{name}' is not described")))?;
            let item: u64 = if dtype == "U8" { 1 } else { 4 };
            let bytes = |rows: usize| (rows as u64).checked_mul(width as u64)?.checked_mul(item);
            match entry.shape[..] {
                [rows, found]
                    if entry.dtype == dtype
                        && found == width
                        && bytes(rows).is_some()
                        && entry.data_offsets[1].checked_sub(entry.data_offsets[0]) == bytes(rows)
                        && data.checked_add(entry.data_offsets[1]).is_some_and(|end| end <= length) =>
                {
                    Ok(Some((rows, data + entry.data_offsets[0])))
                }
                _ => Err(damaged(&format!("'{name}' is not [n, {width}] of {dtype}"))),
            }
        };
        let (rows, names) = find("digests", "U8", 32)?.ok_or_else(|| damaged("'digests' is missing"))?;
        let (n, features) = find("features", "F32", layout.width)?.ok_or_else(|| damaged("'features' is missing"))?;
        let adapted = find("adapted", "F32", layout.width)?;
        if n != rows || adapted.is_some_and(|(n, _)| n != rows) || adapted.is_some() != layout.corrected {
            return Err(damaged("its tensors do not belong together"));
        }
        let Some((blocks, at)) = find("blocks", "U8", 32)? else { return Ok(None) };
        if blocks != rows.div_ceil(BLOCK) {
            return Err(damaged("'blocks' does not have a digest for every block of rows"));
        }
        let mut read = |at: u64, count: usize| -> Result<Vec<RowId>> {
            let mut bytes = vec![0; 32 * count];
            read_at(&mut file, at, &mut bytes).map_err(|e| Error::io(&path, e))?;
            Ok(bytes.as_chunks().0.to_vec())
        };
        let (digests, ids) = (read(at, blocks)?, read(names, rows)?);
        let states = digests.iter().map(|_| AtomicU8::new(UNREAD)).collect();
        let adapted = adapted.map(|(_, at)| at);
        Ok(Some((Shard { path, rows, layout: layout.clone(), names, features, adapted, digests, states }, ids)))
    }

    /// Writes rows to a file in `folder` that is named after them, so that two programs never write different ones to one
    /// file.
    pub fn write(folder: &Path, layout: &Layout, ids: &[RowId], features: &Features) -> Result<PathBuf> {
        let names: Vec<u8> = ids.concat();
        let path = folder.join(format!("{}.safetensors", &hex(&Sha256::digest(&names))[..16]));
        let bad = |e: safetensors::SafeTensorError| Error::data(&path, format!("features cannot be written: {e}"));
        let values: Vec<&[u8]> = [Some(&features.original), features.adapted.as_ref()]
            .into_iter()
            .flatten()
            .map(|values| bytemuck::cast_slice(values))
            .collect();
        let row = 4 * layout.width;
        let blocks: Vec<u8> = (0..ids.len())
            .step_by(BLOCK)
            .flat_map(|first| {
                let end = (first + BLOCK).min(ids.len());
                let values = values.iter().map(|all| &all[first * row..end * row]);
                digest(layout, &names[32 * first..32 * end], values)
            })
            .collect();
        let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).map_err(bad);
        let mut tensors = vec![
            ("digests", view(Dtype::U8, vec![ids.len(), 32], &names)?),
            ("blocks", view(Dtype::U8, vec![blocks.len() / 32, 32], &blocks)?),
        ];
        for (name, bytes) in ["features", "adapted"].into_iter().zip(values) {
            tensors.push((name, view(Dtype::F32, vec![ids.len(), layout.width], bytes)?));
        }
        write_atomic(&path, &safetensors::serialize(tensors, None).map_err(bad)?)?;
        Ok(path)
    }

    /// Whether a row's block is what was written.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read.
    pub fn is_sound(&self, row: usize) -> Result<bool> {
        let block = row / BLOCK;
        match self.states[block].load(Ordering::Relaxed) {
            UNREAD => {
                let sound = self.compare(block)?;
                self.states[block].store(if sound { SOUND } else { DAMAGED }, Ordering::Relaxed);
                Ok(sound)
            }
            state => Ok(state == SOUND),
        }
    }

    fn compare(&self, block: usize) -> Result<bool> {
        let first = block * BLOCK;
        let count = BLOCK.min(self.rows - first);
        let mut file = input::open(&self.path)?;
        let mut read = |start: u64, width: usize| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; count * width];
            read_at(&mut file, start + (first * width) as u64, &mut bytes)?;
            Ok(bytes)
        };
        let row = 4 * self.layout.width;
        let read: io::Result<_> = (|| {
            let names = read(self.names, 32)?;
            let features = read(self.features, row)?;
            Ok((names, features, self.adapted.map(|at| read(at, row)).transpose()?))
        })();
        match read {
            Ok((names, features, adapted)) => {
                let values = [Some(&features[..]), adapted.as_deref()].into_iter().flatten();
                Ok(digest(&self.layout, &names, values) == self.digests[block])
            }
            // Cut short since its header was read.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(Error::io(&self.path, error)),
        }
    }

    /// Whether a block is known to be damaged.
    pub fn is_damaged(&self) -> bool {
        self.states.iter().any(|state| state.load(Ordering::Relaxed) == DAMAGED)
    }

    /// The rows of a row's block, in words.
    pub fn block(&self, row: usize) -> String {
        let first = row / BLOCK * BLOCK;
        format!("rows {first} to {}", (first + BLOCK).min(self.rows) - 1)
    }

    /// Reads rows, each with its place in `out`; those that follow each other at once.
    pub fn read(&self, rows: &[(usize, usize)], out: &mut Features) -> Result<()> {
        let d = self.layout.width;
        let mut file = input::open(&self.path)?;
        let parts = [
            ("features", Some(self.features), Some(&mut out.original)),
            ("adapted", self.adapted, out.adapted.as_mut()),
        ];
        for (name, start, out) in parts {
            let (Some(start), Some(out)) = (start, out) else { continue };
            for run in rows.chunk_by(|a, b| b.0 == a.0 + 1) {
                let mut bytes = vec![0; run.len() * d * 4];
                let from = start + (run[0].0 * d * 4) as u64;
                read_at(&mut file, from, &mut bytes).map_err(|e| Error::io(&self.path, e))?;
                for (row, (place, at)) in bytes.chunks_exact(4 * d).zip(run) {
                    let target = &mut out[at * d..(at + 1) * d];
                    bytemuck::cast_slice_mut::<f32, u8>(target).copy_from_slice(row);
                    numbers::check_tensor(&self.path, name, target, place * d, d)?;
                }
            }
        }
        Ok(())
    }
}

fn read_at(file: &mut File, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

/// The digest of a block of rows.
fn digest<'b>(layout: &Layout, names: &[u8], values: impl Iterator<Item = &'b [u8]>) -> RowId {
    let mut hasher = Sha256::new();
    hasher.update(&layout.seal);
    hasher.update(names);
    values.for_each(|values| hasher.update(values));
    hasher.finalize().into()
}
