#!/usr/bin/env bash
# Shader variants through naga's HLSL and Microsoft's compiler FXC, which Windows brings along and wgpu uses where there is no
# newer one; under Wine, with the library that npm's package webgpu carries.
#   fxc.sh [entries|all]        (default: entries)
# entries takes one variant per entry point; all takes every one, which takes a quarter of an hour and more. Variants with subgroups are for newer
# compilers only, and left out.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
arguments entries -- "$@"

PATH=$PATH:/usr/lib/wine
wine=$(command -v wine64 || command -v wine) || {
    installed wineserver wine64
    wine=$(command -v wine64 || command -v wine) || skip "Wine's package brought no wine64"
}
installed x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64-win32
npm_package webgpu 0.6.2
shaders_written

work=$cache/fxc
mkdir -p "$work"
x86_64-w64-mingw32-gcc -O1 -Wall -o "$work/fxc.exe" "$here/fxc.c" || broken "fxc.c does not compile"
cp "$npm/node_modules/webgpu/dist/win32-x64/d3dcompiler_47.dll" "$work/"
# A Windows of its own, without windows; the library beside the program goes before Wine's.
export WINEPREFIX=$cache/wine WINEDEBUG=-all WINEDLLOVERRIDES='d3dcompiler_47=n;mscoree=;mshtml='
(cd "$work" && "$wine" fxc.exe </dev/null) >"$cache/wine.log" 2>&1 ||
    { tail -3 "$cache/wine.log" >&2; skip "Wine does not start here"; }
about_tool fxc "Microsoft's FXC" "d3dcompiler_47 of webgpu $npm_version, $("$wine" --version | tr -d '\r')"

for suite in "${suites[@]}"; do
    begun=$SECONDS status=0 jobs=$(nproc)
    printf '\n== %s\n' "$suite"
    rm -f "$work"/part-* "$work"/out-*
    node - "$shaders" "$suite" "$jobs" "$work" >"$work/left-out" <<'E' || broken "the list cannot be read"
const [folder, suite, jobs, work] = process.argv.slice(2);
const fs = require('node:fs');
const list = JSON.parse(fs.readFileSync(`${folder}/list.json`, 'utf8'));
const key = (v) => (suite === 'all' ? v.key : `${v.shader}/${v.entry}`);
const chosen = new Map();
for (const v of list) {
  if (v.hlsl_entry && !chosen.has(key(v))) chosen.set(key(v), v);
}
console.log(new Set(list.map(key)).size - chosen.size);
// A process for each core; slow variants lie side by side in the list, so they go to each in turn.
for (let i = 0; i < jobs; i++) {
  const part = [...chosen.values()].filter((_, n) => n % jobs === i).map((v) => `${v.file}.hlsl\t${v.hlsl_entry}\n`);
  fs.writeFileSync(`${work}/part-${i}`, part.join(''));
}
E
    processes=()
    for part in "$work"/part-*; do
        # From where the texts lie, so that messages are short.
        (cd "$shaders" && timeout "${TIPI_SUITE_LIMIT:-1800}" "$wine" "$work/fxc.exe" <"$part" >"${part/part-/out-}") &
        processes+=($!)
    done
    for process in "${processes[@]}"; do wait "$process" || status=$?; done
    cat "$work"/out-* | tr -d '\r' >"$work/all"
    [ "$(cat "$work"/part-* | wc -l)" -eq "$(grep -cE '^(ok|refused) ' "$work/all")" ] || status=2
    # Each shader's time, the slowest first; then what was refused, with why.
    grep -E '^ok ' "$work/all" | sort -k2 -rn | awk '{ printf "%8.2f s %7d bytes  %s\n", $2, $3, $4 }'
    grep -vE '^ok ' "$work/all"
    printf 'passed %d, refused %d, left out %d\n' "$(grep -c '^ok ' "$work/all")" "$(grep -c '^refused ' "$work/all")" \
        "$(cat "$work/left-out")" | tee "$TIPI_CACHE_DIR/out"
    counted_result "$suite" "$status" $((SECONDS - begun))
done
finish
