//! The lists that the published sets come with.
#![no_main]

use std::cell::LazyCell;

use tipi::low_level::data::Dataset;
use tipi_fuzz::{MIB, Scratch, below, parts, target};

const FILES: [&str; 15] = [
    "oxford_pets/annotations/trainval.txt",
    "oxford_pets/annotations/test.txt",
    "oxford_flowers/cat_to_name.json",
    "fgvc_aircraft/variants.txt",
    "fgvc_aircraft/images_variant_train.txt",
    "fgvc_aircraft/images_variant_val.txt",
    "fgvc_aircraft/images_variant_test.txt",
    "sun397/ClassName.txt",
    "sun397/Training_01.txt",
    "sun397/Testing_01.txt",
    "ucf101/ucfTrainTestlist/classInd.txt",
    "ucf101/ucfTrainTestlist/trainlist01.txt",
    "ucf101/ucfTrainTestlist/testlist01.txt",
    "imagenet/classnames.txt",
    "imagenetv2/classnames.txt",
];
const SETS: [&str; 7] =
    ["oxford_pets", "oxford_flowers", "fgvc_aircraft", "sun397", "ucf101", "imagenet", "imagenetv2"];

thread_local! {
    static SCRATCH: LazyCell<Scratch> = LazyCell::new(|| {
        let scratch = Scratch::default();
        scratch.write("oxford_flowers/imagelabels.mat", include_bytes!("../../tests/fixtures/mat/imagelabels.mat"));
        for class in ["n01440764", "n01443537"] {
            scratch.write(&format!("imagenet/images/train/{class}/1.jpg"), b"");
            scratch.write(&format!("imagenet/images/val/{class}/2.jpg"), b"");
        }
        for label in ["0", "1"] {
            scratch.write(&format!("imagenetv2/imagenetv2-matched-frequency-format-val/{label}/3.jpg"), b"");
        }
        scratch
    });
}

target!(64 * MIB, |data| SCRATCH.with(|scratch| {
    let files = parts(data, &FILES);
    for (name, bytes) in &files {
        scratch.write(name, bytes);
    }
    for set in SETS.into_iter().filter(|set| files.iter().any(|(name, _)| name.starts_with(set))) {
        let Ok(found) = Dataset::open(set, Some(scratch.path())) else { continue };
        for item in found.train.iter().chain(&found.val).chain(&found.test) {
            assert!(item.label < found.classes.len());
            assert!(below(scratch.path(), &item.path), "{}", item.path.display());
        }
    }
    for (name, _) in &files {
        scratch.remove(name);
    }
}));
