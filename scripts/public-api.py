#!/usr/bin/env python3
"""The library's public surface as text: what `cargo doc` shows at the crate's root, without `low_level`.

    cargo doc --no-deps -p tipi && scripts/public-api.py           # writes public-api.txt
    scripts/public-api.py --check                                  # fails where it differs
"""

import difflib
import html
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = ROOT / "target/doc/tipi"
LISTING = ROOT / "public-api.txt"


def text(markup):
    """Code out of a page, on one line for each of its own."""
    plain = html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"<br ?/?>", "\n", markup)))
    return "\n".join(line.rstrip() for line in plain.replace("\u00a0", " ").strip().splitlines() if line.strip())


def item(page):
    """The declaration of an item, and the functions of its own; implementations of traits are left out."""
    markup = page.read_text(encoding="utf-8")
    own = markup.split('id="trait-implementations"')[0].split('id="blanket-implementations"')[0]
    # What folds long declarations away.
    own = re.sub(r'<summary class="hideme">.*?</summary>', "", own, flags=re.S)
    lines = [text(block) for block in re.findall(r'<pre class="rust item-decl">(.*?)</pre>', own, re.S)]
    for header in re.findall(r'<h4 class="code-header">(.*?)</h4>', own, re.S):
        function = re.sub(r"\s+", " ", text(header)).replace("( ", "(").replace(", )", ")")
        # What a trait's declaration says already.
        if not page.name.startswith("trait."):
            lines.append("    " + function)
    return "\n".join(lines)


def main():
    pages = sorted(page for page in PAGES.glob("*.html") if re.match(r"(struct|enum|trait|fn|type|constant)\.", page.name))
    if not pages:
        sys.exit("there are no pages in target/doc/tipi: run `cargo doc --no-deps -p tipi` first")
    listing = "\n\n".join(item(page) for page in pages) + "\n"
    if "--check" not in sys.argv:
        LISTING.write_text(listing, encoding="utf-8")
        return
    kept = LISTING.read_text(encoding="utf-8")
    if kept != listing:
        sys.stdout.writelines(
            difflib.unified_diff(kept.splitlines(True), listing.splitlines(True), "public-api.txt", "the library")
        )
        sys.exit("\nthe public surface has changed: if that is meant, run scripts/public-api.py and commit public-api.txt")


main()
