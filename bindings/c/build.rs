//! The shared library's name for the loader. cargo-c gives the same.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    let version = format!("{}.{}", of("CARGO_PKG_VERSION_MAJOR"), of("CARGO_PKG_VERSION_MINOR"));
    match of("CARGO_CFG_TARGET_OS").as_str() {
        "linux" | "freebsd" => println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtipi_c.so.{version}"),
        "macos" => println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libtipi_c.{version}.dylib"),
        _ => {}
    }
}
