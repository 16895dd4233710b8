#!/usr/bin/env bash
# All shader variants through Tint, the WGSL compiler of Chromium, in Dawn for Node (npm's package webgpu).
#   tint.sh [modules] [pipelines]        (default: both)
# modules parses and checks every variant; pipelines takes one variant per entry point on to a driver, SwiftShader.
# Variants that enable what only wgpu knows are counted, not tried: no browser ever sees them.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
arguments modules pipelines -- "$@"
npm_package webgpu 0.6.2
shaders_written
swiftshader
version=$(node -p 'process.argv[1] + ", Node " + process.versions.node' "webgpu $npm_version")
about_tool tint "Dawn" "$version"
for suite in "${suites[@]}"; do
    begun=$SECONDS status=0
    printf '\n== %s\n' "$suite"
    (cd "$npm" && timeout "${TIPI_SUITE_LIMIT:-1800}" node "$here/tint.mjs" "$shaders" "$suite") 2>&1 | tee "$TIPI_CACHE_DIR/out"
    status=${PIPESTATUS[0]}
    [ "$status" -ne 77 ] || skip "Dawn finds no device"
    counted_result "$suite" "$status" $((SECONDS - begun))
done
finish
