//! Pictures from files and from memory.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use image::DynamicImage;

use super::decode::PictureFile;
use super::resize::Rgb;
use crate::{Error, Result, text};

/// A picture: a file, a file's bytes, or pixels. It is read and decoded when it is used, and cheap to clone.
#[derive(Clone)]
pub struct Picture(Held);

#[derive(Clone)]
enum Held {
    File(PathBuf),
    Encoded { name: PathBuf, bytes: Arc<[u8]> },
    Pixels { name: PathBuf, picture: Arc<Rgb> },
}

impl Picture {
    /// The picture in a PNG, JPEG, WebP, GIF, BMP or TIFF file, and with the features of these names in an AVIF, JPEG XL or HEIC
    /// file, which is looked at when the picture is used.
    pub fn file(path: impl Into<PathBuf>) -> Picture {
        Picture(Held::File(path.into()))
    }

    /// All pictures in a folder and the folders below it, in the order of their paths, or the one picture of a file's path. What
    /// systems and photo programs hide is passed over, as by the program `tipi`; so are pictures of kinds that are not read.
    ///
    /// # Errors
    /// [`Error::Data`] where there is no picture; [`Error::Io`] for a folder that cannot be read.
    pub fn in_folder(folder: impl AsRef<Path>) -> Result<Vec<Picture>> {
        Ok(super::walk::list_pictures(folder.as_ref())?.into_iter().map(Picture::file).collect())
    }

    /// The picture in the bytes of such a file. `name` names it in errors.
    pub fn encoded(name: impl Into<PathBuf>, bytes: impl Into<Arc<[u8]>>) -> Picture {
        Picture(Held::Encoded { name: name.into(), bytes: bytes.into() })
    }

    /// The picture of `height` rows of `width` pixels of three bytes (red, green, blue), the rows `stride` bytes apart: `width · 3`
    /// where nothing is between them. `name` names it in errors.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a side of 0 or of more than 262,144, a stride shorter than a row, or another length than
    /// `stride · height` (what follows the last row may be left out).
    pub fn rgb8(name: impl Into<PathBuf>, size: [usize; 2], stride: usize, bytes: &[u8]) -> Result<Picture> {
        Picture::pixels(name.into(), size, (stride, 3), bytes)
    }

    /// As [`Picture::rgb8`], with four bytes a pixel (red, green, blue, alpha). Alpha is dropped, as in files.
    ///
    /// # Errors
    /// As [`Picture::rgb8`].
    pub fn rgba8(name: impl Into<PathBuf>, size: [usize; 2], stride: usize, bytes: &[u8]) -> Result<Picture> {
        Picture::pixels(name.into(), size, (stride, 4), bytes)
    }

    /// A picture of the crate `image`, as its `into_rgb8` has it: unlike in files, more than 8 bits are rounded, and alpha is
    /// dropped. `name` names it in errors.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a picture without pixels.
    pub fn image(name: impl Into<PathBuf>, image: &DynamicImage) -> Result<Picture> {
        let pixels = image.to_rgb8();
        let size = [pixels.width() as usize, pixels.height() as usize];
        let picture = Rgb::new(size[0], size[1], pixels.into_raw())?;
        Ok(Picture(Held::Pixels { name: name.into(), picture: Arc::new(picture) }))
    }

    fn pixels(
        name: PathBuf,
        [width, height]: [usize; 2],
        (stride, per): (usize, usize),
        bytes: &[u8],
    ) -> Result<Picture> {
        let wrong = |why: String| {
            let shown = text::path(&name);
            Err(Error::invalid(format!("picture '{}' of {width}x{height}: {why}", text::cut(&shown, text::NAME))))
        };
        if width == 0 || height == 0 || width.max(height) > super::decode::MAX_SIDE as usize {
            return wrong(format!("each side must be from 1 to {}", super::decode::MAX_SIDE));
        }
        let row = width * per;
        if stride < row {
            return wrong(format!("a stride of {stride} bytes is shorter than a row of {row}"));
        }
        let least = (height - 1).checked_mul(stride).and_then(|before| before.checked_add(row));
        let most = height.checked_mul(stride);
        if least.is_none_or(|least| bytes.len() < least) || most.is_none_or(|most| bytes.len() > most) {
            return wrong(format!("{} bytes are not {height} rows, {stride} bytes apart", bytes.len()));
        }
        let mut data = Vec::with_capacity(width * height * 3);
        for line in bytes.chunks(stride) {
            match per {
                3 => data.extend_from_slice(&line[..row]),
                _ => line[..row].chunks_exact(per).for_each(|pixel| data.extend_from_slice(&pixel[..3])),
            }
        }
        Ok(Picture(Held::Pixels { name, picture: Arc::new(Rgb::new(width, height, data)?) }))
    }

    /// The file, or the name that a picture in memory was given.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Held::File(path) => path,
            Held::Encoded { name, .. } | Held::Pixels { name, .. } => name,
        }
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        matches!(self.0, Held::File(_))
    }

    /// Reads and decodes it, to see whether that can be done. Gives width and height, upright.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read, [`Error::Image`] for one that cannot be decoded.
    pub fn check(&self) -> Result<[usize; 2]> {
        self.open()?.decoded(|picture| [picture.width, picture.height])
    }

    /// What is decoded: read from the file, or borrowed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn open(&self) -> Result<PictureFile<'_>> {
        match &self.0 {
            Held::File(path) => PictureFile::read(path),
            Held::Encoded { name, bytes } => Ok(PictureFile::of_bytes(name, bytes)),
            Held::Pixels { name, picture } => Ok(PictureFile::of_pixels(name, picture)),
        }
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.0 {
            Held::File(_) => "file",
            Held::Encoded { .. } => "encoded",
            Held::Pixels { .. } => "pixels",
        };
        write!(f, "Picture({what} {:?})", self.path())
    }
}

/// Where items' pictures are looked for: here under their names, and else in files.
#[derive(Clone, Debug, Default)]
pub struct Shelf(HashMap<PathBuf, Picture>);

impl Shelf {
    /// One with nothing on it.
    pub fn empty() -> &'static Shelf {
        static EMPTY: LazyLock<Shelf> = LazyLock::new(Shelf::default);
        &EMPTY
    }

    /// Puts a picture here, unless it is a file, and gives the path under which an item finds it.
    pub fn put(&mut self, picture: &Picture) -> PathBuf {
        if picture.is_file() {
            return picture.path().to_path_buf();
        }
        // No file has such a path, and no other picture.
        let path = PathBuf::from(format!("in memory, number {}: {}", self.0.len() + 1, text::path(picture.path())));
        self.0.insert(path.clone(), picture.clone());
        path
    }

    /// The picture at this path.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read.
    pub(crate) fn open<'a>(&'a self, path: &'a Path) -> Result<PictureFile<'a>> {
        match self.0.get(path) {
            Some(picture) => picture.open(),
            None => PictureFile::read(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(picture: &Picture) -> Vec<u8> {
        picture.open().unwrap().decoded(|picture| picture.data).unwrap()
    }

    #[test]
    fn pixels_lose_what_is_between_rows_and_alpha() {
        let tight = Picture::rgb8("a", [2, 2], 6, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).unwrap();
        assert_eq!(data(&tight), (1..=12).collect::<Vec<u8>>());
        let bytes = [1, 2, 3, 0, 4, 5, 6, 0, 99, 99, 7, 8, 9, 0, 10, 11, 12, 0];
        let padded = Picture::rgba8("b", [2, 2], 10, &bytes).unwrap();
        assert_eq!(data(&padded), (1..=12).collect::<Vec<u8>>());
        assert_eq!(padded.check().unwrap(), [2, 2]);
        let whole = [&bytes[..], &[99, 99]].concat();
        assert_eq!(data(&Picture::rgba8("b", [2, 2], 10, &whole).unwrap()), data(&tight));
    }

    #[test]
    fn buffers_that_contradict_their_size_are_named() {
        let refused = |size, stride, n: usize| {
            let error = Picture::rgba8("frame 7", size, stride, &vec![0; n]).map(drop).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains("frame 7"), "{error}");
            error.to_string()
        };
        assert!(refused([0, 2], 8, 0).contains("each side"));
        assert!(refused([2, 2], 7, 14).contains("a stride of 7 bytes is shorter than a row of 8"));
        assert!(refused([2, 2], 8, 15).contains("15 bytes are not 2 rows, 8 bytes apart"));
        assert!(refused([2, 2], 8, 17).contains("17 bytes"));
        assert!(refused([1 << 20, 2], 1 << 22, 8).contains("each side"));
        assert!(refused([2, 1 << 18], usize::MAX / 2, 8).contains("8 bytes are not"));
    }

    #[test]
    fn names_on_the_shelf_are_no_files_and_all_different() {
        let mut shelf = Shelf::default();
        let a = Picture::rgb8("same", [1, 1], 3, &[1, 2, 3]).unwrap();
        let b = Picture::rgb8("same", [1, 1], 3, &[4, 5, 6]).unwrap();
        let (a, b) = (shelf.put(&a), shelf.put(&b));
        assert_ne!(a, b);
        assert_eq!(shelf.open(&b).unwrap().decoded(|picture| picture.data).unwrap(), [4, 5, 6]);
        assert!(shelf.open(Path::new("/no/such/file.png")).is_err());
        assert_eq!(shelf.put(&Picture::file("x.png")), Path::new("x.png"));
    }
}
