//! Several datasets through the protocol, with the correction that they share: what `tipi eval` and an application do.

use std::path::Path;

use super::correction::{Generic, kept};
use super::{Checked, Protocol, Watch, check, run};
use crate::adapt::overlap::Correction;
use crate::clip::Clip;
use crate::data::Dataset;
use crate::{Error, Result};

/// The file in the folder of results that keeps a correction which was trained for them.
pub const CORRECTION: &str = "correction.safetensors";

/// Where the correction of ++ methods comes from.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one of them in a run")]
pub enum Correcting<'a> {
    /// There is none.
    Nothing,
    /// It is there.
    With(&'a Correction),
    /// It is trained before all else on generic pictures, and kept in the folder of results.
    Trained(Generic<'a>),
}

/// Datasets and what is to be run on them, looked over.
pub struct Evaluation<'a> {
    checked: Vec<Checked<'a>>,
    protocol: &'a Protocol,
    correcting: Correcting<'a>,
}

impl<'a> Evaluation<'a> {
    /// Looks for what would end it later.
    ///
    /// # Errors
    /// As [`check`]; [`Error::Invalid`] for no datasets, or two of one name.
    pub fn new(
        datasets: impl IntoIterator<Item = &'a Dataset>,
        protocol: &'a Protocol,
        correcting: Correcting<'a>,
    ) -> Result<Evaluation<'a>> {
        let datasets: Vec<&Dataset> = datasets.into_iter().collect();
        if datasets.is_empty() {
            return Err(Error::invalid("there is no dataset to evaluate on"));
        }
        for (at, dataset) in datasets.iter().enumerate() {
            if datasets[..at].iter().any(|other| other.name == dataset.name) {
                let reason = format!("there are two datasets of the name '{}': rename a folder", dataset.name);
                return Err(Error::invalid(reason));
            }
        }
        let corrected = !matches!(correcting, Correcting::Nothing);
        let checked = datasets.into_iter().map(|dataset| check(dataset, protocol, corrected));
        Ok(Evaluation { checked: checked.collect::<Result<_>>()?, protocol, correcting })
    }

    /// Runs what is not there yet, dataset by dataset, and keeps results in `out` and features in `features`.
    ///
    /// # Errors
    /// As [`run()`]; those of training a correction.
    pub fn run(&self, clip: &Clip, (out, features): (&Path, &Path), watch: &mut dyn Watch) -> Result<()> {
        let Protocol { methods, strict, .. } = self.protocol;
        // Without methods that use it the corrected tower would be run for nothing.
        let used = methods.iter().any(|method| method.info().needs.correction);
        let trained;
        let correction = match &self.correcting {
            Correcting::With(correction) if used => Some(*correction),
            Correcting::Trained(generic) if used => {
                trained = kept(clip, generic, (&out.join(CORRECTION), *strict), watch)?;
                Some(&trained)
            }
            _ => None,
        };
        let digest = correction.map(|correction| correction.digest(&clip.gpu)).transpose()?;
        let corrected = correction.zip(digest.as_deref());
        let precision = clip.precision().name();
        self.checked.iter().try_for_each(|checked| run(clip, *checked, corrected, (precision, out, features), watch))
    }
}
