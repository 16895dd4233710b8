//! Work that goes on beside the window: each piece is a job that can be cancelled, and hands over what it has as it goes.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use eframe::egui::Context;
use tipi::{Classifier, Error, Gpu, ImageFeatures, Job, Model, Picture, Result, Unwatched, Watch};

use crate::files::{Outcome, Plan};
use crate::session::Lesson;

/// Photos that are encoded at a time: what has been done is handed over after each, and answered.
const CHUNK: usize = 32;

/// What a piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Loading,
    Listing,
    Encoding,
    Learning,
    Filing,
    Undoing,
    Saving,
}

/// What comes out of it.
pub enum Done {
    Loaded(Model),
    Listed(PathBuf, Vec<Picture>),
    Encoded,
    Learned(Box<Learned>),
    Filed(Plan, Outcome),
    Undone(Plan, Outcome),
    Saved(PathBuf),
}

/// A classifier with its answers.
pub struct Learned {
    pub classifier: Classifier,
    pub answers: Vec<Answered>,
    /// From a picture of each class, not from names alone.
    pub from_pictures: bool,
    /// The session's version that it learned from.
    pub version: u64,
    pub seconds: f32,
}

/// A photo's number and the probabilities of its classes.
pub type Answered = (usize, Vec<f64>);

/// A photo that was encoded, or why it could not be.
pub struct Encoded {
    pub number: usize,
    pub features: std::result::Result<Vec<f32>, String>,
    pub answer: Option<Vec<f64>>,
}

/// A piece of work under way.
pub struct Task {
    pub kind: Kind,
    pub job: Job<Done>,
    /// Photos as they are encoded.
    pub encoded: mpsc::Receiver<Encoded>,
}

impl Task {
    fn start(
        kind: Kind,
        context: &Context,
        work: impl FnOnce(&mut dyn Watch, &mpsc::Sender<Encoded>) -> Result<Done> + Send + 'static,
    ) -> Task {
        let (send, encoded) = mpsc::channel();
        let context = context.clone();
        let job = Job::start_with(move |watch| work(watch, &send), move || context.request_repaint());
        Task { kind, job, encoded }
    }

    /// Loads the model in a folder.
    pub fn load(context: &Context, gpu: Gpu, folder: PathBuf) -> Task {
        Task::start(Kind::Loading, context, move |watch, _| {
            watch.begin("loading the model", 1);
            let model = Model::load(&gpu, folder)?;
            watch.end();
            Ok(Done::Loaded(model))
        })
    }

    /// Looks for the pictures in a folder.
    pub fn list(context: &Context, folder: PathBuf) -> Task {
        Task::start(Kind::Listing, context, move |watch, _| {
            watch.begin("looking for pictures", 1);
            let pictures = Picture::in_folder(&folder)?;
            watch.end();
            Ok(Done::Listed(folder, pictures))
        })
    }

    /// Encodes photos, and answers them at once where something was learned before.
    pub fn encode(
        context: &Context,
        model: Model,
        classifier: Option<Classifier>,
        photos: Vec<(usize, Picture)>,
    ) -> Task {
        Task::start(Kind::Encoding, context, move |watch, send| {
            let mut done = 0;
            watch.begin("looking at photos", photos.len());
            for chunk in photos.chunks(CHUNK) {
                watch.at(done)?;
                let encoded = encode(&model, classifier.as_ref(), chunk)?;
                encoded.into_iter().for_each(|encoded| drop(send.send(encoded)));
                done += chunk.len();
            }
            watch.end();
            Ok(Done::Encoded)
        })
    }

    /// Learns, and answers all photos whose features are known.
    pub fn learn(
        context: &Context,
        model: Model,
        (lesson, version): (Lesson, u64),
        (numbers, features, pictures): (Vec<usize>, ImageFeatures, Vec<Picture>),
    ) -> Task {
        Task::start(Kind::Learning, context, move |watch, _| {
            let began = std::time::Instant::now();
            let (classifier, from_pictures) = match lesson {
                Lesson::None => return Err(Error::Invalid("there are no classes to tell apart".into())),
                Lesson::Words { classes, template } => {
                    watch.begin("reading the classes' names", 1);
                    let classifier = model.zero_shot(&classes, &[template])?;
                    watch.end();
                    (classifier, false)
                }
                Lesson::Pictures { examples, options } => (model.fit(&examples, &options, watch)?.0, true),
            };
            let rows = probabilities(&classifier, &features, &pictures, watch)?;
            let answers = numbers.into_iter().zip(rows).filter_map(|(number, row)| Some((number, row?))).collect();
            let seconds = began.elapsed().as_secs_f32();
            Ok(Done::Learned(Box::new(Learned { classifier, answers, from_pictures, version, seconds })))
        })
    }

    /// Writes an adapter file.
    pub fn save(context: &Context, classifier: Classifier, path: PathBuf) -> Task {
        Task::start(Kind::Saving, context, move |_, _| {
            classifier.save(&path)?;
            Ok(Done::Saved(path))
        })
    }

    /// Copies or moves files.
    pub fn file(context: &Context, plan: Plan) -> Task {
        Task::start(Kind::Filing, context, move |watch, _| {
            let outcome = plan.run(watch)?;
            Ok(Done::Filed(plan, outcome))
        })
    }

    /// Takes that back.
    pub fn undo(context: &Context, plan: Plan) -> Task {
        Task::start(Kind::Undoing, context, move |watch, _| {
            let outcome = plan.undo(watch)?;
            Ok(Done::Undone(plan, outcome))
        })
    }
}

/// Encodes a chunk. A picture that cannot be decoded spoils no other.
fn encode(model: &Model, classifier: Option<&Classifier>, chunk: &[(usize, Picture)]) -> Result<Vec<Encoded>> {
    let mut pictures: Vec<Picture> = chunk.iter().map(|(_, picture)| picture.clone()).collect();
    let mut sound = vec![Ok(()); chunk.len()];
    let features = match model.encode(&pictures, &mut Unwatched) {
        Err(error @ (Error::Image { .. } | Error::Io { .. })) => {
            // One by one, to see which; those that are sound are encoded together again.
            sound = pictures.iter().map(|picture| picture.check().map(drop).map_err(|why| why.to_string())).collect();
            if sound.iter().all(std::result::Result::is_ok) {
                return Err(error);
            }
            let whole = pictures.into_iter().zip(&sound).filter(|(_, sound)| sound.is_ok());
            pictures = whole.map(|(picture, _)| picture).collect();
            model.encode(&pictures, &mut Unwatched)?
        }
        encoded => encoded?,
    };
    let answers = match classifier {
        Some(classifier) => probabilities(classifier, &features, &pictures, &mut Unwatched)?,
        None => vec![None; features.len()],
    };
    let mut rows = (0..features.len()).filter_map(|row| features.row(row)).zip(answers);
    let encoded = chunk.iter().zip(sound).map(|((number, _), sound)| {
        let row = sound.and_then(|()| rows.next().ok_or_else(|| "it was not encoded".to_owned()));
        let (features, answer) = row.map_or_else(|why| (Err(why), None), |(row, answer)| (Ok(row.to_vec()), answer));
        Encoded { number: *number, features, answer }
    });
    Ok(encoded.collect())
}

/// Probabilities of photos from their features, or, for a method that takes others, from the photos themselves.
fn probabilities(
    classifier: &Classifier,
    features: &ImageFeatures,
    pictures: &[Picture],
    watch: &mut dyn Watch,
) -> Result<Vec<Option<Vec<f64>>>> {
    if features.is_empty() {
        return Ok(Vec::new());
    }
    if classifier.takes_features() {
        let answers = classifier.predict_features(features)?;
        return Ok(answers.into_iter().map(|answer| Some(answer.probabilities().to_vec())).collect());
    }
    let answers = classifier.predict_all(pictures, watch)?;
    Ok(answers.into_iter().map(|answer| answer.ok().map(|answer| answer.probabilities().to_vec())).collect())
}

/// Writes what every photo was sorted to as a table that spreadsheets read: path, class, probability.
///
/// # Errors
/// A file that is there already, or cannot be written.
pub fn write_table(path: &Path, rows: &[(PathBuf, String, f64)]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    let mut text = String::from("path,class,probability\n");
    let field = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    for (path, class, probability) in rows {
        text += &format!("{},{},{probability:.6}\n", field(&path.to_string_lossy()), field(class));
    }
    file.write_all(text.as_bytes())
}
