//! Copies or moves sorted photos into a folder for each class, and takes that back. Nothing is ever overwritten, and what was done is
//! written down before it is done, so that it can be taken back after a crash, too.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tipi::{Result, Watch};

/// The record of what was done, in the folder that photos were sorted into.
const RECORD: &str = ".tipi-sorter.json";

/// A photo's way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub from: PathBuf,
    pub to: PathBuf,
}

/// What is to be done, or was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Files are moved; else they are copied.
    pub moves: bool,
    pub into: PathBuf,
    pub steps: Vec<Step>,
    /// Folders that are made for it, those above others first.
    pub folders: Vec<PathBuf>,
}

/// How it went.
#[derive(Debug, Default)]
pub struct Outcome {
    pub done: usize,
    /// Files that stayed where they were, and why.
    pub failed: Vec<(PathBuf, String)>,
}

/// A folder's name for a class: what no file system takes is replaced.
fn folder_name(class: &str) -> String {
    let keep = |c: char| if c.is_control() || r#"<>:"/\|?*"#.contains(c) { '_' } else { c };
    let name: String = class.chars().map(keep).collect();
    let name = name.trim().trim_end_matches('.').trim_start_matches('.');
    // Windows keeps these names for devices.
    let stem = name.split('.').next().unwrap_or_default().to_uppercase();
    let device = matches!(&*stem, "CON" | "PRN" | "AUX" | "NUL")
        || (stem.len() == 4
            && (stem.starts_with("COM") || stem.starts_with("LPT"))
            && stem.ends_with(|c: char| c.is_ascii_digit()));
    match name.is_empty() || device {
        true => format!("_{name}"),
        false => name.into(),
    }
}

/// Where each file would go: `into/CLASS/NAME`, with a number added to a name that is taken.
pub fn plan(into: &Path, files: &[(PathBuf, String)], moves: bool) -> Plan {
    let mut taken = std::collections::HashSet::new();
    let mut folders = Vec::new();
    let mut above: Vec<&Path> = into.ancestors().take_while(|folder| !folder.exists()).collect();
    above.retain(|folder| !folder.as_os_str().is_empty());
    folders.extend(above.into_iter().rev().map(Path::to_path_buf));
    let mut steps = Vec::new();
    for (from, class) in files {
        let folder = into.join(folder_name(class));
        if !folder.exists() && !folders.contains(&folder) {
            folders.push(folder.clone());
        }
        let (stem, ending) = (from.file_stem().unwrap_or_default(), from.extension());
        let mut count = 1;
        let to = loop {
            let mut name = stem.to_os_string();
            if count > 1 {
                name.push(format!(" ({count})"));
            }
            if let Some(ending) = ending {
                name.push(".");
                name.push(ending);
            }
            let to = folder.join(name);
            // Many file systems do not tell cases apart.
            let key = to.to_string_lossy().to_lowercase();
            if to == *from || (!to.exists() && taken.insert(key)) {
                break to;
            }
            count += 1;
        };
        if to != *from {
            steps.push(Step { from: from.clone(), to });
        }
    }
    Plan { moves, into: into.into(), steps, folders }
}

impl Plan {
    /// Does it. What fails is told and left as it was.
    ///
    /// # Errors
    /// A folder that cannot be made; what `watch` gives.
    pub fn run(&self, watch: &mut dyn Watch) -> Result<Outcome> {
        let io = |path: &Path, error| tipi::Error::Invalid(format!("{}: {error}", path.display()));
        for folder in &self.folders {
            fs::create_dir_all(folder).map_err(|error| io(folder, error))?;
        }
        let record = self.into.join(RECORD);
        self.write(&record).map_err(|error| io(&record, error))?;
        watch.begin(if self.moves { "moving files" } else { "copying files" }, self.steps.len());
        let mut outcome = Outcome::default();
        for (number, Step { from, to }) in self.steps.iter().enumerate() {
            watch.at(number)?;
            match if self.moves { carry(from, to) } else { copy(from, to) } {
                Ok(()) => outcome.done += 1,
                Err(error) => outcome.failed.push((from.clone(), error.to_string())),
            }
        }
        watch.end();
        Ok(outcome)
    }

    /// Takes it back, as far as it was done: moved files go back where nothing has taken their place, copies that nobody changed
    /// are removed.
    ///
    /// # Errors
    /// What `watch` gives.
    pub fn undo(&self, watch: &mut dyn Watch) -> Result<Outcome> {
        watch.begin("taking it back", self.steps.len());
        let mut outcome = Outcome::default();
        for (number, Step { from, to }) in self.steps.iter().enumerate().rev() {
            watch.at(self.steps.len() - number - 1)?;
            if !to.exists() {
                // It was never done, or somebody has taken it away since.
                if self.moves && !from.exists() {
                    outcome.failed.push((to.clone(), "it is gone".into()));
                }
                continue;
            }
            let undone = match self.moves {
                true => carry(to, from),
                false if same(from, to) => fs::remove_file(to),
                false => Err(io::Error::other("it was changed since, and is kept")),
            };
            match undone {
                Ok(()) => outcome.done += 1,
                Err(error) => outcome.failed.push((to.clone(), error.to_string())),
            }
        }
        if outcome.failed.is_empty() {
            let _ = fs::remove_file(self.into.join(RECORD));
            // Only those that are empty go.
            self.folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        }
        watch.end();
        Ok(outcome)
    }

    fn write(&self, record: &Path) -> io::Result<()> {
        let part = record.with_extension("part");
        fs::write(&part, serde_json::to_vec_pretty(self)?)?;
        fs::rename(part, record)
    }

    /// What was last done in a folder, if it was not taken back.
    pub fn of_folder(into: &Path) -> Option<Plan> {
        let plan: Plan = serde_json::from_slice(&fs::read(into.join(RECORD)).ok()?).ok()?;
        // A folder that was moved since says nothing of where its files are.
        (plan.into == into).then_some(plan)
    }
}

/// Copies a file with its times, unless there is one already.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).open(to)?;
    let copied = io::copy(&mut source, &mut target).and_then(|_| {
        let meta = source.metadata()?;
        target.set_times(fs::FileTimes::new().set_modified(meta.modified().unwrap_or(SystemTime::now())))?;
        target.set_permissions(meta.permissions())?;
        target.sync_all()
    });
    if copied.is_err() {
        let _ = fs::remove_file(to);
    }
    copied
}

/// Moves a file, unless there is one already. At every moment one of the two is whole.
fn carry(from: &Path, to: &Path) -> io::Result<()> {
    // A link fails where there is a file; renaming would overwrite it.
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Another disk, or a file system without links.
        Err(_) => copy(from, to).and_then(|()| fs::remove_file(from)),
    }
}

/// Whether two files have the same bytes.
fn same(a: &Path, b: &Path) -> bool {
    let whole =
        || -> io::Result<bool> { Ok(fs::metadata(a)?.len() == fs::metadata(b)?.len() && fs::read(a)? == fs::read(b)?) };
    whole().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tipi::Unwatched;

    /// Writes a file, and the folders above it.
    fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn listing(folder: &Path) -> Vec<String> {
        let mut all = Vec::new();
        let mut wait = vec![folder.to_path_buf()];
        while let Some(folder) = wait.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    wait.push(path.clone());
                }
                all.push(path.to_string_lossy().into_owned());
            }
        }
        all.sort();
        all
    }

    #[test]
    fn what_was_done_is_taken_back_to_the_last_file() {
        for moves in [false, true] {
            let scratch = tempfile::tempdir().unwrap();
            let files = vec![
                (file(scratch.path(), "in/a.png", "1"), "cat".into()),
                (file(scratch.path(), "in/b/a.png", "2"), "cat".to_owned()),
                (file(scratch.path(), "in/A.PNG", "3"), "cat".into()),
                (file(scratch.path(), "in/c.png", "4"), "dog/bad".into()),
            ];
            let before = listing(scratch.path());
            let into = scratch.path().join("out/sorted");
            let plan = plan(&into, &files, moves);
            let outcome = plan.run(&mut Unwatched).unwrap();
            assert_eq!((outcome.done, outcome.failed.len()), (4, 0));
            let read = |name: &str| fs::read_to_string(into.join(name)).unwrap();
            assert_eq!([read("cat/a.png"), read("cat/a (2).png"), read("cat/A (3).PNG")], ["1", "2", "3"]);
            assert_eq!(read("dog_bad/c.png"), "4");
            assert_eq!(files[0].0.exists(), !moves);
            // As after a new start.
            let again = Plan::of_folder(&into).unwrap();
            assert_eq!(again, plan);
            assert_eq!(again.undo(&mut Unwatched).unwrap().done, 4);
            assert_eq!(listing(scratch.path()), before);
            assert!(Plan::of_folder(&into).is_none());
        }
    }

    #[test]
    fn nothing_is_overwritten_and_what_people_changed_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let ours = file(scratch.path(), "in/a.png", "1");
        let into = scratch.path().join("out");
        file(scratch.path(), "out/cat/a.png", "theirs");
        let plan = plan(&into, &[(ours.clone(), "cat".into())], false);
        assert_eq!(plan.steps[0].to, into.join("cat/a (2).png"));
        // Somebody was faster.
        file(scratch.path(), "out/cat/a (2).png", "theirs too");
        let outcome = plan.run(&mut Unwatched).unwrap();
        assert_eq!((outcome.done, outcome.failed.len()), (0, 1));
        assert_eq!(plan.undo(&mut Unwatched).unwrap().failed.len(), 1, "not ours to remove");
        assert_eq!(fs::read_to_string(into.join("cat/a (2).png")).unwrap(), "theirs too");
        assert_eq!(fs::read_to_string(into.join("cat/a.png")).unwrap(), "theirs");
        assert!(carry(&ours, &into.join("cat/a.png")).is_err() && ours.exists());
    }

    #[test]
    fn classes_become_names_that_every_file_system_takes() {
        assert_eq!(
            ["a/b", "nul", "com1", "..", "x.", "  Straße "].map(folder_name),
            ["a_b", "_nul", "_com1", "_", "x", "Straße"]
        );
    }
}
