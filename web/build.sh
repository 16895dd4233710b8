#!/usr/bin/env bash
# Builds the page: build.sh [FOLDER], by default target/web/site. Any static server can serve that; WebGPU needs https or localhost.
#   python3 -m http.server --directory target/web/site 8000
# --package FOLDER takes a package that bindings/web/build.sh made before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
package=
if [ "${1:-}" = --package ]; then
    package=$2
    shift 2
fi
out=${1:-target/web/site}
if [ -z "$package" ]; then
    package=target/web/package
    bindings/web/build.sh "$package"
fi
rm -rf "$out"
mkdir -p "$out/tipi" "$out/model" "$out/samples"
cp web/index.html web/style.css web/app.js web/view.js web/offline.js "$out"
cp "$package"/* "$out/tipi"
for file in config.json preprocessor_config.json tokenizer.json model.safetensors; do
    cp "weights/picto/$file" "$out/model"
done
cp weights/picto/ATTRIBUTION.md "$out/model"
cp examples/pictos/ATTRIBUTION.md "$out/samples"

# Four classes of the bundled pictures: three to learn from, the next two to try. Pixel art, line icons: what the model was never
# trained on in this style.
classes=() tests=()
for class in apple bell car umbrella; do
    mapfile -t files < <(find "examples/pictos/shifted/$class" -type f | LC_ALL=C sort | head -5)
    mkdir -p "$out/samples/$class"
    cp "${files[@]}" "$out/samples/$class"
    names=()
    for file in "${files[@]}"; do names+=("\"$class/$(basename "$file")\""); done
    classes+=("\"$class\": [$(IFS=,; echo "${names[*]:0:3}")]")
    tests+=("${names[@]:3}")
done
printf '{"classes": {%s},\n "tests": [%s]}\n' "$(IFS=,; echo "${classes[*]}")" "$(IFS=,; echo "${tests[*]}")" >"$out/samples.json"

# What is kept for when there is no network; the model has a cache of its own.
(cd "$out" && printf '["./"' && find . -type f ! -path './model/*' ! -name '*LICENSE*' ! -name '*.md' ! -name '*.d.ts' ! -name 'package.json' ! -name 'offline.js*' | LC_ALL=C sort | while read -r file; do printf ',\n "%s"' "${file#./}"; done && printf ']\n') >"$out.offline.json"
mv "$out.offline.json" "$out/offline.json"
# A browser installs it anew where its bytes are others.
printf '// %s\n' "$(cd "$out" && find . -type f ! -path './model/*' ! -name offline.js | LC_ALL=C sort | xargs cat | cksum)" >>"$out/offline.js"
printf '%s: %s in all\n' "$out" "$(du -sh "$out" | cut -f1)"
