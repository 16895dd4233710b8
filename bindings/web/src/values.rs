//! JavaScript's values as Rust's.

use js_sys::{Array, Float32Array, Reflect, Uint8Array};
use tipi::{Error, Result};
use wasm_bindgen::{JsCast, JsValue};

/// A field of an object; undefined where there is none.
pub fn field(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

fn wrong(name: &str, what: &str) -> Error {
    Error::Invalid(format!("{name}: give {what}"))
}

/// A text.
pub fn text(object: &JsValue, name: &str) -> Result<String> {
    field(object, name).as_string().ok_or_else(|| wrong(name, "a text"))
}

/// A text, if there is one.
pub fn text_or_none(object: &JsValue, name: &str) -> Result<Option<String>> {
    let given = field(object, name);
    if given.is_undefined() || given.is_null() { Ok(None) } else { text(object, name).map(Some) }
}

/// A number.
pub fn number(object: &JsValue, name: &str) -> Result<f64> {
    field(object, name).as_f64().ok_or_else(|| wrong(name, "a number"))
}

/// A list.
pub fn list(object: &JsValue, name: &str) -> Result<Array> {
    field(object, name).dyn_into().map_err(|_| wrong(name, "a list"))
}

/// A list of texts.
pub fn texts(object: &JsValue, name: &str) -> Result<Vec<String>> {
    list(object, name)?.iter().map(|one| one.as_string().ok_or_else(|| wrong(name, "a list of texts"))).collect()
}

/// Bytes.
pub fn bytes(object: &JsValue, name: &str) -> Result<Vec<u8>> {
    let given: Uint8Array = field(object, name).dyn_into().map_err(|_| wrong(name, "a Uint8Array"))?;
    Ok(given.to_vec())
}

/// Numbers.
pub fn floats(object: &JsValue, name: &str) -> Result<Vec<f32>> {
    let given: Float32Array = field(object, name).dyn_into().map_err(|_| wrong(name, "a Float32Array"))?;
    Ok(given.to_vec())
}

/// An object with these fields.
pub fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let object = js_sys::Object::new();
    for (name, value) in fields {
        // A new object takes every field.
        let _ = Reflect::set(&object, &(*name).into(), value);
    }
    object.into()
}

/// A list of texts as JavaScript's.
pub fn words<S: AsRef<str>>(texts: &[S]) -> JsValue {
    texts.iter().map(|text| JsValue::from_str(text.as_ref())).collect::<Array>().into()
}
