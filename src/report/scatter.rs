//! Points over two axes as SVG, with the line that comes nearest to them: whether one thing goes with another.

use std::fmt::Write;
use std::ops::Range;

use super::escape;
use super::style::{self, EDGE, GRID, SERIES, SMALL, SOFT, TEXT, WIDTH};

/// A point.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    /// Along the x axis.
    pub x: f64,
    /// Along the y axis.
    pub y: f64,
    /// What it is of, for the pointer.
    pub name: String,
}

/// Points that look alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Dots {
    /// As the legend has it.
    pub name: String,
    /// Their colour, by number.
    pub colour: usize,
    /// Their mark, by number: one of eight.
    pub mark: usize,
    /// The points. Those that are not finite are left out.
    pub dots: Vec<Dot>,
}

const LEFT: f64 = 66.0;
const RIGHT: f64 = EDGE;
/// Height of the points' area.
const PLOT: f64 = 236.0;
/// Room below it for ticks and the axis' name.
const BOTTOM: f64 = 52.0;
/// A legend entry's mark and the gap to its name.
const KEY: f64 = 20.0;
const ROW: f64 = 21.0;

/// An axis: numbers from its first tick to its last, and places from `at.start` to `at.end`.
struct Axis {
    ticks: Vec<f64>,
    at: Range<f64>,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, at: Range<f64>) -> Axis {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let range = if low > high { 0.0..1.0 } else { low..high };
        Axis { ticks: style::ticks(range, 5.0), at }
    }

    fn ends(&self) -> (f64, f64) {
        (self.ticks[0], self.ticks[self.ticks.len() - 1])
    }

    fn place(&self, value: f64) -> f64 {
        let (low, high) = self.ends();
        self.at.start + (self.at.end - self.at.start) * ((value - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// A tick's number.
    fn label(&self, tick: f64) -> String {
        let places = style::decimals(self.ticks[1] - self.ticks[0]);
        format!("{tick:.places$}").replace('-', "−")
    }
}

/// Slope and height at 0 of the line with the least squares of vertical distances; none where all points are above each other.
fn nearest(dots: &[&Dot]) -> Option<(f64, f64)> {
    let n = dots.len() as f64;
    let mean = |of: &dyn Fn(&Dot) -> f64| dots.iter().map(|dot| of(dot)).sum::<f64>() / n;
    let (mx, my) = (mean(&|dot| dot.x), mean(&|dot| dot.y));
    let (xx, xy) = (mean(&|dot| (dot.x - mx).powi(2)), mean(&|dot| (dot.x - mx) * (dot.y - my)));
    let slope = xy / xx;
    (dots.len() > 1 && slope.is_finite()).then_some((slope, my - slope * mx))
}

/// An SVG document with the points, the line nearest to all of them, and a note below the title.
pub fn scatter(title: &str, note: &str, (x_name, y_name): (&str, &str), series: &[Dots]) -> String {
    let sound = |dot: &&Dot| dot.x.is_finite() && dot.y.is_finite();
    let all: Vec<&Dot> = series.iter().flat_map(|s| s.dots.iter().filter(sound)).collect();
    let (heading, mut y) = style::heading(title);
    let mut out = String::new();
    if !note.is_empty() {
        y += 6.0;
        let note = escape(&style::cut(note, SMALL, WIDTH - 2.0 * EDGE));
        let _ = write!(out, "<text x=\"{EDGE}\" y=\"{y:.1}\" font-size=\"{SMALL}\" fill=\"{SOFT}\">{note}</text>");
        y += 12.0;
    }
    let room = WIDTH - 2.0 * EDGE - KEY;
    let widths: Vec<f64> = series.iter().map(|s| KEY + style::width(&s.name, TEXT).min(room)).collect();
    let entries = style::flow(&widths, EDGE..WIDTH - EDGE);
    let colour = |s: &Dots| SERIES[s.colour % SERIES.len()];
    for (s, (x, row)) in series.iter().zip(&entries) {
        let at = y + ROW * *row as f64 + 8.0;
        out += &style::mark(s.mark, (x + 6.0, at), colour(s), "");
        let name = escape(&style::cut(&s.name, TEXT, room));
        let _ = write!(out, "<text x=\"{:.1}\" y=\"{:.1}\">{name}</text>", x + KEY, at + 5.0);
    }
    let head = y + ROW * entries.last().map_or(0.0, |(_, row)| *row as f64 + 1.0) + 30.0;
    let base = head + PLOT;
    let across = Axis::of(all.iter().map(|dot| dot.x), LEFT..WIDTH - RIGHT - 10.0);
    let up = Axis::of(all.iter().map(|dot| dot.y), base..head);
    for tick in &up.ticks {
        let at = up.place(*tick);
        let _ = write!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"{GRID}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"{SMALL}\" fill=\"{SOFT}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 9.0,
            at + 4.5,
            up.label(*tick)
        );
    }
    for tick in &across.ticks {
        let _ = write!(
            out,
            "<path d=\"M{at:.1} {base:.1}v5\" stroke=\"{SOFT}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"{SMALL}\">{}</text>",
            base + 20.0,
            across.label(*tick),
            at = across.place(*tick)
        );
    }
    let _ = write!(
        out,
        "<path d=\"M{LEFT} {base:.1}H{:.1}\" stroke=\"{SOFT}\"/>\
         <text x=\"{EDGE}\" y=\"{:.1}\" font-size=\"{SMALL}\" fill=\"{SOFT}\">{}</text>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{SOFT}\" font-size=\"{SMALL}\">{}</text>",
        WIDTH - RIGHT,
        head - 12.0,
        escape(y_name),
        (LEFT + WIDTH - RIGHT) / 2.0,
        base + 42.0,
        escape(x_name)
    );
    if let Some((slope, zero)) = nearest(&all) {
        // As far as both axes reach.
        let ((left, right), (low, high)) = (across.ends(), up.ends());
        let points: Vec<String> = (0..=64)
            .map(|i| left + (right - left) * f64::from(i) / 64.0)
            .map(|x| (x, zero + slope * x))
            .filter(|(_, y)| (low..=high).contains(y))
            .map(|(x, y)| format!("{:.1} {:.1}", across.place(x), up.place(y)))
            .collect();
        if points.len() > 1 {
            let _ = write!(
                out,
                "<path d=\"M{}\" stroke=\"{SOFT}\" stroke-width=\"1.5\" stroke-dasharray=\"7 5\" fill=\"none\"/>",
                points.join("L")
            );
        }
    }
    for s in series {
        for dot in s.dots.iter().filter(sound) {
            let name = format!("<title>{}</title>", escape(&dot.name));
            out += &style::mark(s.mark, (across.place(dot.x), up.place(dot.y)), colour(s), &name);
        }
    }
    [style::open(title, WIDTH, base + BOTTOM, TEXT), heading, out, "</svg>".into()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dots(points: &[(f64, f64)]) -> Dots {
        let dot = |(i, (x, y)): (usize, &(f64, f64))| Dot { x: *x, y: *y, name: format!("number {i} <b>") };
        Dots { name: "some & more".into(), colour: 1, mark: 0, dots: points.iter().enumerate().map(dot).collect() }
    }

    #[test]
    fn points_lie_where_their_numbers_say() {
        let svg = scatter("a < b", "r = 1", ("size", "weight"), &[dots(&[(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)])]);
        assert!(svg.contains("a &lt; b") && svg.contains("some &amp; more") && svg.contains("number 2 &lt;b&gt;"));
        assert!(svg.contains(">r = 1<") && svg.contains(">size<") && svg.contains(">weight<"));
        let places: Vec<(f64, f64)> = svg
            .split("<path d=\"M")
            .filter(|part| part.contains("<title>number"))
            .map(|part| part.split_once('a').unwrap().0.split_once(' ').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        assert_eq!(places.len(), 3);
        assert!((places[1].0 - (places[0].0 + places[2].0) / 2.0).abs() < 0.2, "{places:?}");
        assert!((places[1].1 - (places[0].1 + places[2].1) / 2.0).abs() < 0.2, "{places:?}");
        assert!(places[2].0 > places[0].0 && places[2].1 < places[0].1, "{places:?}");
        crate::report::png(&svg).unwrap();
    }

    #[test]
    fn the_line_has_the_least_squares() {
        let series = dots(&[(0.0, 1.0), (1.0, 2.0), (2.0, 6.0), (5.0, 3.0)]);
        let all: Vec<&Dot> = series.dots.iter().collect();
        let (slope, zero) = nearest(&all).unwrap();
        let squares = |slope: f64, zero: f64| all.iter().map(|d| (d.y - zero - slope * d.x).powi(2)).sum::<f64>();
        let least = squares(slope, zero);
        for (a, b) in [(0.01, 0.0), (-0.01, 0.0), (0.0, 0.01), (0.0, -0.01)] {
            assert!(squares(slope + a, zero + b) > least);
        }
        assert_eq!(nearest(&all[..1]), None);
        let above = dots(&[(1.0, 1.0), (1.0, 2.0)]);
        assert_eq!(nearest(&above.dots.iter().collect::<Vec<_>>()), None);
    }

    #[test]
    fn nothing_sound_to_draw_is_no_reason_to_fail() {
        for all in
            [vec![], vec![dots(&[])], vec![dots(&[(f64::NAN, 1.0), (1.0, f64::INFINITY)])], vec![dots(&[(1.0, 1.0)])]]
        {
            let svg = scatter("", "", ("", ""), &all);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            crate::report::png(&svg).unwrap();
        }
    }
}
