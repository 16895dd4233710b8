#!/usr/bin/env bash
# The tests on SwiftShader, the CPU driver that browsers bring along: subgroups of 4, no f16, coarse log and cos.
#   swiftshader.sh [SUITE...] [-- OPTIONS OF THE TESTS]        (default: kernels)
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
arguments kernels -- "$@"
swiftshader
describe swiftshader "SwiftShader of $(tr '_' ' ' <"$root/complete" | cut -d' ' -f1,2)"
run_suites
finish
