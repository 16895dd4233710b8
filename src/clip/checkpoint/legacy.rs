//! The format of torch.save before version 1.6: pickles one after the other (a magic number, a version, the machine's
//! properties, what was saved, the storages' names), and then the storages, each with its length before it.

use std::collections::BTreeMap;

use super::pickle::{self, CUT};
use super::shard::{Tensors, Unread};
use super::torch::{self, LARGEST_PICKLE};
use super::values::{Node, Pickled};
use crate::input::Stored;

/// The pickle of the magic number.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Whether a file that begins with these bytes may be one.
pub(super) fn begins(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// Where the tensors of a file of `size` bytes lie.
pub(super) fn read(file: &Stored, size: u64) -> Result<Tensors, Unread> {
    // The pickles end where they say; most are short.
    let mut most = 256 << 10;
    loop {
        let mut head = vec![0; most.min(size) as usize];
        file.read_exact_at(&mut head, 0)?;
        match read_head(file, size, &head) {
            Err(Unread::Bad(reason)) if reason == CUT && most < size.min(LARGEST_PICKLE) => most *= 8,
            result => return result,
        }
    }
}

/// The same, given the bytes in which all pickles lie.
fn read_head(file: &Stored, size: u64, head: &[u8]) -> Result<Tensors, Unread> {
    let mut at = MAGIC.len();
    let mut next = || -> Result<Pickled<'_>, String> {
        let pickled = pickle::read(head.get(at..).unwrap_or_default())?;
        at += pickled.bytes;
        Ok(pickled)
    };
    let version = next()?;
    if *version.node(version.root) != Node::Int(1001) {
        return Err("it has another version than torch.save writes; save it again".to_string().into());
    }
    next()?;
    let saved = next()?;
    let keys = next()?;
    let tensors = torch::state_dict(&saved)?;
    // Storages have the lengths that the pickle says.
    let mut known: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for node in &saved.nodes {
        if let Node::Storage(storage) = node {
            known.insert(storage.key, (storage.count, torch::size(storage.dtype)));
        }
    }
    let Node::Row(row) = keys.node(keys.root) else { return Err(CUT.to_string().into()) };
    let mut places: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut start = at as u64;
    for key in row {
        let Node::Text(key) = keys.node(*key) else { return Err(CUT.to_string().into()) };
        let cut = || format!("storage '{key}' is not all there; the file is truncated, fetch it again");
        let (count, each) = known.get(key).copied().ok_or_else(cut)?;
        if places.contains_key(key) {
            return Err(format!("storage '{key}' is there twice; the file is damaged, fetch it again").into());
        }
        let mut length = [0; 8];
        if start.checked_add(8).is_none_or(|end| end > size) {
            return Err(cut().into());
        }
        file.read_exact_at(&mut length, start)?;
        let bytes = count.checked_mul(each).filter(|_| u64::from_le_bytes(length) == count).ok_or_else(cut)?;
        start += 8;
        if start.checked_add(bytes).is_none_or(|end| end > size) {
            return Err(cut().into());
        }
        places.insert(key, (start, bytes));
        start += bytes;
    }
    torch::places(&tensors, &|key| places.get(key).copied())
}
