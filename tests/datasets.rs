//! Opening datasets: miniatures of every layout that is known, and users' own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tipi_testing::miniatures;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use miniatures::{COUNTS, class_folders, picture, text, write, write_own_layout};
use tipi::low_level::data::{Dataset, ELEVEN, Item, SHIFTS, coop_few_shot, decode};

fn open(name: &str, write: fn(&str, &Path)) -> (tempfile::TempDir, Dataset) {
    let root = tempfile::tempdir().unwrap();
    write(name, root.path());
    let dataset = Dataset::open(name, Some(root.path())).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_sound(&dataset);
    (root, dataset)
}

/// What must be true of every set.
fn assert_sound(dataset: &Dataset) {
    let name = &dataset.name;
    assert!(dataset.missing().is_empty(), "{name}: {:?}", dataset.missing());
    let mut seen = HashSet::new();
    for (part, items) in dataset.parts() {
        for item in items {
            assert!(seen.insert(&item.path), "{name}: {part} has {} twice or another part too", item.path.display());
            assert!(item.label < dataset.classes.len(), "{name}: {item:?}");
        }
    }
    for item in [&dataset.train, &dataset.val, &dataset.test].into_iter().flatten().step_by(7) {
        assert_eq!(decode(&item.path).unwrap().width, 8, "{name}");
    }
    assert!(dataset.templates.iter().all(|template| template.contains("{}")));
    for note in dataset.notes.iter().chain([&dataset.source, &dataset.title, &dataset.words]) {
        assert!(!note.is_empty() && note.lines().count() == 1, "{name}: {note}");
    }
}

fn counts(dataset: &Dataset) -> [usize; 3] {
    [dataset.train.len(), dataset.val.len(), dataset.test.len()]
}

/// Paths below the set's folder, of the first items.
fn first<'a>(dataset: &Dataset, items: &'a [Item], count: usize) -> Vec<(&'a str, usize)> {
    let relative = |item: &'a Item| (item.path.strip_prefix(&dataset.root).unwrap().to_str().unwrap(), item.label);
    items.iter().take(count).map(relative).collect()
}

fn refused(what: &str, root: Option<&Path>) -> String {
    let error = Dataset::open(what, root).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn s(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn split_files_are_taken_as_they_are() {
    let cases = [
        (
            "caltech101",
            "Caltech101",
            "caltech-101",
            ["airplane", "crocodile head", "face", "wrench"],
            "a photo of a {}.",
        ),
        (
            "oxford_pets",
            "OxfordPets",
            "oxford_pets",
            ["abyssinian", "american bulldog", "beagle", "yorkshire terrier"],
            "a photo of a {}, a type of pet.",
        ),
        (
            "stanford_cars",
            "StanfordCars",
            "stanford_cars",
            ["2000 AM General Hummer SUV", "2012 Acura RL Sedan", "2012 Audi R8 Coupe", "2012 BMW Z4 Convertible"],
            "a photo of a {}.",
        ),
        (
            "oxford_flowers",
            "OxfordFlowers",
            "oxford_flowers",
            ["pink primrose", "fire lily", "sunflower", "rose"],
            "a photo of a {}, a type of flower.",
        ),
        (
            "food101",
            "Food101",
            "food-101",
            ["apple pie", "caesar salad", "pizza", "waffles"],
            "a photo of {}, a type of food.",
        ),
        ("sun397", "SUN397", "sun397", ["abbey", "outdoor apartment building", "bar", "zoo"], "a photo of a {}."),
        ("dtd", "DescribableTextures", "dtd", ["banded", "dotted", "polka-dotted", "woven"], "{} texture."),
        (
            "eurosat",
            "EuroSAT",
            "eurosat",
            ["Annual Crop Land", "Forest", "River", "Sea or Lake"],
            "a centered satellite photo of {}.",
        ),
        (
            "ucf101",
            "UCF101",
            "ucf101",
            ["Apply Eye Makeup", "Archery", "Biking", "Yo Yo"],
            "a photo of a person doing {}.",
        ),
    ];
    for (name, title, folder, classes, template) in cases {
        let (root, dataset) = open(name, write);
        assert_eq!((dataset.name.as_str(), dataset.title.as_str()), (name, title));
        assert_eq!(dataset.root, root.path().join(folder));
        assert_eq!(dataset.classes, classes);
        assert_eq!(dataset.templates, [template]);
        assert_eq!(counts(&dataset), COUNTS.map(|count| 4 * count), "{name}");
        assert_eq!(dataset.source, format!("split_zhou_{title}.json"));
        assert_eq!(dataset.notes, [""; 0], "{name}");
        assert_eq!(dataset.subset, None);
        // In the order of the file, where the last label comes first.
        assert_eq!(dataset.train.iter().take(5).map(|item| item.label).collect::<Vec<_>>(), [3, 2, 1, 0, 3], "{name}");
        assert!(s(&dataset.test[0].path).ends_with("/test_3_0.jpg"), "{name}");
    }
}

#[test]
fn pini_has_its_words() {
    let words = |name| open(name, write).1.words;
    assert_eq!(words("oxford_pets"), "a type of pet, a photo of a");
    assert_eq!(words("dtd"), "texture");
    assert_eq!(words("eurosat"), "a centered satellite photo of");
    assert_eq!(words("sun397"), "a photo of a");
}

#[test]
fn pets_have_lists_of_their_own() {
    let (_root, dataset) = open("oxford_pets", write_own_layout);
    assert_eq!(dataset.classes, ["abyssinian", "american bulldog", "beagle", "yorkshire terrier"]);
    // A fifth of ten per class.
    assert_eq!(counts(&dataset), [32, 8, 16]);
    assert_eq!(dataset.source, "annotations/trainval.txt and test.txt; 20 % of trainval to val");
    assert!(dataset.notes[0].starts_with("split_zhou_OxfordPets.json is not there"), "{:?}", dataset.notes);
    assert_eq!(
        first(&dataset, &dataset.test, 2),
        [("images/Abyssinian_11.jpg", 0), ("images/Abyssinian_12.jpg", 0)],
        "the test list's order"
    );
    // random.seed(1); x = list(range(1, 11)); random.shuffle(x) gives 7, 9, 10, 8, 6, 4, 1, 5, 2, 3.
    let val = ["images/Abyssinian_7.jpg", "images/Abyssinian_9.jpg"].map(|path| (path, 0));
    assert_eq!(first(&dataset, &dataset.val, 2), val);
    let train = ["images/Abyssinian_10.jpg", "images/Abyssinian_8.jpg"].map(|path| (path, 0));
    assert_eq!(first(&dataset, &dataset.train, 2), train);
}

#[test]
fn aircraft_come_with_three_lists() {
    let (_root, dataset) = open("fgvc_aircraft", write);
    assert_eq!(dataset.title, "FGVCAircraft");
    assert_eq!(dataset.classes, ["707-320", "727-200", "Cessna 172", "F/A-18"]);
    assert_eq!(counts(&dataset), [32, 16, 16]);
    assert_eq!(first(&dataset, &dataset.train, 2), [("images/1000000.jpg", 0), ("images/1000001.jpg", 1)]);
    assert_eq!(first(&dataset, &dataset.test, 1), [("images/1002000.jpg", 0)]);
    assert_eq!(dataset.templates, ["a photo of a {}, a type of aircraft."]);
    assert_eq!(dataset.notes, [""; 0]);
}

#[test]
fn scenes_are_called_by_their_path_backwards() {
    let (_root, dataset) = open("sun397", write_own_layout);
    assert_eq!(dataset.classes, ["abbey", "outdoor apartment building", "bar", "zoo"]);
    assert_eq!(counts(&dataset), [32, 8, 16]);
    let test = first(&dataset, &dataset.test, 5)[4];
    assert_eq!(test, ("SUN397/a/apartment_building/outdoor/sun_Testing_01_0.jpg", 1));
}

#[test]
fn actions_are_middle_frames() {
    let (_root, dataset) = open("ucf101", write_own_layout);
    assert_eq!(dataset.classes, ["Apply Eye Makeup", "Archery", "Biking", "Yo Yo"]);
    assert_eq!(counts(&dataset), [32, 8, 16]);
    let test = first(&dataset, &dataset.test, 1)[0];
    assert_eq!(test, ("UCF-101-midframes/Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c01.jpg", 0));
}

#[test]
fn a_smaller_task_keeps_pictures_with_their_classes() {
    let all = Dataset::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pictos/shifted"), None).unwrap();
    let few = all.without(&all.classes[1..].iter().step_by(2).cloned().collect::<Vec<_>>());
    assert_eq!(few.classes, all.classes.iter().step_by(2).cloned().collect::<Vec<_>>());
    for ((part, left), (_, items)) in few.parts().into_iter().zip(all.parts()) {
        let expected: Vec<_> = items.iter().filter(|item| item.label % 2 == 0).collect();
        assert!(!left.is_empty() && left.len() == expected.len(), "{part}");
        for (item, from) in left.iter().zip(expected) {
            assert_eq!((&item.path, item.label), (&from.path, from.label / 2), "{part}");
        }
    }
}

#[test]
fn class_folders_are_divided() {
    let caltech: &[&str] = &["face", "airplane", "crocodile head", "wrench"];
    let eurosat: &[&str] = &["Annual Crop Land", "Forest", "Highway or Road", "Sea or Lake"];
    for (name, classes) in [
        ("caltech101", caltech),
        ("food101", &["apple pie", "caesar salad", "pizza", "waffles"]),
        ("dtd", &["banded", "dotted", "polka-dotted", "woven"]),
        ("eurosat", eurosat),
    ] {
        let (_root, dataset) = open(name, write_own_layout);
        assert_eq!(dataset.classes, classes);
        assert_eq!(counts(&dataset), [40, 16, 24], "{name}: half, a fifth and the rest of 20 per class");
        // random.seed(1); x = list(range(20)); random.shuffle(x) gives 11, 5, 17, 19, 9, 0, 16, ..., 18, 4.
        let names: Vec<_> = dataset.train[..6].iter().map(|item| item.path.file_name().unwrap()).collect();
        assert_eq!(names, ["11.png", "05.png", "17.png", "19.png", "09.png", "00.jpg"], "{name}");
        assert!(dataset.test[5].path.ends_with("04.png"), "{name}");
    }
}

#[test]
fn lists_in_matlab_files_are_read() {
    let (_root, dataset) = open("oxford_flowers", write_own_layout);
    assert_eq!(dataset.classes, ["pink primrose", "fire lily", "sunflower", "rose"]);
    assert_eq!(counts(&dataset), [20, 8, 12]);
    for item in dataset.train.iter().chain(&dataset.test) {
        let number: usize = item.path.file_stem().unwrap().to_str().unwrap()["image_".len()..].parse().unwrap();
        assert_eq!(item.label, number % 4);
    }
    // The first picture is of label 1, so that is divided first.
    assert_eq!(dataset.train[0].label, 1);

    let (_root, dataset) = open("stanford_cars", write_own_layout);
    let classes =
        ["2000 AM General Hummer SUV", "2012 Acura RL Sedan", "2012 Audi R8 Coupe", "2012 BMW Z4 Convertible"];
    assert_eq!(dataset.classes, classes);
    // Of eight per class, a fifth is 1.6.
    assert_eq!(counts(&dataset), [24, 8, 16]);
    assert_eq!(first(&dataset, &dataset.test, 2), [("cars_test/00001.jpg", 1), ("cars_test/00002.jpg", 2)]);
}

#[test]
fn imagenet_is_tested_on_its_validation_set() {
    let (_root, dataset) = open("imagenet", write);
    assert_eq!(dataset.classes, ["tench", "goldfish", "crane", "crane"]);
    assert_eq!(counts(&dataset), [48, 0, 16]);
    assert_eq!(first(&dataset, &dataset.train, 1), [("images/train/n01440764/n01440764_0.JPEG", 0)]);
    assert_eq!(dataset.test[15].label, 3);
    assert!(dataset.notes.iter().any(|note| note.contains("'crane' (2 and 3)")), "{:?}", dataset.notes);
    assert_eq!(dataset.subset, None);
    // Never a test picture, even if there is nothing else to search on.
    let chosen = coop_few_shot(&dataset.train, &dataset.val, 2, 1).unwrap();
    assert_eq!((chosen.support.len(), chosen.val.len()), (8, 8));
}

#[test]
fn shifts_have_imagenets_labels() {
    let cases = [
        ("imagenetv2", "ImageNetV2", None),
        ("imagenet_sketch", "ImageNet-Sketch", None),
        ("imagenet_a", "ImageNet-A", Some(vec![1, 3])),
        ("imagenet_r", "ImageNet-R", Some(vec![0, 1, 2])),
    ];
    for (name, title, subset) in cases {
        let (root, dataset) = open(name, write);
        assert_eq!(dataset.title, title);
        assert_eq!(dataset.classes, ["tench", "goldfish", "crane", "crane"]);
        let tested = subset.as_ref().map_or(4, Vec::len);
        assert_eq!(counts(&dataset), [48, 0, 4 * tested], "{name}");
        assert_eq!(dataset.subset, subset, "{name}");
        assert_eq!(dataset.test.last().unwrap().label, subset.as_ref().map_or(3, |subset| *subset.last().unwrap()));

        // The shift alone, with its own copy of the names.
        fs::remove_dir_all(root.path().join("imagenet")).unwrap();
        let alone = Dataset::open(name, Some(root.path())).unwrap();
        assert_sound(&alone);
        assert_eq!(alone.classes, dataset.classes);
        assert_eq!((alone.train.len(), &alone.test), (0, &dataset.test));
        assert!(alone.notes.iter().any(|note| note.contains("only zero-shot")), "{:?}", alone.notes);
    }
}

#[test]
fn imagenets_folders_and_names_must_agree() {
    let root = tempfile::tempdir().unwrap();
    write("imagenet_a", root.path());
    write("imagenetv2", root.path());
    class_folders(&root.path().join("imagenet-adversarial/imagenet-a"), &["n09999999"], 1);
    assert!(refused("imagenet_a", Some(root.path())).contains("n09999999: the folder's name is no WordNet number"));
    class_folders(&root.path().join("imagenetv2/imagenetv2-matched-frequency-format-val"), &["4"], 1);
    assert!(refused("imagenetv2", Some(root.path())).contains("no label below 4"));
    class_folders(&root.path().join("imagenet/images/train"), &["n08888888"], 1);
    let error = refused("imagenet", Some(root.path()));
    assert!(error.contains("n08888888: ") && error.contains("classnames.txt has no such class"), "{error}");
    let names = root.path().join("imagenet/classnames.txt");
    text(&names, "n01440764 tench\nn01440764 fish\n");
    assert!(refused("imagenet", Some(root.path())).contains("line 2: n01440764 has a name already"));
    text(&names, "n01440764\n");
    assert!(refused("imagenet", Some(root.path())).contains("line 1: not a WordNet number"));
}

#[test]
fn every_known_name_has_a_miniature() {
    for name in ELEVEN.into_iter().chain(SHIFTS) {
        let (_root, dataset) = open(name, write);
        assert!(dataset.summary().iter().all(|part| part.pictures == 0 || part.fewest >= 4), "{name}");
        open(name, write_own_layout);
    }
}

#[test]
fn names_may_be_written_otherwise() {
    let root = tempfile::tempdir().unwrap();
    write("oxford_pets", root.path());
    for name in ["OxfordPets", "pets", "Oxford-Pets"] {
        assert_eq!(Dataset::open(name, Some(root.path())).unwrap().name, "oxford_pets");
    }
}

#[test]
fn what_is_not_there_is_said() {
    let root = tempfile::tempdir().unwrap();
    let error = refused("pets", Some(root.path()));
    assert!(error.starts_with(s(&root.path().join("oxford_pets"))), "{error}");
    assert!(error.contains("split_zhou_OxfordPets.json") && error.contains("annotations/trainval.txt"), "{error}");
    assert!(refused("pets", None).contains("`root`, the folder that holds oxford_pets"));
    let error = refused("no-such-set", Some(root.path()));
    assert!(error.contains("'no-such-set'") && error.contains("caltech101") && error.contains("imagenet_r"), "{error}");
    // A folder without lists.
    fs::create_dir_all(root.path().join("oxford_pets/images")).unwrap();
    let error = refused("pets", Some(root.path()));
    assert!(error.contains("neither split_zhou_OxfordPets.json nor annotations/trainval.txt"), "{error}");
    for (name, needle) in
        [("imagenet", "images/train"), ("imagenet_a", "imagenet-a"), ("dtd", "images"), ("aircraft", "variants.txt")]
    {
        fs::create_dir_all(Dataset::folder(name, root.path()).unwrap()).unwrap();
        assert!(refused(name, Some(root.path())).contains(needle), "{name}: {}", refused(name, Some(root.path())));
    }
}

/// A split file of pets, all in train but one of class 0 to test on; nothing of it exists.
fn pets(train: &str) -> Result<Dataset, String> {
    let root = tempfile::tempdir().unwrap();
    let split = root.path().join("oxford_pets/split_zhou_OxfordPets.json");
    text(&split, format!(r#"{{"train": [{train}], "val": [], "test": [["t.jpg", 0, "ant"]]}}"#));
    Dataset::open("pets", Some(root.path())).map_err(|error| {
        let error = error.to_string();
        assert!(error.starts_with(s(&split)) && error.lines().count() == 1, "{error}");
        error
    })
}

#[test]
fn labels_and_classes_belong_together() {
    let dataset = pets(r#"["a.jpg", 0, "ant"], ["b.jpg", 1, "bee"], ["t.jpg", 0, "ant"]"#).unwrap();
    assert_eq!(dataset.missing().len(), 4);
    assert!(dataset.notes.iter().any(|note| note.contains("1 class has no test picture: bee")), "{:?}", dataset.notes);
    assert!(dataset.notes.iter().any(|note| note.contains("images/t.jpg (train and test)")), "{:?}", dataset.notes);

    let error = pets(r#"["a.jpg", 0, "ant"], ["b.jpg", 0, "bee"]"#).unwrap_err();
    assert!(error.contains("label 0 is both 'ant' and 'bee'"), "{error}");
    let error = pets(r#"["a.jpg", 0, "ant"], ["b.jpg", 1, "bee"], ["c.jpg", 2, "bee"]"#).unwrap_err();
    assert!(error.contains("the class 'bee' has the labels 1 and 2"), "{error}");
    let error = pets(r#"["a.jpg", 0, "ant"], ["b.jpg", 2, "bee"]"#).unwrap_err();
    assert!(error.contains("label 2 is used but 1 is not"), "{error}");
    let error = pets(r#"["b.jpg", 1, "bee"], ["c.jpg", 2, "cat"]"#).unwrap_err();
    assert!(error.contains("no train picture of ant"), "{error}");
    assert!(pets(r#"["a.jpg", 0, "ant"]"#).unwrap_err().contains("1 class: at least two"));
    assert!(pets(r#"["a.jpg", 0, "ant"], ["b.jpg", 1, "_"]"#).unwrap_err().contains("no name"));
    // Apart in the file, together in the prompt: worth knowing, but the set is what it is.
    let dataset = pets(r#"["a.jpg", 0, "ant"], ["b.jpg", 1, "big_bee"], ["c.jpg", 2, "big bee"]"#).unwrap();
    assert!(dataset.notes.iter().any(|note| note.contains("'big bee' (1 and 2)")), "{:?}", dataset.notes);
}

#[test]
fn a_users_folder_is_divided_always_alike() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("my set");
    class_folders(&set, &["ant", "big_bee", "cat"], 10);
    let dataset = Dataset::open(s(&set), None).unwrap();
    assert_sound(&dataset);
    assert_eq!((dataset.name.as_str(), dataset.title.as_str()), ("my set", "my set"));
    assert_eq!(dataset.classes, ["ant", "big bee", "cat"]);
    assert_eq!(counts(&dataset), [15, 6, 9]);
    assert_eq!((dataset.templates[0].as_str(), dataset.words.as_str()), ("a photo of a {}.", "a photo of a"));
    assert_eq!(dataset.source, "class folders; 50 % train, 20 % val, 30 % test of each class");
    // random.shuffle of ten with seed 1: 6, 8, 9, 7, 5, 3, 0, 4, 1, 2.
    let train: Vec<_> = dataset.train[..5].iter().map(|item| s(item.path.strip_prefix(&set).unwrap())).collect();
    assert_eq!(train, ["ant/06.png", "ant/08.png", "ant/09.png", "ant/07.png", "ant/05.png"]);
    assert!(s(&dataset.test[2].path).ends_with("ant/02.png"));
    let again = Dataset::open(s(&set), Some(dir.path())).unwrap();
    assert_eq!((again.train, again.val, again.test), (dataset.train, dataset.val, dataset.test));
}

#[test]
fn small_classes_are_noted_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(dir.path(), &["ant", "bee"], 2);
    class_folders(dir.path(), &["cat"], 5);
    let dataset = Dataset::open(s(dir.path()), None).unwrap();
    assert_eq!(counts(&dataset), [4, 1, 4]);
    assert!(dataset.notes.iter().any(|note| note.contains("2 classes have no val picture: ant, bee")));
    class_folders(dir.path(), &["dog"], 1);
    let error = refused(s(dir.path()), None);
    assert!(error.contains("dog: the class has one picture"), "{error}");
}

#[test]
fn a_users_folder_may_have_its_parts() {
    for val in ["val", "valid", "validation"] {
        let dir = tempfile::tempdir().unwrap();
        for (part, count) in [("train", 3), (val, 2), ("test", 1)] {
            class_folders(&dir.path().join(part), &["ant", "bee"], count);
        }
        let dataset = Dataset::open(s(dir.path()), None).unwrap();
        assert_sound(&dataset);
        assert_eq!(counts(&dataset), [6, 4, 2]);
        assert_eq!(dataset.source, format!("the folders train, {val}, test"));
        assert_eq!(first(&dataset, &dataset.train, 2), [("train/ant/00.jpg", 0), ("train/ant/01.png", 0)]);
    }
}

#[test]
fn parts_must_agree() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(&dir.path().join("train"), &["ant", "bee", "cat"], 3);
    class_folders(&dir.path().join("val"), &["ant"], 1);
    let error = refused(s(dir.path()), None);
    assert!(error.contains("train and val but no test"), "{error}");
    class_folders(&dir.path().join("test"), &["ant", "cat"], 2);
    let dataset = Dataset::open(s(dir.path()), None).unwrap();
    assert_eq!(counts(&dataset), [9, 1, 4]);
    assert!(dataset.notes.iter().any(|note| note.contains("1 class has no test picture: bee")), "{:?}", dataset.notes);
    class_folders(&dir.path().join("validation"), &["ant"], 1);
    assert!(refused(s(dir.path()), None).contains("there are val and validation"));
    for name in ["val", "validation"] {
        fs::remove_dir_all(dir.path().join(name)).unwrap();
    }
    let dataset = Dataset::open(s(dir.path()), None).unwrap();
    assert!(dataset.val.is_empty() && dataset.notes.iter().any(|note| note.contains("no val part")));
    class_folders(&dir.path().join("test"), &["dog"], 1);
    assert!(refused(s(dir.path()), None).contains("dog: train has no class folder 'dog'"));
}

#[test]
fn a_class_may_be_called_train() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(dir.path(), &["train", "tram", "test"], 4);
    assert_eq!(Dataset::open(s(dir.path()), None).unwrap().classes, ["test", "train", "tram"]);
}

/// A CSV file of these lines.
fn csv(dir: &Path, lines: &[&str]) -> Result<Dataset, String> {
    let list = dir.join("list.csv");
    text(&list, lines.join("\n"));
    Dataset::open(s(&list), None).map_err(|error| {
        let error = error.to_string();
        assert!(error.starts_with(s(&list)) && error.lines().count() == 1, "{error}");
        error
    })
}

#[test]
fn a_list_may_tell_the_parts() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["a, b.png", "c.png", "d.png", "e.png", "f.png"];
    names.iter().for_each(|name| picture(&dir.path().join("pictures").join(name), 0));
    let lines = [
        "\u{feff}path,label,split",
        "pictures/c.png,wild_cat,train",
        "\"pictures/a, b.png\",ant,test",
        "pictures/d.png, ant ,train",
        "pictures/e.png,wild_cat,test",
        "",
        "pictures/f.png,ant,val",
    ];
    let dataset = csv(dir.path(), &lines).unwrap();
    assert_sound(&dataset);
    assert_eq!((dataset.name.as_str(), &*dataset.root), ("list", dir.path()));
    assert_eq!(dataset.classes, ["ant", "wild cat"], "sorted");
    assert_eq!(first(&dataset, &dataset.train, 9), [("pictures/c.png", 1), ("pictures/d.png", 0)]);
    assert_eq!(first(&dataset, &dataset.val, 9), [("pictures/f.png", 0)]);
    assert_eq!(first(&dataset, &dataset.test, 9), [("pictures/a, b.png", 0), ("pictures/e.png", 1)]);
    assert_eq!(dataset.source, "the column split");
}

#[test]
fn a_list_without_parts_is_divided() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(dir.path(), &["ant", "bee"], 10);
    let mut lines = Vec::new();
    for number in (0..10).rev() {
        let extension = if number == 0 { "jpg" } else { "png" };
        lines.extend(["bee", "ant"].map(|class| format!("{class}/{number:02}.{extension},{class}")));
    }
    let all: Vec<&str> = ["path,label"].into_iter().chain(lines.iter().map(String::as_str)).collect();
    let dataset = csv(dir.path(), &all).unwrap();
    assert_sound(&dataset);
    assert_eq!(counts(&dataset), [10, 4, 6]);
    // In the order of the lines, which count down: place 6 of 9, 8, ... is 3.
    assert_eq!(first(&dataset, &dataset.train, 3), [("ant/03.png", 0), ("ant/01.png", 0), ("ant/00.jpg", 0)]);
    assert_eq!(dataset.source, "lines of the list; 50 % train, 20 % val, 30 % test of each class");
}

#[test]
fn a_wrong_line_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |lines: &[&str]| csv(dir.path(), lines).unwrap_err();
    let header = "path,label,split";
    for wrong in ["file,label", "path,label,part", "path", "path,label,split,split"] {
        let error = refused(&[wrong, "a.png,a,train"]);
        assert!(error.contains("line 1: the header is") && error.contains("path,label,split"), "{error}");
    }
    let error = refused(&[header, "a.png,a,train", "b.png,b,dev"]);
    assert!(error.contains("line 3: split is 'dev': it must be train, val or test"), "{error}");
    let error = refused(&[header, "a.png,a,train", "", "b.png,b"]);
    assert!(error.contains("line 4: 2 fields where the header has 3"), "{error}");
    // Lines are counted where quotes hide one and where they end as on Windows.
    let error = refused(&[header, "a.png,\"a\nb\",train\r", "\r", "b.png\r"]);
    assert!(error.contains("line 5: 1 fields"), "{error}");
    let error = refused(&[header, "a.png,a,train", ",b,test"]);
    assert!(error.contains("line 3: the path is empty"), "{error}");
    let error = refused(&[header, "a.png,a,train", "b.png,_,test"]);
    assert!(error.contains("line 3: the label '_' names no class"), "{error}");
    let error = refused(&[header, "a.png,a,train", "b.png,b,train", "a.png,b,test"]);
    assert!(error.contains("line 4: ") && error.contains("a.png' is in line 2 too"), "{error}");
    let error = refused(&[header, "a.png,big cat,train", "b.png,big_cat,test"]);
    assert!(error.contains("'big cat' (line 2) and 'big_cat' both become 'big cat'"), "{error}");
    assert!(refused(&[header, "a.png,a,train"]).contains("1 class, 'a': at least two"));
    assert!(refused(&[header]).contains("0 classes"));
    let error = refused(&[header, "a.png,a,train", "b.png,b,test", "c.png,a,test"]);
    assert!(error.contains("no train picture of b"), "{error}");
    let error = refused(&["path,label", "a.png,a", "b.png,a", "c.png,b"]);
    assert!(error.contains("only one picture of b"), "{error}");
    fs::write(dir.path().join("latin.csv"), b"path,label\na.png,\xe9\n").unwrap();
    let error = Dataset::open(s(&dir.path().join("latin.csv")), None).unwrap_err().to_string();
    assert!(error.contains("line 2: not UTF-8"), "{error}");
}

#[test]
fn a_name_that_is_also_a_path_is_the_known_set_with_a_root_only() {
    let dir = tempfile::tempdir().unwrap();
    // Relative to nothing that this test could change, so the name is looked up with a root and as a path.
    class_folders(&dir.path().join("pets"), &["cat", "dog"], 4);
    assert!(refused("pets", Some(dir.path())).contains("oxford_pets"));
    assert_eq!(Dataset::open(s(&dir.path().join("pets")), Some(dir.path())).unwrap().classes, ["cat", "dog"]);
}
