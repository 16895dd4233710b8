//! CoOp's split files.
#![no_main]

use std::cell::LazyCell;

use tipi::low_level::data::Dataset;
use tipi_fuzz::{MIB, Scratch, below, target};

thread_local! {
    static SCRATCH: LazyCell<Scratch> = LazyCell::new(|| {
        let scratch = Scratch::default();
        scratch.write("dtd/images/banded/banded_0001.jpg", b"");
        scratch
    });
}

target!(64 * MIB, |data| SCRATCH.with(|scratch| {
    scratch.write("dtd/split_zhou_DescribableTextures.json", data);
    let Ok(set) = Dataset::open("dtd", Some(scratch.path())) else { return };
    let pictures = scratch.path().join("dtd/images");
    for item in set.train.iter().chain(&set.val).chain(&set.test) {
        assert!(item.label < set.classes.len());
        assert!(below(&pictures, &item.path), "{}", item.path.display());
    }
    let again = Dataset::open("dtd", Some(scratch.path())).expect("it was opened a moment ago");
    assert_eq!((set.classes, set.train, set.test), (again.classes, again.train, again.test));
}));
