//! From a lesson to a method that has learned, and what is to be believed of it.

use super::accuracy;
use super::evidence::{Calibration, Evidence};
use super::known::Known;
use super::lesson::{JudgeBy, Lesson};
use super::method::{Fit, Fitted, Method, SearchMap, Settings, Tried};
use crate::clip::Features;
use crate::data::Item;
use crate::watch::Watch;
use crate::{Error, Result};

/// A method that has learned, and what pictures say of it that it has not learned from.
pub struct Learned {
    /// The method; where one was chosen, that.
    pub method: &'static dyn Method,
    /// What it learned.
    pub fitted: Box<dyn Fitted>,
    /// The search over α and β, where there was one.
    pub search: Option<SearchMap>,
    /// Cross-entropy by epoch, where something was trained.
    pub losses: Vec<f32>,
    /// What was chosen among, where something was.
    pub tried: Vec<Tried>,
    /// How far its answers can be trusted.
    pub calibration: Calibration,
    /// Share of validation pictures that are right.
    pub val_accuracy: Option<f64>,
    /// Share of all evidence that is right.
    pub right: Option<f64>,
    /// The evidence: the validation pictures first.
    pub evidence: Evidence,
}

/// Learns a method and measures its confidence: the one way to learn, for the program, evaluations and applications.
///
/// # Errors
/// A method that needs a correction without one; as [`Method::fit`].
pub fn learn(
    method: &'static dyn Method,
    settings: &Settings,
    lesson: &mut Lesson<'_>,
    watch: &mut dyn Watch,
) -> Result<Learned> {
    let all = learn_each(method, std::slice::from_ref(settings), lesson, watch)?;
    all.into_iter().next().ok_or_else(nothing)
}

/// The same for several settings that differ in [`Method::of_prediction`] alone: what they share is learned once. Each gets what
/// [`learn`] would give it.
///
/// # Errors
/// As [`learn`]; no settings; some that differ in what is learned.
pub fn learn_each(
    method: &'static dyn Method,
    settings: &[Settings],
    lesson: &mut Lesson<'_>,
    watch: &mut dyn Watch,
) -> Result<Vec<Learned>> {
    let [first, others @ ..] = settings else { return Err(nothing()) };
    for settings in settings {
        method.check(settings)?;
        method.check_model(settings, lesson.clip())?;
        if shared(method, settings) != shared(method, first) {
            return Err(Error::invalid(format!(
                "settings of {method} that differ in what is learned are learned apart"
            )));
        }
    }
    if method.info().needs.correction {
        lesson.correction()?;
    }
    let Fit { fitted, search, losses, chosen, tried, evidence } = method.fit(lesson, first, watch)?;
    let asked = method;
    let method = chosen.unwrap_or(method);
    let mut all = vec![fitted];
    for settings in others {
        let other = all[0].predicting(lesson.clip(), settings)?;
        all.push(other);
    }
    let said = match evidence {
        Some(there) => vec![there],
        None => gather((method, settings), &all, lesson, watch)?,
    };
    if said.len() != all.len() {
        return Err(Error::invalid(format!("{asked} chooses among methods, for one way to predict at a time")));
    }
    let classes = lesson.texts().classes.len();
    let each = all.into_iter().zip(said).map(|(fitted, (evidence, known))| {
        let share = |n: usize| accuracy(&evidence.logits[..n * classes], &evidence.labels[..n], classes);
        let (validation, all) = (evidence.counts.validation, evidence.labels.len());
        let val_accuracy = (validation > 0).then(|| share(validation));
        let right = (all > 0).then(|| share(all));
        let calibration = Calibration::new(&evidence, classes, lesson.how().judge_by == JudgeBy::LeftOut, known)?;
        let (search, losses, tried) = (search.clone(), losses.clone(), tried.clone());
        Ok(Learned { method, fitted, search, losses, tried, calibration, val_accuracy, right, evidence })
    });
    each.collect()
}

fn nothing() -> Error {
    Error::invalid("there are no settings to learn with")
}

/// Settings without those that only predictions go by: where they are equal, so is what is learned.
pub fn shared(method: &dyn Method, settings: &Settings) -> Settings {
    let learned = |(name, _): &(&String, _)| !method.of_prediction().contains(&name.as_str());
    settings.iter().filter(learned).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What pictures say of each of `all` that it has not learned from, and the pictures that it has learned from.
fn gather(
    (method, settings): (&'static dyn Method, &[Settings]),
    all: &[Box<dyn Fitted>],
    lesson: &mut Lesson<'_>,
    watch: &mut dyn Watch,
) -> Result<Vec<(Evidence, Option<Known>)>> {
    let clip = lesson.clip();
    let mut support = Vec::with_capacity(all.len());
    let mut said: Vec<(Evidence, Option<Known>)> = Vec::with_capacity(all.len());
    for fitted in all {
        let features = lesson.support_for(&**fitted, watch)?;
        let known = Known::new(&clip.gpu, features.affinity(), lesson.labels(), fitted.width(clip))?;
        let mut evidence = Evidence::default();
        let val = lesson.val_for(&**fitted, watch)?;
        if !lesson.val_labels().is_empty() {
            evidence.add(clip, (fitted.logits(clip, &val, 0)?, lesson.val_labels()), (&val, known.as_ref()))?;
            evidence.counts.validation = evidence.labels.len();
        }
        support.push(features);
        said.push((evidence, known));
    }
    let mut evidence: Vec<&mut Evidence> = said.iter_mut().map(|(evidence, _)| evidence).collect();
    let judged = match method.info().needs.support {
        true => left_out((method, settings), all, (lesson, &support), &mut evidence, watch),
        false => unlearned(all, (lesson, &support), &mut evidence),
    };
    match judged {
        // Half of the pictures may be too few for what all of them were enough for.
        Err(error @ (Error::Invalid(_) | Error::Diverged { .. })) => {
            watch.note(&format!("{method} cannot be judged by pictures left out: {error}"));
            let classes = lesson.texts().classes.len();
            evidence.iter_mut().for_each(|evidence| evidence.truncate(evidence.counts.validation, classes));
        }
        other => other?,
    }
    for evidence in evidence {
        evidence.counts.left_out = evidence.labels.len() - evidence.counts.validation;
    }
    Ok(said)
}

/// Adds what the support pictures say, fold by fold, of what is learned from the others with the choices that were made.
fn left_out(
    (method, settings): (&'static dyn Method, &[Settings]),
    all: &[Box<dyn Fitted>],
    (lesson, support): (&mut Lesson<'_>, &[Features]),
    evidence: &mut [&mut Evidence],
    watch: &mut dyn Watch,
) -> Result<()> {
    let folds = lesson.folds(method.info().needs.training);
    let clip = lesson.clip();
    let mut settings = settings.to_vec();
    settings.iter_mut().zip(all).for_each(|(settings, fitted)| settings.extend(fitted.chosen()));
    for (number, (out, rest)) in folds.iter().enumerate() {
        let items = lesson.choice().support;
        let stay: Vec<Item> = rest.iter().map(|i| items[*i].clone()).collect();
        let mut fold = Of { what: format!("judging, {} of {}", number + 1, folds.len()), watch: &mut *watch };
        let Fit { fitted: learned, .. } = method.fit(&mut lesson.without(&stay, &rest)?, &settings[0], &mut fold)?;
        for (i, evidence) in evidence.iter_mut().enumerate() {
            let other = if i > 0 { Some(learned.predicting(clip, &settings[i])?) } else { None };
            let fitted = other.as_ref().unwrap_or(&learned);
            // What has learned without them has noise of its own on pixels.
            let own = fitted.pixels().map(|noise| lesson.noisy(noise, items, &mut fold)).transpose()?;
            ask(&**fitted, (&*lesson, own.as_ref().unwrap_or(&support[i])), (&out, &rest), evidence)?;
        }
    }
    Ok(())
}

/// Adds what all support pictures say of what has learned from none. The distance of each is that from half of the others.
fn unlearned(
    all: &[Box<dyn Fitted>],
    (lesson, support): (&mut Lesson<'_>, &[Features]),
    evidence: &mut [&mut Evidence],
) -> Result<()> {
    if !lesson.thin() {
        return Ok(());
    }
    for ((fitted, support), evidence) in all.iter().zip(support).zip(evidence) {
        for half in 0..2 {
            let (out, rest): (Vec<usize>, Vec<usize>) = (0..lesson.labels().len()).partition(|i| i % 2 == half);
            if out.is_empty() {
                continue;
            }
            ask(&**fitted, (&*lesson, support), (&out, &rest), evidence)?;
        }
    }
    Ok(())
}

/// Adds what the support pictures `out` say of `fitted`, which knows the pictures `rest`.
fn ask(
    fitted: &dyn Fitted,
    (lesson, support): (&Lesson<'_>, &Features),
    (out, rest): (&[usize], &[usize]),
    evidence: &mut Evidence,
) -> Result<()> {
    let (clip, width) = (lesson.clip(), fitted.width(lesson.clip()));
    let of = |which: &[usize]| which.iter().map(|i| lesson.labels()[*i]).collect::<Vec<u32>>();
    let asked = support.rows(out, width)?;
    let known = Known::new(&clip.gpu, support.rows(rest, width)?.affinity(), &of(rest), width)?;
    evidence.add(clip, (fitted.logits(clip, &asked, 0)?, &of(out)), (&asked, known.as_ref()))
}

/// Says that what is done is done to judge what was learned; what it finds has been said before.
struct Of<'w> {
    what: String,
    watch: &'w mut dyn Watch,
}

impl Watch for Of<'_> {
    fn begin(&mut self, what: &str, total: usize) {
        self.watch.begin(&format!("{}: {what}", self.what), total);
    }

    fn at(&mut self, done: usize) -> Result<()> {
        self.watch.at(done)
    }

    fn show(&mut self, text: &str) {
        self.watch.show(text);
    }

    fn end(&mut self) {
        self.watch.end();
    }

    fn note(&mut self, _text: &str) {}
}
