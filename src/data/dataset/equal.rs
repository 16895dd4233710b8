//! Pictures that a set has more than once: the same bytes in two of its parts, or under two of its classes.

use std::collections::{HashMap, HashSet};
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

/// Something of a file that equal files have in common.
type Trait<'a> = &'a (dyn Fn(&Path) -> Option<Vec<u8>> + Sync);

/// Which of `items` are, byte for byte, among `others`. As in [`Dataset::equal_pictures`] little is read of files that no other is like;
/// what cannot be read is among none.
pub fn equal_files(items: &[Item], others: &[&Item]) -> Vec<bool> {
    let length = |path: &Path| {
        let found = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some(found.len().to_le_bytes().to_vec())
    };
    let end = |path: &Path| Some(digest(path, TAIL)?.to_vec());
    let whole = |path: &Path| Some(digest(path, u64::MAX)?.to_vec());
    let keys: [Trait<'_>; 3] = [&length, &end, &whole];
    let (mut ours, mut theirs): (Vec<usize>, Vec<usize>) = ((0..items.len()).collect(), (0..others.len()).collect());
    for key in keys {
        let of_ours: Vec<_> = ours.par_iter().map(|i| (*i, key(&items[*i].path))).collect();
        let of_theirs: Vec<_> = theirs.par_iter().map(|i| (*i, key(&others[*i].path))).collect();
        ours = alike(&of_ours, &of_theirs);
        theirs = alike(&of_theirs, &of_ours);
    }
    let mut found = vec![false; items.len()];
    ours.into_iter().for_each(|i| found[i] = true);
    found
}

/// The numbers of those that have a key in common with one of the others.
fn alike(own: &[(usize, Option<Vec<u8>>)], others: &[(usize, Option<Vec<u8>>)]) -> Vec<usize> {
    let others: HashSet<&Vec<u8>> = others.iter().filter_map(|(_, key)| key.as_ref()).collect();
    let is_there = |(i, key): &(usize, Option<Vec<u8>>)| key.as_ref().filter(|key| others.contains(key)).map(|_| *i);
    own.iter().filter_map(is_there).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_files_are_found_whatever_they_are_called() {
        let dir = tempfile::tempdir().unwrap();
        let item = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            Item { path, label: 0 }
        };
        // Of one length and with one end, but different at the beginning.
        let (mut first, mut second) = (vec![7u8; 9000], vec![7u8; 9000]);
        (first[0], second[0]) = (1, 2);
        let ours = [item("a", &first), item("b", &second), item("c", b"short"), Item { path: "gone".into(), label: 0 }];
        let theirs = [item("d", &second), item("e", b"other"), Item { path: "gone".into(), label: 0 }];
        let theirs: Vec<&Item> = theirs.iter().collect();
        assert_eq!(equal_files(&ours, &theirs), [false, true, false, false]);
        assert_eq!(equal_files(&ours, &[]), [false; 4]);
    }
}
