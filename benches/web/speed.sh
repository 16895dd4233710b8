#!/usr/bin/env bash
# tipi in a page, natively, and onnxruntime-web beside it, of two models in one run: speed.sh WORK [PACKAGE]
# WORK is a folder for what is made on the way: a random ViT-B/32, image towers as ONNX (0.7 GB), onnxruntime-web. PACKAGE is what
# bindings/web/build.sh made, target/web/package by default.
#
# Needs node with npm, chromium with SwiftShader beside it, and two Pythons: PYTHON (python3) with what models.py needs, and TIPI_PYTHON
# (target/python/bin/python: bindings/python/test.sh makes it) with tipi. The native runs are on Chromium's driver, with a browser's limits,
# and on the machine's own; DRIVER names the file of another for the second.
# It takes a quarter of an hour of an otherwise idle machine of two cores, most of it on SwiftShader. There ViT-B/32 gets one picture, and PiNI is left out,
# whose steps take minutes. In the page its weights are tried in f16, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
mkdir -p "$1"
work=$(cd "$1" && pwd)
package=$(cd "${2:-target/web/package}" && pwd)
pictures=$root/examples/pictos/shifted
browser=$(command -v chromium || command -v google-chrome)
driver=${SWIFTSHADER:-$(dirname "$(readlink -f "$browser")")/vk_swiftshader_icd.json}
[ -f "$driver" ] || driver=/usr/lib/chromium/vk_swiftshader_icd.json
python=${TIPI_PYTHON:-target/python/bin/python}
export TIPI_TUNE=off

(cd "$work" && npm install --silent --no-audit --no-fund playwright-core@1 onnxruntime-web@1 >/dev/null)
cp benches/web/speed.mjs bindings/web/tests/server.mjs "$work"
[ -d "$work/vitb32" ] || "${PYTHON:-python3}" benches/web/models.py random "$work/vitb32"
[ -f "$work/onnx/vitb32.onnx" ] || {
    mkdir -p "$work/onnx"
    "${PYTHON:-python3}" benches/web/models.py onnx weights/picto "$work/onnx/picto.onnx"
    "${PYTHON:-python3}" benches/web/models.py onnx "$work/vitb32" "$work/onnx/vitb32.onnx"
}

printf '| model | engine | load s | first answer s | first pictures s | pictures/s | PiNI step s |\n| --- | --- | --- | --- | --- | --- | --- |\n'
# of NAME FOLDER OWN [OPTION...]: a model's rows; OWN are options for the machine's own driver alone.
of() {
    local all=(--name "$1" --model "$2" --pictures "$pictures" "${@:4}")
    node "$work/speed.mjs" --package "$package" --chromium "$browser" "${all[@]}" \
        --onnx "$work/onnx/$1.onnx" --runtime "$work/node_modules/onnxruntime-web/dist"
    VK_ICD_FILENAMES=$driver TIPI_LIMITS=webgpu "$python" benches/web/speed.py "${all[@]}"
    # shellcheck disable=SC2086 # options are several words
    env ${DRIVER:+VK_ICD_FILENAMES="$DRIVER"} "$python" benches/web/speed.py "${all[@]}" $3
}
of picto "$root/weights/picto" ''
of vitb32 "$work/vitb32" '--shots 1 --epochs 4' --count 1 --epochs 0
node "$work/speed.mjs" --package "$package" --chromium "$browser" --name vitb32 --model "$work/vitb32" --pictures "$pictures" \
    --precision f16 --count 1 --epochs 0
