//! Comparing settings that were written down with those in force.

use serde::Serialize;
use serde_json::Value;

/// The first thing in which `now` differs from what was `written`, as "epochs 100, now 20"; none where they agree.
pub(crate) fn difference<T: Serialize>(written: &T, now: &T) -> Option<String> {
    // What cannot be put into words differs: settings are plain data, so this does not happen.
    let (Ok(written), Ok(now)) = (serde_json::to_value(written), serde_json::to_value(now)) else {
        return Some("settings that cannot be compared".into());
    };
    of_values("", &written, &now)
}

fn of_values(name: &str, written: &Value, now: &Value) -> Option<String> {
    match (written, now) {
        (Value::Object(written), Value::Object(now)) => {
            let mut keys: Vec<&String> =
                written.keys().chain(now.keys().filter(|k| !written.contains_key(*k))).collect();
            keys.sort();
            keys.into_iter().find_map(|key| {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                of_values(&name, written.get(key).unwrap_or(&Value::Null), now.get(key).unwrap_or(&Value::Null))
            })
        }
        _ if written == now => None,
        _ => Some(format!("{} {}, now {}", name.replace('_', " "), shown(written), shown(now))),
    }
}

/// A value without quotes; long ones are cut.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".to_string(),
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    };
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::difference;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_put_into_words() {
        let a = json!({"epochs": 100, "pini": {"lr": 0.1, "noise": "both"}, "grid": null});
        assert_eq!(difference(&a, &a), None);
        let mut b = a.clone();
        b["pini"]["noise"] = json!("text");
        assert_eq!(difference(&a, &b).unwrap(), "pini.noise 'both', now 'text'");
        b["epochs"] = json!(20);
        assert_eq!(difference(&a, &b).unwrap(), "epochs 100, now 20");
        b = a.clone();
        b["grid"] = json!("x".repeat(100));
        assert!(difference(&a, &b).unwrap().ends_with('…'));
    }
}
