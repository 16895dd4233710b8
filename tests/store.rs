//! Features on disk that are no longer what was written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use tipi::low_level::clip::Clip;
use tipi::low_level::data::{Folder, Item};
use tipi::low_level::encode::Views;
use tipi::low_level::encode::store::{Filled, Key, RowId, Store};
use tipi::low_level::gpu::{DeviceOptions, Gpu};

fn shards(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut shards: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    shards.sort();
    shards
}

fn rows(filled: &Filled) -> Vec<RowId> {
    filled.rows.iter().flatten().flatten().copied().collect()
}

#[test]
fn damaged_features_are_encoded_again_and_never_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let gpu = Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap();
    let clip = Clip::load(&gpu, &root.join("weights/picto")).unwrap();
    let items: Vec<Item> =
        Folder::open(root.join("examples/pictos/shifted")).unwrap().items.into_iter().take(150).collect();
    assert_eq!(items.len(), 150);
    let all: Vec<&Item> = items.iter().collect();
    let at = tempfile::tempdir().unwrap();
    let key = Key::new(&clip, "f32", None).unwrap();
    let width = clip.config.embedding;
    let open = || Store::open(at.path(), &key, width).unwrap();
    let mut encoder = clip.image_encoder(32).unwrap();
    let mut fill = |store: &mut Store, items: &[&Item]| {
        store.fill(&mut encoder, items, &Views::Center, false, &mut |_| Ok(())).unwrap()
    };
    let mut store = open();
    let filled = fill(&mut store, &all);
    assert_eq!((filled.encoded, filled.notes.len()), (150, 0));
    let ids = rows(&filled);
    let right = store.rows(&ids).unwrap().original;
    let folder = store.folder().to_path_buf();
    let whole = fs::read(&shards(&folder)[0]).unwrap();
    let place = |name: &str| -> (usize, usize) {
        let (size, header) = SafeTensors::read_metadata(&whole).unwrap();
        let (start, end) = header.info(name).unwrap().data_offsets;
        (8 + size + start, 8 + size + end)
    };
    assert_eq!(shards(&folder).len(), 1);
    let restore = |bytes: &[u8]| {
        shards(&folder).iter().for_each(|path| fs::remove_file(path).unwrap());
        fs::write(folder.join("a.safetensors"), bytes).unwrap();
    };

    // One value of row 70, which is in the second block of 64: that block is encoded again, and then all is sound.
    let mut bytes = whole.clone();
    bytes[place("features").0 + 70 * 4 * width + 5] ^= 0x40;
    restore(&bytes);
    let mut store = open();
    assert!(store.rows(&ids[70..71]).unwrap_err().to_string().contains("rows 64 to 127 are damaged"));
    let filled = fill(&mut open(), &all);
    assert_eq!(filled.encoded, 64);
    assert!(filled.notes.len() == 1 && filled.notes[0].contains("rows 64 to 127"), "{:?}", filled.notes);
    let mut store_again = open();
    let again = fill(&mut store_again, &all);
    assert_eq!((again.encoded, again.notes.len()), (0, 0));
    assert_eq!(store_again.rows(&ids).unwrap().original, right);
    // Those that are not wanted are not encoded; what is sound of the file is kept.
    restore(&bytes);
    let filled = fill(&mut store, &[all[0]]);
    assert_eq!(filled.encoded, 0);
    let mut store = open();
    assert_eq!(fill(&mut store, &[all[69], all[1]]).encoded, 1);
    assert_eq!(open().len(), 150 - 64 + 1);
    assert_eq!(fill(&mut open(), &all).encoded, 63);

    // Noise in place of all, rows changed about, names changed: none is used.
    let (from, to) = place("features");
    let noise =
        |bytes: &mut [u8]| bytes[from..to].iter_mut().enumerate().for_each(|(i, b)| *b ^= (i * 37 + 11) as u8 & 0x3f);
    let swap = |bytes: &mut [u8]| (0..4 * width).for_each(|i| bytes.swap(from + i, from + 4 * width + i));
    let rename = |bytes: &mut [u8]| {
        let names = place("digests").0;
        (0..32).for_each(|i| bytes.swap(names + i, names + 32 + i));
    };
    for (damage, encoded) in [(&noise as &dyn Fn(&mut [u8]), 150), (&swap, 64), (&rename, 64)] {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        restore(&bytes);
        let mut store = open();
        let filled = fill(&mut store, &all);
        assert_eq!(filled.encoded, encoded);
        assert_eq!(store.rows(&ids).unwrap().original, right);
    }

    // Another model's features, moved here.
    let other = Key { model: "0".repeat(64), ..key.clone() };
    let theirs = Store::open(at.path(), &other, width).unwrap();
    fs::write(theirs.folder().join("a.safetensors"), &whole).unwrap();
    let mut theirs = Store::open(at.path(), &other, width).unwrap();
    assert_eq!(fill(&mut theirs, &all[..3]).encoded, 3);

    // Of an earlier version, without digests.
    let tensors = SafeTensors::deserialize(&whole).unwrap();
    let former: Vec<_> = tensors.tensors().into_iter().filter(|(name, _)| name != "blocks").collect();
    restore(&safetensors::serialize(former, None).unwrap());
    let mut store = open();
    assert_eq!(store.len(), 0);
    let filled = fill(&mut store, &all[..5]);
    assert_eq!(filled.encoded, 5);
    assert!(filled.notes[0].contains("earlier version"), "{:?}", filled.notes);
}
