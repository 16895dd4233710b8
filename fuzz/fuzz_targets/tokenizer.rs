//! `tokenizer.json` and `spiece.model`: reading them, and splitting short texts by them.
#![no_main]

use std::cell::LazyCell;

use serde_json::Value;
use tipi::low_level::clip::{Frame, Tokenizer};
use tipi_fuzz::{MIB, Scratch, target};

const TEXTS: [&str; 4] =
    ["a photo of a cat.", "", "  Ünïcödé 猫 🎉 it's\u{200b}", "<|startoftext|> aaaa aa 1234567890 <|endoftext|>"];
const CONTEXT: usize = 77;

thread_local! {
    static SCRATCH: LazyCell<Scratch> = LazyCell::new(Scratch::default);
}

/// A bound that all ids of a tokenizer keep below: it is those that it states.
fn bound(json: &Value) -> u64 {
    let words: Vec<u64> = match &json["model"]["vocab"] {
        Value::Object(words) => words.values().filter_map(Value::as_u64).collect(),
        Value::Array(words) => (0..words.len() as u64).collect(),
        _ => Vec::new(),
    };
    let added = json["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stated = words.iter().copied().chain(added.iter().filter_map(|token| token["id"].as_u64()));
    stated.max().map_or(0, |most| most + 1).max(words.len() as u64)
}

target!(192 * MIB, |data| SCRATCH.with(|scratch| {
    // What is no JSON is taken for a spiece.model.
    let json = data.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let path = scratch.write(if json { "tokenizer.json" } else { "spiece.model" }, data);
    // CLIP's markers, and none, which every file has.
    let bare = Frame { start: None, end: None, ..Frame::clip() };
    for (frame, markers) in [(Frame::clip(), 2), (bare, 0)] {
        let open = || {
            if json { Tokenizer::open(&path, &frame, CONTEXT) } else { Tokenizer::open_pieces(&path, &frame, CONTEXT) }
        };
        let Ok(tokenizer) = open() else { continue };
        let again = open().expect("it was opened a moment ago");
        let bound = if json { bound(&serde_json::from_slice(data).unwrap_or_default()) } else { data.len() as u64 };
        for text in TEXTS {
            let prompt = tokenizer.prompt(text).ok();
            assert_eq!(prompt, tokenizer.prompt(text).ok(), "the same text has two prompts");
            assert_eq!(prompt, again.prompt(text).ok(), "the same tokenizer gives two prompts");
            if let Some(prompt) = prompt {
                assert!((markers..=CONTEXT).contains(&prompt.len()));
                assert!(prompt.iter().all(|id| u64::from(*id) < bound), "{prompt:?} with ids below {bound}");
            }
        }
    }
}));
