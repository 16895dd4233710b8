//! First uses of kernels, so that one that ends the process does so once.
//!
//! Drivers have been seen to abort the process that compiles or runs a kernel, or to compile for ever. So the first use of
//! each variant on a device is noted in a file before it, and struck out once it ran. The file is locked while its writer
//! lives: one that is not locked and not empty is what a process left that was ended in the middle. Who finds it tries
//! those variants again, in a process of its own where there is a program for that ([`super::DeviceOptions::trial`]). What
//! ends that too is left out from then on: kernels that need no subgroups, or no matrix units, take its place.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pipeline::Variant;
use super::wait;
use super::wgsl::{Binding, Wgsl};
use crate::files::write_cache;
use crate::input;
use crate::platform::Instant;

/// How long the tries of a variant may take together, in a process of its own.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is needed to try a variant again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Trial {
    pub key: String,
    pub entry: String,
    pub text: String,
    pub bindings: Vec<Binding>,
}

/// The first uses on one device.
#[derive(Debug)]
pub(super) struct Trials {
    /// Folder and name of the files; `None` notes nothing.
    place: Option<(PathBuf, String)>,
    noting: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Variants that ran here before.
    good: BTreeSet<String>,
    /// Variants that are left out.
    deadly: BTreeSet<String>,
    /// Variants whose first use is under way, and those of them that were submitted.
    begun: BTreeSet<String>,
    submitted: BTreeSet<String>,
    note: Option<(PathBuf, File)>,
    changed: bool,
}

impl Trials {
    /// The notes of the device that `name` tells from others, in `folder`.
    pub fn open(place: Option<(PathBuf, String)>) -> Trials {
        let trials = Trials { place, noting: AtomicBool::new(false), state: Mutex::default() };
        let state = State { good: trials.read("ran"), deadly: trials.read("deadly"), ..State::default() };
        Trials { state: Mutex::new(state), ..trials }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, what: &str) -> Option<PathBuf> {
        self.place.as_ref().map(|(folder, name)| folder.join(format!("{what}-{name}.txt")))
    }

    fn read(&self, what: &str) -> BTreeSet<String> {
        let text = self.file(what).and_then(|path| input::read_text(&path, input::limit::TEXT).ok());
        text.unwrap_or_default().lines().map(String::from).collect()
    }

    fn write(&self, what: &str, lines: &BTreeSet<String>) {
        let Some(path) = self.file(what) else { return };
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        if let Err(error) = write_cache(&path, text.as_bytes()) {
            tracing::debug!("{} not kept: {error}", path.display());
        }
    }

    /// Whether a variant that `which` is true of is left out here.
    pub fn leaves_out(&self, which: &dyn Fn(&str) -> bool) -> bool {
        self.lock().deadly.iter().any(|key| which(key))
    }

    /// Where it says so.
    pub fn deadly_file(&self) -> Option<PathBuf> {
        self.file("deadly")
    }

    /// Notes that a variant is about to be compiled and run for the first time.
    pub fn begin(&self, variant: &Variant, wgsl: &Wgsl) {
        let key = variant.key();
        self.begin_trial(&Trial {
            entry: variant.entry.into(),
            text: wgsl.text.clone(),
            bindings: wgsl.bindings.clone(),
            key,
        });
    }

    fn begin_trial(&self, trial: &Trial) {
        let Some((folder, name)) = &self.place else { return };
        let mut state = self.lock();
        if state.good.contains(&trial.key) || state.begun.contains(&trial.key) {
            return;
        }
        if state.note.is_none() {
            state.note = create(folder, name);
        }
        let Some((_, note)) = &mut state.note else { return };
        let line = serde_json::to_string(trial).unwrap_or_default() + "\n";
        if note.write_all(line.as_bytes()).is_ok() {
            state.begun.insert(trial.key.clone());
            self.noting.store(true, Ordering::Release);
        }
    }

    /// Whether any first use is under way.
    pub fn noting(&self) -> bool {
        self.noting.load(Ordering::Acquire)
    }

    /// Notes that variants are being run.
    pub fn submit<'k>(&self, keys: impl Iterator<Item = &'k str>) {
        let mut state = self.lock();
        for key in keys {
            if state.begun.contains(key) {
                state.submitted.insert(key.into());
            }
        }
    }

    /// What was submitted so far: to be given to [`Trials::ran`] once all of it ran.
    pub fn submitted(&self) -> BTreeSet<String> {
        if self.noting() { self.lock().submitted.clone() } else { BTreeSet::new() }
    }

    /// Strikes out variants that ran.
    pub fn ran(&self, keys: &BTreeSet<String>) {
        if keys.is_empty() {
            return;
        }
        let mut state = self.lock();
        for key in keys {
            state.submitted.remove(key);
            if state.begun.remove(key) {
                state.good.insert(key.clone());
                state.changed = true;
            }
        }
        if state.begun.is_empty() {
            self.noting.store(false, Ordering::Release);
            if let Some((_, note)) = &mut state.note {
                let _ = note.set_len(0).and_then(|()| note.rewind());
            }
        }
    }

    /// Keeps what ran for later processes. The note of what did not stays.
    pub fn close(&self) {
        let mut state = self.lock();
        if state.changed {
            // Others may have added theirs meanwhile.
            let mut all = self.read("ran");
            all.extend(state.good.iter().cloned());
            self.write("ran", &all);
            state.changed = false;
        }
        // What was recorded and never run did no harm.
        if state.submitted.is_empty()
            && let Some((path, _)) = state.note.take()
        {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Takes over the notes that ended processes left, and decides about what is in them: by `program` in a process of its
    /// own, or else by `attempt` in this one, one variant at a time, each under a note of its own. A variant that was alone
    /// when the process ended is not tried in this one.
    pub fn settle(&self, program: Option<(&Path, &[&str])>, attempt: &dyn Fn(&Trial) -> bool) {
        let Some((folder, name)) = &self.place else { return };
        let (notes, suspects) = abandoned(folder, name);
        let known = self.lock().deadly.clone();
        let suspects: Vec<Trial> = suspects.into_iter().filter(|t| !known.contains(&t.key)).collect();
        let deadly: Vec<&Trial> = match program {
            _ if suspects.is_empty() => Vec::new(),
            Some(program) if survives(program, folder, &suspects) => Vec::new(),
            Some(program) => suspects.iter().filter(|t| !survives(program, folder, std::slice::from_ref(*t))).collect(),
            None if suspects.len() == 1 => suspects.iter().collect(),
            None => {
                // Those that come after one that ends this process are told of it by what it leaves: a note of one.
                let tried = suspects.iter().filter(|trial| {
                    self.begin_trial(trial);
                    let well = attempt(trial);
                    self.ran(&BTreeSet::from([trial.key.clone()]));
                    !well
                });
                tried.collect()
            }
        };
        if !deadly.is_empty() {
            let mut state = self.lock();
            for trial in deadly {
                tracing::warn!("kernel {} ended a program on this device, and is left out from now on", trial.key);
                state.good.remove(&trial.key);
                state.deadly.insert(trial.key.clone());
            }
            self.write("deadly", &state.deadly);
        }
        for (path, file) in notes {
            let _ = std::fs::remove_file(path);
            drop(file);
        }
    }
}

/// A new note, locked for as long as this process holds it.
fn create(folder: &Path, name: &str) -> Option<(PathBuf, File)> {
    std::fs::create_dir_all(folder).ok()?;
    let id = std::process::id();
    (0..100).find_map(|turn| {
        let path = folder.join(format!("first-{name}.{id}-{turn}"));
        let file = input::open_with(OpenOptions::new().create_new(true).write(true), &path).ok()?;
        // Without locks nobody could tell whether the note's writer lives.
        file.try_lock().ok()?;
        Some((path, file))
    })
}

/// The notes whose writers are gone, locked, and what stands in them.
fn abandoned(folder: &Path, name: &str) -> (Vec<(PathBuf, File)>, Vec<Trial>) {
    let (mut notes, mut trials) = (Vec::new(), Vec::<Trial>::new());
    let prefix = format!("first-{name}.");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = input::open_with(OpenOptions::new().read(true).write(true), &path) else { continue };
        if file.try_lock().is_err() {
            continue;
        }
        let text = input::read_text(&path, input::limit::CONFIG).unwrap_or_default();
        for trial in text.lines().filter_map(|line| serde_json::from_str::<Trial>(line).ok()) {
            if !trials.iter().any(|t| t.key == trial.key) {
                trials.push(trial);
            }
        }
        notes.push((path, file));
    }
    (notes, trials)
}

/// Whether a program that is given trials ends well.
fn survives((program, args): (&Path, &[&str]), folder: &Path, trials: &[Trial]) -> bool {
    let lines: String = trials.iter().map(|t| serde_json::to_string(t).unwrap_or_default() + "\n").collect();
    let path = folder.join(format!("try-{}.jsonl", std::process::id()));
    if write_cache(&path, lines.as_bytes()).is_err() {
        return true;
    }
    let mut command = Command::new(program);
    command.args(args).arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let ended = command.spawn().map(|mut child| {
        let start = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if start.elapsed() < PATIENCE => wait::nap(Duration::from_millis(5)),
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return false;
                }
            }
        }
    });
    let _ = std::fs::remove_file(&path);
    // A program that cannot be started says nothing about the driver.
    ended.unwrap_or(true)
}

/// The trials in a file, as [`survives`] writes them.
pub(super) fn listed(path: &Path) -> crate::Result<Vec<Trial>> {
    let text = input::read_text(path, input::limit::CONFIG)?;
    let trial = |line: &str| {
        serde_json::from_str(line).map_err(|e| crate::Error::data(path, format!("not a list of kernels to try: {e}")))
    };
    text.lines().map(trial).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Trial, Trials, abandoned, create};

    fn trial(key: &str) -> Trial {
        Trial { key: key.into(), entry: "main".into(), text: String::new(), bindings: Vec::new() }
    }

    fn keys(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    /// Leaves what a process leaves that ends while these variants are used for the first time.
    fn end_during(folder: &std::path::Path, names: &[&str]) {
        let trials = Trials::open(Some((folder.into(), "device".into())));
        names.iter().for_each(|name| trials.begin_trial(&trial(name)));
        trials.submit(names.iter().copied());
    }

    #[test]
    fn what_ran_is_not_noted_again_and_what_never_ran_is_no_suspect() {
        let folder = tempfile::tempdir().unwrap();
        let place = || Some((folder.path().into(), "device".into()));
        let trials = Trials::open(place());
        for name in ["a", "b", "never run"] {
            trials.begin_trial(&trial(name));
        }
        trials.submit(["a", "b"].into_iter());
        assert_eq!(trials.submitted(), keys(&["a", "b"]));
        // Its writer lives: nobody takes the note over.
        assert!(abandoned(folder.path(), "device").0.is_empty());
        trials.ran(&trials.submitted());
        trials.close();
        drop(trials);
        assert!(abandoned(folder.path(), "device").0.is_empty());
        let again = Trials::open(place());
        again.begin_trial(&trial("a"));
        assert!(!again.noting());
        again.begin_trial(&trial("never run"));
        assert!(again.noting());
    }

    #[test]
    fn one_that_ended_the_process_alone_is_left_out_for_good() {
        let folder = tempfile::tempdir().unwrap();
        end_during(folder.path(), &["attention/forward"]);
        let place = || Some((folder.path().into(), "device".into()));
        let trials = Trials::open(place());
        trials.settle(None, &|_| panic!("tried in this process"));
        assert!(trials.leaves_out(&|key| key.starts_with("attention/")));
        // Another device, and the same in the next process.
        assert!(!Trials::open(Some((folder.path().into(), "other".into()))).leaves_out(&|_| true));
        let next = Trials::open(place());
        next.settle(None, &|_| panic!("tried in this process"));
        assert!(next.leaves_out(&|key| key == "attention/forward"));
    }

    #[test]
    fn of_several_the_one_that_fails_again_is_found() {
        let folder = tempfile::tempdir().unwrap();
        end_during(folder.path(), &["a", "b", "c"]);
        let trials = Trials::open(Some((folder.path().into(), "device".into())));
        trials.settle(None, &|trial| trial.key != "b");
        let out = |name: &str| trials.leaves_out(&|key| key == name);
        assert_eq!(["a", "b", "c"].map(out), [false, true, false]);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_tries_them_in_a_process_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let settled = |script: &str| {
            end_during(folder.path(), &["a", "bad", "c"]);
            let trials = Trials::open(Some((folder.path().into(), "device".into())));
            trials
                .settle(Some((std::path::Path::new("/bin/sh"), &["-c", script])), &|_| panic!("tried in this process"));
            ["a", "bad", "c"].map(|name| trials.leaves_out(&|key| key == name))
        };
        // As after a process that was killed from outside: all of them are well.
        assert_eq!(settled("exit 0"), [false; 3]);
        assert_eq!(settled("grep -q bad $0 && kill -ABRT $$; exit 0"), [false, true, false]);
    }

    #[test]
    fn a_note_without_a_writer_is_taken_over_once() {
        let folder = tempfile::tempdir().unwrap();
        drop(create(folder.path(), "device"));
        let first = abandoned(folder.path(), "device");
        assert_eq!((first.0.len(), first.1.len()), (1, 0));
        assert!(abandoned(folder.path(), "device").0.is_empty());
    }
}
