//! Pictures that may have several labels: each label by itself.

use std::path::Path;

use tipi::{Classifier, Prediction};

use super::{Answer, Ranked};

/// How it is told whether a picture has a label.
pub enum Rule {
    /// The label against its negation, a softmax of two: the classifier has the labels, then as many negations.
    Negation {
        names: Vec<String>,
        /// How probable a label must be.
        least: f64,
    },
    /// The sigmoid of the label's logit and the model's bias: what a SigLIP was trained to say (arXiv 2303.15343).
    Sigmoid {
        names: Vec<String>,
        bias: f64,
        /// How probable a label must be.
        least: f64,
    },
    /// The label's logit against its own threshold.
    Thresholds(Vec<f64>),
}

impl Rule {
    /// The labels.
    pub fn names<'a>(&'a self, classifier: &'a Classifier) -> &'a [String] {
        match self {
            Rule::Negation { names, .. } | Rule::Sigmoid { names, .. } => names,
            Rule::Thresholds(_) => classifier.classes(),
        }
    }

    /// What is said of a picture: all labels, the likeliest first.
    pub fn answer(&self, path: &Path, prediction: &Prediction, cosines: Option<&[f64]>) -> Answer {
        let scores = prediction.scores();
        let score = |at: usize| f64::from(scores.get(at).copied().unwrap_or_default());
        let cosine = |at: usize| cosines.and_then(|all| all.get(at).copied());
        let mut ranked: Vec<(f64, Ranked)> = match self {
            Rule::Negation { names, least } => {
                let margin = |number: usize| score(number) - score(names.len() + number);
                probable(names, *least, &margin, &score, &cosine)
            }
            Rule::Sigmoid { names, bias, least } => {
                let margin = |number: usize| score(number) + bias;
                probable(names, *least, &margin, &score, &cosine)
            }
            Rule::Thresholds(thresholds) => {
                let names = prediction.names();
                let of = |(number, threshold): (usize, &f64)| {
                    let label = Ranked {
                        number,
                        class: names.get(number).cloned().unwrap_or_default(),
                        has: Some(score(number) >= *threshold),
                        threshold: Some(*threshold),
                        probability: None,
                        logit: score(number),
                        cosine: cosine(number),
                    };
                    (score(number) - threshold, label)
                };
                thresholds.iter().enumerate().map(of).collect()
            }
        };
        ranked.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        let ranked = ranked.into_iter().map(|(_, label)| label).collect();
        Answer { path: path.into(), class: None, ranked, more: Vec::new() }
    }
}

/// Labels by the sigmoid of their margins, each with its margin.
fn probable(
    names: &[String],
    least: f64,
    margin: &dyn Fn(usize) -> f64,
    score: &dyn Fn(usize) -> f64,
    cosine: &dyn Fn(usize) -> Option<f64>,
) -> Vec<(f64, Ranked)> {
    let of = |(number, name): (usize, &String)| {
        let margin = margin(number);
        let probability = 1.0 / (1.0 + (-margin).exp());
        let label = Ranked {
            number,
            class: name.clone(),
            has: Some(probability >= least),
            threshold: None,
            probability: Some(probability),
            logit: score(number),
            cosine: cosine(number),
        };
        (margin, label)
    };
    names.iter().enumerate().map(of).collect()
}
