//! Grey of 16 bits: whether it is clipped, as Pillow does, or scaled; and which pictures were clipped, so that people learn of it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{png, tiff};

/// What becomes of greyscale of 16 bits, in PNG and TIFF files. Colour of 16 bits keeps its high byte either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Depth {
    /// Clipped to 0…255, which turns most such pictures white: what Pillow's `convert("RGB")` does, and so what models were
    /// trained and measured with.
    #[default]
    Clip,
    /// Scaled: 0…65535 become 0…255.
    Scale,
}

impl Depth {
    /// Whether it is the one that nobody has to ask for.
    pub fn is_default(&self) -> bool {
        *self == Depth::default()
    }
}

/// Whether a file's header states greyscale of 16 bits, without alpha.
pub(super) fn is_deep_grey(file: &[u8]) -> bool {
    png::is_deep_grey(file) || tiff::is_deep_grey(file)
}

/// Pictures that were clipped, by hashes of their paths.
static CLIPPED: Mutex<Option<HashSet<u64>>> = Mutex::new(None);

/// Notes a picture that was clipped; the same one counts once.
pub(super) fn note_clipped(path: &Path) {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let mut clipped = CLIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    clipped.get_or_insert_default().insert(hasher.finish());
}

/// How many pictures of 16-bit greyscale this process has clipped for a model since this was last asked.
pub fn take_clipped() -> usize {
    CLIPPED.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(0, |clipped| clipped.len())
}
