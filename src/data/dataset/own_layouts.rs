//! The lists that sets come with, for a set without CoOp's split file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::listing::Lines;
use super::mat::{self, Array};
use super::split::{by_label, class_folders, hold_out, three_ways_rows};
use super::{Parts, Row};
use crate::data::PythonRandom;
use crate::data::walk::Tree;
use crate::{Error, Result, input};

/// Reads a set's folder and its folder of pictures.
type Read = fn(Tree<'_>, (&Path, &Path), &mut PythonRandom) -> Result<Parts<Row>>;

/// How a set's own lists become parts.
pub(super) struct OwnLayout {
    /// What must be there, relative to the set's folder; empty for sets of class folders, which need just those.
    files: &'static [&'static str],
    /// Where the parts come from, for people.
    pub source: &'static str,
    pub read: Read,
}

impl OwnLayout {
    /// What must be there for a split.
    pub fn files(&self, pictures: &'static str) -> Vec<&'static str> {
        if self.files.is_empty() { vec![pictures] } else { self.files.to_vec() }
    }

    /// Checks that what a split is made of is in `dir`, where the `split` file that one would rather have is not.
    pub fn check(&self, dir: &Path, pictures: &'static str, split: Option<&str>) -> Result<()> {
        let files = self.files(pictures);
        let Some(missing) = files.iter().find(|file| !dir.join(file).exists()) else { return Ok(()) };
        let reason = match split {
            Some(split) if files.len() == 1 => format!("there is neither {split} nor {missing}: have both"),
            Some(split) => format!(
                "there is neither {split} nor {missing}: fetch the first, or have {} to make a split of",
                files.join(", ")
            ),
            None => format!("there is no {missing}, which the parts are made of: fetch it"),
        };
        Err(Error::data(dir, reason))
    }
}

pub(super) const CLASS_FOLDERS: OwnLayout = OwnLayout {
    files: &[],
    source: "class folders; 50 % train, 20 % val, 30 % test of each",
    read: |tree, (_, pictures), random| class_folders(tree, pictures, &[], random),
};

pub(super) const CALTECH101: OwnLayout = OwnLayout {
    files: &[],
    source: "class folders but BACKGROUND_Google and Faces_easy; 50 % train, 20 % val, 30 % test of each",
    read: |tree, (_, pictures), random| class_folders(tree, pictures, &["BACKGROUND_Google", "Faces_easy"], random),
};

pub(super) const OXFORD_PETS: OwnLayout = OwnLayout {
    files: &["annotations/trainval.txt", "annotations/test.txt"],
    source: "annotations/trainval.txt and test.txt; 20 % of trainval to val",
    read: |_, (dir, pictures), random| {
        let trainval = pets(dir.join("annotations/trainval.txt"), pictures)?;
        let test = pets(dir.join("annotations/test.txt"), pictures)?;
        Ok(with_test(trainval, test, random))
    },
};

pub(super) const STANFORD_CARS: OwnLayout = OwnLayout {
    files: &["devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"],
    source: "devkit/cars_train_annos.mat and cars_test_annos_withlabels.mat; 20 % of train to val",
    read: |_, (dir, _), random| {
        let names = car_names(&dir.join("devkit/cars_meta.mat"))?;
        let trainval = cars(&dir.join("devkit/cars_train_annos.mat"), &names, &dir.join("cars_train"))?;
        let test = cars(&dir.join("cars_test_annos_withlabels.mat"), &names, &dir.join("cars_test"))?;
        Ok(with_test(trainval, test, random))
    },
};

pub(super) const OXFORD_FLOWERS: OwnLayout = OwnLayout {
    files: &["imagelabels.mat", "cat_to_name.json"],
    source: "imagelabels.mat; 50 % train, 20 % val, 30 % test of each class",
    read: flowers,
};

pub(super) const FGVC_AIRCRAFT: OwnLayout = OwnLayout {
    files: &["variants.txt", "images_variant_train.txt", "images_variant_val.txt", "images_variant_test.txt"],
    source: "images_variant_train.txt, images_variant_val.txt and images_variant_test.txt",
    read: |_, (dir, pictures), _| {
        let variants = Lines::read(dir.join("variants.txt"))?;
        let labels = variants.iter().enumerate().map(|(label, line)| (line.text.to_owned(), label)).collect();
        let part = |name: &str| aircraft(dir.join(name), &labels, pictures);
        Ok(Parts {
            train: part("images_variant_train.txt")?,
            val: part("images_variant_val.txt")?,
            test: part("images_variant_test.txt")?,
        })
    },
};

pub(super) const SUN397: OwnLayout = OwnLayout {
    files: &["ClassName.txt", "Training_01.txt", "Testing_01.txt"],
    source: "Training_01.txt and Testing_01.txt; 20 % of training to val",
    read: |_, (dir, pictures), random| {
        let names = Lines::read(dir.join("ClassName.txt"))?;
        let labels = names.iter().enumerate();
        let labels = labels.map(|(label, line)| (line.text.trim_start_matches('/').to_owned(), label)).collect();
        let trainval = scenes(dir.join("Training_01.txt"), &labels, pictures)?;
        let test = scenes(dir.join("Testing_01.txt"), &labels, pictures)?;
        Ok(with_test(trainval, test, random))
    },
};

pub(super) const UCF101: OwnLayout = OwnLayout {
    files: &["ucfTrainTestlist/classInd.txt", "ucfTrainTestlist/trainlist01.txt", "ucfTrainTestlist/testlist01.txt"],
    source: "ucfTrainTestlist/trainlist01.txt and testlist01.txt; 20 % of trainlist01 to val",
    read: |_, (dir, pictures), random| {
        let lists = dir.join("ucfTrainTestlist");
        let mut labels = HashMap::new();
        for line in Lines::read(lists.join("classInd.txt"))?.iter() {
            let fields = line.text.split_once(' ').and_then(|(label, name)| Some((from_one(label)?, name.trim())));
            let (label, name) =
                fields.ok_or_else(|| line.error("not a number from 1 and a class, such as '1 Archery'"))?;
            labels.insert(name.to_owned(), label);
        }
        let trainval = actions(lists.join("trainlist01.txt"), &labels, pictures)?;
        let test = actions(lists.join("testlist01.txt"), &labels, pictures)?;
        Ok(with_test(trainval, test, random))
    },
};

/// Parts of a set that has a test list and one of the rest.
fn with_test(trainval: Vec<Row>, test: Vec<Row>, random: &mut PythonRandom) -> Parts<Row> {
    let (train, val) = hold_out(trainval, random);
    Parts { train, val, test }
}

/// A label of a list that counts from 1.
fn from_one(number: &str) -> Option<usize> {
    number.parse::<usize>().ok()?.checked_sub(1)
}

/// OxfordPets' lists: "Abyssinian_100 1 1 1", picture, label from 1, species, breed.
fn pets(file: PathBuf, pictures: &Path) -> Result<Vec<Row>> {
    let lines = Lines::read(file)?;
    let rows = lines.iter().filter(|line| !line.text.starts_with('#')).map(|line| {
        let mut fields = line.text.split_whitespace();
        let (name, label) = (fields.next().unwrap_or_default(), fields.next().and_then(from_one));
        let (Some(label), Some((breed, _))) = (label, name.rsplit_once('_')) else {
            return Err(line.error("not a picture and its label from 1, such as 'Abyssinian_100 1 1 1'"));
        };
        let path = line.below(pictures, &format!("{name}.jpg"))?;
        Ok(Row { path, label, class: breed.to_lowercase() })
    });
    rows.collect()
}

/// FGVCAircraft's lists: "1025794 707-320", picture and class.
fn aircraft(file: PathBuf, labels: &HashMap<String, usize>, pictures: &Path) -> Result<Vec<Row>> {
    let lines = Lines::read(file)?;
    let rows = lines.iter().map(|line| {
        let Some((id, class)) = line.text.split_once(' ').map(|(id, class)| (id, class.trim())) else {
            return Err(line.error("not a picture's number and its class, such as '1025794 707-320'"));
        };
        let label = *labels.get(class).ok_or_else(|| line.error(format!("variants.txt has no '{class}'")))?;
        Ok(Row { path: line.below(pictures, &format!("{id}.jpg"))?, label, class: class.to_owned() })
    });
    rows.collect()
}

/// SUN397's lists: "/a/apartment_building/outdoor/sun_x.jpg". The class is called "outdoor apartment_building": where a
/// scene is seen from comes first.
fn scenes(file: PathBuf, labels: &HashMap<String, usize>, pictures: &Path) -> Result<Vec<Row>> {
    let lines = Lines::read(file)?;
    let rows = lines.iter().map(|line| {
        let path = line.text.trim_start_matches('/');
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let label = *labels.get(folder).ok_or_else(|| line.error(format!("ClassName.txt has no '/{folder}'")))?;
        // The first part is the initial letter.
        let words: Vec<&str> = folder.split('/').skip(1).collect();
        let class = words.into_iter().rev().collect::<Vec<_>>().join(" ");
        Ok(Row { path: line.below(pictures, path)?, label, class })
    });
    rows.collect()
}

/// UCF101's lists: "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1" is the middle frame
/// Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg.
fn actions(file: PathBuf, labels: &HashMap<String, usize>, pictures: &Path) -> Result<Vec<Row>> {
    let lines = Lines::read(file)?;
    let rows = lines.iter().map(|line| {
        let video = line.text.split(' ').next().unwrap_or_default();
        let Some((action, video)) = video.split_once('/') else {
            return Err(line.error("not a class and a video, such as 'Archery/v_Archery_g01_c01.avi'"));
        };
        let label = *labels.get(action).ok_or_else(|| line.error(format!("classInd.txt has no '{action}'")))?;
        let class = spaced(action);
        let path = line.below(pictures, &format!("{class}/{}", video.replace(".avi", ".jpg")))?;
        Ok(Row { path, label, class })
    });
    rows.collect()
}

/// The words of "ApplyEyeMakeup" with underscores between them: Python's `re.findall("[A-Z][^A-Z]*")`, which passes over
/// what comes before the first capital.
fn spaced(action: &str) -> String {
    let mut text = String::new();
    for letter in action.chars().skip_while(|letter| !letter.is_ascii_uppercase()) {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter);
    }
    text
}

/// OxfordFlowers: labels from 1 by picture number, and the names of labels.
fn flowers(_: Tree<'_>, (dir, pictures): (&Path, &Path), random: &mut PythonRandom) -> Result<Parts<Row>> {
    let file = dir.join("imagelabels.mat");
    let names_file = dir.join("cat_to_name.json");
    let names = input::read(&names_file, input::limit::CONFIG)?;
    let names: HashMap<String, String> = serde_json::from_slice(&names).map_err(|error| {
        Error::data(&names_file, format!("{error}: it must be an object such as {{\"21\": \"fire lily\"}}"))
    })?;
    let labels = mat::read(&file, "labels")?;
    let Array::Numbers(labels) = labels else {
        return Err(Error::data(&file, "'labels' is no array of numbers: fetch the file again"));
    };
    let rows = labels.iter().enumerate().map(|(index, &number)| {
        let picture = index + 1;
        let label = whole(number).ok_or_else(|| {
            Error::data(&file, format!("the label of picture {picture} is {number}: labels are whole numbers from 1"))
        })?;
        let class = names.get(&(label + 1).to_string()).ok_or_else(|| {
            Error::data(&names_file, format!("there is no name for {}, the class of picture {picture}", label + 1))
        })?;
        Ok(Row { path: pictures.join(format!("image_{picture:05}.jpg")), label, class: class.clone() })
    });
    three_ways_rows(by_label(rows.collect::<Result<_>>()?), dir, random)
}

/// A number from 1 as a label from 0.
fn whole(number: f64) -> Option<usize> {
    (number >= 1.0 && number.fract() == 0.0 && number < 1e6).then(|| number as usize - 1)
}

/// StanfordCars' class names with the year in front, as CoOp has it: "2000 AM General Hummer SUV".
fn car_names(file: &Path) -> Result<Vec<String>> {
    let Array::Cells(cells) = mat::read(file, "class_names")? else {
        return Err(Error::data(file, "'class_names' is no cell array: fetch the file again"));
    };
    let names = cells.into_iter().enumerate().map(|(index, cell)| match cell {
        Array::Text(name) => Ok(match name.rsplit_once(' ') {
            Some((car, year)) => format!("{year} {car}"),
            None => name,
        }),
        _ => Err(Error::data(file, format!("name {} is no text: fetch the file again", index + 1))),
    });
    names.collect()
}

/// StanfordCars' annotations: a structure with fname and class (from 1) for every picture.
fn cars(file: &Path, names: &[String], pictures: &Path) -> Result<Vec<Row>> {
    let Array::Structs(annotations) = mat::read(file, "annotations")? else {
        return Err(Error::data(file, "'annotations' is no structure: fetch the file again"));
    };
    let rows = annotations.iter().enumerate().map(|(index, annotation)| {
        let wrong = |reason: &str| Error::data(file, format!("annotation {}: {reason}", index + 1));
        let Some(Array::Text(name)) = annotation.get("fname") else { return Err(wrong("fname is no text")) };
        let label = match annotation.get("class") {
            Some(Array::Numbers(numbers)) if numbers.len() == 1 => whole(numbers[0]),
            _ => None,
        };
        let Some(class) = label.and_then(|label| names.get(label)) else {
            return Err(wrong(&format!("class is no number of one of the {} names in cars_meta.mat", names.len())));
        };
        let path = super::listing::below(pictures, name).map_err(|reason| wrong(&reason))?;
        Ok(Row { path, label: label.unwrap_or_default(), class: class.clone() })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_taken_apart_as_python_does() {
        // re.findall("[A-Z][^A-Z]*", ...) joined by "_".
        let cases = [
            ("ApplyEyeMakeup", "Apply_Eye_Makeup"),
            ("YoYo", "Yo_Yo"),
            ("HandstandPushups", "Handstand_Pushups"),
            ("TaiChi", "Tai_Chi"),
            ("ABc", "A_Bc"),
            ("xyAb", "Ab"),
        ];
        for (action, expected) in cases {
            assert_eq!(spaced(action), expected);
        }
    }

    fn refused(text: &str, read: impl Fn(PathBuf) -> Result<Vec<Row>>) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path().to_path_buf()).unwrap_err().to_string()
    }

    #[test]
    fn a_malformed_line_is_named() {
        let labels = HashMap::from([("a".to_owned(), 0)]);
        let here = Path::new("/set");
        let error = refused("Abyssinian_1 1 1 1\n\nAbyssinian_2 0 1 1\n", |file| pets(file, here));
        assert!(error.contains("line 3: not a picture and its label"), "{error}");
        assert!(refused("x 1 1 1", |file| pets(file, here)).contains("line 1"));
        assert!(refused("../x_1 1 1 1", |file| pets(file, here)).contains("leads out"));
        assert!(refused("123 b", |file| aircraft(file, &labels, here)).contains("variants.txt has no 'b'"));
        assert!(refused("123", |file| aircraft(file, &labels, here)).contains("line 1: not a picture"));
        assert!(refused("/b/c/x.jpg", |file| scenes(file, &labels, here)).contains("no '/b/c'"));
        assert!(refused("B/v.avi 1", |file| actions(file, &labels, here)).contains("no 'B'"));
        assert!(refused("B", |file| actions(file, &labels, here)).contains("line 1: not a class and a video"));
    }
}
