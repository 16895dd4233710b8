//! Accuracy against the number of pictures per class: the figure by which papers compare few-shot methods.

use std::fmt::Write;

use super::escape;
use super::style::{self, EDGE, GRID, SERIES, SMALL, SOFT, TEXT, WIDTH};
use crate::adapt::method::baseline;
use crate::data::Shots;

/// One method.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// As the legend has it. The series "zero-shot" needs no pictures: it is a dashed line from side to side.
    pub name: String,
    /// What was measured, in any order.
    pub points: Vec<Point>,
}

/// One method's accuracy with one number of pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Pictures per class.
    pub shots: Shots,
    /// Mean accuracy over seeds, 0 to 1.
    pub mean: f64,
    /// Its standard deviation over seeds, in the same unit.
    pub deviation: f64,
}

const LEFT: f64 = 58.0;
const RIGHT: f64 = EDGE;
/// Height of the curves' area.
const PLOT: f64 = 236.0;
/// Room below it for ticks and the axis' name.
const BOTTOM: f64 = 52.0;
/// A legend entry's line and the gap to its name.
const KEY: f64 = 34.0;
const ROW: f64 = 21.0;

/// How one method is drawn.
struct Look {
    colour: &'static str,
    dashes: &'static str,
    /// Which of the eight marks; none for zero-shot.
    mark: Option<usize>,
}

impl Look {
    /// The looks of all series. Colours are given to methods only, so that they keep theirs without zero-shot.
    fn of(series: &[Series]) -> Vec<Look> {
        let mut methods = 0usize;
        let one = |s: &Series| {
            if is_zero_shot(s) {
                return Look { colour: SOFT, dashes: "7 5", mark: None };
            }
            let at = methods % SERIES.len();
            methods += 1;
            Look { colour: SERIES[at], dashes: ["", "", "", "", "9 4", "9 4", "3 3", "3 3"][at], mark: Some(at) }
        };
        series.iter().map(one).collect()
    }

    fn stroke(&self) -> String {
        let dashes =
            if self.dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{}\"", self.dashes) };
        format!("stroke=\"{}\" stroke-width=\"2\" stroke-linejoin=\"round\" fill=\"none\"{dashes}", self.colour)
    }

    /// The mark around a point, with what to say about it.
    fn mark(&self, x: f64, y: f64, title: &str) -> String {
        let Some(mark) = self.mark else { return String::new() };
        style::mark(mark, (x, y), self.colour, title)
    }
}

fn is_zero_shot(series: &Series) -> bool {
    series.name == baseline().info().title
}

/// The points that can be drawn, by number of pictures, the deviations sound and all in percent.
fn sound(series: &Series) -> Vec<Point> {
    let mut points: Vec<Point> = series
        .points
        .iter()
        .filter(|p| p.mean.is_finite())
        .map(|p| Point {
            shots: p.shots,
            mean: 100.0 * p.mean,
            deviation: if p.deviation.is_finite() { 100.0 * p.deviation.abs() } else { 0.0 },
        })
        .collect();
    points.sort_by_key(|p| p.shots);
    points
}

/// A polyline.
fn line(places: &[(f64, f64)]) -> String {
    let places: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    format!("M{}", places.join("L"))
}

/// Where everything is.
struct Frame {
    /// The categories of the x axis: numbers of pictures that methods were measured with.
    shots: Vec<Shots>,
    /// Percents at the y axis, the first at its foot and the last at its head.
    ticks: Vec<f64>,
    /// The upper and the lower edge of the curves' area.
    head: f64,
    base: f64,
}

impl Frame {
    /// The frame below `top` of what `all` the series hold.
    fn of(series: &[Series], all: &[Vec<Point>], top: f64) -> Frame {
        // Zero-shot has no place of its own on the axis, unless it is alone.
        let methods = series.iter().zip(all).filter(|(s, _)| !is_zero_shot(s)).flat_map(|(_, points)| points);
        let mut shots: Vec<Shots> = methods.map(|p| p.shots).collect();
        shots.sort_unstable();
        shots.dedup();
        let (low, high) = all
            .iter()
            .flatten()
            .flat_map(|p| [p.mean - p.deviation, p.mean + p.deviation])
            .fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low > high { (0.0, 100.0) } else { (low.max(0.0), high.min(100.0)) };
        let ticks = style::ticks(low.min(high)..high.max(low), 5.0);
        Frame { shots, ticks, head: top + 30.0, base: top + 30.0 + PLOT }
    }

    /// The width of a category.
    fn category(&self) -> f64 {
        (WIDTH - LEFT - RIGHT) / self.shots.len().max(1) as f64
    }

    fn x(&self, shots: Shots) -> f64 {
        let at = self.shots.iter().position(|s| *s == shots).map_or(0.5, |at| at as f64 + 0.5);
        LEFT + self.category() * at
    }

    fn y(&self, percent: f64) -> f64 {
        let (bottom, top) = (self.ticks[0], self.ticks[self.ticks.len() - 1]);
        self.base - PLOT * ((percent - bottom) / (top - bottom)).clamp(0.0, 1.0)
    }

    /// Both axes with their ticks and names.
    fn axes(&self) -> String {
        let mut out = String::new();
        let base = self.base;
        let places = style::decimals(self.ticks[1] - self.ticks[0]);
        for tick in &self.ticks {
            let at = self.y(*tick);
            let _ = write!(
                out,
                "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"{GRID}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"{SMALL}\" fill=\"{SOFT}\">{tick:.places$}%</text>",
                WIDTH - RIGHT,
                LEFT - 9.0,
                at + 4.5
            );
        }
        let _ = write!(
            out,
            "<path d=\"M{LEFT} {base:.1}H{:.1}\" stroke=\"{SOFT}\"/>\
             <text x=\"{EDGE}\" y=\"{:.1}\" font-size=\"{SMALL}\" fill=\"{SOFT}\">accuracy</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{SOFT}\" font-size=\"{SMALL}\">pictures per class</text>",
            WIDTH - RIGHT,
            self.head - 12.0,
            (LEFT + WIDTH - RIGHT) / 2.0,
            base + 42.0
        );
        // Every category has its tick, its number only where there is room.
        let widest = self.shots.last().map_or(1.0, |s| style::width(&s.to_string(), SMALL) + 8.0);
        let every = (widest / self.category()).ceil().max(1.0) as usize;
        for (i, count) in self.shots.iter().enumerate() {
            let at = self.x(*count);
            let _ = write!(out, "<path d=\"M{at:.1} {base:.1}v5\" stroke=\"{SOFT}\"/>");
            if i % every == 0 {
                let _ = write!(
                    out,
                    "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"{SMALL}\">{count}</text>",
                    base + 20.0
                );
            }
        }
        out
    }
}

/// The legend from `top` on, in as many rows as it takes, and how far down it reaches.
fn legend(series: &[Series], looks: &[Look], top: f64) -> (String, f64) {
    let room = WIDTH - 2.0 * EDGE - KEY;
    let widths: Vec<f64> = series.iter().map(|s| KEY + style::width(&s.name, TEXT).min(room)).collect();
    let entries = style::flow(&widths, EDGE..WIDTH - EDGE);
    let mut out = String::new();
    for ((s, look), (x, row)) in series.iter().zip(looks).zip(&entries) {
        let at = top + ROW * *row as f64 + 8.0;
        let _ = write!(
            out,
            "<path d=\"M{x:.1} {at:.1}h26\" {}/>{}<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            look.stroke(),
            look.mark(x + 13.0, at, ""),
            x + KEY,
            at + 5.0,
            escape(&style::cut(&s.name, TEXT, room))
        );
    }
    (out, top + ROW * entries.last().map_or(0.0, |(_, row)| *row as f64 + 1.0))
}

/// The curves. Bands lie below all lines, lines below all marks: nothing that is drawn to be read is covered.
#[derive(Default)]
struct Curves {
    bands: String,
    lines: String,
    marks: String,
}

impl Curves {
    /// Shades what lies within the deviation of (x, mean, deviation), if any has one.
    fn band(&mut self, look: &Look, places: &[(f64, f64, f64)], frame: &Frame) {
        if !places.iter().any(|(.., d)| *d > 0.0) {
            return;
        }
        let upper = places.iter().map(|(x, v, d)| (*x, frame.y(v + d)));
        let lower = places.iter().rev().map(|(x, v, d)| (*x, frame.y(v - d)));
        let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
        let _ = write!(self.bands, "<path d=\"{}Z\" fill=\"{}\" fill-opacity=\"0.13\"/>", line(&outline), look.colour);
    }

    /// A level from side to side.
    fn zero_shot(&mut self, name: &str, look: &Look, points: &[Point], frame: &Frame) {
        let level = |of: &dyn Fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
        let (mean, deviation) = (level(&|p| p.mean), level(&|p| p.deviation));
        self.band(look, &[(LEFT, mean, deviation), (WIDTH - RIGHT, mean, deviation)], frame);
        let _ = write!(
            self.lines,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" {}><title>{name}: {mean:.1}%</title></path>",
            WIDTH - RIGHT,
            look.stroke(),
            at = frame.y(mean)
        );
    }

    /// A method's curve, `shift` to the right of its categories' middles.
    fn method(&mut self, name: &str, look: &Look, points: &[Point], frame: &Frame, shift: f64) {
        let places: Vec<(f64, f64, f64)> =
            points.iter().map(|p| (frame.x(p.shots) + shift, p.mean, p.deviation)).collect();
        self.band(look, &places, frame);
        let path: Vec<(f64, f64)> = places.iter().map(|(x, v, _)| (*x, frame.y(*v))).collect();
        let _ = write!(self.lines, "<path d=\"{}\" {}/>", line(&path), look.stroke());
        for (point, (x, v, d)) in points.iter().zip(&places) {
            if *d > 0.0 {
                let (low, high) = (frame.y(v - d), frame.y(v + d));
                let _ = write!(
                    self.lines,
                    "<path d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h6M{:.1} {high:.1}h6\" stroke=\"{}\" fill=\"none\"/>",
                    x - 3.0,
                    x - 3.0,
                    look.colour
                );
            }
            let spread = if *d > 0.0 { format!(" ± {d:.1}") } else { String::new() };
            let title = format!("<title>{name}, {} per class: {v:.1}{spread}%</title>", point.shots);
            self.marks += &look.mark(*x, frame.y(*v), &title);
        }
    }
}

/// An SVG document with accuracy in percent over pictures per class: every method's mean as a line, and its deviation
/// over seeds as a band with whiskers. Numbers of pictures are evenly spaced. Points that are not finite are left out.
pub fn accuracy_plot(title: &str, series: &[Series]) -> String {
    let looks = Look::of(series);
    let all: Vec<Vec<Point>> = series.iter().map(sound).collect();
    let (heading, y) = style::heading(title);
    let (legend, y) = legend(series, &looks, y);
    let frame = Frame::of(series, &all, y);

    let drawn = series.iter().filter(|s| !is_zero_shot(s)).count();
    let spread =
        series.iter().zip(&all).any(|(s, points)| !is_zero_shot(s) && points.iter().any(|p| p.deviation > 0.0));
    // Whiskers of different methods stand beside each other instead of hiding each other.
    let apart = if spread { (frame.category() / 24.0).min(3.0) } else { 0.0 };
    let mut nth = 0usize;
    let mut curves = Curves::default();
    for ((s, look), points) in series.iter().zip(&looks).zip(&all).filter(|(_, points)| !points.is_empty()) {
        let name = escape(&s.name);
        if is_zero_shot(s) {
            curves.zero_shot(&name, look, points, &frame);
        } else {
            curves.method(&name, look, points, &frame, (nth as f64 - (drawn as f64 - 1.0) / 2.0) * apart);
            nth += 1;
        }
    }
    let Curves { bands, lines, marks } = curves;
    let open = style::open(title, WIDTH, frame.base + BOTTOM, TEXT);
    [open, heading, legend, frame.axes(), bands, lines, marks, "</svg>".into()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(usize, f64, f64)]) -> Series {
        let points =
            points.iter().map(|&(shots, mean, deviation)| Point { shots: shots.into(), mean, deviation }).collect();
        Series { name: name.into(), points }
    }

    /// The end points of the first path that is stroked with `colour` after the legend's.
    fn places(svg: &str, colour: &str) -> Vec<(f64, f64)> {
        let stroke = format!("\" stroke=\"{colour}\" stroke-width=\"2\"");
        let path = svg.split("<path d=\"M").filter_map(|p| p.split_once(&stroke)).nth(1).unwrap().0;
        path.split('L')
            .map(|p| p.split_once(' ').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect()
    }

    #[test]
    fn shots_are_evenly_spaced_and_more_accuracy_is_higher() {
        let tip = series("tip <a>", &[(16, 0.72, 0.004), (1, 0.61, 0.02), (4, 0.66, 0.01), (2, 0.64, 0.0)]);
        let svg = accuracy_plot("a & b", &[series("zero-shot", &[(0, 0.58, 0.0)]), tip]);
        let p = places(&svg, SERIES[0]);
        assert_eq!(p.len(), 4);
        for pair in p.windows(2) {
            assert!((pair[1].0 - pair[0].0 - (WIDTH - LEFT - RIGHT) / 4.0).abs() < 0.2, "{p:?}");
            assert!(pair[1].1 < pair[0].1, "{p:?}");
        }
        assert!(svg.contains("tip &lt;a&gt;") && svg.contains("a &amp; b") && !svg.contains("<a>"));
        assert!(svg.contains("tip &lt;a&gt;, 16 per class: 72.0 ± 0.4%") && svg.contains("zero-shot: 58.0%"));
        assert!(svg.contains(">60%</text>") && svg.contains(">16</text>") && !svg.contains(">0</text>"));
        assert_eq!(svg.matches("stroke-dasharray").count(), 2, "zero-shot alone is dashed, here and in the legend");
        crate::report::png(&svg).unwrap();
    }

    #[test]
    fn eight_methods_differ_in_colour_and_in_mark() {
        let all: Vec<Series> =
            (0..8).map(|i| series(&format!("method number {i}"), &[(1, 0.1 * f64::from(i), 0.01)])).collect();
        let looks = Look::of(&all);
        let different =
            |of: &dyn Fn(&Look) -> String| looks.iter().map(of).collect::<std::collections::HashSet<_>>().len();
        assert_eq!(different(&|l| l.colour.into()), 8);
        assert_eq!(different(&|l| l.mark(0.0, 0.0, "").split("\" fill").next().unwrap().into()), 8);
        let svg = accuracy_plot("many", &all);
        crate::report::png(&svg).unwrap();
        // The legend wraps: no entry begins beyond the paper.
        for part in svg.split("<text x=\"").skip(1) {
            let x: f64 = part.split('"').next().unwrap().parse().unwrap();
            assert!(x < WIDTH - EDGE, "{x}");
        }
    }

    #[test]
    fn nothing_sound_to_draw_is_no_reason_to_fail() {
        let odd = [
            vec![],
            vec![series("none", &[])],
            vec![series("zero-shot", &[(0, 0.5, 0.0)])],
            vec![series("bad", &[(1, f64::NAN, 0.1), (2, f64::INFINITY, 0.0)])],
            vec![series("one", &[(4, 0.5, f64::NAN)])],
            vec![series("ends", &[(1, 0.0, 0.1), (2, 1.0, 0.2)])],
            vec![series("beyond", &[(1, 1.7, 0.0), (2, -3.0, 9.0)])],
        ];
        for all in odd {
            let svg = accuracy_plot("", &all);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            crate::report::png(&svg).unwrap();
        }
    }
}
