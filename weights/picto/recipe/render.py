"""Renders every icon that may be used to 64×64 and lists it with its concept, style and other names.

    python render.py DIR

Icons of one ink are kept as the ink's opacity (one byte a pixel), coloured ones as RGBA. Writes `ink.bin`, `rgba.bin`, `icons.json`.
"""
import io
import json
import sys
from collections import defaultdict
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

import names
import sets

SIZE = 64
# Families that repeat a drawing with nearly the same corners or in many sizes: two of each suffice.
REPEATING = {"material-symbols", "material-symbols-light", "ic", "ion", "famicons", "fluent", "fluent-color", "keyline-icons", "iconmind",
             "maki", "garden", "qlementine-icons", "healthicons"}
INK, RGBA = 0, 1


def shrink(a: np.ndarray, r: int) -> np.ndarray:
    """The minimum over a square of radius `r`: what is thicker than 2r+1 pixels stays."""
    p = np.pad(a, r)
    rows = np.min([p[i:i + a.shape[0]] for i in range(2 * r + 1)], axis=0)
    return np.min([rows[:, i:i + a.shape[1]] for i in range(2 * r + 1)], axis=0)


def looks(ink: np.ndarray) -> str:
    """What is true of a one-ink picture whatever its name says: line, thin, filled, duotone, or nothing certain."""
    mass = float((ink > 40).sum())
    inner = shrink(ink, 1)
    if float(((inner > 30) & (ink > 30) & (ink < 190)).sum()) > 0.15 * mass:
        return "duotone"
    solid = (ink > 128).astype(np.uint8)
    area = max(1.0, float(solid.sum()))
    if shrink(solid, 3).sum() > 0.2 * area:
        return "filled"
    if shrink(solid, 1).sum() < 0.12 * area:
        return "thin"
    if shrink(solid, 3).sum() < 0.03 * area:
        return "line"
    return ""


def job(task: tuple) -> tuple | None:
    """One icon: its entry without the row, and its pixels. None when it cannot be drawn or is blank."""
    entry, body, w, h, left, top = task
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{left} {top} {w} {h}" '
           f'width="{SIZE}" height="{SIZE}">{body}</svg>').replace("currentColor", "#000")
    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE)
        im = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    except Exception:  # a broken drawing is no reason to stop
        return None
    x = np.asarray(im if im.size == (SIZE, SIZE) else im.resize((SIZE, SIZE)))
    ink = x[..., 3]
    if ink.astype(np.float32).sum() < 0.01 * 255 * SIZE * SIZE:
        return None
    if (x[..., :3] * (ink[..., None] > 8)).max() < 12:
        entry["kind"] = INK
        entry["looks"] = looks(ink)
        return entry, np.ascontiguousarray(ink).tobytes()
    entry["kind"] = RGBA
    return entry, np.ascontiguousarray(x).tobytes()


def tasks(collection: Path, taken: list[sets.IconSet]):
    """All icons worth drawing, with what their names say."""
    for s in taken:
        data = json.loads((collection / "json" / f"{s.id}.json").read_text())
        icons = {n: i for n, i in data["icons"].items() if not i.get("hidden")}
        suffixes, prefixes = list(data.get("suffixes", {})), list(data.get("prefixes", {}))
        groups = [c for c in data.get("categories", {})] if s.id.startswith("streamline-") else []
        known = set(icons)
        group_of = {n: g for g, ns in data.get("categories", {}).items() for n in ns}

        def read(n: str) -> tuple[str, list[str]]:
            return names.clean(n, known, suffixes, prefixes, s.emoji, s.id.startswith("icon-park"), groups)

        aliases = defaultdict(set)
        for n, a in data.get("aliases", {}).items():
            if not any(k in a for k in ("rotate", "hFlip", "vFlip", "hidden")):
                aliases[a["parent"]].add(read(n)[0])
        kept: dict = defaultdict(int)
        for n, i in sorted(icons.items(), key=lambda x: ("-24-" not in x[0], len(x[0]), x[0])):
            if s.emoji and names.skin_tone(n, known):
                continue
            if s.id == "line-md" and "<animate" in i["body"]:
                continue  # drawn only as time goes on
            concept, style = read(n)
            key = (concept, tuple(style))
            if not concept or kept[key] >= (2 if s.id in REPEATING else 6):
                continue
            kept[key] += 1
            entry = {"set": s.id, "name": n, "concept": concept, "style": style, "aliases": sorted(aliases[n] - {concept}),
                     "group": group_of.get(n, "")}
            yield (entry, i["body"], i.get("width", data.get("width", 16)), i.get("height", data.get("height", 16)),
                   i.get("left", data.get("left", 0)), i.get("top", data.get("top", 0)))


def main() -> None:
    root = Path(sys.argv[1])
    taken, refused = sets.load(root / "iconify" / "package")
    (root / "sets.json").write_text(json.dumps({"taken": [s.__dict__ for s in taken], "refused": refused}, indent=1))
    entries: list[dict] = []
    rows = [0, 0]
    with open(root / "ink.bin", "wb") as ink, open(root / "rgba.bin", "wb") as rgba, Pool(2) as pool:
        for done in pool.imap(job, tasks(root / "iconify" / "package", taken), chunksize=128):
            if done is None:
                continue
            entry, pixels = done
            entry["row"] = rows[entry["kind"]]
            rows[entry["kind"]] += 1
            (ink if entry["kind"] == INK else rgba).write(pixels)
            entries.append(entry)
            if len(entries) % 20000 == 0:
                print(len(entries), entry["set"], flush=True)
    (root / "icons.json").write_text(json.dumps(entries))
    print(f"{len(entries)} icons of {len({e['set'] for e in entries})} sets, {rows[INK]} of one ink, {rows[RGBA]} in colour")


if __name__ == "__main__":
    main()
