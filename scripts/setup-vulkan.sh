#!/bin/sh
# Makes sure that tipi can be built and has a Vulkan driver to run on. Silent when there is nothing to do.
# With --mesa, installs Mesa's CPU driver even if there is some driver: it shows no device.
set -u

# ldconfig lies in a folder that ordinary users often do not search.
PATH=$PATH:/usr/sbin:/sbin

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

has_loader() {
    if command -v ldconfig >/dev/null 2>&1; then
        case $(ldconfig -p 2>/dev/null) in *libvulkan.so.1*) return 0 ;; esac
    fi
    # musl systems have no library cache to ask.
    for file in /usr/lib/libvulkan.so.1 /usr/local/lib/libvulkan.so.1; do
        [ -e "$file" ] && return 0
    done
    return 1
}

has_driver() {
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && return 0
    for file in /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json; do
        [ -e "$file" ] && return 0
    done
    return 1
}

by_hand() {
    fail "$1" \
        'Install a Vulkan loader and a driver, then try again. With Mesa, whose CPU driver needs no GPU:' \
        '  Debian, Ubuntu:  apt-get install libvulkan1 mesa-vulkan-drivers' \
        '  Fedora:          dnf install vulkan-loader mesa-vulkan-drivers' \
        '  Arch:            pacman -S vulkan-icd-loader vulkan-swrast' \
        '  openSUSE:        zypper install libvulkan1 libvulkan_lvp' \
        '  Alpine:          apk add vulkan-loader mesa-vulkan-swrast'
}

command -v cargo >/dev/null 2>&1 ||
    fail 'No Rust toolchain found (cargo is not in PATH): install it from https://rustup.rs, then try again.'

case $(uname -s) in
    # Metal and DirectX 12 are part of their systems.
    Darwin | MINGW* | MSYS* | CYGWIN*) exit 0 ;;
esac

# Rust links with the system's C compiler.
packages=
command -v cc >/dev/null 2>&1 || packages="gcc libc6-dev"
if [ "${1:-}" != --mesa ] && has_loader && has_driver; then
    [ -n "$packages" ] || exit 0
    why="No C compiler found, which Rust links programs with"
else
    packages="libvulkan1 mesa-vulkan-drivers${packages:+ $packages}"
    why="No Vulkan device found"
fi
command -v apt-get >/dev/null 2>&1 || by_hand "$why."

if [ "$(id -u)" -eq 0 ]; then
    as_root() { "$@"; }
elif command -v sudo >/dev/null 2>&1; then
    as_root() { sudo "$@"; }
else
    by_hand "$why, and installing needs root or sudo."
fi

echo "$why: installing $packages (Mesa's driver runs on the CPU, so no GPU is needed)."

# shellcheck disable=SC2086 # a list of names
if ! as_root apt-get update || ! as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends $packages; then
    by_hand 'The installation failed; apt-get said why, above.'
fi

if ! has_loader || ! has_driver; then
    by_hand 'The packages are installed, but there is still no Vulkan driver.'
fi
