//! CoOp's split files, and its rules where there is none.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{Parts, Row, listing};
use crate::data::PythonRandom;
use crate::data::walk::Tree;
use crate::{Error, Result, input};

/// The share of a set's training pictures that CoOp puts aside for validation.
const HELD_OUT: f64 = 0.2;
/// The shares of a class that CoOp takes to learn from and to search on where a set has no parts.
const SHARES: (f64, f64) = (0.5, 0.2);

/// A `split_zhou_*.json` file.
#[derive(Deserialize)]
struct File {
    train: Vec<Value>,
    val: Vec<Value>,
    test: Vec<Value>,
}

/// Reads a split file, whose paths are relative to `pictures`.
pub(super) fn read(path: &Path, pictures: &Path) -> Result<Parts<Row>> {
    let bytes = input::read(path, input::limit::LIST)?;
    let file: File = serde_json::from_slice(&bytes).map_err(|error| {
        let form = r#"a split file is {"train": [[path, label, class], ...], "val": [...], "test": [...]}"#;
        Error::data(path, format!("{error}: {form}"))
    })?;
    let rows = |part: &str, entries: &[Value]| -> Result<Vec<Row>> {
        let entries = entries.iter().enumerate();
        entries
            .map(|(index, entry)| {
                row(entry, pictures).map_err(|reason| Error::data(path, format!("{part} entry {index}: {reason}")))
            })
            .collect()
    };
    Ok(Parts { train: rows("train", &file.train)?, val: rows("val", &file.val)?, test: rows("test", &file.test)? })
}

/// An entry of a split file; the error is the reason.
fn row(entry: &Value, pictures: &Path) -> Result<Row, String> {
    let fields = entry.as_array().map(Vec::as_slice);
    if let Some([Value::String(path), Value::Number(label), Value::String(class)]) = fields
        && let Some(label) = label.as_u64().and_then(|label| usize::try_from(label).ok())
    {
        return Ok(Row { path: listing::below(pictures, path)?, label, class: class.clone() });
    }
    let mut found = entry.to_string();
    if let Some((cut, _)) = found.char_indices().nth(80) {
        found.replace_range(cut.., "...");
    }
    Err(format!("{found} is not [path, label, class] with a label that counts from 0"))
}

/// Python's `round`, for products of a count and a share.
fn round(count: usize, share: f64) -> usize {
    (count as f64 * share).round_ties_even() as usize
}

/// Moves a fifth of each class from training to validation, as CoOp's `split_trainval` does: classes in the order of
/// their first appearance, each one's pictures shuffled, the first of them held out. Gives the rest and those held out.
pub(super) fn hold_out(rows: Vec<Row>, random: &mut PythonRandom) -> (Vec<Row>, Vec<Row>) {
    let (mut rest, mut held_out) = (Vec::new(), Vec::new());
    for mut class in by_label(rows) {
        random.shuffle(&mut class);
        let kept = class.split_off(round(class.len(), HELD_OUT));
        held_out.extend(class);
        rest.extend(kept);
    }
    (rest, held_out)
}

/// Rows of each label, labels in the order of their first appearance.
pub(super) fn by_label(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let mut groups: Vec<Vec<Row>> = Vec::new();
    let mut places = HashMap::new();
    for row in rows {
        let place = *places.entry(row.label).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(row);
    }
    groups
}

/// Divides each class into 50 % to learn from, 20 % to search on and the rest to test on, as CoOp's
/// `read_and_split_data` does: classes in the order given, each one's pictures shuffled.
///
/// CoOp stops at a class that is so small that a part of it would be empty; here one picture goes to each of training and
/// testing first, and validation may have none. The error is the place of a class with fewer than two.
pub(super) fn three_ways<T>(classes: Vec<Vec<T>>, random: &mut PythonRandom) -> Result<Parts<T>, usize> {
    let mut parts = Parts { train: Vec::new(), val: Vec::new(), test: Vec::new() };
    for (place, mut class) in classes.into_iter().enumerate() {
        let n = class.len();
        if n < 2 {
            return Err(place);
        }
        random.shuffle(&mut class);
        let train = round(n, SHARES.0).clamp(1, n - 1);
        let val = round(n, SHARES.1).min(n - 1 - train);
        parts.test.extend(class.split_off(train + val));
        parts.val.extend(class.split_off(train));
        parts.train.extend(class);
    }
    Ok(parts)
}

/// [`three_ways`] of rows, one class after the other in `classes`; `dir` is what an error is about.
pub(super) fn three_ways_rows(classes: Vec<Vec<Row>>, dir: &Path, random: &mut PythonRandom) -> Result<Parts<Row>> {
    let names: Vec<Option<String>> = classes.iter().map(|class| class.first().map(|row| row.class.clone())).collect();
    three_ways(classes, random).map_err(|place| {
        let name = names.get(place).cloned().flatten().unwrap_or_default();
        Error::data(
            dir,
            format!("the class '{name}' has one picture: two are needed, one to learn from and one to test on"),
        )
    })
}

/// The class folders of `dir` but those `ignored` and those that cannot be read, divided [`three_ways`].
pub(super) fn class_folders(
    tree: Tree<'_>,
    dir: &Path,
    ignored: &[&str],
    random: &mut PythonRandom,
) -> Result<Parts<Row>> {
    let folders = tree.folders(dir)?;
    let folders = folders.into_iter().filter(|(name, _)| !ignored.contains(&name.as_str()));
    let mut classes: Vec<Vec<Row>> = Vec::new();
    for (class, folder) in folders {
        let Some(pictures) = tree.pictures(&folder)? else { continue };
        if pictures.is_empty() {
            return Err(Error::data(folder, "the class folder holds no picture: add some or remove the folder"));
        }
        let label = classes.len();
        classes.push(pictures.into_iter().map(|path| Row { path, label, class: class.clone() }).collect());
    }
    three_ways_rows(classes, dir, random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Fixture {
        labels: Vec<usize>,
        hold_out: Vec<HeldOut>,
        folders: Vec<Vec<usize>>,
        three_ways: Vec<ThreeWays>,
    }

    #[derive(Deserialize)]
    struct HeldOut {
        seed: u64,
        train: Vec<usize>,
        val: Vec<usize>,
    }

    #[derive(Deserialize)]
    struct ThreeWays {
        seed: u64,
        train: Vec<usize>,
        val: Vec<usize>,
        test: Vec<usize>,
    }

    fn fixture() -> Fixture {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/coop_splits.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Written by `tests/reference/coop_splits.py`.
    #[test]
    fn what_is_held_out_is_what_python_holds_out() {
        let fixture = fixture();
        for expected in &fixture.hold_out {
            let labels = fixture.labels.iter().enumerate();
            let rows = labels
                .map(|(id, &label)| Row { path: id.to_string().into(), label, class: label.to_string() })
                .collect();
            let (train, val) = hold_out(rows, &mut PythonRandom::new(expected.seed));
            let ids = |rows: &[Row]| -> Vec<usize> {
                rows.iter().map(|row| row.path.to_str().unwrap().parse().unwrap()).collect()
            };
            assert_eq!((ids(&train), ids(&val)), (expected.train.clone(), expected.val.clone()), "{}", expected.seed);
        }
        assert_eq!(fixture.hold_out.len(), 3);
    }

    #[test]
    fn folders_are_divided_as_python_divides_them() {
        let fixture = fixture();
        for expected in &fixture.three_ways {
            let parts = three_ways(fixture.folders.clone(), &mut PythonRandom::new(expected.seed)).unwrap();
            assert_eq!(parts.train, expected.train, "{}", expected.seed);
            assert_eq!(parts.val, expected.val, "{}", expected.seed);
            assert_eq!(parts.test, expected.test, "{}", expected.seed);
        }
        assert_eq!(fixture.three_ways.len(), 3);
    }

    #[test]
    fn small_classes_keep_one_to_learn_from_and_one_to_test_on() {
        let counts = |n: usize| {
            let parts = three_ways(vec![(0..n).collect()], &mut PythonRandom::new(1)).unwrap();
            (parts.train.len(), parts.val.len(), parts.test.len())
        };
        let cases = [
            (2, (1, 0, 1)),
            (3, (2, 0, 1)),
            (4, (2, 1, 1)),
            // Halves go to the even number: 2.5 is 2, 3.5 is 4.
            (5, (2, 1, 2)),
            (7, (4, 1, 2)),
            (10, (5, 2, 3)),
        ];
        for (n, expected) in cases {
            assert_eq!(counts(n), expected, "{n}");
        }
        assert_eq!(three_ways(vec![vec![0, 1], vec![2]], &mut PythonRandom::new(1)).unwrap_err(), 1);
    }

    fn refused(json: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json).unwrap();
        let error = read(file.path(), Path::new("/set")).unwrap_err().to_string();
        assert!(error.starts_with(&*file.path().to_string_lossy()) && error.lines().count() == 1, "{error}");
        error
    }

    #[test]
    fn a_malformed_entry_is_named() {
        let with =
            |entry: &str| refused(&format!(r#"{{"train": [["a.jpg", 0, "a"], {entry}], "val": [], "test": []}}"#));
        for entry in
            [r#"["a.jpg", 0]"#, r#"["a.jpg", -1, "a"]"#, r#"["a.jpg", 1.5, "a"]"#, r#"["a.jpg", "0", "a"]"#, "7"]
        {
            let error = with(entry);
            assert!(error.contains("train entry 1: ") && error.contains("[path, label, class]"), "{error}");
        }
        assert!(with(r#"["../a.jpg", 0, "a"]"#).contains("train entry 1: the path '../a.jpg' leads out"));
        assert!(with(r#"["/etc/a.jpg", 0, "a"]"#).contains("leads out"));
        let error = with(&format!("[\"{}\"]", "é".repeat(500)));
        assert!(error.contains("...") && error.len() < 500, "{error}");
    }

    #[test]
    fn a_file_of_another_form_says_what_is_right() {
        assert!(refused("{").contains("a split file is"));
        assert!(refused(r#"{"train": [], "test": []}"#).contains("missing field `val`"));
        assert!(refused(r#"{"train": 3, "val": [], "test": []}"#).contains("a split file is"));
    }
}
