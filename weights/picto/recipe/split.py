"""What is held out, decided before training, by a seed.

    python split.py DIR [--seed 1]

* `novel`: 60 nouns. Every icon whose name, alias or tag has the word is kept from training, and every picture like one of theirs.
* `shifted`: 60 nouns that training has, drawn in sets that it never sees.
* `generic`: other concepts in those same sets, labelled; the overlap correction learns from them.

Writes `split.json`; `pictures.py` writes the pictures.
"""
import argparse
import json
import random
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

import sets
import twins
from names import singular
from store import Store, family, wrong

HERE = Path(__file__).parent
CLASSES, GENERIC = 60, 200
LEAST, MOST = 14, 20


def nouns() -> dict[str, set[str]]:
    """The words of `nouns.txt` with their synonyms."""
    out = {}
    for line in (HERE / "nouns.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            word, _, others = line.partition(":")
            out[word.strip()] = {word.strip(), *others.split()}
    return out


def tags_of(root: Path) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Tags and aliases by concept, from the emoji word list and from one icon set's own list."""
    tags, aliases = defaultdict(set), defaultdict(set)
    for words in json.loads((root / "emojilib" / "package" / "dist" / "emoji-en-US.json").read_text()).values():
        tags[words[0].replace("_", " ")] |= {w.replace("_", " ") for w in words[1:]}
    for icon in json.loads((root / "mdi" / "package" / "meta.json").read_text()):
        name = icon["name"].replace("-", " ")
        tags[name] |= {t.lower() for t in icon["tags"]}
        aliases[name] |= {a.replace("-", " ") for a in icon["aliases"]}
    return tags, aliases


def words_of(text: str) -> set[str]:
    """The words of a name in their singular."""
    return {singular(w) for w in re.split(r"[^a-z]+", text.lower()) if w}


def spoken(entry: dict) -> str:
    """All that an icon is called: name, aliases and tags."""
    return " ".join([entry["name"], entry["concept"], *entry["aliases"], *entry["tags"]]).lower()


def says(text: str, words: set[str], forms: set[str]) -> bool:
    """Whether it is called by one of the forms, alone or, if long enough, within another word."""
    return not words.isdisjoint(forms) or any(len(f) >= 5 and f in text for f in forms)


def choose(pool: list[int], entries: list[dict], prints: np.ndarray, per_family: int, most: int, rng: random.Random) -> list[int]:
    """Up to `most` pictures, families in turn, none a twin of another."""
    by = defaultdict(list)
    for i in pool:
        by[family(entries[i]["set"])].append(i)
    for group in by.values():
        rng.shuffle(group)
    order = sorted(by)
    rng.shuffle(order)
    out: list[int] = []
    for turn in range(per_family):
        for f in order:
            taken = sum(family(entries[i]["set"]) == f for i in out)
            while by[f] and taken <= turn and len(out) < most:
                i = by[f].pop()
                p = np.asarray(prints[i], np.float32)
                near = prints[out].astype(np.float32) if out else None
                if near is None or max((near @ p).max(), (twins.mirrored(near) @ p).max()) < twins.TWIN:
                    out.append(i)
                    taken += 1
    return sorted(out)


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("dir", type=Path)
    args.add_argument("--seed", type=int, default=1)
    a = args.parse_args()
    store, rng = Store(a.dir), random.Random(a.seed)
    entries = store.entries
    tags, aliases = tags_of(a.dir)
    by_alias = defaultdict(set)
    for e in entries:
        e["tags"] = sorted(tags.get(e["concept"], ()))
        e["aliases"] = sorted(set(e["aliases"]) | aliases.get(e["concept"], set()) if e["set"] == "mdi" else e["aliases"])
        for n in e["aliases"]:
            by_alias[e["concept"]].add(n)
    called = [(t, words_of(t)) for t in map(spoken, entries)]
    prints = twins.all_fingerprints(store)
    held = [e["set"] in sets.HELD_OUT for e in entries]
    inside, outside, bad = defaultdict(list), defaultdict(list), wrong()
    for i, e in enumerate(entries):
        # The small drawings of this set are cut off by boxes that its collection has wrong.
        if not (e["set"] == "dinkie-icons" and "small" in e["name"]) and (e["set"], e["name"]) not in bad:
            (outside if held[i] else inside)[e["concept"]].append(i)
    known = nouns()

    # Shifted first: few nouns have enough drawings in the sets held out.
    pictures = {w: choose(outside[w], entries, prints, 4, MOST, rng) for w in sorted(known)}
    able = [w for w in sorted(known) if len(pictures[w]) >= LEAST and len({entries[i]["set"] for i in inside[w]}) >= 10]
    rng.shuffle(able)
    shifted = sorted(able[:CLASSES])
    seen_words = {f for w in shifted for f in known[w]}

    # Novel: words that are neither part of a shifted one's names nor tags of half the world.
    novel, pool = [], [w for w in sorted(known) if w not in shifted]
    rng.shuffle(pool)
    barred: set[int] = set()
    counts = {w: len(inside[w]) for w in shifted}
    drawings: dict[str, list[int]] = {}
    for w in pool:
        forms = {singular(f) for f in known[w]} | {singular(n) for n in by_alias[w] if " " not in n and n.isalpha()}
        if len(novel) == CLASSES or forms & {singular(s) for s in seen_words}:
            continue
        drawn = choose(inside[w] + outside[w], entries, prints, 2, MOST, rng)
        if len(drawn) < 12 or len({family(entries[i]["set"]) for i in drawn}) < 8:
            continue
        out = {i for i, (text, words) in enumerate(called) if says(text, words, forms)}
        lost = defaultdict(int)
        for i in out:
            if entries[i]["concept"] in counts and not held[i]:
                lost[entries[i]["concept"]] += 1
        if len(out) > 400 or any(n > 0.1 * counts[c] for c, n in lost.items()):
            continue
        novel.append(w)
        drawings[w] = drawn
        barred |= out
    novel.sort()
    all_forms = {w: sorted({singular(f) for f in known[w]} | {singular(n) for n in by_alias[w] if " " not in n and n.isalpha()}) for w in novel}

    # Generic: other names in the held-out sets.
    taboo = {singular(f) for w in (*novel, *shifted) for f in known[w]}
    for w in shifted:
        taboo |= {singular(n) for n in by_alias[w] if " " not in n}
    tested = [i for w in shifted for i in pictures[w]] + [i for w in novel for i in drawings[w]]
    pool = []
    for concept in sorted(outside):
        if not re.fullmatch(r"[a-z]{3,}( [a-z]{3,})?", concept) or words_of(concept) & taboo or len(inside[concept]) < 5:
            continue
        got = [i for i in outside[concept] if i not in barred and not (words_of(" ".join(entries[i]["aliases"])) & taboo)]
        if len({family(entries[i]["set"]) for i in got}) >= 5:
            pool.append((concept, got))
    rng.shuffle(pool)
    generic = {}
    near_test = prints[tested]
    for concept, got in pool:
        near, _ = twins.nearest(prints[got], near_test)
        got = choose([i for i, n in zip(got, near) if n < twins.TWIN], entries, prints, 2, 12, rng)
        if len(got) >= 6 and len(generic) < GENERIC:
            generic[concept] = got

    # Training: what is left, without twins of anything held out.
    every = sorted({*tested, *(i for got in generic.values() for i in got)})
    free = np.array([i for i in range(len(entries)) if not held[i] and i not in barred])
    near, who = twins.nearest(prints[free], prints[every])
    twin = near >= twins.TWIN - twins.MARGIN
    dropped = [(int(i), every[int(w)], round(float(n), 3)) for i, w, n in zip(free[twin], who[twin], near[twin])]
    left = [int(i) for i in free[~twin]]
    sizes = defaultdict(set)
    for i in left:
        sizes[entries[i]["concept"]].add(entries[i]["set"])
    rng.shuffle(left)
    valid: list[int] = []
    for i in left:
        if len(valid) < min(4000, len(left) // 50) and len(sizes[entries[i]["concept"]]) >= 6:
            valid.append(i)
    train = sorted(set(left) - set(valid))

    result = {
        "seed": a.seed, "twin": twins.TWIN,
        "shifted": {w: pictures[w] for w in shifted}, "novel": {w: drawings[w] for w in novel},
        "novel_words": all_forms, "generic": generic,
        "train": train, "valid": sorted(valid), "barred": sorted(barred), "twins": dropped,
        "tags": {c: sorted(t) for c, t in tags.items()},
        "aliases": {c: sorted(n) for c, n in by_alias.items() if n},
    }
    (a.dir / "split.json").write_text(json.dumps(result))
    print(f"able to be shifted: {len(able)}; shifted {len(shifted)} classes, {sum(len(pictures[w]) for w in shifted)} pictures: {' '.join(shifted)}")
    print(f"novel {len(novel)} classes, {sum(map(len, drawings.values()))} pictures: {' '.join(novel)}")
    print(f"generic {len(generic)} of {len(pool)} classes, {sum(map(len, generic.values()))} pictures: {', '.join(sorted(generic))}")
    print(f"of {len(entries)} icons {sum(held)} are of held-out sets, {sum(1 for i in barred if not held[i])} more say a novel word, "
          f"{len(dropped)} more are twins of held-out pictures; {len(train)} train ({len({entries[i]['concept'] for i in train})} concepts, "
          f"{len({entries[i]['set'] for i in train})} sets), {len(valid)} validate")


if __name__ == "__main__":
    main()
