//! The program: what a person did, what goes on beside the window, and what comes next.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

use eframe::egui::{self, Context};
use serde_json::{Value, json};
use tipi::{Classifier, Error, Gpu, Method, Model, Result};

use crate::files::{Outcome, Plan};
use crate::marks::{Frames, Marks};
use crate::session::{ClassId, Place, Session};
use crate::thumbs::Thumbs;
use crate::view;
use crate::work::{Done, Kind, Learned, Task};

/// The bundled model's template is another than the papers': its pictures are icons.
const ICONS: &str = "an icon of {}";
const PHOTOS: &str = "a photo of a {}.";

/// What the last lesson was.
pub struct Lore {
    pub version: u64,
    pub from_pictures: bool,
    pub seconds: f32,
    pub facts: String,
}

/// A message at the window's lower edge.
pub struct Message {
    pub text: String,
    pub error: bool,
    pub until: Option<Instant>,
}

/// What a native dialog was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Folder,
    Model,
    Into,
    Adapter,
    Table,
}

/// What a dialog was opened for, and the path that was chosen.
type Chosen = (Asked, PathBuf);

pub struct Desk {
    pub session: Session,
    pub thumbs: Thumbs,
    pub view: view::State,
    pub model: Option<Model>,
    pub classifier: Option<Classifier>,
    pub lore: Option<Lore>,
    pub task: Option<Task>,
    pub message: Option<Message>,
    /// The last files that were copied or moved, for taking that back.
    pub filed: Option<Plan>,
    pub marks: Option<Marks>,
    /// A person said stop: nothing begins by itself until they say go on.
    pub paused: bool,
    pub gpu: Gpu,
    context: Context,
    template_given: bool,
    to_load: Option<PathBuf>,
    to_open: Option<PathBuf>,
    /// What is being learned: the session's version, and its classes in order.
    learning: Option<(u64, Vec<ClassId>)>,
    /// A version that could not be learned: it is not tried again.
    failed: Option<u64>,
    frames: Frames,
    send: mpsc::Sender<Chosen>,
    chosen: mpsc::Receiver<Chosen>,
}

impl Desk {
    pub fn new(context: &Context, gpu: Gpu, template: Option<&str>, marks: Option<PathBuf>) -> Result<Desk> {
        let (send, chosen) = mpsc::channel();
        Ok(Desk {
            session: Session::new(Method::named("tip-adapter")?, template.unwrap_or(PHOTOS)),
            thumbs: Thumbs::new(context),
            view: view::State::default(),
            model: None,
            classifier: None,
            lore: None,
            task: None,
            message: None,
            filed: None,
            marks: marks.map(Marks::new),
            paused: false,
            gpu,
            context: context.clone(),
            template_given: template.is_some(),
            to_load: None,
            to_open: None,
            learning: None,
            failed: None,
            frames: Frames::default(),
            send,
            chosen,
        })
    }

    /// Loads a model as soon as nothing else goes on.
    pub fn load(&mut self, folder: PathBuf) {
        if !self.template_given {
            let icons = folder.ends_with("weights/picto");
            self.session.settings.template = if icons { ICONS } else { PHOTOS }.into();
        }
        self.to_load = Some(folder);
        self.stop_task();
    }

    /// Opens a folder as soon as nothing else goes on.
    pub fn open(&mut self, folder: PathBuf) {
        self.to_open = Some(std::path::absolute(&folder).unwrap_or(folder));
        self.stop_task();
    }

    /// Opens the system's dialog for a folder or a file.
    pub fn ask(&self, asked: Asked) {
        let dialog = rfd::AsyncFileDialog::new();
        let dialog = match self.session.folder.as_deref().and_then(Path::parent) {
            Some(folder) => dialog.set_directory(folder),
            None => dialog,
        };
        let (send, context) = (self.send.clone(), self.context.clone());
        // The dialog is opened here, where some systems ask for it, and waited for elsewhere.
        let chosen: std::pin::Pin<Box<dyn Future<Output = Option<rfd::FileHandle>> + Send>> = match asked {
            Asked::Folder | Asked::Model | Asked::Into => Box::pin(dialog.pick_folder()),
            Asked::Adapter => Box::pin(dialog.set_file_name("adapter.safetensors").save_file()),
            Asked::Table => Box::pin(dialog.set_file_name("sorted.csv").save_file()),
        };
        std::thread::spawn(move || {
            if let Some(file) = pollster::block_on(chosen) {
                let _ = send.send((asked, file.path().to_path_buf()));
                context.request_repaint();
            }
        });
    }

    pub fn say(&mut self, text: impl Into<String>) {
        let until = Some(Instant::now() + std::time::Duration::from_secs(6));
        self.message = Some(Message { text: text.into(), error: false, until });
    }

    pub fn complain(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), error: true, until: None });
    }

    /// Ends what goes on, because a person said so.
    pub fn cancel(&mut self) {
        match self.task.as_ref().map(|task| task.kind) {
            Some(Kind::Encoding) => self.paused = true,
            Some(Kind::Learning) => self.failed = self.learning.as_ref().map(|(version, _)| *version),
            _ => {}
        }
        self.stop_task();
    }

    fn stop_task(&self) {
        if let Some(task) = &self.task {
            task.job.cancel();
        }
    }

    /// Whether what was learned is of an earlier state.
    pub fn is_stale(&self) -> bool {
        self.lore.as_ref().is_none_or(|lore| lore.version != self.session.version)
    }

    /// Takes in what was done, and begins what comes next.
    fn step(&mut self) {
        while let Ok((asked, path)) = self.chosen.try_recv() {
            match asked {
                Asked::Folder => self.open(path),
                Asked::Model => self.load(path),
                Asked::Into | Asked::Adapter | Asked::Table => self.view.chosen(asked, &path),
            }
        }
        if let Some(task) = &mut self.task {
            // The result first: all that was encoded before it has been sent by then.
            let (result, notes) = (task.job.take(), task.job.notes());
            for encoded in task.encoded.try_iter() {
                self.session.encoded(encoded.number, encoded.features);
                if let Some(answer) = encoded.answer {
                    self.session.answer(encoded.number, answer);
                }
            }
            if let Some(note) = notes.last() {
                self.say(note.clone());
            }
            if let Some(result) = result {
                self.task = None;
                match result {
                    Ok(done) => self.done(done),
                    Err(Error::Stopped) => self.learning = None,
                    Err(error) => {
                        self.failed = self.learning.take().map(|(version, _)| version);
                        self.paused |= self.failed.is_none();
                        self.complain(error.to_string());
                    }
                }
            }
        }
        let late = self.learning.as_ref().is_some_and(|(version, _)| *version != self.session.version);
        match self.task.as_ref().map(|task| task.kind) {
            Some(Kind::Learning) if late => self.stop_task(),
            // What a person just did is learned first; encoding goes on after it.
            Some(Kind::Encoding) if self.learns_now() => self.stop_task(),
            Some(_) => {}
            None => self.task = self.next(),
        }
    }

    fn learns_now(&self) -> bool {
        self.is_stale()
            && self.session.classes.len() > 1
            && self.failed != Some(self.session.version)
            && self.session.photos.iter().any(|photo| photo.is_encoded())
    }

    fn next(&mut self) -> Option<Task> {
        if let Some(folder) = self.to_load.take() {
            (self.model, self.classifier, self.lore) = (None, None, None);
            let (folder_of, pictures) = (self.session.folder.clone(), self.session.in_folder());
            if let Some(folder) = folder_of {
                // Another model, other features.
                self.session.open(folder, pictures);
            }
            return Some(Task::load(&self.context, self.gpu.clone(), folder));
        }
        if let Some(folder) = self.to_open.take() {
            return Some(Task::list(&self.context, folder));
        }
        let model = self.model.clone()?;
        if self.learns_now() {
            let lesson = self.session.lesson();
            let version = self.session.version;
            let (numbers, features) = self.session.features_of(0..self.session.photos.len())?;
            let pictures = numbers.iter().map(|number| self.session.photos[*number].picture.clone()).collect();
            self.learning = Some((version, self.session.classes.iter().map(|class| class.id).collect()));
            return Some(Task::learn(&self.context, model, (lesson, version), (numbers, features, pictures)));
        }
        let left = self.session.unencoded();
        if left.is_empty() || self.paused {
            return None;
        }
        let photos = left.into_iter().map(|number| (number, self.session.photos[number].picture.clone())).collect();
        let classifier = self.classifier.clone().filter(|_| !self.session.answered.is_empty());
        Some(Task::encode(&self.context, model, classifier, photos))
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Loaded(model) => {
                self.model = Some(model);
                self.paused = false;
            }
            Done::Listed(folder, pictures) => {
                self.session.open(folder, pictures);
                (self.classifier, self.lore, self.paused) = (None, None, false);
                self.view.forget_photos();
            }
            Done::Encoded => {}
            Done::Learned(learned) => {
                let Learned { classifier, answers, from_pictures, version, seconds } = *learned;
                self.session.forget_answers();
                self.session.answered = self.learning.take().map(|(_, classes)| classes).unwrap_or_default();
                for (number, probabilities) in answers {
                    self.session.answer(number, probabilities);
                }
                let facts = classifier.facts();
                self.lore = Some(Lore { version, from_pictures, seconds, facts });
                self.classifier = Some(classifier);
            }
            Done::Saved(path) => self.say(format!("saved {}", path.display())),
            Done::Filed(plan, outcome) => {
                self.tell("filed", &plan, &outcome);
                self.session.moved(&plan, false);
                self.filed = Some(plan);
            }
            Done::Undone(plan, outcome) => {
                self.tell("taken back", &plan, &outcome);
                self.session.moved(&plan, true);
                self.filed = None;
            }
        }
    }

    fn tell(&mut self, what: &str, plan: &Plan, outcome: &Outcome) {
        let done =
            format!("{} {} of {} {what}", outcome.done, if plan.moves { "moves" } else { "copies" }, plan.steps.len());
        match outcome.failed.first() {
            None => self.say(format!("{done}: {}", plan.into.display())),
            Some((path, why)) => {
                let count = outcome.failed.len();
                self.complain(format!("{done}; {count} stayed as they were, {}: {why}", path.display()));
            }
        }
    }

    /// Every photo of the folder with where it is sorted to.
    pub fn sorted(&self) -> Vec<(PathBuf, Place, f64)> {
        let photos = self.session.photos.iter().filter(|photo| photo.in_folder);
        photos
            .filter_map(|photo| self.session.place(photo).map(|(place, sure)| (photo.path().into(), place, sure)))
            .collect()
    }

    fn state(&self) -> Value {
        let session = &self.session;
        let places: serde_json::Map<String, Value> = (session.photos.iter())
            .filter_map(|photo| {
                let (place, probability) = session.place(photo)?;
                let best = photo.answer.as_ref().and_then(|answer| session.answered.get(answer.best));
                let best = best.map(|id| session.name(Place::Class(*id)));
                let by_hand = photo.hand.is_some();
                Some((photo.path().to_string_lossy().into(), json!([session.name(place), probability, by_hand, best])))
            })
            .collect();
        let selected: Vec<_> = (self.view.selection.iter())
            .filter_map(|number| Some(session.photos.get(*number)?.path().to_string_lossy()))
            .collect();
        json!({
            "task": self.task.as_ref().map(|task| format!("{:?}", task.kind)),
            "model": self.model.is_some(),
            "device": self.gpu.name(),
            "photos": session.photos.len(),
            "classes": session.classes.len(),
            "encoded": session.photos.iter().filter(|photo| photo.is_encoded()).count(),
            "broken": session.photos.iter().filter(|photo| photo.broken.is_some()).count(),
            "version": session.version,
            "stale": self.is_stale(),
            "learned": self.lore.as_ref().map(|lore| json!({
                "version": lore.version, "pictures": lore.from_pictures, "seconds": lore.seconds,
            })),
            "method": session.settings.method.name(),
            "least": session.settings.least,
            "selected": selected,
            "message": self.message.as_ref().map(|message| message.text.clone()),
            "error": self.message.as_ref().is_some_and(|message| message.error),
            "places": places,
            "frames": {
                "count": self.frames.count,
                "longest_ms": self.frames.longest.as_secs_f64() * 1e3,
                "mean_ms": self.frames.total.as_secs_f64() * 1e3 / self.frames.count.max(1) as f64,
            },
        })
    }

    /// Photos that are chosen, in their order.
    pub fn selected(&self) -> Vec<usize> {
        self.view.selection.iter().copied().collect()
    }

    pub fn select(&mut self, photos: impl IntoIterator<Item = usize>) {
        self.view.selection = photos.into_iter().collect::<BTreeSet<usize>>();
    }

    /// A place in the window that a script may point at.
    pub fn mark(&mut self, name: &str, rect: egui::Rect) {
        if let Some(marks) = &mut self.marks {
            marks.rect(name, rect);
        }
    }
}

impl eframe::App for Desk {
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        let context = ui.ctx().clone();
        let busy = self.task.as_ref().is_some_and(|task| matches!(task.kind, Kind::Encoding | Kind::Learning));
        self.frames.at(busy);
        if let Some(marks) = &mut self.marks {
            marks.begin(&context);
        }
        self.step();
        self.thumbs.begin_frame(&context);
        view::show(self, ui);
        if let Some(mut marks) = self.marks.take() {
            marks.end(&self.state());
            self.marks = Some(marks);
        }
        if self.task.is_some() {
            // The bar moves, and with a script watching every frame counts.
            let wait = if self.marks.is_some() { 16 } else { 50 };
            context.request_repaint_after(std::time::Duration::from_millis(wait));
        } else if self.message.as_ref().is_some_and(|message| message.until.is_some()) {
            context.request_repaint_after(std::time::Duration::from_secs(1));
        }
    }
}
