//! What is said of pictures: one [`Answer`] each, and three ways to print it.

mod csv;
mod json;
mod table;

use std::path::{Path, PathBuf};

use anyhow::Result;
pub use csv::field;
use serde_json::Value;
use tipi::low_level::watch::Watch;
use tipi::{Classifier, Error, Picture, Prediction};

use crate::bars::Bars;
use crate::common::{self, PictureArgs};
use crate::terminal;

/// The answer if no class is likely enough.
pub const UNKNOWN: &str = "unknown";

/// How many classes are shown where nobody says how many: the likeliest and the runner-up.
const USUAL: usize = 2;
/// The most classes that can be asked for.
const MOST_TOP: usize = 1_000_000;

/// What is shown of each picture, and how.
#[derive(clap::Args, Clone)]
pub struct AnswerArgs {
    /// Show the K likeliest classes, or all if there are fewer. By default the likeliest and the runner-up.
    #[arg(long, value_name = "K", value_parser = common::count(1, MOST_TOP))]
    top: Option<usize>,
    /// Show, beside each probability, the logit that it is made of, and the cosine similarity of the picture to the class's text.
    /// With adapters that have learned from pictures this takes about twice the time.
    #[arg(long)]
    scores: bool,
    /// Print one JSON array instead of a table.
    #[arg(long, group = "form")]
    json: bool,
    /// Print a JSON object a line, as the answers come.
    #[arg(long, group = "form")]
    jsonl: bool,
    /// Print CSV, a line a picture, as the answers come.
    #[arg(long, group = "form")]
    csv: bool,
}

/// A class, and what is said of it.
#[derive(Clone, Debug)]
pub struct Ranked {
    pub class: String,
    /// None for a label that is alone: there is nothing that it could be instead.
    pub probability: Option<f64>,
    pub logit: f64,
    /// Of the picture to the class's text; none where the method knows no text.
    pub cosine: Option<f64>,
}

/// Something else that is said of a picture, after all that every answer has: a column, or an entry of an object.
#[derive(Clone, Debug)]
pub struct More {
    /// The name in JSON and CSV.
    pub key: &'static str,
    /// The head of the column.
    pub title: &'static str,
    /// As a table and CSV have it.
    pub shown: String,
    /// As JSON has it.
    pub value: Value,
}

/// What is said of a picture.
#[derive(Clone, Debug)]
pub struct Answer {
    pub path: PathBuf,
    /// The class; none where none is likely enough.
    pub class: Option<String>,
    /// The classes that are shown, the likeliest first: at least that one.
    pub ranked: Vec<Ranked>,
    /// What else is said; of the same kinds in all answers of a run.
    pub more: Vec<More>,
}

impl Answer {
    /// Of a prediction, with the cosine similarities to the classes' texts if there are some.
    fn new(path: &Path, prediction: &Prediction, cosines: Option<&[f64]>, top: usize) -> Answer {
        let alone = prediction.scores().len() == 1;
        let ranked = prediction.top(top).map(|scored| Ranked {
            class: scored.name.into(),
            probability: (!alone).then_some(scored.probability),
            logit: scored.score.into(),
            cosine: cosines.and_then(|all| all.get(scored.class).copied()),
        });
        Answer {
            path: path.into(),
            class: prediction.class().map(String::from),
            ranked: ranked.collect(),
            more: Vec::new(),
        }
    }

    /// The likeliest class.
    fn best(&self) -> Option<&Ranked> {
        self.ranked.first()
    }
}

/// What the printers are told of all answers.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// How many classes each answer has.
    pub top: usize,
    /// Whether that many were asked for.
    pub asked: bool,
    /// Whether logits and cosine similarities are shown.
    pub scores: bool,
    /// Whether there is one label: no probability says anything then, and the cosine similarity is shown.
    pub alone: bool,
}

/// Prints answers, as they come or at the end.
pub trait Printer {
    /// Takes an answer. Gives whether anybody reads on.
    fn add(&mut self, answer: &Answer) -> tipi::Result<bool>;
    /// All are there.
    fn end(&mut self) -> Result<()>;
}

/// What answers, and what compares pictures with the classes' texts.
pub struct Asked<'a> {
    pub classifier: &'a Classifier,
    /// The classes' texts alone, as a classifier of the same model; none where a method knows none.
    pub texts: Option<&'a Classifier>,
}

/// The cosine similarities in the scores of a classifier from text.
fn cosines(classifier: &Classifier, prediction: &Prediction) -> Vec<f64> {
    let scale = f64::from(classifier.model().clip().logit_scale);
    prediction.scores().iter().map(|score| f64::from(*score) / scale).collect()
}

impl AnswerArgs {
    /// What is shown of so many classes.
    fn shown(&self, classes: usize) -> Shown {
        let top = self.top.unwrap_or(USUAL).min(classes);
        Shown { top, asked: self.top.is_some(), scores: self.scores, alone: classes == 1 }
    }

    /// Whether cosine similarities are shown of so many classes.
    pub fn needs_texts(&self, classes: usize) -> bool {
        self.scores || classes == 1
    }

    fn printer(&self, shown: Shown) -> Box<dyn Printer> {
        match (self.json, self.jsonl, self.csv) {
            (true, ..) => Box::new(json::Array::new(shown)),
            (_, true, _) => Box::new(json::Lines(shown)),
            (.., true) => Box::new(csv::Lines::new(shown)),
            _ => Box::new(table::Whole::new(shown)),
        }
    }

    /// Whether answers are printed as they come.
    fn streams(&self) -> bool {
        self.jsonl || self.csv
    }
}

/// Pictures that are looked at twice, by the method and by its texts: so many at a time, so that answers come meanwhile.
const AT_ONCE: usize = 256;

/// Answers for pictures, files and those in folders. A broken picture inside a folder or a list is named, skipped and counted; one
/// that was named itself, or any with `--strict`, is an error.
pub fn print_answers(
    asked: &Asked<'_>,
    listed: &[(PathBuf, bool)],
    pictures: &PictureArgs,
    args: &AnswerArgs,
) -> Result<()> {
    let batched = |classifier: &Classifier| match pictures.batch() {
        Some(batch) => classifier.in_batches_of(batch),
        None => classifier.clone(),
    };
    let shown = args.shown(asked.classifier.classes().len());
    let (classifier, texts) = (batched(asked.classifier), asked.texts.map(batched));
    let twice = texts.is_some() && !is_text(asked.classifier);
    let step = if twice { AT_ONCE } else { listed.len().max(1) };
    print_with((listed, step), pictures, args, args.printer(shown), &mut |numbers, watch, each| {
        let files: Vec<Picture> = listed[numbers.clone()].iter().map(|(path, _)| Picture::file(path)).collect();
        // A method that is its texts has said already how similar they are.
        let own = texts.as_ref().filter(|_| !twice);
        let mut similar = Vec::new();
        if let Some(texts) = texts.as_ref().filter(|_| twice) {
            texts.predict_each(&files, watch, &mut |_, answer| {
                similar.push(answer.ok().map(|answer| cosines(texts, &answer)));
                Ok(())
            })?;
        }
        classifier.predict_each(&files, watch, &mut |number, answer| {
            let path = &listed[numbers.start + number].0;
            let answer = answer.map(|answer| {
                let of_own = own.map(|texts| cosines(texts, &answer));
                let cosines = of_own.as_deref().or(similar.get(number).and_then(Option::as_deref));
                Answer::new(path, &answer, cosines, shown.top)
            });
            each(numbers.start + number, answer)
        })
    })
}

/// Whether a classifier has learned nothing but words.
fn is_text(classifier: &Classifier) -> bool {
    classifier.method().is_ok_and(|method| method.name() == tipi::low_level::adapt::method::baseline().info().name)
}

/// Takes a picture's number and what is said of it.
type Each<'a> = dyn FnMut(usize, tipi::Result<Answer>) -> tipi::Result<()> + 'a;
/// Looks at the pictures of these numbers.
pub type Look<'a> = dyn FnMut(std::ops::Range<usize>, &mut dyn Watch, &mut Each<'_>) -> tipi::Result<()> + 'a;

/// Prints what `look` says of pictures, of `step` at a time.
pub fn print_with(
    (listed, step): (&[(PathBuf, bool)], usize),
    pictures: &PictureArgs,
    args: &AnswerArgs,
    mut printer: Box<dyn Printer>,
    look: &mut Look<'_>,
) -> Result<()> {
    let mut bars = Bars::new();
    // Lines that come one by one are progress enough, and a bar would run into them.
    let mut unseen = tipi::Unwatched;
    let quiet = args.streams() && terminal::is_shown();
    let (mut skipped, mut count, mut gone) = (Vec::new(), 0, false);
    let mut looked = Ok(());
    for start in (0..listed.len()).step_by(step) {
        let numbers = start..(start + step).min(listed.len());
        let watch: &mut dyn Watch = if quiet { &mut unseen } else { &mut bars };
        looked = look(numbers, watch, &mut |number, answer| {
            match answer {
                Ok(answer) => {
                    count += 1;
                    gone = !printer.add(&answer)?;
                    // Nobody reads what would come.
                    return if gone { Err(Error::Stopped) } else { Ok(()) };
                }
                Err(error) if listed[number].1 || pictures.strict => return Err(error),
                Err(error) => skipped.push(error),
            }
            Ok(())
        });
        if looked.is_err() {
            break;
        }
    }
    bars.clear();
    if gone {
        return Ok(());
    }
    looked?;
    common::report_skipped(&skipped);
    if count == 0 {
        return Err(Error::Invalid("none of the pictures could be decoded".into()).into());
    }
    printer.end()
}
