#!/usr/bin/env bash
# Tests the C binding from C and C++: the header, the examples, equal bits with the program, misuse, memory, random calls.
#   test.sh                                             what CI runs
#   ROUNDS=1000 GPU_ROUNDS=100 FUZZ=600 test.sh         by hand
#   VALGRIND=1 test.sh                                  runs an example and the wrong calls under valgrind, too
#   BUILT=FOLDER test.sh                                builds nothing: libraries and program are in the folder
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
rounds=${ROUNDS:-30} gpu_rounds=${GPU_ROUNDS:-5} fuzz=${FUZZ:-20} seed=${SEED:-1}
# Nothing is measured, fetched, or left in anybody's cache.
export TIPI_TUNE=off HF_HUB_OFFLINE=1

say() { printf '\n* %s\n' "$*"; }
if ! command -v cc >/dev/null || ! command -v c++ >/dev/null; then
    echo "THE C BINDING IS NOT TRIED FROM C: there is no C and C++ compiler"
    exit 0
fi

say 'the header is what the sources make'
cargo run --quiet --manifest-path bindings/c/header/Cargo.toml -- --check

say 'the libraries and the program, as the tests have them'
built=${BUILT:-${CARGO_TARGET_DIR:-target}/debug}
[[ -n ${BUILT:-} ]] || cargo build --workspace --lib --bins --tests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'echo "line $LINENO of bindings/c/test.sh failed; what was said last:" >&2; tail -n 5 "$work"/*.err >&2 || true' ERR
bindings/c/install.sh "$work/prefix" "$built"
export PKG_CONFIG_PATH=$work/prefix/lib/pkgconfig LD_LIBRARY_PATH=$work/prefix/lib DYLD_LIBRARY_PATH=$work/prefix/lib
if command -v pkg-config >/dev/null; then
    flags=$(pkg-config --cflags --libs tipi)
    private=$(pkg-config --variable=libdir tipi >/dev/null && sed -n 's/^Libs.private: //p' "$work/prefix/lib/pkgconfig/tipi.pc")
else
    flags="-I$work/prefix/include -L$work/prefix/lib -ltipi_c"
    private=$(sed -n 's/^Libs.private: //p' "$work/prefix/lib/pkgconfig/tipi.pc")
fi
if [[ $(uname -s) == Linux ]]; then
    others=$(nm -D --defined-only "$work/prefix/lib/libtipi_c.so" | awk '{print $3}' | grep -v '^tipi_' || true)
    [[ -z $others ]] || { echo "the shared library shows more than tipi_*: $others" >&2; exit 1; }
    nm -D --defined-only "$work/prefix/lib/libtipi_c.so" | awk '{print $3}' | sort >"$work/shown"
    grep -oE '\<tipi_[a-z_]+\(' bindings/c/include/tipi.h | tr -d '(' | grep -v '^tipi_str$' | sort -u >"$work/declared"
    # Comments name functions without brackets.
    diff "$work/shown" "$work/declared"
fi

say 'the header alone, and all programs without a warning'
strict='-Wall -Wextra -Werror -pedantic'
for standard in c99 c11; do
    echo '#include <tipi.h>' | cc -std=$standard $strict -fsyntax-only $flags -x c -
done
for standard in c++11 c++17; do
    echo '#include <tipi.h>' | c++ -std=$standard $strict -fsyntax-only $flags -x c++ -
done
# The program's own code under the address and undefined-behaviour sanitizers, which also watch all memory that tipi allocates and copies.
sanitize=
if echo 'int main(void) { return 0; }' | cc -fsanitize=address,undefined -x c - -o "$work/try" 2>/dev/null && "$work/try"; then
    sanitize='-fsanitize=address,undefined -fno-sanitize-recover=all -g'
    cc -std=c11 -O1 -c bindings/c/tests/keep.c -o "$work/keep.o"
    sanitize+=" -rdynamic $work/keep.o"
    # What drivers leave when the process ends is not ours. Memory of tipi's that is lost has tipi in its trace.
    printf 'leak:%s\n' libvulkan libLLVM libdrm libgallium swrast radeonsi dl_init dlopen >"$work/leaks"
    export LSAN_OPTIONS=suppressions=$work/leaks:print_suppressions=0 ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
else
    echo 'the compiler has no sanitizers here'
fi
for name in answers rounds misuse fuzz; do
    checked=$sanitize
    # Memory is watched as it is without a sanitizer, which keeps what was freed.
    [[ $name != rounds ]] || checked=
    cc -std=c11 -O1 $strict $checked "bindings/c/tests/$name.c" $flags -o "$work/${name/fuzz/random}"
done
cc -std=c11 $strict $sanitize bindings/c/examples/fewshot.c $flags -o "$work/fewshot"
c++ -std=c++17 $strict $sanitize bindings/c/examples/fewshot.cpp $flags -o "$work/fewshot-cpp"
cc -std=c11 $strict bindings/c/examples/fewshot.c -I"$work/prefix/include" "$work/prefix/lib/libtipi_c.a" $private -o "$work/fewshot-static"

say 'the examples, and equal bits with the program'
model=weights/picto data=$work/icons
mkdir "$data"
for class in apple bell camera car fish umbrella; do
    cp -r "examples/pictos/shifted/$class" "$data/"
done
pictures=("$data"/bell/*.png "$data"/car/*.png "$data"/apple/*.png)
cp Cargo.toml "$work/broken.png"
"$work/fewshot" $model $data tip-adapter "$work/c.safetensors" "${pictures[@]}" "$work/broken.png" /no/such.png >"$work/c.txt" 2>"$work/c.err"
"$work/fewshot-cpp" $model $data tip-adapter "$work/cpp.safetensors" "${pictures[@]}" "$work/broken.png" /no/such.png >"$work/cpp.txt" 2>"$work/cpp.err"
"$work/fewshot-static" $model $data tip-adapter "$work/static.safetensors" "${pictures[@]}" >/dev/null 2>&1
grep -q 'stopped: no patience' "$work/cpp.err"
grep -q '^input or output: /no/such/adapter' "$work/cpp.err"
grep -q 'broken.png: cannot decode picture' "$work/c.txt"
[[ $(wc -l <"$work/c.txt") == $((${#pictures[@]} + 2)) ]]
# Both say the same classes.
diff <(sed 's/ (.*//' "$work/c.txt" | head -n ${#pictures[@]}) <(head -n ${#pictures[@]} "$work/cpp.txt")
"$built/tipi" fit tip-adapter --model $model --data $data --shots 2 --seed 1 --template 'an icon of {}' --out "$work/tipi.safetensors" 2>"$work/tipi.err"
for of in c cpp static; do
    cmp "$work/$of.safetensors" "$work/tipi.safetensors"
done
"$work/answers" $model "$work/c.safetensors" "$work/features" "${pictures[@]}" >"$work/answers.txt"
"$built/tipi" embed image --model $model --out "$work/features.npy" "${pictures[@]}" 2>"$work/tipi.err"
tail -c "$(wc -c <"$work/features")" "$work/features.npy" | cmp - "$work/features"
echo "${#pictures[@]} pictures: adapters and features are the program's, byte for byte"
if command -v python3 >/dev/null; then
    "$built/tipi" predict --model $model --adapter "$work/tipi.safetensors" --jsonl --top 3 --scores "${pictures[@]}" >"$work/predict.jsonl" 2>"$work/tipi.err"
    python3 - "$work/answers.txt" "$work/predict.jsonl" <<'EOF'
import json, struct, sys

def f32(value):
    return struct.unpack("f", struct.pack("f", value))[0]

ours = [line.split() for line in open(sys.argv[1])]
theirs = [json.loads(line) for line in open(sys.argv[2])]
assert len(ours) == len(theirs) > 0
count = 0
for (number, *scored), answer in zip(ours, theirs):
    assert len(scored) == 9 and len(answer["top"]) == 3, (number, answer)
    for (name, probability, logit), top in zip(zip(scored[::3], scored[1::3], scored[2::3]), answer["top"]):
        assert name == top["class"], (number, name, top)
        assert float.fromhex(probability) == top["probability"], (number, probability, top)
        assert float.fromhex(logit) == f32(top["logit"]), (number, logit, top)
        count += 1
print(f"{count} classes with probability and logit are those of `tipi predict`, bit for bit")
EOF
fi

say 'misuse'
"$work/misuse" $model "${pictures[0]}"
if [[ -n ${VALGRIND:-} ]]; then
    cc -std=c11 -g $strict bindings/c/tests/misuse.c $flags -o "$work/misuse-plain"
    cc -std=c11 -g $strict bindings/c/examples/fewshot.c $flags -o "$work/fewshot-plain"
    # Reports of ours are those whose innermost frames are: the loader and the driver's compiled shaders have some of their own.
    for run in "misuse-plain $model ${pictures[0]}" "fewshot-plain $model $data zero-shot $work/v.safetensors ${pictures[0]}"; do
        # shellcheck disable=SC2086
        valgrind --quiet --num-callers=40 --log-file="$work/valgrind.log" "$work"/$run
        if ! awk '/== (Invalid|Use of|Conditional|Syscall|Mismatched|Source)/ { frames = 4 }
                  frames > 0 && /(at|by) 0x/ { frames--; if (/libtipi_c|misuse|fewshot/) ours = 1 }
                  END { exit ours }' "$work/valgrind.log"; then
            cat "$work/valgrind.log"
            exit 1
        fi
        echo "valgrind has no report of ours: ${run%% *}"
    done
fi

say "$rounds rounds of load, encode, drop, and $gpu_rounds with the device"
if [[ $(uname -s) == Linux ]]; then
    "$work/rounds" $model "${pictures[0]}" "$rounds" "$gpu_rounds"
fi

say "$fuzz s of random calls"
mkdir -p "$work/fuzz/icons/bell" "$work/fuzz/icons/car"
cp $data/bell/*.png "$work/fuzz/icons/bell/"
cp $data/car/*.png "$work/fuzz/icons/car/"
cp $data/bell/lucide-bell.png "$work/fuzz/bell.png"
cp $data/car/lucide-car.png "$work/fuzz/car.png"
cp "$work/c.safetensors" "$work/fuzz/adapter.safetensors"
(cd "$work/fuzz" && "$work/random" "$fuzz" "$seed" "$root/$model" >"$work/random.txt") || { cat "$work/random.txt"; exit 1; }
tail -n 1 "$work/random.txt"

say 'all is well'
