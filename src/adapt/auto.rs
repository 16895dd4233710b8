//! The choice of a method: several are fitted to the same pictures, those without training first, and the one whose confidence
//! fits pictures best that it has not learned from is kept.
//!
//! What counts is the log-loss at each method's own temperature, on the evidence ([`super::evidence`]): validation pictures, and where
//! they are few, pictures that were left out. What chooses something on many validation pictures is judged on each half of them by
//! what it chose on the other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::adapter_file::Loading;
use super::calibrate::{self, confident};
use super::learn::{Learned, learn};
use super::lesson::Lesson;
use super::method::{self, Fit, Fitted, Info, Kind, METHODS, Method, Needs, Setting, Settings, Tried};
use crate::data::Item;
use crate::platform::Instant;
use crate::watch::Watch;
use crate::{Error, Result};

/// The method.
pub struct Auto;

/// Its settings.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Options {
    /// As [`budget`] reads it; none is no end.
    budget: Option<String>,
}

/// A time such as `90s`, `5m` or `2h`; a bare number is seconds.
fn budget(text: &str) -> Result<Duration> {
    let (number, unit) = match text.trim().char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    let seconds = number.trim().parse::<f64>().ok().map(|n| n * unit).filter(|n| (1.0..=1e7).contains(n));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| Error::invalid(format!("budget '{text}' must be a time from 1s on: 90s, 5m or 2h")))
}

/// Ends what cannot come to its end before the time is up.
struct Deadline<'w> {
    watch: &'w mut dyn Watch,
    end: Option<Instant>,
    begun: Instant,
    total: usize,
    /// Whether it was the time that ended it.
    late: bool,
}

impl Watch for Deadline<'_> {
    fn begin(&mut self, what: &str, total: usize) {
        (self.begun, self.total) = (Instant::now(), total);
        self.watch.begin(what, total);
    }

    fn at(&mut self, done: usize) -> Result<()> {
        self.watch.at(done)?;
        let Some(end) = self.end else { return Ok(()) };
        // Some steps first: the first of all compiles its shaders.
        let gone = self.begun.elapsed();
        let whole = gone.mul_f64(self.total as f64 / done.max(1) as f64);
        let hopeless = gone > Duration::from_secs(2) && done >= 3 && self.begun + whole > end;
        if Instant::now() >= end || hopeless {
            self.late = true;
            return Err(Error::Stopped);
        }
        Ok(())
    }

    fn show(&mut self, text: &str) {
        self.watch.show(text);
    }

    fn end(&mut self) {
        self.watch.end();
    }

    fn note(&mut self, text: &str) {
        self.watch.note(text);
    }
}

/// Mean of −log of the labels' probabilities at the temperature that makes it least, and the share of rows that are right.
fn judged(logits: &[f32], labels: &[u32], classes: usize) -> Result<(f64, f64)> {
    let temperature = calibrate::temperature(logits, labels, classes, calibrate::PRIOR)?.unwrap_or(1.0);
    let of = |(row, label): (&[f32], &u32)| -confident(row, temperature)[*label as usize].max(f64::MIN_POSITIVE).ln();
    let sum: f64 = logits.chunks_exact(classes).zip(labels).map(of).sum();
    Ok((sum / labels.len().max(1) as f64, super::accuracy(logits, labels, classes)))
}

/// Logits of the validation pictures, half of them each by what was chosen on the other half.
fn crossed(
    method: &'static dyn Method,
    settings: &Settings,
    lesson: &mut Lesson<'_>,
    watch: &mut dyn Watch,
) -> Result<Vec<f32>> {
    let (val, classes) = (lesson.choice().val, lesson.texts().classes.len());
    let mut logits = vec![0.0; val.len() * classes];
    for half in 0..2 {
        let chosen_on: Vec<Item> = val.iter().skip(half).step_by(2).cloned().collect();
        let asked: Vec<Item> = val.iter().skip(1 - half).step_by(2).cloned().collect();
        let mut part = lesson.validated_on(&chosen_on);
        let Fit { fitted, .. } = method.fit(&mut part, settings, watch)?;
        let features = part.validated_on(&asked).val_for(&*fitted, watch)?;
        let rows = fitted.logits(part.clip(), &features, 0)?;
        for (row, place) in rows.chunks_exact(classes).zip((1 - half..val.len()).step_by(2)) {
            logits[place * classes..(place + 1) * classes].copy_from_slice(row);
        }
    }
    Ok(logits)
}

/// The methods that a lesson has all for, those without training first.
fn candidates(lesson: &Lesson<'_>, trained: bool) -> Vec<&'static dyn Method> {
    let fits = |m: &&'static dyn Method| {
        let needs = m.info().needs;
        let has = (!needs.correction || lesson.correction().is_ok()) && (!needs.causal || lesson.clip().config.causal);
        !needs.others && has && (trained || !needs.training)
    };
    let mut all: Vec<&'static dyn Method> = METHODS.iter().copied().filter(fits).collect();
    all.sort_by_key(|m| m.info().needs.training);
    all
}

/// Learns by a method with its defaults, and judges it: its log-loss, its accuracy, and the number of pictures that they are of.
fn judge(
    method: &'static dyn Method,
    lesson: &mut Lesson<'_>,
    watch: &mut dyn Watch,
) -> Result<(Fit, f64, f64, usize)> {
    let settings = lesson.settings_of(method)?;
    let Learned { fitted, search, losses, evidence, calibration, .. } = learn(method, &settings, lesson, watch)?;
    let pictures = evidence.labels.len();
    if pictures == 0 {
        return Err(Error::invalid("there are no pictures to judge by: give at least two per class"));
    }
    // Of pictures that something was chosen on, a method says too much. Where they are few, little was chosen on them.
    let says_too_much = method.info().needs.val && evidence.counts.validation > 1 && !lesson.thin();
    let others = if says_too_much { Some(crossed(method, &settings, lesson, watch)?) } else { None };
    let logits = others.as_deref().unwrap_or(&evidence.logits);
    let (log_loss, accuracy) = judged(logits, &evidence.labels, lesson.texts().classes.len())?;
    let evidence = Some((evidence, calibration.known));
    let fit = Fit { fitted, search, losses, chosen: Some(method), tried: Vec::new(), evidence };
    Ok((fit, log_loss, accuracy, pictures))
}

impl Method for Auto {
    fn info(&self) -> &'static Info {
        &Info {
            name: "auto",
            aliases: &[],
            title: "auto",
            about: "Fits as many methods as time allows, and keeps the one that does best on pictures it has not learned from.",
            paper: "",
            needs: Needs {
                support: true,
                keys: true,
                templates: true,
                words: true,
                grid: true,
                others: true,
                ..Needs::NONE
            },
            memory: None,
            published: None,
        }
    }

    fn settings(&self) -> &'static [Setting] {
        &[Setting {
            name: "budget",
            help: "Time for all methods together, such as 90s, 5m or 2h; those without training come first. Without it all \
                   methods finish, and the same pictures give the same adapter.",
            kind: Kind::Text("TIME", |text| budget(text).map(drop)),
            alone: false,
        }]
    }

    fn defaults(&self) -> Settings {
        method::untyped(&Options::default()).unwrap_or_default()
    }

    fn check(&self, settings: &Settings) -> Result<()> {
        method::typed::<Options>(settings)?.budget.map_or(Ok(()), |text| budget(&text).map(drop))
    }

    fn fit(&self, lesson: &mut Lesson<'_>, settings: &Settings, watch: &mut dyn Watch) -> Result<Fit> {
        let options: Options = method::typed(settings)?;
        let end = options.budget.map(|text| budget(&text)).transpose()?.map(|budget| Instant::now() + budget);
        let (mut best, mut tried): (Option<(f64, usize, Fit)>, Vec<Tried>) = (None, Vec::new());
        // What is trained is trained several times to be judged by pictures left out: only where it was said how long that may take.
        let mut counts = vec![0usize; lesson.texts().classes.len()];
        lesson.val_labels().iter().for_each(|label| counts[*label as usize] += 1);
        let trained = end.is_some() || counts.iter().all(|count| *count > 1);
        for method in candidates(lesson, trained) {
            let clock = Instant::now();
            let mut row = Tried { method, log_loss: None, accuracy: None, pictures: 0, seconds: 0.0, chosen: false };
            let mut deadline = Deadline { watch: &mut *watch, end, begun: clock, total: 0, late: false };
            let judged = if end.is_some_and(|end| clock >= end) {
                deadline.late = true;
                Err(Error::Stopped)
            } else {
                judge(method, lesson, &mut deadline)
            };
            let late = deadline.late;
            row.seconds = clock.elapsed().as_secs_f64();
            match judged {
                Ok((fit, log_loss, accuracy, pictures)) => {
                    (row.log_loss, row.accuracy, row.pictures) = (Some(log_loss), Some(accuracy), pictures);
                    if best.as_ref().is_none_or(|(least, ..)| log_loss < *least) {
                        best = Some((log_loss, tried.len(), fit));
                    }
                }
                Err(Error::Stopped) if late => watch.note(&format!("{method}: not within the time")),
                // What this method cannot do another may.
                Err(error @ (Error::Invalid(_) | Error::Diverged { .. } | Error::OutOfMemory { .. })) => {
                    watch.note(&format!("{method}: {error}"));
                }
                Err(error) => return Err(error),
            }
            tried.push(row);
        }
        let none = || {
            Error::invalid(
                "no method came to its end, or there are no pictures to judge one by: give more time, or more pictures",
            )
        };
        let (log_loss, place, fit) = best.ok_or_else(none)?;
        tried[place].chosen = true;
        let pictures = crate::text::count(tried[place].pictures, "picture", "pictures");
        let how = if lesson.thin() { "validation pictures, and pictures left out" } else { "validation pictures" };
        watch.note(&format!("{}: the least log-loss, {log_loss:.3}, on {pictures} ({how})", tried[place].method));
        Ok(Fit { tried, ..fit })
    }

    fn check_words(&self, _words: &Settings) -> Result<()> {
        Err(Error::invalid("a file is of the method that was chosen"))
    }

    fn load(&self, file: &Loading<'_>) -> Result<Box<dyn Fitted>> {
        Err(file.bad("a file is of the method that was chosen, never of 'auto'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Unwatched;

    #[test]
    fn budgets_are_times() {
        for (text, seconds) in [("90s", 90.0), ("5m", 300.0), ("2h", 7200.0), ("7", 7.0), (" 1.5m ", 90.0)] {
            assert_eq!(budget(text.trim()).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "s", "soon", "0s", "-3m", "1e9h", "5d", "nan"] {
            assert!(budget(text).unwrap_err().to_string().contains("90s, 5m or 2h"), "{text}");
        }
    }

    #[test]
    fn time_that_is_up_ends_work_and_time_that_is_left_does_not() {
        let at = |end: Option<Duration>, gone: u64, done: usize, total: usize| {
            let begun = Instant::now() - Duration::from_secs(gone);
            let end = end.map(|end| begun + end);
            let mut deadline = Deadline { watch: &mut Unwatched, end, begun, total, late: false };
            let result = deadline.at(done);
            assert_eq!(matches!(result, Err(Error::Stopped)), deadline.late);
            deadline.late
        };
        let seconds = |n| Some(Duration::from_secs(n));
        assert!(at(seconds(10), 11, 5, 10), "the time is up");
        // At ten of a hundred steps after five seconds fifty are needed.
        assert!(at(seconds(40), 5, 10, 100) && !at(seconds(60), 5, 10, 100));
        // Too early to tell, and no end.
        assert!(!at(seconds(40), 1, 1, 100) && !at(seconds(40), 5, 2, 100) && !at(None, 5000, 1, 100));
    }

    #[test]
    fn a_judgement_is_the_log_loss_at_its_own_temperature() {
        // Many pictures, so that they alone tell the temperature.
        let (logits, labels) = ([4.0, 0.0, 0.0, 4.0, 4.0, 0.0, 4.0, 0.0].repeat(1000), [0, 1, 0, 1].repeat(1000));
        let (loss, right) = judged(&logits, &labels, 2).unwrap();
        // Three of four right: at the best temperature each is said with a probability of 3/4.
        let least = -(3.0 * 0.75f64.ln() + 0.25f64.ln()) / 4.0;
        assert!((loss - least).abs() < 1e-6 && right == 0.75, "{loss} for {least}");
        // How loud a method is does not count.
        let loud: Vec<f32> = logits.iter().map(|z| 5.0 * z).collect();
        assert!((judged(&loud, &labels, 2).unwrap().0 - loss).abs() < 1e-5);
    }
}
