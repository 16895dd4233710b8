//! Plots of single results.

use crate::adapt::calibrate::Reliability;
use crate::eval::{Detail, NoiseMap, Record, SearchMap};
use crate::report::{Bin, Heat, heat_map, reliability};

fn labels(values: &[f64]) -> Vec<String> {
    values.iter().map(|v| format!("{}", (v * 100.0).round() / 100.0)).collect()
}

pub(super) fn search_plot(title: &str, map: &SearchMap, record: Option<&Record>) -> String {
    let near = |values: &[f64], to: Option<f64>| to.and_then(|to| values.iter().position(|v| *v == to));
    let mark = record.and_then(|r| near(&map.alphas, r.alpha).zip(near(&map.betas, r.beta)));
    let values: Vec<f64> = map.correct.iter().map(|c| f64::from(*c) / map.of.max(1) as f64).collect();
    let (x, y) = (labels(&map.alphas), labels(&map.betas));
    heat_map(&Heat {
        title,
        x_name: "α, weight of the cache",
        y_name: "β, sharpness",
        x: &x,
        y: &y,
        values: &values,
        up: true,
        mark,
        diverging: false,
        unit: "%",
    })
}

pub(super) fn noise_plots(noise: &NoiseMap, prefix: &str) -> Vec<(&'static str, String)> {
    let parts = [
        ("text-mean", "mean of the prompt noise", "token", &noise.tokens, &noise.text_mean),
        ("text-spread", "spread of the prompt noise", "token", &noise.tokens, &noise.text_spread),
        ("image-mean", "mean of the image noise by class", "class", &noise.classes, &noise.image_mean),
        ("image-spread", "spread of the image noise by class", "class", &noise.classes, &noise.image_spread),
    ];
    let mut plots = Vec::new();
    for (name, title, y_name, rows, values) in parts {
        if rows.is_empty() || values.is_empty() || values.len() % rows.len() != 0 {
            continue;
        }
        let width = values.len() / rows.len();
        let x: Vec<String> = (0..width).map(|i| i.to_string()).collect();
        let values: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        let svg = heat_map(&Heat {
            title: &format!("{prefix}{title}"),
            x_name: "dimension",
            y_name,
            x: &x,
            y: rows,
            values: &values,
            up: false,
            mark: None,
            diverging: name != "image-spread",
            unit: "",
        });
        plots.push((name, svg));
    }
    plots
}

/// The bins of several results together, and their expected calibration error.
fn together<'r>(all: impl Iterator<Item = &'r Reliability>) -> (Vec<Bin>, f64) {
    let mut sum = Reliability::default();
    for one in all {
        for (bin, more) in sum.bins.iter_mut().zip(&one.bins) {
            bin.count += more.count;
            bin.confidence += more.confidence;
            bin.right += more.right;
        }
    }
    let bins = sum.bins.iter().map(|bin| {
        let n = bin.count.max(1) as f64;
        Bin { confidence: bin.confidence / n, accuracy: bin.right as f64 / n, count: bin.count }
    });
    (bins.collect(), sum.error())
}

pub(super) fn reliability_plot(title: &str, details: &[&Detail], temperature: f64) -> String {
    let (before, error) = together(details.iter().map(|d| &d.reliability));
    let fitted: Vec<&Reliability> = details.iter().filter_map(|d| d.reliability_fitted.as_ref()).collect();
    let after = (fitted.len() == details.len()).then(|| together(fitted.into_iter()));
    reliability(title, (&before, error), after.as_ref().map(|(bins, error)| (&bins[..], *error, temperature)))
}
