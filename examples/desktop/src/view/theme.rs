//! Colours, sizes and distances, light and dark.

use eframe::egui::{
    Color32, Context, CornerRadius, FontFamily, FontId, Margin, Stroke, Style, TextStyle, Theme, Visuals,
};

/// Colours of classes, told apart by people who see colours otherwise, too; after the last they begin again.
const CLASSES: [(u8, u8, u8); 10] = [
    (66, 133, 214),
    (232, 126, 44),
    (58, 158, 104),
    (206, 82, 146),
    (139, 108, 214),
    (214, 170, 36),
    (38, 166, 180),
    (214, 84, 76),
    (122, 140, 62),
    (150, 112, 84),
];

/// The colour of the class in this place of the list.
pub fn class(number: usize) -> Color32 {
    let (r, g, b) = CLASSES[number % CLASSES.len()];
    Color32::from_rgb(r, g, b)
}

/// The colour of what is of no class.
pub fn unknown() -> Color32 {
    Color32::from_gray(140)
}

pub fn apply(context: &Context) {
    for theme in [Theme::Light, Theme::Dark] {
        context.style_mut_of(theme, |style| fit(style, theme));
    }
}

fn fit(style: &mut Style, theme: Theme) {
    let visuals = match theme {
        Theme::Light => Visuals {
            panel_fill: Color32::from_rgb(247, 247, 249),
            window_fill: Color32::from_rgb(252, 252, 253),
            extreme_bg_color: Color32::WHITE,
            faint_bg_color: Color32::from_rgb(238, 239, 243),
            ..Visuals::light()
        },
        Theme::Dark => Visuals {
            panel_fill: Color32::from_rgb(26, 27, 31),
            window_fill: Color32::from_rgb(34, 35, 40),
            extreme_bg_color: Color32::from_rgb(18, 19, 22),
            faint_bg_color: Color32::from_rgb(36, 38, 44),
            ..Visuals::dark()
        },
    };
    style.visuals = visuals;
    // Small grey text is to be read, too.
    style.visuals.weak_text_alpha = 0.75;
    let round = CornerRadius::same(6);
    let widgets = &mut style.visuals.widgets;
    for widget in [
        &mut widgets.noninteractive,
        &mut widgets.inactive,
        &mut widgets.hovered,
        &mut widgets.active,
        &mut widgets.open,
    ] {
        widget.corner_radius = round;
    }
    let (fill, stroke) = match theme {
        Theme::Light => (Color32::from_rgb(206, 222, 250), Color32::from_rgb(24, 76, 156)),
        Theme::Dark => (Color32::from_rgb(42, 74, 124), Color32::from_rgb(200, 220, 255)),
    };
    style.visuals.selection.bg_fill = fill;
    style.visuals.selection.stroke = Stroke::new(1.0, stroke);
    style.visuals.window_corner_radius = CornerRadius::same(10);
    style.spacing.item_spacing = [8.0, 6.0].into();
    style.spacing.button_padding = [10.0, 5.0].into();
    style.spacing.window_margin = Margin::same(16);
    style.spacing.menu_margin = Margin::same(12);
    style.spacing.interact_size.y = 26.0;
    let sizes =
        [(TextStyle::Small, 11.5), (TextStyle::Body, 14.0), (TextStyle::Button, 14.0), (TextStyle::Heading, 19.0)];
    for (text, size) in sizes {
        style.text_styles.insert(text, FontId::new(size, FontFamily::Proportional));
    }
}
