#!/usr/bin/env bash
# The tests on a newer Mesa than the distribution's, which has cooperative matrices.
#   mesa-newer.sh [--width 128|256|512] [SUITE...] [-- OPTIONS OF THE TESTS]        (default: kernels golden, at 256 bits)
# The width is that of the vectors that the driver computes with; subgroups have a thirty-second of it.
# SUITE_OF_DEBIAN (default sid) says whose Mesa. It is unpacked beside the system's and runs with its own C library, so suites
# that start the program (cli, choices, …) find no device there.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
width=256
if [ "${1:-}" = --width ]; then
    width=${2:?--width wants a number of bits}
    shift 2
fi
arguments kernels golden -- "$@"
unpacked "${SUITE_OF_DEBIAN:-sid}" mesa mesa-vulkan-drivers libvulkan1
newer_libraries
driver "$(mesa_file "$root")"
export LP_NATIVE_VECTOR_WIDTH=$width
describe "mesa-newer-$width"
run_suites
finish
