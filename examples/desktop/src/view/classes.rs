//! The classes on the left: what they are shown, how many photos they have, and how it is learned.

use std::sync::Arc;

use eframe::egui::{
    self, Align, Align2, Color32, Context, FontId, Frame, Id, Layout, Margin, Panel, Pos2, Rect, RichText, ScrollArea,
    Sense, Slider, Stroke, StrokeKind, TextEdit, Ui, vec2,
};
use tipi::Method;

use super::{Cards, Dragged, Filter, colour, picture, theme};
use crate::desk::Desk;
use crate::session::{ClassId, Place};

/// Examples that a card shows.
const EXAMPLES: usize = 5;

pub fn show(desk: &mut Desk, ui: &mut Ui) {
    Panel::left("classes").resizable(true).default_size(272.0).size_range(220.0..=420.0).show(ui, |ui| {
        ui.add_space(6.0);
        ui.label(RichText::new("Classes").heading());
        add(desk, ui);
        learning(desk, ui);
        let counts = counts(desk);
        let mut cards = Vec::new();
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            let classes: Vec<_> = desk.session.classes.clone();
            for (number, class) in classes.iter().enumerate() {
                let rect = card(desk, ui, Place::Class(class.id), number, counts.get(number).copied().unwrap_or(0));
                cards.push((class.id, rect));
            }
            if !classes.is_empty() {
                card(desk, ui, Place::Unknown, usize::MAX, counts.last().copied().unwrap_or(0));
                ui.add_space(4.0);
                ui.horizontal(|ui| {
                    ui.label(RichText::new("unknown below").weak());
                    ui.spacing_mut().slider_width = 90.0;
                    let slider = Slider::new(&mut desk.session.settings.least, 0.0..=0.99)
                        .custom_formatter(|value, _| format!("{:.0} %", 100.0 * value));
                    let slider = ui.add(slider);
                    desk.mark("least", slider.rect);
                    slider.on_hover_text("A photo whose likeliest class is less probable is of no class");
                });
            }
        });
        ui.ctx().data_mut(|data| data.insert_temp(Id::unique("cards"), Cards::new(cards)));
    });
}

/// The class whose card is under a point.
pub fn under(context: &Context, at: Pos2) -> Option<ClassId> {
    let cards: Arc<Vec<(ClassId, Rect)>> = context.data(|data| data.get_temp(Id::unique("cards")))?;
    cards.iter().find(|(_, rect)| rect.contains(at)).map(|(id, _)| *id)
}

/// Photos of the folder by class, and last those of none.
fn counts(desk: &Desk) -> Vec<usize> {
    let classes = &desk.session.classes;
    let mut counts = vec![0; classes.len() + 1];
    for photo in desk.session.photos.iter().filter(|photo| photo.in_folder) {
        let Some((place, _)) = desk.session.place(photo) else { continue };
        let number = match place {
            Place::Class(id) => classes.iter().position(|class| class.id == id),
            Place::Unknown => Some(classes.len()),
        };
        if let Some(number) = number {
            counts[number] += 1;
        }
    }
    counts
}

fn add(desk: &mut Desk, ui: &mut Ui) {
    ui.horizontal(|ui| {
        let field = TextEdit::singleline(&mut desk.view.new_class)
            .hint_text("a new class: cat")
            .desired_width(ui.available_width() - 62.0);
        let field = ui.add(field);
        desk.mark("new-class", field.rect);
        let entered = field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        let button = ui.add_enabled(!desk.view.new_class.trim().is_empty(), egui::Button::new("Add"));
        desk.mark("add-class", button.rect);
        if entered || button.clicked() {
            let name = std::mem::take(&mut desk.view.new_class);
            // What is chosen is what it is for.
            if let Some(id) = desk.session.add_class(&name) {
                let selected = desk.selected();
                desk.session.put(&selected, Some(Place::Class(id)));
            }
            if entered {
                field.request_focus();
            }
        }
    });
}

/// What was learned from, and how.
fn learning(desk: &mut Desk, ui: &mut Ui) {
    let session = &desk.session;
    let examples: usize = session.classes.iter().map(|class| session.examples_of(class.id).count()).sum();
    let waiting = session.waiting();
    let text = if session.classes.len() < 2 {
        "Make two classes or more: their names alone sort the photos. Then show some photos of each.".to_owned()
    } else if !waiting.is_empty() {
        let names: Vec<&str> = waiting.iter().map(|id| session.name(Place::Class(*id))).collect();
        format!("Sorted by names alone until every class has a photo. Still without: {}.", names.join(", "))
    } else if examples == 0 {
        "Sorted by names alone. Drag a photo or two onto each class to adapt.".into()
    } else {
        match &desk.lore {
            Some(lore) if lore.from_pictures && lore.version == session.version => {
                let facts = if lore.facts.is_empty() { String::new() } else { format!(" ({})", lore.facts) };
                format!("Learned from {examples} photos in {:.1} s{facts}.", lore.seconds)
            }
            _ => format!("Learning from {examples} photos…"),
        }
    };
    ui.label(RichText::new(text).weak());
    let before = session.settings.clone();
    let how = egui::CollapsingHeader::new("How it learns").id_salt("how").show(ui, |ui| {
        let settings = &mut desk.session.settings;
        let shown = egui::ComboBox::from_id_salt("method").width(200.0).selected_text(settings.method.title()).show_ui(
            ui,
            |ui| {
                let methods = Method::all().filter(|method| !method.needs_correction() && method.name() != "zero-shot");
                methods
                    .map(|method| {
                        (
                            method,
                            ui.selectable_value(&mut settings.method, method, method.title())
                                .on_hover_text(method.about())
                                .rect,
                        )
                    })
                    .collect::<Vec<_>>()
            },
        );
        for (method, rect) in shown.inner.unwrap_or_default() {
            desk.mark(&format!("method-{}", method.name()), rect);
        }
        desk.mark("method", shown.response.rect);
        let settings = &mut desk.session.settings;
        ui.label(RichText::new(format!("{} {}", settings.method.about(), settings.method.paper())).small().weak());
        ui.horizontal(|ui| {
            ui.label("prompt");
            ui.add(TextEdit::singleline(&mut settings.template).desired_width(ui.available_width()))
                .on_hover_text("{} stands for the class's name");
        });
        ui.horizontal(|ui| {
            ui.label("views");
            ui.spacing_mut().slider_width = 90.0;
            ui.add(Slider::new(&mut settings.views, 1..=10))
                .on_hover_text("random views of each example; 1 takes it as it is");
        });
    });
    desk.mark("how", how.header_response.rect);
    let after = &desk.session.settings;
    let sound = after.template.matches("{}").count() == 1;
    if !sound {
        ui.label(RichText::new("The prompt needs {} where the class's name goes.").color(ui.visuals().error_fg_color));
    } else if before.method != after.method || before.template != after.template || before.views != after.views {
        desk.session.version += 1;
    }
    ui.add_space(4.0);
}

/// A class, or "unknown": photos are dropped on it, a click shows only its photos.
fn card(desk: &mut Desk, ui: &mut Ui, place: Place, number: usize, count: usize) -> Rect {
    let chosen = desk.view.filter == Filter::Only(place);
    let colour = colour(desk, place);
    let name = desk.session.name(place).to_owned();
    let name = if place == Place::Unknown { "unknown".to_owned() } else { name };
    let frame = Frame::new().inner_margin(Margin::symmetric(10, 8)).corner_radius(8).fill(if chosen {
        ui.visuals().selection.bg_fill
    } else {
        ui.visuals().faint_bg_color
    });
    let builder = egui::UiBuilder::new().id_salt(("card", place)).sense(Sense::click());
    // The card itself lies below what is in it.
    let response = ui
        .scope_builder(builder, |ui| {
            frame.show(ui, |ui| {
                ui.set_width(ui.available_width());
                ui.horizontal(|ui| {
                    let (dot, _) = ui.allocate_exact_size(vec2(12.0, 12.0), Sense::hover());
                    ui.painter().circle_filled(dot.center(), 6.0, colour);
                    title(desk, ui, place, &name);
                    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                        menu(desk, ui, place, &name);
                        ui.label(RichText::new(count.to_string()).strong());
                        if number < 9 {
                            ui.label(RichText::new(format!("[{}]", number + 1)).small().weak())
                                .on_hover_text("this key puts what is chosen here");
                        }
                    });
                });
                if let Place::Class(id) = place {
                    examples(desk, ui, id);
                }
            })
        })
        .response;
    let rect = response.rect;
    desk.mark(&format!("class:{name}"), Rect::from_min_size(rect.min, vec2(rect.width() * 0.5, 30.0)));
    if response.dnd_hover_payload::<Dragged>().is_some() {
        ui.painter().rect_stroke(rect, 8.0, Stroke::new(2.0, colour), StrokeKind::Inside);
    }
    if let Some(dragged) = response.dnd_release_payload::<Dragged>() {
        desk.session.put(&dragged.0, Some(place));
    }
    if response.clicked() {
        desk.view.filter = if chosen { Filter::All } else { Filter::Only(place) };
    }
    response
        .widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, format!("class {name}, {count} photos")));
    rect
}

fn title(desk: &mut Desk, ui: &mut Ui, place: Place, name: &str) {
    if let (Some((id, text)), Place::Class(of)) = (&mut desk.view.renaming, place)
        && *id == of
    {
        let field = ui.add(TextEdit::singleline(text).desired_width(110.0));
        field.request_focus();
        if field.lost_focus() || ui.input(|input| input.key_pressed(egui::Key::Enter)) {
            let text = text.clone();
            desk.view.renaming = None;
            if !desk.session.rename(of, &text) {
                desk.complain("a class needs a name of its own");
            }
        }
        return;
    }
    ui.label(RichText::new(name).strong());
}

fn menu(desk: &mut Desk, ui: &mut Ui, place: Place, name: &str) {
    let Place::Class(id) = place else { return };
    ui.menu_button("☰", |ui| {
        if ui.button("Rename").clicked() {
            desk.view.renaming = Some((id, name.into()));
            ui.close();
        }
        if ui.button("Show its examples").clicked() {
            let examples: Vec<usize> = desk.session.examples_of(id).collect();
            desk.select(examples);
            desk.view.filter = Filter::Only(place);
            ui.close();
        }
        if ui.button("Remove the class").on_hover_text("the photos stay where they are").clicked() {
            desk.session.remove_class(id);
            desk.view.filter = Filter::All;
            ui.close();
        }
    });
}

fn examples(desk: &mut Desk, ui: &mut Ui, id: ClassId) {
    let examples: Vec<usize> = desk.session.examples_of(id).collect();
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        if examples.is_empty() {
            ui.label(RichText::new("drag photos here").small().weak());
        }
        let latest = examples.len().saturating_sub(EXAMPLES);
        for number in &examples[latest..] {
            let (rect, response) = ui.allocate_exact_size(vec2(32.0, 32.0), Sense::click());
            ui.painter().rect_filled(rect, 4.0, ui.visuals().extreme_bg_color);
            let painter = ui.painter().clone();
            picture(desk, &painter, *number, rect, Color32::WHITE);
            if response.on_hover_text("an example; click to look at it").clicked() {
                desk.select([*number]);
            }
        }
        if latest > 0 {
            let (rect, _) = ui.allocate_exact_size(vec2(30.0, 32.0), Sense::hover());
            let font = FontId::proportional(12.0);
            ui.painter().text(rect.center(), Align2::CENTER_CENTER, format!("+{latest}"), font, theme::unknown());
        }
    });
}
