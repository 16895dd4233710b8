//! Published numbers, to stand beside those measured.
//!
//! Tip-Adapter (arXiv 2207.09519) and CLIP with RN50, means over the eleven datasets; open_clip's table of OpenAI's
//! ViT-B/16, zero-shot, which is of other splits than CoOp's.

use crate::adapt::Method;

/// Numbers of shots that the papers report.
pub const SHOTS: [usize; 5] = [1, 2, 4, 8, 16];

/// Zero-shot accuracy in percent of OpenAI's ViT-B/16, by dataset.
pub const ZERO_SHOT_VIT_B16: [(&str, f64); 10] = [
    ("imagenet", 68.3),
    ("caltech101", 89.0),
    ("oxford_pets", 88.9),
    ("stanford_cars", 64.8),
    ("oxford_flowers", 69.1),
    ("food101", 88.7),
    ("fgvc_aircraft", 24.2),
    ("sun397", 64.4),
    ("dtd", 45.0),
    ("eurosat", 55.9),
];

/// Zero-shot accuracy of OpenAI's ViT-B/16 on a dataset, where it was published.
pub fn zero_shot(dataset: &str) -> Option<f64> {
    ZERO_SHOT_VIT_B16.iter().find(|(name, _)| *name == dataset).map(|(_, accuracy)| *accuracy)
}

/// RN50's mean over the eleven datasets for a method at a number of shots.
pub fn eleven(method: &dyn Method, shots: usize) -> Option<f64> {
    let at = SHOTS.iter().position(|s| *s == shots)?;
    method.info().published.map(|accuracies| accuracies[at])
}
