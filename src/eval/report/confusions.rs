//! What a method takes for each other.

use std::collections::HashMap;
use std::path::Path;

use super::{Drawing, Set};
use crate::adapt::Method;
use crate::data::{Rgb, decode_as};
use crate::eval::Detail;
use crate::report::{Card, Pair};

/// Pairs of classes and mistakes that are shown.
const PAIRS: usize = 6;
const MISTAKES: usize = 12;
/// Pictures of each side of a pair.
const OF_PAIR: usize = 3;

/// Confused pairs and the most confident mistakes of a method.
pub(super) fn confusions(
    drawing: &mut Drawing,
    set: &Set,
    (method, detail): (&'static dyn Method, &Detail),
    shown: &[(&'static dyn Method, &Detail)],
    part: &mut dyn FnMut(&mut Drawing, &str, &str, &str),
) {
    let test = &set.test;
    let wrong: Vec<usize> = (0..test.labels.len().min(detail.predicted.len()))
        .filter(|i| detail.predicted[*i] != test.labels[*i])
        .collect();
    if wrong.is_empty() {
        return;
    }
    let class = |label: u32| test.classes.get(label as usize).cloned().unwrap_or_else(|| label.to_string());
    let mut counts: HashMap<(u32, u32), Vec<usize>> = HashMap::new();
    for i in &wrong {
        counts.entry((test.labels[*i], detail.predicted[*i])).or_default().push(*i);
    }
    let mut pairs: Vec<_> = counts.into_iter().collect();
    // Of equally frequent pairs, the first classes.
    pairs.sort_by_key(|((truth, said), which)| (std::cmp::Reverse(which.len()), *truth, *said));
    let picture = |path: &Path| -> Option<Rgb> { decode_as(path, set.settings.depth).ok() };
    let pairs: Vec<Pair> = pairs
        .into_iter()
        .take(PAIRS)
        .map(|((truth, said), which)| Pair {
            truth: class(truth),
            said: class(said),
            count: which.len(),
            of: test.labels.iter().filter(|label| **label == truth).count(),
            mistaken: which.iter().filter_map(|i| picture(&test.paths[*i])).take(OF_PAIR).collect(),
            like: detail
                .support
                .iter()
                .filter(|(_, label)| *label == said as usize)
                .filter_map(|(path, _)| picture(path))
                .take(OF_PAIR)
                .collect(),
        })
        .collect();
    part(
        drawing,
        "confused",
        "Confused classes",
        &format!(
            "The pairs that {} takes for each other most often, with pictures that it learned from.",
            method.info().title
        ),
    );
    drawing.page.heading("Most frequent pairs");
    drawing.page.pairs(&pairs);

    let mut by_confidence = wrong;
    by_confidence.sort_by(|a, b| detail.confidence[*b].total_cmp(&detail.confidence[*a]).then(a.cmp(b)));
    let cards: Vec<Card> = by_confidence
        .into_iter()
        .take(MISTAKES)
        .map(|i| Card {
            picture: picture(&test.paths[i]),
            title: class(test.labels[i]),
            lines: shown
                .iter()
                .filter(|(_, d)| i < d.predicted.len())
                .map(|(m, d)| {
                    let said = d.predicted[i];
                    // The percent sign stays on its number's line.
                    let text = format!("{}: {} {:.0}\u{a0}%", m.info().title, class(said), 100.0 * d.confidence[i]);
                    (text, said == test.labels[i])
                })
                .collect(),
        })
        .collect();
    drawing.page.heading(&format!("The most confident mistakes of {}", method.info().title));
    drawing.page.pictures(&cards);
}
