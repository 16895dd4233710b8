"""Near duplicates: icon families copy each other, and a copy of a held-out picture in training would be a leak.

A picture's fingerprint is its darkness on white, cut to what is drawn, as 24×24 means without their mean, of length one. Two pictures
are twins when their fingerprints' product is at least `TWIN`, as they are or mirrored. This is a perceptual hash that keeps its
numbers instead of their signs: a sign hash of 64 bits cannot tell simple glyphs from copies.
"""
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

from store import Store

SIDE = 24
# By looking at pairs: below are other drawings of the same simple thing (clocks, stars), above are copies and redrawn copies.
TWIN = 0.93
# Fingerprints are kept in f16, and the pictures as whole numbers: what is dropped is a little more than what the check allows.
MARGIN = 0.002
_store: Store | None = None


def fingerprint(rgb: np.ndarray) -> np.ndarray:
    """Of one RGB picture on white, values 0 to 255."""
    dark = 255.0 - 0.299 * rgb[..., 0] - 0.587 * rgb[..., 1] - 0.114 * rgb[..., 2]
    rows, cols = np.where(dark.max(1) > 16)[0], np.where(dark.max(0) > 16)[0]
    if len(rows) and len(cols):
        top, left, side = rows[0], cols[0], max(rows[-1] - rows[0], cols[-1] - cols[0]) + 1
        # The square around what is drawn, the drawing in its middle: neither margins nor shifts hide a copy.
        square = np.zeros((side, side), np.float32)
        part = dark[top:rows[-1] + 1, left:cols[-1] + 1]
        y, x = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
        square[y:y + part.shape[0], x:x + part.shape[1]] = part
        dark = square
    small = np.asarray(Image.fromarray(dark.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BOX if len(dark) >= SIDE
                                                                       else Image.Resampling.BILINEAR), np.float32)
    flat = small.ravel() - small.mean()
    return flat / max(1e-6, float(np.linalg.norm(flat)))


def mirrored(prints: np.ndarray) -> np.ndarray:
    return prints.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(-1, SIDE * SIDE)


def _one(index: int) -> np.ndarray:
    return fingerprint(_store.on_white(index)).astype(np.float16)


def all_fingerprints(store: Store) -> np.ndarray:
    """Those of every icon, kept in a file."""
    global _store
    path = Path(store.root) / "fingerprints.npy"
    if path.exists():
        have = np.load(path, mmap_mode="r")
        if len(have) == len(store.entries):
            return have
    _store = store
    with Pool(2) as pool:
        prints = np.stack(list(pool.imap(_one, range(len(store.entries)), chunksize=1024)))
    np.save(path, prints)
    return prints


def nearest(prints: np.ndarray, held: np.ndarray, chunk: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """For each of `prints` the highest product with any of `held`, mirrored ones included, and which one it is."""
    both = np.concatenate([held, mirrored(held)]).astype(np.float32).T.copy()
    best, who = [], []
    for i in range(0, len(prints), chunk):
        p = np.asarray(prints[i:i + chunk], np.float32) @ both
        best.append(p.max(1))
        who.append(p.argmax(1) % len(held))
    return np.concatenate(best), np.concatenate(who)
