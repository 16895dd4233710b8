#!/usr/bin/env bash
# Tests the example application in a window on a virtual screen. Installs what that takes, where it may.
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
# The answers are compared with the program's. All that plain cargo builds is built, so that nothing is built anew for it.
cargo build
# One window at a time: both draw on the processor where there is no GPU.
cargo test -p tipi-desktop -- --nocapture --test-threads 1
