//! From picture files to features: decode and resize on all cores, a bounded number of pictures at a time, and run the
//! image tower on them. Memory does not grow with the number of pictures, but for their features; [`store`] keeps those on
//! disk.

mod ahead;
mod crops;
mod remembered;
pub mod source;
pub mod store;
mod views;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clip::{Clip, Features, ImageEncoder};
use crate::data::decode::PictureFile;
use crate::data::folder::map_items;
#[cfg(feature = "eval")]
use crate::data::{Dataset, coop_few_shot};
use crate::data::{Decoded, Folder, Item, Rgb, Shelf, Shots, Split, decode_map, few_shot, too_few};
use crate::platform::THREADS;
use crate::watch::Watch;
use crate::{Error, Result, numbers};

pub(crate) use ahead::decoding_ahead;
pub use crops::{Crops, crops};
pub use remembered::{Remembered, Remembering};
pub use source::{Direct, Source, Stored, Tower, encoder};
pub use views::{RowId, Views, contents, draw_views, drawn_view};

/// Steps of the tower that pictures are decoded for at once.
const STEPS: usize = 2;

/// Pictures that are decoded at once for a tower that takes `batch`. The bound is on pixels, so more views mean fewer pictures.
fn at_once(batch: usize, views: &Views) -> usize {
    (STEPS * batch / views.count().max(1)).max(1)
}

/// Features of pictures.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Un-normalised features `[pictures, views, D]`; adapted ones too where the encoder has bottlenecks.
    pub features: Features,
    /// The pictures that could be decoded, in order.
    pub items: Vec<Item>,
    /// Those that could not, and why.
    pub skipped: Vec<Error>,
}

impl Encoded {
    /// Labels of the pictures.
    pub fn labels(&self) -> Vec<u32> {
        self.items.iter().map(|i| i.label as u32).collect()
    }
}

/// Pixels `[pictures · views, 3, R, R]` of pictures, decoded on all cores.
///
/// # Errors
/// The first picture that cannot be decoded.
pub fn pixels(clip: &Clip, items: &[Item], shelf: &Shelf, views: &Views) -> Result<Vec<f32>> {
    Ok(sound_pixels(clip, items, shelf, views, true)?.values)
}

/// Output of [`sound_pixels`].
#[derive(Debug, Default)]
pub struct SoundPixels {
    /// `[sound pictures · views, 3, R, R]`.
    pub values: Vec<f32>,
    /// The places of the sound pictures among those given.
    pub which: Vec<usize>,
    /// Why the others could not be decoded.
    pub skipped: Vec<Error>,
}

/// As [`pixels`], without pictures that cannot be decoded.
///
/// # Errors
/// With `strict` the first picture that cannot be decoded.
pub fn sound_pixels(clip: &Clip, items: &[Item], shelf: &Shelf, views: &Views, strict: bool) -> Result<SoundPixels> {
    let make = |i: usize, item: &Item| Ok((i, prepared(clip, shelf.open(&item.path)?, views)?));
    let Decoded { items, skipped } = map_items(items, strict, &|_| {}, make)?;
    let mut sound = SoundPixels { skipped, ..SoundPixels::default() };
    for (_, (i, views)) in items {
        sound.which.push(i);
        views.iter().for_each(|view| sound.values.extend(clip.view_pixels(view)));
    }
    Ok(sound)
}

/// A picture's views, R×R.
fn prepared(clip: &Clip, file: PictureFile<'_>, views: &Views) -> Result<Vec<Rgb>> {
    let file = file.with_depth(clip.preprocess.depth);
    let contents = file.digest();
    file.decoded(|picture| views.all_prepared(clip, &picture, &contents))
}

/// Checks that there is memory for the features of pictures under `views`, and for the pixels of one picture's views, which
/// are made at once.
fn foresee(clip: &Clip, pictures: usize, views: &Views) -> Result<()> {
    let (views, size) = ((views.count(), "views"), clip.preprocess.size);
    numbers::check_memory("features", &[(pictures, "pictures"), views, (clip.config.embedding, "values")], 4)?;
    numbers::check_memory("a picture's views", &[views, (3 * size * size, "samples")], 1)
}

/// Encodes pictures under `views`. `done` is called with the number of views after each step of the tower.
///
/// # Errors
/// With `strict`, the first picture that cannot be decoded; more views than there is memory for; a lost device.
pub fn encode(
    encoder: &mut ImageEncoder<'_>,
    items: &[Item],
    views: &Views,
    strict: bool,
    done: &mut dyn FnMut(usize),
) -> Result<Encoded> {
    let mut all = Encoded::default();
    let clip = encoder.clip();
    foresee(clip, items.len(), views)?;
    let prepared = |item: &Item| prepared(clip, PictureFile::read(&item.path)?, views);
    decoding_ahead(items, at_once(encoder.batch(), views), prepared, |items, prepared| {
        let mut pictures = Vec::new();
        for (item, prepared) in items.iter().zip(prepared) {
            match prepared {
                Ok(views) => {
                    all.items.push(item.clone());
                    views.iter().for_each(|view| pictures.extend_from_slice(&view.data));
                }
                Err(error) if strict => return Err(error),
                Err(error) => all.skipped.push(error),
            }
        }
        all.features.extend(encoder.encode_pictures(&pictures, done)?);
        Ok(())
    })?;
    Ok(all)
}

/// Which items are sound: `check` looks at the item of a number, on all cores. With `strict` the first that is not is the error.
/// Whoever watches is asked on its own thread.
///
/// # Errors
/// What `watch` gives; see `strict`.
pub(crate) fn sound<T: Send>(
    items: &[Item],
    strict: bool,
    check: &(dyn Fn(usize, &Item) -> Result<T> + Sync),
    watch: &mut dyn Watch,
) -> Result<Decoded<T>> {
    watch.begin("checking pictures", items.len());
    let (done, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let progress = |n: usize| {
        done.fetch_max(n, Ordering::Relaxed);
    };
    let look = |i: usize, item: &Item| if ended.load(Ordering::Relaxed) { Err(Error::Stopped) } else { check(i, item) };
    let mut stopped = Ok(());
    let all = || map_items(items, strict, &progress, look);
    let checked = match THREADS {
        false => all(),
        true => std::thread::scope(|scope| {
            let work = scope.spawn(all);
            while !work.is_finished() {
                if stopped.is_ok() {
                    stopped = watch.at(done.load(Ordering::Relaxed));
                    ended.store(stopped.is_err(), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }),
    };
    stopped?;
    watch.at(items.len())?;
    watch.end();
    checked
}

/// A few-shot choice among the sound pictures of a folder.
#[derive(Debug)]
pub struct Chosen {
    /// The choice.
    pub split: Split,
    /// Pictures that cannot be decoded, and why; they were left out before choosing.
    pub skipped: Vec<Error>,
    /// Which classes have fewer pictures than were asked for, if any, with numbers.
    pub short: Option<String>,
}

#[cfg(feature = "eval")]
/// Chooses among the parts of a dataset as evaluations do ([`coop_few_shot`]): `shots` of each class of train to learn from, up to
/// four of each class of val to choose hyper-parameters on; all of both for [`Shots::All`]. Of those, pictures that cannot be
/// decoded are left out.
///
/// # Errors
/// No shots; none of the pictures to learn from can be decoded; with `strict`, the first that cannot.
pub fn choose_parts(
    dataset: &Dataset,
    shots: impl Into<Shots>,
    seed: u64,
    strict: bool,
    done: &(dyn Fn(usize) + Sync),
) -> Result<Chosen> {
    let shots = shots.into();
    let choice = coop_few_shot(&dataset.train, &dataset.val, shots, seed)?;
    let val = if dataset.val.is_empty() { &dataset.train } else { &dataset.val };
    let of = |items: &[Item], which: &[usize]| which.iter().map(|i| items[*i].clone()).collect::<Vec<Item>>();
    let mut skipped = Vec::new();
    let mut sound = |items: Vec<Item>| -> Result<Vec<Item>> {
        let checked = decode_map(&items, strict, done, |_, _| ())?;
        skipped.extend(checked.skipped);
        Ok(checked.items.into_iter().map(|(item, ())| item).collect())
    };
    let (support, val) = (sound(of(&dataset.train, &choice.support))?, sound(of(val, &choice.val))?);
    if support.is_empty() {
        return Err(Error::data(&dataset.root, "none of the pictures to learn from could be decoded"));
    }
    let short = too_few(&dataset.train, &dataset.classes, shots);
    Ok(Chosen { split: Split { support, val, test: dataset.test.clone() }, skipped, short })
}

/// Checks that every picture of the folder can be decoded, on all cores, and chooses among those that can: `shots` of
/// each class to learn from, and of what is left [`Shots::aside`] to choose hyper-parameters on. A class that has fewer gives all it
/// has. Which pictures are broken never depends on the seed. `done` is called with the number of pictures checked so far.
///
/// # Errors
/// No shots; a class without a sound picture; with `strict`, the first broken picture.
pub fn choose(
    folder: &Folder,
    shots: impl Into<Shots>,
    seed: u64,
    strict: bool,
    done: &(dyn Fn(usize) + Sync),
) -> Result<Chosen> {
    let checked = decode_map(&folder.items, strict, done, |_, _| ())?;
    let items: Vec<Item> = checked.items.into_iter().map(|(item, ())| item).collect();
    choose_sound((&items, checked.skipped), (&folder.classes, &folder.root), shots.into(), seed)
}

/// The same among pictures of which those that cannot be decoded were `skipped`.
///
/// # Errors
/// As [`few_shot`]; where it lacks pictures, with what was skipped.
pub(crate) fn choose_sound(
    (items, skipped): (&[Item], Vec<Error>),
    (classes, root): (&[String], &Path),
    shots: Shots,
    seed: u64,
) -> Result<Chosen> {
    match few_shot(items, classes, root, shots, shots.aside(), seed) {
        Ok(split) => Ok(Chosen { split, skipped, short: too_few(items, classes, shots) }),
        Err(Error::Data { path, reason }) if !skipped.is_empty() => Err(Error::Data {
            path,
            reason: format!("{reason} ({} cannot be decoded, first {})", skipped.len(), skipped[0]),
        }),
        Err(error) => Err(error),
    }
}
