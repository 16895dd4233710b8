//! What a tokenizer.json says of itself, looked over before its rules are built: a file of a few kilobytes can ask for
//! texts of gigabytes, and the crate that builds the rules takes files for well-meant.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::charsmap::Charsmap;
use crate::{Error, Result, text};

/// How deep lists and objects may lie in each other; those of real files lie less than 10 deep.
const MAX_DEPTH: usize = 64;
/// How many rules, one after the other, may prepare a text, split it, or join tokens.
const MAX_RULES: usize = 64;
/// How many times as long a text may become by its preparation, but for tables of replacements.
const MAX_GROWTH: usize = 64;
/// How many times as long a text may become by the tables of replacements; that of NFKC makes one character 11 times as long.
const MAX_TABLE_GROWTH: usize = 64;

/// The parts of a tokenizer.json that are looked over.
#[derive(Deserialize)]
struct Parts {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

/// Of the model only what matters: its tables are long.
#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: Vocabulary,
}

/// Whether a vocabulary is a list, as those of unigram models are.
#[derive(Default)]
struct Vocabulary {
    list: bool,
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vocabulary, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Vocabulary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Vocabulary, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocabulary { list: true })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Vocabulary, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Vocabulary { list: false })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A token beside the vocabulary, which no rule takes apart.
#[derive(Deserialize)]
pub(super) struct Added {
    id: u32,
    content: String,
}

/// Which model a tokenizer.json has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unigram,
    Bpe,
    /// Another one, or one that is known by its fields only.
    Other,
}

/// What a tokenizer.json states of itself.
pub(super) struct Stated {
    /// How many times as long a text may become, at most, by its rules.
    pub growth: usize,
    /// Its model.
    pub kind: Kind,
    added: Vec<Added>,
}

impl Stated {
    /// Holds the ids that the rules give against those that the file at `path` states: the crate gives a token the next free
    /// id when its own is taken or leaves a gap, and prompts would then name another row of the token table than was meant.
    ///
    /// # Errors
    /// [`Error::Config`] with the first token whose ids differ.
    pub fn check(&self, path: &Path, given: impl Fn(&str) -> Option<u32>) -> Result<()> {
        for Added { id, content } in &self.added {
            let got = given(content);
            if got != Some(*id) {
                let got = got.map_or("none".into(), |got| got.to_string());
                let token = text::cut(content, text::NAME);
                return Err(Error::config(
                    path,
                    format!(
                        "its added token '{token}' has id {id}, and would get {got}: ids must follow the vocabulary without a gap"
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Looks over the tokenizer.json at `path`.
///
/// # Errors
/// [`Error::Config`] for a file that is no JSON, or asks for what is not done: chance, texts that grow without bounds, rules
/// without end.
pub(super) fn look_over(path: &Path, text: &[u8]) -> Result<Stated> {
    let bad = |reason: String| Error::config(path, format!("not a valid tokenizer: {reason}"));
    if deepest(text) > MAX_DEPTH {
        return Err(bad(format!("lists and objects lie more than {MAX_DEPTH} deep in each other")));
    }
    let parts: Parts = serde_json::from_slice(text).map_err(|e| bad(e.to_string()))?;
    if let Some(dropout) = parts.model.dropout.filter(|dropout| *dropout != 0.0) {
        return Err(bad(format!(
            "its dropout of {dropout} leaves merges out by chance, so that a text has other tokens each time; set it to null"
        )));
    }
    let all = [
        ("normalizer", &parts.normalizer),
        ("pre_tokenizer", &parts.pre_tokenizer),
        ("post_processor", &parts.post_processor),
        ("decoder", &parts.decoder),
    ];
    for (name, part) in all {
        let rules = count(part);
        if rules > MAX_RULES {
            return Err(bad(format!("{rules} rules in its {name}, at most {MAX_RULES} are taken")));
        }
        if let Some(rule) = unsound(part) {
            return Err(bad(format!("its {name} has {rule}")));
        }
    }
    let tables = tables(&parts.normalizer).map_err(|why| {
        bad(format!("its normalizer has a SentencePiece table of replacements that cannot be used: {why}"))
    })?;
    if tables > MAX_TABLE_GROWTH {
        return Err(bad(format!(
            "its tables of replacements may make a text more than {MAX_TABLE_GROWTH} times as long"
        )));
    }
    let growth = grown(&parts.normalizer).min(usize::MAX / 2).saturating_mul(grown(&parts.pre_tokenizer));
    if growth > MAX_GROWTH {
        return Err(bad(format!("its rules may make a text more than {MAX_GROWTH} times as long")));
    }
    let kind = match parts.model.kind.as_deref() {
        Some("Unigram") => Kind::Unigram,
        None if parts.model.vocab.list => Kind::Unigram,
        Some("BPE") => Kind::Bpe,
        _ => Kind::Other,
    };
    Ok(Stated { growth: growth * tables, kind, added: parts.added_tokens })
}

/// How deep lists and objects lie in each other in a JSON text.
fn deepest(text: &[u8]) -> usize {
    let (mut depth, mut most, mut quoted) = (0usize, 0, false);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match (byte, quoted) {
            (b'"', _) => quoted = !quoted,
            // Whatever is escaped ends no string.
            (b'\\', true) => drop(bytes.next()),
            (b'[' | b'{', false) => {
                depth += 1;
                most = most.max(depth);
            }
            (b']' | b'}', false) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// The number of rules in a part of the file: the objects with a type.
fn count(part: &Value) -> usize {
    match part {
        Value::Array(parts) => parts.iter().map(count).sum(),
        Value::Object(parts) => usize::from(parts.contains_key("type")) + parts.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// A rule on which the crate would panic, in words.
fn unsound(part: &Value) -> Option<&'static str> {
    match part {
        Value::Array(parts) => parts.iter().find_map(unsound),
        Value::Object(parts) => match parts.get("type").and_then(Value::as_str) {
            Some("FixedLength") if parts.get("length").and_then(Value::as_u64) == Some(0) => {
                Some("a rule that cuts texts into pieces of no length")
            }
            _ => parts.values().find_map(unsound),
        },
        _ => None,
    }
}

/// How many times as long the tables of replacements in a part may make a text. Each is read as a whole: the crate follows them
/// wherever they lead.
fn tables(part: &Value) -> std::result::Result<usize, String> {
    let product = |a: usize, part| Ok(a.saturating_mul(tables(part)?));
    match part {
        Value::Array(parts) => parts.iter().try_fold(1, product),
        Value::Object(parts) => {
            let own = match parts.get("precompiled_charsmap") {
                None => 1,
                Some(table) => {
                    let text = table.as_str().ok_or("it is no text")?;
                    Charsmap::parse(&STANDARD.decode(text).map_err(|e| format!("it is no base64: {e}"))?)?.growth
                }
            };
            parts.values().try_fold(own, product)
        }
        _ => Ok(1),
    }
}

/// How many times as long a rule, and those within it, may make a text, in bytes; tables of replacements left out.
fn grown(rule: &Value) -> usize {
    let Some(parts) = rule.as_object() else { return 1 };
    let length = |name: &str| parts.get(name).and_then(Value::as_str).map_or(0, str::len);
    // Without a type, as in files of old, the kind shows in the fields.
    let own = if parts.contains_key("content") {
        // What matches is at least as long as a string and may be nothing for an expression.
        let pattern = parts.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
        match pattern.map_or(0, str::len) {
            0 => length("content") + 1,
            shortest => length("content").div_ceil(shortest).max(1),
        }
    } else if parts.contains_key("prepend") {
        // Each piece between special tokens gets it, and may have a single byte.
        length("prepend") + 1
    } else {
        match parts.get("type").and_then(Value::as_str) {
            Some("ByteLevel") => 2,
            Some("Metaspace") => 4,
            _ => 1,
        }
    };
    let inner = parts.get("normalizers").or(parts.get("pretokenizers")).and_then(Value::as_array);
    let rules = inner.into_iter().flatten();
    rules.fold(own, |product, rule| product.saturating_mul(grown(rule)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(file: &Value) -> std::result::Result<usize, String> {
        let stated = look_over("tokenizer.json".as_ref(), file.to_string().as_bytes());
        stated.map(|stated| stated.growth).map_err(|error| error.to_string())
    }

    fn with(normalizer: &Value) -> std::result::Result<usize, String> {
        of(&json!({"model": {"type": "BPE", "vocab": {}, "merges": []}, "normalizer": normalizer}))
    }

    fn replace(pattern: &Value, content: &str) -> Value {
        json!({"type": "Replace", "pattern": pattern, "content": content})
    }

    #[test]
    fn what_models_do_is_taken() {
        let spaces = replace(&json!({"Regex": "\\s+"}), " ");
        let clip = json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}]});
        assert_eq!(with(&clip), Ok(2));
        assert_eq!(with(&Value::Null), Ok(1));
        let llama = json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, replace(&json!({"String": " "}), "▁")]});
        assert_eq!(with(&llama), Ok(12));
        let shorter = replace(&json!({"String": "''"}), "\"");
        assert_eq!(with(&json!({"type": "Sequence", "normalizers": vec![shorter; 60]})), Ok(1));
    }

    #[test]
    fn texts_that_grow_are_refused_however_they_do() {
        let double = replace(&json!({"String": "a"}), "aa");
        let halves = json!({"type": "Sequence", "normalizers": vec![double.clone(); 4]});
        for normalizer in [
            json!({"type": "Sequence", "normalizers": vec![double.clone(); 34]}),
            json!({"type": "Sequence", "normalizers": [halves, halves]}),
            json!({"type": "Sequence", "normalizers": vec![replace(&json!({"Regex": "a?"}), "ab"); 5]}),
            json!({"type": "Sequence", "normalizers": vec![json!({"type": "Prepend", "prepend": "aaa"}); 4]}),
            json!({"type": "Replace", "pattern": {"String": ""}, "content": "x".repeat(1000)}),
            json!({"type": "Replace", "pattern": {"Regex": "."}, "content": "x".repeat(1000)}),
        ] {
            let error = with(&normalizer).unwrap_err();
            assert!(error.contains("times as long") && error.contains("tokenizer.json"), "{error}");
        }
        let nothing = json!({"type": "Sequence", "normalizers": vec![json!({"type": "NFC"}); 200]});
        assert!(with(&nothing).unwrap_err().contains("201 rules in its normalizer"));
    }

    #[test]
    fn what_lies_too_deep_is_refused_before_anything_is_built() {
        for field in ["normalizer", "pre_tokenizer", "post_processor", "decoder", "padding", "added_tokens", "other"] {
            for (open, close) in [("[", "]"), (r#"{"type":"Sequence","decoders":["#, "]}")] {
                let deep = open.repeat(100_000) + &close.repeat(100_000);
                let text = format!(r#"{{"model": {{"vocab": {{"[\"[": 1}}}}, "{field}": {deep}}}"#);
                let stated = look_over("tokenizer.json".as_ref(), text.as_bytes());
                let error = stated.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(error.contains("64 deep"), "{error}");
            }
        }
        // What is quoted is not deep.
        let quoted = json!({"model": {"vocab": {"[".repeat(500) + "\"\\": 1}}});
        assert_eq!(of(&quoted), Ok(1));
    }

    #[test]
    fn rules_that_cannot_be_carried_out_are_refused() {
        for (table, why) in [
            (json!("x"), "no base64"),
            (json!(7), "no text"),
            (json!(""), "no header"),
            (json!("/////w=="), "ends behind"),
            (json!(STANDARD.encode([&[0, 8, 0, 0][..], &[0xff; 2048], b"a\0"].concat())), "out of itself"),
        ] {
            for rule in
                [json!({"type": "Precompiled", "precompiled_charsmap": table}), json!({"precompiled_charsmap": table})]
            {
                let error = with(&json!({"type": "Sequence", "normalizers": [rule]})).unwrap_err();
                assert!(error.contains("SentencePiece") && error.contains(why), "{error}");
            }
        }
        let file = json!({"model": {"vocab": {}}, "pre_tokenizer": {"type": "FixedLength", "length": 0}});
        assert!(of(&file).unwrap_err().contains("its pre_tokenizer has a rule that cuts"));
    }

    #[test]
    fn chance_is_refused() {
        for (dropout, fine) in
            [(json!(null), true), (json!(0.0), true), (json!(0), true), (json!(0.1), false), (json!(1), false)]
        {
            let found = of(&json!({"model": {"type": "BPE", "dropout": dropout, "vocab": {}, "merges": []}}));
            match found {
                Ok(_) => assert!(fine, "{dropout}"),
                Err(error) => assert!(!fine && error.contains("dropout"), "{dropout}: {error}"),
            }
        }
    }
}
