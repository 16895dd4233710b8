//! A user's own set: folders, a CSV file or a split file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::found::{Found, Whole, name};
use super::{Dataset, Parts, TEMPLATE, WORDS, classes_of, same_names, split, twice_listed};
use crate::data::walk::{Tree, Walk};
use crate::data::{Folder, Item, class_key, class_name};
use crate::{Error, Result, input, text};

/// What the folder to search on may be called.
const VAL: [&str; 3] = ["val", "valid", "validation"];

/// Opens a folder or a file.
pub(super) fn open(path: &Path, walk: &Walk) -> Result<Found> {
    let tree = walk.at(path);
    if !path.is_dir() {
        let is_split = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        return if is_split { open_split(path) } else { open_csv(path) };
    }
    if has_parts(path, tree)? {
        return open_parts(path, tree).map(|dataset| Found::Parts(Box::new(dataset)));
    }
    Ok(Found::Whole(Whole { path: path.to_path_buf(), folder: Folder::list(path, tree)? }))
}

/// Whether a folder has parts: train, and something to search or to test on.
pub(super) fn has_parts(path: &Path, tree: Tree<'_>) -> Result<bool> {
    let has = |name: &str| path.join(name).is_dir();
    let parted = has("train") && (has("test") || VAL.iter().any(|name| has(name)));
    // A set may have a class that is called train: one with pictures in it, not folders.
    Ok(parted && !tree.folders(&path.join("train"))?.is_empty())
}

/// Opens a split file of CoOp's form, whose paths are relative to its folder.
fn open_split(path: &Path) -> Result<Found> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let rows = split::read(path, folder)?;
    let classes: Vec<String> = classes_of(&rows, path)?.iter().map(|class| class_name(class)).collect();
    let notes: Vec<String> = same_names(&classes).into_iter().chain(twice_listed(&rows, folder)).collect();
    let parts = rows.map(|row| Item { path: row.path, label: row.label });
    let mut dataset = set(path, classes, parts, "the split file".to_owned())?;
    dataset.notes.extend(notes);
    Ok(Found::Parts(Box::new(dataset)))
}

/// A set of a user's; `path` is where it is.
pub(super) fn set(path: &Path, classes: Vec<String>, parts: Parts<Item>, source: String) -> Result<Dataset> {
    let notes = match parts.val.is_empty() {
        true => vec!["there is no val part: train pictures that are not shots serve to search on".to_owned()],
        false => Vec::new(),
    };
    let name = name(path);
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

/// Opens a folder with the folder train, and test or val or both.
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
    let tested = path.join("test").is_dir();
    let test = if tested { part("test")? } else { Vec::new() };
    let names: Vec<&str> = ["train"].into_iter().chain(vals).chain(tested.then_some("test")).collect();
    let source = format!("the folders {}", names.join(", "));
    let names = train.names();
    set(path, names, Parts { train: train.items, val, test }, source)
}

/// A line of a CSV file.
pub(super) struct Record {
    pub line: usize,
    pub path: PathBuf,
    /// Millions of lines have few classes, and fewer parts: each is kept once.
    pub class: Arc<str>,
    pub part: Option<Arc<str>>,
}

/// Opens a CSV file.
fn open_csv(path: &Path) -> Result<Found> {
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
        classes.entry(&*record.class).or_insert(record.line);
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
    let labels: HashMap<Arc<str>, usize> =
        classes.keys().enumerate().map(|(label, class)| (Arc::from(*class), label)).collect();
    let names: Vec<String> = classes.keys().map(|class| class_name(class)).collect();
    let raw: Vec<String> = classes.keys().map(|class| (*class).to_owned()).collect();
    let with_parts = records.iter().any(|record| record.part.is_some());
    // What borrows the records ends here: of a list of millions there is no second copy.
    drop((lines, classes, prompts));
    if with_parts {
        let mut parts = Parts { train: Vec::new(), val: Vec::new(), test: Vec::new() };
        for record in records {
            let list = match record.part.as_deref() {
                Some("train") => &mut parts.train,
                Some("val") => &mut parts.val,
                Some("test") => &mut parts.test,
                other => {
                    let found = other.unwrap_or_default();
                    return Err(at(record.line, format!("split is '{found}': it must be train, val or test")));
                }
            };
            list.push(Item { label: labels[&record.class], path: record.path });
        }
        return Ok(Found::Parts(Box::new(set(path, names, parts, "the column split".to_owned())?)));
    }
    let item = |record: Record| Item { label: labels[&record.class], path: record.path };
    let folder = Folder {
        root: path.parent().unwrap_or(Path::new("")).to_path_buf(),
        items: records.into_iter().map(item).collect(),
        classes: raw,
    };
    Ok(Found::Whole(Whole { path: path.to_path_buf(), folder }))
}

/// Reads a CSV file's lines. All have a part or none.
pub(super) fn read_csv(path: &Path) -> Result<Vec<Record>> {
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
    let (mut records, mut known) = (Vec::new(), HashSet::<Arc<str>>::new());
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
        let mut once = |text: &str| match known.get(text) {
            Some(kept) => Arc::clone(kept),
            None => {
                let kept: Arc<str> = text.into();
                known.insert(Arc::clone(&kept));
                kept
            }
        };
        records.push(Record { line, path, class: once(field(label)), part: part.map(|part| once(field(part))) });
    }
    Ok(records)
}
