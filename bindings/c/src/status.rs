//! How calls end: a status, and a message per thread.

use std::cell::RefCell;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tipi::Error;

use crate::foreign::TipiStr;

/// How a call ended. The kinds of failure are those of the library's `Error`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TipiStatus {
    /// It did what was asked.
    TipiOk = 0,
    /// It was asked to stop, and has stopped.
    TipiStopped = 1,
    /// An argument is out of range, contradicts another, or is no handle.
    TipiInvalid = 2,
    /// The library has another ABI than the header that the program was compiled with.
    TipiAbi = 3,
    /// A defect in tipi: please report the message.
    TipiDefect = 4,
    /// A failure that this version has no name for.
    TipiOther = 5,
    /// No GPU at all is visible.
    TipiNoDevice = 10,
    /// The device that was asked for is not there.
    TipiDeviceNotFound = 11,
    /// The device lacks what the work needs.
    TipiUnsupported = 12,
    /// The driver reported an error.
    TipiGpuFailed = 13,
    /// The device was lost.
    TipiDeviceLost = 14,
    /// Too little GPU memory.
    TipiOutOfMemory = 15,
    /// What was computed is NaN or infinite.
    TipiResultNotFinite = 16,
    /// A file or folder could not be read or written.
    TipiIo = 20,
    /// A result would overwrite a file of another kind.
    TipiForeign = 21,
    /// A safetensors file is damaged.
    TipiSafetensors = 22,
    /// A file of PyTorch's is damaged.
    TipiTorch = 23,
    /// A tensor is missing.
    TipiMissingTensor = 24,
    /// A tensor has another shape or type.
    TipiTensorForm = 25,
    /// A tensor holds NaN or infinity.
    TipiNotFinite = 26,
    /// A configuration file is malformed.
    TipiConfig = 27,
    /// A picture could not be decoded.
    TipiImage = 28,
    /// A folder or list of pictures cannot be used as asked.
    TipiData = 29,
    /// A known dataset was asked for by its name alone.
    TipiNoRoot = 30,
    /// An adapter file is malformed, or belongs to another model.
    TipiAdapterFile = 31,
    /// A model could not be fetched.
    TipiHub = 32,
    /// A training diverged.
    TipiDiverged = 33,
}

impl TipiStatus {
    /// All of them.
    const ALL: [TipiStatus; 27] = {
        use TipiStatus::*;
        [
            TipiOk,
            TipiStopped,
            TipiInvalid,
            TipiAbi,
            TipiDefect,
            TipiOther,
            TipiNoDevice,
            TipiDeviceNotFound,
            TipiUnsupported,
            TipiGpuFailed,
            TipiDeviceLost,
            TipiOutOfMemory,
            TipiResultNotFinite,
            TipiIo,
            TipiForeign,
            TipiSafetensors,
            TipiTorch,
            TipiMissingTensor,
            TipiTensorForm,
            TipiNotFinite,
            TipiConfig,
            TipiImage,
            TipiData,
            TipiNoRoot,
            TipiAdapterFile,
            TipiHub,
            TipiDiverged,
        ]
    };

    pub(crate) fn of(error: &Error) -> TipiStatus {
        match error {
            Error::Stopped => TipiStatus::TipiStopped,
            Error::Invalid(_) => TipiStatus::TipiInvalid,
            Error::NoDevice => TipiStatus::TipiNoDevice,
            Error::DeviceNotFound { .. } => TipiStatus::TipiDeviceNotFound,
            Error::Unsupported { .. } => TipiStatus::TipiUnsupported,
            Error::Gpu(_) => TipiStatus::TipiGpuFailed,
            Error::DeviceLost(_) => TipiStatus::TipiDeviceLost,
            Error::OutOfMemory { .. } => TipiStatus::TipiOutOfMemory,
            Error::ResultNotFinite { .. } => TipiStatus::TipiResultNotFinite,
            Error::Io { .. } => TipiStatus::TipiIo,
            Error::Foreign { .. } => TipiStatus::TipiForeign,
            Error::Safetensors { .. } => TipiStatus::TipiSafetensors,
            Error::Torch { .. } => TipiStatus::TipiTorch,
            Error::MissingTensor { .. } => TipiStatus::TipiMissingTensor,
            Error::TensorForm { .. } => TipiStatus::TipiTensorForm,
            Error::NotFinite { .. } => TipiStatus::TipiNotFinite,
            Error::Config { .. } => TipiStatus::TipiConfig,
            Error::Image { .. } => TipiStatus::TipiImage,
            Error::Data { .. } => TipiStatus::TipiData,
            Error::NoRoot { .. } => TipiStatus::TipiNoRoot,
            Error::AdapterFile { .. } => TipiStatus::TipiAdapterFile,
            Error::Hub { .. } => TipiStatus::TipiHub,
            Error::Diverged { .. } => TipiStatus::TipiDiverged,
            _ => TipiStatus::TipiOther,
        }
    }

    fn name(self) -> &'static str {
        match self {
            TipiStatus::TipiOk => "ok\0",
            TipiStatus::TipiStopped => "stopped\0",
            TipiStatus::TipiInvalid => "invalid argument\0",
            TipiStatus::TipiAbi => "other ABI\0",
            TipiStatus::TipiDefect => "defect in tipi\0",
            TipiStatus::TipiOther => "other failure\0",
            TipiStatus::TipiNoDevice => "no device\0",
            TipiStatus::TipiDeviceNotFound => "device not found\0",
            TipiStatus::TipiUnsupported => "unsupported by the device\0",
            TipiStatus::TipiGpuFailed => "GPU error\0",
            TipiStatus::TipiDeviceLost => "device lost\0",
            TipiStatus::TipiOutOfMemory => "out of GPU memory\0",
            TipiStatus::TipiResultNotFinite => "result not finite\0",
            TipiStatus::TipiIo => "input or output\0",
            TipiStatus::TipiForeign => "file of another kind\0",
            TipiStatus::TipiSafetensors => "damaged safetensors file\0",
            TipiStatus::TipiTorch => "damaged file of PyTorch's\0",
            TipiStatus::TipiMissingTensor => "missing tensor\0",
            TipiStatus::TipiTensorForm => "tensor of another form\0",
            TipiStatus::TipiNotFinite => "tensor not finite\0",
            TipiStatus::TipiConfig => "malformed configuration\0",
            TipiStatus::TipiImage => "picture not decoded\0",
            TipiStatus::TipiData => "unusable data\0",
            TipiStatus::TipiNoRoot => "no folder of datasets\0",
            TipiStatus::TipiAdapterFile => "unusable adapter\0",
            TipiStatus::TipiHub => "hub\0",
            TipiStatus::TipiDiverged => "training diverged\0",
        }
    }
}

/// What went wrong.
pub(crate) struct Failure {
    pub status: TipiStatus,
    pub message: String,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// An argument that cannot be.
    pub fn invalid(message: impl Into<String>) -> Failure {
        Failure { status: TipiStatus::TipiInvalid, message: message.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { status: TipiStatus::of(&error), message: error.to_string() }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Text with a NUL at its end, and none within.
pub(crate) fn terminated(text: &str) -> CString {
    // What a terminal would not show either.
    CString::new(text).or_else(|_| CString::new(text.replace('\0', "\u{fffd}"))).unwrap_or_default()
}

fn keep(message: &str) {
    // A thread that is ending has nobody left to tell.
    let _ = LAST.try_with(|last| *last.borrow_mut() = terminated(message));
}

/// Runs what a function does. Nothing unwinds past it.
pub(crate) fn guard(work: impl FnOnce() -> Result<()>) -> TipiStatus {
    // What a panic leaves behind are locks, which are taken whatever happened, and values that only this call had.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => TipiStatus::TipiOk,
        Ok(Err(failure)) => {
            keep(&failure.message);
            failure.status
        }
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().copied();
            let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
            keep(&format!("a defect in tipi, please report it: {said}"));
            // What was thrown may panic when it is dropped.
            std::mem::forget(panic);
            TipiStatus::TipiDefect
        }
    }
}

/// The ABI of the library: `TIPI_ABI_VERSION` of the header that it was built with.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_abi_version() -> u32 {
    crate::ABI_VERSION
}

/// The library's version, as "0.1.0".
///
/// Ownership: the text is there as long as the process is.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_version() -> TipiStr {
    TipiStr::fixed(concat!(env!("CARGO_PKG_VERSION"), "\0"))
}

/// What went wrong in the last call on this thread that did not return `TIPI_OK`, in one line; empty where none failed.
///
/// Ownership: the text is this thread's, and there until the next call of tipi on it that fails.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_last_error() -> TipiStr {
    LAST.try_with(|last| TipiStr::of_c(&last.borrow())).unwrap_or_default()
}

/// A status in words, as "out of GPU memory". `status` is a `TipiStatus`; "unknown status" for another number.
///
/// Ownership: the text is there as long as the process is.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_status_name(status: i32) -> TipiStr {
    let found = TipiStatus::ALL.iter().find(|known| **known as i32 == status);
    TipiStr::fixed(found.map_or("unknown status\0", |status| status.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_a_status_of_its_own() {
        let text = String::new;
        let path = std::path::PathBuf::new;
        let errors = [
            Error::NoDevice,
            Error::DeviceNotFound { asked: text(), available: text() },
            Error::Unsupported { device: text(), reason: text() },
            Error::Gpu(text()),
            Error::DeviceLost(text()),
            Error::OutOfMemory { what: text(), needed: 0, why: text() },
            Error::ResultNotFinite { what: text(), wrong: 0, of: 0, row: 0, cause: text() },
            Error::Io { path: path(), source: std::io::Error::other("") },
            Error::Foreign { path: path(), found: "", wanted: "" },
            Error::Safetensors { path: path(), reason: text() },
            Error::Torch { path: path(), reason: text() },
            Error::MissingTensor { path: path(), tensor: text() },
            Error::TensorForm { path: path(), tensor: text(), expected: text(), found: text() },
            Error::NotFinite { path: path(), tensor: text(), row: 0, column: 0, value: 0.0 },
            Error::Config { path: path(), reason: text() },
            Error::Image { path: path(), reason: text() },
            Error::Data { path: path(), reason: text() },
            Error::NoRoot { title: "", folder: "" },
            Error::AdapterFile { path: path(), reason: text() },
            Error::Hub { repo: text(), reason: text() },
            Error::Diverged { what: "", loss: 0.0, epoch: 0, rate: 0.0 },
            Error::Stopped,
            Error::Invalid(text()),
        ];
        let mut seen: Vec<TipiStatus> = errors.iter().map(TipiStatus::of).collect();
        assert!(!seen.contains(&TipiStatus::TipiOther));
        seen.sort_by_key(|status| *status as i32);
        seen.dedup();
        assert_eq!(seen.len(), errors.len());
        // All but success, another ABI, a defect, and what has no name.
        assert_eq!(seen.len(), TipiStatus::ALL.len() - 4);
        let mut names: Vec<&str> = TipiStatus::ALL.iter().map(|status| status.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TipiStatus::ALL.len());
    }

    #[test]
    fn panics_become_a_status_and_a_message() {
        let shown = || String::from_utf8_lossy(&LAST.with(|last| last.borrow().to_bytes().to_vec())).into_owned();
        assert_eq!(guard(|| panic!("on purpose {}", 7)), TipiStatus::TipiDefect);
        assert!(shown().contains("on purpose 7"), "{}", shown());
        assert_eq!(guard(|| Err(Failure::invalid("a\0b"))), TipiStatus::TipiInvalid);
        assert_eq!(shown(), "a\u{fffd}b");
        // Success leaves the last message.
        assert_eq!(guard(|| Ok(())), TipiStatus::TipiOk);
        assert_eq!(shown(), "a\u{fffd}b");
    }
}
