//! Pictures that a set has more than once: the same bytes in two of its parts, or under two of its classes.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::Dataset;
use crate::data::Item;
use crate::input;

/// Bytes at a file's end that are compared first. Headers of pictures are often alike, their ends are not.
const TAIL: u64 = 4096;

/// A picture of a set, and the part it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<'d> {
    /// `train`, `val` or `test`.
    pub part: &'static str,
    /// The picture.
    pub item: &'d Item,
}

impl Dataset {
    /// Groups of pictures with the same bytes that are in several parts or under several classes, in the order train, val,
    /// test. Of pictures that have their length in common with such another the end is read, and the whole of those that
    /// are still alike; what cannot be read is left out.
    pub fn equal_pictures(&self) -> Vec<Vec<Placed<'_>>> {
        let parts = self.parts().into_iter();
        let all = parts.flat_map(|(part, items)| items.iter().map(move |item| Placed { part, item }));
        let length = |path: &Path| path.metadata().ok().filter(std::fs::Metadata::is_file).map(|found| found.len());
        let mut groups = vec![all.collect()];
        groups = divide(groups, length);
        groups = divide(groups, |path| digest(path, TAIL));
        divide(groups, |path| digest(path, u64::MAX))
    }
}

/// Divides groups by something that equal files have in common; only what may still be of interest is left.
fn divide<'d, K: Eq + Hash + Send>(
    groups: Vec<Vec<Placed<'d>>>,
    key: impl Fn(&Path) -> Option<K> + Sync,
) -> Vec<Vec<Placed<'d>>> {
    let mut divided = Vec::new();
    for group in groups {
        let keys: Vec<Option<K>> = group.par_iter().map(|placed| key(&placed.item.path)).collect();
        let mut places: HashMap<K, usize> = HashMap::new();
        let mut parts: Vec<Vec<Placed<'d>>> = Vec::new();
        for (placed, key) in group.into_iter().zip(keys) {
            let Some(key) = key else { continue };
            let place = *places.entry(key).or_insert_with(|| {
                parts.push(Vec::new());
                parts.len() - 1
            });
            parts[place].push(placed);
        }
        divided.extend(parts.into_iter().filter(|group| is_spread(group)));
    }
    divided
}

/// Whether pictures are in several parts or under several classes.
fn is_spread(group: &[Placed<'_>]) -> bool {
    let place = |placed: &Placed<'_>| (placed.part, placed.item.label);
    group.windows(2).any(|pair| place(&pair[0]) != place(&pair[1]))
}

/// SHA-256 of the last `bytes` of a file, or of all of it.
fn digest(path: &Path, bytes: u64) -> Option<[u8; 32]> {
    let mut file = input::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes))).ok()?;
    let mut hasher = Sha256::new();
    let mut buffer = [0; 1 << 14];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finalize().into()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
