#!/usr/bin/env bash
# Tests the Python package: builds the wheel with maturin, installs it into an environment of its own (target/python), and runs
# mypy --strict, the tests and the tutorial. Where there is no python3, or packages cannot be installed, it says so and ends well.
#   test.sh [PYTEST-ARGUMENTS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=bindings/python
venv=$PWD/target/python

skip() {
    echo "THE PYTHON PACKAGE IS NOT TESTED: $1"
    exit 0
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || skip 'there is no python3 of 3.10 or newer'
[[ -x $venv/bin/python ]] || python3 -m venv "$venv" || skip 'python3 cannot make an environment (on Debian: apt-get install python3-venv)'
"$venv/bin/pip" install --quiet --disable-pip-version-check 'maturin>=1.9,<2' || skip 'maturin cannot be installed: is there a network?'

rm -rf target/wheels-dev
CARGO=$PWD/$here/cargo-of-the-workspace.sh "$venv/bin/maturin" build --profile dev --skip-auditwheel \
    --manifest-path "$here/Cargo.toml" --interpreter "$venv/bin/python" --out target/wheels-dev
wheel=$(ls "$PWD"/target/wheels-dev/*.whl)
"$venv/bin/pip" install --quiet --disable-pip-version-check "$wheel[test]" || skip 'the packages that its tests need cannot be installed'
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheel"

cd "$here"
# The folder of the sources is no place to import from: what was installed is tested.
"$venv/bin/python" -m mypy
"$venv/bin/python" -m mypy tests/typed.py
"$venv/bin/python" -m mypy.stubtest tipi._native --ignore-disjoint-bases --mypy-config-file pyproject.toml
"$venv/bin/python" -m pytest "$@"
"$venv/bin/python" tests/notebook.py tutorial.ipynb
