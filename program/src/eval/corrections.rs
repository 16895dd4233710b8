//! Where `tipi eval` has its overlap corrections from.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tipi::Error;
use tipi::low_level::adapt::adapter_file::File;
use tipi::low_level::adapt::dino::{self, SelfSupervised};
use tipi::low_level::adapt::overlap::{self, Correction};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::{Folder, Item, Walk};
use tipi::low_level::eval::ablation::Ablation;
use tipi::low_level::eval::correction::Generic;
use tipi::low_level::eval::{Correcting, Teaching};
use tipi::low_level::numbers;
use tipi::low_level::text;

use crate::common;

/// Options.
#[derive(clap::Args)]
pub struct CorrectionArgs {
    /// Overlap correction from `tipi fit overlap`, for the ++ methods. With --ablation overlap it may be given twice: one correction
    /// that was trained with labels, and one without.
    #[arg(long, value_name = "FILE")]
    correction: Vec<PathBuf>,
    /// Train a correction first, on this folder of generic pictures with one sub-folder per class; with --ablation overlap one with
    /// labels and one without. Classes that are evaluated are left out, and pictures that are among the test pictures.
    #[arg(long, value_name = "FOLDER", conflicts_with = "correction")]
    generic: Option<PathBuf>,
    /// Passes over the generic pictures, from 1 to 1000000.
    #[arg(long, default_value_t = 1, requires = "generic", value_parser = common::count(1, common::MOST_EPOCHS))]
    correction_epochs: usize,
    /// How strongly the correction that is trained acts: a factor on its branch, from 1e-6 to 1000.
    #[arg(long, default_value_t = 0.03, requires = "generic", allow_negative_numbers = true,
        value_parser = common::within(numbers::BRANCH))]
    correction_scale: f64,
    /// With --ablation overlap: passes over the generic pictures without labels, from 1 to 1000000.
    #[arg(long, default_value_t = 10, requires = "generic", value_parser = common::count(1, common::MOST_EPOCHS))]
    self_supervised_epochs: usize,
    /// With --ablation overlap: pictures in a training step without labels, from 1 to 65536.
    #[arg(long, default_value_t = dino::BATCH, requires = "generic", value_parser = common::count(1, common::MOST_BATCH))]
    self_supervised_batch: usize,
    /// With --ablation overlap: outputs of the random head in training without labels, from 2 to 1048576.
    #[arg(long, default_value_t = 65536, requires = "generic", value_parser = common::count(2, dino::MOST_WIDTH))]
    self_supervised_head: usize,
    /// With --ablation overlap: local crops of each picture in training without labels, from 1 to 96.
    #[arg(long, default_value_t = 10, requires = "generic", value_parser = common::count(1, dino::MOST_LOCAL_CROPS))]
    self_supervised_local_crops: usize,
}

/// What the options name, opened.
pub enum Corrections {
    /// No option was given.
    Nothing,
    /// Files, and how their corrections were taught.
    Files(Vec<(Teaching, PathBuf, File)>),
    /// Generic pictures.
    Generic(Folder),
}

/// The same, bound to a model and to what is evaluated.
pub enum Ready {
    Nothing,
    Given(Vec<(Teaching, Correction)>),
    Generic(Vec<Item>, Vec<String>),
}

impl CorrectionArgs {
    /// The files that are read.
    pub fn files(&self) -> &[PathBuf] {
        &self.correction
    }

    /// Opens what is named.
    pub fn open(&self, ablation: Option<&Ablation>, walk: &Walk) -> Result<Corrections> {
        let compared = ablation.filter(|ablation| ablation.compares_corrections());
        if let Some(folder) = &self.generic {
            return Ok(Corrections::Generic(common::open_folder(folder, walk)?));
        }
        if self.correction.is_empty() {
            return match compared {
                Some(ablation) => Err(Error::Invalid(format!(
                    "--ablation {} compares overlap corrections: give some with --correction (`tipi fit overlap` makes them), or \
                     generic pictures to train them on with --generic",
                    ablation.name
                ))
                .into()),
                None => Ok(Corrections::Nothing),
            };
        }
        let mut files: Vec<(Teaching, PathBuf, File)> = Vec::new();
        for path in &self.correction {
            let file = File::open(path)?;
            let named = |error: Error| Error::Invalid(format!("--correction {}: {error}", text::path(path)));
            let teaching = Teaching::of_file(&file.meta.method).map_err(named)?;
            files.push((teaching, path.clone(), file));
        }
        if compared.is_none() && files.len() > 1 {
            let reason = "--correction is given several times, and methods take one; --ablation overlap compares two";
            return Err(Error::Invalid(reason.into()).into());
        }
        for (at, (teaching, path, _)) in files.iter().enumerate() {
            if let Some((_, other, _)) = files[..at].iter().find(|(other, ..)| other == teaching) {
                return Err(twice(*teaching, other, path).into());
            }
        }
        // In the order of the table, whatever the order of the options.
        files.sort_by_key(|(teaching, ..)| *teaching);
        Ok(Corrections::Files(files))
    }

    /// How a correction is trained on generic pictures.
    fn generic<'a>(&self, teaching: Teaching, pictures: overlap::Generic<'a>) -> Generic<'a> {
        // One correction serves all seeds of the choice, also those that are added later.
        let config = match teaching {
            Teaching::Supervised => overlap::Config {
                epochs: self.correction_epochs,
                scale: self.correction_scale as f32,
                ..overlap::Config::paper(1)
            },
            Teaching::SelfSupervised => overlap::Config {
                epochs: self.self_supervised_epochs,
                self_supervised: Some(SelfSupervised {
                    head: self.self_supervised_head,
                    local_crops: self.self_supervised_local_crops,
                    ..SelfSupervised::default()
                }),
                ..overlap::Config::without_labels(1, self.self_supervised_batch)
            },
        };
        Generic { pictures, config, place: None }
    }

    /// What an evaluation is given.
    pub fn correcting<'a>(&self, ready: &'a Ready, compares: bool) -> Correcting<'a> {
        match ready {
            Ready::Nothing => Correcting::Nothing,
            Ready::Given(all) if compares => {
                Correcting::Each(all.iter().map(|(teaching, one)| (*teaching, Correcting::With(one))).collect())
            }
            Ready::Given(all) => all.first().map_or(Correcting::Nothing, |(_, one)| Correcting::With(one)),
            Ready::Generic(items, names) => {
                let trained = |teaching: Teaching| {
                    Correcting::Trained(self.generic(teaching, overlap::Generic::of_files(items, names)))
                };
                match compares {
                    true => Correcting::Each(Teaching::ALL.map(|teaching| (teaching, trained(teaching))).to_vec()),
                    false => trained(Teaching::Supervised),
                }
            }
        }
    }
}

fn twice(teaching: Teaching, one: &Path, other: &Path) -> Error {
    let how = match teaching {
        Teaching::Supervised => "with labels",
        Teaching::SelfSupervised => "without labels",
    };
    Error::Invalid(format!(
        "--correction: {} and {} were both trained {how}; give one of each kind (`tipi fit overlap` trains with labels, with \
         --self-supervised without)",
        text::path(one),
        text::path(other)
    ))
}

impl Corrections {
    /// Whether there are any.
    pub fn some(&self) -> bool {
        !matches!(self, Corrections::Nothing)
    }

    /// How those were taught that there are.
    pub fn taught(&self) -> Vec<Teaching> {
        match self {
            Corrections::Nothing => Vec::new(),
            Corrections::Files(files) => files.iter().map(|(teaching, ..)| *teaching).collect(),
            Corrections::Generic(_) => Teaching::ALL.to_vec(),
        }
    }

    /// Binds files to the model, and leaves classes that are `tested` out of generic pictures.
    pub fn ready(&self, clip: &Clip, tested: &[String]) -> Result<Ready> {
        Ok(match self {
            Corrections::Nothing => Ready::Nothing,
            Corrections::Files(files) => {
                let bound = files.iter().map(|(teaching, _, file)| Ok((*teaching, common::correction(file, clip)?)));
                Ready::Given(bound.collect::<Result<_>>()?)
            }
            Corrections::Generic(folder) => {
                let (items, names) = folder.without(tested);
                Ready::Generic(items, names)
            }
        })
    }
}
