//! What is to be seen: the bar at the top, the classes on the left, the photos, and on the right what is said of the one that is looked at.

mod classes;
mod detail;
mod dialogs;
mod grid;
mod status;
pub mod theme;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use eframe::egui::{
    self, Align2, Color32, Context, DragAndDrop, FontId, Id, Key, LayerId, Order, Pos2, Rect, Ui, vec2,
};

use crate::desk::{Asked, Desk};
use crate::session::{ClassId, Place};

/// Which photos are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    #[default]
    All,
    Only(Place),
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sequence {
    #[default]
    Folder,
    /// What is most likely wrong comes first.
    Doubtful,
    Sure,
}

/// Examples that are most like a photo, with the cosines of the angles, and what they depend on: the photo, the session's version,
/// and how many photos are encoded.
struct Near {
    of: (usize, u64, usize),
    examples: Vec<(usize, f32)>,
}

/// What the window remembers from frame to frame.
pub struct State {
    pub selection: BTreeSet<usize>,
    /// Where a stretch of chosen photos begins.
    pub anchor: Option<usize>,
    pub filter: Filter,
    pub sequence: Sequence,
    /// Side of a small picture, in points.
    pub size: f32,
    pub new_class: String,
    pub renaming: Option<(ClassId, String)>,
    pub dialog: Option<dialogs::Dialog>,
    /// Photos in the order in which they are shown, for the keyboard and for stretches.
    pub shown: Vec<usize>,
    /// Photos in a row.
    pub columns: usize,
    /// A photo that the keyboard went to, to be scrolled to.
    pub scroll_to: Option<usize>,
    /// The photo under the pointer.
    pub hovered: Option<usize>,
    /// Examples that are most like a photo, as they were last computed.
    neighbours: Option<Near>,
}

impl Default for State {
    fn default() -> State {
        State {
            selection: BTreeSet::new(),
            anchor: None,
            filter: Filter::All,
            sequence: Sequence::Folder,
            size: 112.0,
            new_class: String::new(),
            renaming: None,
            dialog: None,
            shown: Vec::new(),
            columns: 1,
            scroll_to: None,
            hovered: None,
            neighbours: None,
        }
    }
}

impl State {
    /// Another folder is open.
    pub fn forget_photos(&mut self) {
        *self = State { size: self.size, sequence: self.sequence, ..State::default() };
    }

    /// A path that was chosen in the system's dialog.
    pub fn chosen(&mut self, asked: Asked, path: &Path) {
        if let Some(dialog) = &mut self.dialog {
            dialog.chosen(asked, path);
        }
    }
}

/// Photos that are dragged.
pub struct Dragged(pub Vec<usize>);

pub fn show(desk: &mut Desk, ui: &mut Ui) {
    let context = ui.ctx().clone();
    keyboard(desk, &context);
    status::top(desk, ui);
    status::bottom(desk, ui);
    classes::show(desk, ui);
    detail::show(desk, ui);
    grid::show(desk, ui);
    dialogs::show(desk, &context);
    ghost(desk, &context);
    dropped(desk, &context);
}

/// What is dragged goes with the pointer.
fn ghost(desk: &mut Desk, context: &Context) {
    let (Some(dragged), Some(at)) = (DragAndDrop::payload::<Dragged>(context), context.pointer_latest_pos()) else {
        return;
    };
    let painter = context.layer_painter(LayerId::new(Order::Tooltip, Id::unique("dragged")));
    for (i, number) in dragged.0.iter().take(3).enumerate().rev() {
        let shift = 5.0 * i as f32;
        let rect = Rect::from_min_size(at + vec2(10.0 + shift, 10.0 + shift), vec2(72.0, 72.0));
        painter.rect_filled(rect.expand(3.0), 6.0, context.global_style().visuals.window_fill);
        picture(desk, &painter, *number, rect, Color32::from_white_alpha(230));
    }
    if dragged.0.len() > 1 {
        let at = at + vec2(14.0, 14.0);
        painter.rect_filled(Rect::from_min_size(at, vec2(30.0, 20.0)), 10.0, Color32::from_black_alpha(180));
        let count = dragged.0.len().to_string();
        painter.text(at + vec2(15.0, 10.0), Align2::CENTER_CENTER, count, FontId::proportional(12.0), Color32::WHITE);
    }
    context.set_cursor_icon(egui::CursorIcon::Grabbing);
}

/// Paints a photo as large as it goes into `rect`.
fn picture(desk: &mut Desk, painter: &egui::Painter, number: usize, rect: Rect, tint: Color32) -> bool {
    let Some(path) = desk.session.photos.get(number).map(|photo| photo.path().to_path_buf()) else { return false };
    let Some(texture) = desk.thumbs.small(&path) else { return false };
    fitted(painter, &texture, rect, tint);
    true
}

fn fitted(painter: &egui::Painter, texture: &egui::TextureHandle, rect: Rect, tint: Color32) -> Rect {
    let size = texture.size_vec2();
    let scale = (rect.width() / size.x).min(rect.height() / size.y);
    let at = Rect::from_center_size(rect.center(), size * scale);
    painter.image(texture.id(), at, Rect::from_min_max(Pos2::ZERO, Pos2::new(1.0, 1.0)), tint);
    at
}

/// Files from outside: a folder is opened, photos become examples of the class that they are dropped on.
fn dropped(desk: &mut Desk, context: &Context) {
    let paths: Vec<std::path::PathBuf> =
        context.input(|input| input.raw.dropped_files.iter().map(|file| file.path().to_path_buf()).collect());
    if paths.is_empty() {
        return;
    }
    if let Some(folder) = paths.iter().find(|path| path.is_dir()) {
        desk.open(folder.clone());
        return;
    }
    let under = context.pointer_latest_pos().and_then(|at| classes::under(context, at));
    let chosen = match desk.view.filter {
        Filter::Only(Place::Class(id)) => Some(id),
        _ => None,
    };
    match under.or(chosen) {
        Some(id) => desk.session.add_files(paths, id),
        None => desk.complain("drop photos onto a class, or choose one first; a folder is opened"),
    }
}

/// The colour of a place.
fn colour(desk: &Desk, place: Place) -> Color32 {
    match place {
        Place::Class(id) => {
            desk.session.classes.iter().position(|class| class.id == id).map_or(theme::unknown(), theme::class)
        }
        Place::Unknown => theme::unknown(),
    }
}

fn keyboard(desk: &mut Desk, context: &Context) {
    if context.egui_wants_keyboard_input() || desk.view.dialog.is_some() {
        return;
    }
    let pressed = |key| context.input(|input| input.key_pressed(key));
    let command = |key| context.input_mut(|input| input.consume_key(egui::Modifiers::COMMAND, key));
    if command(Key::Z) && !desk.session.undo() {
        desk.say("there is nothing to take back");
    }
    if command(Key::A) {
        desk.select(desk.view.shown.clone());
    }
    let selected = desk.selected();
    let digits = [Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Num5, Key::Num6, Key::Num7, Key::Num8, Key::Num9];
    for (number, key) in digits.into_iter().enumerate() {
        if let (true, Some(class)) = (pressed(key), desk.session.classes.get(number)) {
            desk.session.put(&selected, Some(Place::Class(class.id)));
        }
    }
    if pressed(Key::Num0) {
        desk.session.put(&selected, Some(Place::Unknown));
    }
    if pressed(Key::Delete) || pressed(Key::Backspace) {
        desk.session.put(&selected, None);
    }
    if pressed(Key::Escape) {
        desk.select([]);
    }
    let columns = desk.view.columns as isize;
    for (key, by) in [(Key::ArrowLeft, -1), (Key::ArrowRight, 1), (Key::ArrowUp, -columns), (Key::ArrowDown, columns)] {
        if pressed(key) && !desk.view.shown.is_empty() {
            let last = desk.view.shown.len() - 1;
            let now = desk.view.anchor.and_then(|anchor| desk.view.shown.iter().position(|number| *number == anchor));
            let to = now.map_or(0, |now| now.saturating_add_signed(by).min(last));
            let number = desk.view.shown[to];
            desk.select([number]);
            (desk.view.anchor, desk.view.scroll_to) = (Some(number), Some(number));
        }
    }
}

/// Where class cards were painted, for files that are dropped on them.
type Cards = Arc<Vec<(ClassId, Rect)>>;
