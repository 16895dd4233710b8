//! What has learned.

use tipi::{Classifier, UnknownBy};

use crate::features::{Features, TipiFeatures};
use crate::foreign::{Kept, Place, TipiStr, item, kept, place, slice};
use crate::handle::{Held, held};
use crate::model::{Loaded, TipiModel};
use crate::owned::{Bytes, TipiBytes};
use crate::pictures::{Pictures, TipiPictures};
use crate::predictions::{Predictions, TipiPredictions};
use crate::status::{Failure, Result, TipiStatus, guard};
use crate::watch::{TipiWatch, watched};

/// A method that has learned, bound to its model: it tells classes apart.
pub struct TipiClassifier {
    _private: [u8; 0],
}

pub(crate) struct Bound {
    classifier: Classifier,
    classes: Vec<Kept>,
    method: Kept,
    facts: Kept,
}

impl Held for Bound {
    type Handle = TipiClassifier;
    const KIND: &'static str = "a TipiClassifier";
}

impl Bound {
    pub fn new(classifier: Classifier) -> Bound {
        let (classes, facts) = (kept(classifier.classes()), classifier.facts().as_str().into());
        // A file may be of a method that this version does not know by name.
        let method = classifier.method().map(|method| method.name().into()).unwrap_or_default();
        Bound { classifier, classes, method, facts }
    }
}

/// What the unknown is told by.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TipiUnknownBy {
    /// The likeliest class' probability.
    TipiByProbability = 0,
    /// log Σ exp(score).
    TipiByEnergy = 1,
    /// The distance from the most similar picture that was learned from.
    TipiByDistance = 2,
}

/// What a classifier is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiClassifierInfo {
    /// Classes.
    pub classes: usize,
    /// The name of the method that learned it; empty for one that is not in the register.
    pub method: TipiStr,
    /// What it found, for people: "alpha 1.200, beta 5.500"; empty where there is nothing to tell.
    pub facts: TipiStr,
    /// Probabilities are softmax(scores/T): T as it was fitted; NaN where there was nothing to fit it on, and T is 1.
    pub temperature: f64,
    /// Validation pictures that its confidence rests on.
    pub evidence_validation: usize,
    /// Pictures that it rests on which were left out of learning in turn.
    pub evidence_left_out: usize,
    /// The highest coverage, or share to keep, that the evidence supports, of pictures of all classes together.
    pub supported: f64,
    /// The same of each class.
    pub supported_per_class: f64,
    /// Whether `tipi_classifier_predict_features` works for it.
    pub takes_features: bool,
    /// Where pictures may have several classes: for each class, from which score on a picture has it. Else NULL.
    pub thresholds: *const f64,
}

/// Reads an adapter that `tipi_classifier_save` or `tipi fit` wrote for this model.
///
/// Ownership: `path` is copied. `*classifier` is the caller's, to be freed with `tipi_free`. It keeps the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_open_adapter(
    model: *const TipiModel,
    path: TipiStr,
    classifier: *mut *mut TipiClassifier,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let classifier = Place::at("classifier", classifier)?;
        let loaded = held::<Loaded>("model", model)?;
        classifier.put(Bound::new(loaded.model.open_adapter(path.text("path")?)?));
        Ok(())
    })
}

/// The same from the `length` bytes of such a file; `name` names them in errors.
///
/// Ownership: `name` and `bytes` are copied. `*classifier` is the caller's, to be freed with `tipi_free`. It keeps the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_adapter_from_bytes(
    model: *const TipiModel,
    name: TipiStr,
    bytes: *const u8,
    length: usize,
    classifier: *mut *mut TipiClassifier,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let classifier = Place::at("classifier", classifier)?;
        let loaded = held::<Loaded>("model", model)?;
        let bytes = slice("bytes", bytes, length)?.to_vec();
        classifier.put(Bound::new(loaded.model.adapter_from_bytes(name.text("name")?, bytes)?));
        Ok(())
    })
}

/// What a classifier is.
///
/// Ownership: the texts and thresholds of `*info` are those of `classifier`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_classifier_info(
    classifier: *const TipiClassifier,
    info: *mut TipiClassifierInfo,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let bound = held::<Bound>("classifier", classifier)?;
        let (classifier, evidence) = (&bound.classifier, bound.classifier.evidence());
        place("info", info)?.write(TipiClassifierInfo {
            classes: bound.classes.len(),
            method: bound.method.str(),
            facts: bound.facts.str(),
            temperature: classifier.temperature().unwrap_or(f64::NAN),
            evidence_validation: evidence.validation,
            evidence_left_out: evidence.left_out,
            supported: classifier.supported(false),
            supported_per_class: classifier.supported(true),
            takes_features: classifier.takes_features(),
            thresholds: classifier.thresholds().map_or(std::ptr::null(), <[f64]>::as_ptr),
        });
        Ok(())
    })
}

/// The name of the class of this number, from 0 on, in the order of scores and probabilities.
///
/// Ownership: `*name` is that of `classifier`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_classifier_class(
    classifier: *const TipiClassifier,
    number: usize,
    name: *mut TipiStr,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let bound = held::<Bound>("classifier", classifier)?;
        place("name", name)?.write(item("number", &bound.classes, number)?.str());
        Ok(())
    })
}

/// The same classifier, but answering "unknown" where the likeliest class is less probable than `probability`, from 0 to 1.
///
/// Ownership: `*asking` is the caller's, to be freed with `tipi_free`. It shares all else with `classifier`, which may be freed first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_classifier_asking_for(
    classifier: *const TipiClassifier,
    probability: f64,
    asking: *mut *mut TipiClassifier,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe { another(classifier, ("asking", asking), |classifier| Ok(classifier.asking_for(probability)?)) })
}

/// The same classifier, but answering "unknown" to what is not like the pictures it knows: of pictures that are of one of its classes, at
/// least the share `keep`, from 0 to 1, gets an answer. `by` is a `TipiUnknownBy`.
///
/// Ownership: `*keeping` is the caller's, to be freed with `tipi_free`. It shares all else with `classifier`, which may be freed first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_classifier_keeping(
    classifier: *const TipiClassifier,
    keep: f64,
    by: i32,
    keeping: *mut *mut TipiClassifier,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        another(classifier, ("keeping", keeping), |classifier| {
            let by = match by {
                0 => UnknownBy::Probability,
                1 => UnknownBy::Energy,
                2 => UnknownBy::Distance,
                other => return Err(Failure::invalid(format!("by is {other}: give a TipiUnknownBy"))),
            };
            Ok(classifier.keeping(keep, by)?)
        })
    })
}

/// The same classifier, but saying of each picture which classes it may be of (`tipi_predictions_set`): the smallest sets that hold the
/// right one with probability `coverage`, from 0 to 1; of pictures of all classes together or, where `per_class` is not 0, of each class.
///
/// Ownership: `*covering` is the caller's, to be freed with `tipi_free`. It shares all else with `classifier`, which may be freed first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_classifier_covering(
    classifier: *const TipiClassifier,
    coverage: f64,
    per_class: i32,
    covering: *mut *mut TipiClassifier,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        another(classifier, ("covering", covering), |classifier| Ok(classifier.covering(coverage, per_class != 0)?))
    })
}

/// The same classifier, taking exactly `pictures` at a time, from 1 to 65536, whether there is memory for so many or not; otherwise it takes
/// up to 32, as memory allows. Answers do not depend on it.
///
/// Ownership: `*batched` is the caller's, to be freed with `tipi_free`. It shares all else with `classifier`, which may be freed first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_classifier_in_batches_of(
    classifier: *const TipiClassifier,
    pictures: usize,
    batched: *mut *mut TipiClassifier,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        another(classifier, ("batched", batched), |classifier| match pictures {
            1..=65536 => Ok(classifier.in_batches_of(pictures)),
            _ => Err(Failure::invalid(format!("pictures is {pictures}, and must be from 1 to 65536"))),
        })
    })
}

/// # Safety
/// As [`Place::at`].
unsafe fn another(
    classifier: *const TipiClassifier,
    (argument, at): (&str, *mut *mut TipiClassifier),
    make: impl FnOnce(&Classifier) -> Result<Classifier>,
) -> Result<()> {
    // SAFETY: as promised.
    let place = unsafe { Place::at(argument, at) }?;
    let bound = held::<Bound>("classifier", classifier)?;
    place.put(Bound::new(make(&bound.classifier)?));
    Ok(())
}

/// What pictures show, in their order. One that cannot be read or decoded has a status and a message in the answers, and is no failure of
/// this function. The first call records the way from pixels to scores, which the following ones take. `watch` may be NULL.
///
/// Ownership: `*predictions` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_classifier_predict(
    classifier: *const TipiClassifier,
    pictures: *const TipiPictures,
    watch: *const TipiWatch,
    predictions: *mut *mut TipiPredictions,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let predictions = Place::at("predictions", predictions)?;
        let bound = held::<Bound>("classifier", classifier)?;
        let pictures = held::<Pictures>("pictures", pictures)?.now();
        let answers = watched(watch, |watch| bound.classifier.predict_all(&pictures, watch))?;
        predictions.put(Predictions::new(answers, &bound.classifier));
        Ok(())
    })
}

/// What pictures with these features of `tipi_model_encode` show.
///
/// Ownership: `*predictions` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_classifier_predict_features(
    classifier: *const TipiClassifier,
    features: *const TipiFeatures,
    predictions: *mut *mut TipiPredictions,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let predictions = Place::at("predictions", predictions)?;
        let bound = held::<Bound>("classifier", classifier)?;
        let features = held::<Features>("features", features)?;
        let answers = bound.classifier.predict_features(features.images("features")?)?;
        predictions.put(Predictions::new(answers.into_iter().map(Ok), &bound.classifier));
        Ok(())
    })
}

/// Writes an adapter file, which `tipi_model_open_adapter` and `tipi predict` read. An adapter that is there already is overwritten, any
/// other file is not.
///
/// Ownership: `path` is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_classifier_save(classifier: *const TipiClassifier, path: TipiStr) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let bound = held::<Bound>("classifier", classifier)?;
        Ok(bound.classifier.save(path.text("path")?)?)
    })
}

/// The same as bytes. Equal adapters give equal ones.
///
/// Ownership: `*bytes` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_classifier_to_bytes(
    classifier: *const TipiClassifier,
    bytes: *mut *mut TipiBytes,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let bytes = Place::at("bytes", bytes)?;
        bytes.put(Bytes(held::<Bound>("classifier", classifier)?.classifier.to_bytes()?));
        Ok(())
    })
}

/// Gives back the GPU memory that was kept for the next pictures. They take a little longer then.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_classifier_release(classifier: *const TipiClassifier) -> TipiStatus {
    guard(|| {
        held::<Bound>("classifier", classifier)?.classifier.release();
        Ok(())
    })
}
