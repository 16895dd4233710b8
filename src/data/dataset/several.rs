//! A list of pictures that may have several labels each.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::user::read_csv;
use crate::data::{PythonRandom, Shots, class_key, class_name};
use crate::{Error, Result};

/// What stands between the labels of a picture.
const BETWEEN: [char; 2] = [';', '|'];

/// Pictures with their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Several {
    /// The labels by number, as text for a prompt.
    pub classes: Vec<String>,
    /// Pictures to learn from, each with the numbers of its labels, ascending.
    pub pictures: Vec<(PathBuf, Vec<usize>)>,
    /// Pictures of other parts, which are left alone.
    pub others: usize,
}

impl Several {
    /// Reads a CSV file with the columns `path`, `label` and perhaps `split`. A picture's labels have `;` or `|` between them; a
    /// picture may also be in several lines. Of what has parts only train is taken. With `declared` labels there are no others.
    ///
    /// # Errors
    /// [`Error::Data`] names the line: a label that is empty, is written in two ways, or is none of those declared; a declared
    /// label without a picture; fewer than two labels.
    pub fn open(path: &Path, declared: Option<&[String]>) -> Result<Several> {
        let at = |line: usize, reason: String| Error::data(path, format!("line {line}: {reason}"));
        let records = read_csv(path)?;
        let mut lines: Vec<(usize, &Path, Vec<&str>)> = Vec::new();
        // How each label is written, and where first.
        let mut written: HashMap<String, (&str, usize)> = HashMap::new();
        let known: HashMap<String, usize> =
            declared.into_iter().flatten().enumerate().map(|(number, name)| (class_key(name), number)).collect();
        let mut others = 0;
        for record in &records {
            let labels: Vec<&str> = record.class.split(BETWEEN).map(str::trim).collect();
            for label in &labels {
                let key = class_key(label);
                if key.is_empty() {
                    let reason = "there is an empty label: name one, with ; or | between several".to_owned();
                    return Err(at(record.line, reason));
                }
                if declared.is_some() && !known.contains_key(&key) {
                    return Err(at(record.line, format!("the label '{label}' is none of those that were declared")));
                }
                let (other, first) = *written.entry(key).or_insert((label, record.line));
                if other != *label {
                    let reason = format!("the label '{label}' is '{other}' in line {first}: write one way");
                    return Err(at(record.line, reason));
                }
            }
            match record.part.as_deref() {
                None | Some("train") => lines.push((record.line, &record.path, labels)),
                Some("val" | "test") => others += 1,
                Some(part) => return Err(at(record.line, format!("split is '{part}': it must be train, val or test"))),
            }
        }
        let mut names: Vec<&str> = written.values().map(|(name, _)| *name).collect();
        names.sort_unstable();
        let classes: Vec<String> = match declared {
            Some(declared) => declared.iter().map(|name| class_name(name)).collect(),
            None => names.iter().map(|name| class_name(name)).collect(),
        };
        if classes.len() < 2 {
            return Err(Error::data(path, "the list has fewer than two labels: at least two are needed"));
        }
        let numbers: HashMap<String, usize> =
            classes.iter().enumerate().map(|(number, name)| (class_key(name), number)).collect();
        let mut pictures: Vec<(PathBuf, BTreeSet<usize>)> = Vec::new();
        let mut places: HashMap<&Path, usize> = HashMap::new();
        for (_, path, labels) in &lines {
            let place = *places.entry(*path).or_insert_with(|| {
                pictures.push((path.to_path_buf(), BTreeSet::new()));
                pictures.len() - 1
            });
            pictures[place].1.extend(labels.iter().filter_map(|label| numbers.get(&class_key(label))));
        }
        let pictures: Vec<(PathBuf, Vec<usize>)> =
            pictures.into_iter().map(|(path, labels)| (path, labels.into_iter().collect())).collect();
        Several { classes, pictures, others }.with_pictures(path)
    }

    /// Fails for a label without a picture to learn from.
    fn with_pictures(self, path: &Path) -> Result<Several> {
        let has = |label: usize| self.pictures.iter().any(|(_, labels)| labels.contains(&label));
        match (0..self.classes.len()).find(|label| !has(*label)) {
            Some(label) => {
                let reason =
                    format!("no picture to learn from has the label '{}': every label needs one", self.classes[label]);
                Err(Error::data(path, reason))
            }
            None => Ok(self),
        }
    }

    /// The same without some pictures.
    ///
    /// # Errors
    /// A label without a picture then.
    pub fn only(self, path: &Path, keep: impl Fn(&Path) -> bool) -> Result<Several> {
        let pictures = self.pictures.into_iter().filter(|(path, _)| keep(path)).collect();
        Several { pictures, ..self }.with_pictures(path)
    }

    /// Chooses `shots` pictures of each label by chance, always the same way for a seed. Each keeps all its labels, so that a label
    /// may have more.
    ///
    /// # Errors
    /// No shots.
    pub fn choose(self, shots: Shots, seed: u64) -> Result<Several> {
        shots.check()?;
        let mut random = PythonRandom::new(seed);
        let mut taken = vec![false; self.pictures.len()];
        for label in 0..self.classes.len() {
            let of: Vec<usize> =
                (0..self.pictures.len()).filter(|picture| self.pictures[*picture].1.contains(&label)).collect();
            for place in random.sample(of.len(), shots.of(of.len()))? {
                taken[of[place]] = true;
            }
        }
        let pictures = self.pictures.into_iter().zip(taken).filter(|(_, taken)| *taken).map(|(picture, _)| picture);
        Ok(Several { pictures: pictures.collect(), ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str, declared: Option<&[&str]>) -> Result<Several> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.csv");
        std::fs::write(&path, text).unwrap();
        let declared: Option<Vec<String>> = declared.map(|all| all.iter().map(|name| (*name).to_owned()).collect());
        Several::open(&path, declared.as_deref())
    }

    fn refused(text: &str, declared: Option<&[&str]>) -> String {
        open(text, declared).unwrap_err().to_string()
    }

    #[test]
    fn labels_stand_in_one_field_or_in_several_lines() {
        let set = open("path,label\na.png,cat; dog\nb.png,dog|cat|red_bird\na.png,tree\n", None).unwrap();
        assert_eq!(set.classes, ["cat", "dog", "red bird", "tree"]);
        let labels: Vec<_> = set.pictures.iter().map(|(_, labels)| labels.clone()).collect();
        assert_eq!(labels, [vec![0, 1, 3], vec![0, 1, 2]]);
        let set = open("path,label,split\na,x;y,train\nb,x,test\nc,y,val\n", Some(&["y", "x"])).unwrap();
        assert_eq!((set.classes, set.pictures.len(), set.others), (vec!["y".into(), "x".into()], 1, 2));
    }

    #[test]
    fn lines_that_do_not_fit_are_named() {
        assert!(refused("path,label\na,x;;y\n", None).contains("line 2: there is an empty label"));
        assert!(refused("path,label\na,x\nb,\n", None).contains("line 3: there is an empty label"));
        assert!(refused("path,label\na,x;z\n", Some(&["x", "y"])).contains("line 2: the label 'z' is none of those"));
        assert!(refused("path,label\na,x;y\nb,X\n", None).contains("line 3: the label 'X' is 'x' in line 2"));
        assert!(refused("path,label\na,x\n", Some(&["x", "y"])).contains("has the label 'y'"));
        assert!(refused("path,label\na,x\n", None).contains("at least two"));
    }

    #[test]
    fn every_label_gets_its_shots() {
        let text = (0..20).map(|at| format!("{at},{}\n", ["x", "x;y", "y;z", "z"][at % 4])).collect::<String>();
        let set = open(&format!("path,label\n{text}"), None).unwrap();
        let few = set.clone().choose(Shots::UpTo(2), 1).unwrap();
        for label in 0..3 {
            assert!(few.pictures.iter().filter(|(_, labels)| labels.contains(&label)).count() >= 2);
        }
        assert!(few.pictures.len() <= 6 && few == set.clone().choose(Shots::UpTo(2), 1).unwrap());
        assert_eq!(set.clone().choose(Shots::All, 1).unwrap().pictures.len(), 20);
    }
}
