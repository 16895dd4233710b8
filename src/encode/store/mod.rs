//! Features on disk: each picture is encoded once, whatever is done with it later.
//!
//! A row belongs to the contents of a picture (SHA-256 of its file, and of grey of 16 bits what becomes of it) and the view of it; a folder of rows to what made them: the
//! model, the correction, how pictures are prepared, and the precision. So a picture may be renamed, be part of several
//! sets and splits, or be replaced by another, and the right features are found.
//!
//! Rows lie in safetensors files of up to [`SHARD`] rows: `digests` u8 `[n, 32]`, `features` f32 `[n, D]` and, with a
//! correction, `adapted` f32 `[n, D]`, un-normalised; `blocks` u8 `[n/64, 32]` are digests of 64 rows each. Rows whose block
//! is no longer what was written are not used: their pictures are encoded again. Rows are written as work goes on, every few
//! seconds, so that little is lost when it ends early, and memory does not grow with the number of pictures. Small files
//! are merged later.

mod shard;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::shard::{Layout, Shard};
pub use super::views::RowId;
use super::{Views, at_once, decoding_ahead};
use crate::clip::{Clip, Features, ImageEncoder};
use crate::data::decode::PictureFile;
use crate::data::walk::{self, mark_results, unmark_results};
use crate::data::{Item, Rgb};
use crate::files::{hex, is_part, sweep, write_atomic};
use crate::platform::Instant;
use crate::{Error, Result};

/// Rows of a full file.
pub const SHARD: usize = 4096;
/// Rows are written at least this often.
const FLUSH: Duration = Duration::from_secs(5);
/// Files with fewer rows than this are merged once there are [`MERGE`] of them.
const SMALL: usize = SHARD / 2;
const MERGE: usize = 16;
const FORMAT: &str = "tipi-features/2";

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
    /// What features are where they are not the model's own; left out of the digest otherwise, as before there were others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

impl Key {
    /// The key of a model in a precision, with a correction's digest where there is one.
    ///
    /// # Errors
    /// As [`Clip::id`].
    pub fn new(clip: &Clip, precision: &str, correction: Option<String>) -> Result<Key> {
        let preprocess = clip.preprocess.describe();
        Ok(Key { model: clip.id()?.sha256.clone(), correction, preprocess, precision: precision.into(), of: None })
    }

    /// The key of features before the image tower's projection.
    #[must_use]
    pub fn unprojected(self) -> Key {
        Key { of: Some("unprojected".into()), ..self }
    }

    fn folder(&self) -> Result<String> {
        let json = serde_json::to_vec(self).map_err(|e| Error::invalid(format!("features' key: {e}")))?;
        Ok(hex(&Sha256::digest(json))[..16].to_string())
    }
}

/// Where rows are: file and place in it.
type Place = (u32, u32);

/// What lies on the disk.
#[derive(Debug, Default)]
struct Known {
    index: HashMap<RowId, Place>,
    shards: Vec<Arc<Shard>>,
}

impl Known {
    fn add(&mut self, shard: Shard, ids: &[RowId]) {
        let number = self.shards.len() as u32;
        self.index.extend(ids.iter().enumerate().map(|(row, id)| (*id, (number, row as u32))));
        self.shards.push(Arc::new(shard));
    }

    fn place(&self, id: &RowId) -> Option<(Arc<Shard>, usize)> {
        let (shard, row) = self.index.get(id)?;
        Some((self.shards[*shard as usize].clone(), *row as usize))
    }
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
    /// What was found damaged on the disk, or of an earlier version, and is encoded again where it is wanted.
    pub notes: Vec<String>,
}

/// Features on disk.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    layout: Layout,
    known: RwLock<Known>,
    /// Files of an earlier version, until somebody has been told.
    former: Vec<PathBuf>,
    pending: Pending,
    flushed: Instant,
}

/// Rows on their way to a file.
#[derive(Debug, Default)]
struct Pending {
    ids: Vec<RowId>,
    features: Features,
}

impl Store {
    /// Opens or begins the store below `folder` for `key`, of features `width` wide.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Safetensors`] for a damaged file, which may simply be removed.
    pub fn open(folder: &Path, key: &Key, width: usize) -> Result<Store> {
        mark_results(folder)?;
        let folder = folder.join(key.folder()?);
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        let about = serde_json::to_string_pretty(&(FORMAT, key)).map_err(|e| Error::invalid(e.to_string()))?;
        sweep(&folder);
        let note = folder.join("key.json");
        if !note.is_file() {
            write_atomic(&note, about.as_bytes())?;
        }
        let seal = serde_json::to_vec(key).map_err(|e| Error::invalid(format!("features' key: {e}")))?;
        let mut store = Store {
            folder,
            layout: Layout { width, corrected: key.correction.is_some(), seal },
            known: RwLock::default(),
            former: Vec::new(),
            pending: Pending::default(),
            flushed: Instant::now(),
        };
        let entries = walk::entries(&store.folder).map_err(|e| Error::io(&store.folder, e))?;
        let paths = entries.into_iter().map(|entry| entry.path);
        for path in paths.filter(|path| path.extension().is_some_and(|e| e == "safetensors")) {
            store.take_in(path)?;
        }
        store.merge()?;
        Ok(store)
    }

    /// Rows on disk.
    pub fn len(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).index.len()
    }

    /// Whether all these rows are on disk as they were written.
    pub fn has(&self, ids: &[RowId]) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        ids.iter().all(|id| known.place(id).is_some_and(|(shard, row)| matches!(shard.is_sound(row), Ok(true))))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The folder of the rows.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes in a file's rows.
    fn take_in(&mut self, path: PathBuf) -> Result<()> {
        match Shard::open(path.clone(), &self.layout)? {
            Some((shard, ids)) => {
                let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
                known.add(shard, &ids);
            }
            None => self.former.push(path),
        }
        Ok(())
    }

    /// Un-normalised features `[rows, D]`, adapted ones too where the store has a correction.
    ///
    /// # Errors
    /// Rows that are not there; [`Error::Safetensors`] for rows that are damaged and were not asked for with [`Store::fill`]
    /// since the store was opened; [`Error::Io`].
    pub fn rows(&self, ids: &[RowId]) -> Result<Features> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut places = Vec::with_capacity(ids.len());
        for (at, id) in ids.iter().enumerate() {
            let (shard, row) = known.index.get(id).copied().ok_or_else(|| {
                Error::data(&self.folder, format!("features of picture {} are not there", &hex(id)[..16]))
            })?;
            places.push((shard as usize, row as usize, at));
        }
        // File by file and forwards in each.
        places.sort_unstable();
        let values = vec![0.0; ids.len() * self.layout.width];
        let adapted = self.layout.corrected.then(|| values.clone());
        let mut features = Features { original: values, adapted };
        for run in places.chunk_by(|a, b| a.0 == b.0) {
            let shard = &known.shards[run[0].0];
            for (_, row, _) in run {
                if !shard.is_sound(*row)? {
                    let reason =
                        format!("{} are damaged: start again, their pictures are encoded anew", shard.block(*row));
                    return Err(Error::Safetensors { path: shard.path.clone(), reason });
                }
            }
            let rows: Vec<(usize, usize)> = run.iter().map(|(_, row, at)| (*row, *at)).collect();
            shard.read(&rows, &mut features)?;
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
        let former = |path: PathBuf| {
            format!(
                "{}: features of an earlier version, which cannot be checked, are not used (it may go)",
                path.display()
            )
        };
        filled.notes.extend(std::mem::take(&mut self.former).into_iter().map(former));
        let mut damaged = BTreeSet::new();
        // Pictures are read while the tower runs, against the rows known then; a row may so be made twice, never missed.
        let known = std::mem::take(&mut self.known);
        let result = {
            let look_up = |item: &&Item| look_up(clip, item, views, &known);
            decoding_ahead(items, at_once(encoder.batch(), views), look_up, |_, found| {
                let mut pictures = Vec::new();
                let mut new = Vec::new();
                for found in found {
                    match found {
                        Ok(Found { ids, missing, damaged: more }) => {
                            damaged.extend(more);
                            for (id, view) in missing {
                                pictures.extend(view.data);
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
                    self.pending.features.extend(encoder.encode_pictures(&pictures, &mut |_| {})?);
                    self.pending.ids.extend(&new);
                    filled.encoded += new.len();
                    if self.pending.ids.len() >= SHARD || self.flushed.elapsed() >= FLUSH {
                        self.flush(&known)?;
                    }
                }
                progress(Progress { pictures: filled.rows.len(), encoded: filled.encoded })
            })
        };
        let flushed = self.flush(&known);
        self.known = known;
        result.and(flushed)?;
        filled.notes.extend(damaged);
        self.merge()?;
        Ok(filled)
    }

    /// Writes what is pending.
    fn flush(&mut self, known: &RwLock<Known>) -> Result<()> {
        self.flushed = Instant::now();
        let Pending { ids, features } = std::mem::take(&mut self.pending);
        if ids.is_empty() {
            return Ok(());
        }
        let path = Shard::write(&self.folder, &self.layout, &ids, &features)?;
        // Where the tensors lie is read back, by the code that will read them the next time.
        if let Some((shard, ids)) = Shard::open(path, &self.layout)? {
            known.write().unwrap_or_else(PoisonError::into_inner).add(shard, &ids);
        }
        Ok(())
    }

    /// Merges small files once there are many, and writes files that are damaged anew, without what is.
    fn merge(&mut self) -> Result<()> {
        let mut places: Vec<(usize, usize, RowId)> = Vec::new();
        let renewed: Vec<bool> = {
            let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
            let many = known.shards.iter().filter(|shard| shard.rows < SMALL).count() >= MERGE;
            let renewed: Vec<bool> =
                known.shards.iter().map(|shard| many && shard.rows < SMALL || shard.is_damaged()).collect();
            if !renewed.contains(&true) {
                return Ok(());
            }
            for (id, (shard, row)) in &known.index {
                let (shard, row) = (*shard as usize, *row as usize);
                if renewed[shard] && known.shards[shard].is_sound(row)? {
                    places.push((shard, row, *id));
                }
            }
            renewed
        };
        places.sort_unstable();
        let mut keep: Vec<PathBuf> = Vec::new();
        for part in places.chunks(SHARD) {
            let ids: Vec<RowId> = part.iter().map(|(_, _, id)| *id).collect();
            keep.push(Shard::write(&self.folder, &self.layout, &ids, &self.rows(&ids)?)?);
        }
        let known = std::mem::take(self.known.get_mut().unwrap_or_else(PoisonError::into_inner));
        let (old, others): (Vec<_>, Vec<_>) = known.shards.iter().zip(renewed).partition(|(_, renewed)| *renewed);
        keep.extend(others.into_iter().map(|(shard, _)| shard.path.clone()));
        keep.sort();
        keep.dedup();
        // The merged rows are on disk; only now the old files go. Ended in between, rows are there twice, which is harmless.
        for (shard, _) in old {
            if keep.binary_search(&shard.path).is_err() {
                std::fs::remove_file(&shard.path).map_err(|e| Error::io(&shard.path, e))?;
            }
        }
        keep.into_iter().try_for_each(|path| self.take_in(path))
    }
}

/// Removes all stores in `folder`, and the folder itself if nothing else is in it. Files that no store writes stay, and so do
/// folders that hold some; what is left is no error.
pub fn remove(folder: &Path) {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    // A name that is a digest's first half.
    let digest = |name: &str| name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit());
    for store in entries(folder) {
        let is_store =
            store.file_type().is_ok_and(|kind| kind.is_dir()) && store.file_name().to_str().is_some_and(digest);
        if !is_store {
            continue;
        }
        for entry in entries(&store.path()) {
            let name = entry.file_name();
            let own = name.to_str().is_some_and(|name| {
                name == "key.json" || is_part(name) || name.strip_suffix(".safetensors").is_some_and(digest)
            });
            if own && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let _ = std::fs::remove_dir(store.path());
    }
    unmark_results(folder);
    let _ = std::fs::remove_dir(folder);
}

/// Removes temporary files that ended programs left in the stores below `folder` more than a day ago, for who has nothing to
/// ask of a store: [`Store::open`] does the same for its own.
#[cfg(feature = "eval")]
pub(crate) fn sweep_all(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).for_each(|entry| sweep(&entry.path()));
}

/// A picture's rows, and the views that have to be encoded.
struct Found {
    ids: Vec<RowId>,
    missing: Vec<(RowId, Rgb)>,
    /// Rows that are there and not what was written.
    damaged: Vec<String>,
}

fn look_up(clip: &Clip, item: &Item, views: &Views, known: &RwLock<Known>) -> Result<Found> {
    let file = PictureFile::read(&item.path)?.with_depth(clip.preprocess.depth);
    let ids = views.ids(&file.digest());
    let (mut missing, mut damaged) = (Vec::new(), Vec::new());
    for id in &ids {
        // Not under the lock: a block that is looked at for the first time is read from the disk.
        let place = known.read().unwrap_or_else(PoisonError::into_inner).place(id);
        if let Some((shard, row)) = place {
            match shard.is_sound(row) {
                Ok(true) => continue,
                Ok(false) => damaged.push(format!(
                    "{}: features are damaged ({}); those that are wanted are encoded again",
                    shard.path.display(),
                    shard.block(row)
                )),
                // The picture is none the worse for it.
                Err(error) => damaged.push(format!("{error}; features that are wanted are encoded again")),
            }
        }
        missing.push(*id);
    }
    if missing.is_empty() {
        return Ok(Found { ids, missing: Vec::new(), damaged });
    }
    let missing = file.decoded(|picture| {
        missing.into_iter().map(|id| (id, views.prepared(clip, &picture, &id))).collect::<Vec<_>>()
    })?;
    Ok(Found { ids, missing, damaged })
}
