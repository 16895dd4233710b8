//! `tipi predict --explain`: the pictures that spoke for an answer. A cache's logit of a class is s·f·w, from text, plus
//! α·Σ exp(−β(1 − g·k)) over the class's keys k, each of which is of a picture.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};
use tipi::low_level::adapt::adapter_file::File;
use tipi::low_level::adapt::overlap::Correction;
use tipi::low_level::clip::Clip;
use tipi::low_level::data::Item;
use tipi::low_level::encode::{self, Views};
use tipi::low_level::text;
use tipi::{Classifier, Picture, Prediction};

use crate::common::{self, PictureArgs};
use crate::tensors::TensorFile;
use crate::terminal::{self, note};
use crate::{bars::Bars, ui};

/// Keys that are named for an answer.
const NAMED: usize = 3;

/// What a cache's file holds.
pub struct Keys {
    /// `[keys, width]`.
    values: Vec<f32>,
    /// The class of each.
    labels: Vec<usize>,
    /// What each is of.
    names: Vec<String>,
    /// The text classifier, `[classes, width]`.
    weights: Vec<f32>,
    width: usize,
    alpha: f64,
    beta: f64,
    scale: f64,
    /// Whether the answer has a part besides text's and the cache's.
    diverges: bool,
    correction: Option<Correction>,
}

/// What spoke for an answer.
struct Explanation {
    /// The other class that text likes best, if there is one.
    other: Option<usize>,
    /// How far text, the cache, and the divergence where there is one put the answer's class before that one.
    text: f64,
    cache: f64,
    divergence: Option<f64>,
    /// The keys that added most: number, share of the class's cache term, cosine.
    keys: Vec<(usize, f64, f64)>,
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

impl Keys {
    /// Those of an adapter; none where its method has none.
    pub fn of(path: &Path, file: &File, clip: &Clip) -> Result<Option<Keys>> {
        let tensors = TensorFile::open(path)?;
        let (fitted, _) = file.bind(clip)?.into_method()?;
        let facts = fitted.facts();
        let (Some(alpha), Some(beta)) = (facts.alpha, facts.beta) else { return Ok(None) };
        if !tensors.has("labels") || !tensors.has("features") {
            return Ok(None);
        }
        let labels: Vec<usize> = tensors.integers("labels")?.1.into_iter().map(|label| label as usize).collect();
        let classes = &file.meta.classes;
        let mut names = file.meta.pictures.clone();
        if names.len() != labels.len() {
            note!("the adapter does not name its pictures, which have numbers here: fit it again");
            let before = |i: usize| labels[..i].iter().filter(|label| **label == labels[i]).count();
            let class = |label: usize| classes.get(label).map_or("", String::as_str);
            names = (0..labels.len()).map(|i| format!("{} #{}", class(labels[i]), before(i) + 1)).collect();
        }
        Ok(Some(Keys {
            values: tensors.f32("features")?.1,
            labels,
            names,
            weights: tensors.f32("weights")?.1,
            width: clip.config.embedding,
            alpha,
            beta,
            scale: f64::from(clip.logit_scale),
            diverges: facts.gamma.is_some(),
            correction: fitted.correction().cloned(),
        }))
    }

    fn key(&self, number: usize) -> &[f32] {
        &self.values[number * self.width..(number + 1) * self.width]
    }

    /// What spoke for an answer about a picture with these un-normalised features: those that text sees, and those that meet the
    /// keys.
    fn explain(&self, answer: &Prediction, plain: &[f32], met: &[f32]) -> Explanation {
        let (best, scores) = (answer.best().class, answer.scores());
        let length = |row: &[f32]| dot(row, row).sqrt().max(f64::MIN_POSITIVE);
        let (plain_length, met_length) = (length(plain), length(met));
        let text: Vec<f64> = self
            .weights
            .chunks_exact(self.width)
            .map(|weights| self.scale * dot(plain, weights) / plain_length)
            .collect();
        // Keys that were trained are no longer of length 1, and meet features as they are.
        let meets: Vec<f64> = (0..self.labels.len()).map(|i| dot(met, self.key(i)) / met_length).collect();
        let affinities: Vec<f64> = meets.iter().map(|meets| (-self.beta * (1.0 - meets)).exp()).collect();
        let own = |class: usize| (0..self.labels.len()).filter(move |i| self.labels[*i] == class);
        let sum = |class: usize| own(class).map(|i| affinities[i]).sum::<f64>();
        let other = (0..text.len()).filter(|class| *class != best).max_by(|a, b| text[*a].total_cmp(&text[*b]));
        let ahead = |of: &dyn Fn(usize) -> f64| of(best) - other.map_or(0.0, of);
        let (by_text, by_cache) = (ahead(&|class| text[class]), ahead(&|class| self.alpha * sum(class)));
        let rest = ahead(&|class| f64::from(scores[class])) - by_text - by_cache;
        let all = sum(best).max(f64::MIN_POSITIVE);
        let mut keys: Vec<(usize, f64, f64)> =
            own(best).map(|i| (i, affinities[i] / all, meets[i] / length(self.key(i)))).collect();
        keys.sort_by(|(_, x, a), (_, y, b)| y.total_cmp(x).then(b.total_cmp(a)));
        keys.truncate(NAMED);
        let divergence = self.diverges.then_some(rest);
        Explanation { other, text: by_text, cache: by_cache, divergence, keys }
    }
}

/// Prints answers with what spoke for them. Broken pictures are treated as those of `predict` without it.
pub fn run(
    classifier: &Classifier,
    keys: &Keys,
    listed: &[(PathBuf, bool)],
    args: &PictureArgs,
    json: bool,
) -> Result<()> {
    let (mut answered, mut skipped) = (Vec::new(), Vec::new());
    let pictures: Vec<Picture> = listed.iter().map(|(path, _)| Picture::file(path)).collect();
    let classifier = args.batch().map_or(classifier.clone(), |batch| classifier.in_batches_of(batch));
    let mut bars = Bars::new();
    let looked = classifier.predict_each(&pictures, &mut bars, &mut |number, answer| {
        let (path, explicit) = &listed[number];
        match answer {
            Ok(answer) => answered.push((Item { path: path.clone(), label: 0 }, answer)),
            Err(error) if *explicit || args.strict => return Err(error),
            Err(error) => skipped.push(error),
        }
        Ok(())
    });
    bars.clear();
    looked?;
    common::report_skipped(&skipped);
    if answered.is_empty() {
        return Err(tipi::Error::Invalid("none of the pictures could be decoded".into()).into());
    }
    let items: Vec<Item> = answered.iter().map(|(item, _)| item.clone()).collect();
    let clip = classifier.model().clip();
    let mut encoder = args.encoder(clip, items.len(), common::tower(keys.correction.as_ref()))?;
    let bar = ui::bar(items.len(), "looking at keys");
    let features = encode::encode(&mut encoder, &items, &Views::Center, true, &mut |n| bar.inc(n as u64))?.features;
    bar.finish_and_clear();
    let plain = features.original.chunks_exact(keys.width);
    let met = features.adapted.as_ref().unwrap_or(&features.original).chunks_exact(keys.width);
    let explained: Vec<Explanation> = answered
        .iter()
        .zip(plain.zip(met))
        .map(|((_, answer), (plain, met))| keys.explain(answer, plain, met))
        .collect();
    let all: Vec<(&Path, &Prediction, &Explanation)> = answered
        .iter()
        .zip(&explained)
        .map(|((item, answer), explanation)| (item.path.as_path(), answer, explanation))
        .collect();
    if json { print_json(classifier.classes(), keys, &all) } else { print_table(classifier.classes(), keys, &all) }
}

fn print_json(classes: &[String], keys: &Keys, all: &[(&Path, &Prediction, &Explanation)]) -> Result<()> {
    let rows: Vec<Value> =
        all.iter()
            .map(|(path, answer, explanation)| {
                let best = answer.best();
                let named = explanation.keys.iter().map(
                    |(key, share, cosine)| json!({ "picture": keys.names[*key], "share": share, "cosine": cosine }),
                );
                let mut object = json!({
                    "path": text::path(path),
                    "class": answer.class().unwrap_or("unknown"),
                    "likeliest": best.name,
                    "probability": best.probability,
                    "other": explanation.other.map(|class| &classes[class]),
                    "text": explanation.text,
                    "cache": explanation.cache,
                    "divergence": explanation.divergence,
                    "keys": named.collect::<Vec<Value>>(),
                });
                if let Some(bytes) = text::path_bytes(path) {
                    object["path_bytes"] = bytes.into();
                }
                object
            })
            .collect();
    terminal::print_json(&rows, true)
}

fn print_table(classes: &[String], keys: &Keys, all: &[(&Path, &Prediction, &Explanation)]) -> Result<()> {
    let mut head = vec!["picture", "class", "probability", "before", "by text", "by cache"];
    head.extend(keys.diverges.then_some("by divergence"));
    head.extend(["key", "share", "cosine"]);
    let mut table = ui::table(&head);
    for (path, answer, explanation) in all {
        let best = answer.best();
        let mut cells = vec![
            text::path(path),
            answer.class().map_or_else(|| format!("unknown ({}?)", best.name), String::from),
            format!("{:.1} %", 100.0 * best.probability),
            explanation.other.map_or("-".into(), |class| classes[class].clone()),
            format!("{:+.2}", explanation.text),
            format!("{:+.2}", explanation.cache),
        ];
        cells.extend(explanation.divergence.map(|by| format!("{by:+.2}")));
        for (key, share, cosine) in &explanation.keys {
            let key = [keys.names[*key].clone(), format!("{:.1} %", 100.0 * share), format!("{cosine:.4}")];
            table.add_row(cells.iter().chain(&key));
            // What is said of the picture stands once, before its keys.
            cells.iter_mut().for_each(String::clear);
        }
        if explanation.keys.is_empty() {
            table.add_row(cells.iter().map(String::as_str).chain(["-", "-", "-"]));
        }
    }
    terminal::print(&format!(
        "{table}\nbefore: the other class that text likes best, and how far each part of the logits puts the answer before it \
         (+) or behind it (-)\nshare: of what all keys of the class add to its logit"
    ))?;
    Ok(())
}
