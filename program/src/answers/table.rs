//! Answers as a table, for people.

use anyhow::Result;
use tipi::low_level::text;

use super::{Answer, Printer, Ranked, Shown, UNKNOWN};
use crate::{terminal, ui};

/// The whole table, printed at the end. Without `--top` it has a row a picture, with the runner-up beside the likeliest class;
/// with it a row for each class that is shown.
pub struct Whole {
    shown: Shown,
    answers: Vec<Answer>,
}

impl Whole {
    pub fn new(shown: Shown) -> Whole {
        Whole { shown, answers: Vec::new() }
    }

    /// The columns that follow a class.
    fn titles(&self) -> Vec<&'static str> {
        if self.shown.multi {
            // Where thresholds were learned there are no probabilities.
            let learned = self.answers.iter().flat_map(|answer| &answer.ranked).any(|label| label.threshold.is_some());
            return match (learned, self.shown.scores) {
                (true, true) => vec!["logit", "threshold", "cosine"],
                (true, false) => vec!["logit", "threshold"],
                (false, true) => vec!["probability", "cosine", "logit"],
                (false, false) => vec!["probability"],
            };
        }
        match (self.shown.alone, self.shown.scores) {
            (true, true) => vec!["cosine", "logit"],
            (true, false) => vec!["cosine"],
            (false, true) => vec!["probability", "cosine", "logit"],
            (false, false) => vec!["probability"],
        }
    }

    fn cells(&self, ranked: Option<&Ranked>) -> Vec<String> {
        let number = |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
        let cell = |title: &&str| match *title {
            "probability" => {
                let share = ranked.and_then(|ranked| ranked.probability);
                share.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share))
            }
            "threshold" => number(ranked.and_then(|ranked| ranked.threshold), 2),
            "cosine" => number(ranked.and_then(|ranked| ranked.cosine), 3),
            _ => number(ranked.map(|ranked| ranked.logit), 2),
        };
        self.titles().iter().map(cell).collect()
    }

    /// The labels that a picture has, on one line; with `--top` or `--scores` the labels that are shown, a row each.
    fn labels(&self, answer: &Answer) -> Vec<Vec<String>> {
        let more = || answer.more.iter().map(|more| more.shown.clone());
        if !self.long() {
            let labels: Vec<&str> = answer.has().collect();
            let labels = if labels.is_empty() { "-".into() } else { labels.join(", ") };
            return vec![[text::path(&answer.path), labels].into_iter().chain(more()).collect()];
        }
        let mut rows = Vec::new();
        for (at, label) in answer.ranked.iter().take(self.shown.top).enumerate() {
            let picture = if at == 0 { text::path(&answer.path) } else { String::new() };
            let has = if label.has == Some(true) { "yes" } else { "no" };
            let mut row = [&[picture, label.class.clone(), has.into()][..], &self.cells(Some(label))].concat();
            row.extend(more().map(|shown| if at == 0 { shown } else { String::new() }));
            rows.push(row);
        }
        rows
    }

    /// Whether labels have a row each, where a picture may have several.
    fn long(&self) -> bool {
        self.shown.asked || self.shown.scores
    }

    fn rows(&self, answer: &Answer) -> Vec<Vec<String>> {
        if self.shown.multi {
            return self.labels(answer);
        }
        let best = answer.best();
        let unknown = || format!("{UNKNOWN} ({}?)", best.map_or("", |best| &best.class));
        let first = [text::path(&answer.path), answer.class.clone().unwrap_or_else(unknown)];
        let mut row = [&first[..], &self.cells(best)].concat();
        let more = || answer.more.iter().map(|more| more.shown.clone());
        if !self.shown.asked {
            if !self.shown.alone {
                let second = answer.ranked.get(1);
                row.push(second.map_or("-".into(), |second| second.class.clone()));
                row.extend(self.cells(second));
            }
            row.extend(more());
            return vec![row];
        }
        row.extend(more());
        let width = row.len();
        let mut rows = vec![row];
        for ranked in answer.ranked.iter().take(self.shown.top).skip(1) {
            let mut row = [&[String::new(), ranked.class.clone()][..], &self.cells(Some(ranked))].concat();
            row.resize(width, String::new());
            rows.push(row);
        }
        rows
    }
}

impl Printer for Whole {
    fn add(&mut self, answer: &Answer) -> tipi::Result<bool> {
        self.answers.push(answer.clone());
        Ok(true)
    }

    fn end(&mut self) -> Result<()> {
        let mut head = match (self.shown.multi, self.long()) {
            (false, _) => [&["picture", "class"][..], &self.titles()].concat(),
            (true, true) => [&["picture", "label", "has it"][..], &self.titles()].concat(),
            (true, false) => vec!["picture", "labels"],
        };
        if !self.shown.multi && !self.shown.asked && !self.shown.alone {
            head.push("runner-up");
            head.extend(self.titles());
        }
        head.extend(self.answers.first().into_iter().flat_map(|answer| &answer.more).map(|more| more.title));
        let mut table = ui::table(&head);
        for row in self.answers.iter().flat_map(|answer| self.rows(answer)) {
            table.add_row(row);
        }
        Ok(terminal::print(&table.to_string())?)
    }
}
