//! Several kinds of random views of each picture, which is decoded once for all of them.

use super::views::{Views, drawn};
use crate::Result;
use crate::clip::Clip;
use crate::data::folder::map_items;
use crate::data::{Augment, Item, Rgb, Shelf};

/// Random views of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crops {
    /// How they are drawn.
    pub augment: Augment,
    /// How many of each picture.
    pub count: usize,
    /// Their side in pixels.
    pub side: usize,
}

/// Normalised pixels of an epoch's views of pictures: for each kind `[count · pictures, 3, side, side]`, view after view. A view
/// depends on its picture's contents, the seed, its kind and number, and the epoch alone.
///
/// # Errors
/// The first picture that cannot be decoded.
pub fn crops(
    clip: &Clip,
    items: &[Item],
    shelf: &Shelf,
    kinds: &[Crops],
    (seed, epoch): (u64, usize),
) -> Result<Vec<Vec<f32>>> {
    let made = map_items(items, true, &|_| {}, |_, item| {
        let file = shelf.open(&item.path)?.with_depth(clip.preprocess.depth);
        let contents = file.digest();
        file.decoded(|picture| {
            let of = |Crops { augment, count, side }: &Crops| -> Vec<Rgb> {
                let views = Views::Random { augment: *augment, count: *count, first: epoch * count, seed };
                views.ids(&contents).iter().map(|id| drawn(augment, &picture, *side, id)).collect()
            };
            kinds.iter().map(of).collect::<Vec<_>>()
        })
    })?;
    let of_kind = |(kind, Crops { count, .. }): (usize, &Crops)| -> Vec<f32> {
        let views = (0..*count).flat_map(|view| made.items.iter().map(move |(_, kinds)| &kinds[kind][view]));
        views.flat_map(|view| clip.view_pixels(view)).collect()
    };
    Ok(kinds.iter().enumerate().map(of_kind).collect())
}
