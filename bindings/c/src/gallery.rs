//! Pictures to look for those most like others.

use tipi::Gallery;

use crate::features::{Features, Neighbours, TipiFeatures, TipiNeighbours};
use crate::foreign::{Place, place};
use crate::gpu::{Open, TipiGpu};
use crate::handle::{Held, held};
use crate::status::{TipiStatus, guard};
use crate::watch::{TipiWatch, watched};

/// Pictures' features on a device, to look for those most like a picture, a text, or each other.
pub struct TipiGallery {
    _private: [u8; 0],
}

impl Held for Gallery {
    type Handle = TipiGallery;
    const KIND: &'static str = "a TipiGallery";
}

/// Makes a gallery of features of pictures, which are kept on the device where they fit there.
///
/// Ownership: `*gallery` is the caller's, to be freed with `tipi_free`. It keeps a copy of the features, and the device open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_gallery_new(
    gpu: *const TipiGpu,
    features: *const TipiFeatures,
    gallery: *mut *mut TipiGallery,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let gallery = Place::at("gallery", gallery)?;
        let (open, features) = (held::<Open>("gpu", gpu)?, held::<Features>("features", features)?);
        gallery.put(Gallery::new(&open.gpu, features.images("features")?.clone())?);
        Ok(())
    })
}

/// How many pictures a gallery has, and how wide their features are.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_gallery_size(
    gallery: *const TipiGallery,
    rows: *mut usize,
    width: *mut usize,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let gallery = held::<Gallery>("gallery", gallery)?;
        let (rows, its_width) = (place("rows", rows)?, place("width", width)?);
        rows.write(gallery.len());
        its_width.write(gallery.width());
        Ok(())
    })
}

/// For each row of `features`, of pictures or texts, the `most` pictures of the gallery that are most like it, the nearest first; of
/// equally near ones the lower number comes first. Fewer where the gallery has fewer. `watch` may be NULL.
///
/// Ownership: `*neighbours` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_gallery_nearest(
    gallery: *const TipiGallery,
    features: *const TipiFeatures,
    most: usize,
    watch: *const TipiWatch,
    neighbours: *mut *mut TipiNeighbours,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let neighbours = Place::<Neighbours>::at("neighbours", neighbours)?;
        let (gallery, features) = (held::<Gallery>("gallery", gallery)?, held::<Features>("features", features)?);
        let found = watched(watch, |watch| match &*features {
            Features::Images(pictures) => gallery.nearest(pictures, most, watch),
            Features::Texts(texts) => gallery.nearest_to_texts(texts, most, watch),
        })?;
        neighbours.put(found.into());
        Ok(())
    })
}

/// For each picture of the gallery the `most` others that are most like it, as `tipi_gallery_nearest`. `watch` may be NULL.
///
/// Ownership: `*neighbours` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_gallery_nearest_others(
    gallery: *const TipiGallery,
    most: usize,
    watch: *const TipiWatch,
    neighbours: *mut *mut TipiNeighbours,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let neighbours = Place::<Neighbours>::at("neighbours", neighbours)?;
        let gallery = held::<Gallery>("gallery", gallery)?;
        neighbours.put(watched(watch, |watch| gallery.nearest_others(most, watch))?.into());
        Ok(())
    })
}

/// Groups of pictures that are nearly the same. A group begins with its picture of the lowest number, and each other one's cosine with
/// that, which is given with it, is `least` or more. `watch` may be NULL.
///
/// Ownership: `*groups` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_gallery_duplicates(
    gallery: *const TipiGallery,
    least: f64,
    watch: *const TipiWatch,
    groups: *mut *mut TipiNeighbours,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let groups = Place::<Neighbours>::at("groups", groups)?;
        let gallery = held::<Gallery>("gallery", gallery)?;
        groups.put(watched(watch, |watch| gallery.duplicates(least, watch))?.into());
        Ok(())
    })
}
