#!/usr/bin/env bash
# Makes a Markdown table of result lines: JSON objects as the scripts of this folder print them, from files or stdin.
set -euo pipefail
printf '| driver | device | version | subgroups | features | suite | passed | failed | left out | seconds |\n'
printf '| --- | --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |\n'
cat "$@" | awk '
    # A field of the line: a string, a number or a flat list, without quotes and brackets.
    function field(name, value) {
        if (!match($0, "\"" name "\":(\"([^\"\\\\]|\\\\.)*\"|\\[[^]]*\\]|[^,}]*)")) return ""
        value = substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3)
        gsub(/^["[] *|[]"]$/, "", value)
        gsub(/" *, *"/, ", ", value)
        gsub(/"|\|/, "", value)
        sub(/ *$/, "", value)
        return value == "null" ? "–" : value
    }
    {
        split(field("subgroup"), size, / *, */)
        subgroups = size[1] == size[2] || size[2] == "" ? size[1] : size[1] "–" size[2]
        bad = field("failed")
        # A process that died, or messages of the layers: no test of its own failed.
        if (field("status") != "passed") bad = "**" bad "** " field("note")
        printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", field("driver"), field("device"), field("version"),
            subgroups, field("uses"), field("suite"), field("passed"), bad, field("ignored"), field("seconds")
    }'
