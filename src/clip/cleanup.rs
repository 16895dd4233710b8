//! What CLIP's tokenizer does to a text before it splits it: ftfy, HTML entities, spaces, lower case.
//!
//! The steps are those of `basic_clean`, `whitespace_clean` and `lower` of OpenAI's `clip/simple_tokenizer.py`, with
//! `ftfy.fix_text` in its default configuration (ftfy 6.3, © Robyn Speer, Apache-2.0, whose order of steps and tables
//! these are; the code is our own) and Python's `html.unescape`.

use std::collections::HashMap;
use std::iter;

use entities::ENTITIES;
use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::frame::Clean;
use super::mojibake::Mojibake;
use crate::{Error, Result};

/// Characters of a segment at most; ftfy cuts longer lines.
const LONGEST_SEGMENT: usize = 1_000_000;
/// Characters of an entity's name that Python looks at.
const LONGEST_NAME: usize = 32;
/// Characters of an entity, less `&`, `#` and `;`, that ftfy looks at.
const LONGEST_PLAIN_NAME: usize = 24;

/// Cleans texts as the original tokenizer does.
pub(super) struct Cleaner {
    mojibake: Mojibake,
    /// Terminal escapes, such as colours.
    escapes: Regex,
    /// The entities of HTML, from `&` to the `;` that some do without.
    entities: HashMap<&'static str, &'static str>,
    /// Entities that ftfy knows in capitals, too.
    loud: HashMap<String, String>,
}

impl Cleaner {
    /// Compiles the patterns and indexes the entities.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a pattern does not compile, which the tests exclude.
    pub(super) fn new() -> Result<Self> {
        let escapes = Regex::new(r"\x1b\[[\d;]*[a-zA-Z]")
            .map_err(|e| Error::invalid(format!("the pattern of terminal escapes does not compile: {e}")))?;
        let entities = ENTITIES.iter().map(|entity| (entity.entity, entity.characters)).collect();
        let mut cleaner = Self { mojibake: Mojibake::new()?, escapes, entities, loud: HashMap::new() };
        let quiet = ENTITIES.iter().filter(|entity| entity.entity.ends_with(';'));
        cleaner.loud = quiet
            .filter(|entity| !entity.entity.bytes().any(|b| b.is_ascii_uppercase()))
            .map(|entity| (entity.entity.to_ascii_uppercase(), entity.characters.to_uppercase()))
            // What begins with an entity already has a meaning.
            .filter(|(loud, _)| cleaner.unescape(loud) == *loud)
            .collect();
        Ok(cleaner)
    }

    /// The text as CLIP's own rules split it.
    pub(super) fn cleaned(&self, text: &str, clean: Clean) -> String {
        match clean {
            Clean::Own | Clean::Lower => self.clean(text),
            Clean::Whitespace => self.whitespace(text),
            Clean::Canonicalize => self.canonicalize(text),
            Clean::Siglip => siglip(text),
            Clean::Letters => text.chars().flat_map(char::to_lowercase).collect(),
        }
    }

    /// open_clip's `lower`, which is CLIP's own: the text as the tokenizer splits it.
    pub(super) fn clean(&self, text: &str) -> String {
        self.whitespace(text).to_lowercase()
    }

    /// open_clip's `whitespace`.
    pub(super) fn whitespace(&self, text: &str) -> String {
        single_spaces(&self.basic(text))
    }

    /// open_clip's `canonicalize`.
    pub(super) fn canonicalize(&self, text: &str) -> String {
        let text = self.basic(text).replace('_', " ");
        single_spaces(&without_punctuation(&text).to_lowercase())
    }

    /// Encodings and entities repaired.
    fn basic(&self, text: &str) -> String {
        self.unescape(&self.unescape(&self.fix(text)))
    }

    /// `ftfy.fix_text`: every line by itself.
    fn fix(&self, text: &str) -> String {
        let mut fixed = String::with_capacity(text.len());
        // A literal < says that this is HTML, whose entities stay, from that line on.
        let mut plain = true;
        for line in text.split_inclusive('\n') {
            let mut rest = line;
            while !rest.is_empty() {
                let end = rest.char_indices().nth(LONGEST_SEGMENT).map_or(rest.len(), |(end, _)| end);
                let (segment, tail) = rest.split_at(end);
                plain &= !segment.contains('<');
                fixed.push_str(&self.fix_segment(segment, plain));
                rest = tail;
            }
        }
        fixed
    }

    /// All of ftfy's steps, until nothing changes.
    fn fix_segment(&self, segment: &str, plain: bool) -> String {
        let mut text = segment.to_owned();
        loop {
            let unescaped = if plain { self.unescape_plain(&text) } else { text.clone() };
            // Nothing below touches these. Most texts are such, and entities within entities cost a turn each.
            if unescaped.bytes().all(|b| matches!(b, b'\t' | b'\n' | b'\x0c' | b' '..=b'~')) {
                if unescaped == text {
                    return text;
                }
                text = unescaped;
                continue;
            }
            let read = self.mojibake.fix(unescaped);
            let mut forms = String::with_capacity(read.len());
            for c in read.chars().map(|c| self.mojibake.c1(c)) {
                push_standard_form(&mut forms, c);
            }
            let straight: String = forms.chars().map(straighten).collect();
            let lines = straight.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
            let shown = self.escapes.replace_all(&lines, "");
            let fixed: String = shown.chars().filter(|&c| !is_control(c)).nfc().collect();
            if fixed == text {
                return fixed;
            }
            text = fixed;
        }
    }

    /// ftfy's cautious unescape: only entities that end in a semicolon, and some in capitals.
    fn unescape_plain(&self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('&') {
            plain.push_str(&rest[..start]);
            rest = &rest[start..];
            let number = rest[1..].starts_with('#');
            let from = 1 + usize::from(number);
            let name = rest[from..].bytes().take_while(u8::is_ascii_alphanumeric).count();
            let end = from + name + 1;
            let whole = (1..=LONGEST_PLAIN_NAME).contains(&name) && rest[from + name..].starts_with(';');
            if !whole {
                plain.push('&');
                rest = &rest[1..];
                continue;
            }
            let (entity, tail) = rest.split_at(end);
            if number {
                let meaning = self.unescape(entity);
                // A semicolon left over says that only a part was understood.
                plain.push_str(if meaning.contains(';') { entity } else { &meaning });
            } else {
                let meaning = self.entities.get(entity).copied();
                plain.push_str(meaning.or_else(|| self.loud.get(entity).map(String::as_str)).unwrap_or(entity));
            }
            rest = tail;
        }
        plain.push_str(rest);
        plain
    }

    /// Python's `html.unescape`.
    fn unescape(&self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('&') {
            plain.push_str(&rest[..start]);
            rest = &rest[start + 1..];
            rest = match rest.strip_prefix('#') {
                Some(number) => push_number(&mut plain, number).unwrap_or_else(|| {
                    plain.push('&');
                    rest
                }),
                None => self.push_named(&mut plain, rest),
            };
        }
        plain.push_str(rest);
        plain
    }

    /// Appends what the entity means whose name is at the start of `text`, and returns what comes behind the name.
    fn push_named<'a>(&self, plain: &mut String, text: &'a str) -> &'a str {
        let ends = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
        let longest = text.char_indices().nth(LONGEST_NAME).map_or(text.len(), |(end, _)| end);
        let name = text[..longest].find(ends).unwrap_or(longest);
        let whole = name + usize::from(name > 0 && text[name..].starts_with(';'));
        let (entity, tail) = text.split_at(whole);
        // The longest start that is a name counts, but no start of one character.
        let mut lengths = entity.char_indices().map(|(at, _)| at).chain(iter::once(whole)).skip(2).collect::<Vec<_>>();
        if whole > 0 && lengths.is_empty() {
            lengths.push(whole);
        }
        let mut key = String::with_capacity(1 + whole);
        key.push('&');
        key.push_str(entity);
        for &length in lengths.iter().rev() {
            key.truncate(1 + length);
            if let Some(meaning) = self.entities.get(key.as_str()) {
                plain.push_str(meaning);
                plain.push_str(&entity[length..]);
                return tail;
            }
        }
        plain.push('&');
        plain.push_str(entity);
        tail
    }
}

/// Appends the character of the reference `&#number`, and returns what comes behind it; nothing if it has no digits.
fn push_number<'a>(plain: &mut String, number: &'a str) -> Option<&'a str> {
    let (radix, digits) = match number.strip_prefix(['x', 'X']) {
        Some(digits) => (16, digits),
        None => (10, number),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (value, tail) = digits.split_at(end);
    if value.is_empty() {
        return None;
    }
    // What does not fit is beyond Unicode as well.
    let code = u32::from_str_radix(value, radix).unwrap_or(u32::MAX);
    plain.extend(character(code));
    Some(tail.strip_prefix(';').unwrap_or(tail))
}

/// The character of a numeric reference, by HTML's rules for the invalid ones.
fn character(code: u32) -> Option<char> {
    /// What HTML reads at 0x80 to 0x9F.
    const C1: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match code {
        0 => Some(char::REPLACEMENT_CHARACTER),
        0x80..=0x9f => Some(C1[code as usize - 0x80]),
        0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        // The last two of every plane are no characters.
        _ if code <= 0x10_ffff && code & 0xfffe == 0xfffe => None,
        _ => Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)),
    }
}

/// Appends a character with Latin ligatures taken apart, and full and half widths made standard.
fn push_standard_form(text: &mut String, c: char) {
    let apart = match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "ʼn",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        '\u{3000}' => " ",
        '\u{ff01}'..='\u{ffef}' => return text.extend(iter::once(c).nfkc()),
        _ => return text.push(c),
    };
    text.push_str(apart);
}

/// Curly quotes as straight ones.
fn straighten(c: char) -> char {
    match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        _ => c,
    }
}

/// Controls that ftfy drops. It keeps those that are spaces or change how letters are drawn.
fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
}

/// What transformers' `SiglipTokenizer` does to a text.
pub(super) fn siglip(text: &str) -> String {
    single_spaces(&without_punctuation(&text.to_lowercase()))
}

/// The text without Python's `string.punctuation`.
fn without_punctuation(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_punctuation()).collect()
}

/// The words of a text with a space between them.
fn single_spaces(text: &str) -> String {
    let words: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// Whether Python's `str.isspace` holds: Unicode's spaces and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaner() -> Cleaner {
        Cleaner::new().unwrap()
    }

    #[test]
    fn spaces_become_single_and_letters_small() {
        let clean = |text: &str| cleaner().clean(text);
        assert_eq!(clean(" A\t\nB\u{a0}C\u{3000}&#32;&nbsp "), "a b c");
        // Controls are no spaces any more by then.
        assert_eq!(clean("a\u{1f}b&#31;c"), "abc");
        assert_eq!(clean("ΟΔΟΣ"), "οδος");
        assert_eq!(clean("a\u{200b}b"), "a\u{200b}b");
    }

    #[test]
    fn named_entities_are_read_as_python_does() {
        let cleaner = cleaner();
        for (text, plain) in [
            ("&amp;", "&"),
            ("&amp", "&"),
            ("&ampx", "&x"),
            ("&notit;", "¬it;"),
            ("&notin;", "∉"),
            ("&acE;", "∾\u{333}"),
            ("&nosuch;", "&nosuch;"),
            ("&&lt;", "&<"),
            ("&;", "&;"),
            ("&", "&"),
            ("&g", "&g"),
            ("&gt", ">"),
            ("&amp;lt;", "&lt;"),
            ("&CounterClockwiseContourIntegral;", "∳"),
        ] {
            assert_eq!(cleaner.unescape(text), plain, "{text}");
        }
    }

    #[test]
    fn numeric_references_follow_html() {
        let cleaner = cleaner();
        for (text, plain) in [
            ("&#65;", "A"),
            ("&#65", "A"),
            ("&#x41;b", "Ab"),
            ("&#X41b;", "Л"),
            ("&#128;", "€"),
            ("&#129;", "\u{81}"),
            ("&#0;", "\u{fffd}"),
            ("&#xd800;", "\u{fffd}"),
            ("&#x110000;", "\u{fffd}"),
            ("&#4294967361;", "\u{fffd}"),
            ("&#xfffe;", ""),
            ("&#11;", ""),
            ("&#13;", "\r"),
            ("&#;", "&#;"),
            ("&#x;", "&#x;"),
            ("&#xg", "&#xg"),
        ] {
            assert_eq!(cleaner.unescape(text), plain, "{text}");
        }
    }

    #[test]
    fn only_whole_entities_are_read_at_first() {
        let cleaner = cleaner();
        for (text, plain) in [
            ("P&eacute;rez", "Pérez"),
            ("P&EACUTE;REZ", "PÉREZ"),
            ("BUNDESSTRA&SZLIG;E", "BUNDESSTRASSE"),
            ("&ntilde; &Ntilde; &NTILDE; &nTILDE;", "ñ Ñ Ñ &nTILDE;"),
            ("this&not that", "this&not that"),
            ("&#65 &#65;", "&#65 A"),
            ("&&amp;", "&&"),
        ] {
            assert_eq!(cleaner.unescape_plain(text), plain, "{text}");
        }
    }

    #[test]
    fn a_literal_angle_stops_entities_from_its_line_on() {
        let cleaner = cleaner();
        assert_eq!(cleaner.fix("&eacute;\n&lt;\n"), "é\n<\n");
        assert_eq!(cleaner.fix("&eacute;\n<&eacute;\n&eacute;"), "é\n<&eacute;\n&eacute;");
    }

    #[test]
    fn nested_entities_are_undone_to_the_end() {
        assert_eq!(cleaner().fix("&amp;amp;amp;eacute;"), "é");
    }

    #[test]
    fn characters_get_their_standard_forms() {
        let cleaner = cleaner();
        for (text, fixed) in [
            ("ﬂubberiﬁc ĳs", "flubberific ijs"),
            ("ＬＯＵＤ　ﾉｲｽﾞ", "LOUD ノイズ"),
            ("‘it’s’ “so”", "'it's' \"so\""),
            ("a\r\nb\rc\u{2028}d\u{2029}e", "a\nb\nc\nd\ne"),
            ("e\u{301}\u{212b}", "é\u{c5}"),
            ("\u{1b}[36;44mcolour\u{1b}[0m", "colour"),
            ("\u{1b}[3\u{1b}[1mm", "[3m"),
            ("\u{feff}a\0\u{b}\u{7f}b\u{fffc}\u{200d}\u{c}", "ab\u{200d}\u{c}"),
            ("\u{93}C1\u{94}", "\"C1\""),
        ] {
            assert_eq!(cleaner.fix(text), fixed, "{text:?}");
        }
    }
}
