#!/bin/sh
# The whole recipe: fetch, render, split, tokenizer, check, train, cool-down, export, verify. Run it again to go on.
#
#   run.sh DIR [MINUTES [COOLDOWN_STEPS [options of train.py]]]
#
# DIR holds everything that is made (4 GB); MINUTES is the length of the constant stage, all runs together (600).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?where to work}; minutes=${2:-600}; cooldown=${3:-3000}
shift; [ $# -gt 0 ] && shift; [ $# -gt 0 ] && shift
python=${PYTHON:-python3}
export OMP_WAIT_POLICY=PASSIVE
cd "$here"
mkdir -p "$dir"
$python fetch.py "$dir"
[ -f "$dir/icons.json" ] || $python render.py "$dir"
[ -f "$dir/split.json" ] || $python split.py "$dir"
[ -f "$dir/SETS.md" ] || $python pictures.py "$dir"
[ -f "$dir/tokenizer/tokenizer.json" ] || $python tokens.py "$dir"
$python check_leakage.py "$dir" --plant
$python check_leakage.py "$dir"
# From what was trained before, which has the default sizes; FROM= starts from random numbers.
from=${FROM-begun}
$python train.py "$dir" ${from:+--from "$from"} --minutes "$minutes" "$@" >>"$dir/train.log" 2>&1
$python train.py "$dir" --cooldown "$cooldown" "$@" >>"$dir/train.log" 2>&1
$python export.py "$dir" "$dir/cool.pt" "$dir/model"
$python verify.py "$dir" "$dir/cool.pt" "$dir/model" | tee -a "$dir/train.log"
