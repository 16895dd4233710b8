//! Heat maps: a number for each pair of things as a colour, such as confusions, searches over two settings, or weights.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use image::{ExtendedColorType, ImageEncoder, codecs::png};

use super::colours::{colour, hex};
use super::escape;
use super::style::{self, EDGE, GRID, SMALL, SOFT, TEXT, WIDTH};

/// What a heat map shows.
#[derive(Clone, Copy, Debug)]
pub struct Heat<'a> {
    /// The plot's name.
    pub title: &'a str,
    /// What lies along the x axis; may be empty.
    pub x_name: &'a str,
    /// What lies along the y axis; may be empty.
    pub y_name: &'a str,
    /// The columns' labels; where they do not all fit, some are left out.
    pub x: &'a [String],
    /// The rows' labels, likewise.
    pub y: &'a [String],
    /// A row after the other, each as long as `x`. What is missing or not finite stays empty.
    pub values: &'a [f64],
    /// Whether the first row is at the bottom, as on an axis, rather than at the top, as in a table.
    pub up: bool,
    /// The column and the row of a cell to put a ring around.
    pub mark: Option<(usize, usize)>,
    /// Whether 0 is the middle of the colours, for what may be more or less than nothing.
    pub diverging: bool,
    /// What the numbers are in. "%" shows 0 to 1 as percent.
    pub unit: &'a str,
}

/// More cells than this are drawn as a picture.
const RECTANGLES: usize = 2600;
/// More cells than this do not say their value to the pointer, for the document's size.
const SPEAKING: usize = 900;
/// The largest cells.
const CELL: (f64, f64) = (64.0, 44.0);
/// The greatest height of all rows together.
const TALLEST: f64 = 400.0;
/// The widest row labels; longer ones are cut.
const LABEL: f64 = 124.0;
/// The widest column labels that slant.
const SLANT: f64 = 112.0;
/// From one label to the next, at least.
const LINE: f64 = 16.0;

/// The lowest and the highest value of the colours; the same when there is only one value.
fn range(heat: &Heat<'_>) -> (f64, f64) {
    let finite = heat.values.iter().filter(|v| v.is_finite());
    let (low, high) = finite.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    if low > high {
        return (0.0, 0.0);
    }
    let most = low.abs().max(high.abs());
    if heat.diverging { (-most, most) } else { (low, high) }
}

/// Where a value lies between the ends of the colours. Halves first, so that the largest numbers do not overflow.
fn share(v: f64, (low, high): (f64, f64)) -> f64 {
    if high > low { (v / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0) } else { 0.5 }
}

/// A value in its unit, so exact that ends `span` apart look different.
fn name(v: f64, unit: &str, span: f64) -> String {
    match unit {
        "%" if v.is_finite() => {
            let places = if span > 0.0 { style::decimals(span * 100.0 / 20.0).min(3) } else { 1 };
            format!("{:.places$}%", 100.0 * v).replace('-', "−")
        }
        "" => style::short(v),
        unit => format!("{} {unit}", style::short(v)),
    }
}

/// Whether labels are names rather than numbers.
fn words(labels: &[String]) -> bool {
    labels.iter().any(|label| label.trim_end_matches('%').parse::<f64>().is_err())
}

/// For every how many labels there is room, when one needs `need` and there are `pitch` from one to the next.
fn every(need: f64, pitch: f64, words: bool) -> usize {
    let least = (need / pitch - 1e-6).ceil().max(1.0) as usize;
    if words {
        return least;
    }
    // Steps that people count in.
    let mut scale = 1;
    loop {
        if let Some(step) = [1, 2, 5].into_iter().map(|m| m * scale).find(|step| *step >= least) {
            return step;
        }
        scale *= 10;
    }
}

/// All cells as a picture of one pixel each, top row first.
fn picture(heat: &Heat<'_>, ends: (f64, f64)) -> Option<String> {
    let (columns, rows) = (heat.x.len(), heat.y.len());
    let mut samples = Vec::with_capacity(columns * rows * 4);
    for row in 0..rows {
        let row = if heat.up { rows - 1 - row } else { row };
        for column in 0..columns {
            match value(heat, column, row) {
                Some(v) => {
                    samples.extend(colour(share(v, ends), heat.diverging));
                    samples.push(255);
                }
                None => samples.extend([0; 4]),
            }
        }
    }
    let mut file = Vec::new();
    png::PngEncoder::new_with_quality(&mut file, png::CompressionType::Best, png::FilterType::Adaptive)
        .write_image(&samples, columns as u32, rows as u32, ExtendedColorType::Rgba8)
        .ok()?;
    Some(base64::engine::general_purpose::STANDARD.encode(file))
}

/// The finite value of a cell.
fn value(heat: &Heat<'_>, column: usize, row: usize) -> Option<f64> {
    heat.values.get(row * heat.x.len() + column).copied().filter(|v| v.is_finite())
}

/// Where everything is.
struct Frame {
    left: f64,
    top: f64,
    cell: (f64, f64),
    columns: usize,
    rows: usize,
    up: bool,
    /// Whether the columns' labels slant, or else the most that one takes beside another.
    slant: bool,
    level: f64,
    /// The lowest line that is written on.
    below: f64,
}

/// A label as it is written, cut to `room`.
fn cut(text: &str, room: f64) -> String {
    style::cut(text, SMALL, room).into_owned()
}

impl Frame {
    /// The frame below the bar of colours, which begins at `bar`.
    fn of(heat: &Heat<'_>, bar: f64) -> Frame {
        let (columns, rows) = (heat.x.len(), heat.y.len());
        let widest = |labels: &[String], room: f64| {
            labels.iter().map(|l| style::width(&cut(l, room), SMALL)).fold(0.0, f64::max)
        };
        // The left edge leaves room for the rows' labels and for what slants out of the first column.
        let axis_name = if heat.y_name.is_empty() { 0.0 } else { 22.0 };
        let left = EDGE + axis_name + widest(heat.y, LABEL) + 8.0;
        let cell_width = |left: f64| ((WIDTH - EDGE - left) / columns as f64).min(CELL.0);
        let level = widest(heat.x, LABEL) + 10.0;
        let slant = words(heat.x) && level > cell_width(left);
        let left = if slant { left.max(EDGE + axis_name + 64.0) } else { left };
        let cell_width = cell_width(left);
        let least = (rows as f64 * LINE).min(240.0);
        let tall = (rows as f64 * cell_width.min(CELL.1)).clamp(least, TALLEST.max(least));
        let top = bar + 34.0;
        let labels = if slant { 0.707 * widest(heat.x, SLANT) + 16.0 } else { 22.0 };
        let below = top + tall + labels + if heat.x_name.is_empty() { 0.0 } else { 22.0 };
        Frame { left, top, cell: (cell_width, tall / rows as f64), columns, rows, up: heat.up, slant, level, below }
    }

    /// The upper edge of a row.
    fn y(&self, row: usize) -> f64 {
        self.top + self.cell.1 * (if self.up { self.rows - 1 - row } else { row }) as f64
    }

    fn x(&self, column: usize) -> f64 {
        self.left + self.cell.0 * column as f64
    }

    /// The middle of a cell.
    fn middle(&self, column: usize, row: usize) -> (f64, f64) {
        (self.x(column) + self.cell.0 / 2.0, self.y(row) + self.cell.1 / 2.0)
    }

    /// Width and height of all cells together.
    fn size(&self) -> (f64, f64) {
        (self.cell.0 * self.columns as f64, self.cell.1 * self.rows as f64)
    }
}

/// An SVG document with the map, its axes and a bar of its colours.
pub fn heat_map(heat: &Heat<'_>) -> String {
    let (heading, bar) = style::heading(heat.title);
    if heat.x.is_empty() || heat.y.is_empty() {
        let mut out = style::open(heat.title, WIDTH, bar + 40.0, TEXT) + &heading;
        let _ = write!(out, "<text x=\"{EDGE}\" y=\"{:.1}\" fill=\"{SOFT}\">nothing to show</text></svg>", bar + 16.0);
        return out;
    }
    let (ends, frame) = (range(heat), Frame::of(heat, bar));
    let mut out = style::open(heat.title, WIDTH, (frame.below + 8.0).ceil(), TEXT) + &heading;
    colour_bar(&mut out, heat, ends, bar);
    if frame.columns * frame.rows > RECTANGLES {
        pixels(&mut out, heat, ends, &frame);
    } else {
        cells(&mut out, heat, ends, &frame);
    }
    let (wide, tall) = frame.size();
    let _ = write!(
        out,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\" fill=\"none\" stroke=\"{GRID}\"/>",
        frame.left, frame.top
    );
    row_labels(&mut out, heat, &frame);
    column_labels(&mut out, heat, &frame);
    axis_names(&mut out, heat, &frame);
    if let Some((column, row)) = heat.mark.filter(|(column, row)| *column < frame.columns && *row < frame.rows) {
        ring(&mut out, frame.middle(column, row), (frame.cell.0.min(frame.cell.1) / 2.0 + 1.5).max(6.0));
    }
    out + "</svg>"
}

/// The cells as a picture.
fn pixels(out: &mut String, heat: &Heat<'_>, ends: (f64, f64), frame: &Frame) {
    // Enlarged pixels stay sharp; reduced ones are averaged, or single ones would vanish.
    let rendering = if frame.cell.0 >= 1.0 && frame.cell.1 >= 1.0 { " image-rendering=\"pixelated\"" } else { "" };
    let (wide, tall) = frame.size();
    if let Some(data) = picture(heat, ends) {
        let _ = write!(
            out,
            "<image x=\"{:.2}\" y=\"{:.2}\" width=\"{wide:.2}\" height=\"{tall:.2}\" \
             preserveAspectRatio=\"none\"{rendering} href=\"data:image/png;base64,{data}\"/>",
            frame.left, frame.top
        );
    }
}

/// As many of the rows' labels as fit.
fn row_labels(out: &mut String, heat: &Heat<'_>, frame: &Frame) {
    let step = every(LINE, frame.cell.1, words(heat.y));
    for (row, label) in heat.y.iter().enumerate().step_by(step) {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"{SMALL}\">{}</text>",
            frame.left - 7.0,
            frame.y(row) + frame.cell.1 / 2.0 + 4.5,
            escape(&cut(label, LABEL))
        );
    }
}

/// As many of the columns' labels as fit, slanting where they are long.
fn column_labels(out: &mut String, heat: &Heat<'_>, frame: &Frame) {
    let base = frame.top + frame.size().1;
    let step = every(if frame.slant { LINE * 1.3 } else { frame.level }, frame.cell.0, frame.slant);
    for (column, label) in heat.x.iter().enumerate().step_by(step) {
        let x = frame.x(column) + frame.cell.0 / 2.0;
        let _ = if frame.slant {
            write!(
                out,
                "<text transform=\"translate({:.1} {:.1}) rotate(-45)\" text-anchor=\"end\" font-size=\"{SMALL}\">{}</text>",
                x + 4.0,
                base + 14.0,
                escape(&cut(label, SLANT))
            )
        } else {
            // Beside the last column there is only the edge.
            let half = style::width(label, SMALL) / 2.0;
            write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"{SMALL}\">{}</text>",
                x.min(WIDTH - 2.0 - half).max(half + 2.0),
                base + 17.0,
                escape(&cut(label, LABEL))
            )
        };
    }
}

/// What lies along the axes.
fn axis_names(out: &mut String, heat: &Heat<'_>, frame: &Frame) {
    let (wide, tall) = frame.size();
    if !heat.x_name.is_empty() {
        let middle = frame.left + wide / 2.0;
        let _ = write!(
            out,
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"{SMALL}\" fill=\"{SOFT}\">{}</text>",
            frame.below - 2.0,
            escape(&cut(heat.x_name, 2.0 * (WIDTH - middle).min(middle)))
        );
    }
    if !heat.y_name.is_empty() {
        let _ = write!(
            out,
            "<text transform=\"translate({:.1} {:.1}) rotate(-90)\" text-anchor=\"middle\" font-size=\"{SMALL}\" \
             fill=\"{SOFT}\">{}</text>",
            EDGE + 10.0,
            frame.top + tall / 2.0,
            escape(&cut(heat.y_name, tall.max(120.0)))
        );
    }
}

/// A ring around a cell. Light around dark is visible on every colour, so neither is one of the page's.
fn ring(out: &mut String, (x, y): (f64, f64), radius: f64) {
    for (stroke, thick) in [("#fff", 4.5), ("#111", 2.0)] {
        let _ = write!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"none\" stroke=\"{stroke}\" \
             stroke-width=\"{thick}\"/>"
        );
    }
}

/// The cells as rectangles, with their values inside where there is room.
fn cells(out: &mut String, heat: &Heat<'_>, ends: (f64, f64), frame: &Frame) {
    let (columns, rows) = (heat.x.len(), heat.y.len());
    let (speaking, span) = (columns * rows <= SPEAKING, ends.1 - ends.0);
    let text = |v: f64| name(v, if heat.unit == "%" { "%" } else { "" }, span).trim_end_matches('%').to_owned();
    let longest = heat.values.iter().map(|v| style::width(&text(*v), SMALL)).fold(0.0, f64::max);
    let written = frame.cell.0 >= longest + 6.0 && frame.cell.1 >= 18.0;
    // One rectangle's edge lies on the next one's: crisp edges keep the paper from shining through between them.
    out.push_str("<g shape-rendering=\"crispEdges\">");
    let mut numbers = String::new();
    for row in 0..rows {
        for (column, label) in heat.x.iter().enumerate() {
            let Some(v) = value(heat, column, row) else { continue };
            let fill = colour(share(v, ends), heat.diverging);
            let (x, y) = (frame.x(column), frame.y(row));
            let _ = write!(
                out,
                "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{:.2}\" height=\"{:.2}\" fill=\"{}\"",
                frame.cell.0,
                frame.cell.1,
                hex(fill)
            );
            if speaking {
                let what: Vec<Cow<'_, str>> =
                    [(heat.y_name, &heat.y[row]), (heat.x_name, label)]
                        .iter()
                        .map(|(name, label)| {
                            if name.is_empty() {
                                Cow::Borrowed(label.as_str())
                            } else {
                                format!("{name} {label}").into()
                            }
                        })
                        .collect();
                let value = name(v, heat.unit, span);
                let _ = write!(out, "><title>{}: {}</title></rect>", escape(&what.join(", ")), escape(&value));
            } else {
                out.push_str("/>");
            }
            if written {
                let light = 0.299 * f64::from(fill[0]) + 0.587 * f64::from(fill[1]) + 0.114 * f64::from(fill[2]);
                let _ = write!(
                    numbers,
                    "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{}\">{}</text>",
                    x + frame.cell.0 / 2.0,
                    y + frame.cell.1 / 2.0 + 4.5,
                    if light > 140.0 { "#111" } else { "#fff" },
                    escape(&text(v))
                );
            }
        }
    }
    // The pointer means the cell, not the number on it.
    let _ = write!(out, "</g><g text-anchor=\"middle\" font-size=\"{SMALL}\" pointer-events=\"none\">{numbers}</g>");
}

/// The bar of colours with the values of its ends.
fn colour_bar(out: &mut String, heat: &Heat<'_>, ends: (f64, f64), y: f64) {
    const STRIPS: usize = 60;
    const STRIP: f64 = 2.5;
    let (low, high) = (name(ends.0, heat.unit, ends.1 - ends.0), name(ends.1, heat.unit, ends.1 - ends.0));
    let from = EDGE + style::width(&low, SMALL) + 8.0;
    let to = from + STRIPS as f64 * STRIP;
    out.push_str("<g shape-rendering=\"crispEdges\">");
    for strip in 0..STRIPS {
        let share = if ends.1 > ends.0 { strip as f64 / (STRIPS - 1) as f64 } else { 0.5 };
        let _ = write!(
            out,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{STRIP}\" height=\"10\" fill=\"{}\"/>",
            from + strip as f64 * STRIP,
            y + 2.0,
            hex(colour(share, heat.diverging))
        );
    }
    let _ = write!(
        out,
        "</g><g font-size=\"{SMALL}\" fill=\"{SOFT}\"><text x=\"{EDGE}\" y=\"{0:.1}\">{1}</text>\
         <text x=\"{2:.1}\" y=\"{0:.1}\">{3}</text></g>",
        y + 11.5,
        escape(&low),
        to + 8.0,
        escape(&high)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(count: usize, of: impl Fn(usize) -> String) -> Vec<String> {
        (0..count).map(of).collect()
    }

    fn heat<'a>(x: &'a [String], y: &'a [String], values: &'a [f64]) -> Heat<'a> {
        Heat {
            title: "a < b",
            x_name: "said",
            y_name: "truth",
            x,
            y,
            values,
            up: false,
            mark: None,
            diverging: false,
            unit: "",
        }
    }

    /// The colours of the cells as (x, y, fill), in the order of drawing.
    fn drawn(svg: &str) -> Vec<(f64, f64, String)> {
        let cells = svg.split("<g shape-rendering=\"crispEdges\">").nth(2).unwrap();
        let part = |text: &str, name: &str| {
            text.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned()
        };
        cells
            .split("<rect ")
            .skip(1)
            .filter(|c| c.contains("<title>"))
            .map(|c| (part(c, "x").parse().unwrap(), part(c, "y").parse().unwrap(), part(c, "fill")))
            .collect()
    }

    #[test]
    fn rows_go_down_in_tables_and_up_on_axes() {
        let (x, y) = (labels(3, |i| format!("{i}")), labels(2, |i| format!("row {i} & <b>")));
        let values = [0.0, 0.5, 1.0, f64::NAN, 0.25, 0.75];
        let svg = heat_map(&Heat { mark: Some((2, 0)), unit: "%", ..heat(&x, &y, &values) });
        let cells = drawn(&svg);
        assert_eq!(cells.len(), 5, "what is not finite stays empty");
        assert_eq!((cells[0].2.as_str(), cells[2].2.as_str()), ("#440154", "#fde725"));
        assert!(cells[0].0 < cells[1].0 && cells[0].1 < cells[4].1);
        assert!(svg.contains("row 1 &amp; &lt;b&gt;") && svg.contains("a &lt; b"));
        assert!(svg.contains("truth row 0 &amp; &lt;b&gt;, said 1: 50%"));
        assert_eq!(svg.matches("<circle").count(), 2);
        crate::report::png(&svg).unwrap();
        let cells = drawn(&heat_map(&Heat { up: true, ..heat(&x, &y, &values) }));
        assert!(cells[0].1 > cells[4].1);
    }

    #[test]
    fn nothing_is_in_the_middle_of_diverging_colours() {
        let (x, y) = (labels(3, |i| format!("{i}")), labels(1, |i| format!("{i}")));
        let svg = heat_map(&Heat { diverging: true, ..heat(&x, &y, &[-1.0, 0.0, 4.0]) });
        let cells = drawn(&svg);
        assert_eq!((cells[1].2.as_str(), cells[2].2.as_str()), ("#f3f3f2", "#8e4708"));
        assert!(svg.contains(">−4</text>") && svg.contains(">4</text>"));
    }

    #[test]
    fn many_cells_become_a_small_picture_in_their_colours() {
        let (x, y) = (labels(512, |i| format!("{i}")), labels(20, |i| format!("token {i}")));
        let values: Vec<f64> = (0..512 * 20usize).map(|i| ((i * 7919) % 1000) as f64 / 1000.0).collect();
        let svg = heat_map(&heat(&x, &y, &values));
        assert!(svg.len() < 60_000, "{} bytes", svg.len());
        assert!(svg.matches("<text").count() < 60);
        crate::report::png(&svg).unwrap();
        // Pictures within a drawing are drawn, too: nearly all cells of this one have the darkest colour.
        let mut one = vec![0.0; values.len()];
        one[0] = 1.0;
        let png = crate::report::png(&heat_map(&Heat { up: true, ..heat(&x, &y, &one) })).unwrap();
        let drawn = image::load_from_memory(&png).unwrap().to_rgb8();
        let dark = drawn.pixels().filter(|p| p.0 == [0x44, 0x01, 0x54]).count();
        assert!(dark * 3 > drawn.pixels().len(), "{dark} of {}", drawn.pixels().len());
    }

    #[test]
    fn labels_that_do_not_fit_are_left_out_or_cut() {
        let x = labels(40, |i| format!("a long name of class {i}"));
        let svg = heat_map(&heat(&x, &x, &vec![0.5; 1600]));
        let slanted = svg.matches("rotate(-45)").count();
        assert!((5..=20).contains(&slanted), "{slanted}");
        assert!(svg.contains('…'));
        crate::report::png(&svg).unwrap();
        assert_eq!(every(16.0, 5.0, true), 4);
        assert_eq!([20.0, 9.0, 5.0, 1.0].map(|pitch| every(16.0, pitch, false)), [1, 2, 5, 20]);
    }

    #[test]
    fn nothing_sound_to_draw_is_no_reason_to_fail() {
        let one = labels(1, |i| format!("{i}"));
        let two = labels(2, |_| String::new());
        let cases: [(&[String], &[String], &[f64]); 7] = [
            (&[], &[], &[]),
            (&one, &[], &[1.0]),
            (&one, &one, &[3.0]),
            (&one, &one, &[f64::NAN]),
            (&two, &two, &[1.0]),
            (&two, &two, &[f64::MAX, f64::MIN, f64::INFINITY, 0.0]),
            (&two, &two, &[0.0; 4]),
        ];
        for (x, y, values) in cases {
            for diverging in [false, true] {
                let svg = heat_map(&Heat { mark: Some((9, 9)), diverging, unit: "%", ..heat(x, y, values) });
                assert!(!svg.contains("NaN"), "{svg}");
                crate::report::png(&svg).unwrap();
            }
        }
    }
}
