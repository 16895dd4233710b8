//! What is asked of an answer's confidence: sets of classes that hold the right one, and "unknown" for pictures of no class.

use anyhow::Result;
use serde_json::json;
use tipi::low_level::numbers;
use tipi::low_level::text;
use tipi::{Classifier, Prediction, UnknownBy};

use crate::answers::More;
use crate::common;
use crate::terminal::note;

/// Options.
#[derive(clap::Args, Clone)]
pub struct TrustArgs {
    /// Show the classes that the picture may be of: as few as hold the right one with this probability, from 0 to 1. It rests on the
    /// pictures that the adapter did not learn from.
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = common::within(numbers::PROBABILITY))]
    coverage: Option<f64>,
    /// --coverage holds for the pictures of each class, and not only for all together. It takes more pictures.
    #[arg(long, requires = "coverage")]
    per_class: bool,
    /// Answer "unknown" to pictures that are unlike the ones it knows, but keep this share of those that are of a class, from 0 to 1.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, value_parser = common::within(numbers::PROBABILITY))]
    keep: Option<f64>,
    /// What tells the unknown: the distance to the most similar picture that was learned from, the energy of the logits, or the
    /// probability of the likeliest class.
    #[arg(long, value_name = "SCORE", value_parser = ["probability", "energy", "distance"], default_value = "distance", requires = "keep")]
    unknown_by: String,
}

impl TrustArgs {
    /// Whether anything is asked.
    pub fn some(&self) -> bool {
        self.coverage.is_some() || self.keep.is_some()
    }

    /// The classifier that answers so. Says where the adapter's pictures are too few for what is asked.
    pub fn apply(&self, classifier: Classifier) -> Result<Classifier> {
        let mut classifier = classifier;
        if let Some(coverage) = self.coverage {
            classifier = classifier.covering(coverage, self.per_class)?;
            if coverage > classifier.supported(self.per_class) {
                let then = if self.per_class {
                    "classes with too few are in every set"
                } else {
                    "every set holds all classes"
                };
                short("--coverage", &classifier, self.per_class, then);
            }
        }
        if let Some(keep) = self.keep {
            let by: UnknownBy = self.unknown_by.parse()?;
            classifier = classifier.keeping(keep, by)?;
            if keep > classifier.supported(false) {
                short("--keep", &classifier, false, "no picture is unknown by it");
            }
        }
        Ok(classifier)
    }
}

/// Says that the evidence is too little, what it supports, and what comes of it.
fn short(option: &str, classifier: &Classifier, per_class: bool, then: &str) {
    let pictures = text::count(classifier.evidence().all(), "picture", "pictures");
    let most = classifier.supported(per_class);
    note!("{option}: the {pictures} that the adapter was judged by support at most {most:.3}, so {then}");
}

/// What is said of a prediction beside its class.
pub fn more(prediction: &Prediction) -> Vec<More> {
    let names: Vec<&str> = prediction.set().map(|class| class.name).collect();
    let set =
        (!names.is_empty()).then(|| More { key: "set", title: "may be", shown: names.join(", "), value: json!(names) });
    let familiarity = prediction.familiarity().map(|score| More {
        key: "familiarity",
        title: "familiarity",
        // Adding 0 makes nothing of a negative one.
        shown: format!("{:.3}", (1e3 * score).round() / 1e3 + 0.0),
        value: json!(score),
    });
    set.into_iter().chain(familiarity).collect()
}
