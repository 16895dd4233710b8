//! The bar at the top, and the line at the bottom.

use std::time::{Duration, Instant};

use eframe::egui::{Align, Layout, Panel, ProgressBar, RichText, Slider, Ui, widgets};

use super::dialogs::Dialog;
use super::{Filter, Sequence};
use crate::desk::Desk;
use crate::work::Kind;

pub fn top(desk: &mut Desk, ui: &mut Ui) {
    Panel::top("top").show(ui, |ui| {
        ui.add_space(4.0);
        ui.horizontal(|ui| {
            let open = ui.button("Open folder…").on_hover_text("or drop a folder onto the window");
            desk.mark("open", open.rect);
            if open.clicked() {
                desk.view.dialog = Some(Dialog::open(desk));
            }
            let any = desk.session.photos.iter().any(|photo| photo.answer.is_some() || photo.hand.is_some());
            ui.add_enabled_ui(any, |ui| {
                let file =
                    ui.button("Sort files…").on_hover_text("copy or move the photos into a folder for each class");
                desk.mark("file", file.rect);
                if file.clicked() {
                    desk.view.dialog = Some(Dialog::file(desk));
                }
            });
            let export = ui.menu_button("Export", |ui| {
                let learned = desk.classifier.is_some();
                let adapter = ui.add_enabled(learned, eframe::egui::Button::new("Adapter…"));
                desk.mark("export-adapter", adapter.rect);
                if adapter.on_hover_text("what was learned, for `tipi predict` and for programs").clicked() {
                    desk.view.dialog = Some(Dialog::adapter(desk));
                    ui.close();
                }
                let table = ui.add_enabled(any, eframe::egui::Button::new("Table…"));
                desk.mark("export-table", table.rect);
                if table.on_hover_text("every photo with its class and probability, as CSV").clicked() {
                    desk.view.dialog = Some(Dialog::table(desk));
                    ui.close();
                }
            });
            desk.mark("export", export.response.rect);
            ui.add_enabled_ui(desk.session.can_undo(), |ui| {
                let undo = ui.button("Undo").on_hover_text("takes the last step back (Ctrl+Z)");
                desk.mark("undo", undo.rect);
                if undo.clicked() {
                    desk.session.undo();
                }
            });
            ui.separator();
            show_what(desk, ui);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                widgets::global_theme_preference_buttons(ui);
                let slider = Slider::new(&mut desk.view.size, 56.0..=240.0).show_value(false);
                ui.add(slider).on_hover_text("size of the pictures");
            });
        });
        ui.add_space(2.0);
    });
}

fn show_what(desk: &mut Desk, ui: &mut Ui) {
    let title = |sequence| match sequence {
        Sequence::Folder => "as in the folder",
        Sequence::Doubtful => "least sure first",
        Sequence::Sure => "surest first",
    };
    let shown =
        eframe::egui::ComboBox::from_id_salt("sequence").selected_text(title(desk.view.sequence)).show_ui(ui, |ui| {
            for sequence in [Sequence::Folder, Sequence::Doubtful, Sequence::Sure] {
                let item = ui.selectable_value(&mut desk.view.sequence, sequence, title(sequence));
                desk.mark(&format!("sequence-{sequence:?}").to_lowercase(), item.rect);
            }
        });
    desk.mark("sequence", shown.response.rect);
    if let Filter::Only(place) = desk.view.filter {
        let name = desk.session.name(place).to_owned();
        if ui.button(format!("only {name}  ✖")).on_hover_text("show all").clicked() {
            desk.view.filter = Filter::All;
        }
    }
}

pub fn bottom(desk: &mut Desk, ui: &mut Ui) {
    Panel::bottom("bottom").exact_size(38.0).show(ui, |ui| {
        ui.horizontal_centered(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let model = desk
                    .model
                    .as_ref()
                    .map(|model| model.folder().file_name().unwrap_or_default().to_string_lossy().into_owned());
                let device = RichText::new(desk.gpu.name()).small().weak();
                ui.label(device).on_hover_text("tipi works on the device that draws this window");
                let model = ui.button(RichText::new(model.as_deref().unwrap_or("no model")).small());
                desk.mark("model", model.rect);
                if model.on_hover_text("choose another model").clicked() {
                    desk.view.dialog = Some(Dialog::model(desk));
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| line(desk, ui));
            });
        });
    });
}

fn line(desk: &mut Desk, ui: &mut Ui) {
    let quiet = Duration::from_millis(150);
    if let Some(task) = &desk.task {
        let (kind, progress) = (task.kind, task.job.progress());
        let what = if progress.what.is_empty() { "working" } else { &*progress.what };
        let mut text = match progress.total {
            0 | 1 => what.to_owned(),
            total => format!("{what}  {} of {total}", progress.done),
        };
        if progress.done > 0 && progress.total > 1 {
            let rate = progress.done as f64 / progress.elapsed.as_secs_f64().max(1e-3);
            text += &format!("  ·  {rate:.0}/s");
            if let Some(left) = progress.left().filter(|left| *left > Duration::from_secs(1)) {
                text += &format!("  ·  {} s left", left.as_secs());
            }
        }
        if !progress.beside.is_empty() {
            text += &format!("  ·  {}", progress.beside);
        }
        let cancel = matches!(kind, Kind::Encoding | Kind::Learning | Kind::Filing | Kind::Listing | Kind::Undoing);
        if cancel {
            let button = ui.button("Cancel");
            desk.mark("cancel", button.rect);
            if button.clicked() {
                desk.cancel();
            }
        }
        ui.add(
            ProgressBar::new(progress.share())
                .desired_width(150.0)
                .desired_height(8.0)
                .animate(progress.elapsed > quiet),
        );
        ui.label(text);
        return;
    }
    if desk.paused && !desk.session.unencoded().is_empty() {
        let go_on = ui.button("Go on");
        desk.mark("go-on", go_on.rect);
        if go_on.clicked() {
            desk.paused = false;
        }
    }
    if let Some(message) = &desk.message {
        if message.until.is_some_and(|until| until < Instant::now()) {
            desk.message = None;
        } else {
            let error = message.error;
            let text = RichText::new(&message.text);
            let colour = ui.visuals().error_fg_color;
            if error && ui.small_button("✖").on_hover_text("I have read it").clicked() {
                desk.message = None;
            }
            ui.add(eframe::egui::Label::new(if error { text.color(colour) } else { text }).truncate());
            return;
        }
    }
    let photos = desk.session.photos.iter().filter(|photo| photo.in_folder).count();
    let broken = desk.session.photos.iter().filter(|photo| photo.broken.is_some()).count();
    let mut text = match photos {
        0 => "no folder is open".to_owned(),
        1 => "1 photo".into(),
        count => format!("{count} photos"),
    };
    if broken > 0 {
        text += &format!(", {broken} cannot be read");
    }
    if !desk.view.selection.is_empty() {
        text += &format!(", {} chosen", desk.view.selection.len());
    }
    ui.label(RichText::new(text).weak());
}
