//! Pictures: files, encoded bytes, pixels.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tipi::Picture;

use crate::foreign::{Place, TipiStr, item, place, slice};
use crate::handle::{Held, held};
use crate::owned::{Text, TipiText};
use crate::status::{Result, TipiStatus, guard};

/// A list of pictures, to encode, to learn from or to look at.
pub struct TipiPictures {
    _private: [u8; 0],
}

#[derive(Default)]
pub(crate) struct Pictures(Mutex<Vec<Picture>>);

impl Held for Pictures {
    type Handle = TipiPictures;
    const KIND: &'static str = "TipiPictures";
}

impl Pictures {
    fn lock(&self) -> MutexGuard<'_, Vec<Picture>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those in the list now; pictures are cheap to clone.
    pub fn now(&self) -> Vec<Picture> {
        self.lock().clone()
    }
}

/// Adds what `make` makes to the list.
fn add(pictures: *mut TipiPictures, make: impl FnOnce() -> Result<Picture>) -> TipiStatus {
    guard(|| {
        let pictures = held::<Pictures>("pictures", pictures)?;
        let picture = make()?;
        pictures.lock().push(picture);
        Ok(())
    })
}

/// Makes an empty list.
///
/// Ownership: `*pictures` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_pictures_new(pictures: *mut *mut TipiPictures) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        Place::at("pictures", pictures)?.put(Pictures::default());
        Ok(())
    })
}

/// Adds the picture in a PNG, JPEG, WebP, GIF, BMP or TIFF file, and as the library was built in an AVIF, JPEG XL or HEIC file. It is read when
/// it is used.
///
/// Ownership: `path` is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_pictures_add_file(pictures: *mut TipiPictures, path: TipiStr) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    add(pictures, || unsafe { Ok(Picture::file(path.text("path")?)) })
}

/// Adds all pictures in a folder and the folders below it, in the order of their paths. What systems and photo programs hide is passed over.
/// `added` is how many; it may be NULL.
///
/// Ownership: `folder` is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_pictures_add_folder(
    pictures: *mut TipiPictures,
    folder: TipiStr,
    added: *mut usize,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let pictures = held::<Pictures>("pictures", pictures)?;
        let found = Picture::in_folder(folder.text("folder")?)?;
        if !added.is_null() {
            place("added", added)?.write(found.len());
        }
        pictures.lock().extend(found);
        Ok(())
    })
}

/// Adds the picture in the `length` bytes of such a file. `name` names it in errors. It is decoded when it is used.
///
/// Ownership: `name` and `bytes` are copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_pictures_add_encoded(
    pictures: *mut TipiPictures,
    name: TipiStr,
    bytes: *const u8,
    length: usize,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    add(pictures, || unsafe { Ok(Picture::encoded(name.text("name")?, slice("bytes", bytes, length)?)) })
}

/// Adds the picture of `height` rows of `width` pixels of three bytes (red, green, blue), the rows `stride` bytes apart: `3 * width`
/// where nothing is between them. `length` is `stride * height`; what follows the last row may be left out. `name` names the picture in errors.
///
/// Ownership: `name` and `bytes` are copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_pictures_add_rgb(
    pictures: *mut TipiPictures,
    name: TipiStr,
    width: usize,
    height: usize,
    stride: usize,
    bytes: *const u8,
    length: usize,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    add(pictures, || unsafe {
        Ok(Picture::rgb8(name.text("name")?, [width, height], stride, slice("bytes", bytes, length)?)?)
    })
}

/// As `tipi_pictures_add_rgb`, with four bytes a pixel (red, green, blue, alpha). Alpha is dropped, as in files.
///
/// Ownership: `name` and `bytes` are copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_pictures_add_rgba(
    pictures: *mut TipiPictures,
    name: TipiStr,
    width: usize,
    height: usize,
    stride: usize,
    bytes: *const u8,
    length: usize,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    add(pictures, || unsafe {
        Ok(Picture::rgba8(name.text("name")?, [width, height], stride, slice("bytes", bytes, length)?)?)
    })
}

/// How many pictures are in the list.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_pictures_count(pictures: *const TipiPictures, count: *mut usize) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        place("count", count)?.write(held::<Pictures>("pictures", pictures)?.lock().len());
        Ok(())
    })
}

/// Takes all pictures out of the list.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_pictures_clear(pictures: *mut TipiPictures) -> TipiStatus {
    guard(|| {
        held::<Pictures>("pictures", pictures)?.lock().clear();
        Ok(())
    })
}

/// The path of the picture of this number, from 0 on, or the name that a picture in memory was given.
///
/// Ownership: `*name` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_pictures_name(
    pictures: *const TipiPictures,
    number: usize,
    name: *mut *mut TipiText,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let name = Place::at("name", name)?;
        let picture = picture(pictures, number)?;
        name.put(Text(picture.path().to_string_lossy().as_ref().into()));
        Ok(())
    })
}

/// Reads and decodes the picture of this number, from 0 on, to see whether that can be done. Gives its width and height, upright, in pixels.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_pictures_check(
    pictures: *const TipiPictures,
    number: usize,
    width: *mut usize,
    height: *mut usize,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let picture = picture(pictures, number)?;
        let (width, height) = (place("width", width)?, place("height", height)?);
        let size = picture.check()?;
        width.write(size[0]);
        height.write(size[1]);
        Ok(())
    })
}

fn picture(pictures: *const TipiPictures, number: usize) -> Result<Picture> {
    let pictures = held::<Pictures>("pictures", pictures)?;
    let pictures = pictures.lock();
    item("number", &pictures, number).cloned()
}
