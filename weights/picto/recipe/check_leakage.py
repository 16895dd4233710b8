"""Proves that nothing held out is in training, from the files that training reads; and that this check would notice.

    python check_leakage.py DIR           exits with 1 and says what leaked
    python check_leakage.py DIR --plant   plants one leak of each kind and expects each to be found

Checked are: whole sets, novel words in names, aliases, tags and generated captions, and copies of the written pictures.
"""
import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import sets
import twins
from data import Data
from names import singular
from split import tags_of
from store import Store

DRAWN_CAPTIONS = 200_000


def novel_words(split: dict) -> set[str]:
    return {f for forms in split["novel_words"].values() for f in forms}


def has_word(text: str, words: set[str]) -> str | None:
    """The novel word that a text has, alone, in its plural, or within a longer word."""
    text = text.lower()
    for w in re.split(r"[^a-z]+", text):
        if singular(w) in words or w in words:
            return w
    return next((w for w in words if len(w) >= 5 and w in text), None)


def check(store: Store, split: dict, root: Path, captions: list[str], prints: np.ndarray, held: np.ndarray, held_names: list[str]) -> list[str]:
    """Every leak found, in words."""
    found = []
    used = np.array(sorted({*split["train"], *split["valid"]}))
    words = novel_words(split)
    tags, aliases = tags_of(root)
    tested = {i for kind in ("shifted", "novel", "generic") for got in split[kind].values() for i in got}
    for i in used:
        e = store.entries[i]
        where = f"{e['set']}:{e['name']}"
        if e["set"] in sets.HELD_OUT:
            found.append(f"{where} is of a set that is held out")
        if int(i) in tested:
            found.append(f"{where} is a held-out picture")
        said = " , ".join([e["name"], e["concept"], *e["aliases"], *tags.get(e["concept"], ()),
                           *(aliases.get(e["concept"], ()) if e["set"] == "mdi" else ())])
        word = has_word(said, words)
        if word:
            found.append(f"{where} says {word!r}")
    for c in captions:
        word = has_word(c, words)
        if word:
            found.append(f"the caption {c!r} says {word!r}")
    near, who = twins.nearest(prints[used], held)
    for i in np.where(near >= twins.TWIN)[0]:
        e = store.entries[used[i]]
        found.append(f"{e['set']}:{e['name']} is a copy of {held_names[who[i]]} ({near[i]:.3f})")
    missing = [w for kind in ("shifted", "novel") for w in split[kind] if not any(w in n for n in held_names)]
    found += [f"{w} has no picture" for w in missing]
    return found


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir", type=Path)
    p.add_argument("--plant", action="store_true")
    a = p.parse_args()
    store, split = Store(a.dir), json.loads((a.dir / "split.json").read_text())
    prints = twins.all_fingerprints(store)
    files = sorted(f for d in ("pictos", "pictos-generic") for f in (a.dir / d).rglob("*.png"))
    held = np.stack([twins.fingerprint(np.asarray(Image.open(f).convert("RGB"), np.float32)) for f in files])
    names = [str(f.relative_to(a.dir)) for f in files]
    data = Data(a.dir, 7)
    texts: set[str] = set()
    while len(texts) < DRAWN_CAPTIONS // 4:
        texts |= set(data.texts(data.draw(2000), 4)[0])
    captions = sorted(texts)
    if not a.plant:
        found = check(store, split, a.dir, captions, prints, held, names)
        print("\n".join(found[:40]))
        print(f"{len(found)} leaks in {len(split['train']) + len(split['valid'])} icons, {len(captions)} captions, {len(files)} held-out pictures")
        sys.exit(1 if found else 0)
    word = next(iter(split["novel"]))
    in_set = next(i for i, e in enumerate(store.entries) if e["set"] in sets.HELD_OUT)
    barred = next(i for i in split["barred"] if store.entries[i]["set"] not in sets.HELD_OUT)
    copy = split["twins"][0][0]
    fine = True
    for what, index, said in (("a set", in_set, []), ("a word", barred, []), ("a picture", copy, []), ("a caption", None, [f"an icon of two {word}s."])):
        planted = dict(split, train=[index] if index is not None else [], valid=[])
        base = planted["train"] or split["train"][:1]
        found = check(store, dict(planted, train=base), a.dir, said, prints, held, names)
        print(f"planted {what}: {'found: ' + found[0] if found else 'NOT FOUND'}")
        fine &= bool(found)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
