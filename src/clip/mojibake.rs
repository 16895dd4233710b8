//! Undoing mojibake: text that was written in one encoding and read in another.
//!
//! The heuristics and all tables are those of ftfy 6.3 (© Robyn Speer, Apache-2.0), which CLIP's tokenizer runs over
//! every text; the code is written anew from their description. Oddities are kept where they change the result, since
//! the ids must equal the original's.

use regex::{Regex, bytes};

use crate::{Error, Result};

/// Characters of many contexts; not suspicious by themselves.
const COMMON: &str = "\u{a0}\u{ad}·´–—―…’";
/// The C1 controls, which no text of today means.
const C1: &str = "\u{80}-\u{9f}";
/// Characters seen almost only in mojibake.
const BAD: &str = "¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊�ªº";
/// Characters of legal texts.
const LAW: &str = "¶§";
/// Currency signs.
const CURRENCY: &str = "¢£¥₧€";
/// Punctuation at the start of a word.
const OPENING: &str = "¡«¿©΄΅‘‚“„•‹\u{f8ff}";
/// Punctuation at the end of a word.
const CLOSING: &str = "®»˝”›™";
/// Characters next to numbers.
const NUMERIC: &str = "²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№";
/// Letters that also draw faces, so that they appear in odd company.
const KAOMOJI: &str = "Ò-ÖÙ-Üò-öø-üŐŌŪŲ°";
/// Accented capitals, less those that draw faces.
const UPPER: &str = "À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ";
/// Accented small letters, less those that draw faces.
const LOWER: &str = "ßà-ñăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґﬁﬂ";
/// Capitals that are common at the ends of words.
const UPPER_COMMON: &str = "ÞΑ-ΩΆΈΉΊΌΎΏΪΫЁ-Я";
/// Small letters that are common at the ends of words.
const LOWER_COMMON: &str = "α-ωάέήίΰа-џ";
/// Box drawing, without the single horizontal line, which draws faces.
const BOX: &str = "│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓";
/// What the first byte of a two-byte UTF-8 sequence looks like in a one-byte encoding.
const FIRST_OF_2: &str = "\
    ÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßĀĂĆČĎĐĒĖĘĚĞĢĪİĶĹĻŁŃŅŇŌŐŘŚŞŠŢŪŮŰŲŹŻŽΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫάέήίВГДЕЖЗ\
    ИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ";
/// The same for three bytes.
const FIRST_OF_3: &str = "àáâãäåæçèéêëìíîïāăąćčďēėęěģīįķĺļŕźΰαβγδεζηθικλμνξοабвгдежзийклмноп";
/// The same for four bytes, less leads of unassigned characters.
const FIRST_OF_4: &str = "ðóđğšπσру";
/// What a continuation byte looks like, besides U+0080 to U+00BF.
const CONTINUATION: &str = "ÆØæøĄąĽľŁłŒœŖŗŚśŞşŠšŤťŸŹźŻżŽžƒˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЁЂЃЄЅІЇЈЉЊЋЌЎЏёђѓєѕіїјљњћќўџҐґ†‡‰‹›€№™";
/// The continuation bytes that often stand for themselves: quotes, dashes, and the space that was U+00A0.
const CONTINUATION_OR_TEXT: &str = " –—―‘’‚“”„•…";
/// Bytes 0x80 to 0xFF of windows-1252, Western European.
const WINDOWS_1252: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿À\
    ÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";
/// Bytes 0x80 to 0xFF of windows-1251, Cyrillic.
const WINDOWS_1251: &str = "\
    ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕїАБВГДЕЖЗИЙКЛМНОПРСТУФ\
    ХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя";
/// Bytes 0x80 to 0xFF of windows-1250, Central European.
const WINDOWS_1250: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľżŔ\
    ÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";
/// Bytes 0x80 to 0xFF of windows-1253, Greek.
const WINDOWS_1253: &str = "\
    €\u{81}‚ƒ„…†‡\u{88}‰\u{8a}‹\u{8c}\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}\u{9d}\u{9e}\
    \u{9f}\u{a0}΅Ά£¤¥¦§¨©ª«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςσ\
    τυφχψωϊϋόύώÿ";
/// Bytes 0x80 to 0xFF of windows-1254, Turkish.
const WINDOWS_1254: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}\u{9e}Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶\
    ·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ";
/// Bytes 0x80 to 0xFF of windows-1257, Baltic.
const WINDOWS_1257: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰\u{8a}‹\u{8c}¨ˇ¸\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}¯˛\u{9f}\u{a0}¡¢£¤¥¦§Ø©Ŗ«¬\
    \u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙";
/// Bytes 0x80 to 0xFF of ISO 8859-2.
const ISO_8859_2: &str = "\
    \u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\
    \u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\
    \u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řů\
    úűüýţ˙";
/// Bytes 0x80 to 0xFF of Mac OS Roman.
const MACROMAN: &str = "\
    ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁ\
    ﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";
/// Bytes 0x80 to 0xFF of code page 437 of the IBM PC.
const CP437: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπ\
    ΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";
/// What ftfy's encoders write for a character that an earlier, stricter decoder lost as U+FFFD.
const LOST: u8 = 0x1a;

/// UTF-8 sequences in which byte A0 became a space, for the lead bytes where that makes a likely character.
const SPACED: &str = r"(?-u)[\xc2\xc3\xc5\xce\xd0\xd9] |[\xe2\xe3] [\x80-\x84\x86-\x9f\xa1-\xbf]|[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf] |\xf0 [\x80-\xbf][\x80-\xbf]|\xf0[\x80-\xbf] [\x80-\xbf]|\xf0[\x80-\xbf][\x80-\xbf] ";

/// UTF-8 and CESU-8 sequences in which a byte was lost, and lost bytes by themselves. The order of the branches counts.
const LOSSY: &str = r"(?-u)[\xc2-\xdf]\x1a|[\xc2-\xc3][?]|\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]|\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]|[\xe0-\xef][\x1a?][\x1a\x80-\xbf]|[\xe0-\xef][\x1a\x80-\xbf][\x1a?]|[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]|\x1a";

/// Juxtapositions that real text hardly has, as one pattern.
fn suspicious() -> String {
    let rules = [
        format!("[{C1}]"),
        format!("[{BAD}{LOWER}{UPPER}{BOX}{OPENING}{CLOSING}{CURRENCY}{NUMERIC}{LAW}][{BAD}]"),
        format!("[a-zA-Z][{LOWER_COMMON}{UPPER_COMMON}][{BAD}]"),
        format!("[{BAD}][{LOWER}{UPPER}{BOX}{OPENING}{CLOSING}{CURRENCY}{NUMERIC}{LAW}]"),
        format!("[{LOWER}{LOWER_COMMON}{BOX}{CLOSING}{CURRENCY}{NUMERIC}][{UPPER}]"),
        format!("[{BOX}{CLOSING}{CURRENCY}{NUMERIC}][{LOWER}]"),
        format!("[{LOWER}{BOX}{CLOSING}][{CURRENCY}]"),
        // Python's \s has the four separators of ASCII, too.
        format!(r"[\s\x1c-\x1f][{UPPER}][{CURRENCY}]"),
        format!("[{UPPER}{BOX}][{NUMERIC}{LAW}]"),
        format!("[{LOWER}{UPPER}{BOX}{CURRENCY}{CLOSING}][{OPENING}][{NUMERIC}]"),
        format!("[{LOWER}{UPPER}{CURRENCY}{NUMERIC}{BOX}{LAW}][{CLOSING}][{OPENING}]"),
        format!("[{CURRENCY}{NUMERIC}{BOX}][{OPENING}]"),
        format!("[a-z][{UPPER}][{OPENING}{CURRENCY}]"),
        format!("[{BOX}][{KAOMOJI}]"),
        format!("[{LOWER}{UPPER}{CURRENCY}{NUMERIC}{OPENING}{CLOSING}{LAW}][{BOX}]"),
        format!("[{BOX}][{CLOSING}]"),
        // Python's \w has no marks.
        format!(r"[{LOWER}{UPPER}][{OPENING}{CLOSING}][\p{{L}}\p{{N}}_]"),
        "[Œœ][^A-Za-z]".to_owned(),
        format!("[{UPPER}]°"),
        // Windows-1252 in pairs.
        format!(r"[ÂÃÎÐ][€œŠš¢£Ÿž\xa0\xad®©°·»{OPENING}{CLOSING}–—´]"),
        "×[²³]".to_owned(),
        // Arabic read as windows-1252: its characters are common, so that four are asked for.
        format!("(?:[ØÙ][{COMMON}{CURRENCY}{BAD}{NUMERIC}{OPENING}ŸŠ®°µ»]){{2}}"),
        // South Asian alphabets read as windows-1252.
        "à[²µ¹¼½¾]".to_owned(),
        // Mac OS Roman.
        "√[±∂†≠®™´≤≥¥µø]".to_owned(),
        "≈[°¢]".to_owned(),
        "‚Ä[ìîïòôúùû†°¢π]".to_owned(),
        "‚[âó][àä°ê]".to_owned(),
        // U+2000 and on, read as windows-1251.
        "вЂ".to_owned(),
        // Latin-1 and Cyrillic, read as windows-1251.
        format!("[ВГРС][{C1}{BAD}{OPENING}{CLOSING}{CURRENCY}°µ][ВГРС]"),
        // The same on top of windows-1252 read as Latin-1.
        "ГўВЂВ.[A-Za-z ]".to_owned(),
        // à, á and U+00A0 read as windows-1252.
        r"Ã[\xa0¡]".to_owned(),
        r"[a-z][\s\x1c-\x1f]?[ÃÂ] ".to_owned(),
        "^[ÃÂ] ".to_owned(),
        format!("[a-z.,?!{CLOSING}]Â[ {OPENING}{CLOSING}]"),
        // U+2000 and on, then Latin-1 and Greek, read as windows-1253.
        r"β€[™\xa0Ά\xad®°]".to_owned(),
        format!("[ΒΓΞΟ][{C1}{BAD}{OPENING}{CLOSING}{CURRENCY}°][ΒΓΞΟ]"),
        // U+2000 and on, read as windows-1257.
        "ā€".to_owned(),
    ];
    rules.join("|")
}

/// A one-byte encoding that text may have been read in by mistake.
struct Codec {
    /// The characters of bytes 0x80 to 0xFF, in order of character.
    bytes: Vec<(char, u8)>,
    /// Whether U+FFFD may be encoded, as [`LOST`].
    sloppy: bool,
    /// Whether a space may be a lost A0. In Mac OS Roman that would hit an en dash followed by a space.
    restores_spaces: bool,
}

impl Codec {
    /// The encoding whose bytes 0x80 to 0xFF are `upper`.
    fn new(upper: impl Iterator<Item = char>, sloppy: bool, restores_spaces: bool) -> Self {
        let mut bytes: Vec<(char, u8)> = upper.zip(0x80..=0xff).collect();
        bytes.sort_unstable();
        Self { bytes, sloppy, restores_spaces }
    }

    /// The bytes of a text, or nothing if it cannot have been read in this encoding.
    fn encode(&self, text: &str) -> Option<Vec<u8>> {
        let byte = |c: char| match c {
            '\u{1a}' if self.sloppy => None,
            '\u{fffd}' if self.sloppy => Some(LOST),
            '\0'..='\u{7f}' => u8::try_from(c).ok(),
            _ => self.bytes.binary_search_by_key(&c, |&(known, _)| known).ok().map(|at| self.bytes[at].1),
        };
        text.chars().map(byte).collect()
    }
}

/// Finds and undoes mojibake.
pub(super) struct Mojibake {
    suspicious: Regex,
    spaced: bytes::Regex,
    lossy: bytes::Regex,
    /// In the order of trial.
    codecs: Vec<Codec>,
    /// What windows-1252 has at 0x80 to 0x9F.
    c1: Vec<char>,
}

impl Mojibake {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a pattern does not compile, which the tests exclude.
    pub(super) fn new() -> Result<Self> {
        let invalid = |e: regex::Error| Error::invalid(format!("a pattern of the text cleanup does not compile: {e}"));
        let sloppy = [WINDOWS_1252, WINDOWS_1251, WINDOWS_1250, WINDOWS_1253, WINDOWS_1254, WINDOWS_1257];
        let mut codecs = vec![Codec::new('\u{80}'..='\u{ff}', false, true)];
        codecs.extend(sloppy.map(|upper| Codec::new(upper.chars(), true, true)));
        codecs.push(Codec::new(ISO_8859_2.chars(), false, true));
        codecs.push(Codec::new(MACROMAN.chars(), false, false));
        codecs.push(Codec::new(CP437.chars(), false, true));
        Ok(Self {
            suspicious: Regex::new(&suspicious()).map_err(invalid)?,
            spaced: bytes::Regex::new(SPACED).map_err(invalid)?,
            lossy: bytes::Regex::new(LOSSY).map_err(invalid)?,
            codecs,
            c1: WINDOWS_1252.chars().take(0x20).collect(),
        })
    }

    /// Undoes layer after layer, until nothing changes.
    pub(super) fn fix(&self, text: String) -> String {
        let mut text = text;
        while let Some(fixed) = self.peel(&text) {
            if fixed == text {
                break;
            }
            text = fixed;
        }
        text
    }

    /// A C1 control as the character that windows-1252 has in its place, as browsers read it.
    pub(super) fn c1(&self, c: char) -> char {
        match c {
            '\u{80}'..='\u{9f}' => self.c1[c as usize - 0x80],
            _ => c,
        }
    }

    /// One layer less, if this looks like mojibake that can be undone.
    fn peel(&self, text: &str) -> Option<String> {
        if text.is_ascii() || !self.suspicious.is_match(text) {
            return None;
        }
        if let Some(fixed) = self.codecs.iter().find_map(|codec| self.reread(codec, text)) {
            return Some(fixed);
        }
        let fixed = self.fix_parts(text);
        if fixed != text {
            return Some(fixed);
        }
        // What is Latin-1 with C1 controls was meant to be windows-1252.
        Some(text.chars().map(|c| self.c1(c)).collect())
    }

    /// The text as it reads when its bytes in `codec` are taken as UTF-8.
    fn reread(&self, codec: &Codec, text: &str) -> Option<String> {
        let mut bytes = codec.encode(text)?;
        if codec.restores_spaces && self.spaced.is_match(&bytes) {
            bytes = keep_a_grave(&bytes);
            bytes = self
                .spaced
                .replace_all(&bytes, |found: &bytes::Captures| {
                    found[0].iter().map(|&b| if b == b' ' { 0xa0 } else { b }).collect::<Vec<u8>>()
                })
                .into_owned();
        }
        if codec.sloppy {
            bytes = self.lossy.replace_all(&bytes, bytes::NoExpand("\u{fffd}".as_bytes())).into_owned();
        }
        if bytes.iter().any(|b| matches!(b, 0xed | 0xc0)) {
            decode_variants(&bytes)
        } else {
            String::from_utf8(bytes).ok()
        }
    }

    /// Fixes the runs that look like UTF-8, each by itself.
    fn fix_parts(&self, text: &str) -> String {
        let chars: Vec<char> = text.chars().collect();
        let mut fixed = String::with_capacity(text.len());
        let mut at = 0;
        while at < chars.len() {
            // After a continuation this would be the tail of a larger garble, which half a fix makes worse.
            let length = if at > 0 && is_continuation(chars[at - 1]) { 0 } else { utf8_run(&chars[at..]) };
            if length == 0 {
                fixed.push(chars[at]);
                at += 1;
                continue;
            }
            let part: String = chars[at..at + length].iter().collect();
            // A part must be shorter than the whole, or this would call itself forever.
            let mend = length < chars.len() && self.suspicious.is_match(&part);
            fixed.push_str(&if mend { self.fix(part) } else { part });
            at += length;
        }
        fixed
    }
}

/// Whether a continuation byte looks like this, and it hardly stands for itself.
fn is_continuation(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{bf}') || CONTINUATION.contains(c)
}

/// Length of the run of look-alikes of UTF-8 sequences at the start.
fn utf8_run(chars: &[char]) -> usize {
    let mut length = 0;
    while let Some(&first) = chars.get(length) {
        let continuations = match first {
            _ if FIRST_OF_2.contains(first) => 1,
            _ if FIRST_OF_3.contains(first) => 2,
            _ if FIRST_OF_4.contains(first) => 3,
            _ => break,
        };
        let whole = chars
            .get(length + 1..=length + continuations)
            .is_some_and(|rest| rest.iter().all(|&c| is_continuation(c) || CONTINUATION_OR_TEXT.contains(c)));
        if !whole {
            break;
        }
        length += 1 + continuations;
    }
    length
}

/// Gives the word "à" its A0 back where a space took its place, and keeps that space: it parts the words, unless
/// a Portuguese word goes on behind it.
fn keep_a_grave(bytes: &[u8]) -> Vec<u8> {
    let goes_on = [&b" "[..], b"quele", b"quela", b"quilo", b"s "];
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        kept.push(first);
        rest = tail;
        if let (0xc3, Some((b' ', behind))) = (first, tail.split_first())
            && !goes_on.iter().any(|word| behind.starts_with(word))
        {
            kept.extend(b"\xa0 ");
            rest = behind;
        }
    }
    kept
}

/// Decodes UTF-8 together with CESU-8 (surrogates as three bytes each) and Java's null (C0 80).
///
/// ftfy's patterns end in `$`, which in Python also matches in front of a last line feed: a null or a surrogate pair
/// that lacks its last byte there swallows the line feed.
fn decode_variants(bytes: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(bytes.len());
    let (mut plain, mut at) = (0, 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (decoded, length) = match rest {
            [0xc0, 0x80, ..] | [0xc0, b'\n'] => ('\0', 2),
            &[0xed, a @ 0xa0..=0xaf, b @ 0x80..=0xbf, 0xed, c @ 0xb0..=0xbf, d, ref tail @ ..]
                if matches!(d, 0x80..=0xbf) || (d == b'\n' && tail.is_empty()) =>
            {
                let bits = |byte: u8, mask: u8, shift: u32| u32::from(byte & mask) << shift;
                let code = 0x1_0000 + bits(a, 0x0f, 16) + bits(b, 0x3f, 10) + bits(c, 0x0f, 6) + bits(d, 0x3f, 0);
                (char::from_u32(code)?, 6)
            }
            _ => {
                at += 1;
                continue;
            }
        };
        text.push_str(std::str::from_utf8(&bytes[plain..at]).ok()?);
        text.push(decoded);
        at += length;
        plain = at;
    }
    text.push_str(std::str::from_utf8(&bytes[plain..]).ok()?);
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn fix(text: &str) -> String {
        Mojibake::new().unwrap().fix(text.to_owned())
    }

    #[test]
    fn every_encoding_has_all_its_bytes() {
        for codec in Mojibake::new().unwrap().codecs {
            assert_eq!(codec.bytes.len(), 128);
            assert_eq!(codec.bytes.iter().map(|&(c, _)| c).collect::<HashSet<_>>().len(), 128);
            assert_eq!(codec.bytes.iter().map(|&(_, byte)| byte).collect::<HashSet<_>>().len(), 128);
        }
    }

    #[test]
    fn mojibake_is_undone() {
        for (text, fixed) in [
            ("schÃ¶n", "schön"),
            ("âœ” No problems", "✔ No problems"),
            ("rÃƒÂ©flexion", "réflexion"),
            ("‚Äújust like this‚Äù", "“just like this”"),
            ("РїСЂРёРІРµС‚", "привет"),
            ("caf├⌐ ├⌐", "café é"),
            ("voilÃ le travail", "voilà le travail"),
            ("Ã s vezes", "às vezes"),
            ("â€œlossyâ€\u{fffd}", "“lossy\u{fffd}"),
            ("\u{93}quoted\u{94}", "“quoted”"),
        ] {
            assert_eq!(fix(text), fixed, "{text}");
        }
    }

    #[test]
    fn a_garbled_part_is_undone_within_sound_text() {
        assert_eq!(fix("日本 schÃ¶n"), "日本 schön");
    }

    #[test]
    fn sound_text_stays() {
        for text in [
            "",
            "plain",
            "naïve café",
            "Ærø",
            "привет",
            "日本語",
            "¯\\_(ツ)_/¯",
            "PARCE QUE SUR LEURS PLAQUES IL Y MARQUÉ…",
        ] {
            assert_eq!(fix(text), text);
        }
    }

    #[test]
    fn variants_of_utf8_are_read() {
        assert_eq!(decode_variants(b"a\xc0\x80b").as_deref(), Some("a\0b"));
        assert_eq!(decode_variants(b"\xed\xa0\xbd\xed\xb8\x80!").as_deref(), Some("😀!"));
        // A missing last byte swallows the last line feed.
        assert_eq!(decode_variants(b"a\xc0\n").as_deref(), Some("a\0"));
        assert_eq!(decode_variants(b"a\xc0\nb"), None);
        // Half a pair is no character.
        assert_eq!(decode_variants(b"\xed\xa0\xbd"), None);
        assert_eq!(decode_variants(b"\xed\x9f\xbf").as_deref(), Some("\u{d7ff}"));
    }

    #[test]
    fn the_word_a_keeps_its_space() {
        assert_eq!(keep_a_grave(b"\xc3 la"), b"\xc3\xa0 la");
        for kept in [&b"\xc3 s vezes"[..], b"\xc3 quele", b"\xc3  x", b"\xc3\xa9"] {
            assert_eq!(keep_a_grave(kept), kept);
        }
    }

    #[test]
    fn runs_end_at_half_a_sequence() {
        let run = |text: &str| utf8_run(&text.chars().collect::<Vec<_>>());
        assert_eq!(run("Ã©â€™x"), 5);
        assert_eq!(run("Ã©â€"), 2);
        assert_eq!(run("x"), 0);
        assert_eq!(run(""), 0);
    }
}
