#!/usr/bin/env bash
# Checks that the library and the package's module compile for the web. Where nothing can be compiled for it, it says so and ends well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source bindings/web/toolchain.sh || { echo 'THE WEB IS NOT CHECKED'; exit 0; }
web_cargo check -p tipi-web
