//! Miniatures of the known sets: their folders, lists and split files, with a handful of classes and tiny pictures.
//!
//! [`write`] lays a set out as CoOp's instructions say, with the split file where CoOp has one; [`write_own_layout`] with
//! the set's own lists instead. Every class's pictures have a colour of their own, so that something can be learned.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Train, val and test pictures per class of a split file.
pub const COUNTS: [usize; 3] = [8, 4, 4];
/// Pictures in a class folder that has to be split.
pub const IN_FOLDER: usize = 20;
/// Classes of ImageNet's miniature.
pub const WNIDS: [(&str, &str); 4] =
    [("n01440764", "tench"), ("n01443537", "goldfish"), ("n02012849", "crane"), ("n03126707", "crane")];

/// Writes what comes with CoOp; shifts of ImageNet with ImageNet itself, unless it is there.
pub fn write(name: &str, root: &Path) {
    match name {
        "imagenet" => imagenet(root),
        "caltech101" => {
            split(
                root,
                "caltech-101/101_ObjectCategories",
                "Caltech101",
                &["airplane", "crocodile_head", "face", "wrench"],
            );
        }
        "oxford_pets" => {
            split(
                root,
                "oxford_pets/images",
                "OxfordPets",
                &["abyssinian", "american_bulldog", "beagle", "yorkshire_terrier"],
            );
        }
        "stanford_cars" => split(
            root,
            "stanford_cars",
            "StanfordCars",
            &["2000 AM General Hummer SUV", "2012 Acura RL Sedan", "2012 Audi R8 Coupe", "2012 BMW Z4 Convertible"],
        ),
        "oxford_flowers" => {
            split(root, "oxford_flowers/jpg", "OxfordFlowers", &["pink primrose", "fire lily", "sunflower", "rose"]);
        }
        "food101" => split(root, "food-101/images", "Food101", &["apple_pie", "caesar_salad", "pizza", "waffles"]),
        // It has no split file: its own lists are what CoOp reads.
        "fgvc_aircraft" => write_own_layout(name, root),
        "sun397" => split(root, "sun397/SUN397", "SUN397", &["abbey", "outdoor apartment_building", "bar", "zoo"]),
        "dtd" => split(root, "dtd/images", "DescribableTextures", &["banded", "dotted", "polka-dotted", "woven"]),
        "eurosat" => split(root, "eurosat/2750", "EuroSAT", &["AnnualCrop", "Forest", "River", "SeaLake"]),
        "ucf101" => {
            split(root, "ucf101/UCF-101-midframes", "UCF101", &["Apply_Eye_Makeup", "Archery", "Biking", "Yo_Yo"]);
        }
        "imagenetv2" => {
            let folders = ["0", "1", "2", "3"].into_iter().enumerate();
            shift(root, "imagenetv2/imagenetv2-matched-frequency-format-val", folders.collect());
        }
        "imagenet_sketch" => {
            let folders = WNIDS.iter().enumerate().map(|(class, (wnid, _))| (class, *wnid));
            shift(root, "imagenet-sketch/images", folders.collect());
        }
        "imagenet_a" => shift(root, "imagenet-adversarial/imagenet-a", vec![(1, WNIDS[1].0), (3, WNIDS[3].0)]),
        "imagenet_r" => {
            shift(root, "imagenet-rendition/imagenet-r", vec![(0, WNIDS[0].0), (1, WNIDS[1].0), (2, WNIDS[2].0)]);
        }
        other => panic!("no miniature of {other}"),
    }
}

/// Writes a set with its own lists instead of CoOp's. Sets that have no others are as [`write`] has them.
pub fn write_own_layout(name: &str, root: &Path) {
    match name {
        "caltech101" => {
            let folders = ["BACKGROUND_Google", "Faces", "Faces_easy", "airplanes", "crocodile_head", "wrench"];
            class_folders(&root.join("caltech-101/101_ObjectCategories"), &folders, IN_FOLDER);
        }
        "food101" => {
            class_folders(&root.join("food-101/images"), &["apple_pie", "caesar_salad", "pizza", "waffles"], IN_FOLDER);
        }
        "dtd" => class_folders(&root.join("dtd/images"), &["banded", "dotted", "polka-dotted", "woven"], IN_FOLDER),
        "eurosat" => {
            class_folders(&root.join("eurosat/2750"), &["AnnualCrop", "Forest", "Highway", "SeaLake"], IN_FOLDER);
        }
        "oxford_pets" => oxford_pets(&root.join("oxford_pets")),
        "stanford_cars" => stanford_cars(&root.join("stanford_cars")),
        "oxford_flowers" => oxford_flowers(&root.join("oxford_flowers")),
        "fgvc_aircraft" => fgvc_aircraft(&root.join("fgvc_aircraft")),
        "sun397" => sun397(&root.join("sun397")),
        "ucf101" => ucf101(&root.join("ucf101")),
        other => write(other, root),
    }
}

/// Folders with `count` pictures each, named 00.png and so on; the first of each class is a JPEG.
pub fn class_folders(dir: &Path, classes: &[&str], count: usize) {
    for (class, name) in classes.iter().enumerate() {
        for number in 0..count {
            let extension = if number == 0 { "jpg" } else { "png" };
            picture(&dir.join(name).join(format!("{number:02}.{extension}")), class);
        }
    }
}

/// Writes a picture of `class`, as the file's extension says.
pub fn picture(path: &Path, class: usize) {
    // Encoding takes long where thousands are written; a copy does not.
    let kind = path.extension().unwrap().to_str().unwrap().to_lowercase();
    let bytes = PICTURES
        .with(|made| made.borrow_mut().entry((kind.clone(), class)).or_insert_with(|| encoded(&kind, class)).clone());
    text(path, bytes);
}

thread_local! {
    static PICTURES: std::cell::RefCell<std::collections::HashMap<(String, usize), Vec<u8>>> = Default::default();
}

/// 8 × 8 pixels: a gradient in one of a few colours.
fn encoded(kind: &str, class: usize) -> Vec<u8> {
    const COLOURS: [[u8; 3]; 6] =
        [[200, 30, 30], [30, 180, 40], [40, 60, 210], [220, 200, 30], [160, 40, 190], [90, 90, 90]];
    let [r, g, b] = COLOURS[class % COLOURS.len()];
    let image =
        image::RgbImage::from_fn(8, 8, |x, y| image::Rgb([r, g, b].map(|c| c.saturating_add((3 * x + 2 * y) as u8))));
    let format = image::ImageFormat::from_extension(kind).unwrap();
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Writes a file and the folders on the way to it.
pub fn text(path: &Path, contents: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// A split file `split_zhou_<title>.json` and its pictures, whose paths are relative to `pictures`. Entries of the classes
/// are mixed, and labels first appear in another order than theirs.
fn split(root: &Path, pictures: &str, title: &str, classes: &[&str]) {
    let set = pictures.split('/').next().unwrap();
    let mut file = json!({});
    for (part, count) in ["train", "val", "test"].into_iter().zip(COUNTS) {
        let mut entries: Vec<Value> = Vec::new();
        for number in 0..count {
            for (label, class) in classes.iter().enumerate().rev() {
                let folder = if title == "StanfordCars" {
                    if part == "test" { "cars_test" } else { "cars_train" }
                } else {
                    class
                };
                let path = format!("{folder}/{part}_{label}_{number}.jpg");
                picture(&root.join(pictures).join(&path), label);
                entries.push(json!([path, label, class]));
            }
        }
        file[part] = entries.into();
    }
    text(&root.join(set).join(format!("split_zhou_{title}.json")), file.to_string());
}

fn names_of_wnids() -> String {
    WNIDS.map(|(wnid, name)| format!("{wnid} {name}\n")).concat()
}

fn imagenet(root: &Path) {
    let dir = root.join("imagenet");
    text(&dir.join("classnames.txt"), names_of_wnids());
    for (class, (wnid, _)) in WNIDS.iter().enumerate() {
        for number in 0..COUNTS[0] + COUNTS[1] {
            picture(&dir.join(format!("images/train/{wnid}/{wnid}_{number}.JPEG")), class);
        }
        for number in 0..COUNTS[2] {
            picture(&dir.join(format!("images/val/{wnid}/ILSVRC2012_val_{:08}.JPEG", class * 10 + number)), class);
        }
    }
}

fn shift(root: &Path, pictures: &str, folders: Vec<(usize, &str)>) {
    if !root.join("imagenet").exists() {
        imagenet(root);
    }
    for (class, folder) in folders {
        for number in 0..COUNTS[2] {
            picture(&root.join(pictures).join(folder).join(format!("{number}.jpg")), class);
        }
    }
    let set = pictures.split('/').next().unwrap();
    text(&root.join(set).join("classnames.txt"), names_of_wnids());
}

fn oxford_pets(dir: &Path) {
    let breeds = ["Abyssinian", "american_bulldog", "beagle", "Yorkshire_terrier"];
    for (list, numbers) in [("trainval", 1..11), ("test", 11..15)] {
        let mut lines = String::new();
        for (label, breed) in breeds.iter().enumerate() {
            for number in numbers.clone() {
                lines += &format!("{breed}_{number} {} 1 1\n", label + 1);
                picture(&dir.join(format!("images/{breed}_{number}.jpg")), label);
            }
        }
        text(&dir.join(format!("annotations/{list}.txt")), lines);
    }
}

fn fixture(name: &str, to: &Path) {
    let from = crate::root().join("tests/fixtures/mat").join(name);
    text(to, fs::read(from).unwrap());
}

/// Numbers and labels as in `tests/reference/mat_files.py`.
fn stanford_cars(dir: &Path) {
    fixture("cars_meta.mat", &dir.join("devkit/cars_meta.mat"));
    fixture("cars_train_annos.mat", &dir.join("devkit/cars_train_annos.mat"));
    fixture("cars_test_annos_withlabels.mat", &dir.join("cars_test_annos_withlabels.mat"));
    for (part, count) in [("cars_train", 32), ("cars_test", 16)] {
        for number in 1..=count {
            picture(&dir.join(format!("{part}/{number:05}.jpg")), number % 4);
        }
    }
}

/// Numbers and labels as in `tests/reference/mat_files.py`.
fn oxford_flowers(dir: &Path) {
    fixture("imagelabels.mat", &dir.join("imagelabels.mat"));
    let names = json!({"1": "pink primrose", "2": "fire lily", "3": "sunflower", "4": "rose"});
    text(&dir.join("cat_to_name.json"), names.to_string());
    for number in 1..=40 {
        picture(&dir.join(format!("jpg/image_{number:05}.jpg")), number % 4);
    }
}

fn fgvc_aircraft(dir: &Path) {
    let variants = ["707-320", "727-200", "Cessna 172", "F/A-18"];
    text(&dir.join("variants.txt"), variants.map(|variant| format!("{variant}\n")).concat());
    for (start, (part, count)) in [0, 1000, 2000].into_iter().zip(["train", "val", "test"].into_iter().zip(COUNTS)) {
        let mut lines = String::new();
        for number in 0..count {
            for (label, variant) in variants.iter().enumerate() {
                let id = 1_000_000 + start + 10 * number + label;
                lines += &format!("{id} {variant}\n");
                picture(&dir.join(format!("images/{id}.jpg")), label);
            }
        }
        text(&dir.join(format!("images_variant_{part}.txt")), lines);
    }
}

fn sun397(dir: &Path) {
    let scenes = ["/a/abbey", "/a/apartment_building/outdoor", "/b/bar", "/z/zoo"];
    text(&dir.join("ClassName.txt"), scenes.map(|scene| format!("{scene}\n")).concat());
    for (list, count) in [("Training_01", 10), ("Testing_01", 4)] {
        let mut lines = String::new();
        for (label, scene) in scenes.iter().enumerate() {
            for number in 0..count {
                lines += &format!("{scene}/sun_{list}_{number}.jpg\n");
                picture(&dir.join(format!("SUN397{scene}/sun_{list}_{number}.jpg")), label);
            }
        }
        text(&dir.join(format!("{list}.txt")), lines);
    }
}

fn ucf101(dir: &Path) {
    let actions =
        [("ApplyEyeMakeup", "Apply_Eye_Makeup"), ("Archery", "Archery"), ("Biking", "Biking"), ("YoYo", "Yo_Yo")];
    let lists = dir.join("ucfTrainTestlist");
    let classes = actions.iter().enumerate().map(|(label, (action, _))| format!("{} {action}\n", label + 1));
    text(&lists.join("classInd.txt"), classes.collect::<String>());
    for (list, groups) in [("trainlist01", 8..18), ("testlist01", 1..5)] {
        let mut lines = String::new();
        for (label, (action, folder)) in actions.iter().enumerate() {
            for group in groups.clone() {
                let video = format!("v_{action}_g{group:02}_c01");
                // Only the list to learn from has labels.
                let number = if list == "trainlist01" { format!(" {}", label + 1) } else { String::new() };
                lines += &format!("{action}/{video}.avi{number}\n");
                picture(&dir.join(format!("UCF-101-midframes/{folder}/{video}.jpg")), label);
            }
        }
        text(&lists.join(format!("{list}.txt")), lines);
    }
}
