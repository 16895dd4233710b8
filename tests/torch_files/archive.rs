//! Archives and pickles put together by hand, sound or not.

/// A file of an archive, and what its directory says of it.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub bytes: Vec<u8>,
    pub method: u16,
    /// What is said of its size, its place and its name, where that is not the truth.
    pub size: Option<u32>,
    pub place: Option<u32>,
    pub own_name: Option<String>,
}

pub fn entry(name: &str, bytes: &[u8]) -> Entry {
    Entry { name: name.into(), bytes: bytes.into(), method: 0, size: None, place: None, own_name: None }
}

/// An archive of files that are stored as they are.
pub fn archive(entries: &[Entry]) -> Vec<u8> {
    let (mut all, mut directory) = (Vec::new(), Vec::new());
    for Entry { name, bytes, method, size, place, own_name } in entries {
        let own = own_name.as_ref().unwrap_or(name);
        let (start, size) = (place.unwrap_or(all.len() as u32), size.unwrap_or(bytes.len() as u32));
        all.extend(b"PK\x03\x04\x14\x00\x00\x00");
        all.extend(method.to_le_bytes());
        all.extend([0; 8]);
        all.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        all.extend([(own.len() as u16).to_le_bytes(), [0; 2]].concat());
        all.extend(own.as_bytes());
        all.extend(bytes);
        directory.extend(b"PK\x01\x02\x14\x00\x14\x00\x00\x00");
        directory.extend(method.to_le_bytes());
        directory.extend([0; 8]);
        directory.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        directory.extend((name.len() as u16).to_le_bytes());
        directory.extend([0; 12]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, count) = (all.len() as u32, entries.len() as u16);
    let size = directory.len() as u32;
    all.extend(directory);
    all.extend(end(count, size, start));
    all
}

/// The record at the end of an archive.
pub fn end(count: u16, size: u32, start: u32) -> Vec<u8> {
    let counts = [count.to_le_bytes(), count.to_le_bytes()].concat();
    [b"PK\x05\x06\x00\x00\x00\x00", &counts[..], &size.to_le_bytes(), &start.to_le_bytes(), &[0, 0]].concat()
}

/// A pickle's instructions for a text.
pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Those for a whole number.
pub fn int(number: i64) -> Vec<u8> {
    [b"\x8a\x08", &number.to_le_bytes()[..]].concat()
}

fn tuple(parts: &[i64]) -> Vec<u8> {
    [b"(".to_vec(), parts.iter().flat_map(|n| int(*n)).collect(), b"t".to_vec()].concat()
}

/// Those for a tensor of f32: a view of `shape`, `strides` and `offset` of storage `key`, which has `count` values.
pub fn tensor(key: &str, count: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let storage =
        [b"(".to_vec(), text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text(key), text("cpu"), int(count)];
    let storage = [storage.concat(), b"tQ".to_vec()].concat();
    let view = [storage, int(offset), tuple(shape), tuple(strides), b"\x89ccollections\nOrderedDict\n)R".to_vec()];
    [b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(), view.concat(), b"tR".to_vec()].concat()
}

/// The pickle of a dictionary.
pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"\x80\x02}(".to_vec(), entries, b"u.".to_vec()].concat()
}

/// An archive as torch.save writes one, of a pickle and storages.
pub fn saved(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut entries = vec![entry("a/data.pkl", pickle), entry("a/version", b"3\n")];
    entries.extend(storages.iter().map(|(key, bytes)| entry(&format!("a/data/{key}"), bytes)));
    archive(&entries)
}
