#!/usr/bin/env bash
# Installs the header, the shared and the static library and a file for pkg-config.
#   install.sh PREFIX [FOLDER]        FOLDER has the libraries: target/release where it is not given
# Build them first: cargo build --release -p tipi-c
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [[ $# -lt 1 || $# -gt 2 ]]; then
    sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
from=${2:-${CARGO_TARGET_DIR:-$root/target}/release}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)
minor=${version%.*}

# What a program needs besides that links the static library.
case $(uname -s) in
    Darwin)
        shared=libtipi_c.dylib versioned=libtipi_c.$minor.dylib
        private='-framework Metal -framework QuartzCore -framework CoreGraphics -framework Foundation -lobjc -lm -lc' ;;
    *)
        shared=libtipi_c.so versioned=libtipi_c.so.$minor
        private='-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc' ;;
esac
for library in "$shared" libtipi_c.a; do
    if [[ ! -f $from/$library ]]; then
        echo "$from/$library is not there: cargo build --release -p tipi-c makes it" >&2
        exit 1
    fi
done

install -d "$prefix/include" "$prefix/lib/pkgconfig"
install -m 644 "$here/include/tipi.h" "$prefix/include/"
install -m 755 "$from/$shared" "$prefix/lib/$versioned"
ln -sf "$versioned" "$prefix/lib/$shared"
install -m 644 "$from/libtipi_c.a" "$prefix/lib/"
cat >"$prefix/lib/pkgconfig/tipi.pc" <<EOF
prefix=$prefix
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: tipi
Description: Few-shot CLIP on any GPU
Version: $version
Libs: -L\${libdir} -ltipi_c
Libs.private: $private
Cflags: -I\${includedir}
EOF
echo "installed to $prefix"
