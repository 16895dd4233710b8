#!/usr/bin/env bash
# Runs the scripts of this folder, some at a time, and prints a table of drivers and suites.
#   all.sh [--quick] [LOGS]        LOGS: a folder for what each prints, and results.jsonl (default: a new one)
# --quick leaves out what takes long or installs much: narrow vectors, FXC, the validation layers and whole towers.
# The exit status is 0 when nothing failed; what cannot run here is said, and does not fail. JOBS=N runs N at a time (as many as there
# are cores); seconds are of one alone only with JOBS=1.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
quick=no
[ "${1:-}" != --quick ] || { quick=yes; shift; }
logs=${1:-$(mktemp -d)}
mkdir -p "$logs"
# Most of the time one core compiles kernels, and the others wait for it.
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}
names=()

# once NAME SCRIPT ARGUMENT...: runs a script, and keeps what it prints and how it ends.
once() {
    local name=$1 script=$2 begun=$SECONDS status=0
    shift 2
    "$here/$script" "$@" >"$logs/$name.log" 2>&1 || status=$?
    printf '%d\n' "$status" >"$logs/$name.status"
    printf '%s (%s): status %d after %d s\n' "$name" "$script $*" "$status" "$((SECONDS - begun))"
}

# run NAME SCRIPT ARGUMENT...: the same beside others, so many at a time.
run() {
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
    names+=("$1")
    rm -f "$logs/$1.status"
    once "$@" &
}

if [ $quick = yes ]; then
    run mesa-portable mesa.sh --portable kernels
    run mesa-newer mesa-newer.sh kernels golden
    run swiftshader swiftshader.sh kernels
    run tint tint.sh
else
    run mesa mesa.sh kernels golden towers training
    run mesa-portable mesa.sh --portable kernels golden towers training
    run mesa-newer mesa-newer.sh kernels golden towers training
    run mesa-newer-128 mesa-newer.sh --width 128 kernels golden
    run mesa-newer-512 mesa-newer.sh --width 512 kernels golden
    run swiftshader swiftshader.sh kernels golden towers
    run tint tint.sh
    run fxc fxc.sh
    run validation validation.sh kernels golden
    run validation-gpu validation.sh --gpu-assisted kernels golden
fi
wait
failed=0
notes=()
: >"$logs/results.jsonl"
for name in "${names[@]}"; do
    grep -a '^{"driver":' "$logs/$name.log" >>"$logs/results.jsonl"
    case $(cat "$logs/$name.status" 2>/dev/null || echo died) in
        0) ;;
        77) notes+=("$name: $(grep -a '^skipped: ' "$logs/$name.log" | tail -1)") ;;
        *)
            failed=1
            # Without a result line, the table would not show it.
            grep -aq '^{"driver":' "$logs/$name.log" || notes+=("$name: failed: $(tail -1 "$logs/$name.log")")
            ;;
    esac
done
printf '\n'
"$here/table.sh" "$logs/results.jsonl"
[ ${#notes[@]} -eq 0 ] || printf '\n%s\n' "${notes[@]}"
printf '\nlogs: %s\n' "$logs"
exit $failed
