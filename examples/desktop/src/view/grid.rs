//! The photos, by what they were sorted to.

use std::ops::Range;

use eframe::egui::{
    self, Align2, CentralPanel, Color32, CursorIcon, FontId, Id, Modifiers, Pos2, Rect, RichText, ScrollArea, Sense,
    Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2,
};

use super::dialogs::Dialog;
use super::{Dragged, Filter, Sequence, colour, picture};
use crate::desk::Desk;
use crate::session::Place;

const GAP: f32 = 8.0;
const HEAD: f32 = 34.0;
/// What stands below a picture.
const FOOT: f32 = 20.0;

/// Photos that belong together.
struct Section {
    place: Option<Place>,
    photos: Vec<usize>,
}

/// A line of the view.
enum Line {
    Head(usize),
    Photos(usize, Range<usize>),
}

pub fn show(desk: &mut Desk, ui: &mut Ui) {
    CentralPanel::default().show(ui, |ui| {
        if desk.session.photos.is_empty() {
            welcome(desk, ui);
            return;
        }
        let sections = sections(desk);
        if sections.is_empty() {
            ui.centered_and_justified(|ui| ui.label(RichText::new("nothing here").weak()));
        }
        let cell = desk.view.size;
        let columns = (((ui.available_width() - 12.0 + GAP) / (cell + GAP)) as usize).max(1);
        desk.view.columns = columns;
        desk.view.shown = sections.iter().flat_map(|section| section.photos.iter().copied()).collect();
        let heads = sections.iter().any(|section| section.place.is_some());
        let lines = lines(&sections, columns, heads);
        let height = |line: &Line| match line {
            Line::Head(_) => HEAD,
            Line::Photos(..) => cell + FOOT + GAP,
        };
        let whole: f32 = lines.iter().map(height).sum();
        let mut area = ScrollArea::vertical().auto_shrink(false);
        if let Some(at) = desk.view.scroll_to.take().and_then(|number| {
            let mut top = 0.0;
            for line in &lines {
                if let Line::Photos(section, range) = line
                    && sections[*section].photos[range.clone()].contains(&number)
                {
                    return Some(top);
                }
                top += height(line);
            }
            None
        }) {
            area = area.vertical_scroll_offset((at - ui.available_height() * 0.4).max(0.0));
        }
        area.show_viewport(ui, |ui, seen| {
            ui.set_height(whole);
            ui.set_width(ui.available_width());
            let origin = ui.max_rect().min;
            let mut top = 0.0;
            for line in &lines {
                let tall = height(line);
                if top + tall >= seen.min.y && top <= seen.max.y {
                    let at = pos2(origin.x, origin.y + top);
                    match line {
                        Line::Head(section) => head(desk, ui, &sections[*section], at),
                        Line::Photos(section, range) => {
                            for (i, number) in sections[*section].photos[range.clone()].iter().enumerate() {
                                let at = pos2(at.x + i as f32 * (cell + GAP), at.y);
                                photo(desk, ui, *number, Rect::from_min_size(at, vec2(cell, cell + FOOT)));
                            }
                        }
                    }
                }
                top += tall;
            }
            // Beside the photos nothing is chosen.
            let rest = ui.interact(ui.clip_rect(), Id::unique("beside"), Sense::hover());
            let clicked = ui.input(|input| input.pointer.primary_clicked());
            let on_one = desk.view.hovered.take().is_some();
            if clicked && rest.contains_pointer() && !on_one && desk.view.dialog.is_none() {
                desk.select([]);
            }
        });
    });
}

fn welcome(desk: &mut Desk, ui: &mut Ui) {
    ui.vertical_centered(|ui| {
        ui.add_space(ui.available_height() * 0.28);
        ui.label(RichText::new("Sort photos into classes of your own").heading());
        ui.add_space(8.0);
        ui.label("Open a folder, name some classes, and show a photo or two of each.");
        ui.label("It learns on this computer's GPU; nothing leaves it.");
        ui.add_space(16.0);
        if desk.task.is_none() && ui.button("Open folder…").clicked() {
            desk.view.dialog = Some(Dialog::open(desk));
        }
    });
}

fn sections(desk: &Desk) -> Vec<Section> {
    let session = &desk.session;
    let mut places: Vec<Option<Place>> = session.classes.iter().map(|class| Some(Place::Class(class.id))).collect();
    places.push(Some(Place::Unknown));
    places.push(None);
    let mut sections: Vec<Section> = places.into_iter().map(|place| Section { place, photos: Vec::new() }).collect();
    for (number, photo) in session.photos.iter().enumerate() {
        let place = session.place(photo).map(|(place, _)| place);
        let shown = match desk.view.filter {
            Filter::All => photo.in_folder,
            Filter::Only(only) => place == Some(only),
        };
        if let Some(section) = sections.iter_mut().find(|section| shown && section.place == place) {
            section.photos.push(number);
        }
    }
    let sure = |number: &usize| session.place(&session.photos[*number]).map_or(0.0, |(_, sure)| sure);
    for section in &mut sections {
        match desk.view.sequence {
            Sequence::Folder => {}
            Sequence::Doubtful => section.photos.sort_by(|a, b| sure(a).total_cmp(&sure(b))),
            Sequence::Sure => section.photos.sort_by(|a, b| sure(b).total_cmp(&sure(a))),
        }
    }
    sections.retain(|section| !section.photos.is_empty());
    sections
}

fn lines(sections: &[Section], columns: usize, heads: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    for (number, section) in sections.iter().enumerate() {
        if heads {
            lines.push(Line::Head(number));
        }
        let rows = (0..section.photos.len()).step_by(columns);
        lines.extend(rows.map(|from| Line::Photos(number, from..(from + columns).min(section.photos.len()))));
    }
    lines
}

fn head(desk: &Desk, ui: &Ui, section: &Section, at: Pos2) {
    let (name, colour) = match section.place {
        Some(place) => (desk.session.name(place), colour(desk, place)),
        None => ("not looked at yet", Color32::TRANSPARENT),
    };
    let painter = ui.painter();
    painter.circle_filled(at + vec2(8.0, 16.0), 5.0, colour);
    let text = ui.visuals().strong_text_color();
    let name = painter.text(at + vec2(20.0, 16.0), Align2::LEFT_CENTER, name, FontId::proportional(15.0), text);
    let count = section.photos.len().to_string();
    let weak = ui.visuals().weak_text_color();
    painter.text(pos2(name.max.x + 8.0, at.y + 16.5), Align2::LEFT_CENTER, count, FontId::proportional(13.0), weak);
}

fn photo(desk: &mut Desk, ui: &mut Ui, number: usize, rect: Rect) {
    let response = ui.interact(rect, Id::unique(("photo", number)), Sense::click_and_drag());
    if response.contains_pointer() {
        desk.view.hovered = Some(number);
    }
    let selected = desk.view.selection.contains(&number);
    let square = Rect::from_min_size(rect.min, vec2(rect.width(), rect.width()));
    let painter = ui.painter().clone();
    let fill = if selected { ui.visuals().selection.bg_fill } else { ui.visuals().faint_bg_color };
    painter.rect_filled(rect, 6.0, fill);
    let inner = square.shrink(4.0);
    let Some(photo) = desk.session.photos.get(number) else { return };
    let (name, broken, hand) = (photo.name(), photo.broken.clone(), photo.hand);
    let place = desk.session.place(photo);
    if broken.is_some() {
        let error = ui.visuals().error_fg_color;
        painter.text(inner.center(), Align2::CENTER_CENTER, "cannot be read", FontId::proportional(11.5), error);
    } else {
        picture(desk, &painter, number, inner, Color32::WHITE);
    }
    // How sure it is, as a bar and as a number; a star where a person said so.
    if let Some((place, sure)) = place {
        let colour = colour(desk, place);
        let foot = Rect::from_min_max(pos2(rect.min.x + 4.0, square.max.y), rect.max - vec2(4.0, 0.0));
        let font = FontId::proportional(11.0);
        let (text, shade) = match hand {
            Some(Place::Class(_)) => ("★ example".to_owned(), colour),
            Some(Place::Unknown) => ("★ unknown".to_owned(), colour),
            None => (format!("{:.0} %", 100.0 * sure), ui.visuals().weak_text_color()),
        };
        let track = Rect::from_min_size(foot.min, vec2(foot.width(), 3.0));
        painter.rect_filled(track, 1.5, ui.visuals().extreme_bg_color);
        let bar = Rect::from_min_size(track.min, vec2(track.width() * sure as f32, 3.0));
        painter.rect_filled(bar, 1.5, colour);
        painter.text(pos2(foot.center().x, foot.max.y - 8.0), Align2::CENTER_CENTER, text, font, shade);
    }
    if selected || response.hovered() {
        let colour = if selected { ui.visuals().selection.stroke.color } else { ui.visuals().weak_text_color() };
        painter.rect_stroke(rect, 6.0, Stroke::new(if selected { 2.0 } else { 1.0 }, colour), StrokeKind::Inside);
    }
    if ui.clip_rect().contains_rect(square) {
        desk.mark(&format!("photo:{name}"), square);
    }
    if response.clicked() {
        let modifiers = ui.input(|input| input.modifiers);
        click(desk, number, modifiers);
    }
    if response.drag_started() && !selected {
        desk.select([number]);
        desk.view.anchor = Some(number);
    }
    if response.dragged() || response.drag_started() {
        response.dnd_set_drag_payload(Dragged(desk.selected()));
    }
    response.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, format!("photo {name}")));
    response.context_menu(|ui| menu(desk, ui, number));
    let response = response.on_hover_cursor(CursorIcon::PointingHand);
    if let Some(why) = broken {
        response.on_hover_text(why);
    }
}

fn click(desk: &mut Desk, number: usize, modifiers: Modifiers) {
    let place_of = |number: usize| desk.view.shown.iter().position(|shown| *shown == number);
    match (desk.view.anchor.and_then(place_of), place_of(number)) {
        (Some(from), Some(to)) if modifiers.shift => {
            let stretch = desk.view.shown[from.min(to)..=from.max(to)].to_vec();
            desk.select(stretch);
            return;
        }
        _ if modifiers.command => {
            if !desk.view.selection.remove(&number) {
                desk.view.selection.insert(number);
            }
        }
        _ => desk.select([number]),
    }
    desk.view.anchor = Some(number);
}

fn menu(desk: &mut Desk, ui: &mut Ui, number: usize) {
    if !desk.view.selection.contains(&number) {
        desk.select([number]);
    }
    let selected = desk.selected();
    for class in desk.session.classes.clone() {
        if ui.button(&class.name).clicked() {
            desk.session.put(&selected, Some(Place::Class(class.id)));
            ui.close();
        }
    }
    if ui.button("unknown").clicked() {
        desk.session.put(&selected, Some(Place::Unknown));
        ui.close();
    }
    ui.separator();
    let by_hand = selected.iter().any(|number| desk.session.photos[*number].hand.is_some());
    if ui.add_enabled(by_hand, egui::Button::new("No example any more")).clicked() {
        desk.session.put(&selected, None);
        ui.close();
    }
}
