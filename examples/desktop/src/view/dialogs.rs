//! Dialogs: what to open, and where results go. A path is typed, or chosen in the system's own dialog.

use std::path::{Path, PathBuf};

use eframe::egui::{Button, Context, Id, Key, Modal, RichText, TextEdit, Ui};

use crate::desk::{Asked, Desk};
use crate::files::{self, Plan};
use crate::session::Place;
use crate::work::{self, Task};

/// A dialog, with what was entered so far.
pub enum Dialog {
    Path { asked: Asked, path: String, wrong: String },
    Files { into: String, moves: bool, wrong: String, last: Option<Plan> },
}

impl Dialog {
    fn path(asked: Asked, path: &Path) -> Dialog {
        Dialog::Path { asked, path: path.to_string_lossy().into_owned(), wrong: String::new() }
    }

    pub fn open(desk: &Desk) -> Dialog {
        Dialog::path(Asked::Folder, desk.session.folder.as_deref().unwrap_or("".as_ref()))
    }

    pub fn model(desk: &Desk) -> Dialog {
        Dialog::path(Asked::Model, desk.model.as_ref().map_or("".as_ref(), |model| model.folder()))
    }

    pub fn adapter(desk: &Desk) -> Dialog {
        Dialog::path(Asked::Adapter, &beside(desk, "adapter.safetensors"))
    }

    pub fn table(desk: &Desk) -> Dialog {
        Dialog::path(Asked::Table, &beside(desk, "sorted.csv"))
    }

    pub fn file(desk: &Desk) -> Dialog {
        let into = beside(desk, "sorted");
        let last = desk.filed.clone().or_else(|| Plan::of_folder(&into));
        Dialog::Files { into: into.to_string_lossy().into_owned(), moves: false, wrong: String::new(), last }
    }

    /// A path from the system's dialog.
    pub fn chosen(&mut self, asked: Asked, path: &Path) {
        let text = path.to_string_lossy().into_owned();
        match self {
            Dialog::Path { asked: of, path, .. } if *of == asked => *path = text,
            Dialog::Files { into, last, .. } if asked == Asked::Into => {
                *last = Plan::of_folder(path);
                *into = text;
            }
            _ => {}
        }
    }
}

/// A path beside the folder that is sorted, named after it.
fn beside(desk: &Desk, ending: &str) -> PathBuf {
    match &desk.session.folder {
        Some(folder) => {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            folder.with_file_name(format!("{name} {ending}"))
        }
        None => ending.into(),
    }
}

/// What a dialog came to.
enum End {
    Open,
    Cancel,
    Do,
    Undo,
}

pub fn show(desk: &mut Desk, context: &Context) {
    let Some(mut dialog) = desk.view.dialog.take() else { return };
    let mut end = End::Open;
    let modal = Modal::new(Id::unique("dialog")).show(context, |ui| {
        ui.set_width(480.0);
        match &mut dialog {
            Dialog::Path { asked, path, wrong } => one_path(desk, ui, *asked, (path, wrong), &mut end),
            Dialog::Files { into, moves, wrong, last } => files(desk, ui, (into, moves), (wrong, last), &mut end),
        }
    });
    if modal.should_close() {
        end = End::Cancel;
    }
    let done = match end {
        End::Open => Err(None),
        End::Cancel => Ok(()),
        End::Do => act(desk, context, &dialog).map_err(Some),
        End::Undo => {
            if let Dialog::Files { last: Some(plan), .. } = &dialog {
                desk.task = Some(Task::undo(context, plan.clone()));
            }
            Ok(())
        }
    };
    if let Err(why) = done {
        if let (Some(why), Dialog::Path { wrong, .. } | Dialog::Files { wrong, .. }) = (why, &mut dialog) {
            *wrong = why;
        }
        desk.view.dialog = Some(dialog);
    }
}

fn one_path(desk: &mut Desk, ui: &mut Ui, asked: Asked, (path, wrong): (&mut String, &str), end: &mut End) {
    let (title, about, verb) = match asked {
        Asked::Folder => ("Open a folder of photos", "Folders below it are looked into, too.", "Open"),
        Asked::Model => ("Choose a model", "A folder with a CLIP, in any layout that tipi reads.", "Load"),
        Asked::Adapter => {
            ("Export the adapter", "`tipi predict` and programs answer with it as this window does.", "Save")
        }
        _ => ("Export a table", "Every photo with its class and probability, as CSV.", "Save"),
    };
    ui.label(RichText::new(title).heading());
    ui.label(RichText::new(about).weak());
    field(desk, ui, asked, path);
    buttons(desk, ui, verb, wrong, !path.trim().is_empty(), end);
}

fn field(desk: &mut Desk, ui: &mut Ui, asked: Asked, path: &mut String) {
    ui.horizontal(|ui| {
        let text = ui.add(TextEdit::singleline(path).desired_width(380.0));
        desk.mark("path", text.rect);
        if ui.button("Choose…").clicked() {
            desk.ask(asked);
        }
    });
}

fn buttons(desk: &mut Desk, ui: &mut Ui, verb: &str, wrong: &str, ready: bool, end: &mut End) {
    if !wrong.is_empty() {
        ui.label(RichText::new(wrong).color(ui.visuals().error_fg_color));
    }
    ui.add_space(8.0);
    ui.horizontal(|ui| {
        let ok = ui.add_enabled(ready, Button::new(verb));
        desk.mark("ok", ok.rect);
        if ok.clicked() || (ready && ui.input(|input| input.key_pressed(Key::Enter))) {
            *end = End::Do;
        }
        let cancel = ui.button("Cancel");
        desk.mark("no", cancel.rect);
        if cancel.clicked() {
            *end = End::Cancel;
        }
    });
}

fn files(
    desk: &mut Desk,
    ui: &mut Ui,
    (into, moves): (&mut String, &mut bool),
    (wrong, last): (&str, &Option<Plan>),
    end: &mut End,
) {
    ui.label(RichText::new("Sort files").heading());
    ui.label(RichText::new("Into a folder for each class. Nothing is overwritten, and it can be taken back.").weak());
    field(desk, ui, Asked::Into, into);
    ui.horizontal(|ui| {
        desk.mark("copy", ui.radio_value(moves, false, "copy").rect);
        desk.mark("move", ui.radio_value(moves, true, "move").rect);
    });
    let sorted = desk.sorted();
    let known = sorted.iter().filter(|(_, place, _)| *place != Place::Unknown).count();
    ui.label(format!("{known} photos of {}; {} of no class stay where they are.", sorted.len(), sorted.len() - known));
    if let Some(plan) = last {
        ui.separator();
        ui.horizontal(|ui| {
            let what = if plan.moves { "moves" } else { "copies" };
            ui.label(format!("The last {} {what} into {}:", plan.steps.len(), plan.into.display()));
            let undo = ui.button("Take back");
            desk.mark("take-back", undo.rect);
            if undo.clicked() {
                *end = End::Undo;
            }
        });
    }
    let idle = desk.task.is_none();
    buttons(desk, ui, if *moves { "Move" } else { "Copy" }, wrong, known > 0 && idle && !into.trim().is_empty(), end);
}

/// Does what was entered; an error keeps the dialog open.
fn act(desk: &mut Desk, context: &Context, dialog: &Dialog) -> Result<(), String> {
    match dialog {
        Dialog::Path { asked: Asked::Folder, path, .. } => {
            if !Path::new(path.trim()).is_dir() {
                return Err("there is no such folder".into());
            }
            desk.open(path.trim().into());
        }
        Dialog::Path { asked: Asked::Model, path, .. } => {
            if !Path::new(path.trim()).is_dir() {
                return Err("there is no such folder".into());
            }
            desk.load(path.trim().into());
        }
        Dialog::Path { asked: Asked::Adapter, path, .. } => {
            let classifier = desk.classifier.clone().ok_or("nothing was learned yet")?;
            if desk.task.is_some() {
                return Err("wait until what goes on is done, or cancel it".into());
            }
            desk.task = Some(Task::save(context, classifier, path.trim().into()));
        }
        Dialog::Path { path, .. } => {
            let rows: Vec<(PathBuf, String, f64)> = (desk.sorted().into_iter())
                .map(|(path, place, sure)| (path, desk.session.name(place).to_owned(), sure))
                .collect();
            work::write_table(path.trim().as_ref(), &rows).map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => "there is a file of this name already: take another".into(),
                _ => error.to_string(),
            })?;
            desk.say(format!("saved {}", path.trim()));
        }
        Dialog::Files { into, moves, .. } => {
            let into = std::path::absolute(into.trim()).map_err(|error| error.to_string())?;
            let known = desk.sorted().into_iter().filter(|(_, place, _)| *place != Place::Unknown);
            let files: Vec<(PathBuf, String)> =
                known.map(|(path, place, _)| (path, desk.session.name(place).to_owned())).collect();
            let plan = files::plan(&into, &files, *moves);
            desk.task = Some(Task::file(context, plan));
        }
    }
    Ok(())
}
