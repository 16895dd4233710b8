#!/usr/bin/env bash
# Builds the package and the page, and drives both in a headless Chromium with its own driver for the processor (SwiftShader).
#   test.sh [--quick | --built] [SCREENSHOTS]
# --quick builds without optimising much, --built takes what was built before. Needs node with npm, chromium, which it installs where it
# may, and, for the program that numbers are compared with, a build of tipi (TIPI, by default target/debug/tipi).
# Where something is missing, it says so, checks that all compiles, if that can be, and ends well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
skip() {
    echo "THE WEB IS NOT DRIVEN: $1"
    exec bindings/web/check.sh
}
how=
case ${1:-} in --quick | --built) how=$1; shift ;; esac
shots=${1:-}
tipi=${TIPI:-$PWD/target/debug/tipi}
[ -x "$tipi" ] || skip "there is no $tipi (cargo build -p tipi-cli)"
command -v npm >/dev/null || skip 'there is no node with npm'
if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
    echo 'installing chromium'
    apt-get update -q >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium >/dev/null || true
fi
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || skip 'there is no chromium'
node=$PWD/target/tools/node
mkdir -p "$node"
(cd "$node" && npm install --silent --no-audit --no-fund playwright-core@1 axe-core@4 >/dev/null) || skip 'npm cannot install playwright-core and axe-core'
cp bindings/web/tests/*.mjs web/tests/*.mjs "$node"
lack=$(node "$node/webgpu.mjs" "$browser") || skip "$browser: $lack"

built=target/web
[ "$how" != --quick ] || built=target/web/quick
if [ "$how" != --built ]; then
    # Apart from what follows: it sets how cargo builds.
    (source bindings/web/toolchain.sh) || skip 'it cannot be built'
    bindings/web/build.sh ${how:+"$how"} "$built/package"
fi
web/build.sh --package "$built/package" "$built/site"
node "$node/package.mjs" "$PWD" "$PWD/$built/package" "$tipi" "$browser"
node "$node/page.mjs" "$PWD" "$PWD/$built/site" "$tipi" "$browser" ${shots:+"$shots"}
