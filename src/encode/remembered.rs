//! Features that were computed before, in memory: who corrects one example of fifty waits for that one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Direct, RowId, Source, Tower, Views};
use crate::Result;
use crate::clip::Features;
use crate::data::Item;
use crate::data::folder::map_items;
use crate::watch::Watch;

/// Bytes of features that are kept.
const KEPT: usize = 256 << 20;

/// Features by tower, contents of the picture and view, of one model with one correction.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// Model and correction, by their digests.
    of: String,
    rows: HashMap<(Tower, RowId), Features>,
    bytes: usize,
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
    /// Features of `direct`, which are those of the model and the correction that `of` names.
    pub fn new(direct: Direct<'a>, memory: &'a Remembered, of: String) -> Remembering<'a> {
        Remembering { direct, memory, of }
    }
}

impl Source for Remembering<'_> {
    fn features(&mut self, tower: Tower, items: &[Item], views: &Views, watch: &mut dyn Watch) -> Result<Features> {
        let shelf = self.direct.shelf();
        let ids = map_items(items, true, &|_| {}, |_, item| Ok(views.ids(&shelf.open(&item.path)?.digest())))?;
        let ids: Vec<Vec<RowId>> = ids.items.into_iter().map(|(_, ids)| ids).collect();
        let missing: Vec<Item> = self.memory.with(&self.of, |memory| {
            let has = |id: &RowId| memory.rows.contains_key(&(tower, *id));
            items.iter().zip(&ids).filter(|(_, ids)| !ids.iter().all(has)).map(|(item, _)| item.clone()).collect()
        });
        let new = match missing.is_empty() {
            true => Features::default(),
            false => self.direct.features(tower, &missing, views, watch)?,
        };
        let rows = missing.len() * views.count();
        let width = new.original.len().checked_div(rows).unwrap_or_default();
        let mut next = 0;
        let mut missing = missing.into_iter().peekable();
        self.memory.with(&self.of, |memory| {
            let mut all = Features::default();
            for (item, ids) in items.iter().zip(&ids) {
                let is_new = missing.next_if_eq(item).is_some();
                for id in ids {
                    let row = match memory.rows.get(&(tower, *id)) {
                        Some(row) if !is_new => row.clone(),
                        _ => {
                            let row = new.rows(&[next], width)?;
                            next += 1;
                            let bytes = 4 * width * if row.adapted.is_some() { 2 } else { 1 };
                            if memory.bytes + bytes <= KEPT && memory.rows.insert((tower, *id), row.clone()).is_none() {
                                memory.bytes += bytes;
                            }
                            row
                        }
                    };
                    all.extend(row);
                }
            }
            Ok(all)
        })
    }

    fn fresh(&mut self, tower: Tower, items: &[Item], views: &Views) -> Result<Features> {
        self.direct.fresh(tower, items, views)
    }
}
