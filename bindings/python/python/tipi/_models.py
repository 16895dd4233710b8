"""The model that several things of one process name."""

from __future__ import annotations

import functools
from typing import Literal

import tipi


@functools.lru_cache(maxsize=1)
def loaded(
    model: str,
    device: str | int | None = None,
    precision: Literal["f32", "f16", "int8"] = "f32",
    lora: str | None = None,
    depth: Literal["clip", "scale"] = "clip",
) -> tipi.Model:
    """The last one stays loaded, since clones of an estimator, and pieces of work that a process is given one after the other, name
    the same."""
    return tipi.Model(model, device=device, precision=precision, lora=lora, depth=depth)
