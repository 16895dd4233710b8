//! Results for people to look at.

pub mod grid;
pub mod histogram;
mod lines;

pub use grid::{Cell, Prediction, write_grid};
pub use lines::{Curve, line_plot};

use std::sync::Arc;

use resvg::{tiny_skia, usvg};

use crate::{Error, Result};

/// Pixels per unit of a drawing: sharp on today's screens.
const ZOOM: f32 = 2.0;

/// Text as XML wants it.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
    picture.encode_png().map_err(|e| bad(e.to_string()))
}
