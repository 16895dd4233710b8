//! Pictures: files' bytes, or pixels.

use tipi::{Picture, Result};
use wasm_bindgen::JsValue;

use crate::values::{bytes, field, list, number, text};

/// The picture in {name, bytes} or {name, rgba, width, height}.
pub fn picture(given: &JsValue) -> Result<Picture> {
    let name = text(given, "name")?;
    if field(given, "rgba").is_undefined() {
        return Ok(Picture::encoded(name, bytes(given, "bytes")?));
    }
    let [width, height] = [number(given, "width")? as usize, number(given, "height")? as usize];
    Picture::rgba8(name, [width, height], 4 * width, &bytes(given, "rgba")?)
}

/// The pictures of a request.
pub fn pictures(request: &JsValue) -> Result<Vec<Picture>> {
    list(request, "pictures")?.iter().map(|given| picture(&given)).collect()
}
