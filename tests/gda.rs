//! GDA against an f64 twin that inverts by elimination, on odd shapes.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use tipi::low_level::adapt::gda::{Gaussians, Prior};
use tipi::low_level::adapt::method::{Settings, find, settled};
use tipi::low_level::adapt::zero_shot::Classifier;
use tipi::low_level::adapt::{Choice, How, JudgeBy, Lesson, Texts, learn};
use tipi::low_level::clip::{Clip, Features};
use tipi::low_level::data::{Item, PythonRandom};
use tipi::low_level::encode::{Source, Tower, Views};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::watch::{Unwatched, Watch};

fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut random = PythonRandom::new(seed);
    (0..n).map(|_| random.uniform(-1.0, 1.0) as f32).collect()
}

/// The inverse of a square matrix, by Gauss and Jordan.
fn inverse(mut a: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = a.len();
    for (i, row) in a.iter_mut().enumerate() {
        row.extend((0..n).map(|j| f64::from(u8::from(i == j))));
    }
    for i in 0..n {
        let pivot = (i..n).max_by(|x, y| a[*x][i].abs().total_cmp(&a[*y][i].abs())).unwrap();
        a.swap(i, pivot);
        let by = a[i][i];
        a[i].iter_mut().for_each(|v| *v /= by);
        let row = a[i].clone();
        for (_, other) in a.iter_mut().enumerate().filter(|(k, _)| *k != i) {
            let factor = other[i];
            other.iter_mut().zip(&row).for_each(|(v, r)| *v -= factor * r);
        }
    }
    a.into_iter().map(|row| row[n..].to_vec()).collect()
}

fn normalised(row: &[f32]) -> Vec<f64> {
    let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    row.iter().map(|v| f64::from(*v) / length).collect()
}

/// Weights and biases as METHODS has them: Ω = D·((n − 1)Σ + tr(Σ)·I)⁻¹. `divisor` is that of Σ, n − 1.
fn twin(
    features: &[f32],
    labels: &[u32],
    (classes, d): (usize, usize),
    prior: Prior,
    divisor: impl Fn(usize) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let rows: Vec<Vec<f64>> = features.chunks(d).map(normalised).collect();
    let n = rows.len();
    let of = |class: usize| rows.iter().zip(labels).filter(move |(_, l)| **l as usize == class).map(|(row, _)| row);
    let mean = |class: usize| -> Vec<f64> {
        (0..d).map(|i| of(class).map(|row| row[i]).sum::<f64>() / of(class).count() as f64).collect()
    };
    let means: Vec<Vec<f64>> = (0..classes).map(mean).collect();
    let mut sigma = vec![vec![0.0; d]; d];
    for (row, label) in rows.iter().zip(labels) {
        let off: Vec<f64> = row.iter().zip(&means[*label as usize]).map(|(v, m)| v - m).collect();
        for i in 0..d {
            (0..d).for_each(|j| sigma[i][j] += off[i] * off[j] / divisor(n));
        }
    }
    let trace: f64 = (0..d).map(|i| sigma[i][i]).sum();
    let inner: Vec<Vec<f64>> = (0..d)
        .map(|i| (0..d).map(|j| (n - 1) as f64 * sigma[i][j] + if i == j { trace } else { 0.0 }).collect())
        .collect();
    let omega = inverse(inner);
    let (mut weights, mut bias) = (Vec::new(), Vec::new());
    for (class, mean) in means.iter().enumerate() {
        let w: Vec<f64> =
            omega.iter().map(|row| d as f64 * row.iter().zip(mean).map(|(a, b)| a * b).sum::<f64>()).collect();
        let share = match prior {
            Prior::Equal => 1.0 / classes as f64,
            Prior::Pictures => of(class).count() as f64 / n as f64,
        };
        bias.push(share.ln() - 0.5 * w.iter().zip(mean).map(|(a, b)| a * b).sum::<f64>());
        weights.extend(w);
    }
    (weights, bias)
}

/// The largest difference as a share of the largest value.
fn off(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let top = want.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    got.iter().zip(want).fold(0.0, |m: f64, (g, w)| m.max((g - w).abs())) / top
}

#[test]
fn weights_and_biases_are_the_twins() {
    for (n, d, classes, prior) in
        [(7, 5, 3, Prior::Equal), (11, 17, 2, Prior::Pictures), (40, 9, 7, Prior::Equal), (33, 33, 4, Prior::Pictures)]
    {
        let features = random(n as u64, n * d);
        let labels: Vec<u32> = (0..n).map(|i| (i * i % classes.min(n)) as u32 % classes as u32).collect();
        // Every class has some.
        let labels: Vec<u32> =
            labels.iter().enumerate().map(|(i, l)| if i < classes { i as u32 } else { *l }).collect();
        let got = Gaussians::new(&features, &labels, classes, d, prior).unwrap();
        let (weights, bias) = twin(&features, &labels, (classes, d), prior, |n| (n - 1) as f64);
        assert!(off(&got.weights, &weights) < 1e-9, "{n} {d}: {}", off(&got.weights, &weights));
        assert!(off(&got.bias, &bias) < 1e-9, "{n} {d}: {}", off(&got.bias, &bias));
        // Another divisor, or another prior, would be noticed.
        let (wrong, _) = twin(&features, &labels, (classes, d), prior, |n| n as f64);
        assert!(off(&got.weights, &wrong) > 1e-5, "{n} {d}: a wrong divisor passed");
        let other = if prior == Prior::Equal { Prior::Pictures } else { Prior::Equal };
        let (_, wrong) = twin(&features, &labels, (classes, d), other, |n| (n - 1) as f64);
        assert!(off(&got.bias, &wrong) > 1e-5, "{n} {d}: a wrong prior passed");
    }
}

#[test]
fn features_without_spread_are_an_error_and_a_class_without_pictures_says_nothing() {
    let features = random(3, 3 * 8);
    let error = Gaussians::new(&features, &[0, 1, 2], 3, 8, Prior::Equal).unwrap_err().to_string();
    assert!(error.contains("no spread within their classes") && error.contains("views"), "{error}");
    let features = random(4, 6 * 8);
    let some = Gaussians::new(&features, &[0, 0, 0, 2, 2, 2], 3, 8, Prior::Equal).unwrap();
    for i in 0..8 {
        assert!((some.weights[8 + i] - 0.5 * (some.weights[i] + some.weights[16 + i])).abs() < 1e-9);
    }
    assert!((some.bias[1] - 0.5 * (some.bias[0] + some.bias[2])).abs() < 1e-9);
    assert!(Gaussians::new(&features, &[0, 0, 0, 2, 2, 3], 3, 8, Prior::Equal).is_err());
    assert!(Gaussians::new(&features[..7], &[0], 3, 8, Prior::Equal).is_err());
}

/// Features that are there already: those of support with several views, or of validation.
struct Rows {
    support: Vec<f32>,
    val: Vec<f32>,
    /// Of the support pictures as they are.
    center: Vec<f32>,
}

impl Source for Rows {
    fn features(&mut self, _: Tower, items: &[Item], views: &Views, _: &mut dyn Watch) -> tipi::Result<Features> {
        let one = self.center.len() / 5;
        Ok(match views.count() {
            1 if items.len() * one == self.val.len() => self.val.clone(),
            1 => self.center.clone(),
            _ => self.support.clone(),
        }
        .into())
    }

    fn fresh(&mut self, _: Tower, _: &[Item], _: &Views) -> tipi::Result<Features> {
        Err(tipi::Error::Invalid("nothing trains here".into()))
    }
}

#[test]
fn logits_are_text_and_gaussians_at_the_chosen_weight() {
    let gpu = Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap();
    let clip = Clip::load(&gpu, &Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/picto")).unwrap();
    let d = clip.config.embedding;
    let names: Vec<String> = ["apple", "bell", "fish"].map(String::from).to_vec();
    let item = |label| Item { path: format!("{label}").into(), label };
    let support: Vec<Item> = [0, 1, 2, 0, 2].map(item).to_vec();
    let val: Vec<Item> = [0, 1, 2, 1].map(item).to_vec();
    let (views, templates) = (3, ["an icon of {}".to_string()]);
    let rows = random(5, support.len() * views * d);
    let val_rows = random(6, val.len() * d);
    let how = How { key_views: views, judge_by: JudgeBy::Validation, ..How::default() };
    let texts = Texts { classes: &names, templates: &templates, words: "", dataset: "" };
    let choice = Choice { support: &support, val: &val, seed: 1 };
    let mut source = Rows { support: rows.clone(), val: val_rows.clone(), center: random(8, support.len() * d) };
    let mut lesson = Lesson::new(&clip, texts, choice, &how, (None, &mut source)).unwrap();
    let gda = find("gda").unwrap();
    let learned = learn(gda, &settled(gda, &Settings::new()).unwrap(), &mut lesson, &mut Unwatched).unwrap();
    let alpha = learned.fitted.facts().alpha.unwrap();

    let classifier = Classifier::new(&clip, &names, &templates).unwrap();
    let text = gpu.read::<f32>(&classifier.weights).unwrap();
    let labels: Vec<u32> = support.iter().flat_map(|item| [item.label as u32; 3]).collect();
    let (weights, bias) = twin(&rows, &labels, (3, d), Prior::Equal, |n| (n - 1) as f64);
    let logits = |rows: &[f32], alpha: f64| -> Vec<f64> {
        let of = |row: &[f32]| {
            let f = normalised(row);
            let dot = |w: &dyn Fn(usize) -> f64| f.iter().enumerate().map(|(i, v)| v * w(i)).sum::<f64>();
            (0..3)
                .map(|c| {
                    f64::from(clip.logit_scale) * dot(&|i| f64::from(text[c * d + i]))
                        + alpha * (dot(&|i| weights[c * d + i]) + bias[c])
                })
                .collect::<Vec<f64>>()
        };
        rows.chunks(d).flat_map(of).collect()
    };
    let queries = random(7, 5 * d);
    let got: Vec<f64> =
        learned.fitted.logits(&clip, &queries.clone().into(), 0).unwrap().into_iter().map(f64::from).collect();
    let want = logits(&queries, alpha);
    assert!(off(&got, &want) < 1e-5, "{}", off(&got, &want));
    assert!(off(&got, &logits(&queries, alpha + 0.1)) > 1e-4, "another weight passed");
    // The first of the seven that has most validation pictures right.
    let right = |alpha: f64| {
        let rows = logits(&val_rows, alpha);
        let best = |row: &[f64]| (0..3).fold(0, |best, c| if row[c] > row[best] { c } else { best });
        rows.chunks(3).zip(&val).filter(|(row, item)| best(row) == item.label).count()
    };
    let mut first = (0, 0.1);
    for alpha in [1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0] {
        if right(alpha) > first.0 {
            first = (right(alpha), alpha);
        }
    }
    assert_eq!(alpha, first.1);
}
