//! `tokenizer.json`: reading it, and splitting short texts by it.
#![no_main]

use std::cell::LazyCell;
use std::collections::HashSet;

use serde_json::Value;
use tipi::clip::Tokenizer;
use tipi_fuzz::{MIB, Scratch, target};

const TEXTS: [&str; 4] =
    ["a photo of a cat.", "", "  Ünïcödé 猫 🎉 it's\u{200b}", "<|startoftext|> aaaa aa 1234567890 <|endoftext|>"];
const CONTEXT: usize = 77;

thread_local! {
    static SCRATCH: LazyCell<Scratch> = LazyCell::new(Scratch::default);
}

/// All ids that a tokenizer gives a name.
fn vocabulary(json: &Value) -> HashSet<u64> {
    let mut ids = HashSet::new();
    match &json["model"]["vocab"] {
        Value::Object(words) => ids.extend(words.values().filter_map(Value::as_u64)),
        Value::Array(words) => ids.extend(0..words.len() as u64),
        _ => {}
    }
    let added = json["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
    ids.extend(added.iter().filter_map(|token| token["id"].as_u64()));
    // A token that is added and not known yet comes behind all others.
    ids.extend((0..added.len() as u64).map(|n| n + ids.len() as u64).collect::<Vec<_>>());
    ids
}

target!(192 * MIB, |data| SCRATCH.with(|scratch| {
    let path = scratch.write("tokenizer.json", data);
    let Ok(tokenizer) = Tokenizer::open(&path, CONTEXT) else { return };
    let again = Tokenizer::open(&path, CONTEXT).expect("it was opened a moment ago");
    let ids = vocabulary(&serde_json::from_slice(data).unwrap_or_default());
    for text in TEXTS {
        let prompt = tokenizer.prompt(text).ok();
        assert_eq!(prompt, tokenizer.prompt(text).ok(), "the same text has two prompts");
        assert_eq!(prompt, again.prompt(text).ok(), "the same tokenizer gives two prompts");
        if let Some(prompt) = prompt {
            assert!((2..=CONTEXT).contains(&prompt.len()));
            let stranger = prompt.iter().find(|id| !ids.contains(&u64::from(**id)));
            assert!(stranger.is_none(), "{stranger:?} is no token");
        }
    }
}));
