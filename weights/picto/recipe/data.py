"""Batches: which icons, how they are varied, and what is said of them."""
import json
import random
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import captions
import sets
from store import Store

# Mirrored, these would be something else.
SIDED = set("left right back forward next previous undo redo reply arrow arrows align text letter number digit turn rotate login logout "
            "enter exit clockwise flag quote question alphabet abc sign clock hour keyboard east west start end first last top".split())
TAGS_AT_MOST = 12


class Data:
    """The training icons with their sampling weights, and the validation icons."""

    def __init__(self, root: Path, seed: int):
        self.store = Store(root)
        split = json.loads((root / "split.json").read_text())
        info = {s["id"]: s for s in json.loads((root / "sets.json").read_text())["taken"]}
        self.entries = self.store.entries
        self.train, self.valid = np.array(split["train"]), split["valid"]
        novel = {f for forms in split["novel_words"].values() for f in forms}
        known: dict[str, int] = {}
        self.concept = np.array([known.setdefault(e["concept"], len(known)) for e in self.entries])
        per_concept: dict = defaultdict(lambda: defaultdict(int))
        for i in self.train:
            per_concept[self.entries[i]["concept"]][self.entries[i]["set"]] += 1
        has_emoji = {c: any(s in sets.EMOJI for s in by) for c, by in per_concept.items()}
        weight = []
        for i in self.train:
            e, by = self.entries[i], per_concept[self.entries[i]["concept"]]
            # A concept counts as often as sets draw it; long names of one set less, what emoji draw more.
            c = len(by) * (3.0 if has_emoji[e["concept"]] else 1.0) * (0.5 if len(by) == 1 or e["concept"].count(" ") > 2 else 1.0)
            share = {s: 3.0 if s in sets.EMOJI else 2.0 if info[s]["coloured"] else 1.0 for s in by}
            weight.append(c * share[e["set"]] / sum(share.values()) / by[e["set"]])
        self.cumulative = np.cumsum(np.array(weight, np.float64))
        self.cumulative /= self.cumulative[-1]
        self.styles = {int(i): captions.style_words(self.entries[i], self.entries[i]["set"] in sets.EMOJI) for i in self.train}
        self.tags = {}
        for c in per_concept:
            words = [t for t in split["tags"].get(c, []) if t != c and not any(n in t for n in novel)]
            self.tags[c] = words[:TAGS_AT_MOST]
        # What kind of thing it is by its set's own categories.
        self.groups = {g: g.replace("-", " ").lower() for g in {e["group"] for e in self.entries}
                       if g and not any(n in g.lower() for n in novel)}
        self.flips = np.array([not (set(re.split(r"\W+", e["concept"])) & SIDED) for e in self.entries])
        self.words = sorted({w for c in per_concept for w in c.split() if w.isalpha()})
        self.tokenizer = Tokenizer.from_file(str(root / "tokenizer" / "tokenizer.json"))
        self.end = self.tokenizer.token_to_id("<|endoftext|>")
        self.random, self.numbers = random.Random(seed), np.random.default_rng(seed)

    def rng_state(self) -> dict:
        return {"random": self.random.getstate(), "numbers": self.numbers.bit_generator.state}

    def set_rng_state(self, state: dict) -> None:
        self.random.setstate(state["random"])
        self.numbers.bit_generator.state = state["numbers"]

    def draw(self, count: int) -> np.ndarray:
        """Icons of one batch."""
        return self.train[np.searchsorted(self.cumulative, self.numbers.random(count))]

    def encode(self, texts: list[str], context: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids cut to the longest text, and where each text ends."""
        rows = [e.ids for e in self.tokenizer.encode_batch_fast(texts)]
        rows = [r if len(r) <= context else r[:context - 1] + [self.end] for r in rows]
        longest = max(map(len, rows))
        ids = torch.tensor([r + [self.end] * (longest - len(r)) for r in rows])
        return ids, torch.tensor([len(r) - 1 for r in rows])

    def texts(self, indices: np.ndarray, junk: int) -> tuple[list[str], list[int]]:
        """A caption each, behind up to `junk` words that mean nothing; and how many there are."""
        out, counts = [], []
        for i in indices:
            e = self.entries[i]
            name = self.random.choice(e["aliases"]) if e["aliases"] and self.random.random() < 0.2 else e["concept"]
            tags = [*self.tags.get(e["concept"], []), *([self.groups[e["group"]]] if e["group"] in self.groups else [])]
            text = captions.caption(name, self.styles[int(i)], tags, self.random)
            n = self.random.randint(0, junk) if junk else 0
            out.append((captions.junk(n, self.words, self.random) if n else "") + text)
            counts.append(n)
        return out, counts

    def pixels(self, indices: np.ndarray) -> torch.Tensor:
        """Premultiplied colour and opacity [B, 4, 64, 64]; one-ink icons in black."""
        out = np.zeros((len(indices), 64, 64, 4), np.float32)
        for j, i in enumerate(indices):
            e = self.entries[i]
            if e["kind"] == 0:
                out[j, ..., 3] = self.store.ink[e["row"]]
            else:
                x = self.store.rgba[e["row"]].astype(np.float32)
                x[..., :3] *= x[..., 3:] / 255
                out[j] = x
        return torch.from_numpy(out).permute(0, 3, 1, 2) / 255


def plain(x: torch.Tensor) -> torch.Tensor:
    """Pictures on white in dark ink, as the held-out sets are drawn; normalised."""
    rgb, a = x[:, :3], x[:, 3:]
    mono = (rgb.amax((1, 2, 3), keepdim=True) == 0).float()
    return (rgb + mono * a * (34 / 255) + 1 - a - 0.5) / 0.5


def uniform(g: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    return torch.rand(*shape, generator=g) * (high - low) + low


def augment(x: torch.Tensor, flips: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Varies place, size, turn, ink, ground, light, noise and sharpness; `x` is premultiplied, the result normalised."""
    b = len(x)
    mono = x[:, :3].amax((1, 2, 3)) == 0
    turn = torch.where(uniform(g, b) < 0.5, uniform(g, b, low=-0.3, high=0.3), torch.zeros(b))
    size = 1 / uniform(g, b, low=0.62, high=1.15)
    stretch = uniform(g, b, low=0.92, high=1.08)
    shift = uniform(g, b, 2, low=-0.16, high=0.16)
    side = torch.where((uniform(g, b) < 0.3) & flips, -1.0, 1.0)
    warp = torch.zeros(b, 2, 3)
    warp[:, 0, 0], warp[:, 0, 1] = turn.cos() * size * side, -turn.sin() * size * stretch
    warp[:, 1, 0], warp[:, 1, 1] = turn.sin() * size * side, turn.cos() * size * stretch
    warp[:, :, 2] = shift
    grid = F.affine_grid(warp, [b, 1, 64, 64], align_corners=False)
    # One channel is enough for one ink.
    y = torch.zeros(b, 4, 64, 64)
    if mono.any():
        y[mono, 3:] = F.grid_sample(x[mono, 3:], grid[mono], align_corners=False)
    if (~mono).any():
        y[~mono] = F.grid_sample(x[~mono], grid[~mono], align_corners=False)
    ground = uniform(g, b, 3)
    pale = uniform(g, b, 3, low=0.75)
    kind = uniform(g, b, 1)
    ground = torch.where(kind < 0.5, torch.ones(b, 3), torch.where(kind < 0.75, pale, ground))
    ink = torch.where(uniform(g, b, 1) < 0.6, uniform(g, b, 1, high=0.25).expand(b, 3), uniform(g, b, 3))
    # Ink must be told from its ground: where it is not, it turns black or white.
    close = (ink.mean(1, keepdim=True) - ground.mean(1, keepdim=True)).abs() < 0.3
    ink = torch.where(close, (ground.mean(1, keepdim=True) < 0.5).float().expand(b, 3), ink)
    a = y[:, 3:]
    rgb = torch.where(mono.view(b, 1, 1, 1), ink[:, :, None, None] * a, y[:, :3]) + ground[:, :, None, None] * (1 - a)
    rgb = torch.where(uniform(g, b, 1, 1, 1) < 0.12, rgb.mean(1, keepdim=True), rgb)
    rgb = torch.where(uniform(g, b, 1, 1, 1) < 0.3, rgb * uniform(g, b, 3, 1, 1, low=0.75, high=1.2), rgb)
    rgb = torch.where(uniform(g, b, 1, 1, 1) < 0.08, 1 - rgb, rgb)
    soft = uniform(g, b) < 0.12
    if soft.any():
        rgb[soft] = F.avg_pool2d(F.pad(rgb[soft], (1, 1, 1, 1), mode="replicate"), 3, 1)
    loud = uniform(g, b) < 0.2
    if loud.any():
        n = int(loud.sum())
        rgb[loud] = rgb[loud] + torch.randn(n, 3, 64, 64, generator=g) * uniform(g, n, 1, 1, 1, high=0.1)
    return (rgb.clamp(0, 1) - 0.5) / 0.5
