# How the web's target is built; sourced, not run, from the repository's root. Sets `web_cargo`, which is cargo for it.
# shellcheck shell=bash
#
# rustup's standard library for wasm32-unknown-unknown is used where it is there. Where it is not, and cannot be had, the library
# is built from its sources: TIPI_RUST_SRC names a folder that holds `library`, as Debian's package rust-src has it, of the very
# version of rustc.
export RUSTFLAGS='--cfg getrandom_backend="wasm_js"'
web_sysroot=$(rustc --print sysroot)
if [ -d "$web_sysroot/lib/rustlib/wasm32-unknown-unknown" ]; then
    web_cargo() { cargo "$1" --target wasm32-unknown-unknown "${@:2}"; }
elif [ -n "${TIPI_RUST_SRC:-}" ]; then
    # A toolchain of links whose sources these are: cargo looks for them below the compiler that it calls.
    web_tools=$PWD/target/web-toolchain
    if [ ! -e "$web_tools/lib/rustlib/src/rust/library" ]; then
        rm -rf "$web_tools"
        mkdir -p "$web_tools"
        cp -al "$web_sysroot/bin" "$web_sysroot/lib" "$web_tools" 2>/dev/null || { rm -rf "$web_tools"; mkdir -p "$web_tools"; cp -a "$web_sysroot/bin" "$web_sysroot/lib" "$web_tools"; }
        mkdir -p "$web_tools/lib/rustlib/src"
        ln -s "$TIPI_RUST_SRC" "$web_tools/lib/rustlib/src/rust"
    fi
    web_cargo() {
        RUSTC_BOOTSTRAP=1 RUSTC=$web_tools/bin/rustc "$web_tools/bin/cargo" "$1" -Zbuild-std=std,panic_abort --target wasm32-unknown-unknown "${@:2}"
    }
else
    echo 'the standard library for wasm32-unknown-unknown is missing: rustup target add wasm32-unknown-unknown' >&2
    exit 77
fi
