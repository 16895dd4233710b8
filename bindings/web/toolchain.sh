# How the web's target is built; sourced, not run, from the repository's root. Sets `web_cargo`, which is cargo for it, and returns
# 77 where there is no way.
# shellcheck shell=bash
#
# rustup's standard library for wasm32-unknown-unknown is used where it is there. Where it is not, the library is built from its
# sources: of TIPI_RUST_SRC, a folder that holds `library` of the very version of rustc, or of Debian's package rust-src.
export RUSTFLAGS='--cfg getrandom_backend="wasm_js"'
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/web}

# Debian's package with the sources of this version of the library, unpacked; prints the folder.
debian_rust_src() {
    local mirror=${TIPI_DEBIAN_MIRROR:-http://deb.debian.org/debian} suite=trixie-backports version place to
    version=$(rustc --version | cut -d' ' -f2)
    to=${XDG_CACHE_HOME:-$HOME/.cache}/tipi-web/rust-src-$version
    if [ ! -d "$to/usr/src/rustc-$version/library" ]; then
        command -v dpkg-deb >/dev/null && command -v curl >/dev/null && command -v xz >/dev/null || return 1
        place=$(curl -fsS --max-time 60 "$mirror/dists/$suite/main/binary-amd64/Packages.xz" 2>/dev/null | xz -dc 2>/dev/null |
            sed -n "s|^Filename: \(pool/main/r/rustc/rust-src_$version+.*_all.deb\)$|\1|p" | head -1)
        [ -n "$place" ] || return 1
        mkdir -p "$to"
        curl -fsS --max-time 300 "$mirror/$place" -o "$to/package.deb" && dpkg-deb -x "$to/package.deb" "$to" || return 1
        rm "$to/package.deb"
    fi
    printf '%s\n' "$to/usr/src/rustc-$version"
}

web_sysroot=$(rustc --print sysroot)
if [ -d "$web_sysroot/lib/rustlib/wasm32-unknown-unknown" ]; then
    web_cargo() { cargo "$1" --target wasm32-unknown-unknown "${@:2}"; }
elif TIPI_RUST_SRC=${TIPI_RUST_SRC:-$(debian_rust_src)}; then
    # Cargo looks for the sources below the compiler that it calls: this is a copy of it with these sources.
    web_tools=$PWD/target/web-toolchain
    if [ ! -e "$web_tools/lib/rustlib/src/rust/library" ]; then
        rm -rf "$web_tools"
        mkdir -p "$web_tools"
        # Hard links where that can be: the toolchain has some 600 MB.
        cp -al "$web_sysroot/bin" "$web_sysroot/lib" "$web_tools" 2>/dev/null || cp -a "$web_sysroot/bin" "$web_sysroot/lib" "$web_tools"
        mkdir -p "$web_tools/lib/rustlib/src"
        ln -sfn "$TIPI_RUST_SRC" "$web_tools/lib/rustlib/src/rust"
    fi
    web_cargo() {
        RUSTC_BOOTSTRAP=1 RUSTC=$web_tools/bin/rustc "$web_tools/bin/cargo" "$1" -Zbuild-std=std,panic_abort --target wasm32-unknown-unknown "${@:2}"
    }
else
    echo 'the standard library for wasm32-unknown-unknown is missing: rustup target add wasm32-unknown-unknown' >&2
    return 77
fi
