#!/usr/bin/env bash
# Packs what measures tipi on a machine with a GPU that has no cargo, no registry and no network.
#   pack.sh [--without-files] [ARCHIVE]        (default: target/tipi-gpu.tar.xz)
# There:  tar -xf tipi-gpu.tar.xz && OUT=results tipi-gpu/run.sh
# --without-files leaves fixtures, model and PyTorch's side out, for when the checkout travels too: run.sh is then started
# from its root.
#
# Builds release binaries of the program, the tests and the benches, and strips them. Beside them goes the Vulkan loader of
# this distribution, which needs nothing but libc; drivers are the machine's own.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
files=yes
[ "${1:-}" != --without-files ] || { files=no; shift; }
archive=$(realpath -m "${1:-$repo/target/tipi-gpu.tar.xz}")
tests=(kernels golden towers training)
benches=(probe scaling)
cd "$repo"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
kit=$work/tipi-gpu
mkdir -p "$kit/bin" "$(dirname "$archive")"

echo "building tipi ${tests[*]} ${benches[*]}"
# In one call, with the same features for all, so that the library is compiled once.
# shellcheck disable=SC2046 # words are meant
cargo build --release --message-format=json --bin tipi $(printf -- '--test %s ' "${tests[@]}") \
    $(printf -- '--bench %s ' "${benches[@]}") >"$work/messages"
# Cargo says where each executable lies, so that no hash is guessed.
sed -nE 's/.*"reason":"compiler-artifact".*"target":\{[^}]*"name":"([^"]+)".*"executable":"([^"]+)".*/\1 \2/p' \
    "$work/messages" >"$work/executables"
while read -r name path; do strip -o "$kit/bin/$name" "$path"; done <"$work/executables"
for name in tipi "${tests[@]}" "${benches[@]}"; do
    [ -x "$kit/bin/$name" ] || { echo "cargo built no $name" >&2; exit 1; }
done

install -m 755 benches/gpu/run.sh "$kit/run.sh"
if [ $files = yes ]; then
    # What these tests and benches read, and nothing else.
    mkdir "$kit/tree"
    cp --parents -r tests/golden tests/fixtures weights/picto examples/pictos/shifted benches/peers/pytorch.py "$kit/tree"
fi
# The tests look for their files where they were built; run.sh puts a link there.
echo "$repo" >"$kit/root"
{
    git rev-parse HEAD 2>/dev/null || echo unknown
    git diff --quiet HEAD 2>/dev/null || echo "with changes"
} | paste -sd' ' >"$kit/commit"
(cd "$kit" && apt-get -q download libvulkan1 >/dev/null 2>&1) || echo "no Vulkan loader packed: apt-get cannot fetch libvulkan1"

# Binaries share most of their code; a dictionary as large as all of them stores that once.
tar -C "$work" --sort=name --owner=0 --group=0 -cf - tipi-gpu | xz -T1 --lzma2=preset=4,dict=192MiB >"$archive"
echo "$archive: $(($(stat -c %s "$archive") >> 20)) MiB"
