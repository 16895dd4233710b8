//! MATLAB's files, as they come with two of the sets.
#![no_main]

use std::cell::LazyCell;

use tipi::low_level::data::Dataset;
use tipi_fuzz::{MIB, Scratch, below, target};

/// A set, its files with sound contents, and which of them may be another.
const FLOWERS: [(&str, &[u8]); 1] =
    [("oxford_flowers/imagelabels.mat", include_bytes!("../../tests/fixtures/mat/imagelabels.mat"))];
const CARS: [(&str, &[u8]); 3] = [
    ("stanford_cars/devkit/cars_meta.mat", include_bytes!("../../tests/fixtures/mat/cars_meta.mat")),
    ("stanford_cars/devkit/cars_train_annos.mat", include_bytes!("../../tests/fixtures/mat/cars_train_annos.mat")),
    (
        "stanford_cars/cars_test_annos_withlabels.mat",
        include_bytes!("../../tests/fixtures/mat/cars_test_annos_withlabels.mat"),
    ),
];

thread_local! {
    static SCRATCH: LazyCell<Scratch> = LazyCell::new(|| {
        let scratch = Scratch::default();
        let names: Vec<String> = (1..=9).map(|label| format!("\"{label}\": \"flower {label}\"")).collect();
        scratch.write("oxford_flowers/cat_to_name.json", format!("{{{}}}", names.join(", ")).as_bytes());
        for (name, bytes) in FLOWERS.iter().chain(&CARS) {
            scratch.write(name, bytes);
        }
        scratch
    });
}

target!(128 * MIB, |data| SCRATCH.with(|scratch| {
    for (what, files) in [("oxford_flowers", &FLOWERS[..]), ("stanford_cars", &CARS)] {
        for (name, sound) in files {
            scratch.write(name, data);
            if let Ok(set) = Dataset::open(what, Some(scratch.path())) {
                for item in set.train.iter().chain(&set.val).chain(&set.test) {
                    assert!(item.label < set.classes.len());
                    assert!(below(&scratch.path().join(what), &item.path), "{}", item.path.display());
                }
            }
            scratch.write(name, sound);
        }
    }
}));
