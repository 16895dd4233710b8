//! CLIP's own tokenizer against the original: ten thousand ordinary and adversarial strings with the ids that
//! `tests/reference/tokenizer.py` got from it. `TIPI_STRINGS` names another file of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::Value;
use tipi::low_level::clip::{Bpe, Frame, Markers, Tokenizer};

/// A string, its ids by open_clip, and its ids by OpenAI's class.
type Row = (String, Vec<u32>, Vec<u32>);

fn rows() -> Vec<Row> {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer.jsonl.gz");
    let path = std::env::var_os("TIPI_STRINGS").map_or_else(own, PathBuf::from);
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let ids = |value: &Value| value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    text.lines()
        .map(|line| {
            let row: Vec<Value> = serde_json::from_str(line).unwrap();
            (row[0].as_str().unwrap().to_string(), ids(&row[1]), ids(row.get(2).unwrap_or(&row[1])))
        })
        .collect()
}

/// The strings whose ids differ, in words.
fn differences(rows: &[Row]) -> Vec<String> {
    let (open_clip, openai) = (Bpe::new(Markers::OpenClip).unwrap(), Bpe::new(Markers::OpenAi).unwrap());
    let mut all = Vec::new();
    for (text, first, second) in rows {
        for (family, bpe, want) in [("open_clip", &open_clip, first), ("OpenAI", &openai, second)] {
            let got = bpe.ids(text);
            if got != *want {
                all.push(format!("{text:?} by {family}: {got:?}, expected {want:?}"));
            }
        }
    }
    all
}

#[test]
fn every_string_has_the_originals_ids() {
    let rows = rows();
    assert!(rows.len() >= 10_000, "only {} strings", rows.len());
    let differences = differences(&rows);
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        2 * rows.len(),
        differences.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn planted_errors_are_found() {
    let mut rows = rows();
    // Some strings must tell the families apart.
    let apart = rows.iter().filter(|(_, a, b)| a != b).count();
    assert!(apart > 10, "only {apart}");
    rows.truncate(200);
    let swapped = rows.iter().position(|(_, a, b)| a != b).unwrap();
    let other = if swapped == 0 { 1 } else { 0 };
    rows[other].1.push(5);
    rows[other].2[0] ^= 1;
    let (_, a, b) = &mut rows[swapped];
    std::mem::swap(a, b);
    assert_eq!(differences(&rows).len(), 4);
}

#[test]
fn long_texts_take_no_time_and_are_cut_before_the_end_marker() {
    let tokenizer = Tokenizer::built_in(Markers::OpenAi, &Frame::clip(), 77).unwrap();
    let start = Instant::now();
    for text in ["a".repeat(1_000_000), "ab ".repeat(300_000), "é&amp;“".repeat(100_000)] {
        let prompt = tokenizer.prompt(&text).unwrap();
        assert_eq!((prompt.len(), prompt[0], prompt[76]), (77, 49_406, 49_407));
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(tokenizer.prompt("a photo of a cat").unwrap(), [49_406, 320, 1125, 539, 320, 2368, 49_407]);
    assert_eq!(tokenizer.prompt("").unwrap(), [49_406, 49_407]);
}
