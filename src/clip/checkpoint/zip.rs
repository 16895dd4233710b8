//! The directory of a zip archive as torch.save writes one: files stored as they are, each read from its place. Nothing is
//! unpacked, so that nothing can be larger than the archive.

use std::collections::BTreeMap;

use super::shard::Unread;
use crate::input::Stored;

/// The most bytes of a directory, and files in it: a checkpoint has some hundreds of storages.
const LARGEST_DIRECTORY: u64 = 16 << 20;
const MOST_FILES: u64 = 100_000;
/// How far from the end the last record may begin: its own length, and the longest comment.
const LONGEST_END: u64 = 22 + 0xffff;

/// The files of an archive.
pub(super) struct Archive<'a> {
    file: &'a Stored,
    listed: BTreeMap<String, Listed>,
    /// Where the directory begins, and files end.
    directory: u64,
}

/// What the directory says of a file.
struct Listed {
    header: u64,
    bytes: u64,
    packed: u64,
    method: u16,
    encrypted: bool,
}

/// Where a file's bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Where its own header begins.
    pub header: u64,
    pub start: u64,
    pub bytes: u64,
}

/// Whole numbers from a record, the least byte first.
fn number<const N: usize>(record: &[u8], at: usize) -> Option<u64> {
    let bytes: [u8; N] = record.get(at..at.checked_add(N)?)?.try_into().ok()?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// What stands where a record should be.
fn damaged(what: &str) -> Unread {
    format!("{what}; the file is truncated or damaged, fetch it again").into()
}

impl<'a> Archive<'a> {
    /// Reads the directory of an archive of `size` bytes.
    pub fn open(file: &'a Stored, size: u64) -> Result<Archive<'a>, Unread> {
        let read = |start: u64, bytes: u64| -> Result<Vec<u8>, Unread> {
            if start.checked_add(bytes).is_none_or(|end| end > size) {
                return Err(damaged("the archive's directory points past its end"));
            }
            let mut record = vec![0; bytes as usize];
            file.read_exact_at(&mut record, start)?;
            Ok(record)
        };
        let tail_start = size.saturating_sub(LONGEST_END);
        let tail = read(tail_start, size - tail_start)?;
        // The last record is the one whose comment ends with the file.
        let is_end = |at: &usize| {
            tail[*at..].starts_with(b"PK\x05\x06")
                && number::<2>(&tail, at + 20).is_some_and(|comment| at + 22 + comment as usize == tail.len())
        };
        let end = (0..tail.len().saturating_sub(21)).rev().find(is_end);
        let end = end.ok_or_else(|| damaged("the archive has no directory at its end"))?;
        let of_end = |at| number::<4>(&tail, end + at).unwrap_or_default();
        let short = |at| number::<2>(&tail, end + at).unwrap_or_default();
        let (mut count, mut bytes, mut directory) = (short(10), of_end(12), of_end(16));
        let mut last = tail_start + end as u64;
        // Large archives, and all that newer versions of torch write, have a record of longer numbers before it.
        if let Some(locator) = last.checked_sub(20).map(|at| read(at, 20)).transpose()?
            && locator.starts_with(b"PK\x06\x07")
        {
            last = number::<8>(&locator, 8).unwrap_or_default();
            let record = read(last, 56)?;
            if !record.starts_with(b"PK\x06\x06") {
                return Err(damaged("the archive's directory is not where it says"));
            }
            let long = |at| number::<8>(&record, at).unwrap_or_default();
            (count, bytes, directory) = (long(32), long(40), long(48));
        }
        if directory.checked_add(bytes).is_none_or(|end| end > last) {
            return Err(damaged("the archive's directory is not where it says"));
        }
        if bytes > LARGEST_DIRECTORY || count > MOST_FILES {
            return Err(format!("an archive of {count} files, which is no checkpoint").into());
        }
        let listed = list(&read(directory, bytes)?, count)?;
        Ok(Archive { file, listed, directory })
    }

    /// The names of all files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.listed.keys().map(String::as_str)
    }

    /// Where a file's bytes lie.
    pub fn span(&self, name: &str) -> Result<Span, Unread> {
        let listed = self.listed.get(name).ok_or_else(|| damaged(&format!("'{name}' is not in the archive")))?;
        if listed.encrypted {
            return Err(format!("'{name}' in it is encrypted").into());
        }
        if listed.method != 0 || listed.bytes != listed.packed {
            let how = "its tensors are compressed, which torch.save does not do; save it again with torch.save";
            return Err(format!("'{name}': {how}").into());
        }
        let outside = || damaged(&format!("'{name}' does not lie within the archive"));
        let room = self.directory.checked_sub(listed.header).ok_or_else(outside)?;
        let expected = 30 + name.len() as u64;
        if room < expected {
            return Err(outside());
        }
        let mut own = vec![0; expected as usize];
        self.file.read_exact_at(&mut own, listed.header)?;
        let (sizes, extra) = ([18, 22].map(|at| number::<4>(&own, at)), number::<2>(&own, 28).unwrap_or_default());
        // Torch writes sizes behind the bytes; where they stand before them, they must be the directory's.
        let later = number::<2>(&own, 6).unwrap_or_default() & 8 != 0;
        let agrees = |size: &Option<u64>| *size == Some(0xffff_ffff) || *size == Some(listed.bytes);
        if !own.starts_with(b"PK\x03\x04")
            || number::<2>(&own, 26) != Some(name.len() as u64)
            || own[30..] != *name.as_bytes()
            || number::<2>(&own, 8) != Some(0)
            || !(later || sizes.iter().all(agrees))
        {
            return Err(damaged(&format!("'{name}' is not what the archive's directory says")));
        }
        let start = listed.header + expected + extra;
        if start.checked_add(listed.bytes).is_none_or(|end| end > self.directory) {
            return Err(outside());
        }
        Ok(Span { header: listed.header, start, bytes: listed.bytes })
    }

    /// A file's bytes, if they are no more than `most`.
    pub fn read(&self, name: &str, most: u64) -> Result<Vec<u8>, Unread> {
        let span = self.span(name)?;
        if span.bytes > most {
            return Err(format!("'{name}' in it has {} bytes, and {most} at most are read", span.bytes).into());
        }
        let mut bytes = vec![0; span.bytes as usize];
        self.file.read_exact_at(&mut bytes, span.start)?;
        Ok(bytes)
    }
}

/// The entries of a directory.
fn list(directory: &[u8], count: u64) -> Result<BTreeMap<String, Listed>, Unread> {
    let broken = || damaged("the archive's directory is malformed");
    let mut listed = BTreeMap::new();
    let mut rest = directory;
    for _ in 0..count {
        let short = |at| number::<2>(rest, at).ok_or_else(broken);
        let long = |at| number::<4>(rest, at).ok_or_else(broken);
        if !rest.starts_with(b"PK\x01\x02") {
            return Err(broken());
        }
        let (mut packed, mut bytes, mut header) = (long(20)?, long(24)?, long(42)?);
        let name_end = 46 + short(28)? as usize;
        let extra_end = name_end + short(30)? as usize;
        let end = extra_end + short(32)? as usize;
        let name = rest.get(46..name_end).ok_or_else(broken)?;
        let name = std::str::from_utf8(name).map_err(|_| damaged("the archive names a file in no UTF-8"))?;
        // The longer numbers, of those that have no room above.
        let mut extra = rest.get(name_end..extra_end).ok_or_else(broken)?;
        while let (Some(kind), Some(length)) = (number::<2>(extra, 0), number::<2>(extra, 2)) {
            let field = extra.get(4..4 + length as usize).ok_or_else(broken)?;
            if kind == 1 {
                let missing = [&mut bytes, &mut packed, &mut header].into_iter().filter(|n| **n == 0xffff_ffff);
                for (place, number_of) in missing.enumerate() {
                    *number_of = number::<8>(field, 8 * place).ok_or_else(broken)?;
                }
            }
            extra = &extra[4 + length as usize..];
        }
        let entry = Listed { header, bytes, packed, method: short(10)? as u16, encrypted: short(8)? & 1 != 0 };
        if listed.insert(name.to_string(), entry).is_some() {
            return Err(damaged(&format!("the archive has '{name}' twice")));
        }
        rest = rest.get(end..).ok_or_else(broken)?;
    }
    Ok(listed)
}
