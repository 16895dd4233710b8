//! Pictures to look for those most like others.

use std::fmt;
use std::sync::Arc;

use super::{Gpu, ImageFeatures, Neighbour, TextFeatures};
use crate::neighbours::{NONE, Near, Rows};
use crate::watch::Watch;
use crate::{Error, Result};

/// Pictures' features on a GPU, to look for those most like a picture, a text, or each other. Likeness is the cosine of the angle
/// between features, from −1 to 1. All pictures are compared, in blocks, so what is found is exact, and memory grows with the number of
/// pictures and not with that of pairs. Cheap to clone; clones share the features, and can be used from several threads at once.
///
/// ```
/// use tipi::{DeviceOptions, Gallery, Gpu, Model, Picture, Unwatched};
///
/// # fn main() -> tipi::Result<()> {
/// let model = Model::load(&Gpu::open(&DeviceOptions::default())?, "weights/picto")?;
/// let pictures: Vec<Picture> = ["bell/lucide-bell", "bell/ph-bell-bold", "car/lucide-car"]
///     .iter()
///     .map(|name| Picture::file(format!("examples/pictos/shifted/{name}.png")))
///     .collect();
/// let gallery = Gallery::new(model.gpu(), model.encode(&pictures, &mut Unwatched)?)?;
/// let texts = model.encode_texts(&["an icon of a bell"])?;
/// for near in &gallery.nearest_to_texts(&texts, 2, &mut Unwatched)?[0] {
///     println!("picture {}: {:.2}", near.row, near.cosine);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Gallery(Arc<Rows>);

impl Gallery {
    /// Pictures by their features, which are kept on the GPU where they fit there.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more pictures than u32 counts; a lost device.
    pub fn new(gpu: &Gpu, features: ImageFeatures) -> Result<Gallery> {
        let width = features.width();
        Rows::new(gpu.low_level(), features.into_values(), width).map(|rows| Gallery(Arc::new(rows)))
    }

    /// Pictures.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Values of a picture's features.
    pub fn width(&self) -> usize {
        self.0.width()
    }

    /// For each of `pictures` the `most` of the gallery that are most like it, the nearest first; of equally near ones the lower
    /// number comes first. Fewer where the gallery has fewer.
    ///
    /// # Errors
    /// [`Error::Invalid`] for features of another width; too little memory, a lost device; what `watch` gives.
    pub fn nearest(&self, pictures: &ImageFeatures, most: usize, watch: &mut dyn Watch) -> Result<Vec<Vec<Neighbour>>> {
        self.nearest_to((pictures.values(), pictures.width()), most, watch)
    }

    /// The same for texts: the pictures that a text says most of.
    ///
    /// # Errors
    /// As [`Gallery::nearest`].
    pub fn nearest_to_texts(
        &self,
        texts: &TextFeatures,
        most: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Vec<Neighbour>>> {
        self.nearest_to((texts.values(), texts.width()), most, watch)
    }

    fn nearest_to(
        &self,
        (features, width): (&[f32], usize),
        most: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Vec<Neighbour>>> {
        if width != self.width() {
            return Err(Error::invalid(format!(
                "features {width} wide cannot be compared with those of a gallery, which are {} wide",
                self.width()
            )));
        }
        let count = features.len() / width;
        watched(count, watch, |done| self.0.nearest(features.to_vec(), &vec![NONE; count], most, done)).map(neighbours)
    }

    /// For each picture of the gallery the `most` others that are most like it, as [`Gallery::nearest`].
    ///
    /// # Errors
    /// Too little memory, a lost device; what `watch` gives.
    pub fn nearest_others(&self, most: usize, watch: &mut dyn Watch) -> Result<Vec<Vec<Neighbour>>> {
        watched(self.len(), watch, |done| self.0.nearest_others(most, done)).map(neighbours)
    }

    /// Groups of pictures that are nearly the same. A group begins with its picture of the lowest number, and each other one's cosine
    /// with that is `least` or more, and is given with it. Who keeps the first of each group, and the pictures in no group, keeps no
    /// two that are so alike. Cosines are off by 10⁻⁶ at the most, and `least` is taken as so much less.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a `least` that is not from −1 to 1; too little memory, a lost device; what
    /// `watch` gives.
    pub fn duplicates(&self, least: f64, watch: &mut dyn Watch) -> Result<Vec<Vec<Neighbour>>> {
        watched(self.len(), watch, |done| self.0.groups(least, done)).map(neighbours)
    }
}

impl fmt::Debug for Gallery {
    /// How many, not thousands of values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gallery([{}, {}])", self.len(), self.width())
    }
}

/// Work on `count` pictures or texts, of which `watch` sees how many are done.
fn watched<T>(
    count: usize,
    watch: &mut dyn Watch,
    work: impl FnOnce(&mut dyn FnMut(f64) -> Result<()>) -> Result<T>,
) -> Result<T> {
    watch.begin("comparing", count);
    let found = work(&mut |share| watch.at((share * count as f64) as usize))?;
    watch.end();
    Ok(found)
}

fn neighbours(lists: Vec<Vec<Near>>) -> Vec<Vec<Neighbour>> {
    let of = |(row, cosine): Near| Neighbour { row: row as usize, cosine };
    lists.into_iter().map(|list| list.into_iter().map(of).collect()).collect()
}
