//! The register of methods, as an application sees it.

use std::fmt;

use serde_json::Value;

use crate::Result;
use crate::adapt::method::{self, Needs, Settings, find, settled};

/// A way to learn from few pictures: a line of the register.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(pub(super) &'static dyn method::Method);

/// A setting of a method.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its name in [`FitOptions::settings`](crate::FitOptions::settings).
    pub name: &'static str,
    /// What it does, with its range.
    pub help: &'static str,
    /// Its value where nobody gives another: the paper's.
    pub default: Value,
}

impl Method {
    /// All methods, in the order in which tables have them.
    pub fn all() -> impl Iterator<Item = Method> {
        method::METHODS.iter().copied().map(Method)
    }

    /// The method of this name or alias: `tip-adapter`, `pini`, …
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with the names that there are.
    pub fn named(name: &str) -> Result<Method> {
        find(name).map(Method)
    }

    /// The name that options and files have.
    pub fn name(self) -> &'static str {
        self.0.info().name
    }

    /// The name that people read.
    pub fn title(self) -> &'static str {
        self.0.info().title
    }

    /// What it does, in a sentence.
    pub fn about(self) -> &'static str {
        self.0.info().about
    }

    /// Where it was published.
    pub fn paper(self) -> &'static str {
        self.0.info().paper
    }

    /// Whether it needs a [`Correction`](crate::Correction).
    pub fn needs_correction(self) -> bool {
        self.needs().correction
    }

    /// Whether it trains, which takes longer than a method that only computes.
    pub fn trains(self) -> bool {
        self.needs().training
    }

    /// Its settings.
    pub fn settings(self) -> Vec<Setting> {
        let defaults = self.0.defaults();
        let of = |setting: &method::Setting| Setting {
            name: setting.name,
            help: setting.help,
            default: defaults.get(setting.name).cloned().unwrap_or(Value::Null),
        };
        self.0.settings().iter().map(of).collect()
    }

    /// Checks settings, and adds defaults for those that are not given.
    pub(super) fn settled(self, given: &Settings) -> Result<Settings> {
        settled(self.0, given)
    }

    pub(super) fn needs(self) -> Needs {
        self.0.info().needs
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Method({})", self.name())
    }
}

impl fmt::Display for Method {
    /// Its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
