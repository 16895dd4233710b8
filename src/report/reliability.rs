//! Reliability: how often predictions are right, against how sure they are.

use std::fmt::Write;

use super::style::{self, EDGE, GRID, SERIES, SMALL, SOFT, TEXT, TITLE, WIDTH};

/// The predictions of about one confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Their mean confidence, 0 to 1.
    pub confidence: f64,
    /// The share that is right, 0 to 1.
    pub accuracy: f64,
    /// How many they are; the bin is left empty when there are none.
    pub count: u64,
}

const LEFT: f64 = 52.0;
/// Between two panels: room for the second's first label.
const GAP: f64 = 26.0;
/// The sides of a panel's square, when it is one of two and when it is alone.
const HALF: f64 = (WIDTH - LEFT - EDGE - GAP - 6.0) / 2.0;
const WHOLE: f64 = 280.0;
/// Height of the histogram below.
const COUNTS: f64 = 40.0;
const RIGHT: &str = SERIES[0];
const OFF: &str = SERIES[1];

/// A share without what cannot be drawn.
fn sound(share: f64) -> f64 {
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

/// Where each bin lies, 0 to 1. Bins that divide the whole range evenly stand where they belong; others, such as what is
/// left when empty bins were dropped, stand around their confidence.
fn spans(bins: &[Bin]) -> Vec<(f64, f64)> {
    let width = 1.0 / bins.len().max(1) as f64;
    let even = bins.iter().enumerate().all(|(i, bin)| {
        let middle = (i as f64 + 0.5) * width;
        bin.count == 0 || (sound(bin.confidence) - middle).abs() <= width / 2.0 + 1e-6
    });
    let place = |(i, bin): (usize, &Bin)| {
        if even {
            return (i as f64 * width, (i + 1) as f64 * width);
        }
        let half = width.min(0.1) / 2.0;
        let middle = sound(bin.confidence).clamp(half, 1.0 - half);
        (middle - half, middle + half)
    };
    bins.iter().enumerate().map(place).collect()
}

/// A share as percent with one decimal.
fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}%", 100.0 * share) } else { "–".into() }
}

/// One panel with its upper left corner at (`left`, `top`).
fn panel(out: &mut String, bins: &[Bin], (left, top): (f64, f64), side: f64, first: bool) {
    let base = top + side;
    let (x, y) = (|share: f64| left + side * share, |share: f64| base - side * share);
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = write!(out, "<path d=\"M{left:.1} {y:.1}h{side:.1}\" stroke=\"{GRID}\"/>", y = y(tick));
        if first && tick != 0.25 && tick != 0.75 {
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"{SMALL}\" fill=\"{SOFT}\">{}%</text>",
                left - 8.0,
                y(tick) + 4.5,
                100.0 * tick
            );
        }
    }
    let most = bins.iter().map(|b| b.count).max().unwrap_or(0).max(1) as f64;
    let all = bins.iter().map(|b| b.count as f64).sum::<f64>().max(1.0);
    let floor = base + 30.0 + COUNTS;
    for (bin, (from, to)) in bins.iter().zip(spans(bins)) {
        if bin.count == 0 {
            continue;
        }
        let (right, sure) = (sound(bin.accuracy), sound(bin.confidence));
        let (from, wide) = (x(from) + 0.75, (side * (to - from) - 1.5).max(1.0));
        let bar = |low: f64, high: f64| {
            format!("x=\"{from:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"", y(high), side * (high - low))
        };
        let said = format!(
            "<title>{} of {} right at {} confidence</title>",
            percent(bin.accuracy),
            bin.count,
            percent(bin.confidence)
        );
        let _ = write!(
            out,
            "<g>{said}<rect {} fill=\"{RIGHT}\" fill-opacity=\"0.75\"/>\
             <rect {} fill=\"{OFF}\" fill-opacity=\"0.3\" stroke=\"{OFF}\"/></g>",
            bar(0.0, right),
            bar(right.min(sure), right.max(sure))
        );
        let tall = (COUNTS * bin.count as f64 / most).max(1.0);
        let _ = write!(
            out,
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\" fill=\"{SOFT}\">\
             <title>{} predictions, {}</title></rect>",
            floor - tall,
            bin.count,
            percent(bin.count as f64 / all)
        );
    }
    let _ = write!(
        out,
        "<path d=\"M{left:.1} {base:.1}L{:.1} {top:.1}\" stroke=\"{SOFT}\" stroke-dasharray=\"4 4\" fill=\"none\"/>\
         <path d=\"M{left:.1} {base:.1}h{side:.1}M{left:.1} {floor:.1}h{side:.1}\" stroke=\"{SOFT}\" fill=\"none\"/>",
        left + side
    );
    for (share, anchor) in [(0.0, "start"), (0.5, "middle"), (1.0, "end")] {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" font-size=\"{SMALL}\" fill=\"{SOFT}\">{}%</text>",
            x(share),
            base + 18.0,
            100.0 * share
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"{SMALL}\" fill=\"{SOFT}\">confidence</text>",
        left + side / 2.0,
        floor + 20.0
    );
}

/// An SVG document with a panel for the predictions as they are, with their expected calibration error, and if there is
/// one another for those `after` scaling, with its error and its temperature. Each has a bar per bin for the share that
/// is right, with the gap to the confidence shaded, and below it how the predictions are spread over the bins.
pub fn reliability(title: &str, before: (&[Bin], f64), after: Option<(&[Bin], f64, f64)>) -> String {
    let (heading, y) = style::heading(title);
    let side = if after.is_some() { HALF } else { WHOLE };
    // A panel that is alone stands in the middle.
    let left = if after.is_some() { LEFT } else { ((WIDTH - WHOLE) / 2.0).max(LEFT) };
    let top = y + 74.0;
    let height = top + side + 30.0 + COUNTS + 32.0;
    let mut out = style::open(title, WIDTH, height.ceil(), TEXT);
    out += &heading;
    let mut x = EDGE;
    for (colour, opacity, name) in [(RIGHT, "0.75", "share right"), (OFF, "0.3", "gap to confidence")] {
        let _ = write!(
            out,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"13\" height=\"13\" fill=\"{colour}\" fill-opacity=\"{opacity}\" \
             stroke=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            y + 2.0,
            x + 21.0,
            y + 13.0
        );
        x += 21.0 + style::width(name, TEXT) + 18.0;
    }
    let mut one = |bins: &[Bin], name: &str, error: f64, left: f64, first: bool| {
        let error = if error.is_finite() { format!("ECE {:.2}%", 100.0 * error) } else { "ECE –".to_owned() };
        let _ = write!(
            out,
            "<text x=\"{left:.1}\" y=\"{:.1}\" font-size=\"{SMALL}\" fill=\"{SOFT}\">{name}</text>\
             <text x=\"{left:.1}\" y=\"{:.1}\" font-size=\"{TITLE}\" font-weight=\"600\">{error}</text>",
            top - 32.0,
            top - 12.0
        );
        panel(&mut out, bins, (left, top), side, first);
    };
    one(before.0, if after.is_some() { "before" } else { "as predicted" }, before.1, left, true);
    if let Some((bins, error, temperature)) = after {
        let name = format!("after, temperature {}", style::short(temperature));
        one(bins, &name, error, left + side + GAP, false);
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bins(shift: f64) -> Vec<Bin> {
        let one = |i: usize| {
            let confidence = (i as f64 + 0.6) / 10.0;
            Bin { confidence, accuracy: (confidence - shift).max(0.0), count: (i * i) as u64 }
        };
        (0..10).map(one).collect()
    }

    #[test]
    fn both_panels_name_their_error_and_render() {
        let (before, after) = (bins(0.2), bins(0.02));
        let svg = reliability("a < b", (&before, 0.0843), Some((&after, 0.0123, 1.4567)));
        for text in ["ECE 8.43%", "ECE 1.23%", "temperature 1.46", "a &lt; b", "76.0% of 81 right at 96.0% confidence"]
        {
            assert!(svg.contains(text), "{text}");
        }
        // Nine bins with anything in them, twice: the share, the gap and the count.
        assert_eq!(svg.matches("<rect x=").count(), 2 + 2 * 9 * 3);
        crate::report::png(&svg).unwrap();
        let alone = reliability("one", (&before, 0.0843), None);
        assert!(!alone.contains("temperature") && alone.matches("ECE").count() == 1);
        crate::report::png(&alone).unwrap();
    }

    #[test]
    fn bins_stand_where_they_belong() {
        assert_eq!(spans(&bins(0.0))[9], (0.9, 1.0));
        // Only the two highest were kept.
        let kept = &bins(0.0)[8..];
        let places = spans(kept);
        assert!((places[0].0 - 0.81).abs() < 1e-9 && (places[1].1 - 1.0).abs() < 1e-9, "{places:?}");
    }

    #[test]
    fn nothing_sound_to_draw_is_no_reason_to_fail() {
        let odd = Bin { confidence: f64::NAN, accuracy: f64::INFINITY, count: 3 };
        let none = Bin { confidence: 0.0, accuracy: 0.0, count: 0 };
        for all in [vec![], vec![odd], vec![none; 15], vec![odd, none, odd]] {
            let svg = reliability("", (&all, f64::NAN), Some((&all, f64::NAN, f64::NAN)));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            crate::report::png(&svg).unwrap();
        }
    }
}
