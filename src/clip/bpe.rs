//! CLIP's own tokenizer, id for id: the `SimpleTokenizer` of OpenAI's CLIP and of `open_clip`.
//!
//! A text is cleaned ([`Cleaner`]), split into words, and every word's bytes are merged by the 48,894 rules that CLIP
//! was trained with. A `tokenizer.json` describes nearly the same, but knows nothing of the cleaning and gives other ids
//! for texts with broken encodings, entities or curly quotes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::Read;

use flate2::read::GzDecoder;
use regex::Regex;

use super::cleanup::Cleaner;
use crate::{Error, Result};

/// Id of the marker in front of a text.
pub const START: u32 = 49_406;
/// Id of the marker behind a text.
pub const END: u32 = 49_407;

/// The merges in order, one pair a line, gzipped.
const MERGES: &[u8] = include_bytes!("../../assets/clip_merges.txt.gz");
/// How many merges there are.
const MERGE_COUNT: usize = 48_894;
/// Bytes within a word come first in the vocabulary; bytes at its end follow, then the merges.
const BYTES: u32 = 256;
/// Marks the end of a word in the merges.
const WORD_END: &str = "</w>";

/// How a family writes the markers within a text. Both families share all other rules and all ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markers {
    /// `<|startoftext|>` and `<|endoftext|>`: OpenAI's CLIP.
    OpenAi,
    /// `<start_of_text>` and `<end_of_text>`: `open_clip`.
    OpenClip,
}

impl Markers {
    /// The start marker and the end marker.
    #[must_use]
    pub fn spellings(self) -> [&'static str; 2] {
        match self {
            Markers::OpenAi => ["<|startoftext|>", "<|endoftext|>"],
            Markers::OpenClip => ["<start_of_text>", "<end_of_text>"],
        }
    }
}

/// CLIP's byte-pair encoding. Building one takes some milliseconds; it can be shared between threads.
pub struct Bpe {
    cleaner: Cleaner,
    /// What a word is.
    words: Regex,
    markers: Markers,
    /// The id of each byte within a word.
    bytes: [u32; 256],
    /// The rule's number for each pair of ids.
    merges: HashMap<(u32, u32), u32>,
}

impl Bpe {
    /// Unpacks the merges and compiles the patterns.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the merges built in are damaged, which the tests exclude.
    pub fn new(markers: Markers) -> Result<Self> {
        let damaged = |what: String| Error::invalid(format!("the tokenizer's merges are damaged: {what}"));
        let mut rules = String::new();
        GzDecoder::new(MERGES).read_to_string(&mut rules).map_err(|e| damaged(e.to_string()))?;
        let alphabet = alphabet();
        let mut bytes = [0; 256];
        let mut ids: HashMap<String, u32> = HashMap::with_capacity(2 * alphabet.len() + MERGE_COUNT);
        for (id, &(byte, symbol)) in (0..).zip(&alphabet) {
            bytes[usize::from(byte)] = id;
            ids.insert(symbol.to_string(), id);
            ids.insert(format!("{symbol}{WORD_END}"), BYTES + id);
        }
        let mut merges = HashMap::with_capacity(MERGE_COUNT);
        for (rank, rule) in (0..).zip(rules.lines()) {
            let (first, second) = rule.split_once(' ').ok_or_else(|| damaged(format!("'{rule}' is no pair")))?;
            let id = |part: &str| ids.get(part).copied().ok_or_else(|| damaged(format!("'{part}' comes too early")));
            merges.insert((id(first)?, id(second)?), rank);
            ids.insert(format!("{first}{second}"), merged(rank));
        }
        if merges.len() != MERGE_COUNT {
            return Err(damaged(format!("{} of {MERGE_COUNT} are there", merges.len())));
        }
        let [start, end] = markers.spellings().map(regex::escape);
        // The original's pattern ignores case throughout. There that drops U+0345, a mark whose capital is a letter:
        // it is neither in its letters nor in its rest.
        let words =
            format!(r"(?i:{start}|{end}|'s|'t|'re|'ve|'m|'ll|'d)|\p{{L}}+|\p{{N}}|[^\s\x{{345}}\p{{L}}\p{{N}}]+");
        let words =
            Regex::new(&words).map_err(|e| Error::invalid(format!("the pattern of words does not compile: {e}")))?;
        Ok(Self { cleaner: Cleaner::new()?, words, markers, bytes, merges })
    }

    /// The ids of a text, without markers around them and of any length.
    #[must_use]
    pub fn ids(&self, text: &str) -> Vec<u32> {
        self.ids_of_clean(&self.cleaner.clean(text))
    }

    /// The ids of a text that needs no cleaning.
    fn ids_of_clean(&self, text: &str) -> Vec<u32> {
        let [start, end] = self.markers.spellings();
        let mut ids = Vec::with_capacity(text.len() / 4 + 1);
        for word in self.words.find_iter(text) {
            match word.as_str() {
                word if word == start => ids.push(START),
                word if word == end => ids.push(END),
                word => self.push_word(&mut ids, word.as_bytes()),
            }
        }
        ids
    }

    /// Appends the ids of a word: of all pairs that a rule merges, the earliest rule goes first, from the left.
    ///
    /// The pairs wait in a heap, so that a word of a million letters takes n log n steps. The original scans the
    /// word once per rule, which gives the same: a rule can only make pairs for later rules.
    fn push_word(&self, ids: &mut Vec<u32>, word: &[u8]) {
        let Some((last, head)) = word.split_last() else { return };
        let mut symbols: Vec<u32> = head.iter().map(|&byte| self.bytes[usize::from(byte)]).collect();
        symbols.push(BYTES + self.bytes[usize::from(*last)]);
        let count = symbols.len();
        // A symbol that was merged into its left neighbour is out of these links.
        let mut next: Vec<usize> = (1..=count).collect();
        let mut previous: Vec<Option<usize>> = (0..count).map(|at| at.checked_sub(1)).collect();
        let mut alive = vec![true; count];
        let rank =
            |symbols: &[u32], left: usize, right: usize| self.merges.get(&(symbols[left], symbols[right])).copied();
        let mut waiting: BinaryHeap<_> =
            (1..count).filter_map(|at| Some(Reverse((rank(&symbols, at - 1, at)?, at - 1)))).collect();
        while let Some(Reverse((rule, left))) = waiting.pop() {
            let right = next[left];
            if !alive[left] || right == count || rank(&symbols, left, right) != Some(rule) {
                continue;
            }
            symbols[left] = merged(rule);
            alive[right] = false;
            next[left] = next[right];
            if next[left] < count {
                previous[next[left]] = Some(left);
                waiting.extend(rank(&symbols, left, next[left]).map(|rule| Reverse((rule, left))));
            }
            if let Some(before) = previous[left] {
                waiting.extend(rank(&symbols, before, left).map(|rule| Reverse((rule, before))));
            }
        }
        ids.extend(symbols.iter().zip(&alive).filter(|&(_, &alive)| alive).map(|(&symbol, _)| symbol));
    }
}

/// The id of what a rule makes.
fn merged(rule: u32) -> u32 {
    2 * BYTES + rule
}

/// The bytes in the vocabulary's order, each with the character that stands for it in the merges.
fn alphabet() -> Vec<(u8, char)> {
    let shown = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let hidden = (0..=u8::MAX).filter(|byte| !shown(byte)).zip('\u{100}'..);
    (0..=u8::MAX).filter(shown).map(|byte| (byte, char::from(byte))).chain(hidden).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
}
