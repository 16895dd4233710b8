//! Tells a script where things are in the window and what is going on, so that it can drive the program with a real pointer. Off unless
//! `--marks FILE` asks for it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use eframe::egui::{Context, Rect};
use serde_json::{Map, Value, json};

/// Frames while work goes on.
#[derive(Default)]
pub struct Frames {
    last: Option<Instant>,
    pub count: usize,
    pub longest: Duration,
    pub total: Duration,
}

impl Frames {
    /// A frame begins; `busy` when work goes on beside it.
    pub fn at(&mut self, busy: bool) {
        let now = Instant::now();
        if let (Some(last), true) = (self.last, busy) {
            let gap = now - last;
            self.count += 1;
            self.total += gap;
            self.longest = self.longest.max(gap);
        }
        self.last = busy.then_some(now);
    }
}

/// What is written for the script.
pub struct Marks {
    path: PathBuf,
    rects: Map<String, Value>,
    scale: f32,
    /// Frames so far: a script waits for the next one after all it does.
    frame: u64,
}

impl Marks {
    pub fn new(path: PathBuf) -> Marks {
        Marks { path, rects: Map::new(), scale: 1.0, frame: 0 }
    }

    pub fn begin(&mut self, context: &Context) {
        self.rects.clear();
        self.frame += 1;
        self.scale = context.pixels_per_point();
    }

    /// A thing to point at, in pixels from the window's corner.
    pub fn rect(&mut self, name: &str, rect: Rect) {
        let center = rect.center() * self.scale;
        let size = rect.size() * self.scale;
        self.rects.insert(name.into(), json!([center.x.round(), center.y.round(), size.x.round(), size.y.round()]));
    }

    /// Writes it.
    pub fn end(&mut self, state: &Value) {
        let text = json!({ "frame": self.frame, "at": self.rects, "state": state }).to_string();
        let part = self.path.with_extension("part");
        // The script tells what it misses.
        let _ = std::fs::write(&part, &text).and_then(|()| std::fs::rename(&part, &self.path));
    }
}
