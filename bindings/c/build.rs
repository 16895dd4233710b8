//! The shared library's name for the loader, as cargo-c gives it, and what it shows: the symbols of a decoder that is built in (`dav1d_…`) would
//! otherwise be taken for those of a program's own, or the other way round.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    let version = format!("{}.{}", of("CARGO_PKG_VERSION_MAJOR"), of("CARGO_PKG_VERSION_MINOR"));
    match of("CARGO_CFG_TARGET_OS").as_str() {
        "linux" | "freebsd" => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtipi_c.so.{version}");
            println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
        }
        "macos" => println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libtipi_c.{version}.dylib"),
        _ => {}
    }
}
