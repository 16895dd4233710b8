//! Settings of methods: what options show of them, and their values.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Method;
use crate::memory::MOST_EPOCHS;
use crate::numbers::{self, Range};
use crate::{Error, Result};

/// A setting of a method, as options show it. Its value lies under its name in a map ([`Method::defaults`]).
#[derive(Debug)]
pub struct Setting {
    /// Its name, as in the map.
    pub name: &'static str,
    /// What it does, with its range.
    pub help: &'static str,
    /// What values it has.
    pub kind: Kind,
    /// Whether `tipi eval` knows it without the method's name in front, too.
    pub alone: bool,
}

impl Setting {
    /// Passes of a training that keeps its last.
    pub const EPOCHS: Setting = Setting {
        name: "epochs",
        help: "Passes over the pictures, from 1 to 1000000.",
        kind: Kind::Count(1, MOST_EPOCHS),
        alone: false,
    };

    /// A rate that falls along [`schedule::cosine`](crate::adapt::schedule::cosine).
    pub const COSINE_RATE: Setting = Setting {
        name: "lr",
        help: "Learning rate at the first step, from 1e-12 to 1000; it falls to 0 along a cosine.",
        kind: Kind::Number(numbers::RATE),
        alone: false,
    };
}

impl Setting {
    /// Checks a value.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what it may be.
    pub fn check(&self, value: &Value) -> Result<()> {
        let wrong = |may: String| Err(Error::invalid(format!("{} is {value}, and must be {may}", self.name)));
        match self.kind {
            Kind::Count(least, most) => match value.as_u64() {
                Some(count) if (least as u64..=most as u64).contains(&count) => Ok(()),
                _ => wrong(format!("a whole number from {least} to {most}")),
            },
            Kind::Number(range) => match value.as_f64() {
                Some(number) => range.check(self.name, number).map(drop),
                None => wrong(format!("a number from {range}")),
            },
            Kind::Choice(words) => match words.iter().any(|(word, _)| value.as_str() == Some(word)) {
                true => Ok(()),
                false => wrong(words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ")),
            },
            Kind::Text(form, check) => value.as_str().map_or_else(|| wrong(format!("text, as {form}")), check),
        }
    }
}

/// Values of a setting.
#[derive(Debug)]
pub enum Kind {
    /// A whole number from the first to the second.
    Count(usize, usize),
    /// A number.
    Number(Range),
    /// One of these words, each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// What a function understands, and the form of it.
    Text(&'static str, fn(&str) -> Result<()>),
}

/// Settings by name, as JSON has them: numbers, words.
pub type Settings = Map<String, Value>;

/// A method's settings: what is given, and its defaults for the rest.
///
/// # Errors
/// [`Error::Invalid`] for a setting that the method does not have; as [`Method::check`] and [`Setting::check`].
pub fn settled(method: &dyn Method, given: &Settings) -> Result<Settings> {
    let mut settings = method.defaults();
    for (name, value) in given {
        match settings.get_mut(name) {
            Some(place) => *place = value.clone(),
            None => {
                let known = method.defaults().keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(Error::invalid(format!("{method} has no setting '{name}'; it has {known}")));
            }
        }
    }
    method.check(&settings)?;
    for setting in method.settings() {
        // One without a default may be left open.
        match settings.get(setting.name) {
            Some(value) if *value != Value::Null => setting.check(value)?,
            _ => {}
        }
    }
    Ok(settings)
}

/// Settings as a type.
///
/// # Errors
/// [`Error::Invalid`] for values of another form.
pub(crate) fn typed<T: DeserializeOwned>(settings: &Settings) -> Result<T> {
    serde_json::from_value(Value::Object(settings.clone())).map_err(|e| Error::invalid(format!("settings: {e}")))
}

/// Settings of a type.
///
/// # Errors
/// What cannot be written down.
pub(crate) fn untyped(settings: &impl Serialize) -> Result<Settings> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Error::invalid(format!("settings cannot be {other}"))),
        Err(error) => Err(Error::invalid(format!("settings: {error}"))),
    }
}
