//! Results of several folders in one, as when several machines have shared an evaluation.

use std::path::{Path, PathBuf};

use super::journal::{Journal, Overlap};
use super::{About, Record, TestSet};
use crate::data::walk::{self, mark_results};
use crate::files::write_atomic;
use crate::settings::difference;
use crate::{Error, Result, input};

/// Takes the results in `parts`, each a folder as an evaluation leaves it, into `out`, dataset by dataset; adapter files come along.
/// Afterwards an evaluation in `out` finds them done. What is there already stays, and may be in a part, too: all but times and memory
/// must then be equal. A part that was taken is left as it is.
///
/// # Errors
/// [`Error::Data`] for a part without results, or with some of other settings or pictures, for a result that is there with other
/// numbers, for damage, or where another program writes to `out`; [`Error::Io`]. What was taken before stays.
pub fn gather(out: &Path, parts: &[PathBuf]) -> Result<()> {
    mark_results(out)?;
    for part in parts {
        let entries = walk::entries(part).map_err(|e| Error::io(part, e))?;
        let folders: Vec<PathBuf> = entries
            .into_iter()
            .map(|entry| entry.path)
            .filter(|folder| folder.join("settings.json").is_file())
            .collect();
        if folders.is_empty() {
            return Err(Error::data(part, "there are no results here: give a folder that an evaluation wrote to"));
        }
        folders.iter().try_for_each(|folder| of_dataset(out, folder))?;
    }
    Ok(())
}

/// Takes one dataset's results.
fn of_dataset(out: &Path, folder: &Path) -> Result<()> {
    let (part, settings, mut about) = Journal::look(folder)?;
    // The name is a folder's in `out`, whatever the file says.
    if folder.file_name().is_none_or(|name| name != settings.dataset.as_str()) {
        let reason =
            format!("its settings are of the dataset '{}': a folder of results has its name", settings.dataset);
        return Err(Error::data(folder, reason));
    }
    if part.records.is_empty() {
        return Ok(());
    }
    let test = part.test()?;
    let target = out.join(&settings.dataset);
    if target.join("settings.json").is_file() {
        let (_, _, there) = Journal::look(&target)?;
        about = of_both(there, about);
    }
    let mut journal = Journal::open(&target, &settings, &about)?;
    if journal.records.is_empty() {
        journal.keep_test(&test)?;
    } else if journal.test()?.digest != test.digest {
        let reason = format!("its test pictures are not those of the results in {}", target.display());
        return Err(Error::data(part.path(), reason));
    }
    part.records.iter().try_for_each(|record| take(&mut journal, (&part, &test), record))?;
    match (part.overlap()?, journal.overlap()?) {
        (Some(overlap), there) if there.as_ref().is_none_or(|there| says_more(&overlap, there)) => {
            journal.keep_overlap(&overlap)
        }
        _ => Ok(()),
    }
}

/// Takes one result, unless it is there.
fn take(journal: &mut Journal, (part, test): (&Journal, &TestSet), record: &Record) -> Result<()> {
    let of_part = |reason: String| Error::data(part.path(), reason);
    if let Some(there) = journal.of(record.task) {
        return match difference(&timeless(there), &timeless(record)) {
            None => Ok(()),
            Some(difference) => Err(of_part(format!(
                "{} is in {} with another result ({difference}): remove one",
                record.task.file(),
                journal.path().display()
            ))),
        };
    }
    let same_choice = |other: &&Record| (other.task.seed, other.task.shots) == (record.task.seed, record.task.shots);
    if let Some(other) = journal.records.iter().find(same_choice).filter(|other| other.data != record.data) {
        let reason = format!(
            "{} has not learned from the pictures that {} learned from in {}",
            record.task.file(),
            other.task.file(),
            journal.path().display()
        );
        return Err(of_part(reason));
    }
    let detail = part.detail_of(record.task, test)?;
    let adapter = part.adapter(record.task);
    if adapter.is_file() {
        let target = journal.adapter(record.task);
        let folder = target.parent().unwrap_or(&target);
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        write_atomic(&target, &input::read(&adapter, input::limit::TENSORS)?)?;
    }
    journal.append(record.clone(), &detail)
}

/// A result without what differs from run to run.
fn timeless(record: &Record) -> Record {
    Record { fit_seconds: 0.0, predict_seconds: 0.0, peak_bytes: 0, ..record.clone() }
}

/// Whether similarities were measured with a correction, too, and of the same pictures.
fn says_more(overlap: &Overlap, there: &Overlap) -> bool {
    let pictures = |overlap: &Overlap| overlap.of.split(' ').next().map(String::from);
    overlap.after.is_some() && there.after.is_none() && pictures(overlap) == pictures(there)
}

/// What people want to know of results that were computed here and there.
fn of_both(there: About, mut about: About) -> About {
    let mut devices: Vec<&str> = there.device.split(DEVICES).collect();
    devices.extend(about.device.split(DEVICES).filter(|device| !there.device.split(DEVICES).any(|one| one == *device)));
    about.device = devices.join(DEVICES);
    let more: Vec<String> = about.notes.into_iter().filter(|note| !there.notes.contains(note)).collect();
    about.notes = there.notes.into_iter().chain(more).collect();
    about
}

/// Stands between devices.
const DEVICES: &str = "; ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_notes_are_named_once() {
        let about = |device: &str, notes: &[&str]| About {
            title: "a".into(),
            source: "b".into(),
            parts: [1, 2, 3],
            model: "c".into(),
            device: device.into(),
            notes: notes.iter().map(ToString::to_string).collect(),
        };
        let both = of_both(about("one; two", &["thin"]), about("two; three", &["thin", "few"]));
        assert_eq!(both, about("one; two; three", &["thin", "few"]));
    }
}
