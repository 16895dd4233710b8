#!/usr/bin/env bash
# Builds the package and the page, and drives both in a headless Chromium with its own driver for the processor (SwiftShader).
#   test.sh [--built] [SCREENSHOTS]       --built takes what was built before
# Needs node, chromium and, for the program that numbers are compared with, a build of tipi (TIPI, by default target/debug/tipi).
# Where something is missing, it says so and ends well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
skip() {
    echo "THE WEB IS NOT TESTED: $1"
    exit 0
}
built=no
[ "${1:-}" != --built ] || { built=yes; shift; }
shots=${1:-}
tipi=${TIPI:-$PWD/target/debug/tipi}
command -v node >/dev/null || skip 'there is no node'
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || skip 'there is no chromium (on Debian: apt-get install chromium)'
[ -x "$tipi" ] || skip "there is no $tipi (cargo build -p tipi-cli)"
if [ $built = no ]; then
    (source bindings/web/toolchain.sh) || skip 'it cannot be built'
    web/build.sh
fi
node=target/web/node
mkdir -p "$node"
(cd "$node" && npm install --silent --no-audit --no-fund playwright-core@1 axe-core@4) || skip 'npm cannot install playwright-core and axe-core'
cp bindings/web/tests/*.mjs web/tests/*.mjs "$node"
node "$node/package.mjs" "$PWD" "$PWD/target/web/package" "$tipi" "$browser"
node "$node/page.mjs" "$PWD" "$PWD/target/web/site" "$tipi" "$browser" ${shots:+"$shots"}
