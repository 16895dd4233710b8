"""Writes the held-out pictures as folders of PNG with their attribution, and the table of all sets.

    python pictures.py DIR

`DIR/pictos/{shifted,novel}`, `DIR/pictos-generic`, an `ATTRIBUTION.md` in each, and `DIR/SETS.md`.
"""
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

import sets
from captions import SETS as NAMED
from captions import WORDS
from store import Store, wrong

LICENCES = {
    "MIT": "MIT", "Apache-2.0": "Apache-2.0", "ISC": "ISC", "BSD-3-Clause": "BSD-3-Clause", "CC0-1.0": "CC0 1.0", "Unlicense": "Unlicense",
    "MPL-2.0": "MPL-2.0", "OFL-1.1": "OFL 1.1", "CC-BY-3.0": "CC BY 3.0", "CC-BY-4.0": "CC BY 4.0", "CC-BY-SA-3.0": "CC BY-SA 3.0",
    "CC-BY-SA-4.0": "CC BY-SA 4.0",
}


def brands() -> tuple[set[str], set[str]]:
    """Concepts, and names of files, that are marks of brands. They stay in the split, so that what is held out stays what it was."""
    lines = [line.partition(":") for line in (Path(__file__).parent / "brands.txt").read_text().splitlines() if line and line[0] != "#"]
    return {c for c, colon, _ in lines if not colon}, {name for _, _, names in lines for name in names.split()}


def write(store: Store, chosen: dict[str, list[int]], to: Path) -> Counter:
    """The pictures, a folder a class; how many of each set."""
    count, bad, (marks, marked) = Counter(), wrong(), brands()
    for concept, indices in chosen.items():
        if concept in marks:
            continue
        folder = to / concept.replace(" ", "_")
        folder.mkdir(parents=True)
        for i in indices:
            e = store.entries[i]
            name = f"{e['set']}-{e['name']}"
            if (e["set"], e["name"]) in bad or name in marked:
                continue
            Image.fromarray((store.on_white(i) + 0.5).astype(np.uint8)).save(folder / f"{name}.png", optimize=True)
            count[e["set"]] += 1
    return count


def row(s: dict, *more: object) -> str:
    author = f"[{s['author']}]({s['url']})" if s["url"] else s["author"]
    return "| " + " | ".join([s["id"], s["name"], author, LICENCES[s["licence"]], *map(str, more)]) + " |\n"


def attribution(info: dict[str, dict], count: Counter) -> str:
    text = ("# Where the pictures come from\n\nEvery picture is a 64×64 rendering on white of one icon. Its file is named after the icon set and the "
            "icon's name in it, its folder after the concept. Nothing else was changed.\n\n"
            "| set | name | author | licence | pictures |\n| --- | --- | --- | --- | --- |\n")
    return text + "".join(row(info[s], n) for s, n in sorted(count.items()))


def table(store: Store, split: dict, info: dict[str, dict], refused: list) -> str:
    """All sets: what is used for what, under which licence, and the words of style said of them."""
    trained = Counter(store.entries[i]["set"] for i in split["train"])
    looks: dict[str, Counter] = {}
    for i in split["train"]:
        e = store.entries[i]
        words = looks.setdefault(e["set"], Counter())
        words.update(s for s in e["style"] if s in WORDS)
        words.update([e["looks"]] if e.get("looks") and not e["style"] else [])
    out = ("# The icon sets\n\nTaken: licences that permit redistribution and derived works, from the allow list in `sets.py`. Words in italics are said "
           "of every icon of the set, the others of those whose name or pixels show it.\n\n"
           "| set | name | author | licence | version | category | ink | training icons | words of style |\n" + "| --- " * 9 + "|\n")
    for key, s in sorted(info.items()):
        style = [f"*{w}*" for w in NAMED.get(key, [])] + (["*emoji*"] if key in sets.EMOJI else []) + [w for w, n in looks.get(key, Counter()).most_common(6)]
        use = trained[key] if key not in sets.HELD_OUT else f"held out: {sets.HELD_OUT[key]}"
        out += row(s, s["version"], s["category"] or "none", "colours" if s["coloured"] else "one", use, ", ".join(style))
    return out + "\n## Refused\n\n| set | why |\n| --- | --- |\n" + "".join(f"| {k} | {why} |\n" for k, why in refused)


def main() -> None:
    root = Path(sys.argv[1])
    store, split, about = Store(root), json.loads((root / "split.json").read_text()), json.loads((root / "sets.json").read_text())
    info = {s["id"]: s for s in about["taken"]}
    for name in ("pictos", "pictos-generic"):
        shutil.rmtree(root / name, ignore_errors=True)
    tested = write(store, split["shifted"], root / "pictos" / "shifted") + write(store, split["novel"], root / "pictos" / "novel")
    generic = write(store, split["generic"], root / "pictos-generic")
    (root / "pictos" / "ATTRIBUTION.md").write_text(attribution(info, tested))
    (root / "pictos-generic" / "ATTRIBUTION.md").write_text(attribution(info, generic))
    (root / "SETS.md").write_text(table(store, split, info, about["refused"]))
    size = sum(f.stat().st_size for d in ("pictos", "pictos-generic") for f in (root / d).rglob("*.png")) / 1e6
    print(f"{sum(tested.values())} + {sum(generic.values())} pictures, {size:.1f} MB")


if __name__ == "__main__":
    main()
