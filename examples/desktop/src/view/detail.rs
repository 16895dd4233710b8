//! The photo that is looked at: large, with what is said of it and the examples that say so.

use eframe::egui::{Align2, Color32, FontId, Panel, Rect, RichText, ScrollArea, Sense, Ui, pos2, vec2};

use super::{Near, colour, fitted, picture};
use crate::desk::Desk;
use crate::session::Place;

/// Classes that are shown.
const CLASSES: usize = 5;
/// Examples that are shown.
const NEIGHBOURS: usize = 6;

pub fn show(desk: &mut Desk, ui: &mut Ui) {
    let Some(number) = desk
        .view
        .anchor
        .filter(|anchor| desk.view.selection.contains(anchor))
        .or_else(|| desk.view.selection.first().copied())
    else {
        return;
    };
    let Some(photo) = desk.session.photos.get(number) else { return };
    let (path, name) = (photo.path().to_path_buf(), photo.name());
    Panel::right("detail").resizable(true).default_size(270.0).size_range(200.0..=460.0).show(ui, |ui| {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.add_space(6.0);
            let width = ui.available_width();
            let (rect, _) = ui.allocate_exact_size(vec2(width, width.min(300.0)), Sense::hover());
            ui.painter().rect_filled(rect, 8.0, ui.visuals().faint_bg_color);
            if let Some(texture) = desk.thumbs.large(&path) {
                fitted(ui.painter(), &texture, rect.shrink(6.0), Color32::WHITE);
            }
            ui.add(eframe::egui::Label::new(RichText::new(name).strong()).truncate());
            if desk.view.selection.len() > 1 {
                ui.label(RichText::new(format!("and {} more", desk.view.selection.len() - 1)).weak());
            }
            verdict(desk, ui, number);
            neighbours(desk, ui, number);
        });
    });
}

fn verdict(desk: &mut Desk, ui: &mut Ui, number: usize) {
    let photo = &desk.session.photos[number];
    if let Some(why) = &photo.broken {
        ui.label(RichText::new(why).color(ui.visuals().error_fg_color));
        return;
    }
    match photo.hand {
        Some(Place::Class(id)) => {
            let name = desk.session.name(Place::Class(id)).to_owned();
            ui.label(format!("★ You said {name}: it is learned from."));
        }
        Some(Place::Unknown) => {
            ui.label("★ You said that it is of no class.");
        }
        None => {}
    }
    if photo.hand.is_some() && ui.button("No example any more").clicked() {
        desk.session.put(&[number], None);
    }
    let Some(answer) = desk.session.photos[number].answer.clone() else {
        ui.label(RichText::new("not looked at yet").weak());
        return;
    };
    ui.add_space(6.0);
    let mut order: Vec<usize> = (0..answer.probabilities.len()).collect();
    order.sort_by(|a, b| answer.probabilities[*b].total_cmp(&answer.probabilities[*a]));
    for number in order.into_iter().take(CLASSES) {
        let Some(id) = desk.session.answered.get(number).copied() else { continue };
        let Some(class) = desk.session.class(id) else { continue };
        bar(ui, &class.name, answer.probabilities[number], colour(desk, Place::Class(id)));
    }
    let best = answer.probabilities.get(answer.best).copied().unwrap_or_default();
    if best < desk.session.settings.least && desk.session.photos[number].hand.is_none() {
        let least = 100.0 * desk.session.settings.least;
        ui.label(RichText::new(format!("Less than {least:.0} % sure: unknown.")).weak());
    }
}

fn bar(ui: &mut Ui, name: &str, probability: f64, colour: Color32) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 24.0), Sense::hover());
    let painter = ui.painter();
    painter.rect_filled(rect, 5.0, ui.visuals().faint_bg_color);
    let filled = Rect::from_min_size(rect.min, vec2(rect.width() * probability as f32, rect.height()));
    painter.rect_filled(filled, 5.0, colour.gamma_multiply(0.55));
    let (font, text) = (FontId::proportional(13.0), ui.visuals().strong_text_color());
    painter.text(pos2(rect.min.x + 8.0, rect.center().y), Align2::LEFT_CENTER, name, font.clone(), text);
    let shown = format!("{:.1} %", 100.0 * probability);
    painter.text(pos2(rect.max.x - 8.0, rect.center().y), Align2::RIGHT_CENTER, shown, font, text);
}

fn neighbours(desk: &mut Desk, ui: &mut Ui, number: usize) {
    let encoded = desk.session.photos.iter().filter(|photo| photo.is_encoded()).count();
    let key = (number, desk.session.version, encoded);
    let near = match desk.view.neighbours.take() {
        Some(near) if near.of == key => near.examples,
        _ => desk.session.neighbours(number, NEIGHBOURS),
    };
    if !near.is_empty() {
        ui.add_space(10.0);
        ui.label(RichText::new("Most like these examples").weak());
        let side = 76.0;
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(6.0, 6.0);
            for (example, cosine) in &near {
                let (rect, response) = ui.allocate_exact_size(vec2(side, side + 30.0), Sense::click());
                let place = desk.session.photos[*example].hand;
                let tone = place.map_or(Color32::TRANSPARENT, |place| colour(desk, place));
                let painter = ui.painter().clone();
                painter.rect_filled(rect, 6.0, ui.visuals().faint_bg_color);
                let square = Rect::from_min_size(rect.min, vec2(side, side)).shrink(4.0);
                picture(desk, &painter, *example, square, Color32::WHITE);
                let name = place.map_or("", |place| desk.session.name(place));
                let (font, x) = (FontId::proportional(11.5), rect.center().x);
                painter.text(pos2(x, rect.max.y - 22.0), Align2::CENTER_CENTER, name, font.clone(), tone);
                let weak = ui.visuals().weak_text_color();
                painter.text(pos2(x, rect.max.y - 9.0), Align2::CENTER_CENTER, format!("{cosine:.3}"), font, weak);
                let hint = "cosine of the angle between the two pictures' features; click to look at the example";
                if response.on_hover_text(hint).clicked() {
                    desk.select([*example]);
                    desk.view.anchor = Some(*example);
                }
            }
        });
    }
    desk.view.neighbours = Some(Near { of: key, examples: near });
}
