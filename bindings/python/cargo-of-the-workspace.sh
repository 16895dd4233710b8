#!/usr/bin/env bash
# Stands in for cargo where maturin builds the module for tests. A package built alone has its dependencies built anew, with fewer
# features than the workspace's tests have them with; so all packages are asked for, and everything that is there already is used.
set -euo pipefail
if [[ ${1:-} != rustc ]]; then
    exec cargo "$@"
fi
# An example brings the features that tests ask for. The program is what the module is compared with.
exec cargo build --workspace --lib --bin tipi --example classify --message-format json-render-diagnostics
