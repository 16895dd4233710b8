#!/usr/bin/env bash
# Builds the package for the web: build.sh [FOLDER], by default target/web/package.
# Needs Rust's standard library for wasm32-unknown-unknown (`rustup target add wasm32-unknown-unknown`; toolchain.sh knows other ways)
# and wasm-bindgen of the version in Cargo.lock, which is installed to target/tools where it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=${1:-target/web/package}
here=bindings/web
source "$here/toolchain.sh"

wanted=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)
bindgen=$PWD/target/tools/bin/wasm-bindgen
if ! "$bindgen" --version 2>/dev/null | grep -qF " $wanted"; then
    env -u RUSTFLAGS CARGO_TARGET_DIR="$PWD/target/tools/build" cargo install --quiet --root target/tools wasm-bindgen-cli --version "$wanted"
fi

web_cargo build -p tipi-web --profile web
rm -rf "$out"
mkdir -p "$out"
"$bindgen" --target web --no-typescript --out-dir "$out" target/web/wasm32-unknown-unknown/web/tipi_web.wasm
# A tenth smaller, where binaryen is there (npm has it, too).
if command -v wasm-opt >/dev/null; then
    wasm-opt -Os --all-features "$out/tipi_web_bg.wasm" -o "$out/tipi_web_bg.wasm"
fi
cp "$here"/js/* LICENSE-MIT LICENSE-APACHE "$out"
printf '%s: %d bytes of code, %d gzipped\n' "$out" "$(wc -c <"$out/tipi_web_bg.wasm")" "$(gzip -9c "$out/tipi_web_bg.wasm" | wc -c)"
