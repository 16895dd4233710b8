//! A `spiece.model`: SentencePiece's own file, and what transformers' `SiglipTokenizer` makes of a text with it.
//!
//! The file is a message in the form of Protocol Buffers (`sentencepiece_model.proto`). Of unigram models all is done that
//! SentencePiece does; the file of another kind is refused.

use super::charsmap::Charsmap;
use super::cleanup;
use super::unigram::{Pieces, Unigram};

/// What SentencePiece writes for a space.
const SPACE: char = '\u{2581}';

/// A field of a message.
enum Field<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
    /// 64 bits, which nothing here has.
    Other,
}

/// The fields of a message, one after the other, each with its number.
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..10 {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.take(8).map(|_| Field::Other)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Float(f32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    /// Calls `each` with every field.
    fn each(mut self, mut each: impl FnMut(u64, Field<'a>) -> Result<(), String>) -> Result<(), String> {
        while !self.0.is_empty() {
            let (number, field) = self.field().ok_or("a message in it is cut short or damaged")?;
            each(number, field)?;
        }
        Ok(())
    }
}

/// What a piece is for, as the file numbers it.
const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const USER_DEFINED: u64 = 4;

/// A piece as the file has it.
struct Piece<'a> {
    text: &'a str,
    score: f32,
    kind: u64,
}

impl<'a> Piece<'a> {
    fn read(message: &'a [u8]) -> Result<Piece<'a>, String> {
        let mut piece = Piece { text: "", score: 0.0, kind: NORMAL };
        Message(message).each(|number, field| {
            match (number, field) {
                (1, Field::Bytes(text)) => {
                    piece.text = std::str::from_utf8(text).map_err(|_| "one of its pieces is no UTF-8")?;
                }
                (2, Field::Float(score)) => piece.score = score,
                (3, Field::Number(kind)) => piece.kind = kind,
                _ => {}
            }
            Ok(())
        })?;
        Ok(piece)
    }
}

/// A unigram model with its preparation of texts.
pub(super) struct SentencePiece {
    model: Unigram,
    charsmap: Option<Charsmap>,
    dummy_prefix: bool,
    single_spaces: bool,
    marks_spaces: bool,
    /// The spelling of the unknown piece.
    unknown: String,
    /// How many ids that spelling has in front of a text.
    unknown_length: usize,
}

impl SentencePiece {
    /// Reads a file.
    ///
    /// # Errors
    /// A sentence on what is wrong with it, or what is not done.
    pub fn parse(file: &[u8]) -> Result<SentencePiece, String> {
        let (mut pieces, mut normal) = (Pieces::default(), Vec::new());
        let (mut unknown, mut charsmap) = (None, None);
        let (mut kind, mut fallback, mut suffix) = (1, false, false);
        let (mut dummy_prefix, mut single_spaces, mut marks_spaces) = (true, true, true);
        Message(file).each(|number, field| {
            match (number, field) {
                (1, Field::Bytes(message)) => {
                    let piece = Piece::read(message)?;
                    if piece.kind == USER_DEFINED {
                        return Err(format!("'{}' is a piece of a user's own, which no SigLIP has", piece.text));
                    }
                    if piece.kind == UNKNOWN && unknown.replace((normal.len(), piece.text.to_owned())).is_some() {
                        return Err("two of its pieces stand for what is unknown".into());
                    }
                    pieces.push(piece.text, f64::from(piece.score));
                    normal.push(piece.kind == NORMAL);
                }
                (2, Field::Bytes(message)) => Message(message).each(|number, field| {
                    match (number, field) {
                        (3, Field::Number(value)) => kind = value,
                        (24, Field::Number(value)) => suffix = value != 0,
                        (35, Field::Number(value)) => fallback = value != 0,
                        _ => {}
                    }
                    Ok(())
                })?,
                (3, Field::Bytes(message)) => Message(message).each(|number, field| {
                    match (number, field) {
                        (2, Field::Bytes(table)) if !table.is_empty() => {
                            let wrong = |why| format!("its table of replacements cannot be used: {why}");
                            charsmap = Some(Charsmap::parse(table).map_err(wrong)?);
                        }
                        (3, Field::Number(value)) => dummy_prefix = value != 0,
                        (4, Field::Number(value)) => single_spaces = value != 0,
                        (5, Field::Number(value)) => marks_spaces = value != 0,
                        _ => {}
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        if kind != 1 || suffix {
            return Err(
                "it is no unigram model with spaces in front of words, which SigLIP's is; fetch tokenizer.json instead"
                    .into(),
            );
        }
        let (id, unknown) = unknown.ok_or("none of its pieces stands for what is unknown")?;
        let model = Unigram::sentencepiece(pieces, &normal, id, fallback)?;
        let mut all =
            SentencePiece { model, charsmap, dummy_prefix, single_spaces, marks_spaces, unknown, unknown_length: 0 };
        all.unknown_length = all.split(&all.unknown)?.len();
        Ok(all)
    }

    /// How many times as long a text may become before it is split.
    pub fn growth(&self) -> usize {
        self.charsmap.as_ref().map_or(1, |map| map.growth).saturating_mul(SPACE.len_utf8())
    }

    /// The id of a piece.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.model.id(piece)
    }

    /// What the next characters of a text become, and their number of bytes.
    fn next<'a>(&'a self, rest: &'a str) -> Option<(&'a str, usize)> {
        let c = rest.chars().next()?;
        let found = self.charsmap.as_ref().and_then(|map| map.longest(rest));
        Some(found.unwrap_or((&rest[..c.len_utf8()], c.len_utf8())))
    }

    /// The text as it is split.
    fn prepared(&self, text: &str) -> String {
        let mut rest = text;
        if self.single_spaces {
            while let Some((" ", length)) = self.next(rest) {
                rest = &rest[length..];
            }
        }
        let mut prepared = String::with_capacity(text.len() + SPACE.len_utf8());
        if rest.is_empty() {
            return prepared;
        }
        let space = if self.marks_spaces { SPACE } else { ' ' };
        if self.dummy_prefix {
            prepared.push(space);
        }
        let mut after_space = self.single_spaces;
        while let Some((piece, length)) = self.next(rest) {
            let piece = if after_space { piece.trim_start_matches(' ') } else { piece };
            prepared.extend(piece.chars().map(|c| if c == ' ' { space } else { c }));
            if !piece.is_empty() {
                after_space = self.single_spaces && piece.ends_with(' ');
            }
            rest = &rest[length..];
        }
        if self.single_spaces {
            prepared.truncate(prepared.trim_end_matches(space).len());
        }
        prepared
    }

    /// The ids of a text as SentencePiece gives them.
    fn split(&self, text: &str) -> Result<Vec<u32>, String> {
        Ok(self.model.split(&self.prepared(text))?.into_iter().map(|(_, id)| id).collect())
    }

    /// The ids of a text as `SiglipTokenizer` gives them, without the end token.
    ///
    /// # Errors
    /// A sentence, which a checked model gives for no text.
    pub fn siglip_ids(&self, text: &str) -> Result<Vec<u32>, String> {
        const END: &str = "</s>";
        let text = format!("{SPACE}{}", text.replace(SPACE, " "));
        let mut ids = Vec::new();
        let mut rest = text.as_str();
        let mut first = true;
        loop {
            // Two tokens stand for themselves within a text, and take the spaces around them.
            let tokens = [END, self.unknown.as_str()];
            let found = tokens.iter().filter_map(|token| Some((rest.find(token)?, *token))).min_by_key(|found| found.0);
            let (at, token) = found.unwrap_or((rest.len(), ""));
            let mut part = &rest[..at];
            if !first {
                part = part.trim_start_matches(cleanup::is_space);
            }
            if found.is_some() {
                part = part.trim_end_matches(cleanup::is_space);
            }
            if !part.is_empty() {
                // The authors' way to keep the space in front: behind the unknown piece, whose ids are then left out.
                let part = self.split(&(self.unknown.clone() + &cleanup::siglip(part)))?;
                ids.extend(part.get(self.unknown_length..).unwrap_or(&part));
            }
            if found.is_none() {
                return Ok(ids);
            }
            ids.push(self.id(token).ok_or_else(|| format!("its piece '{token}' is missing"))?);
            rest = &rest[at + token.len()..];
            first = false;
        }
    }
}
