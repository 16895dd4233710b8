//! Overlap corrections.

use tipi::{Correction, CorrectionOptions, Report};

use crate::examples::{Examples, TipiExamples};
use crate::fit::TipiReport;
use crate::foreign::{Kept, Place, TipiStr, item, kept, place, slice};
use crate::handle::{Held, held};
use crate::model::{Loaded, TipiModel};
use crate::owned::{Bytes, TipiBytes};
use crate::status::{TipiStatus, guard};
use crate::watch::{TipiWatch, watched};

/// An overlap correction (arXiv 2409.11338) of a model.
pub struct TipiCorrection {
    _private: [u8; 0],
}

pub(crate) struct Trained {
    pub correction: Correction,
    facts: Kept,
    classes: Vec<Kept>,
}

impl Held for Trained {
    type Handle = TipiCorrection;
    const KIND: &'static str = "a TipiCorrection";
}

impl Trained {
    fn new(correction: Correction) -> Trained {
        let (facts, classes) = (correction.facts().as_str().into(), kept(correction.classes()));
        Trained { correction, facts, classes }
    }
}

/// What a correction is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiCorrectionInfo {
    /// What it is, for people: "64 wide, scale 0.03, 1 epoch over 400 classes".
    pub facts: TipiStr,
    /// Passes over the pictures that it was trained with.
    pub epochs: usize,
    /// How many classes it was trained to tell apart; 0 where it was trained without labels.
    pub classes: usize,
}

/// Trains an overlap correction to tell generic examples apart: many classes, and none of those that are told apart with it later. `options`
/// is a JSON object of epochs, bottleneck, scale, dropout, rate, batch, micro_batch, seed, checkpoint and, for training from the
/// pictures alone, self_supervision: {} or {"head", "local_crops", "momentum"}. What is not in it, or all where it is empty, is the paper's.
/// `watch` and `report` may be NULL.
///
/// Ownership: `options` is copied. `*correction` and `*report` are the caller's, to be freed with `tipi_free`. The correction keeps the
/// model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_fit_correction(
    model: *const TipiModel,
    examples: *const TipiExamples,
    options: TipiStr,
    watch: *const TipiWatch,
    correction: *mut *mut TipiCorrection,
    report: *mut *mut TipiReport,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let report = Place::<Report>::at_or_none("report", report)?;
        let correction = Place::at("correction", correction)?;
        let loaded = held::<Loaded>("model", model)?;
        let examples = held::<Examples>("examples", examples)?.now();
        let options = options.given("options")?.map(CorrectionOptions::of_json).transpose()?.unwrap_or_default();
        let (trained, went) = watched(watch, |watch| loaded.model.fit_correction(&examples, &options, watch))?;
        correction.put(Trained::new(trained));
        report.into_iter().for_each(|place| place.put(went.clone()));
        Ok(())
    })
}

/// Reads a correction that `tipi_correction_save` or `tipi fit overlap` wrote for this model.
///
/// Ownership: `path` is copied. `*correction` is the caller's, to be freed with `tipi_free`. It keeps the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_open_correction(
    model: *const TipiModel,
    path: TipiStr,
    correction: *mut *mut TipiCorrection,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let correction = Place::at("correction", correction)?;
        let loaded = held::<Loaded>("model", model)?;
        correction.put(Trained::new(loaded.model.open_correction(path.text("path")?)?));
        Ok(())
    })
}

/// The same from the `length` bytes of such a file; `name` names them in errors.
///
/// Ownership: `name` and `bytes` are copied. `*correction` is the caller's, to be freed with `tipi_free`. It keeps the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_correction_from_bytes(
    model: *const TipiModel,
    name: TipiStr,
    bytes: *const u8,
    length: usize,
    correction: *mut *mut TipiCorrection,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let correction = Place::at("correction", correction)?;
        let loaded = held::<Loaded>("model", model)?;
        let bytes = slice("bytes", bytes, length)?.to_vec();
        correction.put(Trained::new(loaded.model.correction_from_bytes(name.text("name")?, bytes)?));
        Ok(())
    })
}

/// What a correction is.
///
/// Ownership: the texts of `*info` are those of `correction`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_correction_info(
    correction: *const TipiCorrection,
    info: *mut TipiCorrectionInfo,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let trained = held::<Trained>("correction", correction)?;
        place("info", info)?.write(TipiCorrectionInfo {
            facts: trained.facts.str(),
            epochs: trained.correction.epochs(),
            classes: trained.classes.len(),
        });
        Ok(())
    })
}

/// The name of the class of this number, from 0 on, that it was trained to tell apart.
///
/// Ownership: `*name` is that of `correction`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_correction_class(
    correction: *const TipiCorrection,
    number: usize,
    name: *mut TipiStr,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let trained = held::<Trained>("correction", correction)?;
        place("name", name)?.write(item("number", &trained.classes, number)?.str());
        Ok(())
    })
}

/// Writes a file that `tipi_model_open_correction` and `--correction` of `tipi` read. An adapter that is there already is overwritten, any
/// other file is not.
///
/// Ownership: `path` is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_correction_save(correction: *const TipiCorrection, path: TipiStr) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let trained = held::<Trained>("correction", correction)?;
        Ok(trained.correction.save(path.text("path")?)?)
    })
}

/// The same as bytes. Equal corrections give equal ones.
///
/// Ownership: `*bytes` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_correction_to_bytes(
    correction: *const TipiCorrection,
    bytes: *mut *mut TipiBytes,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let bytes = Place::at("bytes", bytes)?;
        bytes.put(Bytes(held::<Trained>("correction", correction)?.correction.to_bytes()?));
        Ok(())
    })
}
