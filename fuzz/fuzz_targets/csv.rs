//! A user's list of pictures.
#![no_main]

use std::cell::LazyCell;
use std::collections::HashSet;

use tipi::low_level::data::Dataset;
use tipi_fuzz::{MIB, Scratch, target};

thread_local! {
    static SCRATCH: LazyCell<Scratch> = LazyCell::new(Scratch::default);
}

target!(64 * MIB, |data| SCRATCH.with(|scratch| {
    let path = scratch.write("list.csv", data);
    let path = path.to_str().expect("temporary folders have plain names");
    let Ok(set) = Dataset::open(path, None) else { return };
    let mut seen = HashSet::new();
    for item in set.train.iter().chain(&set.val).chain(&set.test) {
        assert!(item.label < set.classes.len());
        assert!(seen.insert(&item.path), "{} is in two parts", item.path.display());
        // Relative paths begin at the list. Absolute ones are as they stand in it, but for quotes.
        let bare = |text: &[u8]| text.iter().copied().filter(|byte| *byte != b'"').collect::<Vec<_>>();
        let given = bare(item.path.to_str().expect("the list is UTF-8").as_bytes());
        let named = || bare(data).windows(given.len()).any(|part| part == given);
        assert!(item.path.starts_with(scratch.path()) || named(), "{}", item.path.display());
    }
    let again = Dataset::open(path, None).expect("it was opened a moment ago");
    assert_eq!((set.classes, set.train, set.test), (again.classes, again.train, again.test));
}));
