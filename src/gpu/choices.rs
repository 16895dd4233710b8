//! What was measured on a device, kept on disk: under keys that whoever measures makes up, the least seconds that each of
//! several ways took, over all looks at them.
//!
//! Each look can only lower a number, so that a machine that was busy during one does not decide for good. A look is taken
//! [`LOOKS`] times, on first use and again on uses at least [`PAUSE`] apart; then the numbers stand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::files::write_cache;
use crate::input;
use crate::platform::{SystemTime, UNIX_EPOCH};

/// Looks that are taken of their own accord.
const LOOKS: u32 = 3;

/// What lies between two looks at the least: other work on the machine should have ended.
const PAUSE: Duration = Duration::from_secs(3600);

/// What was measured under a key.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Measured {
    /// Least seconds by name; none for a way that was found wrong.
    pub seconds: BTreeMap<String, Option<f64>>,
    /// Looks taken.
    looks: u32,
    /// When the last look was taken, in seconds since 1970.
    last: u64,
}

impl Measured {
    /// Adds a look, taken now.
    pub fn add(&mut self, look: &[(&str, Option<f64>)]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.add_at(look, now.as_secs());
    }

    fn add_at(&mut self, look: &[(&str, Option<f64>)], now: u64) {
        for (name, seconds) in look {
            let least = self.seconds.entry((*name).into()).or_insert(*seconds);
            *least = match (*least, *seconds) {
                (Some(a), Some(b)) => Some(a.min(b)),
                // What was wrong once is not trusted.
                _ => None,
            };
        }
        (self.looks, self.last) = (self.looks + 1, now);
    }

    /// Whether another look should be taken now.
    pub fn wants_another_look(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.wants_another_look_at(now.as_secs())
    }

    fn wants_another_look_at(&self, now: u64) -> bool {
        // A clock that was set back must not keep looks away.
        self.looks < LOOKS && self.last.abs_diff(now) >= PAUSE.as_secs()
    }
}

/// The choices of one device and driver.
#[derive(Debug)]
pub(super) struct Choices {
    /// `None` keeps them in memory only.
    path: Option<PathBuf>,
    made: Mutex<BTreeMap<String, Measured>>,
}

impl Choices {
    /// What is on disk; nothing where there is no file, or one that cannot be read: it can be measured again.
    pub fn open(path: Option<PathBuf>) -> Choices {
        let read = || serde_json::from_slice(&input::read(path.as_ref()?, input::limit::CONFIG).ok()?).ok();
        Choices { made: Mutex::new(read().unwrap_or_default()), path }
    }

    /// What is noted under `key`.
    pub fn get(&self, key: &str) -> Option<Measured> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Notes what was measured, on disk too. A failure there only costs the next start some time, so it is logged, not
    /// returned.
    pub fn note(&self, key: &str, measured: Measured) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(key.into(), measured);
        let Some(path) = &self.path else { return };
        let written =
            serde_json::to_vec_pretty(&*made).map_err(std::io::Error::from).and_then(|json| write_cache(path, &json));
        if let Err(error) = written {
            tracing::debug!("measured choices {} not kept: {error}", path.display());
        }
    }

    /// Forgets all choices, on disk too.
    pub fn clear(&self) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Where the choices are kept.
    pub fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::{Choices, LOOKS, Measured, PAUSE};

    fn of(name: &str, seconds: f64) -> Measured {
        let mut measured = Measured::default();
        measured.add(&[(name, Some(seconds))]);
        measured
    }

    #[test]
    fn choices_are_found_again_and_a_broken_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("choices.json");
        let choices = Choices::open(Some(path.clone()));
        assert_eq!(choices.get("a"), None);
        let (rows, tile, wide) = (of("rows", 1.0), of("tile", 2.0), of("wide", 3.0));
        choices.note("a", rows);
        choices.note("b", tile.clone());
        choices.note("a", wide.clone());
        let again = Choices::open(Some(path.clone()));
        assert_eq!((again.get("a"), again.get("b")), (Some(wide), Some(tile)));
        again.clear();
        assert_eq!(Choices::open(Some(path.clone())).get("a"), None);
        // Cut off, and of the form that earlier versions wrote.
        for broken in ["{\"a\": ", "{\"a\": \"rows\"}"] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(Choices::open(Some(path.clone())).get("a"), None, "{broken}");
        }
        let unkept = Choices::open(None);
        unkept.note("a", of("rows", 1.0));
        assert_eq!(
            unkept.get("a"),
            Some(of("rows", 1.0)).map(|m| Measured { last: unkept.get("a").unwrap().last, ..m })
        );
    }

    #[test]
    fn looks_lower_numbers_and_are_taken_a_few_times() {
        let (mut measured, pause) = (Measured::default(), PAUSE.as_secs());
        let mut now = 1_000_000;
        measured.add_at(&[("rows", Some(3.0)), ("tile", Some(2.0)), ("wide", Some(1.0))], now);
        assert!(!measured.wants_another_look_at(now) && !measured.wants_another_look_at(now + pause - 1));
        assert!(measured.wants_another_look_at(now + pause) && measured.wants_another_look_at(now - pause));
        for look in 1..LOOKS {
            now += pause;
            assert!(measured.wants_another_look_at(now), "look {look}");
            measured.add_at(&[("rows", Some(1.5)), ("tile", Some(4.0)), ("wide", None)], now);
        }
        assert!(!measured.wants_another_look_at(now + 1000 * pause), "looks end");
        let seconds: Vec<_> = measured.seconds.values().copied().collect();
        assert_eq!(seconds, [Some(1.5), Some(2.0), None], "rows, tile and wide");
    }
}
