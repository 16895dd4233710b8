//! Results on disk, one line each, appended as they come.
//!
//! A line counts once its newline is there and the file has been flushed to the disk; whatever an ended program left
//! behind it is cut off. Details are written before their line, so a result that counts has them.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{About, Detail, FORMAT, Record, Settings, Task, TestSet, validate};
use crate::data::walk::mark_results;
use crate::files::{sweep, write_atomic};
use crate::lock::Lock;
use crate::settings::difference;
use crate::{Error, Result, input};

/// What `settings.json` holds.
#[derive(serde::Serialize, serde::Deserialize)]
struct Written {
    settings: Settings,
    about: About,
}

/// The results of one dataset.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// Results so far, in the order in which they came.
    pub records: Vec<Record>,
    /// Held as long as this program writes here.
    _lock: Option<Lock>,
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = input::read(path, input::limit::LIST)?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::data(
            path,
            format!("not what `tipi eval` writes ({e}); take another folder for results, or remove this one"),
        )
    })
}

/// What is wrong with a file's contents, as an error that names the file.
fn damaged(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::data(path, format!("the results are damaged: {reason}; take another folder for results, or remove this one"))
}

impl Written {
    fn read(folder: &Path) -> Result<Written> {
        let path = folder.join("settings.json");
        let written: Written = read_json(&path)?;
        validate::settings(&written.settings, FORMAT)
            .and_then(|()| validate::about(&written.about, &written.settings))
            .map_err(|reason| damaged(&path, reason))?;
        Ok(written)
    }
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let json = serde_json::to_vec(value).map_err(|e| Error::data(path, e.to_string()))?;
    write_atomic(path, &json)
}

/// Fails if a folder in which no evaluation was begun has files that one would write over.
fn nothing_of_others(folder: &Path) -> Result<()> {
    let details = std::fs::read_dir(folder.join("details")).map_err(|e| Error::io(folder, e))?;
    let details = details.filter_map(|entry| Some(entry.ok()?.path()));
    let files = ["results.jsonl", "test.json", "overlap.json"].map(|name| folder.join(name));
    match files.into_iter().filter(|path| path.exists()).chain(details).next() {
        None => Ok(()),
        Some(path) => {
            let reason = "is not of an evaluation, and one would write here: take another folder, or move the file";
            Err(Error::data(path, reason))
        }
    }
}

/// Gives both maps what only one of them has.
fn complete<K: Ord + Clone, V: Clone>(one: &mut BTreeMap<K, V>, other: &mut BTreeMap<K, V>) {
    for (key, value) in other.iter() {
        one.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for (key, value) in one.iter() {
        other.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

impl Journal {
    /// Opens or begins the results in `folder` for writing.
    ///
    /// # Errors
    /// [`Error::Data`] when there are results of other settings, with what differs, or another program writes there;
    /// [`Error::Io`].
    pub fn open(folder: &Path, settings: &Settings, about: &About) -> Result<Journal> {
        mark_results(folder)?;
        std::fs::create_dir_all(folder.join("details")).map_err(|e| Error::io(folder, e))?;
        let Some(lock) = Lock::take(&folder.join(".lock"))? else {
            return Err(Error::data(folder, "another `tipi eval` writes here: wait for it, or take another folder"));
        };
        sweep(folder);
        sweep(&folder.join("details"));
        let path = folder.join("settings.json");
        if !path.exists() {
            nothing_of_others(folder)?;
        }
        let mut now = settings.clone();
        if path.is_file() {
            let written = Written::read(folder)?.settings;
            // Only ++ methods use the correction, and a run without them may have had none.
            if now.correction.is_none() {
                now.correction.clone_from(&written.correction);
            }
            let mut before = written;
            if before.correction.is_none() {
                before.correction.clone_from(&now.correction);
            }
            // Methods and compared corrections that are here for the first time, and those that are not asked for now, stand in
            // nobody's way.
            complete(&mut before.setup.methods, &mut now.setup.methods);
            complete(&mut before.compared, &mut now.compared);
            if let Some(difference) = difference(&before, &now) {
                let reason = format!(
                    "holds results of other settings ({difference}): take another folder for results, or give the former settings"
                );
                return Err(Error::data(folder, reason));
            }
        }
        let written = Written { settings: now, about: about.clone() };
        let mut journal = Journal { folder: folder.to_path_buf(), records: Vec::new(), _lock: Some(lock) };
        journal.read(&written, true)?;
        write_json(&path, &written)?;
        Ok(journal)
    }

    /// Opens results to look at.
    ///
    /// # Errors
    /// [`Error::Data`] for a folder without results; [`Error::Io`].
    pub fn look(folder: &Path) -> Result<(Journal, Settings, About)> {
        let written = Written::read(folder)?;
        let mut journal = Journal { folder: folder.to_path_buf(), records: Vec::new(), _lock: None };
        journal.read(&written, false)?;
        Ok((journal, written.settings, written.about))
    }

    /// The file of all lines.
    pub fn path(&self) -> PathBuf {
        self.folder.join("results.jsonl")
    }

    fn read(&mut self, written: &Written, repair: bool) -> Result<()> {
        let path = self.path();
        let bytes = match input::read(&path, input::limit::LIST) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if repair && whole < bytes.len() {
            write_atomic(&path, &bytes[..whole])?;
        }
        let mut lines: HashMap<Task, usize> = HashMap::new();
        for (number, line) in bytes[..whole].split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let wrong = |reason: String| {
                Error::data(&path, format!("line {}: not a result ({reason}); remove the line", number + 1))
            };
            let record: Record = serde_json::from_slice(line).map_err(|e| wrong(e.to_string()))?;
            validate::record(&record, &written.settings, &written.about).map_err(wrong)?;
            if let Some(first) = lines.insert(record.task, number + 1) {
                return Err(wrong(format!("{} is in line {first} too", record.task.file())));
            }
            self.records.push(record);
        }
        Ok(())
    }

    /// The result of a task.
    pub fn of(&self, task: Task) -> Option<&Record> {
        self.records.iter().find(|record| record.task == task)
    }

    /// Keeps a result: its details first, then its line, flushed to the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn append(&mut self, record: Record, detail: &Detail) -> Result<()> {
        write_json(&self.detail_path(record.task), detail)?;
        let path = self.path();
        let mut line = serde_json::to_vec(&record).map_err(|e| Error::data(&path, e.to_string()))?;
        line.push(b'\n');
        let file = input::open_with(OpenOptions::new().create(true).append(true), &path);
        let mut file = file.map_err(|e| Error::io(&path, e))?;
        // In one call, so that no other writer's line can come in between.
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(|e| Error::io(&path, e))?;
        self.records.push(record);
        Ok(())
    }

    fn detail_path(&self, task: Task) -> PathBuf {
        self.folder.join("details").join(format!("{}.json", task.file()))
    }

    /// The details of a result, checked against it and against the test pictures.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Data`], which names the file and the field that is damaged.
    pub fn detail(&self, task: Task) -> Result<Detail> {
        self.detail_of(task, &self.test()?)
    }

    /// [`Journal::detail`], for test pictures that have been read.
    pub(super) fn detail_of(&self, task: Task, test: &TestSet) -> Result<Detail> {
        let path = self.detail_path(task);
        let detail = read_json(&path)?;
        let record = self.of(task).ok_or_else(|| damaged(&self.path(), format!("{} is not there", task.file())))?;
        validate::detail(&detail, record, test).map_err(|reason| damaged(&path, reason))?;
        Ok(detail)
    }

    /// Keeps the list of test pictures.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep_test(&self, test: &TestSet) -> Result<()> {
        write_json(&self.folder.join("test.json"), test)
    }

    /// The list of test pictures, checked against the settings and all results.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Data`], which names the file and the field that is damaged.
    pub fn test(&self) -> Result<TestSet> {
        let path = self.folder.join("test.json");
        let test: TestSet = read_json(&path)?;
        let Written { settings, about } = Written::read(&self.folder)?;
        validate::test(&test, &settings, &about).map_err(|reason| damaged(&path, reason))?;
        match self.records.iter().find(|record| record.test != test.labels.len()) {
            Some(record) => {
                let reason = format!("paths: {} where {} has {}", test.paths.len(), record.task.file(), record.test);
                Err(damaged(&path, reason))
            }
            None => Ok(test),
        }
    }

    /// Keeps the histograms of similarities.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep_overlap(&self, overlap: &Overlap) -> Result<()> {
        write_json(&self.folder.join("overlap.json"), overlap)
    }

    /// The histograms of similarities, where they were measured.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Data`], which names the file and the field that is damaged.
    pub fn overlap(&self) -> Result<Option<Overlap>> {
        let path = self.folder.join("overlap.json");
        if !path.is_file() {
            return Ok(None);
        }
        let overlap = read_json(&path)?;
        validate::overlap(&overlap).map_err(|reason| damaged(&path, reason))?;
        Ok(Some(overlap))
    }

    /// The adapter file of a task.
    pub fn adapter(&self, task: Task) -> PathBuf {
        self.folder.join("adapters").join(format!("{}.safetensors", task.file()))
    }

    /// Where a task's training is put down.
    pub fn checkpoint(&self, task: Task) -> PathBuf {
        self.folder.join(format!("{}.checkpoint", task.file()))
    }
}

/// Similarities within and between classes of test pictures.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Overlap {
    /// Digest of what was measured: pictures and correction.
    pub of: String,
    /// In the plain tower.
    pub before: crate::adapt::similarity::Similarities,
    /// In the corrected one.
    pub after: Option<crate::adapt::similarity::Similarities>,
}
