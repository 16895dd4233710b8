//! Splitting by the most likely pieces: SentencePiece's unigram model, for `spiece.model` and for a tokenizer.json.
//!
//! The crate `tokenizers` has one, too. It keeps a node with a map of its own for every character of every piece, which takes a
//! gigabyte for the 900,000 pieces of XLM-V; here they lie sorted in one text.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use rayon::slice::ParallelSliceMut;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokenizers::models::unigram::UnigramTrainer;
use tokenizers::{Model, Token};

/// How much less likely than the least likely piece a character is that is in none.
const UNKNOWN: f64 = 10.0;

/// Pieces, by id and by text.
#[derive(Default)]
pub(super) struct Pieces {
    text: String,
    /// Where each piece ends in the text.
    ends: Vec<usize>,
    scores: Vec<f64>,
}

impl Pieces {
    /// Appends the piece with the next id.
    pub fn push(&mut self, piece: &str, score: f64) {
        self.text.push_str(piece);
        self.ends.push(self.text.len());
        self.scores.push(score);
    }

    fn get(&self, id: u32) -> &str {
        let id = id as usize;
        &self.text[id.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[id]]
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

/// A unigram model.
pub(super) struct Unigram {
    pieces: Pieces,
    /// The ids of the pieces that texts are split into, by their texts.
    order: Vec<u32>,
    /// Where in the order the pieces begin that begin with each byte.
    first: Box<[usize; 257]>,
    /// Ids of pieces that no text is split into, by their texts.
    reserved: HashMap<String, u32>,
    unknown: Option<u32>,
    /// The score of an unknown character.
    unlikely: f64,
    /// The ids of single bytes, where unknown characters become these.
    bytes: Option<Box<[u32; 256]>>,
    /// Whether sums are rounded as SentencePiece's own are, to 32 bits.
    rounded: bool,
}

impl Unigram {
    /// A model of a tokenizer.json.
    ///
    /// # Errors
    /// A sentence, for an `unknown` past the pieces.
    pub fn new(pieces: Pieces, unknown: Option<usize>, fallback: bool) -> Result<Unigram, String> {
        let unknown = match unknown {
            Some(id) if id >= pieces.len() => {
                return Err(format!("unk_id {id} is not one of its {} pieces", pieces.len()));
            }
            id => id.map(|id| id as u32),
        };
        if let Some(at) = pieces.scores.iter().position(|score| !score.is_finite()) {
            return Err(format!("the score of piece {at} is {}", pieces.scores[at]));
        }
        let unlikely = pieces.scores.iter().copied().fold(f64::INFINITY, f64::min) - UNKNOWN;
        let mut order = sorted(&pieces, (0..pieces.len() as u32).collect());
        // Of equal ones the last counts.
        order.reverse();
        order.dedup_by(|a, b| pieces.get(*a) == pieces.get(*b));
        order.reverse();
        let mut model = Unigram {
            first: first(&pieces, &order),
            pieces,
            order,
            reserved: HashMap::new(),
            unknown,
            unlikely,
            bytes: None,
            rounded: false,
        };
        model.bytes = fallback.then(|| model.byte_ids()).flatten();
        Ok(model)
    }

    /// A model as SentencePiece itself runs it: of the pieces only the `normal` ones occur in texts.
    ///
    /// # Errors
    /// As [`Unigram::new`]; two pieces with one text.
    pub fn sentencepiece(pieces: Pieces, normal: &[bool], unknown: usize, fallback: bool) -> Result<Unigram, String> {
        let mut model = Unigram::new(pieces, Some(unknown), false)?;
        if model.order.len() != model.pieces.len() {
            return Err("two of its pieces are the same".into());
        }
        let is_normal = |id: u32| normal.get(id as usize) == Some(&true);
        let reserved = model.order.iter().filter(|id| !is_normal(**id));
        model.reserved = reserved.map(|&id| (model.pieces.get(id).to_owned(), id)).collect();
        model.order.retain(|id| is_normal(*id));
        model.first = first(&model.pieces, &model.order);
        let scores = model.order.iter().map(|&id| model.pieces.scores[id as usize]);
        // The subtraction is one of 32 bits, as the scores are.
        model.unlikely = f64::from(scores.fold(f64::from(f32::MAX), f64::min) as f32 - UNKNOWN as f32);
        model.rounded = true;
        if fallback {
            let bytes =
                model.byte_ids().ok_or("it should write unknown characters as bytes, and lacks pieces for them")?;
            model.bytes = Some(bytes);
        }
        Ok(model)
    }

    /// The ids of the pieces `<0x00>` to `<0xFF>`, if all are there.
    fn byte_ids(&self) -> Option<Box<[u32; 256]>> {
        let mut ids = Box::new([0; 256]);
        for (byte, id) in ids.iter_mut().enumerate() {
            *id = self.id(&format!("<0x{byte:02X}>"))?;
        }
        Some(ids)
    }

    /// The id of a piece.
    pub fn id(&self, piece: &str) -> Option<u32> {
        if let Some(id) = self.reserved.get(piece) {
            return Some(*id);
        }
        let at = self.order.binary_search_by(|id| self.pieces.get(*id).cmp(piece)).ok()?;
        Some(self.order[at])
    }

    /// Calls `each` with the length and the id of every piece that `text` begins with, the shortest first.
    fn starts(&self, text: &[u8], mut each: impl FnMut(usize, u32)) {
        let Some(&byte) = text.first() else { return };
        // All pieces from `low` to `high` begin with `depth` bytes of the text; the one that is no longer comes first.
        let (mut low, mut high) = (self.first[usize::from(byte)], self.first[usize::from(byte) + 1]);
        let mut depth = 1;
        while low < high {
            let id = self.order[low];
            if self.pieces.get(id).len() == depth {
                each(depth, id);
                low += 1;
            }
            let Some(&byte) = text.get(depth) else { return };
            let next = |id: &u32| self.pieces.get(*id).as_bytes()[depth];
            let within = &self.order[low..high];
            let before = within.partition_point(|id| next(id) < byte);
            high = low + before + within[before..].partition_point(|id| next(id) == byte);
            low += before;
            depth += 1;
        }
    }

    /// The most likely pieces of a text, each with its id: none where it is unknown.
    fn best<'a>(&self, text: &'a str) -> Vec<(&'a str, Option<u32>)> {
        #[derive(Clone, Copy)]
        struct Way {
            score: f64,
            start: usize,
            id: Option<u32>,
        }
        // The best way to each place in the text.
        let mut ways: Vec<Option<Way>> = vec![None; text.len() + 1];
        let sum = |score: f64, so_far: f64| {
            if self.rounded { f64::from((score + so_far) as f32) } else { score + so_far }
        };
        let reach = |ways: &mut [Option<Way>], end: usize, way: Way| {
            if ways[end].is_none_or(|best| way.score > best.score) {
                ways[end] = Some(way);
            }
        };
        for (start, c) in text.char_indices() {
            let so_far = ways[start].map_or(0.0, |way| way.score);
            let mut alone = false;
            self.starts(&text.as_bytes()[start..], |length, id| {
                let score = sum(self.pieces.scores[id as usize], so_far);
                alone |= length == c.len_utf8();
                reach(&mut ways, start + length, Way { score, start, id: Some(id) });
            });
            if !alone {
                reach(&mut ways, start + c.len_utf8(), Way { score: sum(self.unlikely, so_far), start, id: None });
            }
        }
        let mut found: Vec<(&str, Option<u32>)> = Vec::new();
        let mut end = text.len();
        while let Some(way) = ways[end].take() {
            let id = way.id.filter(|id| Some(*id) != self.unknown);
            match found.last_mut() {
                // Unknown characters side by side are one.
                Some((piece, None)) if id.is_none() => *piece = &text[way.start..end + piece.len()],
                _ => found.push((&text[way.start..end], id)),
            }
            end = way.start;
        }
        found.reverse();
        found
    }

    /// The ids of a text with the bytes that each stands for.
    ///
    /// # Errors
    /// A sentence, where a character is unknown and there is no id for such.
    pub fn split<'a>(&self, text: &'a str) -> Result<Vec<(&'a str, u32)>, String> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        for (piece, id) in self.best(text) {
            // Characters that are unknown one by one may be a piece side by side.
            match (id.or_else(|| self.id(piece)), &self.bytes) {
                (Some(id), _) => ids.push((piece, id)),
                (None, Some(bytes)) => ids.extend(piece.bytes().map(|byte| (piece, bytes[usize::from(byte)]))),
                (None, None) => {
                    let unknown = self.unknown.ok_or_else(|| format!("'{piece}' is unknown, and has no id"))?;
                    ids.push((piece, unknown));
                }
            }
        }
        Ok(ids)
    }
}

/// Ids in the order of their pieces' texts, equal ones by id.
fn sorted(pieces: &Pieces, ids: Vec<u32>) -> Vec<u32> {
    // The first eight bytes decide nearly always.
    let key = |id: u32| {
        let piece = pieces.get(id).as_bytes();
        let mut key = [0; 8];
        let length = piece.len().min(8);
        key[..length].copy_from_slice(&piece[..length]);
        u64::from_be_bytes(key)
    };
    let mut keyed: Vec<(u64, u32)> = ids.into_iter().map(|id| (key(id), id)).collect();
    keyed.par_sort_unstable_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| pieces.get(a.1).cmp(pieces.get(b.1))).then_with(|| a.1.cmp(&b.1))
    });
    keyed.into_iter().map(|(_, id)| id).collect()
}

/// Where in a sorted order the pieces begin that begin with each byte.
fn first(pieces: &Pieces, order: &[u32]) -> Box<[usize; 257]> {
    let mut first = Box::new([order.len(); 257]);
    for (byte, place) in first.iter_mut().enumerate().take(256) {
        // An empty piece is before all.
        *place = order.partition_point(|id| pieces.get(*id).as_bytes().first().is_none_or(|b| usize::from(*b) < byte));
    }
    first
}

impl Model for Unigram {
    type Trainer = UnigramTrainer;

    fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        let mut end = 0;
        let ids = self.split(text)?;
        Ok(ids
            .into_iter()
            .map(|(piece, id)| {
                let start = end;
                end += piece.len();
                Token::new(id, piece.to_owned(), (start.min(text.len()), end.min(text.len())))
            })
            .collect())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        ((id as usize) < self.pieces.len()).then(|| self.pieces.get(id).to_owned())
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.order.iter().map(|&id| (self.pieces.get(id).to_owned(), id)).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.pieces.len()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("tipi writes no tokenizers".into())
    }

    fn get_trainer(&self) -> UnigramTrainer {
        UnigramTrainer::default()
    }
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pieces, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Pieces;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of pieces with their scores")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pieces, A::Error> {
                let mut pieces = Pieces::default();
                while let Some((piece, score)) = list.next_element::<(String, f64)>()? {
                    pieces.push(&piece, score);
                }
                Ok(pieces)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

impl<'de> Deserialize<'de> for Unigram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unigram, D::Error> {
        #[derive(Deserialize)]
        struct Stated {
            vocab: Pieces,
            unk_id: Option<usize>,
            #[serde(default)]
            byte_fallback: bool,
        }
        let stated = Stated::deserialize(deserializer)?;
        Unigram::new(stated.vocab, stated.unk_id, stated.byte_fallback).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(rows: &[(&str, f64)]) -> Pieces {
        let mut pieces = Pieces::default();
        rows.iter().for_each(|(piece, score)| pieces.push(piece, *score));
        pieces
    }

    fn split(model: &Unigram, text: &str) -> Vec<u32> {
        model.split(text).unwrap().into_iter().map(|(_, id)| id).collect()
    }

    #[test]
    fn the_likeliest_pieces_are_taken() {
        let rows =
            [("<unk>", 0.0), ("a", 0.0), ("b", 0.0), ("c", 0.0), ("d", 0.0), ("cd", 1.0), ("ab", 2.0), ("abc", 5.0)];
        let model = Unigram::new(pieces(&rows), Some(0), false).unwrap();
        assert_eq!(split(&model, "abcdacdxé"), [7, 4, 1, 5, 0]);
        assert!(split(&model, "").is_empty());
        assert_eq!((model.id("cd"), model.id("c"), model.id("x"), model.id("")), (Some(5), Some(3), None, None));
        // What is unknown one by one, and a piece side by side.
        assert_eq!(split(&model, "<unk>"), [0]);
        let none = Unigram::new(pieces(&rows[1..]), None, false).unwrap();
        assert!(none.split("ax").unwrap_err().contains("'x' is unknown"));
        assert!(Unigram::new(pieces(&rows), Some(8), false).map(drop).unwrap_err().contains("unk_id 8"));
    }

    #[test]
    fn of_equal_pieces_the_last_counts() {
        let rows = [("<unk>", 0.0), ("a", 0.0), ("", 0.0), ("a", 0.0), ("b", 0.0)];
        let model = Unigram::new(pieces(&rows), Some(0), false).unwrap();
        assert_eq!(split(&model, "ab"), [3, 4]);
        let twice = Unigram::sentencepiece(pieces(&rows), &[true; 5], 0, false);
        assert!(twice.map(drop).unwrap_err().contains("the same"));
    }

    /// Sums that differ in 64 bits and not in 32: then the first found is taken, as SentencePiece does.
    #[test]
    fn sums_are_rounded_as_the_authors_round_them() {
        let ulp = f64::from(f32::EPSILON);
        let rows = [("<unk>", 0.0), ("x", -1.0), ("yz", -1.0), ("xy", -1.0 - ulp), ("z", -1.0 + 1.5 * ulp)];
        let json = Unigram::new(pieces(&rows), Some(0), false).unwrap();
        assert_eq!(split(&json, "xyz"), [3, 4]);
        let own = Unigram::sentencepiece(pieces(&rows), &[false, true, true, true, true], 0, false).unwrap();
        assert_eq!(split(&own, "xyz"), [1, 2]);
    }
}
