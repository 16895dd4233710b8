#!/usr/bin/env bash
# The tests on the distribution's own Mesa (its CPU driver, lavapipe).
#   mesa.sh [--portable] [SUITE...] [-- OPTIONS OF THE TESTS]        (default: kernels golden)
# --portable runs without the device's optional features (TIPI_PORTABLE=1). LP_NATIVE_VECTOR_WIDTH=128 gives subgroups of 4.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
name=mesa
if [ "${1:-}" = --portable ]; then
    shift
    name=mesa-portable
    export TIPI_PORTABLE=1
fi
[ -z "${LP_NATIVE_VECTOR_WIDTH:-}" ] || name=$name-$LP_NATIVE_VECTOR_WIDTH
arguments kernels golden -- "$@"
[ -n "$(mesa_file)" ] || "$repo/scripts/setup-vulkan.sh" --mesa || skip "Mesa's CPU driver cannot be installed here"
file=$(mesa_file)
[ -n "$file" ] || skip "Mesa's package holds no CPU driver"
driver "$file"
describe "$name"
run_suites
finish
