//! From picture files to features: decode and resize on all cores, a bounded number of pictures at a time, and run the
//! image tower on them. Memory does not grow with the number of pictures, but for their features; [`store`] keeps those on
//! disk.

pub mod store;

use crate::clip::{Clip, Features, ImageEncoder, Preprocess};
use crate::data::{Augment, Folder, Item, PythonRandom, Rgb, Split, decode_map, few_shot, stream_seed};
use crate::{Error, Result, numbers};

/// Steps of the tower that pictures are decoded for at once.
const STEPS: usize = 2;

/// How pictures become network inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Views {
    /// The picture itself: resized and centre-cropped. One view.
    Center,
    /// This many random views, numbered from `first`; the same seed, picture and number give the same view.
    Random {
        /// How views are drawn.
        augment: Augment,
        /// How many.
        count: usize,
        /// Number of the first: an epoch's views differ from the last one's.
        first: usize,
        /// Seed.
        seed: u64,
    },
}

impl Views {
    /// Views of each picture.
    pub fn count(&self) -> usize {
        match self {
            Views::Center => 1,
            Views::Random { count, .. } => *count,
        }
    }

    fn of(&self, picture: &Rgb, index: usize, preprocess: &Preprocess) -> Vec<Rgb> {
        match self {
            Views::Center => vec![preprocess.prepare(picture)],
            Views::Random { augment, count, first, seed } => (*first..first.saturating_add(*count))
                .map(|view| random_view(picture, preprocess, augment, stream_seed(*seed, index as u64, view as u64)))
                .collect(),
        }
    }
}

/// Which of `views` precomputed views a picture shows in an epoch of training: a draw for each, so that epochs differ.
pub fn drawn_view(seed: u64, picture: usize, epoch: usize, views: usize) -> usize {
    let stream = stream_seed(seed, picture as u64, epoch as u64);
    PythonRandom::new(stream).randbelow(views.max(1) as u64) as usize
}

/// Un-normalised features `[pictures, D]` of an epoch, of each picture those of the view drawn for it out of features
/// `[pictures, views, D]`.
///
/// # Errors
/// [`Error::Invalid`] for no views, rows without values, or values that are no whole pictures.
pub fn draw_views(features: &[f32], views: usize, width: usize, seed: u64, epoch: usize) -> Result<Vec<f32>> {
    let one = views.checked_mul(width).filter(|one| *one > 0 && features.len().is_multiple_of(*one));
    let Some(one) = one else {
        let values = features.len();
        return Err(Error::invalid(format!("{values} values are no features of {views} views of width {width} each")));
    };
    let pictures = features.chunks_exact(one).enumerate();
    let drawn =
        pictures.filter_map(|(picture, all)| all.chunks_exact(width).nth(drawn_view(seed, picture, epoch, views)));
    Ok(drawn.flatten().copied().collect())
}

/// The random view of a picture that belongs to `seed`.
fn random_view(picture: &Rgb, preprocess: &Preprocess, augment: &Augment, seed: u64) -> Rgb {
    augment.view(picture, preprocess.size, &mut PythonRandom::new(seed))
}

/// Features of pictures.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Un-normalised features `[pictures, views, D]`; adapted ones too where the encoder has adapters.
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
pub fn pixels(clip: &Clip, items: &[Item], views: &Views) -> Result<Vec<f32>> {
    let decoded = decode_map(items, true, &|_| {}, |i, picture| view_pixels(clip, views, &picture, i))?;
    Ok(decoded.items.into_iter().flat_map(|(_, values)| values).collect())
}

/// Pixels of a picture's views; `index` is the picture's number in its list.
fn view_pixels(clip: &Clip, views: &Views, picture: &Rgb, index: usize) -> Vec<f32> {
    views.of(picture, index, &clip.preprocess).iter().flat_map(|view| clip.view_pixels(view)).collect()
}

/// Checks that there is memory for the features of pictures under `views`, and for the pixels of one picture's views, which
/// are made at once.
fn foresee(clip: &Clip, pictures: usize, views: &Views) -> Result<()> {
    let (views, size) = ((views.count(), "views"), clip.preprocess.size);
    numbers::check_memory("features", &[(pictures, "pictures"), views, (clip.config.embedding, "values")], 4)?;
    numbers::check_memory("a picture's views", &[views, (3 * size * size, "values")], 4)
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
    // The bound is on pixels, so more views mean fewer pictures at a time.
    let at_once = (STEPS * encoder.batch() / views.count().max(1)).max(1);
    let decoded = items.chunks(at_once).enumerate().map(|(number, chunk)| {
        decode_map(chunk, strict, &|_| {}, |i, picture| view_pixels(clip, views, &picture, number * at_once + i))
    });
    ahead(decoded, |decoded| {
        let decoded = decoded?;
        let mut pixels = Vec::new();
        for (item, values) in decoded.items {
            all.items.push(item);
            pixels.extend(values);
        }
        all.features.extend(encoder.encode_all(&pixels, done)?);
        all.skipped.extend(decoded.skipped);
        Ok(())
    })?;
    Ok(all)
}

/// Takes the items of `source` one after the other, the next one being made on another thread meanwhile: pictures are
/// decoded while the tower runs. At most three items exist at a time. Ends at the first error of `take`.
///
/// # Errors
/// What `take` returns.
pub fn ahead<T: Send, E>(
    source: impl Iterator<Item = T> + Send,
    mut take: impl FnMut(T) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        scope.spawn(move || {
            for item in source {
                // The receiver is gone after an error: nothing more is wanted.
                if sender.send(item).is_err() {
                    return;
                }
            }
        });
        receiver.into_iter().try_for_each(&mut take)
    })
}

/// A few-shot choice among the sound pictures of a folder.
#[derive(Debug)]
pub struct Chosen {
    /// The choice.
    pub split: Split,
    /// Pictures that cannot be decoded, and why; they were left out before choosing.
    pub skipped: Vec<Error>,
}

/// Checks that every picture of the folder can be decoded, on all cores, and chooses among those that can: `shots` of
/// each class to learn from and up to `val_shots` more to choose hyper-parameters on. Which pictures are broken never
/// depends on the seed. `done` is called with the number of pictures checked so far.
///
/// # Errors
/// A class with fewer sound pictures than `shots`; with `strict`, the first broken picture.
pub fn choose(
    folder: &Folder,
    (shots, val_shots): (usize, usize),
    seed: u64,
    strict: bool,
    done: &(dyn Fn(usize) + Sync),
) -> Result<Chosen> {
    let checked = decode_map(&folder.items, strict, done, |_, _| ())?;
    let items: Vec<Item> = checked.items.into_iter().map(|(item, ())| item).collect();
    let skipped = checked.skipped;
    match few_shot(&items, &folder.classes, &folder.root, shots, val_shots, seed) {
        Ok(split) => Ok(Chosen { split, skipped }),
        Err(Error::Data { path, reason }) if !skipped.is_empty() => Err(Error::Data {
            path,
            reason: format!("{reason} ({} cannot be decoded, first {})", skipped.len(), skipped[0]),
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{ahead, draw_views};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn items_come_in_order_and_no_further_ahead_than_agreed() {
        let made = AtomicUsize::new(0);
        let mut taken = 0;
        let source = (0..50).inspect(|_| {
            made.fetch_add(1, Ordering::SeqCst);
        });
        ahead(source, |i| {
            assert_eq!(i, taken);
            taken += 1;
            let ahead = made.load(Ordering::SeqCst) - taken;
            assert!(ahead <= 2, "{ahead} items wait");
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(taken, 50);
    }

    #[test]
    fn an_epoch_shows_one_view_of_each_picture_and_another_the_next_time() {
        // Picture·10 + view, width 1.
        let (pictures, views) = (40, 5);
        let features: Vec<f32> = (0..pictures).flat_map(|p| (0..views).map(move |v| (10 * p + v) as f32)).collect();
        let epoch = |seed, epoch| draw_views(&features, views, 1, seed, epoch).unwrap();
        let first = epoch(1, 0);
        assert!(first.iter().enumerate().all(|(p, v)| (*v as usize) / 10 == p && (*v as usize) % 10 < views));
        assert_eq!(first, epoch(1, 0));
        assert_ne!(first, epoch(1, 1));
        assert_ne!(first, epoch(2, 0));
        // Over a few epochs every view of a picture is seen.
        let mut seen = [false; 5];
        (0..40).for_each(|e| seen[epoch(3, e)[7] as usize % 10] = true);
        assert_eq!(seen, [true; 5]);
    }

    #[test]
    fn the_first_error_ends_it() {
        let made = AtomicUsize::new(0);
        let source = (0..1000).inspect(|_| {
            made.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(ahead(source, |i| if i == 3 { Err("three") } else { Ok(()) }), Err("three"));
        assert!(made.load(Ordering::SeqCst) <= 7);
    }
}
