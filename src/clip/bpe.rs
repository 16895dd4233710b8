//! CLIP's own tokenizer, id for id: the `SimpleTokenizer` of OpenAI's CLIP and of `open_clip`.
//!
//! A text is cleaned, split into words, and every word's bytes are merged by the 48,894 rules that CLIP
//! was trained with. A `tokenizer.json` describes nearly the same, but knows nothing of the cleaning and gives other ids
//! for texts with broken encodings, entities or curly quotes.
//!
//! Texts of characters that Unicode 14 knows get the ids of the original. For newer characters the original's own answer
//! depends on the versions of Python and of its `regex` package; here, Unicode 16 says what a letter or a digit is.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use flate2::read::GzDecoder;
use regex::Regex;

use super::cleanup::Cleaner;
use super::frame::Clean;
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
        self.ids_cleaned(text, Clean::Own)
    }

    /// The ids of a text that is cleaned in another way.
    #[must_use]
    pub fn ids_cleaned(&self, text: &str, clean: Clean) -> Vec<u32> {
        self.ids_of_clean(&self.cleaner.cleaned(text, clean))
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
    /// The original scans the whole word once per rule. Here the places of its pairs wait under each rule, so that a
    /// word of a million letters is no trouble. A rule can only make pairs for later rules, so its places are complete
    /// when its turn comes.
    fn push_word(&self, ids: &mut Vec<u32>, word: &[u8]) {
        let Some((last, head)) = word.split_last() else { return };
        let mut symbols: Vec<u32> = head.iter().map(|&byte| self.bytes[usize::from(byte)]).collect();
        symbols.push(BYTES + self.bytes[usize::from(*last)]);
        let count = symbols.len();
        // Neighbours of each symbol that is left. One that was merged into its left neighbour is dead.
        let mut next: Vec<usize> = (1..=count).collect();
        let mut previous: Vec<Option<usize>> = (0..count).map(|at| at.checked_sub(1)).collect();
        let mut alive = vec![true; count];
        let rule_of =
            |symbols: &[u32], left: usize, right: usize| self.merges.get(&(symbols[left], symbols[right])).copied();
        let mut waiting: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for left in 0..count - 1 {
            if let Some(rule) = rule_of(&symbols, left, left + 1) {
                waiting.entry(rule).or_default().push(left);
            }
        }
        while let Some((rule, mut places)) = waiting.pop_first() {
            places.sort_unstable();
            for left in places {
                let right = next[left];
                // An earlier merge may have taken either side.
                if !alive[left] || right == count || rule_of(&symbols, left, right) != Some(rule) {
                    continue;
                }
                symbols[left] = merged(rule);
                alive[right] = false;
                next[left] = next[right];
                if next[left] < count {
                    previous[next[left]] = Some(left);
                }
                let behind = Some((left, next[left])).filter(|&(_, right)| right < count);
                let before = previous[left].map(|before| (before, left));
                for (left, right) in before.into_iter().chain(behind) {
                    if let Some(rule) = rule_of(&symbols, left, right) {
                        waiting.entry(rule).or_default().push(left);
                    }
                }
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
    use std::collections::HashSet;

    use super::*;

    fn bpe(markers: Markers) -> Bpe {
        Bpe::new(markers).unwrap()
    }

    /// The original's way: for each rule in turn, all its pairs from left to right.
    fn merged_by_scanning(bpe: &Bpe, word: &[u8]) -> Vec<u32> {
        let mut symbols: Vec<u32> = word.iter().map(|&byte| bpe.bytes[usize::from(byte)]).collect();
        if let Some(last) = symbols.last_mut() {
            *last += BYTES;
        }
        while let Some(rule) = symbols.windows(2).filter_map(|pair| bpe.merges.get(&(pair[0], pair[1])).copied()).min()
        {
            let mut at = 0;
            while at + 1 < symbols.len() {
                if bpe.merges.get(&(symbols[at], symbols[at + 1])) == Some(&rule) {
                    symbols[at] = merged(rule);
                    symbols.remove(at + 1);
                }
                at += 1;
            }
        }
        symbols
    }

    #[test]
    fn every_byte_has_its_own_character() {
        let alphabet = alphabet();
        assert_eq!(alphabet.len(), 256);
        assert_eq!(alphabet.iter().map(|&(byte, _)| byte).collect::<HashSet<_>>().len(), 256);
        assert_eq!(alphabet.iter().map(|&(_, symbol)| symbol).collect::<HashSet<_>>().len(), 256);
        assert_eq!(alphabet[0], (b'!', '!'));
        assert_eq!(alphabet[188], (0, '\u{100}'));
        assert_eq!(alphabet[255], (0xad, '\u{143}'));
    }

    #[test]
    fn the_markers_come_behind_the_merges() {
        assert_eq!(bpe(Markers::OpenClip).merges.len(), MERGE_COUNT);
        assert_eq!(START as usize, 2 * BYTES as usize + MERGE_COUNT);
        assert_eq!(END, START + 1);
    }

    /// The merging relies on this: what a rule makes is only in pairs of later rules.
    #[test]
    fn rules_build_on_earlier_ones_only() {
        for (&(first, second), &rule) in &bpe(Markers::OpenClip).merges {
            assert!(first < merged(rule) && second < merged(rule), "rule {rule}");
        }
    }

    #[test]
    fn places_merge_as_scanning_does() {
        let bpe = bpe(Markers::OpenClip);
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        for letters in ["ab", "aeinorst", "abcdefghijklmnopqrstuvwxyz", "!?.-", "éёж猫😀"] {
            for _ in 0..300 {
                let word: Vec<u8> = (0..random(40)).map(|_| letters.as_bytes()[random(letters.len())]).collect();
                let mut ids = Vec::new();
                bpe.push_word(&mut ids, &word);
                assert_eq!(ids, merged_by_scanning(&bpe, &word), "{word:?}");
            }
        }
    }

    #[test]
    fn captions_get_their_known_ids() {
        let bpe = bpe(Markers::OpenAi);
        assert_eq!(bpe.ids("a photo of a cat"), [320, 1125, 539, 320, 2368]);
        assert_eq!(bpe.ids("  A  PHOTO\nof a\tCat "), [320, 1125, 539, 320, 2368]);
        assert!(bpe.ids("").is_empty());
        assert!(bpe.ids(" \u{3000}\n").is_empty());
    }

    #[test]
    fn digits_stand_alone_and_contractions_come_off() {
        let bpe = bpe(Markers::OpenClip);
        let words = |text: &str| bpe.words.find_iter(text).map(|word| word.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(words("in 2024"), ["in", "2", "0", "2", "4"]);
        assert_eq!(words("she'll 'tis it's_"), ["she", "'ll", "'t", "is", "it", "'s", "_"]);
        // The long s is an s where case does not count.
        assert_eq!(words("it'\u{17f}"), ["it", "'\u{17f}"]);
        assert_eq!(words("a\u{345}b"), ["a", "b"]);
        assert_eq!(words("<start_of_text>!"), ["<start_of_text>", "!"]);
    }

    #[test]
    fn each_family_has_its_own_markers() {
        for (own, other) in [(Markers::OpenAi, Markers::OpenClip), (Markers::OpenClip, Markers::OpenAi)] {
            let bpe = bpe(own);
            assert_eq!(bpe.ids(&own.spellings().concat()), [START, END]);
            assert_eq!(bpe.ids(&own.spellings().concat().to_uppercase()), [START, END]);
            assert!(bpe.ids(&other.spellings().concat()).iter().all(|&id| id < START));
            // Ignoring case, this is a marker and so one word, but not one with an id of its own.
            let lookalike = own.spellings()[0].replace('s', "\u{17f}");
            assert_eq!(bpe.words.find(&lookalike).map(|word| word.len()), Some(lookalike.len()));
            assert!(bpe.ids(&lookalike).iter().all(|&id| id < START));
        }
    }
}
