//! Answers as JSON, for programs: one array, or an object a line.

use anyhow::Result;
use serde_json::{Map, Value, json};
use tipi::low_level::text;

use super::{Answer, Printer, Ranked, Shown, UNKNOWN};
use crate::terminal;

/// An answer as an object.
fn object(answer: &Answer, shown: Shown) -> Value {
    if shown.multi {
        return labels(answer, shown);
    }
    let (best, second) = (answer.best(), answer.ranked.get(1));
    let mut object = json!({
        "path": text::path(&answer.path),
        "class": answer.class.as_deref().unwrap_or(UNKNOWN),
        "likeliest": best.map(|best| &best.class),
        "probability": best.map(|best| best.probability),
        "runner_up": second.map(|second| &second.class),
        "runner_up_probability": second.map(|second| second.probability),
    });
    if let Some(bytes) = text::path_bytes(&answer.path) {
        object["path_bytes"] = bytes.into();
    }
    let scores = |ranked: Option<&Ranked>| [ranked.and_then(|r| r.cosine), ranked.map(|r| r.logit)];
    if shown.scores || shown.alone {
        let [cosine, logit] = scores(best);
        object["cosine"] = json!(cosine);
        object["logit"] = json!(logit);
    }
    if shown.scores {
        let [cosine, logit] = scores(second);
        object["runner_up_cosine"] = json!(cosine);
        object["runner_up_logit"] = json!(logit);
    }
    if shown.asked {
        let of = |ranked: &Ranked| {
            let mut of = Map::from_iter([
                ("class".to_owned(), json!(ranked.class)),
                ("probability".to_owned(), json!(ranked.probability)),
            ]);
            if shown.scores {
                of.insert("cosine".into(), json!(ranked.cosine));
                of.insert("logit".into(), json!(ranked.logit));
            }
            Value::Object(of)
        };
        object["top"] = answer.ranked.iter().take(shown.top).map(of).collect();
    }
    for more in &answer.more {
        object[more.key] = more.value.clone();
    }
    object
}

/// An answer where a picture may have several labels: those that it has, and what is said of each.
fn labels(answer: &Answer, shown: Shown) -> Value {
    let of = |label: &Ranked| {
        let mut of = json!({"label": label.class, "has": label.has});
        match label.threshold {
            Some(threshold) => {
                of["logit"] = json!(label.logit);
                of["threshold"] = json!(threshold);
            }
            None => of["probability"] = json!(label.probability),
        }
        if shown.scores {
            of["cosine"] = json!(label.cosine);
            of["logit"] = json!(label.logit);
        }
        of
    };
    let mut object = json!({
        "path": text::path(&answer.path),
        "labels": answer.has().collect::<Vec<_>>(),
        "scores": answer.ranked.iter().take(shown.top).map(of).collect::<Vec<_>>(),
    });
    if let Some(bytes) = text::path_bytes(&answer.path) {
        object["path_bytes"] = bytes.into();
    }
    for more in &answer.more {
        object[more.key] = more.value.clone();
    }
    object
}

/// One array, printed at the end.
pub struct Array {
    shown: Shown,
    objects: Vec<Value>,
}

impl Array {
    pub fn new(shown: Shown) -> Array {
        Array { shown, objects: Vec::new() }
    }
}

impl Printer for Array {
    fn add(&mut self, answer: &Answer) -> tipi::Result<bool> {
        self.objects.push(object(answer, self.shown));
        Ok(true)
    }

    fn end(&mut self) -> Result<()> {
        terminal::print_json(&self.objects, true)
    }
}

/// An object a line, printed as they come.
pub struct Lines(pub Shown);

impl Printer for Lines {
    fn add(&mut self, answer: &Answer) -> tipi::Result<bool> {
        terminal::print_line(&text::escaped_json(&object(answer, self.0).to_string()))
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}
