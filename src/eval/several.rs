//! Several datasets through the protocol, with the corrections that they share: what `tipi eval` and an application do.

use std::path::{Path, PathBuf};

use super::correction::{Generic, Teaching, kept};
use super::{Checked, Corrections, Protocol, Watch, check, run};
use crate::adapt::lesson::Place;
use crate::adapt::overlap::Correction;
use crate::clip::Clip;
use crate::data::{Dataset, Item};
use crate::{Error, Result};

/// Where the correction of ++ methods comes from.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "there are few of them in a run")]
pub enum Correcting<'a> {
    /// There is none.
    Nothing,
    /// It is there.
    With(&'a Correction),
    /// It is trained before all else on generic pictures, and kept in the folder of results.
    Trained(Generic<'a>),
    /// An ablation compares several: those of [`Protocol::taught`].
    Each(Vec<(Teaching, Correcting<'a>)>),
}

/// Datasets and what is to be run on them, looked over.
pub struct Evaluation<'a> {
    checked: Vec<Checked<'a>>,
    protocol: &'a Protocol,
    correcting: Correcting<'a>,
    /// All test pictures: no correction is trained on them.
    tested: Vec<&'a Item>,
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
        if let Correcting::Each(all) = &correcting
            && let Some(missing) =
                protocol.taught.iter().find(|taught| all.iter().all(|(teaching, _)| teaching != *taught))
        {
            return Err(Error::invalid(format!("the {missing} correction, which is to be compared, is not there")));
        }
        let tested = datasets.iter().flat_map(|dataset| &dataset.test).collect();
        let checked = datasets.into_iter().map(|dataset| check(dataset, protocol, corrected));
        Ok(Evaluation { checked: checked.collect::<Result<_>>()?, protocol, correcting, tested })
    }

    /// Runs what is not there yet, dataset by dataset, and keeps results in `out` and features in `features`.
    ///
    /// # Errors
    /// As [`run()`]; those of training a correction.
    pub fn run(&self, clip: &Clip, (out, features): (&Path, &Path), watch: &mut dyn Watch) -> Result<()> {
        let methods = &self.protocol.methods;
        // Without methods that use it the corrected tower would be run for nothing.
        let used = methods.iter().any(|method| method.info().needs.correction);
        let mut made: Vec<(Option<Teaching>, Correction, String)> = Vec::new();
        let mut make = |teaching: Option<Teaching>, correcting: &Correcting<'_>| -> Result<()> {
            if let Some(correction) = self.correction(clip, correcting, out, watch)? {
                let digest = correction.digest(&clip.gpu)?;
                made.push((teaching, correction, digest));
            }
            Ok(())
        };
        match &self.correcting {
            Correcting::Each(all) if self.protocol.compares_corrections() => {
                all.iter().try_for_each(|(teaching, one)| make(Some(*teaching), one))?;
            }
            one if used => make(None, one)?,
            _ => {}
        }
        let mut corrections = Corrections::default();
        for (teaching, correction, digest) in &made {
            match teaching {
                Some(teaching) => corrections.taught.push((*teaching, correction, digest)),
                None => corrections.of_methods = Some((correction, digest)),
            }
        }
        let precision = clip.precision().name();
        let mut one = |checked: &Checked<'_>| run(clip, *checked, &corrections, (precision, out, features), watch);
        self.checked.iter().try_for_each(&mut one)
    }

    /// The correction that is given, or trained and kept in `out`.
    fn correction(
        &self,
        clip: &Clip,
        correcting: &Correcting<'_>,
        out: &Path,
        watch: &mut dyn Watch,
    ) -> Result<Option<Correction>> {
        let mut generic = match correcting {
            Correcting::Nothing => return Ok(None),
            Correcting::With(correction) => return Ok(Some((*correction).clone())),
            Correcting::Trained(generic) => generic.clone(),
            Correcting::Each(_) => return Err(Error::invalid("corrections that are compared are each one correction")),
        };
        let file = out.join(Teaching::of(&generic.config).file());
        let mut own: Option<PathBuf> = None;
        if generic.place.is_none() {
            // A training that is stopped goes on when the evaluation does.
            let path = file.with_extension("checkpoint");
            generic.place = Some(Place { path: path.clone(), resume: true });
            own = Some(path);
        }
        let correction = kept(clip, &generic, (&file, &self.tested, self.protocol.strict), watch)?;
        if let Some(path) = own.filter(|path| path.is_file()) {
            std::fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
        }
        Ok(Some(correction))
    }
}
