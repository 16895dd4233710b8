"""The rendered icons as `render.py` left them: entries in memory, pixels mapped from disk."""
import json
from pathlib import Path

import numpy as np

SIZE = 64


class Store:
    """Entries and pixels; `families` joins sets that draw the same things in another finish."""

    def __init__(self, root: Path):
        self.root = root
        self.entries: list[dict] = json.loads((root / "icons.json").read_text())
        self.ink = np.memmap(root / "ink.bin", np.uint8, "r").reshape(-1, SIZE, SIZE)
        self.rgba = np.memmap(root / "rgba.bin", np.uint8, "r").reshape(-1, SIZE, SIZE, 4)

    def on_white(self, index: int, ink: float = 34.0) -> np.ndarray:
        """The picture as RGB on white, one-ink icons in nearly black."""
        e = self.entries[index]
        if e["kind"] == 0:
            a = self.ink[e["row"]].astype(np.float32)[..., None] / 255
            return np.repeat(a * ink + (1 - a) * 255, 3, 2)
        x = self.rgba[e["row"]].astype(np.float32)
        a = x[..., 3:] / 255
        return x[..., :3] * a + (1 - a) * 255


def family(set_id: str) -> str:
    """`icon-park-outline` repeats `icon-park`, and so on: one family in a choice of pictures."""
    for head in ("icon-park", "lucide", "streamline-freehand", "streamline-cyber", "streamline-plump", "streamline-sharp", "streamline-flex",
                 "streamline-ultimate", "emojione", "fluent-emoji", "noto", "material-symbols", "fa", "heroicons", "pepicons", "uni", "glyphs"):
        if set_id.startswith(head) and (head != "fa" or set_id.split("-")[0] in ("fa", "fa6", "fa7")):
            return head
    return {"uil": "uni", "uim": "uni", "uit": "uni", "uis": "uni", "bx": "boxicons", "bxs": "boxicons", "mono-icons": "mi",
            "ic": "material-symbols", "famicons": "ion"}.get(set_id, set_id)


def wrong() -> set[tuple[str, str]]:
    """Pictures that show another thing under the concept's name: found by looking at every one."""
    lines = (Path(__file__).parent / "wrong.txt").read_text().splitlines()
    return {(line.split()[0], name) for line in lines if line and line[0] != "#" for name in line.split()[1:]}
