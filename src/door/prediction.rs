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
    /// Those that the picture may be of.
    set: Option<Vec<usize>>,
    /// How much it is like what is known, and whether that is enough.
    familiarity: Option<(f64, bool)>,
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
        let (classes, scores) = (classes.clone(), scores.to_vec());
        Prediction { classes, scores, probabilities, order, least, set: None, familiarity: None }
    }

    /// The same with the set of classes that are at least as probable as `least` says: of each class, or of all. The likeliest class
    /// belongs to every set, since one without any would be no answer.
    pub(super) fn with_set(self, least: &[Option<f32>]) -> Prediction {
        let least_of = |class: usize| least.get(class).or(least.first()).copied().flatten();
        let within = |class: usize| least_of(class).is_none_or(|least| self.probabilities[class] as f32 >= least);
        let set = self.order.iter().enumerate().filter(|(i, class)| *i == 0 || within(**class));
        let set = set.map(|(_, class)| *class).collect();
        Prediction { set: Some(set), ..self }
    }

    /// The same with how familiar the picture is, and how familiar it must be.
    pub(super) fn with_familiarity(self, score: f64, least: Option<f64>) -> Prediction {
        Prediction { familiarity: Some((score, least.is_none_or(|least| score >= least))), ..self }
    }

    /// The likeliest class' name; none where it is less probable than the classifier was told to ask for
    /// ([`Classifier::asking_for`](super::Classifier::asking_for)), or the picture too little like those it knows
    /// ([`Classifier::keeping`](super::Classifier::keeping)).
    pub fn class(&self) -> Option<&str> {
        let known = self.familiarity.is_none_or(|(_, enough)| enough);
        Some(self.best()).filter(|best| known && best.probability >= self.least).map(|best| best.name)
    }

    /// How much the picture is like those of the classes, by what [`Classifier::keeping`](super::Classifier::keeping) was told: the
    /// more the higher. The likeliest class' probability, log Σ exp(score), or the negative distance from the most similar
    /// picture that was learned from, in units of how far those of a class are apart. None where it was not asked for.
    pub fn familiarity(&self) -> Option<f64> {
        self.familiarity.map(|(score, _)| score)
    }

    /// The classes that the picture may be of, the likeliest first: never none. Empty where sets were not asked for
    /// ([`Classifier::covering`](super::Classifier::covering)).
    pub fn set(&self) -> impl Iterator<Item = Scored<'_>> {
        self.set.iter().flatten().map(|class| self.of(*class))
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

    #[test]
    fn sets_hold_what_is_probable_enough_and_the_likeliest() {
        let classes: Arc<[String]> = ["a", "b", "c"].map(String::from).into();
        // Probabilities of 0.09, 0.67 and 0.24.
        let of = |least: &[Option<f32>]| {
            let prediction = Prediction::new(&classes, &[1.0, 3.0, 2.0], 1.0, 0.0).with_set(least);
            prediction.set().map(|class| class.name.to_string()).collect::<String>()
        };
        assert_eq!(
            (of(&[Some(0.2)]), of(&[Some(0.9)]), of(&[Some(0.01)]), of(&[None])),
            ("bc".into(), "b".into(), "bca".into(), "bca".into())
        );
        assert_eq!(
            (of(&[Some(0.05), Some(0.9), Some(0.5)]), of(&[None, Some(0.5), Some(0.5)])),
            ("ba".into(), "ba".into())
        );
        assert_eq!(Prediction::new(&classes, &[1.0, 3.0, 2.0], 1.0, 0.0).set().count(), 0);
    }

    #[test]
    fn what_is_not_familiar_is_unknown() {
        let classes: Arc<[String]> = ["a", "b"].map(String::from).into();
        let of = |least| Prediction::new(&classes, &[1.0, 3.0], 1.0, 0.0).with_familiarity(-2.0, least);
        assert_eq!((of(Some(-1.0)).class(), of(Some(-2.0)).class(), of(None).class()), (None, Some("b"), Some("b")));
        assert_eq!((of(None).familiarity(), of(Some(-1.0)).best().name), (Some(-2.0), "b"));
    }
}
