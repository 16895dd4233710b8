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

    fn head(&self, answer: &Answer) -> Vec<String> {
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
        if !std::mem::replace(&mut self.begun, true) && !terminal::print_line(&self.head(answer).join(","))? {
            return Ok(false);
        }
        let class = answer.class.as_deref().unwrap_or(UNKNOWN);
        let mut fields = vec![text::path(&answer.path), class.into()];
        for ranked in &answer.ranked {
            fields.push(ranked.class.clone());
            fields.extend(self.numbers(ranked));
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
        for (text, quoted) in
            [("a b", "a b"), ("a,b", "\"a,b\""), ("say \"a\"", "\"say \"\"a\"\"\""), (" a", "\" a\""), ("a\nb", "\"a\nb\"")]
        {
            assert_eq!(field(text), quoted);
        }
    }
}
