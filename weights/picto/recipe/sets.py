"""Which icon sets are used: licences by code, category, and what is held out whole.

A set is taken when its licence is on the allow list below: redistribution and derived works are permitted, and
nothing is said against commercial use. Brand marks are left out: their shapes teach a name nobody asks for, and trade marks are
another matter than copyright.
"""
import json
from dataclasses import dataclass
from pathlib import Path

ALLOWED = {
    "MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "CC0-1.0", "Unlicense", "MPL-2.0", "OFL-1.1",
    "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0",
}
# Brands, file types of programmers, spinners, codes of countries, letters run together ("alignrightedge").
LEFT_OUT_CATEGORIES = {"Logos", "Programming"}
LEFT_OUT = {
    "whh", "ls", "il", "vs", "topcoat", "websymbol", "fontelico", "bpmn", "academicons", "svg-spinners", "circle-flags", "flag",
    "flagpack", "cif", "ginetex", "fad", "gis", "fa-brands", "fa6-brands", "fa7-brands", "geo", "covid", "bitcoin-icons",
}
# Never trained on, whole: pixels, engravings, drawings by hand, and some families of their own line.
HELD_OUT = {
    "pixelarticons": "pixel art", "pixel": "pixel art", "streamline-pixel": "pixel art", "memory": "pixel art",
    "dinkie-icons": "pixel art",
    "game-icons": "engraving",
    "streamline-freehand": "hand drawn", "streamline-freehand-color": "hand drawn", "pepicons-pencil": "hand drawn",
    "openmoji": "outlined emoji",
    "lucide": "line", "lucide-lab": "line", "iconoir": "line", "hugeicons": "line",
    "ph": "line and duotone",
    "icon-park": "two colours", "icon-park-outline": "line", "icon-park-solid": "solid", "icon-park-twotone": "two tones",
    "streamline-kameleon-color": "flat badge", "glyphs-poly": "low polygons",
    "streamline-cyber": "hard line", "streamline-cyber-color": "hard line in colour",
}
EMOJI = {
    "noto", "noto-v1", "twemoji", "fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast", "emojione",
    "emojione-v1", "emojione-monotone", "fxemoji", "streamline-emojis", "openmoji", "dinkie-icons",
}


@dataclass
class IconSet:
    """One icon set as its collection describes it."""
    id: str
    name: str
    author: str
    url: str
    licence: str
    category: str
    coloured: bool
    total: int
    version: str

    @property
    def emoji(self) -> bool:
        return self.id in EMOJI

    @property
    def held_out(self) -> bool:
        return self.id in HELD_OUT


def load(collection: Path) -> tuple[list[IconSet], list[tuple[str, str]]]:
    """The sets that may be used, and those refused with the reason."""
    taken, refused = [], []
    for key, info in sorted(json.loads((collection / "collections.json").read_text()).items()):
        licence = info["license"].get("spdx", "")
        if licence not in ALLOWED:
            refused.append((key, f"licence {licence or 'unknown'}"))
            continue
        if (info.get("category") in LEFT_OUT_CATEGORIES or key in LEFT_OUT) and key not in HELD_OUT:
            refused.append((key, "brands, codes or letters"))
            continue
        taken.append(IconSet(key, info["name"], info["author"]["name"], info["author"].get("url", ""), licence,
                             info.get("category", ""), bool(info.get("palette")), info["total"], info.get("version", "")))
    return taken, refused
