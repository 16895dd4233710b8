//! What is said of pictures: one [`Answer`] each, and three ways to print it. Where a picture may have several labels, an answer
//! has all of them, each with whether the picture has it ([`Ranked::has`]).

mod csv;
mod json;
mod multi;
mod table;

use std::path::{Path, PathBuf};

use anyhow::Result;
pub use csv::field;
pub use multi::Rule;
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
    /// Its place among the classes.
    pub number: usize,
    pub class: String,
    /// Whether the picture has it, where it may have several.
    pub has: Option<bool>,
    /// From what logit on it has it, where that was learned.
    pub threshold: Option<f64>,
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
    /// Classes, the likeliest first: those that are shown, and always the first two.
    pub ranked: Vec<Ranked>,
    /// What else is said; of the same kinds in all answers of a run.
    pub more: Vec<More>,
}

impl Answer {
    /// Of a prediction, with the cosine similarities to the classes' texts if there are some.
    fn new(path: &Path, prediction: &Prediction, cosines: Option<&[f64]>, top: usize) -> Answer {
        let alone = prediction.scores().len() == 1;
        let ranked = prediction.top(top.max(USUAL)).map(|scored| Ranked {
            number: scored.class,
            has: None,
            threshold: None,
            class: scored.name.into(),
            probability: (!alone).then_some(scored.probability),
            logit: scored.score.into(),
            cosine: cosines.and_then(|all| all.get(scored.class).copied()),
        });
        Answer {
            path: path.into(),
            class: prediction.class().map(String::from),
            ranked: ranked.collect(),
            more: crate::trust::more(prediction),
        }
    }

    /// The names of the labels that the picture has.
    fn has(&self) -> impl Iterator<Item = &str> {
        self.ranked.iter().filter(|label| label.has == Some(true)).map(|label| label.class.as_str())
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
    /// Whether a picture may have several labels.
    pub multi: bool,
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
        Shown { top, asked: self.top.is_some(), scores: self.scores, multi: false, alone: classes == 1 }
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

    /// Whether one JSON array is printed.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether answers are printed as they come.
    fn streams(&self) -> bool {
        self.jsonl || self.csv
    }
}

/// Pictures that are looked at twice, by the method and by its texts: so many at a time, so that answers come meanwhile.
const AT_ONCE: usize = 256;

/// A prediction, with the cosine similarities to the classes' texts if those are known.
type Seen = (Prediction, Option<Vec<f64>>);

/// Takes a picture's number and path, and what a classifier says of it.
type EachSeen<'a> = dyn FnMut(usize, &Path, tipi::Result<Seen>) -> tipi::Result<()> + 'a;

/// Looks at listed pictures.
struct Looks<'a> {
    classifier: Classifier,
    texts: Option<Classifier>,
    listed: &'a [(PathBuf, bool)],
}

impl<'a> Looks<'a> {
    fn new(asked: &Asked<'_>, listed: &'a [(PathBuf, bool)], pictures: &PictureArgs) -> Looks<'a> {
        let batched = |classifier: &Classifier| match pictures.batch() {
            Some(batch) => classifier.in_batches_of(batch),
            None => classifier.clone(),
        };
        Looks { classifier: batched(asked.classifier), texts: asked.texts.map(batched), listed }
    }

    /// The texts, if pictures must be looked at a second time for them. A method that is its texts says all at once.
    fn apart(&self) -> Option<&Classifier> {
        self.texts.as_ref().filter(|_| !is_text(&self.classifier))
    }

    /// How many pictures are looked at before the next ones.
    fn step(&self) -> usize {
        if self.apart().is_some() { AT_ONCE } else { self.listed.len().max(1) }
    }

    /// Looks at the pictures of these numbers.
    fn at(&self, numbers: std::ops::Range<usize>, watch: &mut dyn Watch, each: &mut EachSeen<'_>) -> tipi::Result<()> {
        let files: Vec<Picture> = self.listed[numbers.clone()].iter().map(|(path, _)| Picture::file(path)).collect();
        let mut similar = Vec::new();
        if let Some(texts) = self.apart() {
            texts.predict_each(&files, watch, &mut |_, answer| {
                similar.push(answer.ok().map(|answer| cosines(texts, &answer)));
                Ok(())
            })?;
        }
        self.classifier.predict_each(&files, watch, &mut |at, answer| {
            let number = numbers.start + at;
            let answer = answer.map(|answer| {
                let own = self.texts.as_ref().filter(|_| self.apart().is_none());
                let cosines = own.map(|texts| cosines(texts, &answer));
                let cosines = cosines.or_else(|| similar.get(at).cloned().flatten());
                (answer, cosines)
            });
            each(number, &self.listed[number].0, answer)
        })
    }
}

/// Answers for pictures, files and those in folders. A broken picture inside a folder or a list is named, skipped and counted; one
/// that was named itself, or any with `--strict`, is an error.
pub fn print_answers(
    asked: &Asked<'_>,
    listed: &[(PathBuf, bool)],
    pictures: &PictureArgs,
    args: &AnswerArgs,
) -> Result<()> {
    let shown = args.shown(asked.classifier.classes().len());
    let look = Looks::new(asked, listed, pictures);
    print_with((listed, look.step()), pictures, args, args.printer(shown), &mut |numbers, watch, each| {
        look.at(numbers, watch, &mut |number, path, answer| {
            each(number, answer.map(|(answer, cosines)| Answer::new(path, &answer, cosines.as_deref(), shown.top)))
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

/// Answers for pictures that may have several labels.
pub fn print_labels(
    asked: &Asked<'_>,
    rule: &Rule,
    listed: &[(PathBuf, bool)],
    (pictures, args): (&PictureArgs, &AnswerArgs),
) -> Result<()> {
    let labels = rule.names(asked.classifier).len();
    let top = args.top.unwrap_or(labels).min(labels);
    let shown = Shown { top, asked: args.top.is_some(), scores: args.scores, multi: true, alone: false };
    let look = Looks::new(asked, listed, pictures);
    print_with((listed, look.step()), pictures, args, args.printer(shown), &mut |numbers, watch, each| {
        look.at(numbers, watch, &mut |number, path, answer| {
            each(number, answer.map(|(answer, cosines)| rule.answer(path, &answer, cosines.as_deref())))
        })
    })
}
