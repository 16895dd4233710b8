//! Options as text, for those who call from other languages.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Result, text};

/// The JSON object in a text; `what` names it in errors.
pub(super) fn object(what: &str, json: &str) -> Result<Map<String, Value>> {
    match serde_json::from_str(json) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::invalid(format!("{what} are no JSON object: write {{\"name\": value}}"))),
        Err(error) => Err(Error::invalid(format!("{what} are no JSON object: {error}"))),
    }
}

/// What `base` is with the fields that the JSON object in a text names, those of inner objects by themselves.
pub(super) fn merged<T: Serialize + DeserializeOwned>(what: &str, base: &T, json: &str) -> Result<T> {
    let given = object(what, json)?;
    let wrong = |error: serde_json::Error| Error::invalid(format!("{what}: {error}"));
    let mut fields = serde_json::to_value(base).map_err(wrong)?;
    put(what, "", &mut fields, Value::Object(given))?;
    serde_json::from_value(fields).map_err(wrong)
}

fn put(what: &str, before: &str, place: &mut Value, given: Value) -> Result<()> {
    match (place, given) {
        (Value::Object(fields), Value::Object(given)) => {
            for (name, value) in given {
                let Some(field) = fields.get_mut(&name) else {
                    let known = fields.keys().cloned().collect::<Vec<_>>().join(", ");
                    let name = format!("{before}{name}");
                    let name = text::cut(&name, text::NAME);
                    return Err(Error::invalid(format!("{what}: there is no '{name}'; there are {known}")));
                };
                put(what, &format!("{before}{name}."), field, value)?;
            }
        }
        (place, value) => *place = value,
    }
    Ok(())
}
