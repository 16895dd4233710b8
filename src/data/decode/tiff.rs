//! TIFF as Pillow reads it.
//!
//! The crate `tiff` unpacks strips and tiles, undoes predictors and puts bytes in order, but knows few kinds of
//! colour. It is therefore shown a copy of the file that claims to hold plain unsigned samples, and what they mean is
//! worked out here from what the file really says.

use std::io::Cursor;
use std::ops::Range;

use image::metadata::Orientation;
use tiff::decoder::{Decoder, Limits};
use tiff::tags::Tag;
use tiff::{TiffError, TiffUnsupportedError};

use super::colour::{cmyk_to_rgb, ycc_to_rgb};
use super::orientation::orientation;
use super::{Depth, MAX_BYTES, MAX_PIXELS, Pixels, budget, check_size, one_line, too_large, unpack_row};

/// Tags whose values the copy changes.
const PHOTOMETRIC: u16 = 262;
const SAMPLE_FORMAT: u16 = 339;
/// The tag of XMP data.
const XMP: u16 = 700;
/// Tags that are read, by the decoder or here: sizes, strips, tiles, tables of JPEG, what samples mean.
const READ: [u16; 23] =
    [256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 347, 530, XMP];
/// How many times the bytes of the file its strips or tiles may have: some writers state too large counts.
const MOST_SHARED: u64 = 16;
/// Photometric interpretations.
const WHITE_IS_ZERO: u16 = 0;
const BLACK_IS_ZERO: u16 = 1;
const RGB: u16 = 2;
const PALETTE: u16 = 3;
const CMYK: u16 = 5;
const YCC: u16 = 6;
/// Sample formats.
const UNSIGNED: u16 = 1;
const SIGNED: u16 = 2;
const FLOAT: u16 = 3;
/// JPEG as of the second technical note.
const JPEG: u16 = 7;
/// The extra sample is alpha that the colours have been multiplied with.
const PREMULTIPLIED: u16 = 1;

fn failed(error: &TiffError) -> String {
    match error {
        TiffError::LimitsExceeded => too_large(),
        TiffError::UnsupportedError(TiffUnsupportedError::UnsupportedCompressionMethod(method)) => {
            unsupported(&format!("compression {}", method.to_u16()))
        }
        TiffError::UnsupportedError(_) => format!("TIFF: {}; convert it to PNG or JPEG", one_line(error)),
        _ => format!("TIFF: {}; replace or remove the file", one_line(error)),
    }
}

fn unsupported(what: &str) -> String {
    format!("TIFF with {what} is not supported; convert it to PNG or JPEG")
}

/// What the file says about its samples.
struct Kind {
    photometric: u16,
    /// [`UNSIGNED`], [`SIGNED`] or [`FLOAT`].
    format: u16,
    bits: usize,
    /// Samples per pixel.
    samples: usize,
    /// Whether the colours have been multiplied with alpha.
    premultiplied: bool,
    /// Reds, then greens, then blues.
    palette: Vec<u16>,
    /// What becomes of grey of 16 bits.
    depth: Depth,
}

/// The first value of a tag in the first directory, if it is one of 8, 16 or 32 bits without a sign.
fn first_number(bytes: &[u8], tag: u16) -> Option<u32> {
    let entry = directory(bytes).find(|entry| entry.tag == tag)?;
    let size = match entry.kind {
        1 => 1,
        3 => 2,
        4 | 13 => 4,
        _ => return None,
    };
    let value = bytes.get(entry.place?)?.get(..size)?;
    let push = |sum: u32, &byte: &u8| sum << 8 | u32::from(byte);
    Some(if bytes.starts_with(b"MM") { value.iter().fold(0, push) } else { value.iter().rev().fold(0, push) })
}

fn is_tiff(bytes: &[u8]) -> bool {
    [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|begins| bytes.starts_with(*begins))
}

/// Whether the first page is grey of 16 bits, without alpha.
pub(super) fn is_deep_grey(bytes: &[u8]) -> bool {
    let number = |tag: u16| first_number(bytes, tag);
    is_tiff(bytes)
        && number(258) == Some(16)
        && number(277).unwrap_or(1) == 1
        && matches!(number(PHOTOMETRIC), Some(0 | 1))
}

/// Whether this is a camera's raw file: one that says so (DNG), or whose first page is a small version of others that hang on it.
pub(super) fn is_raw(bytes: &[u8]) -> bool {
    const SUBFILE: u16 = 254;
    const OTHERS: u16 = 330;
    const DNG: u16 = 50706;
    let has = |tag| directory(bytes).any(|entry| entry.tag == tag);
    is_tiff(bytes) && (has(DNG) || has(OTHERS) && first_number(bytes, SUBFILE).is_some_and(|kind| kind & 1 == 1))
}

/// Decodes the first page of a TIFF file.
pub(super) fn decode(bytes: &[u8], depth: Depth) -> Result<(Pixels, Option<Orientation>), String> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_BYTES as usize;
    limits.intermediate_buffer_size = MAX_BYTES as usize;
    if let Some(tag) = directory(bytes).find(|entry| READ.contains(&entry.tag) && !entry.lies_within(bytes)) {
        return Err(format!("TIFF: the values of tag {} lie outside the file; replace or remove the file", tag.tag));
    }
    let mut decoder = open(bytes, &limits)?;
    let (width, height) = decoder.dimensions().map_err(|error| failed(&error))?;
    check_size(width, height)?;
    let number = |decoder: &mut Decoder<_>, tag| decoder.find_tag_unsigned::<u16>(tag).map_err(|error| failed(&error));
    let numbers = |decoder: &mut Decoder<_>, tag| {
        decoder.find_tag_unsigned_vec::<u16>(tag).map(Option::unwrap_or_default).map_err(|error| failed(&error))
    };
    if number(&mut decoder, Tag::FillOrder)?.is_some_and(|order| order != 1) {
        return Err(unsupported("bits in reverse order"));
    }
    // Rows of a tile are unpacked whole, however little of them lies within the picture.
    let mut tile = |tag| decoder.find_tag_unsigned::<u64>(tag).ok().flatten().unwrap_or(1);
    if tile(Tag::TileWidth).saturating_mul(tile(Tag::TileLength)) > MAX_PIXELS {
        return Err(too_large());
    }
    // Strips that lie on top of each other make much work of a small file.
    for tag in [Tag::StripByteCounts, Tag::TileByteCounts] {
        let counts = decoder.find_tag_unsigned_vec::<u64>(tag).ok().flatten().unwrap_or_default();
        let packed = counts.iter().fold(0u64, |sum, &count| sum.saturating_add(count));
        if packed > MOST_SHARED.saturating_mul(bytes.len() as u64) {
            return Err(format!("TIFF: its strips or tiles have {packed} bytes, the file {}: replace it", bytes.len()));
        }
    }
    let kind = Kind {
        photometric: number(&mut decoder, Tag::PhotometricInterpretation)?.unwrap_or(WHITE_IS_ZERO),
        format: numbers(&mut decoder, Tag::SampleFormat)?.first().copied().unwrap_or(UNSIGNED),
        bits: usize::from(numbers(&mut decoder, Tag::BitsPerSample)?.first().copied().unwrap_or(1)),
        samples: usize::from(number(&mut decoder, Tag::SamplesPerPixel)?.unwrap_or(1)),
        premultiplied: numbers(&mut decoder, Tag::ExtraSamples)?.first() == Some(&PREMULTIPLIED),
        palette: numbers(&mut decoder, Tag::ColorMap)?,
        depth,
    };
    let compression = number(&mut decoder, Tag::Compression)?.unwrap_or(1);
    if kind.photometric == YCC && kind.samples > 1 && compression != JPEG {
        return Err(unsupported("YCbCr without JPEG"));
    }
    // An orientation that does not make sense is passed over, as in Pillow.
    let orientation = match decoder.find_tag_unsigned::<u8>(Tag::Orientation) {
        Ok(None) => {
            let xmp = decoder.find_tag(Tag::Unknown(XMP)).ok().flatten().and_then(|value| value.into_u8_vec().ok());
            orientation(None, xmp.as_deref())
        }
        stated => stated.ok().flatten().and_then(Orientation::from_exif),
    };

    // The copy of the file, the samples twice where they are put in order, and the result.
    let pixels = u64::from(width) * u64::from(height);
    let stored = (pixels * (kind.samples * kind.bits) as u64).div_ceil(8);
    let room = budget::decoded(bytes.len() as u64 + 2 * stored.min(MAX_BYTES) + 3 * pixels)?;
    let mut plain = bytes.to_vec();
    overwrite(&mut plain, PHOTOMETRIC, BLACK_IS_ZERO);
    if kind.format == SIGNED {
        overwrite(&mut plain, SAMPLE_FORMAT, UNSIGNED);
    }
    let mut decoder = open(&plain, &limits)?;
    let layout = decoder.image_buffer_layout().map_err(|error| failed(&error))?;
    let planes = layout.planes.max(1);
    if layout.complete_len as u64 > MAX_BYTES {
        return Err(too_large());
    }
    let mut samples = vec![0; layout.complete_len];
    decoder.read_image_bytes(&mut samples).map_err(|error| failed(&error))?;
    let (width, height) = (width as usize, height as usize);
    if planes > 1 {
        samples = interleaved(&samples, planes, kind.bits, width * height)?;
    }
    let data = kind.rgb(samples, width, height)?;
    if data.len() != width * height * 3 {
        return Err("TIFF: the samples do not fill the picture; replace or remove the file".to_owned());
    }
    Ok((Pixels { width, height, data, room }, orientation))
}

/// A decoder of the file's first page.
fn open<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Decoder<Cursor<&'a [u8]>>, String> {
    let decoder = Decoder::new(Cursor::new(bytes)).map_err(|error| failed(&error))?;
    Ok(decoder.with_limits(limits.clone()))
}

/// Samples of planes one after the other, pixel by pixel.
fn interleaved(planar: &[u8], planes: usize, bits: usize, pixels: usize) -> Result<Vec<u8>, String> {
    if !bits.is_multiple_of(8) || planar.len() != planes * pixels * bits / 8 {
        return Err(unsupported(&format!("separate planes of {bits} bits")));
    }
    let bytes = bits / 8;
    let mut out = vec![0; planar.len()];
    for (plane, samples) in planar.chunks_exact(pixels * bytes).enumerate() {
        for (pixel, sample) in out.chunks_exact_mut(planes * bytes).zip(samples.chunks_exact(bytes)) {
            pixel[plane * bytes..][..bytes].copy_from_slice(sample);
        }
    }
    Ok(out)
}

impl Kind {
    /// RGB from samples pixel by pixel, in this machine's byte order.
    fn rgb(&self, samples: Vec<u8>, width: usize, height: usize) -> Result<Vec<u8>, String> {
        let unknown = || {
            unsupported(&format!(
                "{} samples of {} bits, sample format {}, photometric interpretation {},",
                self.samples, self.bits, self.format, self.photometric
            ))
        };
        let grey = matches!(self.photometric, BLACK_IS_ZERO | WHITE_IS_ZERO);
        match (self.photometric, self.format, self.bits, self.samples) {
            (BLACK_IS_ZERO | WHITE_IS_ZERO | PALETTE, UNSIGNED, 1 | 2 | 4 | 8, 1) => {
                let table = self.table()?;
                let rows = samples.chunks_exact((width * self.bits).div_ceil(8)).take(height);
                Ok(rows
                    .flat_map(|row| unpack_row(row, self.bits, width).flat_map(|value| table[usize::from(value)]))
                    .collect())
            }
            (BLACK_IS_ZERO, SIGNED, 8, 1) => Ok(three(samples.into_iter())),
            // Palette or grey with alpha or with something unknown.
            (PALETTE | BLACK_IS_ZERO, UNSIGNED, 8, 2) => {
                let table = self.table()?;
                Ok(samples.chunks_exact(2).flat_map(|pixel| table[usize::from(pixel[0])]).collect())
            }
            (_, UNSIGNED, 16, 1) if grey && self.depth == Depth::Scale => {
                let turned = if self.photometric == WHITE_IS_ZERO { 255 } else { 0 };
                Ok(three(native(&samples, u16::from_ne_bytes).map(|value| (value >> 8) as u8 ^ turned)))
            }
            // What is negative is black.
            (BLACK_IS_ZERO, SIGNED, 16, 1) if self.depth == Depth::Scale => {
                Ok(three(native(&samples, i16::from_ne_bytes).map(|value| (value.max(0) >> 7) as u8)))
            }
            // Pillow clips grey of more than 8 bits; it does not scale it, nor turn it round.
            (_, UNSIGNED, 16, 1) if grey => {
                Ok(three(native(&samples, u16::from_ne_bytes).map(|value| value.min(255) as u8)))
            }
            (BLACK_IS_ZERO, SIGNED, 16, 1) => {
                Ok(three(native(&samples, i16::from_ne_bytes).map(|value| value.clamp(0, 255) as u8)))
            }
            (BLACK_IS_ZERO, UNSIGNED | SIGNED, 32, 1) => {
                Ok(three(native(&samples, i32::from_ne_bytes).map(|value| value.clamp(0, 255) as u8)))
            }
            // The cast truncates, clips, and makes 0 of what is not a number.
            (_, FLOAT, 32, 1) if grey => Ok(three(native(&samples, f32::from_ne_bytes).map(|value| value as u8))),
            (RGB, UNSIGNED, 8 | 16, 3..=6) => {
                let mut samples = self.high_bytes(samples);
                if self.premultiplied && self.samples > 3 {
                    samples.chunks_exact_mut(self.samples).for_each(unmultiply);
                }
                Ok(samples.chunks_exact(self.samples).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect())
            }
            (CMYK, UNSIGNED, 8 | 16, 4..=6) => Ok(cmyk_to_rgb(&self.high_bytes(samples), self.samples)),
            (YCC, UNSIGNED, 8, 1) => Ok(three(samples.into_iter())),
            (YCC, UNSIGNED, 8, 3) => {
                let mut samples = samples;
                ycc_to_rgb(&mut samples, 3);
                Ok(samples)
            }
            _ => Err(unknown()),
        }
    }

    /// The colour of each value of up to 8 bits.
    fn table(&self) -> Result<Vec<[u8; 3]>, String> {
        let count = 1 << self.bits;
        if self.photometric == PALETTE {
            let length = self.palette.len() / 3;
            if length == 0 {
                return Err("TIFF: the palette is missing; replace or remove the file".to_owned());
            }
            let colour = |index: usize, channel: usize| {
                let value = (index < length).then(|| self.palette[channel * length + index]);
                (value.unwrap_or(0) >> 8) as u8
            };
            return Ok((0..count).map(|index| [0, 1, 2].map(|channel| colour(index, channel))).collect());
        }
        let grey = |value: usize| (value * 255 / (count - 1)) as u8;
        Ok((0..count)
            .map(|value| [grey(if self.photometric == WHITE_IS_ZERO { count - 1 - value } else { value }); 3])
            .collect())
    }

    /// The high bytes of samples of 16 bits; those of 8 bits as they are.
    fn high_bytes(&self, samples: Vec<u8>) -> Vec<u8> {
        if self.bits == 16 {
            native(&samples, u16::from_ne_bytes).map(|value| (value >> 8) as u8).collect()
        } else {
            samples
        }
    }
}

/// Divides the colours of a pixel by its alpha. What is wholly transparent becomes black.
fn unmultiply(pixel: &mut [u8]) {
    let alpha = u32::from(pixel[3]);
    for sample in &mut pixel[..3] {
        *sample = (u32::from(*sample) * 255).checked_div(alpha).map_or(0, |value| value.min(255) as u8);
    }
}

/// Values of `N` bytes each.
fn native<const N: usize, T>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks().0.iter().map(move |&bytes| value(bytes))
}

/// Grey as three equal channels.
fn three(values: impl Iterator<Item = u8>) -> Vec<u8> {
    values.flat_map(|value| [value; 3]).collect()
}

/// An entry of the first directory.
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// Where its values lie, if such a place exists.
    place: Option<Range<usize>>,
}

impl Entry {
    fn lies_within(&self, file: &[u8]) -> bool {
        self.place.as_ref().is_some_and(|place| file.get(place.clone()).is_some())
    }
}

/// The entries of the first directory, as far as it lies within the file; what is not as it should be is left to the
/// decoder to find.
fn directory(file: &[u8]) -> impl Iterator<Item = Entry> {
    let big_endian = file.starts_with(b"MM");
    let number = move |at: usize, length: usize| -> Option<u64> {
        let bytes = file.get(at..at.checked_add(length)?)?;
        let push = |sum: u64, &byte: &u8| (sum << 8) | u64::from(byte);
        Some(if big_endian { bytes.iter().fold(0, push) } else { bytes.iter().rev().fold(0, push) })
    };
    let index = move |at, length| number(at, length).and_then(|value| usize::try_from(value).ok());
    // BigTIFF has the same fields, wider: where the directory starts, entries, their counts and values.
    let wide = number(2, 2) == Some(43);
    let (pointer, counter, entry, field) = if wide { (8, 8, 20, 8) } else { (4, 2, 12, 4) };
    let start = index(pointer, field);
    let entries = start.and_then(|start| index(start, counter)).unwrap_or(0).min(65535);
    let first = start.and_then(|start| start.checked_add(counter));
    (0..entries).map_while(move |number_of| {
        let at = first?.checked_add(number_of * entry)?;
        let (tag, kind, count) = (number(at, 2)? as u16, number(at + 2, 2)? as u16, number(at + 4, field)?);
        // Bytes of a value by its type; unknown ones have at least one.
        let size = match kind {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        };
        let length = count.checked_mul(size).and_then(|length| usize::try_from(length).ok());
        let inline = at + 4 + field;
        let place = length.and_then(|length| {
            let start = if length <= field { inline } else { index(inline, field)? };
            Some(start..start.checked_add(length)?)
        });
        Some(Entry { tag, kind, count, place })
    })
}

/// Overwrites all values of a tag in the first directory, if it is there and holds 16-bit numbers.
fn overwrite(file: &mut [u8], tag: u16, value: u16) {
    let bytes = if file.starts_with(b"MM") { value.to_be_bytes() } else { value.to_le_bytes() };
    let found = directory(file).find(|entry| entry.tag == tag).filter(|entry| entry.kind == 3 && entry.count <= 65535);
    if let Some(values) = found.and_then(|entry| entry.place).and_then(|place| file.get_mut(place)) {
        values.chunks_exact_mut(2).for_each(|place| place.copy_from_slice(&bytes));
    }
}
