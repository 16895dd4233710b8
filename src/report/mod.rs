//! Results for people to look at.

pub mod accuracy;
mod colours;
pub mod grid;
pub mod heat;
pub mod histogram;
pub mod html;
mod lines;
pub mod reliability;
#[cfg(test)]
mod sample;
pub mod scatter;
pub(crate) mod strip;
mod style;
pub mod table;

pub use accuracy::{Point, Series, accuracy_plot};
pub use grid::{Cell, Prediction, draw_grid, write_grid};
pub use heat::{Heat, heat_map};
pub use html::{Card, Page, Pair, Tile};
pub use lines::{Curve, line_plot};
pub use reliability::{Bin, reliability};
pub use scatter::{Dot, Dots, scatter};
pub use table::Table;

use std::sync::Arc;

use resvg::{tiny_skia, usvg};

use crate::output::mark_png;
use crate::{Error, Result};

/// Pixels per unit of a drawing: sharp on today's screens.
const ZOOM: f32 = 2.0;

/// Text as XML and HTML want it, in elements and in quotes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(letter),
            // XML knows no way to write these.
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

/// An SVG document as PNG, at twice its size. Letters come from a font that is built in, so that a picture looks the same
/// everywhere.
///
/// # Errors
/// [`Error::Invalid`] for a document that is no SVG or of no size.
pub fn png(svg: &str) -> Result<Vec<u8>> {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    fonts.set_sans_serif_family("Ubuntu");
    let options = usvg::Options { font_family: "Ubuntu".into(), fontdb: Arc::new(fonts), ..Default::default() };
    let bad = |reason: String| Error::invalid(format!("drawing: {reason}"));
    let tree = usvg::Tree::from_str(svg, &options).map_err(|e| bad(e.to_string()))?;
    let (width, height) = (tree.size().width() * ZOOM, tree.size().height() * ZOOM);
    let mut picture = tiny_skia::Pixmap::new(width.ceil() as u32, height.ceil() as u32)
        .ok_or_else(|| bad(format!("a picture of {width}×{height} pixels")))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(ZOOM, ZOOM), &mut picture.as_mut());
    let bytes = picture.encode_png().map_err(|e| bad(e.to_string()))?;
    Ok(mark_png(&bytes))
}
