#!/usr/bin/env bash
# Fuzzes what reads foreign bytes. See README.md beside this file.
#
#   fuzz/run.sh [--if-possible] [--build] [SECONDS] [TARGET...]
#   fuzz/run.sh --seeds
#
# SECONDS for each target, 600 without; all targets without names. JOBS=N runs N at a time (as many as there are cores).
# Ends with a table, and with 1 if anything was found. --build only builds; --seeds writes seeds/ anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if_possible='' build_only='' write_seeds='' seconds=600 targets=()
for argument in "$@"; do
    case $argument in
        --if-possible) if_possible=1 ;;
        --build) build_only=1 ;;
        --seeds) write_seeds=1 ;;
        -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' run.sh && exit ;;
        -*) printf 'fuzz/run.sh: there is no option %s; see --help\n' "$argument" >&2 && exit 2 ;;
        *[!0-9]*) targets+=("$argument") ;;
        *) seconds=$argument ;;
    esac
done
mapfile -t known < <(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"/\1/p' Cargo.toml)
[ ${#targets[@]} -gt 0 ] || targets=("${known[@]}")
for target in "${targets[@]}"; do
    printf '%s\n' "${known[@]}" | grep -qx "$target" \
        || { printf 'fuzz/run.sh: there is no target %s; there are: %s\n' "$target" "${known[*]}" >&2 && exit 2; }
done

# impossible REASON: what to do where nothing can be fuzzed.
impossible() {
    printf 'fuzz/run.sh: %s; nothing was fuzzed\n' "$1" >&2
    [ -n "$if_possible" ] && exit 0
    exit 1
}

# What cargo-fuzz sets, without a sanitizer, so that a stable compiler takes it: coverage, and the cfg that has decoders
# pass over check sums. With --target, build scripts and macros go without.
export RUSTC_WRAPPER=$PWD/rustc-covered.sh RUSTFLAGS="--cfg fuzzing ${RUSTFLAGS:-}"
export TIPI_FUZZ_COVERAGE='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
-Cllvm-args=-sanitizer-coverage-trace-compares'
host=$(rustc -vV | sed -n 's/^host: //p')
case $host in
    *-linux-* | *-apple-*) ;;
    *) impossible "libFuzzer is built for Linux and macOS here, not for $host" ;;
esac
command -v c++ > /dev/null || impossible 'libFuzzer needs a C++ compiler (c++), and there is none'

# The same versions of all crates as the package has; libFuzzer comes to them.
cp ../Cargo.lock Cargo.lock
cargo fetch --quiet --target "$host" || impossible 'libFuzzer (the crate libfuzzer-sys) cannot be fetched'
if [ -n "$write_seeds" ]; then
    exec cargo run --release --target "$host" --example seeds
fi
start=$SECONDS
cargo build --release --target "$host" $(printf -- '--bin %s ' "${targets[@]}")
printf 'Built in %d s.\n' "$((SECONDS - start))"
[ -z "$build_only" ] || exit 0

binaries=${CARGO_TARGET_DIR:-target}/$host/release
work=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" tipi-fuzz-run-XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir -p corpus artifacts

# Options of libFuzzer for a target: where sound inputs are, words to try, and the longest input.
seeds() {
    case $1 in
        png | gif | bmp | webp) printf '%s\n' ../tests/pictures/*."$1" ;;
        jpeg) printf '%s\n' ../tests/pictures/*.jpg ;;
        tiff) printf '%s\n' ../tests/pictures/*.tif ;;
        mat) printf '%s\n' ../tests/fixtures/mat/*.mat ;;
        config) printf '%s\n' ../tests/fixtures/{towers,refused}/*/*config.json ../tests/golden/model_a/*config.json ;;
    esac
    find seeds/"$1" -type f 2> /dev/null || true
}
dictionary() {
    case $1 in
        checkpoint | adapter | store) echo safetensors ;;
        split | results) echo json ;;
        bpe | csv | lists) echo text ;;
        *) echo "$1" ;;
    esac
}
longest() {
    case $1 in
        bpe | csv | lists) echo 4096 ;;
        *) echo 16384 ;;
    esac
}

# fuzz TARGET: runs it, and leaves a line for the table.
fuzz() {
    local target=$1 number=0 log=$work/$1.log start=$SECONDS status=0
    mkdir -p "corpus/$target" "$work/seeds/$target" "$work/$target"
    while IFS= read -r seed; do
        number=$((number + 1))
        cp "$seed" "$work/seeds/$target/$number-$(basename "$seed")"
    done < <(seeds "$target")
    TMPDIR=$work/$target "$binaries/$target" "corpus/$target" "$work/seeds/$target" \
        -seed="${SEED:-0}" -max_total_time="$seconds" -max_len="$(longest "$target")" -dict="dictionaries/$(dictionary "$target").dict" \
        -timeout=30 -rss_limit_mb=3072 -artifact_prefix="artifacts/$target-" -print_final_stats=1 -close_fd_mask=0 \
        > "$log" 2>&1 || status=$?
    local executions peak found file
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    peak=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
    found=0
    if [ "$status" -ne 0 ]; then
        found=1
        file=$(sed -n 's/^.*Test unit written to *//p' "$log" | tail -1)
        {
            printf '\n%s found something (libFuzzer ended with %d):\n' "$target" "$status"
            grep -v '^#[0-9]' "$log" | tail -60
            printf '\nThe input:  fuzz/%s\nOnce more:  cd fuzz && %s/%s %s\n' "${file:-(none)}" "$binaries" "$target" "$file"
        } > "$work/$target.found"
    fi
    local took=$((SECONDS - start))
    printf '| %s | %d | %d | %d | %d | %d | %d |\n' "$target" "$took" "${executions:-0}" \
        "$((${executions:-0} / (took > 0 ? took : 1)))" "$(find "corpus/$target" -type f | wc -l)" "${peak:-0}" "$found" \
        > "$work/$target.row"
    cp "$log" "artifacts/$target.log"
}

jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN 2> /dev/null || echo 1)}
printf 'Fuzzing %d targets for %d s each, %d at a time.\n' "${#targets[@]}" "$seconds" "$jobs"
running=0
for target in "${targets[@]}"; do
    if [ "$running" -ge "$jobs" ]; then
        wait -n
        running=$((running - 1))
    fi
    fuzz "$target" &
    running=$((running + 1))
done
wait

printf '\n| target | seconds | executions | per second | corpus | peak MiB | finds |\n|---|---|---|---|---|---|---|\n'
failed=0
for target in "${targets[@]}"; do
    # A target without a line did not come to its end.
    cat "$work/$target.row" || { printf '| %s | did not run |\n' "$target" && failed=1; }
done
for target in "${targets[@]}"; do
    [ ! -f "$work/$target.found" ] || { cat "$work/$target.found" && failed=1; }
done
exit "$failed"
