#!/usr/bin/env bash
# Runs what pack.sh packed, without cargo and without a network, within TOTAL seconds.
#   OUT=FOLDER run.sh [STEP...]        (default: all steps, into ./gpu-results)
# Steps: devices smi kernels golden tune bench products towers pini cache torch training towers-right scaling; torch adds
# PyTorch's side to those of products, towers, pini and cache that run.
#
# Leaves in OUT: results.jsonl (a JSON object for each result, with the card's and the driver's name; table.py makes a table of
# it), summary.txt, run.log, and kernels.json, what was measured to be best.
#
# Environment (all optional)
#   TOTAL      seconds for all of it (default 580), STRETCH a factor on each step's own limit (default 1; more on CPU drivers)
#   SIDE, BATCHES, CLASSES, KEYS   sizes of products, towers, pini and cache (4096; 1,8,64; 100,1000; 16000)
#   TIMELINE                       the model whose timeline is taken (ViT-B-32)
#   TOWERS     which towers (default: ViT-B-32 ViT-B-16 ViT-L-14)
#   PYTHON     a python3 with PyTorch for CUDA; without one PyTorch's side is left out
#   TREE       tipi's working tree, where the kit has no files of its own (default: the current folder)
#   TIPI_DEVICE, VK_DRIVER_FILES, …   as always
# The exit status is 0 when every step ended well.
set -uo pipefail
kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OUT=${OUT:-$PWD/gpu-results} PYTHON=${PYTHON:-python3} TOTAL=${TOTAL:-580} STRETCH=${STRETCH:-1}
SIDE=${SIDE:-4096} BATCHES=${BATCHES:-1,8,64} CLASSES=${CLASSES:-100,1000} KEYS=${KEYS:-16000}
steps=" $* "
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
work=$(mktemp -d)
log=$OUT/run.log summary=$OUT/summary.txt results=$OUT/results.jsonl
for file in "$log" "$summary" "$results"; do : >"$file"; done
failed=0
say() { echo "$*" | tee -a "$summary" "$log"; }
quoted() {
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"}
    printf '"%s"' "${text//[$'\t\n\r']/ }"
}

# ---- Where files and drivers are ------------------------------------------------------------------------------------
tree=$kit/tree root=$(cat "$kit/root")
[ -d "$tree" ] || tree=${TREE:-$PWD}
[ -d "$tree/tests/golden" ] || { echo "$tree holds no tests/golden: start run.sh from the root of tipi's checkout" >&2; exit 1; }
link=
if [ ! -e "$root" ]; then
    mkdir -p "$(dirname "$root")" && ln -sfn "$tree" "$root" || exit 1
    link=$root
elif [ ! -d "$root/tests/golden" ]; then
    echo "$root, where the tests look for their files, is not tipi's checkout" >&2
    exit 1
fi
trap 'rm -rf "$work"; [ -z "$link" ] || rm -f "$link"' EXIT
cd "$tree" || exit 1

# The Vulkan loader, where the machine has none; beside the system and not over it.
case $(PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null) in
    *libvulkan.so.1*) ;;
    *)
        for deb in "$kit"/*.deb; do [ ! -e "$deb" ] || dpkg-deb -x "$deb" "$work/loader"; done
        loader=$(find "$work/loader" -name 'libvulkan.so.1' 2>/dev/null | head -1)
        export LD_LIBRARY_PATH=${loader%/*}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        ;;
esac
# In containers NVIDIA's driver may have its file where no loader looks, or the library and no file at all.
if [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] &&
    ! ls /usr/share/vulkan/icd.d/nvidia*.json /etc/vulkan/icd.d/nvidia*.json >/dev/null 2>&1; then
    nvidia=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
    library=$(find /usr/lib /usr/lib64 /usr/local/nvidia -name 'libGLX_nvidia.so.0' 2>/dev/null | head -1)
    if [ ! -e "$nvidia" ] && [ -n "$library" ]; then
        nvidia=$work/nvidia_icd.json
        printf '{"file_format_version": "1.0.1", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' "$library" >"$nvidia"
    fi
    [ ! -e "$nvidia" ] || export VK_DRIVER_FILES=$nvidia VK_ICD_FILENAMES=$nvidia
fi
# Drivers complain without it.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work} RUST_BACKTRACE=0
# What an earlier run measured or compiled must not decide what is measured here.
export TIPI_CACHE_DIR=$work/cache

# ---- Card and driver ------------------------------------------------------------------------------------------------
if ! devices=$("$kit/bin/tipi" devices --json 2>&1); then
    say "no device: $devices"
    exit 1
fi
# The device that is taken, as one line.
devices=$(tr -d '\n' <<<"$devices" | sed -E 's/  +/ /g; s/ ?\} ?,? ?/}\n/g' | grep '"default": true')
field() { sed -nE "s/.*\"$1\": (\"[^\"]*\"|\[[^]]*\]).*/\1/p" <<<"$devices"; }
about="\"card\":$(field name),\"driver\":$(field driver)"
begun=$SECONDS
say "tipi $(cat "$kit/commit"), $(uname -m), $(nproc) cores"
say "$(field name), $(field driver), subgroups of $(field subgroup), $(field uses)"

# record FIELDS: a result line.
record() { printf '{%s,%s}\n' "$about" "$1" >>"$results"; }
record "\"result\":\"device\",\"commit\":$(quoted "$(cat "$kit/commit")"),\"cores\":$(nproc),\"subgroup\":$(field subgroup),\"uses\":$(field uses)"

# wanted STEP: whether it was asked for.
wanted() { [ "$steps" = "  " ] || case $steps in *" $1 "*) ;; *) false ;; esac; }

# step NAME LIMIT COMMAND…: runs a command for LIMIT seconds at most, and never past TOTAL. What it prints goes to $work/out and
# to the log; JSON objects with a "case" become results.
step() {
    local name=$1 limit=$(($2 * STRETCH)) start=$SECONDS status=0 left word=passed fields
    shift 2
    left=$((TOTAL - (SECONDS - begun)))
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -lt 5 ]; then
        say "$name: left out, no time"
        record "\"result\":\"step\",\"step\":\"$name\",\"status\":\"left out\",\"seconds\":0"
        failed=1
        return 1
    fi
    echo "==== $name: $*" >>"$log"
    timeout -k 3 "$limit" "$@" >"$work/out" 2>&1 </dev/null || status=$?
    cat "$work/out" >>"$log"
    [ $status -eq 0 ] || word=failed
    [ $status -ne 124 ] && [ $status -ne 137 ] || word=stopped
    fields="\"result\":\"step\",\"step\":\"$name\",\"status\":\"$word\",\"seconds\":$((SECONDS - start))"
    # What a test binary counted, or how many of its tests had ended when it was stopped.
    if grep -aq '^running [0-9]* test' "$work/out"; then
        fields+=",\"passed\":$(grep -acE ' \.\.\. ok$' "$work/out"),\"failed\":$(grep -acE ' \.\.\. FAILED$' "$work/out")"
    fi
    record "$fields"
    local line
    grep -a '^{.*"case".*}$' "$work/out" >"$work/cases"
    while read -r line; do record "\"result\":\"case\",${line:1:-1}"; done <"$work/cases"
    say "$name: $word after $((SECONDS - start)) s $(grep -a '^test result:' "$work/out")"
    [ $status -eq 0 ] || { failed=1; grep -aE "panicked at|^(error|Error)|\.\.\. FAILED|lost" -A1 "$work/out" | head -20 | tee -a "$summary"; }
    return $status
}

# ---- What is right --------------------------------------------------------------------------------------------------
wanted devices && step devices 20 "$kit/bin/tipi" devices
wanted smi && command -v nvidia-smi >/dev/null && step smi 15 nvidia-smi
wanted kernels && step kernels 100 "$kit/bin/kernels"
wanted golden && step golden 70 "$kit/bin/golden"

# ---- What is fast ---------------------------------------------------------------------------------------------------
cuda=no
if wanted torch; then
    if timeout 60 "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1; then
        cuda=yes
    else
        say "torch: no PyTorch for CUDA in $PYTHON, left out"
    fi
fi
# case_of NAME LIMIT ARGUMENT…: tipi's side of a case, and PyTorch's in f32 and f16, as it is and compiled.
case_of() {
    local name=$1 limit=$2 dtype compiled
    shift 2
    wanted "$name" || return
    step "$name" "$limit" "$kit/bin/probe" "$@"
    [ $cuda = yes ] || return
    for dtype in float32 float16; do
        for compiled in 0 1; do
            # What is compiled are towers.
            [ $compiled = 0 ] || [ "$name" = towers ] || continue
            step "torch-$name-$dtype$([ $compiled = 0 ] || echo -compiled)" "$limit" env TIPI_TORCH_DEVICE=cuda \
                TIPI_TORCH_DTYPE=$dtype TIPI_TORCH_COMPILE=$compiled "$PYTHON" benches/peers/pytorch.py "$@"
        done
    done
}
largest=${BATCHES##*,}
wanted tune && step tune 60 "$kit/bin/tipi" tune
if wanted bench && step bench 40 "$kit/bin/tipi" bench --pictures "$largest" --budget 200 --json; then
    # Its one object, without what it says of the device before.
    measured=$(sed -n '/^{/,/^}/p' "$work/out" | tr -d '\n' | sed -E 's/  +/ /g')
    [ -z "$measured" ] || record "\"result\":\"bench\",\"pictures\":$largest,\"measured\":$measured"
fi
case_of products 60 products "$SIDE"
# shellcheck disable=SC2086 # names are words
case_of towers 120 towers "$BATCHES" ${TOWERS:-}
for classes in ${CLASSES//,/ }; do case_of pini 40 pini "$classes"; done
case_of cache 40 cache "$KEYS"
# When the device waits for pictures. The bundled model is for machines without a GPU.
wanted timeline && step timeline 60 "$kit/bin/probe" timeline 512 "$largest" "${TIMELINE:-ViT-B-32}"

# ---- What is left of the time ---------------------------------------------------------------------------------------
wanted training && step training 40 "$kit/bin/training"
wanted towers-right && step towers-right 40 "$kit/bin/towers"
wanted scaling && step scaling 60 "$kit/bin/scaling" all "$work/scaling"
cat "$TIPI_CACHE_DIR"/kernels-*.json >"$OUT/kernels.json" 2>/dev/null
say "all of it: $((SECONDS - begun)) s; $results"
exit $failed
