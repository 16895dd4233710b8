//! Tables for a page and for other programs.

use super::escape;
use crate::{Error, Result};

/// Text in rows and columns. The first column names the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The columns' names.
    pub head: Vec<String>,
    /// The rows. Those that are shorter than the head are filled up with nothing.
    pub rows: Vec<Vec<String>>,
    /// Row and column of the cells that stand out, such as the best values.
    pub bold: Vec<(usize, usize)>,
}

/// Whether a cell reads as a number, with or without what belongs to one: "71.2 ± 0.4", "−3%", "1.2 s", "5/40".
fn numeric(text: &str) -> bool {
    let text = text.trim().trim_start_matches(['+', '-', '−', '±', '<', '>', '~', '≈', '×']).trim_start();
    text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
}

/// Whether a cell says that there is nothing.
fn blank(text: &str) -> bool {
    matches!(text.trim(), "" | "-" | "–" | "—" | "−")
}

impl Table {
    /// The table as an HTML element.
    pub fn html(&self) -> String {
        self.with_caption("")
    }

    /// [`Table::html`] with a caption, if it is not empty.
    pub(crate) fn with_caption(&self, caption: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).chain([self.head.len()]).max().unwrap_or(0);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        // A column is one of numbers when it holds some and nothing else.
        let number = |column: usize| {
            let mut cells = self.rows.iter().map(|row| cell(row, column)).filter(|text| !blank(text)).peekable();
            column > 0 && cells.peek().is_some() && cells.all(|text| numeric(&text))
        };
        let class: Vec<&str> = (0..columns).map(|c| if number(c) { " class=\"number\"" } else { "" }).collect();
        let mut out = String::from("<table>");
        if !caption.is_empty() {
            out += &format!("<caption><span>{}</span></caption>", escape(caption));
        }
        if !self.head.is_empty() {
            out.push_str("<thead><tr>");
            for (column, class) in class.iter().enumerate() {
                let name = cell(&self.head, column);
                // A corner that names nothing is no heading.
                if name.is_empty() {
                    out += &format!("<td{class}></td>");
                } else {
                    out += &format!("<th scope=\"col\"{class}>{}</th>", escape(&name));
                }
            }
            out.push_str("</tr></thead>");
        }
        out.push_str("<tbody>");
        for (at, row) in self.rows.iter().enumerate() {
            out.push_str("<tr>");
            for (column, class) in class.iter().enumerate() {
                let text = escape(&cell(row, column));
                let text = if self.bold.contains(&(at, column)) { format!("<strong>{text}</strong>") } else { text };
                if column == 0 {
                    out += &format!("<th scope=\"row\">{text}</th>");
                } else {
                    out += &format!("<td{class}>{text}</td>");
                }
            }
            out.push_str("</tr>");
        }
        out + "</tbody></table>"
    }

    /// The table as comma-separated values, the head first, quoted where it must be.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the writer fails, which memory gives it no reason to.
    pub fn csv(&self) -> Result<String> {
        let failed = |reason: String| Error::invalid(format!("CSV: {reason}"));
        let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        for row in std::iter::once(&self.head).chain(&self.rows).filter(|row| !row.is_empty()) {
            // All rows are as long as the head, as readers expect.
            let missing = self.head.len().saturating_sub(row.len());
            let row = row.iter().map(String::as_str).chain(std::iter::repeat_n("", missing));
            writer.write_record(row).map_err(|e| failed(e.to_string()))?;
        }
        let bytes = writer.into_inner().map_err(|e| failed(e.to_string()))?;
        String::from_utf8(bytes).map_err(|e| failed(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        Table {
            head: row(&["method", "accuracy", "note", "time"]),
            rows: vec![
                row(&["tip <adapter>", "71.2 ± 0.4", "said \"yes\", then no", "1.2 s"]),
                row(&["zero-shot", "−3%", "", "–"]),
                row(&["short"]),
            ],
            bold: vec![(0, 1), (9, 9)],
        }
    }

    #[test]
    fn numbers_are_told_from_text_and_the_best_stand_out() {
        let html = table().with_caption("a & b");
        assert!(html.contains("<caption><span>a &amp; b</span></caption>"));
        assert!(html.contains("<th scope=\"row\">tip &lt;adapter&gt;</th>"));
        assert!(html.contains("<td class=\"number\"><strong>71.2 ± 0.4</strong></td>"));
        assert!(
            html.contains("<th scope=\"col\" class=\"number\">time</th>")
                && html.contains("<th scope=\"col\">note</th>")
        );
        assert_eq!(html.matches("<tr>").count(), 4);
        assert_eq!(html.matches("<td").count(), 9, "short rows are filled up");
        assert_eq!(Table::default().html(), "<table><tbody></tbody></table>");
    }

    #[test]
    fn csv_reads_back_as_it_was() {
        let csv = table().csv().unwrap();
        assert!(csv.starts_with("method,accuracy,note,time\n"), "{csv}");
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(csv.as_bytes());
        let rows: Vec<Vec<String>> = reader.records().map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect();
        assert_eq!(rows[1], table().rows[0]);
        assert_eq!(rows[3], ["short", "", "", ""]);
        assert_eq!(Table::default().csv().unwrap(), "");
    }
}
