//! The boxes of ISO base media files, as far as AVIF needs them: which item is the picture, where its bytes lie, and
//! what its properties say. Nothing is decoded, and nothing is allocated for what a file merely claims.

use std::ops::Range;

use image::metadata::Orientation;

/// Most items and properties looked at: grids have at most 65,536 tiles, of which no camera makes more than some hundred.
const MOST: usize = 4096;
/// Most boxes on the way to one.
const MOST_BOXES: usize = 10_000;

/// How colours are coded: matrix coefficients, and whether samples use their whole range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coding {
    /// By the numbers of ITU-T H.273.
    pub matrix: u16,
    pub full_range: bool,
}

/// A property of items.
#[derive(Clone, Debug)]
enum Property {
    /// Width and height.
    Extent(u32, u32),
    /// Quarter turns against the clock.
    Turn(u8),
    /// Mirrored: top and bottom change places, or left and right.
    Mirror {
        left_right: bool,
    },
    Coding(Coding),
    Other,
}

/// An item of a file.
#[derive(Debug, Default)]
struct Item {
    id: u32,
    kind: [u8; 4],
    /// Whether its bytes lie in the box of all items' data, and not in the file.
    inner: bool,
    /// Where its bytes lie, piece by piece.
    extents: Vec<(u64, u64)>,
    /// Whether they lie somewhere else than in this file.
    elsewhere: bool,
    /// Its properties, by their numbers.
    properties: Vec<usize>,
}

/// What a file says of its pictures.
#[derive(Debug)]
pub(super) struct Container<'a> {
    file: &'a [u8],
    /// The box of the items' data.
    data: &'a [u8],
    primary: u32,
    items: Vec<Item>,
    properties: Vec<Property>,
    /// References: kind, from, to.
    references: Vec<([u8; 4], u32, Vec<u32>)>,
}

/// A grid of tiles: rows, columns, and the size of the whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub rows: usize,
    pub columns: usize,
    pub width: u32,
    pub height: u32,
}

/// Reads numbers off the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, at most eight.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.take(bytes)?.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    fn u8(&mut self) -> Option<u8> {
        self.number(1).map(|value| value as u8)
    }

    fn u16(&mut self) -> Option<u16> {
        self.number(2).map(|value| value as u16)
    }

    fn u32(&mut self) -> Option<u32> {
        self.number(4).map(|value| value as u32)
    }

    /// Version and flags of a full box.
    fn version(&mut self) -> Option<(u8, u32)> {
        let word = self.u32()?;
        Some(((word >> 24) as u8, word & 0xff_ffff))
    }

    /// An item's number, of two bytes or of four.
    fn id(&mut self, wide: bool) -> Option<u32> {
        self.number(if wide { 4 } else { 2 }).map(|value| value as u32)
    }
}

/// The boxes that follow one another; what is cut short is left out.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    let next = move || {
        let mut reader = Reader(rest);
        let length = reader.u32()?;
        let kind: [u8; 4] = reader.take(4)?.try_into().ok()?;
        let (length, head) = match length {
            0 => (rest.len() as u64, 8),
            1 => (reader.number(8)?, 16),
            length => (u64::from(length), 8),
        };
        let whole = rest.get(..usize::try_from(length).ok()?)?;
        let body = whole.get(head..)?;
        rest = &rest[whole.len()..];
        Some((kind, body))
    };
    std::iter::from_fn(next).take(MOST_BOXES)
}

fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(found, _)| found == kind).map(|(_, body)| body)
}

impl<'a> Container<'a> {
    /// Reads the description of a file's pictures; nothing where it is missing or contradicts itself.
    pub fn read(file: &'a [u8]) -> Option<Container<'a>> {
        let mut meta = Reader(find(file, b"meta")?);
        meta.version()?;
        let meta = meta.0;
        let mut container = Container {
            file,
            data: find(meta, b"idat").unwrap_or_default(),
            primary: primary(find(meta, b"pitm")?)?,
            items: items(find(meta, b"iinf")?)?,
            properties: Vec::new(),
            references: find(meta, b"iref").and_then(references).unwrap_or_default(),
        };
        container.locate(find(meta, b"iloc")?)?;
        let properties = find(meta, b"iprp")?;
        container.properties = boxes(find(properties, b"ipco")?).take(MOST).map(property).collect();
        boxes(properties).filter(|(kind, _)| kind == b"ipma").try_for_each(|(_, body)| container.associate(body))?;
        Some(container)
    }

    fn item(&self, id: u32) -> Option<&Item> {
        self.items.iter().find(|item| item.id == id)
    }

    fn item_mut(&mut self, id: u32) -> Option<&mut Item> {
        self.items.iter_mut().find(|item| item.id == id)
    }

    /// Where the items' bytes lie.
    fn locate(&mut self, body: &[u8]) -> Option<()> {
        let mut reader = Reader(body);
        let (version, _) = reader.version()?;
        let sizes = reader.u16()?;
        let size = |shift: u16| usize::from(sizes >> shift & 15);
        let (offset, length, base) = (size(12), size(8), size(4));
        let index = if version > 0 { size(0) } else { 0 };
        if [offset, length, base, index].iter().any(|bytes| ![0, 4, 8].contains(bytes)) {
            return None;
        }
        let count = reader.id(version == 2)?;
        for _ in 0..count.min(MOST as u32) {
            let id = reader.id(version == 2)?;
            let method = if version > 0 { reader.u16()? & 15 } else { 0 };
            let elsewhere = reader.u16()? != 0 || method > 1;
            let start = reader.number(base)?;
            let pieces = reader.u16()?;
            let mut extents = Vec::new();
            for _ in 0..pieces {
                reader.number(index)?;
                let at = start.checked_add(reader.number(offset)?)?;
                extents.push((at, reader.number(length)?));
            }
            if let Some(item) = self.item_mut(id) {
                (item.inner, item.extents, item.elsewhere) = (method == 1, extents, elsewhere);
            }
        }
        Some(())
    }

    /// Which properties the items have.
    fn associate(&mut self, body: &[u8]) -> Option<()> {
        let mut reader = Reader(body);
        let (version, flags) = reader.version()?;
        for _ in 0..reader.u32()?.min(MOST as u32) {
            let id = reader.id(version > 0)?;
            let mut properties = Vec::new();
            for _ in 0..reader.u8()? {
                // The highest bit says that one must understand it.
                let number = if flags & 1 == 1 { reader.u16()? & 0x7fff } else { u16::from(reader.u8()? & 0x7f) };
                properties.extend(usize::from(number).checked_sub(1));
            }
            if let Some(item) = self.item_mut(id) {
                item.properties.extend(properties);
            }
        }
        Some(())
    }

    /// The picture's item.
    pub fn primary(&self) -> u32 {
        self.primary
    }

    /// Whether the picture is coded with AV1, or a grid of such.
    pub fn is_av1(&self) -> bool {
        let kind = |id| self.kind(id).is_some_and(|kind| &kind == b"av01");
        kind(self.primary) || self.parts(self.primary).first().is_some_and(|part| kind(*part))
    }

    /// What an item is: `av01`, `grid`, …
    pub fn kind(&self, id: u32) -> Option<[u8; 4]> {
        self.item(id).map(|item| item.kind)
    }

    fn properties(&self, id: u32) -> impl Iterator<Item = &Property> {
        let properties = self.item(id).map(|item| &item.properties[..]).unwrap_or_default();
        properties.iter().filter_map(|number| self.properties.get(*number))
    }

    /// Width and height that an item states, before it is turned.
    pub fn extent(&self, id: u32) -> Option<(u32, u32)> {
        self.properties(id).find_map(|property| match property {
            Property::Extent(width, height) => Some((*width, *height)),
            _ => None,
        })
    }

    /// How an item's colours are coded, where it says so.
    pub fn coding(&self, id: u32) -> Option<Coding> {
        self.properties(id).find_map(|property| match property {
            Property::Coding(coding) => Some(*coding),
            _ => None,
        })
    }

    /// How the picture lies: it is turned first, then mirrored.
    pub fn orientation(&self) -> Option<Orientation> {
        let (mut turns, mut mirror) = (0, None);
        for property in self.properties(self.primary) {
            match property {
                Property::Turn(quarters) => turns = *quarters,
                Property::Mirror { left_right } => mirror = Some(*left_right),
                _ => {}
            }
        }
        // EXIF's numbers: by quarter turns, not mirrored, top and bottom exchanged, left and right exchanged.
        const EXIF: [[u8; 3]; 4] = [[1, 4, 2], [8, 5, 7], [3, 2, 4], [6, 7, 5]];
        let column = mirror.map_or(0, |left_right| 1 + usize::from(left_right));
        Orientation::from_exif(EXIF[usize::from(turns & 3)][column])
    }

    /// Whether an item's colours have been multiplied with another item's alpha.
    pub fn premultiplied(&self, id: u32) -> bool {
        self.references.iter().any(|(kind, from, _)| kind == b"prem" && *from == id)
    }

    /// The items that an item is made of.
    pub fn parts(&self, id: u32) -> &[u32] {
        let parts = self.references.iter().find(|(kind, from, _)| kind == b"dimg" && *from == id);
        parts.map(|(_, _, to)| &to[..]).unwrap_or_default()
    }

    /// An item's bytes.
    pub fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        let item = self.item(id).filter(|item| !item.elsewhere)?;
        let within = if item.inner { self.data } else { self.file };
        let piece = |(at, length): &(u64, u64)| -> Option<&[u8]> {
            let at = usize::try_from(*at).ok()?;
            // No length means up to the end.
            let end = if *length == 0 { within.len() } else { at.checked_add(usize::try_from(*length).ok()?)? };
            within.get(Range { start: at, end })
        };
        let mut bytes = Vec::new();
        for extent in &item.extents {
            let piece = piece(extent)?;
            // Pieces on top of each other would make much of a small file.
            if bytes.len() + piece.len() > self.file.len() {
                return None;
            }
            bytes.extend_from_slice(piece);
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    /// An item that is a grid of tiles.
    pub fn grid(&self, id: u32) -> Option<Grid> {
        let bytes = self.bytes(id)?;
        let mut reader = Reader(&bytes);
        reader.u8()?;
        let wide = reader.u8()? & 1 == 1;
        let (rows, columns) = (usize::from(reader.u8()?) + 1, usize::from(reader.u8()?) + 1);
        let (width, height) = (reader.id(wide)?, reader.id(wide)?);
        Some(Grid { rows, columns, width, height })
    }
}

fn primary(body: &[u8]) -> Option<u32> {
    let mut reader = Reader(body);
    let (version, _) = reader.version()?;
    reader.id(version > 0)
}

fn items(body: &[u8]) -> Option<Vec<Item>> {
    let mut reader = Reader(body);
    let (version, _) = reader.version()?;
    reader.id(version > 0)?;
    let entry = |body: &[u8]| {
        let mut reader = Reader(body);
        let (version, _) = reader.version()?;
        let id = reader.id(version > 2)?;
        reader.u16()?;
        let kind = reader.take(4).filter(|_| version >= 2)?.try_into().ok()?;
        Some(Item { id, kind, ..Item::default() })
    };
    let entries = boxes(reader.0).filter(|(kind, _)| kind == b"infe").take(MOST);
    Some(entries.filter_map(|(_, body)| entry(body)).collect())
}

/// How an item refers to others: the kind, the item, and the others.
type Reference = ([u8; 4], u32, Vec<u32>);

fn references(body: &[u8]) -> Option<Vec<Reference>> {
    let mut reader = Reader(body);
    let wide = reader.version()?.0 > 0;
    let entry = |(kind, body): ([u8; 4], &[u8])| {
        let mut reader = Reader(body);
        let from = reader.id(wide)?;
        let count = reader.u16()?;
        let to: Option<Vec<u32>> = (0..count).map(|_| reader.id(wide)).collect();
        Some((kind, from, to?))
    };
    Some(boxes(reader.0).take(MOST).filter_map(entry).collect())
}

/// A property; one that is cut short says nothing.
fn property((kind, body): ([u8; 4], &[u8])) -> Property {
    let mut reader = Reader(body);
    let mut read = || match &kind {
        b"ispe" => {
            reader.version()?;
            Some(Property::Extent(reader.u32()?, reader.u32()?))
        }
        b"irot" => Some(Property::Turn(reader.u8()? & 3)),
        b"imir" => Some(Property::Mirror { left_right: reader.u8()? & 1 == 1 }),
        b"colr" if reader.take(4)? == b"nclx" => {
            reader.take(4)?;
            let matrix = reader.u16()?;
            Some(Property::Coding(Coding { matrix, full_range: reader.u8()? >> 7 == 1 }))
        }
        _ => None,
    };
    read().unwrap_or(Property::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
    }

    #[test]
    fn boxes_end_where_they_are_cut_short() {
        let bytes = [boxed(b"one ", b"abc"), boxed(b"two ", b"")].concat();
        let kinds = |bytes: &[u8]| boxes(bytes).map(|(kind, body)| (kind, body.len())).collect::<Vec<_>>();
        assert_eq!(kinds(&bytes), [(*b"one ", 3), (*b"two ", 0)]);
        assert_eq!(kinds(&bytes[..bytes.len() - 1]), [(*b"one ", 3)]);
        // To the end of the file, wide, and with a length that is shorter than the head.
        assert_eq!(kinds(b"\0\0\0\0last12"), [(*b"last", 2)]);
        assert_eq!(kinds(b"\0\0\0\x01wide\0\0\0\0\0\0\0\x12ab"), [(*b"wide", 2)]);
        assert_eq!(kinds(b"\0\0\0\x04evil"), []);
        assert_eq!(kinds(b"\0\0\0\x01wide\xff\xff\xff\xff\xff\xff\xff\xff"), []);
    }
}
