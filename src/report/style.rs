//! What all plots share: colours, sizes and the arithmetic of ticks and text.
//!
//! A plot on its own is dark on white paper. [`inline`](super::html::inline) finds these colours in it and turns them
//! into the page's, so everything that is paper, ink or grid must have exactly these; colours that carry data stay.

use std::borrow::Cow;
use std::ops::Range;

use super::escape;
use crate::output::SVG_MARK;

/// Behind everything.
pub(crate) const PAPER: &str = "#ffffff";
/// Text and what matters as much.
pub(crate) const INK: &str = "#24292f";
/// Axes, ticks and lesser text.
pub(crate) const SOFT: &str = "#57606a";
/// Lines that only guide the eye.
pub(crate) const GRID: &str = "#eaeef2";
/// Colours of data: each can be told from white and from near-black paper, and neighbours from each other by people who
/// see fewer colours.
pub(crate) const SERIES: [&str; 8] =
    ["#2f7de1", "#d9730d", "#2b9a66", "#9a63d8", "#d64550", "#1590a5", "#c74a9b", "#85873a"];

/// Units across a plot. A page's column on a telephone is 368 wide, where text of [`SMALL`] is still 10 high.
pub(crate) const WIDTH: f64 = 468.0;
/// From the paper's edge to what is drawn.
pub(crate) const EDGE: f64 = 12.0;
/// A plot's title.
pub(crate) const TITLE: f64 = 16.0;
/// All other text.
pub(crate) const TEXT: f64 = 14.0;
/// Text at ticks.
pub(crate) const SMALL: f64 = 13.0;
/// From one line of a title to the next.
pub(crate) const LEADING: f64 = 21.0;

/// The paper as [`open`] draws it, for others to recognise.
pub(crate) fn paper() -> String {
    format!("<rect width=\"100%\" height=\"100%\" fill=\"{PAPER}\"/>")
}

/// The start of a drawing: its root, its name and its paper.
pub(crate) fn open(title: &str, width: f64, height: f64, text: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"Ubuntu, Helvetica, Arial, sans-serif\" font-size=\"{text}\" fill=\"{INK}\" role=\"img\">{SVG_MARK}\
         <title>{}</title>{}",
        escape(title),
        paper()
    )
}

/// The lines of a title from the top left corner, and how far down they reach.
pub(crate) fn heading(title: &str) -> (String, f64) {
    // Bold letters are wider.
    let lines = wrap(title, 1.1 * TITLE, WIDTH - 2.0 * EDGE);
    let mut out = String::new();
    let mut y = 6.0;
    for line in lines {
        y += LEADING;
        out +=
            &format!("<text x=\"{EDGE}\" y=\"{y}\" font-size=\"{TITLE}\" font-weight=\"600\">{}</text>", escape(&line));
    }
    (out, y + 10.0)
}

/// About how wide `text` is when letters are `size` high: fonts differ, so this is rather too much than too little.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    let letter = |c: char| match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.33,
        ' ' | 'f' | 'r' | 't' | '(' | ')' | '[' | ']' | '/' | '-' => 0.4,
        'm' | 'w' | 'M' | 'W' | '%' | '@' | '…' | '—' => 0.95,
        c if c.is_ascii_uppercase() => 0.7,
        c if (c as u32) < 0x2e80 => 0.61,
        _ => 1.0,
    };
    size * text.chars().map(letter).sum::<f64>()
}

/// As much of the start of `text` as fits into `room`, with "…" where something is missing.
pub(crate) fn cut(text: &str, size: f64, room: f64) -> Cow<'_, str> {
    if width(text, size) <= room {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    for letter in text.chars() {
        kept.push(letter);
        if width(&kept, size) + width("…", size) > room {
            kept.pop();
            break;
        }
    }
    Cow::Owned(format!("{}…", kept.trim_end()))
}

/// `text` broken at spaces into at most three lines no wider than `room`; none for no text.
pub(crate) fn wrap(text: &str, size: f64, room: f64) -> Vec<String> {
    const LINES: usize = 3;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line, size) + width(" ", size) + width(word, size) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    if lines.len() > LINES {
        let rest = lines.split_off(LINES - 1).join(" ");
        lines.push(rest);
    }
    lines.iter().map(|line| cut(line, size, room).into_owned()).collect()
}

/// One of eight marks around a point; `title` is an element that says what it is of.
pub(crate) fn mark(which: usize, (x, y): (f64, f64), colour: &str, title: &str) -> String {
    let path = |points: &[(f64, f64)]| {
        let places: Vec<String> = points.iter().map(|(dx, dy)| format!("{:.1} {:.1}", x + dx, y + dy)).collect();
        format!("M{}Z", places.join("L"))
    };
    let shape = match which {
        1 => path(&[(-4.0, -4.0), (4.0, -4.0), (4.0, 4.0), (-4.0, 4.0)]),
        2 => path(&[(0.0, -5.4), (5.2, 4.0), (-5.2, 4.0)]),
        3 => path(&[(0.0, -5.8), (5.8, 0.0), (0.0, 5.8), (-5.8, 0.0)]),
        4 => path(&[(0.0, 5.4), (5.2, -4.0), (-5.2, -4.0)]),
        5 => path(&[(-5.4, 0.0), (4.0, 5.2), (4.0, -5.2)]),
        6 => path(&[(5.4, 0.0), (-4.0, 5.2), (-4.0, -5.2)]),
        7 => path(&[
            (-1.9, -5.4),
            (1.9, -5.4),
            (1.9, -1.9),
            (5.4, -1.9),
            (5.4, 1.9),
            (1.9, 1.9),
            (1.9, 5.4),
            (-1.9, 5.4),
            (-1.9, 1.9),
            (-5.4, 1.9),
            (-5.4, -1.9),
            (-1.9, -1.9),
        ]),
        _ => format!("M{:.1} {y:.1}a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0 -8.8 0Z", x - 4.4),
    };
    format!("<path d=\"{shape}\" fill=\"{colour}\" stroke=\"{PAPER}\" stroke-width=\"1\">{title}</path>")
}

/// Where the entries of a legend go that are `widths` wide: from the left of `room`, in as many rows as it takes.
pub(crate) fn flow(widths: &[f64], room: Range<f64>) -> Vec<(f64, usize)> {
    let (mut x, mut row) = (room.start, 0);
    let place = |wide: &f64| {
        if x > room.start && x + wide > room.end {
            (x, row) = (room.start, row + 1);
        }
        let at = (x, row);
        x += wide + 16.0;
        at
    };
    widths.iter().map(place).collect()
}

/// Round numbers that enclose `range`, about `wanted` of them, with at least one step between first and last.
pub(crate) fn ticks(range: Range<f64>, wanted: f64) -> Vec<f64> {
    let (low, high) = (range.start, range.end);
    let span = (high - low).max(1e-9 * low.abs().max(high.abs())).max(1e-12);
    let rough = span / wanted;
    let power = 10f64.powf(rough.log10().floor());
    let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= rough * 0.999).unwrap_or(10.0);
    let first = (low / step + 1e-9).floor();
    let last = (high / step - 1e-9).ceil().max(first + 1.0);
    (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect()
}

/// Decimals that tell numbers `step` apart.
pub(crate) fn decimals(step: f64) -> usize {
    if step > 0.0 && step.is_finite() { (-(step.log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize } else { 0 }
}

/// A number in as few letters as three significant digits allow.
pub(crate) fn short(v: f64) -> String {
    let size = v.abs();
    if !v.is_finite() {
        return "–".into();
    }
    if size > 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{v:.1e}").replace('-', "−");
    }
    let places = if size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 1.0 {
        2
    } else {
        3
    };
    let text = format!("{v:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".into() } else { text.replace('-', "−") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance as WCAG has it.
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let v = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if v <= 0.03928 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    #[test]
    fn colours_of_data_stand_out_from_white_and_from_near_black() {
        let contrast = |a: &str, b: &str| {
            let (a, b) = (luminance(a), luminance(b));
            (a.max(b) + 0.05) / (a.min(b) + 0.05)
        };
        for colour in SERIES {
            assert!(contrast(colour, PAPER) >= 3.0, "{colour} on white: {}", contrast(colour, PAPER));
            assert!(contrast(colour, "#1b1e23") >= 3.0, "{colour} on dark: {}", contrast(colour, "#1b1e23"));
        }
        assert!(contrast(SOFT, PAPER) >= 4.5 && contrast(INK, PAPER) >= 7.0);
    }

    #[test]
    fn ticks_are_round_and_enclose() {
        assert_eq!(ticks(61.0..78.0, 5.0), [60.0, 65.0, 70.0, 75.0, 80.0]);
        assert_eq!(ticks(0.0..100.0, 5.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        for (low, high) in [(0.0, 0.0), (50.0, 50.0), (99.0, 100.0), (1e-9, 2e-9), (1e9, 1e9)] {
            let t = ticks(low..high, 5.0);
            assert!((2..12).contains(&t.len()), "{t:?}");
            assert!(t[0] <= low + 1e-9 && t[t.len() - 1] >= high - 1e-9, "{low} {high} {t:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (1234.4, "1234"),
            (12.345, "12.3"),
            (0.25, "0.25"),
            (-0.0001, "−1.0e−4"),
            (-1.5, "−1.5"),
            (f64::NAN, "–"),
            (2e9, "2.0e9"),
            (100.0, "100"),
        ];
        for (v, text) in cases {
            assert_eq!(short(v), text);
        }
        assert_eq!([decimals(5.0), decimals(0.5), decimals(0.02), decimals(0.0)], [0, 1, 2, 0]);
    }

    #[test]
    fn text_is_cut_and_wrapped() {
        assert_eq!(cut("short", 14.0, 100.0), "short");
        let long = cut("a very long name indeed", 14.0, 80.0);
        assert!(long.ends_with('…') && width(&long, 14.0) <= 80.0, "{long}");
        let lines = wrap(&"word ".repeat(60), 16.0, 200.0);
        assert_eq!(lines.len(), 3);
        assert!(lines[2].ends_with('…') && lines.iter().all(|l| width(l, 16.0) <= 200.0), "{lines:?}");
        assert!(wrap("  ", 16.0, 200.0).is_empty());
        assert_eq!(wrap("unbreakable", 16.0, 20.0).len(), 1);
    }
}
