//! The corrections that a run has.

use std::collections::BTreeMap;

use super::{Protocol, Task, Teaching};
use crate::adapt::overlap::Correction;
use crate::{Error, Result};

/// Corrections, each with the digest that tells it from others.
#[derive(Clone, Debug, Default)]
pub struct Corrections<'a> {
    /// That of methods.
    pub of_methods: Option<(&'a Correction, &'a str)>,
    /// Those that an ablation compares.
    pub taught: Vec<(Teaching, &'a Correction, &'a str)>,
}

impl<'a> From<Option<(&'a Correction, &'a str)>> for Corrections<'a> {
    fn from(of_methods: Option<(&'a Correction, &'a str)>) -> Corrections<'a> {
        Corrections { of_methods, taught: Vec::new() }
    }
}

/// Tasks that take features of one tower, or of two that are run at once.
pub(super) type Part<'a> = (Option<(&'a Correction, &'a str)>, Vec<Task>);

impl<'a> Corrections<'a> {
    /// The tasks of a protocol by the correction that they take. Features without a correction are those of the first part, whose tower
    /// gives both.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a correction that is not there.
    pub(super) fn parts(&self, protocol: &Protocol) -> Result<Vec<Part<'a>>> {
        let tasks = protocol.tasks();
        if !protocol.compares_corrections() {
            return Ok(vec![(self.of_methods, tasks)]);
        }
        let mut parts = Vec::new();
        for (number, teaching) in protocol.taught.iter().enumerate() {
            let found = self.taught.iter().find(|(other, ..)| other == teaching);
            let Some((_, correction, digest)) = found else {
                return Err(Error::invalid(format!(
                    "the {teaching} correction, which is to be compared, is not there"
                )));
            };
            let own = |task: &&Task| match task.variant.and_then(|variant| variant.teaching) {
                Some(other) => other == *teaching,
                None => number == 0,
            };
            parts.push((Some((*correction, *digest)), tasks.iter().filter(own).copied().collect()));
        }
        Ok(parts)
    }

    /// What results have in common: the digest of the correction of methods, and those of corrections that are compared.
    pub(super) fn digests(&self, protocol: &Protocol) -> (Option<String>, BTreeMap<Teaching, String>) {
        if !protocol.compares_corrections() {
            return (self.of_methods.map(|(_, digest)| digest.to_string()), BTreeMap::new());
        }
        let asked = self.taught.iter().filter(|(teaching, ..)| protocol.taught.contains(teaching));
        (None, asked.map(|(teaching, _, digest)| (*teaching, (*digest).to_string())).collect())
    }
}
