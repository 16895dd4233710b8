//! Reading MATLAB's files of version 5 (`save -v6` and `-v7`), as far as the sets' lists go: arrays of numbers, text, cells
//! and structures, compressed or not, from little-endian machines. Everything else is an error, as is whatever is cut off
//! or larger than it may be.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result, input};

/// Bytes before the first element.
const HEADER: usize = 128;
/// The most that the compressed elements of a file may unpack to together: the lists have a few megabytes.
const MAX_BYTES: u64 = 1 << 26;
/// The most memory that what is read of a file may take: an element of a byte can stand for a structure of a kilobyte.
const MAX_READ: usize = 1 << 28;
/// How many other variables are named where one is missing.
const MOST_NAMED: usize = 20;
/// How deep cells and structures may lie in each other.
const MAX_DEPTH: usize = 16;

/// Types of elements.
mod kind {
    pub const INT8: u32 = 1;
    pub const UINT8: u32 = 2;
    pub const INT16: u32 = 3;
    pub const UINT16: u32 = 4;
    pub const INT32: u32 = 5;
    pub const UINT32: u32 = 6;
    pub const SINGLE: u32 = 7;
    pub const DOUBLE: u32 = 9;
    pub const INT64: u32 = 12;
    pub const UINT64: u32 = 13;
    pub const MATRIX: u32 = 14;
    pub const COMPRESSED: u32 = 15;
    pub const UTF8: u32 = 16;
    pub const UTF16: u32 = 17;
    pub const UTF32: u32 = 18;
}

/// Classes of arrays.
mod class {
    pub const CELL: u32 = 1;
    pub const STRUCT: u32 = 2;
    pub const CHAR: u32 = 4;
    /// From double (6) to unsigned integers of 64 bits (15).
    pub const NUMBERS: std::ops::RangeInclusive<u32> = 6..=15;
}

/// An array, its elements in MATLAB's order (columns first).
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Array {
    Numbers(Vec<f64>),
    /// A row of characters.
    Text(String),
    Cells(Vec<Array>),
    Structs(Vec<HashMap<String, Array>>),
}

/// The variable `name` of a file.
pub(super) fn read(path: &Path, name: &str) -> Result<Array> {
    let bytes = input::read(path, input::limit::MAT)?;
    variable(&bytes, name).map_err(|reason| Error::data(path, format!("not a MATLAB file that tipi reads: {reason}")))
}

/// What is wrong.
type Reason = String;

/// The variable `name`; variables of other names may be of any kind.
fn variable(bytes: &[u8], name: &str) -> Result<Array, Reason> {
    if bytes.len() < HEADER {
        return Err(format!("it has {} bytes, fewer than a header", bytes.len()));
    }
    let (header, elements) = bytes.split_at(HEADER);
    match &header[124..] {
        [0, 1, b'I', b'M'] => {}
        [_, _, b'M', b'I'] => return Err("it comes from a big-endian machine: save it again on another".to_owned()),
        [0, 2, ..] => return Err("it is of version 7.3: save it with -v7".to_owned()),
        _ => return Err("it does not begin as one of version 5".to_owned()),
    }
    let mut cursor = Cursor { bytes: elements };
    let mut left = MAX_BYTES;
    let mut others = Vec::new();
    while !cursor.bytes.is_empty() {
        let element = cursor.element()?;
        let unpacked;
        let matrix = match element.kind {
            kind::COMPRESSED => {
                unpacked = unpack(element.data, left)?;
                left -= unpacked.len() as u64;
                Cursor { bytes: &unpacked }.element()?
            }
            _ => element,
        };
        if matrix.kind != kind::MATRIX {
            return Err(format!("an element of type {} where a variable should be", matrix.kind));
        }
        let mut body = Cursor { bytes: matrix.data };
        let head = body.head()?;
        if head.name == name {
            return body.array(&head, 0, &mut Room(MAX_READ));
        }
        others.push(head.name);
    }
    let more = if others.len() > MOST_NAMED { ", …" } else { "" };
    others.truncate(MOST_NAMED);
    Err(format!("it has no variable '{name}' (but {}{more})", others.join(", ")))
}

/// Unpacks an element to at most `left` bytes.
fn unpack(packed: &[u8], left: u64) -> Result<Vec<u8>, Reason> {
    let mut bytes = Vec::new();
    let mut reader = flate2::read::ZlibDecoder::new(packed).take(left + 1);
    reader.read_to_end(&mut bytes).map_err(|error| format!("a variable cannot be unpacked ({error})"))?;
    if bytes.len() as u64 > left {
        return Err(format!("its variables unpack to more than {MAX_BYTES} bytes"));
    }
    Ok(bytes)
}

/// Bytes of memory that may still be taken.
struct Room(usize);

impl Room {
    /// Speaks for `count` values of `size` bytes.
    fn take(&mut self, count: usize, size: usize) -> Result<(), Reason> {
        let left = count.checked_mul(size).and_then(|bytes| self.0.checked_sub(bytes));
        self.0 = left.ok_or_else(|| format!("what it holds takes more than {MAX_READ} bytes of memory"))?;
        Ok(())
    }
}

/// A piece of data with its type.
#[derive(Clone, Copy)]
struct Element<'a> {
    kind: u32,
    data: &'a [u8],
}

/// What every array begins with.
struct Head {
    class: u32,
    complex: bool,
    /// Elements: the product of the dimensions.
    count: usize,
    rows: usize,
    name: String,
}

/// What is left of the bytes.
struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Reason> {
        if n > self.bytes.len() {
            return Err("it is cut off".to_owned());
        }
        let (taken, left) = self.bytes.split_at(n);
        self.bytes = left;
        Ok(taken)
    }

    /// The next element: type and length in 8 bytes, then data to a multiple of 8; or both in 2 × 2 bytes and up to 4
    /// bytes of data.
    fn element(&mut self) -> Result<Element<'a>, Reason> {
        let tag = u32_of(self.take(4)?);
        if tag >> 16 != 0 {
            let (length, data) = ((tag >> 16) as usize, self.take(4)?);
            let data = data.get(..length).ok_or("a short element of more than 4 bytes")?;
            return Ok(Element { kind: tag & 0xffff, data });
        }
        let length = u32_of(self.take(4)?) as usize;
        let data = self.take(length)?;
        // A compressed element is followed by the next at once. The end of a file need not be filled up.
        if tag != kind::COMPRESSED {
            self.take((length.next_multiple_of(8) - length).min(self.bytes.len()))?;
        }
        Ok(Element { kind: tag, data })
    }

    fn head(&mut self) -> Result<Head, Reason> {
        let flags = self.element()?;
        let ([kind::UINT32], 8) = ([flags.kind], flags.data.len()) else {
            return Err("a variable without flags".to_owned());
        };
        let flags = u32_of(&flags.data[..4]);
        let dims = self.element()?;
        if dims.kind != kind::INT32 || dims.data.len() < 8 {
            return Err("a variable without dimensions".to_owned());
        }
        let dims: Vec<usize> = dims.data.chunks_exact(4).map(|bytes| u32_of(bytes) as usize).collect();
        let count = dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        let name = self.element()?;
        if name.kind != kind::INT8 {
            return Err("a variable without a name".to_owned());
        }
        Ok(Head {
            class: flags & 0xff,
            complex: flags & 0x800 != 0,
            count: count.ok_or("dimensions beyond all bounds")?,
            rows: dims[0],
            name: String::from_utf8_lossy(name.data).into_owned(),
        })
    }

    /// The array that follows a head.
    fn array(&mut self, head: &Head, depth: usize, room: &mut Room) -> Result<Array, Reason> {
        if depth > MAX_DEPTH {
            return Err(format!("arrays lie more than {MAX_DEPTH} deep in each other"));
        }
        match head.class {
            class::CELL => {
                (0..head.count).map(|_| self.nested(depth, room)).collect::<Result<_, _>>().map(Array::Cells)
            }
            class::STRUCT => self.structs(head, depth, room),
            class::CHAR => {
                if head.rows > 1 {
                    return Err("a text of several rows".to_owned());
                }
                let element = self.element()?;
                room.take(element.data.len(), size_of::<f64>())?;
                text(element).map(Array::Text)
            }
            number if class::NUMBERS.contains(&number) && !head.complex => {
                let element = self.element()?;
                room.take(element.data.len(), size_of::<f64>())?;
                let numbers = numbers(element)?;
                if numbers.len() != head.count {
                    return Err(format!("{} numbers where the dimensions give {}", numbers.len(), head.count));
                }
                Ok(Array::Numbers(numbers))
            }
            other => Err(format!("'{}' is an array of class {other}, which tipi does not read", head.name)),
        }
    }

    /// An array within another.
    fn nested(&mut self, depth: usize, room: &mut Room) -> Result<Array, Reason> {
        // A list grows to twice what it holds.
        room.take(2, size_of::<Array>())?;
        let element = self.element()?;
        match (element.kind, element.data) {
            // What was never set.
            (kind::MATRIX, []) => Ok(Array::Numbers(Vec::new())),
            (kind::MATRIX, data) => {
                let mut body = Cursor { bytes: data };
                let head = body.head()?;
                body.array(&head, depth + 1, room)
            }
            (kind, _) => Err(format!("an element of type {kind} where an array should be")),
        }
    }

    fn structs(&mut self, head: &Head, depth: usize, room: &mut Room) -> Result<Array, Reason> {
        let width = self.element()?;
        let ([kind::INT32], 4) = ([width.kind], width.data.len()) else {
            return Err("a structure without the length of its names".to_owned());
        };
        let width = u32_of(width.data) as usize;
        let names = self.element()?;
        if names.kind != kind::INT8 || width == 0 || names.data.len() % width != 0 {
            return Err("a structure without names of fields".to_owned());
        }
        let fields: Vec<String> = names
            .data
            .chunks_exact(width)
            .map(|name| String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned())
            .collect();
        // Without fields nothing would be read per element, and the count could be anything.
        if fields.is_empty() && head.count > 0 {
            return Err("a structure without fields".to_owned());
        }
        // A table with all names for every structure.
        let names: usize = fields.iter().map(|field| field.len() + 2 * size_of::<(String, Array)>()).sum();
        let all = (0..head.count).map(|_| {
            room.take(1, names + size_of::<HashMap<String, Array>>())?;
            fields
                .iter()
                .map(|field| Ok((field.clone(), self.nested(depth, room)?)))
                .collect::<Result<HashMap<_, _>, Reason>>()
        });
        all.collect::<Result<_, _>>().map(Array::Structs)
    }
}

/// Little-endian; `bytes` are four.
fn u32_of(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

/// Numbers of any type, which need not be that of their array: MATLAB stores what fits as something smaller.
fn numbers(element: Element) -> Result<Vec<f64>, Reason> {
    fn all<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f64) -> Result<Vec<f64>, Reason> {
        let (chunks, rest) = data.as_chunks::<N>();
        if !rest.is_empty() {
            return Err("a number is cut off".to_owned());
        }
        Ok(chunks.iter().map(|&bytes| number(bytes)).collect())
    }
    let data = element.data;
    match element.kind {
        kind::INT8 => all(data, |b| f64::from(i8::from_le_bytes(b))),
        kind::UINT8 => all(data, |b| f64::from(u8::from_le_bytes(b))),
        kind::INT16 => all(data, |b| f64::from(i16::from_le_bytes(b))),
        kind::UINT16 => all(data, |b| f64::from(u16::from_le_bytes(b))),
        kind::INT32 => all(data, |b| f64::from(i32::from_le_bytes(b))),
        kind::UINT32 => all(data, |b| f64::from(u32::from_le_bytes(b))),
        kind::SINGLE => all(data, |b| f64::from(f32::from_le_bytes(b))),
        kind::DOUBLE => all(data, f64::from_le_bytes),
        kind::INT64 => all(data, |b| i64::from_le_bytes(b) as f64),
        kind::UINT64 => all(data, |b| u64::from_le_bytes(b) as f64),
        other => Err(format!("an element of type {other} where numbers should be")),
    }
}

/// Text in any of the types that it comes in.
fn text(element: Element) -> Result<String, Reason> {
    let letters = || numbers(element);
    let text = match element.kind {
        kind::UTF8 => std::str::from_utf8(element.data).ok().map(str::to_owned),
        // Bytes are the first 256 characters.
        kind::INT8 | kind::UINT8 => Some(element.data.iter().map(|&byte| char::from(byte)).collect()),
        kind::UINT16 => String::from_utf16(&letters()?.iter().map(|&unit| unit as u16).collect::<Vec<_>>()).ok(),
        kind::UTF16 => {
            let units = numbers(Element { kind: kind::UINT16, ..element })?;
            String::from_utf16(&units.iter().map(|&unit| unit as u16).collect::<Vec<_>>()).ok()
        }
        kind::UTF32 => {
            let points = numbers(Element { kind: kind::UINT32, ..element })?;
            points.iter().map(|&point| char::from_u32(point as u32)).collect()
        }
        other => return Err(format!("an element of type {other} where text should be")),
    };
    text.ok_or_else(|| "a text of broken characters".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes of a file that SciPy wrote; see `tests/reference/mat_files.py`.
    fn file(name: &str) -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mat").join(name)).unwrap()
    }

    fn texts(array: Array) -> Vec<String> {
        let Array::Cells(cells) = array else { panic!("{array:?}") };
        let text = |cell| match cell {
            Array::Text(text) => text,
            other => panic!("{other:?}"),
        };
        cells.into_iter().map(text).collect()
    }

    #[test]
    fn numbers_of_every_type_are_read() {
        for name in ["types.mat", "types_compressed.mat"] {
            let bytes = file(name);
            for kind in ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "single", "double"] {
                let expected = if kind.starts_with('u') { vec![1.0, 2.0, 100.0] } else { vec![1.0, -2.0, 100.0] };
                assert_eq!(variable(&bytes, kind).unwrap(), Array::Numbers(expected), "{name} {kind}");
            }
            assert_eq!(variable(&bytes, "half").unwrap(), Array::Numbers(vec![0.5]));
            // Columns first.
            let matrix = (0..6).map(|i| f64::from(i % 2 * 3 + i / 2)).collect();
            assert_eq!(variable(&bytes, "matrix").unwrap(), Array::Numbers(matrix));
            assert_eq!(variable(&bytes, "empty").unwrap(), Array::Numbers(vec![]));
        }
    }

    #[test]
    fn text_cells_and_structures_are_read() {
        for name in ["types.mat", "types_compressed.mat"] {
            let bytes = file(name);
            assert_eq!(variable(&bytes, "text").unwrap(), Array::Text("Größe ≤ 3".into()), "{name}");
            assert_eq!(texts(variable(&bytes, "names").unwrap()), ["AM General Hummer SUV 2000", "x", ""]);
            let Array::Structs(people) = variable(&bytes, "people").unwrap() else { panic!() };
            assert_eq!(people.len(), 2);
            assert_eq!(people[1]["name"], Array::Text("bee".into()));
            assert_eq!(people[1]["legs"], Array::Numbers(vec![6.0]));
            let Array::Cells(parts) = &people[0]["parts"] else { panic!() };
            assert_eq!(parts[1], Array::Numbers(vec![7.0]));
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        let bytes = file("types.mat");
        let error = variable(&bytes, "nothing").unwrap_err();
        assert!(error.contains("no variable 'nothing'") && error.contains("people"), "{error}");
        assert!(variable(&bytes, "complex").unwrap_err().contains("does not read"));
        assert!(variable(&bytes, "sparse").unwrap_err().contains("class 5"));
        assert!(variable(&bytes, "rows").unwrap_err().contains("several rows"));
        assert!(variable(&bytes[..100], "text").unwrap_err().contains("fewer than a header"));
        let with = |at: usize, new: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + new.len()].copy_from_slice(new);
            variable(&bytes, "text").unwrap_err()
        };
        assert!(with(126, b"MI").contains("big-endian"));
        assert!(with(124, &[0, 2]).contains("7.3"));
        assert!(with(124, &[7, 7]).contains("version 5"));
        assert!(with(HEADER, &[99]).contains("type 99"));
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        for name in ["types.mat", "types_compressed.mat"] {
            let bytes = file(name);
            for end in 0..bytes.len() - 8 {
                // The last variable is in no part of the file but the whole.
                assert!(variable(&bytes[..end], "last").is_err(), "{name} {end}");
            }
        }
    }

    /// A file of one variable "x" with this class and rows, from these elements.
    fn file_of(class: u32, rows: u32, body: &[u8]) -> Vec<u8> {
        let element = |kind: u32, data: &[u8]| {
            let padding = vec![0; data.len().next_multiple_of(8) - data.len()];
            [&kind.to_le_bytes()[..], &(data.len() as u32).to_le_bytes(), data, &padding].concat()
        };
        let flags = [class.to_le_bytes(), [0; 4]].concat();
        let dims = [1, rows].map(u32::to_le_bytes).concat();
        let matrix =
            [element(kind::UINT32, &flags), element(kind::INT32, &dims), element(kind::INT8, b"x"), body.to_vec()];
        let matrix = element(kind::MATRIX, &matrix.concat());
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut packed, &matrix).unwrap();
        let mut bytes = file("types.mat")[..HEADER].to_vec();
        bytes.extend(element(kind::COMPRESSED, &packed.finish().unwrap()));
        bytes
    }

    #[test]
    fn little_that_stands_for_much_is_refused() {
        // Cells and structures that were never set have 8 bytes each, numbers one.
        let nothing = [kind::MATRIX.to_le_bytes(), [0; 4]].concat();
        let count = 6_000_000u32;
        let cells = file_of(class::CELL, count, &nothing.repeat(count as usize));
        let count = 1_000_000u32;
        let names = [kind::INT32 | 4 << 16, 2, kind::INT8 | 4 << 16, u32::from_le_bytes(*b"a\0b\0")];
        let fields = names.map(u32::to_le_bytes).concat();
        let structs = file_of(class::STRUCT, count, &[fields, nothing.repeat(2 * count as usize)].concat());
        let count = 40_000_000u32;
        let ones = [&kind::UINT8.to_le_bytes()[..], &count.to_le_bytes(), &vec![0; count as usize]].concat();
        for (what, bytes) in [("cells", cells), ("structs", structs), ("numbers", file_of(6, count, &ones))] {
            assert!(bytes.len() < 300_000, "{what}: {}", bytes.len());
            let error = variable(&bytes, "x").unwrap_err();
            assert!(error.contains("of memory"), "{what}: {error}");
        }
        let zeros = file_of(6, 1, &vec![0; 70_000_000]);
        assert!(variable(&zeros, "x").unwrap_err().contains("unpack to more than"));
        let few = file_of(class::CELL, 3, &nothing.repeat(3));
        assert_eq!(variable(&few, "x").unwrap(), Array::Cells(vec![Array::Numbers(vec![]); 3]));
    }

    #[test]
    fn text_of_the_other_encodings_is_read() {
        let text = |kind, data: &[u8]| text(Element { kind, data });
        assert_eq!(text(kind::UTF8, "aé".as_bytes()).unwrap(), "aé");
        assert_eq!(text(kind::UTF16, &[0x61, 0, 0xe9, 0]).unwrap(), "aé");
        assert_eq!(text(kind::UTF32, &[0xe9, 0, 0, 0]).unwrap(), "é");
        assert_eq!(text(kind::UINT8, &[0x61, 0xe9]).unwrap(), "aé");
        assert!(text(kind::UTF8, &[0xff]).is_err() && text(kind::UTF16, &[0, 0xd8]).is_err());
        assert!(text(kind::UINT16, &[0]).is_err() && text(kind::DOUBLE, &[0; 8]).is_err());
    }

    proptest! {
        /// Whatever a file says of itself, it is read or refused, in the memory that it has.
        #[test]
        fn damage_is_no_panic(at in HEADER..1 << 16, new: u8, name in prop::sample::select(vec!["names", "people", "last"])) {
            let mut bytes = file("types.mat");
            let at = at % (bytes.len() - HEADER) + HEADER;
            bytes[at] = new;
            let _ = variable(&bytes, name);
        }
    }
}
