//! What results on disk must be to be believed: lengths that fit, numbers within their ranges, classes that are there.
//!
//! Each check gives what is wrong as "field: reason"; the journal adds the file and the line.

use base64::Engine;

use super::journal::Overlap;
use super::{About, Coverage, Detail, Foreign, NoiseMap, NoisyPicture, Record, SearchMap, Settings, Setup, TestSet};
use crate::adapt::calibrate::{self, Reliability};
use crate::adapt::method::{find, settled};
use crate::adapt::similarity::{BINS, Similarities};
use crate::memory::MOST_EPOCHS;
use crate::numbers;

type Checked = Result<(), String>;

/// What rounding may do to a number that was written down and read again.
const ROUNDING: f64 = 1e-6;
/// More classes than any set has; labels are kept as u32.
const CLASSES: usize = 1 << 24;

fn that(right: bool, field: &str, reason: impl FnOnce() -> String) -> Checked {
    if right { Ok(()) } else { Err(format!("{field}: {}", reason())) }
}

/// A number of a range, which may be cut short by rounding.
fn within(field: &str, value: f64, (low, high): (f64, f64)) -> Checked {
    that(value.is_finite() && value >= low - ROUNDING && value <= high + ROUNDING, field, || {
        if high == f64::INFINITY {
            format!("{value} is not a number from {low}")
        } else {
            format!("{value} is not from {low} to {high}")
        }
    })
}

fn length(field: &str, found: usize, right: usize, of: &str) -> Checked {
    that(found == right, field, || format!("{found} entries where there are {right} {of}"))
}

fn at_most(field: &str, found: usize, most: usize, of: &str) -> Checked {
    that(found <= most, field, || format!("{found} where there are {most} {of}"))
}

fn finite(field: &str, values: &[f32]) -> Checked {
    match numbers::not_finite(values) {
        Some(at) => Err(format!("{field}: entry {at} is no finite number")),
        None => Ok(()),
    }
}

fn labels(field: &str, labels: impl Iterator<Item = usize>, classes: usize) -> Checked {
    match labels.enumerate().find(|(_, label)| *label >= classes) {
        Some((at, label)) => Err(format!("{field}: entry {at} is class {label}, there are {classes}")),
        None => Ok(()),
    }
}

fn digest(field: &str, text: &str) -> Checked {
    let hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    that(hex, field, || "this is no SHA-256 digest of 64 digits".into())
}

pub(super) fn settings(settings: &Settings, format: &str) -> Checked {
    let Setup { how, methods } = &settings.setup;
    that(settings.format == format, "format", || format!("this is '{}', not {format}", settings.format))?;
    that(!settings.dataset.is_empty(), "dataset", || "it has no name".into())?;
    digest("pictures", &settings.pictures)?;
    digest("model", &settings.model)?;
    that((2..=CLASSES).contains(&settings.classes), "classes", || {
        format!("{} is not from 2 to {CLASSES}", settings.classes)
    })?;
    that(!settings.templates.is_empty(), "templates", || "there is none".into())?;
    for (teaching, sha256) in &settings.compared {
        digest(&format!("compared.{teaching}"), sha256)?;
    }
    for (name, settings) in methods {
        let method = find(name).map_err(|error| format!("how.methods: {error}"))?;
        settled(method, settings).map_err(|error| format!("how.methods.{name}: {error}"))?;
    }
    how.grid(&settings.dataset, true).map(drop).map_err(|error| format!("how.grid: {error}"))
}

pub(super) fn about(about: &About, settings: &Settings) -> Checked {
    that(!about.title.is_empty(), "about.title", || "it is empty".into())?;
    that(about.parts[2] > 0, "about.parts", || "there are no test pictures".into())?;
    let all: Option<usize> = about.parts.iter().try_fold(0usize, |sum, part| sum.checked_add(*part));
    that(all.is_some_and(|all| all <= u32::MAX as usize), "about.parts", || {
        format!("{:?} are more pictures than there can be of {} classes", about.parts, settings.classes)
    })
}

pub(super) fn record(record: &Record, settings: &Settings, about: &About) -> Checked {
    let share = (0.0, 1.0);
    let number = (0.0, f64::INFINITY);
    that(record.dataset == settings.dataset, "dataset", || {
        format!("'{}', the settings are of '{}'", record.dataset, settings.dataset)
    })?;
    that(record.task.shots.check().is_ok(), "shots", || "0 pictures per class teach nothing".into())?;
    let [train, val, test] = about.parts;
    that(record.test > 0, "test", || "no picture was tested".into())?;
    at_most("test", record.test, test, "test pictures")?;
    at_most("correct", record.correct, record.test, "test pictures")?;
    within("accuracy", record.accuracy, share)?;
    let right = record.correct as f64 / record.test as f64;
    that((record.accuracy - right).abs() <= ROUNDING, "accuracy", || {
        format!("{} where {} of {} are right", record.accuracy, record.correct, record.test)
    })?;
    at_most("support", record.support, train, "pictures to learn from")?;
    at_most("val", record.val, if val == 0 { train } else { val }, "validation pictures")?;
    // Results from before evidence was counted rest on validation pictures.
    let evidence = record.evidence.all().max(record.val);
    at_most("evidence", record.evidence.all(), record.val + record.support, "pictures that it could rest on")?;
    for (field, value, of) in
        [("val_accuracy", record.val_accuracy, record.val), ("temperature", record.temperature, evidence)]
    {
        that(value.is_some() == (of > 0), field, || {
            let is = if value.is_some() { "is there" } else { "is missing" };
            format!("it {is} with {of} pictures to rest on")
        })?;
    }
    for Coverage { wanted, held, size, .. } in &record.coverage {
        within("coverage", *wanted, share)?;
        within("coverage", *held, share)?;
        within("coverage", *size, (1.0, settings.classes as f64))?;
    }
    for Foreign { auroc, kept, refused, .. } in &record.foreign {
        [*auroc, *kept, *refused].into_iter().try_for_each(|value| within("foreign", value, share))?;
    }
    let fitted =
        [("calibration_error_fitted", record.calibration_error_fitted), ("log_loss_fitted", record.log_loss_fitted)];
    for (field, value) in fitted {
        that(value.is_some() == record.temperature.is_some(), field, || "it belongs to a temperature".into())?;
    }
    let of_method = settings.setup.methods.get(record.task.method.info().name);
    let epochs = of_method.and_then(|settings| settings.get("epochs")?.as_u64()).unwrap_or(MOST_EPOCHS as u64) as usize;
    at_most("epoch", record.epoch.unwrap_or(0), epochs, "epochs")?;
    for (field, value, range) in [
        ("val_accuracy", record.val_accuracy, share),
        ("alpha", record.alpha, (f64::MIN, f64::INFINITY)),
        ("beta", record.beta, (f64::MIN, f64::INFINITY)),
        ("gamma", record.gamma, (f64::MIN, f64::INFINITY)),
        ("temperature", record.temperature, calibrate::RANGE),
        ("calibration_error", Some(record.calibration_error), share),
        ("calibration_error_fitted", record.calibration_error_fitted, share),
        ("log_loss", Some(record.log_loss), number),
        ("log_loss_fitted", record.log_loss_fitted, number),
        ("overlap", record.overlap, share),
        ("feature_variance", record.feature_variance, share),
        ("fit_seconds", Some(record.fit_seconds), number),
        ("predict_seconds", Some(record.predict_seconds), number),
    ] {
        value.map_or(Ok(()), |value| within(field, value, range))?;
    }
    digest("data", &record.data)
}

pub(super) fn test(test: &TestSet, settings: &Settings, about: &About) -> Checked {
    length("classes", test.classes.len(), settings.classes, "classes in the settings")?;
    length("labels", test.labels.len(), test.paths.len(), "paths")?;
    that(!test.paths.is_empty(), "paths", || "there is none".into())?;
    at_most("paths", test.paths.len(), about.parts[2], "test pictures")?;
    labels("labels", test.labels.iter().map(|label| *label as usize), settings.classes)?;
    digest("digest", &test.digest)
}

/// Checks the details of a result against the result and the test pictures.
pub(super) fn detail(detail: &Detail, record: &Record, test: &TestSet) -> Checked {
    let (pictures, classes) = (test.labels.len(), test.classes.len());
    length("predicted", detail.predicted.len(), pictures, "test pictures")?;
    labels("predicted", detail.predicted.iter().map(|label| *label as usize), classes)?;
    length("confidence", detail.confidence.len(), pictures, "test pictures")?;
    for (at, confidence) in detail.confidence.iter().enumerate() {
        within(&format!("confidence: entry {at}"), f64::from(*confidence), (0.0, 1.0))?;
    }
    let right = detail.predicted.iter().zip(&test.labels).filter(|(said, truth)| said == truth).count();
    that(right == record.correct, "predicted", || {
        format!("{right} are right by the labels of test.json, {} by results.jsonl", record.correct)
    })?;
    reliability("reliability", &detail.reliability, record)?;
    if let Some(fitted) = &detail.reliability_fitted {
        reliability("reliability_fitted", fitted, record)?;
    }
    if let Some(map) = &detail.search {
        // A search on what was trained asks no pictures that were left out.
        if map.of != record.evidence.all() {
            length("search.of", map.of, record.val, "validation pictures")?;
        }
        search(map)?;
    }
    finite("losses", &detail.losses)?;
    if let Some(map) = &detail.noise {
        noise(map)?;
    }
    length("support", detail.support.len(), record.support, "pictures learned from")?;
    labels("support", detail.support.iter().map(|(_, label)| *label), classes)
}

fn reliability(field: &str, reliability: &Reliability, record: &Record) -> Checked {
    let bins = &reliability.bins;
    length(&format!("{field}.bins"), bins.len(), calibrate::BINS, "bins")?;
    let (mut pictures, mut correct) = (0u64, 0u64);
    for (at, bin) in bins.iter().enumerate() {
        let field = format!("{field}.bins: entry {at}");
        that(bin.right <= bin.count, &field, || format!("{} right of {}", bin.right, bin.count))?;
        within(&field, bin.confidence, (0.0, bin.count as f64))?;
        pictures = pictures.saturating_add(bin.count);
        correct = correct.saturating_add(bin.right);
    }
    let of = (pictures, correct) == (record.test as u64, record.correct as u64);
    that(of, &format!("{field}.bins"), || {
        format!("{correct} right of {pictures}, by results.jsonl {} of {}", record.correct, record.test)
    })?;
    within(&format!("{field}.log_loss"), reliability.log_loss, (0.0, f64::INFINITY))
}

fn search(map: &SearchMap) -> Checked {
    for (field, values) in [("search.alphas", &map.alphas), ("search.betas", &map.betas)] {
        that(!values.is_empty(), field, || "there is none".into())?;
        that(values.iter().all(|value| value.is_finite()), field, || "not all are finite".into())?;
    }
    let points = map.alphas.len() * map.betas.len();
    length("search.correct", map.correct.len(), points, "points of α and β")?;
    let most = map.correct.iter().copied().max().unwrap_or(0) as usize;
    at_most("search.correct", most, map.of, "validation pictures")
}

fn noise(map: &NoiseMap) -> Checked {
    let parts = [
        ("text", &map.tokens, &map.text_mean, &map.text_spread),
        ("image", &map.classes, &map.image_mean, &map.image_spread),
    ];
    for (part, rows, mean, spread) in parts {
        let field = |name: &str| format!("noise.{part}_{name}");
        let fits = if rows.is_empty() { mean.is_empty() } else { !mean.is_empty() && mean.len() % rows.len() == 0 };
        that(fits, &field("mean"), || format!("{} values in {} rows", mean.len(), rows.len()))?;
        length(&field("spread"), spread.len(), mean.len(), "means")?;
        finite(&field("mean"), mean)?;
        finite(&field("spread"), spread)?;
    }
    map.pictures.iter().try_for_each(|picture| samples(picture).map(drop))
}

/// The samples of a picture with noise on its pixels: four squares of three bytes a pixel.
pub(super) fn samples(picture: &NoisyPicture) -> Result<Vec<u8>, String> {
    let field = "noise.pictures";
    that((1..=SIDE).contains(&picture.size), field, || format!("a side of {} is not from 1 to {SIDE}", picture.size))?;
    let samples = base64::engine::general_purpose::STANDARD.decode(&picture.samples);
    let samples = samples.map_err(|error| format!("{field}: {error}"))?;
    length(field, samples.len(), 4 * 3 * picture.size * picture.size, "samples")?;
    Ok(samples)
}

/// The largest side of such a picture.
const SIDE: usize = 4096;

pub(super) fn overlap(overlap: &Overlap) -> Checked {
    similarities("before", &overlap.before)?;
    overlap.after.as_ref().map_or(Ok(()), |after| similarities("after", after))
}

fn similarities(field: &str, similarities: &Similarities) -> Checked {
    for (name, histogram) in [("same", &similarities.same), ("different", &similarities.different)] {
        let field = format!("{field}.{name}");
        length(&field, histogram.len(), BINS, "bins")?;
        let pairs = histogram.iter().try_fold(0u64, |sum, count| sum.checked_add(*count));
        that(pairs.is_some_and(|pairs| pairs > 0), &field, || "there must be pairs, and fewer than 2^64".into())?;
    }
    within(&format!("{field}.variance"), similarities.variance, (0.0, 1.0))
}
