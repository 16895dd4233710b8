//! Public functions called with what no careful caller would give: nothing, zero, lengths that do not fit, numbers past
//! all bounds, NaN. None may panic; where a function can fail it says what is wrong, else what it gives is checked.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::OnceLock;

use tipi::Error;
use tipi::low_level::adapt::calibrate::{self, BINS, Bin, Reliability};
use tipi::low_level::adapt::search::{Grid, Order, linspace};
use tipi::low_level::adapt::similarity::{self, Similarities};
use tipi::low_level::adapt::tip::{self, Cache, TipParams};
use tipi::low_level::adapt::tip_x::Psi;
use tipi::low_level::adapt::zero_shot::{self, Classifier};
use tipi::low_level::adapt::{accuracy, argmax, probabilities, schedule};
use tipi::low_level::clip::Features;
use tipi::low_level::data::{
    Augment, Filter, Item, Normalize, PythonRandom, Rgb, center_crop, coop_few_shot, decode_from, few_shot,
    flip_horizontal, resize, resize_bicubic, resize_center_crop, resize_center_crop_with, resize_crop,
    resize_longest_pad, resize_shortest_edge, short_classes, to_pixels,
};
use tipi::low_level::encode::{draw_views, drawn_view};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::memory::Setting;
use tipi::low_level::report::histogram::{self, Panel};
use tipi::low_level::report::{Cell, Curve, Heat, Point, Prediction, Series, Table};
use tipi::low_level::report::{accuracy_plot, heat_map, line_plot, png, reliability, write_grid};

const HUGE: usize = usize::MAX;

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap())
}

/// An error about arguments.
fn invalid<T>(result: tipi::Result<T>) -> String {
    match result {
        Err(error @ Error::Invalid(_)) => error.to_string(),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn scores_of_nothing() {
    assert_eq!(accuracy(&[], &[], 0), 0.0);
    assert_eq!(accuracy(&[1.0, 2.0], &[1], 0), 0.0);
    assert_eq!(accuracy(&[1.0, 2.0], &[1, 0, 0, 0], 2), 0.25);
    assert_eq!(accuracy(&[1.0], &[u32::MAX], 1), 0.0);
    assert_eq!(accuracy(&[1.0], &[0], HUGE), 0.0);
    assert_eq!((argmax(&[]), argmax(&[f32::NAN, 1.0]), argmax(&[1.0, f32::NAN, 2.0])), (0, 0, 2));
    assert!(probabilities(&[]).is_empty());
    assert_eq!(probabilities(&[f32::MAX, f32::MIN]), [1.0, 0.0]);
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300] {
        assert_eq!(calibrate::confident(&[1.0, 2.0], temperature).len(), 2);
        invalid(calibrate::check(temperature));
    }
    invalid(calibrate::temperature(&[], &[0], 0, 0.0));
    invalid(calibrate::temperature(&[1.0, 2.0, 3.0], &[0], 2, 0.0));
}

#[test]
fn reliabilities_without_bins() {
    let mut none = Reliability { bins: Vec::new(), log_loss: 0.0 };
    assert_eq!((none.count(), none.error(), none.mean_log_loss()), (0, 0.0, 0.0));
    for confidence in [0.5, f64::NAN, f64::INFINITY, -3.0, 1e300] {
        none.add(confidence, true, f64::NAN);
    }
    assert_eq!((none.bins.len(), none.count()), (BINS, 5));
    assert!(none.error().is_finite() && none.mean_log_loss().is_finite());
    let mut full =
        Reliability { bins: vec![Bin { count: u64::MAX, confidence: 1.0, right: u64::MAX }; 3], log_loss: 0.0 };
    full.add(0.0, true, 0.0);
    assert_eq!(full.count(), u64::MAX);
}

#[test]
fn histograms_of_other_lengths() {
    for length in [0, 1, 3, 99, 1000] {
        for count in [0, 1, u64::MAX] {
            let s = Similarities { same: vec![count; length], different: vec![count; 2], variance: f64::NAN };
            assert!(s.overlap().is_finite() && Similarities::mean(&s.same).is_finite());
            let svg = histogram::svg("", &[Panel::new("", &s), Panel::new("x", &s)]);
            assert!(svg.ends_with("</svg>"));
            png(&svg).unwrap();
        }
    }
    assert!(histogram::svg("nothing", &[]).ends_with("</svg>"));
}

#[test]
fn views_that_are_not_there() {
    for (features, views, width) in [(0, 0, 0), (4, 0, 2), (4, 2, 0), (5, 2, 2), (4, HUGE, 2), (4, 2, HUGE)] {
        invalid(draw_views(&vec![1.0; features], views, width, 1, 1));
    }
    assert_eq!(draw_views(&[1.0, 2.0], 1, 2, u64::MAX, HUGE).unwrap(), [1.0, 2.0]);
    assert_eq!(drawn_view(u64::MAX, HUGE, HUGE, 0), 0);
}

/// Pictures whose fields contradict each other.
#[test]
fn pictures_that_are_none() {
    let picture = |width, height, bytes| Rgb { width, height, data: vec![9; bytes] };
    let mut rng = PythonRandom::new(1);
    for (src, sides) in [
        (picture(0, 0, 0), (1, 1)),
        (picture(0, 5, 0), (1, 1)),
        (picture(5, 0, 0), (1, 1)),
        (picture(2, 2, 0), (1, 1)),
        (picture(2, 2, 7), (2, 1)),
        (picture(2, 2, 100), (2, 2)),
        (picture(HUGE, HUGE, 12), (4, 1)),
        (picture(1, HUGE, 12), (1, 4)),
    ] {
        let mirrored = flip_horizontal(&src);
        assert_eq!((mirrored.width, mirrored.height), sides, "{src:?}");
        assert_eq!(mirrored.data.len(), 3 * sides.0 * sides.1);
        for made in [
            resize(&src, 0, 0, Filter::Bilinear),
            resize_bicubic(&src, 3, 2),
            resize_longest_pad(&src, 4, 0, Filter::Bicubic),
            resize_shortest_edge(&src, 0),
            center_crop(&src, 3),
            resize_center_crop(&src, 5),
            resize_center_crop_with(&src, 0, 2, Filter::Bicubic),
            resize_crop(&src, HUGE, HUGE, HUGE, HUGE, 2),
            Augment::TIP.view(&src, 2, &mut rng),
        ] {
            assert_eq!(made.data.len(), 3 * made.width * made.height);
            assert!(made.width > 0 && made.height > 0);
        }
        to_pixels(&src, &Normalize { mean: [f32::NAN; 3], std: [0.0; 3] });
    }
    for (width, height) in [(0, 1), (HUGE, HUGE), (HUGE, 1)] {
        invalid(Rgb::new(width, height, vec![0; 3]));
    }
    assert!(decode_from(Path::new("nothing.png"), &[]).is_err());
}

#[test]
fn choices_among_nothing() {
    let item = |label| Item { path: "a.png".into(), label };
    assert!(few_shot(&[], &[], Path::new(""), 0, 0, 1).is_err());
    assert!(few_shot(&[item(HUGE)], &["a".into()], Path::new(""), 1, HUGE, 1).is_err());
    assert!(few_shot(&[item(0)], &["a".into()], Path::new(""), HUGE, HUGE, 1).unwrap().val.is_empty());
    assert!(few_shot(&[item(0)], &["a".into()], Path::new(""), 1, HUGE, 1).unwrap().val.is_empty());
    assert!(coop_few_shot(&[], &[], 0, 1).is_err());
    assert_eq!(coop_few_shot(&[item(HUGE)], &[], HUGE, u64::MAX).unwrap().support, [0]);
    assert_eq!(short_classes(&[item(HUGE)], 2, 1), [(0, 0), (1, 0)]);
    let mut rng = PythonRandom::new(u64::MAX);
    assert!(rng.sample(3, HUGE).is_err());
    assert_eq!((rng.randbelow(0), rng.getrandbits(0)), (0, 0));
    rng.getrandbits(u32::MAX);
    assert!(rng.uniform(f64::NAN, 1.0).is_nan());
}

#[test]
fn grids_past_all_bounds() {
    assert!(linspace(0.0, 1.0, 0).is_empty());
    assert_eq!(linspace(-f64::MAX, f64::MAX, 3).len(), 3);
    invalid(Grid::alpha_beta(Vec::new(), vec![1.0]).check());
    invalid(Grid::alpha_beta(vec![f64::NAN], vec![1.0]).check());
    invalid(Grid::alpha_beta(vec![1.0], vec![1e39]).check());
    let wide = Grid::alpha_beta(vec![0.0; 100_000], vec![0.0; 100_000]);
    assert!(invalid(wide.check()).contains("100000 × 100000"));
    let none = Grid { alphas: Vec::new(), betas: Vec::new(), gammas: Vec::new(), order: Order::BetaAlpha };
    assert!(none.is_empty() && none.at(HUGE) != (HUGE, HUGE, HUGE));
    for text in ["", ",", "alpha=0:1:99999999999999999999,beta=0:1:1", "alpha=::,beta=::", "=", "tip-adapter:"] {
        invalid(Grid::parse(text, false));
    }
    assert_eq!(Grid::tip_adapter((f64::NAN, 0.0), (0, 0)).len(), 0);
    for (epoch, epochs) in [(0, 0), (1, 0), (HUGE, 0), (HUGE, HUGE)] {
        assert!(schedule::pini(epoch, epochs, 1.0).is_finite() && schedule::cosine(epoch, epochs, 1.0).is_finite());
    }
}

#[test]
fn features_of_other_shapes() {
    let features = Features::from(vec![1.0, 2.0, 3.0]);
    for (rows, width) in [(vec![3], 1), (vec![HUGE], 1), (vec![1], HUGE), (vec![0], 4)] {
        invalid(features.rows(&rows, width));
    }
    assert_eq!(features.rows(&[2, 0], 1).unwrap().original, [3.0, 1.0]);
    let gpu = gpu();
    for (values, views, width) in [(0, 1, 1), (4, 0, 2), (4, 2, 0), (5, 2, 2), (4, HUGE, HUGE), (4, 2, HUGE)] {
        invalid(tip::keys(gpu, &vec![1.0; values], views, width));
        invalid(tip::keys_of_pictures(gpu, &Features::from(vec![1.0; values]), views, width));
    }
    for (values, labels, classes, width) in [
        (vec![], vec![], 0, 0),
        (vec![], vec![], 1, 1),
        (vec![1.0], vec![0], 0, 1),
        (vec![1.0, 1.0], vec![0], 1, 1),
        (vec![f32::NAN], vec![0], 1, 1),
        (vec![1.0], vec![7], 2, 1),
        (vec![1.0], vec![0], 1, HUGE),
    ] {
        invalid(Cache::new(gpu, &values, &labels, classes, width));
    }
    for (values, classes, width, scale) in [
        (0, 0, 0, 1.0),
        (4, 0, 2, 1.0),
        (4, 2, 0, 1.0),
        (4, HUGE, 2, 1.0),
        (4, 2, 2, f32::NAN),
        (4, 2, 2, 1e30),
        (4, 2, 2, 0.0),
    ] {
        assert!(Classifier::from_features(gpu, &vec![1.0; values], classes, width, scale).is_err());
        if width != 0 {
            assert!(Classifier::from_weights(gpu, &vec![1.0; values], classes, scale).is_err(), "{classes} {width}");
        }
    }
    assert!(Classifier::from_weights(gpu, &[f32::INFINITY; 4], 2, 1.0).is_err());
    invalid(zero_shot::prompts(&[], &[]));
    let classifier = Classifier::from_weights(gpu, &[1.0, 0.0, 0.0, 1.0], 2, 10.0).unwrap();
    let cache = Cache::new(gpu, &[1.0, 0.0, 0.0, 1.0], &[0, 1], 2, 2).unwrap();
    for params in [
        TipParams { alpha: 1e39, beta: 1.0 },
        TipParams { alpha: 1.0, beta: -1e9 },
        TipParams { alpha: f64::NAN, beta: 0.0 },
    ] {
        invalid(cache.logits(gpu, &classifier, &Features::from(vec![1.0, 0.0]), params));
    }
    for features in [vec![1.0], vec![f32::NAN, 0.0]] {
        invalid(cache.logits(gpu, &classifier, &Features::from(features.clone()), TipParams::INITIAL));
        invalid(classifier.logits(&features, gpu));
    }
    assert!(cache.logits(gpu, &classifier, &Features::default(), TipParams::INITIAL).unwrap().is_empty());
    let uneven = Features { original: vec![1.0, 0.0], adapted: Some(Vec::new()) };
    invalid(cache.logits(gpu, &classifier, &uneven, TipParams::INITIAL));
    for (values, labels, width) in [(0, 0, 0), (4, 1, 2), (4, 2, 0), (4, 2, HUGE), (3, 1, 2)] {
        invalid(similarity::measure(gpu, &vec![1.0; values], &vec![0; labels], width, &mut |_| {}));
    }
    for psi in [
        Psi { divergence: [f32::NAN, 1.0], affinity: [0.0, 1.0] },
        Psi { divergence: [0.0, f32::INFINITY], affinity: [0.0, 1.0] },
        Psi { divergence: [1.0, 0.0], affinity: [0.0, 1.0] },
        Psi { divergence: [0.0, 1e-45], affinity: [-1e30, 1e30] },
    ] {
        invalid(psi.check());
    }
    for (batch, classes, shots) in
        [(0, 1, 1), (1, 0, 1), (1, 1, 0), (HUGE, 1, 1), (1, HUGE, 1), (1, 1, HUGE), (1, HUGE, HUGE)]
    {
        invalid(Setting { batch, classes, shots }.check());
    }
}

#[test]
fn drawings_of_nothing() {
    for odd in [0.0, f64::NAN, f64::INFINITY, -f64::MAX, f64::MAX, f64::MIN_POSITIVE] {
        let points = vec![
            Point { shots: 0.into(), mean: odd, deviation: odd },
            Point { shots: HUGE.into(), mean: 0.5, deviation: odd },
        ];
        for series in [vec![], vec![Series { name: String::new(), points }]] {
            png(&accuracy_plot("", &series)).unwrap();
        }
        for points in [vec![], vec![(odd, 1.0)], vec![(1.0, odd), (f64::MAX, f64::MIN_POSITIVE)]] {
            let svg = line_plot("", "", "", &[Curve { name: String::new(), points }]);
            assert!(svg.ends_with("</svg>"));
        }
        let names = vec![String::new(); 3];
        for (x, y, values) in [(0, 0, 0), (3, 0, 3), (0, 3, 3), (3, 3, 1), (3, 3, 100)] {
            let heat = Heat {
                title: "",
                x_name: "",
                y_name: "",
                x: &names[..x],
                y: &names[..y],
                values: &vec![odd; values],
                up: true,
                mark: Some((HUGE, HUGE)),
                diverging: true,
                unit: "%",
            };
            png(&heat_map(&heat)).unwrap();
        }
        let bins = [tipi::low_level::report::Bin { confidence: odd, accuracy: odd, count: u64::MAX as _ }; 2];
        for bins in [&bins[..0], &bins[..1], &bins] {
            png(&reliability("", (bins, odd), Some((bins, odd, odd)))).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let prediction = Prediction { method: String::new(), class: String::new(), probability: odd, correct: true };
        let cell = Cell {
            picture: Rgb { width: 0, height: 3, data: Vec::new() },
            truth: String::new(),
            predictions: vec![prediction],
        };
        for (cells, columns) in
            [(&[][..], 0), (&[][..], HUGE), (std::slice::from_ref(&cell), 0), (std::slice::from_ref(&cell), HUGE)]
        {
            // A drawing of nothing may be refused.
            let _ = write_grid(&dir.path().join("g.png"), "", cells, columns);
        }
    }
    assert!(png("").is_err() && png("<svg").is_err());
    let table = Table { head: Vec::new(), rows: vec![vec!["a".into()], Vec::new()], bold: vec![(HUGE, HUGE)] };
    table.csv().unwrap();
}
