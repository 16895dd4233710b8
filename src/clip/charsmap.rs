//! SentencePiece's table of replacements before splitting (`precompiled_charsmap`), checked as a whole when it is read: tables come
//! from foreign files, and neither the crate `tokenizers` nor the lookup here looks where a table sends it.
//!
//! It holds the length of a trie in bytes, the trie (a double array of 32-bit units, as Darts writes it), and the texts that
//! replace what the trie finds, each up to a zero byte.

/// Bytes of a table at most; that of NFKC has 240,000.
const LARGEST: usize = 2 << 20;
/// How many prefixes of a text SentencePiece looks at.
const PREFIXES: usize = 32;

/// A checked table.
pub(super) struct Charsmap {
    trie: Vec<u32>,
    texts: String,
    /// How many times as long a text may become, at most.
    pub growth: usize,
}

/// Whether a value lies at the place that follows this unit.
fn has_leaf(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}

/// The byte that leads to this unit; none for one that holds a value.
fn label(unit: u32) -> u32 {
    unit & (1 << 31 | 0xff)
}

/// How far the next place is, to be combined with this one's.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

/// Where a value's text begins.
fn value(unit: u32) -> usize {
    (unit & (u32::MAX >> 1)) as usize
}

impl Charsmap {
    /// Reads a table, and follows all that can be reached in it.
    ///
    /// # Errors
    /// A sentence on what contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Charsmap, String> {
        if bytes.len() > LARGEST {
            return Err(format!("it has {} bytes, at most {LARGEST} are taken", bytes.len()));
        }
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or("it has no header")?;
        let size = u32::from_le_bytes(*size) as usize;
        let (trie, texts) =
            rest.split_at_checked(size).ok_or_else(|| format!("its trie of {size} bytes ends behind the table"))?;
        if size == 0 || !size.is_multiple_of(4) {
            return Err(format!("its trie has {size} bytes"));
        }
        let trie: Vec<u32> = trie.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        let texts = std::str::from_utf8(texts).map_err(|_| "its texts are no UTF-8")?.to_owned();
        let mut table = Charsmap { trie, texts, growth: 1 };
        table.growth = table.follow()?;
        Ok(table)
    }

    /// Visits each place that a text can lead to, those of the shortest texts first. Gives the growth.
    fn follow(&self) -> Result<usize, String> {
        let outside = || "its trie leads out of itself".to_owned();
        let mut growth = 1;
        let mut seen = vec![false; self.trie.len()];
        let mut places = vec![(offset(self.trie[0]), false)];
        let mut depth = 0;
        while !places.is_empty() {
            let mut next = Vec::new();
            for (place, leaf) in places {
                // What a byte may lead to lies in the same 256 units.
                if place | 0xff >= self.trie.len() {
                    return Err(outside());
                }
                if leaf {
                    let text = self.text(value(self.trie[place])).ok_or("it has a value without a text")?;
                    growth = growth.max(text.len().div_ceil(depth));
                }
                if std::mem::replace(&mut seen[place], true) {
                    continue;
                }
                for byte in 1..=0xff {
                    let unit = self.trie[place ^ byte as usize];
                    if label(unit) == byte {
                        next.push((place ^ byte as usize ^ offset(unit), has_leaf(unit)));
                    }
                }
            }
            places = next;
            depth += 1;
        }
        Ok(growth)
    }

    /// The text that begins at a place.
    fn text(&self, start: usize) -> Option<&str> {
        let rest = self.texts.get(start..)?;
        Some(&rest[..rest.find('\0')?])
    }

    /// What replaces the longest start of `text` that the table knows, and that start's length.
    pub fn longest(&self, text: &str) -> Option<(&str, usize)> {
        let mut place = offset(self.trie[0]);
        let mut found = None;
        let mut prefixes = 0;
        for (at, byte) in text.bytes().enumerate() {
            place ^= usize::from(byte);
            let unit = self.trie[place];
            if byte == 0 || label(unit) != u32::from(byte) || prefixes == PREFIXES {
                break;
            }
            place ^= offset(unit);
            if has_leaf(unit) {
                prefixes += 1;
                // A table that knows parts of characters is wrong there.
                if text.is_char_boundary(at + 1) {
                    found = Some((value(self.trie[place]), at + 1));
                }
            }
        }
        found.and_then(|(start, length)| Some((self.text(start)?, length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit that `byte` leads to, with the next place so far away.
    fn unit(byte: u8, offset: u32, leaf: bool) -> u32 {
        offset << 10 | u32::from(leaf) << 8 | u32::from(byte)
    }

    /// A table with these units and texts.
    fn table(units: &[(usize, u32)], texts: &str) -> Vec<u8> {
        let mut trie = vec![0u32; 512];
        units.iter().for_each(|&(at, unit)| trie[at] = unit);
        let bytes = trie.iter().flat_map(|unit| unit.to_le_bytes());
        (4 * trie.len() as u32).to_le_bytes().into_iter().chain(bytes).chain(texts.bytes()).collect()
    }

    /// "a" becomes "xyz", "ab" becomes "q".
    fn sound() -> Vec<(usize, u32)> {
        let (root, a, b) = (256, 256 ^ 0x61, 128 ^ 0x62);
        vec![
            (0, unit(0, root as u32, false)),
            (a, unit(b'a', (a ^ 128) as u32, true)),
            (128, 1 << 31),
            (b, unit(b'b', (b ^ 64) as u32, true)),
            (64, 1 << 31 | 4),
        ]
    }

    #[test]
    fn the_longest_start_is_replaced() {
        let map = Charsmap::parse(&table(&sound(), "xyz\0q\0")).unwrap();
        assert_eq!(map.longest("ac"), Some(("xyz", 1)));
        assert_eq!(map.longest("abc"), Some(("q", 2)));
        assert_eq!((map.longest("b"), map.longest(""), map.longest("\0")), (None, None, None));
        assert_eq!(map.growth, 3);
    }

    #[test]
    fn tables_that_lie_are_refused() {
        let says = |bytes: &[u8]| Charsmap::parse(bytes).map(drop).unwrap_err();
        assert!(says(b"").contains("no header"));
        assert!(says(&[0xff; 8]).contains("ends behind the table"));
        assert!(says(&[0; 8]).contains("0 bytes"));
        assert!(says(&vec![0; LARGEST + 1]).contains("at most"));
        assert!(says(&table(&sound(), "xyz\0q")).contains("without a text"));
        assert!(says(&table(&sound(), "xyz\0")).contains("without a text"));
        let mut bad = table(&sound(), "xyz\0q\0");
        *bad.last_mut().unwrap() = 0xff;
        assert!(says(&bad).contains("UTF-8"));
        let mut away = sound();
        away[3].1 = unit(b'b', 1 << 20, true);
        assert!(says(&table(&away, "xyz\0q\0")).contains("out of itself"));
        // A circle is followed once.
        let mut circle = sound();
        circle[3].1 = unit(b'b', 128 ^ 0x62 ^ 256, false);
        assert_eq!(Charsmap::parse(&table(&circle, "xyz\0")).unwrap().longest(&"ab".repeat(9)), Some(("xyz", 17)));
    }
}
