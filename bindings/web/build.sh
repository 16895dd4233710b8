#!/usr/bin/env bash
# Builds the package for the web: build.sh [--quick] [FOLDER], by default target/web/package.
# Needs Rust's standard library for wasm32-unknown-unknown (`rustup target add wasm32-unknown-unknown`; toolchain.sh knows other ways).
# binaryen's wasm-opt makes the module smaller; it is taken from npm where there is none. --quick is for tests: the whole is not optimised, and
# wasm-opt writes it as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
profile=web level=-Os
[ "${1:-}" != --quick ] || { profile=web-quick level=-O0; shift; }
out=${1:-target/web/package}
here=bindings/web
tools=$PWD/target/tools
source "$here/toolchain.sh"

# The other half of wasm-bindgen is a program for this machine.
env -u RUSTFLAGS CARGO_TARGET_DIR="$tools/glue" cargo build --quiet --manifest-path $here/glue/Cargo.toml
web_cargo build -p tipi-web --profile $profile
rm -rf "$out"
mkdir -p "$out"
"$tools/glue/debug/tipi-web-glue" "$CARGO_TARGET_DIR/wasm32-unknown-unknown/$profile/tipi_web.wasm" "$out"

# smaller FROM TO: by wasm-opt, of this machine or of npm; fails where there is neither.
smaller() {
    local optimise=(wasm-opt)
    # An old one does not know all that is named below.
    if [[ $(wasm-opt --help 2>/dev/null) != *--enable-call-indirect-overlong* ]]; then
        command -v npm >/dev/null || return 1
        mkdir -p "$tools/node"
        (cd "$tools/node" && npm install --silent --no-audit --no-fund binaryen@132 >/dev/null) || return 1
        optimise=(node "$tools/node/node_modules/binaryen/bin/wasm-opt")
    fi
    # By name what browsers have and rustc uses: with all features there are imports that no browser reads.
    local features=(bulk-memory bulk-memory-opt call-indirect-overlong multivalue mutable-globals nontrapping-float-to-int reference-types sign-ext)
    "${optimise[@]}" $level "${features[@]/#/--enable-}" --strip-debug --strip-producers "$1" -o "$2"
}
module=$out/tipi_web_bg.wasm
if smaller "$module" "$module.smaller"; then
    mv "$module.smaller" "$module"
else
    echo 'without wasm-opt the module is 7 % larger: install binaryen, or npm'
fi
cp "$here"/js/* LICENSE-MIT LICENSE-APACHE "$out"
printf '%s: %d bytes of code, %d gzipped\n' "$out" "$(wc -c <"$module")" "$(gzip -9c "$module" | wc -c)"
