//! Reading the JSON files that describe a model.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result, input};

/// Reads a JSON file.
pub(super) fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = input::read(path, input::limit::CONFIG)?;
    serde_json::from_slice(&text).map_err(|e| malformed(path, &e))
}

/// What was read from the file at `path`, in a form of its own.
pub(super) fn typed<T: DeserializeOwned>(path: &Path, json: serde_json::Value) -> Result<T> {
    serde_json::from_value(json).map_err(|e| malformed(path, &e))
}

fn malformed(path: &Path, error: &serde_json::Error) -> Error {
    Error::config(path, format!("not a valid configuration: {error}"))
}

/// A size that may be written for both sides.
#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
pub(super) enum Side {
    One(usize),
    Both([usize; 2]),
}

impl Side {
    /// The side of a square.
    pub fn square(self, path: &Path, what: &str) -> Result<usize> {
        match self {
            Side::One(side) => Ok(side),
            Side::Both([height, width]) if height == width => Ok(height),
            Side::Both([height, width]) => {
                Err(Error::config(path, format!("{what} is {height}×{width}; tipi's towers take squares only")))
            }
        }
    }
}
