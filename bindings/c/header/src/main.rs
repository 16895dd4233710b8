//! Makes `bindings/c/include/tipi.h` of the binding's sources.
//!
//!     cargo run --manifest-path bindings/c/header/Cargo.toml                # writes it
//!     cargo run --manifest-path bindings/c/header/Cargo.toml -- --check     # fails where it differs

use std::path::Path;
use std::process::ExitCode;

/// Files in the order in which the header has what is in them.
const FILES: [&str; 15] = [
    "foreign",
    "status",
    "handle",
    "owned",
    "watch",
    "gpu",
    "pictures",
    "features",
    "gallery",
    "model",
    "examples",
    "fit",
    "correction",
    "classifier",
    "predictions",
];

fn main() -> ExitCode {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binding = own.parent().unwrap_or(own);
    let config = match cbindgen::Config::from_file(binding.join("cbindgen.toml")) {
        Ok(config) => config,
        Err(error) => return fail(&format!("cbindgen.toml: {error}")),
    };
    let sources = FILES.iter().map(|name| binding.join("src").join(name).with_extension("rs"));
    let builder = sources.fold(cbindgen::Builder::new().with_config(config), cbindgen::Builder::with_src);
    let mut made = Vec::new();
    match builder.generate() {
        Ok(header) => header.write(&mut made),
        Err(error) => return fail(&error.to_string()),
    }
    let path = binding.join("include/tipi.h");
    if std::env::args().any(|arg| arg == "--check") {
        return match std::fs::read(&path) {
            Ok(kept) if kept == made => ExitCode::SUCCESS,
            Ok(_) => fail("include/tipi.h is not what the sources make: run this without --check, and commit it"),
            Err(error) => fail(&format!("include/tipi.h: {error}")),
        };
    }
    match std::fs::write(&path, made) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("include/tipi.h: {error}")),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}
