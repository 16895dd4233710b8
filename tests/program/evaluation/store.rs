//! Features on disk.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use tipi::Error;
use tipi::low_level::data::{Augment, Folder, Item};
use tipi::low_level::encode::store::{Filled, Key, Progress, Store};
use tipi::low_level::encode::{self, Views};

use crate::{clip, pictures};

fn fill(store: &mut Store, items: &[Item], views: &Views) -> Filled {
    let mut encoder = clip().image_encoder(4).unwrap();
    let items: Vec<&Item> = items.iter().collect();
    store.fill(&mut encoder, &items, views, false, &mut |_| Ok(())).unwrap()
}

const RANDOM: Views = Views::Random { augment: Augment::TIP, count: 3, first: 0, seed: 7 };

#[test]
fn pictures_are_encoded_once_whatever_they_are_called() {
    let (dir, folder) = pictures(3, 3);
    let at = tempfile::tempdir().unwrap();
    let key = Key::new(clip(), "f32", None).unwrap();
    let width = clip().config.embedding;
    let open = || Store::open(at.path(), &key, width).unwrap();
    let mut store = open();
    let mut encoder = clip().image_encoder(4).unwrap();
    for views in [Views::Center, RANDOM] {
        let filled = fill(&mut store, &folder.items, &views);
        assert_eq!((filled.encoded, filled.skipped.len()), (9 * views.count(), 0));
        let rows: Vec<_> = filled.rows.iter().flatten().flatten().copied().collect();
        let features = store.rows(&rows).unwrap().original;
        if views == Views::Center {
            // The bits of encoding without a store.
            let plain = encode::encode(&mut encoder, &folder.items, &views, true, &mut |_| {}).unwrap();
            assert_eq!(features, plain.features.original);
        } else {
            let distinct: HashSet<Vec<u32>> =
                features.chunks_exact(width).map(|row| row.iter().map(|v| v.to_bits()).collect()).collect();
            assert_eq!(distinct.len(), 27, "views differ from each other");
        }
        // Again, in another order and by another program: nothing is left to do, rows follow their pictures.
        let mut other = open();
        let mut items = folder.items.clone();
        items.reverse();
        let again = fill(&mut other, &items, &views);
        assert_eq!(again.encoded, 0);
        let last: Vec<_> = again.rows[8].clone().unwrap();
        assert_eq!(last, filled.rows[0].clone().unwrap());
        assert_eq!(other.rows(&last).unwrap().original[..], features[..views.count() * width]);
    }
    assert_eq!(open().len(), 9 + 27);

    // A new name changes nothing, new contents do; a copy is the same picture; what is no picture is named.
    let first = &folder.items[0].path;
    let renamed = first.with_file_name("renamed.png");
    fs::rename(first, &renamed).unwrap();
    fs::copy(&renamed, first.with_file_name("copy.png")).unwrap();
    image::RgbImage::from_fn(20, 20, |x, y| image::Rgb([x as u8 * 9, y as u8 * 9, 40]))
        .save(first.with_file_name("new.png"))
        .unwrap();
    fs::write(first.with_file_name("broken.png"), "no picture").unwrap();
    let items = Folder::open(dir.path().join("novel")).unwrap().items;
    let mut store = open();
    let filled = fill(&mut store, &items, &Views::Center);
    assert_eq!(filled.encoded, 1, "of the new picture alone");
    assert_eq!(filled.skipped.len(), 1);
    assert!(filled.skipped[0].to_string().contains("broken.png"));
    let at_of = |name: &str| items.iter().position(|i| i.path.ends_with(name)).unwrap();
    assert_eq!(filled.rows[at_of("copy.png")], filled.rows[at_of("renamed.png")]);
    assert_eq!(filled.rows[at_of("broken.png")], None);
    let mut encoder = clip().image_encoder(4).unwrap();
    let all: Vec<&Item> = items.iter().collect();
    let strict = store.fill(&mut encoder, &all, &Views::Center, true, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(strict.contains("broken.png"), "{strict}");

    // Another precision, model or correction has rows of its own.
    let other = Key { precision: "f16".into(), ..key.clone() };
    assert!(Store::open(at.path(), &other, width).unwrap().is_empty());
}

#[test]
fn a_store_keeps_what_is_encoded_when_it_is_stopped_and_merges_small_files() {
    let (_dir, folder) = pictures(5, 8);
    let at = tempfile::tempdir().unwrap();
    let key = Key::new(clip(), "f32", None).unwrap();
    let open = || Store::open(at.path(), &key, clip().config.embedding).unwrap();
    let mut store = open();
    let mut encoder = clip().image_encoder(4).unwrap();
    let items: Vec<&Item> = folder.items.iter().collect();
    let mut stop = |p: Progress| if p.pictures >= 16 { Err(Error::Stopped) } else { Ok(()) };
    let stopped = store.fill(&mut encoder, &items, &Views::Center, false, &mut stop).unwrap_err();
    assert!(matches!(stopped, Error::Stopped));
    let kept = open().len();
    assert_eq!(kept, 16);
    assert_eq!(store.len(), 16, "the store itself goes on, too");
    assert_eq!(fill(&mut store, &folder.items, &Views::Center).encoded, 40 - 16);

    // Many small files become few, and no row is lost or changed.
    let rows: Vec<_> = fill(&mut store, &folder.items, &Views::Center).rows.into_iter().flatten().flatten().collect();
    let before = store.rows(&rows).unwrap();
    for item in &folder.items[..30] {
        let views = Views::Random { augment: Augment::PINI, count: 1, first: 3, seed: 1 };
        fill(&mut store, std::slice::from_ref(item), &views);
    }
    let files = || fs::read_dir(store.folder()).unwrap().filter(|e| is_shard(&e.as_ref().unwrap().path())).count();
    assert!(files() < 18, "{} files", files());
    let again = open();
    assert_eq!(again.len(), 70);
    assert_eq!(again.rows(&rows).unwrap(), before);

    // A damaged file is named, with the remedy.
    let shard = fs::read_dir(store.folder()).unwrap().map(|e| e.unwrap().path()).find(|p| is_shard(p)).unwrap();
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 5]).unwrap();
    let error = Store::open(at.path(), &key, clip().config.embedding).unwrap_err().to_string();
    assert!(error.contains(shard.file_name().unwrap().to_str().unwrap()) && error.contains("remove it"), "{error}");
    fs::remove_file(&shard).unwrap();
    assert!(open().len() < 70);
}

fn is_shard(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "safetensors")
}
