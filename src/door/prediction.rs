//! Answers.

use std::sync::Arc;

use crate::adapt::calibrate::confident;

/// What a classifier says of a picture.
#[derive(Clone, Debug)]
pub struct Prediction {
    classes: Arc<[String]>,
    scores: Vec<f32>,
    probabilities: Vec<f64>,
    /// Classes, the likeliest first.
    order: Vec<usize>,
    least: f64,
}

/// A class, and what is said of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored<'a> {
    /// Its number among the classes.
    pub class: usize,
    /// Its name.
    pub name: &'a str,
    /// Its probability, from 0 to 1.
    pub probability: f64,
    /// Its logit, from which the probabilities are made.
    pub score: f32,
}

impl Prediction {
    /// Of a row of logits, with softmax(logits/T) as probabilities.
    pub(super) fn new(classes: &Arc<[String]>, scores: &[f32], temperature: f64, least: f64) -> Prediction {
        let probabilities = confident(scores, temperature);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
        Prediction { classes: classes.clone(), scores: scores.to_vec(), probabilities, order, least }
    }

    /// The likeliest class' name; none where it is less probable than the classifier was told to ask for.
    pub fn class(&self) -> Option<&str> {
        Some(self.best()).filter(|best| best.probability >= self.least).map(|best| best.name)
    }

    /// The likeliest class, however probable it is.
    pub fn best(&self) -> Scored<'_> {
        self.of(self.order.first().copied().unwrap_or_default())
    }

    /// The `most` likeliest classes, the likeliest first.
    pub fn top(&self, most: usize) -> impl Iterator<Item = Scored<'_>> {
        self.order.iter().take(most).map(|class| self.of(*class))
    }

    /// Probabilities by class; they add up to 1.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    /// The classes' names.
    pub fn names(&self) -> &[String] {
        &self.classes
    }

    /// Logits by class.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    fn of(&self, class: usize) -> Scored<'_> {
        Scored {
            class,
            name: self.classes.get(class).map_or("", String::as_str),
            probability: self.probabilities.get(class).copied().unwrap_or_default(),
            score: self.scores.get(class).copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_in_the_order_of_their_probabilities() {
        let classes: Arc<[String]> = ["a", "b", "c"].map(String::from).into();
        let prediction = Prediction::new(&classes, &[1.0, 3.0, 2.0], 1.0, 0.6);
        assert_eq!(prediction.top(2).map(|class| class.name).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!((prediction.best().class, prediction.class()), (1, Some("b")));
        assert!((prediction.probabilities().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // The same logits, believed less.
        let warm = Prediction::new(&classes, &[1.0, 3.0, 2.0], 4.0, 0.6);
        assert_eq!((warm.best().name, warm.class()), ("b", None));
        assert_eq!(warm.scores(), [1.0, 3.0, 2.0]);
    }
}
