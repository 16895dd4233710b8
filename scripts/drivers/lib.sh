# What the scripts of this folder share; sourced, not run. See README.md.
#
# Environment (all optional)
#   TIPI_DRIVERS_CACHE   where downloads and unpacked drivers are kept (default: the user's cache folder)
#   TIPI_BINARIES        a folder with test binaries by their names (kernels, golden, …, and tipi itself), so that nothing is
#                        built; without it cargo builds them
#   TIPI_SUITE_LIMIT     seconds that one suite may take (default 1800)
#   TIPI_DEBIAN_MIRROR   where Debian's packages come from (default http://deb.debian.org/debian)
#
# Exit status of each script: 0 all passed, 1 something failed, 77 it cannot run here, and said why.
# shellcheck shell=bash
set -uo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$repo/scripts/drivers
cache=${TIPI_DRIVERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tipi-drivers}
mirror=${TIPI_DEBIAN_MIRROR:-http://deb.debian.org/debian}
mkdir -p "$cache"
# What an earlier run measured or compiled must not decide what is tested.
TIPI_CACHE_DIR=$(mktemp -d)
export TIPI_CACHE_DIR
trap 'rm -rf "$TIPI_CACHE_DIR"' EXIT
# Without it drivers complain of the missing desktop.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$TIPI_CACHE_DIR}

# What runs a program with the driver: nothing, or a loader of shared libraries and its options.
launcher=()
# Set by `describe`: what every result line begins with.
about=
# Set by `describe`: the driver's name in tables.
row=
# Set by `result`: whether anything failed.
failed=0

skip() {
    printf 'skipped: %s\n' "$*" >&2
    exit 77
}

broken() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# quoted TEXT: as a JSON string.
quoted() {
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"}
    printf '"%s"' "${text//[$'\t\n\r']/ }"
}

# arguments DEFAULT -- "$@": sets `suites` and, after a further --, `options` for the test binaries.
arguments() {
    local -a standard=()
    while [ "$1" != -- ]; do standard+=("$1"); shift; done
    shift
    suites=() options=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do suites+=("$1"); shift; done
    [ $# -eq 0 ] || { shift; options=("$@"); }
    [ ${#suites[@]} -gt 0 ] || suites=("${standard[@]}")
}

# installed PROGRAM PACKAGE...: makes sure of a program by the distribution's packages.
installed() {
    local program=$1 as_root=()
    shift
    command -v "$program" >/dev/null 2>&1 && return
    command -v apt-get >/dev/null 2>&1 || skip "$program is not installed, and there is no apt-get (Debian: $*)"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || skip "$program is not installed, and installing needs root (Debian: $*)"
        as_root=(sudo)
    fi
    echo "installing $*"
    "${as_root[@]}" apt-get -q update >"$cache/apt.log" 2>&1 &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get -q -y --no-install-recommends install "$@" >>"$cache/apt.log" 2>&1 ||
        { tail -5 "$cache/apt.log" >&2; skip "installing $* failed"; }
    command -v "$program" >/dev/null 2>&1 || skip "$* gave no $program"
}

# apt_of SUITE APT-OPTION...: apt-get with lists and packages of its own, apart from the system's, for a suite of Debian.
apt_of() {
    local folder=$cache/apt-$1
    shift
    apt-get -q -o Dir::State="$folder/state" -o Dir::State::status="$folder/status" -o Dir::Cache="$folder/cache" \
        -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
        -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Install-Recommends=0 \
        -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3 \
        -o Debug::NoLocking=1 "$@"
}

# alone COMMAND...: not while another script of this folder does such a thing.
alone() {
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$cache/lock"
        flock 9
    fi
    "$@"
    exec 9>&-
}

# unpacked SUITE NAME [--alone] PACKAGE...: packages of a suite of Debian, with all they depend on (or --alone), unpacked into
# $cache/NAME-SUITE; sets `root`. Neither root nor a chroot is needed. What is there is kept: remove the folder for newer ones.
unpacked() { alone unpack "$@"; }

unpack() {
    local suite=$1 name=$2 folder deb dependencies=(install)
    shift 2
    [ "$1" != --alone ] || { dependencies=(download); shift; }
    root=$cache/$name-$suite
    [ ! -e "$root/complete" ] || return 0
    [ "$(uname -sm)" = "Linux x86_64" ] || skip "packages are fetched for Linux on x86_64 only"
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 ||
        skip "apt-get and dpkg-deb, which fetch and unpack Debian's packages, are not here"
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$keys" ] || installed debian-archive-keyring debian-archive-keyring
    folder=$cache/apt-$suite
    rm -rf "$root" "$folder"
    mkdir -p "$root" "$folder/state/lists/partial" "$folder/cache/archives/partial"
    : >"$folder/status"
    {
        echo "deb [signed-by=$keys] $mirror $suite main"
        # Stable suites get their newest browsers from here.
        [ "$suite" = sid ] || echo "deb [signed-by=$keys] ${mirror%debian}debian-security $suite-security main"
    } >"$folder/sources.list"
    echo "fetching $* of Debian $suite"
    apt_of "$suite" update >"$folder/log" 2>&1 || { tail -5 "$folder/log" >&2; skip "Debian $suite cannot be reached"; }
    if [ "${dependencies[0]}" = install ]; then
        apt_of "$suite" -y --download-only install "$@" >>"$folder/log" 2>&1
    else
        (cd "$folder/cache/archives" && apt_of "$suite" download "$@" >>"$folder/log" 2>&1)
    fi || { tail -5 "$folder/log" >&2; skip "$* cannot be fetched"; }
    for deb in "$folder"/cache/archives/*.deb; do
        dpkg-deb -x "$deb" "$root" || broken "$deb cannot be unpacked"
    done
    for deb in "$folder"/cache/archives/*.deb; do basename "$deb" .deb; done >"$root/complete"
    rm -rf "$folder/cache/archives"
}

# npm_package NAME VERSION: fetches a package of npm's; sets `npm`, the folder that holds node_modules, and `npm_version`.
npm_package() { alone npm_fetch "$@"; }

npm_fetch() {
    installed npm npm nodejs
    npm=$cache/npm-$1-$2 npm_version=$2
    [ ! -e "$npm/node_modules/$1/package.json" ] || return 0
    mkdir -p "$npm"
    echo "fetching $1 $2 of npm"
    (cd "$npm" && npm install --no-save --ignore-scripts --no-audit --no-fund "$1@$2") >"$cache/npm.log" 2>&1 ||
        { tail -5 "$cache/npm.log" >&2; skip "$1 $2 cannot be fetched"; }
}

# shaders_written: writes every variant's texts to a folder, which `shaders` names, by the test that does so.
shaders_written() {
    built shaders
    shaders=$TIPI_CACHE_DIR/shaders
    TIPI_SHADERS=$shaders "${binary[shaders]}" --ignored --exact write_shaders >"$cache/shaders.log" 2>&1 ||
        { tail -5 "$cache/shaders.log" >&2; broken "the variants cannot be written"; }
    [ -s "$shaders/list.json" ] || broken "tests/shaders.rs wrote no list"
}

# newer_libraries: has programs run with the shared libraries of `root`, C library included, so that they may be newer than
# the system's. Programs that those start themselves get the system's again.
newer_libraries() {
    local libraries=$root/usr/lib/x86_64-linux-gnu
    [ -x "$libraries/ld-linux-x86-64.so.2" ] || broken "$root holds no loader"
    launcher=("$libraries/ld-linux-x86-64.so.2" --library-path "$libraries")
}

# driver FILE: takes this driver and no other. FILE is what the Vulkan loader reads.
driver() {
    [ -e "$1" ] || broken "there is no $1"
    # Old loaders know the second name only.
    export VK_DRIVER_FILES=$1 VK_ICD_FILENAMES=$1
}

# swiftshader: takes SwiftShader, the CPU driver of browsers, out of Debian's Chromium; no other file of it is unpacked.
swiftshader() {
    unpacked bookworm swiftshader --alone chromium-common
    driver "$root/usr/lib/chromium/vk_swiftshader_icd.json"
    # The loader may be missing where there is no driver at all.
    case $(PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null) in
        *libvulkan.so.1*) ;;
        *)
            mkdir -p "$root/loader"
            ln -sf ../usr/lib/chromium/libvulkan.so.1 "$root/loader/"
            export LD_LIBRARY_PATH=$root/loader${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
            ;;
    esac
}

# mesa_file [ROOT]: the file of Mesa's CPU driver in `root`, or in the system.
mesa_file() {
    local file
    for file in "${1:-}"/usr/share/vulkan/icd.d/lvp_icd{.x86_64,}.json; do
        [ ! -e "$file" ] || { echo "$file"; return; }
    done
}

# built NAME...: makes sure of test binaries (and `tipi`, the program), and sets `binary[NAME]`.
declare -A binary
built() {
    local name kind path wanted=() status=0
    for name in "$@"; do
        if [ -n "${TIPI_BINARIES:-}" ]; then
            [ -x "$TIPI_BINARIES/$name" ] || broken "$TIPI_BINARIES holds no $name"
            binary[$name]=$TIPI_BINARIES/$name
            continue
        fi
        case $name in
            # With one of its tests cargo builds the program, too; `cargo build` would build all it needs with other features.
            tipi) wanted+=(--test choices) ;;
            lib) wanted+=(--lib) ;;
            *) wanted+=(--test "$name") ;;
        esac
    done
    [ ${#wanted[@]} -gt 0 ] || return 0
    command -v cargo >/dev/null 2>&1 || skip "there is neither cargo nor TIPI_BINARIES"
    # With the packages that the caller tests, so that nothing is built a second time.
    # shellcheck disable=SC2086
    (cd "$repo" && cargo test --no-run --message-format=json ${TEST_ARGS:-} "${wanted[@]}") >"$TIPI_CACHE_DIR/messages" || status=$?
    [ $status -eq 0 ] || broken "the tests do not build"
    # Each line of cargo's is one JSON object; executables are named in lines about artifacts.
    while IFS=$'\t' read -r kind name path; do
        case $kind in
            test) binary[$name]=$path ;;
            lib) binary[lib]=$path ;;
            bin) binary[tipi]=$path ;;
        esac
    done < <(sed -nE 's/.*"reason":"compiler-artifact".*"target":\{"kind":\["([a-z]+)"\].*"name":"([a-z_0-9]+)".*"executable":"([^"]+)".*/\1\t\2\t\3/p' "$TIPI_CACHE_DIR/messages")
    for name in "$@"; do [ -x "${binary[$name]:-}" ] || broken "cargo built no $name"; done
}

# describe NAME [VERSION]: prints driver, device and version, and remembers them for the result lines. NAME is the row in the
# table; VERSION says more than the driver does of itself.
describe() {
    local json device version subgroup uses
    built tipi "${suites[@]}"
    json=$("${launcher[@]}" "${binary[tipi]}" devices --json 2>"$TIPI_CACHE_DIR/error") ||
        { cat "$TIPI_CACHE_DIR/error" >&2; broken "tipi finds no device with this driver"; }
    # Each object on a line of its own; the one that is taken says so.
    json=$(tr -d '\n' <<<"$json" | sed -E 's/  +/ /g; s/ ?\} ?,? ?/}\n/g' | grep '"default": true')
    field() { sed -nE "s/.*\"$1\": (\"[^\"]*\"|\[[^]]*\]).*/\1/p" <<<"$json"; }
    device=$(field name) version=$(field driver) subgroup=$(field subgroup) uses=$(field uses)
    [ -z "${2:-}" ] || version=$(quoted "$2")
    [ "${TIPI_PORTABLE:-0}" = 0 ] || uses='[]'
    row=$1
    about="\"driver\":$(quoted "$1"),\"device\":${device:-null},\"version\":${version:-null}"
    about+=",\"subgroup\":${subgroup:-null},\"uses\":${uses:-[]}"
    printf '%s: %s, %s, subgroups of %s, %s\n' "$1" "$device" "$version" "$subgroup" "$uses" | tr -d '"'
}

# about_tool NAME DEVICE VERSION: the same for a compiler, which has no device.
about_tool() {
    about="\"driver\":$(quoted "$1"),\"device\":$(quoted "$2"),\"version\":$(quoted "$3"),\"subgroup\":null,\"uses\":[]"
    printf '%s: %s, %s\n' "$1" "$2" "$3"
}

# result SUITE STATUS PASSED FAILED IGNORED SECONDS [NOTE]: a result line; the last thing that a script prints.
lines=()
result() {
    local line="{$about,\"suite\":$(quoted "$1"),\"status\":$(quoted "$2"),\"passed\":$3,\"failed\":$4,\"ignored\":$5,\"seconds\":$6"
    [ -z "${7:-}" ] || line+=",\"note\":$(quoted "$7")"
    lines+=("$line}")
    [ "$2" = passed ] || failed=1
}

# run_suites: runs every suite with the driver, and remembers what came out.
run_suites() {
    local suite
    for suite in "${suites[@]}"; do run_suite "$suite" "${binary[$suite]}"; done
}

# run_suite SUITE PROGRAM [JUDGE]: JUDGE is a function that looks at the output in $TIPI_CACHE_DIR/out, and may set `word` to
# failed and say why in `note`. Tests that known-faults.txt names for this driver are left out, and named.
run_suite() {
    local suite=$1 program=$2 begun=$SECONDS status=0 word=passed note="" out=$TIPI_CACHE_DIR/out
    local passed=0 bad=0 ignored=0 skips=() test reason
    printf '\n== %s\n' "$suite"
    while read -r test reason; do
        printf 'known fault, left out: %s: %s\n' "$test" "$reason"
        skips+=(--skip "$test")
        note+="${note:+, }left out: $test"
    done < <(sed -nE "s/^$row $suite //p" "$here/known-faults.txt")
    run_tests "$program" "${skips[@]}" "${options[@]}" 2>&1 | tee "$out"
    status=${PIPESTATUS[0]}
    if grep -aq '^test result: ' "$out"; then
        read -r passed bad ignored < <(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored.*/\1 \2 \3/p' "$out")
        note+=${note:+, }$(grep -aE '^test .*\.\.\. FAILED$' "$out" | sed -E 's/^test (.*) \.\.\. FAILED$/\1/' | paste -sd' ')
    elif [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        passed=$(grep -ac ' \.\.\. ok$' "$out") bad=$(grep -ac ' \.\.\. FAILED$' "$out")
        note+="${note:+, }stopped after $((SECONDS - begun)) s"
    else
        one_by_one
    fi
    # A filter that fits no test shows nothing.
    [ $((passed + bad)) -gt 0 ] || note+="${note:+, }no test ran"
    [ "$status" -eq 0 ] && [ "$passed" -gt 0 ] || word=failed
    ignored=$((ignored + ${#skips[@]} / 2))
    ${3:-true}
    result "$suite" $word "$passed" "$bad" "$ignored" $((SECONDS - begun)) "${note%, }"
}

# run_tests PROGRAM OPTION...: a test binary with the driver; tests look for their files in the package's folder.
run_tests() {
    (cd "$repo" && exec timeout -k 5 "${TIPI_SUITE_LIMIT:-1800}" "${launcher[@]}" "$@")
}

# one_by_one: after the process died, runs the tests that had not ended in processes of their own, to tell which of them kill it.
# Part of run_suite, whose variables it sets.
one_by_one() {
    printf 'the process died with status %d; the rest one by one:\n' "$status"
    note+="${note:+, }the process died:"
    run_tests "$program" "${skips[@]}" "${options[@]}" --list 2>/dev/null | sed -n 's/: test$//p' >"$TIPI_CACHE_DIR/tests"
    while read -r test; do
        if ! grep -aqF "test $test ... ok" "$out"; then
            run_tests "$program" --exact "$test" >"$TIPI_CACHE_DIR/one" 2>&1 </dev/null || {
                bad=$((bad + 1))
                note+=" $test"
                printf 'test %s ... FAILED\n' "$test"
                tail -5 "$TIPI_CACHE_DIR/one"
                continue
            }
            cat "$TIPI_CACHE_DIR/one" >>"$out"
        fi
        passed=$((passed + 1))
    done <"$TIPI_CACHE_DIR/tests"
}

# counted_result SUITE STATUS SECONDS: the result of a tool that ends with a line "passed N, refused N, left out N".
counted_result() {
    local word=passed counts="0 0 0" passed bad ignored note=""
    [ "$2" -eq 0 ] || word=failed
    if grep -aqE '^passed [0-9]+, refused' "$TIPI_CACHE_DIR/out"; then
        counts=$(sed -nE 's/^passed ([0-9]+), refused ([0-9]+), left out ([0-9]+)$/\1 \2 \3/p' "$TIPI_CACHE_DIR/out" | tail -1)
    else
        note="ended with status $2 before it was through"
        word=failed
    fi
    read -r passed bad ignored <<<"$counts"
    result "$1" $word "$passed" "$bad" "$ignored" "$3" "$note"
}

# finish: prints the result lines, and ends with the status.
finish() {
    printf '\n'
    printf '%s\n' "${lines[@]}"
    exit $failed
}
