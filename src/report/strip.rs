//! Rows of pictures beside each other, with a name for each row and each column.

use std::fmt::Write;

use super::escape;
use super::style::{self, EDGE, SMALL, SOFT, TEXT, WIDTH};

/// Between pictures.
const GAP: f64 = 6.0;
/// Height of a line of names.
const LINE: f64 = 17.0;

/// An SVG document: in each row square pictures, as base64 of PNG files, one for each of `columns`.
pub(crate) fn svg(title: &str, columns: &[&str], rows: &[(&str, Vec<String>)]) -> String {
    let (heading, top) = style::heading(title);
    let side = (WIDTH - 2.0 * EDGE - GAP * (columns.len().max(1) - 1) as f64) / columns.len().max(1) as f64;
    let names: Vec<Vec<String>> = columns.iter().map(|name| style::wrap(name, SMALL, side)).collect();
    let lines = names.iter().map(Vec::len).max().unwrap_or_default();
    let first = top + lines as f64 * LINE + GAP;
    let step = side + LINE + 2.0 * GAP;
    let height = (first + rows.len() as f64 * step + GAP).ceil();
    let mut out = style::open(title, WIDTH, height, TEXT) + &heading;
    let x = |column: usize| EDGE + column as f64 * (side + GAP);
    for (column, lines) in names.iter().enumerate() {
        for (line, text) in lines.iter().enumerate() {
            let y = top + (line + 1) as f64 * LINE - 4.0;
            let (x, text) = (x(column), escape(text));
            let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{SMALL}\" fill=\"{SOFT}\">{text}</text>");
        }
    }
    for (row, (name, pictures)) in rows.iter().enumerate() {
        let y = first + row as f64 * step;
        let text = escape(&style::cut(name, SMALL, WIDTH - 2.0 * EDGE));
        let _ = write!(out, "<text x=\"{EDGE}\" y=\"{:.1}\" font-size=\"{SMALL}\">{text}</text>", y + LINE - 4.0);
        for (column, data) in pictures.iter().enumerate().take(columns.len()) {
            // Noise is looked at pixel by pixel: enlarged ones stay sharp.
            let _ = write!(
                out,
                "<image x=\"{:.2}\" y=\"{:.2}\" width=\"{side:.2}\" height=\"{side:.2}\" image-rendering=\"pixelated\" \
                 href=\"data:image/png;base64,{data}\"/>",
                x(column),
                y + LINE
            );
        }
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::svg;

    #[test]
    fn every_picture_has_its_place() {
        let rows = [("a <cat>", vec!["AA".to_string(), "BB".into()]), ("dog", vec!["CC".into(), "DD".into()])];
        let text = svg("noise", &["picture", "a name of many words that is wrapped"], &rows);
        assert_eq!(text.matches("<image ").count(), 4);
        assert!(text.contains("a &lt;cat&gt;") && text.contains("base64,DD") && text.ends_with("</svg>"));
        assert!(svg("none", &[], &[]).ends_with("</svg>"));
    }
}
