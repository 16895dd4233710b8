//! Features on the host.

use tipi::{ImageFeatures, Neighbour, TextFeatures};

use crate::foreign::{Place, item, place, slice};
use crate::handle::{Held, held};
use crate::status::{Failure, Result, TipiStatus, guard};

/// Un-normalised features, a row for each picture or text.
pub struct TipiFeatures {
    _private: [u8; 0],
}

/// Lists of rows that are near.
pub struct TipiNeighbours {
    _private: [u8; 0],
}

/// What features are of.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TipiFeatureKind {
    /// Pictures.
    TipiOfPictures = 0,
    /// Texts.
    TipiOfTexts = 1,
}

/// The values of features.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiMatrix {
    /// `rows * width` values, row after row.
    pub values: *const f32,
    /// Rows.
    pub rows: usize,
    /// Values of a row.
    pub width: usize,
    /// What they are of.
    pub kind: TipiFeatureKind,
}

/// A row that is near.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TipiNeighbour {
    /// Its number.
    pub row: usize,
    /// Cosine of the angle between the two, from -1 to 1.
    pub cosine: f32,
}

pub(crate) enum Features {
    Images(ImageFeatures),
    Texts(TextFeatures),
}

impl Held for Features {
    type Handle = TipiFeatures;
    const KIND: &'static str = "TipiFeatures";
}

impl Features {
    pub fn images(&self, argument: &str) -> Result<&ImageFeatures> {
        match self {
            Features::Images(images) => Ok(images),
            Features::Texts(_) => {
                Err(Failure::invalid(format!("{argument} are features of texts: give those of pictures")))
            }
        }
    }
}

pub(crate) struct Neighbours(Vec<Vec<TipiNeighbour>>);

impl Held for Neighbours {
    type Handle = TipiNeighbours;
    const KIND: &'static str = "TipiNeighbours";
}

impl From<Vec<Vec<Neighbour>>> for Neighbours {
    fn from(lists: Vec<Vec<Neighbour>>) -> Neighbours {
        let of = |near: Neighbour| TipiNeighbour { row: near.row, cosine: near.cosine };
        Neighbours(lists.into_iter().map(|list| list.into_iter().map(of).collect()).collect())
    }
}

/// Features that were kept: `rows * width` values, row after row. `kind` is a `TipiFeatureKind`.
///
/// Ownership: `values` are copied. `*features` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_features_new(
    kind: i32,
    values: *const f32,
    rows: usize,
    width: usize,
    features: *mut *mut TipiFeatures,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let features = Place::at("features", features)?;
        let count = rows.checked_mul(width);
        let count = count.ok_or_else(|| Failure::invalid(format!("no memory holds {rows} rows of {width} values")))?;
        let values = slice("values", values, count)?.to_vec();
        features.put(match kind {
            0 => Features::Images(ImageFeatures::new(values, width)?),
            1 => Features::Texts(TextFeatures::new(values, width)?),
            other => return Err(Failure::invalid(format!("kind is {other}: give a TipiFeatureKind"))),
        });
        Ok(())
    })
}

/// The values.
///
/// Ownership: those of `*matrix` are those of `features`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_features_get(features: *const TipiFeatures, matrix: *mut TipiMatrix) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let features = held::<Features>("features", features)?;
        let (values, rows, width, kind) = match &*features {
            Features::Images(of) => (of.values(), of.len(), of.width(), TipiFeatureKind::TipiOfPictures),
            Features::Texts(of) => (of.values(), of.len(), of.width(), TipiFeatureKind::TipiOfTexts),
        };
        place("matrix", matrix)?.write(TipiMatrix { values: values.as_ptr(), rows, width, kind });
        Ok(())
    })
}

/// Cosines `[pictures, texts]` of every picture with every text, picture after picture. `count` is how many `cosines` has place for, and
/// must be the product of both numbers of rows.
///
/// Ownership: `cosines` is the caller's, and written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_features_cosines(
    pictures: *const TipiFeatures,
    texts: *const TipiFeatures,
    cosines: *mut f32,
    count: usize,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let (pictures, texts) = (held::<Features>("pictures", pictures)?, held::<Features>("texts", texts)?);
        let Features::Texts(texts) = &*texts else {
            return Err(Failure::invalid("texts are features of pictures: give those of texts"));
        };
        let pictures = pictures.images("pictures")?;
        let wanted = pictures.len().saturating_mul(texts.len());
        if count != wanted {
            return Err(Failure::invalid(format!("count is {count}, and there are {wanted} cosines")));
        }
        // It checks the place as one to read from.
        let _ = slice("cosines", cosines.cast_const().cast::<std::mem::MaybeUninit<f32>>(), count)?;
        let found = pictures.cosines(texts)?;
        if count > 0 {
            cosines.copy_from_nonoverlapping(found.as_ptr(), count);
        }
        Ok(())
    })
}

/// For every picture the `most` of `others` that are most like it, the nearest first. It compares on the processor, which is quick for some
/// thousand pictures; for more there is `TipiGallery`. Both are features of pictures.
///
/// Ownership: `*neighbours` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_features_nearest(
    pictures: *const TipiFeatures,
    others: *const TipiFeatures,
    most: usize,
    neighbours: *mut *mut TipiNeighbours,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let neighbours = Place::<Neighbours>::at("neighbours", neighbours)?;
        let (pictures, others) = (held::<Features>("pictures", pictures)?, held::<Features>("others", others)?);
        neighbours.put(pictures.images("pictures")?.nearest(others.images("others")?, most)?.into());
        Ok(())
    })
}

/// How many lists there are: one for each row that was asked about, or for each group.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_neighbours_count(neighbours: *const TipiNeighbours, count: *mut usize) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        place("count", count)?.write(held::<Neighbours>("neighbours", neighbours)?.0.len());
        Ok(())
    })
}

/// The list of this number, from 0 on.
///
/// Ownership: `*list` is that of `neighbours`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_neighbours_get(
    neighbours: *const TipiNeighbours,
    number: usize,
    list: *mut *const TipiNeighbour,
    count: *mut usize,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let neighbours = held::<Neighbours>("neighbours", neighbours)?;
        let found = item("number", &neighbours.0, number)?;
        let (list, count) = (place("list", list)?, place("count", count)?);
        list.write(found.as_ptr());
        count.write(found.len());
        Ok(())
    })
}
