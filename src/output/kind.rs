//! What kind of file a file is, by its first bytes, and the marks by which tipi knows its own.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result, input};

/// Kinds of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What `tipi fit` learned.
    Adapter,
    /// A training that goes on later.
    Checkpoint,
    /// Features or a classifier.
    Embeddings,
    /// A picture.
    Png,
    /// A drawing.
    Svg,
    /// A report.
    Html,
}

/// The mark in a report.
pub(crate) const HTML_MARK: &str = "<meta name=\"generator\" content=\"tipi\">";
/// The mark in a drawing.
pub(crate) const SVG_MARK: &str = "<!-- Drawn by tipi -->";
/// The mark in a picture: a keyword of PNG's and its text.
const PNG_MARK: &[u8] = b"tEXtSoftware\0tipi";
/// The mark in a file of embeddings.
const EMBEDDINGS: &str = "tipi-embeddings/1";
/// The length of the header of a .npy file of embeddings: NumPy fills its own up to 128 bytes.
pub const NPY_HEADER: usize = 256;
/// How many of a file's bytes are looked at for a mark.
const HEAD: u64 = 4096;

impl Kind {
    /// Of tipi's formats in safetensors files.
    const FORMATS: [(&str, Kind); 3] = [
        ("tipi-adapter/", Kind::Adapter),
        ("tipi-training/", Kind::Checkpoint),
        ("tipi-embeddings/", Kind::Embeddings),
    ];

    /// In words, with an article.
    fn name(self) -> &'static str {
        match self {
            Kind::Adapter => "an adapter that tipi wrote",
            Kind::Checkpoint => "a checkpoint that tipi wrote",
            Kind::Embeddings => "a file of embeddings that tipi wrote",
            Kind::Png => "a PNG picture that tipi drew",
            Kind::Svg => "an SVG drawing that tipi drew",
            Kind::Html => "a report that tipi wrote",
        }
    }

    /// Fails unless the file at `path`, if there is one, may give way to a result of this kind.
    pub(crate) fn check(self, path: &Path) -> Result<()> {
        let found = match Found::at(path) {
            Ok(Found::Nothing) => return Ok(()),
            Ok(Found::Own(kind)) if kind == self => return Ok(()),
            Ok(Found::Own(kind)) => kind.name(),
            Ok(Found::Foreign(name)) => name,
            Err(_) => "a file that cannot be read",
        };
        Err(Error::Foreign { path: path.to_path_buf(), found, wanted: self.name() })
    }

    #[cfg(feature = "eval")]
    /// Whether the file at `path` is one of tipi's of this kind.
    pub(crate) fn is_at(self, path: &Path) -> bool {
        matches!(Found::at(path), Ok(Found::Own(kind)) if kind == self)
    }
}

/// What is under a name.
enum Found {
    /// No file, or an empty one.
    Nothing,
    /// A file of tipi's.
    Own(Kind),
    /// Any other, in words.
    Foreign(&'static str),
}

impl Found {
    fn at(path: &Path) -> Result<Found> {
        let io = |error| Error::io(path, error);
        let mut file = match input::open(path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let mut head = Vec::new();
        file.by_ref().take(HEAD).read_to_end(&mut head).map_err(io)?;
        if head.is_empty() {
            return Ok(Found::Nothing);
        }
        if let Some(text) = safetensors_header(&mut file, &head).map_err(io)? {
            return Ok(match own_format(&text) {
                Some(kind) => Found::Own(kind),
                None => Found::Foreign("a safetensors file that tipi did not write"),
            });
        }
        if let Some(rest) = head.strip_prefix(b"\x93NUMPY") {
            let length = rest.get(2..4).map(|length| usize::from(u16::from_le_bytes([length[0], length[1]])));
            return Ok(match length.map(|length| length + 10) == Some(NPY_HEADER) && rest[0] == 1 {
                true => Found::Own(Kind::Embeddings),
                false => Found::Foreign("a NumPy file that tipi did not write"),
            });
        }
        if is_csv(&head) {
            return Ok(Found::Own(Kind::Embeddings));
        }
        let has = |mark: &[u8]| head.windows(mark.len()).any(|window| window == mark);
        Ok(match image::guess_format(&head).ok() {
            // Right after the header, which is as long in every PNG.
            Some(image::ImageFormat::Png) => {
                match head.get(PNG_HEADER + 4..).is_some_and(|h| h.starts_with(PNG_MARK)) {
                    true => Found::Own(Kind::Png),
                    false => Found::Foreign("a PNG picture that tipi did not draw"),
                }
            }
            Some(_) => Found::Foreign("a picture"),
            None if head.starts_with(b"<svg") && has(SVG_MARK.as_bytes()) => Found::Own(Kind::Svg),
            None if head.starts_with(b"<!DOCTYPE html>") && has(HTML_MARK.as_bytes()) => Found::Own(Kind::Html),
            None => Found::Foreign("a file that tipi did not write"),
        })
    }
}

/// Whether a file that begins so is CSV of embeddings: what its rows are of, perhaps their labels, and their first value.
fn is_csv(head: &[u8]) -> bool {
    ["path,f0,", "path,label,f0,", "text,f0,", "class,f0,"].iter().any(|start| head.starts_with(start.as_bytes()))
}

/// The header of a safetensors file that begins with `head`.
fn safetensors_header(file: &mut std::fs::File, head: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let Some((size, rest)) = head.split_first_chunk() else { return Ok(None) };
    let size = u64::from_le_bytes(*size);
    if rest.first() != Some(&b'{') || size > file.metadata()?.len().saturating_sub(8) {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(8))?;
    file.take(size).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Which of tipi's formats a safetensors header names.
fn own_format(header: &[u8]) -> Option<Kind> {
    #[derive(Deserialize)]
    struct Header {
        __metadata__: HashMap<String, String>,
    }
    #[derive(Deserialize)]
    struct Description {
        format: String,
    }
    let header: Header = serde_json::from_slice(header).ok()?;
    let description: Description = serde_json::from_str(header.__metadata__.get("tipi")?).ok()?;
    Kind::FORMATS.iter().find(|(format, _)| description.format.starts_with(format)).map(|(_, kind)| *kind)
}

/// Says in a safetensors file, which must have metadata, that it is one of tipi's embeddings, and by which model (its SHA-256 in
/// hexadecimal) where that is known.
///
/// # Errors
/// [`Error::Invalid`] for other bytes.
pub fn mark_embeddings(bytes: &[u8], model: Option<&str>) -> Result<Vec<u8>> {
    // The crate writes several entries of metadata in an order that changes from run to run; equal results are equal files.
    const START: &[u8] = b"{\"__metadata__\":{";
    let marked = || {
        let (size, rest) = bytes.split_first_chunk()?;
        let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*size)).ok()?)?;
        let entries = header.strip_prefix(START)?.trim_ascii_end();
        let model = model.map_or(String::new(), |model| format!(",\\\"model\\\":\\\"{model}\\\""));
        let mark = format!("\"tipi\":\"{{\\\"format\\\":\\\"{EMBEDDINGS}\\\"{model}}}\",");
        let mut header = [START, mark.as_bytes(), entries].concat();
        header.resize(header.len().next_multiple_of(8), b' ');
        Some([&(header.len() as u64).to_le_bytes(), &header[..], data].concat())
    };
    marked().ok_or_else(|| Error::invalid("embeddings without metadata cannot be marked"))
}

/// Length of a PNG's signature and its first part, the header.
const PNG_HEADER: usize = 33;

/// Says in a PNG file that tipi drew it.
#[cfg(feature = "eval")]
pub(crate) fn mark_png(bytes: &[u8]) -> Vec<u8> {
    let Some((header, rest)) = bytes.split_at_checked(PNG_HEADER) else { return bytes.to_vec() };
    let mut crc = flate2::Crc::new();
    crc.update(PNG_MARK);
    // A part has its length without its name, then both, then a checksum of both.
    let length = (PNG_MARK.len() as u32).saturating_sub(4).to_be_bytes();
    [header, &length, PNG_MARK, &crc.sum().to_be_bytes(), rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;
    use safetensors::tensor::{Dtype, TensorView};

    #[test]
    fn a_marked_picture_is_the_same_picture() {
        let picture = image::RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let mut plain = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut plain, image::ImageFormat::Png).unwrap();
        let marked = mark_png(plain.get_ref());
        assert_eq!(image::load_from_memory(&marked).unwrap().to_rgb8(), picture);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for (bytes, own) in [(plain.get_ref(), false), (&marked, true)] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(Kind::Png.is_at(&path), own);
        }
    }

    #[test]
    fn marked_embeddings_hold_the_same_tensors_aligned() {
        let data: Vec<u8> = (0..24).collect();
        for inputs in ["", "a", "[\"a.png\"]"] {
            let view = TensorView::new(Dtype::F32, vec![3, 2], &data).unwrap();
            let info = HashMap::from([("inputs".to_string(), inputs.to_string())]);
            let bytes = safetensors::serialize([("features", view)], Some(info)).unwrap();
            let bytes = mark_embeddings(&bytes, Some("0f")).unwrap();
            let (size, header) = SafeTensors::read_metadata(&bytes).unwrap();
            assert_eq!(size % 8, 0);
            assert_eq!(header.metadata().as_ref().unwrap()["inputs"], inputs);
            let file = SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(file.tensor("features").unwrap().data(), data);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a");
            std::fs::write(&path, &bytes).unwrap();
            assert!(Kind::Embeddings.is_at(&path) && !Kind::Adapter.is_at(&path));
        }
        assert!(mark_embeddings(b"no file", None).is_err());
    }
}
