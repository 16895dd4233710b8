//! How many pictures of each class are learned from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result};

/// The most pictures per class that hyper-parameters are searched on.
const MOST_VAL: usize = 4;

/// Pictures of each class to learn from. A class that has fewer gives all it has.
///
/// In files and options it is a number, or the word `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shots {
    /// So many, chosen by chance.
    UpTo(usize),
    /// All that there are. None is put aside to validate on: only a set's own validation part serves for that.
    All,
}

impl Shots {
    /// The number; none where all are taken.
    pub fn number(self) -> Option<usize> {
        match self {
            Shots::UpTo(count) => Some(count),
            Shots::All => None,
        }
    }

    /// How many of a class with `there` pictures are taken.
    pub fn of(self, there: usize) -> usize {
        self.number().map_or(there, |count| count.min(there))
    }

    /// How many of each class are put aside to validate on, of those that are not learned from: as many, but no more than four.
    pub fn aside(self) -> usize {
        self.number().map_or(0, |count| count.min(MOST_VAL))
    }

    /// How many of each class of a set's own validation part serve: as many as [`Shots::aside`], or all.
    pub(super) fn of_val(self) -> Shots {
        self.number().map_or(Shots::All, |count| Shots::UpTo(count.min(MOST_VAL)))
    }

    /// As tables and titles have it: `16 shot`, `all pictures`.
    pub fn title(self) -> String {
        self.number().map_or("all pictures".into(), |count| format!("{count} shot"))
    }

    /// Fails for 0.
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Shots::UpTo(0) => {
                Err(Error::invalid("0 shots leave nothing to learn from: ask for at least 1 per class, or for all"))
            }
            _ => Ok(()),
        }
    }
}

impl From<usize> for Shots {
    fn from(count: usize) -> Shots {
        Shots::UpTo(count)
    }
}

impl fmt::Display for Shots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shots::UpTo(count) => fmt::Display::fmt(count, f),
            Shots::All => f.pad("all"),
        }
    }
}

impl FromStr for Shots {
    type Err = Error;

    fn from_str(text: &str) -> Result<Shots> {
        match text {
            "all" => Ok(Shots::All),
            _ => text
                .parse()
                .map(Shots::UpTo)
                .map_err(|_| Error::invalid(format!("'{text}' is no number of shots: write a whole number, or 'all'"))),
        }
    }
}

/// As files have it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(usize),
    Word(String),
}

impl Serialize for Shots {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = self.number().map_or_else(|| Written::Word(self.to_string()), Written::Number);
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shots {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shots, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(count) => Ok(Shots::UpTo(count)),
            Written::Word(word) if word == "all" => Ok(Shots::All),
            Written::Word(word) => Err(serde::de::Error::custom(format!("'{word}' is no number of shots"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shots_are_numbers_or_all_in_files_and_options() {
        for (shots, json, text) in [(Shots::UpTo(16), "16", "16"), (Shots::All, "\"all\"", "all")] {
            assert_eq!(serde_json::to_string(&shots).unwrap(), json);
            assert_eq!(serde_json::from_str::<Shots>(json).unwrap(), shots);
            assert_eq!((shots.to_string(), text.parse::<Shots>().unwrap()), (text.to_owned(), shots));
        }
        for bad in ["\"16\"", "-1", "1.5", "null", "\"\""] {
            assert!(serde_json::from_str::<Shots>(bad).is_err(), "{bad}");
        }
        assert!("16 of them".parse::<Shots>().is_err() && Shots::UpTo(0).check().is_err());
        assert!(Shots::UpTo(usize::MAX) < Shots::All);
    }

    #[test]
    fn what_is_taken_depends_on_what_there_is() {
        assert_eq!((Shots::UpTo(4).of(9), Shots::UpTo(4).of(2), Shots::All.of(9)), (4, 2, 9));
        assert_eq!((Shots::UpTo(16).aside(), Shots::UpTo(2).aside(), Shots::All.aside()), (4, 2, 0));
    }
}
