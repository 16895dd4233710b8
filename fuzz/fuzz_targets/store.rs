//! Features on disk.
#![no_main]

use std::cell::LazyCell;

use tipi::low_level::encode::store::Store;
use tipi_fuzz::{MIB, Scratch, WIDTH, features_key, target};

thread_local! {
    static SCRATCH: LazyCell<Scratch> = LazyCell::new(Scratch::default);
}

target!(64 * MIB, |data| SCRATCH.with(|scratch| {
    for corrected in [false, true] {
        let key = features_key(corrected);
        let folder = match Store::open(scratch.path(), &key, WIDTH) {
            Ok(store) => store.folder().to_path_buf(),
            Err(error) => panic!("an empty store cannot be opened: {error}"),
        };
        let file = folder.join("a.safetensors");
        std::fs::write(&file, data).expect("a file can be written");
        if let Ok(store) = Store::open(scratch.path(), &key, WIDTH) {
            for id in 0..4 {
                if let Ok(features) = store.rows(&[[id; 32]]) {
                    assert_eq!(features.original.len(), WIDTH);
                    assert_eq!(features.adapted.map(|rows| rows.len()), corrected.then_some(WIDTH));
                }
            }
        }
        std::fs::remove_file(&file).expect("it was written a moment ago");
    }
}));
