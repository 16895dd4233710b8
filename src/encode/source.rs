//! Where features of pictures come from: straight from the tower, or from the disk where they are kept. Both give the same
//! bits, since a view depends on the picture's contents and features on the view alone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::store::{Filled, Key, Store};
use super::{RowId, Views, at_once, decoding_ahead, foresee};
use crate::clip::{Clip, Features, ImageEncoder, PixelNoise};
use crate::data::folder::map_items;
use crate::data::{Depth, Item, Rgb, Shelf};
use crate::nn::Bottleneck;
use crate::watch::Watch;
use crate::{Error, Result, hex};

/// Which tower gives features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tower {
    /// The model's own.
    #[default]
    Plain,
    /// The model's own, and beside it the one with the overlap correction: features are [`Features::adapted`] too.
    Corrected,
    /// The model's own up to its projection: features are as wide as that layer's input.
    Unprojected,
    /// The model's own on pictures with learned noise on their pixels: features by [`Source::noisy`].
    Noisy,
}

/// Gives features of pictures. Pictures that cannot be decoded are errors: whoever asks has looked at them before.
pub trait Source {
    /// Un-normalised features `[pictures, views, D]`, in the order of `items`.
    ///
    /// # Errors
    /// A picture that cannot be decoded; [`Tower::Corrected`] without a correction; too little memory, a lost device; what
    /// `watch` gives.
    fn features(&mut self, tower: Tower, items: &[Item], views: &Views, watch: &mut dyn Watch) -> Result<Features>;

    /// The same for views that nobody will ask for again, such as those of an epoch of training. They are not kept.
    ///
    /// # Errors
    /// As [`Source::features`].
    fn fresh(&mut self, tower: Tower, items: &[Item], views: &Views) -> Result<Features>;

    /// Un-normalised features `[pictures, views, rows·D]` of pictures with learned noise on their pixels. They are not kept: another
    /// training makes other noise.
    ///
    /// # Errors
    /// As [`Source::features`]; a tower that noise on pixels cannot be on; a source that has no pictures.
    fn noisy(
        &mut self,
        _noise: &PixelNoise,
        _items: &[Item],
        _views: &Views,
        _watch: &mut dyn Watch,
    ) -> Result<Features> {
        Err(no_pixels())
    }

    /// Normalised pixels `[pictures, views, 3, R, R]`.
    ///
    /// # Errors
    /// A picture that cannot be decoded; a source that has no pictures.
    fn pixels(&mut self, _items: &[Item], _views: &Views) -> Result<Vec<f32>> {
        Err(no_pixels())
    }

    /// What tells pictures with their labels, in this order, from others.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn digest(&self, items: &[Item]) -> Result<String> {
        digest_of(items, Shelf::empty(), Depth::default())
    }
}

fn no_pixels() -> Error {
    Error::invalid("noise on pixels needs pictures, and there are features alone")
}

/// Bytes of decoded pictures that are held for views to come.
const HELD: usize = 512 << 20;

/// Decoded pictures, as many as [`HELD`] allows.
#[derive(Default)]
struct Pictures {
    bytes: usize,
    by_path: HashMap<PathBuf, (RowId, Arc<Rgb>)>,
}

/// A picture's contents and pixels, read and decoded where they are not held.
fn look(item: &Item, (shelf, depth): (&Shelf, Depth), held: &Mutex<Pictures>) -> Result<(RowId, Arc<Rgb>)> {
    let lock = || held.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((contents, picture)) = lock().by_path.get(&item.path) {
        return Ok((*contents, picture.clone()));
    }
    let file = shelf.open(&item.path)?.with_depth(depth);
    let contents = file.digest();
    let picture = file.decoded(Arc::new)?;
    let mut held = lock();
    let size = picture.data.len();
    if held.bytes + size <= HELD {
        held.bytes += size;
        held.by_path.insert(item.path.clone(), (contents, picture.clone()));
    }
    Ok((contents, picture))
}

/// Pictures per step where nobody says.
pub const BATCH: usize = 32;

/// An encoder of a tower for `batch` pictures at a time: exactly so many, or as many up to that as memory allows.
/// [`Tower::Corrected`] takes a correction's `bottlenecks`, the others none.
///
/// # Errors
/// Too little memory; bottlenecks that do not fit the tower.
pub fn encoder<'a>(
    clip: &'a Clip,
    tower: Tower,
    bottlenecks: Option<&[Bottleneck]>,
    (batch, exactly): (usize, bool),
) -> Result<ImageEncoder<'a>> {
    let batch = if exactly { batch } else { clip.largest_batch(batch, bottlenecks)? };
    match tower {
        Tower::Unprojected => clip.unprojected_encoder(batch),
        Tower::Noisy => Err(without_noise()),
        _ => clip.image_encoder_with(batch, bottlenecks),
    }
}

fn without_noise() -> Error {
    Error::invalid("features of noisy pictures are asked for without the noise")
}

/// Features straight from the tower. Pictures whose random views are asked for are held decoded, up to 512 MB of them, since
/// the next epoch asks for others.
pub struct Direct<'a> {
    clip: &'a Clip,
    correction: Option<&'a [Bottleneck]>,
    batch: Option<usize>,
    made: HashMap<Tower, Made<'a>>,
    held: Mutex<Pictures>,
    shelf: Shelf,
}

/// An encoder, and the batch that was wanted: memory may have made it smaller, which is not tried again.
struct Made<'a> {
    encoder: ImageEncoder<'a>,
    wanted: usize,
}

impl<'a> Direct<'a> {
    /// A source of features of `clip` and, where there is one, of its tower with a correction's bottlenecks. `batch` are the
    /// pictures per step; without it as many as memory allows, up to [`BATCH`].
    pub fn new(clip: &'a Clip, correction: Option<&'a [Bottleneck]>, batch: Option<usize>) -> Direct<'a> {
        let (made, held, shelf) = (HashMap::new(), Mutex::default(), Shelf::default());
        Direct { clip, correction, batch, made, held, shelf }
    }

    /// The same with pictures that are in memory.
    #[must_use]
    pub fn with_shelf(self, shelf: Shelf) -> Direct<'a> {
        Direct { shelf, ..self }
    }

    /// The pictures in memory.
    pub(super) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// What becomes of grey of 16 bits.
    pub(super) fn depth(&self) -> Depth {
        self.clip.preprocess.depth
    }

    /// An encoder for `pictures` in all; a larger one takes the place of one that was made for fewer.
    fn encoder(&mut self, tower: Tower, pictures: usize) -> Result<()> {
        let bottlenecks = match tower {
            Tower::Corrected => {
                let none = || Error::invalid("features of a corrected tower are asked for, and there is no correction");
                Some(self.correction.ok_or_else(none)?)
            }
            Tower::Noisy => return Err(without_noise()),
            _ => None,
        };
        let wanted = self.batch.unwrap_or(BATCH).min(pictures).max(1);
        if self.made.get(&tower).is_none_or(|made| made.wanted < wanted) {
            // The smaller one's memory first.
            self.made.remove(&tower);
            let encoder = encoder(self.clip, tower, bottlenecks, (wanted, self.batch.is_some()))?;
            self.made.insert(tower, Made { encoder, wanted });
        }
        Ok(())
    }

    fn encode(
        &mut self,
        tower: Tower,
        items: &[Item],
        views: &Views,
        done: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Features> {
        let clip = self.clip;
        foresee(clip, items.len(), views)?;
        self.encoder(tower, items.len() * views.count())?;
        // Beside the encoder, which the closures below hold.
        let Direct { made, held, shelf, .. } = self;
        let Some(Made { encoder, .. }) = made.get_mut(&tower) else {
            return Err(Error::invalid("there is no encoder"));
        };
        encode_by(encoder, items, views, (shelf, held), done)
    }
}

/// A picture's views, R×R. Pictures whose random views are asked for are held.
fn views_of(clip: &Clip, item: &Item, views: &Views, shelf: &Shelf, held: &Mutex<Pictures>) -> Result<Vec<Rgb>> {
    match views {
        // Once is enough: nothing is held.
        Views::Center => super::prepared(clip, shelf.open(&item.path)?, views),
        Views::Random { .. } => {
            let (contents, picture) = look(item, (shelf, clip.preprocess.depth), held)?;
            Ok(views.all_prepared(clip, &picture, &contents))
        }
    }
}

/// Features by an encoder; `done` hears of the pictures so far.
fn encode_by(
    encoder: &mut ImageEncoder<'_>,
    items: &[Item],
    views: &Views,
    (shelf, held): (&Shelf, &Mutex<Pictures>),
    done: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Features> {
    let clip = encoder.clip();
    let prepared = |item: &Item| views_of(clip, item, views, shelf, held);
    let (mut features, mut pictures) = (Features::default(), 0);
    decoding_ahead(items, at_once(encoder.batch(), views), prepared, |_, prepared| {
        let mut samples = Vec::new();
        pictures += prepared.len();
        for views in prepared {
            views?.iter().for_each(|view| samples.extend_from_slice(&view.data));
        }
        features.extend(encoder.encode_pictures(&samples, &mut |_| {})?);
        done(pictures)
    })?;
    Ok(features)
}

impl Source for Direct<'_> {
    fn features(&mut self, tower: Tower, items: &[Item], views: &Views, watch: &mut dyn Watch) -> Result<Features> {
        watch.begin("encoding pictures", items.len());
        let features = self.encode(tower, items, views, &mut |done| watch.at(done));
        watch.end();
        features
    }

    fn fresh(&mut self, tower: Tower, items: &[Item], views: &Views) -> Result<Features> {
        self.encode(tower, items, views, &mut |_| Ok(()))
    }

    fn noisy(&mut self, noise: &PixelNoise, items: &[Item], views: &Views, watch: &mut dyn Watch) -> Result<Features> {
        if items.is_empty() {
            return Ok(Features::default());
        }
        foresee(self.clip, items.len() * noise.rows(), views)?;
        let wanted = self.batch.unwrap_or(BATCH).min(items.len() * views.count() * noise.rows());
        let mut encoder = self.clip.noisy_encoder(wanted, noise)?;
        watch.begin("encoding noisy pictures", items.len());
        let features = encode_by(&mut encoder, items, views, (&self.shelf, &self.held), &mut |done| watch.at(done));
        watch.end();
        features
    }

    fn pixels(&mut self, items: &[Item], views: &Views) -> Result<Vec<f32>> {
        let (clip, from, held) = (self.clip, (&self.shelf, self.clip.preprocess.depth), &self.held);
        // Held as they are too: the next epoch asks for the same ones.
        let decoded = map_items(items, true, &|_| {}, |_, item| {
            let (contents, picture) = look(item, from, held)?;
            Ok(views.all_prepared(clip, &picture, &contents))
        })?;
        Ok(decoded.items.iter().flat_map(|(_, views)| views).flat_map(|view| clip.view_pixels(view)).collect())
    }

    fn digest(&self, items: &[Item]) -> Result<String> {
        digest_of(items, &self.shelf, self.clip.preprocess.depth)
    }
}

/// A correction, and what tells it from others.
#[derive(Clone, Copy)]
pub struct Corrected<'a> {
    /// Its bottlenecks, one a block.
    pub bottlenecks: &'a [Bottleneck],
    /// SHA-256 of their values.
    pub digest: &'a str,
}

/// A tower and its features on disk.
struct Side<'a> {
    store: Store,
    encoder: ImageEncoder<'a>,
}

/// Features that are kept on disk: each view of a picture is encoded once, whoever asks.
pub struct Stored<'a> {
    clip: &'a Clip,
    corrected: Option<Corrected<'a>>,
    keeping: Keeping<'a>,
    /// Stores and encoders, made when first asked for. With a correction the plain tower's features are those of the corrected
    /// one's store, but for views that nobody else sees.
    sides: HashMap<Tower, Side<'a>>,
    /// What is not kept.
    direct: Direct<'a>,
}

/// Where [`Stored`] keeps features, and how many pictures it takes at a time.
#[derive(Clone, Copy)]
pub struct Keeping<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// How the model's matrices are stored: `f32`, `f16` or `int8`.
    pub precision: &'a str,
    /// Pictures per step; without it as many as memory allows, up to [`BATCH`].
    pub batch: Option<usize>,
    /// Pictures in all: no step is made for more.
    pub pictures: usize,
}

impl<'a> Stored<'a> {
    /// A source whose features lie in a folder.
    pub fn new(clip: &'a Clip, corrected: Option<Corrected<'a>>, keeping: Keeping<'a>) -> Stored<'a> {
        let direct = Direct::new(clip, corrected.map(|c| c.bottlenecks), keeping.batch);
        Stored { clip, corrected, keeping, sides: HashMap::new(), direct }
    }

    /// The tower that all features come from: with the correction where there is one.
    fn whole(&self) -> Tower {
        if self.corrected.is_some() { Tower::Corrected } else { Tower::Plain }
    }

    fn side(&mut self, tower: Tower) -> Result<&mut Side<'a>> {
        let corrected = match tower {
            Tower::Corrected => self.corrected,
            _ => None,
        };
        match self.sides.entry(tower) {
            Entry::Occupied(side) => Ok(side.into_mut()),
            Entry::Vacant(place) => {
                let Keeping { folder, precision, batch, pictures } = self.keeping;
                let most = (batch.unwrap_or(BATCH).min(pictures).max(1), batch.is_some());
                let encoder = encoder(self.clip, tower, corrected.map(|c| c.bottlenecks), most)?;
                let mut key = Key::new(self.clip, precision, corrected.map(|c| c.digest.to_string()))?;
                if tower == Tower::Unprojected {
                    key = key.unprojected();
                }
                let store = Store::open(folder, &key, encoder.width())?;
                Ok(place.insert(Side { store, encoder }))
            }
        }
    }

    /// Sees to it that `views` of `items` are on disk, by the tower that all features come from. Pictures that cannot be
    /// decoded are left out, or an error with `strict`.
    ///
    /// # Errors
    /// As [`Store::fill`].
    pub fn fill(
        &mut self,
        items: &[&Item],
        views: &Views,
        strict: bool,
        what: &str,
        watch: &mut dyn Watch,
    ) -> Result<Filled> {
        let whole = self.whole();
        fill(self.side(whole)?, items, views, strict, what, watch)
    }

    /// Rows that [`Stored::fill`] named, by that tower.
    ///
    /// # Errors
    /// As [`Store::rows`].
    pub fn rows(&mut self, rows: &[RowId]) -> Result<Features> {
        let whole = self.whole();
        self.side(whole)?.store.rows(rows)
    }

    /// The same by another tower: what a method that takes [`Tower`]'s features is given.
    ///
    /// # Errors
    /// As [`Store::rows`].
    pub fn rows_of(&mut self, tower: Tower, rows: &[RowId]) -> Result<Features> {
        match tower {
            // The plain tower's features are those of the corrected one's store.
            Tower::Plain => Ok(self.rows(rows)?.original.into()),
            Tower::Corrected => self.rows(rows),
            Tower::Unprojected => self.side(tower)?.store.rows(rows),
            Tower::Noisy => Err(without_noise()),
        }
    }

    /// Sees to it that [`Stored::rows_of`] has the rows of these pictures, which [`Stored::fill`] named. Pictures are looked at only
    /// where some are missing.
    ///
    /// # Errors
    /// As [`Source::features`].
    pub fn provide(&mut self, tower: Tower, items: &[Item], rows: &[RowId], watch: &mut dyn Watch) -> Result<()> {
        if tower == Tower::Unprojected && !self.side(tower)?.store.has(rows) {
            let items: Vec<&Item> = items.iter().collect();
            fill(self.side(tower)?, &items, &Views::Center, true, "encoding pictures", watch)?;
        }
        Ok(())
    }
}

fn fill(
    Side { store, encoder }: &mut Side<'_>,
    items: &[&Item],
    views: &Views,
    strict: bool,
    what: &str,
    watch: &mut dyn Watch,
) -> Result<Filled> {
    watch.begin(what, items.len());
    let filled = store.fill(encoder, items, views, strict, &mut |p| watch.at(p.pictures));
    watch.end();
    let filled = filled?;
    filled.notes.iter().for_each(|note| watch.note(note));
    Ok(filled)
}

impl Source for Stored<'_> {
    fn features(&mut self, tower: Tower, items: &[Item], views: &Views, watch: &mut dyn Watch) -> Result<Features> {
        let side = self.side(tower)?;
        let all: Vec<&Item> = items.iter().collect();
        let filled = fill(side, &all, views, true, "encoding views", watch)?;
        let rows: Vec<RowId> = filled.rows.into_iter().flatten().flatten().collect();
        side.store.rows(&rows)
    }

    fn fresh(&mut self, tower: Tower, items: &[Item], views: &Views) -> Result<Features> {
        self.direct.fresh(tower, items, views)
    }

    fn noisy(&mut self, noise: &PixelNoise, items: &[Item], views: &Views, watch: &mut dyn Watch) -> Result<Features> {
        self.direct.noisy(noise, items, views, watch)
    }

    fn pixels(&mut self, items: &[Item], views: &Views) -> Result<Vec<f32>> {
        self.direct.pixels(items, views)
    }

    fn digest(&self, items: &[Item]) -> Result<String> {
        self.direct.digest(items)
    }
}

/// What tells pictures with their labels, in this order, from others; the same grey of 16 bits at another `depth` is another.
///
/// # Errors
/// A file that cannot be read.
pub fn digest_of(items: &[Item], shelf: &Shelf, depth: Depth) -> Result<String> {
    let contents = map_items(items, true, &|_| {}, |_, item| Ok(shelf.open(&item.path)?.with_depth(depth).digest()))?;
    let mut hasher = Sha256::new();
    for (item, contents) in contents.items {
        hasher.update(contents);
        hasher.update((item.label as u64).to_le_bytes());
    }
    Ok(hex(&hasher.finalize()))
}

/// What tells a list of files with their labels, in this order, from others without reading them: paths, sizes and times of change.
///
/// # Errors
/// A file that is not there.
pub fn listing_of(items: &[Item]) -> Result<String> {
    let look = |_: usize, item: &Item| {
        let metadata = std::fs::metadata(&item.path).map_err(|error| Error::io(&item.path, error))?;
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Ok((metadata.len(), changed.map_or(0, |since| since.as_nanos() as u64)))
    };
    let files = map_items(items, true, &|_| {}, look)?;
    let mut hasher = Sha256::new();
    for (item, (size, changed)) in files.items {
        let path = item.path.as_os_str().as_encoded_bytes();
        for number in [path.len() as u64, size, changed, item.label as u64] {
            hasher.update(number.to_le_bytes());
        }
        hasher.update(path);
    }
    Ok(hex(&hasher.finalize()))
}
