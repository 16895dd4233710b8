//! The desk between the worker and the module.

use wasm_bindgen::prelude::*;

#[wasm_bindgen(raw_module = "./tipi-turn.js")]
extern "C" {
    /// What is asked for.
    pub fn request() -> JsValue;
    /// What came of it.
    pub fn reply(answer: &JsValue);
    /// Why nothing came of it.
    pub fn fail(kind: &str, message: &str);
    /// How far it is: what is done, and how many of how many parts; more words where there are some.
    fn progress(what: &str, done: f64, total: f64, words: &str);
    /// Something that people should know.
    fn note(text: &str);
    /// Whether it should stop.
    fn stopped() -> bool;
}

/// Passes progress on, and stops where that is wished.
#[derive(Default)]
pub struct Watching {
    what: String,
    total: usize,
    words: String,
}

impl tipi::Watch for Watching {
    fn begin(&mut self, what: &str, total: usize) {
        (self.what, self.total) = (what.into(), total);
        progress(what, 0.0, total as f64, "");
    }

    fn at(&mut self, done: usize) -> tipi::Result<()> {
        progress(&self.what, done as f64, self.total as f64, &self.words);
        if stopped() { Err(tipi::Error::Stopped) } else { Ok(()) }
    }

    fn show(&mut self, text: &str) {
        self.words = text.into();
    }

    fn end(&mut self) {
        progress(&self.what, self.total as f64, self.total as f64, &self.words);
        self.words.clear();
    }

    fn note(&mut self, text: &str) {
        note(text);
    }
}
