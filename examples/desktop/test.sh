#!/usr/bin/env bash
# Tests the example application in a window on a virtual screen. Installs what that takes, where it may.
#   test.sh [--tools]        --tools: only installs; fails where it cannot
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

missing=()
for pair in Xvfb:xvfb xdotool:xdotool import:imagemagick; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if ((${#missing[@]})) && command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
    echo "installing ${missing[*]}"
    apt-get update -q >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null && missing=()
fi
if ((${#missing[@]})); then
    echo "THE WINDOW IS NOT DRIVEN: ${missing[*]} cannot be installed here; the other tests run"
else
    export TIPI_DRIVE=1
fi
if [[ ${1:-} == --tools ]]; then
    exit $((${#missing[@]} > 0))
fi
# The answers are compared with the program's. It is built with what plain cargo builds, so that nothing is built anew for it.
cargo build
cargo test -p tipi-desktop -- --nocapture
