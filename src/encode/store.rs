//! Features on disk: each picture is encoded once, whatever is done with it later.
//!
//! A row belongs to the contents of a picture (SHA-256 of its file) and the view of it; a folder of rows to what made them: the
//! model, the correction, how pictures are prepared, and the precision. So a picture may be renamed, be part of several
//! sets and splits, or be replaced by another, and the right features are found.
//!
//! Rows lie in safetensors files of up to [`SHARD`] rows: `digests` u8 `[n, 32]`, `features` f32 `[n, D]` and, with a
//! correction, `adapted` f32 `[n, D]`, un-normalised. They are written as work goes on, every few seconds, so that little is
//! lost when it ends early, and memory does not grow with the number of pictures. Small files are merged later.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{STEPS, Views, ahead, random_view};
use crate::clip::{Clip, Features, ImageEncoder};
use crate::data::{Augment, Item, decode_from, read_picture};
use crate::files::{hex, write_atomic};
use crate::{Error, Result, input, numbers};

/// Rows of a full file.
pub const SHARD: usize = 4096;
/// Rows are written at least this often.
const FLUSH: Duration = Duration::from_secs(5);
/// Files with fewer rows than this are merged once there are [`MERGE`] of them.
const SMALL: usize = SHARD / 2;
const MERGE: usize = 16;
const FORMAT: &str = "tipi-features/1";

/// What makes features: rows are shared only where all of it is equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// SHA-256 of the model.
    pub model: String,
    /// SHA-256 of the overlap correction, where the corrected tower runs too.
    pub correction: Option<String>,
    /// How pictures are prepared.
    pub preprocess: String,
    /// How the model's matrices are stored.
    pub precision: String,
}

impl Key {
    /// The key of a model in a precision, with a correction's digest where there is one.
    pub fn new(clip: &Clip, precision: &str, correction: Option<String>) -> Key {
        let preprocess = clip.preprocess.describe();
        Key { model: clip.id().sha256.clone(), correction, preprocess, precision: precision.into() }
    }

    fn folder(&self) -> Result<String> {
        let json = serde_json::to_vec(self).map_err(|e| Error::invalid(format!("features' key: {e}")))?;
        Ok(hex(&Sha256::digest(json))[..16].to_string())
    }
}

/// Name of a row: SHA-256 of a picture's contents, or of those and a random view's description.
pub type RowId = [u8; 32];

/// The row of a picture's view.
fn row_id(contents: &RowId, view: Option<(&Augment, u64, usize)>) -> RowId {
    let Some((augment, seed, number)) = view else { return *contents };
    let mut hasher = Sha256::new();
    hasher.update(contents);
    for bound in [augment.scale.0, augment.scale.1, augment.ratio.0, augment.ratio.1, augment.flip] {
        hasher.update(bound.to_le_bytes());
    }
    hasher.update(seed.to_le_bytes());
    hasher.update((number as u64).to_le_bytes());
    hasher.finalize().into()
}

/// The rows of one picture's views.
fn row_ids(contents: &RowId, views: &Views) -> Vec<RowId> {
    match views {
        Views::Center => vec![row_id(contents, None)],
        Views::Random { augment, count, first, seed } => {
            (*first..first + count).map(|view| row_id(contents, Some((augment, *seed, view)))).collect()
        }
    }
}

/// Where rows are: file and place in it.
type Place = (u32, u32);

/// A file of rows.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    rows: usize,
    /// Byte at which features begin, and adapted ones.
    features: u64,
    adapted: Option<u64>,
}

/// Where filling is, for progress bars.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Pictures looked at.
    pub pictures: usize,
    /// Views that had to be encoded.
    pub encoded: usize,
}

/// What [`Store::fill`] found.
#[derive(Debug, Default)]
pub struct Filled {
    /// The rows of each picture's views, in the order asked for; none for a picture that cannot be decoded.
    pub rows: Vec<Option<Vec<RowId>>>,
    /// Why pictures could not be decoded.
    pub skipped: Vec<Error>,
    /// Views encoded; all others were there.
    pub encoded: usize,
}

/// Features on disk.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    key: Key,
    width: usize,
    shards: Vec<Shard>,
    index: RwLock<HashMap<RowId, Place>>,
    pending: Pending,
    flushed: Instant,
}

/// Rows on their way to a file.
#[derive(Debug, Default)]
struct Pending {
    ids: Vec<RowId>,
    features: Features,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl Store {
    /// Opens or begins the store below `folder` for `key`, of features `width` wide.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Safetensors`] for a damaged file, which may simply be removed.
    pub fn open(folder: &Path, key: &Key, width: usize) -> Result<Store> {
        let folder = folder.join(key.folder()?);
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        let about = serde_json::to_string_pretty(&(FORMAT, key)).map_err(|e| Error::invalid(e.to_string()))?;
        let note = folder.join("key.json");
        if !note.is_file() {
            write_atomic(&note, about.as_bytes())?;
        }
        let mut store = Store {
            folder,
            key: key.clone(),
            width,
            shards: Vec::new(),
            index: RwLock::default(),
            pending: Pending::default(),
            flushed: Instant::now(),
        };
        let entries = std::fs::read_dir(&store.folder).map_err(|e| Error::io(&store.folder, e))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
        paths.sort();
        for path in paths {
            store.take_in(path)?;
        }
        store.merge()?;
        Ok(store)
    }

    /// Rows on disk.
    pub fn len(&self) -> usize {
        self.index.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The folder of the rows.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads a file's header and the names of its rows.
    fn take_in(&mut self, path: PathBuf) -> Result<()> {
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
            let item = if dtype == "U8" { 1 } else { 4 };
            match entry.shape[..] {
                [rows, found]
                    if entry.dtype == dtype
                        && found == width
                        && entry.data_offsets[1].checked_sub(entry.data_offsets[0])
                            == Some((rows * width * item) as u64)
                        && data + entry.data_offsets[1] <= length =>
                {
                    Ok(Some((rows, data + entry.data_offsets[0])))
                }
                _ => Err(damaged(&format!("'{name}' is not [n, {width}] of {dtype}"))),
            }
        };
        let (rows, at) = find("digests", "U8", 32)?.ok_or_else(|| damaged("'digests' is missing"))?;
        let (n, features) = find("features", "F32", self.width)?.ok_or_else(|| damaged("'features' is missing"))?;
        let adapted = find("adapted", "F32", self.width)?;
        if n != rows || adapted.is_some_and(|(n, _)| n != rows) || adapted.is_some() != self.key.correction.is_some() {
            return Err(damaged("its tensors do not belong together"));
        }
        let mut ids = vec![0; 32 * rows];
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut ids)).map_err(|e| Error::io(&path, e))?;
        let number = self.shards.len() as u32;
        let index = self.index.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (row, id) in ids.chunks_exact(32).enumerate() {
            let mut name = [0; 32];
            name.copy_from_slice(id);
            index.insert(name, (number, row as u32));
        }
        self.shards.push(Shard { path, rows, features, adapted: adapted.map(|(_, at)| at) });
        Ok(())
    }

    /// Un-normalised features `[rows, D]`, adapted ones too where the store has a correction.
    ///
    /// # Errors
    /// Rows that are not there; [`Error::Io`]; [`Error::NotFinite`] for damaged ones.
    pub fn rows(&self, ids: &[RowId]) -> Result<Features> {
        let d = self.width;
        let mut places = Vec::with_capacity(ids.len());
        {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            for (at, id) in ids.iter().enumerate() {
                let place = index.get(id).ok_or_else(|| {
                    Error::data(&self.folder, format!("features of picture {} are not there", &hex(id)[..16]))
                })?;
                places.push((*place, at));
            }
        }
        // File by file and forwards in each.
        places.sort_unstable();
        let mut features = Features { original: vec![0.0; ids.len() * d], adapted: None };
        if self.key.correction.is_some() {
            features.adapted = Some(vec![0.0; ids.len() * d]);
        }
        for run in places.chunk_by(|a, b| a.0.0 == b.0.0) {
            let shard = &self.shards[run[0].0.0 as usize];
            let mut file = input::open(&shard.path)?;
            let parts =
                [(Some(shard.features), Some(&mut features.original)), (shard.adapted, features.adapted.as_mut())];
            for (start, out) in parts {
                let (Some(start), Some(out)) = (start, out) else { continue };
                // Rows that follow each other are read at once.
                let name = if start == shard.features { "features" } else { "adapted" };
                for rows in run.chunk_by(|a, b| b.0.1 == a.0.1 + 1) {
                    let mut bytes = vec![0; rows.len() * d * 4];
                    let from = start + u64::from(rows[0].0.1) * d as u64 * 4;
                    file.seek(SeekFrom::Start(from))
                        .and_then(|_| file.read_exact(&mut bytes))
                        .map_err(|e| Error::io(&shard.path, e))?;
                    for (row, (place, at)) in bytes.chunks_exact(4 * d).zip(rows) {
                        let target = &mut out[at * d..(at + 1) * d];
                        bytemuck::cast_slice_mut::<f32, u8>(target).copy_from_slice(row);
                        numbers::check_tensor(&shard.path, name, target, place.1 as usize * d, d)?;
                    }
                }
            }
        }
        Ok(features)
    }

    /// Sees to it that the views of all `items` are there, encoding those that are not. Random views depend on nothing but
    /// the picture's contents, the seed and the view's number. `progress` is called after each step and may stop the
    /// work by an error; what is encoded by then is kept.
    ///
    /// # Errors
    /// With `strict`, the first picture that cannot be decoded; a lost device; [`Error::Io`]; what `progress` gives.
    pub fn fill(
        &mut self,
        encoder: &mut ImageEncoder<'_>,
        items: &[&Item],
        views: &Views,
        strict: bool,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Filled> {
        let clip = encoder.clip();
        super::foresee(clip, 1, views)?;
        let mut filled = Filled { rows: Vec::with_capacity(items.len()), ..Filled::default() };
        let at_once = (STEPS * encoder.batch() / views.count().max(1)).max(1);
        // Pictures are read while the tower runs, against the rows known then; a row may so be made twice, never missed.
        let known = std::mem::take(&mut self.index);
        let result = {
            let chunks = items
                .chunks(at_once)
                .map(|chunk| chunk.par_iter().map(|item| look_up(clip, item, views, &known)).collect::<Vec<_>>());
            let mut encode = |chunk: Vec<Result<Found>>| {
                let mut pixels = Vec::new();
                let mut new = Vec::new();
                for found in chunk {
                    match found {
                        Ok(Found { ids, missing }) => {
                            for (id, values) in missing {
                                pixels.extend(values);
                                new.push(id);
                            }
                            filled.rows.push(Some(ids));
                        }
                        Err(error) if strict => return Err(error),
                        Err(error) => {
                            filled.skipped.push(error);
                            filled.rows.push(None);
                        }
                    }
                }
                if !new.is_empty() {
                    self.pending.features.extend(encoder.encode_all(&pixels, &mut |_| {})?);
                    self.pending.ids.extend(&new);
                    filled.encoded += new.len();
                    if self.pending.ids.len() >= SHARD || self.flushed.elapsed() >= FLUSH {
                        self.flush(&known)?;
                    }
                }
                progress(Progress { pictures: filled.rows.len(), encoded: filled.encoded })
            };
            ahead(chunks, &mut encode)
        };
        let flushed = self.flush(&known);
        self.index = known;
        result.and(flushed)?;
        self.merge()?;
        Ok(filled)
    }

    /// Writes what is pending.
    fn flush(&mut self, known: &RwLock<HashMap<RowId, Place>>) -> Result<()> {
        self.flushed = Instant::now();
        let Pending { ids, features } = std::mem::take(&mut self.pending);
        if ids.is_empty() {
            return Ok(());
        }
        let shard = self.write(&ids, &features)?;
        let number = self.shards.len() as u32;
        let mut index = known.write().unwrap_or_else(PoisonError::into_inner);
        for (row, id) in ids.iter().enumerate() {
            index.insert(*id, (number, row as u32));
        }
        self.shards.push(shard);
        Ok(())
    }

    /// Writes rows to a file that is named after them, so that two programs never write different ones to one file.
    fn write(&self, ids: &[RowId], features: &Features) -> Result<Shard> {
        let digests: Vec<u8> = ids.concat();
        let path = self.folder.join(format!("{}.safetensors", &hex(&Sha256::digest(&digests))[..16]));
        let bad = |e: safetensors::SafeTensorError| Error::data(&path, format!("features cannot be written: {e}"));
        let shape = vec![ids.len(), self.width];
        let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).map_err(bad);
        let mut tensors = vec![
            ("digests", view(Dtype::U8, vec![ids.len(), 32], &digests)?),
            ("features", view(Dtype::F32, shape.clone(), bytemuck::cast_slice(&features.original))?),
        ];
        if let Some(adapted) = &features.adapted {
            tensors.push(("adapted", view(Dtype::F32, shape, bytemuck::cast_slice(adapted))?));
        }
        let bytes = safetensors::serialize(tensors, None).map_err(bad)?;
        write_atomic(&path, &bytes)?;
        // Where the tensors lie is read back, by the code that will read them the next time.
        let mut probe = Store {
            folder: self.folder.clone(),
            key: self.key.clone(),
            width: self.width,
            shards: Vec::new(),
            index: RwLock::default(),
            pending: Pending::default(),
            flushed: self.flushed,
        };
        probe.take_in(path)?;
        probe.shards.pop().ok_or_else(|| Error::invalid("features: nothing was written"))
    }

    /// Merges small files once there are many.
    fn merge(&mut self) -> Result<()> {
        let small: Vec<usize> = (0..self.shards.len()).filter(|i| self.shards[*i].rows < SMALL).collect();
        if small.len() < MERGE {
            return Ok(());
        }
        let mut rows: Vec<(Place, RowId)> = {
            let index = self.index.get_mut().unwrap_or_else(PoisonError::into_inner);
            let of_small = |place: &Place| small.binary_search(&(place.0 as usize)).is_ok();
            index.iter().filter(|(_, place)| of_small(place)).map(|(id, place)| (*place, *id)).collect()
        };
        rows.sort_unstable();
        let mut written = Vec::new();
        for part in rows.chunks(SHARD) {
            let ids: Vec<RowId> = part.iter().map(|(_, id)| *id).collect();
            written.push(self.write(&ids, &self.rows(&ids)?)?.path);
        }
        // The merged rows are on disk; only now the old files go. Ended in between, rows are there twice, which is harmless.
        let mut keep: Vec<PathBuf> = Vec::new();
        for (i, shard) in self.shards.drain(..).enumerate() {
            if small.binary_search(&i).is_err() || written.contains(&shard.path) {
                keep.push(shard.path);
            } else {
                std::fs::remove_file(&shard.path).map_err(|e| Error::io(&shard.path, e))?;
            }
        }
        self.index = RwLock::default();
        keep.extend(written);
        keep.sort();
        keep.dedup();
        keep.into_iter().try_for_each(|path| self.take_in(path))
    }
}

/// A picture's rows, and the pixels of those that have to be encoded.
struct Found {
    ids: Vec<RowId>,
    missing: Vec<(RowId, Vec<f32>)>,
}

fn look_up(clip: &Clip, item: &Item, views: &Views, known: &RwLock<HashMap<RowId, Place>>) -> Result<Found> {
    let bytes = read_picture(&item.path)?;
    let contents: RowId = Sha256::digest(&bytes).into();
    let ids = row_ids(&contents, views);
    let missing: Vec<usize> = {
        let known = known.read().unwrap_or_else(PoisonError::into_inner);
        (0..ids.len()).filter(|i| !known.contains_key(&ids[*i])).collect()
    };
    if missing.is_empty() {
        return Ok(Found { ids, missing: Vec::new() });
    }
    let picture = decode_from(&item.path, &bytes)?;
    let missing = missing.into_iter().map(|i| {
        let view = match views {
            Views::Center => clip.preprocess.prepare(&picture),
            Views::Random { augment, .. } => {
                let mut seed = [0; 8];
                seed.copy_from_slice(&ids[i][..8]);
                random_view(&picture, &clip.preprocess, augment, u64::from_le_bytes(seed))
            }
        };
        (ids[i], clip.view_pixels(&view))
    });
    let missing = missing.collect();
    Ok(Found { ids, missing })
}
