//! The sets that have a name: where they lie, how they are called and how they are prompted.

use std::path::Path;

use super::own_layouts::{self, OwnLayout};
use super::{TEMPLATE, WORDS};

/// The eleven sets over which few-shot methods are averaged, in the papers' order.
pub const ELEVEN: [&str; 11] = [
    "imagenet",
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "oxford_flowers",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
];

/// The four sets that show ImageNet's classes otherwise than ImageNet does.
pub const SHIFTS: [&str; 4] = ["imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"];

/// How a set lies on disk.
pub(super) enum Layout {
    /// Folders named by WordNet numbers, with the names in a list.
    ImageNet,
    /// Pictures of ImageNet's classes to test on, in folders named by WordNet numbers or `numbered` by label.
    Shift { numbered: bool },
    /// Lists of pictures: CoOp's split file where the set has one and it is there, else the set's own.
    Lists { split: Option<&'static str>, own: OwnLayout },
}

/// A set that has a name.
pub(super) struct Known {
    pub name: &'static str,
    pub title: &'static str,
    /// Its folder.
    pub folder: &'static str,
    /// Where pictures lie in it.
    pub pictures: &'static str,
    pub template: &'static str,
    pub words: &'static str,
    pub layout: Layout,
    /// Other names, without `-` and `_`, in lower case.
    aliases: &'static [&'static str],
    /// Classes that CoOp calls otherwise than the set does.
    renamed: &'static [(&'static str, &'static str)],
}

const fn lists(split: &'static str, own: OwnLayout) -> Layout {
    Layout::Lists { split: Some(split), own }
}

const KNOWN: [Known; 15] = [
    Known {
        name: "imagenet",
        title: "ImageNet",
        folder: "imagenet",
        pictures: "images",
        template: TEMPLATE,
        words: WORDS,
        layout: Layout::ImageNet,
        aliases: &["imagenet1k", "ilsvrc2012"],
        renamed: &[],
    },
    Known {
        name: "caltech101",
        title: "Caltech101",
        folder: "caltech-101",
        pictures: "101_ObjectCategories",
        template: TEMPLATE,
        words: WORDS,
        layout: lists("split_zhou_Caltech101.json", own_layouts::CALTECH101),
        aliases: &["caltech"],
        renamed: &[("airplanes", "airplane"), ("Faces", "face"), ("Leopards", "leopard"), ("Motorbikes", "motorbike")],
    },
    Known {
        name: "oxford_pets",
        title: "OxfordPets",
        folder: "oxford_pets",
        pictures: "images",
        template: "a photo of a {}, a type of pet.",
        words: "a type of pet, a photo of a",
        layout: lists("split_zhou_OxfordPets.json", own_layouts::OXFORD_PETS),
        aliases: &["pets", "oxfordiiitpet", "oxfordiiitpets"],
        renamed: &[],
    },
    Known {
        name: "stanford_cars",
        title: "StanfordCars",
        folder: "stanford_cars",
        // The split file's paths begin with cars_train and cars_test.
        pictures: "",
        template: TEMPLATE,
        words: WORDS,
        layout: lists("split_zhou_StanfordCars.json", own_layouts::STANFORD_CARS),
        aliases: &["cars"],
        renamed: &[],
    },
    Known {
        name: "oxford_flowers",
        title: "OxfordFlowers",
        folder: "oxford_flowers",
        pictures: "jpg",
        template: "a photo of a {}, a type of flower.",
        words: "a type of flower, a photo of a",
        layout: lists("split_zhou_OxfordFlowers.json", own_layouts::OXFORD_FLOWERS),
        aliases: &["flowers", "flowers102", "oxfordflowers102"],
        renamed: &[],
    },
    Known {
        name: "food101",
        title: "Food101",
        folder: "food-101",
        pictures: "images",
        template: "a photo of {}, a type of food.",
        words: "a type of food, a photo of",
        layout: lists("split_zhou_Food101.json", own_layouts::CLASS_FOLDERS),
        aliases: &["food"],
        renamed: &[],
    },
    Known {
        name: "fgvc_aircraft",
        title: "FGVCAircraft",
        folder: "fgvc_aircraft",
        pictures: "images",
        template: "a photo of a {}, a type of aircraft.",
        words: "a type of aircraft, a photo of a",
        // CoOp has no split file of it: the set comes with one.
        layout: Layout::Lists { split: None, own: own_layouts::FGVC_AIRCRAFT },
        aliases: &["aircraft", "aircrafts"],
        renamed: &[],
    },
    Known {
        name: "sun397",
        title: "SUN397",
        folder: "sun397",
        pictures: "SUN397",
        template: TEMPLATE,
        words: WORDS,
        layout: lists("split_zhou_SUN397.json", own_layouts::SUN397),
        aliases: &["sun"],
        renamed: &[],
    },
    Known {
        name: "dtd",
        title: "DescribableTextures",
        folder: "dtd",
        pictures: "images",
        template: "{} texture.",
        words: "texture",
        layout: lists("split_zhou_DescribableTextures.json", own_layouts::CLASS_FOLDERS),
        aliases: &["describabletextures", "textures"],
        renamed: &[],
    },
    Known {
        name: "eurosat",
        title: "EuroSAT",
        folder: "eurosat",
        pictures: "2750",
        template: "a centered satellite photo of {}.",
        words: "a centered satellite photo of",
        layout: lists("split_zhou_EuroSAT.json", own_layouts::CLASS_FOLDERS),
        aliases: &[],
        renamed: &[
            ("AnnualCrop", "Annual Crop Land"),
            ("HerbaceousVegetation", "Herbaceous Vegetation Land"),
            ("Highway", "Highway or Road"),
            ("Industrial", "Industrial Buildings"),
            ("Pasture", "Pasture Land"),
            ("PermanentCrop", "Permanent Crop Land"),
            ("Residential", "Residential Buildings"),
            ("SeaLake", "Sea or Lake"),
        ],
    },
    Known {
        name: "ucf101",
        title: "UCF101",
        folder: "ucf101",
        pictures: "UCF-101-midframes",
        template: "a photo of a person doing {}.",
        words: "a photo of a person doing",
        layout: lists("split_zhou_UCF101.json", own_layouts::UCF101),
        aliases: &["ucf"],
        renamed: &[],
    },
    shift("imagenetv2", "ImageNetV2", "imagenetv2", "imagenetv2-matched-frequency-format-val", true, &["imagenetv2"]),
    shift("imagenet_sketch", "ImageNet-Sketch", "imagenet-sketch", "images", false, &["sketch"]),
    shift("imagenet_a", "ImageNet-A", "imagenet-adversarial", "imagenet-a", false, &["imagenetadversarial"]),
    shift("imagenet_r", "ImageNet-R", "imagenet-rendition", "imagenet-r", false, &["imagenetrendition"]),
];

const fn shift(
    name: &'static str,
    title: &'static str,
    folder: &'static str,
    pictures: &'static str,
    numbered: bool,
    aliases: &'static [&'static str],
) -> Known {
    let layout = Layout::Shift { numbered };
    Known { name, title, folder, pictures, template: TEMPLATE, words: WORDS, layout, aliases, renamed: &[] }
}

/// A name without what does not matter in it.
fn bare(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

impl Known {
    /// The set of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        static TABLE: [Known; 15] = KNOWN;
        let name = bare(name);
        TABLE.iter().find(|known| bare(known.name) == name || known.aliases.contains(&name.as_str()))
    }

    /// The set whose split file `path` is by its name, and the folder that it lies in.
    pub fn of_split(path: &Path) -> Option<(&'static Self, &Path)> {
        static TABLE: [Known; 15] = KNOWN;
        let name = path.file_name()?.to_str()?;
        let known =
            TABLE.iter().find(|known| matches!(known.layout, Layout::Lists { split: Some(own), .. } if own == name))?;
        path.is_file().then_some((known, path.parent()?))
    }

    /// What CoOp calls the class.
    pub fn renamed(&self, class: String) -> String {
        match self.renamed.iter().find(|(own, _)| *own == class) {
            Some((_, name)) => (*name).to_owned(),
            None => class,
        }
    }

    /// What should be in the set's folder, for an error.
    pub fn contents(&self) -> String {
        match &self.layout {
            Layout::ImageNet => "with images/train, images/val and classnames.txt in it".to_owned(),
            Layout::Shift { numbered } => {
                let names = if *numbered { "label" } else { "WordNet number" };
                format!("with {}/ in it, which has a folder per class, named by its {names}", self.pictures)
            }
            Layout::Lists { split: Some(split), own } => {
                let pictures = if self.pictures.is_empty() { "its pictures" } else { self.pictures };
                format!("with {pictures} and {split} (or {}) in it", own.files(self.pictures).join(", "))
            }
            Layout::Lists { split: None, own } => {
                format!("with {} and {} in it", self.pictures, own.files(self.pictures).join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_found_by_its_names() {
        for name in ELEVEN.iter().chain(&SHIFTS) {
            assert_eq!(Known::find(name).unwrap().name, *name);
            assert_eq!(Known::find(Known::find(name).unwrap().title).unwrap().name, *name, "by its title");
        }
        let cases = [
            ("OxfordPets", "oxford_pets"),
            ("pets", "oxford_pets"),
            ("DescribableTextures", "dtd"),
            ("DTD", "dtd"),
            ("aircraft", "fgvc_aircraft"),
            ("FGVCAircraft", "fgvc_aircraft"),
            ("cars", "stanford_cars"),
            ("Flowers", "oxford_flowers"),
            ("caltech-101", "caltech101"),
            ("food-101", "food101"),
            ("ImageNet-A", "imagenet_a"),
            ("imagenet-r", "imagenet_r"),
            ("ImageNetV2", "imagenetv2"),
            ("imagenet_v2", "imagenetv2"),
            ("ImageNetSketch", "imagenet_sketch"),
            ("imagenet-adversarial", "imagenet_a"),
        ];
        for (name, expected) in cases {
            assert_eq!(Known::find(name).map(|known| known.name), Some(expected), "{name}");
        }
        assert!(Known::find("imagenet21k").is_none() && Known::find("").is_none());
    }

    #[test]
    fn no_two_sets_share_a_name() {
        let mut names: Vec<String> = Vec::new();
        for known in KNOWN {
            let mut own: Vec<String> = known.aliases.iter().map(|alias| bare(alias)).collect();
            assert_eq!(own, known.aliases, "aliases are compared as they stand");
            own.push(bare(known.name));
            own.sort();
            own.dedup();
            names.extend(own);
        }
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn the_order_is_that_of_the_lists() {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
        assert_eq!(names, ELEVEN.iter().chain(&SHIFTS).copied().collect::<Vec<_>>());
    }
}
