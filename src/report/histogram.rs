//! Similarity histograms as SVG: pairs of one class against pairs of different classes, and the area they share.

use std::fmt::Write;

use super::style::{SMALL, SOFT};
use super::{escape, style};
use crate::adapt::similarity::{BINS, Similarities};

/// One pair of histograms.
pub struct Panel<'a> {
    title: &'a str,
    similarities: &'a Similarities,
}

impl<'a> Panel<'a> {
    /// A panel with a title.
    pub fn new(title: &'a str, similarities: &'a Similarities) -> Self {
        Panel { title, similarities }
    }
}

const WIDTH: f64 = style::WIDTH;
const PANEL: f64 = 232.0;
const TOP: f64 = 92.0;
const LEFT: f64 = style::EDGE;
const PLOT: f64 = WIDTH - 2.0 * LEFT;
/// Height of the curves' area in a panel.
const CURVES: f64 = 160.0;
const SAME: &str = style::SERIES[0];
const DIFFERENT: &str = style::SERIES[1];
const SHARED: &str = style::SERIES[3];

/// The first and the last bin in use by any panel, with a little room.
fn bins_in_use(panels: &[Panel<'_>]) -> (usize, usize) {
    let some = |counts: &[u64], bin: usize| counts.get(bin).is_some_and(|count| *count > 0);
    let used =
        |bin: &usize| panels.iter().any(|p| some(&p.similarities.same, *bin) || some(&p.similarities.different, *bin));
    let first = (0..BINS).find(used).unwrap_or(0).saturating_sub(1);
    let last = (0..BINS).rev().find(used).unwrap_or(BINS - 1);
    (first, (last + 2).min(BINS))
}

/// Shares of all pairs by bin.
fn density(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count)).max(1) as f64;
    let mut shares: Vec<f64> = counts.iter().take(BINS).map(|c| *c as f64 / total).collect();
    // A histogram that is too short has nothing in its last bins.
    shares.resize(BINS, 0.0);
    shares
}

/// A closed step curve over the bins `first..last`.
fn steps(values: &[f64], (first, last): (usize, usize), top: f64, base: f64) -> String {
    let width = PLOT / (last - first) as f64;
    let mut path = format!("M{LEFT:.1} {base:.1}");
    for (i, value) in values.iter().take(last).skip(first).enumerate() {
        let y = base - CURVES * value / top;
        let x = LEFT + i as f64 * width;
        let _ = write!(path, "L{x:.1} {y:.1}L{:.1} {y:.1}", x + width);
    }
    let _ = write!(path, "L{:.1} {base:.1}Z", LEFT + PLOT);
    path
}

/// An SVG document with one panel below the other, all over the same similarities.
pub fn svg(title: &str, panels: &[Panel<'_>]) -> String {
    let range = bins_in_use(panels);
    let height = TOP + PANEL * panels.len() as f64;
    let mut out = style::open(title, WIDTH, height, style::TEXT);
    let _ = write!(
        out,
        "<text x=\"{LEFT}\" y=\"27\" font-size=\"{}\" font-weight=\"600\">Cosine similarities of pairs</text>\
         <text x=\"{LEFT}\" y=\"48\">{}</text>",
        style::TITLE,
        escape(&style::cut(title, style::TEXT, PLOT))
    );
    let legend = [(SAME, "one class"), (DIFFERENT, "different classes"), (SHARED, "shared area")];
    let widths = legend.map(|(_, name)| 20.0 + style::width(name, style::TEXT));
    for ((colour, name), (x, _)) in legend.into_iter().zip(style::flow(&widths, LEFT..LEFT + PLOT)) {
        let _ = write!(
            out,
            "<rect x=\"{x}\" y=\"62\" width=\"14\" height=\"14\" rx=\"2\" fill=\"{colour}\" fill-opacity=\"0.75\"/>\
             <text x=\"{}\" y=\"74\">{name}</text>",
            x + 20.0
        );
    }
    for (number, panel) in panels.iter().enumerate() {
        let base = TOP + PANEL * number as f64 + 28.0 + CURVES;
        let (same, different) = (density(&panel.similarities.same), density(&panel.similarities.different));
        let shared: Vec<f64> = same.iter().zip(&different).map(|(s, d)| s.min(*d)).collect();
        let top = same.iter().chain(&different).fold(1e-12, |m: f64, v| m.max(*v));
        let _ = write!(
            out,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-size=\"{SMALL}\">{}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"{SMALL}\">overlap {:.4}, feature variance {:.4}</text>",
            base - CURVES - 10.0,
            escape(&style::cut(panel.title, SMALL, 150.0)),
            LEFT + PLOT,
            base - CURVES - 10.0,
            panel.similarities.overlap(),
            panel.similarities.variance
        );
        for (values, colour, opacity) in [(&same, SAME, 0.45), (&different, DIFFERENT, 0.45), (&shared, SHARED, 0.75)] {
            let _ = write!(
                out,
                "<path d=\"{}\" fill=\"{colour}\" fill-opacity=\"{opacity}\" stroke=\"{colour}\"/>",
                steps(values, range, top, base)
            );
        }
        let _ = write!(out, "<path d=\"M{LEFT} {base:.1}H{:.1}\" stroke=\"{SOFT}\" fill=\"none\"/>", LEFT + PLOT);
        // A tick at every tenth or fifth, whichever leaves room.
        let (low, high) = (-1.0 + 2.0 * range.0 as f64 / BINS as f64, -1.0 + 2.0 * range.1 as f64 / BINS as f64);
        let unit = if high - low > 1.0 { 0.2 } else { 0.1 };
        let mut tick = (low / unit).ceil() as i64;
        while tick as f64 * unit <= high + 1e-9 {
            let value = tick as f64 * unit;
            let x = LEFT + PLOT * (value - low) / (high - low);
            let _ = write!(
                out,
                "<path d=\"M{x:.1} {base:.1}v5\" stroke=\"{SOFT}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"{SMALL}\" fill=\"{SOFT}\">{value:.1}</text>",
                base + 20.0
            );
            tick += 1;
        }
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plot_shows_both_panels_and_their_numbers_and_renders() {
        let mut s = Similarities { same: vec![0; BINS], different: vec![0; BINS], variance: 0.25 };
        s.same[60] = 10;
        s.same[61] = 30;
        s.different[61] = 5;
        s.different[40] = 15;
        let text = svg("3 < 4 & more", &[Panel::new("before", &s), Panel::new("after", &s)]);
        assert_eq!(text.matches("overlap 0.2500, feature variance 0.2500").count(), 2);
        assert!(text.contains("3 &lt; 4 &amp; more"));
        let png = crate::report::png(&text).unwrap();
        let picture = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(f64::from(picture.width()), 2.0 * WIDTH);
        // Letters and all three colours are there.
        let has = |test: &dyn Fn([u8; 3]) -> bool| picture.pixels().filter(|p| test(p.0)).count();
        assert!(has(&|[r, g, b]| b > 200 && r < 180 && g < 200) > 100, "blue");
        assert!(has(&|[r, g, b]| r > 200 && b < 170 && g < 220) > 100, "orange");
        let title = picture.enumerate_pixels().filter(|(_, y, p)| *y < 80 && p.0[0] < 120).count();
        assert!(title > 200, "the title has no letters: {title} dark pixels");
        assert!(crate::report::png("<svg").is_err());
    }
}
