//! Foreign text: names of files, classes and models, which may hold anything.
//!
//! The library's errors name files and classes as they are; who shows them on a terminal passes them through [`escaped`].

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

/// Text that is safe to show on a terminal, on one line: control characters (line ends among them), characters that turn the
/// direction of text, and invisible ones are shown as `\u{1b}`. Joiners that scripts and emoji need stay.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, false)
}

/// [`escaped`] for text of several lines: line ends stay.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escape(text, true)
}

fn escape(text: &str, lines: bool) -> Cow<'_, str> {
    let bad = |c: char| is_unsafe(c) && !(lines && c == '\n');
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Whether a character can do more than be read: move the cursor, change what stands beside it, or hide.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'                        // a hyphen that is not there
            | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' // directions
            | '\u{2028}' | '\u{2029}'       // ends of lines and paragraphs
            | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' // no width
            | '\u{fff9}'..='\u{fffb}'       // annotations
            | '\u{e0000}'..='\u{e007f}'     // tags
        )
}

/// The most characters of a name that a message repeats.
pub const NAME: usize = 200;
/// The most characters of what a parser or a driver said that a message repeats.
pub const REASON: usize = 1000;

/// Foreign text for a message: what is longer than `most` characters loses its middle, and says so.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    // Bytes are never fewer than characters, and quick to count.
    if text.len() <= most || text.chars().count() <= most {
        return Cow::Borrowed(text);
    }
    // The end may hold what would be right.
    let last = most / 4;
    let first = most - last;
    let all = text.chars().count();
    let place = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    let (head, tail) = (text.get(..place(first)), text.get(place(all - last)..));
    Cow::Owned(format!("{} […{} characters…] {}", head.unwrap_or_default(), all - most, tail.unwrap_or_default()))
}

/// A number of things: `1 picture`, `2 pictures`.
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// JSON in which every character that is not safe to show ([`escaped`]) stands as `\uXXXX`, which is the same JSON.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    // Line ends and blanks between values are JSON's own; within strings they are escaped already.
    let bad = |c: char| is_unsafe(c) && !matches!(c, '\n' | '\r' | '\t');
    if !json.contains(bad) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if bad(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing into a string does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A path as text, for JSON and lists. One in UTF-8 is itself. In any other, bytes that are no UTF-8 are written `\xNN` and
/// backslashes `\\`, so that two such paths never give the same text. On Windows, where paths are no bytes, what is no
/// Unicode is written as the bytes of its WTF-8.
pub fn path(path: &Path) -> String {
    let os = path.as_os_str();
    if let Some(text) = os.to_str() {
        return text.to_owned();
    }
    let mut out = String::new();
    for chunk in os.as_encoded_bytes().utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// The bytes of a path in hexadecimal, where it is no text: with [`path`], what programs need to find the file.
pub fn path_bytes(path: &Path) -> Option<String> {
    let os = path.as_os_str();
    os.to_str().is_none().then(|| crate::hex(os.as_encoded_bytes()))
}

/// Paths in files, for `#[serde(with)]`: text where a path is text, else its bytes.
pub(crate) mod stored_path {
    use std::path::{Path, PathBuf};

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Text(String),
        Bytes { bytes: String },
    }

    pub fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        match super::path_bytes(path) {
            Some(bytes) => Stored::Bytes { bytes },
            None => Stored::Text(super::path(path)),
        }
        .serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        match Stored::deserialize(from)? {
            Stored::Text(text) => Ok(text.into()),
            Stored::Bytes { bytes } => of_bytes(&bytes).ok_or_else(|| D::Error::custom("a path's bytes are no such")),
        }
    }

    fn of_bytes(hex: &str) -> Option<PathBuf> {
        let digits = hex.as_bytes();
        if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let pairs = digits.chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        let bytes = pairs.collect::<Option<Vec<u8>>>()?;
        #[cfg(unix)]
        let path: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(bytes);
        // Elsewhere paths are no bytes; one that is no Unicode is not found again.
        #[cfg(not(unix))]
        let path = String::from_utf8_lossy(&bytes).into_owned();
        Some(path.into())
    }

    /// A path by itself.
    #[cfg(any(feature = "eval", test))]
    #[derive(Serialize, Deserialize)]
    struct One(#[serde(with = "self")] PathBuf);

    /// The same for lists of paths.
    #[cfg(feature = "eval")]
    pub mod list {
        use super::*;

        pub fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
            to.collect_seq(paths.iter().map(|path| One(path.clone())))
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
            Ok(Vec::<One>::deserialize(from)?.into_iter().map(|one| one.0).collect())
        }
    }

    /// The same for lists of paths with labels.
    #[cfg(feature = "eval")]
    pub mod labelled {
        use super::*;

        pub fn serialize<S: Serializer>(all: &[(PathBuf, usize)], to: S) -> Result<S::Ok, S::Error> {
            to.collect_seq(all.iter().map(|(path, label)| (One(path.clone()), label)))
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(PathBuf, usize)>, D::Error> {
            Ok(Vec::<(One, usize)>::deserialize(from)?.into_iter().map(|(one, label)| (one.0, label)).collect())
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_path_is_found_again() {
            let back = |path: &Path| {
                let json = serde_json::to_string(&One(path.to_path_buf())).unwrap();
                (serde_json::from_str::<One>(&json).unwrap().0, json)
            };
            let text = Path::new("/a/ü");
            assert_eq!(back(text), (text.to_path_buf(), "\"/a/ü\"".to_string()));
            #[cfg(unix)]
            {
                let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"/a\xe9");
                assert_eq!(back(Path::new(odd)), (PathBuf::from(odd), "{\"bytes\":\"2f61e9\"}".to_string()));
            }
            for bad in ["{\"bytes\":\"2\"}", "{\"bytes\":\"zz\"}", "{\"bytes\":\"+1\"}", "7"] {
                assert!(serde_json::from_str::<One>(bad).is_err(), "{bad}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_act_on_a_terminal_is_shown() {
        let cases = [
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("two\nlines\r", "two\\u{a}lines\\u{d}"),
            ("a\tb\u{7}\u{7f}", "a\\u{9}b\\u{7}\\u{7f}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("exe\u{202e}gnp.png", "exe\\u{202e}gnp.png"),
            ("a\u{2066}b\u{2069}\u{61c}", "a\\u{2066}b\\u{2069}\\u{61c}"),
            ("a\u{200b}b\u{feff}\u{2028}", "a\\u{200b}b\\u{feff}\\u{2028}"),
            ("cat\u{e0041}", "cat\\u{e0041}"),
        ];
        for (raw, shown) in cases {
            assert_eq!(escaped(raw), shown);
            // Shown once, it is what it is.
            assert!(matches!(escaped(shown), Cow::Borrowed(_)));
        }
        assert_eq!(escaped_lines("a\nb\u{1b}"), "a\nb\\u{1b}");
    }

    #[test]
    fn long_text_loses_its_middle() {
        assert!(matches!(cut("äöü", 3), Cow::Borrowed("äöü")));
        let long = format!("begin{}end", "ä".repeat(70_000));
        let short = cut(&long, REASON);
        assert!(
            short.starts_with("beginä") && short.ends_with("äend") && short.contains("69008 characters"),
            "{short}"
        );
        assert!(short.chars().count() < REASON + 40);
        assert_eq!(cut("abcdefgh", 4), "abc […4 characters…] h");
    }

    #[test]
    fn one_thing_is_no_things() {
        assert_eq!([0, 1, 2].map(|n| count(n, "class", "classes")), ["0 classes", "1 class", "2 classes"]);
    }

    #[test]
    fn what_people_write_is_left_alone() {
        for text in ["naïve café", "日本", "👩\u{200d}💻 ❤\u{fe0f}", "می\u{200c}خواهم", "a\u{a0}b", "C:\\x", ""]
        {
            assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn escaped_json_is_the_same_json() {
        let names = ["a\u{9b}\u{202e}b", "line\n\u{1b}", "tag \u{e0041}", "plain"];
        let json = serde_json::to_string_pretty(&names).unwrap();
        let shown = escaped_json(&json);
        assert!(!shown.contains(|c: char| is_unsafe(c) && c != '\n'), "{shown:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), names);
    }

    #[cfg(unix)]
    #[test]
    fn paths_that_are_no_text_are_told_apart() {
        use std::os::unix::ffi::OsStrExt;
        let of = |bytes: &[u8]| path(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(of("caf\u{e9}.png".as_bytes()), "café.png");
        assert_eq!(of(b"a\\b.png"), "a\\b.png");
        assert_eq!(of(b"caf\xe9.png"), "caf\\xe9.png");
        assert_ne!(of(b"caf\xe9.png"), of(b"caf\xe8.png"));
        assert_ne!(of(b"\\xe8\xe9"), of(b"\xe8\xe9"));
    }
}
