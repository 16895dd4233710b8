//! Features that were computed before, in memory: who corrects one example of fifty waits for that one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Direct, RowId, Source, Tower, Views};
use crate::Result;
use crate::clip::{Features, PixelNoise};
use crate::data::Item;
use crate::data::folder::map_items;
use crate::watch::Watch;

/// Bytes of features that are kept.
const KEPT: usize = 256 << 20;

/// Features by tower, contents of the picture and view, of one loaded model with one correction.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// Whose features these are.
    of: String,
    rows: HashMap<(Tower, RowId), Features>,
    bytes: usize,
}

impl Memory {
    fn keep(&mut self, name: (Tower, RowId), row: Features) {
        let bytes = 4 * (row.original.len() + row.adapted.as_ref().map_or(0, Vec::len));
        if self.bytes + bytes <= KEPT && self.rows.insert(name, row).is_none() {
            self.bytes += bytes;
        }
    }
}

impl Remembered {
    fn with<R>(&self, of: &str, use_of: impl FnOnce(&mut Memory) -> R) -> R {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.of != of {
            *memory = Memory { of: of.into(), ..Memory::default() };
        }
        use_of(&mut memory)
    }
}

/// [`Direct`], but for what it has given before. Views of training epochs are not kept.
pub struct Remembering<'a> {
    direct: Direct<'a>,
    memory: &'a Remembered,
    of: String,
}

impl<'a> Remembering<'a> {
    /// Features of `direct`, which are those of the model and the correction that `of` names: in this precision, on this device.
    pub fn new(direct: Direct<'a>, memory: &'a Remembered, of: String) -> Remembering<'a> {
        Remembering { direct, memory, of }
    }
}

impl Source for Remembering<'_> {
    fn features(&mut self, tower: Tower, items: &[Item], views: &Views, watch: &mut dyn Watch) -> Result<Features> {
        let (shelf, depth) = (self.direct.shelf(), self.direct.depth());
        let id = |item: &Item| Ok(views.ids(&shelf.open(&item.path)?.with_depth(depth).digest()));
        let ids = map_items(items, true, &|_| {}, |_, item| id(item))?;
        let ids: Vec<Vec<RowId>> = ids.items.into_iter().map(|(_, ids)| ids).collect();
        // Taken out at once: who fits with another model meanwhile makes this memory that one's.
        let known = self.memory.with(&self.of, |memory| {
            let of = |ids: &Vec<RowId>| ids.iter().map(|id| memory.rows.get(&(tower, *id)).cloned()).collect();
            ids.iter().map(of).collect::<Vec<Option<Vec<Features>>>>()
        });
        let missing: Vec<Item> =
            items.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(item, _)| item.clone()).collect();
        let new = match missing.is_empty() {
            true => Features::default(),
            false => self.direct.features(tower, &missing, views, watch)?,
        };
        let width = new.original.len().checked_div(missing.len() * views.count()).unwrap_or_default();
        let (mut all, mut next) = (Features::default(), 0);
        self.memory.with(&self.of, |memory| {
            for (known, ids) in known.into_iter().zip(&ids) {
                match known {
                    Some(rows) => rows.into_iter().for_each(|row| all.extend(row)),
                    None => {
                        for id in ids {
                            let row = new.rows(&[next], width)?;
                            next += 1;
                            all.extend(row.clone());
                            memory.keep((tower, *id), row);
                        }
                    }
                }
            }
            Ok(all)
        })
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
