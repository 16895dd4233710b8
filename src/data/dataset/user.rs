//! A user's own set: folders or a CSV file.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::{Dataset, Parts, SPLIT_SEED, TEMPLATE, WORDS, some_of, split};
use crate::data::walk::{Tree, Walk};
use crate::data::{Folder, Item, PythonRandom, class_key, class_name};
use crate::{Error, Result, input, text};

/// What the folder to search on may be called.
const VAL: [&str; 3] = ["val", "valid", "validation"];
/// How a set without parts is divided.
const SHARES: &str = "50 % train, 20 % val, 30 % test of each class";

/// Opens a folder or a CSV file.
pub(super) fn open(path: &Path, walk: &Walk) -> Result<Dataset> {
    let tree = walk.at(path);
    if !path.is_dir() {
        return open_csv(path);
    }
    let has = |name: &str| path.join(name).is_dir();
    // A set may have a class that is called train: one with pictures in it, not folders.
    if has("train") && !tree.folders(&path.join("train"))?.is_empty() {
        if has("test") {
            return open_parts(path, tree);
        }
        if VAL.iter().any(|name| has(name)) {
            let reason = "there are train and val but no test to measure on: add it, or rename val to test";
            return Err(Error::data(path, reason));
        }
    }
    let folder = Folder::list(path, tree)?;
    let mut classes = vec![Vec::new(); folder.classes.len()];
    for item in &folder.items {
        classes[item.label].push(item.clone());
    }
    let parts = divided(classes, |class| path.join(&folder.classes[class]))?;
    set(path, folder.names(), parts, format!("class folders; {SHARES}"))
}

/// Divides classes that have no parts. `place` is what an error about a class names.
fn divided(classes: Vec<Vec<Item>>, place: impl Fn(usize) -> PathBuf) -> Result<Parts<Item>> {
    split::three_ways(classes, &mut PythonRandom::new(SPLIT_SEED)).map_err(|class| {
        let reason = "the class has one picture: two are needed, one to learn from and one to test on";
        Error::data(place(class), reason)
    })
}

/// A set of a user's; `path` is where it is.
fn set(path: &Path, classes: Vec<String>, parts: Parts<Item>, source: String) -> Result<Dataset> {
    let notes = match parts.val.is_empty() {
        true => vec!["there is no val part: train pictures that are not shots serve to search on".to_owned()],
        false => Vec::new(),
    };
    // "." has no name of its own.
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = if path.is_dir() { resolved.file_name() } else { resolved.file_stem() };
    let name = name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let root = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dataset = Dataset {
        title: name.clone(),
        name,
        root: root.to_path_buf(),
        classes,
        templates: vec![TEMPLATE.to_owned()],
        words: WORDS.to_owned(),
        train: parts.train,
        val: parts.val,
        test: parts.test,
        subset: None,
        source,
        notes,
    };
    dataset.checked(path, false)
}

/// Opens a folder with the folders train and test, and perhaps val.
fn open_parts(path: &Path, tree: Tree<'_>) -> Result<Dataset> {
    let train = Folder::list(&path.join("train"), tree)?;
    let labels: HashMap<&str, usize> =
        train.classes.iter().enumerate().map(|(label, class)| (class.as_str(), label)).collect();
    let vals: Vec<&str> = VAL.into_iter().filter(|name| path.join(name).is_dir()).collect();
    if vals.len() > 1 {
        return Err(Error::data(path, format!("there are {}: leave one of them", vals.join(" and "))));
    }
    let part = |name: &str| -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for (class, folder) in tree.folders(&path.join(name))? {
            let Some(&label) = labels.get(class.as_str()) else {
                let reason = format!("train has no class folder '{class}': add it there, or rename or remove this one");
                return Err(Error::data(folder, reason));
            };
            items
                .extend(tree.pictures_below(&folder)?.unwrap_or_default().into_iter().map(|path| Item { path, label }));
        }
        Ok(items)
    };
    let val = vals.first().map_or_else(|| Ok(Vec::new()), |name| part(name))?;
    let test = part("test")?;
    if test.is_empty() {
        return Err(Error::data(path.join("test"), "there is no picture in class folders here: add some to test on"));
    }
    let names: Vec<&str> = ["train"].into_iter().chain(vals).chain(["test"]).collect();
    let source = format!("the folders {}", names.join(", "));
    let names = train.names();
    set(path, names, Parts { train: train.items, val, test }, source)
}

/// A line of a CSV file.
struct Record {
    line: usize,
    path: PathBuf,
    class: String,
    part: Option<String>,
}

/// Opens a CSV file.
fn open_csv(path: &Path) -> Result<Dataset> {
    let records = read_csv(path)?;
    let at = |line: usize, reason: String| Error::data(path, format!("line {line}: {reason}"));
    let mut lines: HashMap<&Path, usize> = HashMap::new();
    // The first line of each class; sorted by name, as class folders are.
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        if let Some(first) = lines.insert(&record.path, record.line) {
            let reason = format!("'{}' is in line {first} too: leave one", record.path.display());
            return Err(at(record.line, reason));
        }
        classes.entry(&record.class).or_insert(record.line);
    }
    if classes.len() < 2 {
        let found = classes.keys().next().map_or_else(String::new, |class| format!(", '{class}'"));
        let found = text::count(classes.len(), "class", "classes") + &found;
        return Err(Error::data(path, format!("the list has {found}: at least two are needed")));
    }
    let mut prompts: HashMap<String, &str> = HashMap::new();
    for (class, line) in &classes {
        let key = class_key(class);
        if key.is_empty() {
            return Err(at(*line, format!("the label '{class}' names no class: write its name")));
        }
        if let Some(other) = prompts.insert(key, class) {
            let first = classes[other];
            let text = class_name(class);
            let reason =
                format!("the labels '{other}' (line {first}) and '{class}' both become '{text}': write one way");
            return Err(at(*line, reason));
        }
    }
    let labels: HashMap<&str, usize> = classes.keys().enumerate().map(|(label, class)| (*class, label)).collect();
    let names: Vec<String> = classes.keys().map(|class| class_name(class)).collect();
    let with_parts = records.iter().any(|record| record.part.is_some());
    let (parts, source) = if with_parts {
        let mut parts = Parts { train: Vec::new(), val: Vec::new(), test: Vec::new() };
        for record in &records {
            let list = match record.part.as_deref() {
                Some("train") => &mut parts.train,
                Some("val") => &mut parts.val,
                Some("test") => &mut parts.test,
                other => {
                    let found = other.unwrap_or_default();
                    return Err(at(record.line, format!("split is '{found}': it must be train, val or test")));
                }
            };
            list.push(Item { path: record.path.clone(), label: labels[record.class.as_str()] });
        }
        (parts, "the column split".to_owned())
    } else {
        let mut by_class = vec![Vec::new(); classes.len()];
        for record in &records {
            let label = labels[record.class.as_str()];
            by_class[label].push(Item { path: record.path.clone(), label });
        }
        let small: Vec<&str> =
            names.iter().zip(&by_class).filter(|(_, items)| items.len() < 2).map(|(name, _)| name.as_str()).collect();
        if !small.is_empty() {
            let reason = format!(
                "only one picture of {}: two are needed, one to learn from and one to test on",
                some_of(&small)
            );
            return Err(Error::data(path, reason));
        }
        (divided(by_class, |_| path.to_path_buf())?, format!("lines of the list; {SHARES}"))
    };
    set(path, names, parts, source)
}

/// Reads a CSV file's lines. All have a part or none.
fn read_csv(path: &Path) -> Result<Vec<Record>> {
    let at = |line: usize, reason: String| Error::data(path, format!("line {line}: {reason}"));
    let newlines = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count();
    let bytes = input::read(path, input::limit::LIST)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + newlines(&bytes[..error.valid_up_to()]);
        at(line, "not UTF-8: save the list as such".to_owned())
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let wrong = |error: csv::Error| Error::data(path, format!("cannot read the list: {error}"));
    let header = reader.headers().map_err(wrong)?.clone();
    let column = |name: &str| header.iter().position(|other| other == name);
    let fits = header.iter().all(|name| matches!(name, "path" | "label" | "split")) && header.len() <= 3;
    let (Some(picture), Some(label), true) = (column("path"), column("label"), fits) else {
        // Not all of what may be no list at all.
        let found: String = header.iter().collect::<Vec<_>>().join(",").chars().take(60).collect();
        return Err(at(1, format!("the header is '{found}': it must be path,label or path,label,split")));
    };
    let part = column("split");
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut records = Vec::new();
    let (mut counted, mut line) = (0, 1);
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        // A record begins, to the reader, with the empty lines before it; people look for it where its text begins.
        let start = record.position().map_or(counted, |position| position.byte() as usize).min(text.len());
        let start = start + text.as_bytes()[start..].iter().take_while(|&&byte| matches!(byte, b'\r' | b'\n')).count();
        line += newlines(&text.as_bytes()[counted..start]);
        counted = start;
        if record.len() != header.len() {
            let reason =
                format!("{} fields where the header has {}: quote what has a comma", record.len(), header.len());
            return Err(at(line, reason));
        }
        let field = |column: usize| record.get(column).unwrap_or_default();
        if field(picture).is_empty() {
            return Err(at(line, "the path is empty: name a picture".to_owned()));
        }
        let path = folder.join(field(picture));
        records.push(Record { line, path, class: field(label).to_owned(), part: part.map(|p| field(p).to_owned()) });
    }
    Ok(records)
}
