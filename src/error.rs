//! The library's errors. Each names what is wrong (a file, a tensor, an argument) and, if there is one, the remedy.
//! Applications match on the variant; [`std::fmt::Display`] gives one line.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::text;

/// Everything that can go wrong in tipi.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No GPU at all is visible to wgpu.
    #[error(
        "no GPU found: install a Vulkan driver (on Debian or Ubuntu: apt-get install libvulkan1 mesa-vulkan-drivers)"
    )]
    NoDevice,
    /// The device asked for by name or index is not there.
    #[error("no device '{}' (have: {}); `tipi devices` lists them", name(asked), reason(available))]
    DeviceNotFound {
        /// What [`crate::gpu::DeviceOptions::device`] or `TIPI_DEVICE` said.
        asked: String,
        /// The devices that exist, with their indices.
        available: String,
    },
    /// The device lacks what the work needs.
    #[error("device {}: {}", name(device), self::reason(reason))]
    Unsupported {
        /// The device's name.
        device: String,
        /// What it lacks.
        reason: String,
    },
    /// The driver reported an error, or a command failed validation.
    #[error("GPU error: {}", reason(.0))]
    Gpu(String),
    /// The device was lost (driver reset, watchdog, unplugged).
    #[error("the GPU was lost: {}; start again, with a smaller batch if it timed out", reason(.0))]
    DeviceLost(String),
    /// A buffer does not fit the device's memory or its binding limits.
    #[error("out of GPU memory: {what} needs {needed} bytes, {why}; use a smaller batch")]
    OutOfMemory {
        /// What was to be allocated.
        what: String,
        /// Bytes asked for.
        needed: u64,
        /// Why that is too much.
        why: String,
    },
    /// What was computed on the GPU is NaN or infinite.
    #[error("{what} came out as NaN or infinity ({wrong} of {of} values, the first in row {row}): {cause}")]
    ResultNotFinite {
        /// What was computed.
        what: String,
        /// Numbers that are not finite.
        wrong: usize,
        /// Numbers in all.
        of: usize,
        /// Row of the first of them, from 0 on.
        row: usize,
        /// What is likely wrong.
        cause: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {source}{}", path.display(), remedy(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A result would overwrite a file of another kind.
    #[error(
        "{}: not overwritten, because it is {found} and not {wanted}; give another name for the result",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What may be overwritten there.
        wanted: &'static str,
    },
    /// A safetensors file is truncated, hostile or malformed.
    #[error("{}: not a valid safetensors file: {}", path.display(), self::reason(reason))]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of PyTorch's is truncated, hostile or malformed, or asks for more than tensors.
    #[error("{}: not a file of PyTorch's weights that can be read: {}", path.display(), self::reason(reason))]
    Torch {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A tensor that must be there is not.
    #[error("{}: tensor '{}' is missing; export or download the file again", path.display(), name(tensor))]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A tensor has another shape or dtype than it must have.
    #[error(
        "{}: tensor '{}' is {}, expected {}; the file does not fit its description",
        path.display(),
        name(tensor),
        name(found),
        name(expected)
    )]
    TensorForm {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Shape and dtype that would be right.
        expected: String,
        /// Shape and dtype that are there.
        found: String,
    },
    /// A tensor holds NaN or infinity.
    #[error(
        "{}: tensor '{}' is not finite: {value} in row {row}, column {column}; the file is damaged, or comes from a training \
         that diverged",
        path.display(),
        name(tensor)
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The first such value's row, all dimensions but the last folded into rows.
        row: usize,
        /// Its column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A configuration file is malformed, or contradicts itself or the weights.
    #[error("{}: {}", path.display(), self::reason(reason))]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A picture could not be decoded.
    #[error("{}: cannot decode picture: {}", path.display(), self::reason(reason))]
    Image {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// A data folder or list cannot be used as asked.
    #[error("{}: {}", path.display(), self::reason(reason))]
    Data {
        /// The folder or list.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A known dataset was asked for by its name alone.
    #[error("{title}: say where the datasets are (`root`, the folder that holds {folder})")]
    NoRoot {
        /// The dataset's name for people.
        title: &'static str,
        /// Its folder below the root.
        folder: &'static str,
    },
    /// An adapter file (what `tipi fit` writes) is malformed or belongs to another model.
    #[error("{}: {}", path.display(), self::reason(reason))]
    AdapterFile {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A model could not be fetched from the hub, or not found in its cache.
    #[error("model {}: {}", name(repo), self::reason(reason))]
    Hub {
        /// The repository.
        repo: String,
        /// What is wrong and what helps.
        reason: String,
    },
    /// A training's loss is no longer a number.
    #[error("{what}: training diverged (the loss is {loss} in epoch {epoch}); use a lower learning rate than {rate}")]
    Diverged {
        /// What was trained.
        what: &'static str,
        /// The loss.
        loss: f32,
        /// The epoch, from 1 on.
        epoch: usize,
        /// The rate.
        rate: f64,
    },
    /// The work was asked to stop, for example by Ctrl-C, and has stopped.
    #[error("stopped")]
    Stopped,
    /// An argument or shape is out of range or contradicts another.
    #[error("{}", reason(.0))]
    Invalid(String),
}

/// A name from a file or an argument, cut to what a message can show.
fn name(text: &str) -> Cow<'_, str> {
    text::cut(text, text::NAME)
}

/// What is wrong, cut likewise, because it may repeat the contents of a file.
fn reason(text: &str) -> Cow<'_, str> {
    text::cut(text, text::REASON)
}

/// The remedy for an I/O error, to end its sentence with.
fn remedy(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::NotFound => "; check the path",
        std::io::ErrorKind::PermissionDenied => "; check that you may read and write there",
        std::io::ErrorKind::StorageFull => "; make room on the disk",
        _ => "",
    }
}

/// The library's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

// The program makes errors, too: what it does not need is the crate's own, and none of it is shown.
impl Error {
    /// Wraps an I/O error with the path it concerns.
    #[doc(hidden)]
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// Whether a file or folder is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }

    /// An [`Error::Data`] about `path`.
    #[doc(hidden)]
    pub fn data(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Error::Data { path: path.as_ref().to_path_buf(), reason: reason.into() }
    }

    /// An [`Error::Config`] about `path`.
    pub(crate) fn config(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Error::Config { path: path.as_ref().to_path_buf(), reason: reason.into() }
    }

    /// An [`Error::AdapterFile`] about `path`.
    pub(crate) fn adapter_file(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Error::AdapterFile { path: path.as_ref().to_path_buf(), reason: reason.into() }
    }

    /// An [`Error::Hub`] about `repo`.
    #[cfg(feature = "hub")]
    pub(crate) fn hub(repo: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Hub { repo: repo.into(), reason: reason.into() }
    }

    /// An [`Error::Invalid`].
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Error::Invalid(reason.into())
    }
}
