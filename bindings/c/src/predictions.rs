//! Answers.

use tipi::{Classifier, Prediction, Scored};

use crate::foreign::{Kept, TipiStr, item, kept, place, slice};
use crate::handle::{Held, held};
use crate::status::{Failure, Result, TipiStatus, guard};

/// What a classifier says of pictures.
pub struct TipiPredictions {
    _private: [u8; 0],
}

pub(crate) struct Predictions {
    answers: Vec<std::result::Result<Prediction, (TipiStatus, Kept)>>,
    classes: Vec<Kept>,
}

impl Held for Predictions {
    type Handle = TipiPredictions;
    const KIND: &'static str = "TipiPredictions";
}

impl Predictions {
    pub fn new(answers: impl IntoIterator<Item = tipi::Result<Prediction>>, of: &Classifier) -> Predictions {
        let told = |error: tipi::Error| (TipiStatus::of(&error), error.to_string().as_str().into());
        let answers = answers.into_iter().map(|answer| answer.map_err(told)).collect();
        Predictions { answers, classes: kept(of.classes()) }
    }

    fn scored(&self, scored: Scored<'_>) -> TipiScored {
        TipiScored {
            class_number: scored.class,
            name: self.classes.get(scored.class).map_or_else(TipiStr::default, Kept::str),
            probability: scored.probability,
            score: scored.score,
        }
    }

    /// The answer of this number, for those who need one.
    fn answer(&self, number: usize) -> Result<&Prediction> {
        item("number", &self.answers, number)?
            .as_ref()
            .map_err(|(status, text)| Failure { status: *status, message: text.text().into() })
    }
}

/// A class, and what is said of it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiScored {
    /// Its number among the classes.
    pub class_number: usize,
    /// Its name.
    pub name: TipiStr,
    /// Its probability, from 0 to 1.
    pub probability: f64,
    /// Its logit, from which the probabilities are made.
    pub score: f32,
}

/// What a classifier says of a picture.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiPrediction {
    /// `TIPI_OK`, or why there is no answer: all else is then 0 or empty.
    pub status: TipiStatus,
    /// What went wrong; empty where there is an answer.
    pub message: TipiStr,
    /// Whether the answer is "unknown": the likeliest class is less probable, or the picture less familiar, than the classifier was told to
    /// ask for.
    pub unknown: bool,
    /// The likeliest class, however probable it is.
    pub best: TipiScored,
    /// How much the picture is like those of the classes, by what `tipi_classifier_keeping` was told: the more the higher. NaN where that was
    /// not asked for.
    pub familiarity: f64,
    /// Logits by class.
    pub scores: *const f32,
    /// Probabilities by class; they add up to 1.
    pub probabilities: *const f64,
    /// Classes.
    pub classes: usize,
}

/// How many pictures there are answers for.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_predictions_count(predictions: *const TipiPredictions, count: *mut usize) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        place("count", count)?.write(held::<Predictions>("predictions", predictions)?.answers.len());
        Ok(())
    })
}

/// What is said of the picture of this number, from 0 on.
///
/// Ownership: the texts and arrays of `*prediction` are those of `predictions`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_predictions_get(
    predictions: *const TipiPredictions,
    number: usize,
    prediction: *mut TipiPrediction,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let predictions = held::<Predictions>("predictions", predictions)?;
        let answer = item("number", &predictions.answers, number)?;
        place("prediction", prediction)?.write(match answer {
            Ok(answer) => TipiPrediction {
                status: TipiStatus::TipiOk,
                message: TipiStr::default(),
                unknown: answer.class().is_none(),
                best: predictions.scored(answer.best()),
                familiarity: answer.familiarity().unwrap_or(f64::NAN),
                scores: answer.scores().as_ptr(),
                probabilities: answer.probabilities().as_ptr(),
                classes: answer.scores().len(),
            },
            Err((status, message)) => TipiPrediction {
                status: *status,
                message: message.str(),
                unknown: false,
                best: TipiScored { class_number: 0, name: TipiStr::default(), probability: 0.0, score: 0.0 },
                familiarity: f64::NAN,
                scores: std::ptr::null(),
                probabilities: std::ptr::null(),
                classes: 0,
            },
        });
        Ok(())
    })
}

/// The likeliest classes of the picture of this number, the likeliest first: as many as `most`, which `top` has place for, or as there are.
/// `written` is how many.
///
/// Ownership: `top` is the caller's, and written to; its texts are those of `predictions`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_predictions_top(
    predictions: *const TipiPredictions,
    number: usize,
    most: usize,
    top: *mut TipiScored,
    written: *mut usize,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let predictions = held::<Predictions>("predictions", predictions)?;
        let answer = predictions.answer(number)?;
        let written = place("written", written)?;
        let _ = slice("top", top.cast_const().cast::<std::mem::MaybeUninit<TipiScored>>(), most)?;
        let mut count = 0;
        for scored in answer.top(most) {
            top.add(count).write(predictions.scored(scored));
            count += 1;
        }
        written.write(count);
        Ok(())
    })
}

/// The classes that the picture of this number may be of, the likeliest first: as many as `most`, which `set` has place for. `count` is how
/// many there are in all, at least 1; 0 where sets were not asked for (`tipi_classifier_covering`).
///
/// Ownership: `set` is the caller's, and written to; its texts are those of `predictions`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_predictions_set(
    predictions: *const TipiPredictions,
    number: usize,
    most: usize,
    set: *mut TipiScored,
    count: *mut usize,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let predictions = held::<Predictions>("predictions", predictions)?;
        let answer = predictions.answer(number)?;
        let count = place("count", count)?;
        let _ = slice("set", set.cast_const().cast::<std::mem::MaybeUninit<TipiScored>>(), most)?;
        for (i, scored) in answer.set().take(most).enumerate() {
            set.add(i).write(predictions.scored(scored));
        }
        count.write(answer.set().count());
        Ok(())
    })
}
