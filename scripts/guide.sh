#!/usr/bin/env bash
# Builds the guide (docs/) into target/guide with mdBook, and checks that the links in it and in README.md lead somewhere.
# mdBook is installed into target/tools first where that version is not there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.5.4
tools=target/tools
out=target/guide

if [ "$("$tools/bin/mdbook" --version 2>/dev/null)" != "mdbook v$version" ]; then
    echo "installing mdBook $version into $tools, which takes a few minutes"
    # Building it takes longer than all its runs: it is not optimised.
    CARGO_TARGET_DIR=$tools/build CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 cargo install mdbook \
        --version "$version" --locked --no-default-features --features search --root "$tools" --debug --quiet
    rm -rf "$tools/build"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"$tools/bin/mdbook" build docs >"$log" 2>&1 || status=$?
cat "$log"
[ "$status" = 0 ] || exit "$status"
if grep -qE '^ *(WARN|ERROR)|\[(WARN|ERROR)\]| (WARN|ERROR) ' "$log"; then
    echo 'mdBook warns, and warnings are errors' >&2
    exit 1
fi

# mdBook takes files of the repository for pages and renames them. target/guide lies as deep as docs/src, so that their paths
# from there hold here too.
sed -i.bak -E 's|(href="\.\./\.\./[^"#]*)\.html|\1.md|g' "$out"/*.html
rm -f "$out"/*.bak

broken=0
complain() {
    echo "$1: a link leads nowhere: $2" >&2
    broken=1
}

# check PAGE TARGET: whether a link leads to a file, and to a heading in it.
check() {
    local page=$1 target=$2 file
    case $target in
        http://* | https://* | mailto:* | '' | '#') return ;;
        '#'*) file=$page ;;
        *) file=$(dirname "$page")/${target%%#*} ;;
    esac
    if [ ! -e "$file" ]; then
        complain "$page" "$target"
    elif [ "$target" != "${target#*#}" ] && [ "${file##*.}" = html ] && ! grep -q "id=\"${target#*#}\"" "$file"; then
        complain "$page" "$target"
    fi
}

links=0
for page in "$out"/*.html; do
    case $page in */print.html | */toc.html | */404.html) continue ;; esac
    while read -r target; do
        links=$((links + 1))
        check "$page" "$target"
    done < <(grep -oE '(href|src)="[^"]*"' "$page" | sed -E 's/^[a-z]+="//; s/"$//' | sort -u)
done
while read -r target; do
    links=$((links + 1))
    check README.md "$target"
done < <(grep -oE '\]\([^) ]+\)' README.md | sed -E 's/^\]\(//; s/\)$//' | sort -u)

[ "$broken" = 0 ] || exit 1
echo "$out/index.html: $links links lead somewhere"
