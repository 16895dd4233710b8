//! A page with all there is, from made-up numbers, to look at in a browser, and its plots on their own beside it:
//! `TIPI_SAMPLE=page.html cargo test --lib report::sample -- --ignored`.

use super::html::{Card, Page, Pair, Tile};
use super::{
    Bin, Dot, Dots, Heat, Point, Series, Table, accuracy_plot, heat_map, histogram, line_plot, reliability, scatter,
};
use crate::adapt::similarity::{BINS, Similarities};
use crate::data::Rgb;

/// Something like a photograph of a class: two soft blobs on a slope.
fn picture(class: usize, seed: usize, width: usize, height: usize) -> Rgb {
    let random = |i: usize| ((seed * 97 + i * 31 + class * 57) % 100) as f64 / 100.0;
    let blob = |x: f64, y: f64, i: usize| {
        let (dx, dy) = (x - 0.2 - 0.6 * random(i), y - 0.2 - 0.6 * random(i + 1));
        (-(dx * dx + dy * dy) * 14.0).exp()
    };
    let mut data = Vec::new();
    for at in 0..width * height {
        let (x, y) = ((at % width) as f64 / width as f64, (at / width) as f64 / height as f64);
        for channel in 0..3 {
            let hue = ((class * 53 + channel * 120) % 360) as f64 / 57.3;
            let base = 0.35 + 0.25 * y + 0.4 * hue.sin() * blob(x, y, 1) + 0.4 * (hue + 1.0).cos() * blob(x, y, 5);
            data.push((255.0 * (base + 0.03 * ((at * 7919) % 13) as f64 / 13.0).clamp(0.0, 1.0)) as u8);
        }
    }
    Rgb::new(width, height, data).unwrap()
}

fn bins(shift: f64) -> Vec<Bin> {
    let one = |i: usize| {
        let confidence = (i as f64 + 0.55) / 15.0;
        let count = if i < 2 { 0 } else { (12.0 * (i as f64).powf(1.7)) as u64 };
        Bin { confidence, accuracy: (confidence - shift * confidence * (1.3 - confidence) * 2.0).max(0.01), count }
    };
    (0..15).map(one).collect()
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

fn accuracy() -> [String; 2] {
    let names =
        ["Tip-Adapter", "Tip-Adapter-F", "Tip-X", "CoOp", "overlap correction", "PiNI", "linear probe", "cross-modal"];
    let series = |count: usize, seeds: bool| {
        let zero =
            Series { name: "zero-shot".into(), points: vec![Point { shots: 0.into(), mean: 0.603, deviation: 0.0 }] };
        let method = |i: usize| {
            let point = |k: usize| Point {
                shots: (1 << k).into(),
                mean: 0.58 + 0.02 * ((i * 3) % 8) as f64 / 8.0 + (0.02 + 0.004 * i as f64) * k as f64,
                deviation: if seeds { 0.022 / (k + 1) as f64 } else { 0.0 },
            };
            Series { name: names[i].into(), points: (0..5).map(point).collect() }
        };
        std::iter::once(zero).chain((0..count).map(method)).collect::<Vec<_>>()
    };
    [
        accuracy_plot("Accuracy with more pictures per class", &series(3, true)),
        accuracy_plot("All eight methods on a data set with a rather long name, without seeds", &series(8, false)),
    ]
}

fn scattered() -> String {
    let series = |i: usize| {
        let dot = |k: usize| {
            let x = 0.31 - 0.05 * (i % 3) as f64 + 0.002 * ((k * 37) % 11) as f64;
            Dot {
                x,
                y: 61.0 + 8.0 * (i / 3) as f64 + 3.0 * (i % 3) as f64 + ((k * 53) % 7) as f64,
                name: format!("number {k}"),
            }
        };
        let correction = ["no correction", "supervised", "self-supervised"][i % 3];
        let name = format!("{}, {correction}", ["Tip-Adapter", "Tip-X"][i / 3]);
        Dots { name, colour: i % 3, mark: i / 3, dots: (0..4).map(dot).collect() }
    };
    let series: Vec<Dots> = (0..6).map(series).collect();
    scatter("Overlap and accuracy, 16 shot", "r = −0.612 over 24 points", ("overlap", "accuracy in percent"), &series)
}

fn heats() -> Vec<String> {
    let number = |count: usize, of: &dyn Fn(usize) -> String| (0..count).map(of).collect::<Vec<_>>();
    let base = Heat {
        title: "",
        x_name: "",
        y_name: "",
        x: &[],
        y: &[],
        values: &[],
        up: false,
        mark: None,
        diverging: false,
        unit: "",
    };
    let (alpha, beta) = (
        number(20, &|i| format!("{:.2}", 0.25 + 0.25 * i as f64)),
        number(12, &|i| format!("{:.1}", 1.0 + 0.5 * i as f64)),
    );
    let search: Vec<f64> = (0..240usize)
        .map(|i| {
            let (x, y) = ((i % 20) as f64 / 20.0 - 0.35, (i / 20) as f64 / 12.0 - 0.6);
            0.71 - 0.2 * (x * x + 0.6 * y * y + 0.5 * x * y)
        })
        .collect();
    let names = strings(&["daisy", "dandelion", "rose", "sunflower", "tulip & lily", "bird of paradise", "foxglove"]);
    let confusion: Vec<f64> = (0..49usize)
        .map(|i| if i % 8 == 0 { 0.9 - 0.05 * (i / 8) as f64 } else { ((i * 37) % 11) as f64 / 100.0 })
        .collect();
    let many = number(102, &|i| format!("class number {i}"));
    let large: Vec<f64> = (0..102 * 102usize)
        .map(|i| {
            if i % 103 == 0 {
                0.8
            } else if (i * 7919) % 97 == 0 {
                0.3
            } else {
                0.0
            }
        })
        .collect();
    let (units, tokens) = (number(512, &|i| format!("{i}")), number(20, &|i| format!("token {i}")));
    let weights: Vec<f64> = (0..512 * 20usize).map(|i| ((i * 7919) % 1999) as f64 / 1000.0 - 1.0).collect();
    let terms = strings(&["x", "y", "z"]);
    vec![
        heat_map(&Heat {
            title: "Accuracy on validation pictures",
            x_name: "α",
            y_name: "β",
            x: &alpha,
            y: &beta,
            values: &search,
            up: true,
            mark: Some((7, 7)),
            unit: "%",
            ..base
        }),
        heat_map(&Heat {
            title: "Confusions: rows are true classes",
            x_name: "said",
            y_name: "truth",
            x: &names,
            y: &names,
            values: &confusion,
            unit: "%",
            ..base
        }),
        heat_map(&Heat {
            title: "102 classes",
            x_name: "said",
            y_name: "truth",
            x: &many,
            y: &many,
            values: &large,
            unit: "%",
            ..base
        }),
        heat_map(&Heat {
            title: "What the prompt's tokens changed by",
            x_name: "dimension",
            x: &units,
            y: &tokens,
            values: &weights,
            diverging: true,
            ..base
        }),
        heat_map(&Heat {
            title: "Three by three, one unknown",
            x: &terms,
            y: &terms,
            values: &[-1.0, 0.2, 3.0, 0.0, -2.0, f64::NAN, 1.0, 1.5, -0.5],
            diverging: true,
            ..base
        }),
    ]
}

fn overlap() -> String {
    let mut s = Similarities { same: vec![0; BINS], different: vec![0; BINS], variance: 0.25 };
    for i in 0..BINS {
        let bell =
            |middle: f64, width: f64| (1000.0 * (-((i as f64 / BINS as f64 - middle) / width).powi(2)).exp()) as u64;
        s.same[i] = bell(0.9, 0.04);
        s.different[i] = bell(0.84, 0.05);
    }
    histogram::svg(
        "3,680 pictures of 37 classes",
        &[histogram::Panel::new("before correction", &s), histogram::Panel::new("after correction", &s)],
    )
}

fn calibration() -> Vec<String> {
    let (before, after) = (bins(0.35), bins(0.03));
    vec![
        reliability("Reliability", (&before, 0.0843), Some((&after, 0.0123, 1.43))),
        reliability("Reliability without scaling", (&before, 0.0843), None),
        overlap(),
        scattered(),
        line_plot(
            "Time by number of pictures",
            "pictures",
            "seconds",
            &[super::Curve { name: "measured".into(), points: vec![(10.0, 0.2), (100.0, 1.3), (1000.0, 11.0)] }],
        ),
    ]
}

/// Those that plots have, of what SVG 2 and HTML know.
const ATTRIBUTES: &str = "\
    aria-label class cx cy d dominant-baseline fill fill-opacity font-family font-size font-weight height href \
    image-rendering opacity pointer-events preserveAspectRatio r role rx shape-rendering stroke stroke-dasharray \
    stroke-linecap stroke-linejoin stroke-opacity stroke-width text-anchor transform viewBox width x x1 x2 y y1 y2";

#[test]
fn plots_say_nothing_that_svg_does_not_know() {
    let plots = accuracy().into_iter().chain(heats()).chain(calibration());
    let mut anchors = 0;
    for svg in plots {
        let tree = resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
        for attribute in tree.descendants().flat_map(|node| node.attributes()) {
            let name = attribute.name();
            assert!(ATTRIBUTES.split_whitespace().any(|known| known == name), "{name} in {}", &svg[..200]);
            anchors += usize::from(name == "text-anchor");
        }
    }
    assert!(anchors > 50, "{anchors}");
}

#[test]
#[ignore = "writes a page to look at"]
fn a_page_with_all_there_is() {
    let mut page = Page::new(
        "Few-shot report: Oxford Flowers",
        "ViT-B/32 (laion2b), 102 classes, 2,463 test pictures; three seeds, adapted on a laptop's GPU in 41 seconds.",
    );
    page.section("summary", "Summary", "How well each method tells the classes apart, and what it takes.");
    let tile =
        |value: &str, label: &str, note: &str| Tile { value: value.into(), label: label.into(), note: note.into() };
    page.tiles(&[
        tile("71.8%", "accuracy, 16 shots", "Tip-Adapter-F, ± 0.4 over 3 seeds"),
        tile("+11.5", "points over zero-shot", "60.3% without pictures"),
        tile("41 s", "to adapt", ""),
        tile("1.2 GB", "GPU memory", "foreseen: 1.3 GB"),
        tile("2.1%", "calibration error", "after temperature 1.43"),
    ]);
    page.text("Differences of less than half a point are within what another choice of pictures makes.");
    page.list(&strings(&[
        "Pictures are cut out of the middle; no views were averaged.",
        "3 files could not be read and were left out: a/very/long/path/that/does/not/end/soon/because/folders/are/deep/IMG_20240301_121314.jpg",
    ]));
    page.section("accuracy", "Accuracy", "Mean over seeds; bands are one standard deviation.");
    let mut plots = accuracy().to_vec();
    page.figures(&plots);
    let row = |cells: &[&str]| strings(cells);
    page.table(
        "Accuracy by method and pictures per class, mean ± standard deviation over three seeds",
        &Table {
            head: row(&["method", "1", "2", "4", "8", "16", "fitting", "remarks"]),
            rows: vec![
                row(&["zero-shot", "60.3", "60.3", "60.3", "60.3", "60.3", "–", "one template"]),
                row(&[
                    "Tip-Adapter",
                    "61.2 ± 1.9",
                    "63.4 ± 1.2",
                    "65.0 ± 0.9",
                    "67.7 ± 0.6",
                    "69.9 ± 0.4",
                    "0.1 s",
                    "",
                ]),
                row(&[
                    "Tip-Adapter-F",
                    "61.9 ± 2.0",
                    "64.4 ± 1.1",
                    "67.0 ± 0.8",
                    "69.7 ± 0.5",
                    "71.8 ± 0.4",
                    "41.0 s",
                    "20 epochs",
                ]),
            ],
            bold: vec![(2, 1), (2, 2), (2, 3), (2, 4), (2, 5)],
        },
    );
    page.section("search", "Settings", "What was tried, and what was chosen.");
    let heats = heats();
    page.figures(&heats[..1]);
    page.heading("All of it");
    page.figures(&heats[1..]);
    page.section("calibration", "Calibration", "Whether a confidence of 80% is right four times of five.");
    let calibration = calibration();
    page.figures(&calibration);
    plots.extend(heats.into_iter().chain(calibration));
    page.section(
        "errors",
        "Mistakes",
        "The pictures that every method got wrong, and the classes that are taken for each other.",
    );
    page.heading("Wrong with most confidence");
    let names = ["daisy", "bird of paradise", "tulip", "a class with a name that needs more than a line"];
    let card = |i: usize| Card {
        picture: (i != 2).then(|| picture(i, i, [160, 300, 24, 90][i % 4], [120, 200, 24, 260][i % 4])),
        title: names[i % 4].into(),
        lines: vec![
            (format!("zero-shot: {} 41%", names[(i + 1) % 4]), false),
            (format!("Tip-Adapter: {} 73%", names[i % 4]), true),
        ],
    };
    page.pictures(&(0..7).map(card).collect::<Vec<_>>());
    page.heading("Confused pairs");
    let pair = |i: usize| Pair {
        truth: names[i % 4].into(),
        said: names[(i + 1) % 4].into(),
        count: 9 - i,
        of: 24,
        mistaken: (0..4).map(|k| picture(i, k, 160, 120)).collect(),
        like: (0..5).map(|k| picture(i + 1, k, 120, 120)).collect(),
    };
    page.pairs(&(0..3).map(pair).collect::<Vec<_>>());
    let path = std::env::var("TIPI_SAMPLE").expect("TIPI_SAMPLE says where to");
    for (i, svg) in plots.iter().enumerate() {
        std::fs::write(format!("{path}-{i}.png"), super::png(svg).unwrap()).unwrap();
    }
    std::fs::write(path, page.finish()).unwrap();
}
