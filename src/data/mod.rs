//! Pictures on their way to the GPU, all on the CPU: finding and decoding files, resizing exactly as Pillow does,
//! random views for augmentation, and the few-shot choice of the CoOp and Dassl code.
//!
//! The order of use: [`Folder::open`] lists a folder-per-class set, [`few_shot`] splits its items into support,
//! validation and test, [`decode_map`] decodes items on all cores and applies [`resize_center_crop_with`] (or
//! [`Augment::view`] for the support) to each, and [`to_pixels`] turns the result into the numbers a tower reads.
//!
//! With the feature `eval`, `Dataset::open` takes the place of the first two for sets that have parts, the published ones among
//! them, and for a user's CSV file; [`coop_few_shot`] then chooses the few shots.
//!
//! All that lists files goes through [`walk`], which says what is passed over.
//!
//! Everything random here comes from [`PythonRandom`], seeded by the caller. Per-picture draws use a seed derived by
//! [`stream_seed`], so no result depends on the number of threads or on the order in which they run.

pub mod augment;
#[cfg(feature = "eval")]
pub mod dataset;
pub mod decode;
pub mod folder;
pub mod picture;
pub mod python_random;
pub mod resize;
pub mod sampling;
pub mod shots;
pub mod walk;

/// The zero-shot template where nobody gives another.
pub const TEMPLATE: &str = "a photo of a {}.";
/// PiNI's words before a class where nobody gives others.
pub const WORDS: &str = "a photo of a";

pub use augment::{Augment, stream_seed};
#[cfg(feature = "eval")]
pub use dataset::{Dataset, ELEVEN, Found, PartSummary, SHIFTS, Several, equal_files};
pub use decode::{Depth, decode, decode_as, decode_from, is_picture};
#[cfg(feature = "eval")]
pub(crate) use folder::without;
pub use folder::{Decoded, Folder, Item, class_key, class_name, decode_map};
pub use picture::{Picture, Shelf};
pub use python_random::PythonRandom;
pub use resize::{
    Filter, Normalize, Rgb, center_crop, flip_horizontal, resize, resize_bicubic, resize_center_crop,
    resize_center_crop_with, resize_crop, resize_longest_pad, resize_shortest_edge, to_pixels,
};
pub use sampling::{FewShot, Split, coop_few_shot, few_shot, short_classes, too_few};
pub use shots::Shots;
pub use walk::{Walk, list_pictures, list_pictures_with};
