#!/usr/bin/env bash
# Makes what a release has for this machine: the program, the libraries for C, and the wheel for Python. Prints their sizes.
#   release.sh [FOLDER] [PART...]     FOLDER: target/archives by default. PART: program, c, python; all by default
# Environment
#   TIPI_PROFILE      cargo's profile (default dist: small, slow to build)
#   TIPI_MANYLINUX    on Linux, the wheel's policy, as 2_28 (default: what the C library of this machine allows). With `zig` installed
#                     (pip install ziglang) an older one can be asked for than the machine's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-target/archives}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- program c python
mkdir -p "$out"
out=$(cd "$out" && pwd)
profile=${TIPI_PROFILE:-dist}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
target=$(rustc -vV | sed -n 's/^host: //p')
built=${CARGO_TARGET_DIR:-$PWD/target}/$([ "$profile" = dev ] && echo debug || echo "$profile")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $target in
    *windows*) exe=.exe ;;
    *) exe= ;;
esac

# packed NAME: the folder of that name in $work as an archive.
packed() {
    local archive=$out/$1.tar.gz
    cp LICENSE LICENSE-MIT LICENSE-APACHE "$work/$1"
    # The same files give the same archive where tar can sort and forget times.
    if tar --version 2>/dev/null | grep -q GNU; then
        tar -C "$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - "$1" | gzip -9n >"$archive"
    else
        tar -C "$work" -czf "$archive" "$1"
    fi
}

# Without what only a debugger reads.
stripped() {
    case $target in
        *apple*) strip -x "$@" ;;
        *windows*) ;;
        *) strip --strip-unneeded "$@" ;;
    esac
}

for part in "$@"; do
    case $part in
        program)
            cargo build --profile "$profile" -p tipi-cli
            name=tipi-$version-$target
            mkdir -p "$work/$name"
            cp "$built/tipi$exe" README.md "$work/$name"
            stripped "$work/$name/tipi$exe"
            packed "$name"
            printf 'program: %d bytes, in %s\n' "$(wc -c <"$work/$name/tipi$exe")" "$out/$name.tar.gz"
            ;;
        c)
            cargo build --profile "$profile" -p tipi-c
            name=tipi-c-$version-$target
            mkdir -p "$work/$name"
            if [ -n "$exe" ]; then
                mkdir -p "$work/$name/include" "$work/$name/lib" "$work/$name/bin"
                cp bindings/c/include/tipi.h "$work/$name/include"
                cp "$built/tipi_c.dll" "$work/$name/bin"
                cp "$built"/tipi_c.dll.lib "$built"/tipi_c.lib "$work/$name/lib"
            else
                bindings/c/install.sh "$work/$name" "$built" >/dev/null
                # Wherever it is unpacked, pkg-config finds the rest from where the file lies.
                sed -i.bak 's|^prefix=.*|prefix=${pcfiledir}/../..|' "$work/$name/lib/pkgconfig/tipi.pc"
                rm "$work/$name/lib/pkgconfig/tipi.pc.bak"
                find "$work/$name/lib" -type f -name 'libtipi_c.*' ! -name '*.a' | while read -r library; do stripped "$library"; done
                case $target in *apple*) ;; *) strip --strip-debug "$work/$name/lib/libtipi_c.a" ;; esac
            fi
            packed "$name"
            find "$work/$name" -type f \( -name '*tipi_c*' \) | while read -r file; do
                printf 'c: %s has %d bytes\n' "${file#"$work/$name/"}" "$(wc -c <"$file")"
            done
            printf 'c: %s\n' "$out/$name.tar.gz"
            ;;
        python)
            python=$work/python
            python3 -m venv "$python"
            "$python/bin/pip" install --quiet --disable-pip-version-check 'maturin>=1.9,<2' 2>/dev/null ||
                "$python/Scripts/pip" install --quiet --disable-pip-version-check 'maturin>=1.9,<2'
            maturin=$python/bin/maturin
            [ -x "$maturin" ] || maturin=$python/Scripts/maturin.exe
            options=(--profile "$profile" --manifest-path bindings/python/Cargo.toml --out "$out")
            [ -z "${TIPI_MANYLINUX:-}" ] || options+=(--compatibility "manylinux_$TIPI_MANYLINUX")
            [ -z "${TIPI_MANYLINUX:-}" ] || ! python3 -c 'import ziglang' 2>/dev/null || options+=(--zig)
            "$maturin" build "${options[@]}"
            ;;
        *)
            echo "'$part' is no part: program, c or python" >&2
            exit 2
            ;;
    esac
done
printf '\n'
(cd "$out" && ls -l | awk 'NR > 1 {printf "%12d  %s\n", $5, $9}')
