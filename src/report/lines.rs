//! Curves over two logarithmic axes as SVG: cost as work grows, where a straight line is a power of the size.

use std::fmt::Write;

use super::style::{EDGE, GRID};
use super::{escape, style};

/// A named curve; its points have positive coordinates.
#[derive(Clone, Debug)]
pub struct Curve {
    /// As the legend has it.
    pub name: String,
    /// x and y.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = style::WIDTH;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
/// Height of the curves' area.
const PLOT: f64 = 236.0;
const BOTTOM: f64 = 52.0;
/// From one entry of the legend to the next.
const ROW: f64 = 20.0;

/// 1, 2 and 5 times powers of ten from the last at or below `low` to the first at or above `high`.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all: Vec<f64> = decades.flat_map(|d| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(d))).collect();
    let slack = 1.0 + 1e-9;
    let first = all.iter().rposition(|t| *t <= low * slack).unwrap_or(0);
    let last = all.iter().position(|t| *t * slack >= high).unwrap_or(all.len() - 1);
    all[first..=last.max(first)].to_vec()
}

/// A number without needless zeros.
fn label(v: f64) -> String {
    if v >= 1e4 { format!("{}k", v / 1e3) } else { format!("{}", (v * 1e6).round() / 1e6) }
}

/// An SVG document with the curves, both axes logarithmic. Points that are not positive and finite are left out.
pub fn line_plot(title: &str, x_name: &str, y_name: &str, curves: &[Curve]) -> String {
    let sound = |p: &&(f64, f64)| p.0 > 0.0 && p.1 > 0.0 && p.0.is_finite() && p.1.is_finite();
    let all = || curves.iter().flat_map(|c| c.points.iter().filter(sound));
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = all().map(of).fold((f64::MAX, 0f64), |(l, h), v| (l.min(v), h.max(v)));
        if high > 0.0 { ticks(low, high) } else { vec![1.0, 10.0] }
    };
    let (xs, ys) = (range(|p| p.0), range(|p| p.1));
    let place = |v: f64, ticks: &[f64], from: f64, to: f64| {
        let (low, high) = (ticks[0].ln(), ticks[ticks.len() - 1].ln());
        from + (to - from) * if high > low { (v.ln() - low) / (high - low) } else { 0.5 }
    };
    let (heading, legend) = style::heading(title);
    let top = legend + ROW * curves.len() as f64 + 12.0;
    let base = top + PLOT;
    let x = |v: f64| place(v, &xs, LEFT, WIDTH - RIGHT);
    let y = |v: f64| place(v, &ys, base, top);
    let mut out = style::open(title, WIDTH, base + BOTTOM, style::SMALL);
    out += &heading;
    for tick in &xs {
        let _ = write!(
            out,
            "<path d=\"M{x:.1} {top:.1}V{base:.1}\" stroke=\"{GRID}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            base + 20.0,
            label(*tick),
            x = x(*tick)
        );
    }
    for tick in &ys {
        let _ = write!(
            out,
            "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"{GRID}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(*tick) + 4.0,
            label(*tick),
            y = y(*tick)
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(22 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        base + 42.0,
        escape(x_name),
        (top + base) / 2.0,
        escape(y_name)
    );
    for (i, curve) in curves.iter().enumerate() {
        let colour = style::SERIES[i % style::SERIES.len()];
        let dashes = if i == 0 { "" } else { " stroke-dasharray=\"5 4\"" };
        let at = legend + ROW * i as f64 + 8.0;
        let _ = write!(
            out,
            "<path d=\"M{EDGE} {at}h24\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            EDGE + 32.0,
            at + 4.5,
            escape(&style::cut(&curve.name, style::SMALL, WIDTH - 2.0 * EDGE - 32.0))
        );
        let places: Vec<(f64, f64)> = curve.points.iter().filter(sound).map(|p| (x(p.0), y(p.1))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let _ = write!(
            out,
            "<path d=\"M{}\" stroke=\"{colour}\" stroke-width=\"2\" fill=\"none\"{dashes}/>",
            path.join("L")
        );
        if i == 0 {
            for (x, y) in places {
                let _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
            }
        }
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::{Curve, line_plot, ticks};

    #[test]
    fn ticks_enclose_the_range() {
        assert_eq!(ticks(3.0, 40.0), [2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(ticks(10.0, 1000.0), [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]);
        assert_eq!(ticks(7.0, 7.0).len(), 2);
    }

    #[test]
    fn a_power_is_a_straight_line_and_the_plot_renders() {
        let points: Vec<(f64, f64)> = [1.0, 10.0, 100.0].map(|x: f64| (x, 0.01 * x.powf(1.5))).to_vec();
        let text = line_plot("a < b", "size", "seconds", &[Curve { name: "measured".into(), points }]);
        assert!(text.contains("a &lt; b"));
        let centres: Vec<(f64, f64)> = text
            .split("<circle cx=\"")
            .skip(1)
            .map(|part| {
                let (x, rest) = part.split_once("\" cy=\"").unwrap();
                (x.parse().unwrap(), rest.split_once('"').unwrap().0.parse().unwrap())
            })
            .collect();
        assert_eq!(centres.len(), 3);
        assert!((centres[1].0 - (centres[0].0 + centres[2].0) / 2.0).abs() < 0.2);
        assert!((centres[1].1 - (centres[0].1 + centres[2].1) / 2.0).abs() < 0.2);
        assert!(centres[2].1 < centres[0].1, "larger is higher");
        assert!(crate::report::png(&text).is_ok());
        // Nothing sound to draw is no reason to fail.
        let nothing = [Curve { name: "none".into(), points: vec![(0.0, 1.0), (1.0, f64::NAN)] }];
        assert!(crate::report::png(&line_plot("empty", "x", "y", &nothing)).is_ok());
    }
}
