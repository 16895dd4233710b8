//! Answers as CSV, for spreadsheets: a line a picture, whatever is shown of it.

use anyhow::Result;
use tipi::low_level::text;

use super::{Answer, Printer, Ranked, Shown, UNKNOWN};
use crate::terminal;

/// Lines, printed as they come, the first after the names of their fields.
pub struct Lines {
    shown: Shown,
    begun: bool,
}

/// A field as CSV has it: in quotes where it has a comma, a quote, a line's end, or blanks at its ends.
pub fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) || text.trim() != text {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.into(),
    }
}

impl Lines {
    pub fn new(shown: Shown) -> Lines {
        Lines { shown, begun: false }
    }

    /// The fields that follow a class.
    fn titles(&self) -> &'static [&'static str] {
        if self.shown.scores || self.shown.alone { &["probability", "cosine", "logit"] } else { &["probability"] }
    }

    /// The labels by their numbers, each with what is said of it: columns are the same for all pictures.
    fn by_number(answer: &Answer) -> Vec<&Ranked> {
        let mut labels: Vec<&Ranked> = answer.ranked.iter().collect();
        labels.sort_by_key(|label| label.number);
        labels
    }

    fn head(&self, answer: &Answer) -> Vec<String> {
        if self.shown.multi {
            let mut head = vec!["path".to_owned(), "labels".into()];
            head.extend(Self::by_number(answer).iter().map(|label| label.class.clone()));
            head.extend(answer.more.iter().map(|more| more.key.to_owned()));
            return head.iter().map(|text| field(text)).collect();
        }
        let mut head: Vec<String> = ["path", "class", "likeliest"].map(String::from).to_vec();
        head.extend(self.titles().iter().map(|title| (*title).to_owned()));
        for rank in 2..=self.shown.top {
            head.push(format!("class_{rank}"));
            head.extend(self.titles().iter().map(|title| format!("{title}_{rank}")));
        }
        head.extend(answer.more.iter().map(|more| more.key.to_owned()));
        head
    }

    fn numbers(&self, ranked: &Ranked) -> Vec<String> {
        let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let all = [ranked.probability, ranked.cosine, Some(ranked.logit)];
        all.into_iter().take(self.titles().len()).map(number).collect()
    }
}

impl Printer for Lines {
    fn add(&mut self, answer: &Answer) -> tipi::Result<bool> {
        if !std::mem::replace(&mut self.begun, true)
            && !terminal::print_line(&text::escaped_lines(&self.head(answer).join(",")))?
        {
            return Ok(false);
        }
        let mut fields = vec![text::path(&answer.path)];
        if self.shown.multi {
            // As the column of labels is read by `tipi fit --multi-label`.
            fields.push(answer.has().collect::<Vec<_>>().join(";"));
            // How likely it is, or how far above its threshold.
            let margin = |label: &Ranked| label.logit - label.threshold.unwrap_or_default();
            let numbers = Self::by_number(answer).into_iter().map(|label| label.probability.unwrap_or(margin(label)));
            fields.extend(numbers.map(|number| number.to_string()));
        } else {
            fields.push(answer.class.as_deref().unwrap_or(UNKNOWN).into());
            for ranked in answer.ranked.iter().take(self.shown.top) {
                fields.push(ranked.class.clone());
                fields.extend(self.numbers(ranked));
            }
        }
        fields.extend(answer.more.iter().map(|more| more.shown.clone()));
        let fields: Vec<String> = fields.iter().map(|text| field(text)).collect();
        terminal::print_line(&text::escaped_lines(&fields.join(",")))
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        for (text, quoted) in [
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("say \"a\"", "\"say \"\"a\"\"\""),
            (" a", "\" a\""),
            ("a\nb", "\"a\nb\""),
        ] {
            assert_eq!(field(text), quoted);
        }
    }
}
