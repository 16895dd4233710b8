//! The environment variables of the GPU layer. An unset or empty one says nothing; one with a value that means nothing is an
//! error, since whoever set it would be left with something else than they asked for.

use std::path::PathBuf;

use super::limits::LimitSet;
use crate::{Error, Result};

/// The value of a variable, where it has one.
pub(super) fn text(name: &str) -> Option<String> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(|v| v.to_string_lossy().into_owned())
}

/// The device that `TIPI_DEVICE`, or its former name `TIPI_ADAPTER`, asks for.
pub(super) fn device() -> Option<String> {
    text("TIPI_DEVICE").or_else(|| text("TIPI_ADAPTER"))
}

/// A variable that switches something on or off.
pub(super) fn switch(name: &str) -> Result<Option<bool>> {
    text(name).map(|value| switched(name, &value)).transpose()
}

fn switched(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "on" => Ok(true),
        "0" | "off" => Ok(false),
        _ => Err(Error::invalid(format!("{name}={value} means nothing; {name} is on (1) or off (0)"))),
    }
}

/// The limits that `TIPI_LIMITS` names.
pub(super) fn limits() -> Result<Option<LimitSet>> {
    let set = |name: String| name.parse().map_err(|e| Error::invalid(format!("TIPI_LIMITS={name} means nothing: {e}")));
    text("TIPI_LIMITS").map(set).transpose()
}

/// A variable that says how much memory, in MiB; the value in bytes.
pub(super) fn mebibytes(name: &str) -> Result<Option<u64>> {
    text(name).map(|value| bytes_of(name, &value)).transpose()
}

fn bytes_of(name: &str, value: &str) -> Result<u64> {
    match value.parse::<u64>().ok().and_then(|mib| mib.checked_mul(1 << 20)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(Error::invalid(format!("{name}={value} is not a number of MiB; 4096 would allow 4 GiB"))),
    }
}

/// Where tipi keeps what it can make again: `TIPI_CACHE_DIR`, else the user's cache folder.
pub(super) fn cache_dir() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("TIPI_CACHE_DIR").or_else(|| {
        if cfg!(target_os = "windows") {
            var("LOCALAPPDATA").map(|p| p.join("tipi"))
        } else if cfg!(target_os = "macos") {
            var("HOME").map(|p| p.join("Library/Caches/tipi"))
        } else {
            var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|p| p.join(".cache"))).map(|p| p.join("tipi"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{bytes_of, switched};

    #[test]
    fn values_mean_something_or_are_errors() {
        for (value, on) in [("1", true), ("on", true), ("ON", true), ("0", false), ("off", false), ("Off", false)] {
            assert_eq!(switched("TIPI_TUNE", value).unwrap(), on, "{value}");
        }
        for value in ["xyz", "2", "yes please", " off", "offf"] {
            let error = switched("TIPI_TUNE", value).unwrap_err().to_string();
            assert!(error.contains(&format!("TIPI_TUNE={value}")) && error.contains("on (1) or off (0)"), "{error}");
        }
        assert_eq!(bytes_of("TIPI_MEMORY", "3").unwrap(), 3 << 20);
        for value in ["many", "0", "-1", "1.5", "99999999999999999999", "18446744073709551615"] {
            assert!(bytes_of("TIPI_MEMORY", value).unwrap_err().to_string().contains("MiB"), "{value}");
        }
    }
}
